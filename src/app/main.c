/*
 * gatepost(8): arguments, and what is done with them.
 */
#include <ares.h>
#include <ev.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "app/program.h"
#include "app/settings.h"
#include "app/topics.h"
#include "conf/schema_doc.h"
#include "policy/plan.h"

#define DEFAULT_FILE "/etc/gatepost/gatepost.yaml"
#define REPORT_MAX (256 * 1024)

enum action { ACTION_RUN, ACTION_CHECK, ACTION_PRINT };

static const char usage[] =
	"usage: gatepost [-f FILE]        run in the foreground\n"
	"       gatepost -c [-f FILE]     check the configuration, and the files it names\n"
	"       gatepost -p [-f FILE]     print the settings in force and the policy plans\n"
	"       gatepost -d TOPIC         print a reference page\n"
	"       gatepost -v | -vv         print the version, and those of the libraries\n"
	"FILE is " DEFAULT_FILE " unless given.\n";

static void put(const struct buf *text, FILE *stream)
{
	struct str view = buf_view(text);

	fwrite(view.p, 1, view.n, stream);
}

static int print_version(int detail)
{
	printf("gatepost %s\n", GATEPOST_VERSION);
	if (detail > 1)
		printf("libev %d.%d\n%s\nc-ares %s\n", ev_version_major(), ev_version_minor(),
			OpenSSL_version(OPENSSL_VERSION), ares_version(NULL));
	return EX_OK;
}

static int print_topic(const char *name)
{
	struct buf out;
	int status = EX_OK;

	buf_init(&out, TOPIC_MAX);
	if (topic_print(str_from(name), &out)) {
		put(&out, stdout);
	} else {
		topic_list(&out);
		fprintf(stderr, "gatepost: there is no topic %s; topics:\n", name);
		put(&out, stderr);
		status = EX_USAGE;
	}
	buf_free(&out);
	return status;
}

static void print_plans(const struct settings *settings, struct buf *out)
{
	const struct policy_plan *plans = settings->plans.items;
	struct policy_plan *fallback = settings_default_plan(settings);
	struct buf table;

	buf_init(&table, TOPIC_MAX);
	policy_plan_print(fallback, &table);
	for (size_t i = 0; i < settings->plans.count; i++)
		policy_plan_print(&plans[i], &table);
	struct str rest = buf_view(&table);
	while (rest.n > 0) {
		struct str line = str_cut(&rest, '\n');
		buf_printf(out, "#%s%.*s\n", line.n > 0 ? " " : "", STR_ARG(line));
	}
	buf_free(&table);
	policy_plan_free(&fallback);
}

static void print_settings(const struct settings *settings)
{
	struct buf out;

	buf_init(&out, 2 * TOPIC_MAX);
	conf_doc_effective(settings_fields(), settings, &out);
	buf_printf(&out, "\n# The plans as they are run:\n");
	print_plans(settings, &out);
	put(&out, stdout);
	buf_free(&out);
}

static int act(enum action action, const struct settings *settings, const struct buf *notices)
{
	switch (action) {
	case ACTION_RUN:
		return program_run(settings, buf_view(notices));
	case ACTION_CHECK:
		put(notices, stderr);
		return EX_OK;
	case ACTION_PRINT:
		print_settings(settings);
		return EX_OK;
	}
	return EX_SOFTWARE;
}

static int with_settings(enum action action, const char *file)
{
	struct settings settings;
	struct buf report;

	buf_init(&report, REPORT_MAX);
	int status = EX_CONFIG;
	if (settings_read(file, action == ACTION_CHECK, &settings, &report) == 0) {
		status = act(action, &settings, &report);
		settings_free(&settings);
	} else {
		put(&report, stderr);
	}
	buf_free(&report);
	return status;
}

int main(int argc, char **argv)
{
	enum action action = ACTION_RUN;
	const char *file = DEFAULT_FILE, *topic = NULL;
	int version = 0, option;

	while ((option = getopt(argc, argv, "f:cpd:vh")) != -1) {
		switch (option) {
		case 'f':
			file = optarg;
			break;
		case 'c':
			action = ACTION_CHECK;
			break;
		case 'p':
			action = ACTION_PRINT;
			break;
		case 'd':
			topic = optarg;
			break;
		case 'v':
			version++;
			break;
		case 'h':
			fputs(usage, stdout);
			return EX_OK;
		default:
			fputs(usage, stderr);
			return EX_USAGE;
		}
	}
	if (optind < argc) {
		fputs(usage, stderr);
		return EX_USAGE;
	}
	if (version > 0)
		return print_version(version);
	if (topic != NULL)
		return print_topic(topic);
	return with_settings(action, file);
}
