#include "conf/schema_doc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char *const modes[] = { "off", "on demand", NULL };

static const struct conf_field inner[] = {
	{ .key = "name", .type = CONF_STRING, .flags = CONF_REQUIRED, .help = "\"Name\"." },
	CONF_END
};

static const struct conf_field table[] = {
	{ .key = "pause", .type = CONF_DURATION, .dflt = "5s", .help = "A pause." },
	{ .key = "mode",
		.type = CONF_ENUM,
		.choices = modes,
		.dflt = "\"off\"",
		.help = "A mode." },
	{ .key = "count", .type = CONF_NUMBER, .min = 1, .dflt = "7", .help = "A count." },
	{ .key = "any", .type = CONF_CUSTOM, .schema_json = "{ \"a\": \"{ }\" }", .help = "Any." },
	{ .key = "in", .type = CONF_MAP, .fields = inner, .help = "In." },
	{ .key = "many", .type = CONF_MAP, .flags = CONF_LIST, .fields = inner, .help = "Many." },
	CONF_END
};

static const char expected[] =
	"{\"type\":\"object\",\"properties\":{"
	"\"pause\":{\"description\":\"A pause.\",\"$ref\":\"#/$defs/duration\",\"default\":\"5s\"},"
	"\"mode\":{\"description\":\"A mode.\",\"anyOf\":[{\"enum\":[\"off\",false,\"on demand\"]},"
	"{\"$ref\":\"#/$defs/variable\"}],\"default\":\"off\"},"
	"\"count\":{\"description\":\"A count.\",\"anyOf\":[{\"type\":\"integer\",\"minimum\":1},"
	"{\"$ref\":\"#/$defs/digits\"}],\"default\":7},"
	"\"any\":{\"description\":\"Any.\",\"allOf\":[{ \"a\": \"{ }\" }]},"
	"\"in\":{\"description\":\"In.\",\"type\":\"object\",\"properties\":{"
	"\"name\":{\"description\":\"\\\"Name\\\".\",\"$ref\":\"#/$defs/text\"}},"
	"\"required\":[\"name\"],\"additionalProperties\":false},"
	"\"many\":{\"description\":\"Many.\",\"type\":\"array\",\"items\":{\"type\":\"object\","
	"\"properties\":{\"name\":{\"description\":\"\\\"Name\\\".\",\"$ref\":\"#/$defs/text\"}},"
	"\"required\":[\"name\"],\"additionalProperties\":false}}},"
	/* A mapping that needs a key is needed itself. */
	"\"required\":[\"in\"],\"additionalProperties\":false}";

static void test_table_alone(void **state)
{
	struct buf out;

	(void)state;
	buf_init(&out, 65536);
	conf_doc_json_schema_table(table, &out);
	char *text = str_dup(buf_view(&out));
	assert_string_equal(text, expected);
	free(text);
	buf_free(&out);
}

/* Without the white space outside of strings, to compare. */
static void squeeze(struct str json, struct buf *out)
{
	bool in_string = false;

	for (size_t i = 0; i < json.n; i++) {
		char c = json.p[i];
		if (c == '"' && (i == 0 || json.p[i - 1] != '\\'))
			in_string = !in_string;
		if (in_string || (c != ' ' && c != '\n'))
			buf_write(out, str_make(&c, 1));
	}
}

/* The whole is indented, and that changes nothing inside strings. */
static void test_whole(void **state)
{
	struct buf out, squeezed;
	const char *properties = strstr(expected, "\"properties\"");

	(void)state;
	buf_init(&out, 65536);
	buf_init(&squeezed, 65536);
	conf_doc_json_schema(table, &out);
	assert_true(str_starts_with(buf_view(&out), STR("{\n  \"$schema\": \"https://")));
	assert_true(str_ends_with_nocase(buf_view(&out), STR("\n  }\n}\n")));
	squeeze(buf_view(&out), &squeezed);
	char *text = str_dup(buf_view(&squeezed));
	const char *found = strstr(text, "\"properties\"");
	assert_non_null(found);
	const char *any = strstr(found, "\"any\"");
	assert_non_null(any);
	assert_memory_equal(found, properties, (size_t)(any - found));
	assert_non_null(strstr(any, "[{\"a\":\"{ }\"}]"));
	free(text);
	buf_free(&squeezed);
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table_alone),
		cmocka_unit_test(test_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
