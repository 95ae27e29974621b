#include "smtp/server.h"

#include "base/assert.h"
#include "connection/reply.h"
#include "connection/results.h"
#include "server_priv.h"

/* How much of an over-long command line is thrown away before we hang up. */
#define SKIP_MAX 65536

/* ---- Verbs ---------------------------------------------------------------------------------- */

#define ANY_TIME (STATE_BIT(GREETED) | STATE_BIT(READY) | STATE_BIT(MAIL) | STATE_BIT(RCPT))

static const struct verb_row verbs[] = {
	{ SMTP_VERB_HELO, ANY_TIME, VERB_ENDS_GROUP | VERB_IS_IDLE | VERB_IN_RESTRICTED,
		POLICY_HELLO, NULL, hello_check_helo, hello_apply },
	{ SMTP_VERB_EHLO, ANY_TIME, VERB_ENDS_GROUP | VERB_IS_IDLE | VERB_IN_RESTRICTED,
		POLICY_HELLO, NULL, hello_check_ehlo, hello_apply },
	{ SMTP_VERB_MAIL, STATE_BIT(READY), 0, POLICY_MAIL, mail_misplaced, mail_check,
		mail_apply },
	{ SMTP_VERB_RCPT, STATE_BIT(MAIL) | STATE_BIT(RCPT), 0, POLICY_RCPT, rcpt_misplaced,
		rcpt_check, rcpt_apply },
	{ SMTP_VERB_DATA, STATE_BIT(RCPT), VERB_ENDS_GROUP | VERB_MUST_BE_LAST | VERB_TAKES_NOTHING,
		POLICY_DATA, data_misplaced, NULL, data_apply },
	{ SMTP_VERB_BDAT, ANY_TIME, VERB_ENDS_GROUP | VERB_IN_RESTRICTED, -1, NULL, NULL,
		misc_apply_bdat },
	{ SMTP_VERB_RSET, ANY_TIME, VERB_TAKES_NOTHING | VERB_IS_IDLE | VERB_IN_RESTRICTED, -1,
		NULL, NULL, misc_apply_rset },
	{ SMTP_VERB_NOOP, ANY_TIME, VERB_ENDS_GROUP | VERB_IS_IDLE | VERB_IN_RESTRICTED, -1, NULL,
		NULL, misc_apply_noop },
	{ SMTP_VERB_QUIT, ANY_TIME, VERB_TAKES_NOTHING | VERB_IN_RESTRICTED, -1, NULL, NULL,
		misc_apply_quit },
	{ SMTP_VERB_VRFY, ANY_TIME, VERB_ENDS_GROUP | VERB_IS_IDLE, -1, NULL, misc_check_argument,
		misc_apply_vrfy },
	{ SMTP_VERB_STARTTLS, STATE_BIT(READY),
		VERB_ENDS_GROUP | VERB_MUST_BE_LAST | VERB_TAKES_NOTHING | VERB_IS_IDLE, -1,
		tls_misplaced, tls_check, tls_apply },
	{ SMTP_VERB_AUTH, STATE_BIT(READY), VERB_ENDS_GROUP | VERB_IS_IDLE, -1, auth_misplaced,
		auth_check, auth_apply },
	{ SMTP_VERB_HELP, ANY_TIME, VERB_IS_IDLE, -1, NULL, NULL, misc_apply_help },
};

const struct verb_row *verb_row_find(enum smtp_verb verb)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (verbs[i].verb == verb)
			return &verbs[i];
	return NULL;
}

/* ---- States --------------------------------------------------------------------------------- */

/* Where each state may lead; CLOSING may follow any. */
static const unsigned moves[SMTP_STATE_COUNT] = {
	[SMTP_STATE_CONNECTED] = STATE_BIT(GREETED),
	[SMTP_STATE_GREETED] = STATE_BIT(READY) | STATE_BIT(GREETED),
	[SMTP_STATE_READY] = STATE_BIT(MAIL) | STATE_BIT(READY) | STATE_BIT(GREETED),
	[SMTP_STATE_MAIL] = STATE_BIT(RCPT) | STATE_BIT(READY) | STATE_BIT(GREETED),
	[SMTP_STATE_RCPT] =
		STATE_BIT(BODY) | STATE_BIT(RCPT) | STATE_BIT(READY) | STATE_BIT(GREETED),
	[SMTP_STATE_BODY] = STATE_BIT(READY),
	[SMTP_STATE_CLOSING] = 0,
};

