#include "edge/answer.h"

/* Codes that are about us, whatever they answer (RFC 5321 section 4.2.2, RFC 4954, RFC 3207). */
static const int our_fault_codes[] = { 500, 502, 503, 504, 530, 534, 535, 538, 555 };

static bool contains_nocase(struct str text, struct str word)
{
	for (size_t i = 0; i + word.n <= text.n; i++)
		if (str_eq_nocase(str_range(text, i, i + word.n), word))
			return true;
	return false;
}

/* "Relay access denied", "relay not permitted", "Unable to relay": the backend does not take us
 * for its relay. Our own policy has allowed the recipient before. */
static bool refuses_relaying(const struct smtp_reply *reply)
{
	return (reply->code == 550 || reply->code == 551 || reply->code == 554) &&
		contains_nocase(reply->text, STR("relay"));
}

static bool blames_us(enum smtp_client_step step, const struct smtp_reply *reply)
{
	for (size_t i = 0; i < sizeof(our_fault_codes) / sizeof(our_fault_codes[0]); i++)
		if (reply->code == our_fault_codes[i])
			return true;
	return (step == SMTP_CLIENT_MAIL || step == SMTP_CLIENT_RCPT) && refuses_relaying(reply);
}

static bool fits(enum smtp_client_step step, const struct smtp_reply *reply)
{
	if (smtp_reply_class(reply) >= 4)
		return true;
	if (step == SMTP_CLIENT_DATA)
		return reply->code == 354;
	if (step == SMTP_CLIENT_DOT)
		return reply->code == 250;
	return smtp_reply_class(reply) == 2;
}

static void own(struct answer *answer, enum reply_id reply, enum outcome_by by)
{
	answer->answer = (struct smtp_answer){ .own = reply, .by = by };
}

void answer_from_reply(struct answer *answer, enum smtp_client_step step,
	const struct smtp_reply *reply)
{
	*answer = (struct answer){ .changed = *reply };
	answer->answer = (struct smtp_answer){ .reply = &answer->changed, .by = BY_BACKEND };
	if (!fits(step, reply)) {
		answer->is_senseless = true;
		own(answer, REPLY_BACKEND_PROTOCOL, BY_BACKEND);
	} else if (reply->code == 421) {
		answer->changed.code = 451;
		answer->server_is_done = true;
	} else if (smtp_reply_class(reply) == 5 && blames_us(step, reply)) {
		answer->blames_us = true;
		own(answer, REPLY_BACKEND_OUR_FAULT, BY_BACKEND);
	}
}
