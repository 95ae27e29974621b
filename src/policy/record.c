#include "record_priv.h"

#include "connection/reply.h"
#include "connection/trace.h"

#define REPLY_LINE_MAX 2048

static struct results *results_of(struct policy_run *run)
{
	struct transaction *transaction = run->connection->transaction;

	if (run->stage >= POLICY_MAIL && transaction)
		return &transaction->results;
	return &run->connection->results;
}

/* Once a text: a hundred recipients do not make a hundred entries. A full arena is no reason to
 * refuse anybody: then the record is short of an entry. */
static void add_once(struct policy_run *run, enum result_list list, struct str text)
{
	static const char *const words[] = {
		[RESULT_PASS] = "pass",
		[RESULT_FAIL] = "fail",
		[RESULT_MSG] = "msg",
		[RESULT_ERR] = "err",
	};
	struct results *results = results_of(run);
	struct str check = str_from(run->step->check->name);

	if (!results_has(results, check, str_from(words[list]), text))
		results_add(results, check, list, text);
}

/* "RCPT", or with a word "RCPT reject". */
static void add_stage(struct policy_run *run, enum result_list list, const char *word)
{
	char memory[64];
	struct buf text = buf_on(memory, sizeof(memory));

	buf_write(&text, str_from(policy_stage_word(run->stage)));
	buf_write(&text, word != NULL ? STR(" ") : STR(""));
	buf_write(&text, str_from(word));
	add_once(run, list, buf_view(&text));
}

static void trace(struct policy_run *run, const char *word, struct str reply)
{
	trace_event(run->connection, run->stage, run->step->check->name, word, reply,
		run->services->now_ms(run->services_ctx));
}

static void trace_refusal(struct policy_run *run, struct verdict verdict)
{
	struct buf line;

	buf_init(&line, REPLY_LINE_MAX);
	reply_print(verdict.reply, run->connection, run->hostname, verdict.detail, &line);
	struct str text = buf_view(&line);
	while (text.n > 0 && ascii_is_control(text.p[text.n - 1]))
		text.n--;
	trace(run, verdict_word(verdict.kind), text);
	buf_free(&line);
}

static void record_no_opinion(struct policy_run *run, struct str remark)
{
	if (str_is_empty(remark))
		add_stage(run, RESULT_PASS, NULL);
	else
		add_once(run, RESULT_MSG, remark);
}

void policy_record_verdict(struct policy_run *run, struct verdict verdict)
{
	const char *word = verdict_word(verdict.kind);

	if (verdict.kind == VERDICT_NEXT) {
		record_no_opinion(run, verdict.detail);
	} else if (verdict.kind == VERDICT_ALLOW) {
		add_stage(run, RESULT_PASS, word);
		trace(run, word, STR(""));
	} else {
		add_stage(run, RESULT_FAIL, word);
		if (run->connection->is_traced)
			trace_refusal(run, verdict);
	}
}

void policy_record_deadline(struct policy_run *run)
{
	add_stage(run, RESULT_ERR, "deadline");
	trace(run, "deadline", STR(""));
}
