#include "smtp/client.h"

#include <stdlib.h>
#include <string.h>

#include "proto/smtp_params.h"
#include "support/client_talk.h"

#define CHUNKING_EHLO "250-mta\r\n250-PIPELINING\r\n250 CHUNKING\r\n"

static void open_lmtp(struct talk *talk, bool is_byte_by_byte)
{
	talk_open(talk, is_byte_by_byte);
	talk->tells_final = true;
	talk->client.is_lmtp = true;
	talk_greet(talk, STR(CHUNKING_EHLO));
}

/* MAIL, and a recipient for each line of `replies`, which are said at once. */
static void envelope(struct talk *talk, const char *replies)
{
	struct str rest = str_from(replies);

	talk_mail(talk);
	while (rest.n > 0) {
		str_cut(&rest, '\n');
		talk_rcpt(talk);
	}
	talk_hear(talk, STR("250 Ok\r\n"));
	talk_hear(talk, str_from(replies));
	buf_truncate(&talk->told, 0);
	buf_truncate(&talk->sent, 0);
}

static void to_the_dot(struct talk *talk)
{
	smtp_client_data(&talk->client);
	talk_hear(talk, STR("354 go\r\n"));
	smtp_client_dot(&talk->client);
	buf_truncate(&talk->told, 0);
}

/* ---- LMTP --------------------------------------------------------------------------------- */

static void test_lhlo(void **state)
{
	struct talk talk;

	(void)state;
	talk_open(&talk, false);
	talk.client.is_lmtp = true;
	talk_hear(&talk, STR("220 mta LMTP\r\n"));
	talk_assert(&talk.sent, "LHLO mx.example.net\r\n");
	talk_hear(&talk, STR("250-mta\r\n250 PIPELINING\r\n"));
	talk_assert(&talk.told, "EHLO 250\n");
	assert_int_equal(talk.client.capabilities.extensions, SMTP_EXT_PIPELINING);
	smtp_client_hello_again(&talk.client, STR("other.example.net"));
	talk_assert(&talk.sent, "LHLO other.example.net\r\n");
	talk_close(&talk);
}

/* RFC 2033 section 4.1: HELO and EHLO are not there. */
static void test_no_helo(void **state)
{
	struct talk talk;

	(void)state;
	talk_open(&talk, false);
	talk.client.is_lmtp = true;
	talk_hear(&talk, STR("220 mta\r\n"));
	talk_hear(&talk, STR("500 what\r\n"));
	talk_assert(&talk.sent, "LHLO mx.example.net\r\n");
	talk_assert(&talk.told, "EHLO 500\n");
	assert_false(smtp_client_can_send(&talk.client));
	talk_close(&talk);
}

static const struct {
	bool is_lmtp;
	const char *recipients, *finals, *told;
	unsigned pending; /* of the dot's answers, afterwards */
} final_rows[] = {
	{ true, "250 a\r\n", "250 a\r\n", "end of data 250 #0.\n", 0 },
	{ true, "250 a\r\n550 b\r\n251 c\r\n452 d\r\n250 e\r\n", "250 a\r\n550 c\r\n451 e\r\n",
		"end of data 250 #0\nend of data 550 #1\nend of data 451 #2.\n", 0 },
	{ true, "250 a\r\n250 b\r\n", "250-a\r\n250 a\r\n", "end of data 250 #0\n", 1 },
	/* Nobody was accepted, and yet it was said: one answer. */
	{ true, "550 a\r\n550 b\r\n", "503 none\r\n", "end of data 503 #0.\n", 0 },
	{ false, "250 a\r\n250 b\r\n", "250 a\r\n", "end of data 250 #0.\n", 0 },
};

static void test_final_replies(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2 * sizeof(final_rows) / sizeof(final_rows[0]); i++) {
		struct talk talk;
		open_lmtp(&talk, i % 2);
		talk.client.is_lmtp = final_rows[i / 2].is_lmtp;
		/* Twice: recipients of an earlier transaction do not count. */
		for (int turn = 0; turn < 2 && !talk.client.count; turn++) {
			envelope(&talk, final_rows[i / 2].recipients);
			to_the_dot(&talk);
			talk_hear(&talk, str_from(final_rows[i / 2].finals));
			talk_assert(&talk.told, final_rows[i / 2].told);
			assert_int_equal(
				smtp_client_pending(&talk.client), final_rows[i / 2].pending);
			assert_int_equal(
				smtp_client_can_send(&talk.client), final_rows[i / 2].pending == 0);
		}
		talk_close(&talk);
	}
}

