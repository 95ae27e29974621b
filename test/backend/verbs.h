/*
 * The commands. A verb is a row: what it needs, what it answers, what it does if the answer
 * grants it and no fault takes that back. The table is in verbs.c; who checks and applies is
 * spread over envelope.c, identity.c and data.c.
 */
#ifndef BACKEND_VERBS_H
#define BACKEND_VERBS_H

#include "session.h"

struct command {
	struct str line;
	struct str args;
	struct str path;   /* MAIL, RCPT: between < and > */
	struct str params; /* behind it */
	uint64_t size;     /* BDAT */
	bool is_last;      /* BDAT */
};

struct verb {
	const char *name;
	enum fault_state at;
	bool ends_group;       /* RFC 2920 section 3.1: nothing may follow before its reply */
	const char *extension; /* that must have been offered */
	enum { IN_BOTH, IN_SMTP, IN_LMTP } is_known;
	/* The reply; code 0 when it comes later. Without effect but on the command. */
	struct reply (*check)(struct session *s, struct command *command);
	void (*apply)(struct session *s, const struct command *command);
};

#define REPLY(code, enhanced, text) ((struct reply){ code, enhanced, text })
#define OK REPLY(250, "2.0.0", "Ok")

struct reply envelope_check_mail(struct session *s, struct command *command);
void envelope_apply_mail(struct session *s, const struct command *command);
struct reply envelope_check_rcpt(struct session *s, struct command *command);
void envelope_apply_rcpt(struct session *s, const struct command *command);

struct reply identity_check_xclient(struct session *s, struct command *command);
void identity_apply_xclient(struct session *s, const struct command *command);
struct reply identity_check_xforward(struct session *s, struct command *command);
void identity_apply_xforward(struct session *s, const struct command *command);

/* Answers a line that is no command. */
void verbs_refuse(struct session *s, struct reply reply);

#endif
