#include "net/loop.h"

#include <stdlib.h>
#include <time.h>

#include "base/assert.h"
#include "base/block.h"
#include "base/log.h"
#include "base/xalloc.h"

/* Tasks run in one turn, so that tasks which defer each other cannot starve the sockets. */
#define TASKS_A_TURN 4096
#define HELD_BEAT_S (LOOP_HOLD_MS / 2000.0)
/* While memory is kept it is tidied once a second; less often when that takes long, so that it takes a
 * hundredth of the time at most. */
#define TIDY_BEAT_S 1.0
#define TIDY_SHARE 100

TAILQ_HEAD(task_queue, task);

/* HELD grows OLD with each beat of a timer, and what is OLD then becomes due. */
enum queue { QUEUE_TASKS, QUEUE_FLUSHES, QUEUE_HELD, QUEUE_OLD, QUEUE_COUNT };

struct retired {
	void (*free_it)(void *object);
	void *object;
};

struct loop {
	struct ev_loop *ev;
	ev_check turn_begin;
	ev_prepare turn_end;
	ev_idle no_sleep; /* active while work is left for the next turn */
	bool is_running;
	uint32_t turn;
	uint64_t now_ms;
	struct task_queue queues[QUEUE_COUNT];
	ev_timer held_beat; /* active while something is held */
	ev_timer tidy_beat; /* active while blocks of memory are kept */
	struct retired *retired;
	size_t retired_count, retired_capacity;
	char scratch[LOOP_SCRATCH_SIZE];
};

