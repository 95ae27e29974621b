/*
 * What a check may ask of the world: a port, given by the session (edge/session.c) and faked in
 * tests. The policy has no socket and no clock of its own.
 */
#ifndef POLICY_SERVICES_H
#define POLICY_SERVICES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/ipaddr.h"

struct sender_login;

struct policy_services {
	/* Monotonic milliseconds. */
	uint64_t (*now_ms)(void *ctx);
	/* Call policy_run_expired() in `ms` from now, once; replaces an earlier wish. */
	void (*arm)(void *ctx, uint64_t ms);
	void (*disarm)(void *ctx);
	/* Has the client sent bytes that nobody asked for yet? */
	bool (*input_is_pending)(void *ctx);
	/* Connections that this client has open now, this one included. */
	unsigned (*connections_of)(void *ctx, const struct ipaddr *client);
	/* What ties senders to users on the client's listener; NULL: nothing does. */
	const struct sender_login *(*sender_login)(void *ctx);
};

#endif
