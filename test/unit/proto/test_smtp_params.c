#include "proto/smtp_params.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/guard.h"

#define ALL (~0u)
#define TEN "0123456789"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN

static struct guard guard;

struct vector {
	struct str text;
	unsigned offered;
	enum smtp_params_fault fault;
	struct str bad;
	struct str printed; /* for a server that offers everything */
};

static const struct vector mail_vectors[] = {
	{ STR_INIT(""), ALL, SMTP_PARAMS_FINE, STR_INIT(""), STR_INIT("") },
	{ STR_INIT(""), 0, SMTP_PARAMS_FINE, STR_INIT(""), STR_INIT("") },
	{ STR_INIT(" "), 0, SMTP_PARAMS_FINE, STR_INIT(""), STR_INIT("") },
	{ STR_INIT(" SIZE=1000"), ALL, SMTP_PARAMS_FINE, STR_INIT(""), STR_INIT(" SIZE=1000") },
	{ STR_INIT(" size=007"), ALL, SMTP_PARAMS_FINE, STR_INIT(""), STR_INIT(" SIZE=7") },
	{ STR_INIT(" SIZE=0"), ALL, SMTP_PARAMS_FINE, STR_INIT(""), STR_INIT(" SIZE=0") },
	{ STR_INIT(" SIZE=18446744073709551615"), ALL, SMTP_PARAMS_FINE, STR_INIT(""),
		STR_INIT(" SIZE=18446744073709551615") },
	{ STR_INIT(" SIZE=18446744073709551616"), ALL, SMTP_PARAMS_FINE, STR_INIT(""),
		STR_INIT(" SIZE=18446744073709551615") },
	{ STR_INIT(" SIZE=99999999999999999999"), ALL, SMTP_PARAMS_FINE, STR_INIT(""),
		STR_INIT(" SIZE=18446744073709551615") },
	{ STR_INIT(" SIZE=000000000000000000001"), ALL, SMTP_PARAMS_SYNTAX,
		STR_INIT("SIZE=000000000000000000001") },
	{ STR_INIT(" SIZE=-1"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("SIZE=-1") },
	{ STR_INIT(" SIZE=+1"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("SIZE=+1") },
	{ STR_INIT(" SIZE=0x10"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("SIZE=0x10") },
	{ STR_INIT(" SIZE="), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("SIZE=") },
	{ STR_INIT(" SIZE"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("SIZE") },
	{ STR_INIT(" SIZE=1=2"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("SIZE=1=2") },
	{ STR_INIT(" SIZE=1 SIZE=1"), ALL, SMTP_PARAMS_DUPLICATE, STR_INIT("SIZE=1") },
	{ STR_INIT(" SIZE=1"), ALL & ~(unsigned)SMTP_EXT_SIZE, SMTP_PARAMS_UNSUPPORTED,
		STR_INIT("SIZE=1") },
	{ STR_INIT(" SIZE=1"), 0, SMTP_PARAMS_UNSUPPORTED, STR_INIT("SIZE=1") },
	{ STR_INIT(" BODY=8BITMIME"), ALL, SMTP_PARAMS_FINE, STR_INIT(""),
		STR_INIT(" BODY=8BITMIME") },
	{ STR_INIT(" body=7bit"), ALL, SMTP_PARAMS_FINE, STR_INIT(""), STR_INIT(" BODY=7BIT") },
	{ STR_INIT(" BODY=BINARYMIME"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("BODY=BINARYMIME") },
	{ STR_INIT(" BODY=7BITX"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("BODY=7BITX") },
	{ STR_INIT(" SMTPUTF8"), ALL, SMTP_PARAMS_FINE, STR_INIT(""), STR_INIT(" SMTPUTF8") },
	{ STR_INIT(" SMTPUTF8=1"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("SMTPUTF8=1") },
	{ STR_INIT(" SMTPUTF8"), ALL & ~(unsigned)SMTP_EXT_SMTPUTF8, SMTP_PARAMS_UNSUPPORTED,
		STR_INIT("SMTPUTF8") },
	{ STR_INIT(" RET=full ENVID=a+2Bb"), ALL, SMTP_PARAMS_FINE, STR_INIT(""),
		STR_INIT(" RET=FULL ENVID=a+2Bb") },
	{ STR_INIT(" RET=HDRS"), ALL, SMTP_PARAMS_FINE, STR_INIT(""), STR_INIT(" RET=HDRS") },
	{ STR_INIT(" RET=NONE"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("RET=NONE") },
	{ STR_INIT(" ENVID=" HUNDRED), ALL, SMTP_PARAMS_FINE, STR_INIT(""),
		STR_INIT(" ENVID=" HUNDRED) },
	{ STR_INIT(" ENVID=" HUNDRED "x"), ALL, SMTP_PARAMS_SYNTAX,
		STR_INIT("ENVID=" HUNDRED "x") },
	{ STR_INIT(" ENVID=a+"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("ENVID=a+") },
	{ STR_INIT(" ENVID=a+2"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("ENVID=a+2") },
	{ STR_INIT(" ENVID=a+2b"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("ENVID=a+2b") },
	{ STR_INIT(" ENVID=\xc3\xa4"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("ENVID=\xc3\xa4") },
	{ STR_INIT(" AUTH=<>"), ALL, SMTP_PARAMS_FINE, STR_INIT(""), STR_INIT("") },
	{ STR_INIT(" AUTH=e+3Dmc2@example.com"), ALL, SMTP_PARAMS_FINE, STR_INIT(""),
		STR_INIT("") },
	{ STR_INIT(" AUTH=a+z"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("AUTH=a+z") },
	{ STR_INIT(" AUTH=<>"), SMTP_EXT_SIZE, SMTP_PARAMS_UNSUPPORTED, STR_INIT("AUTH=<>") },
	{ STR_INIT(" SMTPUTF8 ENVID=x BODY=8BITMIME RET=HDRS SIZE=5"), ALL, SMTP_PARAMS_FINE,
		STR_INIT(""), STR_INIT(" SIZE=5 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x") },
	{ STR_INIT("  SIZE=5   RET=HDRS "), ALL, SMTP_PARAMS_FINE, STR_INIT(""),
		STR_INIT(" SIZE=5 RET=HDRS") },
	{ STR_INIT("SIZE=5"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("SIZE=5") },
	{ STR_INIT("<b@c>"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("<b@c>") },
	{ STR_INIT(" XYZZY=1"), ALL, SMTP_PARAMS_UNSUPPORTED, STR_INIT("XYZZY=1") },
	{ STR_INIT(" NOTIFY=NEVER"), ALL, SMTP_PARAMS_UNSUPPORTED, STR_INIT("NOTIFY=NEVER") },
	{ STR_INIT(" =1"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("=1") },
	{ STR_INIT(" -A=1"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("-A=1") },
	{ STR_INIT(" A_B=1"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("A_B=1") },
	{ STR_INIT(" SIZE=1\t2"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("SIZE=1\t2") },
	{ STR_INIT(" XY=\0"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("XY=\0") },
	{ STR_INIT(" SIZE\0=1"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("SIZE\0=1") },
};

static const struct vector rcpt_vectors[] = {
	{ STR_INIT(""), ALL, SMTP_PARAMS_FINE, STR_INIT(""), STR_INIT("") },
	{ STR_INIT(" NOTIFY=NEVER"), ALL, SMTP_PARAMS_FINE, STR_INIT(""),
		STR_INIT(" NOTIFY=NEVER") },
	{ STR_INIT(" NOTIFY=success,Delay"), ALL, SMTP_PARAMS_FINE, STR_INIT(""),
		STR_INIT(" NOTIFY=success,Delay") },
	{ STR_INIT(" NOTIFY=NEVER,DELAY"), ALL, SMTP_PARAMS_SYNTAX,
		STR_INIT("NOTIFY=NEVER,DELAY") },
	{ STR_INIT(" NOTIFY=DELAY,DELAY"), ALL, SMTP_PARAMS_SYNTAX,
		STR_INIT("NOTIFY=DELAY,DELAY") },
	{ STR_INIT(" NOTIFY=DELAY,"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("NOTIFY=DELAY,") },
	{ STR_INIT(" NOTIFY=,DELAY"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("NOTIFY=,DELAY") },
	{ STR_INIT(" NOTIFY=,"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("NOTIFY=,") },
	{ STR_INIT(" NOTIFY="), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("NOTIFY=") },
	{ STR_INIT(" NOTIFY=FAILURE ORCPT=rfc822;a+2Bb@example.com"), ALL, SMTP_PARAMS_FINE,
		STR_INIT(""), STR_INIT(" NOTIFY=FAILURE ORCPT=rfc822;a+2Bb@example.com") },
	{ STR_INIT(" ORCPT=rfc822;a;b"), ALL, SMTP_PARAMS_FINE, STR_INIT(""),
		STR_INIT(" ORCPT=rfc822;a;b") },
	{ STR_INIT(" ORCPT=utf-8;\\x{E4}@b"), ALL, SMTP_PARAMS_FINE, STR_INIT(""),
		STR_INIT(" ORCPT=utf-8;\\x{E4}@b") },
	{ STR_INIT(" ORCPT=utf-8;\xc3\xa4@b"), ALL, SMTP_PARAMS_FINE, STR_INIT(""),
		STR_INIT(" ORCPT=utf-8;\xc3\xa4@b") },
	{ STR_INIT(" ORCPT=utf-8;\xc3\xa4@b"), SMTP_EXT_DSN, SMTP_PARAMS_SYNTAX,
		STR_INIT("ORCPT=utf-8;\xc3\xa4@b") },
	{ STR_INIT(" ORCPT=rfc822;\xc3\xa4@b"), ALL, SMTP_PARAMS_SYNTAX,
		STR_INIT("ORCPT=rfc822;\xc3\xa4@b") },
	{ STR_INIT(" ORCPT=utf-8;\xc3@b"), ALL, SMTP_PARAMS_SYNTAX,
		STR_INIT("ORCPT=utf-8;\xc3@b") },
	{ STR_INIT(" ORCPT=rfc822"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("ORCPT=rfc822") },
	{ STR_INIT(" ORCPT=rfc822;"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("ORCPT=rfc822;") },
	{ STR_INIT(" ORCPT=;a@b"), ALL, SMTP_PARAMS_SYNTAX, STR_INIT("ORCPT=;a@b") },
	{ STR_INIT(" ORCPT=rfc822;a b"), ALL, SMTP_PARAMS_UNSUPPORTED, STR_INIT("b") },
	{ STR_INIT(" ORCPT=rfc822;" HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED), ALL,
		SMTP_PARAMS_SYNTAX,
		STR_INIT("ORCPT=rfc822;" HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED) },
	{ STR_INIT(" ORCPT=rfc822;a ORCPT=rfc822;a"), ALL, SMTP_PARAMS_DUPLICATE,
		STR_INIT("ORCPT=rfc822;a") },
	{ STR_INIT(" NOTIFY=NEVER"), 0, SMTP_PARAMS_UNSUPPORTED, STR_INIT("NOTIFY=NEVER") },
	{ STR_INIT(" SIZE=1"), ALL, SMTP_PARAMS_UNSUPPORTED, STR_INIT("SIZE=1") },
	{ STR_INIT(" XYZZY=1"), ALL, SMTP_PARAMS_UNSUPPORTED, STR_INIT("XYZZY=1") },
};

static enum smtp_params_fault parse_and_print(struct str text, unsigned offered, bool is_mail,
	size_t room, struct str *bad, struct buf *out)
{
	struct smtp_mail_params mail;
	struct smtp_rcpt_params rcpt;
	struct arena arena;
	enum smtp_params_fault fault;

	arena_init(&arena, room);
	fault = is_mail ? smtp_params_parse_mail(text, offered, &arena, &mail, bad)
			: smtp_params_parse_rcpt(text, offered, &arena, &rcpt, bad);
	if (fault == SMTP_PARAMS_FINE && is_mail)
		smtp_params_print_mail(&mail, ALL, out);
	else if (fault == SMTP_PARAMS_FINE)
		smtp_params_print_rcpt(&rcpt, ALL, out);
	arena_reset(&arena);
	return fault;
}

static void check(const struct vector *vector, bool is_mail)
{
	struct buf out;
	struct str bad;

	buf_init(&out, SMTP_PARAMS_TEXT_MAX);
	enum smtp_params_fault fault = parse_and_print(
		guard_put(&guard, vector->text), vector->offered, is_mail, 4096, &bad, &out);
	if (fault != vector->fault)
		fprintf(stderr, "\"%.*s\"\n", STR_ARG(vector->text));
	assert_int_equal(fault, vector->fault);
	assert_true(str_eq(bad, vector->bad));
	assert_true(str_eq(buf_view(&out), vector->printed));

	/* What was printed reads as the same. */
	if (fault == SMTP_PARAMS_FINE) {
		struct buf again;
		buf_init(&again, SMTP_PARAMS_TEXT_MAX);
		parse_and_print(buf_view(&out), ALL, is_mail, 4096, &bad, &again);
		assert_true(str_eq(buf_view(&again), vector->printed));
		buf_free(&again);
	}
	buf_free(&out);
}

static void test_vectors(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(mail_vectors) / sizeof(mail_vectors[0]); i++)
		check(&mail_vectors[i], true);
	for (size_t i = 0; i < sizeof(rcpt_vectors) / sizeof(rcpt_vectors[0]); i++)
		check(&rcpt_vectors[i], false);
}

/* Each front of each vector ends at the guard page. */
static void test_cut_vectors(void **state)
{
	struct buf out;
	struct str bad;

	(void)state;
	buf_init(&out, SMTP_PARAMS_TEXT_MAX);
	for (size_t i = 0; i < sizeof(mail_vectors) / sizeof(mail_vectors[0]); i++)
		for (size_t n = 0; n < mail_vectors[i].text.n; n++) {
			struct str text = guard_put(&guard, str_range(mail_vectors[i].text, 0, n));
			parse_and_print(text, ALL, true, 4096, &bad, &out);
			parse_and_print(text, ALL, false, 4096, &bad, &out);
			buf_consume(&out, buf_used(&out));
		}
	buf_free(&out);
}

static void test_values(void **state)
{
	struct smtp_mail_params mail;
	struct arena arena;
	struct str bad;

	(void)state;
	arena_init(&arena, 4096);
	assert_int_equal(smtp_params_parse_mail(STR(" SIZE=18446744073709551616 BODY=7BIT ENVID=x"),
				 ALL, &arena, &mail, &bad),
		SMTP_PARAMS_FINE);
	assert_true(mail.has_size && mail.size == UINT64_MAX);
	assert_int_equal(mail.body, SMTP_BODY_7BIT);
	assert_true(mail.has_envid && str_eq(mail.envid, STR("x")));
	assert_false(mail.smtputf8);
	assert_int_equal(mail.ret.n, 0);
	arena_reset(&arena);
}

static void test_full_arena(void **state)
{
	struct buf out;
	struct str bad;

	(void)state;
	buf_init(&out, SMTP_PARAMS_TEXT_MAX);
	assert_int_equal(parse_and_print(STR(" ENVID=abcdefgh"), ALL, true, 4, &bad, &out),
		SMTP_PARAMS_NO_ROOM);
	assert_int_equal(parse_and_print(STR(" ORCPT=rfc822;abcdefgh"), ALL, false, 4, &bad, &out),
		SMTP_PARAMS_NO_ROOM);
	buf_free(&out);
}

static void test_prints_what_is_offered(void **state)
{
	static const struct {
		unsigned offered;
		struct str mail, rcpt;
	} cases[] = {
		{ 0, STR_INIT(""), STR_INIT("") },
		{ SMTP_EXT_SIZE, STR_INIT(" SIZE=1"), STR_INIT("") },
		{ SMTP_EXT_8BITMIME, STR_INIT(" BODY=8BITMIME"), STR_INIT("") },
		{ SMTP_EXT_SMTPUTF8, STR_INIT(" SMTPUTF8"), STR_INIT("") },
		{ SMTP_EXT_DSN, STR_INIT(" RET=FULL ENVID=e"),
			STR_INIT(" NOTIFY=NEVER ORCPT=x;y") },
	};
	struct smtp_mail_params mail;
	struct smtp_rcpt_params rcpt;
	struct arena arena;
	struct str bad;
	struct buf out;

	(void)state;
	arena_init(&arena, 4096);
	buf_init(&out, SMTP_PARAMS_TEXT_MAX);
	smtp_params_parse_mail(
		STR(" SIZE=1 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=e"), ALL, &arena, &mail, &bad);
	smtp_params_parse_rcpt(STR(" NOTIFY=NEVER ORCPT=x;y"), ALL, &arena, &rcpt, &bad);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		smtp_params_print_mail(&mail, cases[i].offered, &out);
		assert_true(str_eq(buf_view(&out), cases[i].mail));
		buf_consume(&out, buf_used(&out));
		smtp_params_print_rcpt(&rcpt, cases[i].offered, &out);
		assert_true(str_eq(buf_view(&out), cases[i].rcpt));
		buf_consume(&out, buf_used(&out));
	}
	buf_free(&out);
	arena_reset(&arena);
}

/* The longest of everything fits into the room that the header asks for. */
static void test_longest(void **state)
{
	char orcpt[600] = " NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;";
	size_t start = strlen(orcpt);
	struct buf out;
	struct str bad;

	(void)state;
	memset(orcpt + start, 'a', 500 - strlen("rfc822;"));
	buf_init(&out, SMTP_PARAMS_TEXT_MAX);
	assert_int_equal(
		parse_and_print(str_from(orcpt), ALL, false, 4096, &bad, &out), SMTP_PARAMS_FINE);
	assert_true(str_eq(buf_view(&out), str_from(orcpt)));
	buf_free(&out);
}

static void test_xtext(void **state)
{
	(void)state;
	assert_true(smtp_is_xtext(STR("")));
	assert_true(smtp_is_xtext(STR("+2B+3D~!")));
	assert_false(smtp_is_xtext(STR("a=b")));
	assert_false(smtp_is_xtext(STR("a b")));
	assert_false(smtp_is_xtext(STR("a+2b")));
	assert_false(smtp_is_xtext(guard_put(&guard, STR("a+"))));
	assert_false(smtp_is_xtext(guard_put(&guard, STR("a+2"))));
	assert_false(smtp_is_xtext(STR("\x80")));
	assert_false(smtp_is_xtext(STR("\0")));
}

static void test_writing_xtext(void **state)
{
	static const struct {
		struct str text, xtext;
	} rows[] = {
		{ STR_INIT(""), STR_INIT("") },
		{ STR_INIT("!bob@example.org~"), STR_INIT("!bob@example.org~") },
		{ STR_INIT("a+b=c d"), STR_INIT("a+2Bb+3Dc+20d") },
		{ STR_INIT("\0\x7f\r\n"), STR_INIT("+00+7F+0D+0A") },
		{ STR_INIT("\xc3\xa4\xff"), STR_INIT("+C3+A4+FF") },
	};
	char memory[32];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		/* In just the room it needs; with less nothing is written. */
		for (size_t room = 0; room <= rows[i].xtext.n; room++) {
			struct buf out = buf_on(memory, room);
			bool fits = smtp_write_xtext(&out, guard_put(&guard, rows[i].text));
			assert_int_equal(fits, room == rows[i].xtext.n);
			assert_int_equal(buf_used(&out), fits ? room : 0);
		}
		assert_memory_equal(memory, rows[i].xtext.p, rows[i].xtext.n);
		assert_true(smtp_is_xtext(rows[i].xtext));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_cut_vectors),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_full_arena),
		cmocka_unit_test(test_prints_what_is_offered),
		cmocka_unit_test(test_longest),
		cmocka_unit_test(test_xtext),
		cmocka_unit_test(test_writing_xtext),
	};

	guard = guard_make(4096);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	guard_free(&guard);
	return failed;
}
