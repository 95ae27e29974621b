#include "policy/checks/limits.h"

struct settings {
	uint64_t connections_per_client; /* 0: the root's holds */
	struct ipnet_list exempt;
	uint64_t root_connections_per_client; /* 0: no limit */
};

static const struct conf_field fields[] = {
	{
		.key = "connections_per_client",
		.type = CONF_NUMBER,
		.offset = offsetof(struct settings, connections_per_client),
		.dflt = "0",
		.max = 1000000,
		.help = "Connections that one client address may have open at a time. With 0, "
			"limits.connections_per_client holds.",
	},
	{
		.key = "exempt",
		.type = CONF_NETWORK,
		.flags = CONF_LIST,
		.offset = offsetof(struct settings, exempt),
		.example = "[192.0.2.0/24]",
		.help = "Clients without this limit.",
	},
	CONF_END,
};

static void bind_roots(void *settings, const struct policy_roots *roots)
{
	struct settings *step = settings;

	step->root_connections_per_client = roots->connections_per_client;
}

static uint64_t limit_of(const struct settings *settings)
{
	if (settings->connections_per_client > 0)
		return settings->connections_per_client;
	return settings->root_connections_per_client;
}

static struct verdict ask(struct policy_question *question)
{
	const struct settings *settings = question->settings;
	const struct ipaddr *client = &question->connection->remote.address.ip;
	uint64_t limit = limit_of(settings);

	if (limit == 0 || ipnet_list_find(&settings->exempt, client))
		return verdict_next();
	if (question->services->connections_of(question->services_ctx, client) > limit)
		return verdict_hangup(REPLY_TOO_MANY_CONNECTIONS);
	return verdict_next();
}

const struct policy_check limits_check = {
	.name = "limits",
	.stages = 1 << POLICY_CONNECT | 1 << POLICY_MAIL,
	.help = "Hangs up on clients that have too many connections open.",
	.fields = fields,
	.settings_size = sizeof(struct settings),
	.bind = bind_roots,
	.ask = ask,
};
