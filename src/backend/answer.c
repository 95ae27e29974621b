#include "backend/answer.h"

/* Codes that are about us, whatever they answer (RFC 5321 section 4.2.2, RFC 4954, RFC 3207). */
static const int our_fault_codes[] = { 500, 502, 503, 504, 530, 534, 535, 538, 555 };

static bool contains_nocase(struct str text, struct str word)
{
	for (size_t i = 0; i + word.n <= text.n; i++)
		if (str_eq_nocase(str_range(text, i, i + word.n), word))
			return true;
	return false;
}

/* Where the address ends that a server repeats at the front of what it says: "<a@b>: …" (Postfix),
 * "<a@b>... …" (Sendmail). */
static size_t behind_address(struct str line)
{
	size_t end = line.n;

	for (size_t i = 0; i + 1 < line.n; i++)
		if (line.p[i] == '>' && (line.p[i + 1] == ':' || line.p[i + 1] == '.'))
			end = i + 1;
	return end < line.n ? end : str_rfind(line, '>') + 1;
}

static bool line_says(struct str line, struct str words)
{
	size_t from = str_find(line, '<'), to = behind_address(line);

	if (from == line.n || to > line.n || to < from)
		return contains_nocase(line, words);
	return contains_nocase(str_range(line, 0, from), words) ||
	       contains_nocase(str_from_pos(line, to), words);
}

/* What the server itself says: addresses that it repeats have the words of whoever chose them. */
static bool says(const struct smtp_reply *reply, struct str words)
{
	struct str rest = reply->text;

	while (rest.n > 0)
		if (line_says(str_cut(&rest, '\n'), words))
			return true;
	return false;
}

/* How servers say that they do not take us for their relay. Our own policy has allowed the recipient
 * before, so the set-up is wrong, not the recipient. */
static const struct str relay_refusals[] = {
	STR_INIT("relay access denied"), /* Postfix */
	STR_INIT("relay denied"),
	STR_INIT("relaying denied"),     /* Sendmail */
	STR_INIT("relay not permitted"), /* Exim */
	STR_INIT("unable to relay"),     /* Exchange */
	STR_INIT("not permitted to relay"),
	STR_INIT("not allowed to relay"),
	STR_INIT("relaying not allowed"),
	STR_INIT("relaying is not allowed"),
	STR_INIT("relaying prohibited"),
};

/* X.7.x is policy, X.5.x the protocol, X.0.x anything; another subject (an unknown mailbox, a full one) is
 * about the recipient, whatever words its address brings into the text. */
static bool may_be_about_us(const struct smtp_reply *reply)
{
	unsigned subject = reply->enhanced.subject;

	return !reply->enhanced.present || subject == 0 || subject == 5 || subject == 7;
}

static bool refuses_relaying(const struct smtp_reply *reply)
{
	if ((reply->code != 550 && reply->code != 551 && reply->code != 554) ||
		!may_be_about_us(reply))
		return false;
	for (size_t i = 0; i < sizeof(relay_refusals) / sizeof(relay_refusals[0]); i++)
		if (says(reply, relay_refusals[i]))
			return true;
	return false;
}

/* Postfix's words for restrictions on the address that connects ("Client host rejected: …", "Service
 * unavailable; Client host [192.0.2.1] blocked using …"). */
static bool refuses_client(const struct smtp_reply *reply)
{
	return may_be_about_us(reply) &&
	       (says(reply, STR("client host rejected:")) || says(reply, STR("; client host [")));
}

static bool refuses_name(const struct smtp_reply *reply)
{
	return may_be_about_us(reply) && says(reply, STR("helo command rejected:"));
}

/* "Helo command rejected" is Postfix's word for restrictions on the name of EHLO, whatever the code; and
 * 504 is its code for names that are not whole, those of addresses among them. */
bool answer_blames_us(const struct smtp_reply *reply, unsigned told)
{
	if (smtp_reply_class(reply) != 5)
		return false;
	if (refuses_name(reply))
		return !(told & ANSWER_HELLO_IS_CLIENTS);
	if (refuses_client(reply))
		return !(told & ANSWER_ADDRESS_IS_CLIENTS);
	if (reply->code == 504 && says(reply, STR("address rejected")))
		return false;
	for (size_t i = 0; i < sizeof(our_fault_codes) / sizeof(our_fault_codes[0]); i++)
		if (reply->code == our_fault_codes[i])
			return true;
	return refuses_relaying(reply);
}

static bool fits(enum smtp_client_step step, const struct smtp_reply *reply)
{
	if (smtp_reply_class(reply) >= 4)
		return true;
	if (step == SMTP_CLIENT_DATA)
		return reply->code == 354;
	return smtp_reply_class(reply) == 2;
}

static void own(struct answer *answer, enum reply_id reply, enum outcome_by by)
{
	answer->answer = (struct smtp_answer){ .own = reply, .by = by };
}

void answer_from_reply(struct answer *answer, enum smtp_client_step step,
	const struct smtp_reply *reply, unsigned told)
{
	*answer = (struct answer){ .changed = *reply };
	answer->answer = (struct smtp_answer){ .reply = &answer->changed, .by = BY_BACKEND };
	if (step == SMTP_CLIENT_DOT && smtp_reply_class(reply) < 4 && reply->code != 250) {
		/* Only 250 says that the message was taken (RFC 5321 section 4.3.2); what this says
		 * nobody knows. */
		answer->is_senseless = true;
		own(answer, REPLY_OUTCOME_UNKNOWN, BY_BACKEND);
	} else if (!fits(step, reply)) {
		answer->is_senseless = true;
		own(answer, REPLY_BACKEND_PROTOCOL, BY_BACKEND);
	} else if (reply->code == 421) {
		answer->changed.code = 451;
		answer->server_is_done = true;
	} else if (answer_blames_us(reply, told)) {
		answer->blames_us = true;
		own(answer, REPLY_BACKEND_OUR_FAULT, BY_BACKEND);
	}
}
