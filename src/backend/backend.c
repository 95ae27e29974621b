#include "backend/backend.h"

#include <stdlib.h>

#include "backend/queue.h"
#include "base/assert.h"
#include "base/xalloc.h"

static void init_server(struct backend *backend, unsigned index)
{
	const struct server_settings *settings = backend->settings->servers.items;
	struct server *server = &backend->servers[index];

	server->settings = &settings[index];
	server->backend = backend;
	server->index = index;
	server->name = server->settings->address.text.p;
	if (server->settings->address.kind == ADDRESS_IP)
		server_set_addresses(server, &server->settings->address.endpoint.ip, 1);
}

static void wake_waiting(void *ctx)
{
	backend_call_waiting(ctx);
}

void backend_init(struct backend *backend, const struct backend_settings *settings)
{
	*backend = (struct backend){ .settings = settings };
	TAILQ_INIT(&backend->waiting);
	task_init(&backend->waking, wake_waiting, backend);
	backend->server_count = settings->servers.count;
	backend->servers = xcalloc(backend->server_count, sizeof(*backend->servers));
	for (unsigned i = 0; i < backend->server_count; i++)
		init_server(backend, i);
}

void backend_free(struct backend *backend)
{
	ASSERT(backend->waiting_count == 0);
	if (backend->loop != NULL)
		task_cancel(&backend->waking, backend->loop);
	free(backend->servers);
	backend->servers = NULL;
}

void backend_guard(struct backend *backend,
	bool (*is_own)(void *ctx, const struct endpoint *address), void *ctx)
{
	backend->is_own = is_own;
	backend->is_own_ctx = ctx;
	for (size_t i = 0; i < backend->server_count; i++) {
		struct server *server = &backend->servers[i];
		struct ipaddr addresses[SERVER_ADDRESSES_MAX];
		size_t count = server->target_count;
		for (size_t j = 0; j < count; j++)
			addresses[j] = server->targets[j].endpoint.ip;
		server_set_addresses(server, addresses, count);
	}
}
