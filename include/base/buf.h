/*
 * A queue of bytes with a maximum given when it is made: written at the end, consumed at the
 * front. Memory is taken at the first write and given back when the queue runs empty and
 * buf_release() is called, so an idle one costs its struct, which is small. The first memory is as large
 * as what is written first; then it doubles.
 *
 * A write that does not fit is refused whole; nothing is ever cut.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

#define BUF_MAX INT32_MAX /* of `max` */

struct buf {
	char *data;
	uint32_t start;         /* first unconsumed byte */
	uint32_t end;           /* behind the last byte */
	uint32_t capacity;      /* bytes of memory */
	uint32_t max : 31;      /* bound of the bytes held */
	uint32_t is_secret : 1; /* see buf_set_secret */
};

void buf_init(struct buf *buf, size_t max);
void buf_free_memory(struct buf *buf);

/* Empties it. Most buffers have no memory when their time is up. */
static inline void buf_free(struct buf *buf)
{
	if (buf->data != NULL)
		buf_free_memory(buf);
}

/* A queue in memory of the caller's (the stack), which is its maximum: it takes none of its own, and
 * is not freed or released. */
struct buf buf_on(char *memory, size_t size);

/* Marks such memory: what is in it is written before it is read, so it is not zeroed as other
 * variables are. */
#define BUF_MEMORY __attribute__((uninitialized))

/* From now on what is consumed, cut, moved or freed is wiped where it was. */
void buf_set_secret(struct buf *buf);

/* Bytes held, and how many more may be written. */
static inline size_t buf_used(const struct buf *buf)
{
	return buf->end - buf->start;
}

static inline size_t buf_room(const struct buf *buf)
{
	return buf->max - buf_used(buf);
}

/* What it takes of memory, and what it would with `n` more bytes, n <= buf_room(): it grows by doubling. */
static inline size_t buf_memory(const struct buf *buf)
{
	return buf->capacity;
}
size_t buf_memory_with(const struct buf *buf, size_t n);

/* A view of what is held; good until the next write, consume or release. */
static inline struct str buf_view(const struct buf *buf)
{
	return str_make(buf->data ? buf->data + buf->start : "", buf_used(buf));
}

/* For buf_write and buf_reserve: when there is no memory for it yet. */
bool buf_write_growing(struct buf *buf, struct str bytes);
char *buf_reserve_growing(struct buf *buf, size_t n);

/* Appends; false (and nothing written) when it would exceed the maximum. */
static inline bool buf_write(struct buf *buf, struct str bytes)
{
	if (bytes.n == 0)
		return true;
	if (bytes.n > buf->capacity - buf->end || bytes.n > buf_room(buf))
		return buf_write_growing(buf, bytes);
	memcpy(buf->data + buf->end, bytes.p, bytes.n);
	buf->end += (uint32_t)bytes.n;
	return true;
}
bool buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Appends decimal digits, with zeros in front of them up to `width` (at most 20). */
bool buf_write_number(struct buf *buf, uint64_t number, unsigned width);

/*
 * For who writes in place: `n` (more than none) writable bytes behind the end, or NULL when they would exceed the
 * maximum; good until the next call that is not buf_commit(). Then what was written of them, at most
 * `n`, belongs to the queue.
 */
static inline char *buf_reserve(struct buf *buf, size_t n)
{
	if (n > buf->capacity - buf->end || n > buf_room(buf))
		return buf_reserve_growing(buf, n);
	return buf->data + buf->end;
}

static inline void buf_commit(struct buf *buf, size_t n)
{
	buf->end += (uint32_t)n;
}

/* Drops `n` bytes at the front; n <= buf_used(). */
void buf_consume(struct buf *buf, size_t n);

/* Cuts the queue to its first `n` bytes (undoes writes); n <= buf_used(). */
void buf_truncate(struct buf *buf, size_t n);

/* Gives the memory back when nothing is held; does nothing otherwise. */
void buf_release(struct buf *buf);

#endif
