/*
 * The dialogue with a backend: the input is what the server sends and when its owner sends commands.
 *
 *	00-7f  the server sends the next 1-128 bytes of the input
 *	80-8f  … a usual reply, of `replies`
 *	90-9b  the owner sends MAIL, RCPT, DATA, the dot, RSET, QUIT, STARTTLS, XCLIENT, AUTH,
 *	       XFORWARD, a chunk, the last chunk, where it may
 *	a0-ab  … from inside the next answer
 *	b0     the owner says hello again, where it may
 *	b1     … has a client of many words, or one of few
 *	b2     LMTP, before anything else
 *	c0-cf  the server sends a reply to EHLO, of `offers`
 *	others nothing
 *
 * What must hold: each answer belongs to the oldest command under way, and not one byte of it was
 * there before that command was sent. A final answer has as many replies as its transaction has
 * recipients, with LMTP. Behind a command that ends a group nothing is sent. Nothing is told or sent
 * after the dialogue broke.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "proto/smtp_params.h"
#include "smtp/client.h"

#define COMMANDS_MAX 8192

static const char *const replies[16] = {
	"220 mta\r\n",
	"250 Ok\r\n",
	"250-mta\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-DSN\r\n250 SIZE 99\r\n",
	"354 go\r\n",
	"421 bye\r\n",
	"550 5.1.1 no\r\n",
	"250-a\r\n",
	"250 b\r\n",
	"2",
	"50 Ok\r\n",
	"\r\n",
	"\n",
	"502 what\r\n",
	"250 a\r\n250 b\r\n250 c\r\n",
	"221 bye\r\n",
	"999 x\r\n",
};

#define OFFER(words) "250-mta\r\n250-PIPELINING\r\n250 " words "\r\n"

static const char *const offers[16] = {
	OFFER("XCLIENT NAME ADDR PORT PROTO HELO LOGIN REVERSE_NAME DESTADDR DESTPORT SESSION"),
	OFFER("XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"),
	OFFER("CHUNKING"),
	"250-mta\r\n250-XCLIENT ADDR\r\n250 XFORWARD ADDR\r\n",
	"250-mta\r\n250-XCLIENT NAME HELO LOGIN SESSION\r\n250 XFORWARD NAME HELO\r\n",
	"250-mta\r\n250-XCLIENT SESSION\r\n250 XFORWARD\r\n",
};

static const struct endpoint address = {
	.ip.bytes = { 0x20, 1, 0xd, 0xb8, [15] = 1 },
	.port = 25,
};

struct world {
	struct smtp_client client;
	struct buf stream;  /* everything the server sent */
	size_t fed;         /* of it, taken by the client */
	size_t arrived;     /* of it, there when the client was last fed */
	size_t reply_start; /* of the reply that is due */
	enum smtp_client_step sent[COMMANDS_MAX];
	size_t sent_at[COMMANDS_MAX]; /* how much had arrived */
	size_t sent_count, answered;
	bool is_broken;
	bool sends_inside;
	unsigned inside;           /* what to send from inside the next answer */
	unsigned accepted, finals; /* recipients of the transaction, final replies to it */
	bool is_hello_again, is_owner_sending;
	struct xclient_identity identity;
};

static void owner_sends(struct world *world, unsigned what);

/* The owner's own count of what LMTP owes, from the answers alone. */
static bool is_whole_answer(
	struct world *world, enum smtp_client_step step, const struct smtp_reply *reply)
{
	bool is_fine = smtp_reply_class(reply) == 2;

	if (step == SMTP_CLIENT_MAIL || (step == SMTP_CLIENT_BDAT && !is_fine))
		world->accepted = 0;
	if (step == SMTP_CLIENT_RCPT && is_fine)
		world->accepted++;
	if (step != SMTP_CLIENT_DOT)
		return true;
	ASSERT(world->client.final.index == world->finals);
	bool is_last = !world->client.is_lmtp || ++world->finals >= world->accepted;
	ASSERT(world->client.final.is_last == is_last);
	if (is_last)
		world->finals = 0;
	return is_last;
}

static void expect(struct world *world, enum smtp_client_step step)
{
	ASSERT(world->sent_count < COMMANDS_MAX);
	world->sent[world->sent_count] = step;
	world->sent_at[world->sent_count++] = world->arrived;
}

/* The reply to the oldest command: it is the next in the stream. */
static void check_reply(struct world *world, enum smtp_client_step step)
{
	struct smtp_reply reply;
	bool is_whole;
	struct buf text;
	enum smtp_reply_fault fault;
	size_t taken;

	buf_init(&text, SMTP_REPLY_TEXT_MAX);
	ASSERT(smtp_reply_parse(str_from_pos(buf_view(&world->stream), world->reply_start), &text,
		       &reply, &taken, &fault) == 1);
	is_whole = is_whole_answer(world, step, &reply);
	buf_free(&text);
	ASSERT(world->answered < world->sent_count && world->sent[world->answered] == step);
	ASSERT(world->reply_start >= world->sent_at[world->answered]);
	world->reply_start += taken;
	world->answered += is_whole;
}

