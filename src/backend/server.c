#include "backend/server.h"

#include <string.h>

#include "backend/backend.h"
#include "backend/queue.h"
#include "base/assert.h"
#include "base/log.h"

/* ---- Connections ------------------------------------------------------------------------------ */

void server_acquire(struct server *server)
{
	server->connections++;
}

void server_release(struct server *server)
{
	ASSERT(server->connections > server->idle);
	server->connections--;
	backend_wake(server->backend);
}

void server_idle(struct server *server)
{
	ASSERT(server->connections > server->idle);
	server->idle++;
	backend_wake(server->backend);
}

void server_busy(struct server *server)
{
	ASSERT(server->idle > 0);
	server->idle--;
}

/* ---- Addresses ---------------------------------------------------------------------------------- */

bool server_is_unix(const struct server *server)
{
	return server->settings->address.kind == ADDRESS_UNIX;
}

bool server_has_address(const struct server *server)
{
	return server_is_unix(server) || server->target_count > 0;
}

bool server_address(struct server *server, uint64_t now_ms, struct endpoint *out)
{
	unsigned count = server->target_count;
	unsigned at = server->next_target;

	if (count == 0)
		return false;
	for (unsigned i = 0; i < count; i++) {
		unsigned index = (server->next_target + i) % count;
		if (server->targets[index].avoided_until_ms > now_ms)
			continue;
		at = index;
		break;
	}
	*out = server->targets[at].endpoint;
	server->next_target = (at + 1) % count;
	return true;
}

static bool is_same(const struct endpoint *a, const struct endpoint *b)
{
	return ipaddr_eq(&a->ip, &b->ip) && a->port == b->port;
}

static struct server_target *find_target(struct server *server, const struct endpoint *address)
{
	for (unsigned i = 0; i < server->target_count; i++)
		if (is_same(&server->targets[i].endpoint, address))
			return &server->targets[i];
	return NULL;
}

bool server_is_at(const struct server *server, const struct endpoint *address)
{
	for (unsigned i = 0; i < server->target_count; i++)
		if (is_same(&server->targets[i].endpoint, address))
			return true;
	return server_is_unix(server);
}

void server_address_failed(struct server *server, const struct endpoint *address, uint64_t now_ms)
{
	struct server_target *target = find_target(server, address);

	if (target != NULL)
		target->avoided_until_ms = now_ms + SERVER_AVOIDED_MS;
}

/* Each hop of such a loop would ask the next about the recipient before there is a message whose
 * Received lines could be counted. */
static void notice_own(const struct server *server, const struct endpoint *address)
{
	char text[ENDPOINT_TEXT_MAX];
	struct err detail;

	err_set(&detail,
		"backends: %s is a listener of our own (%s): mail for it is refused as a loop",
		server->name, endpoint_print(address, text));
	LOG(CONFIG_NOTICE, log_text("detail", detail.text));
}

static bool is_own(const struct server *server, const struct endpoint *address)
{
	const struct backend *backend = server->backend;

	return backend->is_own != NULL && backend->is_own(backend->is_own_ctx, address);
}

/* Those known keep what is known of them. */
static void put_target(struct server *server, const struct server_target *before, unsigned count,
	struct endpoint to)
{
	struct server_target *target = &server->targets[server->target_count++];

	*target = (struct server_target){ .endpoint = to };
	for (unsigned i = 0; i < count; i++)
		if (is_same(&before[i].endpoint, &to))
			*target = before[i];
}

/* The answers of DNS come in any order. */
static bool has_changed(struct server *server, const struct server_target *before, unsigned count)
{
	if (count != server->target_count)
		return true;
	for (unsigned i = 0; i < count; i++)
		if (find_target(server, &before[i].endpoint) == NULL)
			return true;
	return false;
}

/* Takes those that are ours, or those that are not. Returns whether there were any that are ours. */
static bool put_targets(struct server *server, const struct ipaddr *addresses, size_t count,
	const struct server_target *before, unsigned before_count, bool takes_own)
{
	bool has_own = false;

	for (size_t i = 0; i < count && server->target_count < SERVER_ADDRESSES_MAX; i++) {
		struct endpoint to = { addresses[i], server->settings->address.endpoint.port };
		bool is_ours = is_own(server, &to);
		if (is_ours && !server->has_own)
			notice_own(server, &to);
		server->has_own |= is_ours;
		has_own |= is_ours;
		if (is_ours == takes_own && find_target(server, &to) == NULL)
			put_target(server, before, before_count, to);
	}
	return has_own;
}

/* A server that has nothing but addresses of ours stays a choice, so that it can be told why mail is
 * refused. */
bool server_set_addresses(struct server *server, const struct ipaddr *addresses, size_t count)
{
	struct server_target before[SERVER_ADDRESSES_MAX];
	unsigned before_count = server->target_count;

	memcpy(before, server->targets, sizeof(before));
	server->target_count = 0;
	server->has_own = put_targets(server, addresses, count, before, before_count, false);
	server->is_ourselves = server->has_own && server->target_count == 0;
	if (server->is_ourselves)
		put_targets(server, addresses, count, before, before_count, true);
	if (server->next_target >= server->target_count)
		server->next_target = 0;
	backend_wake(server->backend);
	return has_changed(server, before, before_count);
}
