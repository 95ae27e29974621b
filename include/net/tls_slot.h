/*
 * A TLS context that is read anew when its files change: all or nothing, a broken new file keeps
 * what was there and says so. Connections under way keep the context they began with.
 */
#ifndef NET_TLS_SLOT_H
#define NET_TLS_SLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "net/tls.h"

/* Makes a context by the owner's settings; NULL: they cannot be used. */
typedef struct tls_context *tls_slot_make(const void *settings, struct err *err);

struct tls_slot {
	struct str name; /* of the listener or backend, for the log */
	tls_slot_make *make;
	const void *settings;
	struct tls_context *context; /* NULL: never opened */
	uint64_t files_state;        /* when the context was made, or a change was found broken */
};

/* -1 when the files cannot be used: at the start that is an error. */
int tls_slot_open(struct tls_slot *slot, struct str name, tls_slot_make *make, const void *settings,
	struct err *err);
void tls_slot_close(struct tls_slot *slot);

/* Reads the files anew when they have changed, or in any case with `always`. Nothing for a slot
 * that was zeroed and never opened. */
void tls_slot_refresh(struct tls_slot *slot, bool always);

#endif
