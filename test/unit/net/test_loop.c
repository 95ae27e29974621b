#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

#include "base/block.h"
#include "net/loop.h"
#include "support/loop_run.h"

/* What happened, in order, one letter each. */
struct story {
	struct loop *loop;
	char text[64];
	size_t n;
};

static void tell(struct story *story, char what)
{
	assert_true(story->n + 1 < sizeof(story->text));
	story->text[story->n++] = what;
}

static uint64_t real_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int setup(void **state)
{
	struct story *story = calloc(1, sizeof(*story));

	story->loop = loop_new();
	*state = story;
	return 0;
}

static int teardown(void **state)
{
	struct story *story = *state;

	loop_free(&story->loop);
	assert_null(story->loop);
	loop_free(&story->loop);
	free(story);
	return 0;
}

/* ---- Memory ----------------------------------------------------------------------------------- */

static bool has_given_back(void *ctx)
{
	(void)ctx;
	return block_kept() == 0;
}

/* A loop at rest does not sleep on memory that nobody needs. Under AddressSanitizer there is none. */
static void test_kept_memory_is_given_back(void **state)
{
	struct story *story = *state;

	block_give(block_take(1000), 1000);
	assert_true(loop_run_while(story->loop, LOOP_RUN_LIMIT_MS, has_given_back, NULL));
}

/* ---- Turns ----------------------------------------------------------------------------------- */

struct actor {
	struct story *story;
	char name;
	struct task task, flush;
	struct actor *next;
};

static void act(void *ctx)
{
	struct actor *actor = ctx;

	tell(actor->story, actor->name);
	task_defer_flush(&actor->flush, actor->story->loop);
	if (actor->next != NULL)
		task_defer(&actor->next->task, actor->story->loop);
}

static void act_flush(void *ctx)
{
	struct actor *actor = ctx;

	tell(actor->story, (char)(actor->name - 32));
}

static void actor_init(struct actor *actor, struct story *story, char name)
{
	*actor = (struct actor){ .story = story, .name = name };
	task_init(&actor->task, act, actor);
	task_init(&actor->flush, act_flush, actor);
}

static void note_retired(void *object)
{
	struct actor *actor = object;

	tell(actor->story, (char)(actor->name - 'a' + '0'));
}

static void test_order_of_a_turn(void **state)
{
	struct story *story = *state;
	struct actor a, b;

	actor_init(&a, story, 'a');
	actor_init(&b, story, 'b');
	a.next = &b;
	loop_retire(story->loop, note_retired, &a);
	loop_retire(story->loop, note_retired, &b);
	task_defer(&a.task, story->loop);
	task_defer(&a.task, story->loop); /* twice is once */
	loop_run_for(story->loop, 5);
	assert_string_equal(story->text, "abAB01");
}

static void test_cancelled_tasks_do_not_run(void **state)
{
	struct story *story = *state;
	struct actor actors[3];

	for (int i = 0; i < 3; i++) {
		actor_init(&actors[i], story, (char)('a' + i));
		task_defer(&actors[i].task, story->loop);
		task_defer_flush(&actors[i].flush, story->loop);
	}
	/* The last of a queue is the one that its head points to. */
	task_cancel(&actors[2].flush, story->loop);
	task_cancel(&actors[2].flush, story->loop);
	task_cancel(&actors[1].task, story->loop);
	loop_run_for(story->loop, 5);
	assert_string_equal(story->text, "acABC");
}

struct canceller {
	struct actor *victim;
	struct task task;
};

static void cancel_other(void *ctx)
{
	struct canceller *canceller = ctx;

	task_cancel(&canceller->victim->task, canceller->victim->story->loop);
	task_cancel(&canceller->victim->flush, canceller->victim->story->loop);
}

static void test_cancel_from_a_task(void **state)
{
	struct story *story = *state;
	struct actor victim;
	struct canceller canceller = { .victim = &victim };

	actor_init(&victim, story, 'a');
	for (int in_flush = 0; in_flush < 2; in_flush++) {
		task_init(&canceller.task, cancel_other, &canceller);
		if (in_flush)
			task_defer_flush(&canceller.task, story->loop);
		else
			task_defer(&canceller.task, story->loop);
		task_defer_flush(&victim.flush, story->loop);
		loop_run_for(story->loop, 5);
	}
	assert_string_equal(story->text, "");
}

struct again {
	struct loop *loop;
	struct task task;
	bool is_flush;
	unsigned count, most;
};

static void defer_again(void *ctx)
{
	struct again *again = ctx;

	if (++again->count >= again->most)
		return;
	if (again->is_flush)
		task_defer_flush(&again->task, again->loop);
	else
		task_defer(&again->task, again->loop);
}

