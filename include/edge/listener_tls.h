/* From a listener's settings to its TLS context. */
#ifndef EDGE_LISTENER_TLS_H
#define EDGE_LISTENER_TLS_H

#include "edge/settings.h"
#include "net/tls_slot.h"

/* With mode off the slot is left zeroed. -1: the files cannot be used. */
int listener_tls_open(
	struct tls_slot *slot, const struct listener_settings *listener, struct err *err);

#endif
