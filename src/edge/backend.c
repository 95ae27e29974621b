#include "edge/backend.h"

#include <stdlib.h>

#include "base/xalloc.h"
#include "proto/smtp_params.h"

/* Ours alone: no backend is needed to keep them. */
#define OWN_EXTENSIONS \
	(SMTP_EXT_PIPELINING | SMTP_EXT_SIZE | SMTP_EXT_ENHANCEDSTATUSCODES | SMTP_EXT_LIMITS)
/* Kept by the backend: offered only when all have them. */
#define SHARED_EXTENSIONS (SMTP_EXT_8BITMIME | SMTP_EXT_SMTPUTF8 | SMTP_EXT_DSN)

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

enum tls_step backend_tls_step(
	const struct backend *backend, const struct smtp_capabilities *capabilities, bool is_tls)
{
	bool is_offered = capabilities->extensions & SMTP_EXT_STARTTLS;

	if (is_tls)
		return TLS_STEP_NONE;
	switch ((enum backend_tls_mode)backend->settings->tls.mode) {
	case BACKEND_TLS_OFF:
	case BACKEND_TLS_IMPLICIT:
		return TLS_STEP_NONE;
	case BACKEND_TLS_OPPORTUNISTIC:
		return is_offered ? TLS_STEP_STARTTLS : TLS_STEP_PLAINTEXT;
	case BACKEND_TLS_REQUIRED:
		return is_offered ? TLS_STEP_STARTTLS : TLS_STEP_REFUSE;
	}
	return TLS_STEP_REFUSE;
}

enum tls_step backend_tls_failed(const struct backend *backend)
{
	const struct backend_tls_settings *tls = &backend->settings->tls;
	bool may_fall_back =
		tls->mode == BACKEND_TLS_OPPORTUNISTIC && tls->fallback == TLS_FALLBACK_ALWAYS;

	return may_fall_back ? TLS_STEP_PLAINTEXT : TLS_STEP_REFUSE;
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

/* ---- Routes --------------------------------------------------------------------------------- */

/* An entry is a whole address, a domain, or ".domain" for all below. */
static bool address_matches(struct str entry, const struct smtp_path *path)
{
	if (str_find(entry, '@') < entry.n)
		return str_eq_nocase(entry, path->address);
	if (entry.n > 0 && entry.p[0] == '.')
		return path->host.n > entry.n && str_ends_with_nocase(path->host, entry);
	return path->host.n > 0 && str_eq_nocase(entry, path->host);
}

static bool any_address_matches(const struct conf_list *list, const struct smtp_path *path)
{
	const struct str *entries = list->items;

	for (size_t i = 0; i < list->count; i++)
		if (address_matches(entries[i], path))
			return true;
	return list->count == 0;
}

static bool listener_matches(const struct route_settings *route, struct str listener)
{
	const struct str *names = route->listeners.items;

	for (size_t i = 0; i < route->listeners.count; i++)
		if (str_eq(names[i], listener))
			return true;
	return route->listeners.count == 0;
}

/* `domains` and `recipients` are two ways to name a recipient: either may match. */
static bool recipient_matches(const struct route_settings *route, const struct smtp_path *path)
{
	if (route->domains.count > 0 && any_address_matches(&route->domains, path))
		return true;
	if (route->recipients.count > 0)
		return any_address_matches(&route->recipients, path);
	return route->domains.count == 0;
}

static bool route_matches(const struct route_settings *route, const struct connection *connection)
{
	const struct transaction *transaction = connection->transaction;

	return listener_matches(route, connection->listener) &&
	       recipient_matches(route, &transaction->candidate->path) &&
	       any_address_matches(&route->senders, &transaction->mail_from) &&
	       (route->networks.count == 0 ||
		       ipnet_list_find(&route->networks, &connection->remote.address.ip) != NULL);
}

static struct backend *backend_by_name(const struct route_table *table, struct str name)
{
	for (size_t i = 0; i < table->backend_count; i++)
		if (str_eq(table->backends[i].settings->name, name))
			return &table->backends[i];
	return NULL;
}

struct backend *route_find(const struct route_table *table, const struct connection *connection)
{
	if (table->count == 0)
		return &table->backends[0];
	for (size_t i = 0; i < table->count; i++)
		if (route_matches(&table->routes[i], connection))
			return backend_by_name(table, table->routes[i].backend);
	return NULL;
}

/* ---- What may be offered -------------------------------------------------------------------- */

static bool any_is_known(const struct backend *backend)
{
	for (size_t i = 0; i < backend->server_count; i++)
		if (backend->servers[i].is_known)
			return true;
	return false;
}

/* A server that was never reached takes nothing away while others are known: a transaction that
 * needs what it lacks goes to the next one. When none is known, nothing can be promised. */
static void intersect(const struct backend *backend, struct smtp_offer *offer)
{
	if (!any_is_known(backend))
		offer->extensions &= OWN_EXTENSIONS;
	for (size_t i = 0; i < backend->server_count; i++) {
		const struct server *server = &backend->servers[i];
		const struct smtp_capabilities *has = &server->capabilities;
		if (!server->is_known)
			continue;
		offer->extensions &= OWN_EXTENSIONS | has->extensions;
		if (has->size > 0 && has->size < offer->size)
			offer->size = has->size;
	}
}

struct smtp_offer route_offer(
	const struct route_table *table, struct str listener, const struct limits_settings *limits)
{
	struct smtp_offer offer = {
		.extensions = OWN_EXTENSIONS | SHARED_EXTENSIONS,
		.size = limits->smtp.message_size,
	};
	const struct backend *only = NULL;

	if (table->count == 0)
		intersect(&table->backends[0], &offer);
	for (size_t i = 0; i < table->count; i++) {
		const struct route_settings *route = &table->routes[i];
		if (!listener_matches(route, listener))
			continue;
		const struct backend *backend = backend_by_name(table, route->backend);
		intersect(backend, &offer);
		offer.one_destination |= only != NULL && only != backend;
		only = backend;
	}
	return offer;
}
