/*
 * Has the peer of a stream gone? A reset, or an end in both directions, does not show in what is
 * read in front of it, so the kernel is asked; and with the first stream all others that may ask in
 * the same turn, in one call: those that have asked before and whose input of this turn is still to
 * come. An answer is good until the turn ends.
 */
#ifndef NET_PRESENCE_PRIV_H
#define NET_PRESENCE_PRIV_H

#include <stdbool.h>

#include "net/stream.h"

#define PRESENCE_SEATS 64 /* so many streams are asked for in one call, at most */

/* The stream is open. */
bool presence_is_gone(struct stream *stream);

/* To be called before the stream is closed. */
void presence_leave(struct stream *stream);

#endif
