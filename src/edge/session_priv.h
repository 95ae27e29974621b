/*
 * What the files of a session share: session.c (life, intake, dialogue), session_tls.c (handshakes)
 * and session_auth.c (AUTH).
 */
#ifndef EDGE_SESSION_PRIV_H
#define EDGE_SESSION_PRIV_H

#include "auth/auth.h"
#include "edge/edge.h"
#include "backend/forward.h"
#include "edge/intake.h"
#include "edge/session.h"
#include "net/stream.h"
#include "policy/run.h"

#define AUTH_USER_MAX 256

enum session_phase {
	PHASE_INTAKE,    /* the PROXY header */
	PHASE_HANDSHAKE, /* TLS from the first byte */
	PHASE_DIALOGUE,
	PHASE_LINGER, /* the last reply was sent; the client is given time to read it */
	PHASE_OVER,
};

/* Of the attempts of one session. */
struct session_auth {
	struct timer delay;       /* a refusal that is held back */
	enum auth_result result;  /* … and which */
	unsigned told;            /* what was logged once */
	uint64_t asked_ms;        /* when the service was given the client's last response */
	char user[AUTH_USER_MAX]; /* as far as known; empty: not */
};

/* While a stage of the plan is asked. */
struct session_policy {
	struct policy_run run;
	struct timer timer; /* of the check that waits */
};

/* Until the dialogue begins, or the handshake before it. */
struct session_opening {
	struct endpoint peer, local; /* the socket's ends */
	struct intake intake;
	struct task start;
	bool was_silent;  /* the wait for the first byte is over */
	bool was_refused; /* by the intake */
};

struct session {
	LIST_ENTRY(session) link;
	struct edge *edge;
	struct edge_listener *listener;
	enum session_phase phase;
	enum ending ending;
	struct stream stream;
	struct session_opening *opening; /* NULL: it is over */
	struct timer deadline;           /* see session_set_deadline() */
	uint64_t due_ms;                 /* of what the phase waits for */
	uint64_t session_due_ms;         /* the end of timeouts.session */
	struct connection connection;
	struct smtp_server server;
	struct session_policy *policy; /* NULL: nothing was asked */
	struct resolver_question *name_question;
	struct forward *forward;         /* see session_forward() */
	struct auth_attempt *auth;       /* NULL: none under way */
	struct session_auth *auth_state; /* NULL where the listener has no AUTH */
	bool is_deciding;                /* a check's verdict is being told to the dialogue */
	bool is_shaking_hands;           /* counted in edge->handshakes */
	bool is_feeding;                 /* the dialogue is being given what the stream holds */
	bool is_counted;                 /* in edge->clients */
	bool has_received;               /* our Received: field has gone to the backend */
	bool hint_given;
};

uint64_t session_now_ms(void *ctx);
/* Ends the session at once: log, trace, and everything that belongs to it. */
void session_over(struct session *session);
/* Reading goes on exactly while the dialogue wants to hear the client. */
void session_sync_reading(struct session *session);
/*
 * When what the phase waits for is due: the intake, the handshake, the client's next command, the
 * lingering; 0: never. In the dialogue the end of the session comes first, if it is due before.
 */
void session_set_deadline(struct session *session, uint64_t ms);
/* The dialogue begins: after the intake, and after the handshake where TLS comes first. */
void session_start_dialogue(struct session *session);

/* Made when it is needed first. */
struct forward *session_forward(struct session *session);

/* session_tls.c */
bool session_tls_is_available(void *ctx);
void session_start_tls(void *ctx); /* after STARTTLS */
void session_start_implicit_tls(struct session *session);
void session_tls_timeout(struct session *session); /* the handshake's deadline has passed */
void session_tls_over(struct session *session);    /* the session ends */

/* session_auth.c */
enum smtp_auth_start session_auth_begin(void *ctx, struct str mechanism, const struct str *initial);
void session_auth_respond(void *ctx, struct str response);
void session_auth_cancel(void *ctx);
void session_auth_init(struct session *session);
void session_auth_free(struct session *session);
void session_auth_over(struct session *session);
/* What it has granted is over. */
void session_auth_forget(struct session *session);
/* The mechanisms that this client may be offered now, separated by spaces; empty: no AUTH. */
struct str session_auth_offer(struct session *session);

#endif
