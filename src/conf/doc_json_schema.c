#include "base/assert.h"
#include "base/json.h"
#include "conf/schema_doc.h"
#include "doc_priv.h"
#include "document_priv.h"
#include "errors_priv.h"
#include "value_priv.h"

/*
 * What a schema sees is not text but what the editor's YAML reader made of it: a plain `no` is
 * false to one and "no" to another, 25 is a number. So every definition takes all the forms, and
 * a text with a variable.
 */
static const char definitions[] =
	"{"
	"\"variable\":{\"description\":\"An environment variable: ${NAME} or ${NAME:-default}.\","
	"\"type\":\"string\",\"pattern\":\"\\\\$\\\\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\\\\}\"},"
	"\"text\":{\"type\":[\"string\",\"number\",\"boolean\"]},"
	"\"bool\":{\"anyOf\":[{\"type\":\"boolean\"},"
	"{\"enum\":[\"true\",\"false\",\"yes\",\"no\",\"on\",\"off\"]},"
	"{\"$ref\":\"#/$defs/variable\"}]},"
	"\"digits\":{\"anyOf\":[{\"type\":\"string\",\"pattern\":\"^(0|[1-9][0-9]*)$\"},"
	"{\"$ref\":\"#/$defs/variable\"}]},"
	"\"size\":{\"anyOf\":[{\"type\":\"integer\",\"minimum\":0},"
	"{\"type\":\"string\",\"pattern\":\"^(0|[1-9][0-9]*)(B|KB|MB|GB)?$\"},"
	"{\"$ref\":\"#/$defs/variable\"}]},"
	"\"duration\":{\"anyOf\":[{\"const\":0},"
	"{\"type\":\"string\",\"pattern\":\"^(0|(0|[1-9][0-9]*)(ms|s|m|h|d))$\"},"
	"{\"$ref\":\"#/$defs/variable\"}]},"
	"\"endpoint\":{\"anyOf\":[{\"type\":\"string\","
	"\"pattern\":\"^(\\\\[[0-9A-Fa-f:.]+\\\\]|[0-9.]+):[0-9]+$\"},"
	"{\"$ref\":\"#/$defs/variable\"}]},"
	"\"network\":{\"anyOf\":[{\"type\":\"string\",\"pattern\":\"^[0-9A-Fa-f:.]+(/[0-9]+)?$\"},"
	"{\"$ref\":\"#/$defs/variable\"}]},"
	"\"domain\":{\"anyOf\":[{\"type\":\"string\","
	"\"pattern\":\"^\\\\.?[^\\\\s.:/@]+(\\\\.[^\\\\s.:/@]+)*$\"},"
	"{\"$ref\":\"#/$defs/variable\"}]}"
	"}";

static const char *const references[CONF_DOMAIN + 1] = {
	[CONF_STRING] = "#/$defs/text",
	[CONF_BOOL] = "#/$defs/bool",
	[CONF_SIZE] = "#/$defs/size",
	[CONF_DURATION] = "#/$defs/duration",
	[CONF_ENDPOINT] = "#/$defs/endpoint",
	[CONF_NETWORK] = "#/$defs/network",
	[CONF_DOMAIN] = "#/$defs/domain",
};

/* JSON that is there as text. */
static void put_raw(struct json *json, const char *key, const char *raw)
{
	json_key(json, str_from(key));
	if (!json_ok(json) || !buf_write(json->out, str_from(raw)))
		json->failed = true;
	json->needs_comma = true;
}

/* A list of the text, so that it may have keys of its own that we have as well. */
static void put_raw_list(struct json *json, const char *key, const char *raw)
{
	json_key(json, str_from(key));
	if (!json_ok(json) || !buf_printf(json->out, "[%s]", raw))
		json->failed = true;
	json->needs_comma = true;
}

static void put_reference(struct json *json, const char *to)
{
	json_object_begin(json);
	json_key_str(json, "$ref", str_from(to));
	json_object_end(json);
}

/* ---- Types ---- */

static void put_number(struct json *json, const struct conf_field *field)
{
	json_key(json, STR("anyOf"));
	json_array_begin(json);
	json_object_begin(json);
	json_key_str(json, "type", STR("integer"));
	json_key_uint(json, "minimum", field->min);
	if (field->max > 0)
		json_key_uint(json, "maximum", field->max);
	json_object_end(json);
	put_reference(json, "#/$defs/digits");
	json_array_end(json);
}

