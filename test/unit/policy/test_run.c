#include "policy/run.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/fake_services.h"

/* ---- Checks that do as they are told: the settings of a step are a struct actor ---- */

enum manner {
	AT_ONCE,  /* ask returns the verdict */
	INSIDE,   /* policy_answer inside ask */
	LATER,    /* policy_answer by the test */
	SLEEPING, /* answers when woken, after 100 ms */
	FOR_NAME, /* answers at POLICY_EVENT_CLIENT_NAME */
	NAPPING,  /* wakes every 100 ms and goes on waiting */
	MANNER_COUNT,
	SAYS_TWICE,    /* policy_answer and a verdict */
	ANSWERS_TWICE, /* policy_answer twice */
	CANCELS,       /* cancels the run, then as `then` says */
};

struct actor {
	enum manner manner;
	enum manner then; /* of CANCELS; of a resumed one with `waits_again` */
	bool waits_again;
	bool cancels_in_abandon;
	struct verdict verdict;
	unsigned asked, resumed, abandoned;
	struct policy_question *question;
	struct policy_run *run;
};

static char story[256];              /* what happened, in order */
static const char *lowest, *highest; /* of the stack inside ask */

static void tell(const char *word)
{
	size_t n = strlen(story);

	snprintf(story + n, sizeof(story) - n, "%s ", word);
}

static struct verdict act(struct actor *actor, enum manner manner)
{
	switch (manner) {
	case AT_ONCE:
		return actor->verdict;
	case SAYS_TWICE:
		policy_answer(actor->question, actor->verdict);
		return actor->verdict;
	case ANSWERS_TWICE:
		policy_answer(actor->question, actor->verdict);
		policy_answer(actor->question, actor->verdict);
		break;
	case INSIDE:
		policy_answer(actor->question, actor->verdict);
		break;
	case SLEEPING:
	case NAPPING:
		policy_question_sleep(actor->question, 100);
		break;
	case FOR_NAME:
		actor->question->waits_for = POLICY_EVENT_CLIENT_NAME;
		break;
	default:
		break;
	}
	return verdict_pending();
}

static struct verdict actor_ask(struct policy_question *question)
{
	struct actor *actor = (struct actor *)(uintptr_t)question->settings;
	const char *here = __builtin_frame_address(0);

	lowest = !lowest || here < lowest ? here : lowest;
	highest = !highest || here > highest ? here : highest;
	actor->asked++;
	actor->question = question;
	if (actor->manner != CANCELS)
		return act(actor, actor->manner);
	policy_run_cancel(actor->run);
	return act(actor, actor->then);
}

static struct verdict actor_resume(struct policy_question *question, enum policy_event event)
{
	struct actor *actor = (struct actor *)(uintptr_t)question->settings;

	actor->resumed++;
	tell(event == POLICY_EVENT_WOKEN ? "woken" : "named");
	if (actor->waits_again)
		return act(actor, actor->then);
	return actor->manner == NAPPING ? act(actor, NAPPING) : actor->verdict;
}

static void actor_abandon(struct policy_question *question)
{
	struct actor *actor = (struct actor *)(uintptr_t)question->settings;

	actor->abandoned++;
	tell("abandon");
	if (actor->cancels_in_abandon)
		policy_run_cancel(actor->run);
}

static const struct policy_check actor_check = {
	.name = "actor",
	.ask = actor_ask,
	.resume = actor_resume,
	.abandon = actor_abandon,
};

static const struct policy_check guard_check = {
	.name = "guard",
	.flags = POLICY_CHECK_MANDATORY,
	.ask = actor_ask,
	.resume = actor_resume,
	.abandon = actor_abandon,
};

/* ---- The stage: a plan of actors and one run ---- */

#define ACTORS_MAX 8
#define DEADLINE 1000

struct stage {
	struct fake_services fake;
	struct connection connection;
	struct actor actors[ACTORS_MAX];
	struct policy_step steps[ACTORS_MAX];
	struct policy_plan plan;
	struct policy_run *run;
	unsigned decided;
	struct verdict verdict;
	const struct policy_step *step;
	unsigned starts_left; /* stages that `decided` starts by itself */
	bool frees_run;
};

