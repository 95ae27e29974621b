#include <limits.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/assert.h"
#include "digest_priv.h"

struct digest digest_hash(struct str message)
{
	struct digest digest;
	unsigned n;
	int rc = EVP_Digest(message.p, message.n, digest.bytes, &n, EVP_sha256(), NULL);

	ASSERT(rc == 1 && n == SCRAM_HASH_SIZE);
	return digest;
}

struct digest digest_hmac(struct str key, struct str message)
{
	struct digest digest;
	unsigned n;
	const uint8_t *done = HMAC(EVP_sha256(), key.p, (int)key.n,
		(const unsigned char *)message.p, message.n, digest.bytes, &n);

	ASSERT(done != NULL && n == SCRAM_HASH_SIZE);
	return digest;
}

struct digest digest_stretch(struct str password, struct str salt, unsigned iterations)
{
	struct digest digest;

	ASSERT(salt.n <= SCRAM_SALT_MAX && password.n <= INT_MAX && iterations <= INT_MAX);
	int rc = PKCS5_PBKDF2_HMAC(password.p, (int)password.n, (const unsigned char *)salt.p,
		(int)salt.n, (int)iterations, EVP_sha256(), SCRAM_HASH_SIZE, digest.bytes);
	ASSERT(rc == 1);
	return digest;
}
