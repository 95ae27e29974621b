#include "smtp/client.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/smtp_params.h"

#define SERVER_EHLO \
	"250-mta.example.net\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-DSN\r\n250 SIZE 1000\r\n"

/* A client, what it sent, and what it told its owner: "EHLO 250", "broken why", "broken why 421". */
struct talk {
	struct smtp_client client;
	struct buf input, sent, told;
	bool is_byte_by_byte;
	enum smtp_client_step on_answer; /* another MAIL is sent from inside the answer to this */
	bool sends_on_answer;
};

static void on_send(void *ctx, struct str bytes)
{
	struct talk *talk = ctx;

	assert_true(bytes.n >= 3 && bytes.p[bytes.n - 2] == '\r' && bytes.p[bytes.n - 1] == '\n');
	buf_write(&talk->sent, bytes);
}

static void send_mail(struct talk *talk)
{
	struct transaction transaction = { .mail_from.address = STR_INIT("a@example.org") };

	smtp_client_mail(&talk->client, &transaction);
}

static void on_answered(void *ctx, enum smtp_client_step step, const struct smtp_reply *reply)
{
	struct talk *talk = ctx;

	buf_printf(&talk->told, "%s %d\n", smtp_client_step_word(step), reply->code);
	if (talk->sends_on_answer && talk->on_answer == step)
		send_mail(talk);
}

static void on_broken(void *ctx, const char *why, const struct smtp_reply *reply)
{
	struct talk *talk = ctx;

	buf_printf(&talk->told, "broken %s", why);
	if (reply != NULL)
		buf_printf(&talk->told, " %d", reply->code);
	buf_write(&talk->told, STR("\n"));
}

static const struct smtp_client_port port = {
	.send = on_send,
	.answered = on_answered,
	.broken = on_broken,
};

static void talk_open(struct talk *talk, bool is_byte_by_byte)
{
	memset(talk, 0, sizeof(*talk));
	talk->is_byte_by_byte = is_byte_by_byte;
	buf_init(&talk->input, 1 << 20);
	buf_init(&talk->sent, 1 << 20);
	buf_init(&talk->told, 1 << 20);
	smtp_client_init(&talk->client, STR("mx.example.net"), &port, talk);
}

static void talk_close(struct talk *talk)
{
	smtp_client_free(&talk->client);
	buf_free(&talk->input);
	buf_free(&talk->sent);
	buf_free(&talk->told);
}

/* In memory of exactly its size, so that the sanitizer sees a read behind it. */
static void feed(struct talk *talk)
{
	struct str view = buf_view(&talk->input);

	if (talk->client.is_broken)
		return;
	char *copy = malloc(view.n + 1);
	memcpy(copy, view.p, view.n);
	size_t taken = smtp_client_feed(&talk->client, str_make(copy, view.n));
	free(copy);
	assert_true(taken <= view.n);
	buf_consume(&talk->input, taken);
}

static void hear(struct talk *talk, struct str bytes)
{
	size_t step = talk->is_byte_by_byte ? 1 : bytes.n;

	for (size_t at = 0; at < bytes.n; at += step) {
		assert_true(buf_write(&talk->input, str_range(bytes, at, at + step)));
		feed(talk);
	}
}

static void assert_text(struct buf *have, const char *wanted)
{
	struct str view = buf_view(have);
	char *text = str_dup(view);

	assert_string_equal(text, wanted);
	free(text);
	buf_truncate(have, 0);
}

static void talk_greet(struct talk *talk)
{
	hear(talk, STR("220 mta\r\n"));
	hear(talk, STR(SERVER_EHLO));
	assert_text(&talk->told, "EHLO 250\n");
	buf_truncate(&talk->sent, 0);
}

static void send_rcpt(struct talk *talk)
{
	struct recipient recipient = { .path.address = STR_INIT("b@example.com") };

	smtp_client_rcpt(&talk->client, &recipient);
}

/* ---- Greeting ----------------------------------------------------------------------------- */

