#include "support/fake_port.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/smtp_params.h"

#define RECORDING_MAX (16u << 20)

char fake_port_where[512] = "";

_Noreturn void fake_port_fail(const char *what, struct str detail)
{
	fprintf(stderr, "%s: %s: %.*s\n", fake_port_where, what, STR_ARG(detail));
	abort();
}

static void must(bool holds, const char *what, struct str detail)
{
	if (!holds)
		fake_port_fail(what, detail);
}

static void record(struct buf *recording, const char *word, struct str detail)
{
	bool fits = buf_printf(recording, "%s", word) && buf_write(recording, detail) &&
		    buf_write(recording, STR("\n"));

	must(fits, "recording", STR("too long"));
}

/* ---- Replies ---------------------------------------------------------------------------- */

static void check_reply_line(struct str line)
{
	/* A challenge is a response of SASL, whose lines are longer (RFC 4954 section 4). */
	bool is_challenge = str_starts_with(line, STR("334 "));
	must(line.n <= (is_challenge ? AUTH_LINE_MAX + 6 : 512), "reply line too long", line);
	must(line.n >= 5 && str_ends_with_nocase(line, STR("\r\n")), "reply line end", line);
	must(line.p[0] >= '2' && line.p[0] <= '5', "reply code", line);
	must(ascii_is_digit(line.p[1]) && ascii_is_digit(line.p[2]), "reply code", line);
	must(line.n == 5 || line.p[3] == ' ' || line.p[3] == '-', "reply separator", line);
	for (size_t i = 0; i + 2 < line.n; i++)
		must(line.p[i] >= ' ' && line.p[i] <= '~', "reply text", line);
}

/* One whole reply: every line but the last continues, all have one code. */
static void check_reply(struct str bytes)
{
	struct str rest = bytes;
	bool is_last = false;

	while (rest.n > 0) {
		must(!is_last, "two replies in one", bytes);
		struct str line = str_range(rest, 0, str_find(rest, '\n') + 1);
		check_reply_line(line);
		must(memcmp(line.p, bytes.p, 3) == 0, "reply codes differ", bytes);
		is_last = line.p[3] != '-';
		rest = str_from_pos(rest, line.n);
	}
	must(is_last, "reply does not end", bytes);
}

static void on_send(void *ctx, struct str bytes)
{
	struct fake_port *port = ctx;

	must(!port->is_closed, "reply after the close", bytes);
	must(!port->is_shaking_hands, "reply within a handshake", bytes);
	check_reply(bytes);
	must(buf_write(&port->replies, bytes), "recording", STR("too long"));
}

static void on_refused(void *ctx, enum policy_stage stage, struct str reply)
{
	struct fake_port *port = ctx;
	struct buf line;

	must(reply.n > 0 && (reply.p[0] == '4' || reply.p[0] == '5'), "refused", reply);
	must(str_find(str_range(reply, reply.n - 1, reply.n), '\n') == 1, "line end", reply);
	buf_init(&line, 65536);
	buf_printf(&line, "%s ", policy_stage_word(stage));
	buf_write(&line, reply);
	record(&port->refusals, "", buf_view(&line));
	buf_free(&line);
}

/* ---- Policy ----------------------------------------------------------------------------- */

static void on_ask(void *ctx, enum policy_stage stage)
{
	struct fake_port *port = ctx;
	struct fake_verdict next = { .verdict.kind = VERDICT_NEXT };

	must(!port->is_closed, "ask after the close", STR(""));
	must(!port->is_asked && port->pending == FAKE_NOTHING, "two questions at a time", STR(""));
	must(!port->connection.is_restricted, "ask in a restricted session", STR(""));
	port->asked[stage]++;
	if (port->ask != NULL) {
		port->ask(port->ask_ctx, stage);
		return;
	}
	if (port->script_count > 0) {
		next = port->script[port->script_first];
		port->script_first = (port->script_first + 1) % FAKE_SCRIPT_MAX;
		port->script_count--;
	}
	if (next.comes_later) {
		port->is_asked = true;
		port->stage = stage;
		return;
	}
	smtp_server_verdict(&port->server, next.verdict, next.holds);
}

