#include "users_file_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth/password.h"
#include "auth/sasl.h"
#include "auth/secret.h"
#include "auth/users.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/mistakes.h"
#include "base/xalloc.h"

/* Kinds and costs that are told apart when the commonest is looked for. */
#define COSTS_MAX 32

/* A line of the file. */
struct line {
	struct str name, hash;
	bool is_locked, is_verifier;
	size_t number;
};

struct reading {
	struct line *lines;
	size_t count, capacity;
	struct mistakes mistakes;
};

/* ---- Notices -------------------------------------------------------------------------------- */

/* Nothing that keeps the file from being used. */
static void notice(const char *path, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void notice(const char *path, const char *format, ...)
{
	char text[ERR_TEXT_MAX], whole[2 * ERR_TEXT_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	snprintf(whole, sizeof(whole), "%s: %s", path, text);
	LOG(CONFIG_NOTICE, log_text("detail", whole));
}

/* ---- Lines ---------------------------------------------------------------------------------- */

static bool is_name(struct str name)
{
	for (size_t i = 0; i < name.n; i++)
		if (ascii_is_control(name.p[i]))
			return false;
	return name.n > 0 && name.n <= SASL_NAME_MAX && sasl_is_text(name) &&
	       str_eq(str_trim(name), name);
}

static void keep(struct reading *reading, struct line line)
{
	if (reading->count == reading->capacity) {
		reading->capacity = reading->capacity ? 2 * reading->capacity : 64;
		reading->lines =
			xrealloc(reading->lines, reading->capacity, sizeof(*reading->lines));
	}
	reading->lines[reading->count++] = line;
}

/* What is behind the mark of a locked hash does not matter: passwd(1) leaves it, or nothing. */
static void read_line(struct reading *reading, struct str text, size_t number)
{
	size_t colon = str_find(text, ':');
	struct line line = { .name = str_range(text, 0, colon), .number = number };
	struct password_cost cost;
	struct err err;

	if (str_trim(text).n == 0 || text.p[0] == '#')
		return;
	if (colon == text.n) {
		mistakes_add(&reading->mistakes, number, "must be name:hash");
		return;
	}
	if (!is_name(line.name)) {
		mistakes_add(&reading->mistakes, number,
			"the name must be 1 to %d bytes of UTF-8 without control characters, and "
			"without space around it",
			SASL_NAME_MAX);
		return;
	}
	line.hash = str_from_pos(text, colon + 1);
	if (line.hash.n > 0 && line.hash.p[line.hash.n - 1] == '\r') {
		mistakes_add(&reading->mistakes, number, "%.*s: the line ends with CR LF",
			STR_ARG(line.name));
		return;
	}
	line.is_locked = line.hash.n > 0 && (line.hash.p[0] == '!' || line.hash.p[0] == '*');
	if (!line.is_locked && password_hash_look(line.hash, &cost, &err) < 0) {
		mistakes_add(&reading->mistakes, number, "%.*s: %s", STR_ARG(line.name), err.text);
		return;
	}
	line.is_verifier = !line.is_locked && cost.method == PASSWORD_SCRAM;
	keep(reading, line);
}

/* Editors put it in front and do not show it; it would become part of the first name. */
#define BYTE_ORDER_MARK STR("\xef\xbb\xbf")

static void read_lines(struct reading *reading, struct str rest)
{
	if (str_starts_with(rest, BYTE_ORDER_MARK)) {
		mistakes_add(&reading->mistakes, 1, "begins with a byte order mark");
		return;
	}
	for (size_t number = 1; rest.n > 0; number++)
		read_line(reading, str_cut(&rest, '\n'), number);
}

/* ---- Users ---------------------------------------------------------------------------------- */

static int compare_names(struct str a, struct str b)
{
	size_t n = a.n < b.n ? a.n : b.n;
	int order = n > 0 ? memcmp(a.p, b.p, n) : 0;

	return order != 0 ? order : (a.n > b.n) - (a.n < b.n);
}

static int compare_lines(const void *a, const void *b)
{
	const struct line *left = a, *right = b;
	int order = compare_names(left->name, right->name);

	return order != 0 ? order : (left->number > right->number) - (left->number < right->number);
}

static void add_hash(struct reading *reading, struct user *user, const struct line *line)
{
	struct str *hash = line->is_verifier ? &user->verifier : &user->crypt;
	size_t *number = line->is_verifier ? &user->verifier_line : &user->crypt_line;

	if (line->is_locked) {
		user->is_locked = true;
		return;
	}
	if (*number > 0) {
		mistakes_add(&reading->mistakes, line->number,
			"%.*s has such a hash already, in line %zu", STR_ARG(line->name), *number);
		return;
	}
	*hash = line->hash;
	*number = line->number;
}

static void join_lines(struct reading *reading, struct users_file *file)
{
	if (reading->count == 0)
		return;
	qsort(reading->lines, reading->count, sizeof(*reading->lines), compare_lines);
	file->users = xcalloc(reading->count, sizeof(*file->users));
	for (size_t i = 0; i < reading->count; i++) {
		const struct line *line = &reading->lines[i];
		if (i == 0 || !str_eq(line->name, line[-1].name))
			file->users[file->count++].name = line->name;
		add_hash(reading, &file->users[file->count - 1], line);
	}
	for (size_t i = 0; i < file->count; i++) {
		file->locked += file->users[i].is_locked;
		file->verifiers += !file->users[i].is_locked && file->users[i].verifier.n > 0;
	}
}

const struct user *users_file_find(const struct users_file *file, struct str name)
{
	size_t low = 0, high = file->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = compare_names(name, file->users[middle].name);
		if (order == 0)
			return &file->users[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

/* ---- What users that there are not look like ------------------------------------------------- */

struct tally {
	struct {
		struct password_cost cost;
		struct str example;
		size_t count;
	} rows[COSTS_MAX];
	size_t count;
};

static void tally_add(struct tally *tally, struct str hash)
{
	struct password_cost cost;
	size_t i = 0;

	if (password_hash_look(hash, &cost, NULL) < 0)
		return;
	while (i < tally->count &&
		(tally->rows[i].cost.method != cost.method ||
			!str_eq(tally->rows[i].cost.parameters, cost.parameters)))
		i++;
	if (i == COSTS_MAX)
		return;
	if (i == tally->count) {
		tally->rows[i].cost = cost;
		tally->rows[i].example = hash;
		tally->count++;
	}
	tally->rows[i].count++;
}

static struct str commonest(const struct tally *tally)
{
	size_t best = 0;

	for (size_t i = 1; i < tally->count; i++)
		if (tally->rows[i].count > tally->rows[best].count)
			best = i;
	return tally->count > 0 ? tally->rows[best].example : str_make("", 0);
}

/* Behind the mark of a locked one. */
static struct str bare_hash(const struct line *line)
{
	return str_from_pos(line->hash, line->is_locked ? 1 : 0);
}

/*
 * Made-up salts must stay as they are when a user is added, after a restart, and on the next listener
 * with this file: else two looks tell them from real ones. So they are made from a line that stays:
 * the first hash of crypt(3), whose salt nobody is shown; without any, the first verifier, which its
 * user could compute. A locked one will do.
 */
static struct str oldest_hash(const struct reading *reading)
{
	struct str verifier = str_make("", 0);
	struct password_cost cost;

	for (size_t i = 0; i < reading->count; i++) {
		struct str hash = bare_hash(&reading->lines[i]);
		if (password_hash_look(hash, &cost, NULL) < 0)
			continue;
		if (cost.method != PASSWORD_SCRAM)
			return hash;
		if (verifier.n == 0)
			verifier = hash;
	}
	return verifier;
}

static void notice_differences(const char *path, const struct users_file *file,
	const struct tally *hashes, const struct tally *verifiers)
{
	size_t without = file->count - file->locked - file->verifiers;

	if (hashes->count > 1)
		notice(path,
			"hashes are of %zu kinds or costs: a check takes longer for some users "
			"than for others, and than for names that are not there",
			hashes->count);
	if (verifiers->count > 1)
		notice(path,
			"SCRAM verifiers have %zu numbers of iterations: whoever asks is shown "
			"them, and names that are not there have the commonest",
			verifiers->count);
	if (file->verifiers > 0 && without > 0)
		notice(path,
			"%zu users have no SCRAM verifier: SCRAM is offered, and they fail with it",
			without);
}

static void choose_decoys(const char *path, struct users_file *file)
{
	struct tally hashes = { .count = 0 }, verifiers = { .count = 0 };

	for (size_t i = 0; i < file->count; i++) {
		const struct user *user = &file->users[i];
		if (user->crypt.n + user->verifier.n > 0)
			tally_add(&hashes, user->crypt.n > 0 ? user->crypt : user->verifier);
		if (user->verifier.n > 0)
			tally_add(&verifiers, user->verifier);
	}
	notice_differences(path, file, &hashes, &verifiers);
	file->decoy = commonest(&hashes);
	file->verifier_decoy = commonest(&verifiers);
}

/* ---- The file ------------------------------------------------------------------------------- */

static int read_whole(int fd, struct users_file *file, struct err *err)
{
	size_t got = 0;

	while (got < file->size) {
		ssize_t n = read(fd, file->bytes + got, file->size - got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, "cannot read");
		if (n == 0)
			break;
		got += (size_t)n;
	}
	file->size = got;
	return 0;
}

static int look_at_status(int fd, const char *path, size_t *size, struct err *err)
{
	struct stat status;

	if (fstat(fd, &status) < 0)
		return err_errno(err, "cannot ask for its size");
	if (!S_ISREG(status.st_mode))
		return err_set(err, "not a file");
	if (status.st_size > AUTH_USERS_FILE_MAX)
		return err_set(err, "larger than %d bytes", AUTH_USERS_FILE_MAX);
	*size = (size_t)status.st_size;
	if (status.st_mode & S_IROTH)
		notice(path, "everybody on this machine can read it");
	return 0;
}

static int read_bytes(const char *path, struct users_file *file, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0)
		return err_errno(err, "cannot open");
	int rc = look_at_status(fd, path, &file->size, err);
	if (rc == 0) {
		file->bytes = xcalloc(file->size + 1, 1);
		rc = read_whole(fd, file, err);
	}
	close(fd);
	return rc;
}

static int understand(const char *path, struct users_file *file, struct err *err)
{
	struct reading reading = { .mistakes = { .name = path, .err = err } };

	read_lines(&reading, str_make(file->bytes, file->size));
	file->fake_key = scram_fake_key_from(oldest_hash(&reading)); /* while in order */
	join_lines(&reading, file);
	free(reading.lines);
	if (mistakes_conclude(&reading.mistakes) < 0)
		return -1;
	choose_decoys(path, file);
	return 0;
}

struct users_file *users_file_parse(const char *path, struct str text, struct err *err)
{
	struct users_file *file = xcalloc(1, sizeof(*file));

	file->size = text.n;
	file->bytes = xcalloc(text.n + 1, 1);
	if (text.n > 0)
		memcpy(file->bytes, text.p, text.n);
	if (understand(path, file, err) < 0)
		users_file_free(&file);
	return file;
}

struct users_file *users_file_read(const char *path, struct err *err)
{
	struct users_file *file = xcalloc(1, sizeof(*file));

	if (read_bytes(path, file, err) < 0) {
		err_prefix(err, "%s", path);
		users_file_free(&file);
	} else if (understand(path, file, err) < 0) {
		users_file_free(&file);
	}
	return file;
}

void users_file_free(struct users_file **freed)
{
	struct users_file *file = *freed;

	*freed = NULL;
	if (file == NULL)
		return;
	secret_free(file->bytes, file->size);
	free(file->users);
	secret_free(file, sizeof(*file));
}
