#include "base/map.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/idn.h"
#include "base/mistakes.h"
#include "base/xalloc.h"

/* The value stands behind the key. */
struct entry {
	uint32_t at; /* in `bytes` */
	uint32_t line;
	uint16_t key_n, value_n;
};

struct map {
	char *bytes;
	size_t used;
	struct entry *entries; /* by key */
	size_t count;
};

struct reading {
	struct map *map;
	size_t bytes_capacity, entries_capacity;
	struct mistakes mistakes;
};

_Static_assert(MAP_KEY_MAX <= UINT16_MAX && MAP_VALUE_MAX <= UINT16_MAX, "lengths of an entry");
_Static_assert(MAP_KEY_MAX >= IDN_NAME_MAX, "a key holds every domain");

/* ---- Keys ----------------------------------------------------------------------------------- */

static bool has_quotes(struct str local)
{
	return str_find(local, '"') < local.n || str_find(local, '\\') < local.n;
}

/* Appends the domain of a key as it is compared. A literal is left as it is but for its letters. */
static bool put_domain(struct str domain, char *out, size_t room, size_t *n)
{
	char name[IDN_NAME_MAX];
	bool is_literal = domain.n > 2 && domain.p[0] == '[' && domain.p[domain.n - 1] == ']';

	if (!is_literal && !idn_to_ascii(domain, name))
		return false;
	struct str text = is_literal ? domain : str_from(name);
	if (text.n > room - *n)
		return false;
	for (size_t i = 0; i < text.n; i++)
		out[(*n)++] = ascii_lower(text.p[i]);
	return true;
}

/* The key in the form in which it is compared; what is wrong with it otherwise, or NULL. */
static const char *normalise(struct str key, char out[MAP_KEY_MAX], size_t *n)
{
	size_t at = str_rfind(key, '@');
	bool has_at = at < key.n;
	/* "user@" or "@" of an address, "." of the domains below one. */
	size_t front = has_at ? at + 1 : key.p[0] == '.' ? 1 : 0;

	*n = 0;
	if (str_eq(key, STR("*"))) {
		out[(*n)++] = '*';
		return NULL;
	}
	if (has_at && has_quotes(str_range(key, 0, at)))
		return "a local part is written without quotes and backslashes";
	if (front > MAP_KEY_MAX - IDN_NAME_MAX)
		return "the key is too long";
	for (; *n < front; (*n)++)
		out[*n] = ascii_lower(key.p[*n]);
	if (!put_domain(str_from_pos(key, front), out, MAP_KEY_MAX, n))
		return has_at ? "what is behind the @ is not a domain" : "not a domain";
	return NULL;
}

/* ---- Entries -------------------------------------------------------------------------------- */

static struct str key_of(const struct map *map, const struct entry *entry)
{
	return str_make(map->bytes + entry->at, entry->key_n);
}

static struct str value_of(const struct map *map, const struct entry *entry)
{
	return str_make(map->bytes + entry->at + entry->key_n, entry->value_n);
}

static void add_bytes(struct reading *reading, struct str bytes)
{
	struct map *map = reading->map;

	while (reading->bytes_capacity - map->used < bytes.n) {
		reading->bytes_capacity = reading->bytes_capacity * 2 + 4096;
		map->bytes = xrealloc(map->bytes, reading->bytes_capacity, 1);
	}
	/* An A-label is never so much longer than its U-label that the text outgrows 32 bits. */
	ASSERT(map->used <= UINT32_MAX - bytes.n);
	memcpy(map->bytes + map->used, bytes.p, bytes.n);
	map->used += bytes.n;
}

static void keep(struct reading *reading, struct str key, struct str value, size_t line)
{
	struct map *map = reading->map;

	if (map->count == reading->entries_capacity) {
		reading->entries_capacity = reading->entries_capacity * 2 + 64;
		map->entries =
			xrealloc(map->entries, reading->entries_capacity, sizeof(*map->entries));
	}
	map->entries[map->count++] = (struct entry){
		.at = (uint32_t)map->used,
		.line = (uint32_t)line,
		.key_n = (uint16_t)key.n,
		.value_n = (uint16_t)value.n,
	};
	add_bytes(reading, key);
	add_bytes(reading, value);
}

