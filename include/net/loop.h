/*
 * The event loop: libev in one place. Timers that are cheap to move, tasks for the end of the
 * turn, and a retire list: nothing is freed under a caller.
 *
 * One turn: events are handled, those of sockets before deadlines (where the program was kept from
 * running, what has come meanwhile is not late); then the deferred tasks run (tasks that they defer run in the
 * same round, up to a budget); then streams with output write it, once each; then what was
 * retired is freed; then the loop sleeps, unless tasks are left: then it only looks for events.
 */
#ifndef NET_LOOP_H
#define NET_LOOP_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct loop; /* opaque; one a process */

struct loop *loop_new(void);

/* Frees what is retired; tasks that are left are forgotten. Watchers must have been stopped. */
void loop_free(struct loop **loop);

/* Runs until loop_stop() is called; the turn in which that happens is finished. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* For the files of net/ that own watchers. */
struct ev_loop *loop_ev(struct loop *loop);

/* Milliseconds of the monotonic clock, as of the beginning of this turn (before the loop runs:
 * as of the call). */
uint64_t loop_now_ms(const struct loop *loop);

/* The number of this turn, never 0 (before the loop runs: of the last one). It begins anew after
 * 2^32. */
uint32_t loop_turn(const struct loop *loop);

/* A buffer of LOOP_SCRATCH_SIZE bytes that is valid until control returns to the loop; for
 * reads whose bytes are looked at once. */
#define LOOP_SCRATCH_SIZE 65536
char *loop_scratch(struct loop *loop);

/*
 * A deadline, embedded in what it serves. Moving it later costs no system call and no heap
 * operation: the libev timer is left alone and looks again when it fires.
 */
struct timer {
	ev_timer watcher;
	struct loop *loop;
	uint64_t due_ms; /* 0: not set */
	void (*expired)(void *ctx);
	void *ctx;
};

void timer_init(struct timer *timer, struct loop *loop, void (*expired)(void *ctx), void *ctx);
/* Expires once, in `ms` from now (0: in the next turn); replaces an earlier deadline. */
void timer_set(struct timer *timer, uint64_t ms);
/* Forgets the deadline. The watcher may stay armed (it will find nothing due). */
void timer_clear(struct timer *timer);
/* Stops the watcher; must be called before the memory goes. */
void timer_stop(struct timer *timer);

/* Work for the end of this turn, embedded in what it serves. Deferring twice is deferring once. */
struct task {
	TAILQ_ENTRY(task) link;
	void (*run)(void *ctx);
	void *ctx;
	bool is_pending;
	uint8_t queue; /* for loop.c: which one it is in */
};

void task_init(struct task *task, void (*run)(void *ctx), void *ctx);
void task_defer(struct task *task, struct loop *loop);
void task_cancel(struct task *task, struct loop *loop);

/* The same queue, run after all tasks: streams flush their output here. */
void task_defer_flush(struct task *task, struct loop *loop);

/* A flush that is due in this turn waits for a later one, as more is soon to come: until it is
 * deferred again, but no longer than LOOP_HOLD_MS. Does nothing to a task that is not due. */
#define LOOP_HOLD_MS 100
void task_hold_flush(struct task *task, struct loop *loop);

/* Calls free_it(object) at the end of this turn, after tasks and flushes. */
void loop_retire(struct loop *loop, void (*free_it)(void *object), void *object);

/* A signal handled as an event of the loop. */
struct loop_signal {
	ev_signal watcher;
	void (*caught)(void *ctx, int signum);
	void *ctx;
};
void loop_signal_start(struct loop_signal *signal, struct loop *loop, int signum,
	void (*caught)(void *ctx, int signum), void *ctx);
void loop_signal_stop(struct loop_signal *signal, struct loop *loop);

#endif
