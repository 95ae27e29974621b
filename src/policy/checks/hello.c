#include "policy/checks/hello.h"

#include "policy/domain_list.h"

enum treatment { TREATMENT_ACCEPT, TREATMENT_REJECT };

struct settings {
	int invalid, fqdn, own_name;
	struct conf_list names;
	struct str hostname;
};

static const char *const treatments[] = { "accept", "reject", NULL };

#define AT(member) .offset = offsetof(struct settings, member)
#define TREATMENT .type = CONF_ENUM, .choices = treatments

static const struct conf_field fields[] = {
	{
		.key = "invalid",
		TREATMENT,
		AT(invalid),
		.dflt = "reject",
		.help = "Names that are neither a host name (underscores are allowed) nor an "
			"address "
			"literal.",
	},
	{
		.key = "fqdn",
		TREATMENT,
		AT(fqdn),
		.dflt = "accept",
		.help = "Names without a dot.",
	},
	{
		.key = "own_name",
		TREATMENT,
		AT(own_name),
		.dflt = "accept",
		.help = "Our own name: hostname, and what `names` lists.",
	},
	{
		.key = "names",
		.type = CONF_DOMAIN,
		.flags = CONF_LIST,
		AT(names),
		.example = "[example.com, .example.org]",
		.help = "More names of ours, for own_name.",
	},
	CONF_END,
};

static void bind_roots(void *settings, const struct policy_roots *roots)
{
	struct settings *step = settings;

	step->hostname = roots->hostname;
}

static bool is_invalid(struct str name)
{
	return !smtp_is_host_name(name, false) && !smtp_is_address_literal(name);
}

static bool lacks_dot(struct str name)
{
	return str_find(name, '.') == name.n && !smtp_is_address_literal(name);
}

static bool is_ours(const struct settings *settings, struct str name)
{
	return str_eq_nocase(name, settings->hostname) || domain_list_holds(&settings->names, name);
}

static struct verdict ask(struct policy_question *question)
{
	const struct settings *settings = question->settings;
	struct str name = question->connection->hello.host;

	if (connection_may_relay(question->connection))
		return verdict_next();
	if (settings->invalid == TREATMENT_REJECT && is_invalid(name))
		return verdict_reject(REPLY_HELLO_INVALID);
	if (settings->fqdn == TREATMENT_REJECT && lacks_dot(name))
		return verdict_reject(REPLY_HELLO_NOT_FQDN);
	if (settings->own_name == TREATMENT_REJECT && is_ours(settings, name))
		return verdict_reject(REPLY_HELLO_OWN_NAME);
	return verdict_next();
}

const struct policy_check hello_check = {
	.name = "hello",
	.stages = 1 << POLICY_HELLO,
	.help = "Refuses clients by the name that they give in HELO or EHLO.",
	.fields = fields,
	.settings_size = sizeof(struct settings),
	.bind = bind_roots,
	.ask = ask,
};
