#include "proto/smtp_path.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "proto/smtp_command.h"
#include "proto/smtp_params.h"
#include "support/guard.h"
#include "support/smtp_vectors.h"

#define TEN "aaaaaaaaaa"
#define LOCAL64 TEN TEN TEN TEN TEN TEN "aaaa"
#define LABEL63 TEN TEN TEN TEN TEN TEN "aaa"
#define ROOM 4096

static struct guard guard;

enum direction { REVERSE, FORWARD };

struct vector {
	enum direction direction;
	bool utf8;
	struct str text;
	enum smtp_path_fault fault;
	struct str user, host, address;
	struct str rest;
};

#define GOOD(direction, text, user, host) \
	{ \
		direction, false, STR_INIT(text), SMTP_PATH_FINE, STR_INIT(user), STR_INIT(host), \
			STR_INIT(user "@" host) \
	}
#define GOOD_UTF8(text, user, host) \
	{ \
		FORWARD, true, STR_INIT(text), SMTP_PATH_FINE, STR_INIT(user), STR_INIT(host), \
			STR_INIT(user "@" host) \
	}
#define BAD(fault, text) \
	{ \
		FORWARD, false, STR_INIT(text), SMTP_PATH_##fault \
	}
#define BAD_UTF8(fault, text) \
	{ \
		FORWARD, true, STR_INIT(text), SMTP_PATH_##fault \
	}

