#include "app/settings.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "net/resolver.h"
#include "policy/checks/sender_login.h"
#include "policy/plan.h"
#include "proto/smtp_path.h"
#include "settings_check.h"

#define MINUTE_MS UINT64_C(60000)
#define WORKERS_MAX 1024

/* ---- workers: auto, or a number --------------------------------------------------------------- */

static void read_workers(
	struct conf_node *node, void *value, const void *arg, struct conf_errors *errors)
{
	struct str text = conf_node_scalar(node);
	uint64_t *workers = value;

	(void)arg;
	if (str_eq(text, STR("auto")))
		*workers = 0;
	else if (!str_to_u64(text, WORKERS_MAX, workers) || *workers == 0)
		conf_error(errors, node, "must be auto, or a number from 1 to %d", WORKERS_MAX);
}

static void print_workers(const void *value, const void *arg, struct buf *out)
{
	const uint64_t *workers = value;

	(void)arg;
	if (*workers == 0)
		buf_printf(out, "auto");
	else
		buf_printf(out, "%" PRIu64, *workers);
}

/* ---- Tables ----------------------------------------------------------------------------------- */

static const char *const log_formats[] = { "json", "postfix", NULL };
static const char *const log_levels[] = { "debug", "info", "warning", "error", NULL };

#define LOGGING(member) offsetof(struct log_settings, member)

static const struct conf_field log_fields[] = {
	{ .key = "format",
		.type = CONF_ENUM,
		.offset = LOGGING(format),
		.dflt = "json",
		.choices = log_formats,
		.help = "json: one object a line. postfix: lines in Postfix's words, for tools "
			"that "
			"read its log (fail2ban, pflogsumm)." },
	{ .key = "level",
		.type = CONF_ENUM,
		.offset = LOGGING(level),
		.dflt = "info",
		.choices = log_levels,
		.help = "The least level that is written. Health checks are logged at debug." },
	{ .key = "target",
		.type = CONF_STRING,
		.offset = LOGGING(target),
		.dflt = "stderr",
		.help = "stderr, or the path of a file. HUP opens the file anew." },
	{ .key = "trace",
		.type = CONF_STRING,
		.offset = LOGGING(trace),
		.example = "/var/log/gatepost/trace.jsonl",
		.help = "A file that gets each finished connection as one line of JSON: the whole "
			"connection object. HUP opens it anew." },
	{ .key = "trace_restricted",
		.type = CONF_BOOL,
		.offset = LOGGING(trace_restricted),
		.dflt = "no",
		.help = "Whether health checks and their like are traced too." },
	CONF_END,
};

#define DNS(member) offsetof(struct dns_settings, member)

static const struct conf_field dns_fields[] = {
	{ .key = "servers",
		.type = CONF_ENDPOINT,
		.flags = CONF_LIST,
		.offset = DNS(servers),
		.example = "[\"127.0.0.1:53\"]",
		.help = "Resolvers. Without them: those of /etc/resolv.conf." },
	{ .key = "timeout",
		.type = CONF_DURATION,
		.offset = DNS(timeout_ms),
		.dflt = "5s",
		.min = 10,
		.max = MINUTE_MS,
		.help = "For a reverse look-up with its confirmation. No session waits for it, "
			"unless a check asks for the name, or a backend's wait_for_name." },
	{ .key = "tries",
		.type = CONF_NUMBER,
		.offset = DNS(tries),
		.dflt = "2",
		.min = 1,
		.max = RESOLVER_TRIES_MAX,
		.help = "How often each server is asked." },
	{ .key = "reverse",
		.type = CONF_BOOL,
		.offset = DNS(reverse),
		.dflt = "yes",
		.help = "Whether the names of clients are looked up at all." },
	CONF_END,
};

#define ROOT(member) offsetof(struct settings, member)