/* ---- Lines ---------------------------------------------------------------------------------- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool is_text(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (ascii_is_control(s.p[i]) && s.p[i] != '\t')
			return false;
	return idn_is_utf8(s);
}

static struct str cut_key(struct str *rest)
{
	size_t n = 0;

	while (n < rest->n && !is_blank(rest->p[n]))
		n++;
	struct str key = str_range(*rest, 0, n);
	*rest = str_trim(str_from_pos(*rest, n));
	return key;
}

static void read_entry(struct reading *reading, struct str text, size_t line)
{
	char normal[MAP_KEY_MAX];
	size_t n;

	struct str key = cut_key(&text);
	const char *wrong = normalise(key, normal, &n);
	if (wrong != NULL)
		mistakes_add(&reading->mistakes, line, "\"%.*s\": %s",
			STR_ARG(str_range(key, 0, MAP_KEY_MAX)), wrong);
	else if (text.n == 0)
		mistakes_add(&reading->mistakes, line, "must be a key, white space, and a value");
	else if (text.n > MAP_VALUE_MAX)
		mistakes_add(&reading->mistakes, line, "the value is longer than %d bytes",
			MAP_VALUE_MAX);
	else if (reading->map->count == MAP_ENTRIES_MAX)
		mistakes_add(&reading->mistakes, line, "more than %d entries", MAP_ENTRIES_MAX);
	else
		keep(reading, str_make(normal, n), text, line);
}

/* The value that goes on is the last thing in `bytes`. */
static void read_continuation(struct reading *reading, struct str text, size_t line)
{
	struct map *map = reading->map;
	struct entry *last = map->count > 0 ? &map->entries[map->count - 1] : NULL;

	if (last == NULL) {
		mistakes_add(&reading->mistakes, line,
			"begins with white space, but there is no line to go on with");
		return;
	}
	if (text.n + 1 + last->value_n > MAP_VALUE_MAX) {
		mistakes_add(&reading->mistakes, line, "the value is longer than %d bytes",
			MAP_VALUE_MAX);
		return;
	}
	add_bytes(reading, STR(" "));
	add_bytes(reading, text);
	last->value_n = (uint16_t)(last->value_n + 1 + text.n);
}

static void read_line(struct reading *reading, struct str line, size_t number)
{
	struct str text = str_trim(line);

	if (text.n == 0 || text.p[0] == '#')
		return;
	if (!is_text(text))
		mistakes_add(
			&reading->mistakes, number, "holds a control character, or is not UTF-8");
	else if (is_blank(line.p[0]))
		read_continuation(reading, text, number);
	else
		read_entry(reading, text, number);
}

/* Editors put it in front and do not show it; it would become part of the first key. */
#define BYTE_ORDER_MARK STR("\xef\xbb\xbf")

static void read_lines(struct reading *reading, struct str rest)
{
	if (str_starts_with(rest, BYTE_ORDER_MARK)) {
		mistakes_add(&reading->mistakes, 1, "begins with a byte order mark");
		return;
	}
	for (size_t number = 1; rest.n > 0; number++)
		read_line(reading, str_cut(&rest, '\n'), number);
}

/* ---- The whole ------------------------------------------------------------------------------ */

static void ask_owner(struct reading *reading, map_accepts *accepts, void *ctx)
{
	const struct map *map = reading->map;
	struct err err = { "" };

	for (size_t i = 0; accepts != NULL && i < map->count; i++) {
		const struct entry *entry = &map->entries[i];
		if (accepts(ctx, key_of(map, entry), value_of(map, entry), &err) < 0)
			mistakes_add(&reading->mistakes, entry->line, "%s", err.text);
	}
}

