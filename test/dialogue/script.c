#include "script.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "connection/trace.h"
#include "proto/smtp_params.h"
#include "support/fake_policy.h"
#include "support/smtp_vectors.h"

#define ELLIPSIS STR("…")
#define SECRETS_MAX 8

struct script {
	const char *path;
	unsigned line_number;
	bool is_byte_by_byte;
	struct fake_port port;
	struct fake_policy policy;
	bool has_policy;
	bool has_forwarded, has_body, has_refusals, has_questions,
		has_ending; /* lines of that kind */
	struct str secrets[SECRETS_MAX];
	size_t secret_count;
	struct buf segment; /* of the client, not sent yet */
};

static void set_where(const struct script *script, struct str line)
{
	snprintf(fake_port_where, sizeof(fake_port_where), "%s:%u%s: %.*s", script->path,
		script->line_number, script->is_byte_by_byte ? " (byte by byte)" : "",
		(int)(line.n < 200 ? line.n : 200), line.p);
}

static _Noreturn void fail(const char *what, struct str detail)
{
	fake_port_fail(what, detail);
}

static uint64_t number(struct str text)
{
	uint64_t value;

	if (!str_to_u64(text, UINT64_MAX, &value))
		fail("not a number", text);
	return value;
}

/* ---- Text --------------------------------------------------------------------------------- */

static char unescape_one(struct str *text)
{
	static const char escapes[] = "r\rn\nt\t0\0\\\\";
	char c = text->n > 0 ? text->p[0] : '\0';

	*text = str_from_pos(*text, 1);
	if (c == 'x') {
		unsigned code = smtp_vectors_hex(str_range(*text, 0, 2));
		*text = str_from_pos(*text, 2);
		return (char)code;
	}
	for (size_t i = 0; i + 2 < sizeof(escapes); i += 2)
		if (escapes[i] == c)
			return escapes[i + 1];
	fail("unknown escape", str_make(&c, 1));
}

static void unescape(struct str text, struct buf *out)
{
	struct buf raw;

	buf_init(&raw, 1 << 16);
	while (text.n > 0) {
		char c = text.p[0];
		text = str_from_pos(text, 1);
		if (c == '\\')
			c = unescape_one(&text);
		buf_write(&raw, str_make(&c, 1));
	}
	if (str_find(buf_view(&raw), '*') < buf_used(&raw))
		smtp_vectors_expand(out, buf_view(&raw));
	else
		buf_write(out, buf_view(&raw));
	buf_free(&raw);
}

/* ---- What the script says ----------------------------------------------------------------- */

static void start(struct script *script)
{
	if (script->port.is_started)
		return;
	fake_port_start(&script->port);
}

static void no_replies_left(struct script *script)
{
	struct str line;

	if (fake_port_take(&script->port.replies, &line))
		fail("a reply that the script does not have", line);
}

static void send_segment(struct script *script)
{
	fake_port_client(&script->port, buf_view(&script->segment));
	buf_truncate(&script->segment, 0);
}

static void do_client(struct script *script, struct str text)
{
	no_replies_left(script);
	unescape(text, &script->segment);
	buf_write(&script->segment, STR("\r\n"));
	send_segment(script);
}

static void do_client_more(struct script *script, struct str text)
{
	no_replies_left(script);
	unescape(text, &script->segment);
	buf_write(&script->segment, STR("\r\n"));
}

static void do_client_bytes(struct script *script, struct str text)
{
	no_replies_left(script);
	unescape(text, &script->segment);
	send_segment(script);
}

static void expect_line(struct buf *recording, struct str expected)
{
	struct str line;

	if (!fake_port_take(recording, &line))
		fail("there is no such line", expected);
	if (str_ends_with_nocase(expected, ELLIPSIS)) {
		expected = str_range(expected, 0, expected.n - ELLIPSIS.n);
		line = str_range(line, 0, expected.n);
	}
	if (!str_eq(line, expected))
		fail("is another line", line);
}

