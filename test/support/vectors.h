/*
 * Reading files of test vectors: whole files, hexadecimal digits, and JSON lines as far as
 * vectors need them. Anything unexpected ends the test program.
 */
#ifndef TEST_SUPPORT_VECTORS_H
#define TEST_SUPPORT_VECTORS_H

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

static inline _Noreturn void vectors_fail(const char *what, const char *detail)
{
	fprintf(stderr, "vectors: %s: %s\n", what, detail);
	abort();
}

/* The bytes of a file; free() the pointer. */
static inline struct str vectors_read(const char *path)
{
	FILE *file = fopen(path, "rb");
	if (!file || fseek(file, 0, SEEK_END) != 0)
		vectors_fail("cannot read", path);

	long size = ftell(file);
	rewind(file);
	char *bytes = malloc((size_t)size + 1);
	if (size < 0 || !bytes || fread(bytes, 1, (size_t)size, file) != (size_t)size)
		vectors_fail("cannot read", path);
	fclose(file);
	return str_make(bytes, (size_t)size);
}

static inline int vectors_hex_digit(char c)
{
	const char *digits = "0123456789abcdef";
	const char *at = c ? strchr(digits, tolower((unsigned char)c)) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* The bytes that the digits stand for, white space skipped; free() the pointer. */
static inline struct str vectors_unhex(struct str digits)
{
	char *bytes = malloc(digits.n / 2 + 1);
	size_t n = 0;

	for (size_t i = 0; bytes && i < digits.n; i++) {
		if (isspace((unsigned char)digits.p[i]))
			continue;
		int high = vectors_hex_digit(digits.p[i]);
		int low = i + 1 < digits.n ? vectors_hex_digit(digits.p[i + 1]) : -1;
		if (high < 0 || low < 0)
			vectors_fail("not pairs of hexadecimal digits", "");
		bytes[n++] = (char)(high << 4 | low);
		i++;
	}
	return str_make(bytes, n);
}

/* ---- JSON lines ----
 *
 * A value is a view of its text in the line. Strings come without their quotes; escapes in them
 * are not undone. null gives the empty view with a null pointer, as does a missing key.
 */

/* How far the value at the front of `s` reaches: strings, nesting and the rest. */
static inline size_t vectors_json_span(struct str s)
{
	size_t depth = 0;
	bool in_string = false;

	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (in_string && c == '\\')
			i++;
		else if (c == '"')
			in_string = !in_string;
		else if (in_string)
			continue;
		else if (c == '{' || c == '[')
			depth++;
		else if (depth == 0 && (c == ',' || c == ':' || c == '}' || c == ']'))
			return i;
		else if (c == '}' || c == ']')
			depth--;
	}
	return s.n;
}

static inline struct str vectors_json_value(struct str s)
{
	s = str_trim(s);
	if (str_eq(s, STR("null")))
		return (struct str){ 0 };
	if (s.n >= 2 && s.p[0] == '"')
		return str_range(s, 1, s.n - 1);
	return s;
}

/* Takes a value and the separator behind it off the front of *rest. */
static inline struct str vectors_json_take(struct str *rest)
{
	size_t n = vectors_json_span(*rest);
	struct str value = vectors_json_value(str_range(*rest, 0, n));

	*rest = str_from_pos(*rest, n + 1);
	return value;
}

/* What is between the brackets of an array or object. */
static inline struct str vectors_json_inside(struct str s)
{
	s = str_trim(s);
	if (s.n < 2 || (s.p[0] != '{' && s.p[0] != '['))
		vectors_fail("not an object or array", s.n ? "other value" : "empty");
	return str_range(s, 1, s.n - 1);
}

static inline struct str vectors_json_get(struct str object, const char *key)
{
	struct str rest = vectors_json_inside(object);

	while (str_trim(rest).n > 0) {
		struct str name = vectors_json_take(&rest);
		struct str value = vectors_json_take(&rest);
		if (str_eq(name, str_from(key)))
			return value;
	}
	return (struct str){ 0 };
}

static inline unsigned vectors_json_number(struct str object, const char *key)
{
	uint64_t value;

	if (!str_to_u64(vectors_json_get(object, key), UINT32_MAX, &value))
		vectors_fail("not a number", key);
	return (unsigned)value;
}

/*
 * Takes the next element off what vectors_json_inside gave of an array; false at its end.
 */
static inline bool vectors_json_next(struct str *rest, struct str *element)
{
	if (str_trim(*rest).n == 0)
		return false;
	*element = vectors_json_take(rest);
	return true;
}

#endif
