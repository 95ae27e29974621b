/* Allowed, but probably not meant. */
#include "policy/checks/sender_login.h"
#include "policy/plan.h"
#include "settings_check.h"

static void notice_workers(
	const struct settings *settings, struct conf_node *root, struct conf_errors *errors)
{
	struct conf_node *workers = conf_node_get(root, "workers");

	if (workers != NULL && settings->workers > 1)
		conf_notice(errors, workers, "this version runs one process");
}

static void notice_relay(
	const struct settings *settings, struct conf_node *root, struct conf_errors *errors)
{
	struct conf_node *relay = conf_node_get(root, "relay");

	if (settings->relay.domains.count == 0 && settings->relay.networks.count == 0)
		conf_notice(errors, relay ? relay : root,
			"relay.domains and relay.networks are empty: every recipient is refused");
}

static void notice_routes(
	const struct settings *settings, struct conf_node *root, struct conf_errors *errors)
{
	const struct route_settings *routes = settings->routes.items;
	size_t count = settings->routes.count;

	if (count > 0 &&
		(routes[count - 1].domains.count > 0 || routes[count - 1].recipients.count > 0 ||
			routes[count - 1].map.n > 0))
		conf_notice(errors, settings_element(root, "routes", count - 1),
			"the last route does not match every recipient; those that match none are "
			"deferred");
}

static bool asks_for_senders(const struct policy_plan *plan)
{
	const struct policy_stage_plan *stage = &plan->stages[POLICY_MAIL];

	for (size_t i = 0; i < stage->count; i++)
		if (stage->steps[i].check == &sender_login_check)
			return true;
	return false;
}

static void notice_plans(
	const struct settings *settings, struct conf_node *root, struct conf_errors *errors)
{
	const struct policy_plan *plans = settings->plans.items;
	struct conf_node *at = conf_node_get(root, "plans");

	for (size_t i = 0; i < settings->plans.count; i++)
		if (asks_for_senders(&plans[i]) && !settings_tie_senders(settings, plans[i].name))
			conf_notice(errors, conf_node_item(at, i),
				"it has sender_login, but none of its listeners has "
				"auth.sender_login, which it asks");
}

/* Whoever can stand in between can take what is sent. */
static void notice_credentials(
	const struct settings *settings, struct conf_node *root, struct conf_errors *errors)
{
	const struct backend_settings *backends = settings->backends.items;

	for (size_t i = 0; i < settings->backends.count; i++) {
		const struct backend_settings *backend = &backends[i];
		if (backend->auth.user.n > 0 && backend->tls.mode != BACKEND_TLS_OFF &&
			backend->tls.verify == TLS_VERIFY_NONE)
			conf_notice(errors, settings_element(root, "backends", i),
				"auth with tls.verify: none: the password is told to whoever "
				"answers");
	}
}

void settings_notice(
	const struct settings *settings, struct conf_node *root, struct conf_errors *errors)
{
	notice_workers(settings, root, errors);
	notice_relay(settings, root, errors);
	notice_routes(settings, root, errors);
	notice_plans(settings, root, errors);
	notice_credentials(settings, root, errors);
}
