#include "policy/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "support/check_stage.h"
#include "support/vectors.h"

static bool holds(const struct buf *buf, const char *text)
{
	struct str all = buf_view(buf);

	return memmem(all.p, all.n, text, strlen(text)) != NULL;
}

/* "limits/early_talker" */
static const char *stage_checks(const struct policy_plan *plan, enum policy_stage stage)
{
	static char names[256];
	size_t n = 0;

	names[0] = '\0';
	for (size_t i = 0; i < plan->stages[stage].count; i++)
		n += (size_t)snprintf(names + n, sizeof(names) - n, "%s%s", i > 0 ? "/" : "",
			plan->stages[stage].steps[i].check->name);
	return names;
}

static const struct policy_plan *only_plan(const struct conf_list *plans)
{
	assert_int_equal(plans->count, 1);
	return plans->items;
}

/* ---- Reading ---- */

static void test_reads(void **state)
{
	struct conf_list plans;

	(void)state;
	check_stage_read("plans:\n"
			 "  edge:\n"
			 "    connect:\n"
			 "      - limits\n"
			 "      - client_acl: {reject: [198.51.100.0/24], deadline: 2s,\n"
			 "                     on_deadline: defer, hold: no}\n"
			 "      - early_talker:\n"
			 "    hello: hello\n"
			 "    rcpt: [early_talker, relay]\n"
			 "  other: {}\n",
		&plans);
	assert_int_equal(plans.count, 2);
	const struct policy_plan *edge = policy_plan_find(&plans, STR("edge"));
	assert_non_null(edge);
	assert_string_equal(stage_checks(edge, POLICY_CONNECT), "limits/client_acl/early_talker");
	assert_string_equal(stage_checks(edge, POLICY_HELLO), "hello");
	assert_string_equal(stage_checks(edge, POLICY_MAIL), "");
	assert_string_equal(stage_checks(edge, POLICY_RCPT), "early_talker/relay");

	const struct policy_step *steps = edge->stages[POLICY_CONNECT].steps;
	assert_true(steps[0].holds);
	assert_int_equal(steps[0].deadline_ms, 0);
	assert_false(steps[1].holds);
	assert_int_equal(steps[1].deadline_ms, 2000);
	assert_int_equal(steps[1].on_deadline, VERDICT_DEFER);
	assert_int_equal(steps[2].on_deadline, VERDICT_NEXT);
	assert_false(edge->stages[POLICY_RCPT].steps[0].holds);

	assert_string_equal(
		stage_checks(policy_plan_find(&plans, STR("other")), POLICY_RCPT), "relay");
	assert_null(policy_plan_find(&plans, STR("Edge")));
	assert_null(policy_plan_find(&plans, STR("")));
	policy_plans_free(&plans, NULL);
	assert_int_equal(plans.count, 0);
}

