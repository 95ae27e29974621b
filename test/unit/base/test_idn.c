#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/idn.h"
#include "base/utf8.h"
#include "support/guard.h"

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))
#define LABEL63 "abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabc"

static const struct {
	struct str name;
	const char *ascii; /* NULL: not a name */
} names[] = {
	{ STR_INIT("example.com"), "example.com" },
	{ STR_INIT("Example.COM"), "example.com" },
	{ STR_INIT("localhost"), "localhost" },
	{ STR_INIT("_dmarc.example.com"), "_dmarc.example.com" },
	{ STR_INIT("xn--mnchen-3ya.de"), "xn--mnchen-3ya.de" },
	{ STR_INIT(LABEL63 ".de"), LABEL63 ".de" },
	{ STR_INIT(LABEL63 "." LABEL63 "." LABEL63 "." LABEL63),
		LABEL63 "." LABEL63 "." LABEL63 "." LABEL63 },
	{ STR_INIT(LABEL63 "." LABEL63 "." LABEL63 "." LABEL63 ".a"), NULL },
	{ STR_INIT(LABEL63 "x.de"), NULL },
	{ STR_INIT(""), NULL },
	{ STR_INIT("."), NULL },
	{ STR_INIT("a."), NULL },
	{ STR_INIT(".a"), NULL },
	{ STR_INIT("a..b"), NULL },
	{ STR_INIT("a b"), NULL },
	{ STR_INIT("a\0b"), NULL },
	{ STR_INIT("a@b"), NULL },
	{ STR_INIT("[192.0.2.1]"), NULL },
	{ STR_INIT("a\r\nb"), NULL },

	{ STR_INIT("münchen.de"), "xn--mnchen-3ya.de" },
	{ STR_INIT("münchen.DE"), "xn--mnchen-3ya.de" },
	{ STR_INIT("faß.de"), "xn--fa-hia.de" },
	{ STR_INIT("例え.テスト"), "xn--r8jz45g.xn--zckzah" },
	{ STR_INIT("пример.рф"), "xn--e1afmkfd.xn--p1ai" },
	{ STR_INIT("xn--mnchen-3ya.ü.de"), "xn--mnchen-3ya.xn--tda.de" },
	/* What a mapping would have to change. */
	{ STR_INIT("MÜNCHEN.de"), NULL },
	{ STR_INIT("a\u00adb.de"), NULL },
	{ STR_INIT("ｅxample.com"), NULL },
	{ STR_INIT("例え。テスト"), NULL },
	{ STR_INIT("u\u0308.de"), NULL },
	/* What is no label at all. */
	{ STR_INIT("ü..de"), NULL },
	{ STR_INIT("ü."), NULL },
	{ STR_INIT("ü_a.de"), NULL },
	{ STR_INIT("★.de"), NULL },
	{ STR_INIT("ab--ü.de"), NULL },
	{ STR_INIT("xn--a.ü.de"), NULL },
	{ STR_INIT("ü\0.de"), NULL },
	{ STR_INIT("\xfc.de"), NULL },
	{ STR_INIT("m\xc3"), NULL },
	{ STR_INIT("a\u2028.de"), NULL },
};

static void makes_a_labels(void **state)
{
	struct guard guard = guard_make(2000);

	(void)state;
	for (size_t i = 0; i < COUNT(names); i++) {
		char out[IDN_NAME_MAX] = "unchanged";
		const char *want = names[i].ascii;
		bool valid = idn_to_ascii(guard_put(&guard, names[i].name), out);

		assert_int_equal(valid, want != NULL);
		assert_string_equal(out, want ? want : "unchanged");
	}
	guard_free(&guard);
}

/* What was made once stays as it is, and every beginning of a name is handled. */
static void a_labels_stay(void **state)
{
	struct guard guard = guard_make(2000);
	char once[IDN_NAME_MAX], twice[IDN_NAME_MAX];

	(void)state;
	for (size_t i = 0; i < COUNT(names); i++)
		for (size_t n = 0; n <= names[i].name.n; n++) {
			struct str part = str_range(names[i].name, 0, n);

			if (!idn_to_ascii(guard_put(&guard, part), once))
				continue;
			assert_true(idn_is_ascii(str_from(once)));
			assert_true(idn_to_ascii(str_from(once), twice));
			assert_string_equal(once, twice);
		}
	guard_free(&guard);
}

