#include "base/utf8.h"

/*
 * RFC 3629 section 4. What forbids overlong forms, surrogates and values beyond U+10FFFF is the
 * range of the second byte; all further bytes are 80-BF.
 *
 *   UTF8-1 = %x00-7F
 *   UTF8-2 = %xC2-DF UTF8-tail
 *   UTF8-3 = %xE0 %xA0-BF UTF8-tail / %xE1-EC 2( UTF8-tail ) /
 *            %xED %x80-9F UTF8-tail / %xEE-EF 2( UTF8-tail )
 *   UTF8-4 = %xF0 %x90-BF 2( UTF8-tail ) / %xF1-F3 3( UTF8-tail ) /
 *            %xF4 %x80-8F 2( UTF8-tail )
 */
static const struct form {
	uint8_t first, last; /* range of the first byte */
	uint8_t low, high;   /* range of the second */
	uint8_t length;
	uint8_t bits; /* of the first byte that belong to the value */
} forms[] = {
	{ 0xc2, 0xdf, 0x80, 0xbf, 2, 0x1f },
	{ 0xe0, 0xe0, 0xa0, 0xbf, 3, 0x0f },
	{ 0xe1, 0xec, 0x80, 0xbf, 3, 0x0f },
	{ 0xed, 0xed, 0x80, 0x9f, 3, 0x0f },
	{ 0xee, 0xef, 0x80, 0xbf, 3, 0x0f },
	{ 0xf0, 0xf0, 0x90, 0xbf, 4, 0x07 },
	{ 0xf1, 0xf3, 0x80, 0xbf, 4, 0x07 },
	{ 0xf4, 0xf4, 0x80, 0x8f, 4, 0x07 },
};

static const struct form *find_form(uint8_t first)
{
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
		if (first >= forms[i].first && first <= forms[i].last)
			return &forms[i];
	return NULL;
}

static size_t decode_multibyte(const struct form *form, struct str s, uint32_t *code)
{
	uint32_t value = (uint8_t)s.p[0] & form->bits;

	for (size_t i = 1; i < form->length; i++) {
		uint8_t byte = (uint8_t)s.p[i];
		uint8_t low = i == 1 ? form->low : 0x80;
		uint8_t high = i == 1 ? form->high : 0xbf;

		if (byte < low || byte > high)
			return 0;
		value = value << 6 | (byte & 0x3f);
	}
	*code = value;
	return form->length;
}

size_t utf8_decode(struct str s, uint32_t *code)
{
	if (s.n == 0)
		return 0;
	if ((uint8_t)s.p[0] < 0x80) {
		*code = (uint8_t)s.p[0];
		return 1;
	}
	const struct form *form = find_form((uint8_t)s.p[0]);
	if (form == NULL || s.n < form->length)
		return 0;
	return decode_multibyte(form, s, code);
}
