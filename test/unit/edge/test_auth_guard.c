#include "edge/auth_guard.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define WINDOW 1000
#define LIMIT 3
#define ANNA STR("anna@example.com")
#define CLIENT STR("198.51.100.7")
#define HOME STR("203.0.113.5")

static struct auth_guard guard;

static int setup(void **state)
{
	(void)state;
	auth_guard_init(&guard);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	auth_guard_free(&guard);
	return 0;
}

static void fail_times(struct str client, struct str user, int times, uint64_t now_ms)
{
	for (int i = 0; i < times; i++)
		auth_guard_failed(&guard, client, user, WINDOW, now_ms);
}

static bool is_limited(struct str client, uint64_t now_ms)
{
	return auth_guard_client_is_limited(&guard, client, LIMIT, WINDOW, now_ms);
}

static bool is_closed(struct str user, struct str client, uint64_t now_ms)
{
	return auth_guard_user_is_limited(&guard, client, user, LIMIT, WINDOW, now_ms);
}

static void test_clients(void **state)
{
	(void)state;
	assert_false(is_limited(CLIENT, 5000));
	fail_times(CLIENT, STR(""), LIMIT - 1, 5000);
	assert_false(is_limited(CLIENT, 5000));
	fail_times(CLIENT, ANNA, 1, 5001);
	assert_true(is_limited(CLIENT, 5001));
	/* Nobody else is. */
	assert_false(is_limited(STR("198.51.100.77"), 5001));
	assert_false(is_limited(STR("198.51.100"), 5001));
	assert_false(is_limited(ANNA, 5001));
	assert_false(is_closed(ANNA, CLIENT, 5001));
	/* A success changes nothing of it. */
	auth_guard_succeeded(&guard, CLIENT, ANNA, 5002);
	assert_true(is_limited(CLIENT, 5002));
}

static void test_no_limit(void **state)
{
	(void)state;
	fail_times(CLIENT, ANNA, 100, 5000);
	assert_false(auth_guard_client_is_limited(&guard, CLIENT, 0, WINDOW, 5000));
	assert_true(auth_guard_client_is_limited(&guard, CLIENT, 100, WINDOW, 5000));
	assert_false(auth_guard_client_is_limited(&guard, CLIENT, 101, WINDOW, 5000));
	assert_false(auth_guard_user_is_limited(&guard, CLIENT, ANNA, 0, WINDOW, 5000));
	assert_true(auth_guard_user_is_limited(&guard, CLIENT, ANNA, 100, WINDOW, 5000));
	assert_false(auth_guard_user_is_limited(&guard, CLIENT, ANNA, 101, WINDOW, 5000));
}

static struct str client(char text[32], unsigned i)
{
	int n = snprintf(text, 32, "2001:db8::%x", i);

	return str_make(text, (size_t)n);
}

/*
 * Whoever failed at a user often enough, from anywhere, locked him out: the limit of a user held for
 * all clients. Now the user is closed to those who guess, at the limit; to those who were never seen
 * with him at ten times that; and never to those that he comes from.
 */
static void test_a_user_is_closed_by_and_by(void **state)
{
	char text[32];

	(void)state;
	auth_guard_succeeded(&guard, HOME, ANNA, 4000);
	for (unsigned i = 0; i < LIMIT * AUTH_GUARD_CLOSED; i++) {
		assert_false(is_closed(ANNA, CLIENT, 5000));
		assert_false(is_closed(ANNA, client(text, i), 5000));
		fail_times(client(text, i), ANNA, 1, 5000);
		assert_int_equal(is_closed(ANNA, client(text, i), 5000), i + 1 >= LIMIT);
		assert_false(is_closed(ANNA, HOME, 5000));
	}
	assert_true(is_closed(ANNA, CLIENT, 5000));
	assert_false(is_closed(ANNA, HOME, 5000));
	/* Nobody else is closed, and nothing is known of who else comes from there. */
	assert_false(is_closed(STR("bert@example.com"), client(text, 1), 5000));
	assert_false(is_closed(STR("anna@example.co"), client(text, 1), 5000));
	fail_times(CLIENT, STR("bert@example.com"), LIMIT * AUTH_GUARD_CLOSED, 5000);
	assert_true(is_closed(STR("bert@example.com"), HOME, 5000));
	/* Also who comes from there is slowed, as a client. */
	fail_times(HOME, ANNA, LIMIT, 5000);
	assert_false(is_closed(ANNA, HOME, 5000));
	assert_true(is_limited(HOME, 5000));
}

/* Where a user comes from is forgotten after a month without a login. */
static void test_what_is_known_ends(void **state)
{
	uint64_t last = 4000 + AUTH_GUARD_KNOWN_MS - 1;

	(void)state;
	auth_guard_succeeded(&guard, HOME, ANNA, 4000);
	fail_times(CLIENT, ANNA, LIMIT * AUTH_GUARD_CLOSED, last);
	assert_false(is_closed(ANNA, HOME, last));
	assert_true(is_closed(ANNA, HOME, last + 1));
	auth_guard_succeeded(&guard, HOME, ANNA, last);
	assert_false(is_closed(ANNA, HOME, last + 1));
}

