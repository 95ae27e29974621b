#include "proto/smtp_reply.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/smtp_params.h"
#include "proto/xclient.h"
#include "support/guard.h"

#define ROOM (SMTP_REPLY_LINE_MAX * (SMTP_REPLY_LINES_MAX + 2))

static struct guard guard;

/* ---- Reading ---- */

static const struct vector {
	struct str input;
	int result;
	enum smtp_reply_fault fault;
	int code;
	uint16_t class, subject, detail; /* 0.0.0: none */
	size_t lines;
	struct str text;
	size_t taken; /* 0: all */
} vectors[] = {
	{ STR_INIT("250 Ok\r\n"), 1, 0, 250, 0, 0, 0, 1, STR_INIT("Ok") },
	{ STR_INIT("250\r\n"), 1, 0, 250, 0, 0, 0, 1, STR_INIT("") },
	{ STR_INIT("250 \r\n"), 1, 0, 250, 0, 0, 0, 1, STR_INIT("") },
	{ STR_INIT("250 2.1.0 Ok\r\n"), 1, 0, 250, 2, 1, 0, 1, STR_INIT("Ok") },
	{ STR_INIT("550 5.7.606\r\n"), 1, 0, 550, 5, 7, 606, 1, STR_INIT("") },
	{ STR_INIT("354 go on\r\n"), 1, 0, 354, 0, 0, 0, 1, STR_INIT("go on") },
	{ STR_INIT("354 3.0.0 x\r\n"), 1, 0, 354, 0, 0, 0, 1, STR_INIT("3.0.0 x") },
	{ STR_INIT("450 5.1.1 class\r\n"), 1, 0, 450, 0, 0, 0, 1, STR_INIT("5.1.1 class") },
	{ STR_INIT("250 2.1.0Ok\r\n"), 1, 0, 250, 0, 0, 0, 1, STR_INIT("2.1.0Ok") },
	{ STR_INIT("250 2.1. Ok\r\n"), 1, 0, 250, 0, 0, 0, 1, STR_INIT("2.1. Ok") },
	{ STR_INIT("250 2.1.1000 Ok\r\n"), 1, 0, 250, 0, 0, 0, 1, STR_INIT("2.1.1000 Ok") },
	{ STR_INIT("250 2.01.0 Ok\r\n"), 1, 0, 250, 0, 0, 0, 1, STR_INIT("2.01.0 Ok") },
	{ STR_INIT("250-first\r\n250-\r\n250 2.0.0 last\r\n"), 1, 0, 250, 2, 0, 0, 3,
		STR_INIT("first\n\nlast") },
	{ STR_INIT("550-5.1.1 a\r\n550 5.1.2 b\r\n"), 1, 0, 550, 5, 1, 2, 2, STR_INIT("a\nb") },
	{ STR_INIT("550-5.1.1 a\r\n550 b\r\n"), 1, 0, 550, 0, 0, 0, 2, STR_INIT("a\nb") },
	{ STR_INIT("250-a\r\n250\r\n"), 1, 0, 250, 0, 0, 0, 2, STR_INIT("a\n") },
	{ STR_INIT("250 a\x1b[1m\x7f\t\xc3\xa4\r\n"), 1, 0, 250, 0, 0, 0, 1,
		STR_INIT("a?[1m????") },
	{ STR_INIT("250 one\r\n250 two\r\n"), 1, 0, 250, 0, 0, 0, 1, STR_INIT("one"), 9 },
	{ STR_INIT("200 x\r\n"), 1, 0, 200, 0, 0, 0, 1, STR_INIT("x") },
	{ STR_INIT("599 x\r\n"), 1, 0, 599, 0, 0, 0, 1, STR_INIT("x") },
	{ STR_INIT(""), 0 },
	{ STR_INIT("250 Ok\r"), 0 },
	{ STR_INIT("250-a\r\n"), 0 },
	{ STR_INIT("250-a\r\n250 b"), 0 },
	{ STR_INIT("199 x\r\n"), -1, SMTP_REPLY_BAD_LINE },
	{ STR_INIT("600 x\r\n"), -1, SMTP_REPLY_BAD_LINE },
	{ STR_INIT("999 x\r\n"), -1, SMTP_REPLY_BAD_LINE },
	{ STR_INIT("25 x\r\n"), -1, SMTP_REPLY_BAD_LINE },
	{ STR_INIT("2500 x\r\n"), -1, SMTP_REPLY_BAD_LINE },
	{ STR_INIT("250x\r\n"), -1, SMTP_REPLY_BAD_LINE },
	{ STR_INIT("250\tx\r\n"), -1, SMTP_REPLY_BAD_LINE },
	{ STR_INIT(" 250 x\r\n"), -1, SMTP_REPLY_BAD_LINE },
	{ STR_INIT("+50 x\r\n"), -1, SMTP_REPLY_BAD_LINE },
	{ STR_INIT("\r\n"), -1, SMTP_REPLY_BAD_LINE },
	{ STR_INIT("hello\r\n"), -1, SMTP_REPLY_BAD_LINE },
	{ STR_INIT("250-a\r\nb\r\n"), -1, SMTP_REPLY_BAD_LINE },
	{ STR_INIT("250-a\r\n251 b\r\n"), -1, SMTP_REPLY_MIXED },
	{ STR_INIT("250 x\n"), -1, SMTP_REPLY_BARE_LF },
	{ STR_INIT("\n"), -1, SMTP_REPLY_BARE_LF },
	{ STR_INIT("250-a\n250 b\r\n"), -1, SMTP_REPLY_BARE_LF },
	{ STR_INIT("250 a\rb\r\n"), -1, SMTP_REPLY_BARE_LF },
	{ STR_INIT("250 a\r\r\n"), -1, SMTP_REPLY_BARE_LF },
	{ STR_INIT("250 a\0b\r\n"), -1, SMTP_REPLY_BARE_LF },
};

