/*
 * What the files of the dialogue share. A verb's file holds what is particular to the verb:
 * `check` (syntax and sequence, no side effect) and `apply` (its effect after the verdict); the
 * dispatcher in server.c does what is common, and only it moves between states.
 */
#ifndef SMTP_SERVER_PRIV_H
#define SMTP_SERVER_PRIV_H

#include "smtp/server.h"

/* Returned by `check`: nothing wrong. */
#define REPLY_NONE REPLY_COUNT

struct verb_check {
	enum reply_id reply; /* REPLY_NONE, or what is wrong */
	struct str detail;
	enum ending ending; /* of a reply that closes (421) */
};

#define STATE_BIT(id) (1u << SMTP_STATE_##id)

enum verb_flags {
	VERB_ENDS_GROUP = 1 << 0,   /* RFC 2920: must be the last of a pipelined group */
	VERB_MUST_BE_LAST = 1 << 4, /* … and what follows cannot be told from commands: close */
	VERB_TAKES_NOTHING = 1 << 1,
	VERB_IS_IDLE = 1 << 2, /* does not bring a message nearer */
	VERB_IN_RESTRICTED = 1 << 3,
};

struct verb_row {
	enum smtp_verb verb;
	unsigned states; /* set of STATE_BIT */
	unsigned flags;
	int stage; /* enum policy_stage to ask, or -1 */
	/* The reply when the state is not among `states`. */
	enum reply_id (*misplaced)(const struct smtp_server *server);
	struct verb_check (*check)(struct smtp_server *server, struct str argument);
	void (*apply)(struct smtp_server *server);
};

const struct verb_row *verb_row_find(enum smtp_verb verb);

static inline struct verb_check verb_fine(void)
{
	return (struct verb_check){ .reply = REPLY_NONE };
}

static inline struct verb_check verb_wrong(enum reply_id reply, struct str detail)
{
	return (struct verb_check){ .reply = reply, .detail = detail };
}

/* One reply of ours; the client's deadline begins anew. */
void server_reply(struct smtp_server *server, enum reply_id reply, struct str detail);
/* A reply that another gave, or ours in its place. */
void server_reply_answer(struct smtp_server *server, const struct smtp_answer *answer);
/* A refusal in a stage: the reply, the log, and what the transaction remembers of it. */
void server_refuse(struct smtp_server *server, enum policy_stage stage, enum reply_id reply,
	struct str detail);
void server_refuse_as(
	struct smtp_server *server, enum policy_stage stage, const struct smtp_answer *answer);
/* The refusal of an early stage that was kept for RCPT is no longer to be given. */
void server_forget_held(struct smtp_server *server, enum policy_stage stage);
/* What stands in last_response, without the line end of its last line. */
struct str server_last_line(const struct smtp_server *server);
struct str server_without_line_end(struct str line);

/* The plan's opinion on a stage; smtp_server_verdict() follows. */
void server_ask(struct smtp_server *server, enum policy_stage stage);
/* The reply to a malformed path (`syntax` is the command's own; `utf8`: UTF-8 was allowed) or parameter;
 * REPLY_NONE when there is no fault. */
enum reply_id server_path_reply(enum smtp_path_fault fault, bool utf8, enum reply_id syntax);
enum reply_id server_params_reply(enum smtp_params_fault fault);

/* A mistake of the protocol: the standard reply, counted. */
void server_protocol_error(struct smtp_server *server, enum reply_id reply, struct str detail);
/* The client's deadline begins anew; at the end of each entry of the interface. */
void server_settle(struct smtp_server *server);

void server_move(struct smtp_server *server, enum smtp_state state);
void server_wait(struct smtp_server *server, enum smtp_waiting waiting);
void server_close(struct smtp_server *server, enum ending ending);
/* A reply, then the end. */
void server_close_with(struct smtp_server *server, enum reply_id reply, enum ending ending);

/* The same after a mistake that cannot be let pass; it counts as an error. */
void server_break_off(struct smtp_server *server, enum reply_id reply, enum ending ending);

/* Ends the open transaction, if any, before its final dot: RSET, a new hello, QUIT, disconnect. */
void server_abort_transaction(struct smtp_server *server);
/* Ends it with an outcome, frees it, and goes back to READY. */
void server_end_transaction(struct smtp_server *server, enum outcome outcome, enum outcome_by by);

/* server_hello.c */
struct verb_check hello_check_helo(struct smtp_server *server, struct str argument);
struct verb_check hello_check_ehlo(struct smtp_server *server, struct str argument);
void hello_apply(struct smtp_server *server);

/* server_mail.c */
enum reply_id mail_misplaced(const struct smtp_server *server);
struct verb_check mail_check(struct smtp_server *server, struct str argument);
void mail_apply(struct smtp_server *server);
/* Cuts `keyword` and ":" off the front; false when they are not there. */
bool mail_cut_keyword(struct str *argument, struct str keyword);

/* server_rcpt.c */
enum reply_id rcpt_misplaced(const struct smtp_server *server);
struct verb_check rcpt_check(struct smtp_server *server, struct str argument);
void rcpt_apply(struct smtp_server *server);
void rcpt_answered(struct smtp_server *server, const struct smtp_answer *answer);

/* server_data.c */
enum reply_id data_misplaced(const struct smtp_server *server);
void data_apply(struct smtp_server *server);
void data_answered(struct smtp_server *server, const struct smtp_answer *answer);
size_t data_feed(struct smtp_server *server, struct str bytes);
/* The BODY stage allowed the message, or refused it with this verdict. */
void data_allowed(struct smtp_server *server);
void data_refused(struct smtp_server *server, enum reply_id reply, struct str detail);

/* server_tls.c */
enum reply_id tls_misplaced(const struct smtp_server *server);
struct verb_check tls_check(struct smtp_server *server, struct str argument);
void tls_apply(struct smtp_server *server);

/* server_auth.c */
enum reply_id auth_misplaced(const struct smtp_server *server);
struct verb_check auth_check(struct smtp_server *server, struct str argument);
void auth_apply(struct smtp_server *server);
/* A line of the client within an exchange, without its CR LF. */
void auth_line(struct smtp_server *server, struct str line);
/* Ends the exchange from our side: with a reply, or without. */
void auth_give_up(struct smtp_server *server, enum reply_id reply);
void auth_abandon(struct smtp_server *server);
/* May the line, or what there is of it, hold something that is kept nowhere? */
bool auth_is_secret(const struct smtp_server *server, struct str line);
/* Is it one of an exchange that is over, which the client did not know yet? */
bool auth_is_response(const struct smtp_server *server, struct str line);
/* The line without it. */
void auth_print_line(const struct smtp_server *server, struct str line, struct buf *out);

/* server_misc.c */
struct verb_check misc_check_argument(struct smtp_server *server, struct str argument);
void misc_apply_rset(struct smtp_server *server);
void misc_apply_noop(struct smtp_server *server);
void misc_apply_quit(struct smtp_server *server);
void misc_apply_vrfy(struct smtp_server *server);
void misc_apply_help(struct smtp_server *server);
void misc_apply_bdat(struct smtp_server *server);

#endif