/* A YAML 1.1 reader takes these words for booleans. */
static const struct {
	const char *word;
	bool value;
} typed_words[] = {
	{ "true", true },
	{ "yes", true },
	{ "on", true },
	{ "false", false },
	{ "no", false },
	{ "off", false },
};

static void put_choice(struct json *json, const char *choice)
{
	json_str(json, str_from(choice));
	for (size_t i = 0; i < sizeof(typed_words) / sizeof(typed_words[0]); i++)
		if (str_eq(str_from(choice), str_from(typed_words[i].word)))
			json_bool(json, typed_words[i].value);
}

static void put_enum(struct json *json, const struct conf_field *field)
{
	json_key(json, STR("anyOf"));
	json_array_begin(json);
	json_object_begin(json);
	json_key(json, STR("enum"));
	json_array_begin(json);
	for (const char *const *choice = field->choices; *choice; choice++)
		put_choice(json, *choice);
	json_array_end(json);
	json_object_end(json);
	put_reference(json, "#/$defs/variable");
	json_array_end(json);
}

static void put_properties(struct json *json, const struct conf_field *table);

static bool needs_any(const struct conf_field *table)
{
	for (; table->key; table++)
		if (conf_doc_needs(table))
			return true;
	return false;
}

/* Nothing behind the key of a mapping means all defaults; so does an element of a list. */
static void put_mapping(struct json *json, const struct conf_field *table)
{
	put_raw(json, "type", needs_any(table) ? "\"object\"" : "[\"object\",\"null\"]");
	put_properties(json, table);
}

static void put_type(struct json *json, const struct conf_field *field);

/* The mapping, or what its scalar_key takes. */
static void put_short_mapping(struct json *json, const struct conf_field *field)
{
	const struct conf_field *row = field->fields;

	while (!str_eq(str_from(row->key), str_from(field->scalar_key)))
		row++;
	json_key(json, STR("anyOf"));
	json_array_begin(json);
	json_object_begin(json);
	put_mapping(json, field->fields);
	json_object_end(json);
	json_object_begin(json);
	put_type(json, row);
	json_object_end(json);
	json_array_end(json);
}

/* The keys of the schema of one value, or one element. */
static void put_type(struct json *json, const struct conf_field *field)
{
	if (field->type == CONF_MAP && field->scalar_key)
		put_short_mapping(json, field);
	else if (field->type == CONF_MAP)
		put_mapping(json, field->fields);
	else if (field->type == CONF_NUMBER)
		put_number(json, field);
	else if (field->type == CONF_ENUM)
		put_enum(json, field);
	else if (field->type != CONF_CUSTOM)
		json_key_str(json, "$ref", str_from(references[field->type]));
	else if (field->schema_json)
		put_raw_list(json, "allOf", field->schema_json);
}

static void put_array(struct json *json, const struct conf_field *field)
{
	json_key_str(json, "type", STR("array"));
	if (field->flags & CONF_REQUIRED)
		json_key_uint(json, "minItems", 1);
	json_key(json, STR("items"));
	json_object_begin(json);
	put_type(json, field);
	json_object_end(json);
}

/* A single scalar stands for a list of one, except for mappings that have no short form. */
static void put_list(struct json *json, const struct conf_field *field)
{
	if (field->type == CONF_MAP && field->scalar_key == NULL) {
		put_array(json, field);
		return;
	}
	json_key(json, STR("anyOf"));
	json_array_begin(json);
	json_object_begin(json);
	put_array(json, field);
	json_object_end(json);
	json_object_begin(json);
	put_type(json, field);
	if (field->type == CONF_CUSTOM || field->type == CONF_MAP)
		put_raw(json, "type", "[\"string\",\"number\",\"boolean\"]");
	json_object_end(json);
	json_array_end(json);
}

/* ---- Defaults ---- */

static void put_scalar(struct json *json, const struct conf_field *field, struct str text)
{
	bool is_number = field->type == CONF_NUMBER || field->type == CONF_SIZE ||
			 field->type == CONF_DURATION || field->type == CONF_CUSTOM;
	uint64_t number;
	bool is_true;
	struct err err;

	if (is_number && str_to_u64(text, INT64_MAX, &number))
		json_uint(json, number);
	else if (field->type == CONF_BOOL &&
		 conf_value_type(CONF_BOOL)->parse(field, text, &is_true, &err))
		json_bool(json, is_true);
	else
		json_str(json, text);
}

