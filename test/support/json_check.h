/*
 * A strict reader of JSON (RFC 8259) for tests: is a text valid, and what stands at a path of it.
 * It shares nothing with base/json.c, which it is used to check.
 */
#ifndef TEST_SUPPORT_JSON_CHECK_H
#define TEST_SUPPORT_JSON_CHECK_H

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/utf8.h"

#define JSON_CHECK_DEPTH 32

/* Each of these returns the position behind what it read, or 0 (nothing ends at 0). */
static inline size_t json_check_value(struct str s, size_t at, int depth);

static inline char json_check_at(struct str s, size_t at)
{
	return at < s.n ? s.p[at] : '\0';
}

static inline size_t json_check_escape(struct str s, size_t at)
{
	char c = json_check_at(s, at);

	if (c != '\0' && strchr("\"\\/bfnrt", c))
		return at + 1;
	if (c != 'u')
		return 0;
	for (size_t i = 1; i <= 4; i++)
		if (!isxdigit((unsigned char)json_check_at(s, at + i)))
			return 0;
	return at + 5;
}

static inline size_t json_check_string(struct str s, size_t at)
{
	if (json_check_at(s, at) != '"')
		return 0;
	at++;
	while (at < s.n && s.p[at] != '"') {
		uint32_t code = 0;
		size_t n = utf8_decode(str_from_pos(s, at), &code);

		if (n == 0 || code < 0x20)
			return 0;
		at = s.p[at] == '\\' ? json_check_escape(s, at + 1) : at + n;
		if (at == 0)
			return 0;
	}
	return at < s.n ? at + 1 : 0;
}

/* Integers only; that is all that is written. */
static inline size_t json_check_number(struct str s, size_t at)
{
	size_t start = at + (json_check_at(s, at) == '-');
	size_t end = start;

	while (isdigit((unsigned char)json_check_at(s, end)))
		end++;
	if (end == start || (s.p[start] == '0' && end > start + 1))
		return 0;
	return end;
}

static inline size_t json_check_word(struct str s, size_t at, struct str word)
{
	return str_starts_with(str_from_pos(s, at), word) ? at + word.n : 0;
}

/* `close` tells an array from an object. Members of one name twice are a fault. */
static inline size_t json_check_members(struct str s, size_t at, char close, int depth)
{
	struct str keys[256];
	size_t count = 0;

	if (json_check_at(s, ++at) == close)
		return at + 1;
	for (;; at++) {
		if (close == '}') {
			size_t end = json_check_string(s, at);

			if (end == 0 || json_check_at(s, end) != ':')
				return 0;
			for (size_t i = 0; i < count; i++)
				if (str_eq(keys[i], str_range(s, at, end)))
					return 0;
			if (count < sizeof(keys) / sizeof(keys[0]))
				keys[count++] = str_range(s, at, end);
			at = end + 1;
		}
		at = json_check_value(s, at, depth + 1);
		if (at == 0)
			return 0;
		if (json_check_at(s, at) == close)
			return at + 1;
		if (json_check_at(s, at) != ',')
			return 0;
	}
}

static inline size_t json_check_value(struct str s, size_t at, int depth)
{
	if (depth > JSON_CHECK_DEPTH)
		return 0;
	switch (json_check_at(s, at)) {
	case '{':
		return json_check_members(s, at, '}', depth);
	case '[':
		return json_check_members(s, at, ']', depth);
	case '"':
		return json_check_string(s, at);
	case 't':
		return json_check_word(s, at, STR("true"));
	case 'f':
		return json_check_word(s, at, STR("false"));
	case 'n':
		return json_check_word(s, at, STR("null"));
	default:
		return json_check_number(s, at);
	}
}

/* Is the whole text one JSON value without white space? */
static inline bool json_is_valid(struct str s)
{
	return s.n > 0 && json_check_value(s, 0, 0) == s.n;
}

/* The value of the member `key` (a number for arrays) of the value at the front of `s`. */
static inline struct str json_member(struct str s, struct str key)
{
	bool is_array = json_check_at(s, 0) == '[';
	uint64_t index = 0, wanted = 0;
	size_t at = 1;

	if (is_array && !str_to_u64(key, 100000, &wanted))
		return STR("");
	if (!is_array && json_check_at(s, 0) != '{')
		return STR("");
	while (at < s.n && s.p[at] != ']' && s.p[at] != '}') {
		bool found = is_array && index++ == wanted;

		if (!is_array) {
			size_t end = json_check_string(s, at);

			found = str_eq(str_range(s, at + 1, end - 1), key);
			at = end + 1;
		}
		size_t end = json_check_value(s, at, 0);
		if (found || end == 0)
			return str_range(s, at, end);
		at = end + (json_check_at(s, end) == ',');
	}
	return STR("");
}

/* What stands at "a.b.0.c" of valid JSON, as it is written there; empty when nothing does. */
static inline struct str json_at(struct str s, const char *path)
{
	struct str rest = str_from(path);

	while (rest.n > 0)
		s = json_member(s, str_cut(&rest, '.'));
	return s;
}

#endif
