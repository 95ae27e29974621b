/* Between the files of forwarding: forward.c joins, forward_envelope.c and forward_message.c talk. */
#ifndef BACKEND_FORWARD_PRIV_H
#define BACKEND_FORWARD_PRIV_H

#include "backend/answer.h"
#include "backend/forward.h"
#include "backend/link.h"
#include "backend/merge.h"
#include "backend/queue.h"
#include "backend/replay.h"

/* What the session waits for. */
enum forward_want { WANT_NOTHING, WANT_RECIPIENT, WANT_DATA, WANT_FINAL };

/* The message, as the client sends it. */
enum forward_message {
	MESSAGE_NONE,
	MESSAGE_OPEN,  /* 354 was given: it comes */
	MESSAGE_WHOLE, /* all of it is here; the server is to get the dot, or has got it */
};

/* What the answer to MAIL was, for every recipient. */
struct mail_refusal {
	struct smtp_reply reply;
	struct buf text;
};

struct forward {
	const struct backend_env *env;
	struct connection *connection;
	const struct route_table *routes;
	const struct forward_port *port;
	void *ctx;

	enum forward_want want;
	struct backend *destination; /* by the first accepted recipient; NULL: no transaction yet */
	struct link *link;           /* NULL: none */
	struct backend *bound;       /* where the client has authenticated itself; NULL: nowhere */
	struct link *bound_link; /* the connection on which it did, between transactions there */
	struct server_choice choice;
	bool awaits_name;         /* of the client; there is no link meanwhile */
	struct server_wait *wait; /* NULL: does not wait */

	/* What this server has of the transaction. */
	/* The connection served an earlier transaction, or this client was refused on it time and again: that
	 * it ends says nothing of the server. */
	bool is_worn;
	bool reset_is_due;
	bool identity_is_due, identity_is_said; /* XFORWARD */
	bool mail_is_sent, candidate_is_sent, data_is_sent;
	bool data_follows;  /* the client has said DATA behind the candidate, or will, as always */
	bool data_is_ready; /* 354 has come before that DATA was its turn */
	bool data_is_accepted; /* 354 has come */
	bool dot_is_sent;
	unsigned told;      /* set of enum answer_told */
	bool is_chunked;    /* the message goes by BDAT */
	bool is_taken_over; /* the message was begun elsewhere */
	/* Recipients accepted before, put to another server: due, sent, answered. */
	unsigned replays_due, replays_sent, replays_answered;

	/* Messages so far, each to one recipient; HABIT_BROKEN: the client does not always do so. */
	uint8_t habit;

	/* The transaction. */
	enum forward_message message;
	struct replay replay;
	bool is_searching; /* a server was lost, and no other has got so far yet */
	size_t kept_due;   /* bytes at the end of what is kept that this server has not got */
	struct buf chunk;  /* being gathered, for BDAT */
	bool chunk_at_line_start;
	struct task chunk_task, open_task;
	struct merge *finals;   /* LMTP: the final replies so far; NULL: none */
	uint64_t answer_by_ms;  /* the client waits no longer, or for no other server */
	uint64_t final_by_ms;   /* likewise, of its whole message */
	enum reply_id obstacle; /* why servers could not be used so far; REPLY_COUNT: nothing yet */
	bool is_given_up;       /* all have been tried */
	bool mail_is_refused;
	struct mail_refusal *mail_refusal; /* the last one; NULL: there was none */

	struct buf answer_text; /* of the answer being given */
	struct task own_answer_task;
	enum reply_id own_answer; /* REPLY_COUNT: the refusal of MAIL */
};

/* ---- forward.c: to the session, and from server to server --------------------------------------- */

/* The answer that the session waits for; or of ours, from the loop. */
void forward_answer(struct forward *forward, const struct smtp_answer *answer);
void forward_answer_own(struct forward *forward, enum reply_id reply);

/* What a reply means. Its text is copied: the connection that it came by may be dropped before the
 * answer is given. */
void forward_judge(struct forward *forward, enum smtp_client_step step,
	const struct smtp_reply *reply, struct answer *verdict);
void forward_alarm(
	const struct forward *forward, enum smtp_client_step step, const struct smtp_reply *reply);

/* This server cannot be used for this transaction: closes the connection, and what can be done
 * elsewhere is. */
void forward_server_lost(struct forward *forward, enum smtp_client_step step, const char *why,
	enum server_event event);
void forward_try_next_server(struct forward *forward);
/* The server has gone, or has said something after which it cannot be believed. True: it was so, and
 * the connection is closed. */
bool forward_is_useless(
	struct forward *forward, const struct answer *verdict, enum smtp_client_step step);

/* ---- forward_bound.c ---------------------------------------------------------------------------- */

/* Is the destination where the client has authenticated itself? */
bool bound_is_used(const struct forward *forward);
/* A transaction there begins: forward->link is that connection, or NULL when it is lost. */
void bound_take(struct forward *forward, const struct link_port *owner);
/* It is over; with forward->link NULL the connection is lost. */
void bound_keep(struct forward *forward);

/* ---- forward_envelope.c ------------------------------------------------------------------------- */

/* Nothing of the transaction was put to the server yet. */
void envelope_begin(struct forward *forward);
/* Sends what can be sent now. */
void envelope_pump(struct forward *forward);
void envelope_answer_mail_refusal(struct forward *forward);
void envelope_free_mail_refusal(struct forward *forward);
void envelope_client_refused(struct forward *forward, const struct smtp_reply *reply);
/* The client has not come to its DATA yet. */
bool envelope_is_ahead(const struct forward *forward);
/* The accepted recipient at this place; NULL: there are not so many. */
struct recipient *envelope_recipient(const struct transaction *transaction, unsigned index);
void envelope_answered(
	struct forward *forward, enum smtp_client_step step, const struct smtp_reply *reply);

/* ---- forward_message.c -------------------------------------------------------------------------- */

/* As much as is read at a time, and what may be held back of it: else a few bytes of each read would make a
 * chunk of their own. */
#define CHUNK_MAX (65536 + 1024)

void message_init(struct forward *forward);
/* A transaction begins; it is over. */
void message_begin(struct forward *forward);
void message_forget(struct forward *forward);
/* 354, to the client or to a message that is on its way already: what there is of it goes out. */
void message_accepted(struct forward *forward);
/* The server needs not be asked for it, or was: the client gets its 354 from the loop. */
void message_open_later(struct forward *forward);
bool message_is_here(const struct forward *forward);
size_t message_room(const struct forward *forward);
void message_add(struct forward *forward, struct str bytes);
void message_end(struct forward *forward);
/* There may be room at the server again. */
void message_go_on(struct forward *forward);
void message_chunk_answered(struct forward *forward, const struct smtp_reply *reply);
void message_final_answered(struct forward *forward, const struct smtp_reply *reply);
/* The server is lost: another one can have it; then it is prepared for that. */
bool message_can_be_saved(const struct forward *forward);
void message_save(struct forward *forward);
/* It cannot be saved: the client is told so. */
void message_lost(struct forward *forward, const struct smtp_answer *answer);
/* The server may have taken it, nobody knows. */
void message_unknown(struct forward *forward, const char *why);

#endif
