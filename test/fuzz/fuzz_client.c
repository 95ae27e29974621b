/*
 * The dialogue with a backend: the input is what the server sends and when its owner sends commands.
 *
 *	00-7f  the server sends the next 1-128 bytes of the input
 *	80-8f  … a usual reply, of `replies`
 *	90-95  the owner sends MAIL, RCPT, DATA, the dot, RSET, QUIT, where it may
 *	96-97  … MAIL, RSET from inside the next answer
 *	others nothing
 *
 * What must hold: each answer belongs to the oldest command under way, and not one byte of it was
 * there before that command was sent. Nothing is told or sent after the dialogue broke.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
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
	int inside; /* what to send from inside the next answer, or 0 */
};

static void owner_sends(struct world *world, unsigned what);

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
	struct buf text;
	enum smtp_reply_fault fault;
	size_t taken;

	buf_init(&text, SMTP_REPLY_TEXT_MAX);
	ASSERT(smtp_reply_parse(str_from_pos(buf_view(&world->stream), world->reply_start), &text,
		       &reply, &taken, &fault) == 1);
	buf_free(&text);
	ASSERT(world->answered < world->sent_count && world->sent[world->answered] == step);
	ASSERT(world->reply_start >= world->sent_at[world->answered]);
	world->reply_start += taken;
	world->answered++;
}

static void on_send(void *ctx, struct str bytes)
{
	struct world *world = ctx;

	ASSERT(!world->is_broken && bytes.n >= 3);
	ASSERT(bytes.p[bytes.n - 2] == '\r' && bytes.p[bytes.n - 1] == '\n');
	/* The greeting answers what came before by itself. */
	if (str_starts_with(bytes, STR("EHLO"))) {
		check_reply(world, SMTP_CLIENT_BANNER);
		expect(world, SMTP_CLIENT_EHLO);
	} else if (str_starts_with(bytes, STR("HELO"))) {
		check_reply(world, SMTP_CLIENT_EHLO);
		expect(world, SMTP_CLIENT_HELO);
	}
}

static void on_answered(void *ctx, enum smtp_client_step step, const struct smtp_reply *reply)
{
	struct world *world = ctx;
	int inside = world->inside;

	ASSERT(!world->is_broken && reply->code >= 200 && reply->code < 600);
	check_reply(world, step);
	world->inside = 0;
	if (inside)
		owner_sends(world, (unsigned)inside);
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

static void owner_sends(struct world *world, unsigned what)
{
	static const enum smtp_client_step steps[] = { SMTP_CLIENT_MAIL, SMTP_CLIENT_RCPT,
		SMTP_CLIENT_DATA, SMTP_CLIENT_DOT, SMTP_CLIENT_RSET, SMTP_CLIENT_QUIT };
	struct transaction transaction = { .mail_from.address = STR_INIT("a@example.org") };
	struct recipient recipient = { .path.address = STR_INIT("b@example.com") };
	struct smtp_client *client = &world->client;

	if (!smtp_client_can_send(client) || (what == 3 && smtp_client_pending(client) > 0))
		return;
	if (world->sent_count == COMMANDS_MAX)
		return;
	expect(world, steps[what]);
	switch (what) {
	case 0:
		smtp_client_mail(client, &transaction);
		break;
	case 1:
		smtp_client_rcpt(client, &recipient);
		break;
	case 2:
		smtp_client_data(client);
		break;
	case 3:
		smtp_client_dot(client);
		break;
	case 4:
		smtp_client_rset(client);
		break;
	default:
		smtp_client_quit(client);
	}
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world world;

	memset(&world, 0, sizeof(world));
	buf_init(&world.stream, 1 << 20);
	smtp_client_init(&world.client, STR("mx.example.net"), &port, &world);
	expect(&world, SMTP_CLIENT_BANNER);
	for (size_t i = 0; i < size && i < COMMANDS_MAX - 8;) {
		uint8_t op = data[i++];
		size_t n = op + 1u < size - i ? op + 1u : size - i;
		if (op < 0x80) {
			server_sends(&world, str_make((const char *)data + i, n));
			i += n;
		} else if (op < 0x90) {
			server_sends(&world, str_from(replies[op & 15]));
		} else if (op < 0x96) {
			owner_sends(&world, op & 15u);
		} else if (op < 0x98) {
			world.inside = op == 0x96 ? 1 : 4;
		}
		ASSERT(smtp_client_pending(&world.client) <= SMTP_CLIENT_WINDOW);
		if (!world.is_broken)
			ASSERT(smtp_client_pending(&world.client) ==
				world.sent_count - world.answered);
	}
	smtp_client_free(&world.client);
	buf_free(&world.stream);
	return 0;
}
