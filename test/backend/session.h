/*
 * One client: its socket, what came in and is not yet used, what is to go out, and where in the
 * dialogue it is. Input is processed only while nothing holds the session up (a delay, a stall,
 * replies that the client does not read), in the order in which it came.
 */
#ifndef BACKEND_SESSION_H
#define BACKEND_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "backend.h"
#include "base/buf.h"
#include "body.h"
#include "faults.h"
#include "identity.h"
#include "reply.h"
#include "transaction.h"

enum phase { PHASE_PROXY, PHASE_COMMAND, PHASE_DATA, PHASE_BDAT, PHASE_AUTH };

struct auth;

struct session {
	struct watch watch; /* first: epoll points at it */
	struct backend *backend;
	LIST_ENTRY(session) in_all;
	LIST_ENTRY(session) in_waiting;
	int fd;
	uint32_t interest; /* what epoll was told */
	uint64_t id;
	enum phase phase;
	struct buf in, out;

	/* The dialogue. */
	bool is_esmtp, has_hello;
	bool is_utf8;       /* the sender asked for SMTPUTF8 */
	bool is_binary;     /* and for BODY=BINARYMIME */
	bool skips_newline; /* lenient: a line end may go on */
	unsigned answered;  /* bit per fault_state whose reply was sent early */
	unsigned seen[FAULT_STATES];
	const char *awaits; /* the verb whose reply must come before more is said, or NULL */
	struct identity identity;
	struct auth *auth; /* PHASE_AUTH */
	struct transaction tx;
	uint64_t messages;

	/* The body. */
	struct body body;
	uint64_t body_received, body_trigger;
	struct fault *body_fault;
	bool is_refused; /* a reply during the body has refused it */
	uint64_t chunk_left;
	bool is_last_chunk;
	struct reply chunk_refusal; /* code 0: the chunk is wanted */

	/* How it goes on. */
	int64_t resume_at; /* 0: not waiting */
	int64_t idle_at;   /* 0: not idle, or nothing happens then */
	struct fault *idle_fault;
	bool is_waiting; /* in the list of those with a time */
	bool is_held;    /* what is in `out` waits for resume_at */
	bool is_stalled;
	bool is_halved, is_shut; /* says nothing any more; and FIN is sent */
	bool is_split;
	bool is_closing, is_resetting, is_dying; /* once `out` is written */
	bool is_broken;                          /* nothing can be written any more */
	const char *how;                         /* word for the record */
};

/* Takes over the accepted socket. */
void session_open(struct backend *backend, int fd);

/* When session_resume() is due; 0: it is not. */
int64_t session_due(const struct session *session);

/* That time has come. The session may be gone afterwards. */
void session_resume(struct session *session);

/* From now on for so long no input is used. */
void session_hold(struct session *session, int64_t ms);

/* A transaction has ended: what `idle` faults wait for. */
void session_be_idle(struct session *session);

/* Whether bytes have come that are not read yet. */
bool session_has_input(const struct session *session);

/* Writes what can be written now. */
void session_flush(struct session *session);

/* Ends it now; `how` goes into the record. */
void session_close(struct session *session, const char *how);

/* False while something holds the session up: then no more input may be used. */
bool session_may_go_on(const struct session *session);

/* Counts the step and says what strikes at it. */
struct fault_choice session_choose(struct session *session, enum fault_state at);

/* Writes the reply to the step `at`, or what the fault makes of it; nothing when its code is 0. */
void session_answer(struct session *session, enum fault_state at, struct fault_choice choice,
	struct reply reply);

/* The rest of the files' share of the dialogue: each takes input and returns what it used; 0
 * means that it needs more than there is. */
size_t verbs_take(struct session *session, struct str input);
size_t data_take(struct session *session, struct str input);
size_t data_take_chunk(struct session *session, struct str input);

/* The reply that opens the dialogue; also after XCLIENT. */
struct reply verbs_banner(const struct session *session);

/* The effect of an accepted DATA, and of BDAT (also a refused one, for its bytes come anyhow). */
void data_begin(struct session *session);
void data_begin_chunk(struct session *session, uint64_t size, bool is_last, struct reply refusal);

#endif
