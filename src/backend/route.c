#include "backend/route.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/xalloc.h"
#include "proto/smtp_params.h"

/* Ours alone: no backend is needed to keep them. */
#define OWN_EXTENSIONS \
	(SMTP_EXT_PIPELINING | SMTP_EXT_SIZE | SMTP_EXT_ENHANCEDSTATUSCODES | SMTP_EXT_LIMITS)
/* Kept by the backend: offered only when all have them. */
#define SHARED_EXTENSIONS (SMTP_EXT_8BITMIME | SMTP_EXT_SMTPUTF8 | SMTP_EXT_DSN)

/* ---- The table ------------------------------------------------------------------------------ */

struct backend *route_backend(const struct route_table *table, struct str name)
{
	for (size_t i = 0; i < table->backend_count; i++)
		if (str_eq(table->backends[i].settings->name, name))
			return &table->backends[i];
	return NULL;
}

int route_no_backend(struct str key, struct str value, struct err *err)
{
	return err_set(err, "%.*s: there is no backend \"%.*s\"", STR_ARG(key),
		STR_ARG(str_range(value, 0, 100)));
}

static int accept_entry(void *ctx, struct str key, struct str value, struct err *err)
{
	struct route *route = ctx;
	const struct backend *backend = route_backend(route->table, value);

	if (backend == NULL)
		return route_no_backend(key, value, err);
	route->marks[backend - route->table->backends] = true;
	return 0;
}

/* The map that was read is in force. */
static void take_marks(struct route *route)
{
	memcpy(route->leads, route->marks, route->table->backend_count * sizeof(*route->leads));
}

static void clear_marks(struct route *route)
{
	memset(route->marks, 0, route->table->backend_count * sizeof(*route->marks));
}

static int open_map(struct route *route, struct err *err)
{
	size_t count = route->table->backend_count;

	route->leads = xcalloc(count, sizeof(*route->leads));
	route->marks = xcalloc(count, sizeof(*route->marks));
	route->map = (struct map_file){
		.name = route->settings->map,
		.kind = "routes",
		.path = route->settings->map.p,
		.accepts = accept_entry,
		.ctx = route,
	};
	if (map_file_open(&route->map, err) < 0)
		return err_prefix(err, "routes");
	take_marks(route);
	return 0;
}

int route_table_open(struct route_table *table, const struct conf_list *settings,
	struct backend *backends, size_t backend_count, struct err *err)
{
	const struct route_settings *items = settings->items;

	*table = (struct route_table){
		.routes = xcalloc(settings->count, sizeof(*table->routes)),
		.backends = backends,
		.backend_count = backend_count,
	};
	for (size_t i = 0; i < settings->count; i++) {
		struct route *route = &table->routes[table->count++];
		*route = (struct route){ .settings = &items[i], .table = table };
		if (items[i].map.n > 0 && open_map(route, err) < 0)
			return -1;
		if (items[i].map.n == 0)
			route->backend = route_backend(table, items[i].backend);
		ASSERT(route->backend != NULL || items[i].map.n > 0);
	}
	return 0;
}

void route_table_close(struct route_table *table)
{
	for (size_t i = 0; i < table->count; i++) {
		map_file_close(&table->routes[i].map);
		free(table->routes[i].leads);
		free(table->routes[i].marks);
	}
	free(table->routes);
	*table = (struct route_table){ .routes = NULL };
}

void route_table_refresh(struct route_table *table, bool always)
{
	for (size_t i = 0; i < table->count; i++) {
		struct route *route = &table->routes[i];
		if (route->backend != NULL)
			continue;
		clear_marks(route);
		if (map_file_refresh(&route->map, always))
			take_marks(route);
	}
}

/* ---- Which route matches -------------------------------------------------------------------- */

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

static bool user_is_in(const struct conf_list *list, struct str user)
{
	const struct str *entries = list->items;

	for (size_t i = 0; i < list->count; i++) {
		struct str entry = entries[i];
		bool is_domain = entry.n > 1 && entry.p[0] == '@';
		if (str_eq(entry, STR("*")) || str_eq(entry, user))
			return true;
		if (is_domain && user.n > entry.n && str_ends_with_nocase(user, entry))
			return true;
	}
	return false;
}

static bool user_matches(const struct route_settings *route, const struct auth_info *auth)
{
	if (route->users.count == 0)
		return true;
	return auth != NULL && user_is_in(&route->users, auth->user);
}

static bool route_matches(const struct route_settings *route, const struct connection *connection)
{
	const struct transaction *transaction = connection->transaction;

	return listener_matches(route, connection->listener) &&
	       recipient_matches(route, &transaction->candidate->path) &&
	       any_address_matches(&route->senders, &transaction->mail_from) &&
	       user_matches(route, connection->auth) &&
	       (route->networks.count == 0 ||
		       ipnet_list_find(&route->networks, &connection->remote.address.ip) != NULL);
}

/* As Postfix looks into its transport maps: the address comes before the domain. */
static struct backend *backend_by_map(const struct route *route, const struct smtp_path *path)
{
	char plain[SMTP_PATH_MAX];
	struct str address = smtp_path_plain(path, plain);
	struct str name = map_find_address(route->map.map, address);

	if (name.n == 0)
		name = map_find_domain(
			route->map.map, str_from_pos(address, str_rfind(address, '@') + 1));
	return name.n > 0 ? route_backend(route->table, name) : NULL;
}

/* NULL: not this route. */
static struct backend *follow(const struct route *route, const struct connection *connection)
{
	if (!route_matches(route->settings, connection))
		return NULL;
	if (route->backend != NULL)
		return route->backend;
	return backend_by_map(route, &connection->transaction->candidate->path);
}

struct backend *route_find(const struct route_table *table, const struct connection *connection)
{
	struct backend *backend = NULL;

	if (table->count == 0)
		return &table->backends[0];
	for (size_t i = 0; i < table->count && backend == NULL; i++)
		backend = follow(&table->routes[i], connection);
	return backend;
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

static bool leads_to(const struct route *route, size_t backend)
{
	if (route->backend != NULL)
		return route->backend == &route->table->backends[backend];
	return route->leads[backend];
}

/* Can a client of the listener reach it? */
static bool is_reachable(const struct route_table *table, struct str listener, size_t backend)
{
	if (table->count == 0)
		return backend == 0;
	for (size_t i = 0; i < table->count; i++)
		if (listener_matches(table->routes[i].settings, listener) &&
			leads_to(&table->routes[i], backend))
			return true;
	return false;
}

bool route_has_server(const struct route_table *table, struct str listener)
{
	bool leads_anywhere = false;

	for (size_t i = 0; i < table->backend_count; i++) {
		if (!is_reachable(table, listener, i))
			continue;
		if (!backend_is_out(&table->backends[i]))
			return true;
		leads_anywhere = true;
	}
	return !leads_anywhere; /* by a map that names none: no server is to blame */
}

struct smtp_offer route_offer(
	const struct route_table *table, struct str listener, uint64_t message_size)
{
	struct smtp_offer offer = {
		.extensions = OWN_EXTENSIONS | SHARED_EXTENSIONS,
		.size = message_size,
	};
	size_t reachable = 0;

	for (size_t i = 0; i < table->backend_count; i++) {
		if (!is_reachable(table, listener, i))
			continue;
		intersect(&table->backends[i], &offer);
		if (table->backends[i].settings->one_recipient)
			offer.recipients = 1;
		reachable++;
	}
	offer.one_destination = reachable > 1;
	return offer;
}