static void do_server(struct script *script, struct str text)
{
	expect_line(&script->port.replies, text);
}

static struct fake_verdict read_verdict(struct str text)
{
	static const struct {
		struct str word;
		enum verdict_kind kind;
	} kinds[] = {
		{ STR_INIT("next"), VERDICT_NEXT },
		{ STR_INIT("allow"), VERDICT_ALLOW },
		{ STR_INIT("reject"), VERDICT_REJECT },
		{ STR_INIT("defer"), VERDICT_DEFER },
		{ STR_INIT("hangup"), VERDICT_HANGUP },
	};
	struct fake_verdict verdict = { .verdict.kind = VERDICT_PENDING };
	struct str word = str_cut(&text, ' ');

	if (str_eq(word, STR("later")))
		return (struct fake_verdict){ .comes_later = true };
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (str_eq(word, kinds[i].word))
			verdict.verdict.kind = kinds[i].kind;
	if (verdict.verdict.kind == VERDICT_PENDING)
		fail("unknown verdict", word);
	if (verdict.verdict.kind > VERDICT_ALLOW) {
		struct str id = str_cut(&text, ' ');
		verdict.verdict.reply = fake_reply_by_name(id);
		if (verdict.verdict.reply == REPLY_COUNT)
			fail("unknown reply", id);
	}
	verdict.holds = str_eq(str_trim(text), STR("hold"));
	return verdict;
}

static void do_policy(struct script *script, struct str text)
{
	fake_port_will_say(&script->port, read_verdict(text));
}

static void do_verdict(struct script *script, struct str text)
{
	struct fake_verdict verdict = read_verdict(text);

	no_replies_left(script);
	fake_port_verdict(&script->port, verdict.verdict, verdict.holds);
}

static enum reply_id read_reply(struct str *text)
{
	struct str name = str_cut(text, ' ');
	enum reply_id reply = fake_reply_by_name(name);

	if (reply == REPLY_COUNT)
		fail("unknown reply", name);
	return reply;
}

static bool cut_word(struct str *text, struct str word)
{
	struct str rest = *text;

	if (!str_eq(str_cut(&rest, ' '), word))
		return false;
	*text = rest;
	return true;
}

static void do_backend(struct script *script, struct str text)
{
	struct fake_port *port = &script->port;
	bool is_lost = cut_word(&text, STR("lost"));
	struct buf words;

	no_replies_left(script);
	if (cut_word(&text, STR("own"))) {
		enum reply_id reply = read_reply(&text);
		if (is_lost)
			fake_port_lost_own(port, reply);
		else
			fake_port_backend_own(
				port, reply, str_eq(text, STR("backend")) ? BY_BACKEND : BY_EDGE);
		return;
	}
	buf_init(&words, 1 << 16);
	unescape(text, &words);
	buf_write(&words, str_make("", 1));
	(is_lost ? fake_port_lost : fake_port_backend)(port, buf_view(&words).p);
	buf_free(&words);
}

static void do_forwarded(struct script *script, struct str text)
{
	script->has_forwarded = true;
	expect_line(&script->port.forwarded, text);
}

static void do_message(struct script *script, struct str text)
{
	struct buf line;

	script->has_body = true;
	buf_init(&line, 1 << 24);
	unescape(text, &line);
	expect_line(&script->port.body, buf_view(&line));
	buf_free(&line);
}

static void do_refusal(struct script *script, struct str text)
{
	script->has_refusals = true;
	expect_line(&script->port.refusals, text);
}

static void do_outcome(struct script *script, struct str text)
{
	expect_line(&script->port.outcomes, text);
}

static void do_time(struct script *script, struct str text)
{
	struct fake_port *port = &script->port;

	no_replies_left(script);
	if (str_eq(text, STR("none"))) {
		if (port->is_armed)
			fail("a deadline is armed", STR(""));
		return;
	}
	if (text.n > 0 && (!port->is_armed || port->due_ms - port->now_ms != number(text)))
		fail("another deadline", STR(""));
	fake_port_expire(port);
}