static const char *const state_words[] = {
#define SMTP_STATE(id, word, meaning) [SMTP_STATE_##id] = word,
#include "tables/states.def"
#undef SMTP_STATE
};

static const char *const state_meanings[] = {
#define SMTP_STATE(id, word, meaning) [SMTP_STATE_##id] = meaning,
#include "tables/states.def"
#undef SMTP_STATE
};

void server_move(struct smtp_server *server, enum smtp_state state)
{
	ASSERT(state == SMTP_STATE_CLOSING || (moves[server->state] & (1u << state)));
	server->state = (uint8_t)state;
}

void server_wait(struct smtp_server *server, enum smtp_waiting waiting)
{
	server->waiting = (uint8_t)waiting;
}

/* The client's deadline: for a whole command, or for the next piece of the message. */
void server_settle(struct smtp_server *server)
{
	uint64_t ms = 0;

	if (server->state == SMTP_STATE_CLOSING)
		return;
	if (server->waiting == SMTP_WAITING_NOTHING)
		ms = server->state == SMTP_STATE_BODY ? server->settings->timeouts.data_ms
						      : server->settings->timeouts.command_ms;
	server->port->arm(server->ctx, ms);
}

void server_close(struct smtp_server *server, enum ending ending)
{
	if (server->state == SMTP_STATE_CLOSING)
		return;
	auth_abandon(server);
	server_move(server, SMTP_STATE_CLOSING);
	server_wait(server, SMTP_WAITING_CLOSE);
	server->port->arm(server->ctx, 0);
	server->port->close(server->ctx, ending);
}

/* ---- Replies -------------------------------------------------------------------------------- */

static void send_last_response(struct smtp_server *server)
{
	server->port->send(server->ctx, buf_view(&server->connection->last_response));
}

void server_reply(struct smtp_server *server, enum reply_id reply, struct str detail)
{
	struct buf *out = &server->connection->last_response;

	buf_truncate(out, 0);
	reply_print(reply, server->connection, server->settings->hostname, detail, out);
	send_last_response(server);
}

void server_reply_answer(struct smtp_server *server, const struct smtp_answer *answer)
{
	struct buf *out = &server->connection->last_response;
	const struct smtp_reply *reply = answer->reply;

	if (reply == NULL) {
		server_reply(server, answer->own, STR(""));
		return;
	}
	buf_truncate(out, 0);
	smtp_reply_repeat(out, reply);
	send_last_response(server);
}

struct str server_without_line_end(struct str line)
{
	while (line.n > 0 && (line.p[line.n - 1] == '\n' || line.p[line.n - 1] == '\r'))
		line.n--;
	return line;
}

struct str server_last_line(const struct smtp_server *server)
{
	return server_without_line_end(buf_view(&server->connection->last_response));
}

static void give_up(struct smtp_server *server, enum outcome outcome, enum outcome_by by);

void server_close_with(struct smtp_server *server, enum reply_id reply, enum ending ending)
{
	server_reply(server, reply, STR(""));
	give_up(server, reply_code(reply) >= 500 ? OUTCOME_REFUSED : OUTCOME_DEFERRED, BY_EDGE);
	server_close(server, ending);
}

void server_break_off(struct smtp_server *server, enum reply_id reply, enum ending ending)
{
	server->connection->errors++;
	server_close_with(server, reply, ending);
}

static void count_error(struct smtp_server *server)
{
	if (++server->connection->errors >= server->settings->limits.errors)
		server_close_with(server, REPLY_TOO_MANY_ERRORS, ENDING_TOO_MANY_ERRORS);
}

/* A mistake of the protocol: the standard reply, and the session goes on, for a while. */
void server_protocol_error(struct smtp_server *server, enum reply_id reply, struct str detail)
{
	server_reply(server, reply, detail);
	count_error(server);
}

/* ---- Transactions --------------------------------------------------------------------------- */

/* What the transaction remembers of its last refusal, for its outcome. */
static void remember_refusal(struct smtp_server *server, int code, enum outcome_by by)
{
	server->refusal_code = code;
	server->refusal_by = by;
	buf_truncate(&server->refusal, 0);
	buf_write(&server->refusal, buf_view(&server->connection->last_response));
}

void server_refuse_as(
	struct smtp_server *server, enum policy_stage stage, const struct smtp_answer *answer)
{
	int code = answer->reply ? answer->reply->code : reply_code(answer->own);

