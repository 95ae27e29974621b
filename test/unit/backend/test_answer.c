#include "backend/answer.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define PASSED REPLY_COUNT /* on, as it is */
#define FAULT REPLY_BACKEND_OUR_FAULT

static void check(
	enum smtp_client_step step, const char *text, int code, enum reply_id own, unsigned told)
{
	struct smtp_reply reply;
	struct buf line, kept;
	struct answer answer;
	enum smtp_reply_fault fault;
	size_t taken;

	buf_init(&line, 4096);
	buf_init(&kept, SMTP_REPLY_TEXT_MAX);
	buf_printf(&line, "%s\r\n", text);
	assert_int_equal(smtp_reply_parse(buf_view(&line), &kept, &reply, &taken, &fault), 1);
	answer_from_reply(&answer, step, &reply, told);
	if ((answer.answer.reply != NULL) != (own == PASSED))
		fail_msg("%s to %s", text, smtp_client_step_word(step));
	assert_int_equal(answer.answer.by, BY_BACKEND);
	assert_int_equal(answer.blames_us, own == REPLY_BACKEND_OUR_FAULT);
	assert_int_equal(answer.server_is_done, reply.code == 421);
	assert_int_equal(
		answer.is_senseless, own == REPLY_BACKEND_PROTOCOL || own == REPLY_OUTCOME_UNKNOWN);
	if (own == PASSED) {
		assert_int_equal(answer.answer.reply->code, code);
		assert_true(str_eq(answer.answer.reply->text, reply.text));
	} else {
		assert_int_equal(answer.answer.own, own);
	}
	buf_free(&line);
	buf_free(&kept);
}

static void test_replies(void **state)
{
	static const struct {
		const char *text;
		int code; /* that is passed on; a refusal of ours has none */
		enum reply_id mail, rcpt, data, dot;
	} rows[] = {
		/* The class must fit the step: a 250 to DATA is no 354. At the end only 250 says that
		 * the message was taken; what other 2xx and 3xx say nobody knows. */
		{ "250 2.0.0 Ok", 250, PASSED, PASSED, REPLY_BACKEND_PROTOCOL, PASSED },
		{ "251 2.1.5 will forward", 251, PASSED, PASSED, REPLY_BACKEND_PROTOCOL,
			REPLY_OUTCOME_UNKNOWN },
		{ "200 Ok", 200, PASSED, PASSED, REPLY_BACKEND_PROTOCOL, REPLY_OUTCOME_UNKNOWN },
		{ "299-a\r\n299 b", 299, PASSED, PASSED, REPLY_BACKEND_PROTOCOL,
			REPLY_OUTCOME_UNKNOWN },
		{ "354 go", 354, REPLY_BACKEND_PROTOCOL, REPLY_BACKEND_PROTOCOL, PASSED,
			REPLY_OUTCOME_UNKNOWN },
		{ "334 x", 334, REPLY_BACKEND_PROTOCOL, REPLY_BACKEND_PROTOCOL,
			REPLY_BACKEND_PROTOCOL, REPLY_OUTCOME_UNKNOWN },
		/* Verdicts are passed on. */
		{ "550 5.1.1 no such user", 550, PASSED, PASSED, PASSED, PASSED },
		{ "552 5.2.2 quota", 552, PASSED, PASSED, PASSED, PASSED },
		{ "554 5.7.1 spam", 554, PASSED, PASSED, PASSED, PASSED },
		{ "450 4.2.1 busy", 450, PASSED, PASSED, PASSED, PASSED },
		/* Our client's connection is not the backend's to close. */
		{ "421 4.3.2 shutting down", 451, PASSED, PASSED, PASSED, PASSED },
		/* They blame us, not the client. */
		{ "530 5.7.0 STARTTLS first", 0, REPLY_BACKEND_OUR_FAULT, REPLY_BACKEND_OUR_FAULT,
			REPLY_BACKEND_OUR_FAULT, REPLY_BACKEND_OUR_FAULT },
		{ "535 5.7.8 no", 0, REPLY_BACKEND_OUR_FAULT, REPLY_BACKEND_OUR_FAULT,
			REPLY_BACKEND_OUR_FAULT, REPLY_BACKEND_OUR_FAULT },
		{ "503 5.5.1 nested MAIL", 0, REPLY_BACKEND_OUR_FAULT, REPLY_BACKEND_OUR_FAULT,
			REPLY_BACKEND_OUR_FAULT, REPLY_BACKEND_OUR_FAULT },
		{ "554 5.7.1 <b@example.com>: Relay access denied", 554, REPLY_BACKEND_OUR_FAULT,
			REPLY_BACKEND_OUR_FAULT, REPLY_BACKEND_OUR_FAULT, REPLY_BACKEND_OUR_FAULT },
		{ "550-5.7.1 we are sorry\r\n550 5.7.1 unable to RELAY", 550,
			REPLY_BACKEND_OUR_FAULT, REPLY_BACKEND_OUR_FAULT, REPLY_BACKEND_OUR_FAULT,
			REPLY_BACKEND_OUR_FAULT },
		/* A word in an address is no verdict on us: such mail came back as 451 for ever. */
		{ "550 5.1.1 <relay-team@example.com>: unable to relay to unknown user", 550,
			PASSED, PASSED, PASSED, PASSED },
		{ "550 5.7.1 <info@relay.example.com>: no", 550, PASSED, PASSED, PASSED, PASSED },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		check(SMTP_CLIENT_MAIL, rows[i].text, rows[i].code, rows[i].mail, 0);
		check(SMTP_CLIENT_RCPT, rows[i].text, rows[i].code, rows[i].rcpt, 0);
		check(SMTP_CLIENT_DATA, rows[i].text, rows[i].code, rows[i].data, 0);
		check(SMTP_CLIENT_DOT, rows[i].text, rows[i].code, rows[i].dot, 0);
	}
}

