/* Replies, and what faults make of them. */
#include "session.h"

/* ---- When ------------------------------------------------------------------------------------- */

/* The step at which the count of another begins anew; AT_NOWHERE: the connection's begin. */
static const enum fault_state counted_from[FAULT_STATES] = {
	[AT_XFORWARD] = AT_MAIL,
	[AT_RCPT] = AT_MAIL,
	[AT_BDAT] = AT_MAIL,
	[AT_DOT] = AT_MAIL,
	[AT_AFTER_DOT] = AT_MAIL,
};

/* The next step of the kind `at`. XFORWARD belongs to the MAIL that will follow. */
static struct fault_moment next_moment(const struct session *s, enum fault_state at)
{
	return (struct fault_moment){
		.at = at,
		.ordinal = s->seen[at] + 1,
		.connection = s->id,
		.transaction = s->seen[AT_MAIL] + (at == AT_XFORWARD || at == AT_MAIL),
	};
}

struct fault_choice session_choose(struct session *s, enum fault_state at)
{
	struct fault_moment moment = next_moment(s, at);

	if (at == AT_NOWHERE)
		return (struct fault_choice){ 0 };
	s->seen[at]++;
	if (at == AT_MAIL)
		for (enum fault_state other = AT_CONNECT; other < FAULT_STATES; other++)
			if (counted_from[other] == at)
				s->seen[other] = 0;
	return faults_choose(&s->backend->faults, &moment);
}

/* ---- What ------------------------------------------------------------------------------------- */

/* The step whose reply is followed at once by an early one. */
static const enum fault_state before[FAULT_STATES] = {
	[AT_BANNER] = AT_CONNECT,
	[AT_EHLO] = AT_BANNER,
	[AT_HELO] = AT_BANNER,
	[AT_STARTTLS] = AT_EHLO,
	[AT_AUTH] = AT_EHLO,
	[AT_XCLIENT] = AT_EHLO,
	[AT_XFORWARD] = AT_EHLO,
	[AT_MAIL] = AT_EHLO,
	[AT_RCPT] = AT_MAIL,
	[AT_DATA] = AT_RCPT,
	[AT_BDAT] = AT_RCPT,
	[AT_DOT] = AT_DATA,
	[AT_RSET] = AT_EHLO,
	[AT_NOOP] = AT_EHLO,
	[AT_QUIT] = AT_DOT,
};

static struct reply early_reply(const struct session *s, enum fault_state at)
{
	switch (at) {
	case AT_BANNER:
	case AT_XCLIENT:
		return verbs_banner(s);
	case AT_STARTTLS:
		return (struct reply){ 220, "2.0.0", "Go ahead" };
	case AT_AUTH:
		return (struct reply){ 235, "2.7.0", "Welcome" };
	case AT_DATA:
		return (struct reply){ 354, NULL, "Go ahead" };
	case AT_QUIT:
		return (struct reply){ 221, "2.0.0", "Bye" };
	default:
		return (struct reply){ 250, "2.0.0", "Ok" };
	}
}

static void answer_early(struct session *s, enum fault_state after)
{
	if (after == AT_HELO)
		after = AT_EHLO;
	for (enum fault_state at = AT_BANNER; at < FAULT_STATES; at++) {
		struct fault_moment moment = next_moment(s, at);
		if (before[at] != after && at != after)
			continue;
		if (!faults_is_early(&s->backend->faults, &moment, at == after))
			continue;
		struct reply reply = early_reply(s, at);
		reply_plain(&s->out, &reply);
		s->answered |= 1u << at;
	}
}

static void write_reply(struct session *s, const struct fault *fault, struct reply reply)
{
	if (!s->backend->offers_enhanced_codes)
		reply.enhanced = NULL;
	if (fault && fault->action->takes == VALUE_BYTES)
		buf_write(&s->out, fault->bytes);
	else if (fault && fault->action->takes == VALUE_REPLY)
		reply_plain(&s->out, &fault->reply);
	else if (fault && fault->action->write)
		fault->action->write(&s->out, &reply);
	else if (reply.code)
		reply_plain(&s->out, &reply);
}

static void go_on_as(struct session *s, unsigned flags)
{
	s->is_halved |= (flags & FAULT_HALVES) != 0;
	s->is_stalled |= (flags & FAULT_STALLS) != 0;
	s->is_split |= (flags & FAULT_SPLITS) != 0;
	s->is_closing |= (flags & FAULT_CLOSES) != 0;
	s->is_resetting |= (flags & FAULT_RESETS) != 0;
	s->is_dying |= (flags & FAULT_DIES) != 0;
	if (flags & (FAULT_CLOSES | FAULT_RESETS | FAULT_DIES))
		s->how = "fault";
}

void session_answer(
	struct session *s, enum fault_state at, struct fault_choice choice, struct reply reply)
{
	bool is_answered = at != AT_NOWHERE && (s->answered & 1u << at);

	if (choice.delay)
		record_fault(&s->backend->record, s->id, choice.delay->text);
	if (choice.fault)
		record_fault(&s->backend->record, s->id, choice.fault->text);
	if (choice.delay) {
		session_flush(s); /* what was said before is not delayed */
		s->is_held = true;
		session_hold(s, choice.delay->ms);
	}
	if (choice.fault && (choice.fault->flags & FAULT_SPLITS))
		session_flush(s);
	if (is_answered)
		s->answered &= ~(1u << at);
	else
		write_reply(s, choice.fault, reply);
	if (choice.fault)
		go_on_as(s, choice.fault->flags);
	if (s->backend->faults.has_early)
		answer_early(s, at);
}
