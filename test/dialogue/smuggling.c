/*
 * test/vectors/smuggling-cases.jsonl against the dialogue, with a backend that takes everything and
 * watches what it gets (support/fake_port.h): each case whole, in the pieces that it names, and byte
 * by byte; with bare line ends refused, and with them mended.
 *
 * Left out are cases that need an extension which is not offered. Cases whose bytes come before
 * their turn are only that when they come in one piece.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/smtp_params.h"
#include "support/fake_port.h"
#include "support/smtp_vectors.h"

#define CASE_MAX (8u << 20)
#define FAULT_AFTER 65536
#define PIECE_MAX 500000
#define TAIL 1000

enum feeding { WHOLE, IN_PIECES, BYTE_BY_BYTE, FEEDINGS };

struct attack {
	struct str line; /* of the file */
	struct str id, stage, needs, split;
	struct buf bytes; /* JSON undone; waits for 354 and repetitions still inside */
	enum feeding feeding;
	bool normalises;
	struct fake_port port;
};

static void check(const struct attack *attack, bool holds, const char *what, struct str detail)
{
	static const char *const words[FEEDINGS] = { "whole", "in pieces", "byte by byte" };

	if (holds)
		return;
	snprintf(fake_port_where, sizeof(fake_port_where), "%.*s (%s, %s)", STR_ARG(attack->id),
		words[attack->feeding], attack->normalises ? "normalise" : "reject");
	fake_port_fail(what, detail);
}

/* ---- Sending ------------------------------------------------------------------------------ */

static void say_text(struct attack *attack, struct str line)
{
	fake_port_client(&attack->port, line);
	fake_port_client(&attack->port, STR("\r\n"));
}

static void say(struct attack *attack, const char *line)
{
	say_text(attack, str_from(line));
}

/* The dialogue before the bytes of the case. */
static void begin(struct attack *attack)
{
	struct fake_port *port = &attack->port;

	fake_port_start(port);
	say(attack, "EHLO client.example.org");
	fake_port_forget(port);
	if (str_eq(attack->stage, STR("before-mail")))
		return;
	say(attack, "MAIL FROM:<carrier@sender.test>");
	if (str_eq(attack->stage, STR("after-rejected-rcpt")))
		fake_port_will_say(
			port, (struct fake_verdict){ .verdict = { .kind = VERDICT_REJECT,
							     .reply = REPLY_RELAY_DENIED } });
	say(attack, "RCPT TO:<bob@example.com>");
	if (str_eq(attack->stage, STR("data")))
		say(attack, "DATA");
	fake_port_forget(port);
}

/* The backend that refuses in the middle of the message. */
static void fail_backend(struct attack *attack)
{
	struct fake_port *port = &attack->port;

	if (vectors_json_get(attack->line, "fault").n > 0 && port->backend == FAKE_BODY &&
		buf_used(&port->body) >= FAULT_AFTER)
		fake_port_lost(port, "554 5.3.0 refused in the middle");
}

/* Of a very large piece all but the last bytes go at once. */
static void send_piece(struct attack *attack, struct str piece)
{
	struct fake_port *port = &attack->port;
	size_t most = vectors_json_get(attack->line, "fault").n > 0 ? 1000 : piece.n;

	if (piece.n > PIECE_MAX) {
		port->is_byte_by_byte = false;
		fake_port_client(port, str_range(piece, 0, piece.n - TAIL));
		piece = str_from_pos(piece, piece.n - TAIL);
		port->is_byte_by_byte = attack->feeding == BYTE_BY_BYTE;
	}
	while (piece.n > 0) {
		fake_port_client(&attack->port, str_range(piece, 0, most));
		piece = str_from_pos(piece, most);
		fail_backend(attack);
	}
}

