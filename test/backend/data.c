/* The body of a message, by DATA or by BDAT, and its end. */
#include <stdlib.h>

#include "base/xalloc.h"
#include "session.h"
#include "specials.h"

static void sink_write(void *context, struct str bytes)
{
	transaction_write(context, bytes);
}

/* ---- The end of the message ------------------------------------------------------------------ */

static struct reply judge(const struct session *s)
{
	uint64_t max = s->backend->size_max;

	if (s->is_refused)
		return (struct reply){ 451, "4.3.0", "Refused before" };
	if (max && s->tx.size > max)
		return (struct reply){ 552, "5.3.4", "Message too big" };
	return (struct reply){ 250, "2.0.0", "Ok: taken" };
}

static struct reply commit(struct session *s)
{
	if (!transaction_commit(&s->tx, s->id))
		return (struct reply){ 451, "4.3.0", "Cannot deliver" };
	s->messages++;
	s->backend->messages++;
	return (struct reply){ 250, "2.0.0", "Ok: taken" };
}

/* The final reply of one recipient, in SMTP of all. */
struct final {
	struct fault_choice choice;
	struct reply reply;
	bool is_granted;
};

static struct final decide(struct session *s, struct fault *special)
{
	struct final final = { session_choose(s, AT_DOT), judge(s), false };

	specials_join(&final.choice, special);
	final.is_granted = reply_is_positive(&final.reply) &&
			   fault_grants(final.choice.fault, final.reply.code);
	return final;
}

static void answer_final(struct session *s, struct final *final)
{
	if (final->is_granted) {
		struct fault_choice after = session_choose(s, AT_AFTER_DOT);
		final->choice.fault = after.fault ? after.fault : final->choice.fault;
		final->choice.delay = after.delay ? after.delay : final->choice.delay;
	} else {
		s->seen[AT_AFTER_DOT]++;
	}
	session_answer(s, AT_DOT, final->choice, final->reply);
}

static void finish_smtp(struct session *s)
{
	struct final final = decide(s, s->tx.special);

	if (final.is_granted)
		final.reply = commit(s);
	transaction_reset(&s->tx);
	answer_final(s, &final);
}

static bool decide_all(struct session *s, struct final *finals)
{
	struct str rest = buf_view(&s->tx.recipients);
	bool is_wanted = false;

	for (; rest.n > 0; finals++) {
		struct str line = str_cut(&rest, '\n');
		struct str address = str_cut(&line, '\0');
		*finals = decide(s, specials_find(s->backend, AT_DOT, address));
		transaction_grant(&s->tx, finals->is_granted);
		is_wanted |= finals->is_granted;
	}
	return is_wanted;
}

static bool is_over(const struct session *s)
{
	return s->is_closing || s->is_resetting || s->is_dying || s->is_stalled || s->is_halved;
}

/* RFC 2033 section 4.2: a reply for each recipient, in their order. */
static void finish_lmtp(struct session *s)
{
	unsigned count = s->tx.rcpts;
	struct final *finals = xcalloc(count, sizeof(*finals));

	if (decide_all(s, finals)) {
		struct reply reply = commit(s);
		for (unsigned i = 0; i < count; i++)
			if (finals[i].is_granted)
				finals[i].reply = reply;
	}
	transaction_reset(&s->tx);
	for (unsigned i = 0; i < count && !is_over(s); i++)
		answer_final(s, &finals[i]);
	free(finals);
}

static void finish(struct session *s)
{
	s->phase = PHASE_COMMAND;
	if (s->backend->options.is_lmtp)
		finish_lmtp(s);
	else
		finish_smtp(s);
	session_be_idle(s);
}

/* ---- DATA --------------------------------------------------------------------------------------- */

