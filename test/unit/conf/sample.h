/*
 * Settings with a row of every kind, for the tests of reading and of the documents, and for the
 * fuzz target.
 */
#ifndef TEST_UNIT_CONF_SAMPLE_H
#define TEST_UNIT_CONF_SAMPLE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/ipaddr.h"
#include "base/str.h"
#include "conf/schema.h"

enum sample_mode { SAMPLE_OFF, SAMPLE_STARTTLS, SAMPLE_IMPLICIT };

/* A step of a plan: a word, or a mapping of one key whose value is a list of networks. */
struct sample_step {
	struct str name;
	struct ipnet_list reject;
};

struct sample_tls {
	int mode;
	struct str certificate;
	struct str password;
};

struct sample_listener {
	struct str name;
	struct conf_list bind; /* struct endpoint */
	struct ipnet_list trusted;
	struct sample_tls tls;
};

struct sample_route {
	struct conf_list domains; /* struct str */
	struct str backend;
	uint64_t weight;
};

struct sample_limits {
	uint64_t message_size;
	uint64_t recipients;
	uint64_t deadline_ms;
	uint64_t pause_ms;
};

struct sample {
	struct str hostname;
	struct str greeting;
	bool is_quiet;
	uint64_t workers;           /* 0: auto */
	struct conf_list listeners; /* struct sample_listener */
	struct conf_list domains;   /* struct str */
	struct conf_list modes;     /* int */
	struct ipnet home;
	struct endpoint metrics;
	struct conf_list plan; /* struct sample_step */
	struct sample_limits limits;
	struct conf_list routes; /* struct sample_route */
	struct str secret;
};

static const char *const sample_modes[] = { "off", "starttls", "implicit", NULL };

static const struct conf_field sample_step_reject = {
	.key = "reject", .type = CONF_NETWORK, .flags = CONF_LIST
};

static const struct conf_field sample_step_name = { .key = "name", .type = CONF_STRING };

static inline void sample_step_read(
	struct conf_node *node, void *value, const void *arg, struct conf_errors *errors)
{
	struct sample_step *step = value;

	(void)arg;
	if (conf_node_kind(node) == CONF_KIND_SCALAR) {
		conf_read_value(node, &sample_step_name, &step->name, errors);
		return;
	}
	if (conf_node_kind(node) != CONF_KIND_MAP || conf_node_count(node) != 1) {
		conf_error(errors, node, "must be a check, or one check with its settings");
		return;
	}
	conf_read_value(conf_node_key(node, 0), &sample_step_name, &step->name, errors);
	conf_read_value(conf_node_item(node, 0), &sample_step_reject, &step->reject, errors);
}

static inline void sample_step_free(void *value, const void *arg)
{
	struct sample_step *step = value;

	(void)arg;
	free((void *)(uintptr_t)step->name.p);
	free(step->reject.items);
}

static inline void sample_step_print(const void *value, const void *arg, struct buf *out)
{
	const struct sample_step *step = value;
	char text[IPNET_TEXT_MAX];

	(void)arg;
	if (step->reject.count == 0) {
		buf_printf(out, "%.*s", STR_ARG(step->name));
		return;
	}
	buf_printf(out, "{%.*s: [", STR_ARG(step->name));
	for (size_t i = 0; i < step->reject.count; i++)
		buf_printf(
			out, "%s\"%s\"", i ? ", " : "", ipnet_print(&step->reject.items[i], text));
	buf_write(out, STR("]}"));
}

static inline void sample_workers_read(
	struct conf_node *node, void *value, const void *arg, struct conf_errors *errors)
{
	static const struct conf_field number = { .type = CONF_NUMBER, .min = 1, .max = 1024 };

	(void)arg;
	if (!str_eq(conf_node_scalar(node), STR("auto")))
		conf_read_value(node, &number, value, errors);
}

static inline void sample_workers_print(const void *value, const void *arg, struct buf *out)
{
	uint64_t workers = *(const uint64_t *)value;

	(void)arg;
	if (workers == 0)
		buf_write(out, STR("auto"));
	else
		buf_printf(out, "%lu", (unsigned long)workers);
}

static inline void sample_tls_accepts(
	const void *value, struct conf_node *node, struct conf_errors *errors)
{
	const struct sample_tls *tls = value;
	struct conf_node *mode = conf_node_get(node, "mode");

	if (tls->mode != SAMPLE_OFF && tls->certificate.n == 0)
		conf_error(errors, mode ? mode : node, "needs a certificate");
}

static const struct conf_field sample_tls_table[] = { { .key = "mode",
							      .type = CONF_ENUM,
							      .offset = offsetof(
								      struct sample_tls, mode),
							      .dflt = "off",
							      .choices = sample_modes,
							      .help = "When TLS begins." },
	{ .key = "certificate",
		.type = CONF_STRING,
		.offset = offsetof(struct sample_tls, certificate),
		.example = "/etc/mx.pem",
		.help = "The certificate chain, as a PEM file." },
	{ .key = "password",
		.type = CONF_STRING,
		.flags = CONF_SECRET,
		.offset = offsetof(struct sample_tls, password),
		.help = "Opens the key." },
	CONF_END };