static void decided(void *ctx, struct verdict verdict, const struct policy_step *step)
{
	struct stage *stage = ctx;

	tell("decided");
	stage->decided++;
	stage->verdict = verdict;
	stage->step = step;
	if (stage->frees_run) {
		free(stage->run);
		stage->run = NULL;
	} else if (stage->starts_left > 0) {
		stage->starts_left--;
		policy_run_start(stage->run, POLICY_RCPT);
	}
}

static struct stage *set_up(void)
{
	struct stage *stage = calloc(1, sizeof(*stage));

	stage->run = calloc(1, sizeof(*stage->run));
	stage->fake.now_ms = 5000;
	fake_client(&stage->connection, &stage->fake, "192.0.2.9");
	stage->plan.stages[POLICY_RCPT].steps = stage->steps;
	policy_run_init(stage->run, &stage->plan, &stage->connection, &fake_services, &stage->fake,
		decided, stage);
	story[0] = '\0';
	lowest = highest = NULL;
	return stage;
}

static struct actor *add(struct stage *stage, const struct policy_check *check, enum manner manner,
	struct verdict verdict)
{
	size_t i = stage->plan.stages[POLICY_RCPT].count++;

	stage->actors[i] =
		(struct actor){ .manner = manner, .verdict = verdict, .run = stage->run };
	stage->steps[i] = (struct policy_step){
		.check = check,
		.settings = &stage->actors[i],
		.deadline_ms = DEADLINE,
		.on_deadline = VERDICT_DEFER,
	};
	return &stage->actors[i];
}

static void start(struct stage *stage)
{
	policy_run_start(stage->run, POLICY_RCPT);
}

static void tear_down(struct stage *stage)
{
	connection_free(&stage->connection);
	free(stage->run);
	free(stage);
}

static bool aborts(void (*body)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY);
		dup2(null, STDERR_FILENO);
		signal(SIGABRT, SIG_DFL);
		body();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

/* ---- Rule 1: exactly one answer ---- */

static void body_says_twice(void)
{
	struct stage *stage = set_up();

	add(stage, &actor_check, SAYS_TWICE, verdict_next());
	start(stage);
}

static void body_answers_twice(void)
{
	struct stage *stage = set_up();

	add(stage, &actor_check, ANSWERS_TWICE, verdict_next());
	start(stage);
}

static void body_second_later(void)
{
	struct stage *stage = set_up();
	struct actor *actor = add(stage, &actor_check, LATER, verdict_next());

	start(stage);
	policy_answer(actor->question, verdict_next());
	policy_answer(actor->question, verdict_next());
}

static void body_answers_pending(void)
{
	struct stage *stage = set_up();
	struct actor *actor = add(stage, &actor_check, LATER, verdict_next());

	start(stage);
	policy_answer(actor->question, verdict_pending());
}

static void test_second_answer_asserts(void **state)
{
	(void)state;
	assert_true(aborts(body_says_twice));
	assert_true(aborts(body_answers_twice));
	assert_true(aborts(body_second_later));
	assert_true(aborts(body_answers_pending));
}

/* ---- Rule 2: answers from inside ask do not recurse ---- */

#define MANY 100000

static void test_many_answers_at_once(void **state)
{
	static const enum manner manners[] = { AT_ONCE, INSIDE };
	struct stage *stage = set_up();
	struct policy_step *steps = calloc(MANY, sizeof(*steps));
	struct actor *actors = calloc(MANY, sizeof(*actors));

	(void)state;
	for (size_t i = 0; i < MANY; i++) {
		actors[i].manner = manners[i % 2];
		steps[i].check = &actor_check;
		steps[i].settings = &actors[i];
	}
	stage->plan.stages[POLICY_RCPT] =
		(struct policy_stage_plan){ .steps = steps, .count = MANY };
	start(stage);
	assert_int_equal(stage->decided, 1);
	assert_int_equal(stage->verdict.kind, VERDICT_NEXT);
	assert_null(stage->step);
	for (size_t i = 0; i < MANY; i++)
		assert_int_equal(actors[i].asked, 1);
	assert_ptr_equal(lowest, highest);
	free(steps);
	free(actors);
	tear_down(stage);
}

