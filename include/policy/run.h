/*
 * Asks the steps of a plan, one after the other, for one stage of one connection. The first
 * opinion wins: NEXT goes on, ALLOW skips to the mandatory steps, the others end the run. The end
 * of the plan allows.
 *
 * One run a session, used again for every stage; at most one stage is under way. The result comes
 * through `decided`, perhaps from inside policy_run_start; it is the last thing the run does, so
 * the owner may start the next stage from there, or free the run. Inside a check (ask, resume,
 * abandon) the run may be cancelled, but neither started nor freed.
 *
 * What each step said is added to its check's results, those of the transaction from MAIL on, of
 * the connection before: `pass` holds the stages where it had no objection, `fail` those with a
 * refusal ("RCPT reject"), `err` deadlines ("CONNECT deadline"). Opinions other than NEXT, and
 * deadlines, are events of the trace.
 */
#ifndef POLICY_RUN_H
#define POLICY_RUN_H

#include "policy/plan.h"
#include "policy/policy.h"

struct policy_run {
	const struct policy_plan *plan;
	struct connection *connection;
	const struct policy_services *services;
	void *services_ctx;
	struct str hostname; /* fills {hostname} in the replies of the trace; set by the owner */
	/* The stage's verdict: NEXT or ALLOW to go on (both mean go on), or a refusal. `step` is the
	 * one that decided, NULL at the end of the plan. */
	void (*decided)(void *ctx, struct verdict verdict, const struct policy_step *step);
	void *ctx;

	/* For run.c. */
	enum policy_stage stage;
	size_t next_step;
	const struct policy_step *step;       /* the one being asked */
	const struct policy_step *allowed_by; /* after an ALLOW: only mandatory steps are asked */
	bool is_running, is_inside_check, is_armed, was_answered;
	struct policy_question question;
	struct verdict answer;
	uint64_t deadline_at_ms; /* 0: none */
};

void policy_run_init(struct policy_run *run, const struct policy_plan *plan,
	struct connection *connection, const struct policy_services *services, void *services_ctx,
	void (*decided)(void *ctx, struct verdict verdict, const struct policy_step *step),
	void *ctx);

void policy_run_start(struct policy_run *run, enum policy_stage stage);

/* The time that was armed has passed. Harmless when nothing is due. */
void policy_run_expired(struct policy_run *run);

/* Something happened that the pending step may wait for. */
void policy_run_event(struct policy_run *run, enum policy_event event);

/* The client left: abandons the question; `decided` is not called. Idempotent. */
void policy_run_cancel(struct policy_run *run);

#endif
