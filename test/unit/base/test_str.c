#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "support/guard.h"

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static void assert_str(struct str got, struct str want)
{
	assert_int_equal(got.n, want.n);
	if (want.n > 0)
		assert_memory_equal(got.p, want.p, want.n);
}

static void makes_views(void **state)
{
	(void)state;
	assert_int_equal(str_from(NULL).n, 0);
	assert_str(str_from("abc"), STR("abc"));
	assert_int_equal(STR("a\0b").n, 3);
	assert_true(str_is_empty(str_make(NULL, 0)));
}

static void compares(void **state)
{
	static const struct {
		struct str a, b;
		bool eq, eq_nocase, starts, starts_nocase, ends_nocase;
	} vectors[] = {
		{ STR_INIT(""), STR_INIT(""), true, true, true, true, true },
		{ STR_INIT("abc"), STR_INIT("abc"), true, true, true, true, true },
		{ STR_INIT("abc"), STR_INIT("ABC"), false, true, false, true, true },
		{ STR_INIT("abc"), STR_INIT("ab"), false, false, true, true, false },
		{ STR_INIT("abc"), STR_INIT("AB"), false, false, false, true, false },
		{ STR_INIT("abc"), STR_INIT("BC"), false, false, false, false, true },
		{ STR_INIT("abc"), STR_INIT(""), false, false, true, true, true },
		{ STR_INIT("ab"), STR_INIT("abc"), false, false, false, false, false },
		{ STR_INIT("a\0b"), STR_INIT("a\0c"), false, false, false, false, false },
		{ STR_INIT("a\0B"), STR_INIT("a\0b"), false, true, false, true, true },
		/* Only ASCII letters have two cases: neither Latin-1 nor the neighbours of A-Z. */
		{ STR_INIT("\xc4"), STR_INIT("\xe4"), false, false, false, false, false },
		{ STR_INIT("@[`{"), STR_INIT("`{@["), false, false, false, false, false },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(vectors); i++) {
		struct str a = vectors[i].a, b = vectors[i].b;

		assert_int_equal(str_eq(a, b), vectors[i].eq);
		assert_int_equal(str_eq_nocase(a, b), vectors[i].eq_nocase);
		assert_int_equal(str_starts_with(a, b), vectors[i].starts);
		assert_int_equal(str_starts_with_nocase(a, b), vectors[i].starts_nocase);
		assert_int_equal(str_ends_with_nocase(a, b), vectors[i].ends_nocase);
	}
}

static void empty_views_need_no_pointer(void **state)
{
	struct str none = str_make(NULL, 0), rest = none;
	uint64_t number = 5;
	char out[1] = { 'x' };

	(void)state;
	assert_true(str_eq(none, STR("")));
	assert_true(str_starts_with(none, none));
	assert_int_equal(str_find(none, 'a'), 0);
	assert_int_equal(str_rfind(none, 'a'), 0);
	assert_int_equal(str_range(none, 3, 7).n, 0);
	assert_int_equal(str_cut(&rest, ' ').n, 0);
	assert_int_equal(str_trim(none).n, 0);
	assert_false(str_to_u64(none, 9, &number));
	assert_int_equal(number, 5);
	assert_int_equal(str_copy_to(none, out, sizeof(out)), 0);
	assert_int_equal(out[0], '\0');
	char *copy = str_dup(none);
	assert_string_equal(copy, "");
	free(copy);
}

static void takes_ranges(void **state)
{
	struct str s = STR("abcdef");

	(void)state;
	assert_str(str_range(s, 1, 3), STR("bc"));
	assert_str(str_range(s, 0, 6), s);
	assert_str(str_range(s, 4, 99), STR("ef"));
	assert_str(str_range(s, 99, 100), STR(""));
	assert_str(str_range(s, 4, 2), STR(""));
	assert_str(str_range(s, 0, SIZE_MAX), s);
	assert_str(str_from_pos(s, 5), STR("f"));
	assert_str(str_from_pos(s, 6), STR(""));
	assert_str(str_from_pos(s, SIZE_MAX), STR(""));
}

static void finds(void **state)
{
	struct str s = STR("a.b\0.c");

	(void)state;
	assert_int_equal(str_find(s, '.'), 1);
	assert_int_equal(str_rfind(s, '.'), 4);
	assert_int_equal(str_find(s, 'a'), 0);
	assert_int_equal(str_rfind(s, 'a'), 0);
	assert_int_equal(str_find(s, '\0'), 3);
	assert_int_equal(str_rfind(s, 'x'), s.n);
	assert_int_equal(str_find(s, 'x'), s.n);
}

