#include "base/siphash.h"

#include <sys/random.h>

#include "base/assert.h"

struct state {
	uint64_t v0, v1, v2, v3;
};

static uint64_t rotate(uint64_t x, unsigned bits)
{
	return x << bits | x >> (64 - bits);
}

/* Up to eight bytes, the first one lowest. */
static uint64_t little_endian(const char *p, size_t n)
{
	uint64_t word = 0;

	for (size_t i = 0; i < n; i++)
		word |= (uint64_t)(unsigned char)p[i] << (8 * i);
	return word;
}

static void mix(struct state *s, unsigned rounds)
{
	for (unsigned i = 0; i < rounds; i++) {
		s->v0 += s->v1;
		s->v2 += s->v3;
		s->v1 = rotate(s->v1, 13) ^ s->v0;
		s->v3 = rotate(s->v3, 16) ^ s->v2;
		s->v0 = rotate(s->v0, 32);
		s->v2 += s->v1;
		s->v0 += s->v3;
		s->v1 = rotate(s->v1, 17) ^ s->v2;
		s->v3 = rotate(s->v3, 21) ^ s->v0;
		s->v2 = rotate(s->v2, 32);
	}
}

static void absorb(struct state *s, uint64_t word)
{
	s->v3 ^= word;
	mix(s, 2);
	s->v0 ^= word;
}

struct siphash_key siphash_key_make(void)
{
	struct siphash_key key;
	/* Up to 256 bytes come whole or not at all. */
	ssize_t n = getrandom(key.bytes, sizeof(key.bytes), 0);

	ASSERT(n == (ssize_t)sizeof(key.bytes));
	return key;
}

uint64_t siphash(const struct siphash_key *key, struct str bytes)
{
	uint64_t k0 = little_endian((const char *)key->bytes, 8);
	uint64_t k1 = little_endian((const char *)key->bytes + 8, 8);
	size_t whole = bytes.n & ~(size_t)7;
	struct str rest = str_from_pos(bytes, whole);
	struct state s = {
		.v0 = k0 ^ 0x736f6d6570736575,
		.v1 = k1 ^ 0x646f72616e646f6d,
		.v2 = k0 ^ 0x6c7967656e657261,
		.v3 = k1 ^ 0x7465646279746573,
	};

	for (size_t i = 0; i < whole; i += 8)
		absorb(&s, little_endian(bytes.p + i, 8));
	absorb(&s, little_endian(rest.p, rest.n) | (uint64_t)bytes.n << 56);
	s.v2 ^= 0xff;
	mix(&s, 4);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
