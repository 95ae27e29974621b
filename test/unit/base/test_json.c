#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "support/guard.h"
#include "support/json_text.h"

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static void assert_written(const struct buf *buf, const char *want)
{
	struct str got = buf_view(buf);

	assert_int_equal(got.n, strlen(want));
	assert_memory_equal(got.p, want, got.n);
	assert_true(json_text_is_valid(got));
}

static void writes_every_kind_of_value(void **state)
{
	struct buf buf;
	struct json json;

	(void)state;
	buf_init(&buf, 1000);
	json_init(&json, &buf);
	json_object_begin(&json);
	json_key_str(&json, "s", STR("x"));
	json_key_uint(&json, "u", UINT64_MAX);
	json_key_bool(&json, "t", true);
	json_key_bool(&json, "f", false);
	json_key(&json, STR("i"));
	json_int(&json, INT64_MIN);
	json_name(&json, STR("n"));
	json_null(&json);
	json_key(&json, STR("h"));
	json_hex(&json, STR("\x00\xff\x1a"));
	json_key(&json, STR("a"));
	json_array_begin(&json);
	json_uint(&json, 0);
	json_int(&json, -1);
	json_object_begin(&json);
	json_object_end(&json);
	json_array_begin(&json);
	json_array_end(&json);
	json_str(&json, str_make(NULL, 0));
	json_array_end(&json);
	json_key(&json, STR("o"));
	json_object_begin(&json);
	json_key_uint(&json, "k\"", 1);
	json_object_end(&json);
	json_object_end(&json);
	assert_true(json_ok(&json));
	assert_written(&buf, "{\"s\":\"x\",\"u\":18446744073709551615,\"t\":true,\"f\":false,"
			     "\"i\":-9223372036854775808,\"n\":null,\"h\":\"00ff1a\","
			     "\"a\":[0,-1,{},[],\"\"],\"o\":{\"k\\\"\":1}}");
	buf_free(&buf);
}

static const struct {
	struct str value;
	const char *text;
} strings[] = {
	{ STR_INIT(""), "\"\"" },
	{ STR_INIT("abc /'<>&"), "\"abc /'<>&\"" },
	{ STR_INIT("a\"b\\c"), "\"a\\\"b\\\\c\"" },
	{ STR_INIT("\0\x01\t\n\r\x1b\x1f"),
		"\"\\u0000\\u0001\\u0009\\u000a\\u000d\\u001b\\u001f\"" },
	{ STR_INIT("~\x7f"), "\"~\\u007f\"" },
	{ STR_INIT("\xc2\x80\xc2\x9b\xc2\x9f"), "\"\\u0080\\u009b\\u009f\"" },
	{ STR_INIT("\xc2\xa0ü€"), "\"\xc2\xa0ü€\"" },
	{ STR_INIT("\u2027\u2028\u2029\u202a"), "\"\u2027\\u2028\\u2029\u202a\"" },
	{ STR_INIT("\U0001f4e7"), "\"\U0001f4e7\"" },
	{ STR_INIT("\x80\xff"), "\"\\u0080\\u00ff\"" },
	{ STR_INIT("M\xfcnchen"), "\"M\\u00fcnchen\"" },
	{ STR_INIT("\xc0\x80"), "\"\\u00c0\\u0080\"" },
	{ STR_INIT("\xed\xa0\x80"), "\"\\u00ed\\u00a0\\u0080\"" },
	{ STR_INIT("\xf4\x90\x80\x80"), "\"\\u00f4\\u0090\\u0080\\u0080\"" },
	{ STR_INIT("\xe2\x82"), "\"\\u00e2\\u0082\"" },
	{ STR_INIT("\xe2\x82x€"), "\"\\u00e2\\u0082x€\"" },
};

/* With its name the same value, wherever commas stand. */
static void check_pair(struct str value, const char *text)
{
	char want[200];
	struct buf buf;
	struct json json;

	snprintf(want, sizeof(want), "{\"a\":%s,\"b\":%s,\"c\":1}", text, text);
	buf_init(&buf, 1000);
	json_init(&json, &buf);
	json_object_begin(&json);
	json_name_str(&json, STR("a"), value);
	json_name_str(&json, STR("b"), value);
	json_key_uint(&json, "c", 1);
	json_object_end(&json);
	assert_true(json_ok(&json));
	assert_written(&buf, want);
	buf_free(&buf);
}

