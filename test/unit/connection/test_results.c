#include "example.h"

#include <stdio.h>
#include <string.h>

#include "support/json_check.h"

struct fixture {
	struct arena arena;
	struct results results;
	struct buf out;
};

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	arena_init(&fixture->arena, 65536);
	results_init(&fixture->results, &fixture->arena);
	buf_init(&fixture->out, 65536);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	buf_free(&fixture->out);
	arena_reset(&fixture->arena);
	free(fixture);
	return 0;
}

static struct str print(struct fixture *fixture)
{
	struct json json;

	buf_truncate(&fixture->out, 0);
	json_init(&json, &fixture->out);
	results_write(&fixture->results, &json);
	assert_true(json_ok(&json));
	assert_true(json_is_valid(buf_view(&fixture->out)));
	return buf_view(&fixture->out);
}

static struct str collate(struct fixture *fixture, const char *check)
{
	buf_truncate(&fixture->out, 0);
	results_collate(&fixture->results, str_from(check), &fixture->out);
	return buf_view(&fixture->out);
}

static void test_add(void **state)
{
	struct fixture *fixture = *state;
	struct results *results = &fixture->results;

	assert_str_equal(print(fixture), STR("{}"));
	assert_null(fixture->arena.blocks);
	assert_true(results_add(results, STR("spf"), RESULT_PASS, STR("helo")));
	assert_true(results_add(results, STR("spf"), RESULT_PASS, STR("mail")));
	assert_true(results_add(results, STR("spf"), RESULT_FAIL, STR("f")));
	assert_true(results_add(results, STR("spf"), RESULT_MSG, STR("m")));
	assert_true(results_add(results, STR("spf"), RESULT_SKIP, STR("s")));
	assert_true(results_add(results, STR("spf"), RESULT_ERR, STR("e")));
	assert_true(results_add(results, STR("relay"), RESULT_PASS, STR("network")));
	assert_str_equal(print(fixture),
		STR("{\"spf\":{\"pass\":[\"helo\",\"mail\"],\"fail\":[\"f\"],\"msg\":[\"m\"],"
		    "\"skip\":[\"s\"],\"err\":[\"e\"]},\"relay\":{\"pass\":[\"network\"]}}"));
}

static void test_set_and_get(void **state)
{
	struct fixture *fixture = *state;
	struct results *results = &fixture->results;
	char scratch[24];
	struct str value;

	assert_false(results_get(results, STR("a"), STR("k"), &value, scratch));
	assert_true(results_set(results, STR("a"), STR("k"), STR("one")));
	assert_true(results_set(results, STR("a"), STR("k"), STR("two")));
	assert_true(results_get(results, STR("a"), STR("k"), &value, scratch));
	assert_str_equal(value, STR("two"));
	assert_false(results_get(results, STR("a"), STR("other"), &value, scratch));
	assert_false(results_get(results, STR("b"), STR("k"), &value, scratch));
	assert_str_equal(print(fixture), STR("{\"a\":{\"k\":\"two\"}}"));
}

static void test_incr(void **state)
{
	static const struct {
		int64_t by;
		const char *text;
	} steps[] = {
		{ 1, "1" },
		{ 41, "42" },
		{ -50, "-8" },
		{ INT64_MAX, "9223372036854775799" },
		{ INT64_MAX, "9223372036854775807" }, /* stays at its end */
		{ INT64_MIN, "-1" },
		{ INT64_MIN, "-9223372036854775808" },
	};
	struct fixture *fixture = *state;
	struct results *results = &fixture->results;
	char scratch[24];
	struct str value;

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		assert_true(results_incr(results, STR("a"), STR("n"), steps[i].by));
		assert_true(results_get(results, STR("a"), STR("n"), &value, scratch));
		assert_str_equal(value, str_from(steps[i].text));
	}
	/* A text is no number: counting starts at 0. */
	assert_true(results_set(results, STR("a"), STR("t"), STR("17")));
	assert_true(results_incr(results, STR("a"), STR("t"), 3));
	assert_true(results_get(results, STR("a"), STR("t"), &value, scratch));
	assert_str_equal(value, STR("3"));
}

static void test_push(void **state)
{
	struct fixture *fixture = *state;
	struct results *results = &fixture->results;
	char scratch[24];
	struct str value;

	assert_true(results_push(results, STR("a"), STR("k"), STR("x")));
	assert_true(results_push(results, STR("a"), STR("k"), STR("y")));
	assert_true(results_push(results, STR("a"), STR("pass"), STR("p")));
	assert_false(results_get(results, STR("a"), STR("k"), &value, scratch));
	assert_str_equal(print(fixture), STR("{\"a\":{\"pass\":[\"p\"],\"k\":[\"x\",\"y\"]}}"));
	assert_true(results_set(results, STR("a"), STR("k"), STR("text")));
	assert_true(results_push(results, STR("a"), STR("k"), STR("z")));
	assert_str_equal(print(fixture), STR("{\"a\":{\"pass\":[\"p\"],\"k\":[\"z\"]}}"));
}

/* Two members of one name would make the JSON ambiguous. */
static void test_list_names_are_no_free_keys(void **state)
{
	static const char *const names[] = { "pass", "fail", "msg", "skip", "err" };
	struct fixture *fixture = *state;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct str name = str_from(names[i]);

		assert_false(results_set(&fixture->results, STR("a"), name, STR("x")));
		assert_false(results_incr(&fixture->results, STR("a"), name, 1));
		assert_true(results_push(&fixture->results, STR("a"), name, STR("x")));
	}
	print(fixture);
}

