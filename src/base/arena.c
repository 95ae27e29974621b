#include "base/arena.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "base/xalloc.h"

#define FIRST_BLOCK 512
#define LARGEST_STEP 16384

struct arena_block {
	struct arena_block *next;
	size_t size;
	size_t used;
	alignas(max_align_t) char data[];
};

void arena_init(struct arena *arena, size_t max)
{
	*arena = (struct arena){ .max = max };
}

static struct arena_block *add_block(struct arena *arena, size_t needed)
{
	size_t size = arena->blocks ? 2 * arena->blocks->size : FIRST_BLOCK;

	if (size > LARGEST_STEP)
		size = LARGEST_STEP;
	if (size < needed)
		size = needed;
	struct arena_block *block = xcalloc(1, sizeof(*block) + size);
	block->size = size;
	block->next = arena->blocks;
	arena->blocks = block;
	return block;
}

void *arena_alloc(struct arena *arena, size_t size)
{
	const size_t align = alignof(max_align_t);
	size_t rounded = (size + align - 1) & ~(align - 1);

	if (rounded < size || rounded > arena->max - arena->used)
		return NULL;
	struct arena_block *block = arena->blocks;
	if (block == NULL || block->size - block->used < rounded)
		block = add_block(arena, rounded);
	void *p = block->data + block->used;
	block->used += rounded;
	arena->used += rounded;
	return p;
}

bool arena_str(struct arena *arena, struct str s, struct str *copy)
{
	char *p = s.n < arena->max ? arena_alloc(arena, s.n + 1) : NULL;

	*copy = str_make(NULL, 0);
	if (p == NULL)
		return false;
	if (s.n > 0)
		memcpy(p, s.p, s.n);
	*copy = str_make(p, s.n);
	return true;
}

void arena_reset(struct arena *arena)
{
	while (arena->blocks) {
		struct arena_block *next = arena->blocks->next;
		free(arena->blocks);
		arena->blocks = next;
	}
	arena->used = 0;
}
