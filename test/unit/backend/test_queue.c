#include "backend/queue.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/loop_run.h"
#include "support/servers.h"

#define WAITERS 8
#define LONG_MS 60000

static struct server_settings servers[2];
static struct backend_settings settings;
static struct backend backend;
static struct loop *loop;

/* A session: waits, and takes a connection when its turn has come. */
struct waiter {
	struct server_wait wait;
	struct server_choice choice;
	struct server *server;
	bool is_over, in_time, takes_nothing, waits_again;
	unsigned place; /* in the order of the calls */
	struct waiter *cancels;
};

static struct waiter waiters[WAITERS];
static unsigned calls;

static int setup(void **state)
{
	(void)state;
	settings = make_backend_settings("a", BALANCE_FIRST, servers, 2);
	servers[0].max_connections = 1;
	servers[1].weight = 0;
	backend_init(&backend, &settings);
	loop = loop_new();
	memset(waiters, 0, sizeof(waiters));
	calls = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (size_t i = 0; i < WAITERS; i++)
		backend_wait_cancel(&waiters[i].wait);
	backend_free(&backend);
	loop_free(&loop);
	free_server_settings(servers, 2);
	return 0;
}

static bool choose(struct waiter *waiter)
{
	struct ipaddr client = ipaddr_from_v4((uint8_t[]){ 192, 0, 2, 1 });

	waiter->server = backend_choose(&backend, &client, loop_now_ms(loop), &waiter->choice);
	if (waiter->server != NULL)
		server_acquire(waiter->server);
	return waiter->server != NULL;
}

static void over(void *ctx, bool in_time)
{
	struct waiter *waiter = ctx;

	assert_false(waiter->is_over && !waiter->waits_again);
	waiter->in_time = in_time;
	waiter->place = ++calls;
	if (waiter->cancels != NULL)
		backend_wait_cancel(&waiter->cancels->wait);
	if (waiter->waits_again && !waiter->is_over) {
		waiter->is_over = true;
		assert_true(backend_wait(
			&backend, &waiter->wait, loop, LONG_MS, &waiter->choice, over, waiter));
		return;
	}
	waiter->is_over = true;
	if (in_time && !waiter->takes_nothing)
		choose(waiter);
}

static bool wait_as(struct waiter *waiter, uint64_t ms)
{
	assert_false(choose(waiter));
	assert_true(waiter->choice.is_full);
	return backend_wait(&backend, &waiter->wait, loop, ms, &waiter->choice, over, waiter);
}

static void fill(void)
{
	struct waiter first = { 0 };

	assert_true(choose(&first));
}

static void test_first_come_first_served(void **state)
{
	(void)state;
	fill();
	for (size_t i = 0; i < 3; i++)
		assert_true(wait_as(&waiters[i], LONG_MS));
	for (size_t i = 0; i < 3; i++) {
		server_release(&backend.servers[0]);
		assert_false(waiters[i].is_over); /* never from inside the call */
		assert_true(loop_run_until(loop, &waiters[i].is_over));
		assert_true(waiters[i].in_time);
		assert_ptr_equal(waiters[i].server, &backend.servers[0]);
		assert_int_equal(waiters[i].place, i + 1);
	}
	assert_int_equal(backend.waiting_count, 0);
	assert_int_equal(backend.servers[0].connections, 1);
}

/* What becomes free is not for who comes later. */
static void test_nobody_overtakes(void **state)
{
	(void)state;
	fill();
	assert_true(wait_as(&waiters[0], LONG_MS));
	server_release(&backend.servers[0]);
	assert_true(wait_as(&waiters[1], LONG_MS));
	assert_true(loop_run_until(loop, &waiters[0].is_over));
	assert_non_null(waiters[0].server);
	assert_false(waiters[1].is_over);
}

static void test_bound(void **state)
{
	(void)state;
	settings.queue = 2;
	fill();
	assert_true(wait_as(&waiters[0], LONG_MS));
	assert_true(wait_as(&waiters[1], LONG_MS));
	assert_false(wait_as(&waiters[2], LONG_MS));
	backend_wait_cancel(&waiters[0].wait);
	waiters[2].choice = (struct server_choice){ 0 };
	assert_true(wait_as(&waiters[2], LONG_MS));
	backend_wait_cancel(&waiters[0].wait);
	assert_int_equal(backend.waiting_count, 2);
}

