/*
 * The TLS context of one listener or backend, read anew when its files change: all or nothing, a
 * broken new file keeps what was there and says so. Sessions under way keep the context they began
 * with.
 */
#ifndef EDGE_TLS_SLOT_H
#define EDGE_TLS_SLOT_H

#include "edge/settings.h"
#include "net/tls.h"

struct tls_slot {
	struct str name;                   /* of the listener or backend, for the log */
	const struct tls_settings *server; /* one of the two */
	const struct backend_tls_settings *client;
	struct tls_context *context;
	uint64_t files_state; /* when the context was made, or a change was found broken */
};

/* -1 when the files cannot be used: at the start that is an error. */
int tls_slot_open_server(struct tls_slot *slot, struct str name,
	const struct tls_settings *settings, struct err *err);
int tls_slot_open_client(struct tls_slot *slot, struct str name,
	const struct backend_tls_settings *settings, struct err *err);
void tls_slot_close(struct tls_slot *slot);

/* Reads the files anew when they have changed, or in any case with `always`. */
void tls_slot_refresh(struct tls_slot *slot, bool always);

#endif
