#include "settings_check.h"

#include <stdio.h>

#include "app/settings.h"
#include "proto/smtp_path.h"

struct conf_node *settings_element(struct conf_node *root, const char *list, size_t index)
{
	struct conf_node *node = conf_node_get(root, list);

	if (node != NULL && conf_node_kind(node) == CONF_KIND_MAP && index == 0)
		return node; /* a list of one */
	return node && conf_node_kind(node) == CONF_KIND_LIST && index < conf_node_count(node)
		       ? conf_node_item(node, index)
		       : NULL;
}

/* Of one of its keys. */
static struct conf_node *element_key(
	struct conf_node *root, const char *list, size_t index, const char *key)
{
	struct conf_node *node = settings_element(root, list, index);

	return node && conf_node_kind(node) == CONF_KIND_MAP ? conf_node_get(node, key) : NULL;
}

/* Does an element of the list have this name? Looks at the file, so that an element with a
 * mistake of its own is not missed. */
static bool is_named(struct conf_node *root, const char *list, struct str name, size_t before)
{
	struct conf_node *node = conf_node_get(root, list);
	size_t count = node && conf_node_kind(node) == CONF_KIND_LIST ? conf_node_count(node) : 0;

	for (size_t i = 0; i < count && i < before; i++) {
		struct conf_node *other = element_key(root, list, i, "name");
		if (other && str_eq(conf_node_scalar(other), name))
			return true;
	}
	return false;
}

static void check_unique_names(struct conf_node *root, const char *list, struct conf_errors *errors)
{
	struct conf_node *node = conf_node_get(root, list);
	size_t count = node && conf_node_kind(node) == CONF_KIND_LIST ? conf_node_count(node) : 0;

	for (size_t i = 0; i < count; i++) {
		struct conf_node *name = element_key(root, list, i, "name");
		if (name && is_named(root, list, conf_node_scalar(name), i))
			conf_error(errors, name, "the name \"%.*s\" is taken",
				STR_ARG(conf_node_scalar(name)));
	}
}

static bool has_plan(struct conf_node *root, struct str name)
{
	struct conf_node *plans = conf_node_get(root, "plans");

	if (plans == NULL || conf_node_kind(plans) != CONF_KIND_MAP)
		return false;
	for (size_t i = 0; i < conf_node_count(plans); i++)
		if (str_eq(conf_node_scalar(conf_node_key(plans, i)), name))
			return true;
	return false;
}

static void check_hostname(
	const struct settings *settings, struct conf_node *root, struct conf_errors *errors)
{
	struct conf_node *node = conf_node_get(root, "hostname");

	if (node && settings->hostname.n > 0 && !smtp_is_host_name(settings->hostname, false))
		conf_error(
			errors, node, "\"%.*s\" is not a host name", STR_ARG(settings->hostname));
}

/* ---- Listeners -------------------------------------------------------------------------------- */

static void check_plan(struct conf_node *root, size_t index, struct conf_errors *errors)
{
	struct conf_node *plan = element_key(root, "listeners", index, "plan");

	if (plan && !has_plan(root, conf_node_scalar(plan)))
		conf_error(errors, plan, "there is no plan \"%.*s\" in plans",
			STR_ARG(conf_node_scalar(plan)));
}

static bool is_bound_before(const struct settings *settings, size_t listener, size_t address)
{
	const struct listener_settings *listeners = settings->listeners.items;
	const struct endpoint *wanted = listeners[listener].bind.items;

	for (size_t i = 0; i <= listener; i++) {
		const struct endpoint *others = listeners[i].bind.items;
		size_t count = i == listener ? address : listeners[i].bind.count;
		for (size_t j = 0; j < count; j++)
			if (others[j].port != 0 && others[j].port == wanted[address].port &&
				ipaddr_eq(&others[j].ip, &wanted[address].ip))
				return true;
	}
	return false;
}

static void check_bind(const struct settings *settings, struct conf_node *root, size_t index,
	struct conf_errors *errors)
{
	const struct listener_settings *listener =
		(const struct listener_settings *)settings->listeners.items + index;
	char text[ENDPOINT_TEXT_MAX];

	for (size_t i = 0; i < listener->bind.count; i++)
		if (is_bound_before(settings, index, i))
			conf_error(errors, element_key(root, "listeners", index, "bind"),
				"%s is bound twice",
				endpoint_print(
					(const struct endpoint *)listener->bind.items + i, text));
}

/*
 * The classic open relay: the balancer's own address counts as one of the networks that may relay.
 * Whenever a client's address is not known (a check without a header, a second balancer in the
 * way), everybody would be that client.
 */
static void check_overlap(const struct settings *settings, struct conf_node *root, size_t index,
	struct conf_errors *errors)
{
	const struct listener_settings *listener =
		(const struct listener_settings *)settings->listeners.items + index;
	const struct ipnet_list *proxies = &listener->trusted_proxies;
	const struct ipnet_list *relays = &settings->relay.networks;
	struct conf_node *place = element_key(root, "listeners", index, "trusted_proxies");
	char proxy[IPNET_TEXT_MAX], relay[IPNET_TEXT_MAX];

