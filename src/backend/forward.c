#include "backend/forward.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "backend/answer.h"
#include "backend/backend_tls.h"
#include "backend/queue.h"
#include "backend/server_connect.h"
#include "net/stream.h"
#include "proto/proxy.h"
#include "proto/smtp_params.h"
#include "smtp/client.h"

/* Message bytes that wait for a slow server; more makes the client slow. */
#define OUT_MAX (128 * 1024)
/* However many servers there are, and however slow: clients wait 5 minutes for the answer to RCPT,
 * and 2 for that to DATA (RFC 5321 section 4.5.3.2). */
#define RECIPIENT_BUDGET_MS 240000
#define DATA_BUDGET_MS 110000
/* How long a server is given to answer our QUIT. */
#define QUIT_MS 2000

enum forward_state {
	FORWARD_CLOSED, /* no connection */
	FORWARD_CONNECTING,
	FORWARD_HANDSHAKE, /* TLS: at once, or after STARTTLS */
	FORWARD_GREETING,  /* banner and EHLO, and EHLO again under TLS */
	FORWARD_READY,     /* envelope, or idle between transactions */
	FORWARD_BODY,      /* 354 was given */
	FORWARD_FINAL,     /* the dot was sent */
	FORWARD_QUITTING,
};

/* What the session waits for. */
enum forward_want { WANT_NOTHING, WANT_RECIPIENT, WANT_DATA, WANT_FINAL };

struct forward {
	LIST_ENTRY(forward) link; /* backend->leaving, in the state QUITTING */
	const struct backend_env *env;
	struct connection *connection; /* NULL: released */
	const struct route_table *routes;
	const struct forward_port *port;
	void *ctx;

	enum forward_state state;
	enum forward_want want;
	struct backend *backend; /* of the connection, or being connected to */
	struct server *server;
	struct server_choice choice;
	struct server_connect connector;
	struct server_wait wait;
	struct stream stream;
	struct smtp_client client;
	bool is_tls;     /* the connection */
	bool tls_is_due; /* STARTTLS was answered 220 */
	bool avoids_tls; /* it has failed with this server, and may be done without */
	struct timer deadline;
	uint64_t written_at_deadline; /* progress of the body */

	/* The transaction. */
	struct backend *destination; /* decided by the first recipient; NULL: none yet */
	bool was_idle;               /* it began on a connection that an earlier one had used */
	bool mail_is_sent, candidate_is_sent, data_is_sent;
	bool is_at_server; /* the server has begun a transaction that it has not ended */
	/* Recipients accepted before, put to another server: due, sent, answered. */
	unsigned replays_due, replays_sent, replays_answered;
	uint64_t answer_by_ms;  /* the client waits no longer */
	enum reply_id obstacle; /* why servers could not be used so far; REPLY_COUNT: nothing yet */
	bool is_given_up;       /* all have been tried */
	bool mail_is_refused;
	struct smtp_reply mail_refusal; /* what its answer was, for every recipient */
	struct buf mail_refusal_text;

	struct buf answer_text; /* of the answer being given */
	struct task own_answer_task;
	enum reply_id own_answer; /* REPLY_COUNT: the refusal of MAIL */
};

static void try_next_server(struct forward *forward);
static void pump(struct forward *forward);
static void handshake_failed(struct forward *forward, const char *why);

/* ---- Answers -------------------------------------------------------------------------------- */

static struct str server_name(const struct forward *forward)
{
	return str_from(forward->server ? forward->server->name : "");
}

static void answer(struct forward *forward, const struct smtp_answer *answer)
{
	ASSERT(forward->want != WANT_NOTHING);
	forward->want = WANT_NOTHING;
	if (forward->connection != NULL)
		forward->port->answered(forward->ctx, answer);
}

/* What a reply means. Its text is copied: the connection that it came by may be dropped before
 * the answer is given. */
static void judge(struct forward *forward, enum smtp_client_step step,
	const struct smtp_reply *reply, struct answer *verdict)
{
	answer_from_reply(verdict, step, reply);
	buf_truncate(&forward->answer_text, 0);
	buf_write(&forward->answer_text, reply->text);
	verdict->changed.text = buf_view(&forward->answer_text);
}

/* A sender that the server refuses is told at each recipient. */
static void answer_mail_refusal(struct forward *forward)
{
	struct answer refusal;

	judge(forward, SMTP_CLIENT_MAIL, &forward->mail_refusal, &refusal);
	answer(forward, &refusal.answer);
}

