#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ctype.h>
#include <string.h>

#include "base/chars.h"
#include "support/guard.h"

#define TEXT_MAX 20

/* What the table must say of each byte, in other words than the table's. */
static bool is_host(unsigned char c)
{
	return c < 0x80 && (isalnum(c) || c == '-' || c == '_');
}

static bool is_domain(unsigned char c)
{
	return is_host(c) || c == '.' || c >= 0x80;
}

static bool is_atext(unsigned char c)
{
	return c >= 0x80 || (c != 0 && (isalnum(c) || strchr("!#$%&'*+-/=?^_`{|}~", c)));
}

static bool is_text(unsigned char c)
{
	return c >= 0x20 && c != 0x7f;
}

static bool is_printable(unsigned char c)
{
	return c >= ' ' && c <= '~';
}

static bool is_json(unsigned char c)
{
	return is_printable(c) && c != '"' && c != '\\';
}

static bool is_harmless(unsigned char c)
{
	return is_host(c) || c == '.' || c == ':';
}

static const struct {
	enum chars set;
	bool (*holds)(unsigned char c);
} sets[] = {
	{ CHARS_HOST, is_host },
	{ CHARS_DOMAIN, is_domain },
	{ CHARS_ATEXT, is_atext },
	{ CHARS_TEXT, is_text },
	{ CHARS_PRINTABLE, is_printable },
	{ CHARS_JSON, is_json },
	{ CHARS_HARMLESS, is_harmless },
};

static void every_byte_is_in_its_sets(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
		for (unsigned c = 0; c < 256; c++)
			assert_int_equal(
				chars_has(sets[i].set, (char)c), sets[i].holds((unsigned char)c));
}

static void spans_end_at_the_first_other_byte(void **state)
{
	(void)state;
	assert_int_equal(chars_span(CHARS_HOST, STR("")), 0);
	assert_int_equal(chars_span(CHARS_HOST, str_make(NULL, 0)), 0);
	assert_int_equal(chars_span(CHARS_HOST, STR("mx1.example")), 3);
	assert_int_equal(chars_span(CHARS_HOST, STR(".example")), 0);
	assert_true(chars_are(CHARS_HOST, STR("mx1")));
	assert_false(chars_are(CHARS_HOST, STR("mx1.")));
}

/* Each byte at each place of a text of each length: what is done eight bytes at a time says the same
 * as what is done with each, also with neighbours that carry or borrow, and reads no further. */
static void eight_at_a_time_are_as_one(void **state)
{
	static const char others[] = { ' ', '~', 'x', '\xff', '\x7f' };

	struct guard guard = guard_make(TEXT_MAX);

	(void)state;
	for (size_t n = 1; n <= TEXT_MAX; n++)
		for (size_t at = 0; at < n; at++)
			for (unsigned i = 0; i < 256 * sizeof(others); i++) {
				char bytes[TEXT_MAX];
				memset(bytes, others[i / 256], n);
				bytes[at] = (char)(i % 256);
				struct str text = guard_put(&guard, str_make(bytes, n));
				assert_int_equal(chars_are_printable(text),
					chars_are(CHARS_PRINTABLE, text));
				assert_int_equal(chars_are_text(text), chars_are(CHARS_TEXT, text));
				assert_int_equal(
					chars_span_json(text), chars_span(CHARS_JSON, text));
			}
	guard_free(&guard);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_byte_is_in_its_sets),
		cmocka_unit_test(spans_end_at_the_first_other_byte),
		cmocka_unit_test(eight_at_a_time_are_as_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
