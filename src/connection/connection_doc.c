/*
 * docs/connection.md, from the tables; its example is a trace line of the same code that writes
 * the traces.
 */
#include "connection/connection.h"

#include "base/assert.h"
#include "connection/ending.h"
#include "connection/trace.h"
#include "connection/transaction.h"
#include "connection_rows.h"

/* ---- The tables ------------------------------------------------------------------------------ */

static const char *type_word(enum row_type type)
{
	static const char *const words[ROW_TYPE_COUNT] = {
#define ROW(id, word) [ROW_##id] = word,
		ROW_TYPES(ROW)
#undef ROW
	};

	return words[type];
}

static const struct reset {
	enum connection_reset bit;
	const char *word;
} resets[] = {
	{ CONNECTION_RESET_TLS, "STARTTLS" },
	{ CONNECTION_RESET_HELLO, "hello" },
	{ CONNECTION_RESET_RSET, "RSET" },
	{ CONNECTION_RESET_MESSAGE, "end of message" },
};

static void print_resets(unsigned set, struct buf *out)
{
	const char *separator = "";

	if (set == 0)
		buf_write(out, STR("–"));
	for (size_t i = 0; i < sizeof(resets) / sizeof(resets[0]); i++) {
		if (!(set & resets[i].bit))
			continue;
		buf_printf(out, "%s%s", separator, resets[i].word);
		separator = ", ";
	}
}

static void print_row(const struct connection_row *row, struct buf *out)
{
	buf_printf(out, "| `%s` | %s%s | %s | ", row->name, type_word(row->type),
		row->present == ROW_ALWAYS ? "" : " or null", row->known);
	print_resets(row->resets, out);
	buf_printf(out, " | %s |\n", row->help);
}

static void print_connection(struct buf *out)
{
	buf_write(out, STR("# The connection object\n\n"
			   "Everything known about a client, under names that are the same in "
			   "the code, the log, the trace and here.\n\n"
			   "| name | type | known from | reset by | meaning |\n"
			   "|---|---|---|---|---|\n"));
	for (size_t i = 0; i < connection_row_count; i++)
		print_row(&connection_rows[i], out);
}

static const struct field {
	const char *name, *type, *help;
} transaction_fields[] = {
#define TRANSACTION(name, type, help) { #name, type, help },
#include "tables/transaction.def"
#undef TRANSACTION
};

static const struct field event_fields[] = {
	{ "stage", "word", "`CONNECT`, `HELO`, `MAIL`, `RCPT`, `DATA` or `END-OF-MESSAGE`." },
	{ "check", "text or null", "The check that decided; null for the dialogue itself." },
	{ "verdict", "word", "What was decided." },
	{ "reply", "text or null", "The reply that was given." },
	{ "ms", "number", "Milliseconds since the connection was accepted." },
};

static const struct field line_fields[] = {
	{ "transactions", "list of objects",
		"Every transaction that has ended, in order; see above." },
	{ "events", "list of objects", "The decisions, in order; see below." },
	{ "ms", "number", "Milliseconds from accept to close." },
	{ "ending", "word", "How the session ended, of the table of endings." },
};

static void print_fields(const struct field *fields, size_t count, struct buf *out)
{
	buf_write(out, STR("| name | type | meaning |\n|---|---|---|\n"));
	for (size_t i = 0; i < count; i++)
		buf_printf(out, "| `%s` | %s | %s |\n", fields[i].name, fields[i].type,
			fields[i].help);
}

#define PRINT_FIELDS(fields, out) print_fields(fields, sizeof(fields) / sizeof(fields[0]), out)

static void print_transaction(struct buf *out)
{
	buf_write(out, STR("\n## A transaction\n\n"
			   "It exists from an accepted MAIL until the message was handed over or "
			   "refused, RSET, a new HELO or EHLO,\nSTARTTLS or disconnect, and ends "
			   "with exactly one outcome.\n\n"));
	PRINT_FIELDS(transaction_fields, out);
}

static void print_trace(struct buf *out)
{
	buf_write(out, STR("\n## The trace\n\n"
			   "With `log.trace: FILE` each finished connection is one line of JSON: "
			   "the connection object, nested by the\ndots of the names, and behind "
			   "it:\n\n"));
	PRINT_FIELDS(line_fields, out);
	buf_write(out, STR("\nAn event:\n\n"));
	PRINT_FIELDS(event_fields, out);
	buf_printf(out,
		"\nOf `transactions` and `events` at most %d KB each are kept; a list that was cut "
		"ends with\n`{\"cut\":true}`. A line that would exceed %d KB is written without "
		"the "
		"two lists, or with\n`uuid`, `cut`, `ms` and `ending` alone. Bytes that are not "
		"UTF-8 are shown as the characters\nU+0080 to U+00FF. Secrets never enter the "
		"trace.\n",
		CONNECTION_TRACE_MAX / 1024, TRACE_LINE_MAX / 1024);
}

