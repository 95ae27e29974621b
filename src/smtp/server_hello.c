/*
 * HELO and EHLO (RFC 5321 sections 4.1.1.1 and 4.1.4), and what EHLO offers.
 */
#include <inttypes.h>

#include "connection/results.h"
#include "proto/smtp_params.h"
#include "server_priv.h"

#define HELLO_HOST_MAX 255

/* The extensions that are one word; SIZE and LIMITS have arguments. */
static const struct {
	unsigned extension;
	const char *word;
} offered_words[] = {
	{ SMTP_EXT_PIPELINING, "PIPELINING" },
	{ SMTP_EXT_8BITMIME, "8BITMIME" },
	{ SMTP_EXT_SMTPUTF8, "SMTPUTF8" },
	{ SMTP_EXT_DSN, "DSN" },
	{ SMTP_EXT_ENHANCEDSTATUSCODES, "ENHANCEDSTATUSCODES" },
	{ SMTP_EXT_STARTTLS, "STARTTLS" },
};

static struct verb_check check(
	struct smtp_server *server, struct str argument, const char *verb, enum reply_id syntax)
{
	struct connection *connection = server->connection;
	struct str host = str_cut(&argument, ' ');

	if (host.n == 0 || host.n > HELLO_HOST_MAX)
		return verb_wrong(syntax, STR(""));
	/* Said again and again, the same name takes no more memory. */
	if (str_eq(host, connection->hello.host))
		host = connection->hello.host;
	else if (!arena_str(&connection->arena, host, &host))
		return verb_wrong(REPLY_NO_MEMORY, STR(""));
	server->hello_before = connection->hello;
	connection->hello = (struct hello){ .verb = verb, .host = host };
	return verb_fine();
}

struct verb_check hello_check_helo(struct smtp_server *server, struct str argument)
{
	return check(server, argument, "HELO", REPLY_HELO_SYNTAX);
}

struct verb_check hello_check_ehlo(struct smtp_server *server, struct str argument)
{
	return check(server, argument, "EHLO", REPLY_EHLO_SYNTAX);
}

/* RFC 9422: what we enforce. */
static void print_limits(const struct smtp_server *server, struct buf *text)
{
	const struct smtp_limits *limits = &server->settings->limits;
	uint64_t recipients = server->offer.recipients;

	if (recipients == 0 || recipients > limits->recipients)
		recipients = limits->recipients;
	buf_printf(text, "\nLIMITS RCPTMAX=%" PRIu64 " MAILMAX=%" PRIu64, recipients,
		limits->transactions);
	if (server->offer.one_destination)
		buf_printf(text, " RCPTDOMAINMAX=1");
}

static void reply_ehlo(struct smtp_server *server)
{
	struct buf *out = &server->connection->last_response;
	struct buf text;

	buf_init(&text, 2048);
	buf_write(&text, server->settings->hostname);
	if (server->offer.extensions & SMTP_EXT_SIZE)
		buf_printf(&text, "\nSIZE %" PRIu64, server->offer.size);
	for (size_t i = 0; i < sizeof(offered_words) / sizeof(offered_words[0]); i++)
		if (server->offer.extensions & offered_words[i].extension)
			buf_printf(&text, "\n%s", offered_words[i].word);
	if (server->offer.extensions & SMTP_EXT_AUTH)
		buf_printf(&text, "\nAUTH %.*s", STR_ARG(server->offer.mechanisms));
	if (server->offer.extensions & SMTP_EXT_LIMITS)
		print_limits(server, &text);
	buf_truncate(out, 0);
	smtp_reply_print(out, 250, STR(""), buf_view(&text));
	buf_free(&text);
	server->port->send(server->ctx, buf_view(out));
}

void hello_apply(struct smtp_server *server)
{
	server_abort_transaction(server);
	connection_reset(server->connection, CONNECTION_RESET_HELLO);
	server->connection->esmtp = server->verb == SMTP_VERB_EHLO;
	server_move(server, SMTP_STATE_READY);
	if (server->connection->esmtp) {
		server->offer = server->port->offer(server->ctx);
		reply_ehlo(server);
	} else {
		server->offer = (struct smtp_offer){ 0 };
		server_reply(server, REPLY_HELO, STR(""));
	}
}
