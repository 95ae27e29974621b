/*
 * Waiting for a connection to a server, when all of a backend's that could be used have as many as
 * they may (max_connections). First come, first served; at most `queue` of the backend's settings
 * wait, each for `timeouts.backend_queue` in all.
 */
#ifndef BACKEND_QUEUE_H
#define BACKEND_QUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "backend/backend.h"
#include "net/loop.h"

/* Embedded in who waits; zeroed before its first use. */
struct server_wait {
	TAILQ_ENTRY(server_wait) link;
	struct backend *backend; /* NULL: does not wait */
	struct server_choice *choice;
	struct timer deadline;
	unsigned round; /* it began to wait in this one: it is called in the next */
	void (*over)(void *ctx, bool in_time);
	void *ctx;
};

/*
 * Waits after a backend_choose() that found all full. `over` is called once, from the loop, never
 * from inside a call: in time there is room, and the owner chooses at once with the same `choice`
 * (if that finds all full once more it may wait again, at the head, for what is left of its time);
 * else the time is over. False: as many wait as may, or the time is used up; nothing is called.
 */
bool backend_wait(struct backend *backend, struct server_wait *wait, struct loop *loop,
	uint64_t timeout_ms, struct server_choice *choice, void (*over)(void *ctx, bool in_time),
	void *ctx);
/* Idempotent; also when it never waited. */
void backend_wait_cancel(struct server_wait *wait);

/* Somebody who waits may find room now: a connection was released, a server came up. Only notes
 * it; they are called from the loop. */
void backend_wake(struct backend *backend);
/* For backend/backend.c: the task. */
void backend_call_waiting(struct backend *backend);

#endif
