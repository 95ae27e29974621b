#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/block.h"

#if defined(__SANITIZE_ADDRESS__)
#define IS_SANITIZED true
#elif defined(__has_feature)
#define IS_SANITIZED __has_feature(address_sanitizer)
#else
#define IS_SANITIZED false
#endif

static const size_t sizes[] = { 0, 1, 8, 9, 24, 25, 40, 41, 100, 248, 249, 1000, 2040, 4088, 4089,
	8192, 8193, 16383, 16384, 16385, 65536, 65537, 300000 };
#define SIZE_COUNT (sizeof(sizes) / sizeof(sizes[0]))

static void holds_what_it_is_taken_for(void **state)
{
	unsigned char *blocks[SIZE_COUNT];

	(void)state;
	for (size_t i = 0; i < SIZE_COUNT; i++) {
		blocks[i] = block_take(sizes[i]);
		assert_non_null(blocks[i]);
		assert_int_equal((uintptr_t)blocks[i] % 16, 0);
		memset(blocks[i], (int)i, block_size(sizes[i]));
	}
	for (size_t i = 0; i < SIZE_COUNT; i++) {
		for (size_t at = 0; at < block_size(sizes[i]); at++)
			assert_int_equal(blocks[i][at], i);
		block_give(blocks[i], sizes[i]);
	}
	block_give(NULL, 100);
}

static void sizes_grow_without_gaps(void **state)
{
	(void)state;
	for (size_t size = 0; size < 140000; size++) {
		size_t whole = block_size(size);

		assert_true(whole >= size);
		assert_true(whole <= block_size(size + 1));
		assert_int_equal(block_size(whole), whole);
		/* Idle connections keep the small ones. */
		if (size > 24 && size <= 1544)
			assert_true(whole - size < 16);
		if (size > 1544)
			assert_true(whole - size <= size / 4 + 8);
	}
	assert_true(block_size(SIZE_MAX) >= SIZE_MAX);
}

static void zeroed_is_zeroed(void **state)
{
	(void)state;
	for (size_t i = 0; i < SIZE_COUNT; i++) {
		block_give(memset(block_take(sizes[i]), 0xff, sizes[i]), sizes[i]);
		unsigned char *block = block_take_zeroed(sizes[i]);
		for (size_t at = 0; at < sizes[i]; at++)
			assert_int_equal(block[at], 0);
		block_give(block, sizes[i]);
	}
}

/* Any size to any other: what both hold stays. */
static void resizing_keeps_the_bytes(void **state)
{
	(void)state;
	for (size_t from = 0; from < SIZE_COUNT; from++) {
		for (size_t to = 0; to < SIZE_COUNT; to++) {
			size_t both = sizes[from] < sizes[to] ? sizes[from] : sizes[to];
			unsigned char *block = block_take(sizes[from]);

			for (size_t at = 0; at < sizes[from]; at++)
				block[at] = (unsigned char)(at * 7);
			block = block_resize(block, sizes[from], sizes[to]);
			for (size_t at = 0; at < both; at++)
				assert_int_equal(block[at], (unsigned char)(at * 7));
			memset(block, 1, block_size(sizes[to]));
			block_give(block, sizes[to]);
		}
	}
	char *fresh = block_resize(NULL, 0, 100);
	memset(fresh, 1, 100);
	block_give(fresh, 100);
}

/* The last one given is the next taken, for every size that belongs to it. */
static void what_was_given_is_taken_again(void **state)
{
	(void)state;
	if (IS_SANITIZED) {
		block_give(block_take(100), 100);
		assert_int_equal(block_kept(), 0);
		return;
	}
	void *first = block_take(100), *second = block_take(100);
	size_t kept = block_kept();
	block_give(first, 100);
	block_give(second, block_size(100));
	assert_int_equal(block_kept(), kept + 2 * block_size(100));
	assert_ptr_equal(block_take(99), second);
	assert_ptr_equal(block_take(100), first);
	assert_int_equal(block_kept(), kept);
	block_give(first, 100);
	block_give(second, 100);
}

