/*
 * Allocation that does not return NULL. Everything gatepost allocates is bounded by a setting,
 * so running out of memory is a mistake of the operator's sizing, not of a peer: the process
 * says so and aborts; nothing accepted is lost, as gatepost has no queue.
 */
#ifndef BASE_XALLOC_H
#define BASE_XALLOC_H

#include <stddef.h>

/* Zeroed memory for `count` objects of `size` bytes. Free with free(). */
void *xcalloc(size_t count, size_t size);

/* Like realloc(), with overflow of count * size checked. */
void *xrealloc(void *old, size_t count, size_t size);

/* A copy of a C string. Free with free(). */
char *xstrdup(const char *s);

/* For who takes memory elsewhere: says so and aborts. */
_Noreturn void xalloc_failed(void);

#endif
