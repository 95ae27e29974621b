/*
 * Runs a loop for a test: for a time, or until something is true (and fails when that does not
 * come true within LOOP_RUN_LIMIT_MS). A time has some turns in it, also when the machine stood
 * still and it was over before the first of them.
 */
#ifndef TEST_SUPPORT_LOOP_RUN_H
#define TEST_SUPPORT_LOOP_RUN_H

#include <stdbool.h>

#include "net/loop.h"

#define LOOP_RUN_LIMIT_MS 30000
#define LOOP_RUN_TURNS 8

struct loop_run {
	struct loop *loop;
	struct timer timer;
	uint64_t end_ms, slice_ms;
	unsigned turns; /* that are still to come */
	bool (*is_done)(void *ctx);
	void *ctx;
	bool is_reached;
};

static inline void loop_run_look(void *ctx)
{
	struct loop_run *run = ctx;

	run->is_reached = run->is_done != NULL && run->is_done(run->ctx);
	if (run->turns > 0)
		run->turns--;
	if (run->is_reached || (run->turns == 0 && loop_now_ms(run->loop) >= run->end_ms))
		loop_stop(run->loop);
	else
		timer_set(&run->timer, run->slice_ms);
}

static inline bool loop_run_while(
	struct loop *loop, uint64_t ms, bool (*is_done)(void *), void *ctx)
{
	struct loop_run run = { .loop = loop, .is_done = is_done, .ctx = ctx };

	run.end_ms = loop_now_ms(loop) + ms;
	run.turns = ms < LOOP_RUN_TURNS ? (unsigned)ms : LOOP_RUN_TURNS;
	run.slice_ms = is_done != NULL || ms < LOOP_RUN_TURNS ? 1 : ms / LOOP_RUN_TURNS;
	timer_init(&run.timer, loop, loop_run_look, &run);
	timer_set(&run.timer, is_done != NULL ? 0 : run.slice_ms);
	loop_run(loop);
	timer_stop(&run.timer);
	return run.is_reached;
}

static inline void loop_run_for(struct loop *loop, uint64_t ms)
{
	loop_run_while(loop, ms, NULL, NULL);
}

static inline bool loop_run_is_set(void *ctx)
{
	return *(bool *)ctx;
}

/* False: *flag did not become true in time. */
static inline bool loop_run_until(struct loop *loop, bool *flag)
{
	return loop_run_while(loop, LOOP_RUN_LIMIT_MS, loop_run_is_set, flag);
}

#endif