static void check(const struct vector *vector, int result, enum smtp_reply_fault fault,
	const struct smtp_reply *reply, size_t taken)
{
	if (result != vector->result)
		fprintf(stderr, "\"%.*s\"\n", STR_ARG(vector->input));
	assert_int_equal(result, vector->result);
	if (result == -1)
		assert_int_equal(fault, vector->fault);
	if (result != 1)
		return;
	assert_int_equal(taken, vector->taken ? vector->taken : vector->input.n);
	assert_int_equal(reply->code, vector->code);
	assert_int_equal(smtp_reply_class(reply), vector->code / 100);
	assert_int_equal(reply->enhanced.present, vector->class != 0);
	assert_int_equal(reply->enhanced.class, vector->class);
	assert_int_equal(reply->enhanced.subject, vector->subject);
	assert_int_equal(reply->enhanced.detail, vector->detail);
	assert_int_equal(reply->line_count, vector->lines);
	assert_true(str_eq(reply->text, vector->text));
	assert_false(reply->was_cut);
}

/* Input that grows from `first` bytes on by `step`, until the parser says something. */
static void run_vector(const struct vector *vector, size_t first, size_t step, struct buf *text)
{
	enum smtp_reply_fault fault = SMTP_REPLY_FINE;
	struct smtp_reply reply;
	size_t taken;
	int result = 0;

	for (size_t n = first; result == 0; n += step) {
		struct str input = guard_put(&guard, str_range(vector->input, 0, n));
		result = smtp_reply_parse(input, text, &reply, &taken, &fault);
		if (n >= vector->input.n)
			break;
	}
	check(vector, result, fault, &reply, taken);
}

static void test_vectors(void **state)
{
	struct buf text;

	(void)state;
	buf_init(&text, SMTP_REPLY_TEXT_MAX);
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		run_vector(&vectors[i], 0, 1, &text);
		for (size_t cut = 0; cut <= vectors[i].input.n; cut++)
			run_vector(&vectors[i], cut, vectors[i].input.n + 1, &text);
	}
	buf_free(&text);
}

static int parse_lines(size_t lines, size_t line_length, struct buf *text, struct smtp_reply *reply,
	enum smtp_reply_fault *fault)
{
	struct buf input;
	size_t taken;

