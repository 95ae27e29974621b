/*
 * The mistakes of a file: collected in any order, reported in order of line.
 */
#ifndef CONF_ERRORS_PRIV_H
#define CONF_ERRORS_PRIV_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/str.h"
#include "conf/schema.h"

#define CONF_ERRORS_MAX 200 /* reported one by one; the rest is counted */
#define CONF_QUOTE_MAX 80

struct conf_mistake;

struct conf_errors {
	const char *name; /* of the file, for messages */
	bool in_default;  /* what is being read is the default of a row */
	size_t count;     /* all, whether kept or not */
	struct conf_mistake *kept;
	size_t capacity;
	struct conf_errors *notices; /* what is told when there is no mistake; NULL: not at all */
};

void conf_errors_free(struct conf_errors *errors);

/* Is there room for one more, so that it is worth finding the right words? */
bool conf_errors_has_room(const struct conf_errors *errors);

/* A mistake at a place without a node. */
void conf_errors_add(struct conf_errors *errors, size_t line, size_t column, const char *format,
	...) __attribute__((format(printf, 4, 5)));

/*
 * The node turned out to be a secret: what has been said about it, which may quote a part, is said
 * without its words. Nodes that aliases made share their place with the one they stand for.
 */
void conf_errors_hide(struct conf_errors *errors, const struct conf_node *node);

/* Writes all of them, a line each. */
void conf_errors_report(struct conf_errors *errors, struct buf *report);

/* The beginning of a text, as much as a message can hold. Returns `out`. */
const char *conf_quote(struct str text, char out[CONF_QUOTE_MAX]);

#endif
