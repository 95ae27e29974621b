/*
 * The connection on which the client has authenticated at its backend: for its transactions there it
 * is the only one, as nobody else is to be taken for this client, and the credentials are forgotten.
 */
#include "base/assert.h"
#include "base/log.h"
#include "forward_priv.h"

static void rest(struct forward *forward)
{
	link_rest(forward->bound_link, forward->env->timeouts->idle);
}

static void on_ready(void *ctx)
{
	(void)ctx;
	ASSERT(false && "ready before it came here");
}

/* RSET, behind a transaction. */
static void on_answered(void *ctx, enum smtp_client_step step, const struct smtp_reply *reply)
{
	struct forward *forward = ctx;

	if (step == SMTP_CLIENT_RSET && reply->code == 250) {
		rest(forward);
		return;
	}
	link_close(&forward->bound_link);
	forward->port->auth_lost(forward->ctx);
}

static void on_lost(void *ctx, const struct link_loss *loss)
{
	struct forward *forward = ctx;

	LOG(BACKEND_FAILED, log_text("uuid", forward->connection->uuid),
		log_str("backend", forward->bound->settings->name),
		log_text("server", forward->bound_link->server->name), log_text("step", loss->step),
		log_text("error", loss->why));
	forward->bound_link = NULL;
	forward->port->auth_lost(forward->ctx);
}

static void on_turn(void *ctx)
{
	(void)ctx;
}

/* However long the client thinks: the server has its own patience. */
static void on_rested(void *ctx)
{
	rest(ctx);
}

static const struct link_port port = {
	.ready = on_ready,
	.answered = on_answered,
	.lost = on_lost,
	.turn = on_turn,
	.rested = on_rested,
};

void forward_bind(struct forward *forward, struct link *link)
{
	ASSERT(forward->bound == NULL && forward->destination == NULL);
	forward->bound = link->backend;
	forward->bound_link = link;
	link_pass(link, &port, forward);
	rest(forward);
}

void forward_unbind(struct forward *forward)
{
	ASSERT(forward->destination == NULL);
	forward->bound = NULL;
	link_quit(&forward->bound_link);
}

bool bound_is_used(const struct forward *forward)
{
	return forward->bound != NULL && forward->destination == forward->bound;
}

void bound_take(struct forward *forward, const struct link_port *owner)
{
	ASSERT(forward->link == NULL);
	forward->link = forward->bound_link;
	forward->bound_link = NULL;
	if (forward->link == NULL)
		return;
	link_pass(forward->link, owner, forward);
	link_limit(forward->link, forward->answer_by_ms);
}

void bound_keep(struct forward *forward)
{
	forward->bound_link = forward->link;
	forward->link = NULL;
	if (forward->bound_link == NULL) {
		forward->port->auth_lost(forward->ctx);
		return;
	}
	link_pass(forward->bound_link, &port, forward);
	if (smtp_client_pending(&forward->bound_link->client) == 0)
		rest(forward);
}
