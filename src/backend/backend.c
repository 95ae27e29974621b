#include "backend/backend.h"

#include <stdlib.h>

#include "base/xalloc.h"
#include "proto/smtp_params.h"

/* ---- Servers -------------------------------------------------------------------------------- */

void backend_init(struct backend *backend, const struct backend_settings *settings)
{
	const struct endpoint *addresses = settings->servers.items;

	*backend = (struct backend){ .settings = settings };
	backend->server_count = settings->servers.count;
	backend->servers = xcalloc(backend->server_count, sizeof(*backend->servers));
	for (size_t i = 0; i < backend->server_count; i++) {
		backend->servers[i].address = addresses[i];
		endpoint_print(&addresses[i], backend->servers[i].name);
	}
}

void backend_free(struct backend *backend)
{
	free(backend->servers);
	backend->servers = NULL;
}

static size_t by_source(const struct backend *backend, const struct ipaddr *client)
{
	uint32_t hash =
		2166136261u; /* FNV-1a: spreads, and needs no secret as it decides nothing */

	for (size_t i = 0; i < sizeof(client->bytes); i++)
		hash = (hash ^ client->bytes[i]) * 16777619u;
	return hash % backend->server_count;
}

static size_t first_choice(struct backend *backend, const struct ipaddr *client)
{
	switch ((enum balance)backend->settings->balance) {
	case BALANCE_FIRST:
	case BALANCE_LEASTCONN: /* see is_better() */
		return 0;
	case BALANCE_ROUNDROBIN:
		return backend->turn++ % backend->server_count;
	case BALANCE_SOURCE:
		return by_source(backend, client);
	}
	return 0;
}

static bool is_avoided(const struct server *server, uint64_t now_ms)
{
	return server->avoided_until_ms > now_ms;
}

static bool was_tried(const struct server_choice *choice, size_t index)
{
	return choice->tried & (UINT64_C(1) << index);
}

/* The one met first is as good as those behind it, but for leastconn. */
static bool is_better(
	const struct backend *backend, const struct server *server, const struct server *best)
{
	return best == NULL || (backend->settings->balance == BALANCE_LEASTCONN &&
				       server->connections < best->connections);
}

/* The best of those not tried, in turn from the first choice; NULL when there is none. */
static struct server *best_server(struct backend *backend, uint64_t now_ms,
	const struct server_choice *choice, bool takes_avoided)
{
	struct server *best = NULL;

	for (size_t i = 0; i < backend->server_count; i++) {
		size_t index = (choice->start + i) % backend->server_count;
		struct server *server = &backend->servers[index];
		if (was_tried(choice, index) || (!takes_avoided && is_avoided(server, now_ms)))
			continue;
		if (is_better(backend, server, best))
			best = server;
	}
	return best;
}

/*
 * Those that work before those that failed a moment ago: a dead server costs a client nothing, and
 * is still tried when there is no other.
 */
struct server *backend_choose(struct backend *backend, const struct ipaddr *client, uint64_t now_ms,
	struct server_choice *choice)
{
	if (choice->tried == 0)
		choice->start = first_choice(backend, client);
	struct server *server = best_server(backend, now_ms, choice, false);
	if (server == NULL)
		server = best_server(backend, now_ms, choice, true);
	if (server != NULL)
		choice->tried |= UINT64_C(1) << (size_t)(server - backend->servers);
	return server;
}

void server_learn(struct server *server, const struct smtp_capabilities *capabilities)
{
	server->capabilities = *capabilities;
	server->is_known = true;
	server->avoided_until_ms = 0;
}

void server_failed(struct server *server, uint64_t now_ms)
{
	server->avoided_until_ms = now_ms + SERVER_AVOIDED_MS;
}
