#include "smtp/client.h"

#include "base/assert.h"
#include "client_priv.h"
#include "proto/smtp_params.h"

static const struct {
	const char *word;
	bool ends_group; /* RFC 2920 section 3.1; nothing is sent behind it before the answer */
} steps[] = {
	[SMTP_CLIENT_BANNER] = { "banner", true },
	[SMTP_CLIENT_EHLO] = { "EHLO", true },
	[SMTP_CLIENT_HELO] = { "HELO", true },
	[SMTP_CLIENT_STARTTLS] = { "STARTTLS", true },
	[SMTP_CLIENT_XCLIENT] = { "XCLIENT", true },
	[SMTP_CLIENT_AUTH] = { "AUTH", true },
	[SMTP_CLIENT_XFORWARD] = { "XFORWARD", false },
	[SMTP_CLIENT_MAIL] = { "MAIL", false },
	[SMTP_CLIENT_RCPT] = { "RCPT", false },
	[SMTP_CLIENT_DATA] = { "DATA", true },
	[SMTP_CLIENT_BDAT] = { "BDAT", false }, /* RFC 3030 section 4.2 */
	[SMTP_CLIENT_DOT] = { "end of data", true },
	[SMTP_CLIENT_RSET] = { "RSET", false },
	[SMTP_CLIENT_QUIT] = { "QUIT", true },
};

const char *smtp_client_step_word(enum smtp_client_step step)
{
	return steps[step].word;
}

