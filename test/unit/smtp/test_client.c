#include "smtp/client.h"

#include <string.h>

#include "proto/smtp_params.h"
#include "support/client_talk.h"

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
			talk_hear(&talk, str_cut(&rest, '|'));
		talk_assert(&talk.sent, rows[i / 2].sent);
		talk_assert(&talk.told, rows[i / 2].told);
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
	talk_hear(&talk, STR("220 a\r\n"));
	talk_hear(&talk, STR("250 a\r\n"));
	assert_true(smtp_client_can_send(&talk.client));
	smtp_client_rset(&talk.client);
	assert_false(smtp_client_can_send(&talk.client));
	assert_int_equal(smtp_client_pending(&talk.client), 1);
	assert_int_equal(smtp_client_step(&talk.client), SMTP_CLIENT_RSET);
	talk_hear(&talk, STR("250 Ok\r\n"));
	assert_true(smtp_client_can_send(&talk.client));
	talk_close(&talk);
}

static void test_the_window_of_pipelining(void **state)
{
	struct talk talk;

	(void)state;
	talk_open(&talk, false);
	talk_greet(&talk, STR(SERVER_EHLO));
	/* Twice, so that the ring goes round. */
	for (int turn = 0; turn < 2; turn++) {
		for (unsigned i = 0; i < SMTP_CLIENT_WINDOW; i++) {
			assert_true(smtp_client_can_send(&talk.client));
			talk_rcpt(&talk);
			assert_int_equal(smtp_client_pending(&talk.client), i + 1);
		}
		assert_false(smtp_client_can_send(&talk.client));
		talk_hear(&talk, STR("250 Ok\r\n"));
		assert_true(smtp_client_can_send(&talk.client));
		while (smtp_client_pending(&talk.client) > 0)
			talk_hear(&talk, STR("550 no\r\n"));
	}
	assert_false(talk.client.is_broken);
	talk_close(&talk);
}

/* RFC 2920 section 3.1: nothing goes behind the command that ends a group. */
static void test_the_end_of_a_group(void **state)
{
	static void (*const last[])(
		struct smtp_client * client) = { smtp_client_data, smtp_client_quit };

	(void)state;
	for (size_t i = 0; i < sizeof(last) / sizeof(last[0]); i++) {
		struct talk talk;
		talk_open(&talk, false);
		talk_greet(&talk, STR(SERVER_EHLO));
		smtp_client_rset(&talk.client);
		talk_mail(&talk);
		talk_rcpt(&talk);
		assert_true(smtp_client_can_send(&talk.client));
		last[i](&talk.client);
		assert_false(smtp_client_can_send(&talk.client));
		talk_hear(&talk, STR("250 a\r\n250 b\r\n250 c\r\n"));
		assert_false(smtp_client_can_send(&talk.client));
		talk_hear(&talk, STR("503 d\r\n"));
		assert_true(smtp_client_can_send(&talk.client));
		talk_close(&talk);
	}
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
		talk_hear(&talk, STR("220 a\r\n"));
		talk_hear(&talk, str_from(rows[i].ehlo));
		buf_truncate(&talk.sent, 0);
		smtp_client_mail(&talk.client, &transaction);
		talk_assert(&talk.sent, rows[i].mail);
		talk_hear(&talk, STR("250 Ok\r\n"));
		smtp_client_rcpt(&talk.client, &recipient);
		talk_assert(&talk.sent, rows[i].rcpt);
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
	talk_hear(&talk, STR("220 a\r\n"));
	talk_hear(&talk, STR("250-a\r\n250-SIZE\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-"
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
		talk_greet(&talk, STR(SERVER_EHLO));
		talk_mail(&talk);
		talk_rcpt(&talk);
		talk_rcpt(&talk);
		/* Replies of a group in one piece, or in many. */
		talk_hear(&talk, STR("250 Ok\r\n550-5.1.1 no\r\n550 5.1.1 such\r\n250 Ok\r\n"));
		talk_assert(&talk.told, "MAIL 250\nRCPT 550\nRCPT 250\n");
		smtp_client_data(&talk.client);
		talk_hear(&talk, STR("354 go\r\n"));
		smtp_client_dot(&talk.client);
		assert_int_equal(smtp_client_step(&talk.client), SMTP_CLIENT_DOT);
		talk_hear(&talk, STR("250 2.0.0 queued\r\n"));
		smtp_client_rset(&talk.client);
		talk_hear(&talk, STR("250 Ok\r\n"));
		smtp_client_quit(&talk.client);
		talk_hear(&talk, STR("221 Bye\r\n"));
		talk_assert(&talk.told, "DATA 354\nend of data 250\nRSET 250\nQUIT 221\n");
		talk_assert(&talk.sent, "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n"
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
		talk_hear(talk, STR("220 a\r\n"));
		return;
	}
	talk_greet(talk, STR(SERVER_EHLO));
	if (moment == AT_REST)
		return;
	talk_mail(talk);
	if (moment == AT_GROUP)
		talk_rcpt(talk);
	if (moment == AT_MAIL || moment == AT_GROUP)
		return;
	talk_hear(talk, STR("250 Ok\r\n"));
	smtp_client_data(&talk->client);
	talk_hear(talk, STR("354 go\r\n"));
	if (moment == AT_DOT)
		smtp_client_dot(&talk->client);
	buf_truncate(&talk->told, 0);
}

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
		talk_hear(&talk, str_from(rows[i / 2].bytes));
		if (is_byte_by_byte && rows[i / 2].byte_by_byte != NULL)
			wanted = rows[i / 2].byte_by_byte;
		talk_assert(&talk.told, wanted);
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
		talk_greet(&talk, STR(SERVER_EHLO));
		talk_hear(&talk, str_from(firsts[i]));
		talk_assert(&talk.told, "");
		talk_mail(&talk);
		talk_hear(&talk, str_from(seconds[i]));
		talk_assert(&talk.told, UNASKED " 250\n");
		assert_true(talk.client.is_broken);
		talk_close(&talk);
	}
}