static void do_tls(struct script *script, struct str text)
{
	no_replies_left(script);
	if (!str_eq(text, STR("ok")) && !str_eq(text, STR("fail")))
		fail("unknown end of a handshake", text);
	fake_port_tls(&script->port, str_eq(text, STR("ok")));
}

static void do_challenge(struct script *script, struct str text)
{
	struct buf challenge;

	buf_init(&challenge, 1 << 16);
	unescape(text, &challenge);
	fake_port_challenge(&script->port, buf_view(&challenge));
	buf_free(&challenge);
}

static void do_auth(struct script *script, struct str text)
{
	static const struct {
		struct str word;
		enum smtp_auth_end end;
	} ends[] = {
		{ STR_INIT("ok"), SMTP_AUTH_OK },
		{ STR_INIT("refused"), SMTP_AUTH_REFUSED },
		{ STR_INIT("malformed"), SMTP_AUTH_MALFORMED },
		{ STR_INIT("unavailable"), SMTP_AUTH_UNAVAILABLE },
		{ STR_INIT("expired"), SMTP_AUTH_EXPIRED },
	};
	struct str word = str_cut(&text, ' ');

	no_replies_left(script);
	if (str_eq(word, STR("challenge"))) {
		do_challenge(script, text);
		return;
	}
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		if (!str_eq(word, ends[i].word))
			continue;
		fake_port_auth_done(&script->port, ends[i].end, text);
		return;
	}
	fail("unknown answer", word);
}

static void do_question(struct script *script, struct str text)
{
	struct buf line;

	script->has_questions = true;
	buf_init(&line, 1 << 16);
	unescape(text, &line);
	expect_line(&script->port.auth, buf_view(&line));
	buf_free(&line);
}

static enum smtp_auth_start read_start(struct str text)
{
	static const char *const words[] = {
		[SMTP_AUTH_STARTED] = "started",
		[SMTP_AUTH_NO_MECHANISM] = "no-mechanism",
		[SMTP_AUTH_NEEDS_TLS] = "needs-tls",
		[SMTP_AUTH_NOT_HERE] = "not-here",
		[SMTP_AUTH_NOT_AVAILABLE] = "not-available",
	};

	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (str_eq(text, str_from(words[i])))
			return (enum smtp_auth_start)i;
	fail("unknown beginning of AUTH", text);
}

static void do_event(struct script *script, struct str text)
{
	struct fake_port *port = &script->port;
	struct str word = str_cut(&text, ' ');

	bool ends = str_eq(word, STR("eof")) || str_eq(word, STR("reset"));

	no_replies_left(script);
	if (script->has_policy && (ends || str_eq(word, STR("stop"))))
		policy_run_cancel(&script->policy.run);
	if (ends)
		fake_port_eof(port, str_eq(word, STR("reset")));
	else if (str_eq(word, STR("wait")))
		port->now_ms += number(text);
	else if (str_eq(word, STR("room")))
		fake_port_give_room(port, number(text));
	else if (str_eq(word, STR("full")))
		port->output_is_full = true;
	else if (str_eq(word, STR("gone")))
		port->client_is_gone = true;
	else if (str_eq(word, STR("stop")))
		smtp_server_stop(&port->server, read_reply(&text), ENDING_SHUTDOWN);
	else if (str_eq(word, STR("expire")))
		fake_policy_expire(&script->policy);
	else if (str_eq(word, STR("pending")))
		port->input_is_pending = true;
	else if (str_eq(word, STR("tls-unavailable")))
		port->tls_is_unavailable = true;
	else if (str_eq(word, STR("servers-down")) || str_eq(word, STR("servers-up")))
		port->has_no_server = str_eq(word, STR("servers-down"));
	else if (str_eq(word, STR("auth-lost")))
		port->server.auth_is_lost = true;
	else if (str_eq(word, STR("auth")))
		port->auth_start = read_start(text);
	else if (!str_eq(word, STR("drained")) && !str_eq(word, STR("start")))
		fail("unknown event", word);
	if (str_eq(word, STR("drained"))) {
		port->output_is_full = false;
		fake_port_pump(port);
	}
}

