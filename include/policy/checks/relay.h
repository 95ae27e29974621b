/*
 * relay: who may send to which domain; the reason the edge exists. See docs/policy/relay.md.
 *
 * Its settings are the root section `relay`, which applies to every plan; policy_plan_bind() gives
 * them to the steps. A step that was not bound asserts when it is asked.
 */
#ifndef POLICY_CHECKS_RELAY_H
#define POLICY_CHECKS_RELAY_H

#include <stdbool.h>

#include "base/ipaddr.h"
#include "conf/schema.h"
#include "connection/connection.h"
#include "policy/policy.h"

struct relay_settings {
	struct conf_list domains; /* of struct str: "example.com", ".example.org" for all below */
	struct ipnet_list networks;
};

/* The table of the root section. */
extern const struct conf_field relay_fields[];

extern const struct policy_check relay_check;

/* Grants relaying when remote.ip is in relay.networks; called once the client is known. Never for
 * restricted sessions, and never for a trusted proxy's own address (optional mode, no header). */
void relay_grant_by_network(const struct relay_settings *settings, struct connection *connection);

/* Is `domain` one of ours? Exact, or below an entry with a leading dot. */
bool relay_domain_is_ours(const struct relay_settings *settings, struct str domain);

#endif