void fake_port_will_say(struct fake_port *port, struct fake_verdict verdict)
{
	must(port->script_count < FAKE_SCRIPT_MAX, "script", STR("too long"));
	port->script[(port->script_first + port->script_count++) % FAKE_SCRIPT_MAX] = verdict;
}

void fake_port_verdict(struct fake_port *port, struct verdict verdict, bool holds)
{
	must(port->is_asked, "verdict", STR("nothing was asked"));
	port->is_asked = false;
	smtp_server_verdict(&port->server, verdict, holds);
	fake_port_pump(port);
}

/* ---- The backend's side ------------------------------------------------------------------ */

static void begin_forward(struct fake_port *port, enum fake_pending pending)
{
	must(!port->is_closed, "forward after the close", STR(""));
	must(!port->is_asked && port->pending == FAKE_NOTHING, "forward while waiting", STR(""));
	must(port->backend != FAKE_ABANDONED, "forward after abandon", STR(""));
	port->pending = pending;
}

static void on_forward_recipient(void *ctx, enum smtp_behind behind)
{
	struct fake_port *port = ctx;
	const struct transaction *transaction = port->connection.transaction;

	begin_forward(port, FAKE_RECIPIENT);
	must(transaction != NULL && transaction->candidate != NULL, "forward", STR("no recipient"));
	must(port->backend == FAKE_ENVELOPE, "recipient after DATA", STR(""));
	record(&port->forwarded, "recipient ", transaction->candidate->path.address);
	port->data_follows += behind == SMTP_BEHIND_DATA;
	port->others_follow += behind == SMTP_BEHIND_OTHER;
}

static void on_forward_data(void *ctx)
{
	struct fake_port *port = ctx;

	begin_forward(port, FAKE_DATA_ANSWER);
	must(port->backend == FAKE_ENVELOPE, "DATA twice", STR(""));
	must(port->connection.transaction->rcpt_count.accept > 0, "DATA without recipient",
		STR(""));
	port->backend = FAKE_DATA;
	record(&port->forwarded, "data", STR(""));
}

static bool on_forward_end(void *ctx)
{
	struct fake_port *port = ctx;

	begin_forward(port, FAKE_FINAL);
	must(port->backend == FAKE_BODY, "end without body", STR(""));
	must(!port->connection.remote_closed, "end without a client", STR(""));
	must(port->line_length == 0 && port->last != '\r', "body ends within a line", STR(""));
	if (port->client_is_gone) {
		port->pending = FAKE_NOTHING;
		return false;
	}
	port->backend = FAKE_END;
	record(&port->forwarded, "end", STR(""));
	return true;
}

static size_t on_body_room(void *ctx)
{
	struct fake_port *port = ctx;

	must(port->backend == FAKE_BODY, "room asked without body", STR(""));
	return port->room;
}

static void check_line_end(struct fake_port *port)
{
	bool is_lone_dot = port->line_length == 1 && port->line_begins_with_dot;

	must(port->last == '\r', "body: bare LF", STR(""));
	must(!is_lone_dot, "body: an end of data inside", STR(""));
	must(!port->line_begins_with_dot || port->line_is_stuffed, "body: dot not doubled",
		STR(""));
	port->line_length = 0;
	port->line_begins_with_dot = port->line_is_stuffed = false;
}

static void check_body_byte(struct fake_port *port, char c)
{
	must(c != '\0', "body: NUL", STR(""));
	must(port->last != '\r' || c == '\n', "body: bare CR", STR(""));
	if (c == '\n') {
		check_line_end(port);
	} else if (c != '\r') {
		if (port->line_length == 0)
			port->line_begins_with_dot = c == '.';
		if (port->line_length == 1)
			port->line_is_stuffed = c == '.';
		port->line_length++;
	}
	port->last = c;
}

static void on_body(void *ctx, struct str bytes)
{
	struct fake_port *port = ctx;

	must(!port->is_closed && port->backend == FAKE_BODY, "body out of turn", STR(""));
	must(bytes.n > 0 && bytes.n <= port->room, "body beyond its room", STR(""));
	for (size_t i = 0; i < bytes.n; i++)
		check_body_byte(port, bytes.p[i]);
	if (port->room != FAKE_ROOM_PLENTY)
		port->room -= bytes.n;
	must(buf_write(&port->body, bytes), "recording", STR("too long"));
}