static void stop(void *ctx)
{
	loop_stop(ctx);
}

static bool has_enough(void *ctx)
{
	const struct again *again = ctx;

	return again->count == again->most;
}

/* A task that defers itself for ever must not keep timers and sockets waiting. */
static void test_endless_tasks_do_not_starve(void **state)
{
	struct story *story = *state;
	struct again again = { .loop = story->loop, .most = UINT32_MAX };
	struct timer timer;

	for (int i = 0; i < 2; i++) {
		again.is_flush = i == 1;
		task_init(&again.task, defer_again, &again);
		timer_init(&timer, story->loop, stop, story->loop);
		timer_set(&timer, 20);
		defer_again(&again);
		loop_run(story->loop);
		timer_stop(&timer);
		task_cancel(&again.task, story->loop);
	}
	assert_true(again.count > 10);
}

/* Work that is left over is done without waiting for an event: there is one each millisecond. */
static void test_left_over_tasks_do_not_sleep(void **state)
{
	struct story *story = *state;
	struct again again = { .loop = story->loop, .most = 2 * LOOP_RUN_LIMIT_MS };

	for (int i = 0; i < 2; i++) {
		again.is_flush = i == 1;
		again.count = 0;
		task_init(&again.task, defer_again, &again);
		defer_again(&again);
		assert_true(loop_run_while(story->loop, LOOP_RUN_LIMIT_MS, has_enough, &again));
	}
}

static void test_stop_finishes_the_turn(void **state)
{
	struct story *story = *state;
	struct actor a;

	actor_init(&a, story, 'a');
	struct timer timer;
	timer_init(&timer, story->loop, stop, story->loop);
	struct timer earlier;
	timer_init(&earlier, story->loop, act, &a);
	timer_set(&earlier, 0);
	timer_set(&timer, 0);
	loop_retire(story->loop, note_retired, &a);
	loop_run(story->loop);
	timer_stop(&timer);
	timer_stop(&earlier);
	assert_string_equal(story->text, "0aA");
}

static void retire_more(void *object)
{
	struct actor *actor = object;

	for (int i = 0; i < 8; i++)
		loop_retire(actor->story->loop, note_retired, actor->next);
}

static void test_retiring_may_retire(void **state)
{
	struct story *story = *state;
	struct actor a, b;

	actor_init(&a, story, 'a');
	actor_init(&b, story, 'b');
	a.next = &b;
	for (int i = 0; i < 63; i++)
		loop_retire(story->loop, free, malloc(1));
	/* The list grows while it is walked. */
	loop_retire(story->loop, retire_more, &a);
	loop_run_for(story->loop, 5);
	assert_string_equal(story->text, "11111111");
}

static void test_free_frees_what_is_retired(void **state)
{
	struct story *story = *state;

	loop_retire(story->loop, free, malloc(1)); /* else the leak checker tells */
}

/* ---- Timers ---------------------------------------------------------------------------------- */

struct alarm {
	struct loop *loop;
	struct timer timer;
	uint64_t rang_ms;
	unsigned count;
	uint64_t again_ms;
};

static void ring(void *ctx)
{
	struct alarm *alarm = ctx;

	alarm->count++;
	alarm->rang_ms = real_ms();
	if (alarm->again_ms != 0)
		timer_set(&alarm->timer, alarm->again_ms);
}

static void alarm_init(struct alarm *alarm, struct loop *loop)
{
	*alarm = (struct alarm){ .loop = loop };
	timer_init(&alarm->timer, loop, ring, alarm);
}

static const struct timer_case {
	const char *name;
	uint64_t first, second; /* UINT64_MAX: not set again; 0 as second: cleared */
	uint64_t expected;      /* 0: never */
} timer_cases[] = {
	{ "once", 30, UINT64_MAX, 30 },
	{ "at once", 0, UINT64_MAX, 0 },
	{ "moved later", 10, 60, 60 },
	{ "moved earlier", 500, 30, 30 },
	{ "cleared", 20, 0, 0 },
};

static void test_timers(void **state)
{
	struct story *story = *state;
	struct alarm alarm;

	for (size_t i = 0; i < sizeof(timer_cases) / sizeof(timer_cases[0]); i++) {
		const struct timer_case *c = &timer_cases[i];
		bool is_cleared = c->second == 0;
		alarm_init(&alarm, story->loop);
		uint64_t begin = real_ms();
		timer_set(&alarm.timer, c->first);
		if (is_cleared)
			timer_clear(&alarm.timer);
		else if (c->second != UINT64_MAX)
			timer_set(&alarm.timer, c->second);
		loop_run_for(story->loop, 120);
		timer_stop(&alarm.timer);
		if (alarm.count != (is_cleared ? 0U : 1U))
			fail_msg("%s: rang %u times", c->name, alarm.count);
		if (is_cleared)
			continue;
		if (alarm.rang_ms - begin < c->expected)
			fail_msg("%s: after %u ms", c->name, (unsigned)(alarm.rang_ms - begin));
	}
}