	buf_init(&input, ROOM);
	for (size_t i = 1; i <= lines; i++) {
		buf_write(&input, i == lines ? STR("250 ") : STR("250-"));
		for (size_t n = 6; n < line_length; n++)
			buf_write(&input, STR("x"));
		buf_write(&input, STR("\r\n"));
	}
	int result =
		smtp_reply_parse(guard_put(&guard, buf_view(&input)), text, reply, &taken, fault);
	buf_free(&input);
	return result;
}

static void test_bounds(void **state)
{
	enum smtp_reply_fault fault;
	struct smtp_reply reply;
	struct buf text;

	(void)state;
	buf_init(&text, SMTP_REPLY_TEXT_MAX);
	assert_int_equal(parse_lines(1, SMTP_REPLY_LINE_MAX, &text, &reply, &fault), 1);
	assert_int_equal(reply.text.n, SMTP_REPLY_LINE_MAX - 6);
	assert_int_equal(parse_lines(1, SMTP_REPLY_LINE_MAX + 1, &text, &reply, &fault), -1);
	assert_int_equal(fault, SMTP_REPLY_TOO_LONG);
	assert_int_equal(parse_lines(SMTP_REPLY_LINES_MAX, 10, &text, &reply, &fault), 1);
	assert_int_equal(reply.line_count, SMTP_REPLY_LINES_MAX);
	assert_false(reply.was_cut);
	assert_int_equal(parse_lines(SMTP_REPLY_LINES_MAX + 1, 10, &text, &reply, &fault), -1);
	assert_int_equal(fault, SMTP_REPLY_TOO_LONG);
	assert_int_equal(parse_lines(3, SMTP_REPLY_LINE_MAX, &text, &reply, &fault), 1);
	assert_int_equal(reply.text.n, SMTP_REPLY_TEXT_MAX);
	assert_true(reply.was_cut);
	buf_free(&text);

	buf_init(&text, 10);
	assert_int_equal(parse_lines(3, 10, &text, &reply, &fault), 1);
	assert_true(reply.was_cut);
	assert_true(str_eq(reply.text, STR("xxxx\nxxxx\n")));
	buf_free(&text);
}

/* A line without an end is given up as soon as it is too long. */
static void test_endless_line(void **state)
{
	static char bytes[SMTP_REPLY_LINE_MAX];
	enum smtp_reply_fault fault;
	struct smtp_reply reply;
	struct buf text;
	size_t taken;

	(void)state;
	memset(bytes, '2', sizeof(bytes));
	buf_init(&text, SMTP_REPLY_TEXT_MAX);
	struct str input = str_make(bytes, sizeof(bytes) - 1);
	assert_int_equal(smtp_reply_parse(input, &text, &reply, &taken, &fault), 0);
	input.n++;
	assert_int_equal(smtp_reply_parse(input, &text, &reply, &taken, &fault), -1);
	assert_int_equal(fault, SMTP_REPLY_TOO_LONG);
	buf_free(&text);
}

static void test_fault_texts(void **state)
{
	(void)state;
	for (int i = SMTP_REPLY_FINE; i <= SMTP_REPLY_BARE_LF; i++)
		assert_true(strlen(smtp_reply_fault_text((enum smtp_reply_fault)i)) > 0);
}

/* ---- EHLO ---- */

static struct smtp_capabilities capabilities_of(struct str input)
{
	struct smtp_capabilities capabilities;
	enum smtp_reply_fault fault;
	struct smtp_reply reply;
	struct buf text;
	size_t taken;

	buf_init(&text, SMTP_REPLY_TEXT_MAX);
	assert_int_equal(smtp_reply_parse(input, &text, &reply, &taken, &fault), 1);
	smtp_capabilities_parse(&reply, &capabilities);
	buf_free(&text);
	return capabilities;
}