static void on_abandon(void *ctx)
{
	struct fake_port *port = ctx;

	must(port->backend != FAKE_END, "abandon after the end", STR(""));
	must(port->connection.transaction != NULL, "abandon without transaction", STR(""));
	if (port->backend != FAKE_ABANDONED)
		record(&port->forwarded, "abandon", STR(""));
	port->backend = FAKE_ABANDONED;
	port->pending = FAKE_NOTHING;
}

static void on_ended(void *ctx)
{
	struct fake_port *port = ctx;
	const struct transaction *transaction = port->connection.transaction;
	char words[64];

	must(transaction != NULL && transaction->outcome != OUTCOME_NONE, "ended",
		STR("not ended"));
	must(port->pending == FAKE_NOTHING, "ended while the backend is asked", STR(""));
	must(port->backend == FAKE_END || port->backend == FAKE_ABANDONED, "ended, not abandoned",
		STR(""));
	bool is_accepted = transaction->outcome == OUTCOME_ACCEPTED;
	must(is_accepted == (port->backend == FAKE_END && port->is_final_good), "outcome",
		str_from(outcome_word(transaction->outcome)));
	must(transaction->outcome != OUTCOME_UNKNOWN || port->backend == FAKE_END, "outcome",
		STR("unknown"));
	int n = snprintf(words, sizeof(words), "%s %s", outcome_word(transaction->outcome),
		outcome_by_word(transaction->by));
	record(&port->outcomes, "", str_make(words, (size_t)n));
	port->ended++;
	port->accepted += is_accepted;
	port->backend = FAKE_ENVELOPE;
	port->is_final_good = false;
}

/* ---- The rest of the world ---------------------------------------------------------------- */

static struct smtp_offer on_offer(void *ctx)
{
	const struct fake_port *port = ctx;
	struct smtp_offer offer = port->offer;

	if (port->connection.tls != NULL)
		offer.extensions &= ~(unsigned)SMTP_EXT_STARTTLS;
	return offer;
}

static bool on_has_server(void *ctx)
{
	const struct fake_port *port = ctx;

	return !port->has_no_server;
}

static bool on_input_is_pending(void *ctx)
{
	struct fake_port *port = ctx;

	return port->input_is_pending || (!port->is_feeding && buf_used(&port->input) > 0);
}

static bool on_tls_is_available(void *ctx)
{
	struct fake_port *port = ctx;

	return !port->tls_is_unavailable;
}

static void on_start_tls(void *ctx)
{
	struct fake_port *port = ctx;
	struct str replies = buf_view(&port->replies);

	must(!port->is_closed && !port->is_shaking_hands, "handshake out of turn", STR(""));
	must(port->connection.transaction == NULL, "handshake in a transaction", STR(""));
	must(str_ends_with_nocase(replies, STR("220 2.0.0 Ready to start TLS\r\n")),
		"handshake without its reply", replies);
	port->is_shaking_hands = true;
}

void fake_port_tls(struct fake_port *port, bool is_good)
{
	must(port->is_shaking_hands, "TLS", STR("no handshake is under way"));
	must(buf_used(&port->input) == 0, "plaintext from before the handshake",
		buf_view(&port->input));
	port->is_shaking_hands = false;
	port->tls = (struct tls_info){ .version = STR_INIT("TLSv1.3"),
		.cipher = STR_INIT("TLS_AES_256_GCM_SHA384") };
	if (is_good)
		smtp_server_tls_started(&port->server, &port->tls);
	else
		smtp_server_abort(&port->server, ENDING_TLS_FAILED);
	fake_port_pump(port);
}

static void record_response(struct fake_port *port, struct str response)
{
	bool fits = buf_write(&port->auth, STR(" <")) && buf_write(&port->auth, response) &&
		    buf_write(&port->auth, STR(">"));

	must(fits, "recording", STR("too long"));
}

