#include "base/block.h"

#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/xalloc.h"

/*
 * Sizes of blocks. The small ones, in which idle connections are, are 16 bytes apart; above them
 * there are four to each power of two, as long as blocks are kept at all; then whole pages. All but
 * these have 8 bytes more, which malloc(3) has left beside its own word.
 */
#define STEP 16
#define ODD 8
#define SMALL_LAST 1536
#define SMALL_COUNT (SMALL_LAST / STEP + 1)
#define KEPT_LAST 131072
#define CLASS_COUNT (SMALL_COUNT + 26)
#define PAGE 4096

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
	unsigned unused; /* so many of the first were there all the time since block_tidy() */
	void *blocks[BLOCK_KEPT_EACH];
};

static struct class classes[CLASS_COUNT];
static size_t kept_bytes;
/* Freed since block_tidy(): malloc(3) may have kept them. */
static size_t freed_bytes;

/* The sizes m << k, m from 4 to 7, in their order: 4 k + m, with a number of its own for each. */
#define QUARTERS(k, m) (4 * (size_t)(k) + (m))
#define TO_CLASS (SMALL_COUNT - 1 - QUARTERS(8, 6)) /* the last small size is 6 << 8 */

_Static_assert(SMALL_LAST == 6 << 8, "small sizes end where quarters begin");
_Static_assert(
	KEPT_LAST == 4 << 15 && CLASS_COUNT == QUARTERS(15, 4) + TO_CLASS + 1, "a class for each");

/* CLASS_COUNT: so large that none is kept. */
static size_t class_of(size_t size)
{
	/* Less than the size that is looked for. */
	size_t most = size > STEP + ODD ? size - ODD - 1 : STEP - 1;

	if (most < SMALL_LAST)
		return most / STEP + 1;
	if (most >= KEPT_LAST)
		return CLASS_COUNT;
	unsigned k = 61 - (unsigned)__builtin_clzll(most);
	return QUARTERS(k, most >> k) + 1 + TO_CLASS;
}

static size_t size_of(size_t class)
{
	if (class < SMALL_COUNT)
		return class * STEP + ODD;
	size_t number = class - TO_CLASS;
	return ((number % 4 + 4) << (number / 4 - 1)) + ODD;
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
	if (is_mapped(whole)) {
		munmap(block, whole);
		return;
	}
	free(block);
	freed_bytes += whole;
}

/* ---- What is kept --------------------------------------------------------------------------------- */

static void *take_kept(size_t number)
{
	struct class *class = &classes[number];

	kept_bytes -= size_of(number);
	class->count--;
	if (class->unused > class->count)
		class->unused = class->count;
	return class->blocks[class->count];
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

/* The first of them, as the last are taken first. */
static void drop_unused(size_t number)
{
	struct class *class = &classes[number];

	for (unsigned i = 0; i < class->unused; i++)
		drop(class->blocks[i], size_of(number));
	kept_bytes -= class->unused * size_of(number);
	class->count -= class->unused;
	memmove(class->blocks, class->blocks + class->unused,
		class->count * sizeof(class->blocks[0]));
	class->unused = class->count;
}

void block_tidy(void)
{
	for (size_t number = 0; number < CLASS_COUNT; number++)
		drop_unused(number);
	if (freed_bytes >= BLOCK_TRIM_BYTES)
		malloc_trim(0);
	freed_bytes = 0;
}
