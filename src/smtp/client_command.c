#include <inttypes.h>

#include "base/assert.h"
#include "client_priv.h"
#include "proto/dot.h"
#include "proto/smtp_params.h"

/* Keyword, path and parameters: RFC 5321 sections 4.5.3.1.3-4 and the extensions' additions. */
#define COMMAND_MAX 2048

static void put(struct buf *line, struct str text)
{
	bool fits = buf_write(line, text);

	ASSERT(fits);
}

static void send_line(struct smtp_client *client, struct buf *line, enum smtp_client_step step)
{
	put(line, STR("\r\n"));
	client_expect(client, step);
	client->port->send(client->ctx, buf_view(line));
}

/* ---- The session ---------------------------------------------------------------------------- */

static bool is_free(const struct smtp_client *client)
{
	return client->is_ready && !client->is_broken && client->count == 0;
}

static struct str hello_verb(const struct smtp_client *client, enum smtp_client_step step)
{
	if (client->is_lmtp)
		return STR("LHLO ");
	return step == SMTP_CLIENT_EHLO ? STR("EHLO ") : STR("HELO ");
}

void client_send_hello(struct smtp_client *client, enum smtp_client_step step)
{
	BUF_MEMORY char memory[COMMAND_MAX];
	struct buf line = buf_on(memory, sizeof(memory));

	put(&line, hello_verb(client, step));
	put(&line, client->hello);
	send_line(client, &line, step);
}

void smtp_client_hello_again(struct smtp_client *client, struct str hello)
{
	ASSERT(!client->is_broken && client->count == 0);
	client->is_ready = false;
	client->capabilities = (struct smtp_capabilities){ 0 };
	client->hello = hello;
	client_send_hello(client, SMTP_CLIENT_EHLO);
}

void smtp_client_starttls(struct smtp_client *client)
{
	ASSERT(is_free(client));
	client_expect(client, SMTP_CLIENT_STARTTLS);
	client->port->send(client->ctx, STR("STARTTLS\r\n"));
}

void client_send_xclient(struct smtp_client *client)
{
	BUF_MEMORY char memory[XCLIENT_LINE_MAX];
	struct buf line = buf_on(memory, sizeof(memory));

	client->xclient_due = xclient_print(client->identity, client->xclient_due, &line);
	client_expect(client, SMTP_CLIENT_XCLIENT);
	client->port->send(client->ctx, buf_view(&line));
}

bool smtp_client_xclient(struct smtp_client *client, const struct xclient_identity *identity)
{
	ASSERT(is_free(client));
	client->identity = identity;
	client->xclient_due = xclient_attributes(identity, client->capabilities.xclient);
	if (client->xclient_due == 0)
		return false;
	client_send_xclient(client);
	return true;
}

/* A line end in it would be a command of somebody else's. */
static bool is_one_line(struct str line)
{
	return str_find(line, '\r') == line.n && str_find(line, '\n') == line.n;
}

void smtp_client_auth(struct smtp_client *client, struct str line)
{
	ASSERT(is_free(client));
	ASSERT(line.n <= SMTP_CLIENT_AUTH_MAX && is_one_line(line));
	client_expect(client, SMTP_CLIENT_AUTH);
	client->port->send(client->ctx, line);
	client->port->send(client->ctx, STR("\r\n"));
}

void smtp_client_quit(struct smtp_client *client)
{
	ASSERT(smtp_client_can_send(client));
	client_expect(client, SMTP_CLIENT_QUIT);
	client->port->send(client->ctx, STR("QUIT\r\n"));
}

/* ---- The transaction ------------------------------------------------------------------------ */

bool smtp_client_xforward(struct smtp_client *client, const struct xclient_identity *identity)
{
	BUF_MEMORY char memory[XCLIENT_LINE_MAX];
	struct buf line = buf_on(memory, sizeof(memory));

	ASSERT(smtp_client_can_send(client));
	if (client->xforward_due == 0)
		client->xforward_due = client->capabilities.xforward;
	unsigned due = xforward_print(identity, client->xforward_due, &line);
	client_expect(client, SMTP_CLIENT_XFORWARD);
	client->xforward_due = due;
	client->port->send(client->ctx, buf_view(&line));
	return due == 0;
}

void smtp_client_mail(struct smtp_client *client, const struct transaction *transaction)
{
	BUF_MEMORY char memory[COMMAND_MAX];
	struct buf line = buf_on(memory, sizeof(memory));

	ASSERT(smtp_client_can_send(client));
	put(&line, STR("MAIL FROM:<"));
	put(&line, transaction->mail_from.address);
	put(&line, STR(">"));
	smtp_params_print_mail(&transaction->mail_params, client->capabilities.extensions, &line);
	send_line(client, &line, SMTP_CLIENT_MAIL);
}

void smtp_client_rcpt(struct smtp_client *client, const struct recipient *recipient)
{
	BUF_MEMORY char memory[COMMAND_MAX];
	struct buf line = buf_on(memory, sizeof(memory));

	ASSERT(smtp_client_can_send(client));
	put(&line, STR("RCPT TO:<"));
	put(&line, recipient->path.address);
	put(&line, STR(">"));
	smtp_params_print_rcpt(&recipient->params, client->capabilities.extensions, &line);
	send_line(client, &line, SMTP_CLIENT_RCPT);
}

void smtp_client_data(struct smtp_client *client)
{
	ASSERT(smtp_client_can_send(client));
	client_expect(client, SMTP_CLIENT_DATA);
	client->port->send(client->ctx, STR("DATA\r\n"));
}

void smtp_client_dot(struct smtp_client *client)
{
	ASSERT(!client->is_broken && client->count == 0);
	client_expect(client, SMTP_CLIENT_DOT);
	client->port->send(client->ctx, DOT_END);
}

bool smtp_client_can_bdat(const struct smtp_client *client)
{
	if (!smtp_client_can_send(client) || !(client->capabilities.extensions & SMTP_EXT_CHUNKING))
		return false;
	return !client->is_lmtp || (client->count == 0 && client->accepted > 0);
}

/* RFC 3030 section 2: bdat-cmd ::= "BDAT" SP chunk-size [ SP end-marker ] CR LF */
void smtp_client_bdat(struct smtp_client *client, size_t n, bool is_last)
{
	BUF_MEMORY char memory[64];
	struct buf line = buf_on(memory, sizeof(memory));

	ASSERT(smtp_client_can_bdat(client));
	put(&line, STR("BDAT "));
	buf_write_number(&line, n, 0);
	put(&line, is_last ? STR(" LAST") : STR(""));
	send_line(client, &line, is_last ? SMTP_CLIENT_DOT : SMTP_CLIENT_BDAT);
}

void smtp_client_rset(struct smtp_client *client)
{
	ASSERT(smtp_client_can_send(client));
	client_expect(client, SMTP_CLIENT_RSET);
	client->port->send(client->ctx, STR("RSET\r\n"));
}
