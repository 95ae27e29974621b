/*
 * The codec with any bytes; the first one says how much room there is. What must hold: what is
 * decoded encodes to the same text; what is encoded decodes to the same bytes; lengths are as told
 * before; nothing is written beyond the room.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/base64.h"
#include "base/xalloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Allocated exactly, so that the sanitizer sees a byte too many. */
static void decode(struct str text, size_t room)
{
	char *bytes = xcalloc(room + 1, 1);
	size_t told, n, m;

	bytes = xrealloc(bytes, room > 0 ? room : 1, 1);
	bool has_length = base64_decoded_size(text, &told);
	if (base64_decode(text, bytes, room, &n)) {
		char *again = xcalloc(text.n + 1, 1);
		ASSERT(has_length && n == told && n <= room);
		ASSERT(base64_encode(str_make(bytes, n), again, text.n, &m));
		ASSERT(str_eq(str_make(again, m), text));
		free(again);
	}
	free(bytes);
}

static void encode(struct str bytes)
{
	size_t size = base64_encoded_size(bytes.n), told, n, m;
	char *text = xcalloc(size + 1, 1);
	char *again = xcalloc(bytes.n + 1, 1);

	ASSERT(size == 0 || !base64_encode(bytes, text, size - 1, &n));
	ASSERT(base64_encode(bytes, text, size, &n) && n == size);
	ASSERT(base64_decoded_size(str_make(text, n), &told) && told == bytes.n);
	ASSERT(base64_decode(str_make(text, n), again, bytes.n, &m));
	ASSERT(str_eq(str_make(again, m), bytes));
	free(again);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	struct str text = str_make((const char *)data + 1, size - 1);
	size_t room = data[0] == 0xff ? size : data[0];

	decode(text, room);
	encode(text);
	return 0;
}
