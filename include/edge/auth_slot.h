/*
 * The authentication service of one listener. A users file is read anew when it changes; a broken
 * new file keeps the users that were there and says so.
 */
#ifndef EDGE_AUTH_SLOT_H
#define EDGE_AUTH_SLOT_H

#include <sys/stat.h>

#include "auth/auth.h"
#include "edge/edge.h"
#include "edge/settings.h"

struct auth_slot {
	struct str name; /* of the listener, for the log */
	const struct auth_settings *settings;
	struct auth_service *service; /* NULL: no AUTH here */
	struct stat users;            /* of the users file when it was read last */
};

/* Of the edge its loop, its routes with their backends, and what connections to those share. */
int auth_slot_open(struct auth_slot *slot, const struct edge *edge, struct str name,
	const struct auth_settings *settings, struct err *err);
/* Only reads what the opening would read. -1 with what is wrong. */
int auth_slot_check(const struct auth_settings *settings, struct err *err);
void auth_slot_close(struct auth_slot *slot);

/* Reads the users anew when the file has changed, or in any case with `always`. */
void auth_slot_refresh(struct auth_slot *slot, bool always);

#endif
