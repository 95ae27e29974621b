#include "auth/secret_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

static char path[64];

static int make_path(void **state)
{
	(void)state;
	snprintf(path, sizeof(path), "/tmp/secret-test-XXXXXX");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	return close(fd);
}

static int remove_path(void **state)
{
	(void)state;
	unlink(path);
	return 0;
}

static void put(struct str text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text.p, 1, text.n, file), text.n);
	fclose(file);
}

static struct secret_file make(void)
{
	return (struct secret_file){ .name = STR("mta"), .path = path };
}

static void test_good(void **state)
{
	static const struct {
		struct str text, password;
	} rows[] = {
		{ STR_INIT("secret\n"), STR_INIT("secret") },
		{ STR_INIT("secret"), STR_INIT("secret") },
		{ STR_INIT("secret\r\n"), STR_INIT("secret") },
		{ STR_INIT(" with spaces \n"), STR_INIT(" with spaces ") },
		{ STR_INIT("gr\xc3\xb6\xc3\x9f"
			   "er\n"),
			STR_INIT("gr\xc3\xb6\xc3\x9f"
				 "er") },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct secret_file file = make();
		struct err err = { "" };
		put(rows[i].text);
		if (secret_file_open(&file, &err) < 0)
			fail_msg("row %zu: %s", i, err.text);
		assert_true(str_eq(secret_file_password(&file), rows[i].password));
		secret_file_close(&file);
		assert_true(strstr(file.password, "secret") == NULL);
	}
}

static void test_bad(void **state)
{
	static const struct str rows[] = {
		STR_INIT(""),
		STR_INIT("\n"),
		STR_INIT("\r\n"),
		STR_INIT("hush-hush\n\n"),
		STR_INIT("hush-hush\nmore"),
		STR_INIT("\nhush-hush\n"),
		STR_INIT("hush\0hush\n"),
		STR_INIT("hush-\xff\n"),
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct secret_file file = make();
		struct err err = { "" };
		put(rows[i]);
		if (secret_file_open(&file, &err) == 0)
			fail_msg("row %zu", i);
		assert_int_equal(strncmp(err.text, path, strlen(path)), 0);
		assert_null(strstr(err.text, "hush"));
		secret_file_close(&file);
	}
}

static void test_longest(void **state)
{
	char text[SASL_PASSWORD_MAX + 8];

	(void)state;
	memset(text, 'p', sizeof(text));
	for (size_t n = SASL_PASSWORD_MAX; n < sizeof(text); n++) {
		struct secret_file file = make();
		struct err err;
		put(str_make(text, n));
		assert_int_equal(secret_file_open(&file, &err), n == SASL_PASSWORD_MAX ? 0 : -1);
		secret_file_close(&file);
	}
}

static void test_what_is_no_file(void **state)
{
	struct secret_file file = make();
	struct err err;

	(void)state;
	unlink(path);
	assert_int_equal(secret_file_open(&file, &err), -1);
	file.path = "/tmp";
	assert_int_equal(secret_file_open(&file, &err), -1);
	assert_int_equal(mkfifo(path, 0600), 0);
	file.path = path;
	assert_int_equal(secret_file_open(&file, &err), -1);
	assert_false(secret_file_refresh(&file, true));
	secret_file_close(&file);
}

static void test_changes(void **state)
{
	struct secret_file file = make();

	(void)state;
	put(STR("one\n"));
	assert_int_equal(secret_file_open(&file, NULL), 0);
	assert_false(secret_file_refresh(&file, false));
	put(STR("seven\n"));
	assert_true(secret_file_refresh(&file, false));
	assert_true(str_eq(secret_file_password(&file), STR("seven")));
	put(STR(""));
	assert_false(secret_file_refresh(&file, false));
	unlink(path);
	assert_false(secret_file_refresh(&file, true));
	assert_true(str_eq(secret_file_password(&file), STR("seven")));
	put(STR("two\n"));
	assert_true(secret_file_refresh(&file, false));
	assert_true(str_eq(secret_file_password(&file), STR("two")));
	/* Permissions that were mended are a change, too: the file could not be read before. */
	assert_int_equal(chmod(path, 0640), 0);
	assert_true(secret_file_refresh(&file, false));
	secret_file_close(&file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_good, make_path, remove_path),
		cmocka_unit_test_setup_teardown(test_bad, make_path, remove_path),
		cmocka_unit_test_setup_teardown(test_longest, make_path, remove_path),
		cmocka_unit_test_setup_teardown(test_what_is_no_file, make_path, remove_path),
		cmocka_unit_test_setup_teardown(test_changes, make_path, remove_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
