/*
 * DATA and the message (RFC 5321 sections 4.1.1.4 and 4.5.2). The message is never passed on as it
 * came: proto/dot.c reads it strictly and writes it anew. Whatever is wrong with it, it is read to
 * its true end and answered there, once.
 */
#include "base/assert.h"
#include "server_priv.h"

/* Less room than this is none: small pieces would cost more than they bring. */
#define ROOM_MIN 4096
/* The canonical form of n bytes is at most this times n (a bare line end before a dot). */
#define NORMALISED_GROWTH 3
#define HELD_BACK 16
/* How far beyond its limit a message is swallowed before we hang up. */
#define SWALLOW_FACTOR 4
#define SWALLOW_MIN (UINT64_C(64) << 20)

enum reply_id data_misplaced(const struct smtp_server *server)
{
	const struct transaction *transaction = server->connection->transaction;

	if (server->state == SMTP_STATE_GREETED)
		return REPLY_HELO_FIRST;
	if (transaction == NULL)
		return REPLY_NEED_MAIL;
	return server->rcpt_commands > 0 ? REPLY_NO_VALID_RECIPIENTS : REPLY_NEED_RCPT;
}

void data_apply(struct smtp_server *server)
{
	server_wait(server, SMTP_WAITING_BACKEND);
	server->port->forward_data(server->ctx);
}

static void begin(struct smtp_server *server)
{
	const struct smtp_limits *limits = &server->settings->limits;
	struct transaction *transaction = server->connection->transaction;
	struct dot_limits dot_limits = {
		.line = (size_t)limits->message_line,
		.header = (size_t)limits->message_header,
		.normalise = server->normalises,
	};

	server->dot = arena_alloc(&transaction->arena, sizeof(*server->dot));
	if (server->dot == NULL) {
		server->port->abandon(server->ctx);
		server_refuse(server, POLICY_DATA, REPLY_NO_MEMORY, STR(""));
		server_end_transaction(server, OUTCOME_DEFERRED, BY_EDGE);
		return;
	}
	dot_init(server->dot, &dot_limits);
	server_move(server, SMTP_STATE_BODY);
	server_reply(server, REPLY_START_DATA, STR(""));
}

static enum outcome outcome_of(const struct smtp_answer *answer, int code)
{
	if (answer->reply == NULL && answer->own == REPLY_OUTCOME_UNKNOWN)
		return OUTCOME_UNKNOWN;
	if (code < 300)
		return OUTCOME_ACCEPTED;
	return code >= 500 ? OUTCOME_REFUSED : OUTCOME_DEFERRED;
}

static void finish(struct smtp_server *server, const struct smtp_answer *answer, int code)
{
	enum outcome outcome = outcome_of(answer, code);

	/* No 250 without the backend's. */
	ASSERT(code >= 400 || (answer->reply != NULL && code / 100 == 2));
	if (outcome == OUTCOME_ACCEPTED) {
		server->idle_commands = 0;
		server_reply_answer(server, answer);
	} else {
		server_refuse_as(server, POLICY_BODY, answer);
	}
	server_end_transaction(server, outcome, answer->by);
	if (server->connection->remote_closed)
		server_close(server, ENDING_CLIENT_CLOSED);
	else if (server->is_stopped)
		server_close_with(server, server->stop_reply, server->stop_ending);
}

/* The body of a client that did not wait for 354: had DATA been refused, it would be run as
 * commands, so it is not taken for a body either. */
static void refuse_early_body(struct smtp_server *server)
{
	server->port->abandon(server->ctx);
	server_refuse(server, POLICY_DATA, REPLY_SYNCHRONIZATION, STR(""));
	server_end_transaction(server, OUTCOME_REFUSED, BY_EDGE);
	server_close(server, ENDING_OUT_OF_TURN);
}

void data_answered(struct smtp_server *server, const struct smtp_answer *answer)
{
	int code = answer->reply ? answer->reply->code : reply_code(answer->own);

	if (server->end_is_forwarded) {
		finish(server, answer, code);
	} else if (server->port->input_is_pending(server->ctx)) {
		refuse_early_body(server);
	} else if (code == 354) {
		begin(server);
	} else {
		ASSERT(code >= 400);
		server->data_is_refused = true;
		server->port->abandon(server->ctx);
		server_refuse_as(server, POLICY_DATA, answer);
		server_end_transaction(
			server, code >= 500 ? OUTCOME_REFUSED : OUTCOME_DEFERRED, answer->by);
	}
}

void smtp_server_body_lost(struct smtp_server *server, const struct smtp_answer *answer)
{
	ASSERT(server->state == SMTP_STATE_BODY && !server->end_is_forwarded);
	if (server->body_is_lost)
		return;
	server->body_is_lost = true;
	server->lost_by = answer->by;
	server->lost_code = answer->reply ? answer->reply->code : reply_code(answer->own);
	ASSERT(server->lost_code >= 400);
	buf_truncate(&server->refusal, 0);
	if (answer->reply != NULL)
		smtp_reply_repeat(&server->refusal, answer->reply);
	else
		reply_print(answer->own, server->connection, server->settings->hostname, STR(""),
			&server->refusal);
	smtp_server_room(server);
}

