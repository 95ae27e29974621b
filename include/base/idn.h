/*
 * Internationalised domain names: U-labels to A-labels, strictly by IDNA 2008 (RFC 5891), without
 * any mapping. A name that a mapping would have to change first (capital letters outside ASCII,
 * full-width letters, soft hyphens) is refused, so two different spellings never become one.
 */
#ifndef BASE_IDN_H
#define BASE_IDN_H

#include <stdbool.h>

#include "base/str.h"

#define IDN_NAME_MAX 256 /* an A-label name with its terminator */

/*
 * `name` is UTF-8 (or ASCII, which is only put in lower case). False when it is not a valid
 * name; `out` is then unchanged. Valid are letters, digits, hyphen and underscore in labels of
 * 1-63 characters, at most IDN_NAME_MAX - 1 in all, no dot at the end. Capital ASCII letters are
 * put in lower case everywhere.
 */
bool idn_to_ascii(struct str name, char out[IDN_NAME_MAX]);

/* Is every byte below 0x80? */
bool idn_is_ascii(struct str s);
/* Is it valid UTF-8 (RFC 3629: no surrogates, no overlong forms)? */
bool idn_is_utf8(struct str s);

#endif
