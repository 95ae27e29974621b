#include "edge/session_log.h"

#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "connection/trace.h"
#include "connection/transaction.h"

/* Recipients named in the record of a transaction; further ones are only counted. */
#define RECIPIENTS_LOGGED 4096
#define FIRST_BYTES_LOGGED 16

struct client_text {
	char ip[IPADDR_TEXT_MAX];
};

static const char *client_ip(const struct connection *connection, struct client_text *text)
{
	return ipaddr_print(&connection->remote.address.ip, text->ip);
}

static struct log_field host_field(const struct connection *connection)
{
	struct str host = connection->remote.host;

	return host.n > 0 && connection->remote.host_confirmed ? log_str("host", host)
							       : log_text("host", NULL);
}

static struct log_field text_or_null(const char *name, struct str value)
{
	return value.n > 0 ? log_str(name, value) : log_text(name, NULL);
}

static struct log_field user_field(const struct connection *connection)
{
	return text_or_null("user", connection->auth ? connection->auth->user : STR(""));
}

static const char *proxy_ip(const struct connection *connection, struct client_text *text)
{
	if (!connection->proxy.has_header)
		return NULL;
	return ipaddr_print(&connection->proxy.address.ip, text->ip);
}

void session_log_connect(const struct connection *connection)
{
	struct client_text client, proxy;

	LOG(CONNECT, log_text("uuid", connection->uuid), log_str("listener", connection->listener),
		log_text("client", client_ip(connection, &client)),
		log_int("client_port", connection->remote.address.port),
		log_text("proxy", proxy_ip(connection, &proxy)));
}

static struct str sender(const struct connection *connection)
{
	return connection->transaction ? connection->transaction->mail_from.address : STR("");
}

static struct str candidate(const struct connection *connection)
{
	const struct transaction *transaction = connection->transaction;

	return transaction && transaction->candidate ? transaction->candidate->path.address
						     : STR("");
}

void session_log_reject(const struct connection *connection, enum policy_stage stage,
	const char *check, struct str reply)
{
	struct client_text client;

	LOG(REJECT, log_text("uuid", connection->uuid), log_str("listener", connection->listener),
		log_text("client", client_ip(connection, &client)),
		log_int("client_port", connection->remote.address.port), host_field(connection),
		text_or_null("hello", connection->hello.host),
		log_text("stage", policy_stage_word(stage)), log_text("check", check),
		log_str("mail_from", sender(connection)), log_str("rcpt", candidate(connection)),
		log_str("reply", reply));
}

/* A view, of `memory` where they are several. */
static struct str list_recipients(const struct transaction *transaction, struct buf *memory)
{
	const struct recipient *recipient = STAILQ_FIRST(&transaction->rcpt_to);

	if (recipient != NULL && STAILQ_NEXT(recipient, link) == NULL)
		return recipient->path.address;
	STAILQ_FOREACH(recipient, &transaction->rcpt_to, link)
	{
		if (buf_used(memory) > 0 && !buf_write(memory, STR(" ")))
			break;
		if (!buf_write(memory, recipient->path.address))
			break;
	}
	return buf_view(memory);
}

void session_log_transaction(const struct connection *connection, uint64_t now_ms)
{
	const struct transaction *transaction = connection->transaction;
	BUF_MEMORY char memory[RECIPIENTS_LOGGED];
	struct buf recipients = buf_on(memory, sizeof(memory));
	struct client_text client;

	if (!log_wants(LOG_TRANSACTION))
		return;
	LOG(TRANSACTION, log_text("uuid", transaction->uuid),
		log_str("listener", connection->listener),
		log_text("client", client_ip(connection, &client)),
		log_int("client_port", connection->remote.address.port), host_field(connection),
		text_or_null("hello", connection->hello.host), user_field(connection),
		log_str("mail_from", transaction->mail_from.address),
		log_str("rcpt", list_recipients(transaction, &recipients)),
		log_int("rcpt_count", (int64_t)transaction->rcpt_count.accept),
		log_text("outcome", outcome_word(transaction->outcome)),
		log_text("by", outcome_by_word(transaction->by)),
		text_or_null("backend", transaction->backend),
		text_or_null("server", transaction->server), log_str("reply", transaction->reply),
		log_int("data_bytes", (int64_t)transaction->data_bytes),
		log_int("ms", (int64_t)(now_ms - transaction->start_ms)));
}

