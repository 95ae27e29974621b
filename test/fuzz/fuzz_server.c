/*
 * The whole dialogue: the input is what the client sends and everything the world does meanwhile.
 *
 * Byte 0: how the session is (RESTRICTED, NORMALISES, SMALL limits, BACKEND takes everything, TLS and
 * AUTH are offered, AUTH is REQUIRED). Then one operation after the other:
 *
 *	00-7f  the client sends the next 1-128 bytes of the input
 *	80-9f  … a usual line, of `lines`
 *	a0-af  a verdict: for the pending question, else for the next one
 *	b0-bf  the backend's answer; where nothing was forwarded, it is lost in the message
 *	c0     the armed deadline passes         c4  the client reads its replies, or stops to
 *	c1     the client closes                 c5  we stop
 *	c2     … resets                          c6  forward_end will find nobody
 *	c3     room for the body, times next byte
 *	c7     the handshake succeeds            cb-cd AUTH ends: well, refused, unavailable
 *	c8     … fails                           ce    bytes are pending in the kernel, or not
 *	c9-ca  a challenge: short, long          cf    no handshake can begin, or it can
 *	d0-df  the client sends a line of `auth_lines`
 *	others nothing
 *
 * support/fake_port.c watches what must always hold; here it is what holds between operations.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "proto/smtp_params.h"
#include "support/fake_port.h"

enum { RESTRICTED = 1, NORMALISES = 2, SMALL = 4, BACKEND = 8, TLS = 16, AUTH = 32, REQUIRED = 64 };

#define X10 "xxxxxxxxxx"
#define LONG_LINE X10 X10 X10 X10 X10 X10 X10 X10 X10 X10

static const char *const lines[] = {
	"EHLO a.example\r\n",
	"HELO a.example\r\n",
	"MAIL FROM:<a@example.org>\r\n",
	"MAIL FROM:<> SIZE=99 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=x\r\n",
	"RCPT TO:<b@example.com>\r\n",
	"RCPT TO:<postmaster> NOTIFY=NEVER ORCPT=rfc822;b@example.com\r\n",
	"DATA\r\n",
	".\r\n",
	"\r\n.\r\n",
	"Received: x\r\n",
	"..\r\n",
	"RSET\r\n",
	"NOOP\r\n",
	"QUIT\r\n",
	"VRFY b\r\n",
	"HELP\r\n",
	"BDAT 3 LAST\r\n",
	"FOO\r\n",
	"\n",
	"\r",
	"\n.\n",
	"\r.\r",
	"RCPT TO:<b@",
	LONG_LINE,
	"\r\n",
	" folded\r\n",
	"GET / HTTP/1.1\r\n",
	"\x16\x03\x01\n",
	"PROXY TCP4 127.0.0.1 127.0.0.1 1 25\r\n",
	"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n",
	".\r\nMAIL FROM:<a@example.org>\r\n",
	"RSET\n",
};

#define SECRET "AGFubmEAaHVudGVyMg=="
#define LONG_BASE64 "AAAA" LONG_A LONG_A LONG_A LONG_A
#define LONG_A A64 A64 A64 A64
#define A64 "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

static const char *const auth_lines[16] = {
	"STARTTLS\r\n",
	"STARTTLS x\r\n",
	"STARTTLS\r\nEHLO b.example\r\n",
	"AUTH PLAIN\r\n",
	"AUTH PLAIN " SECRET "\r\n",
	"auth\tlogin\t" SECRET "\r\n",
	"AUTH LOGIN\r\n" SECRET "\r\n" SECRET "\r\n",
	"AUTH PLAIN =\r\n",
	SECRET "\r\n",
	"=\r\n",
	"*\r\n",
	"\r\n",
	LONG_BASE64 "\r\n",
	LONG_BASE64 LONG_BASE64,
	"AUTH " SECRET " " SECRET "\r\n",
	SECRET "\n",
};

static const struct fake_verdict verdicts[16] = {
	{ .verdict = { .kind = VERDICT_NEXT } },
	{ .verdict = { .kind = VERDICT_ALLOW } },
	{ .verdict = { .kind = VERDICT_REJECT, .reply = REPLY_RELAY_DENIED } },
	{ .verdict = { .kind = VERDICT_REJECT, .reply = REPLY_HELLO_INVALID }, .holds = true },
	{ .verdict = { .kind = VERDICT_DEFER, .reply = REPLY_CLIENT_DEFERRED } },
	{ .verdict = { .kind = VERDICT_DEFER, .reply = REPLY_POLICY_TIMEOUT }, .holds = true },
	{ .verdict = { .kind = VERDICT_HANGUP, .reply = REPLY_SHUTDOWN } },
	{ .verdict = { .kind = VERDICT_HANGUP, .reply = REPLY_CLIENT_REJECTED }, .holds = true },
	{ .comes_later = true },
	{ .comes_later = true },
	{ .comes_later = true },
};

struct input {
	const uint8_t *p;
	size_t n;
};

static uint8_t take_byte(struct input *input)
{
	if (input->n == 0)
		return 0;
	input->n--;
	return *input->p++;
}

static struct str take_bytes(struct input *input, size_t n)
{
	struct str bytes = str_make((const char *)input->p, n < input->n ? n : input->n);

	input->p += bytes.n;
	input->n -= bytes.n;
	return bytes;
}

/* ---- What holds between two operations ---------------------------------------------------- */

