#include "base/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/guard.h"

static struct guard guard;

static struct map *parse(struct str text)
{
	struct err err = { "" };
	struct map *map = map_parse("m", guard_put(&guard, text), NULL, NULL, &err);

	if (map == NULL)
		fail_msg("%.*s: %s", STR_ARG(text), err.text);
	return map;
}

static void expect(struct str found, const char *wanted, const char *what)
{
	if (!str_eq(found, str_from(wanted)))
		fail_msg("%s: %.*s", what, STR_ARG(found));
}

/* ---- Lines ---------------------------------------------------------------------------------- */

static void test_lines(void **state)
{
	static const struct {
		const char *text;
		size_t count;
		const char *key, *value;
	} rows[] = {
		{ "", 0, "a", "" },
		{ "# a@b c\n\n  \t\n   # d e\n", 0, "a@b", "" },
		{ "a@b c\n", 1, "a@b", "c" },
		{ "a@b c", 1, "a@b", "c" },
		{ "a@b\t \tc d\t e \t\n", 1, "a@b", "c d\t e" },
		{ "a@b c#d\n", 1, "a@b", "c#d" },
		/* Values go on; comments and empty lines between do not end them. */
		{ "a@b c,\n  d,\n\te\nx y\n", 2, "a@b", "c, d, e" },
		{ "a@b c,\n\n# d\n e\n", 1, "a@b", "c, e" },
		/* Keys in one form. */
		{ "A@EXAMPLE.Com C\n", 1, "a@example.com", "C" },
		{ "@Example.com c\n", 1, "@example.com", "c" },
		{ ".Example.com c\n", 1, ".example.com", "c" },
		{ "a@b\303\274cher.example c\n", 1, "a@xn--bcher-kva.example", "c" },
		{ ".b\303\274cher.example c\n", 1, ".xn--bcher-kva.example", "c" },
		{ "\303\234@x c\n", 1, "\303\234@x", "c" },
		{ "a@[192.0.2.1] c\n", 1, "a@[192.0.2.1]", "c" },
		{ "a@[IPv6:2001:DB8::1] c\n", 1, "a@[ipv6:2001:db8::1]", "c" },
		{ "a@b@c d\n", 1, "a@b@c", "d" },
		{ "* c\n", 1, "*", "c" },
		{ "postmaster c\n", 1, "postmaster", "c" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct map *map = parse(str_from(rows[i].text));
		assert_int_equal(map_count(map), rows[i].count);
		expect(map_find(map, str_from(rows[i].key)), rows[i].value, rows[i].text);
		map_free(&map);
		assert_null(map);
	}
}

/* All or nothing, and the first mistake is named. */
static void test_mistakes(void **state)
{
	static const struct {
		const char *text, *said;
	} rows[] = {
		{ "a@b\n", "m:1: must be a key, white space, and a value" },
		{ "a@b c\n\nd@e \t\n", "m:3: must be a key" },
		{ "a@ c\n", "m:1: \"a@\": what is behind the @ is not a domain" },
		{ "a@b..c d\n", "m:1: \"a@b..c\": what is behind" },
		{ "a@.b c\n", "m:1: \"a@.b\": what is behind" },
		{ "a@* c\n", "m:1: \"a@*\": what is behind" },
		{ "a@[] c\n", "m:1: \"a@[]\": what is behind" },
		{ "b. c\n", "m:1: \"b.\": not a domain" },
		{ ". c\n", "m:1: \".\": not a domain" },
		{ "..b c\n", "m:1: \"..b\": not a domain" },
		{ "user!x c\n", "m:1: \"user!x\": not a domain" },
		{ "\"a\"@b c\n", "m:1: \"\"a\"@b\": a local part is written without quotes" },
		{ "\"a b\"@c d\n", "m:1: \"\"a\": not a domain" },
		{ "a\\b@c d\n", "m:1: \"a\\b@c\": a local part is written without quotes" },
		{ "a@b c\r\n", "m:1: holds a control character" },
		{ "\xef\xbb\xbf"
		  "a@b c\n",
			"m:1: begins with a byte order mark" },
		{ "a@b c\001\n", "m:1: holds a control character" },
		{ "a@b \377\n", "m:1: holds a control character, or is not UTF-8" },
		{ "# x\n  c\n", "m:2: begins with white space" },
		{ "a@b c\nA@B d\n", "m:2: a@b has a value already, in line 1" },
		/* Found later, but it stands first. */
		{ "a@b c\nd e\na@b f\ng@ h\n",
			"m:3: a@b has a value already, in line 1 (and 1 more)" },
		{ "a@b c\na@ d\nb@ e\nc@ f\n", "m:2: \"a@\": what is behind the @ is not a domain "
					       "(and 2 more)" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err err = { "" };
		assert_null(map_parse(
			"m", guard_put(&guard, str_from(rows[i].text)), NULL, NULL, &err));
		if (!str_starts_with(str_from(err.text), str_from(rows[i].said)))
			fail_msg("%s: %s", rows[i].text, err.text);
		assert_null(map_parse("m", str_from(rows[i].text), NULL, NULL, NULL));
	}
}

/* A text cut anywhere is read, or refused, and never read beyond. */
static void test_cut(void **state)
{
	static const struct str text = STR_INIT("# a\nuser@b\303\274cher.example  c,\n\td\n"
						"@[192.0.2.1] e\n.f g\n* h\n");

	(void)state;
	for (size_t n = 0; n <= text.n; n++) {
		struct err err = { "" };
		struct map *map =
			map_parse("m", guard_put(&guard, str_range(text, 0, n)), NULL, NULL, &err);
		assert_true((map == NULL) == (err.text[0] != '\0'));
		map_free(&map);
	}
}

static void test_limits(void **state)
{
	static char text[2 * MAP_VALUE_MAX];
	struct err err = { "" };
	int head = snprintf(text, sizeof(text), "a@b ");

	(void)state;
	memset(text + head, 'x', MAP_VALUE_MAX);
	struct map *map = parse(str_make(text, (size_t)head + MAP_VALUE_MAX));
	assert_int_equal(map_find(map, STR("a@b")).n, MAP_VALUE_MAX);
	map_free(&map);
	text[head + MAP_VALUE_MAX] = 'x';
	assert_null(
		map_parse("m", str_make(text, (size_t)head + MAP_VALUE_MAX + 1), NULL, NULL, &err));
	assert_string_equal(err.text, "m:1: the value is longer than 8192 bytes");
	memcpy(text + head + MAP_VALUE_MAX - 1, "\n y", 3);
	assert_null(
		map_parse("m", str_make(text, (size_t)head + MAP_VALUE_MAX + 2), NULL, NULL, &err));
	assert_string_equal(err.text, "m:2: the value is longer than 8192 bytes");
	/* A key that is longer than any address. */
	memset(text, 'x', MAP_KEY_MAX);
	memcpy(text + MAP_KEY_MAX, "@b c", 4);
	assert_null(map_parse("m", str_make(text, MAP_KEY_MAX + 4), NULL, NULL, &err));
	assert_non_null(strstr(err.text, "the key is too long"));
}

/* ---- The owner ------------------------------------------------------------------------------ */

static int takes_numbers(void *ctx, struct str key, struct str value, struct err *err)
{
	size_t *asked = ctx;
	uint64_t number;

	(*asked)++;
	if (!str_to_u64(value, 1000, &number))
		return err_set(err, "%.*s: not a number", STR_ARG(key));
	return 0;
}

static void test_owner(void **state)
{
	size_t asked = 0;
	struct err err = { "" };

	(void)state;
	struct map *map = map_parse("m", STR("b 1\na 2\n"), takes_numbers, &asked, &err);
	assert_non_null(map);
	assert_int_equal(asked, 2);
	map_free(&map);
	assert_null(map_parse("m", STR("b 1\na x\nA@ 1\nc y\n"), takes_numbers, &asked, &err));
	assert_string_equal(err.text, "m:2: a: not a number (and 2 more)");
}

/* ---- Looking up ----------------------------------------------------------------------------- */

static void test_look_up(void **state)
{
	static const struct {
		const char *address, *domain;
		const char *by_address, *by_domain;
	} rows[] = {
		{ "u+x@example.com", "example.com", "extended", "domain" },
		{ "u@example.com", "example.com", "user", "domain" },
		{ "u+y@example.com", "example.com", "user", "domain" },
		{ "u+y+x@example.com", "example.com", "user", "domain" },
		{ "v@example.com", "example.com", "everybody", "domain" },
		{ "v+x@example.com", "example.com", "everybody", "domain" },
		{ "+x@example.com", "example.com", "everybody", "domain" },
		{ "u@a.example.com", "a.example.com", "", "below" },
		{ "u@b.a.example.com", "b.a.example.com", "", "below" },
		{ "u@b.c.example.com", "b.c.example.com", "", "far below" },
		{ "u@notexample.com", "notexample.com", "", "all" },
		{ "u@com", "com", "", "all" },
		{ "u@[192.0.2.1]", "[192.0.2.1]", "", "all" },
		{ "u@[192.0.2.2]", "[192.0.2.2]", "", "literal" },
		{ "postmaster", "", "local", "all" },
		{ "post+master", "", "", "all" },
		{ "", "", "", "all" },
	};
	struct map *map = parse(STR("u+x@example.com extended\nu@example.com user\n"
				    "@example.com everybody\nexample.com domain\n"
				    ".example.com below\n.c.example.com far below\n"
				    "* all\npostmaster local\npost wrong\n"
				    "[192.0.2.2] literal\n"));

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		expect(map_find_address(map, str_from(rows[i].address)), rows[i].by_address,
			rows[i].address);
		expect(map_find_domain(map, str_from(rows[i].domain)), rows[i].by_domain,
			rows[i].domain);
	}
	map_free(&map);
}

static void test_many(void **state)
{
	const unsigned count = 20000;
	char *text = malloc(count * 40), key[40];
	size_t n = 0;

	(void)state;
	assert_non_null(text);
	/* In no order; 7919 is prime to the count. */
	for (unsigned i = 0; i < count; i++)
		n += (size_t)snprintf(text + n, 40, "user%u@example.com v%u\n", i * 7919 % count,
			i * 7919 % count);
	struct err err = { "" };
	struct map *map = map_parse("m", str_make(text, n), NULL, NULL, &err);
	assert_non_null(map);
	assert_int_equal(map_count(map), count);
	for (unsigned i = 0; i < count; i++) {
		snprintf(key, sizeof(key), "user%u@example.com", i);
		struct str found = map_find(map, str_from(key));
		snprintf(key, sizeof(key), "v%u", i);
		expect(found, key, key);
	}
	assert_int_equal(map_find(map, STR("user20000@example.com")).n, 0);
	map_free(&map);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_owner),
		cmocka_unit_test(test_look_up),
		cmocka_unit_test(test_many),
	};

	guard = guard_make(2 * MAP_VALUE_MAX);
	int failures = cmocka_run_group_tests(tests, NULL, NULL);
	guard_free(&guard);
	return failures;
}
