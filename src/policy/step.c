#include "step_priv.h"

#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/xalloc.h"

#define CHECKS_MAX 64
#define DEADLINE_MAX_MS (5 * 60 * 1000)

/* What every step takes; behind the check's settings. */
struct common {
	uint64_t deadline_ms;
	int on_deadline;
	bool holds;
};

static const char *const deadline_words[] = { "next", "defer", "reject", NULL };
static const enum verdict_kind deadline_kinds[] = { VERDICT_NEXT, VERDICT_DEFER, VERDICT_REJECT };

static const struct conf_field deadline_row = {
	.key = "deadline",
	.type = CONF_DURATION,
	.offset = offsetof(struct common, deadline_ms),
	.min = 1,
	.max = DEADLINE_MAX_MS,
	.help = "How long the check may take to answer.",
};

static const struct conf_field on_deadline_row = {
	.key = "on_deadline",
	.type = CONF_ENUM,
	.offset = offsetof(struct common, on_deadline),
	.choices = deadline_words,
	.help = "What happens when it has not answered by then.",
};

static const struct conf_field hold_row = {
	.key = "hold",
	.type = CONF_BOOL,
	.offset = offsetof(struct common, holds),
	.help = "Keep a refusal until RCPT, so that the log has sender and recipient.",
};

static size_t common_offset(const struct policy_check *check)
{
	size_t alignment = alignof(struct common);

	return (check->settings_size + alignment - 1) / alignment * alignment;
}

static size_t count_fields(const struct conf_field *fields)
{
	size_t n = 0;

	while (fields && fields[n].key)
		n++;
	return n;
}

static void add_common_row(struct conf_field *row, const struct conf_field *model,
	const struct policy_check *check, const char *dflt)
{
	*row = *model;
	row->offset += common_offset(check);
	row->dflt = dflt;
}

struct conf_field *policy_step_table(const struct policy_check *check, enum policy_stage stage)
{
	size_t n = count_fields(check->fields);
	struct conf_field *table = xcalloc(n + 4, sizeof(*table));

	for (size_t i = 0; i < n; i++)
		table[i] = check->fields[i];
	if (check->default_deadline) {
		add_common_row(&table[n++], &deadline_row, check, check->default_deadline);
		add_common_row(&table[n++], &on_deadline_row, check,
			verdict_word(check->default_on_deadline));
	}
	add_common_row(&table[n], &hold_row, check, stage < POLICY_RCPT ? "yes" : "no");
	return table;
}

void policy_step_make(struct policy_step *step, const struct policy_check *check,
	enum policy_stage stage, struct conf_node *node, struct conf_errors *errors)
{
	size_t size = common_offset(check) + sizeof(struct common);
	struct conf_field *table = policy_step_table(check, stage);
	void *settings = xcalloc(1, size);
	const struct common *common = (void *)((char *)settings + common_offset(check));

	conf_read_map(node, table, settings, size, errors);
	*step = (struct policy_step){
		.check = check,
		.settings = settings,
		.deadline_ms = common->deadline_ms,
		.on_deadline = deadline_kinds[common->on_deadline],
		.holds = common->holds,
	};
	free(table);
}

/* The check that a word of the file names, or NULL after saying what is wrong with it. */
static const struct policy_check *find_check(struct conf_node *name, struct conf_errors *errors)
{
	const char *names[CHECKS_MAX + 1] = { NULL };
	const struct conf_field row = { .key = "check", .type = CONF_ENUM, .choices = names };
	int index = -1;

	for (size_t i = 0; policy_checks[i]; i++) {
		ASSERT(i < CHECKS_MAX);
		names[i] = policy_checks[i]->name;
	}
	conf_read_value(name, &row, &index, errors);
	return index < 0 ? NULL : policy_checks[index];
}

static void report_stage(struct conf_node *name, const struct policy_check *check,
	enum policy_stage stage, struct conf_errors *errors)
{
	char where[80] = "";
	size_t n = 0;

	for (unsigned i = 0; i < POLICY_STAGE_COUNT; i++)
		if (check->stages & 1u << i)
			n += (size_t)snprintf(where + n, sizeof(where) - n, "%s%s",
				n > 0 ? ", " : "", policy_stage_key(i));
	conf_error(errors, name, "the check %s cannot stand in the stage %s, only in %s",
		check->name, policy_stage_key(stage), where);
}

void policy_step_read(
	struct conf_node *node, void *value, const void *arg, struct conf_errors *errors)
{
	enum policy_stage stage = *(const enum policy_stage *)arg;
	struct conf_node *name = node, *settings = NULL;

	if (conf_node_kind(node) == CONF_KIND_MAP && conf_node_count(node) == 1) {
		name = conf_node_key(node, 0);
		settings = conf_node_item(node, 0);
	} else if (conf_node_kind(node) != CONF_KIND_SCALAR) {
		conf_error(errors, node,
			"a step is the name of a check, or one pair {name: settings}");
		return;
	}
	const struct policy_check *check = find_check(name, errors);
	if (!check)
		return;
	if (!(check->stages & 1u << stage))
		report_stage(name, check, stage, errors);
	policy_step_make(value, check, stage, settings, errors);
}

void policy_step_free(void *value, const void *arg)
{
	struct policy_step *step = value;

	(void)arg;
	if (!step->check) /* it could not be read */
		return;
	if (step->check->fields)
		conf_free(step->check->fields, step->settings, step->check->settings_size);
	free(step->settings);
}

void policy_step_print(const void *value, const void *arg, struct buf *out)
{
	const struct policy_step *step = value;
	struct conf_field *table = policy_step_table(step->check, *(const enum policy_stage *)arg);

	buf_printf(out, "{%s: ", step->check->name);
	conf_print_map(table, step->settings, out);
	buf_write(out, STR("}"));
	free(table);
}