/* One more than there are recipients. */
static void test_one_final_reply_too_many(void **state)
{
	(void)state;
	for (int lmtp = 0; lmtp < 2; lmtp++) {
		struct talk talk;
		open_lmtp(&talk, false);
		talk.client.is_lmtp = lmtp;
		envelope(&talk, "250 a\r\n250 b\r\n");
		to_the_dot(&talk);
		talk_hear(&talk, STR("250 a\r\n250 b\r\n250 c\r\n"));
		talk_assert(&talk.told, lmtp ? "end of data 250 #0\nend of data 250 #1.\n" SURPLUS
					     : "end of data 250 #0.\n" SURPLUS);
		talk_close(&talk);
	}
}

/* Recipients of a transaction that was given up do not count either. */
static void test_recipients_before_rset(void **state)
{
	struct talk talk;

	(void)state;
	open_lmtp(&talk, false);
	envelope(&talk, "250 a\r\n250 b\r\n250 c\r\n");
	smtp_client_rset(&talk.client);
	talk_hear(&talk, STR("250 Ok\r\n"));
	envelope(&talk, "250 a\r\n");
	to_the_dot(&talk);
	talk_hear(&talk, STR("250 a\r\n"));
	talk_assert(&talk.told, "end of data 250 #0.\n");
	talk_close(&talk);
}

/* ---- BDAT --------------------------------------------------------------------------------- */

static void test_bdat(void **state)
{
	struct talk talk;

	(void)state;
	open_lmtp(&talk, false);
	talk.client.is_lmtp = false;
	envelope(&talk, "250 a\r\n250 b\r\n");
	smtp_client_bdat(&talk.client, 65536, false);
	smtp_client_bdat(&talk.client, SIZE_MAX, false);
	assert_true(smtp_client_can_bdat(&talk.client));
	smtp_client_bdat(&talk.client, 0, true);
	assert_false(smtp_client_can_send(&talk.client));
	assert_false(smtp_client_can_bdat(&talk.client));
	talk_assert(&talk.sent, "BDAT 65536\r\nBDAT 18446744073709551615\r\nBDAT 0 LAST\r\n");
	talk_hear(&talk, STR("250 1\r\n250 2\r\n250 queued\r\n"));
	talk_assert(&talk.told, "BDAT 250\nBDAT 250\nend of data 250 #0.\n");
	assert_true(smtp_client_is_quiet(&talk.client));
	talk_close(&talk);
}

/* RFC 3030 section 4.2: the message may go out with the envelope. */
static void test_bdat_behind_recipients(void **state)
{
	(void)state;
	for (int byte_by_byte = 0; byte_by_byte < 2; byte_by_byte++) {
		struct talk talk;
		open_lmtp(&talk, byte_by_byte);
		talk.client.is_lmtp = false;
		talk_mail(&talk);
		talk_rcpt(&talk);
		talk_rcpt(&talk);
		smtp_client_bdat(&talk.client, 10, true);
		talk_hear(&talk, STR("250 a\r\n550 b\r\n550 c\r\n554 none\r\n"));
		talk_assert(&talk.told, "MAIL 250\nRCPT 550\nRCPT 550\nend of data 554 #0.\n");
		assert_true(smtp_client_is_quiet(&talk.client));
		talk_close(&talk);
	}
}

