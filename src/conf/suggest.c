#include "suggest_priv.h"

#include <string.h>

#define WORD_MAX 48 /* longer words are not looked at */

/* Two edits, or a third of the letters; of a short word not all letters may change. */
static size_t allowed_distance(size_t length)
{
	if (length <= 3)
		return length > 1;
	return length / 3 > 2 ? length / 3 : 2;
}

void conf_suggest_init(struct conf_suggest *suggest, struct str given)
{
	*suggest = (struct conf_suggest){
		.given = given,
		.distance = allowed_distance(given.n) + 1,
	};
}

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Fills the row of `i` letters of `a` from the two rows before it. */
static void next_row(struct str a, struct str b, size_t i, const size_t *before_last,
	const size_t *last, size_t *row)
{
	row[0] = i;
	for (size_t j = 1; j <= b.n; j++) {
		size_t changed = ascii_lower(a.p[i - 1]) != ascii_lower(b.p[j - 1]);
		row[j] = smaller(last[j - 1] + changed, smaller(last[j], row[j - 1]) + 1);
		if (i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] && a.p[i - 2] == b.p[j - 1])
			row[j] = smaller(row[j], before_last[j - 2] + 1);
	}
}

/* Optimal string alignment: no letter is edited twice. */
static size_t distance(struct str a, struct str b)
{
	size_t rows[3][WORD_MAX + 1];

	for (size_t j = 0; j <= b.n; j++)
		rows[0][j] = j;
	memcpy(rows[2], rows[0], sizeof(rows[2])); /* stands before the first; never looked at */
	for (size_t i = 1; i <= a.n; i++)
		next_row(a, b, i, rows[(i + 1) % 3], rows[(i - 1) % 3], rows[i % 3]);
	return rows[a.n % 3][b.n];
}

void conf_suggest_consider(struct conf_suggest *suggest, const char *candidate)
{
	struct str word = str_from(candidate);

	if (suggest->given.n > WORD_MAX || word.n > WORD_MAX)
		return;
	size_t found = distance(suggest->given, word);
	if (found >= suggest->distance)
		return;
	suggest->distance = found;
	suggest->best = candidate;
}
