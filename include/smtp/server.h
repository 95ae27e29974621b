/*
 * The dialogue with a client (RFC 5321), as a machine without I/O: bytes, verdicts, the backend's
 * answers and expired deadlines come in by calls; replies, questions and wishes go out through the
 * port. It has no socket and no clock, so whole conversations are tested without either.
 *
 * Two small enums say where it is: the state, and what it waits for, at most one thing at a time.
 * While it waits for anything but the client it takes no bytes: so replies stay in order under
 * pipelining, back-pressure is "stop reading", and nothing can be slipped in between.
 *
 * The connection and its transaction are filled as the dialogue goes. Each transaction ends with
 * exactly one outcome, whichever way the dialogue takes.
 */
#ifndef SMTP_SERVER_H
#define SMTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "connection/connection.h"
#include "connection/ending.h"
#include "connection/transaction.h"
#include "policy/verdict.h"
#include "proto/dot.h"
#include "proto/smtp_command.h"
#include "proto/smtp_reply.h"

enum smtp_state {
#define SMTP_STATE(id, word, meaning) SMTP_STATE_##id,
#include "tables/states.def"
#undef SMTP_STATE
	SMTP_STATE_COUNT
};

enum smtp_waiting {
	SMTP_WAITING_NOTHING, /* the client's turn */
	SMTP_WAITING_POLICY,
	SMTP_WAITING_BACKEND, /* for the answer to the recipient, DATA, or the whole message */
	SMTP_WAITING_ROOM,    /* the body goes faster than the backend takes it */
	SMTP_WAITING_TLS,     /* the handshake after STARTTLS */
	SMTP_WAITING_AUTH,    /* for the authentication service */
	SMTP_WAITING_CLOSE,   /* nothing more will be read */
};

/* Limits and deadlines of the dialogue; the settings `limits` and `timeouts`. */
struct smtp_limits {
	uint64_t message_size;         /* bytes, as decoded */
	uint64_t message_line;         /* bytes of one line of a message */
	uint64_t message_header;       /* bytes of the header section */
	uint64_t received;             /* Received: lines */
	uint64_t recipients;           /* accepted, a transaction */
	uint64_t recipients_overshoot; /* RCPT commands beyond `recipients` before we close */
	uint64_t transactions;         /* a connection */
	uint64_t errors;               /* protocol errors, a connection */
	uint64_t unknown_commands;     /* a connection */
	uint64_t idle_commands;        /* commands without a message since the last message */
	uint64_t command_line;         /* bytes, line end included */
	uint64_t auth_failures;        /* a connection */
};

struct smtp_timeouts {
	uint64_t command_ms; /* for a whole command */
	uint64_t data_ms;    /* between two pieces of a message */
};

struct smtp_server_settings {
	struct str hostname;
	struct smtp_limits limits;
	struct smtp_timeouts timeouts;
};

/* What the client may be offered now: our own and what every reachable backend can keep. */
struct smtp_offer {
	unsigned extensions;   /* set of enum smtp_extension */
	uint64_t size;         /* of SIZE */
	uint64_t recipients;   /* of a transaction; 0: limits.recipients says it alone */
	bool one_destination;  /* recipients may lead to different backends: RCPTDOMAINMAX=1 */
	struct str mechanisms; /* of AUTH, separated by spaces; with SMTP_EXT_AUTH */
};

/* How an AUTH exchange begins and ends. */
#define AUTH_LINE_MAX 12288 /* a line of the exchange, RFC 4954 section 4 */
enum smtp_auth_start {
	SMTP_AUTH_STARTED,
	SMTP_AUTH_NO_MECHANISM,  /* 504 */
	SMTP_AUTH_NEEDS_TLS,     /* 538: offered only under TLS */
	SMTP_AUTH_NOT_HERE,      /* 502: this listener has no AUTH */
	SMTP_AUTH_NOT_AVAILABLE, /* 454 */
};
enum smtp_auth_end {
	SMTP_AUTH_OK,
	SMTP_AUTH_REFUSED,     /* 535 */
	SMTP_AUTH_MALFORMED,   /* 501 */
	SMTP_AUTH_UNAVAILABLE, /* 454 */
	SMTP_AUTH_EXPIRED,     /* 534 */
};

/*
 * The backend's answer, or one that we give in its place. Its class fits the step, whoever speaks
 * to the backend sees to that: 2xx to a recipient, 354 to DATA, 2xx of the backend's own to the
 * whole message; or 4xx or 5xx. Anything else is a bug, not a peer's mistake.
 */
