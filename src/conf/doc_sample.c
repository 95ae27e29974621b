#include "conf/schema_doc.h"
#include "doc_priv.h"
#include "value_priv.h"

#define LINE_LENGTH 96
#define PREFIX_MAX \
	128 /* what stands before a line: indentation and the # of what is commented out */

struct sample {
	struct buf *out;
	struct buf prefix;
};

static const char head[] =
	"# yaml-language-server: $schema=gatepost.schema.json\n"
	"#\n"
	"# Every setting of gatepost, printed by `gatepost -d sample`. A line like \"#key: value\" "
	"shows\n"
	"# the default, or an example where there is none: take the # away to change it. What is "
	"not\n"
	"# commented out must be given. The meaning of every key: docs/configuration.md.\n";

static void begin_line(struct sample *sample)
{
	buf_write(sample->out, buf_view(&sample->prefix));
}

/* ---- Comments ---- */

/* The words that fit into a line; at least one. */
static struct str take_line(struct str *rest, size_t length)
{
	size_t end = rest->n;

	if (end > length) {
		end = str_rfind(str_range(*rest, 0, length + 1), ' ');
		if (end > length)
			end = str_find(*rest, ' ');
	}
	struct str line = str_range(*rest, 0, end);
	*rest = str_trim(str_from_pos(*rest, end));
	return line;
}

static void write_comment(struct sample *sample, struct str text)
{
	size_t length = LINE_LENGTH - buf_used(&sample->prefix) - 2;

	while (text.n > 0) {
		struct str line = take_line(&text, length);
		begin_line(sample);
		buf_printf(sample->out, "# %.*s\n", STR_ARG(line));
	}
}

static void write_help(struct sample *sample, const struct conf_field *field)
{
	bool is_only_word = field->type == CONF_ENUM && field->choices[1] == NULL;
	struct buf text;

	buf_init(&text, CONF_DOC_MAX);
	buf_printf(&text, "%s", field->help ? field->help : "");
	size_t before = buf_used(&text);
	buf_printf(&text, "%s", field->type == CONF_ENUM ? " One of " : " Range: ");
	size_t with_word = buf_used(&text);
	if (!is_only_word)
		conf_doc_range(field, "", &text);
	if (buf_used(&text) > with_word)
		buf_write(&text, STR("."));
	else
		buf_truncate(&text, before);
	write_comment(sample, buf_view(&text));
	buf_free(&text);
}

/* ---- Values ---- */

/* Of a row that has no example: a value that can be read. */
static void write_placeholder(struct buf *out, const struct conf_field *field)
{
	const struct conf_value_type *type = conf_value_type(field->type);

	if (field->type == CONF_ENUM)
		conf_value_print_text(str_from(field->choices[0]), out);
	else if (field->min > 0)
		type->print(field, &field->min, out);
	else
		buf_write(out, str_from(type ? type->sample : "\"\""));
}

static void write_text(struct buf *out, const struct conf_field *field)
{
	bool is_required = field->flags & CONF_REQUIRED;

	if (field->dflt && !is_required)
		buf_write(out, str_from(field->dflt));
	else if (field->example)
		buf_write(out, str_from(field->example));
	else if (conf_doc_is_list(field) && !is_required)
		buf_write(out, STR("[]"));
	else
		write_placeholder(out, field);
}

/* An example of many lines begins with its line break and stands below the key. */
static void write_value(struct sample *sample, const struct conf_field *field, const char *mark)
{
	struct buf text;

	buf_init(&text, CONF_DOC_MAX);
	write_text(&text, field);
	struct str rest = buf_view(&text);
	struct str line = str_cut(&rest, '\n');
	buf_printf(
		sample->out, "%s%s:%s%.*s\n", mark, field->key, line.n ? " " : "", STR_ARG(line));
	while (rest.n > 0) {
		line = str_cut(&rest, '\n');
		begin_line(sample);
		buf_printf(sample->out, "%s  %.*s\n", mark, STR_ARG(line));
	}
	buf_free(&text);
}

/* ---- Mappings ---- */

static void write_table(
	struct sample *sample, const struct conf_field *table, const struct conf_field *except);

static void write_list_of_maps(struct sample *sample, const struct conf_field *table);

/* What stands behind `key:` of a mapping or of a list of mappings. */
static void write_inside(struct sample *sample, const struct conf_field *field, const char *prefix)
{
	size_t before = buf_used(&sample->prefix);

	buf_write(&sample->prefix, str_from(prefix));
	if (conf_doc_is_list(field))
		write_list_of_maps(sample, field->fields);
	else
		write_table(sample, field->fields, NULL);
	buf_truncate(&sample->prefix, before);
}

/* The line of the key, and what belongs to it; its prefix has been written. */
static void write_key(struct sample *sample, const struct conf_field *field, bool is_active)
{
	if (field->type != CONF_MAP) {
		write_value(sample, field, is_active ? "" : "#");
		return;
	}
	/* An empty mapping takes all defaults, an element of a list would be one more thing. */
	bool is_live = is_active || !conf_doc_is_list(field);
	buf_printf(sample->out, "%s%s:\n", is_live ? "" : "#", field->key);
	write_inside(sample, field, is_live ? "  " : "#  ");
}

/* The row that carries the dash: one that is active, so that the rest can be commented out. */
static const struct conf_field *find_leader(const struct conf_field *table)
{
	for (const struct conf_field *row = table; row->key; row++)
		if (row->flags & CONF_REQUIRED)
			return row;
	return table;
}

/* One element. */
static void write_list_of_maps(struct sample *sample, const struct conf_field *table)
{
	const struct conf_field *leader = find_leader(table);
	size_t before = buf_used(&sample->prefix);

	write_help(sample, leader);
	begin_line(sample);
	buf_write(sample->out, STR("- "));
	buf_write(&sample->prefix, STR("  "));
	write_key(sample, leader, true);
	write_table(sample, table, leader);
	buf_truncate(&sample->prefix, before);
}

static void write_table(
	struct sample *sample, const struct conf_field *table, const struct conf_field *except)
{
	for (; table->key; table++) {
		if (table == except)
			continue;
		if (buf_used(&sample->prefix) == 0)
			buf_write(sample->out, STR("\n"));
		write_help(sample, table);
		begin_line(sample);
		write_key(sample, table, table->flags & CONF_REQUIRED);
	}
}

void conf_doc_sample(const struct conf_field *table, struct buf *out)
{
	struct sample sample = { .out = out };

	buf_init(&sample.prefix, PREFIX_MAX);
	buf_write(out, STR(head));
	write_table(&sample, table, NULL);
	buf_free(&sample.prefix);
}
