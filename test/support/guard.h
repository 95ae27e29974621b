/*
 * Input that ends at the end of a page, with an inaccessible page behind it: a parser that reads
 * one byte too far dies at once, with or without sanitizers.
 */
#ifndef TEST_SUPPORT_GUARD_H
#define TEST_SUPPORT_GUARD_H

#include <assert.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/str.h"

struct guard {
	char *map;
	size_t size;
	char *end; /* first inaccessible byte */
};

static inline struct guard guard_make(size_t max)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct guard guard = { .size = (max + page - 1) / page * page + page };

	guard.map = mmap(NULL, guard.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert(guard.map != MAP_FAILED);
	guard.end = guard.map + guard.size - page;
	int rc = mprotect(guard.end, page, PROT_NONE);
	assert(rc == 0);
	(void)rc;
	return guard;
}

/* Copies `s` so that it ends at the guard page; good until the next call. */
static inline struct str guard_put(struct guard *guard, struct str s)
{
	assert(s.n <= (size_t)(guard->end - guard->map));
	if (s.n > 0)
		memcpy(guard->end - s.n, s.p, s.n);
	return str_make(guard->end - s.n, s.n);
}

static inline void guard_free(struct guard *guard)
{
	munmap(guard->map, guard->size);
}

#endif
