#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>
#include <string.h>

#include "base/mistakes.h"

static void test_first_by_the_line_is_told(void **state)
{
	struct err err = { "" };
	struct mistakes mistakes = { .name = "users", .err = &err };

	(void)state;
	assert_int_equal(mistakes_conclude(&mistakes), 0);
	mistakes_add(&mistakes, 7, "%s is there already", "bob");
	assert_int_equal(mistakes_conclude(&mistakes), -1);
	assert_string_equal(err.text, "users:7: bob is there already");
	mistakes_add(&mistakes, 3, "must be name:hash");
	mistakes_add(&mistakes, 3, "not told");
	mistakes_add(&mistakes, 9, "nor this");
	assert_int_equal(mistakes_conclude(&mistakes), -1);
	assert_string_equal(err.text, "users:3: must be name:hash (and 3 more)");
}

/* What is cut is the text; nobody has to ask for it. */
static void test_long_ones_and_nobody_who_asks(void **state)
{
	char text[2 * ERR_TEXT_MAX];
	struct err err;
	struct mistakes mistakes = { .name = "m", .err = &err }, unasked = { .name = "m" };

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	for (int i = 0; i < 2; i++) {
		mistakes_add(&mistakes, 1, "%s", text);
		mistakes_add(&unasked, 1, "%s", text);
	}
	assert_int_equal(mistakes_conclude(&mistakes), -1);
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
	assert_int_equal(mistakes_conclude(&unasked), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_by_the_line_is_told),
		cmocka_unit_test(test_long_ones_and_nobody_who_asks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
