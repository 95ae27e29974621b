#include "policy/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/xalloc.h"
#include "step_priv.h"

static const enum policy_stage stages[POLICY_STAGE_COUNT] = {
	POLICY_CONNECT,
	POLICY_HELLO,
	POLICY_MAIL,
	POLICY_RCPT,
	POLICY_DATA,
	POLICY_BODY,
};

/* struct policy_stage_plan has the layout of struct conf_list. */
#define STAGE_ROW(stage, name, text) \
	{ \
		.key = name, .type = CONF_CUSTOM, .flags = CONF_LIST, \
		.offset = (stage) * sizeof(struct policy_stage_plan), \
		.element_size = sizeof(struct policy_step), .read = policy_step_read, \
		.free = policy_step_free, .print = policy_step_print, .arg = &stages[stage], \
		.help = text, \
	}

/* The stages of one plan: the member `stages` of struct policy_plan. */
static const struct conf_field stage_fields[] = {
	STAGE_ROW(POLICY_CONNECT, "connect", "Before the banner."),
	STAGE_ROW(POLICY_HELLO, "hello", "After HELO or EHLO."),
	STAGE_ROW(POLICY_MAIL, "mail", "After MAIL."),
	STAGE_ROW(POLICY_RCPT, "rcpt", "For each RCPT."),
	STAGE_ROW(POLICY_DATA, "data", "After DATA, before the message."),
	STAGE_ROW(POLICY_BODY, "body", "After the message, before it is handed over."),
	CONF_END,
};

_Static_assert(
	sizeof(struct policy_stage_plan) == sizeof(struct conf_list) &&
		offsetof(struct policy_stage_plan, count) == offsetof(struct conf_list, count),
	"a stage is read as a list");

const char *policy_stage_key(enum policy_stage stage)
{
	return stage_fields[stage].key;
}

/* ---- Reading ---- */

static bool has_check(const struct policy_stage_plan *stage, const struct policy_check *check)
{
	for (size_t i = 0; i < stage->count; i++)
		if (stage->steps[i].check == check)
			return true;
	return false;
}

static struct policy_step *make_room_in_front(struct policy_stage_plan *stage)
{
	stage->steps = xrealloc(stage->steps, stage->count + 1, sizeof(stage->steps[0]));
	memmove(stage->steps + 1, stage->steps, stage->count * sizeof(stage->steps[0]));
	stage->count++;
	return &stage->steps[0];
}

static void add_mandatory_checks(struct policy_plan *plan, struct conf_errors *errors)
{
	struct policy_stage_plan *stage = &plan->stages[POLICY_RCPT];

	for (size_t i = 0; policy_checks[i]; i++)
		if ((policy_checks[i]->flags & POLICY_CHECK_MANDATORY) &&
			(policy_checks[i]->stages & 1 << POLICY_RCPT) &&
			!has_check(stage, policy_checks[i]))
			policy_step_make(make_room_in_front(stage), policy_checks[i], POLICY_RCPT,
				NULL, errors);
}

static void read_plan(struct policy_plan *plan, struct conf_node *key, struct conf_node *node,
	struct conf_errors *errors)
{
	struct str name = conf_node_scalar(key);

	if (str_is_empty(name))
		conf_error(errors, key, "a plan needs a name");
	plan->name = str_make(str_dup(name), name.n);
	conf_read_map(node, stage_fields, plan->stages, sizeof(plan->stages), errors);
	add_mandatory_checks(plan, errors);
}

void policy_plans_read(
	struct conf_node *node, void *value, const void *arg, struct conf_errors *errors)
{
	struct conf_list *plans = value;

	(void)arg;
	if (conf_node_kind(node) != CONF_KIND_MAP) {
		conf_error(errors, node, "must be a mapping of plans by their names");
		return;
	}
	if (conf_node_count(node) == 0)
		return;
	struct policy_plan *items = xcalloc(conf_node_count(node), sizeof(*items));
	*plans = (struct conf_list){ items, conf_node_count(node) };
	for (size_t i = 0; i < plans->count; i++)
		read_plan(&items[i], conf_node_key(node, i), conf_node_item(node, i), errors);
}

