/*
 * Which server comes first for a client.
 */
#include "backend/backend.h"

#include "base/assert.h"

/* Where the choice is: the next tier is looked at when nothing of this one is left. */
enum tier { TIER_USABLE, TIER_BACKUP, TIER_LAST, TIER_LAST_BACKUP, TIER_COUNT };

static enum tier tier_of(const struct server *server, uint64_t now_ms)
{
	bool is_backup = server->settings->is_backup;

	if (server_is_usable(server, now_ms))
		return is_backup ? TIER_BACKUP : TIER_USABLE;
	return is_backup ? TIER_LAST_BACKUP : TIER_LAST;
}

static uint64_t bit_of(const struct server *server)
{
	return UINT64_C(1) << server->index;
}

static bool is_candidate(const struct server *server, enum tier tier,
	const struct server_choice *choice, uint64_t now_ms)
{
	return !(choice->tried & bit_of(server)) && server->settings->weight > 0 &&
	       server_has_address(server) && tier_of(server, now_ms) == tier;
}

/* What becomes free belongs to those who wait. */
static bool is_full(const struct server *server, bool has_waited)
{
	uint64_t max = server->settings->max_connections;
	unsigned taken = server->connections - server->idle;

	if (max == 0)
		return false;
	return taken >= max || (!has_waited && server->backend->waiting_count > 0);
}

/* ---- leastconn ------------------------------------------------------------------------------------ */

/* The fewest for its weight, with the one that is to come; of equals the one that had none for the
 * longest time. */
static bool has_fewer(const struct server *a, const struct server *b, uint64_t now_ms)
{
	uint64_t of_a = (uint64_t)(a->connections - a->idle + 1) * server_weight(b, now_ms);
	uint64_t of_b = (uint64_t)(b->connections - b->idle + 1) * server_weight(a, now_ms);

	return of_a < of_b || (of_a == of_b && a->chosen_last < b->chosen_last);
}

/* ---- source --------------------------------------------------------------------------------------- */

/* FNV-1a, and the finalizer of MurmurHash3, without which the upper bits hardly differ. It needs no
 * secret, as it decides nothing; that it has none lets several gateposts choose alike. */