static void test_capabilities(void **state)
{
	struct smtp_capabilities all;

	(void)state;
	all = capabilities_of(STR("250-mx.example\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n"
				  "250-8bitmime\r\n250-SMTPUTF8\r\n250-DSN\r\n"
				  "250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n250-STARTTLS\r\n"
				  "250-AUTH PLAIN LOGIN\r\n250-LIMITS RCPTMAX=5\r\n"
				  "250-XCLIENT NAME ADDR\r\n250 XFORWARD NAME\r\n"));
	assert_int_equal(all.extensions, (SMTP_EXT_XFORWARD << 1) - 1);
	assert_int_equal(all.size, 10240000);

	assert_int_equal(capabilities_of(STR("250 PIPELINING\r\n")).extensions, 0);
	assert_int_equal(capabilities_of(STR("250-x\r\n250 DSNX\r\n")).extensions, 0);
	assert_int_equal(capabilities_of(STR("250-x\r\n250 SIZE\r\n")).extensions, SMTP_EXT_SIZE);
	assert_int_equal(capabilities_of(STR("250-x\r\n250 SIZE\r\n")).size, 0);
	assert_int_equal(capabilities_of(STR("250-x\r\n250 SIZE 1 2\r\n")).size, 0);
	assert_int_equal(
		capabilities_of(STR("250-x\r\n250 SIZE 99999999999999999999\r\n")).size, 0);
}

/* "STARTTLS" at the end of a text that was cut could be the front of another word. */
static void test_capabilities_of_cut_text(void **state)
{
	struct smtp_capabilities capabilities;
	struct smtp_reply reply = { .text = STR_INIT("mx\nDSN\nSIZE"), .was_cut = true };

	(void)state;
	smtp_capabilities_parse(&reply, &capabilities);
	assert_int_equal(capabilities.extensions, SMTP_EXT_DSN);
	reply.text = STR("mx");
	smtp_capabilities_parse(&reply, &capabilities);
	assert_int_equal(capabilities.extensions, 0);
}

/* ---- Printing ---- */

static void test_print(void **state)
{
	static const struct {
		int code;
		struct str enhanced, text, printed;
	} cases[] = {
		{ 250, STR_INIT("2.0.0"), STR_INIT("Ok"), STR_INIT("250 2.0.0 Ok\r\n") },
		{ 220, STR_INIT(""), STR_INIT("mx ESMTP"), STR_INIT("220 mx ESMTP\r\n") },
		{ 250, STR_INIT(""), STR_INIT(""), STR_INIT("250 \r\n") },
		{ 250, STR_INIT("2.0.0"), STR_INIT(""), STR_INIT("250 2.0.0\r\n") },
		{ 250, STR_INIT("0.0.0"), STR_INIT("x"), STR_INIT("250 x\r\n") },
		{ 451, STR_INIT("5.7.1"), STR_INIT("x"), STR_INIT("451 x\r\n") },
		{ 354, STR_INIT("3.0.0"), STR_INIT("x"), STR_INIT("354 x\r\n") },
		{ 550, STR_INIT("5.7.1\r\n250 x"), STR_INIT("x"), STR_INIT("550 x\r\n") },
		{ 550, STR_INIT("5.7"), STR_INIT("x"), STR_INIT("550 x\r\n") },
		{ 550, STR_INIT("5.7.1"), STR_INIT("a\nb\n\nc"),
			STR_INIT("550-5.7.1 a\r\n550-5.7.1 b\r\n550-5.7.1\r\n550 5.7.1 c\r\n") },
		{ 550, STR_INIT("5.7.1"), STR_INIT("a\n"), STR_INIT("550 5.7.1 a\r\n") },
		{ 550, STR_INIT("5.7.1"), STR_INIT("a\r\n250 b"),
			STR_INIT("550-5.7.1 a?\r\n550 5.7.1 250 b\r\n") },
		{ 550, STR_INIT(""), STR_INIT("\0\x1b\x7f\xff"), STR_INIT("550 ????\r\n") },
	};
	struct buf out;

	(void)state;
	buf_init(&out, SMTP_REPLY_PRINT_MAX);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		smtp_reply_print(&out, cases[i].code, cases[i].enhanced, cases[i].text);
		if (!str_eq(buf_view(&out), cases[i].printed))
			fprintf(stderr, "\"%.*s\"\n", STR_ARG(buf_view(&out)));
		assert_true(str_eq(buf_view(&out), cases[i].printed));
		buf_consume(&out, buf_used(&out));
	}
	buf_free(&out);
}

