/*
 * The world as policy checks see it: a clock that stands until it is moved, one timer, and
 * figures that the test sets. And a client's connection to ask about.
 */
#ifndef TEST_SUPPORT_FAKE_SERVICES_H
#define TEST_SUPPORT_FAKE_SERVICES_H

#include <assert.h>
#include <string.h>

#include "policy/run.h"

struct fake_services {
	uint64_t now_ms;
	bool is_armed;
	uint64_t due_ms;
	bool input_is_pending;
	unsigned connections;
	const struct sender_login *sender_login;
	struct ipaddr asked_client; /* of the last connections_of */
};

static inline uint64_t fake_now(void *ctx)
{
	const struct fake_services *fake = ctx;

	return fake->now_ms;
}

static inline void fake_arm(void *ctx, uint64_t ms)
{
	struct fake_services *fake = ctx;

	fake->is_armed = true;
	fake->due_ms = fake->now_ms + ms;
}

static inline void fake_disarm(void *ctx)
{
	struct fake_services *fake = ctx;

	fake->is_armed = false;
}

static inline bool fake_input_is_pending(void *ctx)
{
	const struct fake_services *fake = ctx;

	return fake->input_is_pending;
}

static inline unsigned fake_connections_of(void *ctx, const struct ipaddr *client)
{
	struct fake_services *fake = ctx;

	fake->asked_client = *client;
	return fake->connections;
}

static inline const struct sender_login *fake_sender_login(void *ctx)
{
	const struct fake_services *fake = ctx;

	return fake->sender_login;
}

static const struct policy_services fake_services = {
	.now_ms = fake_now,
	.arm = fake_arm,
	.disarm = fake_disarm,
	.input_is_pending = fake_input_is_pending,
	.connections_of = fake_connections_of,
	.sender_login = fake_sender_login,
};

/* Moves the clock; the timer goes off on the way, as often as it is armed anew. */
static inline void fake_advance(struct fake_services *fake, struct policy_run *run, uint64_t ms)
{
	uint64_t until = fake->now_ms + ms;

	while (fake->is_armed && fake->due_ms <= until) {
		if (fake->due_ms > fake->now_ms)
			fake->now_ms = fake->due_ms;
		fake->is_armed = false;
		policy_run_expired(run);
	}
	fake->now_ms = until;
}

/* A client at `address`, connected now. */
static inline void fake_client(
	struct connection *connection, const struct fake_services *fake, const char *address)
{
	struct endpoint endpoint = { .port = 40000 };
	const struct timespec now = { .tv_sec = 1700000000 };
	bool ok = ipaddr_parse(str_from(address), &endpoint.ip);

	assert(ok);
	(void)ok;
	connection_init(connection, &now, fake->now_ms);
	connection_set_remote(connection, &endpoint);
}

#endif