	server_reply_answer(server, answer);
	remember_refusal(server, code, answer->by);
	server->port->refused(server->ctx, stage, server_last_line(server));
}

void server_refuse(
	struct smtp_server *server, enum policy_stage stage, enum reply_id reply, struct str detail)
{
	server_reply(server, reply, detail);
	remember_refusal(server, reply_code(reply), BY_EDGE);
	server->port->refused(server->ctx, stage, server_last_line(server));
}

void server_end_transaction(struct smtp_server *server, enum outcome outcome, enum outcome_by by)
{
	struct connection *connection = server->connection;
	/* The last thing said is no final reply when the transaction was left in the middle. */
	bool has_reply =
		outcome != OUTCOME_ABORTED && !(outcome == OUTCOME_UNKNOWN && by == BY_EDGE);

	if (server->dot != NULL) {
		connection->total_bytes += server->dot->bytes;
		connection->transaction->data_bytes = server->dot->bytes;
	}
	transaction_end(connection, outcome, by, has_reply ? server_last_line(server) : STR(""),
		server->port->now_ms(server->ctx));
	server->port->ended(server->ctx);
	transaction_free(connection);
	connection_reset(connection, CONNECTION_RESET_MESSAGE);
	server->dot = NULL;
	server->body_is_lost = server->end_is_forwarded = false;
	server->rcpt_commands = 0;
	server->refusal_code = 0;
	buf_truncate(&server->refusal, 0);
	buf_release(&server->refusal);
	if (server->state != SMTP_STATE_CLOSING && server->state != SMTP_STATE_READY)
		server_move(server, SMTP_STATE_READY);
}

/*
 * Given up before the final dot. When no recipient was accepted and some were refused, that is
 * what happened to the mail; otherwise the client (or we, by closing) gave it up.
 */
static void give_up(struct smtp_server *server, enum outcome outcome, enum outcome_by by)
{
	struct transaction *transaction = server->connection->transaction;

	if (transaction == NULL)
		return;
	server->port->abandon(server->ctx);
	if (STAILQ_EMPTY(&transaction->rcpt_to) && server->refusal_code != 0) {
		outcome = server->refusal_code >= 500 ? OUTCOME_REFUSED : OUTCOME_DEFERRED;
		by = server->refusal_by;
	}
	server_end_transaction(server, outcome, by);
}

void server_abort_transaction(struct smtp_server *server)
{
	give_up(server, OUTCOME_ABORTED, BY_CLIENT);
}

/* ---- Policy --------------------------------------------------------------------------------- */

void server_ask(struct smtp_server *server, enum policy_stage stage)
{
	server->stage = (uint8_t)stage;
	server_wait(server, SMTP_WAITING_POLICY);
	server->port->ask(server->ctx, stage);
}

static void greet(struct smtp_server *server)
{
	server_move(server, SMTP_STATE_GREETED);
	server_reply(server, REPLY_GREETING, STR(""));
}

static void stage_allowed(struct smtp_server *server)
{
	if (server->stage == POLICY_CONNECT)
		greet(server);
	else if (server->stage == POLICY_BODY)
		data_allowed(server);
	else
		verb_row_find(server->verb)->apply(server);
}

static void stage_refused(struct smtp_server *server, enum reply_id reply, struct str detail)
{
	enum policy_stage stage = server->stage;
	bool is_for_good = reply_code(reply) >= 500;

	if (stage == POLICY_BODY) {
		data_refused(server, reply, detail);
		return;
	}
	server_refuse(server, stage, reply, detail);
	switch (stage) {
	case POLICY_CONNECT:
		server_close(server, ENDING_POLICY);
		break;
	case POLICY_HELLO:
		/* RFC 5321 section 4.1.4: a hello that is refused changes nothing. */
		server->connection->hello = server->hello_before;
		break;
	case POLICY_RCPT:
		transaction_refuse_candidate(server->connection, is_for_good);
		break;
	default: /* MAIL, DATA */
		server->data_is_refused = stage == POLICY_DATA;
		server->port->abandon(server->ctx);
		server_end_transaction(
			server, is_for_good ? OUTCOME_REFUSED : OUTCOME_DEFERRED, BY_EDGE);
	}
}