static const struct vector vectors[] = {
	/* Mailboxes. */
	GOOD(FORWARD, "<user@example.com>", "user", "example.com"),
	GOOD(REVERSE, "<user@example.com>", "user", "example.com"),
	GOOD(FORWARD, "<User@EXAMPLE.Com>", "User", "example.com"),
	GOOD(FORWARD, "<a.b+c@x>", "a.b+c", "x"),
	GOOD(FORWARD, "<!#$%&'*+-/=?^_`{|}~@x>", "!#$%&'*+-/=?^_`{|}~", "x"),
	GOOD(FORWARD, "<\"a b\"@x>", "\"a b\"", "x"),
	GOOD(FORWARD, "<\"a\\\"b\\\\\"@x>", "\"a\\\"b\\\\\"", "x"),
	GOOD(FORWARD, "<\"a@b>,:;<\"@x>", "\"a@b>,:;<\"", "x"),
	GOOD(FORWARD, "<\"\\ \"@x>", "\"\\ \"", "x"),
	GOOD(FORWARD, "<a@my_host.example>", "a", "my_host.example"),
	GOOD(FORWARD, "<a@1.2.3.x>", "a", "1.2.3.x"),
	GOOD(FORWARD, "<a@x-y>", "a", "x-y"),
	GOOD(FORWARD, "<a@xn--bcher-kva.example>", "a", "xn--bcher-kva.example"),
	GOOD(FORWARD, "<" LOCAL64 "@x>", LOCAL64, "x"),
	GOOD(FORWARD, "<a@" LABEL63 "." LABEL63 "." LABEL63 ".b>", "a",
		LABEL63 "." LABEL63 "." LABEL63 ".b"),
	GOOD(FORWARD, "<=?utf-8?q?user=40evil.test=40?=@example.com>",
		"=?utf-8?q?user=40evil.test=40?=", "example.com"),
	GOOD(FORWARD, "<postmaster@x>", "postmaster", "x"),

	/* Special paths. */
	{ REVERSE, false, STR_INIT("<>"), SMTP_PATH_FINE },
	{ REVERSE, false, STR_INIT("<> SIZE=1"), SMTP_PATH_FINE, STR_INIT(""), STR_INIT(""),
		STR_INIT(""), STR_INIT(" SIZE=1") },
	{ FORWARD, false, STR_INIT("<Postmaster>"), SMTP_PATH_FINE, STR_INIT("Postmaster"),
		STR_INIT(""), STR_INIT("Postmaster") },
	{ FORWARD, false, STR_INIT("<pOSTMASTER> X"), SMTP_PATH_FINE, STR_INIT("pOSTMASTER"),
		STR_INIT(""), STR_INIT("pOSTMASTER"), STR_INIT(" X") },
	BAD(SYNTAX, "<>"),
	BAD(SYNTAX, "<Postmaster>x"),
	BAD(SYNTAX, "<Postmasters>"),
	{ REVERSE, false, STR_INIT("<Postmaster>"), SMTP_PATH_SYNTAX },
	{ REVERSE, false, STR_INIT("<>x"), SMTP_PATH_SYNTAX },

	/* What stands behind the path. */
	{ FORWARD, false, STR_INIT("<a@b> NOTIFY=NEVER"), SMTP_PATH_FINE, STR_INIT("a"),
		STR_INIT("b"), STR_INIT("a@b"), STR_INIT(" NOTIFY=NEVER") },
	{ FORWARD, false, STR_INIT("<a@b> "), SMTP_PATH_FINE, STR_INIT("a"), STR_INIT("b"),
		STR_INIT("a@b"), STR_INIT(" ") },
	BAD(SYNTAX, "<a@b>X"),
	BAD(SYNTAX, "<a@b><c@d>"),
	BAD(SYNTAX, "<a@b>\tX"),

	/* Source routes. */
	GOOD(FORWARD, "<@a.b:user@c>", "user", "c"),
	GOOD(REVERSE, "<@a,@b.c,@d:user@e>", "user", "e"),
	BAD(SYNTAX, "<@a.b>"),
	BAD(SYNTAX, "<@a.b,:user@c>"),
	BAD(SYNTAX, "<@a.b,c:user@c>"),
	BAD(SYNTAX, "<@:user@c>"),
	BAD(SYNTAX, "<@a..b:user@c>"),
	BAD(SYNTAX, "<@a:@b:user@c>"),
	BAD(SYNTAX, "<@a@b:user@c>"),
	BAD(SYNTAX, "<@a:>"),

	/* Not a path. */
	BAD(SYNTAX, ""),
	BAD(SYNTAX, "<"),
	BAD(SYNTAX, "user@example.com"),
	BAD(SYNTAX, " <user@example.com>"),
	BAD(SYNTAX, "<user@example.com"),
	BAD(SYNTAX, "<<user@example.com>>"),
	BAD(SYNTAX, "<user>"),
	BAD(SYNTAX, "<@x>"),
	BAD(SYNTAX, "<.a@x>"),
	BAD(SYNTAX, "<a.@x>"),
	BAD(SYNTAX, "<a..b@x>"),
	BAD(SYNTAX, "<a b@x>"),
	BAD(SYNTAX, "<a@b@c>"),
	BAD(SYNTAX, "<a(b)@c>"),
	BAD(SYNTAX, "<a@b(c)>"),
	BAD(SYNTAX, "<a,b@c>"),
	BAD(SYNTAX, "<a:b@c>"),
	BAD(SYNTAX, "<a@b:c>"),
	BAD(SYNTAX, "<a@b,c@d>"),
	BAD(SYNTAX, "<a@b >"),
	BAD(SYNTAX, "<a@*>"),
	BAD(SYNTAX, "<a@#1>"),
	BAD(SYNTAX, "<\"a\">"),
	BAD(SYNTAX, "<\"a@x>"),
	BAD(SYNTAX, "<\"a\\"),
	BAD(SYNTAX, "<\"a\\\"@x>"),
	BAD(SYNTAX, "<\"a\"b@x>"),
	BAD(SYNTAX, "<a\"b\"@x>"),
	BAD(SYNTAX, "<\"a\".b@x>"),
	BAD(SYNTAX, "<\"\"@x>"),
	BAD(SYNTAX, "<\"a\tb\"@x>"),
	BAD(SYNTAX, "<\"a\\\tb\"@x>"),
	BAD(SYNTAX, "<\"a\0b\"@x>"),
	BAD(SYNTAX, "<a\0b@x>"),
	BAD(SYNTAX, "<a@x\0>"),
	BAD(SYNTAX, "<a\x7f@x>"),
	BAD(SYNTAX, "<a@x\r>"),

	/* Domains. */
	BAD(BAD_DOMAIN, "<a@>"),
	BAD(BAD_DOMAIN, "<a@.>"),
	BAD(BAD_DOMAIN, "<a@example.com.>"),
	BAD(BAD_DOMAIN, "<a@.example.com>"),
	BAD(BAD_DOMAIN, "<a@example..com>"),
	BAD(BAD_DOMAIN, "<a@-example.com>"),
	BAD(BAD_DOMAIN, "<a@example-.com>"),
	BAD(BAD_DOMAIN, "<a@3221225985>"),
	BAD(BAD_DOMAIN, "<a@192.0.2.1>"),

	/* Literals. */
	GOOD(FORWARD, "<a@[192.0.2.1]>", "a", "[192.0.2.1]"),
	GOOD(FORWARD, "<a@[IPv6:2001:DB8::1]>", "a", "[IPv6:2001:db8::1]"),
	GOOD(FORWARD, "<a@[ipv6:::1]>", "a", "[IPv6:::1]"),
	GOOD(FORWARD, "<a@[IPv6:::ffff:192.0.2.1]>", "a", "[IPv6:::ffff:192.0.2.1]"),
	BAD(SYNTAX, "<a@[192.0.2.1>"),
	BAD(SYNTAX, "<a@[192.0.2.1]x>"),
	BAD(BAD_DOMAIN, "<a@[]>"),
	BAD(BAD_DOMAIN, "<a@[192.0.2]>"),
	BAD(BAD_DOMAIN, "<a@[192.0.2.1.1]>"),
	BAD(BAD_DOMAIN, "<a@[192.0.2.256]>"),
	BAD(BAD_DOMAIN, "<a@[192.0.2.01]>"),
	BAD(BAD_DOMAIN, "<a@[ 192.0.2.1]>"),
	BAD(BAD_DOMAIN, "<a@[2001:db8::1]>"),
	BAD(BAD_DOMAIN, "<a@[IPv6:192.0.2.1]>"),
	BAD(BAD_DOMAIN, "<a@[IPv6:fe80::1%lo]>"),
	BAD(BAD_DOMAIN, "<a@[example.com]>"),
	BAD(BAD_DOMAIN, "<a@[x400:abc]>"),
	BAD(BAD_DOMAIN, "<a@[192.0.2.1\0]>"),

	/* Lengths. */
	BAD(TOO_LONG, "<" LOCAL64 "a@x>"),
	BAD(TOO_LONG, "<\"" LOCAL64 "\"@x>"),
	BAD(TOO_LONG, "<a@" LABEL63 "a.example>"),
	BAD(TOO_LONG, "<" LOCAL64 "@" LABEL63 "." LABEL63 "." LABEL63 ">"),
	BAD(TOO_LONG, "<@" LABEL63 ",@" LABEL63 ",@" LABEL63 ":" LOCAL64 "@x>"),

	/* UTF-8. */
	GOOD_UTF8("<b\xc3\xbc"
		  "cher@b\xc3\xbc"
		  "cher.example>",
		"b\xc3\xbc"
		"cher",
		"xn--bcher-kva.example"),
	GOOD_UTF8("<a@B\xc3\xbc"
		  "cher.EXAMPLE>",
		"a", "xn--bcher-kva.example"),
	GOOD_UTF8("<\"\xe4\xbd\xa0 \"@x>", "\"\xe4\xbd\xa0 \"", "x"),
	GOOD_UTF8("<a@example.com>", "a", "example.com"),
	BAD(UTF8, "<b\xc3\xbc"
		  "cher@x>"),
	BAD(UTF8, "<a@b\xc3\xbc"
		  "cher.example>"),
	BAD_UTF8(UTF8, "<\xc3@x>"),
	BAD_UTF8(UTF8, "<\xc0\xae@x>"),
	BAD_UTF8(UTF8, "<\xed\xa0\x80@x>"),
	BAD_UTF8(UTF8, "<a\xc2\x85"
		       "b@x>"),
	BAD_UTF8(UTF8, "<a\xe2\x80\xa8"
		       "b@x>"),
	BAD_UTF8(SYNTAX, "<\"\\\xc3\xbc\"@x>"),
	BAD_UTF8(BAD_DOMAIN, "<a@exam\xc2\xad"
			     "ple.com>"),
	BAD_UTF8(BAD_DOMAIN, "<a@example\xe2\x80\x8d.com>"),
	BAD_UTF8(BAD_DOMAIN, "<a@EXAMPLE.COM\xc4\xb0>"),
	BAD_UTF8(BAD_DOMAIN, "<a@example.\xe2\x84\xabom>"),
	BAD_UTF8(BAD_DOMAIN, "<a@example\xe3\x80\x82"
			     "com>"),
	BAD_UTF8(BAD_DOMAIN, "<a@\xef\xbd\x85xample.com>"),
	BAD_UTF8(BAD_DOMAIN, "<a@b\xc3\xbc"
			     "cher..example>"),
	BAD_UTF8(BAD_DOMAIN, "<a@\xc3\x9c.example>"),
};

