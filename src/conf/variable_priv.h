/*
 * Environment variables in settings: ${NAME}, ${NAME:-default}, $$ for a dollar sign. Any other
 * dollar sign stands for itself.
 */
#ifndef CONF_VARIABLE_PRIV_H
#define CONF_VARIABLE_PRIV_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

#define CONF_SCALAR_MAX 65536 /* bytes of a value with its variables replaced */

/*
 * Puts the text with its variables replaced into *out: `text` itself, or a copy in the arena.
 * Returns 0, or -1 with what is wrong. A default is taken for a variable that is unset or empty.
 */
int conf_variable_expand(struct str text, struct arena *arena, struct str *out, struct err *err);

#endif
