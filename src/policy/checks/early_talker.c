#include "policy/checks/early_talker.h"

enum action { ACTION_REJECT, ACTION_NOTE };

struct settings {
	uint64_t pause_ms;
	int action;
};

static const char *const actions[] = { "reject", "note", NULL };

static const struct conf_field fields[] = {
	{
		.key = "pause",
		.type = CONF_DURATION,
		.offset = offsetof(struct settings, pause_ms),
		.dflt = "0",
		.max = 60000,
		.help = "How long the banner is held back for clients that may not relay, to see "
			"who "
			"does not wait for it. In the stage rcpt it means nothing.",
	},
	{
		.key = "action",
		.type = CONF_ENUM,
		.offset = offsetof(struct settings, action),
		.dflt = "reject",
		.choices = actions,
		.help = "reject refuses the client; note only adds it to the results.",
	},
	CONF_END,
};

static struct verdict judge(const struct policy_question *question, struct str remark)
{
	const struct settings *settings = question->settings;

	if (settings->action == ACTION_NOTE)
		return verdict_note(remark);
	return verdict_reject(REPLY_EARLY_TALKER);
}

static struct verdict ask_before_banner(struct policy_question *question)
{
	const struct settings *settings = question->settings;

	if (question->services->input_is_pending(question->services_ctx))
		return judge(question, STR("bytes before the banner"));
	if (settings->pause_ms == 0)
		return verdict_next();
	policy_question_sleep(question, settings->pause_ms);
	return verdict_pending();
}

static struct verdict ask(struct policy_question *question)
{
	if (connection_may_relay(question->connection))
		return verdict_next();
	if (question->stage == POLICY_CONNECT)
		return ask_before_banner(question);
	if (question->connection->early_talker)
		return judge(question, STR("spoke out of turn"));
	return verdict_next();
}

static struct verdict resume(struct policy_question *question, enum policy_event event)
{
	(void)event; /* the sleep is over */
	if (question->services->input_is_pending(question->services_ctx))
		return judge(question, STR("bytes before the banner"));
	return verdict_next();
}

const struct policy_check early_talker_check = {
	.name = "early_talker",
	.stages = 1 << POLICY_CONNECT | 1 << POLICY_RCPT,
	.help = "Refuses clients that send before the banner, or pipeline where that is not "
		"allowed.",
	.fields = fields,
	.settings_size = sizeof(struct settings),
	.default_deadline = "2m", /* longer than any pause */
	.default_on_deadline = VERDICT_NEXT,
	.ask = ask,
	.resume = resume,
};
