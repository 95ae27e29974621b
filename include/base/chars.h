/*
 * Sets of bytes, as bits of one table: what a character may be is asked without a call, and a text is
 * looked through once.
 */
#ifndef BASE_CHARS_H
#define BASE_CHARS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

enum chars {
	CHARS_HOST = 1 << 0,   /* of labels in the DNS and many a HELO: letters, digits, "-", "_" */
	CHARS_DOMAIN = 1 << 1, /* of whole names: the same, ".", and bytes of UTF-8 */
	CHARS_ATEXT = 1 << 2,  /* atext of RFC 5321 section 4.1.2 and RFC 6531 section 3.3 */
	CHARS_TEXT = 1 << 3,   /* everything but 0x00-0x1f and 0x7f */
	CHARS_PRINTABLE = 1 << 4, /* 0x20-0x7e */
	CHARS_JSON = 1 << 5,      /* printable, and stands in a string of JSON as it is */
	CHARS_HARMLESS = 1 << 6, /* in a header field: no comment, no quoting, no end of anything */
};

extern const uint8_t chars_table[256];

static inline bool chars_has(enum chars set, char c)
{
	return chars_table[(unsigned char)c] & set;
}

/* How many bytes at the front of `text` are in the set. */
static inline size_t chars_span(enum chars set, struct str text)
{
	size_t n = 0;

	while (n < text.n && chars_has(set, text.p[n]))
		n++;
	return n;
}

/* Is every byte in the set? */
static inline bool chars_are(enum chars set, struct str text)
{
	return chars_span(set, text) == text.n;
}

/* chars_are() with CHARS_PRINTABLE and CHARS_TEXT, eight bytes at a time. */
bool chars_are_printable(struct str text);
bool chars_are_text(struct str text);

/* chars_span() with CHARS_JSON, eight bytes at a time. */
size_t chars_span_json(struct str text);

#endif
