#include "proto/xclient.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "support/guard.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define XCLIENT_ALL \
	(XCLIENT_NAME | XCLIENT_REVERSE_NAME | XCLIENT_ADDR | XCLIENT_PORT | XCLIENT_DESTADDR | \
		XCLIENT_DESTPORT | XCLIENT_PROTO | XCLIENT_HELO | XCLIENT_LOGIN | XCLIENT_SESSION)
#define XFORWARD_ALL \
	(XCLIENT_NAME | XCLIENT_ADDR | XCLIENT_PORT | XCLIENT_PROTO | XCLIENT_HELO | \
		XCLIENT_IDENT | XCLIENT_SOURCE)

#define V4_BYTES(a, b, c, d) \
	{ \
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d \
	}

static const struct endpoint v4 = { .ip.bytes = V4_BYTES(192, 0, 2, 1), .port = 4711 };
static const struct endpoint v6 = { .ip.bytes = { 0x20, 1, 0xd, 0xb8, [15] = 1 }, .port = 25 };
/* The longest text that an address has. */
static const struct endpoint longest_v6 = {
	.ip.bytes = { 0x20, 1, 0xd, 0xb8, 0x11, 0x11, 0x22, 0x22, 0x33, 0x33, 0x44, 0x44, 0x55,
		0x55, 0x66, 0x66 },
	.port = 65535,
};
static const struct endpoint no_port = { .ip.bytes = V4_BYTES(192, 0, 2, 1) };

static struct guard guard;

static int set_up(void **state)
{
	(void)state;
	guard = guard_make(8192);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	guard_free(&guard);
	return 0;
}

/* ---- Names ---------------------------------------------------------------------------------- */

