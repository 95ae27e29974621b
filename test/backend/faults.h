/*
 * Misbehaviour on demand. A fault is written
 *
 *     STATE:ACTION[=VALUE][:BYTES][@TIMES]
 *
 * STATE is the step of the dialogue whose reply is spoilt, ACTION what happens instead; --help
 * lists both. BYTES belongs to the state `body`: so many bytes of the message are read first.
 * TIMES is "3" (the first three times), "3+" (from the third time on) or "2-4"; times are
 * counted over the whole process. In VALUE, \n \r \t \0 \\ and \xHH are understood.
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
	AT_MAIL,
	AT_RCPT,
	AT_DATA,
	AT_BODY,
	AT_DOT,
	AT_AFTER_DOT,
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
};

struct fault_action {
	const char *name;
	unsigned flags;
	void (*write)(struct buf *out, const struct reply *reply); /* NULL: as it should be */
	const char *help;
	enum { VALUE_NONE, VALUE_MS, VALUE_REPLY, VALUE_BYTES } takes;
};

struct fault {
	enum fault_state at;
	const struct fault_action *action;
	unsigned flags;     /* the action's, and REFUSES when the text is a refusal */
	unsigned ms;        /* of VALUE_MS */
	struct reply reply; /* of VALUE_REPLY */
	struct str bytes;   /* of VALUE_BYTES */
	uint64_t after;     /* bytes of body before it strikes */
	uint64_t first, last;
	uint64_t seen;
	bool is_from_file, is_retired;
	char *text;
	struct fault *next;
};

struct faults {
	struct fault *list;
	struct fault **tail;
	unsigned states; /* bit per fault_state that occurs: the fast way out */
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

/* Counts one arrival at `at` and says what strikes. Faults of the kind `early` do not. */
struct fault_choice faults_choose(struct faults *faults, enum fault_state at);

/* Whether the reply to `at` is due already, before its command: counts and answers. */
bool faults_is_early(struct faults *faults, enum fault_state at);

/* Whether the command may have its effect in spite of the fault (NULL: none). */
bool fault_grants(const struct fault *fault);

/* The lists of states and actions for --help. */
void faults_print_help(FILE *file);

#endif
