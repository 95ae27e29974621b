/*
 * The dialogue with a backend server, as a machine without I/O: the server's bytes come in, our
 * commands go out through the port, each answered in order. It greets by itself (banner, EHLO, and
 * HELO when EHLO is refused); what follows is sent by its owner when smtp_client_can_send().
 *
 * With LMTP (RFC 2033) it says LHLO, and never HELO.
 *
 * With PIPELINING several commands may be under way, without it one; nothing is sent behind a
 * command that ends a group. A reply that nobody asked for, or bytes behind the reply that ends a group
 * (RFC 2920), break the dialogue: they are never taken for the answer to something sent later. So does a 250
 * to MAIL whose enhanced code is not that of the first one on this connection: it answers something else.
 */
#ifndef SMTP_CLIENT_H
#define SMTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "connection/transaction.h"
#include "proto/smtp_reply.h"
#include "proto/xclient.h"

/* Most commands under way at a time. */
#define SMTP_CLIENT_WINDOW 32

/* What a reply answers. */
enum smtp_client_step {
	SMTP_CLIENT_BANNER,
	SMTP_CLIENT_EHLO,
	SMTP_CLIENT_HELO,
	SMTP_CLIENT_STARTTLS,
	SMTP_CLIENT_XCLIENT,
	SMTP_CLIENT_AUTH,
	SMTP_CLIENT_XFORWARD,
	SMTP_CLIENT_MAIL,
	SMTP_CLIENT_RCPT,
	SMTP_CLIENT_DATA,
	SMTP_CLIENT_BDAT, /* a chunk that is not the last */
	SMTP_CLIENT_DOT,  /* the final answer, be it to the dot or to the last chunk */
	SMTP_CLIENT_RSET,
	SMTP_CLIENT_QUIT,
};

struct smtp_client_port {
	void (*send)(void *ctx, struct str bytes);
	/* A reply, in the order of the commands; good during the call. For the greeting only its
	 * result is told: EHLO (which also stands for LHLO) or HELO with a 2xx (ready; capabilities
	 * are set), or the refusal. */
	void (*answered)(void *ctx, enum smtp_client_step step, const struct smtp_reply *reply);
	/* The dialogue is broken: a malformed reply, or one that nobody asked for (then `reply` is
	 * it, e.g. a 421). Nothing more may be sent or fed. */
	void (*broken)(void *ctx, const char *why, const struct smtp_reply *reply);
};

struct smtp_client {
	const struct smtp_client_port *port;
	void *ctx;
	struct str hello; /* the name in EHLO; lives until the next is given */
	bool is_lmtp;     /* set by the owner behind smtp_client_init() */
	struct smtp_capabilities capabilities;
	bool is_ready; /* greeted */
	/* In the answer to SMTP_CLIENT_DOT: which of the final replies this is, from 0, and whether
	 * none is to follow. See smtp_client_dot(). */
	struct {
		unsigned index;
		bool is_last;
	} final;

	/* For smtp/client.c. */
	bool is_broken;
	bool is_early; /* the reply that is coming in began before anything asked for it */
	uint8_t pending[SMTP_CLIENT_WINDOW]; /* ring of enum smtp_client_step */
	uint8_t first, count;
	uint32_t mail_mark;    /* what its first 250 to MAIL said; 0: none yet */
	unsigned accepted;     /* recipients since MAIL, as far as it was answered */
	unsigned finals;       /* final replies that have come */
	unsigned xclient_due;  /* attributes for the next XCLIENT, */
	unsigned xforward_due; /* and for the next XFORWARD */
	const struct xclient_identity *identity; /* of XCLIENT */
	struct buf text;
};

void smtp_client_init(struct smtp_client *client, struct str hello,
	const struct smtp_client_port *port, void *ctx);
void smtp_client_free(struct smtp_client *client);

/* Bytes from the server; returns how many were taken (complete replies). Bytes that cannot become
 * a reply break the dialogue. The owner's input buffer must hold SMTP_CLIENT_INPUT_MAX. */
#define SMTP_CLIENT_INPUT_MAX (SMTP_REPLY_LINE_MAX * 16)
size_t smtp_client_feed(struct smtp_client *client, struct str bytes);

/* May another command be sent now? */
bool smtp_client_can_send(const struct smtp_client *client);
/* Greeted, no answer is to come, and no part of a reply that nobody asked for has: may be kept for
 * somebody else. What was said before (MAIL without RSET) is for the owner to know. */
