#include "backend/replay.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>

#include <cmocka.h>

static void assert_kept(const struct replay *replay, const char *text)
{
	assert_true(replay->is_whole);
	assert_true(str_eq(buf_view(&replay->bytes), str_from(text)));
}

static void test_what_fits_is_kept(void **state)
{
	struct replay_budget budget = { .max = 100 };
	struct replay replay;

	(void)state;
	replay_init(&replay, &budget);
	replay_begin(&replay, 10);
	replay_add(&replay, STR("01234"));
	replay_add(&replay, STR(""));
	replay_add(&replay, STR("56789"));
	assert_kept(&replay, "0123456789");
	assert_int_equal(budget.used, 10);
	replay_begin(&replay, 10);
	assert_kept(&replay, "");
	assert_int_equal(budget.used, 0);
}

/* A part would be of no use, and what comes behind it neither. */
static void test_what_does_not_fit_drops_all(void **state)
{
	struct replay_budget budget = { .max = 100 };
	struct replay replay;

	(void)state;
	replay_init(&replay, &budget);
	replay_begin(&replay, 10);
	replay_add(&replay, STR("0123456789"));
	replay_add(&replay, STR("x"));
	assert_false(replay.is_whole);
	assert_int_equal(budget.used, 0);
	replay_add(&replay, STR("y"));
	assert_false(replay.is_whole);
	assert_int_equal(budget.used, 0);
	replay_begin(&replay, 0);
	assert_true(replay.is_whole);
}

static void test_all_together_are_bounded(void **state)
{
	struct replay_budget budget = { .max = 25 };
	struct replay one, two, three;

	(void)state;
	replay_init(&one, &budget);
	replay_init(&two, &budget);
	replay_init(&three, &budget);
	replay_begin(&one, 10);
	replay_begin(&two, 10);
	replay_begin(&three, 10);
	replay_add(&one, STR("0123456789"));
	replay_add(&two, STR("01234"));
	assert_kept(&two, "01234");
	replay_add(&three, STR("012345"));
	assert_false(three.is_whole);
	assert_kept(&one, "0123456789");
	assert_int_equal(budget.used, 20);
	/* What one gives back another may use. */
	replay_begin(&one, 10);
	replay_begin(&three, 15);
	replay_add(&three, STR("012345678901234"));
	assert_kept(&three, "012345678901234");
	replay_begin(&two, 0);
	replay_begin(&three, 0);
	assert_int_equal(budget.used, 0);
}

/* Buffers grow by doubling: counted by their bytes, many messages took nearly twice the limit. */
static void test_memory_is_what_counts(void **state)
{
	enum { MESSAGES = 16, KEPT_MAX = 1 << 20 };
	struct replay_budget budget = { .max = 300000 };
	struct replay replays[MESSAGES];
	char bytes[1000] = "";
	size_t memory = 0;

	(void)state;
	for (size_t i = 0; i < MESSAGES; i++) {
		replay_init(&replays[i], &budget);
		replay_begin(&replays[i], KEPT_MAX);
	}
	for (size_t n = 0; n < 33; n++)
		for (size_t i = 0; i < MESSAGES; i++)
			replay_add(&replays[i], str_make(bytes, sizeof(bytes)));
	for (size_t i = 0; i < MESSAGES; i++)
		memory += replays[i].bytes.capacity;
	assert_true(memory > budget.max / 2 && memory <= budget.max);
	assert_int_equal(budget.used, memory);
	for (size_t i = 0; i < MESSAGES; i++)
		replay_begin(&replays[i], 0);
	assert_int_equal(budget.used, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_fits_is_kept),
		cmocka_unit_test(test_what_does_not_fit_drops_all),
		cmocka_unit_test(test_all_together_are_bounded),
		cmocka_unit_test(test_memory_is_what_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