static enum smtp_path_fault parse(enum direction direction, struct str text, bool utf8,
	struct arena *arena, struct smtp_path *path, struct str *rest)
{
	return direction == REVERSE ? smtp_path_parse_reverse(text, utf8, arena, path, rest)
				    : smtp_path_parse_forward(text, utf8, arena, path, rest);
}

static void assert_str(struct str got, struct str want)
{
	if (!str_eq(got, want))
		fprintf(stderr, "got \"%.*s\", want \"%.*s\"\n", STR_ARG(got), STR_ARG(want));
	assert_true(str_eq(got, want));
}

/* The address printed as a path is read as the same address. */
static void check_round_trip(const struct smtp_path *path, enum direction direction, bool utf8)
{
	struct smtp_path again;
	struct arena arena;
	struct buf text;
	struct str rest;

	arena_init(&arena, ROOM);
	buf_init(&text, SMTP_PATH_MAX);
	assert_true(buf_printf(&text, "<%.*s>", STR_ARG(path->address)));
	assert_int_equal(
		parse(direction, buf_view(&text), utf8, &arena, &again, &rest), SMTP_PATH_FINE);
	assert_str(again.address, path->address);
	assert_str(again.user, path->user);
	assert_str(again.host, path->host);
	assert_int_equal(again.domain_kind, path->domain_kind);
	assert_false(again.has_source_route);
	buf_free(&text);
	arena_reset(&arena);
}