static uint32_t mix(struct str name, const struct ipaddr *client)
{
	uint64_t hash = UINT64_C(14695981039346656037);

	for (size_t i = 0; i < name.n; i++)
		hash = (hash ^ (unsigned char)name.p[i]) * UINT64_C(1099511628211);
	for (size_t i = 0; i < sizeof(client->bytes); i++)
		hash = (hash ^ client->bytes[i]) * UINT64_C(1099511628211);
	hash = (hash ^ (hash >> 33)) * UINT64_C(0xff51afd7ed558ccd);
	hash = (hash ^ (hash >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
	return (uint32_t)(hash >> 32);
}

/* 32 - log2(value), times 65536: each squaring gives a bit behind the point. */
static uint64_t inverted_log(uint32_t value)
{
	unsigned whole = 31 - (unsigned)__builtin_clz(value | 1);
	uint64_t x = (uint64_t)(value | 1)
		     << (31 - whole); /* 1 to 2, with 31 bits behind the point */
	uint64_t fraction = 0;

	for (unsigned bit = 0; bit < 16; bit++) {
		x = (x * x) >> 31;
		fraction <<= 1;
		if (x >> 32 == 0)
			continue;
		fraction |= 1;
		x >>= 1;
	}
	return (UINT64_C(32) << 16) - (((uint64_t)whole << 16) + fraction);
}

/*
 * Rendezvous hashing: each server has a number for each client, and the smallest wins. One that goes
 * takes only its own clients with it, and has them again when it comes back. Divided by the weight,
 * the negative logarithm of an even number makes shares that are as the weights.
 */
static bool is_nearer(const struct server *a, const struct server *b, const struct ipaddr *client,
	uint64_t now_ms)
{
	uint64_t of_a = inverted_log(mix(a->settings->address.text, client));
	uint64_t of_b = inverted_log(mix(b->settings->address.text, client));

	return of_a * server_weight(b, now_ms) < of_b * server_weight(a, now_ms);
}

/* ---- The choice ----------------------------------------------------------------------------------- */

static bool is_better(const struct server *server, const struct server *best,
	const struct ipaddr *client, uint64_t now_ms)
{
	if (best == NULL)
		return true;
	switch ((enum balance)server->backend->settings->balance) {
	case BALANCE_FIRST:
		return false;
	case BALANCE_ROUNDROBIN:
		return server->turn > best->turn;
	case BALANCE_LEASTCONN:
		return has_fewer(server, best, now_ms);
	case BALANCE_SOURCE:
		return is_nearer(server, best, client, now_ms);
	}
	return false;
}

/* Smooth weighted round robin: each gets its weight, the one with the most is chosen and pays for all.
 * Those that are tried after it in the same transaction pay nothing. */
static void begin_turn(struct backend *backend, enum tier tier, const struct server_choice *choice,
	uint64_t now_ms)
{
	for (size_t i = 0; i < backend->server_count; i++) {
		struct server *server = &backend->servers[i];
		if (is_candidate(server, tier, choice, now_ms) &&
			!is_full(server, choice->has_waited))
			server->turn += (int64_t)server_weight(server, now_ms);
	}
}

static void end_turn(
	struct server *chosen, enum tier tier, const struct server_choice *choice, uint64_t now_ms)
{
	struct backend *backend = chosen->backend;

	for (size_t i = 0; i < backend->server_count; i++) {
		struct server *server = &backend->servers[i];
		if (is_candidate(server, tier, choice, now_ms) &&
			!is_full(server, choice->has_waited))
			chosen->turn -= (int64_t)server_weight(server, now_ms);
	}
}

static struct server *best_of(struct backend *backend, enum tier tier, const struct ipaddr *client,
	struct server_choice *choice, uint64_t now_ms)
{
	bool is_turn = choice->tried == 0 && backend->settings->balance == BALANCE_ROUNDROBIN;
	struct server *best = NULL;

	if (is_turn)
		begin_turn(backend, tier, choice, now_ms);
	for (size_t i = 0; i < backend->server_count; i++) {
		struct server *server = &backend->servers[i];
		if (!is_candidate(server, tier, choice, now_ms))
			continue;
		if (is_full(server, choice->has_waited))
			choice->is_full = true;
		else if (is_better(server, best, client, now_ms))
			best = server;
	}
	if (is_turn && best != NULL)
		end_turn(best, tier, choice, now_ms);
	return best;
}

static void take(struct server *server, struct server_choice *choice, uint64_t now_ms)
{
	choice->tried |= bit_of(server);
	choice->is_full = false;
	server->chosen_last = ++server->backend->choices;
	server_begin_trial(server, now_ms);
}

struct server *backend_choose(struct backend *backend, const struct ipaddr *client, uint64_t now_ms,
	struct server_choice *choice)
{
	choice->is_full = false;
	for (enum tier tier = 0; tier < TIER_COUNT && !choice->is_full; tier++) {
		struct server *server = best_of(backend, tier, client, choice, now_ms);
		if (server == NULL)
			continue;
		take(server, choice, now_ms);
		return server;
	}
	return NULL;
}

/* Of one tier: is there anything, and anything that is not full? */
static bool tier_has_room(const struct backend *backend, enum tier tier,
	const struct server_choice *choice, uint64_t now_ms, bool *is_empty)
{
	*is_empty = true;
	for (size_t i = 0; i < backend->server_count; i++) {
		const struct server *server = &backend->servers[i];
		if (!is_candidate(server, tier, choice, now_ms))
			continue;
		*is_empty = false;
		if (!is_full(server, true))
			return true;
	}
	return false;
}

bool backend_has_room(
	const struct backend *backend, const struct server_choice *choice, uint64_t now_ms)
{
	bool is_empty = true;

	for (enum tier tier = 0; tier < TIER_COUNT && is_empty; tier++)
		if (tier_has_room(backend, tier, choice, now_ms, &is_empty))
			return true;
	return is_empty;
}

bool backend_is_out(const struct backend *backend)
{
	for (size_t i = 0; i < backend->server_count; i++)
		if (backend->servers[i].settings->weight > 0 &&
			!server_is_out(&backend->servers[i]))
			return false;
	return true;
}
