#include "doc_priv.h"

#include "value_priv.h"

static const char *type_name(const struct conf_field *field)
{
	if (field->type == CONF_MAP)
		return conf_doc_is_list(field) ? "mappings" : "mapping";
	if (field->type == CONF_CUSTOM && field->unit)
		return field->unit;
	if (field->type == CONF_CUSTOM)
		return conf_doc_is_list(field) ? "values" : "value";
	const struct conf_value_type *type = conf_value_type(field->type);
	return conf_doc_is_list(field) ? type->plural : type->name;
}

void conf_doc_type(const struct conf_field *field, struct buf *out)
{
	buf_printf(out, "%s%s", conf_doc_is_list(field) ? "list of " : "", type_name(field));
	if (field->unit && field->type != CONF_CUSTOM)
		buf_printf(out, " (%s)", field->unit);
}

void conf_doc_range(const struct conf_field *field, const char *quote, struct buf *out)
{
	if (conf_value_type(field->type) == NULL)
		return;
	if (field->type != CONF_ENUM) {
		conf_value_range(field, out);
		return;
	}
	for (const char *const *choice = field->choices; *choice; choice++) {
		bool is_last = choice[1] == NULL;
		const char *separator = choice == field->choices ? "" : is_last ? " or " : ", ";
		buf_printf(out, "%s%s%s%s", separator, quote, *choice, quote);
	}
}

bool conf_doc_needs(const struct conf_field *field)
{
	if (field->flags & CONF_REQUIRED)
		return true;
	if (field->type != CONF_MAP || conf_doc_is_list(field) || field->dflt)
		return false;
	for (const struct conf_field *row = field->fields; row->key; row++)
		if (conf_doc_needs(row))
			return true;
	return false;
}