static void check(const struct vector *vector)
{
	struct smtp_path path;
	struct arena arena;
	struct str rest;

	arena_init(&arena, ROOM);
	struct str text = guard_put(&guard, vector->text);
	enum smtp_path_fault fault =
		parse(vector->direction, text, vector->utf8, &arena, &path, &rest);
	if (fault != vector->fault)
		fprintf(stderr, "\"%.*s\"\n", STR_ARG(vector->text));
	assert_int_equal(fault, vector->fault);
	if (fault == SMTP_PATH_FINE) {
		assert_str(rest, vector->rest);
		assert_str(path.original, str_range(vector->text, 0, vector->text.n - rest.n));
		assert_str(path.user, vector->user);
		assert_str(path.host, vector->host);
		assert_str(path.address, vector->address);
		check_round_trip(&path, vector->direction, vector->utf8);
	}
	arena_reset(&arena);
}

static void test_vectors(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
		check(&vectors[i]);
}

/* No front of a path is a path; and none is read beyond its end. */
static void test_cut_vectors(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		size_t end = vectors[i].text.n - vectors[i].rest.n;
		for (size_t n = 0; n < end; n++) {
			struct smtp_path path;
			struct arena arena;
			struct str rest;
			arena_init(&arena, ROOM);
			struct str text = guard_put(&guard, str_range(vectors[i].text, 0, n));
			enum smtp_path_fault fault = parse(
				vectors[i].direction, text, vectors[i].utf8, &arena, &path, &rest);
			if (vectors[i].fault == SMTP_PATH_FINE)
				assert_int_equal(fault, SMTP_PATH_SYNTAX);
			arena_reset(&arena);
		}
	}
}

