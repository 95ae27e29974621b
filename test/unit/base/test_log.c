#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/log.h"
#include "support/json_text.h"
#include "support/vectors.h"

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static char directory[] = "/tmp/gatepost-log-XXXXXX";
static char path[sizeof(directory) + 10];

/* ---- Help ---------------------------------------------------------------------------------- */

static int make_directory(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	if (mkdtemp(directory) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/log", directory);
	return 0;
}

static int remove_directory(void **state)
{
	(void)state;
	log_open("stderr", LOG_FORMAT_JSON, LOG_INFO_LEVEL, "mx1.example.com", NULL);
	unlink(path);
	return rmdir(directory);
}

static void open_as(enum log_format format, enum log_level level)
{
	struct err err;

	unlink(path);
	if (log_open(path, format, level, "mx1.example.com", &err) < 0)
		fail_msg("%s", err.text);
}

/* What was written since open_as(); free() it. */
static struct str written(void)
{
	return vectors_read(path);
}

static void forget(struct str text)
{
	free((char *)(uintptr_t)text.p);
}

/* The one line that was written, without its end, must be there once. */
static struct str only_line(struct str all)
{
	assert_true(all.n > 0);
	assert_int_equal(str_find(all, '\n'), all.n - 1);
	return str_range(all, 0, all.n - 1);
}

static size_t count_lines(struct str all)
{
	size_t count = 0;

	for (size_t i = 0; i < all.n; i++)
		count += all.p[i] == '\n';
	return count;
}

static void assert_ends_with(struct str got, const char *want)
{
	size_t n = strlen(want);

	if (got.n < n || memcmp(got.p + got.n - n, want, n) != 0)
		fail_msg("%.*s\ndoes not end with\n%s", STR_ARG(got), want);
}

/* ---- JSON ---------------------------------------------------------------------------------- */

/* "2026-11-22T09:05:58.123Z" */
static bool is_time(struct str text)
{
	static const char shape[] = "dddd-dd-ddTdd:dd:dd.dddZ";

	if (text.n != sizeof(shape) - 1)
		return false;
	for (size_t i = 0; i < text.n; i++)
		if (shape[i] == 'd' ? !ascii_is_digit(text.p[i]) : text.p[i] != shape[i])
			return false;
	return true;
}

static void a_json_record_is_one_object_in_one_line(void **state)
{
	(void)state;
	open_as(LOG_FORMAT_JSON, LOG_INFO_LEVEL);
	LOG(BACKEND_FAILED, log_str("server", STR("10.0.1.10:25")), log_text("step", "connect"),
		log_text("error", NULL), log_int("ms", -12), log_bool("last", true),
		log_bool("first", false), { .type = LOG_FIELD_NONE }, log_text("empty", ""));
	struct str all = written(), line = only_line(all);
	assert_true(json_text_is_valid(line));
	assert_true(str_starts_with(line, STR("{\"time\":\"")));
	assert_true(is_time(str_range(line, 9, 9 + 24)));
	assert_ends_with(line,
		"Z\",\"level\":\"warning\",\"event\":\"backend_failed\","
		"\"server\":\"10.0.1.10:25\",\"step\":\"connect\",\"error\":null,\"ms\":-12,"
		"\"last\":true,\"first\":false,\"empty\":\"\"}");
	forget(all);
}

static void records_below_the_level_are_not_written(void **state)
{
	(void)state;
	open_as(LOG_FORMAT_JSON, LOG_WARNING_LEVEL);
	assert_false(log_wants(LOG_CONNECT));
	assert_false(log_wants(LOG_CONNECTION));
	assert_true(log_wants(LOG_PROXY_HINT));
	assert_true(log_wants(LOG_ACCEPT_FAILED));
	LOG(CONNECT, log_text("client", "192.0.2.1"));
	LOG(STARTED, log_text("version", "1"));
	LOG(PROXY_HINT, log_text("peer", "x"));
	LOG(ACCEPT_FAILED, log_text("error", "x"));
	struct str all = written();
	assert_int_equal(count_lines(all), 2);
	forget(all);
	open_as(LOG_FORMAT_JSON, LOG_DEBUG_LEVEL);
	assert_true(log_wants(LOG_CONNECT));
}

static void assert_decodes_to(struct str line, const char *name, struct str want)
{
	static uint32_t codes[70000];
	struct str value;
	size_t count, at = 0;

	assert_true(json_text_find(line, name, &value));
	assert_true(json_text_string(&value, codes, COUNT(codes), &count));
	while (want.n > 0) {
		uint32_t code = (unsigned char)want.p[0];
		size_t n = utf8_decode(want, &code);

		assert_true(at < count);
		assert_int_equal(codes[at++], code);
		want = str_from_pos(want, n ? n : 1);
	}
	assert_int_equal(at, count);
}

/* No byte below 0x20, no DEL, no C1 control as a character; and valid UTF-8 throughout. */
static void assert_harmless(struct str line)
{
	while (line.n > 0) {
		uint32_t code;
		size_t n = utf8_decode(line, &code);

		assert_int_not_equal(n, 0);
		assert_false(code < 0x20 || (code >= 0x7f && code <= 0x9f));
		line = str_from_pos(line, n);
	}
}

static void random_bytes(char *bytes, size_t n)
{
	static const char nasty[] = "\n\r\x1b\x7f\x85\x9b\"\\\0 []<>=";

	for (size_t i = 0; i < n; i++)
		bytes[i] = random() % 3 ? (char)random()
					: nasty[(size_t)random() % (sizeof(nasty) - 1)];
}

static void foreign_bytes_stay_in_their_string(void **state)
{
	char hello[256], from[256];

	(void)state;
	srandom(5);
	for (int round = 0; round < 400; round++) {
		random_bytes(hello, sizeof(hello));
		random_bytes(from, sizeof(from));
		open_as(LOG_FORMAT_JSON, LOG_INFO_LEVEL);
		LOG(REJECT, log_str("hello", str_make(hello, sizeof(hello))),
			log_str("mail_from", str_make(from, sizeof(from))), log_int("last", 1));
		struct str all = written(), line = only_line(all);
		assert_harmless(line);
		assert_true(json_text_is_valid(line));
		assert_decodes_to(line, "hello", str_make(hello, sizeof(hello)));
		assert_decodes_to(line, "mail_from", str_make(from, sizeof(from)));
		assert_ends_with(line, "\",\"last\":1}");
		forget(all);
	}
}

/* ---- Long records -------------------------------------------------------------------------- */

static char filler[70000];

static size_t written_with(enum log_format format, size_t length, struct str *line)
{
	open_as(format, LOG_INFO_LEVEL);
	LOG(PROXY_HINT, log_text("peer", "before"), log_str("error", str_make(filler, length)),
		log_int("after", 1));
	struct str all = written();
	*line = only_line(all);
	return all.n;
}

static bool has_text(struct str line, const char *text)
{
	return memmem(line.p, line.n, text, strlen(text)) != NULL;
}

static void a_field_that_does_not_fit_is_left_out(void **state)
{
	bool was_cut = false, was_whole = false;

	(void)state;
	memset(filler, 'x', sizeof(filler));
	for (size_t length = 65000; length < 65600; length += 7) {
		struct str line;
		size_t size = written_with(LOG_FORMAT_JSON, length, &line);
		bool cut = has_text(line, "\"cut\":true}");

		assert_true(size <= 65536);
		assert_true(json_text_is_valid(line));
		assert_true(has_text(line, "\"peer\":\"before\""));
		assert_int_equal(
			cut, !(has_text(line, "\"error\"") && has_text(line, "\"after\"")));
		was_cut |= cut;
		was_whole |= !cut;
		forget(line);
	}
	assert_true(was_cut && was_whole);
}

static void a_field_of_escapes_that_does_not_fit_is_left_out(void **state)
{
	struct str line;

	(void)state;
	memset(filler, '\x01', sizeof(filler));
	for (size_t length = 10800; length < 10930; length++) {
		assert_true(written_with(LOG_FORMAT_JSON, length, &line) <= 65536);
		assert_true(json_text_is_valid(line));
		forget(line);
	}
	assert_true(written_with(LOG_FORMAT_JSON, sizeof(filler), &line) < 200);
	assert_ends_with(line, ",\"peer\":\"before\",\"after\":1,\"cut\":true}");
	forget(line);
}

static void postfix_lines_are_bounded_too(void **state)
{
	struct str line;

	(void)state;
	memset(filler, 'x', sizeof(filler));
	for (size_t length = 65380; length < 65480; length++) {
		assert_true(written_with(LOG_FORMAT_POSTFIX, length, &line) <= 65536);
		forget(line);
	}
	written_with(LOG_FORMAT_POSTFIX, sizeof(filler), &line);
	assert_ends_with(line, ": proxy_hint: peer=before after=1 cut=true");
	forget(line);
}

/* ---- The Postfix form ---------------------------------------------------------------------- */

/* Records and the lines they become, behind the prefix. */
static const struct line {
	enum log_event event;
	struct log_field fields[12];
	const char *text; /* NULL in `second`: one line only */
	const char *second;
} lines[] = {
	{ LOG_AUTH_FAILED,
		{ { STR_INIT("uuid"), LOG_FIELD_STR, STR_INIT("A"), 0 },
			{ STR_INIT("client"), LOG_FIELD_STR, STR_INIT("203.0.113.14"), 0 },
			{ STR_INIT("mechanism"), LOG_FIELD_STR, STR_INIT("PLAIN"), 0 },
			{ STR_INIT("user"), LOG_FIELD_STR, STR_INIT("b[198.51.100.66]"), 0 },
			{ STR_INIT("result"), LOG_FIELD_STR, STR_INIT("refused"), 0 } },
		"warning: unknown[203.0.113.14]: SASL PLAIN authentication failed: "
		"authentication failure, sasl_username=b[198.51.100.66]",
		NULL },
	{ LOG_AUTH_FAILED,
		{ { STR_INIT("uuid"), LOG_FIELD_STR, STR_INIT("A"), 0 },
			{ STR_INIT("client"), LOG_FIELD_STR, STR_INIT("203.0.113.15"), 0 },
			{ STR_INIT("mechanism"), LOG_FIELD_STR, STR_INIT("LOGIN"), 0 },
			{ STR_INIT("user"), LOG_FIELD_NULL, { NULL, 0 }, 0 },
			{ STR_INIT("result"), LOG_FIELD_STR, STR_INIT("malformed"), 0 } },
		"warning: unknown[203.0.113.15]: SASL LOGIN authentication failed: malformed",
		NULL },
	{ LOG_AUTH_FAILED,
		{ { STR_INIT("uuid"), LOG_FIELD_STR, STR_INIT("A"), 0 },
			{ STR_INIT("client"), LOG_FIELD_STR, STR_INIT("203.0.113.16"), 0 },
			{ STR_INIT("mechanism"), LOG_FIELD_STR, STR_INIT("LOGIN"), 0 },
			{ STR_INIT("user"), LOG_FIELD_NULL, { NULL, 0 }, 0 },
			{ STR_INIT("result"), LOG_FIELD_STR, STR_INIT("unavailable"), 0 } },
		"warning: unknown[203.0.113.16]: SASL LOGIN authentication failed: "
		"Connection lost to authentication server",
		NULL },
	{ LOG_REJECT,
		{ { STR_INIT("uuid"), LOG_FIELD_STR, STR_INIT("A"), 0 },
			{ STR_INIT("client"), LOG_FIELD_STR, STR_INIT("203.0.113.9"), 0 },
			{ STR_INIT("client_port"), LOG_FIELD_INT, { NULL, 0 }, 4711 },
			{ STR_INIT("host"), LOG_FIELD_STR, STR_INIT("mail.example.org"), 0 },
			{ STR_INIT("hello"), LOG_FIELD_STR, STR_INIT("mail.example.org"), 0 },
			{ STR_INIT("stage"), LOG_FIELD_STR, STR_INIT("RCPT"), 0 },
			{ STR_INIT("check"), LOG_FIELD_STR, STR_INIT("relay"), 0 },
			{ STR_INIT("mail_from"), LOG_FIELD_STR, STR_INIT("a@example.org"), 0 },
			{ STR_INIT("rcpt"), LOG_FIELD_STR, STR_INIT("b@example.net"), 0 },
			{ STR_INIT("reply"), LOG_FIELD_STR,
				STR_INIT("554 5.7.1 <b@example.net>: Relay access denied"), 0 } },
		"NOQUEUE: reject: RCPT from mail.example.org[203.0.113.9]: 554 5.7.1 "
		"<b@example.net>: Relay access denied; from=<a@example.org> to=<b@example.net> "
		"proto=ESMTP helo=<mail.example.org>",
		NULL },
	/* The null sender is said, what is unknown is not. */
	{ LOG_REJECT,
		{ { STR_INIT("client"), LOG_FIELD_STR, STR_INIT("2001:db8::9"), 0 },
			{ STR_INIT("host"), LOG_FIELD_NULL, { NULL, 0 }, 0 },
			{ STR_INIT("stage"), LOG_FIELD_STR, STR_INIT("MAIL"), 0 },
			{ STR_INIT("mail_from"), LOG_FIELD_STR, STR_INIT(""), 0 },
			{ STR_INIT("rcpt"), LOG_FIELD_NULL, { NULL, 0 }, 0 },
			{ STR_INIT("reply"), LOG_FIELD_STR, STR_INIT("450 4.7.1 wait"), 0 } },
		"NOQUEUE: reject: MAIL from unknown[2001:db8::9]: 450 4.7.1 wait; from=<> "
		"proto=ESMTP",
		NULL },
	{ LOG_REJECT,
		{ { STR_INIT("client"), LOG_FIELD_STR, STR_INIT("203.0.113.9"), 0 },
			{ STR_INIT("host"), LOG_FIELD_STR, STR_INIT(""), 0 },
			{ STR_INIT("stage"), LOG_FIELD_STR, STR_INIT("CONNECT"), 0 },
			{ STR_INIT("reply"), LOG_FIELD_STR, STR_INIT("554 5.3.2 no"), 0 } },
		"NOQUEUE: reject: CONNECT from unknown[203.0.113.9]: 554 5.3.2 no; proto=ESMTP",
		NULL },
	{ LOG_REJECT,
		{ { STR_INIT("client"), LOG_FIELD_STR, STR_INIT("203.0.113.10"), 0 },
			{ STR_INIT("stage"), LOG_FIELD_STR, STR_INIT("HELO"), 0 },
			{ STR_INIT("hello"), LOG_FIELD_STR, STR_INIT("pc"), 0 },
			{ STR_INIT("reply"), LOG_FIELD_STR,
				STR_INIT("504 5.5.2 <pc>: Helo command rejected: need "
					 "fully-qualified hostname"),
				0 } },
		"NOQUEUE: reject: HELO from unknown[203.0.113.10]: 504 5.5.2 <pc>: Helo command "
		"rejected: need fully-qualified hostname; proto=ESMTP helo=<pc>",
		NULL },
	/* Text that a client chose stays behind its own address. */
	{ LOG_REJECT,
		{ { STR_INIT("client"), LOG_FIELD_STR, STR_INIT("203.0.113.11"), 0 },
			{ STR_INIT("host"), LOG_FIELD_STR,
				STR_INIT("a[198.51.100.66]: 554 5.7.1 x"), 0 },
			{ STR_INIT("stage"), LOG_FIELD_STR, STR_INIT("RCPT"), 0 },
			{ STR_INIT("mail_from"), LOG_FIELD_STR, STR_INIT("x[198.51.100.66]@x"), 0 },
			{ STR_INIT("hello"), LOG_FIELD_STR,
				STR_INIT("\n reject: RCPT from a[198.51.100.66]: 554 5.7.1 no"),
				0 },
			{ STR_INIT("reply"), LOG_FIELD_STR,
				STR_INIT("554 5.7.1 Relay access denied"), 0 } },
		"NOQUEUE: reject: RCPT from a?198.51.100.66?:?554?5.7.1?x[203.0.113.11]: "
		"554 5.7.1 Relay access denied; from=<x[198.51.100.66]@x> proto=ESMTP "
		"helo=<? reject: RCPT from a[198.51.100.66]: 554 5.7.1 no>",
		NULL },
	{ LOG_PROXY_HINT,
		{ { STR_INIT("peer"), LOG_FIELD_STR,
			  STR_INIT("reject: RCPT from a[198.51.100.66]: 554 5.7.1 x"), 0 },
			{ STR_INIT("error"), LOG_FIELD_STR,
				STR_INIT("too many errors after RCPT from a[198.51.100.66]"), 0 } },
		"proxy_hint: peer=\"reject: RCPT from a[198.51.100.66]: 554 5.7.1 x\" "
		"error=\"too many errors after RCPT from a[198.51.100.66]\"",
		NULL },
	{ LOG_CONNECTION,
		{ { STR_INIT("client"), LOG_FIELD_STR, STR_INIT("203.0.113.12"), 0 },
			{ STR_INIT("stage"), LOG_FIELD_STR, STR_INIT("MAIL"), 0 },
			{ STR_INIT("ending"), LOG_FIELD_STR, STR_INIT("client_closed"), 0 } },
		"lost connection after MAIL from unknown[203.0.113.12]",
		"disconnect from unknown[203.0.113.12] stage=MAIL ending=client_closed" },
	{ LOG_CONNECTION,
		{ { STR_INIT("client"), LOG_FIELD_STR, STR_INIT("203.0.113.13"), 0 },
			{ STR_INIT("stage"), LOG_FIELD_STR, STR_INIT("HELO"), 0 },
			{ STR_INIT("ending"), LOG_FIELD_STR, STR_INIT("out_of_turn"), 0 } },
		"improper command pipelining after HELO from unknown[203.0.113.13]",
		"disconnect from unknown[203.0.113.13] stage=HELO ending=out_of_turn" },
	/* A host name cannot pretend another address, nor bytes another line. */
	{ LOG_REJECT,
		{ { STR_INIT("client"), LOG_FIELD_STR, STR_INIT("203.0.113.9"), 0 },
			{ STR_INIT("host"), LOG_FIELD_STR, STR_INIT("a[192.0.2.1]: 554 x\n"), 0 },
			{ STR_INIT("stage"), LOG_FIELD_STR, STR_INIT("RCPT"), 0 },
			{ STR_INIT("hello"), LOG_FIELD_STR,
				STR_INIT("a\r\nb\x1b[0m\x7f\xc3\xbc\0c"), 0 },
			{ STR_INIT("reply"), LOG_FIELD_STR, STR_INIT("550-5.7.1 a\r\n550 5.7.1 b"),
				0 } },
		"NOQUEUE: reject: RCPT from a?192.0.2.1?:?554?x?[203.0.113.9]: "
		"550-5.7.1 a??550 5.7.1 b; proto=ESMTP helo=<a??b?[0m????c>",
		NULL },
	{ LOG_CONNECT,
		{ { STR_INIT("uuid"), LOG_FIELD_STR, STR_INIT("A"), 0 },
			{ STR_INIT("client"), LOG_FIELD_STR, STR_INIT("203.0.113.9"), 0 } },
		"connect from unknown[203.0.113.9]", NULL },
	{ LOG_CONNECTION,
		{ { STR_INIT("client"), LOG_FIELD_STR, STR_INIT("203.0.113.9"), 0 },
			{ STR_INIT("host"), LOG_FIELD_STR, STR_INIT("mx.example.org"), 0 },
			{ STR_INIT("hello"), LOG_FIELD_STR, STR_INIT("a \"b\" auth=0/9"), 0 },
			{ STR_INIT("tls"), LOG_FIELD_NULL, { NULL, 0 }, 0 },
			{ STR_INIT("relaying"), LOG_FIELD_BOOL, { NULL, 0 }, 0 },
			{ STR_INIT("errors"), LOG_FIELD_INT, { NULL, 0 }, 2 },
			{ STR_INIT("stage"), LOG_FIELD_STR, STR_INIT("RCPT"), 0 },
			{ STR_INIT("ending"), LOG_FIELD_STR, STR_INIT("quit"), 0 } },
		"disconnect from mx.example.org[203.0.113.9] hello=\"a ?b? auth=0/9\" "
		"relaying=false errors=2 stage=RCPT ending=quit",
		NULL },
	{ LOG_CONNECTION,
		{ { STR_INIT("client"), LOG_FIELD_STR, STR_INIT("203.0.113.9"), 0 },
			{ STR_INIT("stage"), LOG_FIELD_STR, STR_INIT("RCPT"), 0 },
			{ STR_INIT("ending"), LOG_FIELD_STR, STR_INIT("too_many_errors"), 0 } },
		"too many errors after RCPT from unknown[203.0.113.9]",
		"disconnect from unknown[203.0.113.9] stage=RCPT ending=too_many_errors" },
	{ LOG_CONNECTION,
		{ { STR_INIT("client"), LOG_FIELD_STR, STR_INIT("203.0.113.9"), 0 },
			{ STR_INIT("ending"), LOG_FIELD_STR, STR_INIT("too_many_errors"), 0 } },
		"too many errors after UNKNOWN from unknown[203.0.113.9]",
		"disconnect from unknown[203.0.113.9] ending=too_many_errors" },
	{ LOG_CONNECTION,
		{ { STR_INIT("client"), LOG_FIELD_STR, STR_INIT("203.0.113.9"), 0 },
			{ STR_INIT("stage"), LOG_FIELD_STR, STR_INIT("DATA"), 0 },
			{ STR_INIT("ending"), LOG_FIELD_STR, STR_INIT("client_closed"), 0 } },
		"lost connection after DATA from unknown[203.0.113.9]",
		"disconnect from unknown[203.0.113.9] stage=DATA ending=client_closed" },
	{ LOG_CONNECTION,
		{ { STR_INIT("client"), LOG_FIELD_STR, STR_INIT("203.0.113.9"), 0 },
			{ STR_INIT("ending"), LOG_FIELD_STR, STR_INIT("client_closed"), 0 } },
		"disconnect from unknown[203.0.113.9] ending=client_closed", NULL },
	{ LOG_TRANSACTION,
		{ { STR_INIT("uuid"), LOG_FIELD_STR, STR_INIT("A-B.1"), 0 },
			{ STR_INIT("client"), LOG_FIELD_STR, STR_INIT("203.0.113.9"), 0 },
			{ STR_INIT("host"), LOG_FIELD_STR, STR_INIT("mx.example.org"), 0 },
			{ STR_INIT("mail_from"), LOG_FIELD_STR, STR_INIT(""), 0 },
			{ STR_INIT("rcpt"), LOG_FIELD_STR, STR_INIT("b@example.net"), 0 },
			{ STR_INIT("rcpt_count"), LOG_FIELD_INT, { NULL, 0 }, 1 },
			{ STR_INIT("outcome"), LOG_FIELD_STR, STR_INIT("accepted"), 0 },
			{ STR_INIT("server"), LOG_FIELD_STR, STR_INIT("10.0.1.10:25"), 0 },
			{ STR_INIT("reply"), LOG_FIELD_STR, STR_INIT("250 2.0.0 Ok"), 0 },
			{ STR_INIT("data_bytes"), LOG_FIELD_INT, { NULL, 0 }, 120 } },
		"A-B.1: client=mx.example.org[203.0.113.9], from=<>, to=<b@example.net>, "
		"relay=10.0.1.10:25, size=120, nrcpt=1, status=sent (250 2.0.0 Ok)",
		NULL },
	{ LOG_TRANSACTION,
		{ { STR_INIT("uuid"), LOG_FIELD_STR, STR_INIT("A-B.2"), 0 },
			{ STR_INIT("client"), LOG_FIELD_STR, STR_INIT("203.0.113.9"), 0 },
			{ STR_INIT("mail_from"), LOG_FIELD_STR, STR_INIT("a@b"), 0 },
			{ STR_INIT("outcome"), LOG_FIELD_STR, STR_INIT("aborted"), 0 },
			{ STR_INIT("server"), LOG_FIELD_NULL, { NULL, 0 }, 0 } },
		"A-B.2: client=unknown[203.0.113.9], from=<a@b>, to=<>, relay=none, "
		"status=aborted",
		NULL },
	{ LOG_BACKEND_FAILED,
		{ { STR_INIT("backend"), LOG_FIELD_STR, STR_INIT("mta"), 0 },
			{ STR_INIT("server"), LOG_FIELD_STR, STR_INIT("10.0.1.10:25"), 0 },
			{ STR_INIT("step"), LOG_FIELD_STR, STR_INIT(""), 0 },
			{ STR_INIT("error"), LOG_FIELD_STR, STR_INIT("connection refused"), 0 } },
		"backend_failed: backend=mta server=10.0.1.10:25 step=\"\" "
		"error=\"connection refused\"",
		NULL },
	{ LOG_STOPPED, { { .type = LOG_FIELD_NONE } }, "stopped:", NULL },
};

static void write_line(const struct line *line)
{
	size_t count = 0;

	while (count < COUNT(line->fields) && line->fields[count].name.n > 0)
		count++;
	log_write(line->event, line->fields, count);
}

/* "Nov 22 09:05:58 mx1.example.com postfix-gatepost/smtpd[4711]: " */
static struct str without_prefix(struct str line)
{
	char process[64];
	static const char shape[] = "Aaa .d dd:dd:dd mx1.example.com ";

	for (size_t i = 0; i < 16; i++) {
		char c = i < line.n ? line.p[i] : '\0';

		if (shape[i] == 'd')
			assert_true(ascii_is_digit(c));
		else if (shape[i] == '.')
			assert_true(c == ' ' || (c >= '1' && c <= '3'));
		else if (shape[i] == 'A' || shape[i] == 'a')
			assert_true(ascii_is_alpha(c));
		else
			assert_int_equal(c, shape[i]);
	}
	snprintf(process, sizeof(process),
		"mx1.example.com postfix-gatepost/smtpd[%d]: ", (int)getpid());
	line = str_from_pos(line, 16);
	assert_true(str_starts_with(line, str_from(process)));
	return str_from_pos(line, strlen(process));
}

static void events_are_said_in_the_words_of_postfix(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(lines); i++) {
		open_as(LOG_FORMAT_POSTFIX, LOG_DEBUG_LEVEL);
		write_line(&lines[i]);
		struct str all = written(), rest = all;
		const char *texts[] = { lines[i].text, lines[i].second };
		for (size_t n = 0; n < 2 && texts[n]; n++) {
			struct str text = without_prefix(str_cut(&rest, '\n'));
			char *copy = str_dup(text);
			assert_string_equal(copy, texts[n]);
			free(copy);
		}
		assert_int_equal(rest.n, 0);
		forget(all);
	}
}

