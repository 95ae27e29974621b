#include "backend/link.h"

#include <stdlib.h>

#include "backend/backend_tls.h"
#include "base/assert.h"
#include "base/block.h"
#include "base/log.h"
#include "link_priv.h"

/* How long a server is given to answer our QUIT. */
#define QUIT_MS 2000
/* A message leaves as much room for the command behind it. */
#define COMMAND_MAX 64

static void connect_server(struct link *link);

/* ---- The end ---------------------------------------------------------------------------------- */

static void stop_connecting(struct link *link)
{
	server_connect_cancel(link->connecting);
	block_give(link->connecting, sizeof(*link->connecting));
	link->connecting = NULL;
}

/* The connection alone: the link may connect again. */
static void drop_connection(struct link *link)
{
	timer_clear(&link->deadline);
	if (link->state == LINK_CONNECTING)
		stop_connecting(link);
	else
		stream_close(&link->stream, false);
	if (link->is_idle)
		server_busy(link->server);
	link->is_idle = false;
	if (!link->is_probe)
		server_release(link->server);
}

static void free_later(void *object)
{
	struct link *link = object;

	timer_stop(&link->deadline);
	smtp_client_free(&link->client);
	free(link->introduction);
	link_auth_end(link);
	block_give(link, sizeof(*link));
}

static void retire(struct link *link)
{
	ASSERT(link->state != LINK_OVER);
	if (link->state == LINK_LEAVING)
		LIST_REMOVE(link, entry);
	drop_connection(link);
	link->state = LINK_OVER;
	loop_retire(link->env->loop, free_later, link);
}

/* What is under way: for the log. */
static const char *step_word(const struct link *link)
{
	if (link->state == LINK_CONNECTING)
		return "connect";
	if (link->state == LINK_HANDSHAKE)
		return "TLS";
	if (smtp_client_pending(&link->client) > 0)
		return smtp_client_step_word(smtp_client_step(&link->client));
	/* What was answered last has led to the end. */
	return link->state == LINK_GREETING ? smtp_client_step_word(link->answered) : "idle";
}

/* Behind a header that names the client a server may hang up on this client alone. Where probes see the
 * greeting it is they who tell. */
static bool may_be_the_clients(const struct link *link, enum link_fault fault)
{
	const struct backend_settings *settings = link->backend->settings;

	return !link->is_probe && identity_is_proxy(settings) && !link->client.is_ready &&
	       (fault == LINK_REFUSED || fault == LINK_CLOSED) &&
	       settings->health.check != HEALTH_CHECK_CONNECT;
}

static enum server_event event_of(const struct link *link, enum link_fault fault)
{
	if (fault == LINK_CLIENT_REFUSED)
		return SERVER_OK;
	if (link->state == LINK_CONNECTING || link->state == LINK_HANDSHAKE)
		return SERVER_CONNECT_FAILED;
	if (link->state == LINK_GREETING)
		return may_be_the_clients(link, fault) ? SERVER_DOUBTED : SERVER_BAD_GREETING;
	if (fault == LINK_OUT_OF_PROTOCOL)
		return SERVER_PROTOCOL;
	return fault == LINK_STALLED ? SERVER_STALLED : SERVER_GONE;
}

static void tell_lost(
	struct link *link, enum link_fault fault, const char *why, const struct smtp_reply *said)
{
	struct link_loss loss = { fault, event_of(link, fault), step_word(link), why, said };

	if (link->state == LINK_LEAVING) {
		retire(link);
		return;
	}
	retire(link);
	link->port->lost(link->ctx, &loss);
}

void link_fail(struct link *link, enum link_fault fault, const char *why)
{
	tell_lost(link, fault, why, NULL);
}

void link_refused(struct link *link, const struct smtp_reply *reply)
{
	tell_lost(link, LINK_CLIENT_REFUSED, "client refused", reply);
}

enum reply_id link_fault_reply(enum link_fault fault)
{
	switch (fault) {
	case LINK_UNREACHABLE:
	case LINK_REFUSED:
	case LINK_CLIENT_REFUSED:
		return REPLY_NO_BACKEND;
	case LINK_CLOSED:
		return REPLY_BACKEND_LOST;
	case LINK_STALLED:
		return REPLY_BACKEND_TIMEOUT;
	case LINK_OUT_OF_PROTOCOL:
		return REPLY_BACKEND_PROTOCOL;
	}
	return REPLY_BACKEND_LOST;
}

/* ---- Deadlines -------------------------------------------------------------------------------- */

static bool has_time(const struct link *link)
{
	return link->answer_by_ms == 0 || loop_now_ms(link->env->loop) < link->answer_by_ms;
}

static uint64_t within_limit(const struct link *link, uint64_t ms)
{
	uint64_t now = loop_now_ms(link->env->loop);

	if (!has_time(link))
		return 0;
	if (link->answer_by_ms == 0 || ms < link->answer_by_ms - now)
		return ms;
	return link->answer_by_ms - now;
}

