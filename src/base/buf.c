#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/block.h"
#include "base/xalloc.h"

#define NUMBER_MAX 20 /* digits of 2^64 */

void buf_init(struct buf *buf, size_t max)
{
	ASSERT(max <= BUF_MAX);
	*buf = (struct buf){ .max = (uint32_t)max & BUF_MAX };
}

void buf_set_secret(struct buf *buf)
{
	buf->is_secret = true;
}

/* The compiler must not drop it, as it could a memset of what is not read again. */
static void wipe(struct buf *buf, size_t from, size_t to)
{
	if (buf->is_secret && to > from)
		explicit_bzero(buf->data + from, to - from);
}

void buf_free_memory(struct buf *buf)
{
	wipe(buf, buf->start, buf->end);
	block_give(buf->data, buf->capacity);
	*buf = (struct buf){ .max = buf->max, .is_secret = buf->is_secret };
}

struct buf buf_on(char *memory, size_t size)
{
	ASSERT(size <= BUF_MAX);
	return (struct buf){
		.data = memory, .capacity = (uint32_t)size, .max = (uint32_t)size & BUF_MAX
	};
}

/* block_resize() would leave what it moves behind. */
static char *move_secret(struct buf *buf, size_t capacity)
{
	char *fresh = block_take_zeroed(capacity);

	if (buf->data != NULL)
		memcpy(fresh, buf->data, buf->end);
	wipe(buf, 0, buf->end);
	block_give(buf->data, buf->capacity);
	return fresh;
}

/* All of the block is used, but no more than may be held. */
static size_t capacity_for(const struct buf *buf, size_t needed)
{
	size_t capacity = 2 * (size_t)buf->capacity;

	capacity = block_size(capacity > needed ? capacity : needed);
	return capacity < buf->max ? capacity : buf->max;
}

static void grow(struct buf *buf, size_t needed)
{
	size_t capacity = capacity_for(buf, needed);

	if (buf->is_secret)
		buf->data = move_secret(buf, capacity);
	else
		buf->data = block_resize(buf->data, buf->capacity, capacity);
	buf->capacity = (uint32_t)capacity;
}

size_t buf_memory_with(const struct buf *buf, size_t n)
{
	ASSERT(n <= buf_room(buf));
	if (n == 0 || buf->capacity >= buf_used(buf) + n)
		return buf->capacity;
	return capacity_for(buf, buf_used(buf) + n);
}

/* Makes `n` bytes writable behind the end, moving or growing; n <= buf_room(). */
static void make_room(struct buf *buf, size_t n)
{
	if (buf->capacity - buf->end >= n)
		return;
	uint32_t used = (uint32_t)buf_used(buf);
	if (buf->start > 0) {
		memmove(buf->data, buf->data + buf->start, used);
		wipe(buf, used, buf->end);
		buf->start = 0;
		buf->end = used;
	}
	if (buf->capacity - buf->end < n)
		grow(buf, used + n);
}

bool buf_write_growing(struct buf *buf, struct str bytes)
{
	if (bytes.n > buf_room(buf))
		return false;
	make_room(buf, bytes.n);
	memcpy(buf->data + buf->end, bytes.p, bytes.n);
	buf->end += (uint32_t)bytes.n;
	return true;
}

char *buf_reserve_growing(struct buf *buf, size_t n)
{
	if (n > buf_room(buf))
		return NULL;
	make_room(buf, n);
	return buf->data + buf->end;
}

static unsigned count_digits(uint64_t number)
{
	unsigned digits = 1;

	for (; number >= 10; number /= 10)
		digits++;
	return digits;
}

bool buf_write_number(struct buf *buf, uint64_t number, unsigned width)
{
	unsigned digits = count_digits(number);

	ASSERT(width <= NUMBER_MAX);
	if (digits < width)
		digits = width;
	char *text = buf_reserve(buf, digits);
	if (text == NULL)
		return false;
	buf_commit(buf, digits);
	while (digits > 0) {
		text[--digits] = (char)('0' + number % 10);
		number /= 10;
	}
	return true;
}

bool buf_printf(struct buf *buf, const char *format, ...)
{
	char small[512];
	char *text = small;
	va_list args;

	va_start(args, format);
	int n = vsnprintf(small, sizeof(small), format, args);
	va_end(args);
	ASSERT(n >= 0);
	if ((size_t)n >= sizeof(small)) {
		text = xcalloc((size_t)n + 1, 1);
		va_start(args, format);
		vsnprintf(text, (size_t)n + 1, format, args);
		va_end(args);
	}
	bool done = buf_write(buf, str_make(text, (size_t)n));
	if (text != small)
		free(text);
	return done;
}

void buf_consume(struct buf *buf, size_t n)
{
	ASSERT(n <= buf_used(buf));
	wipe(buf, buf->start, buf->start + n);
	buf->start += (uint32_t)n;
	if (buf->start == buf->end)
		buf->start = buf->end = 0;
}

void buf_truncate(struct buf *buf, size_t n)
{
	ASSERT(n <= buf_used(buf));
	wipe(buf, buf->start + n, buf->end);
	buf->end = buf->start + (uint32_t)n;
}

void buf_release(struct buf *buf)
{
	if (buf_used(buf) == 0)
		buf_free(buf);
}