static void begin_body(struct session *s)
{
	struct fault_choice choice = session_choose(s, AT_BODY);

	s->is_refused = false;
	s->body_received = 0;
	s->body_fault = choice.fault ? choice.fault : choice.delay;
	s->body_trigger = s->body_fault ? s->body_fault->after : 0;
	transaction_body_begin(&s->tx);
}

void data_begin(struct session *s)
{
	s->phase = PHASE_DATA;
	body_start(&s->body);
	begin_body(s);
}

/* A delay strikes again after as many bytes; anything else once, in place of the last reply. */
static void strike(struct session *s)
{
	struct fault *fault = s->body_fault;

	if (fault->flags & FAULT_DELAYS) {
		struct fault_choice delay = { .delay = fault };
		s->answered |= 1u << AT_BODY; /* a pause, not a reply */
		session_answer(s, AT_BODY, delay, (struct reply){ 0 });
		s->body_trigger += fault->after;
		if (fault->after == 0)
			s->body_fault = NULL;
		return;
	}
	s->body_fault = NULL;
	s->is_refused = !fault_grants(fault, 250);
	session_answer(s, AT_BODY, (struct fault_choice){ .fault = fault }, judge(s));
	s->answered |= 1u << (s->phase == PHASE_BDAT && !s->is_last_chunk ? AT_BDAT : AT_DOT);
}

/* Strikes if it is time; what may be read until it is time again. */
static struct str take_up_to_fault(struct session *s, struct str input)
{
	if (s->body_fault && s->body_received >= s->body_trigger)
		strike(s);
	if (!session_may_go_on(s))
		return STR("");
	return s->body_fault ? str_range(input, 0, s->body_trigger - s->body_received) : input;
}

size_t data_take(struct session *s, struct str input)
{
	struct body_sink sink = { sink_write, &s->tx };
	bool is_done = false;

	input = take_up_to_fault(s, input);
	if (input.n == 0)
		return 0;
	size_t used = s->backend->options.is_lenient
			      ? body_decode_lenient(&s->body, input, &sink, &is_done)
			      : body_decode(&s->body, input, &sink, &is_done);
	s->body_received += used;
	if (is_done) {
		s->skips_newline = s->backend->options.is_lenient;
		finish(s);
	}
	return used;
}

/* ---- BDAT, RFC 3030 section 2 -------------------------------------------------------------------- */

/* A chunk that is refused spoils the transaction. */
static void answer_chunk(struct session *s)
{
	struct fault_choice choice = session_choose(s, AT_BDAT);
	struct reply reply = judge(s);

	if (reply_is_positive(&reply))
		reply.text = "Chunk taken";
	s->is_refused |= !reply_is_positive(&reply) || !fault_grants(choice.fault, 250);
	session_answer(s, AT_BDAT, choice, reply);
}

static void finish_chunk(struct session *s)
{
	s->phase = PHASE_COMMAND;
	if (s->chunk_refusal.code)
		session_answer(s, AT_NOWHERE, (struct fault_choice){ 0 }, s->chunk_refusal);
	else if (s->is_last_chunk)
		finish(s);
	else
		answer_chunk(s);
}

void data_begin_chunk(struct session *s, uint64_t size, bool is_last, struct reply refusal)
{
	s->phase = PHASE_BDAT;
	s->chunk_left = size;
	s->is_last_chunk = is_last;
	s->chunk_refusal = refusal;
	if (!refusal.code) {
		if (s->tx.chunks++ == 0)
			begin_body(s);
		s->tx.is_bdat = true;
	}
	if (size == 0)
		finish_chunk(s);
}

size_t data_take_chunk(struct session *s, struct str input)
{
	struct str bytes = str_range(input, 0, s->chunk_left);

	if (!s->chunk_refusal.code) {
		bytes = take_up_to_fault(s, bytes);
		transaction_write(&s->tx, bytes);
		s->body_received += bytes.n;
	}
	s->chunk_left -= bytes.n;
	if (s->chunk_left == 0)
		finish_chunk(s);
	return bytes.n;
}