/* Whose the name, and the address, is that the server does not like. */
static void test_names(void **state)
{
	static const struct {
		const char *text;
		int code;
		enum reply_id with_ours, with_clients_hello, with_clients_address;
	} rows[] = {
		{ "504 5.5.2 <x>: Helo command rejected: need fully-qualified hostname", 504, FAULT,
			PASSED, FAULT },
		{ "501 5.5.2 <x>: Helo command rejected: Invalid name", 501, FAULT, PASSED, FAULT },
		{ "550 5.7.1 <x>: Helo command rejected: Host not found", 550, FAULT, PASSED,
			FAULT },
		{ "450 4.7.1 <x>: Helo command rejected: Host not found", 450, PASSED, PASSED,
			PASSED },
		{ "504 5.5.2 <a>: Sender address rejected: need fully-qualified address", 504,
			PASSED, PASSED, PASSED },
		{ "504 5.5.2 <b>: Recipient address rejected: need fully-qualified address", 504,
			PASSED, PASSED, PASSED },
		{ "504 5.5.4 parameter not implemented", 504, FAULT, FAULT, FAULT },
		{ "503 5.5.1 <a>: Sender address rejected: x", 503, FAULT, FAULT, FAULT },
		{ "554 5.7.1 <unknown[192.0.2.1]>: Client host rejected: Access denied", 554, FAULT,
			FAULT, PASSED },
		{ "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using x.example",
			554, FAULT, FAULT, PASSED },
		{ "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.1]", 450,
			PASSED, PASSED, PASSED },
		/* Words in addresses are those of whoever chose the address. */
		{ "550 5.1.1 <\"Client host rejected: x\"@b.example>: Recipient address rejected",
			550, PASSED, PASSED, PASSED },
		{ "554 5.7.1 <\"]>: Client host rejected: x\"@b.example>: Sender address rejected",
			554, PASSED, PASSED, PASSED },
		{ "554 5.7.1 <\"Helo command rejected: x\"@b.example>: Sender address rejected: no",
			554, PASSED, PASSED, PASSED },
		{ "554 5.7.1 <\"relay access denied\"@b.example>: Recipient address rejected: no",
			554, PASSED, PASSED, PASSED },
		{ "550 5.7.1 Relaying denied for <a@b.example>", 550, FAULT, FAULT, FAULT },
		{ "550 5.0.0 Relaying denied", 550, FAULT, FAULT, FAULT },
		{ "550-<b@b.example>\r\n550 relay not permitted <postmaster@x.example>", 550, FAULT,
			FAULT, FAULT },
		{ "554-5.7.1 <b@b.example>: Relay access denied\r\n"
		  "554 5.7.1 For help mail <postmaster@x.example>, see Help -> Mail",
			554, FAULT, FAULT, FAULT },
		{ "554 5.7.1 <unknown[192.0.2.1]>: Client host rejected: ask "
		  "<postmaster@x.example>",
			554, FAULT, FAULT, PASSED },
		{ "550 5.7.1 <x>: Helo command rejected: ask <postmaster@x.example>", 550, FAULT,
			PASSED, FAULT },
		{ "550 5.7.1 <a@b.example>... Relaying denied", 550, FAULT, FAULT, FAULT },
		{ "554 5.7.1 Service unavailable; Sender address [a@b.example] blocked using x",
			554, PASSED, PASSED, PASSED },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		check(SMTP_CLIENT_RCPT, rows[i].text, rows[i].code, rows[i].with_ours, 0);
		check(SMTP_CLIENT_RCPT, rows[i].text, rows[i].code, rows[i].with_clients_hello,
			ANSWER_HELLO_IS_CLIENTS);
		check(SMTP_CLIENT_RCPT, rows[i].text, rows[i].code, rows[i].with_clients_address,
			ANSWER_ADDRESS_IS_CLIENTS);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replies),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