/* ---- Rule 3: what is over is not touched again ---- */

static void body_answers_after_cancel(void)
{
	struct stage *stage = set_up();
	struct actor *actor = add(stage, &actor_check, LATER, verdict_next());

	start(stage);
	policy_run_cancel(stage->run);
	policy_answer(actor->question, verdict_next());
}

static void body_sleeps_after_deadline(void)
{
	struct stage *stage = set_up();
	struct actor *actor = add(stage, &actor_check, LATER, verdict_next());

	start(stage);
	fake_advance(&stage->fake, stage->run, DEADLINE);
	policy_question_sleep(actor->question, 1);
}

static void test_touching_afterwards_asserts(void **state)
{
	(void)state;
	assert_true(aborts(body_answers_after_cancel));
	assert_true(aborts(body_sleeps_after_deadline));
}

/* ---- Rule 4: at the deadline abandon comes first, then the step's verdict ---- */

static void test_deadline(void **state)
{
	static const struct {
		enum verdict_kind on_deadline;
		enum verdict_kind kind;
		enum reply_id reply;
		unsigned second_asked;
	} rows[] = {
		{ VERDICT_NEXT, VERDICT_NEXT, 0, 1 },
		{ VERDICT_DEFER, VERDICT_DEFER, REPLY_POLICY_TIMEOUT, 0 },
		{ VERDICT_REJECT, VERDICT_REJECT, REPLY_POLICY_TIMEOUT_REJECT, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct stage *stage = set_up();
		add(stage, &actor_check, LATER, verdict_next());
		struct actor *second = add(stage, &actor_check, AT_ONCE, verdict_next());
		stage->steps[0].on_deadline = rows[i].on_deadline;
		start(stage);
		fake_advance(&stage->fake, stage->run, DEADLINE - 1);
		assert_int_equal(stage->decided, 0);
		fake_advance(&stage->fake, stage->run, 1);
		assert_string_equal(story, "abandon decided ");
		assert_int_equal(stage->verdict.kind, rows[i].kind);
		if (rows[i].kind != VERDICT_NEXT)
			assert_int_equal(stage->verdict.reply, rows[i].reply);
		assert_int_equal(second->asked, rows[i].second_asked);
		assert_false(stage->fake.is_armed);
		assert_true(results_has(&stage->connection.results, STR("actor"), STR("err"),
			STR("RCPT deadline")));
		tear_down(stage);
	}
}

/* ---- Rule 5: the client leaves ---- */

static void test_cancel(void **state)
{
	struct stage *stage = set_up();
	struct actor *actor = add(stage, &actor_check, LATER, verdict_next());

	(void)state;
	policy_run_cancel(stage->run); /* nothing under way */
	start(stage);
	policy_run_cancel(stage->run);
	policy_run_cancel(stage->run);
	assert_string_equal(story, "abandon ");
	assert_int_equal(actor->abandoned, 1);
	assert_false(stage->fake.is_armed);
	policy_run_expired(stage->run);
	policy_run_event(stage->run, POLICY_EVENT_CLIENT_NAME);
	assert_int_equal(stage->decided, 0);
	start(stage); /* the run can be used again */
	policy_answer(actor->question, verdict_next());
	assert_int_equal(stage->decided, 1);
	tear_down(stage);
}

/* ---- Rule 6: cancelling from inside ask ---- */

static void test_cancel_inside_ask(void **state)
{
	static const struct {
		enum manner then;
		const char *story;
	} rows[] = {
		{ AT_ONCE, "" },
		{ INSIDE, "" },
		{ LATER, "abandon " },
		{ SLEEPING, "abandon " },
		{ FOR_NAME, "abandon " },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct stage *stage = set_up();
		struct actor *actor =
			add(stage, &actor_check, CANCELS, verdict_reject(REPLY_RELAY_DENIED));
		struct actor *second = add(stage, &actor_check, AT_ONCE, verdict_next());
		actor->then = rows[i].then;
		start(stage);
		fake_advance(&stage->fake, stage->run, 10 * DEADLINE);
		assert_string_equal(story, rows[i].story);
		assert_int_equal(stage->decided, 0);
		assert_int_equal(second->asked, 0);
		assert_false(stage->fake.is_armed);
		tear_down(stage);
	}
}

static void test_cancel_inside_abandon(void **state)
{
	struct stage *stage = set_up();
	struct actor *actor = add(stage, &actor_check, LATER, verdict_next());

	(void)state;
	actor->cancels_in_abandon = true;
	start(stage);
	fake_advance(&stage->fake, stage->run, DEADLINE);
	assert_string_equal(story, "abandon ");
	assert_int_equal(stage->decided, 0);
	tear_down(stage);
}

/* ---- Rule 7: the owner may free the run when it is decided ---- */

static void free_after(enum manner manner)
{
	struct stage *stage = set_up();
	struct actor *actor = add(stage, &actor_check, manner, verdict_reject(REPLY_RELAY_DENIED));

	stage->frees_run = true;
	start(stage);
	if (stage->run && manner == LATER)
		policy_answer(actor->question, actor->verdict);
	if (stage->run && manner == FOR_NAME)
		policy_run_event(stage->run, POLICY_EVENT_CLIENT_NAME);
	if (stage->run)
		fake_advance(&stage->fake, stage->run, DEADLINE);
	assert_null(stage->run);
	assert_int_equal(stage->decided, 1);
	tear_down(stage);
}

static void test_free_when_decided(void **state)
{
	(void)state;
	for (enum manner manner = AT_ONCE; manner < MANNER_COUNT; manner++)
		free_after(manner);
}

static void body_starts_twice(void)
{
	struct stage *stage = set_up();

	add(stage, &actor_check, LATER, verdict_next());
	start(stage);
	start(stage);
}

static void test_one_stage_at_a_time(void **state)
{
	(void)state;
	assert_true(aborts(body_starts_twice));
}

static void test_next_stage_from_decided(void **state)
{
	struct stage *stage = set_up();
	struct actor *first = add(stage, &actor_check, AT_ONCE, verdict_next());
	struct actor *second = add(stage, &actor_check, LATER, verdict_next());

	(void)state;
	stage->starts_left = 2;
	start(stage);
	for (unsigned i = 0; i < 3; i++)
		policy_answer(second->question, verdict_next());
	assert_int_equal(stage->decided, 3);
	assert_int_equal(first->asked, 3);
	assert_int_equal(second->asked, 3);
	tear_down(stage);
}

/* ---- Waiting ---- */

static void test_sleep(void **state)
{
	struct stage *stage = set_up();

	(void)state;
	add(stage, &actor_check, SLEEPING, verdict_reject(REPLY_RELAY_DENIED));
	start(stage);
	policy_run_expired(stage->run); /* too early: nothing happens */
	assert_string_equal(story, "");
	assert_true(stage->fake.is_armed);
	fake_advance(&stage->fake, stage->run, 99);
	assert_string_equal(story, "");
	fake_advance(&stage->fake, stage->run, 1);
	assert_string_equal(story, "woken decided ");
	assert_int_equal(stage->verdict.kind, VERDICT_REJECT);
	assert_false(stage->fake.is_armed);
	tear_down(stage);
}

static void test_sleep_is_bounded_by_deadline(void **state)
{
	struct stage *stage = set_up();
	struct actor *actor = add(stage, &actor_check, NAPPING, verdict_next());

	(void)state;
	stage->steps[0].deadline_ms = 250;
	start(stage);
	fake_advance(&stage->fake, stage->run, 10 * DEADLINE);
	assert_string_equal(story, "woken woken abandon decided ");
	assert_int_equal(actor->asked, 1);
	tear_down(stage);
}

/* A timer that comes late finds both due; the sleep was over first. */
static void test_late_timer(void **state)
{
	struct stage *stage = set_up();

	(void)state;
	add(stage, &actor_check, SLEEPING, verdict_next());
	start(stage);
	stage->fake.now_ms += 10 * DEADLINE;
	policy_run_expired(stage->run);
	assert_string_equal(story, "woken decided ");
	tear_down(stage);
}

/* … unless the deadline was. */
static void test_late_timer_after_deadline(void **state)
{
	struct stage *stage = set_up();

	(void)state;
	add(stage, &actor_check, SLEEPING, verdict_next());
	stage->steps[0].deadline_ms = 99;
	start(stage);
	stage->fake.now_ms += 10 * DEADLINE;
	policy_run_expired(stage->run);
	assert_string_equal(story, "abandon decided ");
	tear_down(stage);
}

/* What a check waits for holds once: it is not resumed again for the same reason. */
static void test_waits_hold_once(void **state)
{
	static const enum manner manners[] = { SLEEPING, FOR_NAME };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct stage *stage = set_up();
		struct actor *actor = add(stage, &actor_check, manners[i], verdict_next());
		actor->waits_again = true;
		actor->then = LATER;
		start(stage);
		for (unsigned n = 0; n < 3; n++) {
			policy_run_event(stage->run, POLICY_EVENT_CLIENT_NAME);
			stage->fake.now_ms += 150;
			policy_run_expired(stage->run);
		}
		assert_int_equal(actor->resumed, 1);
		fake_advance(&stage->fake, stage->run, DEADLINE);
		assert_int_equal(stage->verdict.kind, VERDICT_DEFER);
		tear_down(stage);
	}
}