/* A transaction exists from MAIL on; while MAIL or a new hello is judged the state is still the
 * former one. */
static void check_transaction(const struct fake_port *port)
{
	const struct smtp_server *server = &port->server;
	bool is_open = port->connection.transaction != NULL;
	bool is_inside = server->state == SMTP_STATE_MAIL || server->state == SMTP_STATE_RCPT ||
			 server->state == SMTP_STATE_BODY;

	if (server->state == SMTP_STATE_READY && port->is_asked && port->stage == POLICY_MAIL)
		ASSERT(is_open);
	else
		ASSERT(is_open == is_inside);
}

/* A line that is no AUTH, and came where no response was due, is shown: it is the client's mistake. */
static void check_secret(const struct fake_port *port)
{
	struct str line = buf_view(&port->connection.current_line);
	struct str reply = buf_view(&port->connection.last_response);

	if (port->server.in_auth || str_starts_with_nocase(line, STR("AUTH")))
		ASSERT(memmem(line.p, line.n, SECRET, strlen(SECRET)) == NULL);
	ASSERT(memmem(reply.p, reply.n, SECRET, strlen(SECRET)) == NULL);
}

static void check_between(const struct fake_port *port)
{
	const struct smtp_server *server = &port->server;

	ASSERT(server->state < SMTP_STATE_COUNT && server->waiting <= SMTP_WAITING_CLOSE);
	ASSERT((server->state == SMTP_STATE_CLOSING) == port->is_closed);
	ASSERT((server->waiting == SMTP_WAITING_CLOSE) == port->is_closed);
	if (port->is_closed) {
		ASSERT(!port->is_armed && port->connection.transaction == NULL);
		return;
	}
	ASSERT((server->waiting == SMTP_WAITING_POLICY) == port->is_asked);
	ASSERT((server->waiting == SMTP_WAITING_BACKEND) == (port->pending != FAKE_NOTHING));
	ASSERT((server->waiting == SMTP_WAITING_TLS) == port->is_shaking_hands);
	ASSERT((server->waiting == SMTP_WAITING_AUTH) == (port->exchange == FAKE_SERVICE));
	ASSERT(server->in_auth == (port->exchange != FAKE_NO_EXCHANGE));
	ASSERT(port->connection.relaying == (port->connection.auth != NULL));
	ASSERT(server->waiting != SMTP_WAITING_ROOM || server->state == SMTP_STATE_BODY);
	/* The client has a deadline exactly while it is its turn. */
	ASSERT(port->is_armed == (server->waiting == SMTP_WAITING_NOTHING));
	ASSERT(smtp_server_wants_input(server) == (server->waiting == SMTP_WAITING_NOTHING));
	check_transaction(port);
	check_secret(port);
}

/* ---- Operations --------------------------------------------------------------------------- */

static void do_verdict(struct fake_port *port, unsigned which)
{
	const struct fake_verdict *verdict = &verdicts[which];

	if (port->is_asked && !verdict->comes_later)
		fake_port_verdict(port, verdict->verdict, verdict->holds);
	else if (port->script_count < FAKE_SCRIPT_MAX)
		fake_port_will_say(port, *verdict);
}

static void do_backend(struct fake_port *port, unsigned which)
{
	static const char *const good[] = {
		[FAKE_RECIPIENT] = "250 2.1.5 fine",
		[FAKE_DATA_ANSWER] = "354 go",
		[FAKE_FINAL] = "250-2.0.0 queued\r\n250 2.0.0 as 1",
	};
	static const char *const bad[] = { "450 later", "452 4.2.2 full", "550 5.1.1 no",
		"554-5.7.1 a\r\n554 5.7.1 \xff" };
	static const enum reply_id own[] = { REPLY_NO_BACKEND, REPLY_BACKEND_LOST,
		REPLY_NEEDS_8BITMIME, REPLY_OUTCOME_UNKNOWN };

	if (port->pending == FAKE_NOTHING) {
		if (port->backend != FAKE_BODY || port->is_closed)
			return;
		if (which < 8)
			fake_port_lost(port, bad[which % 4]);
		else
			fake_port_lost_own(port, REPLY_BACKEND_LOST);
	} else if (which < 8) {
		fake_port_backend(port, good[port->pending]);
	} else if (which < 12) {
		fake_port_backend(port, bad[which % 4]);
	} else if (port->pending == FAKE_FINAL || own[which % 4] != REPLY_OUTCOME_UNKNOWN) {
		fake_port_backend_own(port, own[which % 4], BY_EDGE);
	}
}