static void give_own_answer(void *ctx)
{
	struct forward *forward = ctx;
	struct smtp_answer own = { .own = forward->own_answer, .by = BY_EDGE };

	if (forward->want == WANT_NOTHING)
		return;
	if (forward->own_answer == REPLY_COUNT)
		answer_mail_refusal(forward);
	else
		answer(forward, &own);
}

/* An answer of ours, from the loop. */
static void answer_own(struct forward *forward, enum reply_id reply)
{
	forward->own_answer = reply;
	task_defer(&forward->own_answer_task, forward->env->loop);
}

static void alarm_blamed(
	const struct forward *forward, enum smtp_client_step step, const struct smtp_reply *reply)
{
	LOG(BACKEND_BLAMES_US, log_text("uuid", forward->connection->uuid),
		log_str("backend", forward->backend->settings->name),
		log_str("server", server_name(forward)),
		log_text("step", smtp_client_step_word(step)), log_int("code", reply->code),
		log_str("reply", reply->text));
}

/* ---- The connection to a server --------------------------------------------------------------- */

static void drop_connection(struct forward *forward)
{
	timer_clear(&forward->deadline);
	backend_wait_cancel(&forward->wait);
	if (forward->state == FORWARD_CONNECTING) {
		server_connect_cancel(&forward->connector);
	} else if (forward->state != FORWARD_CLOSED) {
		stream_close(&forward->stream, false);
		smtp_client_free(&forward->client);
	}
	if (forward->state != FORWARD_CLOSED)
		server_release(forward->server);
	forward->state = FORWARD_CLOSED;
	forward->is_at_server = false;
}

static void free_later(void *object)
{
	struct forward *forward = object;

	timer_stop(&forward->deadline);
	buf_free(&forward->mail_refusal_text);
	buf_free(&forward->answer_text);
	free(forward);
}

/* The end of a released one. */
static void retire(struct forward *forward)
{
	if (forward->state == FORWARD_QUITTING)
		LIST_REMOVE(forward, link);
	drop_connection(forward);
	task_cancel(&forward->own_answer_task, forward->env->loop);
	loop_retire(forward->env->loop, free_later, forward);
}

/* Farewell without waiting for the answer. */
static void leave(struct forward *forward)
{
	if (forward->state == FORWARD_READY && smtp_client_can_send(&forward->client)) {
		smtp_client_quit(&forward->client);
		stream_flush(&forward->stream);
	}
	drop_connection(forward);
}

/* ---- When a server fails ---------------------------------------------------------------------- */

static void body_lost(struct forward *forward, const struct smtp_answer *answer)
{
	drop_connection(forward);
	forward->port->body_lost(forward->ctx, answer);
}

static void final_lost(struct forward *forward, const char *why)
{
	struct smtp_answer unknown = { .own = REPLY_OUTCOME_UNKNOWN, .by = BY_BACKEND };

	LOG(OUTCOME_UNKNOWN, log_text("uuid", forward->connection->transaction->uuid),
		log_str("backend", forward->backend->settings->name),
		log_str("server", server_name(forward)), log_text("error", why));
	drop_connection(forward);
	answer(forward, &unknown);
}

static const char *state_word(const struct forward *forward)
{
	if (forward->state == FORWARD_CONNECTING)
		return "connect";
	if (forward->state == FORWARD_HANDSHAKE)
		return "TLS";
	if (forward->state == FORWARD_BODY)
		return "message";
	if (forward->state == FORWARD_GREETING && smtp_client_pending(&forward->client) == 0)
		return smtp_client_step_word(SMTP_CLIENT_EHLO);
	if (forward->state != FORWARD_CLOSED && smtp_client_pending(&forward->client) > 0)
		return smtp_client_step_word(smtp_client_step(&forward->client));
	return "idle";
}

static void log_failed(const struct forward *forward, const char *why)
{
	LOG(BACKEND_FAILED, log_text("uuid", forward->connection->uuid),
		log_str("backend", forward->backend->settings->name),
		log_str("server", server_name(forward)), log_text("step", state_word(forward)),
		log_text("error", why));
}

static void note_lost(struct forward *forward, enum reply_id reply)
{
	enum server_event event = SERVER_GONE;

	if (forward->state == FORWARD_CONNECTING || forward->state == FORWARD_HANDSHAKE)
		event = SERVER_CONNECT_FAILED;
	else if (forward->state == FORWARD_GREETING)
		event = SERVER_BAD_GREETING;
	else if (reply == REPLY_BACKEND_TIMEOUT)
		event = SERVER_STALLED;
	else if (reply == REPLY_BACKEND_PROTOCOL)
		event = SERVER_PROTOCOL;
	server_note(forward->server, event, loop_now_ms(forward->env->loop));
}