static void test_time_is_over(void **state)
{
	(void)state;
	fill();
	assert_true(wait_as(&waiters[0], 20));
	assert_true(wait_as(&waiters[1], LONG_MS));
	assert_true(loop_run_until(loop, &waiters[0].is_over));
	assert_false(waiters[0].in_time);
	assert_false(waiters[1].is_over);
	/* Its time does not begin anew. */
	assert_false(backend_wait(
		&backend, &waiters[0].wait, loop, LONG_MS, &waiters[0].choice, over, &waiters[0]));
}

/* One that finds nothing after all is the next one again. */
static void test_waiting_again(void **state)
{
	(void)state;
	fill();
	waiters[0].waits_again = true;
	assert_true(wait_as(&waiters[0], LONG_MS));
	assert_true(wait_as(&waiters[1], LONG_MS));
	waiters[1].takes_nothing = true;
	server_release(&backend.servers[0]);
	assert_true(loop_run_until(loop, &waiters[0].is_over));
	assert_ptr_equal(TAILQ_FIRST(&backend.waiting), &waiters[0].wait);
}

/* A turn that is not taken goes to the next. */
static void test_turn_not_taken(void **state)
{
	(void)state;
	fill();
	waiters[0].takes_nothing = true;
	waiters[0].cancels = &waiters[1];
	for (size_t i = 0; i < 3; i++)
		assert_true(wait_as(&waiters[i], LONG_MS));
	server_release(&backend.servers[0]);
	assert_true(loop_run_until(loop, &waiters[2].is_over));
	assert_false(waiters[1].is_over);
	assert_non_null(waiters[2].server);
}

/* Who has tried the server that has room does not keep it from those behind. */
static void test_room_that_is_no_use_to_the_first(void **state)
{
	(void)state;
	servers[1].weight = servers[1].max_connections = 1;
	fill();
	server_acquire(&backend.servers[1]);
	waiters[0].choice.tried = 1;
	assert_true(wait_as(&waiters[0], LONG_MS));
	assert_true(wait_as(&waiters[1], LONG_MS));
	server_release(&backend.servers[0]);
	assert_true(loop_run_until(loop, &waiters[1].is_over));
	assert_false(waiters[0].is_over);
	server_release(&backend.servers[1]);
	assert_true(loop_run_until(loop, &waiters[0].is_over));
	assert_ptr_equal(waiters[0].server, &backend.servers[1]);
}

/* Nothing to wait for any more: told at once, so that it can be said. */
static void test_server_that_comes_up(void **state)
{
	static const struct smtp_capabilities none;

	(void)state;
	servers[1].weight = 1;
	for (size_t i = 0; i < 3; i++)
		server_note(&backend.servers[1], SERVER_CONNECT_FAILED, loop_now_ms(loop));
	fill();
	assert_true(wait_as(&waiters[0], LONG_MS));
	server_learn(&backend.servers[1], &none, loop_now_ms(loop));
	server_learn(&backend.servers[1], &none, loop_now_ms(loop));
	assert_true(loop_run_until(loop, &waiters[0].is_over));
	assert_ptr_equal(waiters[0].server, &backend.servers[1]);
}

static void test_idle_connections_are_room(void **state)
{
	(void)state;
	fill();
	assert_true(wait_as(&waiters[0], LONG_MS));
	server_idle(&backend.servers[0]);
	waiters[0].takes_nothing = true;
	assert_true(loop_run_until(loop, &waiters[0].is_over));
	server_busy(&backend.servers[0]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_first_come_first_served),
		TEST(test_nobody_overtakes),
		TEST(test_bound),
		TEST(test_time_is_over),
		TEST(test_waiting_again),
		TEST(test_turn_not_taken),
		TEST(test_room_that_is_no_use_to_the_first),
		TEST(test_server_that_comes_up),
		TEST(test_idle_connections_are_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
