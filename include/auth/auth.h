/*
 * Authentication of clients (SMTP AUTH, RFC 4954), apart from the dialogue: a service answers SASL
 * exchanges, asynchronously. Three kinds: a users file, a Dovecot auth server, and the mail backend
 * itself (edge/auth_backend). The dialogue sees all of them through this interface, and knows neither
 * mechanisms nor passwords.
 *
 * One attempt: begin → (challenge → respond)* → done. Whatever a client sent is wiped after use and
 * never logged. An unknown user, a wrong password and a disabled account are one and the same
 * result, and take the same time.
 */
#ifndef AUTH_AUTH_H
#define AUTH_AUTH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/ipaddr.h"
#include "base/str.h"

struct connection;

enum auth_mechanism {
	AUTH_PLAIN = 1 << 0,
	AUTH_LOGIN = 1 << 1,
	AUTH_SCRAM_SHA_256 = 1 << 2,
	AUTH_SCRAM_SHA_256_PLUS = 1 << 3,
	AUTH_OAUTHBEARER = 1 << 4,
	AUTH_XOAUTH2 = 1 << 5,
};

/* The mechanism of that name in any case of letters; 0 when there is none. */
unsigned auth_mechanism_find(struct str name);
/* "PLAIN", …; `mechanism` is one bit. */
struct str auth_mechanism_word(unsigned mechanism);

enum auth_result {
	AUTH_OK,
	AUTH_REFUSED,     /* 535: wrong, unknown, disabled, malformed credentials */
	AUTH_MALFORMED,   /* 501: not what the mechanism says */
	AUTH_UNAVAILABLE, /* 454: the service does not answer */
	AUTH_EXPIRED,     /* 534: the password must be changed */
};

/* Who asks, for services that want to know (Dovecot's rip, lip, session, secured). */
struct auth_client {
	struct endpoint remote, local;
	struct str session; /* the connection's uuid */
	bool is_tls;
	struct str tls_sni;
	/* For the service that connects to a mail server on behalf of the client; outlives the
	 * attempt, and what comes of it. */
	const struct connection *connection;
	/* tls-exporter channel binding (RFC 9266) for SCRAM-PLUS, good during the call; empty: none. */
	struct str channel_binding;
};

struct auth_port {
	/* A challenge for the client, not yet in base64. */
	void (*challenge)(void *ctx, struct str bytes);
	/* The attempt is over and must not be used any more. `user` is the name that was
	 * authenticated, with AUTH_OK; with a refusal the name that was tried, where the service
	 * knows it; else empty. A view good during the call. */
	void (*done)(void *ctx, enum auth_result result, struct str user);
	/* Whether even the right password is to be refused to this user now. Asked, at any time,
	 * before something is said that only the right password gets (SCRAM's signature of the
	 * server): if so that is not said, and `done` follows with AUTH_OK, which the owner
	 * refuses. */
	bool (*is_put_off)(void *ctx, struct str user);
};

struct auth_attempt;

struct auth_service {
	const struct auth_service_kind *kind;
};

struct auth_service_kind {
	/* Mechanisms that the service has now, a set; without TLS those that would show a password
	 * are the caller's to leave out. */
	unsigned (*mechanisms)(struct auth_service *service);
	/* `initial` is NULL when the client gave no initial response. Answers come later, from the
	 * loop, never from inside. NULL: too many attempts are under way (AUTH_UNAVAILABLE). */
	struct auth_attempt *(*begin)(struct auth_service *service, unsigned mechanism,
		const struct str *initial, const struct auth_client *client,
		const struct auth_port *port, void *ctx);
	void (*respond)(struct auth_attempt *attempt, struct str bytes);
	/* The client gave up or is gone; no answer follows. */
	void (*cancel)(struct auth_attempt *attempt);
	void (*free)(struct auth_service *service);
};

/* Longest line of an exchange, base64, line end included (RFC 4954 section 4). */
#define AUTH_LINE_MAX 12288

#endif
