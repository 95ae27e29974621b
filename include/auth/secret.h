/*
 * What secrets need: to be wiped so that the compiler does not leave it out, to be compared without
 * telling by the time where they differ, and to be made.
 */
#ifndef AUTH_SECRET_H
#define AUTH_SECRET_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

void secret_wipe(void *memory, size_t size);

/* Wipes and frees; NULL is allowed. */
void secret_free(void *memory, size_t size);

/* The time depends on the lengths only. */
bool secret_eq(struct str a, struct str b);

/* Random bytes that nobody can guess. */
void secret_make(void *memory, size_t size);

#endif
