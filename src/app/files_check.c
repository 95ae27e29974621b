/*
 * The files that the configuration names, opened as the start opens them, but for all of them and
 * without anything that binds or connects. Each mistake is told at the setting that names the file.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "backend/backend_auth.h"
#include "backend/backend_tls.h"
#include "backend/route.h"
#include "edge/auth_slot.h"
#include "edge/listener_tls.h"
#include "edge/sender_slot.h"
#include "settings_check.h"

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

	for (size_t i = 0; i < sizeof(tls_files) / sizeof(tls_files[0]); i++) {
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

	for (size_t i = 0; i < sizeof(tls_files) / sizeof(tls_files[0]); i++) {
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
	struct err err;

	if (auth_slot_check(auth, &err) < 0)
		conf_error(errors, place(at, "users"),
			"%s; lines for it are made by gatepostctl hash-password", err.text);
}

static void check_senders(
	const struct auth_settings *auth, struct conf_node *at, struct conf_errors *errors)
{
	struct map_file file = { .path = auth->sender_login.p, .accepts = sender_login_accepts };
	struct err err;

	if (auth->sender_login.n > 0 && map_file_open(&file, &err) < 0)
		conf_error(errors, place(at, "sender_login"), "%s", err.text);
	map_file_close(&file);
}

static void check_password(
	const struct backend_settings *settings, struct conf_node *at, struct conf_errors *errors)
{
	struct str path = settings->auth.password_file;
	struct secret_file file = { .path = path.p };
	struct err err;

	if (path.n > 0 && secret_file_open(&file, &err) < 0)
		conf_error(errors, place(at, "password_file"), "%s", err.text);
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

/* ---- The whole ---------------------------------------------------------------------------------- */

static void check_user(
	const struct settings *settings, struct conf_node *root, struct conf_errors *errors)
{
	struct conf_node *at = conf_node_get(root, "user");

	if (at != NULL && settings->user.n > 0 && geteuid() == 0 &&
		getpwnam(settings->user.p) == NULL)
		conf_error(errors, at, "there is no user %s", settings->user.p);
}

void settings_check_files(const void *value, struct conf_node *root, struct conf_errors *errors)
{
	const struct settings *settings = value;
	const struct listener_settings *listeners = settings->listeners.items;
	const struct backend_settings *backends = settings->backends.items;

	settings_check(value, root, errors);
	check_user(settings, root, errors);
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
