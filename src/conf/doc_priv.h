/*
 * What the documents made from a table have in common.
 */
#ifndef CONF_DOC_PRIV_H
#define CONF_DOC_PRIV_H

#include <stdbool.h>

#include "base/buf.h"
#include "conf/schema.h"

#define CONF_DOC_MAX (1u << 20) /* bytes of anything that is put together on the way */

static inline bool conf_doc_is_list(const struct conf_field *field)
{
	return field->flags & CONF_LIST;
}

/* "duration", "list of networks", "number (messages)" */
void conf_doc_type(const struct conf_field *field, struct buf *out);

/* "1s to 10m", or the choices with `quote` around each and `last` before the last. */
void conf_doc_range(const struct conf_field *field, const char *quote, struct buf *out);

/* Does the mapping that holds the row need its key? */
bool conf_doc_needs(const struct conf_field *field);

#endif
