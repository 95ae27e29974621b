#include "edge/auth_backend.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "auth/sasl.h"
#include "auth/sasl_client.h"
#include "auth/scram.h"
#include "auth/secret.h"
#include "backend/link_auth.h"
#include "backend/pool.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/xalloc.h"

struct auth_backend {
	struct auth_service service; /* first: this is what others hold */
	const struct backend_env *env;
	struct backend *backend;
	uint64_t timeout_ms;
	LIST_HEAD(, auth_attempt) attempts;
	size_t count;
	struct link *won; /* during `done` */
};

/* What the client's next bytes are. */
enum step {
	STEP_PLAIN,
	STEP_LOGIN_NAME,
	STEP_LOGIN_PASSWORD,
	STEP_FIRST, /* of what is handed on */
	STEP_NEXT,
	STEP_COUNT
};

/*
 * The owner is given one answer for `begin` and for each `respond`; is_owed says that he waits. A
 * server that is lost meanwhile is told when he asks next.
 */
struct auth_attempt {
	LIST_ENTRY(auth_attempt) entry;
	struct auth_backend *service;
	const struct auth_port *port;
	void *ctx;
	const struct connection *connection;
	unsigned mechanism; /* the client's */
	enum step step;
	char name[SASL_NAME_MAX];
	size_t name_n;
	char password[SASL_PASSWORD_MAX];
	size_t password_n;
	struct buf message; /* the first of what is handed on */

	struct server_choice choice;
	uint64_t connect_by_ms;
	struct link *link; /* NULL: none */
	bool is_said;      /* AUTH, there: from then on that server judges */
	bool first_is_due; /* the first message did not fit into the command */
	struct sasl_client sasl;

	bool is_owed, is_over;
	enum auth_result result;
	struct task saying;
	struct str prompt;
};

/* ---- Answers -------------------------------------------------------------------------------- */

static void free_attempt(struct auth_attempt *attempt)
{
	LIST_REMOVE(attempt, entry);
	attempt->service->count--;
	task_cancel(&attempt->saying, attempt->service->env->loop);
	link_close(&attempt->link);
	buf_free(&attempt->message);
	secret_free(attempt, sizeof(*attempt));
}

static bool knows_name(enum auth_result result)
{
	return result != AUTH_UNAVAILABLE;
}

/* The owner hears of it last: it must not use the attempt any more, and may begin another. */
static void finish(struct auth_attempt *attempt)
{
	struct auth_backend *service = attempt->service;
	const struct auth_port *port = attempt->port;
	void *ctx = attempt->ctx;
	enum auth_result result = attempt->result;
	char name[SASL_NAME_MAX] = "";
	struct str user = str_make(name, knows_name(result) ? attempt->name_n : 0);

	memcpy(name, attempt->name, user.n);
	if (result == AUTH_OK) {
		service->won = attempt->link;
		attempt->link = NULL;
	} else {
		link_quit(&attempt->link);
	}
	free_attempt(attempt);
	port->done(ctx, result, user);
	link_quit(&service->won);
}

static void say(void *ctx)
{
	struct auth_attempt *attempt = ctx;

	attempt->is_owed = false;
	if (attempt->is_over)
		finish(attempt);
	else
		attempt->port->challenge(attempt->ctx, attempt->prompt);
}

static void say_later(struct auth_attempt *attempt, enum step next, struct str prompt)
{
	attempt->step = next;
	attempt->prompt = prompt;
	task_defer(&attempt->saying, attempt->service->env->loop);
}

/* Told at the end of this turn, or when the owner asks next. */
static void end_later(struct auth_attempt *attempt, enum auth_result result)
{
	attempt->is_over = true;
	attempt->result = result;
	if (attempt->is_owed)
		task_defer(&attempt->saying, attempt->service->env->loop);
}

/* ---- Servers -------------------------------------------------------------------------------- */

static void note(struct auth_attempt *attempt, struct server *server, enum server_event event)
{
	server_note(server, event, loop_now_ms(attempt->service->env->loop));
}

static void log_failed(const struct auth_attempt *attempt, const struct server *server,
	const char *step, const char *why)
{
	LOG(BACKEND_FAILED, log_text("uuid", attempt->connection->uuid),
		log_str("backend", attempt->service->backend->settings->name),
		log_text("server", server->name), log_text("step", step), log_text("error", why));
}

static const struct link_port link_port;

static struct server *next_server(struct auth_attempt *attempt)
{
	struct auth_backend *service = attempt->service;
	uint64_t now = loop_now_ms(service->env->loop);
	struct server *server = NULL;

