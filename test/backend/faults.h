/*
 * Misbehaviour on demand. A fault is written
 *
 *     STATE[K]:ACTION[=VALUE][:AFTER][@TIMES][@cCONNECTIONS][@tTRANSACTIONS]
 *
 * STATE is the step of the dialogue whose reply is spoilt, ACTION what happens instead; --help
 * lists both. K: only the K-th step of this kind, counted in the transaction (rcpt2, bdat3, dot2:
 * the second reply of LMTP to the message), in the exchange (auth2), else in the connection (ehlo2).
 * AFTER is for `body` the bytes of the message that are read first, for `idle` the milliseconds
 * since the transaction has ended.
 *
 * TIMES is "3" (the first three times), "3+" (from the third time on) or "2-4"; times are counted
 * over the whole process, behind the other conditions. Of the same form are CONNECTIONS, over the
 * whole process, and TRANSACTIONS, in a connection: each MAIL begins one, accepted or not. In VALUE,
 * \n \r \t \0 \\ and \xHH are understood.
 *
 * Faults live until faults_free(), also those that a re-read file has replaced: a session may
 * be in the middle of one.
 */
#ifndef BACKEND_FAULTS_H
#define BACKEND_FAULTS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/str.h"
#include "reply.h"

enum fault_state {
	AT_NOWHERE, /* a step that no fault can name */
	AT_CONNECT,
	AT_BANNER,
	AT_EHLO,
	AT_HELO,
	AT_STARTTLS,
	AT_AUTH,
	AT_XCLIENT,
	AT_XFORWARD,
	AT_MAIL,
	AT_RCPT,
	AT_DATA,
	AT_BDAT,
	AT_BODY,
	AT_DOT,
	AT_AFTER_DOT,
	AT_IDLE,
	AT_RSET,
	AT_QUIT,
	AT_NOOP,
	FAULT_STATES
};

enum fault_flag {
	FAULT_WITHHOLDS = 1 << 0, /* no reply, and the command has no effect */
	FAULT_CLOSES = 1 << 1,    /* FIN once everything is written */
	FAULT_RESETS = 1 << 2,    /* RST */
	FAULT_STALLS = 1 << 3,    /* reads and answers nothing any more */
	FAULT_DIES = 1 << 4,      /* the process exits */
	FAULT_SPLITS = 1 << 5,    /* writes a byte at a time */
	FAULT_EARLY = 1 << 6,     /* the reply comes with the reply before it */
	FAULT_DELAYS = 1 << 7,
	FAULT_REFUSES = 1 << 8, /* a reply, but not one that grants anything */
	FAULT_HALVES = 1 << 9,  /* FIN, and what comes is read and dropped */
};

struct fault_action {
	const char *name;
	unsigned flags;
	void (*write)(struct buf *out, const struct reply *reply); /* NULL: as it should be */
	const char *help;
	enum { VALUE_NONE, VALUE_MS, VALUE_REPLY, VALUE_BYTES } takes;
};

struct fault_range {
	uint64_t first, last;
};

struct fault {
	enum fault_state at;
	unsigned ordinal; /* 0: any */
	const struct fault_action *action;
	unsigned flags;     /* the action's */
	unsigned ms;        /* of VALUE_MS */
	struct reply reply; /* of VALUE_REPLY */
	struct str bytes;   /* of VALUE_BYTES */
	uint64_t after;     /* bytes of body, or ms of idleness, before it strikes */
	struct fault_range times, connections, transactions;
	uint64_t seen;
	bool is_from_file, is_retired;
	char *text;
	struct fault *next;
};

struct faults {
	struct fault *list;
	struct fault **tail;
	unsigned states; /* bit per fault_state that occurs: the fast way out */
	bool has_early;  /* likewise */
};

/* One step of a dialogue; all but `at` count from 1. */
struct fault_moment {
	enum fault_state at;
	unsigned ordinal;
	uint64_t connection, transaction; /* transaction: 0 before the first */
};

/* What strikes at one step: at most one delay, and at most one fault of another kind. */
struct fault_choice {
	struct fault *delay;
	struct fault *fault;
};

void faults_init(struct faults *faults);
void faults_free(struct faults *faults);

/* Adds one; -1 with the reason when it cannot be understood. */
int faults_add(struct faults *faults, struct str text, struct err *err);

/* Replaces what came from the file before; '#' begins a comment. On error nothing changes. */
int faults_read_file(struct faults *faults, const char *path, struct err *err);

/* Counts one arrival and says what strikes. Faults of the kind `early` do not. */
struct fault_choice faults_choose(struct faults *faults, const struct fault_moment *moment);

/* Whether the reply of this moment is due already, before its command: counts and answers. With
 * `by_ordinal` only faults that name one are asked, without only those that do not or name the first. */
bool faults_is_early(struct faults *faults, const struct fault_moment *moment, bool by_ordinal);

/* Whether a step whose honest reply has `code` may have its effect in spite of the fault (NULL:
 * none): not when it is withheld, or of another class than the honest one. */
bool fault_grants(const struct fault *fault, int code);

/* The lists of states and actions for --help. */
void faults_print_help(FILE *file);

#endif
