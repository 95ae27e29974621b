/*
 * One connection to a server of a backend, from connect to QUIT: says who the client is, starts
 * TLS, greets, and is then ready for one transaction after the other. Forwarding, probes and the
 * pool own links in turn; what a transaction is, a link does not know.
 *
 * A link has one owner at a time, and its port. Everything is told from the loop, never from inside
 * a call of the owner, but for link_quit() and link_close(), after which nothing is told.
 */
#ifndef BACKEND_LINK_H
#define BACKEND_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "backend/backend.h"
#include "backend/env.h"
#include "backend/identity.h"
#include "backend/server_connect.h"
#include "connection/connection.h"
#include "connection/reply.h"
#include "net/stream.h"
#include "smtp/client.h"

/* Message bytes that wait for a slow server; more makes the client slow. */
#define LINK_OUT_MAX (128 * 1024)

enum link_state {
	LINK_CONNECTING,
	LINK_HANDSHAKE, /* TLS: at once, or after STARTTLS */
	LINK_GREETING,  /* banner and EHLO, and EHLO again under TLS */
	LINK_READY,
	LINK_LEAVING, /* QUIT was said; nobody owns it */
	LINK_OVER,
};

/* What went wrong; each has its answer to a client whose message cannot be saved any more. */
enum link_fault {
	LINK_UNREACHABLE,    /* connect has failed */
	LINK_REFUSED,        /* banner, EHLO, STARTTLS, or what the backend must have and has not */
	LINK_CLIENT_REFUSED, /* not us, but the client that XCLIENT names: see `said` */
	LINK_CLOSED,         /* by the server */
	LINK_STALLED,        /* a deadline has passed */
	LINK_OUT_OF_PROTOCOL,
};

struct link_loss {
	enum link_fault fault;
	enum server_event event; /* what it says of the server */
	const char *step;        /* "connect", "TLS", "banner", "MAIL", …, "idle" */
	const char *why;
	/* A reply that nobody had asked for, or the refusal of the client; else NULL. */
	const struct smtp_reply *said;
};

struct sasl_client;

struct link_port {
	/* Greeted: envelope commands may be sent. A probe is told so in an earlier state when the
	 * backend's `health.check` asks for no more. */
	void (*ready)(void *ctx);
	/* The answer to a command that the owner has sent. */
	void (*answered)(void *ctx, enum smtp_client_step step, const struct smtp_reply *reply);
	/* The connection is over and freed after the call: the owner forgets its pointer. */
	void (*lost)(void *ctx, const struct link_loss *loss);
	/* There is room for more of a message. May be NULL. */
	void (*drained)(void *ctx);
	/* All that had arrived was looked at: commands that waited for an answer can go together. */
	void (*turn)(void *ctx);
	/* The time given to link_rest() or link_expect() is over, and nothing is under way. */
	void (*rested)(void *ctx);
};

struct link {
	/* For the owner to read. */
	const struct backend_env *env;
	struct backend *backend;
	struct server *server;
	enum link_state state;
	struct smtp_client client; /* commands go out through it; see link_sent() */
	struct stream stream;
	bool is_tls;
	struct identity_told told; /* of the client that it was opened for */

	/* For the owner to use. */
	bool owner_authenticates; /* set right behind link_open(): see backend/link_auth.h */
	LIST_ENTRY(link) entry;   /* of the pool; of backend->leaving in the state LEAVING */
	bool is_idle;             /* of the pool: counted so by the server */
	uint64_t born_ms;         /* when it was ready */
	unsigned messages;        /* transactions that were begun on it */
	unsigned refusals;        /* 4xx and 5xx since it took a message */

	/* For backend/link*.c. */
	const struct link_port *port;
	void *ctx;
	const struct connection *connection; /* on whose behalf, until ready; NULL: a probe */
	struct server_connect *connecting;   /* in the state CONNECTING */
	struct endpoint address;             /* of the server; of a unix socket all zero */
	bool is_probe;                       /* not one of the server's max_connections */
	struct timer deadline;
	uint64_t answer_by_ms; /* no step goes beyond it; 0: no such limit */
	uint8_t answered;      /* enum smtp_client_step of the reply that came last */
	bool is_clients;       /* XCLIENT was answered 220: it is the client's session */
	struct introduction *introduction; /* by XCLIENT; NULL: none */
	struct sasl_client *auth;          /* while AUTH is under way with our credentials */
	bool auth_initial_is_due;          /* it did not fit into the command */
	bool tls_is_due;                   /* STARTTLS was answered 220 */
	bool avoids_tls;                   /* it has failed, and may be done without */
	bool watches_progress;             /* the deadline is moved while the message moves */
	uint64_t written_at_deadline;
};

/*
 * Begins to connect. `connection` is the client on whose behalf it is, and must stay until the
 * link is ready, or longer where the backend is told of the client at every transaction; NULL: on
 * nobody's behalf (a probe). `answer_by_ms` bounds all steps up to ready; 0: their own deadlines do.
 */
struct link *link_open(const struct backend_env *env, struct backend *backend,
	struct server *server, const struct connection *connection, uint64_t answer_by_ms,
	const struct link_port *port, void *ctx);

/* What the server takes for the client's, a set of enum answer_told; from the greeting on. */
unsigned link_shows(const struct link *link);

/* Another owner; only when READY, and with no client's name in it (see pool_takes()). */
void link_hand_over(struct link *link, const struct link_port *port, void *ctx);

/* Another owner on behalf of the same client; only when READY. */
void link_pass(struct link *link, const struct link_port *port, void *ctx);

/* The deadline of what was sent: each of these replaces the last. `ms` from now, but not beyond
 * answer_by_ms. */
void link_expect(struct link *link, uint64_t ms);   /* an answer */
void link_watch(struct link *link, uint64_t ms);    /* as long as output moves, or nothing is due */
void link_rest(struct link *link, uint64_t ms);     /* nothing: see `rested` */
void link_limit(struct link *link, uint64_t by_ms); /* sets answer_by_ms */

/* Bytes of a message that there is room for; they go out by stream_push(). */
size_t link_room(const struct link *link);

/* Says QUIT where that is possible and frees itself, later. Sets the pointer to NULL; NULL is fine. */
void link_quit(struct link **link);
/* Closes at once: the server sees no QUIT. */
void link_close(struct link **link);
/* Those of a backend that still wait for the answer to their QUIT. */
void link_drop_leaving(struct backend *backend);

/* The answer of ours to a client whose message a fault has ruined. */
enum reply_id link_fault_reply(enum link_fault fault);

#endif
