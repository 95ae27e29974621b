/* What the program is made of, from the settings: resolver, plans, backends, listeners. */
#include "backend/backend_tls.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "edge/listener_tls.h"
#include "edge/session.h"
#include "program_priv.h"

/* "192.0.2.1:53,[2001:db8::1]:53" for the resolver. */
static void print_servers(const struct dns_settings *dns, struct buf *out)
{
	const struct endpoint *servers = dns->servers.items;
	char text[ENDPOINT_TEXT_MAX];

	for (size_t i = 0; i < dns->servers.count; i++)
		buf_printf(out, "%s%s", i > 0 ? "," : "", endpoint_print(&servers[i], text));
}

int program_start_resolver(struct program *program, struct err *err)
{
	const struct dns_settings *dns = &program->settings->dns;
	struct buf servers;

	buf_init(&servers, 4096);
	print_servers(dns, &servers);
	struct resolver_settings settings = {
		.servers = buf_view(&servers),
		.timeout_ms = dns->timeout_ms,
		.tries = (unsigned)dns->tries,
		.is_off = !dns->reverse,
	};
	program->resolver = resolver_new(program->loop, &settings, err);
	buf_free(&servers);
	return program->resolver ? 0 : -1;
}

int program_make_plans(struct program *program, struct err *err)
{
	const struct settings *settings = program->settings;
	struct policy_roots roots = {
		.relay = &settings->relay,
		.hostname = settings->hostname,
		.connections_per_client = settings->limits.connections_per_client,
	};

	(void)err;
	program->default_plan = settings_default_plan(settings);
	policy_plan_bind(program->default_plan, &roots);
	policy_plans_bind(&settings->plans, &roots);
	return 0;
}

int program_make_backends(struct program *program, struct err *err)
{
	const struct conf_list *list = &program->settings->backends;
	const struct backend_settings *settings = list->items;

	program->backends = xcalloc(list->count, sizeof(*program->backends));
	for (size_t i = 0; i < list->count; i++) {
		struct backend *backend = &program->backends[program->backend_count++];
		backend_init(backend, &settings[i]);
		if (backend_tls_open(backend, err) < 0 ||
			backend_auth_open(&backend->auth, &settings[i], err) < 0)
			return -1;
	}
	return 0;
}

int program_open_routes(struct program *program, struct err *err)
{
	return route_table_open(&program->edge.routes, &program->settings->routes,
		program->backends, program->backend_count, err);
}

int program_open_tls(struct program *program, struct err *err)
{
	const struct conf_list *list = &program->settings->listeners;
	const struct listener_settings *listeners = list->items;

	program->tls_slots = xcalloc(list->count, sizeof(*program->tls_slots));
	for (size_t i = 0; i < list->count; i++)
		if (listener_tls_open(&program->tls_slots[i], &listeners[i], err) < 0)
			return -1;
	return 0;
}

int program_open_auth(struct program *program, struct err *err)
{
	const struct conf_list *list = &program->settings->listeners;
	const struct listener_settings *listeners = list->items;

	program->auth_slots = xcalloc(list->count, sizeof(*program->auth_slots));
	auth_guard_init(&program->edge.auth_guard);
	for (size_t i = 0; i < list->count; i++)
		if (auth_slot_open(&program->auth_slots[i], &program->edge, listeners[i].name,
			    &listeners[i].auth, err) < 0)
			return -1;
	return 0;
}

int program_open_senders(struct program *program, struct err *err)
{
	const struct conf_list *list = &program->settings->listeners;
	const struct listener_settings *listeners = list->items;

	program->sender_slots = xcalloc(list->count, sizeof(*program->sender_slots));
	for (size_t i = 0; i < list->count; i++)
		if (sender_slot_open(&program->sender_slots[i], listeners[i].name,
			    &listeners[i].auth, err) < 0)
			return -1;
	return 0;
}