static void test_event(void **state)
{
	struct stage *stage = set_up();

	(void)state;
	add(stage, &actor_check, LATER, verdict_next());
	add(stage, &actor_check, FOR_NAME, verdict_next());
	start(stage);
	policy_run_event(stage->run, POLICY_EVENT_CLIENT_NAME); /* the first does not wait for it */
	assert_string_equal(story, "");
	policy_answer(stage->actors[0].question, verdict_next());
	assert_string_equal(story, "");
	policy_run_event(stage->run, POLICY_EVENT_CLIENT_NAME);
	assert_string_equal(story, "named decided ");
	policy_run_event(stage->run, POLICY_EVENT_CLIENT_NAME);
	assert_int_equal(stage->decided, 1);
	tear_down(stage);
}

static void body_waits_without_deadline(void)
{
	struct stage *stage = set_up();

	add(stage, &actor_check, LATER, verdict_next());
	stage->steps[0].deadline_ms = 0;
	start(stage);
}

static void test_wait_needs_deadline(void **state)
{
	(void)state;
	assert_true(aborts(body_waits_without_deadline));
}

/* ---- What decides ---- */

static void test_empty_stage(void **state)
{
	struct stage *stage = set_up();

	(void)state;
	start(stage);
	assert_int_equal(stage->decided, 1);
	assert_int_equal(stage->verdict.kind, VERDICT_NEXT);
	assert_null(stage->step);
	tear_down(stage);
}