static void mail_behind_ehlo(struct talk *talk, enum smtp_client_step step)
{
	if (step == SMTP_CLIENT_EHLO)
		talk_mail(talk);
}

static void mail_behind_rcpt(struct talk *talk, enum smtp_client_step step)
{
	if (step == SMTP_CLIENT_RCPT)
		talk_mail(talk);
}

/* The owner sends from inside the answer; bytes that stood behind the reply were too early for it. */
static void test_sending_from_inside_an_answer(void **state)
{
	struct talk talk;

	(void)state;
	talk_open(&talk, false);
	talk.on_answer = mail_behind_ehlo;
	talk_hear(&talk, STR("220 a\r\n"));
	talk_hear(&talk, STR("250 a\r\n250 for MAIL\r\n"));
	talk_assert(&talk.told, "EHLO 250\n" SURPLUS);
	talk_close(&talk);
	/* … also when it was not the last that was under way. */
	talk_open(&talk, false);
	talk_greet(&talk, STR(SERVER_EHLO));
	talk_rcpt(&talk);
	smtp_client_rset(&talk.client);
	talk.on_answer = mail_behind_rcpt;
	talk_hear(&talk, STR("250 Ok\r\n250 Ok\r\n250 for MAIL\r\n"));
	talk_assert(&talk.told, "RCPT 250\nRSET 250\n" SURPLUS);
	talk_close(&talk);
}

/* A reply too many in a group answers what is behind it. Servers tell by the enhanced code what they
 * answer, and say the same to each MAIL. */
static void test_out_of_step(void **state)
{
	static const struct {
		const char *first, *second;
		bool is_in_step;
	} rows[] = {
		{ "250 2.1.0 Ok\r\n", "250 2.1.0 Sender ok\r\n", true },
		{ "250 2.1.0 Ok\r\n", "250 2.0.0 Ok\r\n", false },
		{ "250 2.1.0 Ok\r\n", "250 2.1.5 Ok\r\n", false },
		{ "250 2.1.0 Ok\r\n", "250 Ok\r\n", false },
		{ "250 Ok\r\n", "250 2.0.0 Ok\r\n", false },
		{ "250 Ok\r\n", "250 Reset\r\n", true },
		{ "250 0.0 Ok\r\n", "250 Ok\r\n", true },
		/* Refusals have their own, and are no measure. */
		{ "250 2.1.0 Ok\r\n", "450 4.7.1 Later\r\n", true },
		{ "550 5.7.1 No\r\n", "250 2.1.0 Ok\r\n", true },
	};

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		struct talk talk;
		talk_open(&talk, i % 2);
		talk_greet(&talk, STR(SERVER_EHLO));
		talk_mail(&talk);
		talk_hear(&talk, str_from(rows[i / 2].first));
		talk_mail(&talk);
		talk_hear(&talk, str_from(rows[i / 2].second));
		if (talk.client.is_broken == rows[i / 2].is_in_step)
			fail_msg("%s then %s", rows[i / 2].first, rows[i / 2].second);
		talk_close(&talk);
	}
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
		talk_hear(&talk, str_make(line, sizeof(line) - 1));
		talk_assert(&talk.told, "");
		talk_hear(&talk, str_make(line, 1));
		talk_assert(&talk.told, "broken a line or the reply is too long\n");
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
	talk_hear(&talk, str_make(text, sizeof(text) - 1));
	talk_assert(&talk.told, "");
	talk_hear(&talk, STR("x"));
	talk_assert(&talk.told, "broken a line or the reply is too long\n");
	talk_close(&talk);
}

static void test_broken_stays_broken(void **state)
{
	struct talk talk;

	(void)state;
	talk_open(&talk, false);
	bring_to(&talk, AT_MAIL);
	talk_hear(&talk, STR("x\r\n"));
	buf_truncate(&talk.told, 0);
	assert_int_equal(smtp_client_feed(&talk.client, STR("250 Ok\r\n")), 0);
	talk_assert(&talk.told, "");
	talk_close(&talk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_greeting),
		cmocka_unit_test(test_one_at_a_time_without_pipelining),
		cmocka_unit_test(test_the_window_of_pipelining),
		cmocka_unit_test(test_the_end_of_a_group),
		cmocka_unit_test(test_the_envelope),
		cmocka_unit_test(test_the_longest_envelope),
		cmocka_unit_test(test_a_whole_message),
		cmocka_unit_test(test_what_breaks_it),
		cmocka_unit_test(test_half_a_reply_too_early),
		cmocka_unit_test(test_sending_from_inside_an_answer),
		cmocka_unit_test(test_out_of_step),
		cmocka_unit_test(test_lines_without_end),
		cmocka_unit_test(test_broken_stays_broken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
