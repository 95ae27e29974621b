/*
 * What plans and checks say about themselves: a plan as a table, the reference page of the
 * checks, and the JSON Schema of `plans`.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "conf/schema_doc.h"
#include "policy/plan.h"
#include "step_priv.h"

#define SCHEMA_MAX (256 * 1024)

/* ---- A plan, for people ---- */

static void print_deadline(const struct policy_step *step, struct buf *out)
{
	static const struct conf_field row = { .key = "deadline", .type = CONF_DURATION };
	char text[32] = "-";
	struct buf duration;

	buf_init(&duration, sizeof(text) - 1);
	if (step->deadline_ms > 0) {
		conf_print_value(&row, &step->deadline_ms, &duration);
		buf_printf(&duration, ", %s", verdict_word(step->on_deadline));
		str_copy_to(buf_view(&duration), text, sizeof(text));
	}
	buf_printf(out, "%-14s", text);
	buf_free(&duration);
}

static void print_step(
	const struct policy_step *step, enum policy_stage stage, size_t number, struct buf *out)
{
	buf_printf(out, "%-8s %4zu  %-14s ", policy_stage_key(stage), number, step->check->name);
	print_deadline(step, out);
	buf_printf(out, " %s", step->holds ? "yes" : "no");
	if (step->check->fields) {
		buf_write(out, step->holds ? STR("   ") : STR("    "));
		conf_print_map(step->check->fields, step->settings, out);
	}
	buf_write(out, STR("\n"));
}

void policy_plan_print(const struct policy_plan *plan, struct buf *out)
{
	buf_printf(out, "plan %.*s\n", STR_ARG(plan->name));
	buf_printf(out, "%-8s %4s  %-14s %-14s %-5s %s\n", "stage", "step", "check", "deadline",
		"hold", "settings");
	for (enum policy_stage stage = 0; stage < POLICY_STAGE_COUNT; stage++)
		for (size_t i = 0; i < plan->stages[stage].count; i++)
			print_step(&plan->stages[stage].steps[i], stage, i + 1, out);
}

/* ---- docs/policy/checks.md ---- */

static void print_stages(const struct policy_check *check, struct buf *out)
{
	const char *separator = "";

	buf_write(out, STR("Stages: "));
	for (enum policy_stage stage = 0; stage < POLICY_STAGE_COUNT; stage++) {
		if (!(check->stages & 1u << stage))
			continue;
		buf_printf(out, "%s`%s`", separator, policy_stage_key(stage));
		separator = ", ";
	}
	buf_write(out, STR(".\n"));
}

static enum policy_stage first_stage(const struct policy_check *check)
{
	enum policy_stage stage = 0;

	while (!(check->stages & 1u << stage))
		stage++;
	return stage;
}

static void print_check(const struct policy_check *check, struct buf *out)
{
	struct conf_field *table = policy_step_table(check, first_stage(check));

	buf_printf(out, "\n## %s\n\n%s See [%s](%s.md).\n\n", check->name, check->help,
		check->name, check->name);
	print_stages(check, out);
	if (check->flags & POLICY_CHECK_MANDATORY)
		buf_write(out, STR("Every plan has it, and no other check can skip it.\n"));
	buf_write(out, STR("\n"));
	conf_doc_markdown_table(table, out);
	free(table);
}

void policy_print_reference(struct buf *out)
{
	buf_write(out, STR("# Policy checks\n\n"
			   "The steps that a plan can have. A step is the name of a check, or one "
			   "pair `{name: settings}`.\nThe default of `hold` is that of the first "
			   "stage named; it is `yes` in the stages before `rcpt`,\nand `no` from "
			   "there on.\n"));
	for (size_t i = 0; policy_checks[i]; i++)
		print_check(policy_checks[i], out);
}

/* ---- JSON Schema ---- */

static const struct policy_check *next_check(size_t *i, enum policy_stage stage)
{
	while (policy_checks[*i]) {
		const struct policy_check *check = policy_checks[(*i)++];
		if (check->stages & 1u << stage)
			return check;
	}
	return NULL;
}

static void write_names(enum policy_stage stage, struct buf *out)
{
	const struct policy_check *check;
	const char *separator = "";

	buf_write(out, STR("{\"enum\":["));
	for (size_t i = 0; (check = next_check(&i, stage)) != NULL; separator = ",")
		buf_printf(out, "%s\"%s\"", separator, check->name);
	buf_write(out, STR("]}"));
}

/* Each check by its name with its settings; a step has exactly one. */
static void write_pairs(enum policy_stage stage, struct buf *out)
{
	const struct policy_check *check;
	const char *separator = "";

	buf_write(out, STR("{\"type\":\"object\",\"minProperties\":1,\"maxProperties\":1,"
			   "\"additionalProperties\":false,\"properties\":{"));
	for (size_t i = 0; (check = next_check(&i, stage)) != NULL; separator = ",") {
		struct conf_field *table = policy_step_table(check, stage);
		buf_printf(out, "%s\"%s\":", separator, check->name);
		conf_doc_json_schema_table(table, out);
		free(table);
	}
	buf_write(out, STR("}}"));
}

static void write_stage(enum policy_stage stage, struct buf *out)
{
	buf_printf(out, "%s\"%s\":{\"type\":\"array\",\"items\":{\"anyOf\":[", stage > 0 ? "," : "",
		policy_stage_key(stage));
	write_names(stage, out);
	buf_write(out, STR(","));
	write_pairs(stage, out);
	buf_write(out, STR("]}}"));
}

const char *policy_plans_schema(void)
{
	static struct buf text;

	if (buf_used(&text) > 0)
		return buf_view(&text).p;
	buf_init(&text, SCHEMA_MAX);
	buf_write(&text, STR("{\"type\":\"object\",\"additionalProperties\":"
			     "{\"type\":\"object\",\"additionalProperties\":false,"
			     "\"properties\":{"));
	for (enum policy_stage stage = 0; stage < POLICY_STAGE_COUNT; stage++)
		write_stage(stage, &text);
	buf_write(&text, STR("}}}\0"));
	ASSERT(buf_room(&text) > SCHEMA_MAX / 2); /* so nothing was left out */
	return buf_view(&text).p;
}