static int compare(struct str a, struct str b)
{
	int order = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);

	return order != 0 ? order : (a.n > b.n) - (a.n < b.n);
}

static int compare_entries(const void *a, const void *b, void *ctx)
{
	const struct entry *left = a, *right = b;
	const struct map *map = ctx;
	int order = compare(key_of(map, left), key_of(map, right));

	return order != 0 ? order : (left->line > right->line) - (left->line < right->line);
}

static void sort(struct reading *reading)
{
	struct map *map = reading->map;

	if (map->count == 0)
		return;
	qsort_r(map->entries, map->count, sizeof(*map->entries), compare_entries, map);
	for (size_t i = 1; i < map->count; i++) {
		struct str key = key_of(map, &map->entries[i]);
		if (str_eq(key, key_of(map, &map->entries[i - 1])))
			mistakes_add(&reading->mistakes, map->entries[i].line,
				"%.*s has a value already, in line %u", STR_ARG(key),
				map->entries[i - 1].line);
	}
}

static void give_back_room(struct map *map)
{
	if (map->count == 0)
		return;
	map->bytes = xrealloc(map->bytes, map->used, 1);
	map->entries = xrealloc(map->entries, map->count, sizeof(*map->entries));
}

struct map *map_parse(
	const char *name, struct str text, map_accepts *accepts, void *ctx, struct err *err)
{
	struct reading reading = { .mistakes = { .name = name, .err = err } };

	if (text.n > MAP_TEXT_MAX) {
		err_set(err, "%s: larger than %d bytes", name, MAP_TEXT_MAX);
		return NULL;
	}
	reading.map = xcalloc(1, sizeof(*reading.map));
	read_lines(&reading, text);
	ask_owner(&reading, accepts, ctx);
	sort(&reading);
	if (mistakes_conclude(&reading.mistakes) < 0)
		map_free(&reading.map);
	else
		give_back_room(reading.map);
	return reading.map;
}

void map_free(struct map **freed)
{
	struct map *map = *freed;

	*freed = NULL;
	if (map == NULL)
		return;
	free(map->bytes);
	free(map->entries);
	free(map);
}

size_t map_count(const struct map *map)
{
	return map->count;
}

/* ---- Looking up ----------------------------------------------------------------------------- */

struct str map_find(const struct map *map, struct str key)
{
	size_t low = 0, high = map->count;

	if (key.n == 0)
		return STR("");
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct entry *entry = &map->entries[middle];
		int order = compare(key, key_of(map, entry));
		if (order == 0)
			return value_of(map, entry);
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return STR("");
}

static struct str find_without_extension(
	const struct map *map, struct str user, struct str at_domain)
{
	char key[MAP_KEY_MAX];

	if (user.n + at_domain.n > sizeof(key))
		return STR("");
	memcpy(key, user.p, user.n);
	memcpy(key + user.n, at_domain.p, at_domain.n);
	return map_find(map, str_make(key, user.n + at_domain.n));
}

struct str map_find_address(const struct map *map, struct str address)
{
	size_t at = str_rfind(address, '@'), plus = str_find(address, '+');
	struct str at_domain = str_from_pos(address, at);
	struct str found = map_find(map, address);

	if (found.n == 0 && plus > 0 && plus < at && at < address.n)
		found = find_without_extension(map, str_range(address, 0, plus), at_domain);
	return found.n > 0 ? found : map_find(map, at_domain);
}

struct str map_find_domain(const struct map *map, struct str domain)
{
	bool is_literal = domain.n > 0 && domain.p[0] == '[';
	struct str found = map_find(map, domain);
	size_t dot = is_literal ? domain.n : str_find(domain, '.');

	while (found.n == 0 && dot < domain.n) {
		domain = str_from_pos(domain, dot);
		found = map_find(map, domain);
		dot = 1 + str_find(str_from_pos(domain, 1), '.');
	}
	return found.n > 0 ? found : map_find(map, STR("*"));
}
