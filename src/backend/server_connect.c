#include "backend/server_connect.h"

static void begin(struct server_connect *attempt);

static void on_done(void *ctx, int fd, const struct err *err)
{
	struct server_connect *attempt = ctx;
	uint64_t now_ms = loop_now_ms(attempt->loop);

	if (fd >= 0) {
		attempt->done(attempt->ctx, fd, err);
		return;
	}
	server_address_failed(attempt->server, &attempt->address, now_ms);
	if (attempt->addresses_left > 0 && now_ms < attempt->until_ms)
		begin(attempt);
	else
		attempt->done(attempt->ctx, -1, err);
}

/* Each address gets its share of what is left, the last one all of it. */
static uint64_t share_ms(const struct server_connect *attempt)
{
	uint64_t now_ms = loop_now_ms(attempt->loop);
	uint64_t left = attempt->until_ms > now_ms ? attempt->until_ms - now_ms : 0;

	return left / attempt->addresses_left;
}

static void begin(struct server_connect *attempt)
{
	struct server *server = attempt->server;
	uint64_t now_ms = loop_now_ms(attempt->loop);
	struct err none;

	if (!server_address(server, now_ms, &attempt->address)) {
		attempt->addresses_left = 0;
		err_set(&none, "the name has no address");
		connector_fail(&attempt->connector, attempt->loop, &none, on_done, attempt);
		return;
	}
	uint64_t ms = share_ms(attempt);
	attempt->addresses_left--;
	connector_start(
		&attempt->connector, attempt->loop, &attempt->address, ms, on_done, attempt);
}

void server_connect_start(struct server_connect *attempt, struct server *server, struct loop *loop,
	uint64_t timeout_ms, void (*done)(void *ctx, int fd, const struct err *err), void *ctx)
{
	*attempt = (struct server_connect){
		.server = server,
		.loop = loop,
		.addresses_left = server->target_count,
		.until_ms = loop_now_ms(loop) + timeout_ms,
		.done = done,
		.ctx = ctx,
	};
	if (server_is_unix(server))
		connector_start_unix(&attempt->connector, loop, server->settings->address.path,
			timeout_ms, on_done, attempt);
	else
		begin(attempt);
}

void server_connect_cancel(struct server_connect *attempt)
{
	connector_cancel(&attempt->connector);
}