/* The bytes between two waits, at the offsets of the case where they count. */
static void send_bytes(struct attack *attack, struct str bytes)
{
	struct str offsets = attack->split.n > 0 ? vectors_json_inside(attack->split) : STR("");
	struct str offset;
	size_t done = 0;
	uint64_t at;

	if (attack->feeding == IN_PIECES)
		while (vectors_json_next(&offsets, &offset)) {
			bool is_number = str_to_u64(offset, bytes.n, &at) && at >= done;
			check(attack, is_number, "split", offset);
			send_piece(attack, str_range(bytes, done, (size_t)at));
			done = (size_t)at;
		}
	send_piece(attack, str_from_pos(bytes, done));
}

static bool got_354(const struct attack *attack)
{
	struct str replies = buf_view(&attack->port.connection.last_response);

	return str_starts_with(replies, STR("354"));
}

/* Position of the next "@@354", or the end. */
static size_t find_wait(struct str bytes)
{
	for (size_t i = 0; i + 5 <= bytes.n; i++)
		if (bytes.p[i] == '@' && str_starts_with(str_from_pos(bytes, i), STR("@@354")))
			return i;
	return bytes.n;
}

static void send_case(struct attack *attack)
{
	struct str rest = buf_view(&attack->bytes);
	struct buf bytes;

	for (;;) {
		size_t wait = find_wait(rest);
		buf_init(&bytes, CASE_MAX);
		smtp_vectors_expand(&bytes, str_range(rest, 0, wait));
		send_bytes(attack, buf_view(&bytes));
		buf_free(&bytes);
		rest = str_from_pos(rest, wait);
		if (rest.n == 0 || !got_354(attack))
			return;
		rest = str_from_pos(rest, rest.p[5] == '?' ? 8 : 7);
	}
}

/* What comes behind the bytes: "tls-handshake; EHLO x; DATA". A handshake that never began is
 * left out: the client sees that its STARTTLS was refused. */
static void go_on(struct attack *attack)
{
	struct fake_port *port = &attack->port;
	struct str rest = vectors_json_get(attack->line, "then");

	port->is_byte_by_byte = false;
	while (rest.n > 0 && !port->is_closed) {
		struct str step = str_trim(str_cut(&rest, ';'));
		if (str_starts_with(step, STR("TCP FIN")))
			fake_port_eof(port, false);
		else if (!str_eq(step, STR("tls-handshake")))
			say_text(attack, step);
		else if (port->is_shaking_hands)
			fake_port_tls(port, true);
	}
}

/* ---- Judging ------------------------------------------------------------------------------ */

static struct str expected(const struct attack *attack, const char *key)
{
	struct str normal = vectors_json_get(attack->line, "expect_normalize");

	if (attack->normalises && normal.n > 0)
		return vectors_json_get(normal, key);
	return vectors_json_get(vectors_json_get(attack->line, "expect"), key);
}

/* "250|5xx", "none" */
static bool reply_matches(struct str patterns, struct str reply)
{
	while (patterns.n > 0) {
		struct str pattern = str_cut(&patterns, '|');
		if (str_eq(pattern, STR("none")) && reply.n == 0)
			return true;
		if (pattern.n == 3 && reply.n >= 3 && pattern.p[0] == reply.p[0] &&
			(pattern.p[1] == 'x' || memcmp(pattern.p, reply.p, 3) == 0))
			return true;
	}
	return false;
}

/* True when the number is the one that is wanted first. */
static bool judge_messages(struct attack *attack)
{
	struct str alternative = vectors_json_get(attack->line, "alt_messages");
	uint64_t accepted = attack->port.accepted;
	uint64_t wanted = 0, other;

	check(attack, str_to_u64(expected(attack, "messages"), 99, &wanted), "messages", STR(""));
	if (accepted != wanted)
		check(attack, str_to_u64(alternative, 99, &other) && accepted == other,
			"another number of messages", buf_view(&attack->port.outcomes));
	return accepted == wanted;
}

static void judge_body(struct attack *attack)
{
	struct str wanted = vectors_json_get(attack->line, "body");
	struct str body = buf_view(&attack->port.body);
	struct buf text;

	if (wanted.p == NULL)
		return;
	buf_init(&text, CASE_MAX);
	buf_write(&text, STR("From: a@sender.test\r\nSubject: carrier\r\n\r\n"));
	/* What the case has un-stuffed is stuffed at the backend. */
	if (wanted.p[0] == '.')
		buf_write(&text, STR("."));
	smtp_vectors_unescape(&text, wanted, false);
	check(attack, str_eq(buf_view(&text), body), "another body", body);
	buf_free(&text);
}