static struct conf_field root_fields[] = {
	{ .key = "hostname",
		.type = CONF_STRING,
		.flags = CONF_REQUIRED,
		.offset = ROOT(hostname),
		.example = "mx1.example.com",
		.help = "Our name in the banner, the EHLO reply and the Received field." },
	{ .key = "workers",
		.type = CONF_CUSTOM,
		.offset = ROOT(workers),
		.dflt = "auto",
		.read = read_workers,
		.print = print_workers,
		.element_size = sizeof(uint64_t),
		.unit = "auto or a number",
		.schema_json = "{\"oneOf\":[{\"const\":\"auto\"},{\"type\":\"integer\","
			       "\"minimum\":1,\"maximum\":1024}]}",
		.help = "Processes; auto is one for each CPU. This version runs one, whatever is "
			"said "
			"here." },
	{ .key = "user",
		.type = CONF_STRING,
		.offset = ROOT(user),
		.example = "gatepost",
		.help = "The user to become once the sockets are bound, when started as root." },
	{ .key = "listeners",
		.type = CONF_MAP,
		.flags = CONF_LIST | CONF_REQUIRED,
		.offset = ROOT(listeners),
		.fields = listener_fields,
		.element_size = sizeof(struct listener_settings),
		.accepts = listener_accepts,
		.help = "Where clients and balancers connect." },
	{ .key = "relay",
		.type = CONF_MAP,
		.offset = ROOT(relay),
		.fields = relay_fields,
		.help = "Who may send to which domain." },
	{ .key = "plans",
		.type = CONF_CUSTOM,
		.offset = ROOT(plans),
		.read = policy_plans_read,
		.free = policy_plans_free,
		.print = policy_plans_print,
		.element_size = sizeof(struct conf_list),
		.unit = "plans by name",
		.example = "\nedge:\n  connect: [limits, {client_acl: {reject: "
			   "[198.51.100.0/24]}}, early_talker]\n  hello: [hello]\n  rcpt: [relay, "
			   "early_talker]",
		.help = "Policy plans: for each stage the checks to ask, in order. See "
			"docs/policy/." },
	{ .key = "backends",
		.type = CONF_MAP,
		.flags = CONF_LIST | CONF_REQUIRED,
		.offset = ROOT(backends),
		.fields = backend_fields,
		.element_size = sizeof(struct backend_settings),
		.accepts = backend_accepts,
		.help = "The mail servers that accepted mail is handed to." },
	{ .key = "routes",
		.type = CONF_MAP,
		.flags = CONF_LIST,
		.offset = ROOT(routes),
		.fields = route_fields,
		.element_size = sizeof(struct route_settings),
		.accepts = route_accepts,
		.help = "Which backend a recipient leads to: the first route of which every "
			"condition "
			"holds; one without conditions always matches. Needed with more than one "
			"backend." },
	{ .key = "limits",
		.type = CONF_MAP,
		.offset = ROOT(limits),
		.fields = limits_fields,
		.help = "Limits on everything a client can do." },
	{ .key = "timeouts",
		.type = CONF_MAP,
		.offset = ROOT(timeouts),
		.fields = timeouts_fields,
		.help = "Every wait has its deadline." },
	{ .key = "dns",
		.type = CONF_MAP,
		.offset = ROOT(dns),
		.fields = dns_fields,
		.help = "Look-ups of clients' names." },
	{ .key = "log",
		.type = CONF_MAP,
		.offset = ROOT(log),
		.fields = log_fields,
		.help = "Log and trace." },
	{ .key = NULL, .accepts = settings_check },
};

const struct conf_field *settings_fields(void)
{
	for (struct conf_field *field = root_fields; field->key != NULL; field++)
		if (field->read == policy_plans_read && field->schema_json == NULL)
			field->schema_json = policy_plans_schema();
	return root_fields;
}

/* ---- Reading ---------------------------------------------------------------------------------- */

static void name_if_nameless(struct str *name, const char *kind, size_t index)
{
	char text[32];

	if (name->n > 0)
		return;
	free((void *)(uintptr_t)name->p);
	int n = snprintf(text, sizeof(text), "%s%zu", kind, index + 1);
	*name = str_make(str_dup(str_make(text, (size_t)n)), (size_t)n);
}

static void give_names(struct settings *settings)
{
	struct listener_settings *listeners = settings->listeners.items;
	struct backend_settings *backends = settings->backends.items;

	for (size_t i = 0; i < settings->listeners.count; i++)
		name_if_nameless(&listeners[i].name, "listener", i);
	for (size_t i = 0; i < settings->backends.count; i++)
		name_if_nameless(&backends[i].name, "backend", i);
}

bool settings_tie_senders(const struct settings *settings, struct str plan)
{
	const struct listener_settings *listeners = settings->listeners.items;

	for (size_t i = 0; i < settings->listeners.count; i++)
		if (listeners[i].auth.sender_login.n > 0 && str_eq(listeners[i].plan, plan))
			return true;
	return false;
}

struct policy_plan *settings_default_plan(const struct settings *settings)
{
	struct policy_plan *plan = policy_plan_default();

	if (settings_tie_senders(settings, STR("")))
		policy_plan_add(plan, POLICY_MAIL, &sender_login_check);
	return plan;
}

/* The step is in every plan that needs it, and `gatepost -p` shows it there. */
static void complete_plans(struct settings *settings)
{
	struct policy_plan *plans = settings->plans.items;

	for (size_t i = 0; i < settings->plans.count; i++)
		if (settings_tie_senders(settings, plans[i].name))
			policy_plan_add(&plans[i], POLICY_MAIL, &sender_login_check);
}

int settings_read(const char *path, bool with_files, struct settings *settings, struct buf *report)
{
	struct conf_field table[sizeof(root_fields) / sizeof(root_fields[0])];

	memcpy(table, settings_fields(), sizeof(table));
	if (with_files)
		table[sizeof(table) / sizeof(table[0]) - 1].accepts = settings_check_files;
	if (conf_read_file(path, table, settings, sizeof(*settings), report) < 0)
		return -1;
	give_names(settings);
	complete_plans(settings);
	return 0;
}

void settings_free(struct settings *settings)
{
	conf_free(settings_fields(), settings, sizeof(*settings));
}
