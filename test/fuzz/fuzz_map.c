/*
 * Maps of any text. What must hold: there is a map or a mistake with a line, never both; the owner
 * is asked about keys in the form in which they are looked up, and each is found with its value;
 * a key that is read again is the same; looking for any text finds nothing that was not there.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/map.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SEEN_MAX 64

struct seen {
	char keys[SEEN_MAX][MAP_KEY_MAX];
	char values[SEEN_MAX][MAP_VALUE_MAX];
	struct str key[SEEN_MAX], value[SEEN_MAX];
	size_t kept, count;
};

static int see(void *ctx, struct str key, struct str value, struct err *err)
{
	struct seen *seen = ctx;
	size_t i = seen->kept;

	ASSERT(key.n > 0 && key.n <= MAP_KEY_MAX && value.n > 0 && value.n <= MAP_VALUE_MAX);
	for (size_t j = 0; j < key.n; j++)
		ASSERT(key.p[j] != ' ' && key.p[j] == ascii_lower(key.p[j]));
	seen->count++;
	if (value.p[0] == '!')
		return err_set(err, "not wanted");
	if (i == SEEN_MAX)
		return 0;
	memcpy(seen->keys[i], key.p, key.n);
	memcpy(seen->values[i], value.p, value.n);
	seen->key[i] = str_make(seen->keys[i], key.n);
	seen->value[i] = str_make(seen->values[i], value.n);
	seen->kept++;
	return 0;
}

static void check_again(struct str key)
{
	char line[MAP_KEY_MAX + 3];
	int n = snprintf(line, sizeof(line), "%.*s v", STR_ARG(key));
	struct map *map = map_parse("again", str_make(line, (size_t)n), NULL, NULL, NULL);

	ASSERT(map != NULL && map_count(map) == 1);
	ASSERT(str_eq(map_find(map, key), STR("v")));
	map_free(&map);
}

static void check_seen(const struct map *map, const struct seen *seen)
{
	ASSERT(map_count(map) == seen->count);
	for (size_t i = 0; i < seen->kept; i++) {
		ASSERT(str_eq(map_find(map, seen->key[i]), seen->value[i]));
		ASSERT(map_find_address(map, seen->key[i]).n > 0);
		ASSERT(map_find_domain(map, seen->key[i]).n > 0);
		check_again(seen->key[i]);
	}
}

static void check_foreign(const struct map *map, struct str text)
{
	struct str line = str_cut(&text, '\n');

	ASSERT(map_count(map) > 0 || map_find_address(map, line).n == 0);
	ASSERT(map_count(map) > 0 || map_find_domain(map, line).n == 0);
	map_find_address(map, text);
	map_find_domain(map, text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct seen seen;
	struct str text = str_make((const char *)data, size);
	struct err err = { "" };

	seen.kept = seen.count = 0;
	struct map *map = map_parse("map", text, see, &seen, &err);
	ASSERT((map == NULL) == (err.text[0] != '\0'));
	if (map == NULL) {
		ASSERT(str_starts_with(str_from(err.text), STR("map:")));
		return 0;
	}
	check_seen(map, &seen);
	check_foreign(map, text);
	map_free(&map);
	return 0;
}