static void test_greeting(void **state)
{
	static const struct {
		const char *replies, *sent, *told;
		bool is_ready;
		unsigned extensions;
	} rows[] = {
		{ "220 mta ESMTP\r\n", "EHLO mx.example.net\r\n", "", false, 0 },
		{ "220-mta\r\n220-is\r\n220 here\r\n", "EHLO mx.example.net\r\n", "", false, 0 },
		{ "554 no\r\n", "", "banner 554\n", false, 0 },
		{ "421 busy\r\n", "", "banner 421\n", false, 0 },
		{ "250 what\r\n", "", "banner 250\n", false, 0 },
		{ "220 a\r\n|250-a\r\n250 PIPELINING\r\n", "EHLO mx.example.net\r\n", "EHLO 250\n",
			true, SMTP_EXT_PIPELINING },
		{ "220 a\r\n|250 a\r\n", "EHLO mx.example.net\r\n", "EHLO 250\n", true, 0 },
		{ "220 a\r\n|421 a\r\n", "EHLO mx.example.net\r\n", "EHLO 421\n", false, 0 },
		{ "220 a\r\n|354 a\r\n", "EHLO mx.example.net\r\n", "EHLO 354\n", false, 0 },
		/* RFC 5321 section 3.2: what does not know EHLO gets HELO. */
		{ "220 a\r\n|502 a\r\n", "EHLO mx.example.net\r\nHELO mx.example.net\r\n", "",
			false, 0 },
		{ "220 a\r\n|500 a\r\n|250 PIPELINING\r\n",
			"EHLO mx.example.net\r\nHELO mx.example.net\r\n", "HELO 250\n", true, 0 },
		{ "220 a\r\n|550 a\r\n|550 b\r\n", "EHLO mx.example.net\r\nHELO mx.example.net\r\n",
			"HELO 550\n", false, 0 },
		{ "220 a\r\n|550 a\r\n|421 b\r\n", "EHLO mx.example.net\r\nHELO mx.example.net\r\n",
			"HELO 421\n", false, 0 },
	};

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		struct str rest = str_from(rows[i / 2].replies);
		struct talk talk;
		talk_open(&talk, i % 2);
		assert_false(smtp_client_can_send(&talk.client));
		while (rest.n > 0)
			hear(&talk, str_cut(&rest, '|'));
		assert_text(&talk.sent, rows[i / 2].sent);
		assert_text(&talk.told, rows[i / 2].told);
		assert_int_equal(talk.client.is_ready, rows[i / 2].is_ready);
		assert_int_equal(smtp_client_can_send(&talk.client), rows[i / 2].is_ready);
		assert_int_equal(talk.client.capabilities.extensions, rows[i / 2].extensions);
		talk_close(&talk);
	}
}

/* ---- Commands ----------------------------------------------------------------------------- */

static void test_one_at_a_time_without_pipelining(void **state)
{
	struct talk talk;

	(void)state;
	talk_open(&talk, false);
	hear(&talk, STR("220 a\r\n"));
	hear(&talk, STR("250 a\r\n"));
	assert_true(smtp_client_can_send(&talk.client));
	smtp_client_rset(&talk.client);
	assert_false(smtp_client_can_send(&talk.client));
	assert_int_equal(smtp_client_pending(&talk.client), 1);
	assert_int_equal(smtp_client_step(&talk.client), SMTP_CLIENT_RSET);
	hear(&talk, STR("250 Ok\r\n"));
	assert_true(smtp_client_can_send(&talk.client));
	talk_close(&talk);
}

static void test_the_window_of_pipelining(void **state)
{
	struct talk talk;

	(void)state;
	talk_open(&talk, false);
	talk_greet(&talk);
	/* Twice, so that the ring goes round. */
	for (int turn = 0; turn < 2; turn++) {
		for (unsigned i = 0; i < SMTP_CLIENT_WINDOW; i++) {
			assert_true(smtp_client_can_send(&talk.client));
			send_rcpt(&talk);
			assert_int_equal(smtp_client_pending(&talk.client), i + 1);
		}
		assert_false(smtp_client_can_send(&talk.client));
		hear(&talk, STR("250 Ok\r\n"));
		assert_true(smtp_client_can_send(&talk.client));
		while (smtp_client_pending(&talk.client) > 0)
			hear(&talk, STR("550 no\r\n"));
	}
	assert_false(talk.client.is_broken);
	talk_close(&talk);
}