	if (now >= attempt->connect_by_ms)
		return NULL;
	do
		server = backend_choose(service->backend, &attempt->connection->remote.address.ip,
			now, &attempt->choice);
	while (server != NULL && server->is_ourselves);
	return server;
}

static void try_next_server(struct auth_attempt *attempt)
{
	struct server *server = next_server(attempt);

	if (server == NULL) {
		end_later(attempt, AUTH_UNAVAILABLE);
		return;
	}
	pool_make_room(server);
	attempt->link = link_open(attempt->service->env, attempt->service->backend, server,
		attempt->connection, attempt->connect_by_ms, &link_port, attempt);
	attempt->link->owner_authenticates = true;
}

static void ask_servers(struct auth_attempt *attempt)
{
	struct auth_backend *service = attempt->service;

	attempt->connect_by_ms = loop_now_ms(service->env->loop) + service->timeout_ms;
	try_next_server(attempt);
}

static bool has_password(const struct auth_attempt *attempt)
{
	return attempt->mechanism & (AUTH_PLAIN | AUTH_LOGIN);
}

/* What a client can be offered because of what a server offers. */
static unsigned usable(unsigned offered)
{
	unsigned set = offered & (AUTH_OAUTHBEARER | AUTH_XOAUTH2);

	if (offered & (AUTH_PLAIN | AUTH_LOGIN))
		set |= AUTH_PLAIN | AUTH_LOGIN;
	if (!(offered & AUTH_SCRAM_SHA_256_PLUS))
		set |= offered & AUTH_SCRAM_SHA_256;
	return set;
}

/* The mechanism to say there; 0: it has none for this. */
static unsigned mechanism_at(const struct auth_attempt *attempt, unsigned offered)
{
	if (!has_password(attempt))
		return usable(offered) & attempt->mechanism;
	return offered & AUTH_PLAIN ? AUTH_PLAIN : offered & AUTH_LOGIN;
}

static void begin_at_server(struct auth_attempt *attempt, unsigned mechanism)
{
	struct sasl_credentials credentials = {
		str_make(attempt->name, attempt->name_n),
		str_make(attempt->password, attempt->password_n),
	};
	struct str first = buf_view(&attempt->message);
	bool has_first = true;

	if (has_password(attempt)) {
		sasl_client_begin(&attempt->sasl, mechanism, credentials, NULL);
		has_first = sasl_client_initial(&attempt->sasl, &first);
	}
	attempt->is_said = true;
	attempt->first_is_due = !link_auth_say(attempt->link, mechanism, has_first ? &first : NULL);
	link_expect(attempt->link, attempt->service->timeout_ms);
}

static void on_ready(void *ctx)
{
	struct auth_attempt *attempt = ctx;
	struct link *link = attempt->link;
	unsigned mechanism = mechanism_at(attempt, link->client.capabilities.auth);

	if (mechanism != 0) {
		begin_at_server(attempt, mechanism);
		return;
	}
	log_failed(attempt, link->server, "AUTH", "mechanism not offered");
	link_quit(&attempt->link);
	try_next_server(attempt);
}

static void on_lost(void *ctx, const struct link_loss *loss)
{
	struct auth_attempt *attempt = ctx;
	struct server *server = attempt->link->server;

	attempt->link = NULL;
	if (attempt->is_over && attempt->result != AUTH_OK)
		return; /* it has judged, and gone */
	log_failed(attempt, server, loss->step, loss->why);
	note(attempt, server, loss->event);
	if (attempt->is_said)
		end_later(attempt, AUTH_UNAVAILABLE);
	else
		try_next_server(attempt);
}

/* ---- What the server says ------------------------------------------------------------------- */

static void respond_at_server(struct auth_attempt *attempt, struct str bytes)
{
	link_auth_respond(attempt->link, bytes);
	link_expect(attempt->link, attempt->service->timeout_ms);
}

static void out_of_protocol(struct auth_attempt *attempt, const char *why)
{
	log_failed(attempt, attempt->link->server, "AUTH", why);
	note(attempt, attempt->link->server, SERVER_PROTOCOL);
	link_close(&attempt->link);
	end_later(attempt, AUTH_UNAVAILABLE);
}

static void challenged_for_password(struct auth_attempt *attempt, struct str challenge)
{
	struct str message;
	struct err err;

	if (attempt->first_is_due)
		respond_at_server(attempt, sasl_client_said(&attempt->sasl));
	else if (sasl_client_answer(&attempt->sasl, challenge, &message, &err) == 0)
		respond_at_server(attempt, message);
	else
		out_of_protocol(attempt, err.text);
	attempt->first_is_due = false;
}

