/* PROXY headers for made-up clients. */
#ifndef BENCH_HEADER_H
#define BENCH_HEADER_H

#include <stdint.h>

#include "base/str.h"

#define HEADER_MAX 108

/* The header of the `number`-th connection: version 1, 2, or 0 for none. The view is into out. */
struct str header_make(int version, uint64_t number, char out[HEADER_MAX]);

#endif
