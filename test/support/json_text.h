/*
 * Reads JSON back strictly (RFC 8259), to test what was written: is this text one value, and
 * which characters are in a string? Written for tests only: recursion and abort are fine here.
 */
#ifndef TEST_SUPPORT_JSON_TEXT_H
#define TEST_SUPPORT_JSON_TEXT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/str.h"
#include "base/utf8.h"

static inline bool json_text_hex4(struct str s, uint32_t *code)
{
	*code = 0;
	for (size_t i = 0; i < 4; i++) {
		char c = i < s.n ? ascii_lower(s.p[i]) : 'x';
		uint32_t digit = (uint32_t)(ascii_is_digit(c) ? c - '0' : c - 'a' + 10);

		if (!ascii_is_digit(c) && !(c >= 'a' && c <= 'f'))
			return false;
		*code = *code << 4 | digit;
	}
	return true;
}

/* One character of a string off the front of *rest; surrogates are refused. */
static inline bool json_text_char(struct str *rest, uint32_t *code)
{
	static const char escapes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
	size_t n = utf8_decode(*rest, code);

	if (n == 0 || *code < 0x20 || *code == '"')
		return false;
	*rest = str_from_pos(*rest, n);
	if (*code != '\\')
		return true;
	if (rest->n == 0)
		return false;
	char kind = rest->p[0];
	*rest = str_from_pos(*rest, 1);
	if (kind == 'u') {
		bool valid = json_text_hex4(*rest, code);

		*rest = str_from_pos(*rest, 4);
		return valid && (*code < 0xd800 || *code > 0xdfff);
	}
	for (size_t i = 0; i + 1 < sizeof(escapes); i++)
		if (escapes[i] == kind) {
			*code = (unsigned char)meanings[i];
			return true;
		}
	return false;
}

/* A string off the front of *rest. Its characters go to `codes` (room for `max`), when given. */
static inline bool json_text_string(struct str *rest, uint32_t *codes, size_t max, size_t *count)
{
	size_t n = 0;

	if (!str_starts_with(*rest, STR("\"")))
		return false;
	*rest = str_from_pos(*rest, 1);
	while (rest->n > 0 && rest->p[0] != '"') {
		uint32_t code;

		if (!json_text_char(rest, &code))
			return false;
		if (codes && n >= max)
			abort();
		if (codes)
			codes[n] = code;
		n++;
	}
	if (rest->n == 0)
		return false;
	*rest = str_from_pos(*rest, 1);
	if (count)
		*count = n;
	return true;
}

static inline bool json_text_literal(struct str *rest, struct str word)
{
	if (!str_starts_with(*rest, word))
		return false;
	*rest = str_from_pos(*rest, word.n);
	return true;
}

/* Integers only: nothing here writes others. */
static inline bool json_text_number(struct str *rest)
{
	size_t n = 0;

	json_text_literal(rest, STR("-"));
	while (n < rest->n && ascii_is_digit(rest->p[n]))
		n++;
	if (n == 0 || (n > 1 && rest->p[0] == '0'))
		return false;
	*rest = str_from_pos(*rest, n);
	return true;
}

static inline bool json_text_value(struct str *rest);

static inline bool json_text_members(struct str *rest, bool keys, struct str end)
{
	if (json_text_literal(rest, end))
		return true;
	do {
		if (keys && !(json_text_string(rest, NULL, 0, NULL) &&
				    json_text_literal(rest, STR(":"))))
			return false;
		if (!json_text_value(rest))
			return false;
	} while (json_text_literal(rest, STR(",")));
	return json_text_literal(rest, end);
}

static inline bool json_text_value(struct str *rest)
{
	if (json_text_literal(rest, STR("{")))
		return json_text_members(rest, true, STR("}"));
	if (json_text_literal(rest, STR("[")))
		return json_text_members(rest, false, STR("]"));
	if (str_starts_with(*rest, STR("\"")))
		return json_text_string(rest, NULL, 0, NULL);
	return json_text_literal(rest, STR("true")) || json_text_literal(rest, STR("false")) ||
	       json_text_literal(rest, STR("null")) || json_text_number(rest);
}

/* Is the text one value, without white space around it? */
static inline bool json_text_is_valid(struct str text)
{
	return json_text_value(&text) && text.n == 0;
}

/* What is behind "name": in an object whose members' names appear nowhere else. */
static inline bool json_text_find(struct str object, const char *name, struct str *value)
{
	struct str rest = object;
	struct str key = str_from(name);

	while (rest.n > key.n + 3) {
		if (rest.p[0] == '"' && rest.p[key.n + 1] == '"' && rest.p[key.n + 2] == ':' &&
			str_eq(str_range(rest, 1, key.n + 1), key)) {
			*value = str_from_pos(rest, key.n + 3);
			return true;
		}
		rest = str_from_pos(rest, 1);
	}
	return false;
}

#endif
