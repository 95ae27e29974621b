/*
 * Counts failed AUTH attempts by client and by user, so that guessing passwords is slow however many
 * connections and addresses are used, while honest logins pass. In this process; bounded: when a
 * table is full, what counts least makes room. Only time forgives: a success would let a guesser with
 * an account of his own begin anew, and whoever guesses at a user whenever that user logs in.
 *
 * Whoever guesses at a user must not lock him out by that. So a user with many failures is closed to
 * clients by and by: not to those that have logged in as him before, whatever happens; to others once
 * they have failed themselves; to all others only after AUTH_GUARD_CLOSED times as many failures,
 * for which as many clients are needed.
 *
 * A client is named as the owner wants to tell them apart, by an address or a network.
 */
#ifndef EDGE_AUTH_GUARD_H
#define EDGE_AUTH_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/siphash.h"
#include "base/str.h"

#define AUTH_GUARD_ENTRIES 16384 /* of failures; a power of two, as the next */
#define AUTH_GUARD_KNOWN 4096    /* users and the clients that they come from */
#define AUTH_GUARD_KNOWN_MS (UINT64_C(30) * 24 * 3600 * 1000) /* since the last login */
#define AUTH_GUARD_CLOSED 10

struct auth_guard_entry {
	uint64_t key; /* keyed hash of what is counted; 0: free */
	uint64_t since_ms;
	uint32_t failures;
};

struct auth_guard_table {
	struct auth_guard_entry *entries;
	size_t count;
};

struct auth_guard {
	struct siphash_key key;
	struct auth_guard_table failures, known;
};

void auth_guard_init(struct auth_guard *guard);
void auth_guard_free(struct auth_guard *guard);

/* An attempt of this client has failed. `user` is empty when it is not known who was tried, and when
 * the attempt was put off anyway: then it counts for the client alone. */
void auth_guard_failed(struct auth_guard *guard, struct str client, struct str user,
	uint64_t window_ms, uint64_t now_ms);

/* The client has logged in as the user. */
void auth_guard_succeeded(
	struct auth_guard *guard, struct str client, struct str user, uint64_t now_ms);

/* Has the client failed `limit` times or more within the window? 0: no limit. */
bool auth_guard_client_is_limited(const struct auth_guard *guard, struct str client, uint64_t limit,
	uint64_t window_ms, uint64_t now_ms);

/* Is the user closed to this client, with `limit` failures within the window? 0: no limit. */
bool auth_guard_user_is_limited(const struct auth_guard *guard, struct str client, struct str user,
	uint64_t limit, uint64_t window_ms, uint64_t now_ms);

/*
 * How long a refusal that took `took_ms` is still to be held back, so that its time does not tell
 * what was checked: all take `delay_ms`, or, those that took longer, a multiple of it. 0: no delay.
 */
uint64_t auth_guard_wait_ms(uint64_t delay_ms, uint64_t took_ms);

#endif