/* Keeps a refusal of an early stage for RCPT, so that the log has sender and recipient. */
static bool hold(struct smtp_server *server, struct verdict verdict)
{
	struct arena *arena = &server->connection->arena;

	if (server->stage > POLICY_MAIL)
		return false;
	if (server->held == NULL)
		server->held = arena_alloc(arena, (POLICY_MAIL + 1) * sizeof(*server->held));
	if (server->held == NULL)
		return false;
	struct smtp_held *held = &server->held[server->stage];
	held->is_set = true;
	held->reply = verdict.reply;
	held->check = server->deciding_check;
	arena_str(arena, verdict.detail, &held->detail);
	return true;
}

void server_forget_held(struct smtp_server *server, enum policy_stage stage)
{
	if (server->held != NULL && stage <= POLICY_MAIL)
		server->held[stage].is_set = false;
}

static void hang_up(struct smtp_server *server, struct verdict verdict)
{
	bool is_for_good = reply_code(verdict.reply) >= 500;

	server_refuse(server, server->stage, verdict.reply, verdict.detail);
	if (server->stage == POLICY_RCPT)
		transaction_refuse_candidate(server->connection, is_for_good);
	give_up(server, is_for_good ? OUTCOME_REFUSED : OUTCOME_DEFERRED, BY_EDGE);
	server_close(server, ENDING_POLICY);
}

void smtp_server_verdict(struct smtp_server *server, struct verdict verdict, bool holds)
{
	ASSERT(server->waiting == SMTP_WAITING_POLICY && verdict.kind != VERDICT_PENDING);
	server_wait(server, SMTP_WAITING_NOTHING);
	switch (verdict.kind) {
	case VERDICT_NEXT:
	case VERDICT_ALLOW:
		server_forget_held(server, server->stage);
		stage_allowed(server);
		break;
	case VERDICT_DEFER:
	case VERDICT_REJECT:
		if (holds && hold(server, verdict))
			stage_allowed(server);
		else
			stage_refused(server, verdict.reply, verdict.detail);
		break;
	case VERDICT_HANGUP:
		hang_up(server, verdict);
		break;
	case VERDICT_PENDING:
		break;
	}
	server_settle(server);
}

/* ---- Command lines -------------------------------------------------------------------------- */

static bool spoke_out_of_turn(const struct smtp_server *server)
{
	return server->has_more || server->port->input_is_pending(server->ctx);
}

/* RFC 2920: what may not stand in the middle of a group marks an early talker. True: it did. */
static bool notice_pipelining(struct smtp_server *server, const struct verb_row *row)
{
	struct connection *connection = server->connection;
	bool must_be_last = row->flags & VERB_ENDS_GROUP;

	if (row->verb == SMTP_VERB_QUIT || (connection->esmtp && !must_be_last))
		return false;
	if (!spoke_out_of_turn(server))
		return false;
	if (!connection->early_talker)
		results_add(&connection->results, STR("early_talker"), RESULT_MSG,
			STR("pipelined where RFC 2920 does not allow it"));
	connection->early_talker = true;
	return true;
}

static void unknown_command(struct smtp_server *server, enum reply_id reply)
{
	if (server->data_is_refused) {
		server_break_off(server, REPLY_SYNCHRONIZATION, ENDING_OUT_OF_TURN);
		return;
	}
	server_reply(server, reply, STR(""));
	count_error(server);
	if (++server->unknown_commands >= server->settings->limits.unknown_commands &&
		server->state != SMTP_STATE_CLOSING)
		server_close_with(server, REPLY_TOO_MANY_ERRORS, ENDING_TOO_MANY_ERRORS);
}

static struct verb_check check_common(
	struct smtp_server *server, const struct verb_row *row, struct str argument)
{
	if (!(row->states & (1u << server->state)))
		return verb_wrong(row->misplaced(server), STR(""));
	if ((row->flags & VERB_TAKES_NOTHING) && argument.n > 0)
		return verb_wrong(REPLY_NO_ARGUMENT, smtp_verb_word(row->verb));
	if (row->check != NULL)
		return row->check(server, argument);
	return verb_fine();
}

static void command_is_wrong(
	struct smtp_server *server, const struct verb_row *row, const struct verb_check *wrong)
{
	struct transaction *transaction = server->connection->transaction;