static void do_tls_and_auth(struct fake_port *port, uint8_t op)
{
	static char challenge[9300];
	bool is_asked = port->exchange == FAKE_SERVICE;

	if (op <= 0xc8 && port->is_shaking_hands)
		fake_port_tls(port, op == 0xc7);
	else if ((op == 0xc9 || op == 0xca) && is_asked)
		fake_port_challenge(port, str_make(challenge, op == 0xca ? sizeof(challenge) : 9));
	else if (op == 0xcb && is_asked)
		fake_port_auth_done(port, SMTP_AUTH_OK, STR("anna"));
	else if (op == 0xcc && is_asked)
		fake_port_auth_done(port, SMTP_AUTH_REFUSED, STR(""));
	else if (op == 0xcd && is_asked)
		fake_port_auth_done(port, SMTP_AUTH_UNAVAILABLE, STR(""));
	else if (op == 0xce)
		port->input_is_pending = !port->input_is_pending;
	else if (op == 0xcf)
		port->tls_is_unavailable = !port->tls_is_unavailable;
}

static void do_event(struct fake_port *port, uint8_t op, struct input *input)
{
	switch (op) {
	case 0xc0:
		if (port->is_armed)
			fake_port_expire(port);
		break;
	case 0xc1:
	case 0xc2:
		fake_port_eof(port, op == 0xc2);
		/* The backend's answer is still waited for; the client is not. */
		port->is_armed = port->is_armed && !port->is_closed;
		break;
	case 0xc3:
		fake_port_give_room(port, take_byte(input) * 64u);
		break;
	case 0xc4:
		port->output_is_full = !port->output_is_full;
		fake_port_pump(port);
		break;
	case 0xc5:
		port->is_asked = port->is_asked && port->server.end_is_forwarded;
		smtp_server_stop(&port->server, REPLY_SHUTDOWN, ENDING_SHUTDOWN);
		break;
	case 0xc6:
		port->client_is_gone = true;
		break;
	default:
		break;
	}
}

static void run_op(struct fake_port *port, struct input *input)
{
	uint8_t op = take_byte(input);

	if (op < 0x80)
		fake_port_client(port, take_bytes(input, op + 1u));
	else if (op < 0xa0)
		fake_port_client(port, str_from(lines[op - 0x80]));
	else if (op < 0xb0)
		do_verdict(port, op & 15);
	else if (op < 0xc0)
		do_backend(port, op & 15);
	else if (op < 0xc7)
		do_event(port, op, input);
	else if (op < 0xd0)
		do_tls_and_auth(port, op);
	else if (op < 0xe0)
		fake_port_client(port, str_from(auth_lines[op & 15]));
}

static void set_up(struct fake_port *port, uint8_t how)
{
	fake_port_init(port);
	port->connection.is_restricted = how & RESTRICTED;
	port->server.normalises = how & NORMALISES;
	port->answers_by_itself = how & BACKEND;
	port->server.requires_auth = how & REQUIRED;
	if (how & TLS)
		port->offer.extensions |= SMTP_EXT_STARTTLS;
	if (how & AUTH) {
		port->offer.extensions |= SMTP_EXT_AUTH;
		port->offer.mechanisms = STR("PLAIN LOGIN");
		port->auth_start = SMTP_AUTH_STARTED;
	}
	if (!(how & SMALL))
		return;
	port->settings.limits = (struct smtp_limits){
		.message_size = 500,
		.message_line = 100,
		.message_header = 200,
		.received = 2,
		.recipients = 2,
		.recipients_overshoot = 2,
		.transactions = 4,
		.errors = 6,
		.unknown_commands = 3,
		.idle_commands = 6,
		.command_line = 64,
		.auth_failures = 2,
	};
	port->offer.size = 400;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fake_port port;
	struct input input = { data, size };

	set_up(&port, take_byte(&input));
	/* A verdict in front of everything is for the connect stage. */
	if (input.n > 0 && (input.p[0] & 0xf0) == 0xa0)
		do_verdict(&port, take_byte(&input) & 15);
	fake_port_start(&port);
	check_between(&port);
	while (input.n > 0) {
		run_op(&port, &input);
		check_between(&port);
	}
	fake_port_free(&port);
	return 0;
}
