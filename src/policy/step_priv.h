/*
 * One step of a plan: a check with its settings, as the file has it. What every step takes stands
 * behind the check's own settings, in the same memory, so that one table reads and prints both.
 */
#ifndef POLICY_STEP_PRIV_H
#define POLICY_STEP_PRIV_H

#include "policy/plan.h"

/* Makes the step from its settings; a NULL node gives the defaults. */
void policy_step_make(struct policy_step *step, const struct policy_check *check,
	enum policy_stage stage, struct conf_node *node, struct conf_errors *errors);

/* Functions of a CONF_CUSTOM row of struct policy_step; `arg` is an enum policy_stage *. */
void policy_step_read(
	struct conf_node *node, void *value, const void *arg, struct conf_errors *errors);
void policy_step_free(void *value, const void *arg);
void policy_step_print(const void *value, const void *arg, struct buf *out);

/* The rows of the check's step in that stage, ended by a row without key; free() it. Offsets are
 * from step->settings. */
struct conf_field *policy_step_table(const struct policy_check *check, enum policy_stage stage);

#endif