/*
 * The server cannot be used for this transaction. Before the message another one can; a connection
 * that was kept from an earlier transaction may simply have been closed meanwhile: then the same
 * server gets another chance.
 */
static void replace_server(struct forward *forward, enum reply_id reply)
{
	bool was_idle = forward->was_idle;

	if (!was_idle) {
		note_lost(forward, reply);
		forward->obstacle = REPLY_NO_BACKEND;
	}
	drop_connection(forward);
	if (was_idle)
		forward->choice = (struct server_choice){ 0 };
	try_next_server(forward);
}

/* `reply` of ours is what the client gets when the body cannot be saved. */
static void server_lost(struct forward *forward, const char *why, enum reply_id reply)
{
	struct smtp_answer lost = { .own = reply, .by = BY_EDGE };

	if (forward->connection == NULL) {
		retire(forward);
		return;
	}
	if (forward->state == FORWARD_FINAL) {
		final_lost(forward, why);
		return;
	}
	if (forward->want == WANT_NOTHING && forward->state != FORWARD_BODY) {
		/* Idle: what comes next connects anew, to the same server if it likes. */
		drop_connection(forward);
		forward->choice = (struct server_choice){ 0 };
		return;
	}
	log_failed(forward, why);
	if (forward->state == FORWARD_BODY) {
		note_lost(forward, reply);
		body_lost(forward, &lost);
	} else {
		replace_server(forward, reply);
	}
}

/* No server is left to try. */
static void give_up(struct forward *forward)
{
	if (forward->obstacle == REPLY_COUNT)
		forward->obstacle = REPLY_NO_BACKEND;
	forward->is_given_up = true;
	answer_own(forward, forward->obstacle);
}

/* ---- Deadlines -------------------------------------------------------------------------------- */

static bool has_time(const struct forward *forward)
{
	return loop_now_ms(forward->env->loop) < forward->answer_by_ms;
}

/* Each step has its deadline, and all together have one. */
static uint64_t within_budget(const struct forward *forward, uint64_t ms)
{
	uint64_t now = loop_now_ms(forward->env->loop);

	if (forward->want != WANT_RECIPIENT && forward->want != WANT_DATA)
		return ms;
	if (now >= forward->answer_by_ms)
		return 0;
	return ms < forward->answer_by_ms - now ? ms : forward->answer_by_ms - now;
}

static void arm(struct forward *forward)
{
	const struct backend_timeouts *timeouts = forward->env->timeouts;
	uint64_t ms = timeouts->command;

	switch (forward->state) {
	case FORWARD_HANDSHAKE:
		ms = forward->env->tls_handshake_ms;
		break;
	case FORWARD_GREETING:
		if (smtp_client_step(&forward->client) == SMTP_CLIENT_BANNER)
			ms = timeouts->greeting;
		break;
	case FORWARD_READY:
		if (forward->want == WANT_NOTHING && smtp_client_pending(&forward->client) == 0)
			ms = timeouts->idle;
		break;
	case FORWARD_BODY:
		ms = timeouts->data;
		forward->written_at_deadline = forward->stream.bytes_written;
		break;
	case FORWARD_FINAL:
		ms = timeouts->final;
		break;
	case FORWARD_QUITTING:
		ms = QUIT_MS;
		break;
	default:
		return;
	}
	timer_set(&forward->deadline, within_budget(forward, ms));
}

/* Nobody waits for the server: between two transactions, or while the client thinks. */
static void idle_expired(struct forward *forward)
{
	if (smtp_client_pending(&forward->client) > 0)
		server_lost(forward, "no answer in time", REPLY_BACKEND_TIMEOUT);
	else if (forward->destination == NULL)
		leave(forward);
	else
		arm(forward);
}

/* Is it the client that is slow, or does the message move? */
static bool is_body_moving(const struct forward *forward)
{
	return forward->state == FORWARD_BODY &&
	       (stream_pending(&forward->stream) == 0 ||
		       forward->stream.bytes_written != forward->written_at_deadline);
}

static void expired(void *ctx)
{
	struct forward *forward = ctx;

	if (forward->state == FORWARD_READY && forward->want == WANT_NOTHING)
		idle_expired(forward);
	else if (is_body_moving(forward))
		arm(forward);
	else if (forward->state == FORWARD_HANDSHAKE)
		handshake_failed(forward, "no handshake in time");
	else
		server_lost(forward, "no answer in time", REPLY_BACKEND_TIMEOUT);
}

/* ---- The envelope ----------------------------------------------------------------------------- */