static void test_the_envelope(void **state)
{
	static const struct {
		const char *ehlo, *mail, *rcpt;
	} rows[] = {
		{ SERVER_EHLO,
			"MAIL FROM:<a@example.org> SIZE=77 BODY=8BITMIME RET=HDRS ENVID=e1\r\n",
			"RCPT TO:<b@example.com> NOTIFY=NEVER ORCPT=rfc822;b@example.com\r\n" },
		{ "250 mta\r\n", "MAIL FROM:<a@example.org>\r\n", "RCPT TO:<b@example.com>\r\n" },
		{ "250-mta\r\n250 SIZE\r\n", "MAIL FROM:<a@example.org> SIZE=77\r\n",
			"RCPT TO:<b@example.com>\r\n" },
	};
	struct transaction transaction = {
		.mail_from.address = STR_INIT("a@example.org"),
		.mail_params = { .has_size = true,
			.size = 77,
			.body = SMTP_BODY_8BITMIME,
			.ret = STR_INIT("HDRS"),
			.envid = STR_INIT("e1"),
			.has_envid = true },
	};
	struct recipient recipient = {
		.path.address = STR_INIT("b@example.com"),
		.params = { .notify = STR_INIT("NEVER"),
			.orcpt = STR_INIT("rfc822;b@example.com") },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct talk talk;
		talk_open(&talk, false);
		hear(&talk, STR("220 a\r\n"));
		hear(&talk, str_from(rows[i].ehlo));
		buf_truncate(&talk.sent, 0);
		smtp_client_mail(&talk.client, &transaction);
		assert_text(&talk.sent, rows[i].mail);
		hear(&talk, STR("250 Ok\r\n"));
		smtp_client_rcpt(&talk.client, &recipient);
		assert_text(&talk.sent, rows[i].rcpt);
		talk_close(&talk);
	}
}

/* The longest envelope there can be fits into a command. */
static void test_the_longest_envelope(void **state)
{
	static char address[SMTP_PATH_MAX - 2], xtext[500];
	struct transaction transaction = {
		.mail_from.address = { address, sizeof(address) },
		.mail_params = { .has_size = true,
			.size = UINT64_MAX,
			.body = SMTP_BODY_8BITMIME,
			.smtputf8 = true,
			.ret = STR_INIT("FULL"),
			.envid = { xtext, 100 },
			.has_envid = true },
	};
	struct recipient recipient = {
		.path.address = { address, sizeof(address) },
		.params = { .notify = STR_INIT("SUCCESS,FAILURE,DELAY"), .orcpt = { xtext, 500 } },
	};
	struct talk talk;

	(void)state;
	memset(address, 'a', sizeof(address));
	memset(xtext, 'x', sizeof(xtext));
	talk_open(&talk, false);
	hear(&talk, STR("220 a\r\n"));
	hear(&talk, STR("250-a\r\n250-SIZE\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-"
			"PIPELINING\r\n250 DSN\r\n"));
	buf_truncate(&talk.sent, 0);
	smtp_client_mail(&talk.client, &transaction);
	smtp_client_rcpt(&talk.client, &recipient);
	struct str sent = buf_view(&talk.sent);
	assert_true(str_ends_with_nocase(
		str_range(sent, 0, str_find(sent, '\r')), str_make(xtext, 100)));
	assert_true(str_ends_with_nocase(str_range(sent, 0, sent.n - 2), str_make(xtext, 500)));
	talk_close(&talk);
}

