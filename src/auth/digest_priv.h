/*
 * SHA-256, and what SCRAM makes of it (RFC 5802 section 2.2). A digest may be a secret: its owner
 * wipes it.
 */
#ifndef AUTH_DIGEST_PRIV_H
#define AUTH_DIGEST_PRIV_H

#include <stdint.h>

#include "auth/scram.h"
#include "base/str.h"

struct digest {
	uint8_t bytes[SCRAM_HASH_SIZE];
};

static inline struct str digest_view(const struct digest *digest)
{
	return str_make((const char *)digest->bytes, sizeof(digest->bytes));
}

struct digest digest_hash(struct str message);
struct digest digest_hmac(struct str key, struct str message);
/* Hi(password, salt, iterations), which is PBKDF2: some milliseconds for each 10,000 iterations. */
struct digest digest_stretch(struct str password, struct str salt, unsigned iterations);

#endif