static void log_checker(const struct connection *connection, enum ending ending, uint64_t now_ms)
{
	const struct proxy_info *proxy = &connection->proxy;
	char text[IPADDR_TEXT_MAX];

	LOG(CHECKER, log_text("uuid", connection->uuid), log_str("listener", connection->listener),
		log_text("peer", ipaddr_print(&connection->remote.address.ip, text)),
		log_text("proxy_command", !proxy->has_header                      ? NULL
					  : proxy->command == PROXY_COMMAND_LOCAL ? "LOCAL"
										  : "PROXY"),
		log_text("proxy_family",
			proxy->has_header ? proxy_family_word(proxy->family) : NULL),
		log_text("ending", ending_word(ending)),
		log_int("ms", (int64_t)(now_ms - connection->start_ms)));
}

static void log_client(const struct connection *connection, enum ending ending,
	enum policy_stage stage, uint64_t bytes_in, uint64_t now_ms)
{
	struct client_text client, proxy;
	const struct tls_info *tls = connection->tls;

	LOG(CONNECTION, log_text("uuid", connection->uuid),
		log_str("listener", connection->listener),
		log_text("client", client_ip(connection, &client)),
		log_int("client_port", connection->remote.address.port), host_field(connection),
		log_text("proxy", proxy_ip(connection, &proxy)),
		text_or_null("hello", connection->hello.host), user_field(connection),
		log_bool("relaying", connection->relaying),
		log_bool("early_talker", connection->early_talker),
		text_or_null("tls", tls ? tls->version : STR("")),
		log_int("transactions", (int64_t)connection->tran_count),
		log_int("rcpt_accept", (int64_t)connection->rcpt_count.accept),
		log_int("rcpt_tempfail", (int64_t)connection->rcpt_count.tempfail),
		log_int("rcpt_reject", (int64_t)connection->rcpt_count.reject),
		log_int("msg_accept", (int64_t)connection->msg_count.accept),
		log_int("msg_tempfail", (int64_t)connection->msg_count.tempfail),
		log_int("msg_reject", (int64_t)connection->msg_count.reject),
		log_int("errors", (int64_t)connection->errors),
		log_int("bytes_in", (int64_t)bytes_in),
		log_int("ms", (int64_t)(now_ms - connection->start_ms)),
		log_text("stage", policy_stage_word(stage)),
		log_text("ending", ending_word(ending)));
}

/* One write a line: O_APPEND keeps the lines of several processes apart. A line that cannot be
 * written is lost; mail goes on. */
void session_trace(const struct edge *edge, const struct connection *connection, enum ending ending,
	uint64_t now_ms)
{
	struct buf line;

	buf_init(&line, TRACE_LINE_MAX);
	trace_print(connection, ending_word(ending), now_ms, &line);
	struct str text = buf_view(&line);
	log_flush(); /* whoever is told of a connection by the trace finds it in the log */
	if (write(edge->trace_fd, text.p, text.n) != (ssize_t)text.n)
		LOG(TRACE_LOST, log_text("uuid", connection->uuid));
	buf_free(&line);
}

void session_log_connection(const struct edge *edge, const struct connection *connection,
	enum ending ending, enum policy_stage stage, uint64_t bytes_in, uint64_t now_ms)
{
	if (connection->is_restricted)
		log_checker(connection, ending, now_ms);
	else
		log_client(connection, ending, stage, bytes_in, now_ms);
	if (connection->is_traced)
		session_trace(edge, connection, ending, now_ms);
}

void session_log_refused(const struct intake *intake, const struct endpoint *peer, struct str bytes)
{
	char ip[IPADDR_TEXT_MAX];
	char hex[2 * FIRST_BYTES_LOGGED + 1] = "";
	struct str first = str_range(bytes, 0, FIRST_BYTES_LOGGED);

	for (size_t i = 0; i < first.n; i++)
		snprintf(hex + 2 * i, 3, "%02x", (unsigned char)first.p[i]);
	LOG(PROXY_REFUSED, log_str("listener", intake->settings->name),
		log_text("peer", ipaddr_print(&peer->ip, ip)), log_int("peer_port", peer->port),
		log_text("reason", intake->word), log_text("detail", intake->text),
		log_text("bytes", hex));
}