	if (row->verb == SMTP_VERB_RCPT && transaction != NULL && transaction->candidate != NULL)
		transaction_refuse_candidate(server->connection, reply_code(wrong->reply) >= 500);
	/* A client that sends the body all the same must not have it run as commands. */
	server->data_is_refused = wrong->reply == REPLY_NO_VALID_RECIPIENTS;
	server_protocol_error(server, wrong->reply, wrong->detail);
	if (row->verb == SMTP_VERB_RCPT && server->connection->transaction != NULL)
		remember_refusal(server, reply_code(wrong->reply), BY_EDGE);
}

static void run_verb(struct smtp_server *server, const struct verb_row *row, struct str argument)
{
	bool is_out_of_turn = notice_pipelining(server, row);

	server->data_is_refused = false;
	if (row->verb != SMTP_VERB_AUTH)
		server->auth_is_over = false;
	if (is_out_of_turn && (row->flags & VERB_MUST_BE_LAST)) {
		server_break_off(server, REPLY_SYNCHRONIZATION, ENDING_OUT_OF_TURN);
		return;
	}
	struct verb_check wrong = check_common(server, row, argument);
	if (wrong.reply != REPLY_NONE && reply_code(wrong.reply) == 421) {
		server_close_with(server, wrong.reply, wrong.ending);
		return;
	}
	if (wrong.reply != REPLY_NONE) {
		command_is_wrong(server, row, &wrong);
		return;
	}
	server->verb = row->verb;
	if (row->stage >= 0 && !server->connection->is_restricted)
		server_ask(server, (enum policy_stage)row->stage);
	else
		row->apply(server);
}

static bool is_idle_for_too_long(struct smtp_server *server, const struct verb_row *row)
{
	return (row->flags & VERB_IS_IDLE) &&
	       ++server->idle_commands > server->settings->limits.idle_commands;
}

static void run_command(struct smtp_server *server, const struct smtp_command *command)
{
	const struct verb_row *row = verb_row_find(command->verb);

	if (command->verb == SMTP_VERB_UNKNOWN)
		unknown_command(server, REPLY_UNKNOWN_COMMAND);
	else if (row == NULL)
		unknown_command(server, REPLY_NOT_IMPLEMENTED);
	else if (server->connection->is_restricted && !(row->flags & VERB_IN_RESTRICTED))
		server_protocol_error(server, REPLY_RESTRICTED, STR(""));
	else if (is_idle_for_too_long(server, row))
		server_close_with(server, REPLY_TOO_MANY_ERRORS, ENDING_TOO_MANY_ERRORS);
	else
		run_verb(server, row, command->argument);
}

static void run_line(struct smtp_server *server, struct str line)
{
	struct smtp_command command;

	switch (smtp_command_parse(line, &command)) {
	case SMTP_LINE_FINE:
		run_command(server, &command);
		break;
	case SMTP_LINE_NOT_SMTP:
		if (auth_is_response(server, line))
			unknown_command(server, REPLY_UNKNOWN_COMMAND);
		else
			server_break_off(server, REPLY_OTHER_PROTOCOL, ENDING_OTHER_PROTOCOL);
		break;
	case SMTP_LINE_CONTROL:
	case SMTP_LINE_EMPTY:
		if (server->data_is_refused)
			server_break_off(server, REPLY_SYNCHRONIZATION, ENDING_OUT_OF_TURN);
		else
			server_protocol_error(server, REPLY_BAD_SYNTAX, STR(""));
		break;
	}
}

static void keep_current_line(struct smtp_server *server, struct str line)
{
	struct buf *kept = &server->connection->current_line;

	buf_truncate(kept, 0);
	if (auth_is_secret(server, line))
		auth_print_line(server, line, kept);
	else
		buf_write(kept, line);
}

/* The end of a line that was too long; a bare LF closes whatever it ends. */
static void end_skipped_line(struct smtp_server *server, bool has_cr)
{
	server->is_skipping_line = false;
	if (has_cr && server->in_auth)
		auth_give_up(server, REPLY_AUTH_LINE_TOO_LONG);
	else if (has_cr)
		server_protocol_error(server, REPLY_LINE_TOO_LONG, STR(""));
	else
		server_break_off(server, REPLY_BARE_NEWLINE_COMMAND, ENDING_BARE_NEWLINE);
}

static size_t skip_line(struct smtp_server *server, struct str bytes, size_t lf)
{
	if (lf < bytes.n) {
		end_skipped_line(server, lf > 0 ? bytes.p[lf - 1] == '\r' : server->skipped_cr);
		return lf + 1;
	}
	server->skipped_cr = bytes.p[bytes.n - 1] == '\r';
	server->skipped += bytes.n;
	if (server->skipped > SKIP_MAX)
		server_break_off(server, REPLY_LINE_TOO_LONG, ENDING_LINE_TOO_LONG);
	return bytes.n;
}