static void too_long_is_refused(void **state)
{
	char out[IDN_NAME_MAX] = "unchanged";
	static char text[5000];

	(void)state;
	for (size_t i = 0; i + 2 <= sizeof(text); i += 2)
		memcpy(text + i, "\xc3\xbc", 2);
	for (size_t n = 300; n <= sizeof(text); n += 94)
		assert_false(idn_to_ascii(str_make(text, n), out));
	assert_string_equal(out, "unchanged");
}

static const struct {
	struct str text;
	bool valid;
} utf8[] = {
	{ STR_INIT(""), true },
	{ STR_INIT("abc\0\x7f"), true },
	{ STR_INIT("\xc2\x80"), true },
	{ STR_INIT("\xdf\xbf"), true },
	{ STR_INIT("\xe0\xa0\x80"), true },
	{ STR_INIT("\xed\x9f\xbf"), true },
	{ STR_INIT("\xee\x80\x80"), true },
	{ STR_INIT("\xef\xbf\xbf"), true },
	{ STR_INIT("\xf0\x90\x80\x80"), true },
	{ STR_INIT("\xf4\x8f\xbf\xbf"), true },
	{ STR_INIT("\x80"), false },
	{ STR_INIT("\xbf"), false },
	{ STR_INIT("\xc0\x80"), false }, /* overlong */
	{ STR_INIT("\xc1\xbf"), false },
	{ STR_INIT("\xe0\x9f\xbf"), false },
	{ STR_INIT("\xf0\x8f\xbf\xbf"), false },
	{ STR_INIT("\xed\xa0\x80"), false }, /* surrogates */
	{ STR_INIT("\xed\xbf\xbf"), false },
	{ STR_INIT("\xf4\x90\x80\x80"), false }, /* beyond U+10FFFF */
	{ STR_INIT("\xf5\x80\x80\x80"), false },
	{ STR_INIT("\xf8\x88\x80\x80\x80"), false },
	{ STR_INIT("\xff"), false },
	{ STR_INIT("\xc2"), false }, /* cut short */
	{ STR_INIT("\xe1\x80"), false },
	{ STR_INIT("\xf1\x80\x80"), false },
	{ STR_INIT("\xc2\x41"), false },
	{ STR_INIT("\xe1\x80\xc0"), false },
	{ STR_INIT("\xf1\x80\x80\x7f"), false },
};

static void knows_utf8(void **state)
{
	struct guard guard = guard_make(64);

	(void)state;
	for (size_t i = 0; i < COUNT(utf8); i++) {
		struct str text = guard_put(&guard, utf8[i].text);

		assert_int_equal(idn_is_utf8(text), utf8[i].valid);
		/* No beginning of a single character is valid. */
		for (size_t n = 1; n < text.n && !ascii_is_alpha(text.p[0]); n++)
			if (utf8[i].valid)
				assert_false(idn_is_utf8(
					guard_put(&guard, str_range(utf8[i].text, 0, n))));
	}
	guard_free(&guard);
}

static size_t encode(uint32_t code, char out[4])
{
	static const unsigned char first[5] = { 0, 0, 0xc0, 0xe0, 0xf0 };
	size_t length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;

	for (size_t i = length; i-- > 1; code >>= 6)
		out[i] = (char)(0x80 | (code & 0x3f));
	out[0] = (char)(first[length] | code);
	return length;
}

static void decodes_every_character(void **state)
{
	(void)state;
	for (uint32_t code = 0; code < 0x110000; code++) {
		bool surrogate = code >= 0xd800 && code <= 0xdfff;
		uint32_t got = 0xffffffff;
		char text[4];
		size_t n = encode(code, text);
		size_t want = surrogate ? 0 : n;

		if (utf8_decode(str_make(text, n), &got) != want ||
			got != (surrogate ? 0xffffffff : code))
			fail_msg("U+%04X", code);
	}
}

static void knows_ascii(void **state)
{
	(void)state;
	assert_true(idn_is_ascii(STR("")));
	assert_true(idn_is_ascii(STR("a\0\x7f")));
	assert_false(idn_is_ascii(STR("a\x80")));
	assert_false(idn_is_ascii(STR("ü")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(makes_a_labels),
		cmocka_unit_test(a_labels_stay),
		cmocka_unit_test(too_long_is_refused),
		cmocka_unit_test(knows_utf8),
		cmocka_unit_test(decodes_every_character),
		cmocka_unit_test(knows_ascii),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