/* That begin() has begun. */
static size_t transactions_of(const struct attack *attack)
{
	return str_eq(attack->stage, STR("before-mail")) ? 0 : 1;
}

static void judge(struct attack *attack)
{
	struct fake_port *port = &attack->port;
	bool is_first_choice = judge_messages(attack);
	struct str reply = STR("");
	struct str pattern = expected(attack, "reply");
	struct str forbidden = vectors_json_get(attack->line, "forbid_sender");

	fake_port_take(&port->replies, &reply);
	if (pattern.n > 0 && is_first_choice)
		check(attack, reply_matches(pattern, reply), "another first reply", reply);
	if (str_eq(expected(attack, "close"), STR("true")))
		check(attack, port->is_closed, "not closed", reply);
	judge_body(attack);
	/* The second transaction of a case has its own sender; a forbidden one never gets so far. */
	if (forbidden.n > 0 && !attack->normalises)
		check(attack, port->connection.tran_count == transactions_of(attack),
			"a second transaction", forbidden);
}

/* ---- Cases -------------------------------------------------------------------------------- */

static bool is_possible(const struct attack *attack)
{
	if (attack->feeding == IN_PIECES && attack->split.n == 0)
		return false;
	if (attack->feeding != WHOLE && str_eq(attack->stage, STR("after-rejected-rcpt")))
		return false;
	return attack->needs.n == 0 || str_eq(attack->needs, STR("PIPELINING")) ||
	       str_eq(attack->needs, STR("STARTTLS")) || str_eq(attack->needs, STR("no-CHUNKING"));
}

static void run(struct attack *attack)
{
	struct fake_port *port = &attack->port;
	struct str limit = vectors_json_get(attack->line, "limit");
	uint64_t size;

	fake_port_init(port);
	port->answers_by_itself = true;
	if (str_eq(attack->needs, STR("STARTTLS")))
		port->offer.extensions |= SMTP_EXT_STARTTLS;
	port->server.normalises = attack->normalises;
	if (str_to_u64(limit, UINT64_MAX, &size))
		port->settings.limits.message_size = port->offer.size = size;
	begin(attack);
	port->is_byte_by_byte = attack->feeding == BYTE_BY_BYTE;
	send_case(attack);
	go_on(attack);
	if (vectors_json_get(attack->line, "fin").n > 0 && !port->is_closed)
		fake_port_eof(port, false);
	judge(attack);
	fake_port_free(port);
}

static size_t run_case(struct str line)
{
	static struct attack attack;
	size_t runs = 0;

	attack.line = line;
	attack.id = vectors_json_get(line, "id");
	attack.stage = vectors_json_get(line, "stage");
	attack.needs = vectors_json_get(line, "needs");
	attack.split = vectors_json_get(line, "split");
	buf_init(&attack.bytes, CASE_MAX);
	smtp_vectors_unescape(&attack.bytes, vectors_json_get(line, "bytes"), false);
	for (int mode = 0; mode < 2 * FEEDINGS; mode++) {
		attack.feeding = (enum feeding)(mode / 2);
		attack.normalises = mode % 2;
		if (!is_possible(&attack))
			continue;
		snprintf(fake_port_where, sizeof(fake_port_where), "%.*s", STR_ARG(attack.id));
		run(&attack);
		runs++;
	}
	buf_free(&attack.bytes);
	return runs;
}

int main(void)
{
	struct str text = vectors_read(TEST_SOURCE_DIR "/vectors/smuggling-cases.jsonl");
	struct str rest = text;
	size_t runs = 0;

	while (rest.n > 0)
		runs += run_case(str_cut(&rest, '\n'));
	free((void *)(uintptr_t)text.p);
	printf("%zu runs\n", runs);
	return runs < 200;
}