/* What each byte is worth in each place, against the grammar written once more. */
static void test_every_byte(void **state)
{
	static const char atext[] = "!#$%&'*+-/=?^_`{|}~";

	(void)state;
	for (int c = 0; c < 256; c++) {
		char local[] = "<a?b@x>", quoted[] = "<\"a?b\"@x>", domain[] = "<a@x?y>";
		bool is_alnum = c < 128 && ascii_is_alnum((char)c);
		struct smtp_path path;
		struct arena arena;
		struct str rest;

		local[2] = quoted[3] = domain[4] = (char)c;
		arena_init(&arena, ROOM);
		bool good = c != 0 && (is_alnum || strchr(atext, c) || c == '.');
		assert_int_equal(smtp_path_parse_forward(str_make(local, 7), false, &arena, &path,
					 &rest) == SMTP_PATH_FINE,
			good);
		good = c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
		/* "a\b" is a quoted pair, and "a"b" ends too early. */
		assert_int_equal(smtp_path_parse_forward(str_make(quoted, 9), false, &arena, &path,
					 &rest) == SMTP_PATH_FINE,
			good || c == '\\');
		good = is_alnum || c == '-' || c == '_' || c == '.';
		assert_int_equal(smtp_path_parse_forward(str_make(domain, 7), false, &arena, &path,
					 &rest) == SMTP_PATH_FINE,
			good);
		arena_reset(&arena);
	}
}

/*
 * Each character beyond ASCII, inside a domain: refused, or an A-label. None may vanish or turn
 * into a letter or a dot, as with it another domain would match than was sent.
 */
static void test_every_character_in_a_domain(void **state)
{
	size_t accepted = 0;

	(void)state;
	for (unsigned code = 0x80; code < 0x10000; code++) {
		struct smtp_path path;
		struct arena arena;
		struct buf text;
		struct str rest;

		arena_init(&arena, ROOM);
		buf_init(&text, 64);
		buf_write(&text, STR("<user@ex"));
		smtp_vectors_put_code(&text, code, true);
		buf_write(&text, STR("mple.com>"));
		if (smtp_path_parse_forward(buf_view(&text), true, &arena, &path, &rest) ==
			SMTP_PATH_FINE) {
			accepted++;
			assert_true(str_starts_with(path.host, STR("xn--")));
			assert_true(str_ends_with_nocase(path.host, STR(".com")));
		}
		buf_free(&text);
		arena_reset(&arena);
	}
	assert_in_range(accepted, 1000, 0x10000);
}

static void test_path_length(void **state)
{
	char text[SMTP_PATH_MAX + 2];
	struct smtp_path path;
	struct arena arena;
	struct str rest;

	(void)state;
	memset(text, 'a', sizeof(text));
	memcpy(text, "<a@", 3);
	for (size_t i = 50; i < 240; i += 50)
		text[i] = '.';
	arena_init(&arena, ROOM);
	text[SMTP_PATH_MAX - 1] = '>';
	assert_int_equal(
		smtp_path_parse_forward(str_make(text, SMTP_PATH_MAX), false, &arena, &path, &rest),
		SMTP_PATH_FINE);
	assert_int_equal(path.address.n, SMTP_PATH_MAX - 2);
	text[SMTP_PATH_MAX - 1] = 'a';
	text[SMTP_PATH_MAX] = '>';
	assert_int_equal(smtp_path_parse_forward(
				 str_make(text, SMTP_PATH_MAX + 1), false, &arena, &path, &rest),
		SMTP_PATH_TOO_LONG);
	arena_reset(&arena);
}

/* The second pass with SMTPUTF8 needs the parameters that the first one saw. */
static void test_rest_with_utf8_fault(void **state)
{
	struct smtp_path path;
	struct arena arena;
	struct str rest;

	(void)state;
	arena_init(&arena, ROOM);
	struct str text = STR("<\xc3\xbc@x> SMTPUTF8");
	assert_int_equal(
		smtp_path_parse_reverse(text, false, &arena, &path, &rest), SMTP_PATH_UTF8);
	assert_str(rest, STR(" SMTPUTF8"));
	assert_int_equal(smtp_path_parse_reverse(text, true, &arena, &path, &rest), SMTP_PATH_FINE);
	assert_true(path.is_utf8);
	assert_str(rest, STR(" SMTPUTF8"));
	text = STR("<a@x");
	assert_int_equal(
		smtp_path_parse_reverse(text, false, &arena, &path, &rest), SMTP_PATH_SYNTAX);
	assert_str(rest, STR(""));
	arena_reset(&arena);
}