/* What is wrong with the message itself; REPLY_NONE when nothing is. */
static enum reply_id fault(const struct smtp_server *server)
{
	static const struct {
		unsigned violation;
		enum reply_id reply;
	} replies[] = {
		{ DOT_BARE_CR | DOT_BARE_LF | DOT_NUL, REPLY_BARE_NEWLINE },
		{ DOT_FIRST_LINE_FOLDED, REPLY_FIRST_LINE_FOLDED },
		{ DOT_HEADER_TOO_LONG, REPLY_HEADER_TOO_LONG },
		{ DOT_LINE_TOO_LONG, REPLY_MESSAGE_LINE_TOO_LONG },
	};
	const struct smtp_limits *limits = &server->settings->limits;

	for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++)
		if (server->dot->violations & replies[i].violation)
			return replies[i].reply;
	if (server->dot->bytes > limits->message_size)
		return REPLY_TOO_BIG;
	if (server->dot->received_count > limits->received)
		return REPLY_TOO_MANY_HOPS;
	return REPLY_NONE;
}

/* Stops forwarding as soon as the message is known to be refused. */
static void watch(struct smtp_server *server)
{
	uint64_t most = server->settings->limits.message_size * SWALLOW_FACTOR;

	if (!server->body_is_lost && fault(server) != REPLY_NONE) {
		server->body_is_lost = true;
		server->lost_code = 0;
		server->port->abandon(server->ctx);
	}
	if (server->dot->bytes > (most > SWALLOW_MIN ? most : SWALLOW_MIN)) {
		data_refused(server, REPLY_TOO_BIG, STR(""));
		server_close(server, ENDING_MESSAGE_TOO_BIG);
	}
}

/* The reply to a message that was lost on the way: ours by its fault, or the backend's. */
static void refuse_lost(struct smtp_server *server)
{
	enum reply_id wrong = fault(server);

	if (wrong != REPLY_NONE) {
		data_refused(server, wrong, STR(""));
		return;
	}
	server->port->abandon(server->ctx);
	struct buf *out = &server->connection->last_response;
	buf_truncate(out, 0);
	buf_write(out, buf_view(&server->refusal));
	server->port->send(server->ctx, buf_view(out));
	server->port->refused(server->ctx, POLICY_BODY, server_last_line(server));
	server_end_transaction(server,
		server->lost_code >= 500 ? OUTCOME_REFUSED : OUTCOME_DEFERRED, server->lost_by);
}

static void end_of_data(struct smtp_server *server)
{
	struct connection *connection = server->connection;

	connection->transaction->data_bytes = server->dot->bytes;
	if (server->body_is_lost) {
		bool closes = server->dot->violations & (DOT_BARE_CR | DOT_BARE_LF | DOT_NUL);
		refuse_lost(server);
		/* What is pipelined behind such a message is not to be trusted either. */
		if (closes)
			server_close(server, ENDING_BARE_NEWLINE);
		return;
	}
	server_ask(server, POLICY_BODY);
}

void data_allowed(struct smtp_server *server)
{
	if (server->body_is_lost) { /* while the policy thought about it */
		refuse_lost(server);
		return;
	}
	server_wait(server, SMTP_WAITING_BACKEND);
	server->end_is_forwarded = true;
	if (server->port->forward_end(server->ctx))
		return;
	server->end_is_forwarded = false;
	server_wait(server, SMTP_WAITING_NOTHING);
	smtp_server_eof(server, true);
}

void data_refused(struct smtp_server *server, enum reply_id reply, struct str detail)
{
	server->port->abandon(server->ctx);
	server_refuse(server, POLICY_BODY, reply, detail);
	server_end_transaction(
		server, reply_code(reply) >= 500 ? OUTCOME_REFUSED : OUTCOME_DEFERRED, BY_EDGE);
}

/* The part of the input whose canonical form surely fits the backend's room. */
static struct str fitting(struct smtp_server *server, struct str bytes)
{
	if (server->body_is_lost)
		return bytes;
	size_t room = server->port->body_room(server->ctx);
	if (room < ROOM_MIN)
		return str_make(bytes.p, 0);
	return str_range(
		bytes, 0, server->normalises ? room / NORMALISED_GROWTH : room - HELD_BACK);
}

size_t data_feed(struct smtp_server *server, struct str bytes)
{
	struct str input = fitting(server, bytes);
	size_t taken = 0;
	bool is_end = false;

	if (input.n == 0)
		server_wait(server, SMTP_WAITING_ROOM);
	while (taken < input.n && !is_end && server->state == SMTP_STATE_BODY) {
		struct str piece;
		size_t n;
		is_end = dot_next(server->dot, str_from_pos(input, taken), &n, &piece) == 1;
		taken += n;
		watch(server);
		if (piece.n > 0 && !server->body_is_lost && server->state == SMTP_STATE_BODY)
			server->port->body(server->ctx, piece);
	}
	if (is_end && server->state == SMTP_STATE_BODY)
		end_of_data(server);
	return taken;
}
