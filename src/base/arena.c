#include "base/arena.h"

#include <stdalign.h>
#include <string.h>

#include "base/assert.h"
#include "base/block.h"

/* With the head of the block: what the connection of an idle client keeps, mostly; and what a
 * transaction needs besides when its message comes. */
#define FIRST_BLOCK 376
#define SECOND_BLOCK 264
#define LARGEST_STEP 16384

/* Objects are handed out from the front, texts, which need no alignment, from the back. */
struct arena_block {
	struct arena_block *next;
	uint32_t size;        /* of the whole block, see base/block.h */
	uint32_t front, back; /* what is free of `data` */
	alignas(uint64_t) char data[];
};

void arena_init(struct arena *arena, size_t max)
{
	ASSERT(max <= UINT32_MAX);
	*arena = (struct arena){ .max = (uint32_t)max };
}

static size_t next_size(const struct arena_block *last)
{
	if (last == NULL)
		return FIRST_BLOCK;
	if (last->next == NULL)
		return SECOND_BLOCK;
	return last->size < LARGEST_STEP / 2 ? 2 * (size_t)last->size : LARGEST_STEP;
}

static struct arena_block *add_block(struct arena *arena, size_t needed)
{
	size_t size = next_size(arena->blocks);

	if (size < sizeof(struct arena_block) + needed)
		size = sizeof(struct arena_block) + needed;
	size = block_size(size);
	struct arena_block *block = block_take(size);
	block->size = (uint32_t)size;
	block->front = 0;
	block->back = (uint32_t)(size - sizeof(*block));
	block->next = arena->blocks;
	arena->blocks = block;
	return block;
}

/* The block that has so many bytes, which are taken from the maximum; NULL beyond that. */
static struct arena_block *block_with(struct arena *arena, size_t size)
{
	struct arena_block *block = arena->blocks;

	if (size > arena->max - arena->used)
		return NULL;
	arena->used += (uint32_t)size;
	if (block == NULL || block->back - block->front < size)
		block = add_block(arena, size);
	return block;
}

void *arena_alloc(struct arena *arena, size_t size)
{
	const size_t align = alignof(uint64_t);
	size_t rounded = (size + align - 1) & ~(align - 1);
	struct arena_block *block = rounded < size ? NULL : block_with(arena, rounded);

	if (block == NULL)
		return NULL;
	void *p = block->data + block->front;
	block->front += (uint32_t)rounded;
	return memset(p, 0, rounded);
}

bool arena_str(struct arena *arena, struct str s, struct str *copy)
{
	struct arena_block *block = s.n < arena->max ? block_with(arena, s.n + 1) : NULL;

	*copy = str_make(NULL, 0);
	if (block == NULL)
		return false;
	block->back -= (uint32_t)(s.n + 1);
	char *p = block->data + block->back;
	if (s.n > 0)
		memcpy(p, s.p, s.n);
	p[s.n] = '\0';
	*copy = str_make(p, s.n);
	return true;
}

void arena_reset(struct arena *arena)
{
	while (arena->blocks) {
		struct arena_block *next = arena->blocks->next;
		block_give(arena->blocks, arena->blocks->size);
		arena->blocks = next;
	}
	arena->used = 0;
}
