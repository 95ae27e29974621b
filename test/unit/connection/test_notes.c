#include "example.h"

#include <stdio.h>
#include <string.h>

#include "support/json_check.h"

static struct str print(const struct notes *notes, struct buf *out)
{
	struct json json;

	buf_truncate(out, 0);
	json_init(&json, out);
	notes_write(notes, &json);
	assert_true(json_ok(&json));
	assert_true(json_is_valid(buf_view(out)));
	return buf_view(out);
}

/* One step after the other on the same notes, with what they are then. */
static void test_tree_by_path(void **state)
{
	static const struct {
		const char *path;
		enum note_type type;
		const char *text;
		int64_t number;
		const char *json;
	} steps[] = {
		{ "a", NOTE_TEXT, "x", 0, "{\"a\":\"x\"}" },
		{ "a", NOTE_TEXT, "y", 0, "{\"a\":\"y\"}" },
		{ "a", NOTE_NUMBER, NULL, -7, "{\"a\":-7}" },
		{ "b.c.d", NOTE_BOOL, NULL, 1, "{\"a\":-7,\"b\":{\"c\":{\"d\":true}}}" },
		{ "b.e", NOTE_TEXT, "", 0, "{\"a\":-7,\"b\":{\"c\":{\"d\":true},\"e\":\"\"}}" },
		{ "b.c.f", NOTE_BOOL, NULL, 0,
			"{\"a\":-7,\"b\":{\"c\":{\"d\":true,\"f\":false},\"e\":\"\"}}" },
		/* a value in the way of a level is replaced by it */
		{ "a.x.y", NOTE_NUMBER, NULL, 1,
			"{\"a\":{\"x\":{\"y\":1}},\"b\":{\"c\":{\"d\":true,\"f\":false},\"e\":\"\"}"
			"}" },
		/* and a level by a value */
		{ "b", NOTE_NUMBER, NULL, 2, "{\"a\":{\"x\":{\"y\":1}},\"b\":2}" },
		{ "a.x", NOTE_TEXT, "z", 0, "{\"a\":{\"x\":\"z\"},\"b\":2}" },
	};
	struct arena arena;
	struct notes notes;
	struct buf out;

	(void)state;
	arena_init(&arena, 65536);
	notes_init(&notes, &arena);
	buf_init(&out, 65536);
	assert_str_equal(print(&notes, &out), STR("{}"));
	assert_null(arena.blocks);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		struct str path = str_from(steps[i].path);
		bool is_set = false, is_true;
		int64_t number;
		struct str text;

		if (steps[i].type == NOTE_TEXT)
			is_set = notes_set_text(&notes, path, str_from(steps[i].text)) &&
				 notes_get_text(&notes, path, &text) &&
				 str_eq(text, str_from(steps[i].text));
		else if (steps[i].type == NOTE_NUMBER)
			is_set = notes_set_number(&notes, path, steps[i].number) &&
				 notes_get_number(&notes, path, &number) &&
				 number == steps[i].number;
		else
			is_set = notes_set_bool(&notes, path, steps[i].number) &&
				 notes_get_bool(&notes, path, &is_true) &&
				 is_true == (steps[i].number != 0);
		assert_true(is_set);
		assert_str_equal(print(&notes, &out), str_from(steps[i].json));
	}
	buf_free(&out);
	arena_reset(&arena);
}

static void test_get_is_strict(void **state)
{
	struct arena arena;
	struct notes notes;
	struct str text = STR("kept");
	int64_t number = 4711;
	bool is_true = true;

	(void)state;
	arena_init(&arena, 65536);
	notes_init(&notes, &arena);
	assert_false(notes_get_text(&notes, STR("a"), &text));
	assert_true(notes_set_number(&notes, STR("a.n"), 1));
	assert_true(notes_set_text(&notes, STR("a.t"), STR("1")));
	assert_false(notes_get_text(&notes, STR("a"), &text));
	assert_false(notes_get_text(&notes, STR("a.n"), &text));
	assert_false(notes_get_number(&notes, STR("a.t"), &number));
	assert_false(notes_get_bool(&notes, STR("a.n"), &is_true));
	assert_false(notes_get_number(&notes, STR("a.n.x"), &number));
	assert_false(notes_get_number(&notes, STR("A.n"), &number));
	assert_false(notes_get_number(&notes, STR("n"), &number));
	assert_str_equal(text, STR("kept"));
	assert_int_equal(number, 4711);
	assert_true(is_true);
	arena_reset(&arena);
}