static void foreign_bytes_stay_in_their_line(void **state)
{
	char bytes[256];

	(void)state;
	srandom(6);
	for (int round = 0; round < 400; round++) {
		struct str value = str_make(bytes, sizeof(bytes));

		random_bytes(bytes, sizeof(bytes));
		open_as(LOG_FORMAT_POSTFIX, LOG_INFO_LEVEL);
		LOG(REJECT, log_str("host", value), log_text("client", "192.0.2.1"),
			log_str("reply", value), log_str("hello", value));
		LOG(PROXY_HINT, log_str("peer", value));
		struct str all = written();
		assert_int_equal(count_lines(all), 2);
		for (size_t i = 0; i < all.n; i++)
			assert_true(all.p[i] == '\n' || (all.p[i] >= 0x20 && all.p[i] < 0x7f));
		assert_true(has_text(all, "[192.0.2.1]: "));
		struct str line = without_prefix(str_range(all, 0, str_find(all, '\n')));
		assert_int_equal(str_find(line, '['), str_find(line, ']') - 10);
		forget(all);
	}
}

/* The words of endings that a line is made of exist; they are the interface of another table. */
static void endings_are_those_of_the_table(void **state)
{
	static const char *const words[] = {
#define ENDING(id, word, is_error, meaning) word,
#include "tables/endings.def"
#undef ENDING
	};
	size_t with_line = 0;

	(void)state;
	for (size_t i = 0; i < COUNT(words); i++) {
		open_as(LOG_FORMAT_POSTFIX, LOG_INFO_LEVEL);
		LOG(CONNECTION, log_text("stage", "RCPT"), log_text("ending", words[i]));
		struct str all = written();
		with_line += count_lines(all) - 1;
		forget(all);
	}
	assert_int_equal(with_line, 7);
}

