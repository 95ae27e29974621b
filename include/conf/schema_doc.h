/*
 * What a table of settings says about itself: the reference page, the commented sample, the JSON
 * Schema, and the effective configuration.
 */
#ifndef CONF_SCHEMA_DOC_H
#define CONF_SCHEMA_DOC_H

#include "base/buf.h"
#include "conf/schema.h"

/* docs/configuration.md: one section a mapping, one row a key. */
void conf_doc_markdown(const struct conf_field *table, struct buf *out);

/* config/gatepost.yaml: every key with its default and help, commented out unless required. */
void conf_doc_sample(const struct conf_field *table, struct buf *out);

/* config/gatepost.schema.json: JSON Schema, draft 2020-12, for editors. */
void conf_doc_json_schema(const struct conf_field *table, struct buf *out);

/* `gatepost -p`: the settings in force as YAML that reads back to the same settings; values that
 * are the default carry "# default"; secrets are masked. */
void conf_doc_effective(const struct conf_field *table, const void *value, struct buf *out);

#endif