/* RFC 2033 section 4.3. */
static void test_bdat_of_lmtp(void **state)
{
	(void)state;
	for (int byte_by_byte = 0; byte_by_byte < 2; byte_by_byte++) {
		struct talk talk;
		open_lmtp(&talk, byte_by_byte);
		assert_false(smtp_client_can_bdat(&talk.client));
		talk_mail(&talk);
		talk_rcpt(&talk);
		talk_rcpt(&talk);
		talk_hear(&talk, STR("250 m\r\n250 a\r\n"));
		assert_false(smtp_client_can_bdat(&talk.client));
		talk_hear(&talk, STR("250 b\r\n"));
		assert_true(smtp_client_can_bdat(&talk.client));
		smtp_client_bdat(&talk.client, 10, false);
		assert_false(smtp_client_can_bdat(&talk.client));
		talk_hear(&talk, STR("250 1\r\n"));
		smtp_client_bdat(&talk.client, 10, true);
		talk_assert(&talk.told, "MAIL 250\nRCPT 250\nRCPT 250\nBDAT 250\n");
		talk_hear(&talk, STR("250 a\r\n"));
		talk_assert(&talk.told, "end of data 250 #0\n");
		talk_hear(&talk, STR("451 b\r\n"));
		talk_assert(&talk.told, "end of data 451 #1.\n");
		assert_true(smtp_client_is_quiet(&talk.client));
		talk_close(&talk);
	}
}

/* What is on its way is refused as well. */
static void test_a_chunk_refused(void **state)
{
	struct talk talk;

	(void)state;
	open_lmtp(&talk, false);
	talk.client.is_lmtp = false;
	envelope(&talk, "250 a\r\n250 b\r\n");
	smtp_client_bdat(&talk.client, 10, false);
	smtp_client_bdat(&talk.client, 10, true);
	talk_hear(&talk, STR("552 too much\r\n503 no\r\n"));
	talk_assert(&talk.told, "BDAT 552\nend of data 503 #0.\n");
	assert_true(smtp_client_is_quiet(&talk.client));
	talk_close(&talk);
}

/* With LMTP nobody knows how many replies the next one would have, or one without recipients. */
static void test_no_chunk_of_lmtp(void **state)
{
	struct talk talk;

	(void)state;
	open_lmtp(&talk, false);
	envelope(&talk, "250 a\r\n250 b\r\n");
	smtp_client_bdat(&talk.client, 10, false);
	talk_hear(&talk, STR("552 too much\r\n"));
	assert_true(smtp_client_can_send(&talk.client));
	assert_false(smtp_client_can_bdat(&talk.client));
	smtp_client_rset(&talk.client);
	talk_hear(&talk, STR("250 Ok\r\n"));
	envelope(&talk, "550 a\r\n");
	assert_false(smtp_client_can_bdat(&talk.client));
	talk_close(&talk);
}

static void test_one_chunk_at_a_time(void **state)
{
	struct talk talk;

	(void)state;
	talk_open(&talk, false);
	talk_greet(&talk, STR("250-a\r\n250 CHUNKING\r\n"));
	smtp_client_bdat(&talk.client, 10, false);
	assert_int_equal(smtp_client_step(&talk.client), SMTP_CLIENT_BDAT);
	assert_false(smtp_client_can_send(&talk.client));
	talk_hear(&talk, STR("250 Ok\r\n"));
	smtp_client_bdat(&talk.client, 5, true);
	assert_int_equal(smtp_client_step(&talk.client), SMTP_CLIENT_DOT);
	talk_close(&talk);
}

static void bdat_not_offered(struct talk *talk)
{
	smtp_client_bdat(&talk->client, 10, true);
}

static void bdat_without_recipients(struct talk *talk)
{
	talk->client.is_lmtp = true;
	smtp_client_bdat(&talk->client, 10, true);
}

static void test_bdat_asserts(void **state)
{
	(void)state;
	talk_assert_abort(STR(SERVER_EHLO), bdat_not_offered);
	talk_assert_abort(STR(CHUNKING_EHLO), bdat_without_recipients);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lhlo),
		cmocka_unit_test(test_no_helo),
		cmocka_unit_test(test_final_replies),
		cmocka_unit_test(test_one_final_reply_too_many),
		cmocka_unit_test(test_recipients_before_rset),
		cmocka_unit_test(test_bdat),
		cmocka_unit_test(test_bdat_behind_recipients),
		cmocka_unit_test(test_bdat_of_lmtp),
		cmocka_unit_test(test_a_chunk_refused),
		cmocka_unit_test(test_no_chunk_of_lmtp),
		cmocka_unit_test(test_bdat_asserts),
		cmocka_unit_test(test_one_chunk_at_a_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
