/*
 * The documents of the sample table, for test_json_schema.py:
 *   conf_tool schema | sample | markdown     prints one
 *   conf_tool check FILE                     reads a file; prints what is wrong; 0 or 1
 *   conf_tool effective FILE                 prints the settings in force
 */
#include <stdio.h>
#include <string.h>

#include "conf/schema_doc.h"
#include "sample.h"

static int read_and_print(const char *path, bool prints, struct buf *out)
{
	struct sample sample;

	int rc = conf_read_file(path, sample_table, &sample, sizeof(sample), out);
	if (rc == 0 && prints)
		conf_doc_effective(sample_table, &sample, out);
	conf_free(sample_table, &sample, sizeof(sample));
	return rc == 0 ? 0 : 1;
}

static int run(const char *what, const char *path, struct buf *out)
{
	if (strcmp(what, "schema") == 0)
		conf_doc_json_schema(sample_table, out);
	else if (strcmp(what, "sample") == 0)
		conf_doc_sample(sample_table, out);
	else if (strcmp(what, "markdown") == 0)
		conf_doc_markdown(sample_table, out);
	else if (path)
		return read_and_print(path, strcmp(what, "effective") == 0, out);
	else
		return 64;
	return 0;
}

int main(int argc, char **argv)
{
	struct buf out;

	if (argc < 2)
		return 64;
	buf_init(&out, 1 << 20);
	int rc = run(argv[1], argv[2], &out);
	printf("%.*s", STR_ARG(buf_view(&out)));
	buf_free(&out);
	return rc;
}
