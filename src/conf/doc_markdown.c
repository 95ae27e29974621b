#include "conf/schema_doc.h"
#include "doc_priv.h"

#define HEADING_MAX 256

static const char page_head[] =
	"# Configuration\n"
	"\n"
	"One YAML file. This page is printed by `gatepost -d configuration` from the tables that "
	"the\n"
	"program reads the file with. `gatepost -c -f FILE` checks a file and names every mistake "
	"with\n"
	"its line, column and key, also those of the files that it names (certificates, keys, "
	"users, "
	"maps, log and trace);\n"
	"`gatepost -p -f FILE` prints the settings in force.\n"
	"\n"
	"| value | written as |\n"
	"|---|---|\n"
	"| duration | digits and a unit: `500ms`, `30s`, `5m`, `2h`, `7d`; a number alone only if "
	"it is `0` |\n"
	"| size | `512`, `512B`, `64KB`, `25MB`, `2GB`; 1KB is 1024 bytes |\n"
	"| yes or no | `true`, `yes` or `on`; `false`, `no` or `off` |\n"
	"| address and port | `\"192.0.2.1:25\"`, `\"[2001:db8::1]:25\"`; no names |\n"
	"| network | `192.0.2.0/24`, `2001:db8::/32`, or an address; the bits behind the prefix "
	"are zero |\n"
	"| domain | `example.com` (this name), `.example.com` (every name below it) |\n"
	"| list | `[a, b]`, or a line `- a` an element; a single value stands for a list of one |\n"
	"\n"
	"`${NAME}` in a value is replaced by the environment variable, which must be set;\n"
	"`${NAME:-default}` has a default for one that is unset or empty; `$$` is a dollar sign. "
	"Unknown\n"
	"keys, keys given twice, merge keys (`<<`) and YAML tags are mistakes. A key with nothing "
	"behind\n"
	"it is an empty mapping where a mapping belongs, and a mistake elsewhere.\n";

/* A bar would end the cell, also inside backticks. */
static void write_cell(struct buf *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '|')
			buf_write(out, STR("\\|"));
		else if (*text == '\n')
			buf_write(out, STR(" "));
		else
			buf_write(out, str_make(text, 1));
	}
}

/* The name that readers of Markdown give to a heading. */
static void write_anchor(struct buf *out, struct str heading)
{
	for (size_t i = 0; i < heading.n; i++) {
		char c = ascii_lower(heading.p[i]);
		if (ascii_is_alnum(c) || c == '-' || c == '_')
			buf_write(out, str_make(&c, 1));
	}
}

static void write_type(struct buf *out, const struct conf_field *field, const struct buf *path)
{
	if (field->type != CONF_MAP || path == NULL) {
		conf_doc_type(field, out);
		return;
	}
	buf_write(out, STR("["));
	conf_doc_type(field, out);
	buf_write(out, STR("](#"));
	write_anchor(out, buf_view(path));
	write_anchor(out, str_from(field->key));
	buf_write(out, STR(")"));
}

static void write_default(struct buf *out, const struct conf_field *field)
{
	if (conf_doc_needs(field)) {
		buf_write(out, STR("*required*"));
	} else if (field->dflt) {
		buf_write(out, STR("`"));
		write_cell(out, field->dflt);
		buf_write(out, STR("`"));
	} else {
		buf_write(out, conf_doc_is_list(field) ? STR("`[]`") : STR("–"));
	}
}

static void write_row(struct buf *out, const struct conf_field *field, const struct buf *path)
{
	buf_printf(out, "| `%s` | ", field->key);
	write_type(out, field, path);
	buf_write(out, STR(" | "));
	write_default(out, field);
	buf_write(out, STR(" | "));
	conf_doc_range(field, "`", out);
	buf_write(out, STR(" | "));
	write_cell(out, field->help ? field->help : "");
	if (field->flags & CONF_SECRET)
		buf_write(out, STR(" Never printed."));
	buf_write(out, STR(" |\n"));
}

/* `path` is that of the mapping, for links to the sections of those inside; NULL: no links. */
static void write_table(struct buf *out, const struct conf_field *table, const struct buf *path)
{
	buf_write(out, STR("| key | type | default | range | meaning |\n|---|---|---|---|---|\n"));
	for (; table->key; table++)
		write_row(out, table, path);
}

static void write_sections(struct buf *out, const struct conf_field *table, struct buf *path);

static void write_section(struct buf *out, const struct conf_field *field, struct buf *path)
{
	size_t before = buf_used(path);

	buf_printf(
		path, "%s%s%s", before ? "." : "", field->key, conf_doc_is_list(field) ? "[]" : "");
	buf_printf(
		out, "\n## %.*s\n\n%s\n", STR_ARG(buf_view(path)), field->help ? field->help : "");
	if (conf_doc_is_list(field))
		buf_write(out, STR("This is a list; each element has these keys.\n"));
	if (field->scalar_key)
		buf_printf(out, "A single value stands for a mapping with `%s` alone.\n",
			field->scalar_key);
	buf_write(out, STR("\n"));
	write_table(out, field->fields, path);
	write_sections(out, field->fields, path);
	buf_truncate(path, before);
}

static void write_sections(struct buf *out, const struct conf_field *table, struct buf *path)
{
	for (; table->key; table++)
		if (table->type == CONF_MAP)
			write_section(out, table, path);
}

void conf_doc_markdown_table(const struct conf_field *table, struct buf *out)
{
	write_table(out, table, NULL);
}

void conf_doc_markdown(const struct conf_field *table, struct buf *out)
{
	struct buf path;

	buf_init(&path, HEADING_MAX);
	buf_write(out, STR(page_head));
	buf_write(out, STR("\n## The file\n\n"));
	write_table(out, table, &path);
	write_sections(out, table, &path);
	buf_free(&path);
}
