#include "base/block.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/xalloc.h"

/*
 * Small sizes are 16 bytes apart and middle ones, in which most messages fit, 1024, each with the 8
 * that malloc(3) has left beside its own word. Above them the powers of two, as long as blocks are
 * kept at all; then whole pages.
 */
#define STEP 16
#define ODD 8
#define SMALL_MAX 4088
#define SMALL_COUNT ((SMALL_MAX - ODD) / STEP + 1)
#define MIDDLE_STEP 1024
#define MIDDLE_MAX 8184
#define MIDDLE_COUNT ((MIDDLE_MAX - SMALL_MAX) / MIDDLE_STEP)
#define POWER_BASE (SMALL_COUNT + MIDDLE_COUNT) /* its class */
#define POWER_FIRST 16384
#define POWER_LAST 131072
#define CLASS_COUNT (POWER_BASE + 4)
#define PAGE 4096

_Static_assert(POWER_FIRST << (CLASS_COUNT - POWER_BASE - 1) == POWER_LAST, "a class for each");

#if defined(__SANITIZE_ADDRESS__)
#define IS_SANITIZED 1
#elif defined(__has_feature)
#define IS_SANITIZED __has_feature(address_sanitizer)
#else
#define IS_SANITIZED 0
#endif

/* Beside the blocks, not in them: what is kept needs not be touched. */
struct class
{
	unsigned count;
	void *blocks[BLOCK_KEPT_EACH];
};

static struct class classes[CLASS_COUNT];
static size_t kept_bytes;

/* CLASS_COUNT: so large that none is kept. */
static size_t class_of(size_t size)
{
	size_t class = POWER_BASE;

	if (size <= SMALL_MAX)
		return size <= ODD ? 1 : (size - ODD + STEP - 1) / STEP;
	if (size <= MIDDLE_MAX)
		return SMALL_COUNT + (size - SMALL_MAX - 1) / MIDDLE_STEP;
	while (class < CLASS_COUNT && size > (size_t)POWER_FIRST << (class - POWER_BASE))
		class ++;
	return class;
}

static size_t size_of(size_t class)
{
	if (class < SMALL_COUNT)
		return class * STEP + ODD;
	if (class < POWER_BASE)
		return SMALL_MAX + (class - SMALL_COUNT + 1) * MIDDLE_STEP;
	return (size_t)POWER_FIRST << (class - POWER_BASE);
}

size_t block_size(size_t size)
{
	size_t class = class_of(size);

	if (class < CLASS_COUNT)
		return size_of(class);
	return size > SIZE_MAX - PAGE ? size : (size + PAGE - 1) & ~(size_t)(PAGE - 1);
}

/* ---- Where blocks come from ---------------------------------------------------------------------- */

static bool is_mapped(size_t whole)
{
	return !IS_SANITIZED && whole >= BLOCK_LARGE;
}

static void *fresh(size_t whole)
{
	if (!is_mapped(whole))
		return xrealloc(NULL, whole, 1);
	void *block = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (block == MAP_FAILED)
		xalloc_failed();
	return block;
}

static void drop(void *block, size_t whole)
{
	if (is_mapped(whole))
		munmap(block, whole);
	else
		free(block);
}

/* ---- What is kept --------------------------------------------------------------------------------- */

static void *take_kept(size_t class)
{
	kept_bytes -= size_of(class);
	return classes[class].blocks[--classes[class].count];
}

void *block_take(size_t size)
{
	size_t class = class_of(size);

	if (class == CLASS_COUNT || classes[class].count == 0)
		return fresh(block_size(size));
	return take_kept(class);
}

void *block_take_zeroed(size_t size)
{
	return memset(block_take(size), 0, size);
}

/* Larger ones make room: there are fewer of them, and they cost more. */
static bool make_room(size_t class)
{
	size_t largest = CLASS_COUNT - 1;

	while (kept_bytes + size_of(class) > BLOCK_KEPT_BYTES) {
		while (largest > class && classes[largest].count == 0)
			largest--;
		if (largest <= class)
			return false;
		drop(take_kept(largest), size_of(largest));
	}
	return true;
}

static bool may_be_kept(size_t class)
{
	return !IS_SANITIZED && class < CLASS_COUNT && classes[class].count < BLOCK_KEPT_EACH &&
	       make_room(class);
}

void block_give(void *block, size_t size)
{
	size_t class = class_of(size);

	if (block == NULL)
		return;
	if (!may_be_kept(class)) {
		drop(block, block_size(size));
		return;
	}
	kept_bytes += size_of(class);
	classes[class].blocks[classes[class].count++] = block;
}

/* Pages are moved, not copied. */
static void *remap(void *block, size_t old_whole, size_t whole)
{
	void *moved = mremap(block, old_whole, whole, MREMAP_MAYMOVE);

	if (moved == MAP_FAILED)
		xalloc_failed();
	return moved;
}

void *block_resize(void *block, size_t old_size, size_t size)
{
	size_t old_whole = block ? block_size(old_size) : 0;
	size_t whole = block_size(size);

	if (old_whole == whole)
		return block;
	if (block != NULL && is_mapped(old_whole) && is_mapped(whole))
		return remap(block, old_whole, whole);
	void *other = block_take(size);
	if (block != NULL)
		memcpy(other, block, old_size < size ? old_size : size);
	block_give(block, old_size);
	return other;
}

size_t block_kept(void)
{
	return kept_bytes;
}
