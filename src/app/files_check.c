/*
 * The files that the configuration names, opened as the start opens them, but for all of them and
 * without anything that binds or connects. Each mistake is told at the setting that names the file.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "backend/backend_auth.h"
#include "backend/backend_tls.h"
#include "backend/route.h"
#include "base/assert.h"
#include "base/log.h"
#include "edge/auth_slot.h"
#include "edge/listener_tls.h"
#include "edge/sender_slot.h"
#include "settings_check.h"

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

/* ---- Places ----------------------------------------------------------------------------------- */

static bool is_map(const struct conf_node *node)
{
	return node != NULL && conf_node_kind(node) == CONF_KIND_MAP;
}

/* NULL: the file has none. */
static struct conf_node *child(struct conf_node *map, const char *key)
{
	return is_map(map) ? conf_node_get(map, key) : NULL;
}

/* Of a list, or of one thing in its place. */
static struct conf_node *item(struct conf_node *list, size_t index)
{
	if (list == NULL)
		return NULL;
	if (is_map(list))
		return index == 0 ? list : NULL;
	return index < conf_node_count(list) ? conf_node_item(list, index) : NULL;
}

/* At the key if it is there, else at what it would stand in. */
static struct conf_node *place(struct conf_node *map, const char *key)
{
	struct conf_node *node = child(map, key);

	return node != NULL ? node : map;
}

/* ---- Notices ---------------------------------------------------------------------------------- */

struct notice_place {
	struct conf_node *node;
	struct conf_errors *errors;
};

static void take_notice(
	void *ctx, enum log_event event, const struct log_field *fields, size_t count)
{
	const struct notice_place *place = ctx;

	if (event == LOG_CONFIG_NOTICE && count > 0)
		conf_notice(place->errors, place->node, "%.*s", STR_ARG(fields[0].text));
}

/* ---- TLS -------------------------------------------------------------------------------------- */

static const char *const tls_files[] = { "certificate", "key", "client_ca", "ca" };

static bool check_readable(struct conf_node *node, struct conf_errors *errors)
{
	char path[PATH_MAX];

	str_copy_to(conf_node_scalar(node), path, sizeof(path));
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		conf_error(errors, node, "%s: %s", path, strerror(errno));
	else
		close(fd);
	return fd >= 0;
}

/* All that are missing, at once; what is in them is told only when they are there. */
static bool check_all_readable(struct conf_node *tls, struct conf_errors *errors)
{
	bool is_fine = true;

	for (size_t i = 0; i < COUNT(tls_files); i++) {
		struct conf_node *file = child(tls, tls_files[i]);
		if (file != NULL)
			is_fine &= check_readable(file, errors);
	}
	struct conf_node *more = child(tls, "certificates");
	for (size_t i = 0; item(more, i) != NULL; i++)
		is_fine &= check_all_readable(item(more, i), errors);
	return is_fine;
}

/* The text begins with the path of the file that is wrong. */
static struct conf_node *culprit(struct conf_node *tls, struct str text)
{
	struct conf_node *more = child(tls, "certificates");

	for (size_t i = 0; i < COUNT(tls_files); i++) {
		struct conf_node *file = child(tls, tls_files[i]);
		if (file == NULL)
			continue;
		struct str path = conf_node_scalar(file);
		if (str_starts_with(text, path) &&
			str_starts_with(str_from_pos(text, path.n), STR(":")))
			return file;
	}
	for (size_t i = 0; item(more, i) != NULL; i++) {
		struct conf_node *file = culprit(item(more, i), text);
		if (file != item(more, i))
			return file;
	}
	return tls;
}

/* "mx: tls: " is said by the place. */
static struct str behind_prefix(const struct err *err, struct str name)
{
	return str_from_pos(str_from(err->text), name.n + strlen(": tls: "));
}

static void check_listener_tls(
	const struct listener_settings *listener, struct conf_node *at, struct conf_errors *errors)
{
	struct conf_node *tls = child(at, "tls");
	struct tls_slot slot;
	struct err err;

	if (listener->tls.mode == TLS_MODE_OFF || !check_all_readable(tls, errors))
		return;
	if (listener_tls_open(&slot, listener, &err) < 0) {
		struct str text = behind_prefix(&err, listener->name);
		conf_error(errors, culprit(tls, text), "%.*s", STR_ARG(text));
	}
	tls_slot_close(&slot);
}

