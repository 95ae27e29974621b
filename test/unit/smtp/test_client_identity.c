#include "smtp/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/smtp_params.h"
#include "support/client_talk.h"

#define IDENTITY_EHLO \
	"250-mta\r\n250-PIPELINING\r\n" \
	"250-XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN SESSION\r\n" \
	"250 XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT\r\n"

static const struct endpoint address = {
	.ip.bytes = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1 },
	.port = 4711,
};

static struct xclient_identity usual(void)
{
	return (struct xclient_identity){
		.name = STR_INIT("client.example.org"),
		.address = &address,
		.protocol = XCLIENT_ESMTP,
		.hello = STR_INIT("client.example"),
		.login = STR_INIT("bob+tag@x.y"),
		.ident = STR_INIT("id.1"),
		.source = XCLIENT_REMOTE,
	};
}

static char many[300];

/* Needs two commands of XCLIENT, and two of XFORWARD. */
static struct xclient_identity large(void)
{
	struct xclient_identity identity = usual();

	memset(many, 'x', sizeof(many));
	for (size_t i = 50; i < 250; i += 50)
		many[i] = '.';
	identity.name = identity.hello = identity.login = str_make(many, 250);
	return identity;
}

/* ---- XCLIENT ------------------------------------------------------------------------------ */

static void test_xclient(void **state)
{
	struct xclient_identity identity = usual();

	(void)state;
	for (int byte_by_byte = 0; byte_by_byte < 2; byte_by_byte++) {
		struct talk talk;
		talk_open(&talk, byte_by_byte);
		talk_greet(&talk, STR(IDENTITY_EHLO));
		assert_true(smtp_client_xclient(&talk.client, &identity));
		talk_assert(&talk.sent,
			"XCLIENT NAME=client.example.org REVERSE_NAME=[UNAVAILABLE] "
			"ADDR=192.0.2.1 PORT=4711 PROTO=ESMTP HELO=client.example "
			"LOGIN=bob+2Btag@x.y\r\n");
		assert_int_equal(smtp_client_step(&talk.client), SMTP_CLIENT_XCLIENT);
		assert_false(smtp_client_can_send(&talk.client));
		talk_hear(&talk, STR("220 mta ESMTP\r\n"));
		talk_assert(&talk.told, "XCLIENT 220\n");
		/* Greeted anew: nothing but EHLO may come. */
		assert_false(smtp_client_can_send(&talk.client));
		assert_false(smtp_client_is_quiet(&talk.client));
		smtp_client_hello_again(&talk.client, identity.hello);
		talk_assert(&talk.sent, "EHLO client.example\r\n");
		talk_hear(&talk, STR("250-mta\r\n250 8BITMIME\r\n"));
		talk_assert(&talk.told, "EHLO 250\n");
		assert_int_equal(talk.client.capabilities.extensions, SMTP_EXT_8BITMIME);
		assert_int_equal(talk.client.capabilities.xclient, 0);
		assert_int_equal(talk.client.capabilities.xforward, 0);
		assert_true(smtp_client_can_send(&talk.client));
		talk_close(&talk);
	}
}

static void hello_from_inside(struct talk *talk, enum smtp_client_step step)
{
	if (step == SMTP_CLIENT_XCLIENT)
		smtp_client_hello_again(&talk->client, STR("client.example"));
}

/* The greeting ends a group: EHLO's answer cannot stand behind it. */
static void test_bytes_behind_the_greeting(void **state)
{
	static const char *const surplus[] = { "250 mta\r\n", "250-mta\r\n", "2", "\r\n",
		"220 mta\r\n" };
	struct xclient_identity identity = usual();
	char text[64];

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(surplus) / sizeof(surplus[0]); i++) {
		struct talk talk;
		talk_open(&talk, false);
		talk_greet(&talk, STR(IDENTITY_EHLO));
		smtp_client_xclient(&talk.client, &identity);
		talk.on_answer = i % 2 ? hello_from_inside : NULL;
		snprintf(text, sizeof(text), "220 mta\r\n%s", surplus[i / 2]);
		talk_hear(&talk, str_from(text));
		talk_assert(&talk.told, "XCLIENT 220\n" SURPLUS);
		talk_close(&talk);
	}
}

static void test_hello_from_inside_the_answer(void **state)
{
	struct xclient_identity identity = usual();
	struct talk talk;

	(void)state;
	talk_open(&talk, false);
	talk_greet(&talk, STR(IDENTITY_EHLO));
	smtp_client_xclient(&talk.client, &identity);
	talk.on_answer = hello_from_inside;
	talk_hear(&talk, STR("220 mta\r\n"));
	talk_hear(&talk, STR("250 mta\r\n"));
	talk_assert(&talk.told, "XCLIENT 220\nEHLO 250\n");
	talk_close(&talk);
}

