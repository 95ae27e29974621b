#include "backend/route.h"

#include "proto/smtp_params.h"

/* Ours alone: no backend is needed to keep them. */
#define OWN_EXTENSIONS \
	(SMTP_EXT_PIPELINING | SMTP_EXT_SIZE | SMTP_EXT_ENHANCEDSTATUSCODES | SMTP_EXT_LIMITS)
/* Kept by the backend: offered only when all have them. */
#define SHARED_EXTENSIONS (SMTP_EXT_8BITMIME | SMTP_EXT_SMTPUTF8 | SMTP_EXT_DSN)

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
	const struct route_table *table, struct str listener, uint64_t message_size)
{
	struct smtp_offer offer = {
		.extensions = OWN_EXTENSIONS | SHARED_EXTENSIONS,
		.size = message_size,
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