static void test_a_whole_message(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct talk talk;
		talk_open(&talk, i);
		talk_greet(&talk);
		send_mail(&talk);
		send_rcpt(&talk);
		send_rcpt(&talk);
		/* Replies of a group in one piece, or in many. */
		hear(&talk, STR("250 Ok\r\n550-5.1.1 no\r\n550 5.1.1 such\r\n250 Ok\r\n"));
		assert_text(&talk.told, "MAIL 250\nRCPT 550\nRCPT 250\n");
		smtp_client_data(&talk.client);
		hear(&talk, STR("354 go\r\n"));
		smtp_client_dot(&talk.client);
		assert_int_equal(smtp_client_step(&talk.client), SMTP_CLIENT_DOT);
		hear(&talk, STR("250 2.0.0 queued\r\n"));
		smtp_client_rset(&talk.client);
		hear(&talk, STR("250 Ok\r\n"));
		smtp_client_quit(&talk.client);
		hear(&talk, STR("221 Bye\r\n"));
		assert_text(&talk.told, "DATA 354\nend of data 250\nRSET 250\nQUIT 221\n");
		assert_text(&talk.sent, "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n"
					"RCPT TO:<b@example.com>\r\nDATA\r\n.\r\nRSET\r\nQUIT\r\n");
		talk_close(&talk);
	}
}

/* ---- Out of step -------------------------------------------------------------------------- */

enum moment { AT_BANNER, AT_EHLO, AT_MAIL, AT_GROUP, AT_BODY, AT_DOT, AT_REST };

static void bring_to(struct talk *talk, enum moment moment)
{
	if (moment == AT_BANNER)
		return;
	if (moment == AT_EHLO) {
		hear(talk, STR("220 a\r\n"));
		return;
	}
	talk_greet(talk);
	if (moment == AT_REST)
		return;
	send_mail(talk);
	if (moment == AT_GROUP)
		send_rcpt(talk);
	if (moment == AT_MAIL || moment == AT_GROUP)
		return;
	hear(talk, STR("250 Ok\r\n"));
	smtp_client_data(&talk->client);
	hear(talk, STR("354 go\r\n"));
	if (moment == AT_DOT)
		smtp_client_dot(&talk->client);
	buf_truncate(&talk->told, 0);
}

#define SURPLUS "broken bytes behind the reply that was due\n"
#define UNASKED "broken a reply that nobody asked for"

static void test_what_breaks_it(void **state)
{
	static const struct {
		enum moment moment;
		const char *bytes, *whole;
		const char *byte_by_byte; /* NULL: the same */
	} rows[] = {
		/* Everything before its time: with the banner, with the reply to EHLO, … */
		{ AT_BANNER, "220 a\r\n250 b\r\n", SURPLUS, "EHLO 250\n" },
		{ AT_BANNER, "220 a\r\n2", SURPLUS, "" },
		{ AT_EHLO, "250 a\r\n250 b\r\n", "EHLO 250\n" SURPLUS,
			"EHLO 250\n" UNASKED " 250\n" },
		{ AT_EHLO, "500 a\r\n250 b\r\n", SURPLUS, "HELO 250\n" },
		{ AT_MAIL, "250 a\r\n250 b\r\n", "MAIL 250\n" SURPLUS,
			"MAIL 250\n" UNASKED " 250\n" },
		{ AT_MAIL, "250 a\r\n2", "MAIL 250\n" SURPLUS, "MAIL 250\n" },
		{ AT_GROUP, "250 a\r\n250 b\r\n250 c\r\n", "MAIL 250\nRCPT 250\n" SURPLUS,
			"MAIL 250\nRCPT 250\n" UNASKED " 250\n" },
		/* … the answer to the dot counts, whatever follows it. */
		{ AT_DOT, "250 queued\r\n421 bye\r\n", "end of data 250\n" SURPLUS,
			"end of data 250\n" UNASKED " 421\n" },
		/* Nobody asked. */
		{ AT_REST, "421 shutting down\r\n", UNASKED " 421\n", NULL },
		{ AT_REST, "250 Ok\r\n", UNASKED " 250\n", NULL },
		{ AT_BODY, "554-5.7.1 a\r\n554 5.7.1 virus\r\n", UNASKED " 554\n", NULL },
		{ AT_BODY, "250 queued\r\n", UNASKED " 250\n", NULL },
		/* 421 in place of an answer is the answer. */
		{ AT_MAIL, "421 bye\r\n", "MAIL 421\n", NULL },
		/* Malformed. */
		{ AT_MAIL, "250 a\n", "broken bare CR, bare LF or NUL in a reply\n", NULL },
		{ AT_MAIL, "hello\r\n", "broken a line is not a reply line\n", NULL },
		{ AT_MAIL, "100 a\r\n", "broken a line is not a reply line\n", NULL },
		{ AT_MAIL, "\r\n", "broken a line is not a reply line\n", NULL },
		{ AT_MAIL, "250-a\r\n251 a\r\n",
			"broken the lines of a reply have different codes\n", NULL },
		{ AT_GROUP, "250 a\r\n25\r\n", "MAIL 250\nbroken a line is not a reply line\n",
			NULL },
		{ AT_REST, "x\r\n", "broken a line is not a reply line\n", NULL },
	};

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		bool is_byte_by_byte = i % 2;
		const char *wanted = rows[i / 2].whole;
		struct talk talk;
		talk_open(&talk, false);
		bring_to(&talk, rows[i / 2].moment);
		talk.is_byte_by_byte = is_byte_by_byte;
		hear(&talk, str_from(rows[i / 2].bytes));
		if (is_byte_by_byte && rows[i / 2].byte_by_byte != NULL)
			wanted = rows[i / 2].byte_by_byte;
		assert_text(&talk.told, wanted);
		if (talk.client.is_broken)
			assert_false(smtp_client_can_send(&talk.client));
		talk_close(&talk);
	}
}