bool smtp_client_is_quiet(const struct smtp_client *client);
/* How many commands are not answered yet. */
unsigned smtp_client_pending(const struct smtp_client *client);
/* The oldest of them; only with smtp_client_pending() > 0. */
enum smtp_client_step smtp_client_step(const struct smtp_client *client);

/*
 * STARTTLS, XCLIENT and AUTH: outside of a transaction, with nothing pending; nothing else may be
 * sent before the answer. The commands below them need smtp_client_can_send().
 */

/* The owner starts TLS when it is answered 220 and nothing came behind it (not from inside the
 * answer), then says smtp_client_hello_again(). */
void smtp_client_starttls(struct smtp_client *client);

/* EHLO with this name, which lives until the next is given; what was learned before is forgotten. After
 * STARTTLS, and after XCLIENT with the name of its client. With nothing pending; from inside the
 * answer to XCLIENT as well. */
void smtp_client_hello_again(struct smtp_client *client, struct str hello);

/*
 * XCLIENT with all attributes that the server has announced; `identity` lives until it is answered.
 * False, and nothing is sent: there is none that could be said. Needs SMTP_EXT_XCLIENT.
 *
 * Seldom does it take more than one command; then the answer is that to the last, or the first
 * refusal. After 220 the owner says smtp_client_hello_again(), before which nothing else can be
 * sent; from then on the session is that of this client alone. 421 (but for X.7), 501, 503 and 550
 * are about us, any other refusal is what the server has to say to the client. A refusal leaves the session as it
 * was when smtp_client_can_send() says so, else it is of no more use.
 */
bool smtp_client_xclient(struct smtp_client *client, const struct xclient_identity *identity);

/*
 * AUTH (RFC 4954), whose exchange is the owner's: `line` is "AUTH PLAIN …", or the answer to a 334,
 * possibly empty or "*"; without CR LF, at most SMTP_CLIENT_AUTH_MAX bytes. It goes through
 * `send` as it is, CR LF in a call of its own: no copy is made here. Each reply is an answer to
 * SMTP_CLIENT_AUTH: 334 asks for the next line, any other ends the exchange.
 */
#define SMTP_CLIENT_AUTH_MAX (12288 - 2)
void smtp_client_auth(struct smtp_client *client, struct str line);

/*
 * XFORWARD, before every MAIL, with all attributes that the server has announced. Needs
 * SMTP_EXT_XFORWARD. False: not all fitted into this command; to be called again, with the same
 * identity, when smtp_client_can_send(). Each command has its answer.
 */
bool smtp_client_xforward(struct smtp_client *client, const struct xclient_identity *identity);

/* The envelope in canonical form, with the parameters that the server offers. */
void smtp_client_mail(struct smtp_client *client, const struct transaction *transaction);
void smtp_client_rcpt(struct smtp_client *client, const struct recipient *recipient);

void smtp_client_data(struct smtp_client *client);
/*
 * The message has been sent by the owner; this is the final dot. It has one final reply; with LMTP
 * (RFC 2033 section 4.2) one for each recipient that was answered 2xx, in their order, unless the
 * server says 421 and goes.
 */
void smtp_client_dot(struct smtp_client *client);

/*
 * CHUNKING (RFC 3030), instead of DATA: "BDAT n" or "BDAT n LAST", behind which the owner sends the n
 * bytes, as they are, before anything else; where smtp_client_can_bdat(). Chunks may be sent with the
 * envelope and behind each other; nothing can be sent behind the last until it is answered, as
 * SMTP_CLIENT_DOT above. When a chunk is refused the message is lost: chunks that were sent
 * already are refused as well, the owner sends no more of them, but RSET.
 *
 * With LMTP it takes an accepted recipient, and one chunk at a time: without recipients the last one
 * has no reply at all (RFC 2033 section 4.3), and behind a chunk that was refused nobody says how
 * many it has.
 */
bool smtp_client_can_bdat(const struct smtp_client *client);
void smtp_client_bdat(struct smtp_client *client, size_t n, bool is_last);

void smtp_client_rset(struct smtp_client *client);
void smtp_client_quit(struct smtp_client *client);

/* "banner", "EHLO", "MAIL", … for logs. */
const char *smtp_client_step_word(enum smtp_client_step step);

#endif
