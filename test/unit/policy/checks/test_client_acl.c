#include "policy/checks/client_acl.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "support/check_stage.h"

static const char lists[] = "[{client_acl: {allow: [192.0.2.0/28, \"2001:db8:1::/48\"],"
			    " reject: [192.0.2.0/24, \"2001:db8::/32\"],"
			    " defer: [0.0.0.0/1]}}, limits]";

static void test_addresses(void **state)
{
	static const struct {
		const char *client;
		enum verdict_kind kind;
		enum reply_id reply;
	} rows[] = {
		{ "192.0.2.1", VERDICT_ALLOW, 0 },
		{ "::ffff:192.0.2.15", VERDICT_ALLOW, 0 },
		{ "192.0.2.16", VERDICT_REJECT, REPLY_CLIENT_REJECTED },
		{ "::ffff:192.0.2.255", VERDICT_REJECT, REPLY_CLIENT_REJECTED },
		{ "2001:db8:1::1", VERDICT_ALLOW, 0 },
		{ "2001:db8:2::1", VERDICT_REJECT, REPLY_CLIENT_REJECTED },
		{ "192.0.3.0", VERDICT_NEXT, 0 },
		{ "10.0.0.1", VERDICT_DEFER, REPLY_CLIENT_DEFERRED },
		{ "198.51.100.1", VERDICT_NEXT, 0 },
		{ "2001:db9::1", VERDICT_NEXT, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct check_stage stage;
		check_stage_init(&stage, POLICY_CONNECT, lists, NULL, rows[i].client);
		check_stage_ask(&stage);
		if (!stage.is_decided || stage.verdict.kind != rows[i].kind ||
			stage.verdict.reply != rows[i].reply)
			fail_msg("%s: %s", rows[i].client, verdict_word(stage.verdict.kind));
		check_stage_free(&stage);
	}
}

static void test_allow_skips_the_rest_of_the_stage(void **state)
{
	const struct policy_roots roots = { .connections_per_client = 1 };
	struct check_stage stage;

	(void)state;
	check_stage_init(&stage, POLICY_CONNECT, lists, &roots, "192.0.2.1");
	stage.fake.connections = 2;
	check_stage_ask(&stage);
	assert_int_equal(stage.verdict.kind, VERDICT_ALLOW);
	check_stage_free(&stage);
}

static const char names[] = "[{client_acl: {allow: [192.0.2.0/28],"
			    " reject_hosts: [bad.example, .dyn.example]}}]";

static void test_names(void **state)
{
	static const struct {
		enum host_status status;
		const char *host;
		bool is_confirmed;
		enum verdict_kind kind;
	} rows[] = {
		{ HOST_OK, "bad.example", true, VERDICT_REJECT },
		{ HOST_OK, "BAD.Example", true, VERDICT_REJECT },
		{ HOST_OK, "a.b.dyn.example", true, VERDICT_REJECT },
		{ HOST_OK, "dyn.example", true, VERDICT_NEXT },
		{ HOST_OK, "notdyn.example", true, VERDICT_NEXT },
		{ HOST_OK, "sub.bad.example", true, VERDICT_NEXT },
		{ HOST_OK, "bad.example", false, VERDICT_NEXT },
		{ HOST_NONE, "", false, VERDICT_NEXT },
		{ HOST_ERROR, "", false, VERDICT_NEXT },
		{ HOST_TIMEOUT, "", false, VERDICT_NEXT },
		{ HOST_OFF, "", false, VERDICT_NEXT },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		/* The answer is there before the check is asked, or comes while it waits. */
		for (int waits = 0; waits < 2; waits++) {
			struct check_stage stage;
			check_stage_init(&stage, POLICY_CONNECT, names, NULL, "198.51.100.1");
			if (waits) {
				check_stage_ask(&stage);
				assert_false(stage.is_decided);
			}
			connection_set_remote_host(&stage.connection, rows[i].status,
				str_from(rows[i].host), rows[i].is_confirmed);
			if (waits)
				policy_run_event(&stage.run, POLICY_EVENT_CLIENT_NAME);
			else
				check_stage_ask(&stage);
			if (!stage.is_decided || stage.verdict.kind != rows[i].kind)
				fail_msg("row %zu, waits %d", i, waits);
			assert_false(stage.fake.is_armed);
			check_stage_free(&stage);
		}
	}
}

static void test_deadline_lets_pass(void **state)
{
	struct check_stage stage;

	(void)state;
	check_stage_init(&stage, POLICY_CONNECT, names, NULL, "198.51.100.1");
	check_stage_ask(&stage);
	fake_advance(&stage.fake, &stage.run, 4999);
	assert_false(stage.is_decided);
	fake_advance(&stage.fake, &stage.run, 1);
	assert_true(stage.is_decided);
	assert_int_equal(stage.verdict.kind, VERDICT_NEXT);
	assert_true(check_stage_has(&stage, "err", "CONNECT deadline"));
	check_stage_free(&stage);
}

static void test_waits_only_when_it_must(void **state)
{
	struct check_stage stage;

	(void)state;
	check_stage_init(&stage, POLICY_CONNECT, names, NULL, "192.0.2.1");
	check_stage_ask(&stage);
	assert_int_equal(stage.verdict.kind, VERDICT_ALLOW);
	check_stage_free(&stage);

	check_stage_init(&stage, POLICY_CONNECT, "[client_acl]", NULL, "192.0.2.1");
	check_stage_ask(&stage);
	assert_true(stage.is_decided);
	assert_int_equal(stage.verdict.kind, VERDICT_NEXT);
	assert_true(check_stage_step(&stage, 0)->holds);
	check_stage_free(&stage);
}

static void test_client_leaves_while_waiting(void **state)
{
	struct check_stage stage;

	(void)state;
	check_stage_init(&stage, POLICY_CONNECT, names, NULL, "198.51.100.1");
	check_stage_ask(&stage);
	policy_run_cancel(&stage.run);
	policy_run_event(&stage.run, POLICY_EVENT_CLIENT_NAME);
	assert_false(stage.is_decided);
	check_stage_free(&stage);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_allow_skips_the_rest_of_the_stage),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_deadline_lets_pass),
		cmocka_unit_test(test_waits_only_when_it_must),
		cmocka_unit_test(test_client_leaves_while_waiting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