/*
 * Half a reply that nobody asked for, then a command of ours, then the other half: it must not be
 * taken for the answer. (An early 421, or an attacker who has the backend's connection in hand.)
 */
static void test_half_a_reply_too_early(void **state)
{
	static const char *const firsts[] = { "2", "250 O", "250-first\r\n",
		"250-first\r\n250 se" };
	static const char *const seconds[] = { "50 Ok\r\n", "k\r\n", "250 last\r\n", "cond\r\n" };

	(void)state;
	for (size_t i = 0; i < sizeof(firsts) / sizeof(firsts[0]); i++) {
		struct talk talk;
		talk_open(&talk, false);
		talk_greet(&talk);
		hear(&talk, str_from(firsts[i]));
		assert_text(&talk.told, "");
		send_mail(&talk);
		hear(&talk, str_from(seconds[i]));
		assert_text(&talk.told, UNASKED " 250\n");
		assert_true(talk.client.is_broken);
		talk_close(&talk);
	}
}

/* The owner sends from inside the answer; bytes that stood behind the reply were too early for it. */
static void test_sending_from_inside_an_answer(void **state)
{
	struct talk talk;

	(void)state;
	talk_open(&talk, false);
	talk.sends_on_answer = true;
	talk.on_answer = SMTP_CLIENT_EHLO;
	hear(&talk, STR("220 a\r\n"));
	hear(&talk, STR("250 a\r\n250 for MAIL\r\n"));
	assert_text(&talk.told, "EHLO 250\n" SURPLUS);
	talk_close(&talk);
	/* … also when it was not the last that was under way. */
	talk_open(&talk, false);
	talk_greet(&talk);
	send_rcpt(&talk);
	smtp_client_rset(&talk.client);
	talk.sends_on_answer = true;
	talk.on_answer = SMTP_CLIENT_RCPT;
	hear(&talk, STR("250 Ok\r\n250 Ok\r\n250 for MAIL\r\n"));
	assert_text(&talk.told, "RCPT 250\nRSET 250\n" SURPLUS);
	talk_close(&talk);
}

