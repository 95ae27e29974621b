#include "conf/schema_doc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "sample.h"

static void read_good(struct str text, struct sample *sample)
{
	struct buf report;

	buf_init(&report, 1 << 20);
	int rc = conf_read_text("sample", text, sample_table, sample, sizeof(*sample), &report);
	if (rc < 0)
		print_error("%.*s\nof:\n%.*s", STR_ARG(buf_view(&report)), STR_ARG(text));
	assert_int_equal(rc, 0);
	buf_free(&report);
}

/* The settings in force after reading a text. */
static void effective_of(struct str text, struct buf *out)
{
	struct sample sample;

	read_good(text, &sample);
	buf_init(out, 1 << 20);
	conf_doc_effective(sample_table, &sample, out);
	conf_free(sample_table, &sample, sizeof(sample));
}

/* As it is, the sample says what must be said and leaves the rest to the defaults. */
static void test_reads_as_defaults(void **state)
{
	static const char minimal[] =
		"hostname: mx1.example.com\nlisteners: [{bind: [\"0.0.0.0:25\", \"[::]:25\"]}]\n";
	struct buf text, effective, expected;

	(void)state;
	buf_init(&text, 1 << 20);
	conf_doc_sample(sample_table, &text);
	effective_of(buf_view(&text), &effective);
	effective_of(STR(minimal), &expected);
	assert_int_equal(buf_used(&effective), buf_used(&expected));
	assert_memory_equal(buf_view(&effective).p, buf_view(&expected).p, buf_used(&expected));
	buf_free(&expected);
	buf_free(&effective);
	buf_free(&text);
}

/* "#key: value" and "#  deeper", but not "# words" */
static bool is_commented_out(struct str line)
{
	struct str text = str_trim(line);

	if (!str_starts_with(text, STR("#")) || text.n < 3)
		return false;
	return text.p[1] != ' ' || text.p[2] == ' ';
}

/* Takes one # away from every line that is commented out; counts them. */
static size_t uncomment(struct str text, struct buf *out)
{
	size_t lines = 0;

	while (text.n > 0) {
		struct str line = str_cut(&text, '\n');
		size_t mark = str_find(line, '#');

		if (is_commented_out(line)) {
			buf_write(out, str_range(line, 0, mark));
			line = str_from_pos(line, mark + 1);
			lines++;
		}
		buf_write(out, line);
		buf_write(out, STR("\n"));
	}
	return lines;
}

/* Every value shown can be taken as it is. */
static void test_reads_uncommented(void **state)
{
	struct buf text, once, twice;
	struct sample sample;

	(void)state;
	buf_init(&text, 1 << 20);
	buf_init(&once, 1 << 20);
	buf_init(&twice, 1 << 20);
	conf_doc_sample(sample_table, &text);
	assert_true(uncomment(buf_view(&text), &once) > 10);
	read_good(buf_view(&once), &sample);
	assert_int_equal(sample.routes.count, 1);
	conf_free(sample_table, &sample, sizeof(sample));
	assert_int_equal(
		uncomment(buf_view(&once), &twice), 2); /* in what was commented out whole */
	read_good(buf_view(&twice), &sample);
	assert_int_equal(((struct sample_route *)sample.routes.items)->weight, 1);
	assert_int_equal(sample.metrics.port, 9125);
	conf_free(sample_table, &sample, sizeof(sample));
	buf_free(&twice);
	buf_free(&once);
	buf_free(&text);
}

static void test_lines_are_short(void **state)
{
	struct buf text;

	(void)state;
	buf_init(&text, 1 << 20);
	conf_doc_sample(sample_table, &text);
	struct str rest = buf_view(&text);
	while (rest.n > 0)
		assert_true(str_cut(&rest, '\n').n <= 100);
	buf_free(&text);
}

/* An example of several lines, commented out and active. */
static void test_example_of_lines(void **state)
{
	static const struct conf_field table[] = { { .key = "a",
							   .type = CONF_CUSTOM,
							   .flags = CONF_REQUIRED,
							   .example = "\nx:\n  y: 1",
							   .help = "Help." },
		{ .key = "b", .type = CONF_CUSTOM, .example = "\nx:\n  y: 1", .help = "Help." },
		CONF_END };
	struct buf text;

	(void)state;
	buf_init(&text, 4096);
	conf_doc_sample(table, &text);
	assert_true(str_ends_with_nocase(buf_view(&text),
		STR("\n\n# Help.\na:\n  x:\n    y: 1\n\n# Help.\n#b:\n#  x:\n#    y: 1\n")));
	buf_free(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_as_defaults),
		cmocka_unit_test(test_reads_uncommented),
		cmocka_unit_test(test_lines_are_short),
		cmocka_unit_test(test_example_of_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
