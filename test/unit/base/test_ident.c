#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/ident.h"
#include "base/str.h"

static bool is_upper_hex(char c)
{
	return ascii_is_digit(c) || (c >= 'A' && c <= 'F');
}

/* RFC 4122 section 4.4: version 4, variant 10x. */
static void assert_is_uuid(const char *id)
{
	assert_int_equal(strlen(id), IDENT_TEXT_MAX - 1);
	for (int i = 0; i < IDENT_TEXT_MAX - 1; i++)
		if (i == 8 || i == 13 || i == 18 || i == 23)
			assert_int_equal(id[i], '-');
		else
			assert_true(is_upper_hex(id[i]));
	assert_int_equal(id[14], '4');
	assert_non_null(strchr("89AB", id[19]));
}

static void makes_random_uuids(void **state)
{
	char ids[200][IDENT_TEXT_MAX];

	(void)state;
	for (int i = 0; i < 200; i++) {
		ident_make(ids[i]);
		assert_is_uuid(ids[i]);
		for (int other = 0; other < i; other++)
			assert_string_not_equal(ids[i], ids[other]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(makes_random_uuids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
