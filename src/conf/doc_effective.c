#include <stdlib.h>

#include "base/xalloc.h"
#include "conf/schema_doc.h"
#include "doc_priv.h"
#include "value_priv.h"

struct effective {
	struct buf *out;
	size_t indent;
	bool has_dash; /* the next line is the first of a list's element */
};

/* ---- Is it the default? ---- */

static size_t value_size(const struct conf_field *field)
{
	return conf_doc_is_list(field) ? sizeof(struct conf_list) : conf_value_size(field);
}

/* Prints the default as the value would be printed. False for a row without the size of its
 * value, of which only the text of the default is known. */
static bool print_default(const struct conf_field *field, struct buf *out)
{
	struct conf_field table[] = { *field, CONF_END };
	size_t size = value_size(field);
	struct buf report;

	if (size == 0)
		return field->dflt && buf_write(out, str_from(field->dflt));
	table[0].offset = 0;
	table[0].flags &= ~(unsigned)CONF_REQUIRED;
	void *value = xcalloc(1, size);
	buf_init(&report, CONF_DOC_MAX);
	bool is_read = conf_read_text("", STR("{}"), table, value, size, &report) == 0;
	if (is_read)
		conf_print_value(field, value, out);
	conf_free(table, value, size);
	buf_free(&report);
	free(value);
	return is_read;
}

static bool is_default(const struct conf_field *field, struct str printed)
{
	struct buf dflt;

	if (field->flags & (CONF_REQUIRED | CONF_SECRET))
		return false;
	buf_init(&dflt, CONF_DOC_MAX);
	bool same = print_default(field, &dflt) && str_eq(buf_view(&dflt), printed);
	buf_free(&dflt);
	return same;
}

/* ---- Lines ---- */

static void begin_line(struct effective *effective)
{
	buf_printf(effective->out, "%*s%s", (int)effective->indent, "",
		effective->has_dash ? "- " : "");
	if (effective->has_dash)
		effective->indent += 2;
	effective->has_dash = false;
}

static void write_value(
	struct effective *effective, const struct conf_field *field, const void *value)
{
	struct buf text;

	begin_line(effective);
	if (conf_value_is_unset(field, value)) {
		buf_printf(effective->out, "# %s is not set\n", field->key);
		return;
	}
	buf_init(&text, effective->out->max);
	conf_print_value(field, value, &text);
	struct str printed = buf_view(&text);
	buf_printf(effective->out, "%s: ", field->key);
	buf_write(effective->out, printed);
	buf_write(effective->out, is_default(field, printed) ? STR(" # default\n") : STR("\n"));
	buf_free(&text);
}

static void write_table(
	struct effective *effective, const struct conf_field *table, const char *base);

static void write_elements(
	struct effective *effective, const struct conf_field *field, const struct conf_list *list)
{
	size_t indent = effective->indent;

	for (size_t i = 0; i < list->count; i++) {
		effective->has_dash = true;
		write_table(effective, field->fields,
			(const char *)list->items + i * field->element_size);
		effective->has_dash = false;
		effective->indent = indent;
	}
}

static void write_mapping(
	struct effective *effective, const struct conf_field *field, const void *value)
{
	const struct conf_list *list = conf_doc_is_list(field) ? value : NULL;

	begin_line(effective);
	if (list && list->count == 0) {
		buf_printf(
			effective->out, "%s: []%s\n", field->key, field->dflt ? "" : " # default");
		return;
	}
	buf_printf(effective->out, "%s:\n", field->key);
	effective->indent += 2;
	if (list)
		write_elements(effective, field, list);
	else
		write_table(effective, field->fields, value);
	effective->indent -= 2;
}

static void write_table(
	struct effective *effective, const struct conf_field *table, const char *base)
{
	for (; table->key; table++) {
		const void *value = base + table->offset;
		if (table->type == CONF_MAP)
			write_mapping(effective, table, value);
		else if (table->type != CONF_CUSTOM || table->print)
			write_value(effective, table, value);
	}
}

void conf_doc_effective(const struct conf_field *table, const void *value, struct buf *out)
{
	struct effective effective = { .out = out };

	write_table(&effective, table, value);
}