/* What the transaction needs and the server has not; its reply, or REPLY_COUNT. */
static enum reply_id missing(const struct forward *forward)
{
	const struct smtp_mail_params *params = &forward->connection->transaction->mail_params;
	unsigned has = forward->client.capabilities.extensions;

	if (params->smtputf8 && !(has & SMTP_EXT_SMTPUTF8))
		return REPLY_BACKEND_NEEDS_SMTPUTF8;
	if (params->body == SMTP_BODY_8BITMIME && !(has & SMTP_EXT_8BITMIME))
		return REPLY_NEEDS_8BITMIME;
	return REPLY_COUNT;
}

static struct recipient *recipient_at(const struct transaction *transaction, unsigned index)
{
	struct recipient *recipient = STAILQ_FIRST(&transaction->rcpt_to);

	while (index-- > 0)
		recipient = STAILQ_NEXT(recipient, link);
	return recipient;
}

/* The next command that can be sent; false when there is none. */
static bool send_next(struct forward *forward)
{
	struct transaction *transaction = forward->connection->transaction;

	if (!forward->mail_is_sent) {
		smtp_client_mail(&forward->client, transaction);
		return forward->mail_is_sent = forward->is_at_server = true;
	}
	if (forward->mail_is_refused)
		return false;
	if (forward->replays_sent < forward->replays_due) {
		smtp_client_rcpt(
			&forward->client, recipient_at(transaction, forward->replays_sent++));
		return true;
	}
	if (forward->want == WANT_RECIPIENT && !forward->candidate_is_sent) {
		smtp_client_rcpt(&forward->client, transaction->candidate);
		return forward->candidate_is_sent = true;
	}
	if (forward->want == WANT_DATA && !forward->data_is_sent) {
		smtp_client_data(&forward->client);
		return forward->data_is_sent = true;
	}
	return false;
}

static void pump(struct forward *forward)
{
	if (forward->state != FORWARD_READY || forward->want == WANT_NOTHING)
		return;
	if (!forward->mail_is_sent && missing(forward) != REPLY_COUNT) {
		if (forward->obstacle == REPLY_COUNT)
			forward->obstacle = missing(forward);
		leave(forward);
		try_next_server(forward);
		return;
	}
	bool has_sent = false;
	while (smtp_client_can_send(&forward->client) && send_next(forward))
		has_sent = true;
	/* Only what we send begins a deadline: a server cannot stretch it by dribbling. */
	if (has_sent)
		arm(forward);
}

static void keep_mail_refusal(struct forward *forward, const struct smtp_reply *reply)
{
	buf_truncate(&forward->mail_refusal_text, 0);
	buf_write(&forward->mail_refusal_text, reply->text);
	forward->mail_refusal = *reply;
	forward->mail_refusal.text = buf_view(&forward->mail_refusal_text);
	forward->mail_is_refused = true;
}

/* Neither a server that goes away nor one that answers out of protocol is put another command to. */
static bool is_useless(
	struct forward *forward, const struct answer *verdict, enum smtp_client_step step)
{
	char why[48];

	if (!verdict->server_is_done && !verdict->is_senseless)
		return false;
	snprintf(why, sizeof(why), "%s at %s", verdict->server_is_done ? "421" : "senseless reply",
		smtp_client_step_word(step));
	server_lost(forward, why, REPLY_BACKEND_LOST);
	return true;
}

static void mail_answered(struct forward *forward, const struct smtp_reply *reply)
{
	struct answer verdict;

	judge(forward, SMTP_CLIENT_MAIL, reply, &verdict);
	if (is_useless(forward, &verdict, SMTP_CLIENT_MAIL))
		return;
	if (forward->replays_due > 0) {
		if (smtp_reply_class(reply) != 2)
			server_lost(forward, "sender refused", REPLY_BACKEND_LOST);
		return;
	}
	if (smtp_reply_class(reply) == 2)
		return;
	if (verdict.blames_us)
		alarm_blamed(forward, SMTP_CLIENT_MAIL, reply);
	keep_mail_refusal(forward, reply);
	if (!forward->candidate_is_sent)
		answer_mail_refusal(forward);
}

static void rcpt_answered(struct forward *forward, const struct smtp_reply *reply)
{
	bool is_replay = forward->replays_answered < forward->replays_due;
	struct answer verdict;

	judge(forward, SMTP_CLIENT_RCPT, reply, &verdict);
	if (is_useless(forward, &verdict, SMTP_CLIENT_RCPT))
		return;
	if (is_replay) {
		/* Another server has accepted it before us: this one cannot take its place. */
		forward->replays_answered++;
		if (smtp_reply_class(reply) != 2)
			server_lost(forward, "recipient refused that another server accepted",
				REPLY_BACKEND_LOST);
		return;
	}
	forward->candidate_is_sent = false;
	if (forward->mail_is_refused) {
		answer_mail_refusal(forward);
		return;
	}
	if (verdict.blames_us)
		alarm_blamed(forward, SMTP_CLIENT_RCPT, reply);
	answer(forward, &verdict.answer);
}

