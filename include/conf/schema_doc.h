/*
 * What a table of settings says about itself: the reference page, the commented sample, the JSON
 * Schema, and the effective configuration. All are written into a buffer of the caller's, whose
 * maximum should leave room (1 MiB is plenty); what does not fit is left out.
 */
#ifndef CONF_SCHEMA_DOC_H
#define CONF_SCHEMA_DOC_H

#include "base/buf.h"
#include "conf/schema.h"

/* docs/configuration.md: one section a mapping, one row a key. */
void conf_doc_markdown(const struct conf_field *table, struct buf *out);

/* The Markdown table of one mapping alone, for pages of their own (docs/policy/<check>.md).
 * Mappings inside it are named in it, but have no sections. */
void conf_doc_markdown_table(const struct conf_field *table, struct buf *out);

/*
 * config/gatepost.yaml: every key with its default and help, commented out unless required. It
 * reads without a mistake as it is, and to the defaults. An `example` of more than one line begins
 * with its line break: "\nedge:\n  connect: [limits]".
 */
void conf_doc_sample(const struct conf_field *table, struct buf *out);

/* config/gatepost.schema.json: JSON Schema, draft 2020-12, for editors. It holds what the reader
 * accepts, as far as a schema can say it. */
void conf_doc_json_schema(const struct conf_field *table, struct buf *out);

/* The schema of one mapping alone, in one line, for `schema_json` of a CUSTOM row. It refers to
 * definitions (#/$defs/...) that conf_doc_json_schema() puts into the whole. */
void conf_doc_json_schema_table(const struct conf_field *table, struct buf *out);

/*
 * `gatepost -p`: the settings in force as YAML that reads back to the same settings; values that
 * are the default carry "# default"; what is not set and has no default is a comment. Secrets are
 * masked, so these alone do not read back.
 */
void conf_doc_effective(const struct conf_field *table, const void *value, struct buf *out);

#endif
