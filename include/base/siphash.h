/*
 * SipHash-2-4 (Aumasson and Bernstein): a keyed hash for tables whose keys a client can choose.
 * Without knowing the key nobody can make entries collide.
 */
#ifndef BASE_SIPHASH_H
#define BASE_SIPHASH_H

#include <stdint.h>

#include "base/str.h"

struct siphash_key {
	uint8_t bytes[16];
};

/* A fresh key from the kernel's random numbers; one a table. */
struct siphash_key siphash_key_make(void);

uint64_t siphash(const struct siphash_key *key, struct str bytes);

#endif