static void check_backend_tls(
	const struct backend_settings *settings, struct conf_node *at, struct conf_errors *errors)
{
	struct conf_node *tls = child(at, "tls");
	struct backend backend = { .settings = settings };
	struct err err;

	if (settings->tls.mode == BACKEND_TLS_OFF || !check_all_readable(tls, errors))
		return;
	if (backend_tls_open(&backend, &err) < 0) {
		struct str text = behind_prefix(&err, settings->name);
		conf_error(errors, culprit(tls, text), "%.*s", STR_ARG(text));
	}
	tls_slot_close(&backend.tls);
}

/* ---- Users, passwords and maps ------------------------------------------------------------------ */

static void check_users(
	const struct auth_settings *auth, struct conf_node *at, struct conf_errors *errors)
{
	struct notice_place users = { place(at, "users"), errors };
	struct err err;

	log_divert(take_notice, &users);
	if (auth_slot_check(auth, &err) < 0)
		conf_error(errors, users.node,
			"%s; lines for it are made by gatepostctl hash-password", err.text);
	log_divert(NULL, NULL);
}

static void check_senders(
	const struct auth_settings *auth, struct conf_node *at, struct conf_errors *errors)
{
	struct notice_place senders = { place(at, "sender_login"), errors };
	struct err err;

	log_divert(take_notice, &senders);
	if (sender_slot_check(auth, &err) < 0)
		conf_error(errors, senders.node, "%s", err.text);
	log_divert(NULL, NULL);
}

static void check_password(
	const struct backend_settings *settings, struct conf_node *at, struct conf_errors *errors)
{
	struct str path = settings->auth.password_file;
	struct secret_file file = { .path = path.p };
	struct notice_place password = { place(at, "password_file"), errors };
	struct err err;

	log_divert(take_notice, &password);
	if (path.n > 0 && secret_file_open(&file, &err) < 0)
		conf_error(errors, password.node, "%s", err.text);
	log_divert(NULL, NULL);
	secret_file_close(&file);
}

static int leads_to_backend(void *settings, struct str key, struct str value, struct err *err)
{
	if (settings_find_backend(settings, value) != NULL)
		return 0;
	return route_no_backend(key, value, err);
}

static void check_map(const struct settings *settings, size_t index, struct conf_node *at,
	struct conf_errors *errors)
{
	const struct route_settings *route =
		(const struct route_settings *)settings->routes.items + index;
	struct map_file file = {
		.path = route->map.p,
		.accepts = leads_to_backend,
		.ctx = (void *)(uintptr_t)settings, /* it only looks */
	};
	struct err err;

	if (route->map.n > 0 && map_file_open(&file, &err) < 0)
		conf_error(errors, place(at, "map"), "%s", err.text);
	map_file_close(&file);
}

/* ---- Log and trace ------------------------------------------------------------------------------ */

static const char *const written_files[] = { "target", "trace" };
/* The value that stands for no file. */
static const char *const written_none[] = { "stderr", "" };

/* NULL: it goes to no file. */
static struct conf_node *written_file(struct conf_node *root, size_t index, char path[PATH_MAX])
{
	struct conf_node *file = child(child(root, "log"), written_files[index]);

	if (file == NULL || str_eq(conf_node_scalar(file), str_from(written_none[index])))
		return NULL;
	str_copy_to(conf_node_scalar(file), path, PATH_MAX);
	return file;
}

static bool folder_allows(const char *path, int rights)
{
	char folder[PATH_MAX];

	str_copy_to(str_from(path), folder, sizeof(folder));
	return faccessat(AT_FDCWD, dirname(folder), rights, AT_EACCESS) == 0;
}

/* Nothing is made: that is for the start. */
static bool is_writable(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd >= 0)
		close(fd);
	return fd >= 0 || (errno == ENOENT && path[0] != '\0' && folder_allows(path, W_OK | X_OK));
}

static void check_written(struct conf_node *root, struct conf_errors *errors)
{
	char path[PATH_MAX];

	for (size_t i = 0; i < COUNT(written_files); i++) {
		struct conf_node *file = written_file(root, i, path);
		if (file != NULL && !is_writable(path))
			conf_error(errors, file, "%s: %s", path, strerror(errno));
	}
}

/* ---- What the user to become may open ---------------------------------------------------------- */

static const char *const other_files[] = { "users", "sender_login", "password_file", "map" };