static enum smtp_auth_start on_auth_begin(
	void *ctx, struct str mechanism, const struct str *initial)
{
	struct fake_port *port = ctx;

	must(!port->is_closed && port->exchange == FAKE_NO_EXCHANGE, "two exchanges", mechanism);
	must(port->connection.auth == NULL, "AUTH after AUTH", mechanism);
	must(port->connection.transaction == NULL, "AUTH in a transaction", mechanism);
	if (port->auth_start != SMTP_AUTH_STARTED)
		return port->auth_start;
	port->exchange = FAKE_SERVICE;
	buf_printf(&port->auth, "begin %.*s", STR_ARG(mechanism));
	if (initial != NULL)
		record_response(port, *initial);
	record(&port->auth, "", STR(""));
	return SMTP_AUTH_STARTED;
}

static void on_auth_respond(void *ctx, struct str response)
{
	struct fake_port *port = ctx;

	must(port->exchange == FAKE_CLIENT, "response out of turn", response);
	port->exchange = FAKE_SERVICE;
	buf_printf(&port->auth, "respond");
	record_response(port, response);
	record(&port->auth, "", STR(""));
}

static void on_auth_cancel(void *ctx)
{
	struct fake_port *port = ctx;

	must(port->exchange != FAKE_NO_EXCHANGE, "cancel without an exchange", STR(""));
	port->exchange = FAKE_NO_EXCHANGE;
	record(&port->auth, "cancel", STR(""));
}

void fake_port_challenge(struct fake_port *port, struct str challenge)
{
	must(port->exchange == FAKE_SERVICE, "challenge", STR("the service was not asked"));
	port->exchange = FAKE_CLIENT;
	smtp_server_auth_challenge(&port->server, challenge);
	fake_port_pump(port);
}

void fake_port_auth_done(struct fake_port *port, enum smtp_auth_end end, struct str user)
{
	must(port->exchange == FAKE_SERVICE, "end of AUTH", STR("the service was not asked"));
	port->exchange = FAKE_NO_EXCHANGE;
	smtp_server_auth_done(&port->server, end, user);
	fake_port_pump(port);
}

static bool on_output_is_full(void *ctx)
{
	const struct fake_port *port = ctx;

	return port->output_is_full;
}

static void on_arm(void *ctx, uint64_t ms)
{
	struct fake_port *port = ctx;

	port->is_armed = ms > 0;
	port->due_ms = port->now_ms + ms;
}

static void on_close(void *ctx, enum ending ending)
{
	struct fake_port *port = ctx;

	must(!port->is_closed, "closed twice", str_from(ending_word(ending)));
	must(port->connection.transaction == NULL, "closed with an open transaction", STR(""));
	must(port->exchange == FAKE_NO_EXCHANGE, "closed with an open exchange", STR(""));
	port->is_shaking_hands = false;
	port->is_closed = true;
	port->ending = ending;
}

static uint64_t on_now_ms(void *ctx)
{
	const struct fake_port *port = ctx;

	return port->now_ms;
}

static const struct smtp_server_port functions = {
	.send = on_send,
	.ask = on_ask,
	.forward_recipient = on_forward_recipient,
	.forward_data = on_forward_data,
	.forward_end = on_forward_end,
	.body_room = on_body_room,
	.body = on_body,
	.abandon = on_abandon,
	.ended = on_ended,
	.refused = on_refused,
	.offer = on_offer,
	.tls_is_available = on_tls_is_available,
	.start_tls = on_start_tls,
	.auth_begin = on_auth_begin,
	.auth_respond = on_auth_respond,
	.auth_cancel = on_auth_cancel,
	.has_server = on_has_server,
	.input_is_pending = on_input_is_pending,
	.output_is_full = on_output_is_full,
	.arm = on_arm,
	.close = on_close,
	.now_ms = on_now_ms,
};

/* ---- Driving ------------------------------------------------------------------------------ */

static const struct smtp_server_settings usual_settings = {
	.hostname = STR_INIT("mx.example.net"),
	.limits = {
		.message_size = 25 << 20,
		.message_line = 1 << 20,
		.message_header = 1 << 20,
		.received = 100,
		.recipients = 100,
		.recipients_overshoot = 1000,
		.transactions = 1000,
		.errors = 20,
		.unknown_commands = 10,
		.idle_commands = 100,
		.command_line = 2048,
		.auth_failures = 3,
	},
	.timeouts = { .command_ms = 300000, .data_ms = 180000 },
};