	if (listener->proxy == PROXY_MODE_OFF)
		return;
	for (size_t i = 0; i < proxies->count; i++)
		for (size_t j = 0; j < relays->count; j++)
			if (ipnet_overlaps(&proxies->items[i], &relays->items[j]))
				conf_error(errors,
					place ? place : settings_element(root, "listeners", index),
					"trusted_proxies %s overlaps relay.networks %s: whoever "
					"reaches us by way of the balancer could relay anywhere; "
					"take the balancer's address out of relay.networks, or "
					"serve those clients on a listener of their own with "
					"proxy: off",
					ipnet_print(&proxies->items[i], proxy),
					ipnet_print(&relays->items[j], relay));
}

/* Backends without a name are backend1, backend2, …; they get it later. */
static bool is_backend(const struct settings *settings, size_t index, struct str name)
{
	const struct backend_settings *backends = settings->backends.items;
	char text[32];

	if (backends[index].name.n > 0)
		return str_eq(backends[index].name, name);
	int n = snprintf(text, sizeof(text), "backend%zu", index + 1);
	return str_eq(name, str_make(text, (size_t)n));
}

const struct backend_settings *settings_find_backend(
	const struct settings *settings, struct str name)
{
	const struct backend_settings *backends = settings->backends.items;

	for (size_t i = 0; i < settings->backends.count; i++)
		if (is_backend(settings, i, name))
			return &backends[i];
	return NULL;
}

/* Clients' passwords are not sent where everybody could read them. */
static void check_auth_backend(const struct settings *settings, struct conf_node *root,
	size_t index, struct conf_errors *errors)
{
	const struct listener_settings *listener =
		(const struct listener_settings *)settings->listeners.items + index;
	const struct backend_settings *backend =
		settings_find_backend(settings, listener->auth.backend);
	struct conf_node *auth = element_key(root, "listeners", index, "auth");

	if (auth == NULL || listener->auth.backend.n == 0)
		return;
	struct conf_node *at = conf_node_get(auth, "backend");
	if (backend == NULL)
		conf_error(errors, at, "there is no backend \"%.*s\"",
			STR_ARG(listener->auth.backend));
	else if (backend->tls.mode == BACKEND_TLS_OFF && !backend->auth.allow_plaintext)
		conf_error(errors, at,
			"passwords of clients would be sent to %.*s without TLS: it needs "
			"tls.mode: required, implicit or opportunistic, or auth: "
			"{allow_plaintext: yes}",
			STR_ARG(listener->auth.backend));
}

static void check_listeners(
	const struct settings *settings, struct conf_node *root, struct conf_errors *errors)
{
	check_unique_names(root, "listeners", errors);
	for (size_t i = 0; i < settings->listeners.count; i++) {
		check_plan(root, i, errors);
		check_bind(settings, root, i, errors);
		check_overlap(settings, root, i, errors);
		check_auth_backend(settings, root, i, errors);
	}
}

/* Nobody owns more than a /8; much of the Internet is not a network that may relay. */
#define WIDEST_V4 8
#define WIDEST_V6 16
static void check_relay(
	const struct settings *settings, struct conf_node *root, struct conf_errors *errors)
{
	const struct ipnet_list *networks = &settings->relay.networks;
	struct conf_node *relay = conf_node_get(root, "relay");
	char text[IPNET_TEXT_MAX];

	for (size_t i = 0; i < networks->count; i++) {
		const struct ipnet *net = &networks->items[i];
		bool is_v4 = ipaddr_is_v4(&net->ip) && net->prefix >= 96;
		if (net->prefix < (is_v4 ? 96 + WIDEST_V4 : WIDEST_V6))
			conf_error(errors, conf_node_get(relay, "networks"),
				"%s is far more than one organisation has: this would be an open "
				"relay",
				ipnet_print(net, text));
	}
}

/* ---- Routes ----------------------------------------------------------------------------------- */

static void check_route(const struct settings *settings, struct conf_node *root, size_t index,
	struct conf_errors *errors)
{
	struct conf_node *backend = element_key(root, "routes", index, "backend");
	struct conf_node *listeners = element_key(root, "routes", index, "listeners");

	if (backend && settings_find_backend(settings, conf_node_scalar(backend)) == NULL)
		conf_error(errors, backend, "there is no backend \"%.*s\"",
			STR_ARG(conf_node_scalar(backend)));
	if (listeners == NULL || conf_node_kind(listeners) != CONF_KIND_LIST)
		return;
	for (size_t i = 0; i < conf_node_count(listeners); i++) {
		struct conf_node *name = conf_node_item(listeners, i);
		if (!is_named(root, "listeners", conf_node_scalar(name), SIZE_MAX))
			conf_error(errors, name, "there is no listener \"%.*s\"",
				STR_ARG(conf_node_scalar(name)));
	}
}

static void check_routes(
	const struct settings *settings, struct conf_node *root, struct conf_errors *errors)
{
	struct conf_node *routes = conf_node_get(root, "routes");
	size_t count =
		routes && conf_node_kind(routes) == CONF_KIND_LIST ? conf_node_count(routes) : 0;

	check_unique_names(root, "backends", errors);
	if (settings->backends.count > 1 && count == 0)
		conf_error(errors, conf_node_get(root, "backends"),
			"more than one backend needs routes, which say what goes where");
	for (size_t i = 0; i < count; i++)
		check_route(settings, root, i, errors);
}

void settings_check(const void *value, struct conf_node *root, struct conf_errors *errors)
{
	const struct settings *settings = value;

	check_hostname(settings, root, errors);
	check_listeners(settings, root, errors);
	check_relay(settings, root, errors);
	check_routes(settings, root, errors);
	settings_notice(settings, root, errors);
}
