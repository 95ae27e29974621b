#include "base/ident.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "base/assert.h"

_Static_assert(IDENT_TEXT_MAX == UUID_STR_LEN, "libuuid writes 36 characters and a NUL");

#define RANDOM_MAX 256 /* what getentropy(3) gives at once, never less */

/* uuid_generate_random() makes six system calls for each; these bytes are for sixteen. */
static struct {
	unsigned char bytes[RANDOM_MAX];
	size_t left;
	bool is_watching_forks;
} pool;

/* A child has the same bytes, and must not make the same ids. */
static void forget_bytes(void)
{
	pool.left = 0;
}

static bool refill(void)
{
	if (!pool.is_watching_forks && pthread_atfork(NULL, NULL, forget_bytes) != 0)
		return false;
	pool.is_watching_forks = true;
	if (getentropy(pool.bytes, sizeof(pool.bytes)) != 0)
		return false;
	pool.left = sizeof(pool.bytes);
	return true;
}

/* RFC 4122 section 4.4: all bits are random but those of version and variant. */
static bool take_random(uuid_t id)
{
	if (pool.left < sizeof(uuid_t) && !refill())
		return false;
	pool.left -= sizeof(uuid_t);
	memcpy(id, pool.bytes + pool.left, sizeof(uuid_t));
	id[6] = (unsigned char)((id[6] & 0x0f) | 0x40);
	id[8] = (unsigned char)((id[8] & 0x3f) | 0x80);
	return true;
}

void ident_make(char out[IDENT_TEXT_MAX])
{
	uuid_t id;

	/* Not uuid_generate(): it may fall back on the clock and the network card's address. */
	if (!take_random(id))
		uuid_generate_random(id);
	ASSERT(uuid_type(id) == UUID_TYPE_DCE_RANDOM && uuid_variant(id) == UUID_VARIANT_DCE);
	uuid_unparse_upper(id, out);
}
