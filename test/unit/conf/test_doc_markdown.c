#include "conf/schema_doc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "sample.h"

/* Lines that must be on the page, in this order. */
static const char *const lines[] = {
	"# Configuration",
	"## The file",
	"| key | type | default | range | meaning |",
	"|---|---|---|---|---|",
	"| `hostname` | domain | *required* |  | Our name: banner, EHLO reply, Received. |",
	"| `greeting` | text | `ready` |  | Words behind the name in the banner. |",
	"| `quiet` | yes or no | `no` |  | Say less. |",
	"| `workers` | number, or auto | `auto` |  | Processes; auto is one per CPU. |",
	"| `listeners` | [list of mappings](#listeners) | *required* |  | Where clients come in. |",
	"| `domains` | list of domains | `[]` |  | Domains that we take mail for. |",
	"| `modes` | list of words | `[off, implicit]` | `off`, `starttls` or `implicit` | Ways. |",
	"| `metrics` | address and port | – |  | Where metrics can be fetched. |",
	"| `plan` | list of steps | `[limits, {client_acl: [198.51.100.0/24]}]` |  | The checks, "
	"in "
	"order. |",
	"| `limits` | [mapping](#limits) | – |  | How much is too much. |",
	"| `secret` | text | – |  | A secret. Never printed. |",
	"## listeners[]",
	"| `bind` | list of addresses and ports | *required* |  | Where to listen. |",
	"| `tls` | [mapping](#listenerstls) | – |  | TLS with the client. |",
	"## listeners[].tls",
	"## limits",
	"| `message_size` | size | `25MB` | 1KB to 2GB | The largest message. |",
	"| `recipients` | number | `100` | 1 to 100000 | Recipients of one message. More get a "
	"reply "
	"\\| that says so. |",
	"## routes[]",
	"This is a list; each element has these keys.",
	"| `weight` | number (of 256) | – | at least 1 | Unset: as heavy as the others. |",
};

static void test_lines_in_order(void **state)
{
	struct buf page;

	(void)state;
	buf_init(&page, 1 << 20);
	conf_doc_markdown(sample_table, &page);
	struct str rest = buf_view(&page);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct str line;
		do {
			if (rest.n == 0)
				fail_msg("missing: %s", lines[i]);
			line = str_cut(&rest, '\n');
		} while (!str_eq(line, str_from(lines[i])));
	}
	buf_free(&page);
}

static void test_table_alone(void **state)
{
	struct buf page;

	(void)state;
	buf_init(&page, 4096);
	conf_doc_markdown_table(sample_listener_table, &page);
	assert_true(str_starts_with(buf_view(&page), STR("| key | type |")));
	assert_true(str_ends_with_nocase(
		buf_view(&page), STR("\n| `tls` | mapping | – |  | TLS with the client. |\n")));
	buf_free(&page);
}

/* A buffer too small is left short, and nothing more. */
static void test_small_buffer(void **state)
{
	(void)state;
	for (size_t max = 0; max < 3000; max += 100) {
		struct buf page;

		buf_init(&page, max);
		conf_doc_markdown(sample_table, &page);
		conf_doc_sample(sample_table, &page);
		conf_doc_json_schema(sample_table, &page);
		assert_true(buf_used(&page) <= max);
		buf_free(&page);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines_in_order),
		cmocka_unit_test(test_table_alone),
		cmocka_unit_test(test_small_buffer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