void fake_port_init(struct fake_port *port)
{
	const struct timespec now = { .tv_sec = 1700000000 };
	struct endpoint client = { .port = 40000 };

	memset(port, 0, sizeof(*port));
	port->settings = usual_settings;
	port->now_ms = 1000;
	port->room = FAKE_ROOM_PLENTY;
	port->offer.extensions = SMTP_EXT_PIPELINING | SMTP_EXT_SIZE | SMTP_EXT_8BITMIME |
				 SMTP_EXT_SMTPUTF8 | SMTP_EXT_DSN | SMTP_EXT_ENHANCEDSTATUSCODES |
				 SMTP_EXT_LIMITS;
	port->offer.size = port->settings.limits.message_size;
	port->auth_start = SMTP_AUTH_NOT_HERE;
	must(ipaddr_parse(STR("192.0.2.10"), &client.ip), "address", STR(""));
	connection_init(&port->connection, &now, port->now_ms);
	connection_set_remote(&port->connection, &client);
	struct buf *const recordings[] = { &port->input, &port->replies, &port->forwarded,
		&port->body, &port->outcomes, &port->refusals, &port->auth };
	for (size_t i = 0; i < sizeof(recordings) / sizeof(recordings[0]); i++)
		buf_init(recordings[i], RECORDING_MAX);
	smtp_server_init(&port->server, &port->settings, &functions, port, &port->connection);
}

void fake_port_free(struct fake_port *port)
{
	if (port->is_started && !port->is_closed)
		fake_port_eof(port, true);
	if (port->pending == FAKE_FINAL)
		fake_port_backend_own(port, REPLY_OUTCOME_UNKNOWN, BY_BACKEND);
	must(!port->is_started || port->is_closed, "not closed after the client left", STR(""));
	must(port->connection.tran_count == port->ended, "transactions without outcome", STR(""));
	smtp_server_free(&port->server);
	connection_free(&port->connection);
	buf_free(&port->input);
	buf_free(&port->replies);
	buf_free(&port->forwarded);
	buf_free(&port->body);
	buf_free(&port->outcomes);
	buf_free(&port->refusals);
	buf_free(&port->auth);
}

/* The backend that takes everything. */
static bool answer_by_itself(struct fake_port *port)
{
	static const char *const replies[] = {
		[FAKE_RECIPIENT] = "250 2.1.5 Ok",
		[FAKE_DATA_ANSWER] = "354 go on",
		[FAKE_FINAL] = "250 2.0.0 Ok: queued",
	};

	if (!port->answers_by_itself || port->pending == FAKE_NOTHING)
		return false;
	fake_port_backend(port, replies[port->pending]);
	return true;
}

static bool feed(struct fake_port *port, size_t most)
{
	struct str bytes = str_range(buf_view(&port->input), 0, most);

	if (bytes.n == 0 || !smtp_server_wants_input(&port->server))
		return false;
	/* In memory of exactly its size, so that the sanitizer sees a read behind it. */
	char *copy = malloc(bytes.n);
	memcpy(copy, bytes.p, bytes.n);
	port->is_feeding = true;
	size_t taken = smtp_server_feed(&port->server, str_make(copy, bytes.n));
	port->is_feeding = false;
	free(copy);
	must(taken <= bytes.n, "feed", STR("took more than there was"));
	buf_consume(&port->input, taken);
	return taken > 0;
}

void fake_port_pump(struct fake_port *port)
{
	while (feed(port, SIZE_MAX) || answer_by_itself(port))
		;
}

void fake_port_start(struct fake_port *port)
{
	port->is_started = true;
	smtp_server_start(&port->server);
	fake_port_pump(port);
}

void fake_port_client(struct fake_port *port, struct str bytes)
{
	size_t step = port->is_byte_by_byte ? 1 : bytes.n;

	for (size_t at = 0; at < bytes.n; at += step) {
		if (port->is_shaking_hands) { /* plaintext is no TLS */
			fake_port_tls(port, false);
			return;
		}
		must(buf_write(&port->input, str_range(bytes, at, at + step)), "input",
			STR("too long"));
		fake_port_pump(port);
	}
}

