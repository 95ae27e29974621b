/* Parts of SCRAM's messages (RFC 5802 section 7), for both sides. */
#ifndef AUTH_SCRAM_PRIV_H
#define AUTH_SCRAM_PRIV_H

#include <stdbool.h>

#include "base/str.h"

/* Takes an attribute "x=value" off the front of *rest, a comma behind it included; the value must
 * not be empty. False: another one is there. */
bool scram_take_attribute(struct str *rest, char name, struct str *value);

/* Extensions mean nothing to us, but they must be some: *( "," ALPHA "=" value ). */
bool scram_are_extensions(struct str rest);

/* printable = %x21-2B / %x2D-7E */
bool scram_is_nonce(struct str s);

#endif
