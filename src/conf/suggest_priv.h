/*
 * The known word that a misspelt one was meant to be: the nearest by Damerau-Levenshtein
 * distance (letters missing, added, changed, or two neighbours swapped).
 */
#ifndef CONF_SUGGEST_PRIV_H
#define CONF_SUGGEST_PRIV_H

#include <stddef.h>

#include "base/str.h"

struct conf_suggest {
	struct str given;
	const char *best; /* NULL: none is near enough */
	size_t distance;  /* of the best */
};

void conf_suggest_init(struct conf_suggest *suggest, struct str given);
void conf_suggest_consider(struct conf_suggest *suggest, const char *candidate);

#endif