/* Moved later while the loop runs: the watcher fires early, looks, and waits for the rest. */
static void push_back(void *ctx)
{
	struct alarm *other = ctx;

	timer_set(&other->timer, 400);
}

static void test_moved_later_in_a_turn(void **state)
{
	struct story *story = *state;
	struct alarm alarm;
	struct timer mover;

	alarm_init(&alarm, story->loop);
	timer_init(&mover, story->loop, push_back, &alarm);
	uint64_t begin = real_ms();
	timer_set(&alarm.timer, 300);
	timer_set(&mover, 5);
	loop_run_for(story->loop, 500);
	assert_int_equal(alarm.count, 1);
	assert_true(alarm.rang_ms - begin >= 404);
	timer_stop(&alarm.timer);
	timer_stop(&mover);
}

static bool has_rung_often(void *ctx)
{
	const struct alarm *alarm = ctx;

	return alarm->count >= 5;
}

static void test_timer_set_while_expiring(void **state)
{
	struct story *story = *state;
	struct alarm alarm;

	alarm_init(&alarm, story->loop);
	alarm.again_ms = 10;
	uint64_t begin = real_ms();
	timer_set(&alarm.timer, 10);
	assert_true(loop_run_while(story->loop, LOOP_RUN_LIMIT_MS, has_rung_often, &alarm));
	assert_true(real_ms() - begin >= 10 * alarm.count - 1);
	timer_stop(&alarm.timer);
	timer_stop(&alarm.timer);
	unsigned count = alarm.count;
	loop_run_for(story->loop, 30);
	assert_int_equal(alarm.count, count);
}

/* The machine had no time for us: the answer is there, and the deadline is over as well. */
static void hear(struct ev_loop *ev, ev_io *io, int revents)
{
	struct story *story = io->data;

	(void)revents;
	tell(story, 'i');
	ev_io_stop(ev, io);
}

static void be_late(void *ctx)
{
	struct story *story = ctx;

	tell(story, 't');
	loop_stop(story->loop);
}

static void test_what_has_come_is_heard_before_a_deadline(void **state)
{
	struct story *story = *state;
	struct timer timers[3];
	ev_io io;
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	assert_int_equal(write(ends[1], "x", 1), 1);
	ev_io_init(&io, hear, ends[0], EV_READ);
	io.data = story;
	ev_io_start(loop_ev(story->loop), &io);
	for (size_t i = 0; i < 3; i++) {
		timer_init(&timers[i], story->loop, be_late, story);
		timer_set(&timers[i], 1);
	}
	usleep(20000);
	loop_run(story->loop);
	assert_string_equal(story->text, "ittt");
	for (size_t i = 0; i < 3; i++)
		timer_stop(&timers[i]);
	close(ends[0]);
	close(ends[1]);
}

static void test_stop_of_an_unused_timer(void **state)
{
	struct timer zeroed = { 0 };

	(void)state;
	timer_stop(&zeroed);
}

/* ---- Signals --------------------------------------------------------------------------------- */

static void catch_signal(void *ctx, int signum)
{
	struct story *story = ctx;

	tell(story, signum == SIGUSR1 ? 'u' : 'x');
	loop_stop(story->loop);
}

static void test_signals(void **state)
{
	struct story *story = *state;
	struct loop_signal signal;

	loop_signal_start(&signal, story->loop, SIGUSR1, catch_signal, story);
	kill(getpid(), SIGUSR1);
	loop_run(story->loop);
	loop_signal_stop(&signal, story->loop);
	assert_string_equal(story->text, "u");
}

static void test_scratch_is_writable(void **state)
{
	struct story *story = *state;

	memset(loop_scratch(story->loop), 'x', LOOP_SCRATCH_SIZE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_order_of_a_turn),
		TEST(test_cancelled_tasks_do_not_run),
		TEST(test_cancel_from_a_task),
		TEST(test_endless_tasks_do_not_starve),
		TEST(test_left_over_tasks_do_not_sleep),
		TEST(test_stop_finishes_the_turn),
		TEST(test_retiring_may_retire),
		TEST(test_free_frees_what_is_retired),
		TEST(test_timers),
		TEST(test_moved_later_in_a_turn),
		TEST(test_timer_set_while_expiring),
		TEST(test_what_has_come_is_heard_before_a_deadline),
		TEST(test_stop_of_an_unused_timer),
		TEST(test_kept_memory_is_given_back),
		TEST(test_signals),
		TEST(test_scratch_is_writable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