static void do_ending(struct script *script, struct str text)
{
	script->has_ending = true;
	if (!script->port.is_closed)
		fail("the session has not ended", text);
	if (!str_eq(text, str_from(ending_word(script->port.ending))))
		fail("another ending", str_from(ending_word(script->port.ending)));
}

static struct str text_value(const struct connection *connection, struct str name)
{
	if (str_eq(name, STR("hello.host")))
		return connection->hello.host;
	if (str_eq(name, STR("current_line")))
		return buf_view(&connection->current_line);
	if (str_eq(name, STR("auth.user")) && connection->auth != NULL)
		return connection->auth->user;
	if (str_eq(name, STR("auth.mechanism")) && connection->auth != NULL)
		return connection->auth->mechanism;
	return STR("?");
}

static void do_value(struct script *script, struct str text)
{
	const struct connection *connection = &script->port.connection;
	const struct {
		const char *name;
		uint64_t value;
	} values[] = {
		{ "early_talker", connection->early_talker },
		{ "errors", connection->errors },
		{ "esmtp", connection->esmtp },
		{ "tls", connection->tls != NULL },
		{ "auth", connection->auth != NULL },
		{ "relaying", connection->relaying },
		{ "remote_closed", connection->remote_closed },
		{ "tran_count", connection->tran_count },
		{ "rcpt_count.accept", connection->rcpt_count.accept },
		{ "rcpt_count.tempfail", connection->rcpt_count.tempfail },
		{ "rcpt_count.reject", connection->rcpt_count.reject },
		{ "msg_count.accept", connection->msg_count.accept },
		{ "msg_count.tempfail", connection->msg_count.tempfail },
		{ "msg_count.reject", connection->msg_count.reject },
		{ "total_bytes", connection->total_bytes },
		{ "data_follows", script->port.data_follows },
		{ "others_follow", script->port.others_follow },
	};
	struct str name = str_cut(&text, ' ');
	struct buf words;

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		if (!str_eq(name, str_from(values[i].name)))
			continue;
		if (values[i].value != number(text))
			fail("another value", STR(""));
		return;
	}
	buf_init(&words, 1 << 16);
	unescape(text, &words);
	struct str have = text_value(connection, name);
	if (!str_eq(have, buf_view(&words)))
		fail("another text", have);
	buf_free(&words);
}

/* ---- Settings ----------------------------------------------------------------------------- */

#define LIMIT(name) \
	{ \
#name, offsetof(struct smtp_server_settings, limits.name) \
	}

static bool set_number(struct script *script, struct str name, struct str value)
{
	static const struct {
		const char *name;
		size_t offset;
	} numbers[] = {
		LIMIT(message_size),
		LIMIT(message_line),
		LIMIT(message_header),
		LIMIT(received),
		LIMIT(recipients),
		LIMIT(recipients_overshoot),
		LIMIT(transactions),
		LIMIT(errors),
		LIMIT(unknown_commands),
		LIMIT(idle_commands),
		LIMIT(command_line),
		LIMIT(auth_failures),
		{ "command_ms", offsetof(struct smtp_server_settings, timeouts.command_ms) },
		{ "data_ms", offsetof(struct smtp_server_settings, timeouts.data_ms) },
	};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		if (!str_eq(name, str_from(numbers[i].name)))
			continue;
		uint64_t number_value = number(value);
		memcpy((char *)&script->port.settings + numbers[i].offset, &number_value,
			sizeof(number_value));
		script->port.offer.size = script->port.settings.limits.message_size;
		return true;
	}
	return false;
}

static void set_relay_domains(struct script *script, struct str value)
{
	if (!script->has_policy)
		fake_policy_init(&script->policy, &script->port);
	script->has_policy = true;
	while (value.n > 0)
		fake_policy_add_domain(&script->policy, str_cut(&value, ' '));
}

