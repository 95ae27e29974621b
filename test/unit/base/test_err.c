#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/err.h"

static void sets_text(void **state)
{
	struct err err;

	(void)state;
	assert_int_equal(err_set(&err, "no %s at %d", "room", 7), -1);
	assert_string_equal(err.text, "no room at 7");
}

static void describes_errno(void **state)
{
	struct err err;

	(void)state;
	errno = ENOENT;
	assert_int_equal(err_errno(&err, "open %s", "x"), -1);
	assert_string_equal(err.text, "open x: No such file or directory");
}

static void puts_prefixes_in_front(void **state)
{
	struct err err;

	(void)state;
	err_set(&err, "refused");
	assert_int_equal(err_prefix(&err, "server %d", 2), -1);
	assert_int_equal(err_prefix(&err, "backend"), -1);
	assert_string_equal(err.text, "backend: server 2: refused");
}

static void null_is_allowed(void **state)
{
	(void)state;
	assert_int_equal(err_set(NULL, "a"), -1);
	assert_int_equal(err_errno(NULL, "a"), -1);
	assert_int_equal(err_prefix(NULL, "a"), -1);
}

static void cuts_what_is_too_long(void **state)
{
	struct err err;
	char text[3 * ERR_TEXT_MAX];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	err_set(&err, "%s", text);
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
	err_prefix(&err, "%s", "p");
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
	assert_memory_equal(err.text, "p: xxx", 6);
	err_prefix(&err, "%s", text);
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
	errno = EPIPE;
	err_errno(&err, "%s", text);
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sets_text),
		cmocka_unit_test(describes_errno),
		cmocka_unit_test(puts_prefixes_in_front),
		cmocka_unit_test(null_is_allowed),
		cmocka_unit_test(cuts_what_is_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
