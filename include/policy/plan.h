/*
 * Plans: the order of the checks as data. A plan has for each stage an array of steps; it is made
 * from the configuration, never changes, and can be printed. In the file:
 *
 *   plans:
 *     edge:
 *       connect: [limits, {client_acl: {reject: [198.51.100.0/24]}}, early_talker]
 *       hello:   [hello]
 *       rcpt:    [relay]
 *
 * A step is the name of a check, or one pair {name: settings}. Besides the check's own settings
 * a step takes `hold` (yes | no), and where the check may wait, `deadline` (duration) and
 * `on_deadline` (next | defer | reject).
 * `hold`: a DEFER or REJECT before RCPT is kept and given at RCPT, so that the log has sender and
 * recipient; the default is yes for connect, hello and mail. HANGUP is never held.
 *
 * Every plan's RCPT stage has the step `relay`: when the file does not name it, it is added at
 * the front. A listener without a plan has the default plan.
 */
#ifndef POLICY_PLAN_H
#define POLICY_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "conf/schema.h"
#include "policy/policy.h"

struct policy_step {
	const struct policy_check *check;
	void *settings;                   /* by the check's table; NULL: it has none */
	uint64_t deadline_ms;             /* 0: the check answers at once */
	enum verdict_kind on_deadline;
	bool holds;
};

struct policy_stage_plan {
	struct policy_step *steps;
	size_t count;
};

struct policy_plan {
	struct str name;
	struct policy_stage_plan stages[POLICY_STAGE_COUNT];
};

/* "connect", "hello", "mail", "rcpt", "data", "body": as the file says it. */
const char *policy_stage_key(enum policy_stage stage);

/* The setting `plans`: a struct conf_list of struct policy_plan, read by these functions
 * (CONF_CUSTOM without CONF_LIST, as the file has a mapping of free names). */
void policy_plans_read(struct conf_node *node, void *value, const void *arg,
	struct conf_errors *errors);
void policy_plans_free(void *value, const void *arg);
void policy_plans_print(const void *value, const void *arg, struct buf *out);
/* Its JSON Schema, made from the checks' tables, in static memory. */
const char *policy_plans_schema(void);

/* The plan of a listener that names none; allocated; free with policy_plan_free. */
struct policy_plan *policy_plan_default(void);
void policy_plan_free(struct policy_plan **plan);

/* Puts the check, with its defaults, in front of the stage, unless the stage has it already. */
void policy_plan_add(
	struct policy_plan *plan, enum policy_stage stage, const struct policy_check *check);

/* Gives the steps the settings that stand outside the plans. Before anything is asked. */
void policy_plan_bind(struct policy_plan *plan, const struct policy_roots *roots);
void policy_plans_bind(const struct conf_list *plans, const struct policy_roots *roots);

/* The plan of that name in the list, or NULL. */
const struct policy_plan *policy_plan_find(const struct conf_list *plans, struct str name);

/* The plan as a table for people: stage, step, check, deadline, hold, settings. */
void policy_plan_print(const struct policy_plan *plan, struct buf *out);

/* docs/policy-checks.md: every check with its stages, settings and defaults. */
void policy_print_reference(struct buf *out);

#endif