/* Behind relay_domains. */
static bool set_senders(struct script *script, struct str name, struct str value)
{
	struct sender_login *senders = &script->policy.senders;

	if (str_eq(name, STR("sender_login")))
		fake_policy_tie_sender(&script->policy, value);
	else if (str_eq(name, STR("unlisted_senders")))
		senders->takes_unlisted = str_eq(value, STR("accept"));
	else if (str_eq(name, STR("unauthenticated_senders")))
		senders->refuses_unauthenticated = str_eq(value, STR("reject"));
	else
		return false;
	return true;
}

static void set_offer(struct script *script, struct str value)
{
	static const struct {
		const char *word;
		unsigned extension;
	} words[] = {
		{ "PIPELINING", SMTP_EXT_PIPELINING },
		{ "SIZE", SMTP_EXT_SIZE },
		{ "8BITMIME", SMTP_EXT_8BITMIME },
		{ "SMTPUTF8", SMTP_EXT_SMTPUTF8 },
		{ "DSN", SMTP_EXT_DSN },
		{ "ENHANCEDSTATUSCODES", SMTP_EXT_ENHANCEDSTATUSCODES },
		{ "LIMITS", SMTP_EXT_LIMITS },
		{ "STARTTLS", SMTP_EXT_STARTTLS },
	};

	script->port.offer.extensions = 0;
	while (value.n > 0) {
		struct str word = str_cut(&value, ' ');
		for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
			if (str_eq(word, str_from(words[i].word)))
				script->port.offer.extensions |= words[i].extension;
	}
}

static void set_auth(struct fake_port *port, struct str mechanisms)
{
	port->offer.extensions |= SMTP_EXT_AUTH;
	port->offer.mechanisms = mechanisms;
	port->auth_start = SMTP_AUTH_STARTED;
}

static void set_secret(struct script *script, struct str secret)
{
	if (script->secret_count == SECRETS_MAX)
		fail("too many secrets", secret);
	script->secrets[script->secret_count++] = secret;
	script->port.connection.is_traced = true;
}

static void do_set(struct script *script, struct str text)
{
	struct fake_port *port = &script->port;
	struct str name = str_cut(&text, ' ');
	bool is_yes = str_eq(text, STR("yes"));

	if (set_number(script, name, text))
		return;
	if (str_eq(name, STR("restricted")))
		port->connection.is_restricted = is_yes;
	else if (str_eq(name, STR("normalise")))
		port->server.normalises = is_yes;
	else if (str_eq(name, STR("relay_domains")))
		set_relay_domains(script, text);
	else if (set_senders(script, name, text))
		return;
	else if (str_eq(name, STR("relaying")))
		port->connection.relaying = is_yes;
	else if (str_eq(name, STR("backend")))
		port->answers_by_itself = str_eq(text, STR("auto"));
	else if (str_eq(name, STR("offer")))
		set_offer(script, text);
	else if (str_eq(name, STR("size")))
		port->offer.size = number(text);
	else if (str_eq(name, STR("offered_recipients")))
		port->offer.recipients = number(text);
	else if (str_eq(name, STR("one_destination")))
		port->offer.one_destination = is_yes;
	else if (str_eq(name, STR("room")))
		port->room = number(text);
	else if (str_eq(name, STR("auth")))
		set_auth(port, text);
	else if (str_eq(name, STR("requires_auth")))
		port->server.requires_auth = is_yes;
	else if (str_eq(name, STR("secret")))
		set_secret(script, text);
	else
		fail("unknown setting", name);
}

/* ---- Lines -------------------------------------------------------------------------------- */

struct action {
	const char *letter;
	void (*run)(struct script *script, struct str text);
	bool before_start; /* does not begin the session */
};