static void test_full_arena(void **state)
{
	struct smtp_path path;
	struct arena arena;
	struct str rest;

	(void)state;
	for (size_t room = 0; room < 32; room += 16) {
		arena_init(&arena, room);
		assert_int_equal(smtp_path_parse_forward(
					 STR("<user@example.com>"), false, &arena, &path, &rest),
			SMTP_PATH_NO_ROOM);
		arena_reset(&arena);
	}
}

static struct smtp_path parsed(enum direction direction, struct str text, struct arena *arena)
{
	struct smtp_path path;
	struct str rest;

	assert_int_equal(parse(direction, text, true, arena, &path, &rest), SMTP_PATH_FINE);
	return path;
}

static void test_questions(void **state)
{
	struct arena arena;
	struct smtp_path path;

	(void)state;
	arena_init(&arena, ROOM);
	path = parsed(REVERSE, STR("<>"), &arena);
	assert_true(smtp_path_is_null(&path) && !smtp_path_is_bare_postmaster(&path));
	assert_int_equal(path.domain_kind, SMTP_DOMAIN_NONE);
	path = parsed(FORWARD, STR("<postmaster>"), &arena);
	assert_true(!smtp_path_is_null(&path) && smtp_path_is_bare_postmaster(&path));
	path = parsed(FORWARD, STR("<@a:b@c>"), &arena);
	assert_true(!smtp_path_is_null(&path) && !smtp_path_is_bare_postmaster(&path));
	assert_true(path.has_source_route && !path.is_utf8);
	assert_int_equal(path.domain_kind, SMTP_DOMAIN_NAME);
	path = parsed(FORWARD, STR("<b@[192.0.2.1]>"), &arena);
	assert_int_equal(path.domain_kind, SMTP_DOMAIN_LITERAL);
	path = parsed(FORWARD, STR("<b@\xc3\xbc.example>"), &arena);
	assert_true(path.is_utf8);
	arena_reset(&arena);
}

static void test_routing_local_parts(void **state)
{
	static const struct {
		struct str text;
		bool is_routing;
	} cases[] = {
		{ STR_INIT("<user@x>"), false },
		{ STR_INIT("<a/b=c|d@x>"), false },
		{ STR_INIT("<\"a b\"@x>"), false },
		{ STR_INIT("<a%b@x>"), true },
		{ STR_INIT("<a!b@x>"), true },
		{ STR_INIT("<\"a@b\"@x>"), true },
		{ STR_INIT("<\"a\\@b\"@x>"), true },
		{ STR_INIT("<\"a%b\"@x>"), true },
		{ STR_INIT("<\"a\\%b\"@x>"), true },
		{ STR_INIT("<\"a!b\"@x>"), true },
		{ STR_INIT("<\"a:b\"@x>"), true },
	};
	struct arena arena;

	(void)state;
	arena_init(&arena, ROOM);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct smtp_path path = parsed(FORWARD, cases[i].text, &arena);
		assert_int_equal(smtp_path_has_routing_local_part(&path), cases[i].is_routing);
	}
	arena_reset(&arena);
}

