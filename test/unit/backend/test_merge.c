#include "backend/merge.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define REPLIES_MAX 4

/* Of each case: the replies, the result, and the number of the reply that stands for all. */
static const struct {
	const char *replies[REPLIES_MAX]; /* "250 text"; "?": none came */
	enum merge_result result;
	int stands; /* -1: none */
} cases[] = {
	{ { "250 one" }, MERGE_ALL, 0 },
	{ { "250 one", "250 two", "250 three" }, MERGE_ALL, 0 },
	{ { "550 one" }, MERGE_NONE, 0 },
	{ { "550 one", "552 two", "554 three" }, MERGE_NONE, 0 },
	{ { "452 one", "451 two" }, MERGE_NONE, 0 },
	{ { "550 one", "452 two", "450 three" }, MERGE_NONE, 1 },
	{ { "452 one", "550 two" }, MERGE_NONE, 0 },
	{ { "421 one" }, MERGE_NONE, 0 },
	/* A refusal that blames us must not bounce anybody's mail. */
	{ { "550 one", "530 two" }, MERGE_NONE, 1 },
	{ { "530 one", "452 two" }, MERGE_NONE, 0 },
	{ { "250 one", "550 two" }, MERGE_PARTLY, -1 },
	{ { "452 one", "250 two" }, MERGE_PARTLY, -1 },
	{ { "250 one", "550 two", "452 three", "250 four" }, MERGE_PARTLY, -1 },
	{ { "?" }, MERGE_UNKNOWN, -1 },
	{ { "250 one", "?" }, MERGE_UNKNOWN, -1 },
	{ { "550 one", "?", "?" }, MERGE_UNKNOWN, -1 },
	{ { "250 one", "452 two", "?" }, MERGE_UNKNOWN, -1 },
};

static struct smtp_reply reply_of(const char *text)
{
	struct smtp_reply reply = { .line_count = 1, .text = str_from(text + 4) };

	for (size_t i = 0; i < 3; i++)
		reply.code = reply.code * 10 + (text[i] - '0');
	return reply;
}

static void add(struct merge *merge, struct str recipient, const char *text)
{
	if (*text == '?') {
		merge_add_unknown(merge, recipient);
		return;
	}
	/* The text is gone after the call, as that of a connection is. */
	char copy[64];
	snprintf(copy, sizeof(copy), "%s", text);
	struct smtp_reply reply = reply_of(copy);
	struct answer verdict;
	answer_from_reply(&verdict, SMTP_CLIENT_DOT, &reply, 0);
	merge_add(merge, recipient, &reply, &verdict);
	memset(copy, 'x', sizeof(copy));
}

static void add_all(struct merge *merge, const char *const replies[REPLIES_MAX])
{
	static const struct str names[REPLIES_MAX] = { STR_INIT("a@x"), STR_INIT("b@x"),
		STR_INIT("c@x"), STR_INIT("d@x") };

	for (size_t i = 0; i < REPLIES_MAX && replies[i] != NULL; i++)
		add(merge, names[i], replies[i]);
}

static void test_results(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct merge merge;
		merge_init(&merge);
		add_all(&merge, cases[i].replies);
		assert_int_equal(merge_result(&merge), cases[i].result);
		assert_int_equal(merge.delivered + merge.refused + merge.unknown, merge.count);
		if (cases[i].stands >= 0) {
			struct smtp_reply wanted = reply_of(cases[i].replies[cases[i].stands]);
			assert_int_equal(merge.reply.code, wanted.code);
			assert_true(str_eq(merge.reply.text, wanted.text));
		}
		merge_free(&merge);
		assert_int_equal(merge.count, 0);
	}
}

static void test_counts(void **state)
{
	const char *const replies[REPLIES_MAX] = { "550 one", "421 two", "530 three", "250 four" };
	struct merge merge;

	(void)state;
	merge_init(&merge);
	add_all(&merge, replies);
	assert_int_equal(merge.count, 4);
	assert_int_equal(merge.refused, 3);
	assert_int_equal(merge.deferred, 2);
	assert_true(merge.server_is_done);
	merge_free(&merge);
	assert_false(merge.server_is_done);
}

static void test_lists(void **state)
{
	const char *const replies[REPLIES_MAX] = { "250 one", "550 two", "452 three", "?" };
	struct merge merge;

	(void)state;
	merge_init(&merge);
	add_all(&merge, replies);
	add(&merge, STR("e@x"), "250 five");
	assert_true(str_eq(buf_view(&merge.delivered_list), STR("a@x, e@x")));
	assert_true(str_eq(buf_view(&merge.refused_list), STR("b@x (550 two), c@x (452 three)")));
	assert_true(str_eq(buf_view(&merge.unknown_list), STR("d@x")));
	merge_free(&merge);
}

/* However many they are: whole entries, and a word that some are missing. */
static void test_a_list_is_bounded(void **state)
{
	struct merge merge;

	(void)state;
	merge_init(&merge);
	for (size_t i = 0; i < 100000; i++)
		add(&merge, STR("somebody@example.com"), i % 2 ? "250 good" : "550 bad");
	assert_int_equal(merge.count, 100000);
	assert_true(buf_used(&merge.delivered_list) <= 16384);
	assert_true(str_ends_with_nocase(
		buf_view(&merge.delivered_list), STR(", somebody@example.com ...")));
	assert_true(str_ends_with_nocase(
		buf_view(&merge.refused_list), STR(", somebody@example.com (550 bad) ...")));
	assert_int_equal(merge_result(&merge), MERGE_PARTLY);
	merge_free(&merge);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_results),
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_a_list_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
