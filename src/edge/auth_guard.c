#include "edge/auth_guard.h"

#include <stdlib.h>
#include <string.h>

#include "base/xalloc.h"

/* Entries that one key may be in: a small set, so that looking is bounded. */
#define WAYS 8
#define WHO_MAX 255

/* ---- Keys ------------------------------------------------------------------------------------- */

enum kind {
	OF_CLIENT,
	OF_USER,
	OF_BOTH, /* this client as this user */
};

static size_t put(char *out, struct str who)
{
	size_t n = who.n < WHO_MAX ? who.n : WHO_MAX;

	for (size_t i = 0; i < n; i++)
		out[i] = ascii_lower(who.p[i]);
	return n;
}

/* A NUL stands between the parts: neither has one. */
static uint64_t key_of(
	const struct auth_guard *guard, enum kind kind, struct str client, struct str user)
{
	char text[2 + 2 * WHO_MAX];
	size_t n = 1;

	text[0] = (char)kind;
	if (kind != OF_USER)
		n += put(text + n, client);
	text[n++] = '\0';
	if (kind != OF_CLIENT)
		n += put(text + n, user);
	uint64_t key = siphash(&guard->key, str_make(text, n));
	return key ? key : 1;
}

/* ---- Tables ----------------------------------------------------------------------------------- */

static void init_table(struct auth_guard_table *table, size_t count)
{
	*table = (struct auth_guard_table){ .count = count };
	table->entries = xcalloc(count, sizeof(*table->entries));
}

static void free_table(struct auth_guard_table *table)
{
	free(table->entries);
	table->entries = NULL;
}

static struct auth_guard_entry *set_of(const struct auth_guard_table *table, uint64_t key)
{
	return &table->entries[(key & (table->count / WAYS - 1)) * WAYS];
}

static bool is_over(const struct auth_guard_entry *entry, uint64_t window_ms, uint64_t now_ms)
{
	return now_ms - entry->since_ms >= window_ms;
}

/* NULL: nothing within the window. */
static struct auth_guard_entry *find(
	const struct auth_guard_table *table, uint64_t key, uint64_t window_ms, uint64_t now_ms)
{
	struct auth_guard_entry *set = set_of(table, key);

	for (size_t i = 0; i < WAYS; i++)
		if (set[i].key == key)
			return is_over(&set[i], window_ms, now_ms) ? NULL : &set[i];
	return NULL;
}

/* Many clients with a failure or two each must not push out what is limited. */
static uint64_t weight(const struct auth_guard_entry *entry, uint64_t window_ms, uint64_t now_ms)
{
	return entry->key == 0 || is_over(entry, window_ms, now_ms) ? 0 : entry->failures;
}

static struct auth_guard_entry *place_for(
	const struct auth_guard_table *table, uint64_t key, uint64_t window_ms, uint64_t now_ms)
{
	struct auth_guard_entry *set = set_of(table, key);
	struct auth_guard_entry *found = set;

	for (size_t i = 0; i < WAYS; i++) {
		uint64_t mine = weight(&set[i], window_ms, now_ms);
		uint64_t best = weight(found, window_ms, now_ms);
		if (set[i].key == key)
			return &set[i];
		if (mine < best || (mine == best && set[i].since_ms < found->since_ms))
			found = &set[i];
	}
	return found;
}

static void count(struct auth_guard_table *table, uint64_t key, uint64_t window_ms, uint64_t now_ms)
{
	struct auth_guard_entry *entry = find(table, key, window_ms, now_ms);

	if (entry == NULL) {
		entry = place_for(table, key, window_ms, now_ms);
		*entry = (struct auth_guard_entry){ .key = key, .since_ms = now_ms };
	}
	entry->failures++;
}

static uint64_t counted(
	const struct auth_guard_table *table, uint64_t key, uint64_t window_ms, uint64_t now_ms)
{
	const struct auth_guard_entry *entry = find(table, key, window_ms, now_ms);

	return entry ? entry->failures : 0;
}

/* ---- The interface ---------------------------------------------------------------------------- */

void auth_guard_init(struct auth_guard *guard)
{
	guard->key = siphash_key_make();
	init_table(&guard->failures, AUTH_GUARD_ENTRIES);
	init_table(&guard->known, AUTH_GUARD_KNOWN);
}

void auth_guard_free(struct auth_guard *guard)
{
	free_table(&guard->failures);
	free_table(&guard->known);
}

void auth_guard_failed(struct auth_guard *guard, struct str client, struct str user,
	uint64_t window_ms, uint64_t now_ms)
{
	struct auth_guard_table *table = &guard->failures;

	count(table, key_of(guard, OF_CLIENT, client, user), window_ms, now_ms);
	if (user.n == 0)
		return;
	count(table, key_of(guard, OF_USER, client, user), window_ms, now_ms);
	count(table, key_of(guard, OF_BOTH, client, user), window_ms, now_ms);
}

void auth_guard_succeeded(
	struct auth_guard *guard, struct str client, struct str user, uint64_t now_ms)
{
	uint64_t key = key_of(guard, OF_BOTH, client, user);

	*place_for(&guard->known, key, AUTH_GUARD_KNOWN_MS, now_ms) =
		(struct auth_guard_entry){ .key = key, .since_ms = now_ms };
}

bool auth_guard_client_is_limited(const struct auth_guard *guard, struct str client, uint64_t limit,
	uint64_t window_ms, uint64_t now_ms)
{
	uint64_t key = key_of(guard, OF_CLIENT, client, str_make("", 0));

	return limit > 0 && counted(&guard->failures, key, window_ms, now_ms) >= limit;
}

bool auth_guard_user_is_limited(const struct auth_guard *guard, struct str client, struct str user,
	uint64_t limit, uint64_t window_ms, uint64_t now_ms)
{
	uint64_t both = key_of(guard, OF_BOTH, client, user);
	uint64_t failures =
		counted(&guard->failures, key_of(guard, OF_USER, client, user), window_ms, now_ms);

	if (limit == 0 || failures < limit ||
		find(&guard->known, both, AUTH_GUARD_KNOWN_MS, now_ms) != NULL)
		return false;
	return failures / AUTH_GUARD_CLOSED >= limit ||
	       counted(&guard->failures, both, window_ms, now_ms) > 0;
}

uint64_t auth_guard_wait_ms(uint64_t delay_ms, uint64_t took_ms)
{
	if (delay_ms == 0)
		return 0;
	uint64_t over_ms = took_ms % delay_ms;
	bool is_due = over_ms == 0 && took_ms > 0;

	return is_due ? 0 : delay_ms - over_ms;
}
