/*
 * Who a peer says that its client is: XCLIENT and AUTH of the session, XFORWARD of the transaction.
 *
 * XCLIENT is Postfix's: announced attributes only (501), not inside a transaction (503), and a
 * session is good for one client: once ADDR was given the next one is 550 and no EHLO announces it
 * any more, unless --xclient-again. It goes back to the banner: EHLO is due, AUTH is forgotten; LOGIN
 * in the same command is who is authenticated then. Attributes are kept as they came; the record
 * decodes them.
 */
#ifndef BACKEND_IDENTITY_H
#define BACKEND_IDENTITY_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/str.h"

#define IDENTITY_VALUE_MAX 255
#define IDENTITY_TEXT_MAX 65536

struct identity {
	struct buf xclient; /* "ADDR=… PORT=…" of the last XCLIENT */
	bool is_claimed;    /* it had ADDR */
	/* Of AUTH, or "XCLIENT"; NULL: nobody. */
	const char *mechanism;
	struct buf user;
};

void identity_init(struct identity *identity);
void identity_free(struct identity *identity);

void identity_authenticate(struct identity *identity, const char *mechanism, struct str user);

/* Takes "NAME=value" off the front of *list; false at its end. */
bool identity_next(struct str *list, struct str *name, struct str *value);

/* xtext, RFC 3461 section 4, strictly; false when it is not, or longer than `max`. */
bool identity_decode(struct str text, char *out, size_t max, size_t *n);

#endif