static void answered(struct fake_port *port, const struct smtp_answer *answer)
{
	int code = answer->reply ? answer->reply->code : reply_code(answer->own);
	enum fake_pending pending = port->pending;

	must(pending != FAKE_NOTHING, "answer", STR("nothing was forwarded"));
	port->pending = FAKE_NOTHING;
	if (pending == FAKE_DATA_ANSWER && code == 354) {
		port->backend = FAKE_BODY;
		port->last = '\n';
		port->line_length = 0;
		port->line_begins_with_dot = port->line_is_stuffed = false;
	}
	if (pending == FAKE_FINAL)
		port->is_final_good = answer->reply != NULL && code / 100 == 2;
	smtp_server_answer(&port->server, answer);
	fake_port_pump(port);
}

static void parse_reply(
	const char *text, struct buf *line, struct buf *kept, struct smtp_reply *reply)
{
	enum smtp_reply_fault fault = SMTP_REPLY_FINE;
	size_t taken;

	buf_init(line, 65536);
	buf_init(kept, SMTP_REPLY_TEXT_MAX);
	buf_printf(line, "%s\r\n", text);
	if (smtp_reply_parse(buf_view(line), kept, reply, &taken, &fault) != 1)
		fake_port_fail("not a reply", str_from(text));
}

void fake_port_backend(struct fake_port *port, const char *text)
{
	struct smtp_reply reply;
	struct buf line, kept;

	parse_reply(text, &line, &kept, &reply);
	answered(port, &(struct smtp_answer){ .reply = &reply, .by = BY_BACKEND });
	buf_free(&line);
	buf_free(&kept);
}

void fake_port_backend_own(struct fake_port *port, enum reply_id reply, enum outcome_by by)
{
	answered(port, &(struct smtp_answer){ .own = reply, .by = by });
}

void fake_port_lost(struct fake_port *port, const char *text)
{
	struct smtp_reply reply;
	struct buf line, kept;

	parse_reply(text, &line, &kept, &reply);
	smtp_server_body_lost(
		&port->server, &(struct smtp_answer){ .reply = &reply, .by = BY_BACKEND });
	buf_free(&line);
	buf_free(&kept);
	fake_port_pump(port);
}

void fake_port_lost_own(struct fake_port *port, enum reply_id reply)
{
	smtp_server_body_lost(&port->server, &(struct smtp_answer){ .own = reply, .by = BY_EDGE });
	fake_port_pump(port);
}

void fake_port_expire(struct fake_port *port)
{
	must(port->is_armed, "time", STR("no deadline is armed"));
	port->now_ms = port->due_ms;
	port->is_armed = false;
	smtp_server_timeout(&port->server);
	fake_port_pump(port);
}

void fake_port_eof(struct fake_port *port, bool reset)
{
	port->is_asked = false; /* the run is cancelled */
	smtp_server_eof(&port->server, reset);
}

void fake_port_give_room(struct fake_port *port, size_t room)
{
	port->room = room;
	smtp_server_room(&port->server);
	fake_port_pump(port);
}

bool fake_port_take(struct buf *recording, struct str *line)
{
	struct str view = buf_view(recording);
	size_t n = str_find(view, '\n');

	if (view.n == 0)
		return false;
	*line = str_range(view, 0, n > 0 && view.p[n - 1] == '\r' ? n - 1 : n);
	buf_consume(recording, n + 1);
	return true;
}

void fake_port_forget(struct fake_port *port)
{
	buf_truncate(&port->replies, 0);
	buf_truncate(&port->forwarded, 0);
	buf_truncate(&port->body, 0);
	buf_truncate(&port->outcomes, 0);
	buf_truncate(&port->refusals, 0);
	buf_truncate(&port->auth, 0);
}

enum reply_id fake_reply_by_name(struct str name)
{
	static const char *const names[] = {
#define REPLY(id, code, enhanced, text, remark) #id,
#include "tables/replies.def"
#undef REPLY
	};

	for (unsigned id = 0; id < REPLY_COUNT; id++)
		if (str_eq(name, str_from(names[id])))
			return (enum reply_id)id;
	return REPLY_COUNT;
}