static void test_lines_without_end(void **state)
{
	static char line[SMTP_REPLY_LINE_MAX], text[SMTP_CLIENT_INPUT_MAX];
	size_t used = 0;

	(void)state;
	memset(line, '2', sizeof(line));
	for (int i = 0; i < 2; i++) {
		struct talk talk;
		talk_open(&talk, i);
		hear(&talk, str_make(line, sizeof(line) - 1));
		assert_text(&talk.told, "");
		hear(&talk, str_make(line, 1));
		assert_text(&talk.told, "broken a line or the reply is too long\n");
		talk_close(&talk);
	}
	/* A reply of many lines that does not end within the owner's buffer. */
	memset(text, 'x', sizeof(text));
	while (used + 1000 <= sizeof(text)) {
		memcpy(text + used, "220-", 4);
		memcpy(text + used + 998, "\r\n", 2);
		used += 1000;
	}
	memcpy(text + used, "220-", 4);
	struct talk talk;
	talk_open(&talk, false);
	hear(&talk, str_make(text, sizeof(text) - 1));
	assert_text(&talk.told, "");
	hear(&talk, STR("x"));
	assert_text(&talk.told, "broken a line or the reply is too long\n");
	talk_close(&talk);
}

static void test_broken_stays_broken(void **state)
{
	struct talk talk;

	(void)state;
	talk_open(&talk, false);
	bring_to(&talk, AT_MAIL);
	hear(&talk, STR("x\r\n"));
	buf_truncate(&talk.told, 0);
	assert_int_equal(smtp_client_feed(&talk.client, STR("250 Ok\r\n")), 0);
	assert_text(&talk.told, "");
	talk_close(&talk);
}

/* ---- STARTTLS ----------------------------------------------------------------------------- */

#define TLS_EHLO "250-mta\r\n250-PIPELINING\r\n250-SMTPUTF8\r\n250 STARTTLS\r\n"

static void bring_to_starttls(struct talk *talk)
{
	talk_open(talk, false);
	hear(talk, STR("220 mta\r\n"));
	hear(talk, STR(TLS_EHLO));
	assert_true(talk->client.capabilities.extensions & SMTP_EXT_STARTTLS);
	buf_truncate(&talk->told, 0);
	buf_truncate(&talk->sent, 0);
	smtp_client_starttls(&talk->client);
	assert_text(&talk->sent, "STARTTLS\r\n");
	assert_int_equal(smtp_client_step(&talk->client), SMTP_CLIENT_STARTTLS);
}

static void test_starttls(void **state)
{
	struct talk talk;

	(void)state;
	for (int byte_by_byte = 0; byte_by_byte < 2; byte_by_byte++) {
		bring_to_starttls(&talk);
		talk.is_byte_by_byte = byte_by_byte;
		hear(&talk, STR("220-go\r\n220 ahead\r\n"));
		assert_text(&talk.told, "STARTTLS 220\n");
		assert_int_equal(smtp_client_pending(&talk.client), 0);
		/* Nothing of before counts; no banner comes. */
		smtp_client_hello_again(&talk.client, STR("mx.example.net"));
		assert_text(&talk.sent, "EHLO mx.example.net\r\n");
		assert_false(smtp_client_can_send(&talk.client));
		assert_false(talk.client.is_ready);
		assert_int_equal(talk.client.capabilities.extensions, 0);
		hear(&talk, STR("250-mta\r\n250 8BITMIME\r\n"));
		assert_text(&talk.told, "EHLO 250\n");
		assert_true(smtp_client_can_send(&talk.client));
		assert_int_equal(talk.client.capabilities.extensions, SMTP_EXT_8BITMIME);
		talk_close(&talk);
	}
}

/* Refused, it leaves the dialogue where it was. */
static void test_starttls_refused(void **state)
{
	struct talk talk;

	(void)state;
	bring_to_starttls(&talk);
	hear(&talk, STR("454 4.7.0 not now\r\n"));
	assert_text(&talk.told, "STARTTLS 454\n");
	assert_true(smtp_client_can_send(&talk.client));
	assert_true(talk.client.capabilities.extensions & SMTP_EXT_SMTPUTF8);
	send_mail(&talk);
	talk_close(&talk);
}

/* Plaintext behind the 220 would be taken for said under TLS: it breaks the dialogue, be it a whole
 * reply, a piece of one, or no reply at all. */