static void test_allow_skips_all_but_mandatory(void **state)
{
	struct stage *stage = set_up();
	struct actor *allows = add(stage, &actor_check, AT_ONCE, verdict_allow());
	struct actor *skipped =
		add(stage, &actor_check, AT_ONCE, verdict_reject(REPLY_CLIENT_REJECTED));
	struct actor *guard = add(stage, &guard_check, AT_ONCE, verdict_next());

	(void)state;
	start(stage);
	assert_int_equal(stage->verdict.kind, VERDICT_ALLOW);
	assert_ptr_equal(stage->step, &stage->steps[0]);
	assert_int_equal(allows->asked + guard->asked, 2);
	assert_int_equal(skipped->asked, 0);

	guard->verdict = verdict_reject(REPLY_RELAY_DENIED);
	start(stage);
	assert_int_equal(stage->verdict.kind, VERDICT_REJECT);
	assert_int_equal(stage->verdict.reply, REPLY_RELAY_DENIED);
	assert_ptr_equal(stage->step, &stage->steps[2]);

	/* The next stage begins afresh. */
	guard->verdict = verdict_next();
	allows->verdict = verdict_next();
	start(stage);
	assert_int_equal(skipped->asked, 1);
	assert_int_equal(stage->verdict.reply, REPLY_CLIENT_REJECTED);
	tear_down(stage);
}

