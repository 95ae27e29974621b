/*
 * The dialogue with a backend server, as a machine without I/O: the server's bytes come in, our
 * commands go out through the port, each answered in order. It greets by itself (banner, EHLO, and
 * HELO when EHLO is refused); what follows is sent by its owner when smtp_client_can_send().
 *
 * With PIPELINING several commands may be under way, without it one. A reply that nobody asked
 * for, or bytes behind the reply that ends a group (RFC 2920), break the dialogue: they are never
 * taken for the answer to something sent later.
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

/* Most commands under way at a time. */
#define SMTP_CLIENT_WINDOW 32

/* What a reply answers. */
enum smtp_client_step {
	SMTP_CLIENT_BANNER,
	SMTP_CLIENT_EHLO,
	SMTP_CLIENT_HELO,
	SMTP_CLIENT_STARTTLS,
	SMTP_CLIENT_MAIL,
	SMTP_CLIENT_RCPT,
	SMTP_CLIENT_DATA,
	SMTP_CLIENT_DOT,
	SMTP_CLIENT_RSET,
	SMTP_CLIENT_QUIT,
};

struct smtp_client_port {
	void (*send)(void *ctx, struct str bytes);
	/* A reply, in the order of the commands; good during the call. For the greeting only its
	 * result is told: EHLO or HELO with a 2xx (ready; capabilities are set), or the refusal. */
	void (*answered)(void *ctx, enum smtp_client_step step, const struct smtp_reply *reply);
	/* The dialogue is broken: a malformed reply, or one that nobody asked for (then `reply` is
	 * it, e.g. a 421). Nothing more may be sent or fed. */
	void (*broken)(void *ctx, const char *why, const struct smtp_reply *reply);
};

struct smtp_client {
	const struct smtp_client_port *port;
	void *ctx;
	struct str hello; /* our name in EHLO; lives as long as the client */
	struct smtp_capabilities capabilities;
	bool is_ready; /* greeted */

	/* For smtp/client.c. */
	bool is_broken;
	bool is_early; /* the reply that is coming in began before anything asked for it */
	uint8_t pending[SMTP_CLIENT_WINDOW]; /* ring of enum smtp_client_step */
	uint8_t first, count;
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
/* How many answers are still to come. */
unsigned smtp_client_pending(const struct smtp_client *client);
/* What the oldest of them answers; only with smtp_client_pending() > 0. */
enum smtp_client_step smtp_client_step(const struct smtp_client *client);

/* The envelope in canonical form, with the parameters that the server offers. */
/* Before anything else: the owner starts TLS when it is answered 220 and nothing came behind it
 * (not from inside the answer), then says smtp_client_hello_again(): what was learned before is
 * forgotten. */
void smtp_client_starttls(struct smtp_client *client);
void smtp_client_hello_again(struct smtp_client *client);

void smtp_client_mail(struct smtp_client *client, const struct transaction *transaction);
void smtp_client_rcpt(struct smtp_client *client, const struct recipient *recipient);
void smtp_client_data(struct smtp_client *client);
/* The message has been sent by the owner; this is the final dot. */
void smtp_client_dot(struct smtp_client *client);
void smtp_client_rset(struct smtp_client *client);
void smtp_client_quit(struct smtp_client *client);

/* "banner", "EHLO", "MAIL", … for logs. */
const char *smtp_client_step_word(enum smtp_client_step step);

#endif