/* ---- The example ----------------------------------------------------------------------------- */

static struct endpoint address(const char *text)
{
	struct endpoint endpoint;
	bool done = endpoint_parse(str_from(text), &endpoint);

	ASSERT(done);
	return endpoint;
}

static void example_intake(struct connection *connection)
{
	const struct proxy_header header = {
		.version = 2,
		.command = PROXY_COMMAND_PROXY,
		.family = PROXY_FAMILY_TCP4,
		.source = address("198.51.100.7:50412"),
		.destination = address("203.0.113.25:25"),
		.has_unique_id = true,
		.unique_id = STR("C0A80001:C4EC"),
		.tlvs = { { .type = 0xe0, .value = STR("eu-1") } },
		.tlv_count = 1,
	};
	struct endpoint balancer = address("10.0.0.2:41830"), own = address("10.0.0.5:25");

	connection->listener = STR("mx");
	connection->proxy.allowed = true;
	connection_set_proxy(connection, &header, &balancer, &own);
	connection_set_remote_host(connection, HOST_OK, STR("mail.example.net"), true);
	connection->local.host = STR("mx1.example.com");
}

static void example_transaction(struct connection *connection)
{
	struct transaction *transaction = transaction_begin(connection, 65536, 94);

	transaction->mail_from = (struct smtp_path){ .original = STR("<anna@example.net>"),
		.user = STR("anna"),
		.host = STR("example.net"),
		.address = STR("anna@example.net") };
	transaction->mail_params = (struct smtp_mail_params){ .has_size = true, .size = 1422 };
	struct recipient *recipient = transaction_candidate(transaction);
	recipient->path = (struct smtp_path){ .original = STR("<Bert@Example.com>"),
		.user = STR("Bert"),
		.host = STR("example.com"),
		.address = STR("Bert@example.com") };
	bool done = transaction_accept_candidate(connection);
	ASSERT(done);
	transaction->data_bytes = connection->total_bytes = 1422;
	transaction->backend = STR("mta");
	transaction->server = STR("10.0.1.10:25");
	results_add(&transaction->results, STR("relay"), RESULT_PASS, STR("RCPT"));
	transaction_end(connection, OUTCOME_ACCEPTED, BY_BACKEND, STR("250 2.0.0 Ok: queued"), 163);
}

static bool is_opening(char c)
{
	return c == '{' || c == '[';
}

static bool is_closing(char c)
{
	return c == '}' || c == ']';
}

static void new_line(struct buf *out, int depth)
{
	buf_printf(out, "\n%*s", 2 * depth, "");
}

/* Breaks and indents the outer objects and arrays, for people. */
static void print_indented(struct str line, struct buf *out)
{
	const int deepest = 2;
	bool in_string = false;
	int depth = 0;

	for (size_t i = 0; i < line.n; i++) {
		char c = line.p[i], next = i + 1 < line.n ? line.p[i + 1] : '\n';

		if (!in_string && is_closing(c))
			depth--;
		buf_write(out, str_make(&c, 1));
		if (c == '"')
			in_string = !in_string;
		if (in_string)
			continue;
		if (is_opening(c))
			depth++;
		bool is_break = is_opening(c) ? !is_closing(next) : c == ',';
		if (is_break && depth <= deepest)
			new_line(out, depth);
		else if (is_closing(next) && depth <= deepest && !is_opening(c))
			new_line(out, depth - 1);
	}
}

static void print_example(struct buf *out)
{
	const struct timespec now = { .tv_sec = 1795338358, .tv_nsec = 123000000 };
	struct connection connection;
	struct buf line;

	connection_init(&connection, &now, 0);
	str_copy_to(STR("6D0C1E7A-52C4-4E0F-9B1D-0F6C9C0E2A11"), connection.uuid,
		sizeof(connection.uuid));
	connection.is_traced = true;
	example_intake(&connection);
	connection.hello = (struct hello){ .verb = "EHLO", .host = STR("mail.example.net") };
	connection.esmtp = true;
	trace_event(&connection, POLICY_CONNECT, "client_acl", "allow", STR(""), 2);
	results_add(&connection.results, STR("client_acl"), RESULT_PASS, STR("CONNECT allow"));
	example_transaction(&connection);
	connection_reset(&connection, CONNECTION_RESET_MESSAGE);
	buf_write(&connection.current_line, STR("QUIT\r\n"));
	buf_write(&connection.last_response, STR("221 2.0.0 Bye\r\n"));

	buf_init(&line, TRACE_LINE_MAX);
	trace_print(&connection, ending_word(ENDING_QUIT), 170, &line);
	buf_write(out, STR("\n## Example\n\nOne line, broken here for reading:\n\n```json\n"));
	print_indented(buf_view(&line), out);
	buf_write(out, STR("```\n"));
	buf_free(&line);
	connection_free(&connection);
}

void connection_print_reference(struct buf *out)
{
	print_connection(out);
	print_transaction(out);
	print_trace(out);
	print_example(out);
}
