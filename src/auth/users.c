#include "auth/users.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "auth/crypt_worker.h"
#include "auth/sasl.h"
#include "auth/scram.h"
#include "auth/secret.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "users_file_priv.h"

struct users {
	struct auth_service service; /* first: this is what others hold */
	struct loop *loop;
	char *path;
	struct users_file *file;
	struct crypt_worker *worker;
	LIST_HEAD(, auth_attempt) attempts;
	size_t count;
};

/* What the client's next bytes are. */
enum step {
	STEP_PLAIN,
	STEP_LOGIN_NAME,
	STEP_LOGIN_PASSWORD,
	STEP_SCRAM_FIRST,
	STEP_SCRAM_FINAL,
	STEP_SCRAM_END, /* our signature was sent: an empty line */
	STEP_COUNT
};

struct auth_attempt {
	LIST_ENTRY(auth_attempt) link;
	struct users *users;
	const struct auth_port *port;
	void *ctx;
	enum step step;
	char name[SASL_NAME_MAX];
	size_t name_n;
	bool can_match;        /* the user exists, and the check is against his hash */
	struct crypt_job *job; /* at the worker */
	struct scram scram;
	/* What is said at the end of the turn: a challenge, or the result. */
	struct task saying;
	bool is_over;
	enum auth_result result;
	struct str challenge; /* static, or in `scram` */
};

/* ---- Answers -------------------------------------------------------------------------------- */

static void free_attempt(struct auth_attempt *attempt)
{
	struct users *users = attempt->users;

	LIST_REMOVE(attempt, link);
	users->count--;
	task_cancel(&attempt->saying, users->loop);
	crypt_worker_abandon(&attempt->job);
	secret_free(attempt, sizeof(*attempt));
}

/* The owner hears of it last: it must not use the attempt any more, and may begin another. */
static void finish(struct auth_attempt *attempt)
{
	const struct auth_port *port = attempt->port;
	void *ctx = attempt->ctx;
	enum auth_result result = attempt->result;
	char name[SASL_NAME_MAX] = "";
	struct str user = str_make(name, result == AUTH_UNAVAILABLE ? 0 : attempt->name_n);

	memcpy(name, attempt->name, user.n);
	free_attempt(attempt);
	port->done(ctx, result, user);
}

static void say(void *ctx)
{
	struct auth_attempt *attempt = ctx;

	if (attempt->is_over)
		finish(attempt);
	else
		attempt->port->challenge(attempt->ctx, attempt->challenge);
}

static void say_later(struct auth_attempt *attempt, enum step next, struct str challenge)
{
	attempt->step = next;
	attempt->challenge = challenge;
	task_defer(&attempt->saying, attempt->users->loop);
}

static void end_later(struct auth_attempt *attempt, enum auth_result result)
{
	attempt->is_over = true;
	attempt->result = result;
	task_defer(&attempt->saying, attempt->users->loop);
}

/* ---- Passwords in clear --------------------------------------------------------------------- */

static void on_checked(void *ctx, enum crypt_answer answer)
{
	struct auth_attempt *attempt = ctx;
	bool is_right = answer == CRYPT_MATCH && attempt->can_match;

	attempt->job = NULL;
	attempt->result = is_right ? AUTH_OK : AUTH_REFUSED;
	if (answer == CRYPT_FAILED)
		attempt->result = AUTH_UNAVAILABLE;
	finish(attempt);
}

/*
 * Who is not there, or is locked, is checked against the decoy, which costs the same. The decoy is
 * somebody's hash; that somebody's password does not help here.
 */
static struct str hash_for(struct auth_attempt *attempt)
{
	const struct users_file *file = attempt->users->file;
	const struct user *user = users_file_find(file, str_make(attempt->name, attempt->name_n));

	attempt->can_match = user != NULL && !user->is_locked;
	if (!attempt->can_match)
		return file->decoy;
	return user->crypt.n > 0 ? user->crypt : user->verifier;
}

static void check_password(struct auth_attempt *attempt, struct str password)
{
	struct str hash = hash_for(attempt);

	if (hash.n == 0) {
		end_later(attempt, AUTH_REFUSED);
		return;
	}
	attempt->job =
		crypt_worker_ask(attempt->users->worker, hash, password, on_checked, attempt);
	if (attempt->job == NULL)
		end_later(attempt, AUTH_UNAVAILABLE);
}

static void keep_name(struct auth_attempt *attempt, struct str name)
{
	ASSERT(name.n <= sizeof(attempt->name));
	memcpy(attempt->name, name.p, name.n);
	attempt->name_n = name.n;
}