/* ---- Where records go ---------------------------------------------------------------------- */

static void a_failed_open_changes_nothing(void **state)
{
	struct err err;

	(void)state;
	open_as(LOG_FORMAT_JSON, LOG_INFO_LEVEL);
	assert_int_equal(
		log_open("/nonexistent/log", LOG_FORMAT_POSTFIX, LOG_ERROR_LEVEL, "x", &err), -1);
	assert_string_equal(
		err.text, "cannot open the log /nonexistent/log: No such file or directory");
	LOG(STARTED, log_text("version", "1"));
	struct str all = written();
	assert_true(json_text_is_valid(only_line(all)));
	forget(all);
}

static void reopening_begins_a_new_file(void **state)
{
	char rotated[sizeof(path) + 2];

	(void)state;
	open_as(LOG_FORMAT_JSON, LOG_INFO_LEVEL);
	LOG(STARTED, log_int("n", 1));
	snprintf(rotated, sizeof(rotated), "%s.1", path);
	assert_int_equal(rename(path, rotated), 0);
	LOG(STARTED, log_int("n", 2));
	assert_int_equal(log_reopen(NULL), 0);
	LOG(STARTED, log_int("n", 3));
	struct str old = vectors_read(rotated), new = written();
	assert_int_equal(count_lines(old), 2);
	assert_ends_with(only_line(new), "\"n\":3}");
	forget(old);
	free((char *)(uintptr_t) new.p);
	unlink(rotated);
}