static void test_has(void **state)
{
	static const struct {
		const char *check, *key, *needle;
		bool is_there;
	} rows[] = {
		{ "a", "pass", "one", true },
		{ "a", "pass", "two", true },
		{ "a", "pass", "on", false },
		{ "a", "pass", "one, two", false },
		{ "a", "fail", "one", false },
		{ "b", "pass", "one", false },
		{ "a", "text", "value", true },
		{ "a", "text", "Value", false },
		{ "a", "number", "7", true },
		{ "a", "number", "07", false },
		{ "a", "list", "x", true },
		{ "a", "list", "", true },
		{ "a", "list", "y", false },
		{ "a", "nothing", "", false },
	};
	struct fixture *fixture = *state;
	struct results *results = &fixture->results;

	results_add(results, STR("a"), RESULT_PASS, STR("one"));
	results_add(results, STR("a"), RESULT_PASS, STR("two"));
	results_set(results, STR("a"), STR("text"), STR("value"));
	results_incr(results, STR("a"), STR("number"), 7);
	results_push(results, STR("a"), STR("list"), STR("x"));
	results_push(results, STR("a"), STR("list"), STR(""));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(results_has(results, str_from(rows[i].check),
					 str_from(rows[i].key), str_from(rows[i].needle)),
			rows[i].is_there);
}

static void test_collate(void **state)
{
	struct fixture *fixture = *state;
	struct results *results = &fixture->results;

	assert_str_equal(collate(fixture, "a"), STR(""));
	results_add(results, STR("a"), RESULT_ERR, STR("e"));
	assert_str_equal(collate(fixture, "a"), STR("err: e"));
	results_add(results, STR("a"), RESULT_FAIL, STR("f"));
	results_add(results, STR("a"), RESULT_PASS, STR("p"));
	results_add(results, STR("a"), RESULT_PASS, STR("q"));
	results_add(results, STR("a"), RESULT_SKIP, STR("s"));
	results_add(results, STR("a"), RESULT_MSG, STR("m"));
	results_set(results, STR("a"), STR("key"), STR("value"));
	results_set(results, STR("a"), STR("_private"), STR("value"));
	results_incr(results, STR("a"), STR("n"), 3);
	results_push(results, STR("a"), STR("list"), STR("x"));
	results_push(results, STR("a"), STR("list"), STR("y"));
	assert_str_equal(collate(fixture, "a"),
		STR("key: value, n: 3, list: x, y, msg: m, pass: p, q, fail: f, skip: s, err: e"));
	assert_str_equal(collate(fixture, "b"), STR(""));
}

static void test_collate_appends(void **state)
{
	struct fixture *fixture = *state;

	results_add(&fixture->results, STR("a"), RESULT_PASS, STR("p"));
	buf_write(&fixture->out, STR("a: "));
	results_collate(&fixture->results, STR("a"), &fixture->out);
	assert_str_equal(buf_view(&fixture->out), STR("a: pass: p"));
}

static void test_hostile_bytes(void **state)
{
	struct fixture *fixture = *state;
	struct results *results = &fixture->results;
	struct str hostile = example_hostile();

	assert_true(results_add(results, hostile, RESULT_FAIL, hostile));
	assert_true(results_set(results, hostile, hostile, hostile));
	assert_true(results_push(results, STR("a"), STR("list"), hostile));
	assert_true(results_add(results, STR("a"), RESULT_FAIL, hostile));
	print(fixture);
	struct str line = collate(fixture, "a");
	for (size_t i = 0; i < line.n; i++)
		assert_false(ascii_is_control(line.p[i]));
}

static bool write_something(struct results *results, int what)
{
	switch (what) {
	case 0:
		return results_add(results, STR("new"), RESULT_FAIL, STR("a longer text"));
	case 1:
		return results_set(results, STR("a"), STR("text"), STR("a longer text"));
	case 2:
		return results_incr(results, STR("new"), STR("count"), 1);
	default:
		return results_push(results, STR("a"), STR("list"), STR("a longer text"));
	}
}

/* Whatever the room: kept whole, or refused with everything that was there still there. */
static void test_full_arena(void **state)
{
	struct fixture *fixture = *state;
	struct results *results = &fixture->results;

	for (int what = 0; what < 4; what++) {
		for (uint32_t room = 0; room < 400; room += 8) {
			arena_reset(&fixture->arena);
			fixture->arena.max = 65536;
			results_init(results, &fixture->arena);
			assert_true(results_set(results, STR("a"), STR("text"), STR("old")));
			assert_true(results_push(results, STR("a"), STR("list"), STR("old")));
			fixture->arena.max = fixture->arena.used + room;
			bool is_kept = write_something(results, what);
			print(fixture);
			assert_int_equal(results_has(results, STR("a"), STR("text"), STR("old")),
				!(is_kept && what == 1));
			assert_true(results_has(results, STR("a"), STR("list"), STR("old")));
			assert_int_equal(
				results_has(results, STR("a"), STR("list"), STR("a longer text")),
				is_kept && what == 3);
			if (room == 0)
				assert_false(is_kept);
			if (room == 392)
				assert_true(is_kept);
		}
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_add),
		TEST(test_set_and_get),
		TEST(test_incr),
		TEST(test_push),
		TEST(test_list_names_are_no_free_keys),
		TEST(test_has),
		TEST(test_collate),
		TEST(test_collate_appends),
		TEST(test_hostile_bytes),
		TEST(test_full_arena),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