static void arm(struct link *link, uint64_t ms)
{
	link->watches_progress = false;
	timer_set(&link->deadline, within_limit(link, ms));
}

void link_expect(struct link *link, uint64_t ms)
{
	arm(link, ms);
}

void link_watch(struct link *link, uint64_t ms)
{
	arm(link, ms);
	link->watches_progress = true;
	link->written_at_deadline = link->stream.bytes_written;
}

void link_rest(struct link *link, uint64_t ms)
{
	link->answer_by_ms = 0;
	arm(link, ms);
}

void link_limit(struct link *link, uint64_t by_ms)
{
	link->answer_by_ms = by_ms;
}

/* Is it the client that is slow, or does the message move? A server that takes chunks and answers none
 * does not: behind so many nothing more can be sent to it. */
static bool is_moving(const struct link *link)
{
	if (!link->watches_progress || !has_time(link))
		return false;
	if (link->stream.bytes_written != link->written_at_deadline)
		return true;
	return stream_pending(&link->stream) == 0 && smtp_client_pending(&link->client) == 0;
}

/* What may be for want of TLS: the handshake, and the words around it. */
static bool is_about_tls(const struct link *link)
{
	if (link->state == LINK_HANDSHAKE)
		return true;
	if (link->state != LINK_GREETING || smtp_client_pending(&link->client) == 0)
		return false;
	if (smtp_client_step(&link->client) == SMTP_CLIENT_STARTTLS)
		return true;
	/* With TLS 1.3 a server refuses our certificate only after the handshake. */
	return link->is_tls && !link->client.is_ready && !link->is_clients;
}

/* The connection broke off, or fell silent. */
static void broke_off(struct link *link, enum link_fault fault, const char *why)
{
	if (is_about_tls(link))
		link_tls_failed(link, why);
	else
		link_fail(link, fault, why);
}

/* Nothing was asked that is not answered. */
static bool is_at_rest(const struct link *link)
{
	return link->state == LINK_READY && !link->watches_progress &&
	       smtp_client_pending(&link->client) == 0;
}

static void expired(void *ctx)
{
	struct link *link = ctx;

	if (is_moving(link))
		link_watch(link, link->env->timeouts->data);
	else if (is_at_rest(link))
		link->port->rested(link->ctx);
	else
		broke_off(link, LINK_STALLED,
			link->state == LINK_HANDSHAKE ? "no handshake in time"
						      : "no answer in time");
}

/* ---- TLS -------------------------------------------------------------------------------------- */

/* With some servers TLS does not work at all; a new connection does without, where that is allowed. */
void link_tls_failed(struct link *link, const char *why)
{
	if (!has_time(link) || backend_tls_failed(link->backend) != TLS_STEP_PLAINTEXT) {
		link_fail(link, LINK_REFUSED, why);
		return;
	}
	link_log_fallback(link, why);
	drop_connection(link);
	link->avoids_tls = true;
	connect_server(link);
}

static void on_handshake_done(void *ctx, const struct err *err)
{
	struct link *link = ctx;

	if (link->state != LINK_HANDSHAKE)
		return;
	if (err != NULL) {
		link_tls_failed(link, err->text);
		return;
	}
	link->is_tls = true;
	link->state = LINK_GREETING;
	if (smtp_client_pending(&link->client) == 0) /* after STARTTLS: no banner comes */
		smtp_client_hello_again(&link->client, link_hello_name(link));
	else
		arm(link, link->env->timeouts->greeting);
	stream_read_start(&link->stream);
}

static void start_tls(struct link *link)
{
	link->tls_is_due = false;
	link->state = LINK_HANDSHAKE;
	arm(link, link->env->tls_handshake_ms);
	stream_start_tls(&link->stream, link->backend->tls.context, on_handshake_done, link);
}

/* ---- What the server says --------------------------------------------------------------------- */

static void on_answered(void *ctx, enum smtp_client_step step, const struct smtp_reply *reply)
{
	struct link *link = ctx;

	link->answered = step;
	if (link->state == LINK_OVER)
		return; /* the rest of a group whose first answer was the end */
	if (link->state == LINK_LEAVING) {
		if (step == SMTP_CLIENT_QUIT)
			retire(link);
	} else if (link->state == LINK_GREETING) {
		link_greeting_answered(link, step, reply);
	} else {
		link->port->answered(link->ctx, step, reply);
	}
}

static void on_broken(void *ctx, const char *why, const struct smtp_reply *reply)
{
	struct link *link = ctx;

	if (link->state != LINK_OVER)
		tell_lost(link, LINK_OUT_OF_PROTOCOL, why, reply);
}

/* Each command of the greeting has its own deadline; those of a transaction are the owner's. */
static void on_send(void *ctx, struct str bytes)
{
	struct link *link = ctx;
	bool fits = stream_write(&link->stream, bytes);

	ASSERT(fits); /* a message leaves room: see link_room() */
	if (link->state == LINK_GREETING)
		arm(link, link->env->timeouts->command);
}

