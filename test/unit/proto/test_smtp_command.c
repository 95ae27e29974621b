#include "proto/smtp_command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "support/guard.h"

static const struct vector {
	struct str line;
	enum smtp_line_fault fault;
	enum smtp_verb verb;
	struct str word, argument;
	bool has_trailing_space;
} vectors[] = {
	{ STR_INIT("NOOP"), SMTP_LINE_FINE, SMTP_VERB_NOOP, STR_INIT("NOOP"), STR_INIT("") },
	{ STR_INIT("ehlo a.example"), SMTP_LINE_FINE, SMTP_VERB_EHLO, STR_INIT("ehlo"),
		STR_INIT("a.example") },
	{ STR_INIT("Mail From:<a@b>"), SMTP_LINE_FINE, SMTP_VERB_MAIL, STR_INIT("Mail"),
		STR_INIT("From:<a@b>") },
	{ STR_INIT("RCPT   TO:<a@b>  "), SMTP_LINE_FINE, SMTP_VERB_RCPT, STR_INIT("RCPT"),
		STR_INIT("TO:<a@b>"), true },
	{ STR_INIT("DATA "), SMTP_LINE_FINE, SMTP_VERB_DATA, STR_INIT("DATA"), STR_INIT(""), true },
	{ STR_INIT("DATA\t"), SMTP_LINE_FINE, SMTP_VERB_DATA, STR_INIT("DATA"), STR_INIT(""),
		true },
	{ STR_INIT("HELO\tx"), SMTP_LINE_FINE, SMTP_VERB_HELO, STR_INIT("HELO"), STR_INIT("x") },
	{ STR_INIT("STARTTLS now"), SMTP_LINE_FINE, SMTP_VERB_STARTTLS, STR_INIT("STARTTLS"),
		STR_INIT("now") },
	{ STR_INIT("BDAT 5 LAST"), SMTP_LINE_FINE, SMTP_VERB_BDAT, STR_INIT("BDAT"),
		STR_INIT("5 LAST") },
	{ STR_INIT("RCPT TO:<\xc3\xa4@b>"), SMTP_LINE_FINE, SMTP_VERB_RCPT, STR_INIT("RCPT"),
		STR_INIT("TO:<\xc3\xa4@b>") },
	{ STR_INIT("XYZZY 1"), SMTP_LINE_FINE, SMTP_VERB_UNKNOWN, STR_INIT("XYZZY"),
		STR_INIT("1") },
	{ STR_INIT("NOOPS"), SMTP_LINE_FINE, SMTP_VERB_UNKNOWN, STR_INIT("NOOPS"), STR_INIT("") },
	{ STR_INIT("NOO"), SMTP_LINE_FINE, SMTP_VERB_UNKNOWN, STR_INIT("NOO"), STR_INIT("") },
	{ STR_INIT("MAILFROM:<>"), SMTP_LINE_FINE, SMTP_VERB_UNKNOWN, STR_INIT("MAILFROM:<>"),
		STR_INIT("") },
	{ STR_INIT("PROXY TCP4 127.0.0.1 127.0.0.1 1 25"), SMTP_LINE_FINE, SMTP_VERB_UNKNOWN,
		STR_INIT("PROXY"), STR_INIT("TCP4 127.0.0.1 127.0.0.1 1 25") },
	{ STR_INIT("ABCDEFGHIJKLMNOPQRSTUVWXYZ x"), SMTP_LINE_FINE, SMTP_VERB_UNKNOWN,
		STR_INIT("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), STR_INIT("x") },
	{ STR_INIT("GETS x"), SMTP_LINE_FINE, SMTP_VERB_UNKNOWN, STR_INIT("GETS"), STR_INIT("x") },
	{ STR_INIT(""), SMTP_LINE_EMPTY, SMTP_VERB_UNKNOWN, STR_INIT(""), STR_INIT("") },
	{ STR_INIT(" NOOP"), SMTP_LINE_EMPTY, SMTP_VERB_UNKNOWN, STR_INIT(""), STR_INIT("") },
	{ STR_INIT("\tNOOP"), SMTP_LINE_EMPTY, SMTP_VERB_UNKNOWN, STR_INIT(""), STR_INIT("") },
	{ STR_INIT(" "), SMTP_LINE_EMPTY, SMTP_VERB_UNKNOWN, STR_INIT(""), STR_INIT("") },
	{ STR_INIT("NOOP\0"), SMTP_LINE_CONTROL, SMTP_VERB_UNKNOWN, STR_INIT("NOOP\0"),
		STR_INIT("") },
	{ STR_INIT("NOOP \0"), SMTP_LINE_CONTROL, SMTP_VERB_UNKNOWN, STR_INIT("NOOP"),
		STR_INIT("\0") },
	{ STR_INIT("NOOP a\rMAIL"), SMTP_LINE_CONTROL, SMTP_VERB_UNKNOWN, STR_INIT("NOOP"),
		STR_INIT("a\rMAIL") },
	{ STR_INIT("NOOP a\nb"), SMTP_LINE_CONTROL, SMTP_VERB_UNKNOWN, STR_INIT("NOOP"),
		STR_INIT("a\nb") },
	{ STR_INIT("NOOP\x7f"), SMTP_LINE_CONTROL, SMTP_VERB_UNKNOWN, STR_INIT("NOOP\x7f"),
		STR_INIT("") },
	{ STR_INIT("RCPT TO:<a@b\tc>"), SMTP_LINE_CONTROL, SMTP_VERB_UNKNOWN, STR_INIT("RCPT"),
		STR_INIT("TO:<a@b\tc>") },
	{ STR_INIT("GET / HTTP/1.1"), SMTP_LINE_NOT_SMTP, SMTP_VERB_UNKNOWN, STR_INIT("GET"),
		STR_INIT("/ HTTP/1.1") },
	{ STR_INIT("post /x\x01"), SMTP_LINE_NOT_SMTP, SMTP_VERB_UNKNOWN, STR_INIT("post"),
		STR_INIT("/x\x01") },
	{ STR_INIT("\x16\x03\x01\x02"), SMTP_LINE_NOT_SMTP, SMTP_VERB_UNKNOWN,
		STR_INIT("\x16\x03\x01\x02"), STR_INIT("") },
	{ STR_INIT("\0NOOP"), SMTP_LINE_NOT_SMTP, SMTP_VERB_UNKNOWN, STR_INIT("\0NOOP"),
		STR_INIT("") },
	{ STR_INIT("1 x"), SMTP_LINE_NOT_SMTP, SMTP_VERB_UNKNOWN, STR_INIT("1"), STR_INIT("x") },
	{ STR_INIT("\xc3\xa4"), SMTP_LINE_NOT_SMTP, SMTP_VERB_UNKNOWN, STR_INIT("\xc3\xa4"),
		STR_INIT("") },
};

static void test_vectors(void **state)
{
	struct guard guard = guard_make(4096);

	(void)state;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		const struct vector *vector = &vectors[i];
		struct smtp_command command;
		enum smtp_line_fault fault =
			smtp_command_parse(guard_put(&guard, vector->line), &command);
		if (fault != vector->fault)
			fprintf(stderr, "\"%.*s\"\n", STR_ARG(vector->line));
		assert_int_equal(fault, vector->fault);
		assert_int_equal(command.verb, vector->verb);
		assert_true(str_eq(command.word, vector->word));
		assert_true(str_eq(command.argument, vector->argument));
		assert_int_equal(command.has_trailing_space, vector->has_trailing_space);
	}
	guard_free(&guard);
}

/* Each verb is found by its word in either case, and by nothing that is shorter or longer. */
static void test_every_verb(void **state)
{
	struct smtp_command command;

	(void)state;
	for (unsigned i = 0; i < SMTP_VERB_UNKNOWN; i++) {
		struct str word = smtp_verb_word((enum smtp_verb)i);
		char lower[SMTP_VERB_MAX + 1];

		assert_in_range(word.n, 1, SMTP_VERB_MAX);
		assert_int_equal(smtp_command_parse(word, &command), SMTP_LINE_FINE);
		assert_int_equal(command.verb, i);
		for (size_t k = 0; k < word.n; k++)
			lower[k] = ascii_lower(word.p[k]);
		lower[word.n] = 'x';
		smtp_command_parse(str_make(lower, word.n), &command);
		assert_int_equal(command.verb, i);
		smtp_command_parse(str_make(lower, word.n - 1), &command);
		assert_int_equal(command.verb, SMTP_VERB_UNKNOWN);
		smtp_command_parse(str_make(lower, word.n + 1), &command);
		assert_int_equal(command.verb, SMTP_VERB_UNKNOWN);
	}
	assert_int_equal(smtp_verb_word(SMTP_VERB_UNKNOWN).n, 0);
}

/* Each control character, wherever it stands, is a fault; tabs are one only inside. */
static void test_every_control(void **state)
{
	(void)state;
	for (int c = 0; c < 256; c++) {
		char line[] = "RCPT TO:<a@b>";
		struct smtp_command command;
		line[9] = (char)c;
		bool is_control = c < 0x20 || c == 0x7f;
		assert_int_equal(smtp_command_parse(STR("RCPT"), &command), SMTP_LINE_FINE);
		assert_int_equal(smtp_command_parse(str_make(line, sizeof(line) - 1), &command),
			is_control ? SMTP_LINE_CONTROL : SMTP_LINE_FINE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_every_verb),
		cmocka_unit_test(test_every_control),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
