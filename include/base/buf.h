/*
 * A queue of bytes with a maximum given when it is made: written at the end, consumed at the
 * front. Memory is taken at the first write and given back when the queue runs empty and
 * buf_release() is called, so an idle one costs its struct.
 *
 * A write that does not fit is refused whole; nothing is ever cut.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

struct buf {
	char *data;
	size_t start;    /* first unconsumed byte */
	size_t end;      /* behind the last byte */
	size_t capacity; /* bytes allocated */
	size_t max;      /* bound of the bytes held */
	bool is_secret;  /* see buf_set_secret */
};

void buf_init(struct buf *buf, size_t max);
void buf_free(struct buf *buf);

/* A queue in memory of the caller's (the stack), which is its maximum: it takes none of its own, and
 * is not freed or released. */
struct buf buf_on(char *memory, size_t size);

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

/* A view of what is held; good until the next write, consume or release. */
static inline struct str buf_view(const struct buf *buf)
{
	return str_make(buf->data ? buf->data + buf->start : "", buf_used(buf));
}

/* Appends; false (and nothing written) when it would exceed the maximum. */
bool buf_write(struct buf *buf, struct str bytes);
bool buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Drops `n` bytes at the front; n <= buf_used(). */
void buf_consume(struct buf *buf, size_t n);

/* Cuts the queue to its first `n` bytes (undoes writes); n <= buf_used(). */
void buf_truncate(struct buf *buf, size_t n);

/* Gives the memory back when nothing is held; does nothing otherwise. */
void buf_release(struct buf *buf);

#endif
