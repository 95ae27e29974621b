#include "policy/checks/client_acl.h"

#include "policy/domain_list.h"

struct settings {
	struct ipnet_list allow, reject, defer;
	struct conf_list reject_hosts;
};

#define AT(member) .offset = offsetof(struct settings, member)

static const struct conf_field fields[] = {
	{
		.key = "allow",
		.type = CONF_NETWORK,
		.flags = CONF_LIST,
		AT(allow),
		.example = "[192.0.2.0/24]",
		.help = "Clients that no later check of the stage is asked about.",
	},
	{
		.key = "reject",
		.type = CONF_NETWORK,
		.flags = CONF_LIST,
		AT(reject),
		.example = "[198.51.100.0/24]",
		.help = "Clients that are refused.",
	},
	{
		.key = "defer",
		.type = CONF_NETWORK,
		.flags = CONF_LIST,
		AT(defer),
		.example = "[203.0.113.0/24]",
		.help = "Clients that are told to try again later.",
	},
	{
		.key = "reject_hosts",
		.type = CONF_DOMAIN,
		.flags = CONF_LIST,
		AT(reject_hosts),
		.example = "[.dynamic.example.net]",
		.help = "Clients that are refused by name; only names that resolve back to the "
			"client "
			"count. The check then waits for the look-up.",
	},
	CONF_END,
};

static struct verdict judge_name(struct policy_question *question)
{
	const struct settings *settings = question->settings;
	const struct remote *remote = &question->connection->remote;

	if (remote->host_status == HOST_PENDING) {
		question->waits_for = POLICY_EVENT_CLIENT_NAME;
		return verdict_pending();
	}
	if (remote->host_status != HOST_OK || !remote->host_confirmed)
		return verdict_next();
	if (domain_list_holds(&settings->reject_hosts, remote->host))
		return verdict_reject(REPLY_CLIENT_REJECTED);
	return verdict_next();
}

static struct verdict ask(struct policy_question *question)
{
	const struct settings *settings = question->settings;
	const struct ipaddr *client = &question->connection->remote.address.ip;

	if (ipnet_list_find(&settings->allow, client))
		return verdict_allow();
	if (ipnet_list_find(&settings->reject, client))
		return verdict_reject(REPLY_CLIENT_REJECTED);
	if (ipnet_list_find(&settings->defer, client))
		return verdict_defer(REPLY_CLIENT_DEFERRED);
	if (settings->reject_hosts.count > 0)
		return judge_name(question);
	return verdict_next();
}

static struct verdict resume(struct policy_question *question, enum policy_event event)
{
	(void)event; /* it waits for one only */
	return judge_name(question);
}

const struct policy_check client_acl_check = {
	.name = "client_acl",
	.stages = 1 << POLICY_CONNECT,
	.help = "Allows, refuses or defers clients by their address or confirmed name.",
	.fields = fields,
	.settings_size = sizeof(struct settings),
	.default_deadline = "5s",
	.default_on_deadline = VERDICT_NEXT,
	.ask = ask,
	.resume = resume,
};
