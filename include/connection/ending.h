/*
 * How a session ended: a word for the log and the trace, from tables/endings.def.
 */
#ifndef CONNECTION_ENDING_H
#define CONNECTION_ENDING_H

#include <stdbool.h>

#include "base/buf.h"

enum ending {
#define ENDING(id, word, is_error, meaning) ENDING_##id,
#include "tables/endings.def"
#undef ENDING
	ENDING_COUNT
};

const char *ending_word(enum ending ending);
bool ending_is_error(enum ending ending);

/* docs/endings.md. */
void ending_print_reference(struct buf *out);

#endif
