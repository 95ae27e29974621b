/*
 * Channels: c-ares on the loop. A *channel* is one c-ares handle with its sockets; a busy one of
 * older c-ares keeps one UDP port, which makes forged answers easier, so after some queries a new
 * channel takes over and the old one ends when its last answer has come.
 *
 * The library calls back from inside its own functions: callbacks only note what came, owners are
 * called from a task, and a channel ends there, too.
 */
#ifndef NET_RESOLVER_CHANNEL_PRIV_H
#define NET_RESOLVER_CHANNEL_PRIV_H

/* The deprecated calls are those that 1.18 has, too. */
#define CARES_NO_DEPRECATED

#include <ares.h>
#include <sys/queue.h>

#include "base/err.h"
#include "net/loop.h"
#include "net/resolver.h"

struct channels;

struct channel {
	LIST_ENTRY(channel) link;
	struct channels *channels;
	ares_channel ares;
	struct timer tick; /* due not after the first deadline inside the library */
	LIST_HEAD(, socket_watch) watches;
	unsigned sent, pending; /* queries */
};

struct channels {
	struct loop *loop;
	int try_ms, tries;
	LIST_HEAD(, channel) list; /* the first one takes new queries */
};

/* -1: the servers cannot be understood, or the library cannot begin; nothing is open then. */
int channels_open(struct channels *channels, struct loop *loop,
	const struct resolver_settings *settings, struct err *err);
/* Queries under way end with ARES_EDESTRUCTION. */
void channels_close(struct channels *channels);

struct channel *channel_for_query(struct channels *channels);
/* Before a query is sent; its callback takes one off `pending`. */
void channel_sends(struct channel *channel);
/* Not from inside the library. */
void channels_free_drained(struct channels *channels);

/* Those of a resolver. */
struct channels *resolver_channels(struct resolver *resolver);

#endif
