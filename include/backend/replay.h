/*
 * The part of a message that was sent to a server, kept so that another server can get it when the
 * first one is lost before the final dot. Bounded for each message, and for all together.
 */
#ifndef BACKEND_REPLAY_H
#define BACKEND_REPLAY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/str.h"

/* What all messages together may keep; one a process. */
struct replay_budget {
	size_t max, used; /* bytes of memory, which are more than those of the messages */
};

struct replay {
	struct replay_budget *budget;
	struct buf bytes;
	bool is_whole; /* everything that was added is there */
};

/* Zeroes it: nothing is kept before replay_begin(). */
void replay_init(struct replay *replay, struct replay_budget *budget);
/* Forgets what is kept; of the message that begins at most `max` bytes will be. */
void replay_begin(struct replay *replay, size_t max);
/* Keeps a copy; when there is no room for it, all is dropped: a part would be of no use. */
void replay_add(struct replay *replay, struct str bytes);

#endif
