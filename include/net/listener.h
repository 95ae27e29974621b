/*
 * A listening socket: accepts in a bounded loop, backs off when the process is out of
 * descriptors (EMFILE, ENFILE, ENOBUFS, ENOMEM) instead of spinning, and can be paused.
 */
#ifndef NET_LISTENER_H
#define NET_LISTENER_H

#include <stdbool.h>

#include "base/err.h"
#include "base/ipaddr.h"
#include "net/loop.h"

#define LISTENER_BACKLOG 1024
#define LISTENER_ACCEPTS_A_TURN 64
#define LISTENER_BACKOFF_MS 200

struct listener_events {
	/* Takes over `fd` (non-blocking, close-on-exec, TCP_NODELAY). `local` is the socket's own end. */
	void (*accepted)(
		void *ctx, int fd, const struct endpoint *peer, const struct endpoint *local);
	/* accept(2) failed; called at most once a second; accepting goes on after the back-off. */
	void (*failed)(void *ctx, const struct err *err);
};

struct listener {
	struct loop *loop;
	int fd;
	struct endpoint address; /* as bound; the port is filled in when 0 was asked for */
	ev_io watcher;
	struct timer backoff;
	const struct listener_events *events;
	void *ctx;
	bool is_accepting;
	uint64_t last_told_ms;
};

/* Binds and listens (SO_REUSEADDR, IPV6_V6ONLY); accepting begins with listener_start. The text
 * of `err` begins with the address. */
int listener_open(struct listener *listener, struct loop *loop, const struct endpoint *address,
	const struct listener_events *events, void *ctx, struct err *err);
void listener_start(struct listener *listener);
void listener_stop(struct listener *listener);
/* Idempotent. All three may be called from inside the events. */
void listener_close(struct listener *listener);

#endif
