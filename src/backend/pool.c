#include "backend/pool.h"

#include "backend/identity.h"
#include "base/assert.h"

bool pool_is_for(const struct backend_settings *settings)
{
	return settings->reuse.mode == REUSE_SAFE &&
	       (settings->identity == IDENTITY_NONE || identity_is_xforward(settings)) &&
	       settings->hello == BACKEND_HELLO_OWN;
}

bool pool_takes(const struct link *link)
{
	const struct reuse_settings *reuse = &link->backend->settings->reuse;
	uint64_t age_ms = loop_now_ms(link->env->loop) - link->born_ms;

	return link->state == LINK_READY && link->messages < reuse->messages &&
	       link->refusals < POOL_REFUSALS_MAX && age_ms < reuse->age &&
	       link->server->idle < reuse->idle;
}

static void leave_pool(struct link *link)
{
	LIST_REMOVE(link, entry);
	if (link->is_idle)
		server_busy(link->server);
	link->is_idle = false;
}

static void on_ready(void *ctx)
{
	(void)ctx;
	ASSERT(false && "ready before it came to the pool");
}

/* Nothing is under way: whoever comes may have it. */
static void settle(struct link *link)
{
	link->is_idle = true;
	server_idle(link->server);
	link_rest(link, link->env->timeouts->idle);
}

static void on_answered(void *ctx, enum smtp_client_step step, const struct smtp_reply *reply)
{
	struct link *link = ctx;

	if (step == SMTP_CLIENT_RSET && reply->code == 250) {
		settle(link);
		return;
	}
	leave_pool(link);
	link_close(&link);
}

static void on_lost(void *ctx, const struct link_loss *loss)
{
	(void)loss;
	leave_pool(ctx);
}

static void on_turn(void *ctx)
{
	(void)ctx;
}

static void on_rested(void *ctx)
{
	struct link *link = ctx;

	leave_pool(link);
	link_quit(&link);
}

static const struct link_port port = {
	.ready = on_ready,
	.answered = on_answered,
	.lost = on_lost,
	.turn = on_turn,
	.rested = on_rested,
};

void pool_put(struct link **given)
{
	struct link *link = *given;

	*given = NULL;
	link_hand_over(link, &port, link);
	LIST_INSERT_HEAD(&link->server->pool, link, entry);
	if (smtp_client_pending(&link->client) == 0)
		settle(link);
}

/* The server has said nothing that nobody asked for, as far as the loop has seen. A question to the
 * kernel would cover only a small part of the time until the server reads our next command. */
static bool is_silent(const struct link *link)
{
	return smtp_client_is_quiet(&link->client) && !stream_has_input(&link->stream);
}

/* The name of the server may have led elsewhere since. */
static bool is_current(const struct link *link)
{
	return server_is_at(link->server, &link->address);
}

/* Out of the pool, the one used last first. NULL: none is idle. */
static struct link *take_idle(struct server *server)
{
	struct link *link;

	LIST_FOREACH(link, &server->pool, entry)
	if (link->is_idle)
		break;
	if (link != NULL)
		leave_pool(link);
	return link;
}

struct link *pool_take(struct server *server, const struct link_port *owner, void *ctx)
{
	struct link *link;

	while ((link = take_idle(server)) != NULL) {
		if (is_silent(link) && is_current(link)) {
			link_hand_over(link, owner, ctx);
			return link;
		}
		link_close(&link);
	}
	return NULL;
}

void pool_make_room(struct server *server)
{
	uint64_t max = server->settings->max_connections;

	if (max == 0 || server->connections < max)
		return;
	struct link *link = take_idle(server);
	link_close(&link);
}

void pool_distrust(struct server *server)
{
	struct link *link;

	while ((link = take_idle(server)) != NULL)
		link_close(&link);
}

void pool_drop(struct backend *backend)
{
	for (size_t i = 0; i < backend->server_count; i++) {
		struct link *link;
		while ((link = LIST_FIRST(&backend->servers[i].pool)) != NULL) {
			leave_pool(link);
			link_quit(&link);
		}
	}
}