static void test_bad_paths(void **state)
{
	static const struct {
		const char *path;
		bool is_good;
	} rows[] = {
		{ "", false },
		{ ".", false },
		{ "a.", false },
		{ ".a", false },
		{ "a..b", false },
		{ "1.2.3.4.5.6.7.8", true },
		{ "1.2.3.4.5.6.7.8.9", false },
		{ "1.2.3.4.5.6.7.8.", false },
		{ "__proto__.x", true },
	};
	struct arena arena;
	struct notes notes;
	struct buf out;
	int64_t number;

	(void)state;
	arena_init(&arena, 65536);
	notes_init(&notes, &arena);
	buf_init(&out, 65536);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct str path = str_from(rows[i].path);

		assert_int_equal(notes_set_number(&notes, path, 5), rows[i].is_good);
		assert_int_equal(notes_get_number(&notes, path, &number), rows[i].is_good);
		assert_int_equal(notes_set_bool(&notes, path, true), rows[i].is_good);
		assert_int_equal(notes_set_text(&notes, path, STR("x")), rows[i].is_good);
		print(&notes, &out);
	}
	buf_free(&out);
	arena_reset(&arena);
}

static void test_values_are_copied(void **state)
{
	char value[] = "value", path[] = "a.b";
	struct arena arena;
	struct notes notes;
	struct str text;

	(void)state;
	arena_init(&arena, 65536);
	notes_init(&notes, &arena);
	assert_true(notes_set_text(&notes, str_from(path), str_from(value)));
	memset(value, 'x', sizeof(value));
	memset(path, 'x', sizeof(path));
	assert_true(notes_get_text(&notes, STR("a.b"), &text));
	assert_str_equal(text, STR("value"));
	arena_reset(&arena);
}

static void test_hostile_bytes(void **state)
{
	struct arena arena;
	struct notes notes;
	struct buf out;
	struct str text;

	(void)state;
	arena_init(&arena, 65536);
	notes_init(&notes, &arena);
	buf_init(&out, 65536);
	assert_true(notes_set_text(&notes, STR("a"), example_hostile()));
	assert_true(notes_set_text(&notes, STR("\"\n\xff.\x00\\"), STR("x")));
	print(&notes, &out);
	assert_true(notes_get_text(&notes, STR("a"), &text));
	assert_str_equal(text, example_hostile());
	buf_free(&out);
	arena_reset(&arena);
}

/* Whatever the room, a note is kept whole or refused, and then everything is as before. */
static void test_full_arena_changes_nothing(void **state)
{
	struct buf before, after;

	(void)state;
	buf_init(&before, 65536);
	buf_init(&after, 65536);
	for (uint32_t room = 0; room < 600; room += 8) {
		struct arena arena;
		struct notes notes;
		struct str text;

		arena_init(&arena, 65536);
		notes_init(&notes, &arena);
		assert_true(notes_set_text(&notes, STR("a.b"), STR("old")));
		assert_true(notes_set_number(&notes, STR("n"), 1));
		arena.max = arena.used + room;
		print(&notes, &before);
		bool is_set = notes_set_text(&notes, STR("a.b.c.d.e"), STR("new"));
		print(&notes, &after);
		assert_int_equal(is_set, !str_eq(buf_view(&before), buf_view(&after)));
		assert_int_equal(is_set, notes_get_text(&notes, STR("a.b.c.d.e"), &text));
		assert_int_equal(!is_set, notes_get_text(&notes, STR("a.b"), &text));
		assert_true(notes_set_number(&notes, STR("n"), 2)); /* needs no room */
		arena_reset(&arena);
	}
	buf_free(&before);
	buf_free(&after);
}

static void test_full_from_the_start(void **state)
{
	struct arena arena;
	struct notes notes;
	struct buf out;

	(void)state;
	arena_init(&arena, 0);
	notes_init(&notes, &arena);
	buf_init(&out, 64);
	assert_false(notes_set_number(&notes, STR("a"), 1));
	assert_false(notes_set_text(&notes, STR("a"), STR("")));
	assert_str_equal(print(&notes, &out), STR("{}"));
	buf_free(&out);
}

/* What was set last is what is got, in a random order of paths; seeded, so that it repeats. */
static void test_random_order(void **state)
{
	static const char *const paths[] = { "a", "a.b", "a.b.c", "a.c", "b", "b.a.c.d.e.f.g.h" };
	struct arena arena;
	struct notes notes;
	struct buf out;
	unsigned seed = 20261122;

	(void)state;
	arena_init(&arena, 65536);
	notes_init(&notes, &arena);
	buf_init(&out, 65536);
	for (int64_t i = 0; i < 2000; i++) {
		struct str path =
			str_from(paths[(size_t)rand_r(&seed) % (sizeof(paths) / sizeof(paths[0]))]);
		int64_t number;

		if (!notes_set_number(&notes, path, i))
			break;
		assert_true(notes_get_number(&notes, path, &number));
		assert_int_equal(number, i);
		print(&notes, &out);
	}
	buf_free(&out);
	arena_reset(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tree_by_path),
		cmocka_unit_test(test_get_is_strict),
		cmocka_unit_test(test_bad_paths),
		cmocka_unit_test(test_values_are_copied),
		cmocka_unit_test(test_hostile_bytes),
		cmocka_unit_test(test_full_arena_changes_nothing),
		cmocka_unit_test(test_full_from_the_start),
		cmocka_unit_test(test_random_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
