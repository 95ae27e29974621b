#include "base/idn.h"

#include <idn2.h>
#include <string.h>

#include "base/chars.h"
#include "base/utf8.h"

#define LABEL_MAX 63 /* RFC 1035 section 2.3.4 */

bool idn_is_ascii(struct str s)
{
	const uint64_t high_bits = 0x8080808080808080;
	size_t at = 0;

	for (uint64_t word; at + sizeof(word) <= s.n; at += sizeof(word)) {
		memcpy(&word, s.p + at, sizeof(word));
		if (word & high_bits)
			return false;
	}
	for (; at < s.n; at++)
		if ((unsigned char)s.p[at] >= 0x80)
			return false;
	return true;
}

bool idn_is_utf8(struct str s)
{
	while (s.n > 0) {
		uint32_t code;
		size_t n = utf8_decode(s, &code);

		if (n == 0)
			return false;
		s = str_from_pos(s, n);
	}
	return true;
}

/* The underscore is no part of host names, but of names in the DNS and of many a HELO. */
static bool is_ascii_label(struct str label)
{
	return label.n > 0 && label.n <= LABEL_MAX && chars_are(CHARS_HOST, label);
}

static bool is_ascii_name(struct str name)
{
	if (name.n == 0 || name.n >= IDN_NAME_MAX || name.p[name.n - 1] == '.')
		return false;
	while (name.n > 0)
		if (!is_ascii_label(str_cut(&name, '.')))
			return false;
	return true;
}

/*
 * RFC 5891 section 5. IDN2_NO_TR46 keeps libidn2 from mapping anything, IDN2_ALABEL_ROUNDTRIP
 * makes it decode labels that are A-labels already and refuse those that are none.
 */
static bool convert(const char *lowered, char out[IDN_NAME_MAX])
{
	uint8_t *ascii = NULL;
	int flags = IDN2_NO_TR46 | IDN2_ALABEL_ROUNDTRIP;

	if (idn2_lookup_u8((const uint8_t *)lowered, &ascii, flags) != IDN2_OK)
		return false;
	struct str name = str_from((const char *)ascii);
	bool valid = is_ascii_name(name);
	if (valid)
		str_copy_to(name, out, IDN_NAME_MAX);
	idn2_free(ascii);
	return valid;
}

static void lower(struct str name, char *out)
{
	for (size_t i = 0; i < name.n; i++)
		out[i] = ascii_lower(name.p[i]);
	out[name.n] = '\0';
}

static bool ascii_to_ascii(struct str name, char out[IDN_NAME_MAX])
{
	if (!is_ascii_name(name))
		return false;
	lower(name, out);
	return true;
}

static bool utf8_to_ascii(struct str name, char out[IDN_NAME_MAX])
{
	/* A label's UTF-8 is at most four times as long as its A-label. */
	char lowered[4 * IDN_NAME_MAX];

	if (name.n == 0 || name.n >= sizeof(lowered) || memchr(name.p, '\0', name.n))
		return false;
	lower(name, lowered);
	return idn_is_utf8(name) && convert(lowered, out);
}

bool idn_to_ascii(struct str name, char out[IDN_NAME_MAX])
{
	return idn_is_ascii(name) ? ascii_to_ascii(name, out) : utf8_to_ascii(name, out);
}
