#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

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

/* Both go on with what was drawn before, and must not draw the same. */
static void child_makes_others(void **state)
{
	char own[IDENT_TEXT_MAX], others[IDENT_TEXT_MAX];
	int ends[2];

	(void)state;
	ident_make(own);
	assert_int_equal(pipe(ends), 0);
	pid_t child = fork();
	if (child == 0) {
		ident_make(own);
		_exit(write(ends[1], own, sizeof(own)) == sizeof(own) ? 0 : 1);
	}
	ident_make(own);
	assert_int_equal(read(ends[0], others, sizeof(others)), sizeof(others));
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_is_uuid(others);
	assert_string_not_equal(own, others);
	close(ends[0]);
	close(ends[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(makes_random_uuids),
		cmocka_unit_test(child_makes_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