static void test_relay_is_always_there(void **state)
{
	static const struct {
		const char *text;
		const char *checks;
	} rows[] = {
		{ "plans: {p: {}}", "relay" },
		{ "plans: {p: }", "relay" },
		{ "plans: {p: {rcpt: []}}", "relay" },
		{ "plans: {p: {rcpt: [early_talker]}}", "relay/early_talker" },
		{ "plans: {p: {rcpt: [early_talker, relay]}}", "early_talker/relay" },
		{ "plans: {p: {rcpt: [{relay: {}}]}}", "relay" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct conf_list plans;
		check_stage_read(rows[i].text, &plans);
		assert_string_equal(stage_checks(only_plan(&plans), POLICY_RCPT), rows[i].checks);
		policy_plans_free(&plans, NULL);
	}
}

static void test_no_plans(void **state)
{
	struct conf_list plans;

	(void)state;
	check_stage_read("plans: {}", &plans);
	assert_int_equal(plans.count, 0);
	assert_null(policy_plan_find(&plans, STR("p")));
	policy_plans_free(&plans, NULL);
}

static void test_default_plan(void **state)
{
	struct policy_plan *plan = policy_plan_default();

	(void)state;
	assert_string_equal(stage_checks(plan, POLICY_CONNECT), "limits/early_talker");
	assert_string_equal(stage_checks(plan, POLICY_HELLO), "hello");
	assert_string_equal(stage_checks(plan, POLICY_MAIL), "");
	assert_string_equal(stage_checks(plan, POLICY_RCPT), "relay/early_talker");
	assert_string_equal(stage_checks(plan, POLICY_DATA), "");
	assert_string_equal(stage_checks(plan, POLICY_BODY), "");
	assert_true(str_eq(plan->name, STR("default")));
	policy_plan_free(&plan);
	assert_null(plan);
	policy_plan_free(&plan);
}

/* ---- Mistakes ---- */

static void test_mistakes(void **state)
{
	static const struct {
		const char *text;
		const char *place, *what;
	} rows[] = {
		{ "plans: {p: {connect: [limts]}}", "t:1:23:", "did you mean \"limits\"" },
		{ "plans:\n  p:\n    hello:\n      - helo", "t:4:9:", "did you mean \"hello\"" },
		{ "plans: {p: {connect: [{client_alc: {}}]}}", "t:1:24:", "\"client_acl\"" },
		{ "plans: {p: {hello: [limits]}}", "t:1:21:",
			"limits cannot stand in the stage hello, only in connect, mail" },
		{ "plans: {p: {data: [relay]}}", "t:1:20:", "only in rcpt" },
		{ "plans: {p: {connect: [{client_acl: {rejcet: []}}]}}",
			"t:1:37:", "did you mean \"reject\"" },
		{ "plans: {p: {connect: [{client_acl: {reject: [10.0.0.1/8]}}]}}",
			"t:1:46:", "network" },
		{ "plans: {p: {connect: [{limits: {deadline: 5s}}]}}", "t:1:33:", "unknown key" },
		{ "plans: {p: {connect: [{client_acl: {on_deadline: allow}}]}}",
			"t:1:50:", "next, defer or reject" },
		{ "plans: {p: {connect: [{client_acl: {deadline: 0}}]}}", "t:1:47:", "1ms" },
		{ "plans: {p: {connect: [{limits: {hold: maybe}}]}}", "t:1:39:", "true or false" },
		{ "plans: {p: {connect: [{limits: {}, hello: {}}]}}", "t:1:23:", "a step is" },
		{ "plans: {p: {connect: [[limits]]}}", "t:1:23:", "a step is" },
		{ "plans: {p: {connect: [{}]}}", "t:1:23:", "a step is" },
		{ "plans: {p: {connect: [\"\"]}}", "t:1:23:", "limits" },
		{ "plans: {p: {conect: [limits]}}", "t:1:13:", "did you mean \"connect\"" },
		{ "plans: {\"\": {connect: [limits]}}", "t:1:9:", "a plan needs a name" },
		{ "plans: {p: [limits]}", "t:1:12:", "mapping" },
		{ "plans: [limits]", "t:1:8:", "mapping" },
		{ "plans: edge", "t:1:8:", "mapping" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct conf_list plans;
		struct buf report;
		buf_init(&report, 65536);
		int rc = conf_read_text("t", str_from(rows[i].text), check_stage_fields, &plans,
			sizeof(plans), &report);
		struct str lines = buf_view(&report);
		if (rc != -1 || !holds(&report, rows[i].place) || !holds(&report, rows[i].what))
			fail_msg("%s\n%.*s", rows[i].text, STR_ARG(lines));
		if (str_find(lines, '\n') != lines.n - 1)
			fail_msg("not one line: %s\n%.*s", rows[i].text, STR_ARG(lines));
		assert_null(plans.items);
		buf_free(&report);
	}
}

static void test_all_mistakes_at_once(void **state)
{
	struct conf_list plans;
	struct buf report;

	(void)state;
	buf_init(&report, 65536);
	assert_int_equal(conf_read_text("t",
				 STR("plans:\n"
				     "  a: {connect: [limts, {client_acl: {alow: []}}]}\n"
				     "  b: {rcpt: [hello, relay], boddy: []}\n"),
				 check_stage_fields, &plans, sizeof(plans), &report),
		-1);
	assert_true(holds(&report, "t:2:17:"));
	assert_true(holds(&report, "t:2:38:"));
	assert_true(holds(&report, "t:3:14:"));
	assert_true(holds(&report, "t:3:29:"));
	buf_free(&report);
}

/* ---- What stands outside the plans ---- */

static void test_bind_reaches_every_step(void **state)
{
	static const struct relay_settings nothing;
	const struct policy_roots roots = { .relay = &nothing, .connections_per_client = 3 };
	struct check_stage stage;

	(void)state;
	check_stage_init(
		&stage, POLICY_CONNECT, "[early_talker, limits, limits]", &roots, "192.0.2.1");
	stage.fake.connections = 4;
	check_stage_ask(&stage);
	assert_int_equal(stage.verdict.kind, VERDICT_HANGUP);
	assert_ptr_equal(stage.step, check_stage_step(&stage, 1));
	check_stage_free(&stage);
}

/* ---- No ALLOW opens the relay ---- */

static struct verdict ask_allow(struct policy_question *question)
{
	(void)question;
	return verdict_allow();
}

/* Wherever relay stands in the stage, and whoever allows before it. */
static void test_allow_never_skips_relay(void **state)
{
	static const struct policy_check allows = { .name = "allows", .ask = ask_allow };
	static const char *const rows[] = { "[early_talker, early_talker, relay]",
		"[early_talker, relay]", "[early_talker]" };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct check_stage stage;
		check_stage_init(&stage, POLICY_RCPT, rows[i], NULL, "192.0.2.1");
		struct policy_plan *plan = stage.plans.items;
		for (size_t n = 0; n < plan->stages[POLICY_RCPT].count; n++)
			if (check_stage_step(&stage, n)->check != &relay_check)
				check_stage_step(&stage, n)->check = &allows;

		check_stage_recipient(&stage, "<u@evil.test>");
		check_stage_ask(&stage);
		assert_int_equal(stage.verdict.kind, VERDICT_REJECT);
		assert_int_equal(stage.verdict.reply, REPLY_RELAY_DENIED);
		check_stage_free(&stage);
	}
}

/* ---- Printing ---- */

static const char sample[] =
	"plans:\n"
	"  \"a plan: #1\":\n"
	"    connect: [limits, {client_acl: {reject: [198.51.100.0/24, \"2001:db8::/32\"],\n"
	"      reject_hosts: [.dyn.example.net], deadline: 1500ms, on_deadline: reject}},\n"
	"      {early_talker: {pause: 5s, action: note, hold: no}}]\n"
	"    hello: [{hello: {fqdn: reject, names: [example.com]}}]\n"
	"  b: {mail: [{limits: {connections_per_client: 7, exempt: [10.0.0.0/8]}}]}\n";

static void print_plans(const struct conf_list *plans, struct buf *out)
{
	buf_init(out, 65536);
	buf_write(out, STR("plans: "));
	policy_plans_print(plans, NULL, out);
	buf_write(out, STR("\n"));
}

static void test_print_reads_back(void **state)
{
	struct conf_list plans, again;
	struct buf first, second;
	char *text;

	(void)state;
	check_stage_read(sample, &plans);
	print_plans(&plans, &first);
	assert_true(holds(&first, "\"a plan: #1\": {connect: [{limits: {"));
	assert_true(holds(&first, "deadline: 1500ms, on_deadline: reject"));
	text = str_dup(buf_view(&first));
	check_stage_read(text, &again);
	print_plans(&again, &second);
	assert_true(str_eq(buf_view(&first), buf_view(&second)));
	assert_int_equal(again.count, 2);
	free(text);
	buf_free(&first);
	buf_free(&second);
	policy_plans_free(&plans, NULL);
	policy_plans_free(&again, NULL);
}

static void test_print_for_people(void **state)
{
	struct conf_list plans;
	struct buf out;

	(void)state;
	check_stage_read(sample, &plans);
	buf_init(&out, 65536);
	policy_plan_print(plans.items, &out);
	assert_true(holds(&out, "plan a plan: #1\nstage "));
	assert_true(holds(&out, "connect     2  client_acl     1500ms, reject yes   {allow: []"));
	assert_true(holds(&out, "connect     3  early_talker   2m, next       no    {pause: 5s"));
	assert_true(holds(&out, "rcpt        1  relay          -              no\n"));
	buf_free(&out);
	policy_plans_free(&plans, NULL);
}

static void test_reference(void **state)
{
	struct buf out;

	(void)state;
	buf_init(&out, 65536);
	policy_print_reference(&out);
	for (size_t i = 0; policy_checks[i]; i++) {
		char link[64];
		snprintf(link, sizeof(link), "[%s](%s.md)", policy_checks[i]->name,
			policy_checks[i]->name);
		assert_true(holds(&out, link));
	}
	assert_true(holds(&out, "`reject_hosts`"));
	assert_true(holds(&out, "`on_deadline`"));
	assert_true(holds(&out, "Stages: `connect`, `mail`."));
	buf_free(&out);
}

static void test_schema(void **state)
{
	struct str schema = str_from(policy_plans_schema());
	struct str plan = vectors_json_get(schema, "additionalProperties");
	struct str stages = vectors_json_get(plan, "properties");

	(void)state;
	assert_ptr_equal(schema.p, policy_plans_schema());
	assert_true(str_eq(vectors_json_get(schema, "type"), STR("object")));
	for (enum policy_stage stage = 0; stage < POLICY_STAGE_COUNT; stage++) {
		struct str row = vectors_json_get(stages, policy_stage_key(stage));
		assert_true(str_eq(vectors_json_get(row, "type"), STR("array")));
	}
	struct str rcpt = vectors_json_get(vectors_json_get(stages, "rcpt"), "items");
	assert_non_null(memmem(rcpt.p, rcpt.n, "\"relay\"", 7));
	assert_null(memmem(rcpt.p, rcpt.n, "\"hello\"", 7));
}

/* Every check is complete: what it says of itself, and that it can be asked. */
static void test_checks(void **state)
{
	(void)state;
	for (size_t i = 0; policy_checks[i]; i++) {
		const struct policy_check *check = policy_checks[i];
		assert_ptr_equal(policy_check_find(str_from(check->name)), check);
		assert_true(check->stages != 0 && check->stages < 1u << POLICY_STAGE_COUNT);
		assert_non_null(check->help);
		assert_non_null(check->ask);
		assert_int_equal(check->resume != NULL, check->default_deadline != NULL);
		for (const struct conf_field *field = check->fields; field && field->key; field++)
			assert_non_null(field->help);
	}
	assert_null(policy_check_find(STR("Relay")));
	assert_null(policy_check_find(STR("")));
}

/* Every setting of every check is named on the check's page. */
static void test_pages(void **state)
{
	(void)state;
	for (size_t i = 0; policy_checks[i]; i++) {
		const struct policy_check *check = policy_checks[i];
		const struct conf_field *fields =
			check == &relay_check ? relay_fields : check->fields;
		char path[512], key[64];
		snprintf(path, sizeof(path), "%s/docs/policy/%s.md", PROJECT_SOURCE_DIR_,
			check->name);
		struct str page = vectors_read(path);
		for (const struct conf_field *field = fields; field && field->key; field++) {
			int n = snprintf(key, sizeof(key), "| `%s` |", field->key);
			if (!memmem(page.p, page.n, key, (size_t)n))
				fail_msg("%s does not name %s", path, field->key);
		}
		free((void *)(uintptr_t)page.p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads),
		cmocka_unit_test(test_relay_is_always_there),
		cmocka_unit_test(test_no_plans),
		cmocka_unit_test(test_default_plan),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_all_mistakes_at_once),
		cmocka_unit_test(test_bind_reaches_every_step),
		cmocka_unit_test(test_allow_never_skips_relay),
		cmocka_unit_test(test_print_reads_back),
		cmocka_unit_test(test_print_for_people),
		cmocka_unit_test(test_reference),
		cmocka_unit_test(test_schema),
		cmocka_unit_test(test_checks),
		cmocka_unit_test(test_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
