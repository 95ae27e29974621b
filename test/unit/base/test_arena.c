#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdalign.h>
#include <string.h>

#include "base/arena.h"

static void takes_no_memory_before_the_first_use(void **state)
{
	struct arena arena;

	(void)state;
	arena_init(&arena, 1000);
	assert_null(arena.blocks);
	arena_reset(&arena);
	assert_null(arena.blocks);
}

static void gives_zeroed_aligned_memory(void **state)
{
	struct arena arena;

	(void)state;
	arena_init(&arena, 100000);
	for (size_t size = 0; size < 300; size++) {
		unsigned char *p = arena_alloc(&arena, size);

		assert_non_null(p);
		assert_int_equal((uintptr_t)p % alignof(uint64_t), 0);
		assert_int_equal((uintptr_t)p % alignof(void *), 0);
		for (size_t i = 0; i < size; i++)
			assert_int_equal(p[i], 0);
		memset(p, 0xff, size);
	}
	arena_reset(&arena);
}

static void allocations_do_not_overlap(void **state)
{
	struct arena arena;
	unsigned char *all[200];

	(void)state;
	arena_init(&arena, 1000000);
	for (size_t i = 0; i < 200; i++) {
		all[i] = arena_alloc(&arena, i * 7);
		memset(all[i], (int)i, i * 7);
	}
	for (size_t i = 0; i < 200; i++)
		for (size_t at = 0; at < i * 7; at++)
			assert_int_equal(all[i][at], i);
	arena_reset(&arena);
}

static void refuses_beyond_the_maximum(void **state)
{
	struct arena arena;

	(void)state;
	arena_init(&arena, 64);
	assert_null(arena_alloc(&arena, 65));
	assert_null(arena_alloc(&arena, SIZE_MAX));
	assert_null(arena_alloc(&arena, SIZE_MAX - 8));
	assert_non_null(arena_alloc(&arena, 48));
	assert_null(arena_alloc(&arena, 17));
	assert_non_null(arena_alloc(&arena, 16));
	assert_int_equal(arena.used, 64);
	assert_null(arena_alloc(&arena, 1));
	arena_reset(&arena);
	assert_int_equal(arena.used, 0);
	assert_non_null(arena_alloc(&arena, 64));
	arena_reset(&arena);
}

static void takes_what_is_larger_than_a_block(void **state)
{
	struct arena arena;

	(void)state;
	arena_init(&arena, 1 << 20);
	assert_non_null(arena_alloc(&arena, 10));
	char *large = arena_alloc(&arena, 500000);
	assert_non_null(large);
	memset(large, 'x', 500000);
	assert_non_null(arena_alloc(&arena, 10));
	arena_reset(&arena);
}

static void copies_text(void **state)
{
	struct arena arena;
	struct str copy;
	char source[] = "a\0b";

	(void)state;
	arena_init(&arena, 5);
	assert_true(arena_str(&arena, str_make(source, 3), &copy));
	source[0] = 'z';
	assert_int_equal(copy.n, 3);
	assert_memory_equal(copy.p, "a\0b", 4);
	assert_true(arena_str(&arena, str_make(NULL, 0), &copy));
	assert_int_equal(copy.n, 0);
	assert_string_equal(copy.p, "");
	assert_false(arena_str(&arena, STR("c"), &copy));
	assert_int_equal(copy.n, 0);
	assert_null(copy.p);
	arena_reset(&arena);
}

static void refuses_text_that_is_too_long(void **state)
{
	struct arena arena;
	struct str copy = STR("old");

	(void)state;
	arena_init(&arena, 16);
	assert_false(arena_str(&arena, STR("0123456789abcdef"), &copy));
	assert_int_equal(copy.n, 0);
	assert_false(arena_str(&arena, str_make("x", SIZE_MAX), &copy));
	assert_true(arena_str(&arena, STR("0123456789abcde"), &copy));
	arena_reset(&arena);
}

/* Texts between objects: neither overlaps the other, and objects stay aligned. */
static void texts_leave_no_gaps(void **state)
{
	struct arena arena;
	struct str texts[100];
	uint64_t *objects[100];
	size_t used = 0;

	(void)state;
	arena_init(&arena, 10000);
	for (size_t i = 0; i < 100; i++) {
		char text[100];

		memset(text, 'a' + (int)(i % 26), sizeof(text));
		assert_true(arena_str(&arena, str_make(text, i), &texts[i]));
		objects[i] = arena_alloc(&arena, sizeof(uint64_t));
		assert_non_null(objects[i]);
		assert_int_equal((uintptr_t)objects[i] % alignof(uint64_t), 0);
		assert_int_equal(*objects[i], 0);
		*objects[i] = UINT64_MAX;
		used += i + 1 + sizeof(uint64_t);
	}
	assert_int_equal(arena.used, used);
	for (size_t i = 0; i < 100; i++) {
		assert_int_equal(texts[i].n, i);
		for (size_t at = 0; at < i; at++)
			assert_int_equal(texts[i].p[at], 'a' + i % 26);
		assert_int_equal(texts[i].p[i], '\0');
		assert_int_equal(*objects[i], UINT64_MAX);
	}
	arena_reset(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_no_memory_before_the_first_use),
		cmocka_unit_test(gives_zeroed_aligned_memory),
		cmocka_unit_test(allocations_do_not_overlap),
		cmocka_unit_test(refuses_beyond_the_maximum),
		cmocka_unit_test(takes_what_is_larger_than_a_block),
		cmocka_unit_test(copies_text),
		cmocka_unit_test(refuses_text_that_is_too_long),
		cmocka_unit_test(texts_leave_no_gaps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