static void on_send(void *ctx, struct str bytes)
{
	struct world *world = ctx;

	ASSERT(!world->is_broken && bytes.n >= 2);
	if (smtp_client_step(&world->client) == SMTP_CLIENT_AUTH)
		return;
	ASSERT(bytes.p[bytes.n - 2] == '\r' && bytes.p[bytes.n - 1] == '\n');
	ASSERT(str_find(bytes, '\n') == bytes.n - 1);
	/* The greeting answers what came before by itself, and so does XCLIENT but for the last. */
	if (str_starts_with(bytes, world->client.is_lmtp ? STR("LHLO") : STR("EHLO"))) {
		if (!world->is_hello_again)
			check_reply(world, SMTP_CLIENT_BANNER);
		expect(world, SMTP_CLIENT_EHLO);
	} else if (str_starts_with(bytes, STR("XCLIENT"))) {
		ASSERT(bytes.n <= XCLIENT_LINE_MAX);
		if (!world->is_owner_sending)
			check_reply(world, SMTP_CLIENT_XCLIENT);
		expect(world, SMTP_CLIENT_XCLIENT);
	} else if (str_starts_with(bytes, STR("HELO"))) {
		ASSERT(!world->client.is_lmtp);
		check_reply(world, SMTP_CLIENT_EHLO);
		expect(world, SMTP_CLIENT_HELO);
	}
}

static void on_answered(void *ctx, enum smtp_client_step step, const struct smtp_reply *reply)
{
	struct world *world = ctx;
	bool sends = world->sends_inside;

	ASSERT(!world->is_broken && reply->code >= 200 && reply->code < 600);
	check_reply(world, step);
	world->sends_inside = false;
	if (sends)
		owner_sends(world, world->inside);
}

static void on_broken(void *ctx, const char *why, const struct smtp_reply *reply)
{
	struct world *world = ctx;

	ASSERT(!world->is_broken && why != NULL);
	ASSERT(reply == NULL || reply->code >= 200);
	world->is_broken = true;
}

static const struct smtp_client_port port = {
	.send = on_send,
	.answered = on_answered,
	.broken = on_broken,
};

static const struct command {
	enum smtp_client_step step;
	unsigned needs;    /* of the extensions */
	bool must_be_free; /* nothing may be pending */
} commands[] = {
	{ SMTP_CLIENT_MAIL, 0, false }, { SMTP_CLIENT_RCPT, 0, false },
	{ SMTP_CLIENT_DATA, 0, false }, { SMTP_CLIENT_DOT, 0, true },
	{ SMTP_CLIENT_RSET, 0, false }, { SMTP_CLIENT_QUIT, 0, false },
	{ SMTP_CLIENT_STARTTLS, 0, true }, { SMTP_CLIENT_XCLIENT, SMTP_EXT_XCLIENT, true },
	{ SMTP_CLIENT_AUTH, 0, true }, { SMTP_CLIENT_XFORWARD, SMTP_EXT_XFORWARD, false },
	{ SMTP_CLIENT_BDAT, SMTP_EXT_CHUNKING, false },
	{ SMTP_CLIENT_DOT, SMTP_EXT_CHUNKING, false }, /* BDAT LAST */
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))
#define BDAT_LAST (COMMANDS - 1)

static bool may_send(const struct world *world, const struct command *command)
{
	const struct smtp_client *client = &world->client;

	if (!smtp_client_can_send(client) || world->sent_count == COMMANDS_MAX)
		return false;
	if ((client->capabilities.extensions & command->needs) != command->needs)
		return false;
	if (command->needs == SMTP_EXT_CHUNKING && !smtp_client_can_bdat(client))
		return false;
	return !command->must_be_free || smtp_client_pending(client) == 0;
}

/* Nothing is sent behind the end of a group. */
static void check_group(const struct world *world)
{
	static const unsigned in_group = 1u << SMTP_CLIENT_MAIL | 1u << SMTP_CLIENT_RCPT |
					 1u << SMTP_CLIENT_RSET | 1u << SMTP_CLIENT_XFORWARD |
					 1u << SMTP_CLIENT_BDAT;

	ASSERT(world->sent_count == world->answered ||
		(in_group & 1u << world->sent[world->sent_count - 1]));
}

static void send_envelope(struct world *world, enum smtp_client_step step)
{
	struct transaction transaction = { .mail_from.address = STR_INIT("a@example.org") };
	struct recipient recipient = { .path.address = STR_INIT("b@example.com") };

	if (step == SMTP_CLIENT_MAIL)
		smtp_client_mail(&world->client, &transaction);
	else
		smtp_client_rcpt(&world->client, &recipient);
}