/* ---- What is left behind ---- */

static bool has(struct stage *stage, const char *list, const char *text)
{
	return results_has(
		&stage->connection.results, STR("actor"), str_from(list), str_from(text));
}

static bool holds(const struct buf *buf, const char *text)
{
	struct str all = buf_view(buf);

	return memmem(all.p, all.n, text, strlen(text)) != NULL;
}

static void test_results_and_events(void **state)
{
	struct stage *stage = set_up();

	(void)state;
	stage->connection.is_traced = true;
	stage->run->hostname = STR("mx.example.net");
	add(stage, &actor_check, AT_ONCE, verdict_next());
	add(stage, &actor_check, AT_ONCE, verdict_note(STR("odd")));
	struct actor *third = add(stage, &actor_check, AT_ONCE, verdict_next());
	start(stage);
	assert_true(has(stage, "pass", "RCPT"));
	assert_true(has(stage, "msg", "odd"));
	assert_null(stage->connection.traced);

	third->verdict = verdict_hangup(REPLY_TOO_MANY_CONNECTIONS);
	start(stage);
	assert_true(has(stage, "fail", "RCPT hangup"));
	const struct buf *events = &stage->connection.traced->events;
	assert_true(holds(events, "\"check\":\"actor\""));
	assert_true(holds(events, "\"verdict\":\"hangup\""));
	assert_true(holds(events, "421 4.7.0 mx.example.net Error: too many connections from "
				  "192.0.2.9\""));

	third->verdict = verdict_allow();
	start(stage);
	assert_true(has(stage, "pass", "RCPT allow"));
	assert_true(holds(events, "\"verdict\":\"allow\""));

	third->manner = LATER;
	start(stage);
	fake_advance(&stage->fake, stage->run, DEADLINE);
	assert_true(holds(events, "\"verdict\":\"deadline\""));
	assert_true(holds(events, "\"verdict\":\"defer\""));
	tear_down(stage);
}

static void test_results_of_the_transaction(void **state)
{
	struct stage *stage = set_up();

	(void)state;
	transaction_begin(&stage->connection, 65536, stage->fake.now_ms);
	add(stage, &actor_check, AT_ONCE, verdict_next());
	start(stage);
	assert_false(has(stage, "pass", "RCPT"));
	assert_true(results_has(
		&stage->connection.transaction->results, STR("actor"), STR("pass"), STR("RCPT")));
	transaction_end(&stage->connection, OUTCOME_ABORTED, BY_CLIENT, STR(""), 6000);
	tear_down(stage);
}

/* ---- Any order of answers: the same as a simple model says ---- */

static struct verdict random_verdict(void)
{
	switch (rand() % 10) {
	case 0:
		return verdict_allow();
	case 1:
		return verdict_defer(REPLY_CLIENT_DEFERRED);
	case 2:
		return verdict_reject(REPLY_CLIENT_REJECTED);
	case 3:
		return verdict_hangup(REPLY_TOO_MANY_CONNECTIONS);
	default:
		return verdict_next();
	}
}

static void random_plan(struct stage *stage)
{
	static const enum verdict_kind on_deadline[] = { VERDICT_NEXT, VERDICT_DEFER,
		VERDICT_REJECT };
	unsigned count = (unsigned)rand() % (ACTORS_MAX + 1);

	for (unsigned i = 0; i < count; i++) {
		const struct policy_check *check = rand() % 4 ? &actor_check : &guard_check;
		add(stage, check, (enum manner)(rand() % MANNER_COUNT), random_verdict());
		stage->steps[i].on_deadline = on_deadline[rand() % 3];
	}
}

