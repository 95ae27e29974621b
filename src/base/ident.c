#include "base/ident.h"

#include <uuid/uuid.h>

_Static_assert(IDENT_TEXT_MAX == UUID_STR_LEN, "libuuid writes 36 characters and a NUL");

void ident_make(char out[IDENT_TEXT_MAX])
{
	uuid_t id;

	/* Not uuid_generate(): it may fall back on the clock and the network card's address. */
	uuid_generate_random(id);
	uuid_unparse_upper(id, out);
}
