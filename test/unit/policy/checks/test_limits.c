#include "policy/checks/limits.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "support/check_stage.h"

static void test_limit(void **state)
{
	static const struct {
		const char *steps;
		uint64_t root;
		unsigned connections;
		bool is_refused;
	} rows[] = {
		{ "[limits]", 0, 1000000, false },
		{ "[limits]", 20, 20, false },
		{ "[limits]", 20, 21, true },
		{ "[limits]", 1, 1, false },
		{ "[limits]", 1, 2, true },
		{ "[{limits: {connections_per_client: 5}}]", 20, 5, false },
		{ "[{limits: {connections_per_client: 5}}]", 20, 6, true },
		{ "[{limits: {connections_per_client: 5}}]", 0, 6, true },
		{ "[{limits: {connections_per_client: 30}}]", 20, 25, false },
		{ "[{limits: {connections_per_client: 0}}]", 20, 21, true },
		{ "[{limits: {exempt: [198.51.100.0/24]}}]", 20, 21, false },
		{ "[{limits: {exempt: [192.0.2.0/24]}}]", 20, 21, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct policy_roots roots = { .connections_per_client = rows[i].root };
		struct check_stage stage;
		check_stage_init(&stage, i % 2 ? POLICY_CONNECT : POLICY_MAIL, rows[i].steps,
			&roots, "198.51.100.1");
		stage.fake.connections = rows[i].connections;
		check_stage_ask(&stage);
		if (stage.verdict.kind != (rows[i].is_refused ? VERDICT_HANGUP : VERDICT_NEXT))
			fail_msg("row %zu: %s", i, verdict_word(stage.verdict.kind));
		if (rows[i].is_refused)
			assert_int_equal(stage.verdict.reply, REPLY_TOO_MANY_CONNECTIONS);
		check_stage_free(&stage);
	}
}

/* It is the client that is counted, not the balancer. */
static void test_counts_the_client(void **state)
{
	const struct policy_roots roots = { .connections_per_client = 1 };
	struct check_stage stage;

	(void)state;
	check_stage_init(&stage, POLICY_CONNECT, "[limits]", &roots, "198.51.100.1");
	stage.connection.proxy.has_header = true;
	check_stage_ask(&stage);
	assert_true(ipaddr_eq(&stage.fake.asked_client, &stage.connection.remote.address.ip));
	check_stage_free(&stage);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_counts_the_client),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
