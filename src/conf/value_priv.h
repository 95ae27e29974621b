/*
 * The scalar types of settings: how each is read, printed, freed, and what it is called.
 */
#ifndef CONF_VALUE_PRIV_H
#define CONF_VALUE_PRIV_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "conf/schema.h"

struct conf_value_type {
	const char *name;   /* "duration" */
	const char *plural; /* "durations" */
	const char *form;   /* "a duration such as 500ms, 30s or 5m", for "must be ..." */
	const char *sample; /* a value where a row has no example; NULL: the first choice */
	size_t size;        /* of the value in the struct */
	/* False with "must be ..." in `why`; the value is then unchanged. */
	bool (*parse)(
		const struct conf_field *field, struct str text, void *value, struct err *why);
	/* As one word of YAML that reads back to the same value. */
	void (*print)(const struct conf_field *field, const void *value, struct buf *out);
};

/* NULL for MAP and CUSTOM, which are no scalars. */
const struct conf_value_type *conf_value_type(enum conf_type type);

/* Bytes of one element of the row. */
size_t conf_value_size(const struct conf_field *field);

/* Is the value zero where zero is no value that could be read back, but the absence of one? */
bool conf_value_is_unset(const struct conf_field *field, const void *value);

/* "1s to 10m", "at least 1", or nothing when the row has no bounds. */
void conf_value_range(const struct conf_field *field, struct buf *out);

/* Text as YAML, in quotes where it needs them, dollar signs doubled. */
void conf_value_print_text(struct str text, struct buf *out);

#endif