static void data_answered(struct forward *forward, const struct smtp_reply *reply)
{
	struct answer verdict;

	judge(forward, SMTP_CLIENT_DATA, reply, &verdict);
	if (is_useless(forward, &verdict, SMTP_CLIENT_DATA))
		return;
	if (verdict.blames_us)
		alarm_blamed(forward, SMTP_CLIENT_DATA, reply);
	if (reply->code == 354) {
		forward->state = FORWARD_BODY;
		arm(forward);
	}
	answer(forward, &verdict.answer);
}

static void final_answered(struct forward *forward, const struct smtp_reply *reply)
{
	struct answer verdict;

	judge(forward, SMTP_CLIENT_DOT, reply, &verdict);
	/* No 250 without the dot: one that came while we still hold the end answers something else. */
	if (smtp_reply_class(reply) == 2 && stream_pending(&forward->stream) > 0) {
		final_lost(forward, "a reply before the end of the message was sent");
		return;
	}
	if (verdict.is_senseless) {
		final_lost(forward, "senseless reply");
		return;
	}
	if (verdict.blames_us)
		alarm_blamed(forward, SMTP_CLIENT_DOT, reply);
	forward->state = FORWARD_READY;
	forward->is_at_server = false;
	if (verdict.server_is_done || verdict.answer.reply == NULL)
		drop_connection(forward);
	answer(forward, &verdict.answer);
}

/* ---- What the server says --------------------------------------------------------------------- */

static void log_fallback(const struct forward *forward, const char *reason)
{
	LOG(TLS_FALLBACK, log_text("uuid", forward->connection->uuid),
		log_str("backend", forward->backend->settings->name),
		log_str("server", server_name(forward)), log_text("reason", reason));
}

static void ready(struct forward *forward)
{
	server_learn(
		forward->server, &forward->client.capabilities, loop_now_ms(forward->env->loop));
	forward->state = FORWARD_READY;
}

static void greeted(struct forward *forward, const struct smtp_reply *reply)
{
	if (!forward->client.is_ready) {
		server_lost(forward, smtp_reply_class(reply) == 4 ? "refused for now" : "refused",
			REPLY_NO_BACKEND);
		return;
	}
	switch (backend_tls_step(forward->backend, &forward->client.capabilities,
		forward->is_tls || forward->avoids_tls)) {
	case TLS_STEP_NONE:
		ready(forward);
		break;
	case TLS_STEP_PLAINTEXT:
		log_fallback(forward, "STARTTLS not offered");
		ready(forward);
		break;
	case TLS_STEP_STARTTLS:
		smtp_client_starttls(&forward->client);
		break;
	case TLS_STEP_REFUSE:
		server_lost(forward, "STARTTLS not offered", REPLY_NO_BACKEND);
		break;
	}
}

static void starttls_answered(struct forward *forward, const struct smtp_reply *reply)
{
	if (reply->code == 220) {
		forward->tls_is_due = true; /* when it is sure that nothing came behind the reply */
	} else if (backend_tls_failed(forward->backend) == TLS_STEP_PLAINTEXT) {
		log_fallback(forward, "STARTTLS refused");
		ready(forward);
	} else {
		server_lost(forward, "STARTTLS refused", REPLY_NO_BACKEND);
	}
}

static void connect_server(struct forward *forward);

/* With some servers TLS does not work at all; a new connection does without, where that is allowed. */
static void handshake_failed(struct forward *forward, const char *why)
{
	if (forward->connection == NULL || forward->want == WANT_NOTHING || !has_time(forward) ||
		backend_tls_failed(forward->backend) != TLS_STEP_PLAINTEXT) {
		server_lost(forward, why, REPLY_NO_BACKEND);
		return;
	}
	log_fallback(forward, why);
	drop_connection(forward);
	forward->avoids_tls = true;
	connect_server(forward);
}

static void on_handshake_done(void *ctx, const struct err *err)
{
	struct forward *forward = ctx;

	if (forward->state != FORWARD_HANDSHAKE)
		return;
	if (err != NULL) {
		handshake_failed(forward, err->text);
		return;
	}
	forward->is_tls = true;
	forward->state = FORWARD_GREETING;
	if (smtp_client_pending(&forward->client) == 0) /* after STARTTLS: no banner comes */
		smtp_client_hello_again(&forward->client, forward->client.hello);
	else
		arm(forward);
	stream_read_start(&forward->stream);
}