int program_make_edge(struct program *program, struct err *err)
{
	const struct settings *settings = program->settings;
	struct edge *edge = &program->edge;

	(void)err;
	edge->loop = program->loop;
	edge->resolver = program->resolver;
	edge->hostname = settings->hostname;
	edge->smtp = (struct smtp_server_settings){
		.hostname = settings->hostname,
		.limits = settings->limits.smtp,
		.timeouts = { settings->timeouts.command, settings->timeouts.data },
	};
	edge->limits = &settings->limits;
	edge->timeouts = &settings->timeouts;
	edge->relay = &settings->relay;
	program->replays.max = (size_t)settings->limits.replay_buffers;
	edge->backend = (struct backend_env){
		.loop = program->loop,
		.hostname = settings->hostname,
		.timeouts = &settings->timeouts.backend,
		.tls_handshake_ms = settings->timeouts.tls_handshake,
		.replays = &program->replays,
	};
	edge->traces_restricted = settings->log.trace_restricted;
	clients_init(&edge->clients, settings->limits.connections);
	clients_init(&edge->handshakers, settings->limits.handshakes);
	local_names_init(&edge->local_names, program->resolver, settings->hostname);
	LIST_INIT(&edge->sessions);
	return 0;
}

static void on_accepted(
	void *ctx, int fd, const struct endpoint *peer, const struct endpoint *local)
{
	session_new(ctx, fd, peer, local);
}

static void on_accept_failed(void *ctx, const struct err *err)
{
	const struct edge_listener *listener = ctx;

	LOG(ACCEPT_FAILED, log_str("listener", listener->settings->name),
		log_text("error", err->text));
}

static const struct listener_events listener_events = {
	.accepted = on_accepted,
	.failed = on_accept_failed,
};

static int open_listener(
	struct program *program, size_t index, const struct endpoint *address, struct err *err)
{
	const struct listener_settings *settings =
		(const struct listener_settings *)program->settings->listeners.items + index;
	struct edge_listener *listener = &program->listeners[program->listener_count];
	const struct policy_plan *plan =
		policy_plan_find(&program->settings->plans, settings->plan);
	char text[ENDPOINT_TEXT_MAX];

	listener->edge = &program->edge;
	listener->settings = settings;
	listener->plan = plan ? plan : program->default_plan;
	listener->tls = &program->tls_slots[index];
	listener->auth = program->auth_slots[index].service;
	listener->senders = &program->sender_slots[index];
	if (listener_open(&listener->listener, program->loop, address, &listener_events, listener,
		    err) < 0)
		return err_prefix(err, "listener %s", settings->name.p);
	program->listener_count++;
	LOG(LISTENING, log_str("listener", settings->name),
		log_text("address", endpoint_print(&listener->listener.address, text)));
	return 0;
}

static size_t count_addresses(const struct settings *settings)
{
	const struct listener_settings *listeners = settings->listeners.items;
	size_t count = 0;

	for (size_t i = 0; i < settings->listeners.count; i++)
		count += listeners[i].bind.count;
	return count;
}

int program_open_listeners(struct program *program, struct err *err)
{
	const struct settings *settings = program->settings;
	const struct listener_settings *listeners = settings->listeners.items;

	program->listeners = xcalloc(count_addresses(settings), sizeof(*program->listeners));
	for (size_t i = 0; i < settings->listeners.count; i++) {
		const struct endpoint *addresses = listeners[i].bind.items;
		for (size_t j = 0; j < listeners[i].bind.count; j++)
			if (open_listener(program, i, &addresses[j], err) < 0)
				return -1;
	}
	return 0;
}

static bool is_own_address(void *ctx, const struct endpoint *address)
{
	const struct program *program = ctx;

	for (size_t i = 0; i < program->listener_count; i++) {
		const struct endpoint *own = &program->listeners[i].listener.address;
		bool is_same = ipaddr_eq(&own->ip, &address->ip) ||
			       (ipaddr_is_unspecified(&own->ip) && ipaddr_is_local(&address->ip));
		if (is_same && own->port == address->port)
			return true;
	}
	return false;
}

int program_guard_backends(struct program *program, struct err *err)
{
	(void)err;
	for (size_t i = 0; i < program->backend_count; i++)
		backend_guard(&program->backends[i], is_own_address, program);
	return 0;
}
