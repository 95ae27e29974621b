/*
 * One attempt to connect to one address, with a deadline. The answer always comes later, from the
 * loop, never from inside connector_start; after connector_cancel none comes.
 */
#ifndef NET_CONNECTOR_H
#define NET_CONNECTOR_H

#include "base/err.h"
#include "base/ipaddr.h"
#include "base/str.h"
#include "net/loop.h"

struct connector {
	struct loop *loop;
	int fd;
	ev_io watcher;
	struct timer deadline;
	struct task failure; /* connect(2) failed at once */
	struct err err;
	/* `fd` is connected, non-blocking, with TCP_NODELAY, and the owner's; or -1 with the reason in `err`. */
	void (*done)(void *ctx, int fd, const struct err *err);
	void *ctx;
};

void connector_start(struct connector *connector, struct loop *loop, const struct endpoint *address,
	uint64_t timeout_ms, void (*done)(void *ctx, int fd, const struct err *err), void *ctx);
/* Likewise, to the Unix socket at `path`, which is not needed after the call. A server whose backlog
 * is full is a failure (Linux does not wait there). */
void connector_start_unix(struct connector *connector, struct loop *loop, struct str path,
	uint64_t timeout_ms, void (*done)(void *ctx, int fd, const struct err *err), void *ctx);
/* For who has nothing to connect to: `done` is told of `err`, from the loop as well. */
void connector_fail(struct connector *connector, struct loop *loop, const struct err *err,
	void (*done)(void *ctx, int fd, const struct err *err), void *ctx);
/* Idempotent; also for a connector that was zeroed and never started. */
void connector_cancel(struct connector *connector);

#endif
