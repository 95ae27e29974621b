/*
 * Where a server is, as the settings say it: "10.0.1.10:25", "[2001:db8::1]:25", "mx.internal:25",
 * or "unix:/run/mta.sock".
 */
#ifndef BACKEND_ADDRESS_H
#define BACKEND_ADDRESS_H

#include <stdbool.h>

#include "base/err.h"
#include "base/ipaddr.h"
#include "base/str.h"
#include "conf/schema.h"

enum address_kind { ADDRESS_IP, ADDRESS_NAME, ADDRESS_UNIX };

struct backend_address {
	enum address_kind kind;
	struct str text; /* in canonical form, NUL-terminated, owned: what logs call the server */
	struct endpoint endpoint; /* of NAME: the port alone */
	struct str host;          /* of NAME: in lower case, IDN as A-labels; a view into `text` */
	struct str path;          /* of UNIX: absolute; a view into `text` */
};

/* False with "must be ..." in `why`. Free it with backend_address_free(). */
bool backend_address_parse(struct str text, struct backend_address *address, struct err *why);
void backend_address_free(struct backend_address *address);

/* For a row of type CUSTOM. */
void backend_address_read(
	struct conf_node *node, void *value, const void *arg, struct conf_errors *errors);
void backend_address_clear(void *value, const void *arg);
void backend_address_print(const void *value, const void *arg, struct buf *out);
extern const char backend_address_schema[];

#endif
