/*
 * Stages and verdicts: the words that policy and dialogue share. Types only, so that the dialogue
 * does not depend on the policy's code.
 */
#ifndef POLICY_VERDICT_H
#define POLICY_VERDICT_H

#include "base/str.h"
#include "connection/reply.h"

enum policy_stage {
	POLICY_CONNECT, /* before the banner */
	POLICY_HELLO,   /* HELO or EHLO is understood */
	POLICY_MAIL,    /* transaction->mail_from is known */
	POLICY_RCPT,    /* once for each recipient: transaction->candidate */
	POLICY_DATA,    /* before 354 */
	POLICY_BODY,    /* after the last byte, before the backend is told the end */
	POLICY_STAGE_COUNT
};

enum verdict_kind {
	VERDICT_NEXT,    /* no opinion: ask the next step */
	VERDICT_ALLOW,   /* done with this stage (but relaying is always asked) */
	VERDICT_DEFER,   /* refuse with a 4xx reply */
	VERDICT_REJECT,  /* refuse with a 5xx reply */
	VERDICT_HANGUP,  /* give the reply and close */
	VERDICT_PENDING, /* only as the return value of ask and resume: the answer comes later */
};

struct verdict {
	enum verdict_kind kind;
	enum reply_id reply; /* of DEFER, REJECT and HANGUP */
	struct str detail; /* fills the hole {detail} of the reply; a view, good during the call */
};

/* "CONNECT", "HELO", "MAIL", "RCPT", "DATA", "END-OF-MESSAGE": as logs say it. */
static inline const char *policy_stage_word(enum policy_stage stage)
{
	static const char *const words[POLICY_STAGE_COUNT] = { "CONNECT", "HELO", "MAIL", "RCPT",
		"DATA", "END-OF-MESSAGE" };

	return words[stage];
}

static inline const char *verdict_word(enum verdict_kind kind)
{
	static const char *const words[] = { "next", "allow", "defer", "reject", "hangup",
		"pending" };

	return words[kind];
}

#endif
