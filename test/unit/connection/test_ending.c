#include "example.h"

#include <stdio.h>
#include <string.h>

#include "connection/ending.h"

static void test_words_are_words(void **state)
{
	(void)state;
	for (int i = 0; i < ENDING_COUNT; i++) {
		const char *word = ending_word((enum ending)i);

		assert_true(strlen(word) > 0);
		assert_int_equal(strspn(word, "abcdefghijklmnopqrstuvwxyz_"), strlen(word));
		for (int j = 0; j < i; j++)
			assert_string_not_equal(word, ending_word((enum ending)j));
	}
}

static void test_whose_fault(void **state)
{
	(void)state;
	assert_string_equal(ending_word(ENDING_QUIT), "quit");
	assert_false(ending_is_error(ENDING_QUIT));
	assert_false(ending_is_error(ENDING_CLIENT_CLOSED));
	assert_true(ending_is_error(ENDING_CLIENT_TIMEOUT));
	assert_true(ending_is_error(ENDING_PROXY_INVALID));
}

static void test_reference_has_every_word(void **state)
{
	struct buf out;
	char cell[64];

	(void)state;
	buf_init(&out, 65536);
	ending_print_reference(&out);
	struct str page = buf_view(&out);
	for (int i = 0; i < ENDING_COUNT; i++) {
		snprintf(cell, sizeof(cell), "\n| `%s` | %s | ", ending_word((enum ending)i),
			ending_is_error((enum ending)i) ? "yes" : "no");
		assert_non_null(memmem(page.p, page.n, cell, strlen(cell)));
	}
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words_are_words),
		cmocka_unit_test(test_whose_fault),
		cmocka_unit_test(test_reference_has_every_word),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