static const struct action actions[] = {
	{ "C", do_client, false },
	{ "C+", do_client_more, false },
	{ "C-", do_client_bytes, false },
	{ "S", do_server, false },
	{ "P", do_policy, true },
	{ "V", do_verdict, false },
	{ "B", do_backend, false },
	{ "F", do_forwarded, false },
	{ "M", do_message, false },
	{ "R", do_refusal, false },
	{ "O", do_outcome, false },
	{ "T", do_time, false },
	{ "TLS", do_tls, false },
	{ "A", do_auth, false },
	{ "Q", do_question, false },
	{ "X", do_event, false },
	{ "=", do_value, false },
	{ "E", do_ending, false },
	{ "EARLY", do_client_bytes, true },
};

static void run_line(struct script *script, struct str line)
{
	struct str text = line;

	if (line.n == 0 || line.p[0] == '#' || str_eq(line, STR("ONCE")))
		return;
	if (cut_word(&text, STR("SET"))) {
		do_set(script, text);
		return;
	}
	struct str letter = str_cut(&text, ':');
	if (text.n > 0 && text.p[0] == ' ')
		text = str_from_pos(text, 1);
	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
		if (!str_eq(letter, str_from(actions[i].letter)))
			continue;
		if (!actions[i].before_start)
			start(script);
		actions[i].run(script, text);
		return;
	}
	fail("unknown line", letter);
}

static void check_secret(struct script *script, const char *where, struct str text)
{
	for (size_t i = 0; i < script->secret_count; i++)
		if (memmem(text.p, text.n, script->secrets[i].p, script->secrets[i].n) != NULL)
			fail("a secret is shown", str_from(where));
}

static void check_secrets(struct script *script)
{
	struct fake_port *port = &script->port;
	struct buf trace;

	if (script->secret_count == 0)
		return;
	buf_init(&trace, TRACE_LINE_MAX);
	trace_print(&port->connection, "quit", port->now_ms, &trace);
	check_secret(script, "trace", buf_view(&trace));
	check_secret(script, "current_line", buf_view(&port->connection.current_line));
	check_secret(script, "last_response", buf_view(&port->connection.last_response));
	check_secret(script, "refusals", buf_view(&port->refusals));
	buf_free(&trace);
}

static void nothing_left(struct buf *recording, const char *what)
{
	struct str line;

	if (fake_port_take(recording, &line))
		fail(what, line);
}

static void check_end(struct script *script)
{
	struct fake_port *port = &script->port;

	no_replies_left(script);
	nothing_left(&port->outcomes, "an outcome that the script does not have");
	if (script->has_forwarded)
		nothing_left(&port->forwarded, "forwarded, but not in the script");
	if (script->has_body)
		nothing_left(&port->body, "message line that the script does not have");
	if (script->has_refusals)
		nothing_left(&port->refusals, "refusal that the script does not have");
	if (script->has_questions)
		nothing_left(&port->auth, "question that the script does not have");
	if (port->is_closed && !script->has_ending)
		fail("an ending that the script does not have",
			str_from(ending_word(port->ending)));
	if (port->script_count > 0)
		fail("a verdict that nobody asked for", STR(""));
	if (port->connection.transaction != NULL)
		fail("the script leaves a transaction open", STR(""));
}

void script_run(const char *path, struct str text, bool is_byte_by_byte)
{
	static struct script script; /* large */

	memset(&script, 0, sizeof(script));
	script.path = path;
	script.is_byte_by_byte = is_byte_by_byte;
	fake_port_init(&script.port);
	script.port.is_byte_by_byte = is_byte_by_byte;
	buf_init(&script.segment, 1 << 24);
	while (text.n > 0) {
		struct str line = str_cut(&text, '\n');
		script.line_number++;
		set_where(&script, line);
		run_line(&script, line);
		check_secrets(&script);
	}
	check_end(&script);
	if (script.has_policy)
		policy_run_cancel(&script.policy.run);
	fake_port_free(&script.port);
	if (script.has_policy)
		fake_policy_free(&script.policy);
	buf_free(&script.segment);
}

bool script_is_once(struct str text)
{
	while (text.n > 0)
		if (str_eq(str_cut(&text, '\n'), STR("ONCE")))
			return true;
	return false;
}
