/*
 * A policy check: one const struct, one file under policy/checks/, one page under docs/policy/.
 *
 * A check sees the connection (const) and its own settings; it answers a question once: from
 * inside `ask` by returning a verdict, or later. Returning VERDICT_PENDING means later: either
 * policy_answer() will be called, or the check waits for an event (it set question->waits_for or
 * called policy_question_sleep) and is resumed.
 *
 * Rules (each is a test of policy/run.c):
 *  1. exactly one answer; a second one is a bug and asserts;
 *  2. the answer may come from inside ask; the walk picks it up without recursion;
 *  3. after answering or being abandoned, a check never touches the question again;
 *  4. at the deadline: first `abandon`, then the step's verdict for the deadline;
 *  5. when the client leaves: `abandon`, and the run's owner is not called;
 *  6. cancelling from inside ask is legal (`abandon` follows if ask then returns PENDING);
 *  7. nothing is freed under a caller.
 */
#ifndef POLICY_POLICY_H
#define POLICY_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/schema.h"
#include "connection/connection.h"
#include "connection/transaction.h"
#include "policy/services.h"
#include "policy/verdict.h"

/* What happens that a check may wait for. */
enum policy_event {
	POLICY_EVENT_NONE,
	POLICY_EVENT_WOKEN,       /* policy_question_sleep is over */
	POLICY_EVENT_CLIENT_NAME, /* remote.host_status is no longer pending */
};

struct relay_settings;

/* Settings outside the plans that steps use. What it points to outlives the plans. */
struct policy_roots {
	const struct relay_settings *relay; /* the root section `relay` */
	struct str hostname;                /* our name */
	uint64_t connections_per_client;    /* of the root section `limits`; 0: no limit */
};

struct policy_question {
	const struct policy_check *check;
	const void *settings; /* of the step, by the check's table */
	const struct connection *connection;
	enum policy_stage stage;
	const struct policy_services *services;
	void *services_ctx;

	/* For the check while pending. `waits_for` and the sleep hold for one wait: a resumed check
	 * begins with neither. A check may sleep and wait for an event; what comes first resumes it. */
	enum policy_event waits_for;
	void *state;

	/* For policy/run.c. */
	struct policy_run *run; /* NULL: the question is over */
	uint64_t wakes_at_ms; /* 0: not sleeping */
};

enum policy_check_flags {
	/* Asked even after another step allowed: no other check can open the relay. If it may stand
	 * in the RCPT stage, it is added to every plan's that lacks it. */
	POLICY_CHECK_MANDATORY = 1 << 0,
};

struct policy_check {
	const char *name;
	unsigned stages;                 /* set of 1 << enum policy_stage where it may be placed */
	unsigned flags;
	const char *help;                /* one sentence, for the reference */
	const struct conf_field *fields; /* its settings; NULL: none */
	size_t settings_size;
	/* Copies what the check needs of the roots into its settings; NULL: nothing. */
	void (*bind)(void *settings, const struct policy_roots *roots);
	const char *default_deadline;    /* "5s"; NULL: it always answers at once */
	enum verdict_kind default_on_deadline; /* NEXT (fail open), DEFER (fail closed) */
	struct verdict (*ask)(struct policy_question *question);
	/* After PENDING with an event to wait for; may return PENDING again. */
	struct verdict (*resume)(struct policy_question *question, enum policy_event event);
	void (*abandon)(struct policy_question *question); /* NULL: nothing to do */
};

/* Every check there is, in the order of the documents; ended by NULL. (policy/checks.c) */
extern const struct policy_check *const policy_checks[];
const struct policy_check *policy_check_find(struct str name);

/* Makes the run resume this question with POLICY_EVENT_WOKEN in `ms`. */
void policy_question_sleep(struct policy_question *question, uint64_t ms);

/* A later answer. `verdict.kind` is not PENDING; `verdict.detail` is good until the run's owner
 * was told (a text of the settings, say). */
void policy_answer(struct policy_question *question, struct verdict verdict);

static inline struct verdict verdict_next(void)
{
	return (struct verdict){ .kind = VERDICT_NEXT };
}

/* NEXT with a remark, which the run adds to the check's results as `msg`. */
static inline struct verdict verdict_note(struct str remark)
{
	return (struct verdict){ .kind = VERDICT_NEXT, .detail = remark };
}

static inline struct verdict verdict_allow(void)
{
	return (struct verdict){ .kind = VERDICT_ALLOW };
}

static inline struct verdict verdict_reject(enum reply_id reply)
{
	return (struct verdict){ .kind = VERDICT_REJECT, .reply = reply };
}

static inline struct verdict verdict_defer(enum reply_id reply)
{
	return (struct verdict){ .kind = VERDICT_DEFER, .reply = reply };
}

static inline struct verdict verdict_hangup(enum reply_id reply)
{
	return (struct verdict){ .kind = VERDICT_HANGUP, .reply = reply };
}

static inline struct verdict verdict_pending(void)
{
	return (struct verdict){ .kind = VERDICT_PENDING };
}

#endif
