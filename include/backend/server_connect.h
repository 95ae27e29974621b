/*
 * Connects to a server, wherever it is: a unix socket, or its addresses in turn until one takes the
 * connection. The time given is for all together; each gets its share of what is left.
 */
#ifndef BACKEND_SERVER_CONNECT_H
#define BACKEND_SERVER_CONNECT_H

#include "backend/server.h"
#include "net/connector.h"

struct server_connect {
	struct server *server;
	struct loop *loop;
	struct connector connector;
	struct endpoint
		address; /* being connected to, then connected to; of a unix socket all zero */
	unsigned addresses_left;
	uint64_t until_ms;
	void (*done)(void *ctx, int fd, const struct err *err);
	void *ctx;
};

/* `done` as of connector_start(): later, from the loop, once. It notes nothing and counts nothing
 * of the server itself: server_acquire() and server_note() are the caller's. */
void server_connect_start(struct server_connect *attempt, struct server *server, struct loop *loop,
	uint64_t timeout_ms, void (*done)(void *ctx, int fd, const struct err *err), void *ctx);
/* Idempotent; also for one that was zeroed and never started. */
void server_connect_cancel(struct server_connect *attempt);

#endif