static void start_tls(struct forward *forward)
{
	forward->tls_is_due = false;
	forward->state = FORWARD_HANDSHAKE;
	arm(forward);
	stream_start_tls(
		&forward->stream, forward->backend->tls.context, on_handshake_done, forward);
}

/* What makes no sense, and 421, is noted where the connection is given up. */
static void note_answer(
	struct forward *forward, enum smtp_client_step step, const struct smtp_reply *reply)
{
	int class = smtp_reply_class(reply);
	bool is_last = step == SMTP_CLIENT_DOT;

	if (!is_last && step != SMTP_CLIENT_MAIL && step != SMTP_CLIENT_DATA)
		return;
	if (class == 4 && reply->code != 421)
		server_note(forward->server, SERVER_TEMPFAILED, loop_now_ms(forward->env->loop));
	else if (class == 5 || (is_last && reply->code == 250))
		server_note(forward->server, SERVER_OK, loop_now_ms(forward->env->loop));
}

static void on_answered(void *ctx, enum smtp_client_step step, const struct smtp_reply *reply)
{
	struct forward *forward = ctx;

	note_answer(forward, step, reply);
	switch (step) {
	case SMTP_CLIENT_BANNER:
	case SMTP_CLIENT_EHLO:
	case SMTP_CLIENT_HELO:
		greeted(forward, reply);
		break;
	case SMTP_CLIENT_STARTTLS:
		starttls_answered(forward, reply);
		break;
	case SMTP_CLIENT_MAIL:
		mail_answered(forward, reply);
		break;
	case SMTP_CLIENT_RCPT:
		rcpt_answered(forward, reply);
		break;
	case SMTP_CLIENT_DATA:
		data_answered(forward, reply);
		break;
	case SMTP_CLIENT_DOT:
		final_answered(forward, reply);
		break;
	case SMTP_CLIENT_RSET:
		if (reply->code != 250)
			server_lost(forward, "RSET refused", REPLY_BACKEND_LOST);
		break;
	case SMTP_CLIENT_QUIT:
		server_lost(forward, "QUIT", REPLY_BACKEND_LOST);
		break;
	case SMTP_CLIENT_XCLIENT: /* never sent */
	case SMTP_CLIENT_AUTH:
	case SMTP_CLIENT_XFORWARD:
	case SMTP_CLIENT_BDAT:
		break;
	}
}

static void on_broken(void *ctx, const char *why, const struct smtp_reply *reply)
{
	struct forward *forward = ctx;
	struct answer verdict;

	/* A verdict in the middle of the message: swallow the rest, then tell the client. */
	if (forward->state == FORWARD_BODY && reply != NULL && smtp_reply_class(reply) >= 4) {
		log_failed(forward, "refused in the middle of the message");
		judge(forward, SMTP_CLIENT_DOT, reply, &verdict);
		body_lost(forward, &verdict.answer);
		return;
	}
	server_lost(forward, why, REPLY_BACKEND_PROTOCOL);
}

static void on_send(void *ctx, struct str bytes)
{
	struct forward *forward = ctx;
	bool fits = stream_write(&forward->stream, bytes);

	ASSERT(fits); /* the body leaves room: see forward_body_room */
	if (forward->state == FORWARD_GREETING)
		arm(forward);
}

static const struct smtp_client_port client_port = {
	.send = on_send,
	.answered = on_answered,
	.broken = on_broken,
};

static size_t on_input(void *ctx, struct str bytes)
{
	struct forward *forward = ctx;
	size_t taken = smtp_client_feed(&forward->client, bytes);

	if (!stream_is_open(&forward->stream) || forward->state == FORWARD_CLOSED)
		return bytes.n;
	if (forward->tls_is_due)
		start_tls(forward);
	else if (forward->connection != NULL)
		pump(forward);
	return taken;
}

static void on_eof(void *ctx)
{
	server_lost(ctx, "connection closed", REPLY_BACKEND_LOST);
}

static void on_failed(void *ctx, const struct err *err)
{
	server_lost(ctx, err->text, REPLY_BACKEND_LOST);
}

static void on_drained(void *ctx)
{
	struct forward *forward = ctx;

	if (forward->connection != NULL && forward->state == FORWARD_BODY)
		forward->port->room(forward->ctx);
}

