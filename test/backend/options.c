#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

#include "faults.h"

static bool add_to(const char **list, size_t *count, size_t max, const char *value)
{
	if (*count == max)
		return false;
	list[(*count)++] = value;
	return true;
}

static bool add_listen(struct options *options, const char *value)
{
	return add_to(options->listen, &options->listen_count, LISTEN_MAX, value);
}

static bool add_fault(struct options *options, const char *value)
{
	return add_to(options->faults, &options->fault_count, FAULT_OPTIONS_MAX, value);
}

static bool set_auth(struct options *options, const char *value)
{
	options->auth = value;
	return str_find(str_from(value), ':') < str_from(value).n;
}

static bool set_proxy(struct options *options, const char *value)
{
	return proxy_mode_parse(str_from(value), &options->proxy);
}

#define SETTER(name, member, what) \
	static bool name(struct options *options, const char *value) \
	{ \
		(void)value; \
		options->member = what; \
		return true; \
	}
SETTER(set_name, name, value)
SETTER(set_maildir, maildir, value)
SETTER(set_record, record, value)
SETTER(set_extensions, extensions, value)
SETTER(set_fault_file, fault_file, value)
SETTER(set_record_body, records_body, true)
SETTER(set_no_ehlo, has_no_ehlo, true)
SETTER(set_lenient, is_lenient, true)
SETTER(set_lmtp, is_lmtp, true)
SETTER(set_auth_required, requires_auth, true)
SETTER(set_xclient_again, takes_xclient_again, true)
SETTER(set_allow_die, may_die, true)
SETTER(set_die_with_parent, dies_with_parent, true)

static const struct row {
	const char *name;
	const char *argument; /* NULL: takes none */
	bool (*set)(struct options *options, const char *value);
	const char *help;
} rows[] = {
	{ "listen", "ADDRESS:PORT", add_listen,
		"or unix:PATH; repeatable; port 0: any; default 127.0.0.1:0" },
	{ "name", "NAME", set_name, "the name in banner and EHLO reply" },
	{ "maildir", "DIR", set_maildir, "deliver each message into this Maildir, byte for byte" },
	{ "record", "FILE", set_record, "append what happens as JSON lines" },
	{ "record-body", NULL, set_record_body, "with --record: the body, too, in base64" },
	{ "extensions", "LIST", set_extensions,
		"EHLO keywords, as in PIPELINING,SIZE=1000,CHUNKING" },
	{ "no-ehlo", NULL, set_no_ehlo, "answer EHLO with 502" },
	{ "lenient-eod", NULL, set_lenient, "take lone CR and LF for line ends (vulnerable)" },
	{ "lmtp", NULL, set_lmtp, "LMTP: LHLO, a final reply for each recipient" },
	{ "auth", "USER:PASSWORD", set_auth,
		"offer AUTH; AUTH=PLAIN among the extensions: only this mechanism" },
	{ "auth-required", NULL, set_auth_required, "530 before it" },
	{ "xclient-again", NULL, set_xclient_again, "XCLIENT also after one with ADDR" },
	{ "proxy", "MODE", set_proxy, "expect a PROXY header: none, v1, v2 or auto" },
	{ "fault", "FAULT", add_fault, "misbehave; repeatable" },
	{ "fault-file", "FILE", set_fault_file, "faults, one a line; read again on SIGHUP" },
	{ "allow-die", NULL, set_allow_die, "a recipient die… ends the process" },
	{ "die-with-parent", NULL, set_die_with_parent, "end when the starting process ends" },
	{ "help", NULL, NULL, "this text" },
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

static void print_help(void)
{
	char left[64];

	puts("smtp-backend: an SMTP server for tests: discards, records, delivers, misbehaves.\n\n"
	     "Prints {\"listening\":\"ADDRESS:PORT\"} for each address when ready, and a summary "
	     "at the\n"
	     "end (SIGTERM, SIGINT). SIGUSR1 closes all connections. Recipients whose local part\n"
	     "begins with reject, defer, full, slow,\n"
	     "close or die are treated so; dotreject, dotdefer and dotclose at the final "
	     "reply.\n\nOptions:");
	for (size_t i = 0; i < ROWS; i++) {
		const char *argument = rows[i].argument ? rows[i].argument : "";
		snprintf(left, sizeof(left), "--%s %s", rows[i].name, argument);
		printf("  %-26s%s\n", left, rows[i].help);
	}
	faults_print_help(stdout);
	exit(EX_OK);
}

static void read_one(struct options *options, const struct row *row, const char *value)
{
	if (!row->set)
		print_help();
	if (row->set(options, value))
		return;
	fprintf(stderr, "smtp-backend: bad value for --%s: %s\n", row->name, value);
	exit(EX_USAGE);
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
		.name = "backend.example",
		.extensions = "PIPELINING,SIZE=104857600,8BITMIME,SMTPUTF8,DSN,ENHANCEDSTATUSCODES",
	};
	while ((c = getopt_long(argc, argv, "", table, &at)) != -1) {
		if (c != 0)
			exit(EX_USAGE);
		read_one(options, &rows[at], optarg);
	}
	if (optind < argc) {
		fprintf(stderr, "smtp-backend: unexpected argument: %s\n", argv[optind]);
		exit(EX_USAGE);
	}
	if (options->listen_count == 0)
		add_listen(options, "127.0.0.1:0");
}