static void take_plain(struct auth_attempt *attempt, struct str bytes)
{
	struct sasl_credentials credentials;
	enum auth_result result = sasl_plain_parse(bytes, &credentials);

	if (result != AUTH_OK) {
		end_later(attempt, result);
		return;
	}
	keep_name(attempt, credentials.name);
	check_password(attempt, credentials.password);
}

static void take_login_name(struct auth_attempt *attempt, struct str bytes)
{
	enum auth_result result = sasl_login_check(bytes, SASL_NAME_MAX);

	if (result != AUTH_OK) {
		end_later(attempt, result);
		return;
	}
	keep_name(attempt, bytes);
	say_later(attempt, STEP_LOGIN_PASSWORD, SASL_LOGIN_PASSWORD);
}

static void take_login_password(struct auth_attempt *attempt, struct str bytes)
{
	enum auth_result result = sasl_login_check(bytes, SASL_PASSWORD_MAX);

	if (result != AUTH_OK)
		end_later(attempt, result);
	else
		check_password(attempt, bytes);
}

/* ---- SCRAM ---------------------------------------------------------------------------------- */

/* One is parsed and one made up each time, needed or not: both take a moment, which would show. */
static struct scram_verifier verifier_for(struct auth_attempt *attempt)
{
	const struct users_file *file = attempt->users->file;
	const struct user *user = users_file_find(file, scram_name(&attempt->scram));
	struct scram_verifier fake, stored = { 0 };

	attempt->can_match = user != NULL && !user->is_locked && user->verifier.n > 0;
	(void)scram_verifier_parse(
		attempt->can_match ? user->verifier : file->verifier_decoy, &stored, NULL);
	scram_verifier_fake(&file->fake_key, scram_name(&attempt->scram), &stored, &fake);
	struct scram_verifier verifier = attempt->can_match ? stored : fake;
	secret_wipe(&stored, sizeof(stored));
	secret_wipe(&fake, sizeof(fake));
	return verifier;
}

static void take_scram_first(struct auth_attempt *attempt, struct str bytes)
{
	enum auth_result result = scram_client_first(&attempt->scram, bytes);

	if (result != AUTH_OK) {
		end_later(attempt, result);
		return;
	}
	keep_name(attempt, scram_name(&attempt->scram));
	struct scram_verifier verifier = verifier_for(attempt);
	say_later(attempt, STEP_SCRAM_FINAL, scram_server_first(&attempt->scram, &verifier));
	secret_wipe(&verifier, sizeof(verifier));
}

static void take_scram_final(struct auth_attempt *attempt, struct str bytes)
{
	struct str signature;
	enum auth_result result = scram_client_final(&attempt->scram, bytes, &signature);

	if (result == AUTH_OK && !attempt->can_match)
		result = AUTH_REFUSED;
	/* The signature tells that the password is right. */
	bool is_put_off = attempt->port->is_put_off(attempt->ctx, scram_name(&attempt->scram));
	if (result != AUTH_OK || is_put_off)
		end_later(attempt, result);
	else
		say_later(attempt, STEP_SCRAM_END, signature);
}

/* RFC 4954 has no room for our signature in its 235, so it was a challenge of its own. */
static void take_scram_end(struct auth_attempt *attempt, struct str bytes)
{
	end_later(attempt, bytes.n == 0 ? AUTH_OK : AUTH_MALFORMED);
}

/* ---- The exchange --------------------------------------------------------------------------- */

static const struct {
	void (*take)(struct auth_attempt *attempt, struct str bytes);
} steps[STEP_COUNT] = {
	[STEP_PLAIN] = { take_plain },
	[STEP_LOGIN_NAME] = { take_login_name },
	[STEP_LOGIN_PASSWORD] = { take_login_password },
	[STEP_SCRAM_FIRST] = { take_scram_first },
	[STEP_SCRAM_FINAL] = { take_scram_final },
	[STEP_SCRAM_END] = { take_scram_end },
};

static const enum step first_steps[] = {
	[SASL_FIRST_PLAIN] = STEP_PLAIN,
	[SASL_FIRST_LOGIN] = STEP_LOGIN_NAME,
	[SASL_FIRST_OTHER] = STEP_SCRAM_FIRST,
};

static unsigned offered(struct auth_service *service)
{
	const struct users_file *file = ((struct users *)service)->file;

	return (file->decoy.n > 0 ? AUTH_PLAIN | AUTH_LOGIN : 0) |
	       (file->verifiers > 0 ? AUTH_SCRAM_SHA_256 | AUTH_SCRAM_SHA_256_PLUS : 0);
}

