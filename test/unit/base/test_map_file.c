#include "base/map_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"

struct world {
	char folder[40], path[80], log[80];
	struct map_file file;
};

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

/* How often the log has it. */
static size_t logged(const struct world *world, const char *text)
{
	char bytes[8192] = "";
	size_t count = 0;
	FILE *file = fopen(world->log, "r");

	assert_non_null(file);
	bytes[fread(bytes, 1, sizeof(bytes) - 1, file)] = '\0';
	fclose(file);
	for (const char *p = bytes; (p = strstr(p, text)) != NULL; p++)
		count++;
	return count;
}

static int accept_short(void *ctx, struct str key, struct str value, struct err *err)
{
	(void)ctx;
	(void)key;
	return value.n < 5 ? 0 : err_set(err, "%.*s is too long", STR_ARG(value));
}

static int setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));
	struct err err;

	snprintf(world->folder, sizeof(world->folder), "/tmp/gatepost-map-XXXXXX");
	assert_non_null(mkdtemp(world->folder));
	snprintf(world->path, sizeof(world->path), "%s/map", world->folder);
	snprintf(world->log, sizeof(world->log), "%s/log", world->folder);
	assert_int_equal(log_open(world->log, LOG_FORMAT_JSON, LOG_INFO_LEVEL, "mx", &err), 0);
	world->file = (struct map_file){
		.name = STR("mx"),
		.kind = "sender_login",
		.path = world->path,
		.accepts = accept_short,
	};
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;
	struct err err;

	map_file_close(&world->file);
	log_open("stderr", LOG_FORMAT_JSON, LOG_INFO_LEVEL, "mx", &err);
	unlink(world->path);
	unlink(world->log);
	rmdir(world->folder);
	free(world);
	return 0;
}

static void expect(const struct world *world, const char *key, const char *value)
{
	assert_true(str_eq(map_find(world->file.map, str_from(key)), str_from(value)));
}

static void test_reload(void **state)
{
	struct world *world = *state;
	struct err err = { "" };

	write_file(world->path, "a@b one\n");
	assert_int_equal(map_file_open(&world->file, &err), 0);
	assert_false(map_file_refresh(&world->file, false));
	expect(world, "a@b", "one");
	assert_true(map_file_refresh(&world->file, true));
	assert_int_equal(logged(world, "\"files_read\""), 1);
	write_file(world->path, "a@b two\nc d\n");
	assert_true(map_file_refresh(&world->file, false));
	expect(world, "a@b", "two");
	assert_int_equal(logged(world, "\"name\":\"mx\",\"kind\":\"sender_login\""), 2);
	assert_false(map_file_refresh(&world->file, false));
}

/* Nothing of a broken file counts, and it is looked at once. */
static void test_broken_file_changes_nothing(void **state)
{
	struct world *world = *state;
	struct err err = { "" };

	write_file(world->path, "a@b one\n");
	assert_int_equal(map_file_open(&world->file, &err), 0);
	write_file(world->path, "a@b two\nc@d much too long\n");
	assert_false(map_file_refresh(&world->file, false));
	expect(world, "a@b", "one");
	assert_int_equal(logged(world, "map:2: much too long is too long"), 1);
	assert_false(map_file_refresh(&world->file, false));
	assert_int_equal(logged(world, "\"files_kept\""), 1);
	unlink(world->path);
	assert_false(map_file_refresh(&world->file, false));
	assert_false(map_file_refresh(&world->file, false));
	assert_int_equal(logged(world, "cannot open: No such file"), 1);
	expect(world, "a@b", "one");
	write_file(world->path, "a@b 3\n");
	assert_true(map_file_refresh(&world->file, false));
	expect(world, "a@b", "3");
}

/* Where that is asked for; what was empty from the beginning may be. */
static void test_emptied_file_changes_nothing(void **state)
{
	static const char *const empty[] = { "", "# nobody\n\n", "\n" };
	struct world *world = *state;
	struct err err = { "" };

	world->file.must_stay_filled = true;
	write_file(world->path, "# nobody yet\n");
	assert_int_equal(map_file_open(&world->file, &err), 0);
	assert_true(map_file_refresh(&world->file, true));
	write_file(world->path, "a@b one\n");
	assert_true(map_file_refresh(&world->file, true));
	for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++) {
		write_file(world->path, empty[i]);
		assert_false(map_file_refresh(&world->file, true));
		expect(world, "a@b", "one");
	}
	assert_int_equal(logged(world, "map: nothing is in it any more"), 3);
	world->file.must_stay_filled = false;
	assert_true(map_file_refresh(&world->file, true));
	expect(world, "a@b", "");
}

/* One that could not be read is read when its permissions were mended. */
static void test_permissions_are_a_change(void **state)
{
	struct world *world = *state;
	struct err err = { "" };

	write_file(world->path, "a@b one\n");
	assert_int_equal(map_file_open(&world->file, &err), 0);
	assert_int_equal(chmod(world->path, 0640), 0);
	assert_true(map_file_refresh(&world->file, false));
	assert_false(map_file_refresh(&world->file, false));
}

static void test_files_that_are_none(void **state)
{
	struct world *world = *state;
	struct err err = { "" };

	assert_int_equal(map_file_open(&world->file, &err), -1);
	assert_true(str_starts_with(str_from(err.text), str_from(world->path)));
	assert_false(map_file_refresh(&world->file, true));
	world->file.path = world->folder;
	assert_int_equal(map_file_open(&world->file, &err), -1);
	assert_non_null(strstr(err.text, "not a file"));
	/* One that nobody writes to must not be waited for. */
	world->file.path = world->path;
	assert_int_equal(mkfifo(world->path, 0600), 0);
	assert_int_equal(map_file_open(&world->file, &err), -1);
	assert_non_null(strstr(err.text, "not a file"));
	unlink(world->path);
	write_file(world->path, "a@b much too long\n");
	assert_int_equal(map_file_open(&world->file, &err), -1);
	assert_non_null(strstr(err.text, "map:1: "));
	write_file(world->path, "");
	assert_int_equal(truncate(world->path, MAP_TEXT_MAX + 1), 0);
	assert_int_equal(map_file_open(&world->file, &err), -1);
	assert_non_null(strstr(err.text, "larger than"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_reload, setup, teardown),
		cmocka_unit_test_setup_teardown(test_broken_file_changes_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_emptied_file_changes_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_permissions_are_a_change, setup, teardown),
		cmocka_unit_test_setup_teardown(test_files_that_are_none, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