/* A user has one name in any case of letters: else each spelling would have its own guesses. */
static void test_letters(void **state)
{
	(void)state;
	auth_guard_succeeded(&guard, HOME, STR("ANNA@example.com"), 5000);
	fail_times(CLIENT, STR("Anna@Example.com"), 1, 5000);
	fail_times(CLIENT, STR("ANNA@EXAMPLE.COM"), 1, 5000);
	fail_times(CLIENT, ANNA, 1, 5000);
	assert_true(is_closed(STR("aNNa@example.com"), CLIENT, 5000));
	assert_false(is_closed(STR("aNNa@example.com"), HOME, 5000));
}

/* The window begins with the first failure and does not move; only time forgives. */
static void test_the_window(void **state)
{
	(void)state;
	fail_times(CLIENT, ANNA, LIMIT, 5000);
	fail_times(CLIENT, ANNA, 1, 5000 + WINDOW - 1);
	assert_true(is_limited(CLIENT, 5000 + WINDOW - 1));
	assert_true(is_closed(ANNA, CLIENT, 5000 + WINDOW - 1));
	assert_false(is_limited(CLIENT, 5000 + WINDOW));
	assert_false(is_closed(ANNA, CLIENT, 5000 + WINDOW));
	fail_times(CLIENT, ANNA, LIMIT - 1, 5000 + WINDOW);
	assert_false(is_limited(CLIENT, 5000 + WINDOW));
	fail_times(CLIENT, ANNA, 1, 5000 + WINDOW);
	assert_true(is_limited(CLIENT, 5000 + 2 * WINDOW - 1));
	assert_false(is_limited(CLIENT, 5000 + 2 * WINDOW));
}

/* Very long names count too, by what they begin with: nothing is read or written behind it. */
static void test_long_names(void **state)
{
	static char name[4096];
	struct str whole = str_make(name, sizeof(name));

	(void)state;
	memset(name, 'x', sizeof(name));
	fail_times(whole, whole, LIMIT, 5000);
	assert_true(is_limited(whole, 5000));
	assert_true(is_closed(whole, whole, 5000));
	assert_false(is_limited(str_make(name, 100), 5000));
	assert_false(is_closed(str_make(name, 100), whole, 5000));
}

/* Far more clients than entries: the table does not grow, the latest are known, and the oldest were
 * dropped rather than those. */
static void test_many_clients(void **state)
{
	const unsigned many = 10 * AUTH_GUARD_ENTRIES;
	unsigned early = 0, late = 0;
	char text[32];

	(void)state;
	for (unsigned i = 0; i < many; i++)
		auth_guard_failed(&guard, client(text, i), STR(""), 1000000, 1 + i);
	for (unsigned i = 0; i < 1000; i++) {
		early += auth_guard_client_is_limited(&guard, client(text, i), 1, 1000000, many);
		late += auth_guard_client_is_limited(
			&guard, client(text, many - 1 - i), 1, 1000000, many);
	}
	assert_int_equal(early, 0);
	assert_true(late > 990);
}

/* Nor do they push out what is limited, or where users come from. */
static void test_many_clients_do_not_help(void **state)
{
	const unsigned many = 10 * AUTH_GUARD_ENTRIES;
	char text[32], name[32];

	(void)state;
	auth_guard_succeeded(&guard, HOME, ANNA, 5000);
	fail_times(CLIENT, ANNA, LIMIT * AUTH_GUARD_CLOSED, 5000);
	for (unsigned i = 0; i < many; i++) {
		int n = snprintf(name, sizeof(name), "user%u", i);
		auth_guard_failed(&guard, client(text, i), str_make(name, (size_t)n), WINDOW, 5001);
	}
	assert_true(is_limited(CLIENT, 5001));
	assert_true(is_closed(ANNA, CLIENT, 5001));
	assert_true(is_closed(ANNA, STR("198.51.100.8"), 5001));
	assert_false(is_closed(ANNA, HOME, 5001));
}

static const struct {
	uint64_t delay, took, wait;
} waits[] = {
	{ 2000, 0, 2000 },
	{ 2000, 1, 1999 },
	{ 2000, 1999, 1 },
	{ 2000, 2000, 0 },
	{ 2000, 2001, 1999 },
	{ 2000, 5500, 500 },
	{ 1, 0, 1 },
	{ 1, 7, 0 },
	{ 0, 0, 0 },
	{ 0, 7, 0 },
};

/* The delay came on top of the check: names with a rarer kind of hash than most were told from those
 * that are not there by how long a refusal took. */
static void test_waits(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++)
		assert_int_equal(auth_guard_wait_ms(waits[i].delay, waits[i].took), waits[i].wait);
}

/* Two processes do not count alike: who fills one set cannot know which. */
static void test_the_key_is_random(void **state)
{
	struct auth_guard other;

	(void)state;
	auth_guard_init(&other);
	assert_memory_not_equal(&guard.key, &other.key, sizeof(other.key));
	auth_guard_free(&other);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_clients),
		TEST(test_no_limit),
		TEST(test_a_user_is_closed_by_and_by),
		TEST(test_what_is_known_ends),
		TEST(test_letters),
		TEST(test_the_window),
		TEST(test_long_names),
		TEST(test_many_clients),
		TEST(test_many_clients_do_not_help),
		TEST(test_waits),
		TEST(test_the_key_is_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