static uint64_t clock_ms(void)
{
	struct timespec now;
	int rc = clock_gettime(CLOCK_MONOTONIC, &now);

	ASSERT(rc == 0);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- Turns --------------------------------------------------------------------------------- */

static void begin_turn(struct ev_loop *ev, ev_check *watcher, int revents)
{
	struct loop *loop = watcher->data;

	(void)ev;
	(void)revents;
	loop->now_ms = clock_ms();
	if (++loop->turn == 0)
		loop->turn = 1;
}

/* The idle watcher exists to keep the loop from sleeping. */
static void do_nothing(struct ev_loop *ev, ev_idle *watcher, int revents)
{
	(void)ev;
	(void)watcher;
	(void)revents;
}

static void remove_task(struct loop *loop, struct task *task)
{
	TAILQ_REMOVE(&loop->queues[task->queue], task, link);
	task->is_pending = false;
}

static void add_task(struct loop *loop, struct task *task, enum queue queue)
{
	TAILQ_INSERT_TAIL(&loop->queues[queue], task, link);
	task->queue = (uint8_t)queue;
	task->is_pending = true;
}

static void run_first(struct loop *loop, enum queue queue)
{
	struct task *task = TAILQ_FIRST(&loop->queues[queue]);

	remove_task(loop, task);
	task->run(task->ctx);
}

static void run_tasks(struct loop *loop)
{
	for (unsigned i = 0; i < TASKS_A_TURN && !TAILQ_EMPTY(&loop->queues[QUEUE_TASKS]); i++)
		run_first(loop, QUEUE_TASKS);
}

/* A mark at the end of the queue tells what is deferred by the flushes themselves: those wait
 * for the next turn. A mark and not a count, as flushes may be cancelled meanwhile. */
static void run_flushes(struct loop *loop)
{
	struct task mark = { .is_pending = false };

	add_task(loop, &mark, QUEUE_FLUSHES);
	while (TAILQ_FIRST(&loop->queues[QUEUE_FLUSHES]) != &mark)
		run_first(loop, QUEUE_FLUSHES);
	remove_task(loop, &mark);
}

static void move_tasks(struct loop *loop, enum queue from, enum queue to)
{
	struct task *task;

	while ((task = TAILQ_FIRST(&loop->queues[from])) != NULL) {
		remove_task(loop, task);
		add_task(loop, task, to);
	}
}

static void beat_held(struct ev_loop *ev, ev_timer *watcher, int revents)
{
	struct loop *loop = watcher->data;

	(void)revents;
	move_tasks(loop, QUEUE_OLD, QUEUE_FLUSHES);
	move_tasks(loop, QUEUE_HELD, QUEUE_OLD);
	if (TAILQ_EMPTY(&loop->queues[QUEUE_OLD]))
		ev_timer_stop(ev, watcher);
}

static void tidy(struct ev_loop *ev, ev_timer *watcher, int revents)
{
	uint64_t start_ms = clock_ms();

	(void)revents;
	block_tidy();
	double took_s = (double)(clock_ms() - start_ms) / 1000.0;
	watcher->repeat = TIDY_BEAT_S + TIDY_SHARE * took_s;
	if (block_kept() > 0)
		ev_timer_again(ev, watcher);
	else
		ev_timer_stop(ev, watcher);
}

static void tidy_later(struct loop *loop)
{
	if (block_kept() > 0 && !ev_is_active(&loop->tidy_beat))
		ev_timer_again(loop->ev, &loop->tidy_beat);
}

/* Freeing may retire more. */
static void free_retired(struct loop *loop)
{
	for (size_t i = 0; i < loop->retired_count; i++) {
		struct retired retired = loop->retired[i];
		retired.free_it(retired.object);
	}
	loop->retired_count = 0;
}

static void end_turn(struct loop *loop)
{
	run_tasks(loop);
	log_flush();
	run_flushes(loop);
	free_retired(loop);
	log_flush();
	tidy_later(loop);
	if (TAILQ_EMPTY(&loop->queues[QUEUE_TASKS]) && TAILQ_EMPTY(&loop->queues[QUEUE_FLUSHES]))
		ev_idle_stop(loop->ev, &loop->no_sleep);
	else
		ev_idle_start(loop->ev, &loop->no_sleep);
}

static void before_sleep(struct ev_loop *ev, ev_prepare *watcher, int revents)
{
	(void)ev;
	(void)revents;
	end_turn(watcher->data);
}

struct loop *loop_new(void)
{
	struct loop *loop = xcalloc(1, sizeof(*loop));

	/* NOENV: the environment (LIBEV_FLAGS) does not choose another backend. */
	loop->ev = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
	ASSERT(loop->ev != NULL);
	loop->turn = 1;
	for (unsigned i = 0; i < QUEUE_COUNT; i++)
		TAILQ_INIT(&loop->queues[i]);
	ev_timer_init(&loop->held_beat, beat_held, HELD_BEAT_S, HELD_BEAT_S);
	loop->held_beat.data = loop;
	ev_timer_init(&loop->tidy_beat, tidy, TIDY_BEAT_S, TIDY_BEAT_S);
	ev_set_priority(&loop->tidy_beat, EV_MINPRI);
	ev_check_init(&loop->turn_begin, begin_turn);
	ev_set_priority(&loop->turn_begin, EV_MAXPRI);
	loop->turn_begin.data = loop;
	ev_check_start(loop->ev, &loop->turn_begin);
	ev_prepare_init(&loop->turn_end, before_sleep);
	loop->turn_end.data = loop;
	ev_prepare_start(loop->ev, &loop->turn_end);
	ev_idle_init(&loop->no_sleep, do_nothing);
	return loop;
}

void loop_free(struct loop **loop_ptr)
{
	struct loop *loop = *loop_ptr;

	if (loop == NULL)
		return;
	ASSERT(!loop->is_running);
	free_retired(loop);
	ev_loop_destroy(loop->ev);
	free(loop->retired);
	free(loop);
	*loop_ptr = NULL;
}

void loop_run(struct loop *loop)
{
	ASSERT(!loop->is_running);
	loop->now_ms = clock_ms();
	loop->is_running = true;
	log_gather(true);
	ev_run(loop->ev, 0);
	/* A stop from an event leaves ev_run before the turn's end. */
	end_turn(loop);
	log_gather(false);
	loop->is_running = false;
}

void loop_stop(struct loop *loop)
{
	ev_break(loop->ev, EVBREAK_ALL);
}

struct ev_loop *loop_ev(struct loop *loop)
{
	return loop->ev;
}

uint64_t loop_now_ms(const struct loop *loop)
{
	return loop->is_running ? loop->now_ms : clock_ms();
}

uint32_t loop_turn(const struct loop *loop)
{
	return loop->turn;
}

char *loop_scratch(struct loop *loop)
{
	return loop->scratch;
}

/* ---- Timers --------------------------------------------------------------------------------- */

static void arm(struct timer *timer, uint64_t ms)
{
	struct ev_loop *ev = timer->loop->ev;

	ev_timer_stop(ev, &timer->watcher);
	ev_timer_set(&timer->watcher, (double)ms / 1000.0, 0.0);
	ev_timer_start(ev, &timer->watcher);
}

/* The deadline may have been moved or cleared since the watcher was armed. */
static void look_at_deadline(struct ev_loop *ev, ev_timer *watcher, int revents)
{
	struct timer *timer = watcher->data;

	(void)ev;
	(void)revents;
	if (timer->due_ms == 0)
		return;
	uint64_t now = loop_now_ms(timer->loop);
	if (timer->due_ms > now) {
		arm(timer, timer->due_ms - now);
		return;
	}
	timer->due_ms = 0;
	timer->expired(timer->ctx);
}

void timer_init(struct timer *timer, struct loop *loop, void (*expired)(void *ctx), void *ctx)
{
	*timer = (struct timer){ .loop = loop, .expired = expired, .ctx = ctx };
	ev_init(&timer->watcher, look_at_deadline);
	/* Behind the sockets: what is late may have come meanwhile, when it was we who slept. */
	ev_set_priority(&timer->watcher, EV_MINPRI);
	timer->watcher.data = timer;
}

void timer_set(struct timer *timer, uint64_t ms)
{
	uint64_t due_ms = loop_now_ms(timer->loop) + ms;
	bool is_later = timer->due_ms != 0 && timer->due_ms <= due_ms;

	timer->due_ms = due_ms;
	if (is_later)
		return; /* the watcher comes before, and looks again */
	if (ev_is_active(&timer->watcher)) {
		double left_s = ev_timer_remaining(timer->loop->ev, &timer->watcher);
		if (left_s * 1000.0 <= (double)ms)
			return;
	}
	arm(timer, ms);
}

void timer_clear(struct timer *timer)
{
	timer->due_ms = 0;
}

void timer_stop(struct timer *timer)
{
	timer->due_ms = 0;
	if (timer->loop != NULL)
		ev_timer_stop(timer->loop->ev, &timer->watcher);
}

/* ---- Tasks ----------------------------------------------------------------------------------- */

void task_init(struct task *task, void (*run)(void *ctx), void *ctx)
{
	*task = (struct task){ .run = run, .ctx = ctx };
}

void task_defer(struct task *task, struct loop *loop)
{
	if (!task->is_pending)
		add_task(loop, task, QUEUE_TASKS);
}

static bool is_held(const struct task *task)
{
	return task->is_pending && (task->queue == QUEUE_HELD || task->queue == QUEUE_OLD);
}

void task_defer_flush(struct task *task, struct loop *loop)
{
	if (is_held(task))
		remove_task(loop, task);
	if (!task->is_pending)
		add_task(loop, task, QUEUE_FLUSHES);
}

void task_hold_flush(struct task *task, struct loop *loop)
{
	if (!task->is_pending || task->queue != QUEUE_FLUSHES)
		return;
	remove_task(loop, task);
	add_task(loop, task, QUEUE_HELD);
	if (!ev_is_active(&loop->held_beat))
		ev_timer_again(loop->ev, &loop->held_beat);
}

void task_cancel(struct task *task, struct loop *loop)
{
	if (task->is_pending)
		remove_task(loop, task);
}

void loop_retire(struct loop *loop, void (*free_it)(void *object), void *object)
{
	if (loop->retired_count == loop->retired_capacity) {
		loop->retired_capacity = loop->retired_capacity ? 2 * loop->retired_capacity : 64;
		loop->retired =
			xrealloc(loop->retired, loop->retired_capacity, sizeof(*loop->retired));
	}
	loop->retired[loop->retired_count++] = (struct retired){ free_it, object };
}

/* ---- Signals --------------------------------------------------------------------------------- */

static void tell_signal(struct ev_loop *ev, ev_signal *watcher, int revents)
{
	struct loop_signal *signal = watcher->data;

	(void)ev;
	(void)revents;
	signal->caught(signal->ctx, watcher->signum);
}

void loop_signal_start(struct loop_signal *signal, struct loop *loop, int signum,
	void (*caught)(void *ctx, int signum), void *ctx)
{
	*signal = (struct loop_signal){ .caught = caught, .ctx = ctx };
	ev_signal_init(&signal->watcher, tell_signal, signum);
	signal->watcher.data = signal;
	ev_signal_start(loop->ev, &signal->watcher);
}

void loop_signal_stop(struct loop_signal *signal, struct loop *loop)
{
	ev_signal_stop(loop->ev, &signal->watcher);
}