static uint64_t line_limit(const struct smtp_server *server, struct str bytes)
{
	return auth_is_secret(server, bytes) ? AUTH_LINE_MAX
					     : server->settings->limits.command_line;
}

/* No line end yet: wait, unless it is too long already. */
static size_t incomplete_line(struct smtp_server *server, struct str bytes)
{
	if (bytes.n <= line_limit(server, bytes))
		return 0;
	server->is_skipping_line = true;
	server->skipped = 0;
	return skip_line(server, bytes, bytes.n);
}

static size_t feed_line(struct smtp_server *server, struct str bytes)
{
	const char tls_handshake = 0x16;
	size_t lf = str_find(bytes, '\n');

	if (server->is_skipping_line)
		return skip_line(server, bytes, lf);
	/* A ClientHello has bytes that look like line ends. */
	if (bytes.p[0] == tls_handshake) {
		server_break_off(server, REPLY_OTHER_PROTOCOL, ENDING_OTHER_PROTOCOL);
		return bytes.n;
	}
	if (lf == bytes.n)
		return incomplete_line(server, bytes);
	struct str line = str_range(bytes, 0, lf + 1);
	server->has_more = bytes.n > line.n;
	server->data_follows = str_eq_nocase(str_from_pos(bytes, line.n), STR("DATA\r\n"));
	if (line.n > line_limit(server, bytes))
		return skip_line(server, bytes, lf);
	keep_current_line(server, line);
	if (line.n < 2 || line.p[line.n - 2] != '\r')
		server_break_off(server, REPLY_BARE_NEWLINE_COMMAND, ENDING_BARE_NEWLINE);
	else if (server->in_auth)
		auth_line(server, str_range(line, 0, line.n - 2));
	else
		run_line(server, str_range(line, 0, line.n - 2));
	return line.n;
}

/* ---- The interface -------------------------------------------------------------------------- */

void smtp_server_init(struct smtp_server *server, const struct smtp_server_settings *settings,
	const struct smtp_server_port *port, void *ctx, struct connection *connection)
{
	*server = (struct smtp_server){
		.settings = settings,
		.port = port,
		.ctx = ctx,
		.connection = connection,
		.state = SMTP_STATE_CONNECTED,
		.waiting = SMTP_WAITING_POLICY,
	};
	buf_init(&server->refusal, SMTP_REPLY_TEXT_MAX * 2);
}

void smtp_server_free(struct smtp_server *server)
{
	ASSERT(server->connection->transaction == NULL);
	buf_free(&server->refusal);
}

void smtp_server_start(struct smtp_server *server)
{
	ASSERT(server->state == SMTP_STATE_CONNECTED);
	if (server->connection->is_restricted) {
		server_wait(server, SMTP_WAITING_NOTHING);
		greet(server);
		server_settle(server);
	} else {
		server_ask(server, POLICY_CONNECT);
	}
}

bool smtp_server_wants_input(const struct smtp_server *server)
{
	return server->waiting == SMTP_WAITING_NOTHING && server->state != SMTP_STATE_CONNECTED &&
	       server->state != SMTP_STATE_CLOSING;
}

bool smtp_server_minds_leaving(const struct smtp_server *server)
{
	return server->waiting != SMTP_WAITING_NOTHING && server->state != SMTP_STATE_BODY &&
	       server->state != SMTP_STATE_CLOSING;
}

size_t smtp_server_feed(struct smtp_server *server, struct str bytes)
{
	size_t taken = 0;

	while (taken < bytes.n && smtp_server_wants_input(server) &&
		!server->port->output_is_full(server->ctx)) {
		struct str rest = str_from_pos(bytes, taken);
		size_t n = server->state == SMTP_STATE_BODY ? data_feed(server, rest)
							    : feed_line(server, rest);
		taken += n;
		if (n == 0)
			break;
	}
	/* Bytes of a command that is not complete do not move its deadline; while it is our turn, or
	 * the backend's, the client has none. */
	if ((taken > 0 && !server->is_skipping_line) || server->waiting != SMTP_WAITING_NOTHING)
		server_settle(server);
	return taken;
}

