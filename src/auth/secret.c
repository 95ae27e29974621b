#include "auth/secret.h"

#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdlib.h>

#include "base/assert.h"

void secret_wipe(void *memory, size_t size)
{
	OPENSSL_cleanse(memory, size);
}

void secret_free(void *memory, size_t size)
{
	if (memory != NULL)
		secret_wipe(memory, size);
	free(memory);
}

bool secret_eq(struct str a, struct str b)
{
	return a.n == b.n && CRYPTO_memcmp(a.p, b.p, a.n) == 0;
}

void secret_make(void *memory, size_t size)
{
	ASSERT(size <= INT_MAX);
	int rc = RAND_bytes(memory, (int)size);
	ASSERT(rc == 1);
}