/* Recursion is bounded: the text is a row's. */
static void put_node(struct json *json, const struct conf_field *field, struct conf_node *node)
{
	if (node->kind == CONF_KIND_SCALAR) {
		put_scalar(json, field, node->text);
		return;
	}
	bool is_list = node->kind == CONF_KIND_LIST;
	if (is_list)
		json_array_begin(json);
	else
		json_object_begin(json);
	for (size_t i = 0; i < node->count; i++) {
		if (!is_list)
			json_key(json, node->items[i]->key->text);
		put_node(json, field, node->items[i]);
	}
	if (is_list)
		json_array_end(json);
	else
		json_object_end(json);
}

static void put_default(struct json *json, const struct conf_field *field)
{
	struct conf_errors errors = { .name = "" };
	struct conf_node *root;
	struct arena arena;

	arena_init(&arena, CONF_MEMORY_MAX);
	if (conf_document_parse(&arena, str_from(field->dflt), &errors, &root) && root) {
		json_key(json, STR("default"));
		put_node(json, field, root);
	}
	conf_errors_free(&errors);
	arena_reset(&arena);
}

/* ---- Mappings ---- */

static void put_field(struct json *json, const struct conf_field *field)
{
	json_key(json, str_from(field->key));
	json_object_begin(json);
	json_key_str(json, "description", str_from(field->help));
	if (conf_doc_is_list(field))
		put_list(json, field);
	else
		put_type(json, field);
	if (field->dflt)
		put_default(json, field);
	if (field->flags & CONF_SECRET)
		json_key_bool(json, "writeOnly", true);
	json_object_end(json);
}

static void put_required(struct json *json, const struct conf_field *table)
{
	if (!needs_any(table))
		return;
	json_key(json, STR("required"));
	json_array_begin(json);
	for (; table->key; table++)
		if (conf_doc_needs(table))
			json_str(json, str_from(table->key));
	json_array_end(json);
}

static void put_properties(struct json *json, const struct conf_field *table)
{
	json_key(json, STR("properties"));
	json_object_begin(json);
	for (const struct conf_field *row = table; row->key; row++)
		put_field(json, row);
	json_object_end(json);
	put_required(json, table);
	json_key_bool(json, "additionalProperties", false);
}

void conf_doc_json_schema_table(const struct conf_field *table, struct buf *out)
{
	struct json json;

	json_init(&json, out);
	json_object_begin(&json);
	put_mapping(&json, table);
	json_object_end(&json);
}

/* ---- The whole, as people want to see it ---- */

static void begin_line(struct buf *out, size_t depth)
{
	buf_printf(out, "\n%*s", (int)(2 * depth), "");
}

static bool is_empty_pair(struct str json)
{
	return json.n > 1 && (json.p[1] == '}' || json.p[1] == ']');
}

/* Length of the string that begins with the quote at the front. */
static size_t string_length(struct str json)
{
	size_t n = 1;

	while (n < json.n && json.p[n] != '"')
		n += json.p[n] == '\\' ? 2 : 1;
	return n + 1;
}

static size_t token_length(struct str json)
{
	char c = json.p[0];

	if (c == '"')
		return string_length(json);
	return (c == '{' || c == '[') && is_empty_pair(json) ? 2 : 1;
}

static size_t write_token(struct str token, size_t depth, struct buf *out)
{
	char c = token.p[0];
	bool is_open = token.n == 1 && (c == '{' || c == '[');
	bool is_close = c == '}' || c == ']';

	if (c == ' ' || c == '\n' || c == '\t')
		return depth;
	if (is_close)
		begin_line(out, --depth);
	buf_write(out, token);
	if (is_open)
		begin_line(out, ++depth);
	if (c == ',')
		begin_line(out, depth);
	if (c == ':')
		buf_write(out, STR(" "));
	return depth;
}

/* JSON with a line for each element. */
static void write_indented(struct str json, struct buf *out)
{
	size_t depth = 0;

	while (json.n > 0) {
		size_t n = token_length(json);
		depth = write_token(str_range(json, 0, n), depth, out);
		json = str_from_pos(json, n);
	}
	buf_write(out, STR("\n"));
}

void conf_doc_json_schema(const struct conf_field *table, struct buf *out)
{
	struct json json;
	struct buf text;

	buf_init(&text, CONF_DOC_MAX);
	json_init(&json, &text);
	json_object_begin(&json);
	json_key_str(&json, "$schema", STR("https://json-schema.org/draft/2020-12/schema"));
	json_key_str(&json, "title", STR("gatepost"));
	json_key_str(&json, "type", STR("object"));
	put_properties(&json, table);
	put_raw(&json, "$defs", definitions);
	json_object_end(&json);
	ASSERT(json_ok(&json));
	write_indented(buf_view(&text), out);
	buf_free(&text);
}