/* ---- Freeing ---- */

static void free_plan(struct policy_plan *plan)
{
	conf_free(stage_fields, plan->stages, sizeof(plan->stages));
	free((void *)(uintptr_t)plan->name.p);
}

void policy_plans_free(void *value, const void *arg)
{
	struct conf_list *plans = value;
	struct policy_plan *items = plans->items;

	(void)arg;
	for (size_t i = 0; i < plans->count; i++)
		free_plan(&items[i]);
	free(items);
	*plans = (struct conf_list){ NULL, 0 };
}

void policy_plan_free(struct policy_plan **plan)
{
	if (!*plan)
		return;
	free_plan(*plan);
	free(*plan);
	*plan = NULL;
}

/* ---- Plans of our own ---- */

static const struct conf_field own_fields[] = {
	{
		.key = "plans",
		.type = CONF_CUSTOM,
		.read = policy_plans_read,
		.free = policy_plans_free,
		.help = "One plan.",
	},
	CONF_END,
};

static struct policy_plan read_own(const char *text)
{
	struct conf_list plans;
	struct buf report;

	buf_init(&report, 4096);
	int rc = conf_read_text(
		"a plan of our own", str_from(text), own_fields, &plans, sizeof(plans), &report);
	ASSERT(rc == 0 && plans.count == 1);
	struct policy_plan plan = *(struct policy_plan *)plans.items;
	free(plans.items);
	buf_free(&report);
	return plan;
}

struct policy_plan *policy_plan_default(void)
{
	struct policy_plan *plan = xcalloc(1, sizeof(*plan));

	*plan = read_own("plans:\n"
			 "  default:\n"
			 "    connect: [limits, early_talker]\n"
			 "    hello: [hello]\n"
			 "    rcpt: [relay, early_talker]\n");
	return plan;
}

void policy_plan_add(
	struct policy_plan *plan, enum policy_stage stage, const struct policy_check *check)
{
	char text[128];

	if (has_check(&plan->stages[stage], check))
		return;
	snprintf(text, sizeof(text), "plans: {own: {%s: [%s]}}\n", policy_stage_key(stage),
		check->name);
	struct policy_plan own = read_own(text);
	struct policy_stage_plan *steps = &own.stages[stage];
	ASSERT(steps->steps[0].check == check);
	*make_room_in_front(&plan->stages[stage]) = steps->steps[0];
	steps->count = 0; /* it has moved */
	free_plan(&own);
}

/* ---- Using ---- */

void policy_plan_bind(struct policy_plan *plan, const struct policy_roots *roots)
{
	for (unsigned stage = 0; stage < POLICY_STAGE_COUNT; stage++) {
		for (size_t i = 0; i < plan->stages[stage].count; i++) {
			struct policy_step *step = &plan->stages[stage].steps[i];
			if (step->check->bind)
				step->check->bind(step->settings, roots);
		}
	}
}

void policy_plans_bind(const struct conf_list *plans, const struct policy_roots *roots)
{
	struct policy_plan *items = plans->items;

	for (size_t i = 0; i < plans->count; i++)
		policy_plan_bind(&items[i], roots);
}

const struct policy_plan *policy_plan_find(const struct conf_list *plans, struct str name)
{
	const struct policy_plan *items = plans->items;

	for (size_t i = 0; i < plans->count; i++)
		if (str_eq(items[i].name, name))
			return &items[i];
	return NULL;
}

/* ---- Printing ---- */

void policy_plans_print(const void *value, const void *arg, struct buf *out)
{
	static const struct conf_field name_row = { .key = "name", .type = CONF_STRING };
	const struct conf_list *plans = value;
	const struct policy_plan *items = plans->items;

	(void)arg;
	buf_write(out, STR("{"));
	for (size_t i = 0; i < plans->count; i++) {
		if (i > 0)
			buf_write(out, STR(", "));
		conf_print_value(&name_row, &items[i].name, out);
		buf_write(out, STR(": "));
		conf_print_map(stage_fields, items[i].stages, out);
	}
	buf_write(out, STR("}"));
}