static void send_command(struct world *world, enum smtp_client_step step)
{
	struct smtp_client *client = &world->client;

	switch (step) {
	case SMTP_CLIENT_MAIL:
	case SMTP_CLIENT_RCPT:
		send_envelope(world, step);
		break;
	case SMTP_CLIENT_DATA:
		smtp_client_data(client);
		break;
	case SMTP_CLIENT_DOT:
		smtp_client_dot(client);
		break;
	case SMTP_CLIENT_RSET:
		smtp_client_rset(client);
		break;
	case SMTP_CLIENT_STARTTLS:
		smtp_client_starttls(client);
		break;
	case SMTP_CLIENT_XCLIENT:
		smtp_client_xclient(client, &world->identity);
		break;
	case SMTP_CLIENT_AUTH:
		smtp_client_auth(client, STR("AUTH LOGIN"));
		break;
	case SMTP_CLIENT_XFORWARD:
		smtp_client_xforward(client, &world->identity);
		break;
	case SMTP_CLIENT_BDAT:
		smtp_client_bdat(client, 10, false);
		break;
	default:
		smtp_client_quit(client);
	}
}

static void owner_sends(struct world *world, unsigned what)
{
	if (what >= COMMANDS || !may_send(world, &commands[what]))
		return;
	check_group(world);
	world->is_owner_sending = true;
	/* XCLIENT is expected where it is sent, as there may be nothing to say. */
	if (commands[what].step != SMTP_CLIENT_XCLIENT)
		expect(world, commands[what].step);
	if (what == BDAT_LAST)
		smtp_client_bdat(&world->client, 0, true);
	else
		send_command(world, commands[what].step);
	world->is_owner_sending = false;
}

static void owner_says_hello(struct world *world)
{
	if (world->is_broken || smtp_client_pending(&world->client) > 0 ||
		world->sent_count == COMMANDS_MAX)
		return;
	world->is_hello_again = true;
	smtp_client_hello_again(&world->client, STR("client.example"));
	world->is_hello_again = false;
}

/* A client of many words takes more than one XCLIENT or XFORWARD. */
static void change_identity(struct world *world)
{
	static char many[250];
	bool is_large = world->identity.name.n == 0;

	memset(many, 'x', sizeof(many));
	for (size_t i = 50; i < sizeof(many); i += 50)
		many[i] = '.';
	world->identity = (struct xclient_identity){
		.name = { many, is_large ? sizeof(many) : 0 },
		.reverse_name = { many, is_large ? sizeof(many) : 0 },
		.hello = { many, is_large ? sizeof(many) : 1 },
		.login = { many, is_large ? sizeof(many) : 1 },
		.address = &address,
	};
}

static void server_sends(struct world *world, struct str bytes)
{
	if (world->is_broken || !buf_write(&world->stream, bytes))
		return;
	world->arrived = buf_used(&world->stream);
	struct str rest = str_from_pos(buf_view(&world->stream), world->fed);
	char *copy = malloc(rest.n + 1);
	memcpy(copy, rest.p, rest.n);
	size_t taken = smtp_client_feed(&world->client, str_make(copy, rest.n));
	free(copy);
	ASSERT(taken <= rest.n);
	world->fed += taken;
	ASSERT(world->is_broken == world->client.is_broken);
	/* The owner's buffer never fills up. */
	ASSERT(world->is_broken || rest.n - taken < SMTP_CLIENT_INPUT_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void owner_does(struct world *world, uint8_t op)
{
	if (op >= 0x90 && op < 0xa0)
		owner_sends(world, op & 15u);
	else if (op == 0xb0)
		owner_says_hello(world);
	else if (op == 0xb1 && smtp_client_pending(&world->client) == 0)
		change_identity(world);
	else if (op == 0xb2 && world->arrived == 0)
		world->client.is_lmtp = true;
	if (op < 0xa0 || op >= 0xb0)
		return;
	world->sends_inside = true;
	world->inside = op & 15u;
}

static void check_pending(const struct world *world)
{
	ASSERT(smtp_client_pending(&world->client) <= SMTP_CLIENT_WINDOW);
	if (world->is_broken)
		return;
	ASSERT(smtp_client_pending(&world->client) == world->sent_count - world->answered);
	ASSERT(!smtp_client_is_quiet(&world->client) || world->arrived == world->fed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world world;

	memset(&world, 0, sizeof(world));
	buf_init(&world.stream, 1 << 20);
	smtp_client_init(&world.client, STR("mx.example.net"), &port, &world);
	expect(&world, SMTP_CLIENT_BANNER);
	change_identity(&world);
	change_identity(&world);
	for (size_t i = 0; i < size && i < COMMANDS_MAX / 2;) {
		uint8_t op = data[i++];
		size_t n = op + 1u < size - i ? op + 1u : size - i;
		if (op < 0x80) {
			server_sends(&world, str_make((const char *)data + i, n));
			i += n;
		} else if (op < 0x90) {
			server_sends(&world, str_from(replies[op & 15]));
		} else if (op >= 0xc0 && op < 0xd0) {
			server_sends(&world, str_from(offers[op & 15]));
		} else {
			owner_does(&world, op);
		}
		check_pending(&world);
	}
	smtp_client_free(&world.client);
	buf_free(&world.stream);
	return 0;
}
