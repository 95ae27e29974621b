#include "policy/checks/hello.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "support/check_stage.h"

static const struct policy_roots roots = { .hostname = STR_INIT("mx.example.net") };

/* REPLY_OK stands for "no objection". */
static enum reply_id ask_about(struct check_stage *stage, const char *name)
{
	stage->connection.hello.verb = "EHLO";
	stage->connection.hello.host = str_from(name);
	check_stage_ask(stage);
	assert_true(stage->is_decided);
	if (stage->verdict.kind == VERDICT_NEXT)
		return REPLY_OK;
	assert_int_equal(stage->verdict.kind, VERDICT_REJECT);
	return stage->verdict.reply;
}

struct row {
	const char *name;
	enum reply_id reply;
};

static void check_rows(const char *steps, const struct row *rows)
{
	struct check_stage stage;

	check_stage_init(&stage, POLICY_HELLO, steps, &roots, "198.51.100.1");
	assert_true(check_stage_step(&stage, 0)->holds);
	for (; rows->name; rows++) {
		enum reply_id got = ask_about(&stage, rows->name);
		if (got != rows->reply)
			fail_msg("%s: \"%s\": %d", steps, rows->name, reply_code(got));
		stage.connection.relaying = true;
		assert_int_equal(ask_about(&stage, rows->name), REPLY_OK);
		stage.connection.relaying = false;
	}
	check_stage_free(&stage);
}

static void test_defaults(void **state)
{
	static const struct row rows[] = {
		{ "client.example.com", REPLY_OK },
		{ "localhost", REPLY_OK },
		{ "my_pc.local", REPLY_OK },
		{ "mx.example.net", REPLY_OK },
		{ "[192.0.2.1]", REPLY_OK },
		{ "[IPv6:2001:db8::1]", REPLY_OK },
		{ "[192.0.2.256]", REPLY_HELLO_INVALID },
		{ "[2001:db8::1]", REPLY_HELLO_INVALID },
		{ "[", REPLY_HELLO_INVALID },
		{ "a..b", REPLY_HELLO_INVALID },
		{ ".", REPLY_HELLO_INVALID },
		{ "a!b", REPLY_HELLO_INVALID },
		{ "two words", REPLY_HELLO_INVALID },
		{ "<script>", REPLY_HELLO_INVALID },
		{ "b\xc3\xbc"
		  "cher.example",
			REPLY_HELLO_INVALID },
		{ "", REPLY_HELLO_INVALID },
		{ NULL },
	};

	(void)state;
	check_rows("[hello]", rows);
}

static void test_invalid_accepted(void **state)
{
	static const struct row rows[] = {
		{ "two words", REPLY_OK },
		{ "[", REPLY_OK },
		{ "", REPLY_OK },
		{ NULL },
	};

	(void)state;
	check_rows("[{hello: {invalid: accept}}]", rows);
}

static void test_fqdn(void **state)
{
	static const struct row rows[] = {
		{ "localhost", REPLY_HELLO_NOT_FQDN },
		{ "WORKSTATION", REPLY_HELLO_NOT_FQDN },
		{ "client.example.com", REPLY_OK },
		{ "[IPv6:2001:db8::1]", REPLY_OK },
		{ "[192.0.2.1]", REPLY_OK },
		{ "a!b", REPLY_HELLO_INVALID },
		{ NULL },
	};

	(void)state;
	check_rows("[{hello: {fqdn: reject}}]", rows);
}

static void test_own_name(void **state)
{
	static const struct row rows[] = {
		{ "mx.example.net", REPLY_HELLO_OWN_NAME },
		{ "MX.example.NET", REPLY_HELLO_OWN_NAME },
		{ "example.com", REPLY_HELLO_OWN_NAME },
		{ "any.example.org", REPLY_HELLO_OWN_NAME },
		{ "example.org", REPLY_OK },
		{ "example.net", REPLY_OK },
		{ "a.mx.example.net", REPLY_OK },
		{ NULL },
	};

	(void)state;
	check_rows("[{hello: {own_name: reject, names: [example.com, .example.org]}}]", rows);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_invalid_accepted),
		cmocka_unit_test(test_fqdn),
		cmocka_unit_test(test_own_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
