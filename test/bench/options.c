#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

#define CONNECTIONS_MAX 100000
#define SIZE_MAX_BYTES (1024UL * 1024 * 1024)
#define YEAR (365 * 86400)

static bool set_target(struct options *options, struct str value)
{
	return endpoint_parse(value, &options->target);
}

static bool set_proxy(struct options *options, struct str value)
{
	options->proxy = str_eq(value, STR("v1")) ? 1 : str_eq(value, STR("v2")) ? 2 : 0;
	return options->proxy != 0 || str_eq(value, STR("none"));
}

static bool set_workload(struct options *options, struct str value)
{
	const struct workload *workload = workload_find(value);

	if (workload)
		options->workload = *workload;
	return workload != NULL;
}

static bool set_tls(struct options *options, struct str value)
{
	static const char *const modes[] = {
		[LOAD_TLS_NONE] = "none",
		[LOAD_TLS_STARTTLS] = "starttls",
		[LOAD_TLS_IMPLICIT] = "implicit",
	};

	for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (!str_eq(value, str_from(modes[i])))
			continue;
		options->workload.tls = (enum load_tls)i;
		return true;
	}
	return false;
}

static bool set_tls_version(struct options *options, struct str value)
{
	options->workload.tls_version = str_eq(value, STR("1.2")) ? 12 : 13;
	return str_eq(value, STR("1.2")) || str_eq(value, STR("1.3"));
}

static bool set_u32(struct str value, uint64_t max, uint32_t *number)
{
	uint64_t wide;

	if (!str_to_u64(value, max, &wide))
		return false;
	*number = (uint32_t)wide;
	return true;
}

static bool set_connections(struct options *options, struct str value)
{
	return set_u32(value, CONNECTIONS_MAX, &options->workload.connections);
}

static bool set_per_connection(struct options *options, struct str value)
{
	return set_u32(value, ALL_MESSAGES, &options->workload.messages);
}

static bool set_size(struct options *options, struct str value)
{
	return str_to_u64(value, SIZE_MAX_BYTES, &options->workload.size);
}

static bool set_messages(struct options *options, struct str value)
{
	return str_to_u64(value, UINT64_MAX, &options->messages);
}

static bool set_seconds(struct options *options, struct str value)
{
	return str_to_u64(value, YEAR, &options->seconds);
}

static bool set_patience(struct options *options, struct str value)
{
	return str_to_u64(value, YEAR, &options->patience);
}

static bool set_hello(struct options *options, struct str value)
{
	options->hello = value.p;
	return value.n > 0;
}

static bool set_sender(struct options *options, struct str value)
{
	options->sender = value.p;
	return true;
}

static bool add_recipient(struct options *options, struct str value)
{
	if (options->recipient_count == RECIPIENTS_MAX)
		return false;
	options->recipients[options->recipient_count++] = value.p;
	return value.n > 0;
}

static const struct row {
	const char *name;
	const char *argument;
	bool (*set)(struct options *options, struct str value);
	const char *help;
} rows[] = {
	{ "workload", "NAME", set_workload, "what to do; give it before what changes it" },
	{ "target", "ADDRESS:PORT", set_target, "the server" },
	{ "proxy", "VERSION", set_proxy, "send a PROXY header: none, v1 or v2" },
	{ "tls", "MODE", set_tls, "none, starttls or implicit" },
	{ "tls-version", "VERSION", set_tls_version, "1.2 or 1.3 and no other" },
	{ "connections", "N", set_connections, "at a time" },
	{ "per-connection", "N", set_per_connection, "messages on each connection" },
	{ "messages", "N", set_messages, "stop after so many (W5, W6h: connections)" },
	{ "seconds", "N", set_seconds, "stop after, or hold for, so many seconds; default 10" },
	{ "size", "BYTES", set_size, "of each message" },
	{ "rcpt", "ADDRESS", add_recipient, "repeatable; default bench@example.com" },
	{ "from", "ADDRESS", set_sender, "default load@example.net" },
	{ "hello", "NAME", set_hello, "default load.example.net" },
	{ "patience", "SECONDS", set_patience,
		"give up after so long without progress; default 30" },
	{ "help", NULL, NULL, "this text" },
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

static void print_help(void)
{
	char left[64];

	puts("smtp-load: loads an SMTP server and says how it fared, as one line of JSON. Any "
	     "reply that\n"
	     "is not the expected one is an error; with errors the exit code is 1. Those that "
	     "hold\n"
	     "connections print {\"holding\":N} when all are where they should be.\n\n"
	     "Under TLS every certificate is believed, and every handshake is a full one.\n"
	     "Latency is from MAIL to the reply behind the final dot (W5: from connect to that of "
	     "QUIT).\n"
	     "PROXY headers name 198.51.100.1 to .254 in turn as the client.\n\nOptions:");
	for (size_t i = 0; i < ROWS; i++) {
		const char *argument = rows[i].argument ? rows[i].argument : "";
		snprintf(left, sizeof(left), "--%s %s", rows[i].name, argument);
		printf("  %-24s%s\n", left, rows[i].help);
	}
	workload_print_help(stdout);
	exit(EX_OK);
}

_Noreturn static void usage(const char *what, const char *value)
{
	fprintf(stderr, "smtp-load: %s%s\n", what, value);
	exit(EX_USAGE);
}

static void read_one(struct options *options, const struct row *row, const char *value)
{
	if (!row->set)
		print_help();
	if (row->set(options, str_from(value)))
		return;
	fprintf(stderr, "smtp-load: bad value for --%s: ", row->name);
	usage(value, "");
}

static void complete(struct options *options)
{
	if (!options->workload.name)
		usage("--workload is missing", "");
	if (options->target.port == 0)
		usage("--target is missing", "");
	if (options->workload.connections == 0)
		usage("--connections must not be 0", "");
	if (options->recipient_count == 0)
		add_recipient(options, STR("bench@example.com"));
	if (options->seconds == 0 && (options->messages == 0 || options->workload.hold))
		options->seconds = 10;
}

void options_read(struct options *options, int argc, char **argv)
{
	struct option table[ROWS + 1] = { 0 };
	int c, at = 0;

	for (size_t i = 0; i < ROWS; i++) {
		table[i].name = rows[i].name;
		table[i].has_arg = rows[i].argument ? required_argument : no_argument;
	}
	*options = (struct options){
		.sender = "load@example.net", .hello = "load.example.net", .patience = 30
	};
	while ((c = getopt_long(argc, argv, "", table, &at)) != -1) {
		if (c != 0)
			exit(EX_USAGE);
		read_one(options, &rows[at], optarg);
	}
	if (optind < argc)
		usage("unexpected argument: ", argv[optind]);
	complete(options);
}
