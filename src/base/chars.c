#include "base/chars.h"

#include <string.h>

/* What all printable ASCII is but for '"' and '\'. */
#define SHOWN (CHARS_TEXT | CHARS_PRINTABLE | CHARS_JSON)
#define NAME (SHOWN | CHARS_HOST | CHARS_DOMAIN | CHARS_HARMLESS)
#define ATOM (SHOWN | CHARS_ATEXT)

const uint8_t chars_table[256] = {
	[' '] = SHOWN,
	['!'] = ATOM,
	['"'] = CHARS_TEXT | CHARS_PRINTABLE,
	['#' ... '\''] = ATOM,
	['(' ... ')'] = SHOWN,
	['*' ... '+'] = ATOM,
	[','] = SHOWN,
	['-'] = NAME | CHARS_ATEXT,
	['.'] = SHOWN | CHARS_DOMAIN | CHARS_HARMLESS,
	['/'] = ATOM,
	['0' ... '9'] = NAME | CHARS_ATEXT,
	[':'] = SHOWN | CHARS_HARMLESS,
	[';' ... '<'] = SHOWN,
	['='] = ATOM,
	['>'] = SHOWN,
	['?'] = ATOM,
	['@'] = SHOWN,
	['A' ... 'Z'] = NAME | CHARS_ATEXT,
	['['] = SHOWN,
	['\\'] = CHARS_TEXT | CHARS_PRINTABLE,
	[']'] = SHOWN,
	['^'] = ATOM,
	['_'] = NAME | CHARS_ATEXT,
	['`'] = ATOM,
	['a' ... 'z'] = NAME | CHARS_ATEXT,
	['{' ... '~'] = ATOM,
	[0x80 ... 0xff] = CHARS_TEXT | CHARS_DOMAIN | CHARS_ATEXT,
};

/* ---- Eight bytes at a time -------------------------------------------------------------------- */

#define WORD sizeof(uint64_t)
#define ALL(byte) (0x0101010101010101 * (uint64_t)(byte))

static uint64_t load(const char *p)
{
	uint64_t word;

	memcpy(&word, p, WORD);
	return word;
}

/* The highest bit of some byte is set when not all are 0x20-0x7e. */
static uint64_t unprintable(uint64_t word)
{
	return (word | (word - ALL(0x20)) | (word + ALL(0x01))) & ALL(0x80);
}

/* … when one of them is `byte`. */
static uint64_t some(uint64_t word, unsigned char byte)
{
	uint64_t difference = word ^ ALL(byte);

	return (difference - ALL(0x01)) & ~difference & ALL(0x80);
}

/* … when one of them is 0x00-0x1f or 0x7f. */
static uint64_t not_text(uint64_t word)
{
	return ((word - ALL(0x20)) & ~word & ALL(0x80)) | some(word, 0x7f);
}

static uint64_t not_json(uint64_t word)
{
	return unprintable(word) | some(word, '"') | some(word, '\\');
}

/* The last words overlap, so that no bytes are left over. */
bool chars_are_printable(struct str text)
{
	if (text.n < WORD)
		return chars_are(CHARS_PRINTABLE, text);
	for (size_t at = 0; at + WORD < text.n; at += WORD)
		if (unprintable(load(text.p + at)))
			return false;
	return !unprintable(load(text.p + text.n - WORD));
}

bool chars_are_text(struct str text)
{
	if (text.n < WORD)
		return chars_are(CHARS_TEXT, text);
	for (size_t at = 0; at + WORD < text.n; at += WORD)
		if (not_text(load(text.p + at)))
			return false;
	return !not_text(load(text.p + text.n - WORD));
}

size_t chars_span_json(struct str text)
{
	size_t at = 0;

	if (text.n < WORD)
		return chars_span(CHARS_JSON, text);
	while (at + WORD < text.n && !not_json(load(text.p + at)))
		at += WORD;
	if (at + WORD >= text.n && !not_json(load(text.p + text.n - WORD)))
		return text.n;
	return at + chars_span(CHARS_JSON, str_from_pos(text, at));
}