static void cuts(void **state)
{
	static const struct {
		struct str text, head, rest;
	} vectors[] = {
		{ STR_INIT("a b c"), STR_INIT("a"), STR_INIT("b c") },
		{ STR_INIT(" a"), STR_INIT(""), STR_INIT("a") },
		{ STR_INIT("a "), STR_INIT("a"), STR_INIT("") },
		{ STR_INIT("a"), STR_INIT("a"), STR_INIT("") },
		{ STR_INIT(""), STR_INIT(""), STR_INIT("") },
		{ STR_INIT(" "), STR_INIT(""), STR_INIT("") },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(vectors); i++) {
		struct str rest = vectors[i].text;

		assert_str(str_cut(&rest, ' '), vectors[i].head);
		assert_str(rest, vectors[i].rest);
	}
}

static void trims(void **state)
{
	(void)state;
	assert_str(str_trim(STR(" \t a b\t ")), STR("a b"));
	assert_str(str_trim(STR("a")), STR("a"));
	assert_str(str_trim(STR(" \t ")), STR(""));
	assert_str(str_trim(STR("\r\n")), STR("\r\n"));
}

static void reads_numbers(void **state)
{
	static const struct {
		struct str text;
		uint64_t max;
		bool valid;
		uint64_t value;
	} vectors[] = {
		{ STR_INIT("0"), 0, true, 0 },
		{ STR_INIT("1"), 0, false, 0 },
		{ STR_INIT("007"), 10, true, 7 },
		{ STR_INIT("255"), 255, true, 255 },
		{ STR_INIT("256"), 255, false, 0 },
		{ STR_INIT("18446744073709551615"), UINT64_MAX, true, UINT64_MAX },
		{ STR_INIT("18446744073709551616"), UINT64_MAX, false, 0 },
		{ STR_INIT("99999999999999999999"), UINT64_MAX, false, 0 },
		{ STR_INIT("184467440737095516150"), UINT64_MAX, false, 0 },
		{ STR_INIT(""), 9, false, 0 },
		{ STR_INIT("-1"), 9, false, 0 },
		{ STR_INIT("+1"), 9, false, 0 },
		{ STR_INIT(" 1"), 9, false, 0 },
		{ STR_INIT("1 "), 9, false, 0 },
		{ STR_INIT("1\0"), 9, false, 0 },
		{ STR_INIT("0x1"), 99, false, 0 },
		{ STR_INIT("\xb2"), 99, false, 0 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(vectors); i++) {
		uint64_t value = 4711;

		assert_int_equal(
			str_to_u64(vectors[i].text, vectors[i].max, &value), vectors[i].valid);
		assert_int_equal(value, vectors[i].valid ? vectors[i].value : 4711);
	}
}

static void copies(void **state)
{
	char out[4];

	(void)state;
	assert_int_equal(str_copy_to(STR("ab"), out, sizeof(out)), 2);
	assert_string_equal(out, "ab");
	assert_int_equal(str_copy_to(STR("abc"), out, sizeof(out)), 3);
	assert_string_equal(out, "abc");
	assert_int_equal(str_copy_to(STR("abcd"), out, sizeof(out)), 3);
	assert_string_equal(out, "abc");
	char *copy = str_dup(STR("a\0b"));
	assert_memory_equal(copy, "a\0b", 4);
	free(copy);
}

/* The letters and digits of ASCII, for each of the 256 bytes. */
static void knows_ascii(void **state)
{
	(void)state;
	for (int byte = 0; byte < 256; byte++) {
		char c = (char)byte;
		bool lower = byte >= 'a' && byte <= 'z', upper = byte >= 'A' && byte <= 'Z';
		bool digit = byte >= '0' && byte <= '9';

		assert_int_equal(ascii_is_alpha(c), lower || upper);
		assert_int_equal(ascii_is_digit(c), digit);
		assert_int_equal(ascii_is_alnum(c), lower || upper || digit);
		assert_int_equal(ascii_is_control(c), byte < 0x20 || byte == 0x7f);
		assert_int_equal(ascii_lower(c), upper ? (char)(byte + 32) : c);
	}
}

static void reads_no_byte_too_far(void **state)
{
	struct guard guard = guard_make(64);
	uint64_t number;

	(void)state;
	struct str digits = guard_put(&guard, STR("12345"));
	assert_true(str_to_u64(digits, UINT64_MAX, &number));
	assert_int_equal(str_find(digits, 'x'), 5);
	assert_false(str_ends_with_nocase(digits, STR("123456")));
	struct str rest = guard_put(&guard, STR("a  "));
	assert_str(str_trim(rest), STR("a"));
	while (rest.n > 0)
		str_cut(&rest, ' ');
	guard_free(&guard);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(makes_views),
		cmocka_unit_test(compares),
		cmocka_unit_test(empty_views_need_no_pointer),
		cmocka_unit_test(takes_ranges),
		cmocka_unit_test(finds),
		cmocka_unit_test(cuts),
		cmocka_unit_test(trims),
		cmocka_unit_test(reads_numbers),
		cmocka_unit_test(copies),
		cmocka_unit_test(knows_ascii),
		cmocka_unit_test(reads_no_byte_too_far),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