void smtp_client_init(struct smtp_client *client, struct str hello,
	const struct smtp_client_port *port, void *ctx)
{
	*client = (struct smtp_client){ .port = port, .ctx = ctx, .hello = hello };
	buf_init(&client->text, SMTP_REPLY_TEXT_MAX);
	client_expect(client, SMTP_CLIENT_BANNER);
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

static enum smtp_client_step pending_at(const struct smtp_client *client, unsigned i)
{
	ASSERT(i < client->count);
	return client->pending[(client->first + i) % SMTP_CLIENT_WINDOW];
}

enum smtp_client_step smtp_client_step(const struct smtp_client *client)
{
	return pending_at(client, 0);
}

bool smtp_client_can_send(const struct smtp_client *client)
{
	if (client->is_broken || !client->is_ready)
		return false;
	if (client->count == 0)
		return true;
	if (!(client->capabilities.extensions & SMTP_EXT_PIPELINING))
		return false;
	return client->count < SMTP_CLIENT_WINDOW &&
	       !steps[pending_at(client, client->count - 1u)].ends_group;
}

bool smtp_client_is_quiet(const struct smtp_client *client)
{
	return client->is_ready && !client->is_broken && !client->is_early && client->count == 0;
}

void client_expect(struct smtp_client *client, enum smtp_client_step step)
{
	ASSERT(client->count < SMTP_CLIENT_WINDOW);
	client->pending[(client->first + client->count) % SMTP_CLIENT_WINDOW] = (uint8_t)step;
	client->count++;
	if (step != SMTP_CLIENT_XFORWARD)
		client->xforward_due = 0;
}

static void take_pending(struct smtp_client *client)
{
	client->first = (uint8_t)((client->first + 1) % SMTP_CLIENT_WINDOW);
	client->count--;
}

static void break_off(struct smtp_client *client, const char *why, const struct smtp_reply *reply)
{
	client->is_broken = true;
	client->port->broken(client->ctx, why, reply);
}

/* ---- Replies -------------------------------------------------------------------------------- */

static void answered(
	struct smtp_client *client, enum smtp_client_step step, const struct smtp_reply *reply)
{
	client->port->answered(client->ctx, step, reply);
}

static void banner_answered(
	struct smtp_client *client, enum smtp_client_step step, const struct smtp_reply *reply)
{
	if (reply->code == 220)
		client_send_hello(client, SMTP_CLIENT_EHLO);
	else
		answered(client, step, reply);
}

static void hello_answered(
	struct smtp_client *client, enum smtp_client_step step, const struct smtp_reply *reply)
{
	/* RFC 5321 section 3.2: a server that does not know EHLO gets HELO. */
	if (step == SMTP_CLIENT_EHLO && smtp_reply_class(reply) == 5 && !client->is_lmtp) {
		client_send_hello(client, SMTP_CLIENT_HELO);
		return;
	}
	if (smtp_reply_class(reply) == 2) {
		client->is_ready = true;
		if (step == SMTP_CLIENT_EHLO)
			smtp_capabilities_parse(reply, &client->capabilities);
	}
	answered(client, step, reply);
}

/* The server has gone back to before its greeting. */
static void xclient_answered(
	struct smtp_client *client, enum smtp_client_step step, const struct smtp_reply *reply)
{
	if (reply->code == 220)
		client->is_ready = false;
	if (reply->code == 220 && client->xclient_due != 0)
		client_send_xclient(client);
	else
		answered(client, step, reply);
}

/* Never 0: "no enhanced code" is a mark, too. */
static uint32_t mark_of(const struct smtp_reply *reply)
{
	return reply->enhanced.present
		       ? 2 + reply->enhanced.subject * 1000U + reply->enhanced.detail
		       : 1;
}

/*
 * A reply too many in a group would answer what is behind it, and nobody could tell: all say 250. But
 * servers tell by the enhanced code what they answer (RSET 2.0.0, MAIL 2.1.0, RCPT 2.1.5), and say the
 * same to each MAIL. The first one of a connection had nothing of an earlier transaction before it.
 */
static bool is_out_of_step(struct smtp_client *client, const struct smtp_reply *reply)
{
	if (reply->code != 250)
		return false;
	if (client->mail_mark == 0)
		client->mail_mark = mark_of(reply);
	return client->mail_mark != mark_of(reply);
}

static void mail_answered(
	struct smtp_client *client, enum smtp_client_step step, const struct smtp_reply *reply)
{
	client->accepted = 0;
	if (is_out_of_step(client, reply)) {
		break_off(client, "MAIL is not answered as it was before", reply);
		return;
	}
	answered(client, step, reply);
}

static void rcpt_answered(
	struct smtp_client *client, enum smtp_client_step step, const struct smtp_reply *reply)
{
	if (smtp_reply_class(reply) == 2)
		client->accepted++;
	answered(client, step, reply);
}

/* Behind a chunk that was refused there is no transaction, so no recipient to answer for. */
static void bdat_answered(
	struct smtp_client *client, enum smtp_client_step step, const struct smtp_reply *reply)
{
	if (smtp_reply_class(reply) != 2)
		client->accepted = 0;
	answered(client, step, reply);
}

static void (*const on_reply[])(
	struct smtp_client *client, enum smtp_client_step step, const struct smtp_reply *reply) = {
	[SMTP_CLIENT_BANNER] = banner_answered,
	[SMTP_CLIENT_EHLO] = hello_answered,
	[SMTP_CLIENT_HELO] = hello_answered,
	[SMTP_CLIENT_STARTTLS] = answered,
	[SMTP_CLIENT_XCLIENT] = xclient_answered,
	[SMTP_CLIENT_AUTH] = answered,
	[SMTP_CLIENT_XFORWARD] = answered,
	[SMTP_CLIENT_MAIL] = mail_answered,
	[SMTP_CLIENT_RCPT] = rcpt_answered,
	[SMTP_CLIENT_DATA] = answered,
	[SMTP_CLIENT_BDAT] = bdat_answered,
	[SMTP_CLIENT_DOT] = answered,
	[SMTP_CLIENT_RSET] = answered,
	[SMTP_CLIENT_QUIT] = answered,
};

/* RFC 2033 section 4.2: one final reply for each recipient that was accepted; one when none was. */
static bool is_last_reply(struct smtp_client *client)
{
	if (smtp_client_step(client) != SMTP_CLIENT_DOT)
		return true;
	client->final.index = client->finals++;
	client->final.is_last = !client->is_lmtp || client->finals >= client->accepted;
	if (client->final.is_last)
		client->finals = 0;
	return client->final.is_last;
}

/* True: the oldest command has got its last reply. */
static bool reply_arrived(struct smtp_client *client, const struct smtp_reply *reply)
{
	if (client->count == 0 || client->is_early) {
		break_off(client, "a reply that nobody asked for", reply);
		return true;
	}
	enum smtp_client_step step = smtp_client_step(client);
	bool is_last = is_last_reply(client);
	if (is_last)
		take_pending(client);
	on_reply[step](client, step, reply);
	return is_last;
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
		if (reply_arrived(client, &reply) && due > 0)
			due--;
		if (due == 0 && taken < bytes.n && !client->is_broken)
			break_off(client, "bytes behind the reply that was due", NULL);
	}
	return taken;
}
