#include "smtp/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/smtp_params.h"
#include "support/client_talk.h"

/* ---- STARTTLS ----------------------------------------------------------------------------- */

#define TLS_EHLO "250-mta\r\n250-PIPELINING\r\n250-SMTPUTF8\r\n250 STARTTLS\r\n"

static void bring_to_starttls(struct talk *talk)
{
	talk_open(talk, false);
	talk_hear(talk, STR("220 mta\r\n"));
	talk_hear(talk, STR(TLS_EHLO));
	assert_true(talk->client.capabilities.extensions & SMTP_EXT_STARTTLS);
	buf_truncate(&talk->told, 0);
	buf_truncate(&talk->sent, 0);
	smtp_client_starttls(&talk->client);
	talk_assert(&talk->sent, "STARTTLS\r\n");
	assert_int_equal(smtp_client_step(&talk->client), SMTP_CLIENT_STARTTLS);
}

static void test_starttls(void **state)
{
	struct talk talk;

	(void)state;
	for (int byte_by_byte = 0; byte_by_byte < 2; byte_by_byte++) {
		bring_to_starttls(&talk);
		talk.is_byte_by_byte = byte_by_byte;
		talk_hear(&talk, STR("220-go\r\n220 ahead\r\n"));
		talk_assert(&talk.told, "STARTTLS 220\n");
		assert_int_equal(smtp_client_pending(&talk.client), 0);
		/* Nothing of before counts; no banner comes. */
		smtp_client_hello_again(&talk.client, STR("mx.example.net"));
		talk_assert(&talk.sent, "EHLO mx.example.net\r\n");
		assert_false(smtp_client_can_send(&talk.client));
		assert_false(talk.client.is_ready);
		assert_int_equal(talk.client.capabilities.extensions, 0);
		talk_hear(&talk, STR("250-mta\r\n250 8BITMIME\r\n"));
		talk_assert(&talk.told, "EHLO 250\n");
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
	talk_hear(&talk, STR("454 4.7.0 not now\r\n"));
	talk_assert(&talk.told, "STARTTLS 454\n");
	assert_true(smtp_client_can_send(&talk.client));
	assert_true(talk.client.capabilities.extensions & SMTP_EXT_SMTPUTF8);
	talk_mail(&talk);
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
		talk_hear(&talk, str_from(text));
		talk_assert(&talk.told, "STARTTLS 220\n" SURPLUS);
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
	talk_hear(&talk, STR("220 ahead\r\n"));
	smtp_client_hello_again(&talk.client, STR("mx.example.net"));
	talk_hear(&talk, STR("500 what\r\n"));
	talk_hear(&talk, STR("250 mta\r\n"));
	talk_assert(&talk.sent, "EHLO mx.example.net\r\nHELO mx.example.net\r\n");
	talk_assert(&talk.told, "STARTTLS 220\nHELO 250\n");
	assert_int_equal(talk.client.capabilities.extensions, 0);
	talk_close(&talk);
}

/* ---- AUTH --------------------------------------------------------------------------------- */

#define AUTH_EHLO "250-mta\r\n250-PIPELINING\r\n250 AUTH PLAIN LOGIN\r\n"

static void test_auth(void **state)
{
	(void)state;
	for (int byte_by_byte = 0; byte_by_byte < 2; byte_by_byte++) {
		struct talk talk;
		talk_open(&talk, byte_by_byte);
		talk_greet(&talk, STR(AUTH_EHLO));
		assert_int_equal(talk.client.capabilities.auth, SMTP_AUTH_PLAIN | SMTP_AUTH_LOGIN);
		smtp_client_auth(&talk.client, STR("AUTH LOGIN"));
		assert_int_equal(smtp_client_step(&talk.client), SMTP_CLIENT_AUTH);
		assert_false(smtp_client_can_send(&talk.client));
		talk_hear(&talk, STR("334 VXNlcm5hbWU6\r\n"));
		smtp_client_auth(&talk.client, STR("bWU="));
		talk_hear(&talk, STR("334 \r\n"));
		/* An answer may be empty. */
		smtp_client_auth(&talk.client, STR(""));
		talk_hear(&talk, STR("235 2.7.0 in\r\n"));
		talk_assert(&talk.sent, "AUTH LOGIN\r\nbWU=\r\n\r\n");
		talk_assert(&talk.told, "AUTH 334\nAUTH 334\nAUTH 235\n");
		assert_true(smtp_client_can_send(&talk.client));
		assert_int_equal(
			talk.client.capabilities.extensions, SMTP_EXT_PIPELINING | SMTP_EXT_AUTH);
		talk_close(&talk);
	}
}

/* The longest line goes out whole, and bytes behind a 334 are none of it. */
static void test_auth_out_of_step(void **state)
{
	static char longest[SMTP_CLIENT_AUTH_MAX];
	struct talk talk;

	(void)state;
	memset(longest, 'x', sizeof(longest));
	talk_open(&talk, false);
	talk_greet(&talk, STR(AUTH_EHLO));
	smtp_client_auth(&talk.client, str_make(longest, sizeof(longest)));
	assert_int_equal(buf_used(&talk.sent), 12288);
	talk_hear(&talk, STR("334 \r\n235 in\r\n"));
	talk_assert(&talk.told, "AUTH 334\n" SURPLUS);
	talk_close(&talk);
}

/* ---- Kept -------------------------------------------------------------------------------- */

static void test_quiet(void **state)
{
	struct talk talk;

	(void)state;
	talk_open(&talk, false);
	assert_false(smtp_client_is_quiet(&talk.client));
	talk_greet(&talk, STR(SERVER_EHLO));
	assert_true(smtp_client_is_quiet(&talk.client));
	smtp_client_rset(&talk.client);
	assert_false(smtp_client_is_quiet(&talk.client));
	talk_hear(&talk, STR("250 "));
	assert_false(smtp_client_is_quiet(&talk.client));
	talk_hear(&talk, STR("Ok\r\n"));
	assert_true(smtp_client_is_quiet(&talk.client));
	/* Half a 421, as before a restart of the server. */
	talk_hear(&talk, STR("4"));
	assert_false(smtp_client_is_quiet(&talk.client));
	talk_hear(&talk, STR("21 bye\r\n"));
	assert_false(smtp_client_is_quiet(&talk.client));
	talk_assert(&talk.told, "RSET 250\n" UNASKED " 421\n");
	talk_close(&talk);
}

static void test_refused_is_not_quiet(void **state)
{
	struct talk talk;

	(void)state;
	talk_open(&talk, false);
	talk_hear(&talk, STR("554 no\r\n"));
	assert_false(smtp_client_is_quiet(&talk.client));
	talk_close(&talk);
}

/* ---- Bugs of the owner -------------------------------------------------------------------- */

static void send_too_much(struct talk *talk)
{
	talk_mail(talk);
	talk_mail(talk);
}

static void dot_while_waiting(struct talk *talk)
{
	talk_mail(talk);
	smtp_client_dot(&talk->client);
}

static void send_before_greeting(struct talk *talk)
{
	talk_close(talk);
	talk_open(talk, false);
	talk_mail(talk);
}

static void starttls_while_waiting(struct talk *talk)
{
	talk_mail(talk);
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

static void send_behind_data(struct talk *talk)
{
	smtp_client_data(&talk->client);
	talk_mail(talk);
}

static void auth_while_waiting(struct talk *talk)
{
	talk_mail(talk);
	smtp_client_auth(&talk->client, STR("AUTH PLAIN AGEAYg=="));
}

static void auth_in_two_lines(struct talk *talk)
{
	smtp_client_auth(&talk->client, STR("AUTH PLAIN AGEAYg==\r\nMAIL FROM:<>"));
}

static void auth_too_long(struct talk *talk)
{
	static char line[SMTP_CLIENT_AUTH_MAX + 1];

	memset(line, 'x', sizeof(line));
	smtp_client_auth(&talk->client, str_make(line, sizeof(line)));
}

static void test_asserts(void **state)
{
	static void (*const bugs[])(struct talk * talk) = { send_too_much, dot_while_waiting,
		send_before_greeting, starttls_while_waiting, starttls_before_greeting,
		hello_again_while_waiting, auth_while_waiting, auth_in_two_lines, auth_too_long };

	(void)state;
	for (size_t i = 0; i < sizeof(bugs) / sizeof(bugs[0]); i++)
		talk_assert_abort(STR("250 a\r\n"), bugs[i]);
	talk_assert_abort(STR(SERVER_EHLO), send_behind_data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_starttls),
		cmocka_unit_test(test_starttls_refused),
		cmocka_unit_test(test_surplus_behind_220),
		cmocka_unit_test(test_helo_under_tls),
		cmocka_unit_test(test_auth),
		cmocka_unit_test(test_auth_out_of_step),
		cmocka_unit_test(test_quiet),
		cmocka_unit_test(test_refused_is_not_quiet),
		cmocka_unit_test(test_asserts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