static void challenged(struct auth_attempt *attempt, const struct smtp_reply *reply)
{
	char memory[LINK_AUTH_CHALLENGE_MAX];
	struct str challenge;

	if (!link_auth_challenge(reply, memory, &challenge)) {
		out_of_protocol(attempt, "a challenge that is not base64");
	} else if (has_password(attempt)) {
		challenged_for_password(attempt, challenge);
	} else if (attempt->first_is_due) {
		attempt->first_is_due = false;
		respond_at_server(attempt, buf_view(&attempt->message));
	} else {
		attempt->step = STEP_NEXT;
		attempt->is_owed = false;
		link_rest(attempt->link, attempt->service->env->timeouts->idle);
		attempt->port->challenge(attempt->ctx, challenge);
	}
}

/* Codes of RFC 4954 that are about the credentials; others of 5xx are about us, as a mechanism that
 * the server has just offered, or are taken for a refusal. */
static const struct {
	int code;
	enum auth_result result;
	bool is_our_fault;
} judgements[] = {
	{ 500, AUTH_UNAVAILABLE, true },
	{ 501, AUTH_MALFORMED, false },
	{ 502, AUTH_UNAVAILABLE, true },
	{ 503, AUTH_UNAVAILABLE, true },
	{ 504, AUTH_UNAVAILABLE, true },
	{ 530, AUTH_UNAVAILABLE, true },
	{ 534, AUTH_EXPIRED, false },
	{ 538, AUTH_UNAVAILABLE, true },
};

static void refused(struct auth_attempt *attempt, const struct smtp_reply *reply)
{
	for (size_t i = 0; i < sizeof(judgements) / sizeof(judgements[0]); i++) {
		if (judgements[i].code != reply->code)
			continue;
		if (judgements[i].is_our_fault)
			link_auth_alarm(attempt->link, reply->code);
		end_later(attempt, judgements[i].result);
		return;
	}
	end_later(attempt, AUTH_REFUSED);
}

static void on_answered(void *ctx, enum smtp_client_step step, const struct smtp_reply *reply)
{
	struct auth_attempt *attempt = ctx;

	if (step != SMTP_CLIENT_AUTH || attempt->is_over)
		return;
	if (reply->code == 334) {
		challenged(attempt, reply);
	} else if (reply->code == 235) {
		end_later(attempt, AUTH_OK);
	} else if (smtp_reply_class(reply) == 4) {
		if (reply->code == 421)
			note(attempt, attempt->link->server, SERVER_GOODBYE);
		end_later(attempt, AUTH_UNAVAILABLE);
	} else if (smtp_reply_class(reply) == 5) {
		refused(attempt, reply);
	} else {
		out_of_protocol(attempt, "senseless reply");
	}
}

static void on_turn(void *ctx)
{
	(void)ctx;
}

/* The client thinks. */
static void on_rested(void *ctx)
{
	struct auth_attempt *attempt = ctx;

	link_rest(attempt->link, attempt->service->env->timeouts->idle);
}

static const struct link_port link_port = {
	.ready = on_ready,
	.answered = on_answered,
	.lost = on_lost,
	.turn = on_turn,
	.rested = on_rested,
};

/* ---- What the client says ------------------------------------------------------------------- */

static void keep_name(struct auth_attempt *attempt, struct str name)
{
	ASSERT(name.n <= sizeof(attempt->name));
	memcpy(attempt->name, name.p, name.n);
	attempt->name_n = name.n;
}

static void keep_password(struct auth_attempt *attempt, struct str password)
{
	ASSERT(password.n <= sizeof(attempt->password));
	memcpy(attempt->password, password.p, password.n);
	attempt->password_n = password.n;
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
	keep_password(attempt, credentials.password);
	ask_servers(attempt);
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

	if (result != AUTH_OK) {
		end_later(attempt, result);
		return;
	}
	keep_password(attempt, bytes);
	ask_servers(attempt);
}

/* Who is it that the message speaks of? Our own rules go by that name. */
static enum auth_result read_scram_name(struct auth_attempt *attempt, struct str bytes)
{
	struct scram scram;

	scram_begin(&scram, false, STR(""), STR("-"));
	enum auth_result result = scram_client_first(&scram, bytes);
	if (result == AUTH_OK)
		keep_name(attempt, scram_name(&scram));
	scram_end(&scram);
	return result;
}

static enum auth_result read_name(struct auth_attempt *attempt, struct str bytes)
{
	if (attempt->mechanism == AUTH_SCRAM_SHA_256)
		return read_scram_name(attempt, bytes);
	return sasl_token_name(attempt->mechanism, bytes, attempt->name, &attempt->name_n);
}

static void take_first(struct auth_attempt *attempt, struct str bytes)
{
	enum auth_result result = read_name(attempt, bytes);

	if (result != AUTH_OK || !buf_write(&attempt->message, bytes)) {
		end_later(attempt, result != AUTH_OK ? result : AUTH_MALFORMED);
		return;
	}
	ask_servers(attempt);
}