static void give_many(size_t size, size_t count)
{
	void **blocks = calloc(count, sizeof(*blocks));

	for (size_t i = 0; i < count; i++)
		blocks[i] = block_take(size);
	for (size_t i = 0; i < count; i++)
		block_give(blocks[i], size);
	free(blocks);
}

static void what_is_kept_is_bounded(void **state)
{
	size_t before = block_kept();

	(void)state;
	give_many(504, 3 * BLOCK_KEPT_EACH);
	assert_true(block_kept() <= before + BLOCK_KEPT_EACH * block_size(504));
	for (size_t i = 0; i < SIZE_COUNT; i++)
		give_many(sizes[i], 3 * BLOCK_KEPT_EACH);
	assert_true(block_kept() <= BLOCK_KEPT_BYTES);
	if (!IS_SANITIZED)
		assert_true(block_kept() > BLOCK_KEPT_BYTES / 2);
}

static void large_ones_make_room(void **state)
{
	(void)state;
	if (IS_SANITIZED)
		return;
	give_many(65536, BLOCK_KEPT_EACH);
	void *small = block_take(568);
	size_t kept = block_kept();
	block_give(small, 568);
	assert_int_not_equal(block_kept(), kept);
	assert_true(block_kept() <= BLOCK_KEPT_BYTES);
	assert_ptr_equal(block_take(568), small);
	block_give(small, 568);
}

/* What was taken meanwhile was needed; the rest of its size was not. */
static void what_is_not_needed_is_given_back(void **state)
{
	(void)state;
	if (IS_SANITIZED)
		return;
	block_tidy();
	block_tidy();
	assert_int_equal(block_kept(), 0);
	give_many(200, 3);
	block_tidy();
	assert_int_equal(block_kept(), 3 * block_size(200));
	give_many(200, 1);
	give_many(5000, 1);
	block_tidy();
	assert_int_equal(block_kept(), block_size(200) + block_size(5000));
	block_tidy();
	assert_int_equal(block_kept(), 0);
	give_many(200, 1);
	assert_int_equal(block_kept(), block_size(200));
}

static size_t resident(void)
{
	unsigned long pages = 0, ignored;
	FILE *file = fopen("/proc/self/statm", "r");

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%lu %lu", &ignored, &pages), 2);
	fclose(file);
	return pages * 4096;
}

/* Large ones, each with a small one behind it that stays: malloc(3) would keep their memory for ever. */
static void holes_go_back_to_the_system(void **state)
{
	enum { COUNT = 64, LARGE = 120000, STAYS = 3000 };
	void *large[COUNT], *stays[COUNT];

	(void)state;
	if (IS_SANITIZED)
		return;
	for (size_t i = 0; i < COUNT; i++) {
		large[i] = memset(block_take(LARGE), 1, LARGE);
		stays[i] = memset(block_take(STAYS), 1, STAYS);
	}
	size_t before = resident();
	for (size_t i = 0; i < COUNT; i++)
		block_give(large[i], LARGE);
	block_tidy();
	block_tidy();
	assert_true(resident() + COUNT * (size_t)LARGE / 2 < before);
	for (size_t i = 0; i < COUNT; i++)
		block_give(stays[i], STAYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(holds_what_it_is_taken_for),
		cmocka_unit_test(sizes_grow_without_gaps),
		cmocka_unit_test(zeroed_is_zeroed),
		cmocka_unit_test(resizing_keeps_the_bytes),
		cmocka_unit_test(what_was_given_is_taken_again),
		cmocka_unit_test(what_is_kept_is_bounded),
		cmocka_unit_test(large_ones_make_room),
		cmocka_unit_test(what_is_not_needed_is_given_back),
		cmocka_unit_test(holes_go_back_to_the_system),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