struct smtp_answer {
	const struct smtp_reply *reply; /* the backend's words; NULL: ours, `own` */
	enum reply_id own;
	enum outcome_by by; /* who refused, when it is a refusal */
};

/* What the client has said behind a recipient already, as far as is known when it is forwarded. */
enum smtp_behind {
	SMTP_BEHIND_NOTHING,
	SMTP_BEHIND_DATA,  /* and nothing else; it is asked for when the recipient is answered */
	SMTP_BEHIND_OTHER, /* another command */
};

struct smtp_server_port {
	/* The bytes of one reply. */
	void (*send)(void *ctx, struct str bytes);
	/* Ask the plan; the answer is smtp_server_verdict(). May answer from inside. */
	void (*ask)(void *ctx, enum policy_stage stage);
	/* transaction->candidate passed our own policy; DATA did; the whole message did. The answer
	 * is smtp_server_answer(), never from inside the call. */
	void (*forward_recipient)(void *ctx, enum smtp_behind behind);
	void (*forward_data)(void *ctx);
	/* False: the client is gone, the end was not forwarded, and there will be no answer. */
	bool (*forward_end)(void *ctx);
	/* Room for message bytes, and canonical bytes that fit it. After smtp_server_body_lost()
	 * neither is called. */
	size_t (*body_room)(void *ctx);
	void (*body)(void *ctx, struct str bytes);
	/* The transaction ends without the final dot; the backend must not see one. Called also when
	 * nothing was forwarded yet, and perhaps more than once. */
	void (*abandon)(void *ctx);
	/* The transaction has its outcome: log it; it is freed after the call. */
	void (*ended)(void *ctx);
	/* A refusal was sent in this stage: log it. `reply` has no line end. */
	void (*refused)(void *ctx, enum policy_stage stage, struct str reply);
	/* What may be offered, asked at EHLO. */
	struct smtp_offer (*offer)(void *ctx);
	/* STARTTLS: may a handshake begin now? Then begin it once the reply to STARTTLS is written;
	 * the answer is smtp_server_tls_started(), or the port closes. */
	bool (*tls_is_available)(void *ctx);
	void (*start_tls)(void *ctx);
	/* AUTH: begins an exchange (`initial` is NULL without an initial response), goes on, gives up.
	 * The answers are smtp_server_auth_challenge() and smtp_server_auth_done(), never from inside.
	 * What is passed holds secrets and is wiped after the call. */
	enum smtp_auth_start (*auth_begin)(
		void *ctx, struct str mechanism, const struct str *initial);
	void (*auth_respond)(void *ctx, struct str response);
	void (*auth_cancel)(void *ctx);
	/* Asked at MAIL: is there a server that its mail could go to? Else it is refused for now. */
	bool (*has_server)(void *ctx);
	/* Have bytes arrived that were not taken yet? Where a command must be the last of its group,
	 * what comes behind it cannot be told from commands. */
	bool (*input_is_pending)(void *ctx);
	/* Is there output that the client does not read? Then no further command is taken. */
	bool (*output_is_full)(void *ctx);
	/* Call smtp_server_timeout() in `ms`; 0: never mind. Replaces the last wish. */
	void (*arm)(void *ctx, uint64_t ms);
	/* Close when what was sent is written. Called once. */
	void (*close)(void *ctx, enum ending ending);
	uint64_t (*now_ms)(void *ctx);
};

/* Of AUTH; failures are counted for the whole connection. */
struct smtp_auth {
	uint64_t failures;
	struct str mechanism, initial; /* views, between check and apply */
	char word[32];                 /* the mechanism of the exchange, in capitals */
};

/* A refusal of an early stage that is given at RCPT. */
struct smtp_held {
	bool is_set;
	enum reply_id reply;
	struct str detail; /* in the connection's arena */
	const char *check; /* that decided so */
};

struct smtp_server {
	const struct smtp_server_settings *settings;
	const struct smtp_server_port *port;
	void *ctx;
	struct connection *connection;

	/* The check whose verdict is being told, for the log; set by the port around
	 * smtp_server_verdict(), and here while a refusal is given that was held. */
	const char *deciding_check;