static void take_next(struct auth_attempt *attempt, struct str bytes)
{
	if (attempt->link == NULL || bytes.n > LINK_AUTH_MESSAGE_MAX)
		end_later(attempt, AUTH_UNAVAILABLE);
	else
		respond_at_server(attempt, bytes);
}

static const struct {
	void (*take)(struct auth_attempt *attempt, struct str bytes);
} steps[STEP_COUNT] = {
	[STEP_PLAIN] = { take_plain },
	[STEP_LOGIN_NAME] = { take_login_name },
	[STEP_LOGIN_PASSWORD] = { take_login_password },
	[STEP_FIRST] = { take_first },
	[STEP_NEXT] = { take_next },
};

/* ---- The exchange --------------------------------------------------------------------------- */

static const enum step first_steps[] = {
	[SASL_FIRST_PLAIN] = STEP_PLAIN,
	[SASL_FIRST_LOGIN] = STEP_LOGIN_NAME,
	[SASL_FIRST_OTHER] = STEP_FIRST,
};

static bool counts(const struct server *server)
{
	return server->is_known && !server->is_ourselves && server->settings->weight > 0;
}

static unsigned offered(struct auth_service *service)
{
	const struct backend *backend = ((struct auth_backend *)service)->backend;
	unsigned set = 0;
	bool has_one = false;

	for (size_t i = 0; i < backend->server_count; i++) {
		const struct server *server = &backend->servers[i];
		if (!counts(server))
			continue;
		unsigned here = usable(server->capabilities.auth);
		set = has_one ? set & here : here;
		has_one = true;
	}
	return set;
}

static struct auth_attempt *new_attempt(
	struct auth_backend *service, const struct auth_port *port, void *ctx)
{
	struct auth_attempt *attempt = xcalloc(1, sizeof(*attempt));

	*attempt = (struct auth_attempt){ .service = service, .port = port, .ctx = ctx };
	buf_init(&attempt->message, LINK_AUTH_MESSAGE_MAX);
	buf_set_secret(&attempt->message);
	task_init(&attempt->saying, say, attempt);
	LIST_INSERT_HEAD(&service->attempts, attempt, entry);
	service->count++;
	return attempt;
}

/* A mechanism may have gone since it was offered. */
static struct auth_attempt *begin(struct auth_service *given, unsigned mechanism,
	const struct str *initial, const struct auth_client *client, const struct auth_port *port,
	void *ctx)
{
	struct auth_backend *service = (struct auth_backend *)given;
	const struct sasl_opening *opening = sasl_opening_find(mechanism);
	enum step first = first_steps[opening->first];

	if (service->count >= AUTH_BACKEND_ATTEMPTS_MAX)
		return NULL;
	struct auth_attempt *attempt = new_attempt(service, port, ctx);
	attempt->connection = client->connection;
	attempt->mechanism = mechanism;
	attempt->is_owed = true;
	if (!(offered(given) & mechanism)) {
		end_later(attempt, AUTH_UNAVAILABLE);
		return attempt;
	}
	attempt->step = first;
	if (initial != NULL)
		steps[first].take(attempt, *initial);
	else
		say_later(attempt, first, opening->prompt);
	return attempt;
}

static void respond(struct auth_attempt *attempt, struct str bytes)
{
	ASSERT(!attempt->is_owed);
	attempt->is_owed = true;
	if (attempt->is_over)
		end_later(attempt, attempt->result);
	else
		steps[attempt->step].take(attempt, bytes);
}

static void free_service(struct auth_service *given)
{
	struct auth_backend *service = (struct auth_backend *)given;

	while (!LIST_EMPTY(&service->attempts))
		free_attempt(LIST_FIRST(&service->attempts));
	free(service);
}

static const struct auth_service_kind kind = {
	.mechanisms = offered,
	.begin = begin,
	.respond = respond,
	.cancel = free_attempt,
	.free = free_service,
};

struct auth_service *auth_backend_new(
	const struct backend_env *env, struct backend *backend, uint64_t timeout_ms)
{
	struct auth_backend *service = xcalloc(1, sizeof(*service));

	*service = (struct auth_backend){
		.service = { &kind },
		.env = env,
		.backend = backend,
		.timeout_ms = timeout_ms,
	};
	LIST_INIT(&service->attempts);
	return &service->service;
}

struct link *auth_backend_take(struct auth_service *given)
{
	struct auth_backend *service = (struct auth_backend *)given;
	struct link *link;

	if (given->kind != &kind)
		return NULL;
	link = service->won;
	service->won = NULL;
	return link;
}
