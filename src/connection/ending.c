#include "connection/ending.h"

#include "base/assert.h"

struct row {
	const char *word;
	bool is_error;
	const char *meaning;
};

static const struct row rows[ENDING_COUNT] = {
#define ENDING(id, word, is_error, meaning) { word, is_error, meaning },
#include "tables/endings.def"
#undef ENDING
};

const char *ending_word(enum ending ending)
{
	ASSERT((size_t)ending < ENDING_COUNT);
	return rows[ending].word;
}

bool ending_is_error(enum ending ending)
{
	ASSERT((size_t)ending < ENDING_COUNT);
	return rows[ending].is_error;
}

void ending_print_reference(struct buf *out)
{
	buf_write(
		out, STR("# How a session ends\n\n"
			 "The word `ending` of the log's summary and of the trace. A fault is "
			 "somebody's, the client's or the\nbalancer's; the others are the ordinary "
			 "course of things.\n\n"
			 "| word | a fault | remark |\n|---|---|---|\n"));
	for (size_t i = 0; i < ENDING_COUNT; i++)
		buf_printf(out, "| `%s` | %s | %s |\n", rows[i].word,
			rows[i].is_error ? "yes" : "no", rows[i].meaning);
}
