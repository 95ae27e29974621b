/*
 * conf_read_text with any bytes and a table that has a row of every type. What must hold: it
 * either reads or reports, with the struct zeroed; each line of the report is one line of printable
 * text that begins with the file's name; what was read is printed so that it reads back, and is
 * then printed the same.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/conf/sample.h"
#include "base/assert.h"
#include "base/idn.h"
#include "conf/schema_doc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_zero(const void *value, size_t size)
{
	const char *bytes = value;

	for (size_t i = 0; i < size; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

static void check_report(struct str report)
{
	ASSERT(report.n > 0);
	ASSERT(idn_is_utf8(report));
	while (report.n > 0) {
		struct str line = str_cut(&report, '\n');
		ASSERT(str_starts_with(line, STR("f:")));
		for (size_t i = 0; i < line.n; i++)
			ASSERT(!ascii_is_control(line.p[i]));
	}
}

static bool read_text(struct str text, struct sample *sample)
{
	struct buf report;

	buf_init(&report, 1 << 20);
	int rc = conf_read_text("f", text, sample_table, sample, sizeof(*sample), &report);
	if (rc == 0)
		ASSERT(buf_used(&report) == 0);
	else
		check_report(buf_view(&report));
	if (rc != 0)
		ASSERT(is_zero(sample, sizeof(*sample)));
	buf_free(&report);
	return rc == 0;
}

/* Secrets are masked, so a file with one reads back with another: the print is the same. */
static void check_print(const struct sample *first)
{
	struct buf printed, again;
	struct sample second;

	buf_init(&printed, 8 << 20);
	buf_init(&again, 8 << 20);
	conf_doc_effective(sample_table, first, &printed);
	ASSERT(buf_room(&printed) > 0);
	ASSERT(read_text(buf_view(&printed), &second));
	conf_doc_effective(sample_table, &second, &again);
	ASSERT(str_eq(buf_view(&printed), buf_view(&again)));
	conf_free(sample_table, &second, sizeof(second));
	buf_free(&again);
	buf_free(&printed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sample sample;

	if (read_text(str_make((const char *)data, size), &sample))
		check_print(&sample);
	conf_free(sample_table, &sample, sizeof(sample));
	return 0;
}
