#include "backend/probe.h"

#include <stdlib.h>

#include "backend/link.h"
#include "base/log.h"
#include "base/xalloc.h"

struct probe {
	struct probes *probes;
	struct backend *backend;
	struct server *server;
	bool has_run;
	struct link *link;  /* NULL: at rest */
	struct timer timer; /* the rest until the next run */
};

struct probes {
	const struct backend_env *env;
	void (*first_round)(void *ctx);
	void *ctx;
	size_t count, outstanding; /* outstanding: of the first round */
	struct probe *items;
};

static void plan_next(struct probe *probe)
{
	const struct backend_env *env = probe->probes->env;

	timer_set(&probe->timer,
		server_next_probe_ms(probe->server, env->timeouts->probe, loop_now_ms(env->loop)));
}

/* Somebody has found that the server fails. */
static void on_probe_due(void *ctx)
{
	struct probe *probe = ctx;

	if (probe->link == NULL && probe->has_run)
		plan_next(probe);
}

static void rest(struct probe *probe)
{
	struct probes *probes = probe->probes;

	plan_next(probe);
	if (!probe->has_run && --probes->outstanding == 0)
		probes->first_round(probes->ctx);
	probe->has_run = true;
}

/* The server itself has learned it: see link_greet.c. */
static void log_learned(const struct probe *probe)
{
	const struct smtp_capabilities *capabilities = &probe->link->client.capabilities;
	char words[SMTP_EXTENSIONS_TEXT_MAX];

	LOG(BACKEND_LEARNED, log_str("backend", probe->backend->settings->name),
		log_text("server", probe->server->name),
		log_str("extensions", smtp_extensions_print(capabilities->extensions, words)),
		log_int("size", (int64_t)capabilities->size));
}

/* With the check connect or banner it is not asked what it offers. */
static void on_ready(void *ctx)
{
	struct probe *probe = ctx;

	if (probe->link->state == LINK_READY)
		log_learned(probe);
	else
		server_note(probe->server, SERVER_READY, loop_now_ms(probe->probes->env->loop));
	link_quit(&probe->link);
	rest(probe);
}

static void on_lost(void *ctx, const struct link_loss *loss)
{
	struct probe *probe = ctx;

	probe->link = NULL;
	LOG(BACKEND_FAILED, log_text("uuid", NULL),
		log_str("backend", probe->backend->settings->name),
		log_text("server", probe->server->name), log_text("step", "probe"),
		log_text("error", loss->why));
	server_note(probe->server, loss->event, loop_now_ms(probe->probes->env->loop));
	rest(probe);
}

/* When it is ready it is let go: nothing is ever sent by the probe. */
static const struct link_port port = {
	.ready = on_ready,
	.lost = on_lost,
};

static void begin(void *ctx)
{
	struct probe *probe = ctx;

	if (!server_has_address(probe->server)) {
		rest(probe); /* its name is looked up all the time */
		return;
	}
	server_begin_trial(probe->server, loop_now_ms(probe->probes->env->loop));
	probe->link =
		link_open(probe->probes->env, probe->backend, probe->server, NULL, 0, &port, probe);
}

/* ---- The interface ---------------------------------------------------------------------------- */

static size_t server_total(const struct backend *backends, size_t count)
{
	size_t total = 0;

	for (size_t i = 0; i < count; i++)
		total += backends[i].server_count;
	return total;
}

static void add(struct probes *probes, struct backend *backend, struct server *server)
{
	struct probe *probe = &probes->items[probes->count++];

	probe->probes = probes;
	probe->backend = backend;
	probe->server = server;
	timer_init(&probe->timer, probes->env->loop, begin, probe);
	timer_set(&probe->timer, 0);
	server->probe_due = on_probe_due;
	server->probe_ctx = probe;
}

struct probes *probes_new(const struct backend_env *env, struct backend *backends, size_t count,
	void (*first_round)(void *ctx), void *ctx)
{
	struct probes *probes = xcalloc(1, sizeof(*probes));

	*probes = (struct probes){ .env = env, .first_round = first_round, .ctx = ctx };
	probes->outstanding = server_total(backends, count);
	probes->items = xcalloc(probes->outstanding, sizeof(*probes->items));
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < backends[i].server_count; j++)
			add(probes, &backends[i], &backends[i].servers[j]);
	return probes;
}

void probes_free(struct probes **freed)
{
	struct probes *probes = *freed;

	*freed = NULL;
	if (probes == NULL)
		return;
	for (size_t i = 0; i < probes->count; i++) {
		link_close(&probes->items[i].link);
		timer_stop(&probes->items[i].timer);
		probes->items[i].server->probe_due = NULL;
	}
	free(probes->items);
	free(probes);
}
