#include "smtp/client.h"

#include "base/assert.h"
#include "proto/dot.h"
#include "proto/smtp_params.h"

/* Keyword, path and parameters: RFC 5321 sections 4.5.3.1.3-4 and the extensions' additions. */
#define COMMAND_MAX 2048

void smtp_client_init(struct smtp_client *client, struct str hello,
	const struct smtp_client_port *port, void *ctx)
{
	*client = (struct smtp_client){ .port = port, .ctx = ctx, .hello = hello };
	buf_init(&client->text, SMTP_REPLY_TEXT_MAX);
	client->pending[0] = SMTP_CLIENT_BANNER;
	client->count = 1;
}

void smtp_client_free(struct smtp_client *client)
{
	buf_free(&client->text);
	client->is_broken = true;
}

/* ---- What is under way ---------------------------------------------------------------------- */

unsigned smtp_client_pending(const struct smtp_client *client)
{
	return client->count;
}

enum smtp_client_step smtp_client_step(const struct smtp_client *client)
{
	ASSERT(client->count > 0);
	return client->pending[client->first];
}

bool smtp_client_can_send(const struct smtp_client *client)
{
	if (client->is_broken || !client->is_ready)
		return false;
	if (client->capabilities.extensions & SMTP_EXT_PIPELINING)
		return client->count < SMTP_CLIENT_WINDOW;
	return client->count == 0;
}

static void expect(struct smtp_client *client, enum smtp_client_step step)
{
	ASSERT(client->count < SMTP_CLIENT_WINDOW);
	client->pending[(client->first + client->count) % SMTP_CLIENT_WINDOW] = (uint8_t)step;
	client->count++;
}

static enum smtp_client_step take_pending(struct smtp_client *client)
{
	enum smtp_client_step step = smtp_client_step(client);

	client->first = (uint8_t)((client->first + 1) % SMTP_CLIENT_WINDOW);
	client->count--;
	return step;
}

static void break_off(struct smtp_client *client, const char *why, const struct smtp_reply *reply)
{
	client->is_broken = true;
	client->port->broken(client->ctx, why, reply);
}

/* ---- Commands ------------------------------------------------------------------------------- */

static void send_line(struct smtp_client *client, struct buf *line, enum smtp_client_step step)
{
	bool fits = buf_write(line, STR("\r\n"));

	ASSERT(fits);
	expect(client, step);
	client->port->send(client->ctx, buf_view(line));
	buf_free(line);
}

static void send_word(struct smtp_client *client, struct str word, enum smtp_client_step step)
{
	struct buf line;

	buf_init(&line, COMMAND_MAX);
	buf_write(&line, word);
	send_line(client, &line, step);
}

static void send_hello(struct smtp_client *client, const char *verb, enum smtp_client_step step)
{
	struct buf line;

	buf_init(&line, COMMAND_MAX);
	buf_printf(&line, "%s %.*s", verb, STR_ARG(client->hello));
	send_line(client, &line, step);
}

void smtp_client_starttls(struct smtp_client *client)
{
	ASSERT(client->is_ready && client->count == 0);
	send_word(client, STR("STARTTLS"), SMTP_CLIENT_STARTTLS);
}

void smtp_client_hello_again(struct smtp_client *client)
{
	ASSERT(client->count == 0);
	client->is_ready = false;
	client->capabilities = (struct smtp_capabilities){ 0 };
	send_hello(client, "EHLO", SMTP_CLIENT_EHLO);
}

void smtp_client_mail(struct smtp_client *client, const struct transaction *transaction)
{
	struct buf line;

	ASSERT(smtp_client_can_send(client));
	buf_init(&line, COMMAND_MAX);
	buf_printf(&line, "MAIL FROM:<%.*s>", STR_ARG(transaction->mail_from.address));
	smtp_params_print_mail(&transaction->mail_params, client->capabilities.extensions, &line);
	send_line(client, &line, SMTP_CLIENT_MAIL);
}

void smtp_client_rcpt(struct smtp_client *client, const struct recipient *recipient)
{
	struct buf line;

	ASSERT(smtp_client_can_send(client));
	buf_init(&line, COMMAND_MAX);
	buf_printf(&line, "RCPT TO:<%.*s>", STR_ARG(recipient->path.address));
	smtp_params_print_rcpt(&recipient->params, client->capabilities.extensions, &line);
	send_line(client, &line, SMTP_CLIENT_RCPT);
}

