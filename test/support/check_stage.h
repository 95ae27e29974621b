/*
 * One stage of a plan, as the file has it, asked about one client: for the tests of checks.
 */
#ifndef TEST_SUPPORT_CHECK_STAGE_H
#define TEST_SUPPORT_CHECK_STAGE_H

#include <stdio.h>
#include <stdlib.h>

#include "policy/checks/relay.h"
#include "support/fake_services.h"

struct check_stage {
	struct fake_services fake;
	struct connection connection;
	struct conf_list plans;
	struct policy_run run;
	enum policy_stage stage;
	bool is_decided;
	struct verdict verdict;
	const struct policy_step *step;
};

static const struct conf_field check_stage_fields[] = {
	{
		.key = "plans",
		.type = CONF_CUSTOM,
		.read = policy_plans_read,
		.free = policy_plans_free,
		.help = "Plans.",
	},
	CONF_END,
};

static inline void check_stage_decided(
	void *ctx, struct verdict verdict, const struct policy_step *step)
{
	struct check_stage *stage = ctx;

	stage->is_decided = true;
	stage->verdict = verdict;
	stage->step = step;
}

/* Reads `plans: …` into *plans; what is wrong goes to stderr and ends the program. */
static inline void check_stage_read(const char *text, struct conf_list *plans)
{
	struct buf report;

	buf_init(&report, 65536);
	if (conf_read_text("test", str_from(text), check_stage_fields, plans, sizeof(*plans),
		    &report) != 0) {
		struct str lines = buf_view(&report);
		fprintf(stderr, "%s\n%.*s", text, STR_ARG(lines));
		abort();
	}
	buf_free(&report);
}

/* `steps` as the file says them: "[limits, {client_acl: {reject: [192.0.2.0/24]}}]". */
static inline void check_stage_init(struct check_stage *stage, enum policy_stage which,
	const char *steps, const struct policy_roots *roots, const char *client)
{
	static const struct relay_settings nothing;
	static const struct policy_roots no_roots = { .relay = &nothing };
	char text[1024];

	snprintf(text, sizeof(text), "plans: {p: {%s: %s}}\n", policy_stage_key(which), steps);
	memset(stage, 0, sizeof(*stage));
	stage->stage = which;
	stage->fake.now_ms = 1000;
	check_stage_read(text, &stage->plans);
	policy_plans_bind(&stage->plans, roots ? roots : &no_roots);
	fake_client(&stage->connection, &stage->fake, client);
	policy_run_init(&stage->run, policy_plan_find(&stage->plans, STR("p")), &stage->connection,
		&fake_services, &stage->fake, check_stage_decided, stage);
}

/* Begins a transaction when there is none; its candidate is `path` ("<user@example.com>"). */
static inline void check_stage_recipient(struct check_stage *stage, const char *path)
{
	struct transaction *transaction = stage->connection.transaction;
	struct str rest;

	if (!transaction)
		transaction = transaction_begin(&stage->connection, 65536, stage->fake.now_ms);
	struct recipient *recipient = transaction_candidate(transaction);
	if (!recipient || smtp_path_parse_forward(str_from(path), true, &transaction->arena,
				  &recipient->path, &rest) != SMTP_PATH_FINE) {
		fprintf(stderr, "not a path: %s\n", path);
		abort();
	}
}

static inline void check_stage_ask(struct check_stage *stage)
{
	stage->is_decided = false;
	policy_run_start(&stage->run, stage->stage);
}

/* The settings can be mended by hand before anything is asked: the n-th step of the stage. */
static inline struct policy_step *check_stage_step(struct check_stage *stage, size_t n)
{
	struct policy_plan *plan = stage->plans.items;

	return &plan->stages[stage->stage].steps[n];
}

static inline bool check_stage_has(struct check_stage *stage, const char *list, const char *text)
{
	const struct transaction *transaction = stage->connection.transaction;
	const struct results *results =
		transaction ? &transaction->results : &stage->connection.results;

	return results_has(results, str_from(check_stage_step(stage, 0)->check->name),
		str_from(list), str_from(text));
}

static inline void check_stage_free(struct check_stage *stage)
{
	policy_run_cancel(&stage->run);
	if (stage->connection.transaction)
		transaction_end(&stage->connection, OUTCOME_ABORTED, BY_CLIENT, STR(""),
			stage->fake.now_ms);
	connection_free(&stage->connection);
	policy_plans_free(&stage->plans, NULL);
}

#endif