/* What was read goes out again: with its own code, with X.0.0 where it had none, with none at 3xx. */
static void test_repeats(void **state)
{
	static const struct {
		struct str read, repeated;
	} cases[] = {
		{ STR_INIT("250 2.1.5 Ok\r\n"), STR_INIT("250 2.1.5 Ok\r\n") },
		{ STR_INIT("250 Ok\r\n"), STR_INIT("250 2.0.0 Ok\r\n") },
		{ STR_INIT("550 5.999.999 no\r\n"), STR_INIT("550 5.999.999 no\r\n") },
		{ STR_INIT("550 2.1.5 no\r\n"), STR_INIT("550 5.0.0 2.1.5 no\r\n") },
		{ STR_INIT("451\r\n"), STR_INIT("451 4.0.0\r\n") },
		{ STR_INIT("550-5.7.1 a\r\n550 5.7.1 b\xff\r\n"),
			STR_INIT("550-5.7.1 a\r\n550 5.7.1 b?\r\n") },
		{ STR_INIT("354 go on\r\n"), STR_INIT("354 go on\r\n") },
	};
	struct buf out, text;

	(void)state;
	buf_init(&out, SMTP_REPLY_PRINT_MAX);
	buf_init(&text, SMTP_REPLY_TEXT_MAX);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum smtp_reply_fault fault;
		struct smtp_reply reply;
		size_t taken;
		assert_int_equal(smtp_reply_parse(cases[i].read, &text, &reply, &taken, &fault), 1);
		smtp_reply_repeat(&out, &reply);
		assert_true(str_eq(buf_view(&out), cases[i].repeated));
		buf_consume(&out, buf_used(&out));
	}
	buf_free(&text);
	buf_free(&out);
}

static void check_lines(struct str printed)
{
	while (printed.n > 0) {
		struct str line = str_cut(&printed, '\n');
		assert_in_range(line.n + 1, 6, 512);
		assert_int_equal(line.p[line.n - 1], '\r');
		assert_true(str_starts_with(line, printed.n > 0 ? STR("550-") : STR("550 ")));
		assert_true(str_starts_with(str_from_pos(line, 4), STR("5.999.999")));
	}
}

/* Whatever the text: lines that keep the limit, and the same text again when it is read. */
static void test_print_of_long_texts(void **state)
{
	static char text[2 * SMTP_REPLY_TEXT_MAX];
	struct buf out, back;

	(void)state;
	buf_init(&back, SMTP_REPLY_TEXT_MAX);
	for (size_t every = 1; every < 2000; every = every * 5 / 4 + 1) {
		memset(text, 'y', sizeof(text));
		for (size_t i = every; i < sizeof(text); i += every + 1)
			text[i] = '\n';
		for (size_t n = 400; n < sizeof(text); n += 313) {
			enum smtp_reply_fault fault;
			struct smtp_reply reply;
			size_t taken;
			buf_init(&out, SMTP_REPLY_PRINT_MAX);
			smtp_reply_print(&out, 550, STR("5.999.999"), str_make(text, n));
			check_lines(buf_view(&out));
			assert_int_equal(
				smtp_reply_parse(buf_view(&out), &back, &reply, &taken, &fault), 1);
			assert_int_equal(taken, buf_used(&out));
			assert_true(reply.enhanced.present);
			buf_free(&out);
		}
	}
	buf_free(&back);
}

