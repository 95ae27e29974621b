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

static void fail_times(char what, struct str who, int times, uint64_t now_ms)
{
	for (int i = 0; i < times; i++)
		auth_guard_failed(&guard, what, who, WINDOW, now_ms);
}

static bool is_limited(char what, struct str who, uint64_t now_ms)
{
	return auth_guard_is_limited(&guard, what, who, LIMIT, WINDOW, now_ms);
}

static void test_the_limit(void **state)
{
	(void)state;
	assert_false(is_limited('u', ANNA, 5000));
	fail_times('u', ANNA, LIMIT - 1, 5000);
	assert_false(is_limited('u', ANNA, 5000));
	fail_times('u', ANNA, 1, 5001);
	assert_true(is_limited('u', ANNA, 5001));
	/* Nobody else is. */
	assert_false(is_limited('u', STR("bert@example.com"), 5001));
	assert_false(is_limited('u', STR("anna@example.co"), 5001));
	assert_false(is_limited('c', ANNA, 5001));
	fail_times('c', CLIENT, LIMIT, 5001);
	assert_true(is_limited('c', CLIENT, 5001));
	assert_false(is_limited('u', CLIENT, 5001));
	assert_false(is_limited('c', STR("198.51.100.77"), 5001));
}

static void test_no_limit(void **state)
{
	(void)state;
	fail_times('u', ANNA, 100, 5000);
	assert_false(auth_guard_is_limited(&guard, 'u', ANNA, 0, WINDOW, 5000));
	assert_true(auth_guard_is_limited(&guard, 'u', ANNA, 100, WINDOW, 5000));
	assert_false(auth_guard_is_limited(&guard, 'u', ANNA, 101, WINDOW, 5000));
}

/* A user has one name in any case of letters: else each spelling would have its own guesses. */
static void test_letters(void **state)
{
	(void)state;
	fail_times('u', STR("Anna@Example.com"), 1, 5000);
	fail_times('u', STR("ANNA@EXAMPLE.COM"), 1, 5000);
	fail_times('u', ANNA, 1, 5000);
	assert_true(is_limited('u', STR("aNNa@example.com"), 5000));
}

/* The window begins with the first failure and does not move; only time forgives. */
static void test_the_window(void **state)
{
	(void)state;
	fail_times('u', ANNA, LIMIT, 5000);
	fail_times('u', ANNA, 1, 5000 + WINDOW - 1);
	assert_true(is_limited('u', ANNA, 5000 + WINDOW - 1));
	assert_false(is_limited('u', ANNA, 5000 + WINDOW));
	fail_times('u', ANNA, LIMIT - 1, 5000 + WINDOW);
	assert_false(is_limited('u', ANNA, 5000 + WINDOW));
	fail_times('u', ANNA, 1, 5000 + WINDOW);
	assert_true(is_limited('u', ANNA, 5000 + 2 * WINDOW - 1));
	assert_false(is_limited('u', ANNA, 5000 + 2 * WINDOW));
}

/* Very long names count too, by what they begin with: nothing is read or written behind it. */
static void test_long_names(void **state)
{
	static char name[4096];

	(void)state;
	memset(name, 'x', sizeof(name));
	fail_times('u', str_make(name, sizeof(name)), LIMIT, 5000);
	assert_true(is_limited('u', str_make(name, sizeof(name)), 5000));
	assert_false(is_limited('u', str_make(name, 100), 5000));
	fail_times('u', STR(""), LIMIT, 5000);
	assert_true(is_limited('u', STR(""), 5000));
	assert_false(is_limited('c', STR(""), 5000));
}

static struct str client(char text[32], unsigned i)
{
	int n = snprintf(text, 32, "2001:db8::%x", i);

	return str_make(text, (size_t)n);
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
		auth_guard_failed(&guard, 'c', client(text, i), 1000000, 1 + i);
	for (unsigned i = 0; i < 1000; i++) {
		early += auth_guard_is_limited(&guard, 'c', client(text, i), 1, 1000000, many);
		late += auth_guard_is_limited(
			&guard, 'c', client(text, many - 1 - i), 1, 1000000, many);
	}
	assert_int_equal(early, 0);
	assert_true(late > 990);
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
		TEST(test_the_limit),
		TEST(test_no_limit),
		TEST(test_letters),
		TEST(test_the_window),
		TEST(test_long_names),
		TEST(test_many_clients),
		TEST(test_waits),
		TEST(test_the_key_is_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
