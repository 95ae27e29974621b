#include "base/base64.h"

#include <stdint.h>

#include "base/assert.h"

static const char alphabet[64] = { 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M',
	'N', 'O', 'P', 'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z', 'a', 'b', 'c', 'd', 'e',
	'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v', 'w',
	'x', 'y', 'z', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '+', '/' };

/* Beyond the six bits of a value: not of the alphabet. */
#define NO_VALUE 64u

static unsigned value_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return (unsigned)(c - 'A');
	if (c >= 'a' && c <= 'z')
		return (unsigned)(c - 'a') + 26;
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0') + 52;
	if (c == '+')
		return 62;
	return c == '/' ? 63 : NO_VALUE;
}

size_t base64_encoded_size(size_t n)
{
	ASSERT(n <= BASE64_BYTES_MAX);
	return BASE64_SIZE(n);
}

static size_t padding(struct str text)
{
	if (text.n < 4 || text.p[text.n - 1] != '=')
		return 0;
	return text.p[text.n - 2] == '=' ? 2 : 1;
}

bool base64_decoded_size(struct str text, size_t *n)
{
	if (text.n % 4 != 0)
		return false;
	*n = text.n / 4 * 3 - padding(text);
	return true;
}

/* Up to three bytes, the first one highest, as a number of 24 bits. */
static uint32_t group_of_bytes(struct str bytes)
{
	uint32_t group = 0;

	for (size_t i = 0; i < 3; i++)
		group = group << 8 | (i < bytes.n ? (uint8_t)bytes.p[i] : 0);
	return group;
}

bool base64_encode(struct str bytes, char *out, size_t max, size_t *n)
{
	size_t size = base64_encoded_size(bytes.n);

	if (size > max)
		return false;
	for (; bytes.n > 0; bytes = str_from_pos(bytes, 3)) {
		uint32_t group = group_of_bytes(bytes);
		*out++ = alphabet[group >> 18];
		*out++ = alphabet[group >> 12 & 63];
		*out++ = bytes.n > 1 ? alphabet[group >> 6 & 63] : '=';
		*out++ = bytes.n > 2 ? alphabet[group & 63] : '=';
	}
	*n = size;
	return true;
}

/* Four characters, of which the last (3 - count) are padding and stand for zeros. */
static bool group_of_text(const char *p, size_t count, uint32_t *group)
{
	*group = 0;
	for (size_t i = 0; i < 4; i++) {
		unsigned value = i <= count ? value_of(p[i]) : 0;
		if (value == NO_VALUE)
			return false;
		*group = *group << 6 | value;
	}
	return true;
}

/* RFC 4648 section 3.5: the bits behind the last byte are zero. */
static bool has_spare_bits(uint32_t group, size_t count)
{
	return (group & (0xffffffu >> (8 * count))) != 0;
}

bool base64_decode(struct str text, char *out, size_t max, size_t *n)
{
	size_t size;

	if (!base64_decoded_size(text, &size) || size > max)
		return false;
	for (size_t left = size; text.n > 0; text = str_from_pos(text, 4)) {
		size_t count = left < 3 ? left : 3;
		uint32_t group;
		if (!group_of_text(text.p, count, &group) || has_spare_bits(group, count))
			return false;
		for (size_t i = 0; i < count; i++)
			*out++ = (char)(group >> (16 - 8 * i) & 0xff);
		left -= count;
	}
	*n = size;
	return true;
}
