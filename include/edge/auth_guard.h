/*
 * Counts failed AUTH attempts by client address and by user name, so that guessing passwords is
 * slow however many connections are used, while honest logins pass. In this process; bounded: when
 * the table is full the oldest entries go. Only time forgives: a success would let a guesser with an
 * account of his own begin anew, and whoever guesses at a user whenever that user logs in.
 */
#ifndef EDGE_AUTH_GUARD_H
#define EDGE_AUTH_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/siphash.h"
#include "base/str.h"

#define AUTH_GUARD_ENTRIES 8192 /* a power of two */

struct auth_guard_entry {
	uint64_t key; /* keyed hash of what is counted; 0: free */
	uint64_t since_ms;
	uint32_t failures;
};

struct auth_guard {
	struct siphash_key key;
	struct auth_guard_entry *entries;
};

void auth_guard_init(struct auth_guard *guard);
void auth_guard_free(struct auth_guard *guard);

/* `what` is 'c' for a client, whose address `who` is, or 'u' for a user. */
void auth_guard_failed(
	struct auth_guard *guard, char what, struct str who, uint64_t window_ms, uint64_t now_ms);
/* Have there been `limit` failures or more within the window? 0: no limit. */
bool auth_guard_is_limited(const struct auth_guard *guard, char what, struct str who,
	uint64_t limit, uint64_t window_ms, uint64_t now_ms);

/*
 * How long a refusal that took `took_ms` is still to be held back, so that its time does not tell
 * what was checked: all take `delay_ms`, or, those that took longer, a multiple of it. 0: no delay.
 */
uint64_t auth_guard_wait_ms(uint64_t delay_ms, uint64_t took_ms);
#endif
