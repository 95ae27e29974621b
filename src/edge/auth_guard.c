#include "edge/auth_guard.h"

#include <stdlib.h>
#include <string.h>

#include "base/xalloc.h"

/* Entries that one key may be in: a small set, so that looking is bounded. */
#define WAYS 8
#define WHO_MAX 255

void auth_guard_init(struct auth_guard *guard)
{
	guard->key = siphash_key_make();
	guard->entries = xcalloc(AUTH_GUARD_ENTRIES, sizeof(*guard->entries));
}

void auth_guard_free(struct auth_guard *guard)
{
	free(guard->entries);
	guard->entries = NULL;
}

static uint64_t key_of(const struct auth_guard *guard, char what, struct str who)
{
	char text[WHO_MAX + 1];
	size_t n = who.n < WHO_MAX ? who.n : WHO_MAX;

	text[0] = what;
	for (size_t i = 0; i < n; i++)
		text[i + 1] = ascii_lower(who.p[i]);
	uint64_t key = siphash(&guard->key, str_make(text, n + 1));
	return key ? key : 1;
}

static struct auth_guard_entry *set_of(const struct auth_guard *guard, uint64_t key)
{
	return &guard->entries[(key & (AUTH_GUARD_ENTRIES / WAYS - 1)) * WAYS];
}

static struct auth_guard_entry *find(const struct auth_guard *guard, uint64_t key)
{
	struct auth_guard_entry *set = set_of(guard, key);

	for (size_t i = 0; i < WAYS; i++)
		if (set[i].key == key)
			return &set[i];
	return NULL;
}

static struct auth_guard_entry *oldest(const struct auth_guard *guard, uint64_t key)
{
	struct auth_guard_entry *set = set_of(guard, key);
	struct auth_guard_entry *found = set;

	for (size_t i = 1; i < WAYS; i++)
		if (set[i].since_ms < found->since_ms)
			found = &set[i];
	return found;
}

void auth_guard_failed(
	struct auth_guard *guard, char what, struct str who, uint64_t window_ms, uint64_t now_ms)
{
	uint64_t key = key_of(guard, what, who);
	struct auth_guard_entry *entry = find(guard, key);

	if (entry == NULL || now_ms - entry->since_ms >= window_ms) {
		entry = entry ? entry : oldest(guard, key);
		*entry = (struct auth_guard_entry){ .key = key, .since_ms = now_ms };
	}
	entry->failures++;
}

bool auth_guard_is_limited(const struct auth_guard *guard, char what, struct str who,
	uint64_t limit, uint64_t window_ms, uint64_t now_ms)
{
	const struct auth_guard_entry *entry = find(guard, key_of(guard, what, who));

	return limit > 0 && entry != NULL && now_ms - entry->since_ms < window_ms &&
	       entry->failures >= limit;
}

uint64_t auth_guard_wait_ms(uint64_t delay_ms, uint64_t took_ms)
{
	if (delay_ms == 0)
		return 0;
	uint64_t over_ms = took_ms % delay_ms;
	bool is_due = over_ms == 0 && took_ms > 0;

	return is_due ? 0 : delay_ms - over_ms;
}
