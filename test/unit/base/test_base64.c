#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

#include "base/base64.h"
#include "support/guard.h"

#define ROOM 64

static const struct {
	struct str bytes, text;
} pairs[] = {
	/* RFC 4648 section 10. */
	{ STR_INIT(""), STR_INIT("") },
	{ STR_INIT("f"), STR_INIT("Zg==") },
	{ STR_INIT("fo"), STR_INIT("Zm8=") },
	{ STR_INIT("foo"), STR_INIT("Zm9v") },
	{ STR_INIT("foob"), STR_INIT("Zm9vYg==") },
	{ STR_INIT("fooba"), STR_INIT("Zm9vYmE=") },
	{ STR_INIT("foobar"), STR_INIT("Zm9vYmFy") },
	{ STR_INIT("\0"), STR_INIT("AA==") },
	{ STR_INIT("\0\0\0"), STR_INIT("AAAA") },
	{ STR_INIT("\xff\xff\xff"), STR_INIT("////") },
	{ STR_INIT("\xfb\xef\xbe"), STR_INIT("++++") },
	{ STR_INIT("\0user\0secret"), STR_INIT("AHVzZXIAc2VjcmV0") },
};

static const struct str refused[] = {
	/* Lengths: 4n+1 to 4n+3. */
	STR_INIT("Z"),
	STR_INIT("Zg"),
	STR_INIT("Zg="),
	STR_INIT("Zm9vY"),
	STR_INIT("Zm9vYg="),
	STR_INIT("Zm9vYmF"),
	/* Padding where it does not belong. */
	STR_INIT("===="),
	STR_INIT("Z==="),
	STR_INIT("=Zg="),
	STR_INIT("Z=g="),
	STR_INIT("Zg=="
		 "Zg=="),
	STR_INIT("Zm8="
		 "Zm9v"),
	STR_INIT("Zm9v===="),
	STR_INIT("Zm9v="),
	/* Spare bits. */
	STR_INIT("Zh=="),
	STR_INIT("Zm9="),
	/* Other characters; those next to the ranges of the alphabet. */
	STR_INIT(" Zm9v"),
	STR_INIT("Zm9v\r\n  "),
	STR_INIT("Zm\n8"),
	STR_INIT("Zm8\0"),
	STR_INIT("Zm9-"),
	STR_INIT("Zm9_"),
	STR_INIT("Zm9@"),
	STR_INIT("Zm9["),
	STR_INIT("Zm9`"),
	STR_INIT("Zm9{"),
	STR_INIT("Zm9."),
	STR_INIT("Zm9:"),
	STR_INIT("Zm9\x80"),
	STR_INIT("Zm9\xff"),
};

static void test_pairs(void **state)
{
	struct guard guard = guard_make(ROOM);

	(void)state;
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		char out[ROOM];
		size_t n = 0;

		struct str bytes = guard_put(&guard, pairs[i].bytes);
		assert_int_equal(base64_encoded_size(bytes.n), pairs[i].text.n);
		assert_true(base64_encode(bytes, out, pairs[i].text.n, &n));
		assert_true(str_eq(str_make(out, n), pairs[i].text));

		struct str text = guard_put(&guard, pairs[i].text);
		assert_true(base64_decoded_size(text, &n));
		assert_int_equal(n, pairs[i].bytes.n);
		assert_true(base64_decode(text, out, n, &n));
		assert_true(str_eq(str_make(out, n), pairs[i].bytes));
	}
	guard_free(&guard);
}

static void test_refused(void **state)
{
	struct guard guard = guard_make(ROOM);

	(void)state;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		char out[ROOM];
		size_t n = 77;

		assert_false(base64_decode(guard_put(&guard, refused[i]), out, ROOM, &n));
		assert_int_equal(n, 77);
	}
	guard_free(&guard);
}

/* One byte too few is refused before anything is written (CVE-2018-6789 was one byte too short). */
static void test_maximum(void **state)
{
	(void)state;
	for (size_t i = 1; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		struct guard guard = guard_make(ROOM);
		char untouched[ROOM];
		size_t n = 77;

		memset(untouched, 'x', ROOM);
		char *out = guard.end - pairs[i].text.n + 1;
		memset(out, 'x', pairs[i].text.n - 1);
		assert_false(base64_encode(pairs[i].bytes, out, pairs[i].text.n - 1, &n));
		assert_memory_equal(out, untouched, pairs[i].text.n - 1);
		out = guard.end - pairs[i].bytes.n + 1;
		memset(out, 'x', pairs[i].bytes.n - 1);
		assert_false(base64_decode(pairs[i].text, out, pairs[i].bytes.n - 1, &n));
		assert_memory_equal(out, untouched, pairs[i].bytes.n - 1);
		assert_int_equal(n, 77);

		out = guard.end - pairs[i].bytes.n;
		assert_true(base64_decode(pairs[i].text, out, pairs[i].bytes.n, &n));
		out = guard.end - pairs[i].text.n;
		assert_true(base64_encode(pairs[i].bytes, out, pairs[i].text.n, &n));
		guard_free(&guard);
	}
}

static void test_in_place(void **state)
{
	char buffer[] = "Zm9vYmE=";
	size_t n;

	(void)state;
	assert_true(base64_decode(str_from(buffer), buffer, sizeof(buffer), &n));
	assert_true(str_eq(str_make(buffer, n), STR("fooba")));
}

/* Every byte at every position of a group, and every text of four characters that has it: exactly
 * one text is accepted for each sequence of bytes. */
static void test_every_byte(void **state)
{
	(void)state;
	for (size_t length = 1; length <= 3; length++) {
		for (unsigned c = 0; c < 256; c++) {
			for (size_t at = 0; at < length; at++) {
				char bytes[3] = { 1, 2, 3 }, text[4], back[3];
				size_t n, m;

				bytes[at] = (char)c;
				assert_true(base64_encode(str_make(bytes, length), text, 4, &n));
				assert_true(base64_decode(str_make(text, n), back, 3, &m));
				assert_int_equal(m, length);
				assert_memory_equal(back, bytes, length);
			}
		}
	}
	for (unsigned c = 0; c < 256; c++) {
		for (size_t at = 0; at < 4; at++) {
			char text[4] = { 'Z', 'm', '9', 'v' }, bytes[3], again[4];
			size_t n, m;

			text[at] = (char)c;
			if (!base64_decode(str_make(text, 4), bytes, 3, &n))
				continue;
			assert_true(base64_encode(str_make(bytes, n), again, 4, &m));
			assert_memory_equal(again, text, 4);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pairs),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_maximum),
		cmocka_unit_test(test_in_place),
		cmocka_unit_test(test_every_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
