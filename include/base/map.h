/*
 * Look-up tables of mail addresses, as operators write them: lines in the manner of Postfix's
 * texthash.
 *
 *	# a comment
 *	user@example.com     value
 *	@example.com         value      everybody at example.com
 *	example.com          value      the same, where domains are looked for
 *	.example.com         value      every domain below it, but not itself
 *	*                    value      everything
 *	                     more       a line that begins with white space goes on with the value
 *
 * The key ends at the first blank, the value at the end of the line. Keys stand once. They are
 * held in one form: ASCII letters in lower case, U-labels of the domain as A-labels, the local part
 * without quotes (so none that holds a blank). smtp_path_plain() gives addresses in that form.
 *
 * A map is made whole from a text, or not at all, and never changes. One of 100,000 lines takes
 * about 5 MB, and one or two tenths of a second to read; a look-up is a binary search.
 */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stddef.h>

#include "base/err.h"
#include "base/str.h"

#define MAP_TEXT_MAX (64 * 1024 * 1024) /* bytes of the text */
#define MAP_ENTRIES_MAX 1000000
#define MAP_KEY_MAX 384
#define MAP_VALUE_MAX 8192

struct map;

/* Whether the owner of a map can use the entry: 0, or -1 with the reason in `err`. */
typedef int map_accepts(void *ctx, struct str key, struct str value, struct err *err);

/*
 * `name` stands for the text in mistakes: "name:line: what is wrong (and N more)", the first of
 * them. `accepts` may be NULL; it is called for each entry in the order of the lines, also when
 * another one was a mistake. NULL: there are mistakes.
 */
struct map *map_parse(
	const char *name, struct str text, map_accepts *accepts, void *ctx, struct err *err);
void map_free(struct map **map);

size_t map_count(const struct map *map);

/* The value of that key, which is given in the form above; empty: there is none. */
struct str map_find(const struct map *map, struct str key);

/*
 * The value for an address: of user+extension@domain, else of user@domain, else of @domain. The
 * extension begins at the first "+" that is not the first character.
 */
struct str map_find_address(const struct map *map, struct str address);

/* The value for a domain: its own, else that of .parent.domain, .domain, …, else of "*". */
struct str map_find_domain(const struct map *map, struct str domain);

#endif