/* What look-up tables are asked for. */
static void test_plain(void **state)
{
	static const struct {
		const char *path, *plain;
	} rows[] = {
		{ "<>", "" },
		{ "<User@EXAMPLE.Com>", "user@example.com" },
		{ "<\"User\"@example.com>", "user@example.com" },
		{ "<\"u\\s\\\"er\"@example.com>", "us\"er@example.com" },
		{ "<\"a\\\\b\"@example.com>", "a\\b@example.com" },
		{ "<\"a b\"@example.com>", "a b@example.com" },
		{ "<\"a@b\"@example.com>", "a@b@example.com" },
		{ "<@a.example,@b.example:User@example.com>", "user@example.com" },
		{ "<User@[IPv6:2001:DB8::1]>", "user@[ipv6:2001:db8::1]" },
		{ "<\303\234ser@b\303\274cher.example>", "\303\234ser@xn--bcher-kva.example" },
	};
	char out[SMTP_PATH_MAX];
	struct smtp_path path;
	struct arena arena;
	struct str rest;

	(void)state;
	arena_init(&arena, ROOM);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(
			smtp_path_parse_reverse(str_from(rows[i].path), true, &arena, &path, &rest),
			SMTP_PATH_FINE);
		struct str plain = smtp_path_plain(&path, out);
		if (!str_eq(plain, str_from(rows[i].plain)))
			fail_msg("%s: %.*s", rows[i].path, STR_ARG(plain));
	}
	assert_int_equal(smtp_path_parse_forward(STR("<PostMaster>"), false, &arena, &path, &rest),
		SMTP_PATH_FINE);
	assert_true(str_eq(smtp_path_plain(&path, out), STR("postmaster")));
	arena_reset(&arena);
}

