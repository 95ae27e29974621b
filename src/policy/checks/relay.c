#include "policy/checks/relay.h"

#include "base/assert.h"
#include "policy/domain_list.h"

struct step_settings {
	const struct relay_settings *root;
};

const struct conf_field relay_fields[] = {
	{
		.key = "domains",
		.type = CONF_DOMAIN,
		.flags = CONF_LIST,
		.offset = offsetof(struct relay_settings, domains),
		.example = "[example.com, .example.org]",
		.help = "Domains that everybody may send to. With a leading dot: all domains below "
			"it, but not itself.",
	},
	{
		.key = "networks",
		.type = CONF_NETWORK,
		.flags = CONF_LIST,
		.offset = offsetof(struct relay_settings, networks),
		.example = "[10.9.0.0/16]",
		.help = "Clients that may send to any domain.",
	},
	CONF_END,
};

static void bind_roots(void *settings, const struct policy_roots *roots)
{
	struct step_settings *step = settings;

	step->root = roots->relay;
}

bool relay_domain_is_ours(const struct relay_settings *settings, struct str domain)
{
	return domain_list_holds(&settings->domains, domain);
}

void relay_grant_by_network(const struct relay_settings *settings, struct connection *connection)
{
	if (connection->is_restricted || !connection->remote.is_known)
		return;
	/* No header from a trusted proxy: remote.ip may be the proxy itself, for any client. */
	if (connection->proxy.allowed && !connection->proxy.has_header)
		return;
	/* In a header these are the proxy's own machine or link, or whoever reached us by way of it. */
	if (connection->proxy.has_header && connection->remote.is_local)
		return;
	if (ipnet_list_find(&settings->networks, &connection->remote.address.ip))
		connection_grant_relaying(connection, "relay.networks");
}

/* No connection has such an address on its other side; a header can name it all the same. */
static bool is_possible_client(const struct remote *remote)
{
	const struct ipaddr *ip = &remote->address.ip;

	return !remote->is_known ||
	       !(ipaddr_is_unspecified(ip) || ipaddr_is_multicast(ip) || ipaddr_is_broadcast(ip));
}

/* A source route names the next hop, so it is refused to those who may relay, too. */
static struct verdict ask(struct policy_question *question)
{
	const struct step_settings *step = question->settings;
	const struct connection *connection = question->connection;

	ASSERT(step->root && connection->transaction && connection->transaction->candidate);
	const struct smtp_path *path = &connection->transaction->candidate->path;
	if (!is_possible_client(&connection->remote))
		return verdict_reject(REPLY_IMPOSSIBLE_CLIENT);
	if (path->has_source_route)
		return verdict_reject(REPLY_SOURCE_ROUTE_DENIED);
	if (connection_may_relay(connection) || smtp_path_is_bare_postmaster(path))
		return verdict_next();
	if (!relay_domain_is_ours(step->root, path->host))
		return verdict_reject(REPLY_RELAY_DENIED);
	if (smtp_path_has_routing_local_part(path))
		return verdict_reject(REPLY_ROUTING_DENIED);
	return verdict_next();
}

const struct policy_check relay_check = {
	.name = "relay",
	.stages = 1 << POLICY_RCPT,
	.flags = POLICY_CHECK_MANDATORY,
	.help = "Refuses recipients outside relay.domains unless the client may relay.",
	.settings_size = sizeof(struct step_settings),
	.bind = bind_roots,
	.ask = ask,
};