static void test_xclient_refused(void **state)
{
	static const int codes[] = { 421, 501, 503, 550, 554, 450, 250 };
	struct xclient_identity identity = usual();
	char text[32];

	(void)state;
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		struct talk talk;
		talk_open(&talk, false);
		talk_greet(&talk, STR(IDENTITY_EHLO));
		smtp_client_xclient(&talk.client, &identity);
		snprintf(text, sizeof(text), "%d no\r\n", codes[i]);
		talk_hear(&talk, str_from(text));
		snprintf(text, sizeof(text), "XCLIENT %d\n", codes[i]);
		talk_assert(&talk.told, text);
		assert_true(smtp_client_can_send(&talk.client));
		talk_close(&talk);
	}
}

static void greet_large(struct talk *talk, const struct xclient_identity *identity)
{
	talk_open(talk, false);
	talk_greet(talk, STR("250-mta\r\n250 XCLIENT NAME ADDR HELO LOGIN\r\n"));
	assert_true(smtp_client_xclient(&talk->client, identity));
	/* What comes in the last command is not in this one; HELO is left to EHLO. */
	assert_int_equal(buf_used(&talk->sent), strlen("XCLIENT NAME=\r\n") + 250);
	buf_truncate(&talk->sent, 0);
}

static void test_xclient_in_two(void **state)
{
	struct xclient_identity identity = large();
	struct talk talk;
	char wanted[600];

	(void)state;
	greet_large(&talk, &identity);
	talk_hear(&talk, STR("220 once\r\n"));
	talk_assert(&talk.told, "");
	snprintf(wanted, sizeof(wanted), "XCLIENT ADDR=192.0.2.1 LOGIN=%.250s\r\n", many);
	talk_assert(&talk.sent, wanted);
	assert_false(smtp_client_can_send(&talk.client));
	talk_hear(&talk, STR("220 twice\r\n"));
	talk_assert(&talk.told, "XCLIENT 220\n");
	talk_assert(&talk.sent, "");
	smtp_client_hello_again(&talk.client, STR("client.example"));
	talk_close(&talk);
	/* Both answers at once: the second was there before its command. */
	greet_large(&talk, &identity);
	talk_hear(&talk, STR("220 once\r\n220 twice\r\n"));
	talk_assert(&talk.told, SURPLUS);
	talk_close(&talk);
}

/* Refused at the second, the session is not what it was; at the first, nothing has happened. */
static void test_one_of_two_refused(void **state)
{
	struct xclient_identity identity = large();
	struct talk talk;

	(void)state;
	greet_large(&talk, &identity);
	talk_hear(&talk, STR("220 once\r\n"));
	talk_hear(&talk, STR("550 no\r\n"));
	talk_assert(&talk.told, "XCLIENT 550\n");
	assert_false(smtp_client_can_send(&talk.client));
	talk_close(&talk);

	greet_large(&talk, &identity);
	talk_hear(&talk, STR("550 no\r\n"));
	talk_assert(&talk.told, "XCLIENT 550\n");
	assert_true(smtp_client_can_send(&talk.client));
	talk_assert(&talk.sent, "");
	talk_close(&talk);
}

static void test_nothing_to_say(void **state)
{
	struct xclient_identity identity = { .login = STR_INIT("bob") };
	struct talk talk;

	(void)state;
	talk_open(&talk, false);
	talk_greet(&talk, STR("250-mta\r\n250 XCLIENT PROTO SESSION\r\n"));
	assert_false(smtp_client_xclient(&talk.client, &identity));
	talk_assert(&talk.sent, "");
	assert_int_equal(smtp_client_pending(&talk.client), 0);
	assert_true(smtp_client_can_send(&talk.client));
	talk_close(&talk);
}

/* ---- XFORWARD ----------------------------------------------------------------------------- */