static void test_names(void **state)
{
	static const struct {
		struct str text;
		unsigned xclient, xforward;
	} rows[] = {
		{ STR_INIT(""), 0, 0 },
		{ STR_INIT("NAME"), XCLIENT_NAME, XCLIENT_NAME },
		{ STR_INIT("name Addr pOrT"), XCLIENT_NAME | XCLIENT_ADDR | XCLIENT_PORT,
			XCLIENT_NAME | XCLIENT_ADDR | XCLIENT_PORT },
		{ STR_INIT("  ADDR   ADDR "), XCLIENT_ADDR, XCLIENT_ADDR },
		{ STR_INIT("NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT "
			   "SESSION"),
			XCLIENT_ALL,
			XCLIENT_NAME | XCLIENT_ADDR | XCLIENT_PROTO | XCLIENT_HELO | XCLIENT_PORT },
		{ STR_INIT("NAME ADDR PROTO HELO SOURCE PORT IDENT"),
			XCLIENT_NAME | XCLIENT_ADDR | XCLIENT_PROTO | XCLIENT_HELO | XCLIENT_PORT,
			XFORWARD_ALL },
		{ STR_INIT("NAM NAMES ADDR= TTL"), 0, 0 },
		{ STR_INIT("ADDR\0 PORT\tX NAME\n"), 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct str text = guard_put(&guard, rows[i].text);
		assert_int_equal(xclient_attributes_parse(text), rows[i].xclient);
		assert_int_equal(xforward_attributes_parse(text), rows[i].xforward);
		/* Cut anywhere, it is nothing of the other's. */
		for (size_t n = 0; n < rows[i].text.n; n++) {
			text = guard_put(&guard, str_range(rows[i].text, 0, n));
			assert_false(xclient_attributes_parse(text) & ~(unsigned)XCLIENT_ALL);
			assert_false(xforward_attributes_parse(text) & ~(unsigned)XFORWARD_ALL);
		}
	}
}

/* ---- Lines ---------------------------------------------------------------------------------- */

static void assert_line(struct buf *have, const char *wanted)
{
	char *text = str_dup(buf_view(have));

	assert_string_equal(text, wanted);
	assert_true(strlen(text) <= XCLIENT_LINE_MAX);
	free(text);
	buf_truncate(have, 0);
}

static const struct line_row {
	struct xclient_identity identity;
	unsigned announced;
	const char *xclient;  /* NULL: there is nothing to say */
	const char *xforward; /* NULL: not asked */
} line_rows[] = {
	{ { .name = STR_INIT("mx.example.org") }, XCLIENT_NAME, "XCLIENT NAME=mx.example.org\r\n",
		"XFORWARD NAME=mx.example.org\r\n" },
	{ { .name = STR_INIT("") }, XCLIENT_NAME, "XCLIENT NAME=[UNAVAILABLE]\r\n",
		"XFORWARD NAME=[UNAVAILABLE]\r\n" },
	{ { .name_failed = true }, XCLIENT_NAME, "XCLIENT NAME=[TEMPUNAVAIL]\r\n",
		"XFORWARD NAME=[UNAVAILABLE]\r\n" },
	{ { .reverse_name_failed = true }, XCLIENT_NAME | XCLIENT_REVERSE_NAME,
		"XCLIENT NAME=[UNAVAILABLE] REVERSE_NAME=[TEMPUNAVAIL]\r\n", NULL },
	/* No names, though a PTR record may say so. */
	{ { .name = STR_INIT("a b.example"), .reverse_name = STR_INIT("192.0.2.1") },
		XCLIENT_NAME | XCLIENT_REVERSE_NAME,
		"XCLIENT NAME=[UNAVAILABLE] REVERSE_NAME=[UNAVAILABLE]\r\n", NULL },
	{ { .name = STR_INIT("-a.example"), .reverse_name = STR_INIT("a+b.example") },
		XCLIENT_NAME | XCLIENT_REVERSE_NAME,
		"XCLIENT NAME=[UNAVAILABLE] REVERSE_NAME=[UNAVAILABLE]\r\n", NULL },
	{ { .name = STR_INIT("_a-1.2.example"), .reverse_name = STR_INIT("1.2.3.4e") },
		XCLIENT_NAME | XCLIENT_REVERSE_NAME,
		"XCLIENT NAME=_a-1.2.example REVERSE_NAME=1.2.3.4e\r\n", NULL },
	{ { .name = STR_INIT("\xc3\xa4.example"), .reverse_name = STR_INIT("a.example.") },
		XCLIENT_NAME | XCLIENT_REVERSE_NAME,
		"XCLIENT NAME=[UNAVAILABLE] REVERSE_NAME=[UNAVAILABLE]\r\n", NULL },
	{ { .reverse_name = STR_INIT("ptr.example"), .reverse_name_failed = true },
		XCLIENT_REVERSE_NAME, "XCLIENT REVERSE_NAME=ptr.example\r\n", NULL },
	{ { .address = &v4 }, XCLIENT_ADDR | XCLIENT_PORT, "XCLIENT ADDR=192.0.2.1 PORT=4711\r\n",
		"XFORWARD ADDR=192.0.2.1 PORT=4711\r\n" },
	{ { .address = &v6 }, XCLIENT_ADDR | XCLIENT_PORT,
		"XCLIENT ADDR=IPV6:2001:db8::1 PORT=25\r\n",
		"XFORWARD ADDR=IPV6:2001:db8::1 PORT=25\r\n" },
	{ { .address = &no_port }, XCLIENT_ADDR | XCLIENT_PORT,
		"XCLIENT ADDR=192.0.2.1 PORT=[UNAVAILABLE]\r\n",
		"XFORWARD ADDR=192.0.2.1 PORT=[UNAVAILABLE]\r\n" },
	{ { .destination = &v4 }, XCLIENT_ADDR | XCLIENT_PORT | XCLIENT_DESTADDR | XCLIENT_DESTPORT,
		"XCLIENT ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE] DESTADDR=192.0.2.1 "
		"DESTPORT=4711\r\n",
		NULL },
	{ { .destination = &longest_v6 }, XCLIENT_DESTADDR | XCLIENT_DESTPORT,
		"XCLIENT DESTADDR=IPV6:2001:db8:1111:2222:3333:4444:5555:6666 DESTPORT=65535\r\n",
		NULL },
	{ { .protocol = XCLIENT_SMTP }, XCLIENT_PROTO, "XCLIENT PROTO=SMTP\r\n",
		"XFORWARD PROTO=SMTP\r\n" },
	{ { .protocol = XCLIENT_ESMTP }, XCLIENT_PROTO, "XCLIENT PROTO=ESMTP\r\n",
		"XFORWARD PROTO=ESMTP\r\n" },
	{ { .name = STR_INIT("x") }, XCLIENT_PROTO, NULL, "XFORWARD PROTO=[UNAVAILABLE]\r\n" },
	/* xtext; brackets stay as they are. */
	{ { .hello = STR_INIT("[IPv6:2001:db8::1]") }, XCLIENT_HELO,
		"XCLIENT HELO=[IPv6:2001:db8::1]\r\n", "XFORWARD HELO=[IPv6:2001:db8::1]\r\n" },
	{ { .hello = STR_INIT("a+b=c d") }, XCLIENT_HELO, "XCLIENT HELO=a+2Bb+3Dc+20d\r\n",
		"XFORWARD HELO=a+2Bb+3Dc+20d\r\n" },
	{ { .login = STR_INIT("bob+tag@x.y") }, XCLIENT_LOGIN, "XCLIENT LOGIN=bob+2Btag@x.y\r\n",
		NULL },
	{ { .login = STR_INIT("b\xc3\xb6") }, XCLIENT_LOGIN, "XCLIENT LOGIN=b+C3+B6\r\n", NULL },
	{ { .login = STR_INIT("") }, XCLIENT_LOGIN, "XCLIENT LOGIN=[UNAVAILABLE]\r\n", NULL },
	/* Nothing of a line end, or of a NUL, gets through in any form. */
	{ { .hello = STR_INIT("a\r\nRCPT"), .login = STR_INIT("a\0b"), .name = STR_INIT("\x7f") },
		XCLIENT_HELO | XCLIENT_LOGIN | XCLIENT_NAME,
		"XCLIENT NAME=[UNAVAILABLE] HELO=[UNAVAILABLE] LOGIN=[UNAVAILABLE]\r\n", NULL },
	{ { .session = STR_INIT("0a1b"), .ident = STR_INIT("x") }, XCLIENT_SESSION,
		"XCLIENT SESSION=0a1b\r\n", NULL },
	{ { .ident = STR_INIT("x") }, XCLIENT_SESSION, NULL, NULL },
	{ { .ident = STR_INIT("0a1b.1"), .source = XCLIENT_LOCAL }, XCLIENT_IDENT | XCLIENT_SOURCE,
		NULL, "XFORWARD IDENT=0a1b.1 SOURCE=LOCAL\r\n" },
	{ { .source = XCLIENT_REMOTE }, XCLIENT_IDENT | XCLIENT_SOURCE, NULL,
		"XFORWARD IDENT=[UNAVAILABLE] SOURCE=REMOTE\r\n" },
	{ { .name = STR_INIT("x") }, XCLIENT_SOURCE, NULL, "XFORWARD SOURCE=[UNAVAILABLE]\r\n" },
};

static void check_xclient(const struct line_row *row, const struct xclient_identity *identity)
{
	struct buf out;
	unsigned due = xclient_attributes(identity, row->announced);

	assert_int_equal(due != 0, row->xclient != NULL);
	if (due == 0)
		return;
	buf_init(&out, XCLIENT_LINE_MAX);
	assert_int_equal(xclient_print(identity, due, &out), 0);
	assert_line(&out, row->xclient);
	buf_free(&out);
}

static void test_lines(void **state)
{
	struct buf out;

	(void)state;
	buf_init(&out, XCLIENT_LINE_MAX);
	for (size_t i = 0; i < COUNT(line_rows); i++) {
		struct xclient_identity identity = line_rows[i].identity;
		/* One text at the guard page. */
		struct str *texts[] = { &identity.login, &identity.hello, &identity.name,
			&identity.reverse_name, &identity.session, &identity.ident };
		for (size_t j = 0; j < COUNT(texts); j++)
			if (texts[j]->n > 0) {
				*texts[j] = guard_put(&guard, *texts[j]);
				break;
			}
		check_xclient(&line_rows[i], &identity);
		if (line_rows[i].xforward == NULL)
			continue;
		assert_int_equal(xforward_print(&identity, line_rows[i].announced, &out), 0);
		assert_line(&out, line_rows[i].xforward);
	}
	buf_free(&out);
}

/* A value has 255 bytes as it is sent. */
static void test_long_values(void **state)
{
	static const struct {
		char c;
		size_t n;
		bool is_said;
	} rows[] = {
		{ 'a', 255, true },
		{ 'a', 256, false },
		{ '+', 85, true },
		{ '+', 86, false },
		{ '\xc3', 85, true },
		{ 'a', 4096, false },
	};
	char text[4096];
	struct buf out;

	(void)state;
	buf_init(&out, XCLIENT_LINE_MAX);
	for (size_t i = 0; i < COUNT(rows); i++) {
		memset(text, rows[i].c, rows[i].n);
		struct xclient_identity identity = {
			.hello = guard_put(&guard, str_make(text, rows[i].n)),
		};
		assert_int_equal(xforward_print(&identity, XCLIENT_HELO, &out), 0);
		assert_int_equal(buf_used(&out),
			strlen("XFORWARD HELO=\r\n") + (rows[i].is_said ? 255 : 13));
		buf_truncate(&out, 0);
		assert_int_equal(xclient_print(&identity, XCLIENT_HELO, &out), 0);
		assert_int_equal(
			buf_used(&out), strlen("XCLIENT HELO=\r\n") + (rows[i].is_said ? 255 : 13));
		buf_truncate(&out, 0);
	}
	buf_free(&out);
}

/* ---- More than one command ------------------------------------------------------------------ */

static char filler[256], host[256];

static struct xclient_identity of_sizes(size_t name, size_t hello, size_t login)
{
	memset(filler, 'x', sizeof(filler));
	memset(host, 'x', sizeof(host));
	for (size_t i = 50; i < sizeof(host) - 10; i += 50)
		host[i] = '.';
	return (struct xclient_identity){
		.name = { host, name },
		.reverse_name = { host, name },
		.address = &longest_v6,
		.destination = &longest_v6,
		.protocol = XCLIENT_ESMTP,
		.hello = { filler, hello },
		.login = { filler, login },
		.session = { filler, name },
		.ident = { filler, name },
		.source = XCLIENT_REMOTE,
	};
}

/* The set of attributes of a printed line. */
static unsigned said(struct buf *line, bool is_xclient)
{
	struct str rest = buf_view(line);
	unsigned set = 0;

	assert_true(rest.n <= XCLIENT_LINE_MAX && str_ends_with_nocase(rest, STR("\r\n")));
	rest.n -= 2;
	assert_true(str_eq(str_cut(&rest, ' '), is_xclient ? STR("XCLIENT") : STR("XFORWARD")));
	while (rest.n > 0) {
		struct str value = str_cut(&rest, ' ');
		struct str name = str_cut(&value, '=');
		unsigned bit = is_xclient ? xclient_attributes_parse(name)
					  : xforward_attributes_parse(name);
		assert_true(bit != 0 && !(set & bit) && value.n > 0 && value.n <= 255);
		set |= bit;
	}
	buf_truncate(line, 0);
	return set;
}

/* Just as long as may be, and one byte more: then HELO is the first to be left out. */
static void test_the_limit_of_a_line(void **state)
{
	unsigned announced = XCLIENT_ADDR | XCLIENT_HELO | XCLIENT_LOGIN;
	size_t fixed =
		strlen("XCLIENT ADDR=IPV6:2001:db8:1111:2222:3333:4444:5555:6666 HELO= LOGIN=\r\n");
	size_t login = XCLIENT_LINE_MAX - fixed - 200;
	struct xclient_identity identity = of_sizes(1, 200, login);
	struct buf out;

	(void)state;
	buf_init(&out, 2 * XCLIENT_LINE_MAX);
	assert_int_equal(xclient_print(&identity, announced, &out), 0);
	assert_int_equal(buf_used(&out), XCLIENT_LINE_MAX);
	assert_int_equal(said(&out, true), announced);
	identity = of_sizes(1, 200, login + 1);
	assert_int_equal(xclient_print(&identity, announced, &out), 0);
	assert_int_equal(said(&out, true), XCLIENT_ADDR | XCLIENT_LOGIN);
	buf_free(&out);
}

/* ADDR, LOGIN and PROTO come in the last command, once; nothing is lost but HELO. */
static void test_many_commands(void **state)
{
	static const size_t sizes[] = { 1, 60, 120, 200, 255 };
	struct buf out;

	(void)state;
	buf_init(&out, XCLIENT_LINE_MAX);
	for (size_t i = 0; i < COUNT(sizes) * COUNT(sizes) * COUNT(sizes); i++) {
		struct xclient_identity identity =
			of_sizes(sizes[i % 5], sizes[i / 5 % 5], sizes[i / 25]);
		unsigned due = XCLIENT_ALL, all = 0, commands = 0;
		while (due != 0) {
			unsigned rest = xclient_print(&identity, due, &out);
			unsigned set = said(&out, true);
			assert_false(all & set);
			assert_int_equal((set & XCLIENT_ADDR) != 0, rest == 0);
			assert_int_equal((set & XCLIENT_LOGIN) != 0, rest == 0);
			assert_int_equal((set & XCLIENT_PROTO) != 0, rest == 0);
			all |= set;
			due = rest;
			commands++;
		}
		assert_int_equal(all | XCLIENT_HELO, XCLIENT_ALL);
		assert_in_range(commands, 1, 4);
		for (due = XFORWARD_ALL, all = 0; due != 0;) {
			due = xforward_print(&identity, due, &out);
			unsigned set = said(&out, false);
			assert_false(all & (set | due));
			all |= set;
		}
		assert_int_equal(all, XFORWARD_ALL);
	}
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_long_values),
		cmocka_unit_test(test_the_limit_of_a_line),
		cmocka_unit_test(test_many_commands),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