static const struct stream_events stream_events = {
	.input = on_input,
	.eof = on_eof,
	.failed = on_failed,
	.drained = on_drained,
};

/* ---- Connecting ------------------------------------------------------------------------------- */

/* Before anything else, in the same write as nothing else (proxy-protocol.txt section 2). */
static void send_identity(struct forward *forward)
{
	const struct endpoint *client = &forward->connection->remote.address;
	const struct endpoint *local = &forward->connection->local.address;
	char header[PROXY_V1_MAX + 1];
	size_t n = 0;

	if (forward->backend->settings->identity == IDENTITY_PROXY_V1)
		n = proxy_v1_print(client, local, header);
	else if (forward->backend->settings->identity == IDENTITY_PROXY_V2)
		n = proxy_v2_print(client, local, header);
	stream_write(&forward->stream, str_make(header, n));
	stream_flush(&forward->stream);
}

static struct str hello_name(const struct forward *forward)
{
	struct str client = forward->connection->hello.host;

	if (forward->backend->settings->hello == BACKEND_HELLO_CLIENT &&
		(smtp_is_host_name(client, false) || smtp_is_address_literal(client)))
		return client;
	return forward->env->hostname;
}

static void connected(void *ctx, int fd, const struct err *err)
{
	struct forward *forward = ctx;

	if (fd < 0) {
		server_lost(forward, err->text, REPLY_NO_BACKEND);
		return;
	}
	forward->state = FORWARD_GREETING;
	stream_init(&forward->stream, forward->env->loop, fd, SMTP_CLIENT_INPUT_MAX, OUT_MAX,
		&stream_events, forward);
	smtp_client_init(&forward->client, hello_name(forward), &client_port, forward);
	send_identity(forward);
	forward->is_tls = forward->tls_is_due = false;
	if (forward->backend->settings->tls.mode == BACKEND_TLS_IMPLICIT) {
		start_tls(forward);
		return;
	}
	stream_read_start(&forward->stream);
	arm(forward);
}

/* Everything that was put to the former server is put to the new one. */
static void begin_envelope(struct forward *forward)
{
	forward->mail_is_sent = forward->candidate_is_sent = forward->data_is_sent = false;
	forward->mail_is_refused = false;
	forward->replays_sent = forward->replays_answered = 0;
	forward->replays_due = (unsigned)forward->connection->transaction->rcpt_count.accept;
}

static void connect_server(struct forward *forward)
{
	begin_envelope(forward);
	forward->state = FORWARD_CONNECTING;
	forward->connection->transaction->server = server_name(forward);
	server_acquire(forward->server);
	server_connect_start(&forward->connector, forward->server, forward->env->loop,
		within_budget(forward, forward->env->timeouts->connect), connected, forward);
}

/* The next server that is not ourselves; NULL: none, or no time. */
static struct server *next_server(struct forward *forward)
{
	const struct ipaddr *client = &forward->connection->remote.address.ip;
	uint64_t now = loop_now_ms(forward->env->loop);
	struct server *server = NULL;

	while (has_time(forward)) {
		server = backend_choose(forward->destination, client, now, &forward->choice);
		if (server == NULL || !server->is_ourselves)
			return server;
		forward->obstacle = REPLY_MAIL_LOOP;
	}
	return NULL;
}

static void waited(void *ctx, bool in_time)
{
	struct forward *forward = ctx;

	if (in_time) {
		try_next_server(forward);
		return;
	}
	forward->obstacle = REPLY_BACKEND_BUSY;
	give_up(forward);
}

/* True: all servers have as many connections as they may, and one will be waited for. */
static bool wait_for_room(struct forward *forward)
{
	uint64_t ms = within_budget(forward, forward->env->timeouts->queue);

	if (!forward->choice.is_full)
		return false;
	if (backend_wait(forward->destination, &forward->wait, forward->env->loop, ms,
		    &forward->choice, waited, forward))
		return true;
	forward->obstacle = REPLY_BACKEND_BUSY;
	return false;
}

static void try_next_server(struct forward *forward)
{
	forward->server = next_server(forward);
	if (forward->server == NULL) {
		if (!wait_for_room(forward))
			give_up(forward);
		return;
	}
	forward->backend = forward->destination;
	forward->was_idle = forward->avoids_tls = false;
	connect_server(forward);
}

/* The first recipient decides where the transaction goes. */
static void begin_transaction(struct forward *forward, struct backend *destination)
{
	forward->destination = destination;
	forward->connection->transaction->backend = destination->settings->name;
	forward->choice = (struct server_choice){ 0 };
	forward->obstacle = REPLY_COUNT;
	forward->is_given_up = false;
	if (forward->state == FORWARD_READY && forward->backend == destination) {
		begin_envelope(forward);
		forward->was_idle = true;
		forward->connection->transaction->server = server_name(forward);
		pump(forward);
		return;
	}
	leave(forward);
	try_next_server(forward);
}