static void test_host_names(void **state)
{
	static const struct {
		struct str text;
		bool is_name, has_dot;
	} cases[] = {
		{ STR_INIT("mx.example.com"), true, true },
		{ STR_INIT("localhost"), true, false },
		{ STR_INIT("a_b.c"), true, true },
		{ STR_INIT("192.0.2.1"), true, true },
		{ STR_INIT(LABEL63), true, false },
		{ STR_INIT(LABEL63 "a"), false, false },
		{ STR_INIT(LABEL63 "." LABEL63 "." LABEL63 "." LABEL63), true, true },
		{ STR_INIT(LABEL63 "." LABEL63 "." LABEL63 "." LABEL63 ".a"), false, false },
		{ STR_INIT(""), false, false },
		{ STR_INIT("."), false, false },
		{ STR_INIT("a."), false, false },
		{ STR_INIT(".a"), false, false },
		{ STR_INIT("a..b"), false, false },
		{ STR_INIT("-a"), false, false },
		{ STR_INIT("a-"), false, false },
		{ STR_INIT("a b"), false, false },
		{ STR_INIT("a\0"), false, false },
		{ STR_INIT("\xc3\xbc.x"), false, false },
		{ STR_INIT("[192.0.2.1]"), false, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct str text = guard_put(&guard, cases[i].text);
		assert_int_equal(smtp_is_host_name(text, false), cases[i].is_name);
		assert_int_equal(smtp_is_host_name(text, true), cases[i].has_dot);
	}
}

static void test_address_literals(void **state)
{
	(void)state;
	assert_true(smtp_is_address_literal(STR("[192.0.2.1]")));
	assert_true(smtp_is_address_literal(STR("[IPV6:2001:db8::1]")));
	assert_false(smtp_is_address_literal(STR("")));
	assert_false(smtp_is_address_literal(guard_put(&guard, STR("["))));
	assert_false(smtp_is_address_literal(STR("[]")));
	assert_false(smtp_is_address_literal(STR("192.0.2.1")));
	assert_false(smtp_is_address_literal(STR("[192.0.2.1")));
	assert_false(smtp_is_address_literal(STR("[::1]")));
	assert_false(smtp_is_address_literal(STR("[IPv6:]")));
	assert_false(smtp_is_address_literal(STR("[IPv6:192.0.2.1]")));
	assert_false(smtp_is_address_literal(STR("[IPv6:::1%lo]")));
	assert_false(smtp_is_address_literal(STR("[192.0.2.1\0]")));
}

/* ---- relay-probes.jsonl: what syntax and domain alone say about each ---- */

/* As the dialogue does it: the line, the path, its parameters, then the domain. */
static struct str judge(struct str text, bool utf8)
{
	struct smtp_rcpt_params params;
	struct smtp_command command;
	struct smtp_path path;
	struct arena arena;
	struct str rest, bad;
	struct buf line;
	struct str verdict = STR("syntax-error");

	arena_init(&arena, ROOM);
	buf_init(&line, ROOM);
	buf_printf(&line, "RCPT TO:");
	buf_write(&line, text);
	if (smtp_command_parse(guard_put(&guard, buf_view(&line)), &command) == SMTP_LINE_FINE &&
		smtp_path_parse_forward(str_trim(str_from_pos(command.argument, 3)), utf8, &arena,
			&path, &rest) == SMTP_PATH_FINE &&
		smtp_params_parse_rcpt(rest, ~0u, &arena, &params, &bad) == SMTP_PARAMS_FINE) {
		bool is_ours = str_eq(path.host, STR("example.com")) && !path.has_source_route &&
			       !smtp_path_has_routing_local_part(&path);
		verdict = is_ours || smtp_path_is_bare_postmaster(&path) ? STR("accept")
									 : STR("reject");
	}
	buf_free(&line);
	arena_reset(&arena);
	return verdict;
}

static bool is_sender_fine(struct str text, bool utf8)
{
	struct smtp_mail_params params;
	struct smtp_path path;
	struct arena arena;
	struct str rest, bad;

	arena_init(&arena, ROOM);
	bool fine = smtp_path_parse_reverse(guard_put(&guard, text), utf8, &arena, &path, &rest) ==
			    SMTP_PATH_FINE &&
		    smtp_params_parse_mail(rest, ~0u, &arena, &params, &bad) == SMTP_PARAMS_FINE;
	arena_reset(&arena);
	return fine;
}

static bool is_allowed(struct str object, struct str verdict)
{
	struct str also = vectors_json_get(object, "also_ok");
	struct str element;

	if (str_eq(vectors_json_get(object, "expect"), verdict))
		return true;
	if (also.n == 0)
		return false;
	for (also = vectors_json_inside(also); vectors_json_next(&also, &element);)
		if (str_eq(element, verdict))
			return true;
	return false;
}

static void run_probe(struct str object)
{
	struct buf sender, recipient;

	buf_init(&sender, ROOM);
	buf_init(&recipient, ROOM);
	bool utf8 = str_eq(vectors_json_get(object, "encoding"), STR("utf-8"));
	smtp_vectors_unescape(&sender, vectors_json_get(object, "mail_from"), utf8);
	smtp_vectors_unescape(&recipient, vectors_json_get(object, "rcpt_to"), utf8);
	bool says_utf8 = str_ends_with_nocase(buf_view(&sender), STR(" SMTPUTF8"));
	bool is_sender = is_sender_fine(buf_view(&sender), says_utf8);
	struct str verdict =
		is_sender ? judge(buf_view(&recipient), says_utf8) : STR("syntax-error");
	if (!is_allowed(object, verdict))
		fprintf(stderr, "%.*s: %.*s\n", STR_ARG(vectors_json_get(object, "id")),
			STR_ARG(verdict));
	assert_true(is_allowed(object, verdict));
	/* With SMTPUTF8 said, nothing that was refused may be let in. */
	if (!says_utf8 && is_sender && !str_eq(verdict, STR("accept")))
		assert_false(str_eq(judge(buf_view(&recipient), true), STR("accept")));
	buf_free(&recipient);
	buf_free(&sender);
}

static void test_relay_probes(void **state)
{
	struct str file = vectors_read(TEST_SOURCE_DIR "/vectors/relay-probes.jsonl");
	struct str rest = file;
	size_t count = 0;

	(void)state;
	for (; rest.n > 0; count++)
		run_probe(str_cut(&rest, '\n'));
	assert_in_range(count, 90, 1000);
	free((void *)(uintptr_t)file.p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_cut_vectors),
		cmocka_unit_test(test_every_byte),
		cmocka_unit_test(test_every_character_in_a_domain),
		cmocka_unit_test(test_path_length),
		cmocka_unit_test(test_rest_with_utf8_fault),
		cmocka_unit_test(test_full_arena),
		cmocka_unit_test(test_questions),
		cmocka_unit_test(test_routing_local_parts),
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_host_names),
		cmocka_unit_test(test_address_literals),
		cmocka_unit_test(test_relay_probes),
	};

	guard = guard_make(ROOM);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	guard_free(&guard);
	return failed;
}