void smtp_client_data(struct smtp_client *client)
{
	ASSERT(smtp_client_can_send(client));
	send_word(client, STR("DATA"), SMTP_CLIENT_DATA);
}

void smtp_client_dot(struct smtp_client *client)
{
	ASSERT(!client->is_broken && client->count == 0);
	expect(client, SMTP_CLIENT_DOT);
	client->port->send(client->ctx, DOT_END);
}

void smtp_client_rset(struct smtp_client *client)
{
	ASSERT(smtp_client_can_send(client));
	send_word(client, STR("RSET"), SMTP_CLIENT_RSET);
}

void smtp_client_quit(struct smtp_client *client)
{
	ASSERT(smtp_client_can_send(client));
	send_word(client, STR("QUIT"), SMTP_CLIENT_QUIT);
}

/* ---- Replies -------------------------------------------------------------------------------- */

static void greet(struct smtp_client *client, const struct smtp_reply *reply)
{
	if (reply->code == 220)
		send_hello(client, "EHLO", SMTP_CLIENT_EHLO);
	else
		client->port->answered(client->ctx, SMTP_CLIENT_BANNER, reply);
}

static void hello_answered(
	struct smtp_client *client, enum smtp_client_step step, const struct smtp_reply *reply)
{
	/* RFC 5321 section 3.2: a server that does not know EHLO gets HELO. */
	if (step == SMTP_CLIENT_EHLO && smtp_reply_class(reply) == 5) {
		send_hello(client, "HELO", SMTP_CLIENT_HELO);
		return;
	}
	if (smtp_reply_class(reply) == 2) {
		client->is_ready = true;
		if (step == SMTP_CLIENT_EHLO)
			smtp_capabilities_parse(reply, &client->capabilities);
	}
	client->port->answered(client->ctx, step, reply);
}

static void reply_arrived(struct smtp_client *client, const struct smtp_reply *reply)
{
	if (client->count == 0 || client->is_early) {
		break_off(client, "a reply that nobody asked for", reply);
		return;
	}
	enum smtp_client_step step = take_pending(client);
	if (step == SMTP_CLIENT_BANNER)
		greet(client, reply);
	else if (step == SMTP_CLIENT_EHLO || step == SMTP_CLIENT_HELO)
		hello_answered(client, step, reply);
	else
		client->port->answered(client->ctx, step, reply);
}

/*
 * Bytes behind the last answer that was due when they came are too early to answer anything sent
 * later: what the owner sends from inside a callback must not be taken for answered by them.
 */
size_t smtp_client_feed(struct smtp_client *client, struct str bytes)
{
	unsigned due = client->count;
	size_t taken = 0;

	while (taken < bytes.n && !client->is_broken) {
		struct smtp_reply reply;
		enum smtp_reply_fault fault = SMTP_REPLY_FINE;
		size_t n = 0;
		int complete = smtp_reply_parse(
			str_from_pos(bytes, taken), &client->text, &reply, &n, &fault);
		if (complete < 0) {
			break_off(client, smtp_reply_fault_text(fault), NULL);
			return bytes.n;
		}
		if (complete == 0) {
			client->is_early = client->is_early || client->count == 0;
			if (bytes.n - taken >= SMTP_CLIENT_INPUT_MAX)
				break_off(client, smtp_reply_fault_text(SMTP_REPLY_TOO_LONG), NULL);
			break;
		}
		taken += n;
		reply_arrived(client, &reply);
		if (due > 0)
			due--;
		if (due == 0 && taken < bytes.n && !client->is_broken)
			break_off(client, "bytes behind the reply that was due", NULL);
	}
	return taken;
}

const char *smtp_client_step_word(enum smtp_client_step step)
{
	static const char *const words[] = {
		[SMTP_CLIENT_BANNER] = "banner",
		[SMTP_CLIENT_EHLO] = "EHLO",
		[SMTP_CLIENT_HELO] = "HELO",
		[SMTP_CLIENT_STARTTLS] = "STARTTLS",
		[SMTP_CLIENT_MAIL] = "MAIL",
		[SMTP_CLIENT_RCPT] = "RCPT",
		[SMTP_CLIENT_DATA] = "DATA",
		[SMTP_CLIENT_DOT] = "end of data",
		[SMTP_CLIENT_RSET] = "RSET",
		[SMTP_CLIENT_QUIT] = "QUIT",
	};

	return words[step];
}