/* ---- The interface ---------------------------------------------------------------------------- */

struct forward *forward_new(const struct backend_env *env, struct connection *connection,
	const struct route_table *routes, const struct forward_port *port, void *ctx)
{
	struct forward *forward = xcalloc(1, sizeof(*forward));

	forward->env = env;
	forward->connection = connection;
	forward->routes = routes;
	forward->port = port;
	forward->ctx = ctx;
	forward->obstacle = REPLY_COUNT;
	buf_init(&forward->mail_refusal_text, SMTP_REPLY_TEXT_MAX);
	buf_init(&forward->answer_text, SMTP_REPLY_TEXT_MAX);
	timer_init(&forward->deadline, env->loop, expired, forward);
	task_init(&forward->own_answer_task, give_own_answer, forward);
	return forward;
}

void forward_release(struct forward **released)
{
	struct forward *forward = *released;

	*released = NULL;
	if (forward == NULL)
		return;
	forward->connection = NULL;
	forward->want = WANT_NOTHING;
	if (forward->state != FORWARD_READY || !smtp_client_can_send(&forward->client)) {
		retire(forward);
		return;
	}
	smtp_client_quit(&forward->client);
	forward->state = FORWARD_QUITTING;
	LIST_INSERT_HEAD(&forward->backend->leaving, forward, link);
	arm(forward);
}

void forward_drop_leaving(struct backend *backend)
{
	while (!LIST_EMPTY(&backend->leaving))
		retire(LIST_FIRST(&backend->leaving));
}

void forward_recipient(struct forward *forward)
{
	struct backend *destination = route_find(forward->routes, forward->connection);

	forward->want = WANT_RECIPIENT;
	forward->answer_by_ms = loop_now_ms(forward->env->loop) + RECIPIENT_BUDGET_MS;
	if (destination == NULL)
		answer_own(forward, REPLY_NO_ROUTE);
	else if (forward->destination == NULL)
		begin_transaction(forward, destination);
	else if (forward->destination != destination)
		answer_own(forward, REPLY_OTHER_DESTINATION);
	else if (forward->is_given_up)
		answer_own(forward, forward->obstacle);
	else if (forward->mail_is_refused)
		answer_own(forward, REPLY_COUNT);
	else if (forward->state == FORWARD_CLOSED)
		try_next_server(forward);
	else
		pump(forward);
}

void forward_data(struct forward *forward)
{
	forward->want = WANT_DATA;
	forward->answer_by_ms = loop_now_ms(forward->env->loop) + DATA_BUDGET_MS;
	if (forward->state == FORWARD_CLOSED)
		try_next_server(forward);
	else
		pump(forward);
}

void forward_end(struct forward *forward)
{
	ASSERT(forward->state == FORWARD_BODY);
	forward->want = WANT_FINAL;
	forward->state = FORWARD_FINAL;
	smtp_client_dot(&forward->client);
	arm(forward);
}

size_t forward_body_room(const struct forward *forward)
{
	size_t room = stream_room(&forward->stream);

	/* The final dot must fit behind whatever the body fills. */
	return room > 8 ? room - 8 : 0;
}

void forward_body(struct forward *forward, struct str bytes)
{
	ASSERT(forward->state == FORWARD_BODY);
	size_t taken = stream_push(&forward->stream, bytes);
	ASSERT(taken == bytes.n);
}

/* What the server has of the transaction is taken back: by RSET where nothing is under way, else
 * by closing. */
static void take_back(struct forward *forward)
{
	if (forward->state == FORWARD_READY && smtp_client_pending(&forward->client) == 0)
		smtp_client_rset(&forward->client);
	else
		drop_connection(forward);
}

void forward_transaction_over(struct forward *forward)
{
	bool is_greeted = forward->state == FORWARD_READY;

	if (forward->is_at_server || !is_greeted)
		take_back(forward);
	forward->destination = NULL;
	forward->want = WANT_NOTHING;
	forward->mail_is_sent = forward->candidate_is_sent = forward->data_is_sent = false;
	forward->mail_is_refused = forward->is_at_server = false;
	forward->replays_sent = forward->replays_answered = forward->replays_due = 0;
	task_cancel(&forward->own_answer_task, forward->env->loop);
	if (forward->state == FORWARD_READY)
		arm(forward);
}
