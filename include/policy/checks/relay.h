/*
 * relay: who may send to which domain; the reason the edge exists. See docs/relay-policy.md.
 *
 * Settings are the root section `relay`, which applies to every plan: relay_configure() gives
 * them to the check before any connection exists.
 */
#ifndef POLICY_CHECKS_RELAY_H
#define POLICY_CHECKS_RELAY_H

#include <stdbool.h>

#include "base/ipaddr.h"
#include "conf/schema.h"
#include "connection/connection.h"

struct relay_settings {
	struct conf_list domains; /* of struct str: "example.com", ".example.org" for all below */
	struct ipnet_list networks;
};

/* The table of the root section. */
extern const struct conf_field relay_fields[];

/* `settings` must outlive the plans' use. */
void relay_configure(const struct relay_settings *settings);

/* Grants relaying when remote.ip is in relay.networks; called once the client is known. Never for
 * restricted sessions. */
void relay_grant_by_network(struct connection *connection);

/* Is `domain` (lower case) one of ours? Exact, or below an entry with a leading dot. */
bool relay_domain_is_ours(const struct relay_settings *settings, struct str domain);

#endif
