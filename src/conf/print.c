#include "conf/schema.h"

#include "value_priv.h"

static void print_element(const struct conf_field *field, const void *value, struct buf *out)
{
	if (field->flags & CONF_SECRET)
		buf_write(out, STR("\"***\""));
	else if (field->type == CONF_MAP)
		conf_print_map(field->fields, value, out);
	else if (field->type == CONF_CUSTOM)
		field->print(value, field->arg, out);
	else
		conf_value_type(field->type)->print(field, value, out);
}

static void print_list(
	const struct conf_field *field, const struct conf_list *list, struct buf *out)
{
	size_t size = conf_value_size(field);

	buf_write(out, STR("["));
	for (size_t i = 0; i < list->count; i++) {
		if (i > 0)
			buf_write(out, STR(", "));
		print_element(field, (const char *)list->items + i * size, out);
	}
	buf_write(out, STR("]"));
}

void conf_print_value(const struct conf_field *field, const void *value, struct buf *out)
{
	if (field->flags & CONF_LIST)
		print_list(field, value, out);
	else
		print_element(field, value, out);
}

static bool is_printed(const struct conf_field *field, const void *value)
{
	return (field->type != CONF_CUSTOM || field->print) && !conf_value_is_unset(field, value);
}

void conf_print_map(const struct conf_field *table, const void *value, struct buf *out)
{
	const char *separator = "";

	buf_write(out, STR("{"));
	for (const struct conf_field *field = table; field->key; field++) {
		const void *part = (const char *)value + field->offset;
		if (!is_printed(field, part))
			continue;
		buf_printf(out, "%s%s: ", separator, field->key);
		conf_print_value(field, part, out);
		separator = ", ";
	}
	buf_write(out, STR("}"));
}
