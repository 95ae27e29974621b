/*
 * A region of memory with one lifetime (process, connection, transaction). Allocations are
 * never freed one by one: the whole region is reset or freed. Nothing is allocated before the
 * first use, so an idle arena costs its struct.
 *
 * The maximum is given at the start. Allocations that would exceed it return NULL (a peer can
 * make this happen, so it is a value, not an abort): callers refuse what they were about to keep.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct arena_block;

struct arena {
	struct arena_block *blocks; /* newest first */
	uint32_t used;              /* bytes handed out, alignment included */
	uint32_t max;               /* bound of `used` */
};

void arena_init(struct arena *arena, size_t max);

/* Zeroed memory aligned for pointers and 64-bit numbers, or NULL beyond the maximum. */
void *arena_alloc(struct arena *arena, size_t size);

/* Copies the bytes, without gaps between texts; the copy is NUL-terminated beyond its length. False beyond the maximum;
 * then *copy is the empty view. */
bool arena_str(struct arena *arena, struct str s, struct str *copy);

/* Forgets everything handed out and gives the memory back. The arena may be used again. */
void arena_reset(struct arena *arena);

#endif
