#include "policy/run.h"

#include "base/assert.h"
#include "record_priv.h"

/*
 * A run is idle (!is_running), inside a check (is_inside_check), or waiting with an open question.
 * Answers given inside a check are only noted; they are looked at when the check has returned, by
 * the loop that called it. So the stack does not grow with the number of answers, and the check
 * never returns into a run that has moved on.
 */

static struct verdict deadline_verdict(const struct policy_step *step)
{
	switch (step->on_deadline) {
	case VERDICT_DEFER:
		return verdict_defer(REPLY_POLICY_TIMEOUT);
	case VERDICT_REJECT:
		return verdict_reject(REPLY_POLICY_TIMEOUT_REJECT);
	default:
		return verdict_next();
	}
}

static void open_question(struct policy_run *run)
{
	uint64_t deadline = run->step->deadline_ms;

	run->question = (struct policy_question){
		.check = run->step->check,
		.settings = run->step->settings,
		.connection = run->connection,
		.stage = run->stage,
		.services = run->services,
		.services_ctx = run->services_ctx,
		.run = run,
	};
	run->was_answered = false;
	run->deadline_at_ms = deadline ? run->services->now_ms(run->services_ctx) + deadline : 0;
}

/* Who touches the question from now on has a bug: policy_answer asserts. */
static void close_question(struct policy_run *run)
{
	run->question.run = NULL;
	if (run->is_armed)
		run->services->disarm(run->services_ctx);
	run->is_armed = false;
}

static void abandon_question(struct policy_run *run)
{
	close_question(run);
	if (!run->question.check->abandon)
		return;
	run->is_inside_check = true;
	run->question.check->abandon(&run->question);
	run->is_inside_check = false;
}

static void note_answer(struct policy_run *run, struct verdict verdict)
{
	ASSERT(verdict.kind != VERDICT_PENDING);
	ASSERT(!run->was_answered);
	run->answer = verdict;
	run->was_answered = true;
}

static void wait_for_answer(struct policy_run *run)
{
	uint64_t now = run->services->now_ms(run->services_ctx);
	uint64_t due = run->deadline_at_ms;

	ASSERT(due > 0); /* a check that may wait has a deadline */
	if (run->question.wakes_at_ms > 0 && run->question.wakes_at_ms < due)
		due = run->question.wakes_at_ms;
	run->services->arm(run->services_ctx, due > now ? due - now : 0);
	run->is_armed = true;
}

/* Calls the check. True: there is an answer to go on with. */
static bool consult(struct policy_run *run, enum policy_event event)
{
	struct policy_question *question = &run->question;

	question->waits_for = POLICY_EVENT_NONE;
	question->wakes_at_ms = 0;
	run->is_inside_check = true;
	struct verdict verdict = event == POLICY_EVENT_NONE
					 ? question->check->ask(question)
					 : question->check->resume(question, event);
	run->is_inside_check = false;

	if (verdict.kind != VERDICT_PENDING)
		note_answer(run, verdict);
	if (run->was_answered)
		close_question(run);
	else if (run->is_running)
		wait_for_answer(run);
	else
		abandon_question(run); /* the check caused the end, and waits for nobody now */
	return run->was_answered && run->is_running;
}

/* The owner may start or free the run in `decided`: nothing may touch it after this. */
static void finish(struct policy_run *run, struct verdict verdict, const struct policy_step *step)
{
	run->is_running = false;
	run->decided(run->ctx, verdict, step);
}

/* False: that was the decision, and the run is not to be touched again. */
static bool take_answer(struct policy_run *run)
{
	policy_record_verdict(run, run->answer);
	if (run->answer.kind == VERDICT_ALLOW && !run->allowed_by)
		run->allowed_by = run->step;
	if (run->answer.kind == VERDICT_NEXT || run->answer.kind == VERDICT_ALLOW)
		return true;
	finish(run, run->answer, run->step);
	return false;
}

static const struct policy_step *next_step(struct policy_run *run)
{
	const struct policy_stage_plan *stage = &run->plan->stages[run->stage];

	while (run->next_step < stage->count) {
		const struct policy_step *step = &stage->steps[run->next_step++];
		if (!run->allowed_by || (step->check->flags & POLICY_CHECK_MANDATORY))
			return step;
	}
	return NULL;
}

static void walk(struct policy_run *run)
{
	while ((run->step = next_step(run)) != NULL) {
		open_question(run);
		if (!consult(run, POLICY_EVENT_NONE) || !take_answer(run))
			return;
	}
	finish(run, run->allowed_by ? verdict_allow() : verdict_next(), run->allowed_by);
}

static void go_on(struct policy_run *run)
{
	if (take_answer(run))
		walk(run);
}

static void resume(struct policy_run *run, enum policy_event event)
{
	if (consult(run, event))
		go_on(run);
}

static void time_out(struct policy_run *run)
{
	abandon_question(run);
	if (!run->is_running)
		return;
	policy_record_deadline(run);
	note_answer(run, deadline_verdict(run->step));
	go_on(run);
}

static bool is_waiting(const struct policy_run *run)
{
	return run->is_running && !run->is_inside_check;
}

void policy_run_init(struct policy_run *run, const struct policy_plan *plan,
	struct connection *connection, const struct policy_services *services, void *services_ctx,
	void (*decided)(void *ctx, struct verdict verdict, const struct policy_step *step),
	void *ctx)
{
	*run = (struct policy_run){
		.plan = plan,
		.connection = connection,
		.services = services,
		.services_ctx = services_ctx,
		.decided = decided,
		.ctx = ctx,
	};
}

void policy_run_start(struct policy_run *run, enum policy_stage stage)
{
	ASSERT(!run->is_running && !run->is_inside_check);
	run->stage = stage;
	run->next_step = 0;
	run->allowed_by = NULL;
	run->is_running = true;
	walk(run);
}

void policy_run_expired(struct policy_run *run)
{
	if (!is_waiting(run))
		return;
	uint64_t now = run->services->now_ms(run->services_ctx);
	uint64_t wakes_at = run->question.wakes_at_ms;

	/* A late timer may find both due: what was due first comes first. */
	if (wakes_at > 0 && wakes_at <= now && wakes_at <= run->deadline_at_ms)
		resume(run, POLICY_EVENT_WOKEN);
	else if (run->deadline_at_ms <= now)
		time_out(run);
	else
		wait_for_answer(run);
}

void policy_run_event(struct policy_run *run, enum policy_event event)
{
	ASSERT(event != POLICY_EVENT_NONE);
	if (is_waiting(run) && run->question.waits_for == event)
		resume(run, event);
}

void policy_run_cancel(struct policy_run *run)
{
	if (!run->is_running)
		return;
	run->is_running = false;
	if (!run->is_inside_check)
		abandon_question(run);
}

void policy_question_sleep(struct policy_question *question, uint64_t ms)
{
	struct policy_run *run = question->run;

	ASSERT(run);
	question->wakes_at_ms = run->services->now_ms(run->services_ctx) + ms;
	if (!run->is_inside_check)
		wait_for_answer(run);
}

void policy_answer(struct policy_question *question, struct verdict verdict)
{
	struct policy_run *run = question->run;

	ASSERT(run); /* NULL: answered before, or abandoned */
	note_answer(run, verdict);
	if (run->is_inside_check)
		return;
	close_question(run);
	go_on(run);
}
