/*
 * Mistakes in a text that an operator has written, told in one line: "name:line: what is wrong (and N
 * more)", the first by the line, whatever the order in which they are found.
 */
#ifndef BASE_MISTAKES_H
#define BASE_MISTAKES_H

#include <stddef.h>

#include "base/err.h"

/* Zero but for these two at first. */
struct mistakes {
	const char *name; /* of the text */
	struct err *err;  /* where it is told; may be NULL */
	size_t count, line;
};

void mistakes_add(struct mistakes *mistakes, size_t line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* When all have been found: -1, and it is told; 0: there is none. */
int mistakes_conclude(const struct mistakes *mistakes);

#endif
