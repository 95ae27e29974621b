#include "app/topics.h"

#include "app/settings.h"
#include "base/log.h"
#include "conf/schema_doc.h"
#include "connection/connection.h"
#include "connection/ending.h"
#include "connection/reply.h"
#include "policy/plan.h"
#include "smtp/server.h"

static void print_configuration(struct buf *out)
{
	conf_doc_markdown(settings_fields(), out);
}

static void print_sample(struct buf *out)
{
	conf_doc_sample(settings_fields(), out);
}

static void print_schema(struct buf *out)
{
	conf_doc_json_schema(settings_fields(), out);
}

static void print_topics(struct buf *out);

static const struct {
	const char *name, *file, *help;
	void (*print)(struct buf *out);
} topics[] = {
	{ "configuration", "docs/configuration.md", "every setting", print_configuration },
	{ "checks", "docs/policy/checks.md", "the policy checks and their settings",
		policy_print_reference },
	{ "connection", "docs/connection.md", "the connection object and the trace",
		connection_print_reference },
	{ "replies", "docs/replies.md", "every reply we give of ourselves", reply_print_reference },
	{ "endings", "docs/endings.md", "how sessions end", ending_print_reference },
	{ "log-events", "docs/log-events.md", "every event of the log", log_print_reference },
	{ "states", "docs/states.md", "states and verbs of the dialogue",
		smtp_server_print_states },
	{ "sample", "config/gatepost.yaml", "the complete configuration, commented", print_sample },
	{ "schema", "config/gatepost.schema.json", "JSON Schema for editors", print_schema },
	{ "topics", "-", "this list, for scripts: topic and file", print_topics },
};

#define COUNT (sizeof(topics) / sizeof(topics[0]))

/* For scripts: a topic and its file a line. */
static void print_topics(struct buf *out)
{
	for (size_t i = 0; i < COUNT; i++)
		buf_printf(out, "%s %s\n", topics[i].name, topics[i].file);
}

bool topic_print(struct str name, struct buf *out)
{
	for (size_t i = 0; i < COUNT; i++) {
		if (str_eq(name, str_from(topics[i].name))) {
			topics[i].print(out);
			return true;
		}
	}
	return false;
}

void topic_list(struct buf *out)
{
	for (size_t i = 0; i < COUNT; i++)
		buf_printf(
			out, "  %-14s %s (%s)\n", topics[i].name, topics[i].help, topics[i].file);
}