	/* Everything below is for smtp/server*.c. */
	uint8_t state, waiting, stage;
	enum smtp_verb verb;   /* of the command under way */
	bool data_is_refused;  /* … and nothing known was said since: a body may come */
	bool is_skipping_line; /* the rest of a line that was too long */
	bool skipped_cr;       /* … whose last byte so far is CR */
	bool has_more;         /* bytes stood behind the command in the same piece of input: */
	bool data_follows;     /* DATA and nothing else */
	bool body_is_lost;     /* the message will be refused: swallow it */
	bool end_is_forwarded; /* the backend was told the end: only its answer counts now */
	bool requires_auth;    /* no MAIL without AUTH */
	bool auth_is_lost;     /* what AUTH was worth is gone: the next MAIL ends the session */
	bool auth_is_over;     /* an AUTH was not successful, and no other verb came since */
	bool in_auth;          /* an exchange is under way: lines are responses */
	bool normalises;       /* bare line ends become CR LF instead of a refusal */
	int lost_code;         /* of the backend's refusal while the body streamed */
	enum outcome_by lost_by;
	size_t skipped;
	uint64_t unknown_commands, idle_commands, rcpt_commands;
	struct smtp_offer offer;
	struct smtp_auth *auth;    /* in the connection's arena, from the first AUTH on */
	struct smtp_held *held;    /* likewise, from the first on: one for each stage up to MAIL */
	struct hello hello_before; /* while a new one is under question */
	struct dot *dot;           /* in the transaction's arena, from DATA on */
	int refusal_code;          /* last refusal of this transaction, 0: none */
	enum outcome_by refusal_by;
	struct buf refusal; /* the reply, all lines */
	bool is_stopped;    /* to be ended when the backend has answered */
	enum reply_id stop_reply;
	enum ending stop_ending;
};

/* `auth_is_lost` may be set, and taken back, at any time. `normalises` (this client's bare line ends are
 * mended) and `requires_auth` may be set between init and start. */
void smtp_server_init(struct smtp_server *server, const struct smtp_server_settings *settings,
	const struct smtp_server_port *port, void *ctx, struct connection *connection);
void smtp_server_free(struct smtp_server *server);

/* The client is known: asks the connect stage, then greets. */
void smtp_server_start(struct smtp_server *server);

/* Bytes from the client. Returns how many were taken; offers the rest again later. */
size_t smtp_server_feed(struct smtp_server *server, struct str bytes);

/* May smtp_server_feed() take bytes now? */
bool smtp_server_wants_input(const struct smtp_server *server);

/* Is it our turn, and the client's to go on behind it? Then one that leaves now has no use for what is
 * waited for: tell smtp_server_eof(). Behind a whole message it has. */
bool smtp_server_minds_leaving(const struct smtp_server *server);

/* The plan's answer. `holds`: the step wants a refusal kept until RCPT. */
void smtp_server_verdict(struct smtp_server *server, struct verdict verdict, bool holds);

/* The backend's answer to what was forwarded last. */
void smtp_server_answer(struct smtp_server *server, const struct smtp_answer *answer);

/* The backend is lost while the body streams: the rest is swallowed and then refused so. */
void smtp_server_body_lost(struct smtp_server *server, const struct smtp_answer *answer);

/* There is room for the body again. */
void smtp_server_room(struct smtp_server *server);

/* The handshake has succeeded: everything learned before is forgotten. `tls` is kept. */
void smtp_server_tls_started(struct smtp_server *server, struct tls_info *tls);

/* A challenge for the client, not in base64. */
void smtp_server_auth_challenge(struct smtp_server *server, struct str challenge);
/* The exchange is over. `user` counts with SMTP_AUTH_OK. */
void smtp_server_auth_done(struct smtp_server *server, enum smtp_auth_end end, struct str user);

/* The armed time has passed. */
void smtp_server_timeout(struct smtp_server *server);

/* The client will send nothing more, or is gone altogether (`reset`). The session ends, but not
 * before the backend's answer when it was told the end of a message. */
void smtp_server_eof(struct smtp_server *server, bool reset);

/* Ends the session from our side with `reply`. When the backend was told the end of a message, its
 * answer is waited for first. No verdict or answer may follow otherwise. */
void smtp_server_stop(struct smtp_server *server, enum reply_id reply, enum ending ending);

/* Ends the session at once and without a reply. A message whose end was forwarded is `unknown`. */
void smtp_server_abort(struct smtp_server *server, enum ending ending);

/* `gatepost -d states`: the states, the verbs and the moves, as Markdown with a graph. */
void smtp_server_print_states(struct buf *out);

#endif
