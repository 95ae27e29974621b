/*
 * The strings of smuggling-cases.jsonl and relay-probes.jsonl as bytes: JSON escapes undone, one
 * code point an octet (or UTF-8), and "<<U*N>>" repeated.
 */
#ifndef TEST_SUPPORT_SMTP_VECTORS_H
#define TEST_SUPPORT_SMTP_VECTORS_H

#include "support/vectors.h"

#include "base/buf.h"

static inline void smtp_vectors_put_code(struct buf *out, unsigned code, bool utf8)
{
	if (!utf8 || code < 0x80)
		buf_write(out, str_make((char[]){ (char)code }, 1));
	else if (code < 0x800)
		buf_write(out,
			str_make((char[]){ (char)(0xc0 | code >> 6), (char)(0x80 | (code & 63)) },
				2));
	else
		buf_write(out, str_make((char[]){ (char)(0xe0 | code >> 12),
						(char)(0x80 | (code >> 6 & 63)),
						(char)(0x80 | (code & 63)) },
				       3));
}

static inline unsigned smtp_vectors_hex(struct str digits)
{
	unsigned code = 0;

	for (size_t i = 0; i < digits.n; i++)
		code = code << 4 | (unsigned)vectors_hex_digit(digits.p[i]);
	return code;
}

/* Appends the text of a JSON string to `out`. */
static inline void smtp_vectors_unescape(struct buf *out, struct str text, bool utf8)
{
	static const char escapes[] = "n\nr\rt\tf\fb\b\"\"\\\\//";

	for (size_t i = 0; i < text.n; i++) {
		if (text.p[i] != '\\') {
			buf_write(out, str_make(text.p + i, 1));
			continue;
		}
		char c = text.p[++i];
		if (c == 'u') {
			smtp_vectors_put_code(
				out, smtp_vectors_hex(str_range(text, i + 1, i + 5)), utf8);
			i += 4;
			continue;
		}
		for (size_t k = 0; k + 1 < sizeof(escapes); k += 2)
			if (escapes[k] == c)
				buf_write(out, str_make(&escapes[k + 1], 1));
	}
}

static inline void smtp_vectors_repeat(struct buf *out, struct str unit, uint64_t count)
{
	if (!str_eq(unit, STR("L"))) {
		for (uint64_t i = 0; i < count; i++)
			buf_write(out, unit);
		return;
	}
	/* Octets of lines of 62 and CR LF; a CR at the very end would be half of one. */
	for (uint64_t i = 0; i < count; i++) {
		bool is_cr = i % 64 == 62 && i + 1 < count;
		buf_write(out, is_cr ? STR("\r") : i % 64 == 63 ? STR("\n") : STR("x"));
	}
}

/* "<<U*N>>" and "@@354@@"; the latter is left out. */
static inline void smtp_vectors_expand(struct buf *out, struct str text)
{
	while (text.n > 0) {
		if (str_starts_with(text, STR("@@354@@")) ||
			str_starts_with(text, STR("@@354?@@"))) {
			text = str_from_pos(text, text.p[5] == '?' ? 8 : 7);
			continue;
		}
		if (!str_starts_with(text, STR("<<"))) {
			buf_write(out, str_make(text.p, 1));
			text = str_from_pos(text, 1);
			continue;
		}
		struct str count = str_from_pos(text, 2);
		struct str unit = str_cut(&count, '*');
		size_t end = str_find(count, '>');
		uint64_t n;
		if (!str_to_u64(str_range(count, 0, end), UINT32_MAX, &n))
			vectors_fail("repetition", "no count");
		smtp_vectors_repeat(out, unit, n);
		text = str_from_pos(count, end + 2);
	}
}

#endif