static void begin_scram(struct auth_attempt *attempt, unsigned mechanism, struct str binding)
{
	char nonce[SCRAM_NONCE_SIZE];

	scram_nonce_make(nonce);
	scram_begin(&attempt->scram, mechanism == AUTH_SCRAM_SHA_256_PLUS, binding,
		str_make(nonce, sizeof(nonce)));
}

/* A mechanism may have gone with a reload since it was offered. */
static struct auth_attempt *begin(struct auth_service *service, unsigned mechanism,
	const struct str *initial, const struct auth_client *client, const struct auth_port *port,
	void *ctx)
{
	struct users *users = (struct users *)service;
	const struct sasl_opening *opening = sasl_opening_find(mechanism);
	enum step first = first_steps[opening->first];

	if (users->count >= AUTH_USERS_ATTEMPTS_MAX)
		return NULL;
	struct auth_attempt *attempt = xcalloc(1, sizeof(*attempt));
	*attempt = (struct auth_attempt){ .users = users, .port = port, .ctx = ctx };
	task_init(&attempt->saying, say, attempt);
	LIST_INSERT_HEAD(&users->attempts, attempt, link);
	users->count++;
	if (!(offered(service) & mechanism)) {
		end_later(attempt, AUTH_REFUSED);
		return attempt;
	}
	attempt->step = first;
	if (first == STEP_SCRAM_FIRST)
		begin_scram(attempt, mechanism, client->channel_binding);
	if (initial != NULL)
		steps[first].take(attempt, *initial);
	else
		say_later(attempt, first, opening->prompt);
	return attempt;
}

static void respond(struct auth_attempt *attempt, struct str bytes)
{
	ASSERT(!attempt->is_over && !attempt->saying.is_pending && attempt->job == NULL);
	steps[attempt->step].take(attempt, bytes);
}

static void free_users(struct auth_service *service)
{
	struct users *users = (struct users *)service;

	while (!LIST_EMPTY(&users->attempts))
		free_attempt(LIST_FIRST(&users->attempts));
	crypt_worker_free(&users->worker);
	users_file_free(&users->file);
	free(users->path);
	secret_free(users, sizeof(*users));
}

static const struct auth_service_kind kind = {
	.mechanisms = offered,
	.begin = begin,
	.respond = respond,
	.cancel = free_attempt,
	.free = free_users,
};

/* A start goes on all the same: other listeners have work, and users may be added later. */
static void notice_nobody(const char *path)
{
	char text[ERR_TEXT_MAX];

	snprintf(text, sizeof(text), "%s: nobody is in it: AUTH is not offered", path);
	LOG(CONFIG_NOTICE, log_text("detail", text));
}

/*
 * Nobody is left: more often a file that was cut short, or is being written, than what is wanted, and it
 * would lock everybody out.
 */
static int check_somebody(
	const struct users *users, const struct users_file *fresh, struct err *err)
{
	if (fresh->count > 0 || users->file->count == 0)
		return 0;
	return err_set(err,
		"%s: nobody is in it any more; to lock users out put a ! in front of their hashes",
		users->path);
}

struct auth_service *auth_users_new(struct loop *loop, const char *path, struct err *err)
{
	struct users_file *file = users_file_read(path, err);

	if (file == NULL)
		return NULL;
	if (file->count == 0)
		notice_nobody(path);
	struct users *users = xcalloc(1, sizeof(*users));
	*users = (struct users){ .service = { &kind }, .loop = loop, .file = file };
	users->path = xstrdup(path);
	users->worker = crypt_worker_new(loop);
	LIST_INIT(&users->attempts);
	return &users->service;
}

int auth_users_check(const char *path, struct err *err)
{
	struct users_file *file = users_file_read(path, err);

	if (file == NULL)
		return -1;
	if (file->count == 0)
		notice_nobody(path);
	users_file_free(&file);
	return 0;
}

int auth_users_reload(struct auth_service *service, struct err *err)
{
	struct users *users = (struct users *)service;

	ASSERT(service->kind == &kind);
	struct users_file *file = users_file_read(users->path, err);
	if (file == NULL)
		return -1;
	if (check_somebody(users, file, err) < 0) {
		users_file_free(&file);
		return -1;
	}
	users_file_free(&users->file);
	users->file = file;
	return 0;
}

struct auth_users_count auth_users_counted(const struct auth_service *service)
{
	const struct users *users = (const struct users *)service;

	ASSERT(service->kind == &kind);
	return (struct auth_users_count){
		.users = users->file->count,
		.locked = users->file->locked,
		.without_verifier =
			users->file->count - users->file->locked - users->file->verifiers,
		.checks = crypt_worker_checks(users->worker),
		.worker = crypt_worker_pid(users->worker),
	};
}