static void files_are_appended_to(void **state)
{
	struct stat status;

	(void)state;
	open_as(LOG_FORMAT_JSON, LOG_INFO_LEVEL);
	LOG(STARTED, log_int("n", 1));
	assert_int_equal(
		log_open(path, LOG_FORMAT_POSTFIX, LOG_INFO_LEVEL, "mx1.example.com", NULL), 0);
	LOG(STARTED, log_int("n", 2));
	struct str all = written();
	assert_int_equal(count_lines(all), 2);
	forget(all);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 0007, 0);
}

/* Several processes, one file: lines may come in any order, but whole. */
static void processes_write_whole_lines(void **state)
{
	(void)state;
	memset(filler, 'x', 3000);
	open_as(LOG_FORMAT_JSON, LOG_INFO_LEVEL);
	for (int child = 0; child < 4; child++)
		if (fork() == 0) {
			for (int i = 0; i < 50; i++)
				LOG(PROXY_HINT, log_str("error", str_make(filler, 3000)));
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
	struct str all = written(), rest = all;
	assert_int_equal(count_lines(all), 200);
	while (rest.n > 0)
		assert_true(json_text_is_valid(str_cut(&rest, '\n')));
	forget(all);
}

static void a_full_disk_drops_and_counts(void **state)
{
	uint64_t before = log_dropped();

	(void)state;
	assert_int_equal(log_open("/dev/full", LOG_FORMAT_JSON, LOG_INFO_LEVEL, "x", NULL), 0);
	errno = 4711;
	LOG(STARTED, log_int("n", 1));
	LOG(CONNECT, log_int("n", 2)); /* below the level: nothing is lost */
	LOG(STARTED, log_int("n", 3));
	assert_int_equal(errno, 4711);
	assert_int_equal(log_dropped() - before, 2);
	open_as(LOG_FORMAT_JSON, LOG_INFO_LEVEL);
	LOG(STARTED, log_int("n", 4));
	LOG(STARTED, log_int("n", 5));
	assert_int_equal(log_dropped() - before, 2);
	struct str all = written(), rest = all;
	assert_int_equal(count_lines(all), 3);
	assert_ends_with(str_cut(&rest, '\n'), "\"event\":\"started\",\"n\":4}");
	assert_ends_with(str_cut(&rest, '\n'), "\"event\":\"log_dropped\",\"count\":2}");
	assert_ends_with(str_cut(&rest, '\n'), "\"event\":\"started\",\"n\":5}");
	forget(all);
}

/* A disk that takes half a line: the next record begins a line of its own. */
static void a_torn_line_is_ended(void **state)
{
	struct rlimit limit, small;
	uint64_t before = log_dropped();

	(void)state;
	open_as(LOG_FORMAT_JSON, LOG_INFO_LEVEL);
	getrlimit(RLIMIT_FSIZE, &limit);
	small = (struct rlimit){ .rlim_cur = 30, .rlim_max = limit.rlim_max };
	setrlimit(RLIMIT_FSIZE, &small);
	LOG(STARTED, log_int("n", 1));
	LOG(STARTED, log_int("n", 2));
	setrlimit(RLIMIT_FSIZE, &limit);
	assert_int_equal(log_dropped() - before, 2);
	LOG(STARTED, log_int("n", 3));
	struct str all = written(), rest = all;
	assert_int_equal(str_cut(&rest, '\n').n, 30);
	struct str second = str_cut(&rest, '\n'), third = str_cut(&rest, '\n');
	assert_true(json_text_is_valid(second));
	assert_ends_with(second, "\"n\":3}");
	assert_ends_with(third, "\"event\":\"log_dropped\",\"count\":2}");
	assert_int_equal(rest.n, 0);
	forget(all);
}

static void gathered_records_are_written_together(void **state)
{
	uint64_t before = log_dropped();

	(void)state;
	open_as(LOG_FORMAT_JSON, LOG_INFO_LEVEL);
	log_gather(true);
	LOG(STARTED, log_int("n", 1));
	LOG(STARTED, log_int("n", 2));
	struct str all = written();
	assert_int_equal(all.n, 0);
	forget(all);
	log_flush();
	LOG(STARTED, log_int("n", 3));
	log_gather(false);
	LOG(STARTED, log_int("n", 4));
	all = written();
	assert_int_equal(count_lines(all), 4);
	assert_ends_with(all, "\"n\":4}\n");
	assert_int_equal(log_dropped(), before);
	forget(all);
}

static void more_than_can_be_gathered_is_written(void **state)
{
	(void)state;
	memset(filler, 'x', 3000);
	open_as(LOG_FORMAT_JSON, LOG_INFO_LEVEL);
	log_gather(true);
	for (int i = 0; i < 100; i++)
		LOG(PROXY_HINT, log_str("error", str_make(filler, 3000)));
	log_gather(false);
	struct str all = written(), rest = all;
	assert_int_equal(count_lines(all), 100);
	while (rest.n > 0)
		assert_true(json_text_is_valid(str_cut(&rest, '\n')));
	forget(all);
}

/* What is gathered is neither lost by who ends so, nor written twice. */
static void gathered_records_survive_bugs_and_forks(void **state)
{
	(void)state;
	open_as(LOG_FORMAT_JSON, LOG_INFO_LEVEL);
	log_gather(true);
	LOG(STARTED, log_int("n", 1));
	if (fork() == 0) {
		LOG(STARTED, log_int("n", 2));
		log_gather(true);
		LOG(STARTED, log_int("n", 3));
		fclose(stderr);
		assert_failed("a bug", "here", 1);
	}
	while (wait(NULL) > 0)
		;
	log_gather(false);
	struct str all = written();
	assert_int_equal(count_lines(all), 3);
	assert_ends_with(all, "\"n\":3}\n");
	forget(all);
}

/* The whole lines of what was gathered count as written. */
static void a_torn_batch_is_counted_by_lines(void **state)
{
	struct rlimit limit, small;
	uint64_t before = log_dropped();

	(void)state;
	open_as(LOG_FORMAT_JSON, LOG_INFO_LEVEL);
	LOG(STARTED, log_int("n", 1));
	struct str all = written();
	size_t line = all.n;
	forget(all);
	getrlimit(RLIMIT_FSIZE, &limit);
	small = (struct rlimit){ .rlim_cur = 2 * line + 10, .rlim_max = limit.rlim_max };
	setrlimit(RLIMIT_FSIZE, &small);
	log_gather(true);
	for (int i = 2; i <= 4; i++)
		LOG(STARTED, log_int("n", i));
	log_gather(false);
	setrlimit(RLIMIT_FSIZE, &limit);
	assert_int_equal(log_dropped() - before, 2);
	LOG(STARTED, log_int("n", 5));
	all = written();
	struct str rest = all;
	assert_ends_with(str_cut(&rest, '\n'), "\"n\":1}");
	assert_ends_with(str_cut(&rest, '\n'), "\"n\":2}");
	assert_int_equal(str_cut(&rest, '\n').n, 10);
	assert_ends_with(str_cut(&rest, '\n'), "\"n\":5}");
	assert_ends_with(str_cut(&rest, '\n'), "\"count\":2}");
	assert_int_equal(rest.n, 0);
	forget(all);
}

/* Puts the writing end of `pair` in the place of stderr while `records` are written. */
static void log_to_stderr(int end, int records)
{
	int saved = dup(STDERR_FILENO);

	dup2(end, STDERR_FILENO);
	assert_int_equal(log_open("stderr", LOG_FORMAT_JSON, LOG_INFO_LEVEL, "x", NULL), 0);
	memset(filler, 'x', 1000);
	for (int i = 0; i < records; i++)
		LOG(PROXY_HINT, log_str("error", str_make(filler, 1000)), log_int("n", i));
	dup2(saved, STDERR_FILENO);
	close(saved);
}

/* The records of a pipe or socket that nobody reads while they are written. */
static void assert_never_waits(int reader, int writer)
{
	uint64_t before = log_dropped();
	static char bytes[2000];
	ssize_t n;

	alarm(20);
	log_to_stderr(writer, 2000);
	alarm(0);
	uint64_t dropped = log_dropped() - before;
	assert_in_range(dropped, 1, 1999);
	assert_int_equal(fcntl(writer, F_GETFL) & O_NONBLOCK, 0);
	open_as(LOG_FORMAT_JSON, LOG_INFO_LEVEL);
	LOG(STARTED, log_int("n", 1)); /* and with it the report of what was lost */
	close(writer);
	size_t lines_read = 0;
	while ((n = read(reader, bytes, sizeof(bytes))) > 0)
		lines_read += count_lines(str_make(bytes, (size_t)n));
	/* The last one may be torn. */
	assert_in_range(lines_read + dropped, 1999, 2000);
	close(reader);
}

static void a_full_pipe_drops_and_counts(void **state)
{
	int ends[2];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	assert_never_waits(ends[0], ends[1]);
}

static void a_full_socket_drops_and_counts(void **state)
{
	int ends[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	assert_never_waits(ends[0], ends[1]);
}

static void a_closed_pipe_drops_and_counts(void **state)
{
	uint64_t before = log_dropped();
	int ends[2];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	close(ends[0]);
	log_to_stderr(ends[1], 3);
	assert_int_equal(log_dropped() - before, 3);
	close(ends[1]);
	open_as(LOG_FORMAT_JSON, LOG_INFO_LEVEL);
}

/* ---- Somewhere else ------------------------------------------------------------------------ */

struct taken {
	enum log_event event;
	char detail[64];
	size_t count;
};

static void take(void *ctx, enum log_event event, const struct log_field *fields, size_t count)
{
	struct taken *taken = ctx;

	assert_int_equal(count, 1);
	taken->event = event;
	taken->count++;
	str_copy_to(fields[0].text, taken->detail, sizeof(taken->detail));
}

/* Whatever their level; afterwards the log is as it was. */
static void diverted_records_are_not_written(void **state)
{
	struct taken taken = { .count = 0 };

	(void)state;
	open_as(LOG_FORMAT_JSON, LOG_ERROR_LEVEL);
	log_divert(take, &taken);
	LOG(CONFIG_NOTICE, log_text("detail", "what is wrong"));
	log_divert(NULL, NULL);
	LOG(CONFIG_NOTICE, log_text("detail", "not wanted"));
	assert_int_equal(taken.count, 1);
	assert_int_equal(taken.event, LOG_CONFIG_NOTICE);
	assert_string_equal(taken.detail, "what is wrong");
	struct str all = written();
	assert_int_equal(all.n, 0);
	forget(all);
}

/* ---- Reference ----------------------------------------------------------------------------- */

static void the_reference_names_every_event(void **state)
{
	struct buf out;
	char heading[100];

	(void)state;
	buf_init(&out, 1 << 20);
	log_print_reference(&out);
	struct str text = buf_view(&out);
	assert_true(str_starts_with(text, STR("# Log events\n")));
	for (int event = 0; event < LOG_EVENT_COUNT; event++) {
		snprintf(heading, sizeof(heading), "\n## %s\n",
			log_event_word((enum log_event)event));
		assert_true(has_text(text, heading));
	}
	assert_true(
		has_text(text, "- Postfix form: `NOQUEUE: reject: {stage} from {host}[{client}]: "
			       "{reply}; from=<{mail_from}> to=<{rcpt}> proto=ESMTP "
			       "helo=<{hello}>`"));
	assert_true(has_text(text, "- Fields: `version`, `pid`\n"));
	buf_free(&out);
}

/* The lines of the table above, for programs that read logs. */
static int print_lines(void)
{
	if (dup2(STDOUT_FILENO, STDERR_FILENO) < 0 ||
		log_open("stderr", LOG_FORMAT_POSTFIX, LOG_DEBUG_LEVEL, "mx1.example.com", NULL) <
			0)
		return 1;
	for (size_t i = 0; i < COUNT(lines); i++)
		write_line(&lines[i]);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_json_record_is_one_object_in_one_line),
		cmocka_unit_test(records_below_the_level_are_not_written),
		cmocka_unit_test(foreign_bytes_stay_in_their_string),
		cmocka_unit_test(a_field_that_does_not_fit_is_left_out),
		cmocka_unit_test(a_field_of_escapes_that_does_not_fit_is_left_out),
		cmocka_unit_test(postfix_lines_are_bounded_too),
		cmocka_unit_test(events_are_said_in_the_words_of_postfix),
		cmocka_unit_test(foreign_bytes_stay_in_their_line),
		cmocka_unit_test(endings_are_those_of_the_table),
		cmocka_unit_test(a_failed_open_changes_nothing),
		cmocka_unit_test(reopening_begins_a_new_file),
		cmocka_unit_test(files_are_appended_to),
		cmocka_unit_test(processes_write_whole_lines),
		cmocka_unit_test(a_full_disk_drops_and_counts),
		cmocka_unit_test(a_torn_line_is_ended),
		cmocka_unit_test(gathered_records_are_written_together),
		cmocka_unit_test(more_than_can_be_gathered_is_written),
		cmocka_unit_test(gathered_records_survive_bugs_and_forks),
		cmocka_unit_test(a_torn_batch_is_counted_by_lines),
		cmocka_unit_test(a_full_pipe_drops_and_counts),
		cmocka_unit_test(a_full_socket_drops_and_counts),
		cmocka_unit_test(a_closed_pipe_drops_and_counts),
		cmocka_unit_test(diverted_records_are_not_written),
		cmocka_unit_test(the_reference_names_every_event),
	};

	if (argc == 2 && strcmp(argv[1], "print") == 0)
		return print_lines();
	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
