#include "backend/names.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/xalloc.h"

/* How soon a name that could not be resolved is asked for again. */
#define RETRY_MS 5000
#define ADDRESSES_TEXT_MAX (RESOLVER_ADDRESSES_MAX * (IPADDR_TEXT_MAX + 1))

/* The name of one server. */
struct name {
	struct names *names;
	struct server *server;
	struct resolver_forward *question; /* under way, or NULL */
	struct timer again;
	bool was_answered; /* well or not */
	bool has_failed;   /* and that was logged */
};

struct names {
	struct loop *loop;
	struct resolver *resolver;
	void (*first_round)(void *ctx);
	void *ctx;
	struct task none;          /* there are no names */
	size_t count, outstanding; /* outstanding: of the first round */
	struct name *items;
};

/* ---- The log -------------------------------------------------------------------------------------- */

static void log_resolved(const struct server *server)
{
	char text[IPADDR_TEXT_MAX];
	struct buf list;

	buf_init(&list, ADDRESSES_TEXT_MAX);
	for (unsigned i = 0; i < server->target_count; i++)
		buf_printf(&list, "%s%s", i > 0 ? " " : "",
			ipaddr_print(&server->targets[i].endpoint.ip, text));
	LOG(NAME_RESOLVED, log_str("backend", server->backend->settings->name),
		log_text("server", server->name), log_str("addresses", buf_view(&list)));
	buf_free(&list);
}

static void log_failed(const struct server *server, enum resolver_status status)
{
	LOG(NAME_FAILED, log_str("backend", server->backend->settings->name),
		log_text("server", server->name), log_text("reason", resolver_status_word(status)),
		log_int("addresses", server->target_count));
}

/* ---- Answers -------------------------------------------------------------------------------------- */

static void resolved(struct name *name, const struct resolver_addresses *addresses)
{
	bool is_other = server_set_addresses(name->server, addresses->items, addresses->count);

	if (is_other || name->has_failed)
		log_resolved(name->server);
	name->has_failed = false;
}

/* What was true a moment ago is better than nothing. */
static void failed(struct name *name, enum resolver_status status)
{
	if (!name->has_failed)
		log_failed(name->server, status);
	name->has_failed = true;
}

/* Up to a tenth earlier, by its place: names that were asked for together are not asked for together
 * for ever. */
static uint64_t with_jitter(const struct name *name, uint64_t ms)
{
	size_t index = (size_t)(name - name->names->items);

	return ms - ms / 80 * (index % 8);
}

static void count_answered(struct name *name)
{
	struct names *names = name->names;

	if (name->was_answered)
		return;
	name->was_answered = true;
	if (--names->outstanding == 0)
		names->first_round(names->ctx);
}

static void on_answer(void *ctx, const struct resolver_addresses *addresses)
{
	struct name *name = ctx;
	bool is_good = addresses->status == RESOLVER_OK;

	name->question = NULL;
	name->server->is_looked_up = true;
	if (is_good)
		resolved(name, addresses);
	else
		failed(name, addresses->status);
	timer_set(&name->again,
		with_jitter(name, is_good ? (uint64_t)addresses->ttl_s * 1000 : RETRY_MS));
	count_answered(name);
}

static void ask(void *ctx)
{
	struct name *name = ctx;

	name->question = resolver_forward(
		name->names->resolver, name->server->settings->address.host, on_answer, name);
}

/* ---- Life ----------------------------------------------------------------------------------------- */

static bool has_name(const struct server *server)
{
	return server->settings->address.kind == ADDRESS_NAME;
}

static void add(struct names *names, struct server *server)
{
	struct name *name = &names->items[names->count++];

	*name = (struct name){ .names = names, .server = server };
	timer_init(&name->again, names->loop, ask, name);
}

static size_t server_total(const struct backend *backends, size_t count)
{
	size_t total = 0;

	for (size_t i = 0; i < count; i++)
		total += backends[i].server_count;
	return total;
}

static void no_names(void *ctx)
{
	struct names *names = ctx;

	names->first_round(names->ctx);
}

struct names *names_new(struct loop *loop, struct resolver *resolver, struct backend *backends,
	size_t count, void (*first_round)(void *ctx), void *ctx)
{
	struct names *names = xcalloc(1, sizeof(*names));

	*names = (struct names){
		.loop = loop, .resolver = resolver, .first_round = first_round, .ctx = ctx
	};
	task_init(&names->none, no_names, names);
	names->items = xcalloc(server_total(backends, count), sizeof(*names->items));
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < backends[i].server_count; j++)
			if (has_name(&backends[i].servers[j]))
				add(names, &backends[i].servers[j]);
	names->outstanding = names->count;
	for (size_t i = 0; i < names->count; i++)
		ask(&names->items[i]);
	if (names->count == 0)
		task_defer(&names->none, loop);
	return names;
}

void names_free(struct names **freed)
{
	struct names *names = *freed;

	*freed = NULL;
	if (names == NULL)
		return;
	for (size_t i = 0; i < names->count; i++) {
		resolver_forward_abandon(&names->items[i].question);
		timer_stop(&names->items[i].again);
	}
	task_cancel(&names->none, names->loop);
	free(names->items);
	free(names);
}