/* Extensions with a list of names; those that we do not know are left out. */
static void test_capabilities_with_names(void **state)
{
	static const struct {
		const char *line;
		unsigned extensions, auth, xclient, xforward;
	} rows[] = {
		{ "AUTH PLAIN LOGIN", SMTP_EXT_AUTH, SMTP_AUTH_PLAIN | SMTP_AUTH_LOGIN, 0, 0 },
		{ "auth scram-sha-256 GSSAPI", SMTP_EXT_AUTH, SMTP_AUTH_SCRAM_SHA_256, 0, 0 },
		{ "AUTH SCRAM-SHA-256-PLUS PLAINX CRAM-MD5", SMTP_EXT_AUTH,
			SMTP_AUTH_SCRAM_SHA_256_PLUS, 0, 0 },
		{ "AUTH XOAUTH2 OAuthBearer NTLM", SMTP_EXT_AUTH,
			SMTP_AUTH_XOAUTH2 | SMTP_AUTH_OAUTHBEARER, 0, 0 },
		{ "AUTH  PLAIN  LOGIN ", SMTP_EXT_AUTH, SMTP_AUTH_PLAIN | SMTP_AUTH_LOGIN, 0, 0 },
		{ "AUTH", SMTP_EXT_AUTH, 0, 0, 0 },
		{ "AUTH=", SMTP_EXT_AUTH, 0, 0, 0 },
		{ "AUTH=PLAIN LOGIN", SMTP_EXT_AUTH, SMTP_AUTH_PLAIN | SMTP_AUTH_LOGIN, 0, 0 },
		{ "Auth=login", SMTP_EXT_AUTH, SMTP_AUTH_LOGIN, 0, 0 },
		{ "AUTHX PLAIN", 0, 0, 0, 0 },
		{ "AUTH PLAIN\r\n250 AUTH=LOGIN", SMTP_EXT_AUTH, SMTP_AUTH_PLAIN | SMTP_AUTH_LOGIN,
			0, 0 },
		{ "XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT",
			SMTP_EXT_XCLIENT, 0,
			XCLIENT_NAME | XCLIENT_ADDR | XCLIENT_PROTO | XCLIENT_HELO |
				XCLIENT_REVERSE_NAME | XCLIENT_PORT | XCLIENT_LOGIN |
				XCLIENT_DESTADDR | XCLIENT_DESTPORT,
			0 },
		{ "XCLIENT ADDR TTL SESSION TIMEOUT", SMTP_EXT_XCLIENT, 0,
			XCLIENT_ADDR | XCLIENT_SESSION, 0 },
		{ "xclient addr", SMTP_EXT_XCLIENT, 0, XCLIENT_ADDR, 0 },
		/* What is the other's is unknown. */
		{ "XCLIENT IDENT SOURCE PORT", SMTP_EXT_XCLIENT, 0, XCLIENT_PORT, 0 },
		{ "XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT", SMTP_EXT_XFORWARD, 0, 0,
			XCLIENT_NAME | XCLIENT_ADDR | XCLIENT_PROTO | XCLIENT_HELO |
				XCLIENT_SOURCE | XCLIENT_PORT | XCLIENT_IDENT },
		{ "XFORWARD LOGIN DESTADDR DESTPORT REVERSE_NAME SESSION ADDR", SMTP_EXT_XFORWARD,
			0, 0, XCLIENT_ADDR },
		/* Nothing could be said. */
		{ "XCLIENT", 0, 0, 0, 0 },
		{ "XFORWARD", 0, 0, 0, 0 },
		{ "XCLIENT WHAT", 0, 0, 0, 0 },
		{ "XFORWARD LOGIN", 0, 0, 0, 0 },
		{ "XCLIENT=ADDR", 0, 0, 0, 0 },
		{ "XCLIENT ADDR\r\n250 XCLIENT", SMTP_EXT_XCLIENT, 0, XCLIENT_ADDR, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buf text;
		buf_init(&text, 1024);
		/* A second line is the last, so the first must go on. */
		bool has_two = strchr(rows[i].line, '\n') != NULL;
		buf_printf(&text, "250-x\r\n250%c%s\r\n", has_two ? '-' : ' ', rows[i].line);
		struct smtp_capabilities have = capabilities_of(buf_view(&text));
		buf_free(&text);
		if (have.extensions != rows[i].extensions || have.auth != rows[i].auth ||
			have.xclient != rows[i].xclient || have.xforward != rows[i].xforward)
			fail_msg("%s: %x %x %x %x", rows[i].line, have.extensions, have.auth,
				have.xclient, have.xforward);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_capabilities_with_names),
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_endless_line),
		cmocka_unit_test(test_fault_texts),
		cmocka_unit_test(test_capabilities),
		cmocka_unit_test(test_capabilities_of_cut_text),
		cmocka_unit_test(test_print),
		cmocka_unit_test(test_repeats),
		cmocka_unit_test(test_print_of_long_texts),
	};

	guard = guard_make(ROOM);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	guard_free(&guard);
	return failed;
}
