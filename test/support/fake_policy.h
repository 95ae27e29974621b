/*
 * The real policy behind a fake_port: the default plan, with relay.domains, and the port's clock.
 * Its one timer is fired by fake_policy_expire().
 */
#ifndef TEST_SUPPORT_FAKE_POLICY_H
#define TEST_SUPPORT_FAKE_POLICY_H

#include <stdio.h>
#include <string.h>

#include "policy/checks/relay.h"
#include "policy/checks/sender_login.h"
#include "policy/run.h"
#include "support/fake_port.h"

#define FAKE_POLICY_DOMAINS_MAX 8

struct fake_policy {
	struct fake_port *port;
	struct policy_plan *plan;
	struct policy_run run;
	struct relay_settings relay;
	struct str domains[FAKE_POLICY_DOMAINS_MAX];
	unsigned connections;        /* of the client */
	struct sender_login senders; /* without owners: not tied */
	struct map *owners;
	char owners_text[1024];
	bool is_armed;
	uint64_t due_ms;
};

static inline uint64_t fake_policy_now(void *ctx)
{
	const struct fake_policy *policy = ctx;

	return policy->port->now_ms;
}

static inline void fake_policy_arm(void *ctx, uint64_t ms)
{
	struct fake_policy *policy = ctx;

	policy->is_armed = true;
	policy->due_ms = policy->port->now_ms + ms;
}

static inline void fake_policy_disarm(void *ctx)
{
	struct fake_policy *policy = ctx;

	policy->is_armed = false;
}

static inline bool fake_policy_input(void *ctx)
{
	const struct fake_policy *policy = ctx;

	return buf_used(&policy->port->input) > 0;
}

static inline unsigned fake_policy_connections(void *ctx, const struct ipaddr *client)
{
	const struct fake_policy *policy = ctx;

	(void)client;
	return policy->connections;
}

static inline const struct sender_login *fake_policy_senders(void *ctx)
{
	const struct fake_policy *policy = ctx;

	return policy->senders.owners ? &policy->senders : NULL;
}

static const struct policy_services fake_policy_services = {
	.now_ms = fake_policy_now,
	.arm = fake_policy_arm,
	.disarm = fake_policy_disarm,
	.input_is_pending = fake_policy_input,
	.connections_of = fake_policy_connections,
	.sender_login = fake_policy_senders,
};

static inline void fake_policy_ask(void *ctx, enum policy_stage stage)
{
	struct fake_policy *policy = ctx;

	policy_run_start(&policy->run, stage);
}

static inline void fake_policy_decided(
	void *ctx, struct verdict verdict, const struct policy_step *step)
{
	struct fake_policy *policy = ctx;

	smtp_server_verdict(&policy->port->server, verdict, step != NULL && step->holds);
}

static inline void fake_policy_init(struct fake_policy *policy, struct fake_port *port)
{
	*policy = (struct fake_policy){ .port = port, .connections = 1 };
	policy->relay.domains.items = policy->domains;
	policy->plan = policy_plan_default();
	struct policy_roots roots = {
		.relay = &policy->relay,
		.hostname = port->settings.hostname,
		.connections_per_client = 20,
	};
	policy_plan_bind(policy->plan, &roots);
	policy_run_init(&policy->run, policy->plan, &port->connection, &fake_policy_services,
		policy, fake_policy_decided, policy);
	policy->run.hostname = port->settings.hostname;
	port->ask = fake_policy_ask;
	port->ask_ctx = policy;
}

/* The text must live as long as the policy. */
static inline void fake_policy_add_domain(struct fake_policy *policy, struct str domain)
{
	if (policy->relay.domains.count == FAKE_POLICY_DOMAINS_MAX)
		fake_port_fail("too many domains", domain);
	policy->domains[policy->relay.domains.count++] = domain;
}

/* A line of auth.sender_login: the sender, and users that may use it. */
static inline void fake_policy_tie_sender(struct fake_policy *policy, struct str line)
{
	size_t n = strlen(policy->owners_text);
	struct err err = { "" };

	snprintf(policy->owners_text + n, sizeof(policy->owners_text) - n, "%.*s\n", STR_ARG(line));
	map_free(&policy->owners);
	policy->owners = map_parse(
		"sender_login", str_from(policy->owners_text), sender_login_accepts, NULL, &err);
	if (policy->owners == NULL)
		fake_port_fail(err.text, line);
	policy->senders.owners = policy->owners;
	policy_plan_add(policy->plan, POLICY_MAIL, &sender_login_check);
}

static inline void fake_policy_expire(struct fake_policy *policy)
{
	policy->port->now_ms = policy->due_ms;
	policy->is_armed = false;
	policy_run_expired(&policy->run);
	fake_port_pump(policy->port);
}

static inline void fake_policy_free(struct fake_policy *policy)
{
	policy_run_cancel(&policy->run);
	policy_plan_free(&policy->plan);
	map_free(&policy->owners);
}

#endif