void smtp_server_answer(struct smtp_server *server, const struct smtp_answer *answer)
{
	ASSERT(server->waiting == SMTP_WAITING_BACKEND);
	server_wait(server, SMTP_WAITING_NOTHING);
	if (server->verb == SMTP_VERB_RCPT)
		rcpt_answered(server, answer);
	else
		data_answered(server, answer);
	server_settle(server);
}

void smtp_server_room(struct smtp_server *server)
{
	if (server->waiting != SMTP_WAITING_ROOM)
		return;
	server_wait(server, SMTP_WAITING_NOTHING);
	server_settle(server);
}

void smtp_server_timeout(struct smtp_server *server)
{
	bool in_body = server->state == SMTP_STATE_BODY;

	smtp_server_stop(
		server, REPLY_TIMEOUT, in_body ? ENDING_DATA_TIMEOUT : ENDING_CLIENT_TIMEOUT);
}

void smtp_server_eof(struct smtp_server *server, bool reset)
{
	if (server->state == SMTP_STATE_CLOSING)
		return;
	server->connection->remote_closed = true;
	if (server->end_is_forwarded)
		return; /* the backend's answer is worth waiting for: it says what became of the mail */
	server_abort_transaction(server);
	server_close(server, reset ? ENDING_CLIENT_RESET : ENDING_CLIENT_CLOSED);
}

void smtp_server_stop(struct smtp_server *server, enum reply_id reply, enum ending ending)
{
	if (server->state == SMTP_STATE_CLOSING)
		return;
	if (server->end_is_forwarded) {
		server->is_stopped = true;
		server->stop_reply = reply;
		server->stop_ending = ending;
		return;
	}
	if (server->waiting ==
		SMTP_WAITING_TLS) { /* in the middle of a handshake nothing can be said */
		smtp_server_abort(server, ending);
		return;
	}
	server_reply(server, reply, STR(""));
	give_up(server, OUTCOME_DEFERRED, BY_EDGE);
	server_close(server, ending);
}

void smtp_server_abort(struct smtp_server *server, enum ending ending)
{
	if (server->state == SMTP_STATE_CLOSING)
		return;
	if (server->end_is_forwarded)
		server_end_transaction(server, OUTCOME_UNKNOWN, BY_EDGE);
	else
		give_up(server, OUTCOME_DEFERRED, BY_EDGE);
	server_close(server, ending);
}

/* ---- The reference page --------------------------------------------------------------------- */

static void print_verb(const struct verb_row *row, struct buf *out)
{
	buf_printf(out, "| %.*s | %s |", STR_ARG(smtp_verb_word(row->verb)),
		row->stage >= 0 ? policy_stage_word((enum policy_stage)row->stage) : "–");
	for (unsigned state = 0; state < SMTP_STATE_COUNT; state++)
		if (row->states & (1u << state))
			buf_printf(out, " %s", state_words[state]);
	buf_printf(out, " | %s | %s |\n",
		row->flags & VERB_MUST_BE_LAST ? "must be last, else closed"
		: row->flags & VERB_ENDS_GROUP ? "must be last of a group"
					       : "anywhere",
		row->flags & VERB_IN_RESTRICTED ? "yes" : "no");
}

static void print_graph(struct buf *out)
{
	buf_printf(out, "\n## Moves\n\n```dot\ndigraph states {\n");
	for (unsigned from = 0; from < SMTP_STATE_COUNT; from++)
		for (unsigned to = 0; to < SMTP_STATE_COUNT; to++)
			if (moves[from] & (1u << to))
				buf_printf(
					out, "\t%s -> %s;\n", state_words[from], state_words[to]);
	buf_printf(out, "\t/* closing may follow any state */\n}\n```\n");
}

void smtp_server_print_states(struct buf *out)
{
	buf_printf(out, "# States of the dialogue\n\nPrinted by `gatepost -d states`.\n\n"
			"## States\n\n| state | meaning |\n|---|---|\n");
	for (unsigned state = 0; state < SMTP_STATE_COUNT; state++)
		buf_printf(out, "| %s | %s |\n", state_words[state], state_meanings[state]);
	buf_printf(out,
		"\n## Verbs\n\nA verb outside its states gets 503. The policy stage is named as "
		"in the log. What breaks the\nrules of pipelining (RFC 2920) marks the client "
		"as an early talker.\n\n| verb | policy stage | allowed in | pipelining | in a "
		"restricted session |\n|---|---|---|---|---|\n");
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		print_verb(&verbs[i], out);
	print_graph(out);
}
