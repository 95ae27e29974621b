/*
 * Which user may use which sender, on one listener: auth.sender_login, read anew when its file
 * changes.
 */
#ifndef EDGE_SENDER_SLOT_H
#define EDGE_SENDER_SLOT_H

#include <stdbool.h>

#include "base/map_file.h"
#include "edge/settings.h"
#include "policy/checks/sender_login.h"

struct sender_slot {
	struct map_file file;
	struct sender_login login; /* stays where it is; its map is that of the file */
};

/* Without auth.sender_login there is nothing in it. `name` is the listener's. The settings outlive
 * the slot. A file without a sender is a notice in the log now, and later changes nothing. */
int sender_slot_open(struct sender_slot *slot, struct str name,
	const struct auth_settings *settings, struct err *err);
/* Only reads the file; the reason begins with its path. */
int sender_slot_check(const struct auth_settings *settings, struct err *err);
void sender_slot_close(struct sender_slot *slot);
void sender_slot_refresh(struct sender_slot *slot, bool always);

/* NULL: senders are not tied to users here. */
const struct sender_login *sender_slot_login(const struct sender_slot *slot);

#endif