static bool is_readable(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void notice_unreadable(
	struct conf_node *map, const char *const *keys, size_t count, struct conf_errors *errors)
{
	char path[PATH_MAX];

	for (size_t i = 0; i < count; i++) {
		struct conf_node *file = child(map, keys[i]);
		if (file == NULL)
			continue;
		str_copy_to(conf_node_scalar(file), path, sizeof(path));
		if (!is_readable(path))
			conf_notice(errors, file,
				"%s: the user could not read it anew when it changes: %s", path,
				strerror(errno));
	}
}

static void notice_unreadable_tls(struct conf_node *tls, struct conf_errors *errors)
{
	struct conf_node *more = child(tls, "certificates");

	notice_unreadable(tls, tls_files, COUNT(tls_files), errors);
	for (size_t i = 0; item(more, i) != NULL; i++)
		notice_unreadable(item(more, i), tls_files, COUNT(tls_files), errors);
}

static void notice_all_unreadable(struct conf_node *root, struct conf_errors *errors)
{
	static const char *const lists[] = { "listeners", "backends", "routes" };
	struct conf_node *at;

	for (size_t i = 0; i < COUNT(lists); i++)
		for (size_t j = 0; (at = settings_element(root, lists[i], j)) != NULL; j++) {
			notice_unreadable_tls(child(at, "tls"), errors);
			notice_unreadable(
				child(at, "auth"), other_files, COUNT(other_files), errors);
			notice_unreadable(at, other_files, COUNT(other_files), errors);
		}
}

/* The start gives the files to the user; whether it may make them is logrotate's affair. */
static void notice_out_of_reach(struct conf_node *root, struct conf_errors *errors)
{
	char path[PATH_MAX];

	for (size_t i = 0; i < COUNT(written_files); i++) {
		struct conf_node *file = written_file(root, i, path);
		if (file != NULL && !folder_allows(path, X_OK))
			conf_notice(errors, file, "%s: the user could not open it anew at HUP: %s",
				path, strerror(errno));
	}
}

static void become_root_again(gid_t group, const gid_t *groups, int count)
{
	bool is_root = seteuid(0) == 0 && setegid(group) == 0 &&
		       setgroups(count > 0 ? (size_t)count : 0, groups) == 0;

	ASSERT(is_root);
}

/* The start reads as root, but a certificate that is renewed has to be read by the user. */
static void check_rights(
	const struct passwd *user, struct conf_node *root, struct conf_errors *errors)
{
	gid_t group = getegid(), groups[NGROUPS_MAX];
	int count = getgroups(NGROUPS_MAX, groups);
	bool has_groups = initgroups(user->pw_name, user->pw_gid) == 0;

	if (has_groups && setegid(user->pw_gid) == 0 && seteuid(user->pw_uid) == 0) {
		notice_all_unreadable(root, errors);
		notice_out_of_reach(root, errors);
	} else {
		conf_error(errors, conf_node_get(root, "user"), "cannot become %s: %s",
			user->pw_name, strerror(errno));
	}
	if (has_groups)
		become_root_again(group, groups, count);
}

/* ---- The whole ---------------------------------------------------------------------------------- */

static void check_user(
	const struct settings *settings, struct conf_node *root, struct conf_errors *errors)
{
	struct conf_node *at = conf_node_get(root, "user");

	if (at == NULL || settings->user.n == 0 || geteuid() != 0)
		return;
	const struct passwd *user = getpwnam(settings->user.p);
	if (user == NULL)
		conf_error(errors, at, "there is no user %s", settings->user.p);
	else
		check_rights(user, root, errors);
}

void settings_check_files(const void *value, struct conf_node *root, struct conf_errors *errors)
{
	const struct settings *settings = value;
	const struct listener_settings *listeners = settings->listeners.items;
	const struct backend_settings *backends = settings->backends.items;

	settings_check(value, root, errors);
	check_user(settings, root, errors);
	check_written(root, errors);
	for (size_t i = 0; i < settings->listeners.count; i++) {
		struct conf_node *at = settings_element(root, "listeners", i);
		check_listener_tls(&listeners[i], at, errors);
		check_users(&listeners[i].auth, child(at, "auth"), errors);
		check_senders(&listeners[i].auth, child(at, "auth"), errors);
	}
	for (size_t i = 0; i < settings->backends.count; i++) {
		struct conf_node *at = settings_element(root, "backends", i);
		check_backend_tls(&backends[i], at, errors);
		check_password(&backends[i], child(at, "auth"), errors);
	}
	for (size_t i = 0; i < settings->routes.count; i++)
		check_map(settings, i, settings_element(root, "routes", i), errors);
}