static const struct conf_field sample_listener_table[] = {
	{ .key = "name",
		.type = CONF_STRING,
		.offset = offsetof(struct sample_listener, name),
		.dflt = "mx",
		.help = "A name for the log." },
	{ .key = "bind",
		.type = CONF_ENDPOINT,
		.flags = CONF_LIST | CONF_REQUIRED,
		.offset = offsetof(struct sample_listener, bind),
		.example = "[\"0.0.0.0:25\", \"[::]:25\"]",
		.help = "Where to listen." },
	{ .key = "trusted_proxies",
		.type = CONF_NETWORK,
		.flags = CONF_LIST,
		.offset = offsetof(struct sample_listener, trusted),
		.dflt = "[127.0.0.0/8, \"::1/128\"]",
		.help = "Networks whose PROXY header is believed." },
	{ .key = "tls",
		.type = CONF_MAP,
		.offset = offsetof(struct sample_listener, tls),
		.fields = sample_tls_table,
		.accepts = sample_tls_accepts,
		.help = "TLS with the client." },
	CONF_END
};

static const struct conf_field sample_route_table[] = {
	{ .key = "domains",
		.type = CONF_DOMAIN,
		.flags = CONF_LIST,
		.offset = offsetof(struct sample_route, domains),
		.help = "Empty: all." },
	{ .key = "backend",
		.type = CONF_STRING,
		.flags = CONF_REQUIRED,
		.offset = offsetof(struct sample_route, backend),
		.example = "mta",
		.help = "Where these go. A help text that is so long that it does not fit into one "
			"line "
			"of the sample and is continued in the next." },
	{ .key = "weight",
		.type = CONF_NUMBER,
		.offset = offsetof(struct sample_route, weight),
		.min = 1,
		.unit = "of 256",
		.help = "Unset: as heavy as the others." },
	CONF_END
};

static const struct conf_field sample_limits_table[] = {
	{ .key = "message_size",
		.type = CONF_SIZE,
		.offset = offsetof(struct sample_limits, message_size),
		.dflt = "25MB",
		.min = 1024,
		.max = 2147483648,
		.help = "The largest message." },
	{ .key = "recipients",
		.type = CONF_NUMBER,
		.offset = offsetof(struct sample_limits, recipients),
		.dflt = "100",
		.min = 1,
		.max = 100000,
		.help = "Recipients of one message. More get a reply | that says so." },
	{ .key = "deadline",
		.type = CONF_DURATION,
		.offset = offsetof(struct sample_limits, deadline_ms),
		.dflt = "5m",
		.min = 1000,
		.max = 3600000,
		.help = "How long a command may take." },
	{ .key = "pause",
		.type = CONF_DURATION,
		.offset = offsetof(struct sample_limits, pause_ms),
		.help = "A pause." },
	CONF_END
};

static const struct conf_field sample_table[] = {
	{ .key = "hostname",
		.type = CONF_DOMAIN,
		.flags = CONF_REQUIRED,
		.offset = offsetof(struct sample, hostname),
		.example = "mx1.example.com",
		.help = "Our name: banner, EHLO reply, Received." },
	{ .key = "greeting",
		.type = CONF_STRING,
		.offset = offsetof(struct sample, greeting),
		.dflt = "ready",
		.help = "Words behind the name in the banner." },
	{ .key = "quiet",
		.type = CONF_BOOL,
		.offset = offsetof(struct sample, is_quiet),
		.dflt = "no",
		.help = "Say less." },
	{ .key = "workers",
		.type = CONF_CUSTOM,
		.offset = offsetof(struct sample, workers),
		.dflt = "auto",
		.element_size = sizeof(uint64_t),
		.read = sample_workers_read,
		.print = sample_workers_print,
		.unit = "number, or auto",
		.schema_json = "{\"anyOf\": [{\"const\": \"auto\"}, {\"type\": \"integer\"}]}",
		.help = "Processes; auto is one per CPU." },
	{ .key = "listeners",
		.type = CONF_MAP,
		.flags = CONF_LIST | CONF_REQUIRED,
		.offset = offsetof(struct sample, listeners),
		.fields = sample_listener_table,
		.element_size = sizeof(struct sample_listener),
		.help = "Where clients come in." },
	{ .key = "domains",
		.type = CONF_DOMAIN,
		.flags = CONF_LIST,
		.offset = offsetof(struct sample, domains),
		.help = "Domains that we take mail for." },
	{ .key = "modes",
		.type = CONF_ENUM,
		.flags = CONF_LIST,
		.offset = offsetof(struct sample, modes),
		.choices = sample_modes,
		.dflt = "[off, implicit]",
		.help = "Ways." },
	{ .key = "home",
		.type = CONF_NETWORK,
		.offset = offsetof(struct sample, home),
		.dflt = "10.0.0.0/8",
		.help = "Our network." },
	{ .key = "metrics",
		.type = CONF_ENDPOINT,
		.offset = offsetof(struct sample, metrics),
		.example = "\"127.0.0.1:9125\"",
		.help = "Where metrics can be fetched." },
	{ .key = "plan",
		.type = CONF_CUSTOM,
		.flags = CONF_LIST,
		.offset = offsetof(struct sample, plan),
		.dflt = "[limits, {client_acl: [198.51.100.0/24]}]",
		.element_size = sizeof(struct sample_step),
		.read = sample_step_read,
		.free = sample_step_free,
		.print = sample_step_print,
		.unit = "steps",
		.help = "The checks, in order." },
	{ .key = "limits",
		.type = CONF_MAP,
		.offset = offsetof(struct sample, limits),
		.fields = sample_limits_table,
		.help = "How much is too much." },
	{ .key = "routes",
		.type = CONF_MAP,
		.flags = CONF_LIST,
		.offset = offsetof(struct sample, routes),
		.fields = sample_route_table,
		.scalar_key = "backend",
		.element_size = sizeof(struct sample_route),
		.help = "Which domains go where." },
	{ .key = "secret",
		.type = CONF_STRING,
		.flags = CONF_SECRET,
		.offset = offsetof(struct sample, secret),
		.help = "A secret." },
	CONF_END
};

#endif
