/*
 * A transaction: exists from an accepted MAIL until the message was handed over or refused, RSET,
 * a new hello, STARTTLS or disconnect. Its memory is one arena, dropped at the end. Every
 * transaction ends with exactly one outcome.
 */
#ifndef CONNECTION_TRANSACTION_H
#define CONNECTION_TRANSACTION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/arena.h"
#include "base/str.h"
#include "connection/connection.h"
#include "proto/smtp_params.h"
#include "proto/smtp_path.h"

struct recipient {
	STAILQ_ENTRY(recipient) link;
	struct smtp_path path;
	struct smtp_rcpt_params params;
};
STAILQ_HEAD(recipient_list, recipient);

enum outcome {
	OUTCOME_NONE,     /* not ended yet */
	OUTCOME_ACCEPTED, /* the backend said 250 after the final dot */
	OUTCOME_REFUSED,  /* 5xx */
	OUTCOME_DEFERRED, /* 4xx */
	OUTCOME_ABORTED,  /* given up before the final dot: RSET, QUIT, disconnect, a new hello */
	OUTCOME_UNKNOWN,  /* the backend got the final dot and did not answer */
};

enum outcome_by { BY_EDGE, BY_BACKEND, BY_CLIENT };

struct transaction {
	struct arena arena;
	char uuid[IDENT_TEXT_MAX + 21]; /* the connection's plus ".N" */
	struct smtp_path mail_from;
	struct smtp_mail_params mail_params;
	struct recipient_list rcpt_to; /* accepted */
	struct recipient *candidate;   /* the one under question in the RCPT stage; else NULL */
	struct arena candidate_arena;  /* its memory: refused recipients leave nothing behind */
	struct rcpt_count rcpt_count;
	uint64_t data_bytes; /* of the message as decoded */
	bool relaying;       /* a grant that ends with the transaction */
	struct notes notes;
	struct results results;
	uint64_t start_ms, end_ms;

	/* How it ended; set once by transaction_end. */
	enum outcome outcome;
	enum outcome_by by;
	struct str backend, server; /* names, set by whoever forwards; empty when none was used */
	struct str reply;           /* the final reply, without line end; in the arena */
};

#define TRANSACTION_REPLY_MAX 512 /* of the final reply, as it is kept */

/* Makes connection->transaction (there is none before); tran_count is increased and gives the
 * number. `arena_max` bounds everything the client can make it keep. */
struct transaction *transaction_begin(
	struct connection *connection, size_t arena_max, uint64_t now_ms);

/* Undoes transaction_begin for a MAIL that turned out malformed: nothing has begun. */
void transaction_withdraw(struct connection *connection);

#define CANDIDATE_ARENA_MAX 4096

/* Makes the recipient under question, zeroed, in candidate_arena, which is reset first. Never
 * NULL. Its path and parameters are parsed into candidate_arena. */
struct recipient *transaction_candidate(struct transaction *transaction);
/* Copies the candidate into the transaction's arena and to the end of rcpt_to, and counts it. False
 * (the candidate stays) when there is no room. */
bool transaction_accept_candidate(struct connection *connection);
/* Forgets and counts it; `for_good` tells a 5xx from a 4xx. */
void transaction_refuse_candidate(struct connection *connection, bool for_good);

/* Sets outcome and final reply (copied, however full the arena is; without line end at its end,
 * cut at TRANSACTION_REPLY_MAX), adds the transaction to the trace of the connection and increases
 * msg_count. Asserts that it is called once. */
void transaction_end(struct connection *connection, enum outcome outcome, enum outcome_by by,
	struct str reply, uint64_t now_ms);

/* Frees it and clears connection->transaction; it must have ended. */
void transaction_free(struct connection *connection);

const char *outcome_word(enum outcome outcome);  /* "accepted", … */
const char *outcome_by_word(enum outcome_by by); /* "edge", "backend", "client" */

#endif