static void test_xforward(void **state)
{
	struct xclient_identity identity = usual();
	struct talk talk;

	(void)state;
	talk_open(&talk, false);
	talk_greet(&talk, STR(IDENTITY_EHLO));
	/* In front of each MAIL, and in one group with it. */
	for (int i = 0; i < 2; i++) {
		assert_true(smtp_client_xforward(&talk.client, &identity));
		assert_true(smtp_client_can_send(&talk.client));
		talk_mail(&talk);
		talk_rcpt(&talk);
		talk_assert(&talk.sent,
			"XFORWARD NAME=client.example.org ADDR=192.0.2.1 PORT=4711 PROTO=ESMTP "
			"HELO=client.example IDENT=id.1 SOURCE=REMOTE\r\n"
			"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n");
		talk_hear(&talk, STR("250 Ok\r\n250 Ok\r\n550 no\r\n"));
		talk_assert(&talk.told, "XFORWARD 250\nMAIL 250\nRCPT 550\n");
	}
	talk_close(&talk);
}

static void test_xforward_in_two(void **state)
{
	struct xclient_identity identity = large();

	(void)state;
	for (int pipelines = 0; pipelines < 2; pipelines++) {
		struct talk talk;
		talk_open(&talk, false);
		talk_greet(&talk, pipelines ? STR(IDENTITY_EHLO)
					    : STR("250-a\r\n250 XFORWARD NAME ADDR HELO\r\n"));
		assert_false(smtp_client_xforward(&talk.client, &identity));
		assert_int_equal(smtp_client_can_send(&talk.client), pipelines);
		if (!pipelines)
			talk_hear(&talk, STR("250 Ok\r\n"));
		assert_true(smtp_client_xforward(&talk.client, &identity));
		struct str sent = buf_view(&talk.sent);
		assert_true(str_starts_with(sent, STR("XFORWARD NAME=xxx")));
		sent = str_from_pos(sent, str_find(sent, '\n') + 1);
		assert_true(str_starts_with(sent, STR("XFORWARD HELO=xxx")));
		sent = str_from_pos(sent, str_find(sent, '\n') + 1);
		assert_int_equal(sent.n, 0);
		talk_hear(&talk, pipelines ? STR("250 Ok\r\n501 no\r\n") : STR("501 no\r\n"));
		talk_assert(&talk.told, "XFORWARD 250\nXFORWARD 501\n");
		talk_close(&talk);
	}
}

/* What was begun and not ended is begun anew. */
static void test_xforward_given_up(void **state)
{
	struct xclient_identity identity = large();
	struct talk talk;

	(void)state;
	talk_open(&talk, false);
	talk_greet(&talk, STR(IDENTITY_EHLO));
	assert_false(smtp_client_xforward(&talk.client, &identity));
	smtp_client_rset(&talk.client);
	buf_truncate(&talk.sent, 0);
	identity = usual();
	assert_true(smtp_client_xforward(&talk.client, &identity));
	assert_true(str_starts_with(buf_view(&talk.sent), STR("XFORWARD NAME=client")));
	talk_close(&talk);
}

/* ---- Bugs of the owner -------------------------------------------------------------------- */

static struct xclient_identity whoever;

static void xclient_while_waiting(struct talk *talk)
{
	talk_mail(talk);
	smtp_client_xclient(&talk->client, &whoever);
}

static void send_behind_xclient(struct talk *talk)
{
	smtp_client_xclient(&talk->client, &whoever);
	talk_mail(talk);
}

static void send_behind_greeting(struct talk *talk)
{
	smtp_client_xclient(&talk->client, &whoever);
	talk_hear(talk, STR("220 mta\r\n"));
	talk_mail(talk);
}

static void test_asserts(void **state)
{
	static void (*const bugs[])(struct talk * talk) = { xclient_while_waiting,
		send_behind_xclient, send_behind_greeting };

	(void)state;
	for (size_t i = 0; i < sizeof(bugs) / sizeof(bugs[0]); i++)
		talk_assert_abort(STR(IDENTITY_EHLO), bugs[i]);
}

static void xforward_not_announced(struct talk *talk)
{
	smtp_client_xforward(&talk->client, &whoever);
}

static void test_not_announced(void **state)
{
	(void)state;
	talk_assert_abort(STR("250 mta\r\n"), xforward_not_announced);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_xclient),
		cmocka_unit_test(test_bytes_behind_the_greeting),
		cmocka_unit_test(test_hello_from_inside_the_answer),
		cmocka_unit_test(test_xclient_refused),
		cmocka_unit_test(test_xclient_in_two),
		cmocka_unit_test(test_one_of_two_refused),
		cmocka_unit_test(test_nothing_to_say),
		cmocka_unit_test(test_xforward),
		cmocka_unit_test(test_xforward_in_two),
		cmocka_unit_test(test_xforward_given_up),
		cmocka_unit_test(test_asserts),
		cmocka_unit_test(test_not_announced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
