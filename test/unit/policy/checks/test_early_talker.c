#include "policy/checks/early_talker.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "support/check_stage.h"

static void open_stage(struct check_stage *stage, enum policy_stage which, const char *steps)
{
	check_stage_init(stage, which, steps, NULL, "198.51.100.1");
}

static void assert_refused(const struct check_stage *stage)
{
	assert_true(stage->is_decided);
	assert_int_equal(stage->verdict.kind, VERDICT_REJECT);
	assert_int_equal(stage->verdict.reply, REPLY_EARLY_TALKER);
}

static void assert_passed(const struct check_stage *stage)
{
	assert_true(stage->is_decided);
	assert_int_equal(stage->verdict.kind, VERDICT_NEXT);
}

static void test_before_banner(void **state)
{
	struct check_stage stage;

	(void)state;
	open_stage(&stage, POLICY_CONNECT, "[early_talker]");
	check_stage_ask(&stage);
	assert_passed(&stage);
	assert_true(check_stage_step(&stage, 0)->holds);
	stage.fake.input_is_pending = true;
	check_stage_ask(&stage);
	assert_refused(&stage);
	check_stage_free(&stage);
}

static void test_pause(void **state)
{
	struct check_stage stage;

	(void)state;
	open_stage(&stage, POLICY_CONNECT, "[{early_talker: {pause: 3s}}]");

	stage.fake.input_is_pending = true; /* no need to wait */
	check_stage_ask(&stage);
	assert_refused(&stage);

	stage.fake.input_is_pending = false;
	check_stage_ask(&stage);
	fake_advance(&stage.fake, &stage.run, 2999);
	assert_false(stage.is_decided);
	fake_advance(&stage.fake, &stage.run, 1);
	assert_passed(&stage);

	check_stage_ask(&stage);
	fake_advance(&stage.fake, &stage.run, 1000);
	stage.fake.input_is_pending = true;
	fake_advance(&stage.fake, &stage.run, 2000);
	assert_refused(&stage);
	check_stage_free(&stage);
}

static void test_longest_pause_ends_before_deadline(void **state)
{
	struct check_stage stage;

	(void)state;
	open_stage(&stage, POLICY_CONNECT, "[{early_talker: {pause: 60s}}]");
	check_stage_ask(&stage);
	fake_advance(&stage.fake, &stage.run, 60000);
	assert_passed(&stage);
	assert_false(check_stage_has(&stage, "err", "CONNECT deadline"));
	check_stage_free(&stage);
}

static void test_note(void **state)
{
	struct check_stage stage;

	(void)state;
	open_stage(&stage, POLICY_CONNECT, "[{early_talker: {pause: 1s, action: note}}]");
	stage.fake.input_is_pending = true;
	check_stage_ask(&stage);
	assert_passed(&stage);
	assert_true(check_stage_has(&stage, "msg", "bytes before the banner"));
	check_stage_free(&stage);

	open_stage(&stage, POLICY_RCPT, "[{early_talker: {action: note}}]");
	check_stage_recipient(&stage, "<postmaster>");
	stage.connection.early_talker = true;
	check_stage_ask(&stage);
	assert_passed(&stage);
	assert_true(results_has(&stage.connection.transaction->results, STR("early_talker"),
		STR("msg"), STR("spoke out of turn")));
	check_stage_free(&stage);
}

/* At RCPT the mark counts that the dialogue has set; bytes that wait are legal there. */
static void test_at_rcpt(void **state)
{
	static const struct {
		bool early_talker, input_is_pending, is_refused;
	} rows[] = {
		{ false, false, false },
		{ false, true, false },
		{ true, false, true },
		{ true, true, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct check_stage stage;
		open_stage(&stage, POLICY_RCPT, "[relay, {early_talker: {pause: 5s}}]");
		check_stage_recipient(&stage, "<postmaster>");
		stage.connection.early_talker = rows[i].early_talker;
		stage.fake.input_is_pending = rows[i].input_is_pending;
		check_stage_ask(&stage);
		if (rows[i].is_refused)
			assert_refused(&stage);
		else
			assert_passed(&stage);
		assert_false(check_stage_step(&stage, 1)->holds);
		check_stage_free(&stage);
	}
}

static void test_never_those_who_may_relay(void **state)
{
	struct check_stage stage;

	(void)state;
	open_stage(&stage, POLICY_CONNECT, "[{early_talker: {pause: 5s}}]");
	stage.connection.relaying = true;
	stage.connection.early_talker = true;
	stage.fake.input_is_pending = true;
	check_stage_ask(&stage);
	assert_passed(&stage);
	check_stage_free(&stage);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_before_banner),
		cmocka_unit_test(test_pause),
		cmocka_unit_test(test_longest_pause_ends_before_deadline),
		cmocka_unit_test(test_note),
		cmocka_unit_test(test_at_rcpt),
		cmocka_unit_test(test_never_those_who_may_relay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