static void test_surplus_behind_220(void **state)
{
	static const char *const surplus[] = { "250-mta\r\n250 AUTH PLAIN\r\n", "2", "250-mta\r\n",
		"\r\n", "\x16\x03\x03", "220 ahead\r\n", "\n" };
	struct talk talk;
	char text[128];

	(void)state;
	for (size_t i = 0; i < sizeof(surplus) / sizeof(surplus[0]); i++) {
		bring_to_starttls(&talk);
		snprintf(text, sizeof(text), "220 ahead\r\n%s", surplus[i]);
		hear(&talk, str_from(text));
		assert_text(&talk.told, "STARTTLS 220\n" SURPLUS);
		assert_true(talk.client.is_broken);
		assert_false(smtp_client_can_send(&talk.client));
		talk_close(&talk);
	}
}

/* A server that knows no EHLO under TLS gets HELO, and offers nothing. */
static void test_helo_under_tls(void **state)
{
	struct talk talk;

	(void)state;
	bring_to_starttls(&talk);
	hear(&talk, STR("220 ahead\r\n"));
	smtp_client_hello_again(&talk.client, STR("mx.example.net"));
	hear(&talk, STR("500 what\r\n"));
	hear(&talk, STR("250 mta\r\n"));
	assert_text(&talk.sent, "EHLO mx.example.net\r\nHELO mx.example.net\r\n");
	assert_text(&talk.told, "STARTTLS 220\nHELO 250\n");
	assert_int_equal(talk.client.capabilities.extensions, 0);
	talk_close(&talk);
}

/* ---- Bugs of the owner -------------------------------------------------------------------- */

static void send_too_much(struct talk *talk)
{
	send_mail(talk);
	send_mail(talk);
}

static void dot_while_waiting(struct talk *talk)
{
	send_mail(talk);
	smtp_client_dot(&talk->client);
}

static void send_before_greeting(struct talk *talk)
{
	talk_close(talk);
	talk_open(talk, false);
	send_mail(talk);
}

static void starttls_while_waiting(struct talk *talk)
{
	send_mail(talk);
	smtp_client_starttls(&talk->client);
}

static void starttls_before_greeting(struct talk *talk)
{
	talk_close(talk);
	talk_open(talk, false);
	smtp_client_starttls(&talk->client);
}

static void hello_again_while_waiting(struct talk *talk)
{
	smtp_client_starttls(&talk->client);
	smtp_client_hello_again(&talk->client, STR("mx.example.net"));
}

static void test_asserts(void **state)
{
	static void (*const bugs[])(struct talk * talk) = { send_too_much, dot_while_waiting,
		send_before_greeting, starttls_while_waiting, starttls_before_greeting,
		hello_again_while_waiting };

	(void)state;
	for (size_t i = 0; i < sizeof(bugs) / sizeof(bugs[0]); i++) {
		pid_t child = fork();
		if (child == 0) {
			struct talk talk;
			(void)!freopen("/dev/null", "w", stderr);
			signal(SIGABRT, SIG_DFL); /* cmocka's handler would go on with its tests */
			talk_open(&talk, false);
			hear(&talk, STR("220 a\r\n"));
			hear(&talk, STR("250 a\r\n"));
			bugs[i](&talk);
			_exit(0);
		}
		int status;
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_greeting),
		cmocka_unit_test(test_one_at_a_time_without_pipelining),
		cmocka_unit_test(test_the_window_of_pipelining),
		cmocka_unit_test(test_the_envelope),
		cmocka_unit_test(test_the_longest_envelope),
		cmocka_unit_test(test_a_whole_message),
		cmocka_unit_test(test_what_breaks_it),
		cmocka_unit_test(test_half_a_reply_too_early),
		cmocka_unit_test(test_sending_from_inside_an_answer),
		cmocka_unit_test(test_lines_without_end),
		cmocka_unit_test(test_broken_stays_broken),
		cmocka_unit_test(test_starttls),
		cmocka_unit_test(test_starttls_refused),
		cmocka_unit_test(test_surplus_behind_220),
		cmocka_unit_test(test_helo_under_tls),
		cmocka_unit_test(test_asserts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