static void escapes(void **state)
{
	struct guard guard = guard_make(100);

	(void)state;
	for (size_t i = 0; i < COUNT(strings); i++) {
		struct buf buf;
		struct json json;

		buf_init(&buf, 1000);
		json_init(&json, &buf);
		json_str(&json, guard_put(&guard, strings[i].value));
		assert_true(json_ok(&json));
		assert_written(&buf, strings[i].text);
		check_pair(guard_put(&guard, strings[i].value), strings[i].text);
		buf_free(&buf);
	}
	guard_free(&guard);
}

/* For every size of the buffer: it never holds more, and the writer says whether all is there. */
static void remembers_that_it_was_full(void **state)
{
	static const char whole[] = "{\"k\\u000a\":[\"a\\\"b\",12,\"0aff\",true],\"n\":\"v\"}";

	(void)state;
	for (size_t max = 0; max <= sizeof(whole) + 2; max++) {
		struct buf buf;
		struct json json;

		buf_init(&buf, max);
		json_init(&json, &buf);
		json_object_begin(&json);
		json_key(&json, STR("k\n"));
		json_array_begin(&json);
		json_str(&json, STR("a\"b"));
		json_uint(&json, 12);
		json_hex(&json, STR("\x0a\xff"));
		json_bool(&json, true);
		json_array_end(&json);
		json_name_str(&json, STR("n"), STR("v"));
		json_object_end(&json);
		assert_int_equal(json_ok(&json), max >= sizeof(whole) - 1);
		assert_memory_equal(buf_view(&buf).p, whole, buf_used(&buf));
		if (json_ok(&json))
			assert_written(&buf, whole);
		buf_free(&buf);
	}
}

/* What JSON must decode to: characters; a byte that is none counts as the one of its number. */
static size_t expected(struct str value, uint32_t *codes)
{
	size_t count = 0;

	while (value.n > 0) {
		uint32_t code = (unsigned char)value.p[0];
		size_t n = utf8_decode(value, &code);

		codes[count++] = code;
		value = str_from_pos(value, n ? n : 1);
	}
	return count;
}

static void assert_harmless(struct str text)
{
	while (text.n > 0) {
		uint32_t code;
		size_t n = utf8_decode(text, &code);

		assert_int_not_equal(n, 0);
		assert_false(code < 0x20 || (code >= 0x7f && code <= 0x9f));
		assert_false(code == 0x2028 || code == 0x2029);
		text = str_from_pos(text, n);
	}
}

/* Random bytes, and random pieces of UTF-8, which random bytes seldom are. */
static void fill(char *bytes, size_t n, bool text)
{
	static const char pieces[][5] = { "ü", "\u2028", "\xc2\x85", "€", "\xe2", "\x82", "\"",
		"\\", "\U0001f4e7", "a", "\n", "\x1b" };
	size_t at = 0;

	while (at < n) {
		const char *piece = pieces[(size_t)random() % COUNT(pieces)];
		size_t length = strlen(piece);

		if (text && length <= n - at) {
			memcpy(bytes + at, piece, length);
			at += length;
		} else {
			bytes[at++] = (char)random();
		}
	}
}

static void any_bytes_decode_back(void **state)
{
	char bytes[256];
	uint32_t want[256], got[256];

	(void)state;
	srandom(11);
	for (int round = 0; round < 3000; round++) {
		struct buf buf;
		struct json json;
		size_t count;

		fill(bytes, sizeof(bytes), round % 2);
		buf_init(&buf, 10000);
		json_init(&json, &buf);
		json_str(&json, str_make(bytes, sizeof(bytes)));
		struct str text = buf_view(&buf);
		assert_harmless(text);
		assert_true(json_text_string(&text, got, COUNT(got), &count));
		assert_int_equal(text.n, 0);
		assert_int_equal(count, expected(str_make(bytes, sizeof(bytes)), want));
		assert_memory_equal(got, want, count * sizeof(got[0]));
		buf_free(&buf);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_every_kind_of_value),
		cmocka_unit_test(escapes),
		cmocka_unit_test(remembers_that_it_was_full),
		cmocka_unit_test(any_bytes_decode_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