static struct actor *pending_actor(struct stage *stage)
{
	for (size_t i = 0; i < ACTORS_MAX; i++)
		if (stage->actors[i].question && stage->actors[i].question->run &&
			stage->actors[i].question->settings == &stage->actors[i])
			return &stage->actors[i];
	return NULL;
}

/* Something happens; returns true when it was the deadline of the pending question. */
static void poke(struct stage *stage, bool *timed_out)
{
	struct actor *actor = pending_actor(stage);
	size_t i = (size_t)(actor - stage->actors);

	assert_non_null(actor);
	switch (rand() % 4) {
	case 0:
		if (actor->manner == LATER)
			policy_answer(actor->question, actor->verdict);
		break;
	case 1:
		policy_run_event(stage->run, POLICY_EVENT_CLIENT_NAME);
		break;
	case 2:
		policy_run_expired(stage->run); /* spurious */
		break;
	default:
		fake_advance(&stage->fake, stage->run, (uint64_t)rand() % DEADLINE);
		break;
	}
	if (actor->abandoned)
		timed_out[i] = true;
}

static struct verdict model(const struct stage *stage, const bool *timed_out, unsigned *asked)
{
	bool allowed = false;

	for (size_t i = 0; i < stage->plan.stages[POLICY_RCPT].count; i++) {
		const struct policy_step *step = &stage->steps[i];
		if (allowed && step->check != &guard_check)
			continue;
		asked[i] = 1;
		struct verdict verdict = stage->actors[i].verdict;
		if (timed_out[i])
			verdict = (struct verdict){ .kind = step->on_deadline };
		if (verdict.kind == VERDICT_ALLOW)
			allowed = true;
		else if (verdict.kind != VERDICT_NEXT)
			return verdict;
	}
	return allowed ? verdict_allow() : verdict_next();
}

static void test_any_order_of_answers(void **state)
{
	(void)state;
	srand(1);
	for (unsigned round = 0; round < 3000; round++) {
		struct stage *stage = set_up();
		bool timed_out[ACTORS_MAX] = { false };
		unsigned asked[ACTORS_MAX] = { 0 };
		random_plan(stage);
		start(stage);
		while (!stage->decided)
			poke(stage, timed_out);
		struct verdict expected = model(stage, timed_out, asked);
		assert_int_equal(stage->verdict.kind, expected.kind);
		for (size_t i = 0; i < ACTORS_MAX; i++) {
			assert_int_equal(stage->actors[i].asked, asked[i]);
			assert_int_equal(stage->actors[i].abandoned, timed_out[i]);
		}
		assert_int_equal(stage->decided, 1);
		assert_false(stage->fake.is_armed);
		tear_down(stage);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_second_answer_asserts),
		cmocka_unit_test(test_many_answers_at_once),
		cmocka_unit_test(test_touching_afterwards_asserts),
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_cancel_inside_ask),
		cmocka_unit_test(test_cancel_inside_abandon),
		cmocka_unit_test(test_free_when_decided),
		cmocka_unit_test(test_one_stage_at_a_time),
		cmocka_unit_test(test_next_stage_from_decided),
		cmocka_unit_test(test_sleep),
		cmocka_unit_test(test_sleep_is_bounded_by_deadline),
		cmocka_unit_test(test_late_timer),
		cmocka_unit_test(test_late_timer_after_deadline),
		cmocka_unit_test(test_waits_hold_once),
		cmocka_unit_test(test_event),
		cmocka_unit_test(test_wait_needs_deadline),
		cmocka_unit_test(test_empty_stage),
		cmocka_unit_test(test_allow_skips_all_but_mandatory),
		cmocka_unit_test(test_results_and_events),
		cmocka_unit_test(test_results_of_the_transaction),
		cmocka_unit_test(test_any_order_of_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