static const struct smtp_client_port client_port = {
	.send = on_send,
	.answered = on_answered,
	.broken = on_broken,
};

static size_t on_input(void *ctx, struct str bytes)
{
	struct link *link = ctx;
	size_t taken = smtp_client_feed(&link->client, bytes);

	if (!stream_is_open(&link->stream) || link->state == LINK_CONNECTING)
		return bytes.n;
	if (link_is_seen(link))
		link->port->ready(link->ctx);
	else if (link->tls_is_due)
		start_tls(link);
	else if (link->state == LINK_READY)
		link->port->turn(link->ctx);
	return taken;
}

static void on_eof(void *ctx)
{
	broke_off(ctx, LINK_CLOSED, "connection closed");
}

static void on_failed(void *ctx, const struct err *err)
{
	broke_off(ctx, LINK_CLOSED, err->text);
}

static void on_drained(void *ctx)
{
	struct link *link = ctx;

	if (link->state == LINK_READY && link->port->drained != NULL)
		link->port->drained(link->ctx);
}

static const struct stream_events stream_events = {
	.input = on_input,
	.eof = on_eof,
	.failed = on_failed,
	.drained = on_drained,
};

/* ---- The beginning ---------------------------------------------------------------------------- */

static void connected(void *ctx, int fd, const struct err *err)
{
	struct link *link = ctx;

	if (fd < 0) {
		link_fail(link, LINK_UNREACHABLE, err->text);
		return;
	}
	link->address = link->connecting->address;
	stop_connecting(link);
	link->state = LINK_GREETING;
	stream_init(&link->stream, link->env->loop, fd, SMTP_CLIENT_INPUT_MAX, LINK_OUT_MAX,
		&stream_events, link);
	if (link_says_secrets(link))
		stream_set_secret(&link->stream);
	smtp_client_free(&link->client); /* of a connection before this one */
	link->is_clients = false;
	smtp_client_init(&link->client, link_hello_name(link), &client_port, link);
	link->client.is_lmtp = link->backend->settings->protocol == PROTOCOL_LMTP;
	link_send_identity(link);
	link->is_tls = link->tls_is_due = false;
	if (link_is_seen(link)) {
		link->port->ready(link->ctx);
		return;
	}
	if (link->backend->settings->tls.mode == BACKEND_TLS_IMPLICIT) {
		start_tls(link);
		return;
	}
	stream_read_start(&link->stream);
	arm(link, link->env->timeouts->greeting);
}

static void connect_server(struct link *link)
{
	link->state = LINK_CONNECTING;
	if (!link->is_probe)
		server_acquire(link->server);
	link->connecting = block_take(sizeof(*link->connecting));
	server_connect_start(link->connecting, link->server, link->env->loop,
		within_limit(link, link->env->timeouts->connect), connected, link);
}

struct link *link_open(const struct backend_env *env, struct backend *backend,
	struct server *server, const struct connection *connection, uint64_t answer_by_ms,
	const struct link_port *port, void *ctx)
{
	struct link *link = block_take_zeroed(sizeof(*link));

	link->env = env;
	link->backend = backend;
	link->server = server;
	link->connection = connection;
	link->is_probe = connection == NULL;
	if (connection != NULL)
		identity_told(connection, &link->told);
	link->answer_by_ms = answer_by_ms;
	link->port = port;
	link->ctx = ctx;
	timer_init(&link->deadline, env->loop, expired, link);
	connect_server(link);
	return link;
}

void link_pass(struct link *link, const struct link_port *port, void *ctx)
{
	ASSERT(link->state == LINK_READY);
	link->port = port;
	link->ctx = ctx;
}

void link_hand_over(struct link *link, const struct link_port *port, void *ctx)
{
	link_pass(link, port, ctx);
	link->connection = NULL;
	link->told = (struct identity_told){ 0 };
}

size_t link_room(const struct link *link)
{
	size_t room = stream_room(&link->stream);

	return room > COMMAND_MAX ? room - COMMAND_MAX : 0;
}

void link_quit(struct link **given)
{
	struct link *link = *given;

	*given = NULL;
	if (link == NULL)
		return;
	if (link->state != LINK_READY || !smtp_client_can_send(&link->client)) {
		retire(link);
		return;
	}
	smtp_client_quit(&link->client);
	link->state = LINK_LEAVING;
	link->answer_by_ms = 0;
	stream_flush(&link->stream);
	LIST_INSERT_HEAD(&link->backend->leaving, link, entry);
	arm(link, QUIT_MS);
}

void link_close(struct link **given)
{
	struct link *link = *given;

	*given = NULL;
	if (link != NULL)
		retire(link);
}

void link_drop_leaving(struct backend *backend)
{
	while (!LIST_EMPTY(&backend->leaving))
		retire(LIST_FIRST(&backend->leaving));
}
