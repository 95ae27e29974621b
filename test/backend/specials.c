#include "specials.h"

#include "base/assert.h"

static const struct special {
	const char *prefix;
	const char *fault;
} specials[] = {
	{ "reject", "rcpt:reply=550 5.1.1 User unknown" },
	{ "defer", "rcpt:reply=450 4.2.0 Try again later" },
	{ "full", "rcpt:reply=452 4.2.2 Mailbox full" },
	{ "slow", "rcpt:delay=1000" },
	{ "dotreject", "dot:reply=550 5.7.1 Message refused" },
	{ "dotdefer", "dot:reply=451 4.2.0 Try again later" },
	{ "dotclose", "dot:reply-close=421 4.3.2 Closing" },
	{ "close", "rcpt:reply-close=421 4.3.2 Closing" },
	{ "die", "rcpt:die-before-reply" },
};

void specials_init(struct backend *backend)
{
	size_t count = sizeof(specials) / sizeof(specials[0]) - !backend->options.may_die;

	faults_init(&backend->specials);
	for (size_t i = 0; i < count; i++) {
		int rc = faults_add(&backend->specials, str_from(specials[i].fault), NULL);
		ASSERT(rc == 0);
	}
}

struct fault *specials_find(struct backend *backend, enum fault_state at, struct str address)
{
	const struct special *special = specials;

	for (struct fault *fault = backend->specials.list; fault; fault = fault->next, special++)
		if (fault->at == at && str_starts_with_nocase(address, str_from(special->prefix)))
			return fault;
	return NULL;
}

void specials_join(struct fault_choice *choice, struct fault *special)
{
	if (!special)
		return;
	struct fault **slot = special->flags & FAULT_DELAYS ? &choice->delay : &choice->fault;
	if (!*slot)
		*slot = special;
}
