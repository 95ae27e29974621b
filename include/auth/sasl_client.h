/*
 * The client's side of SASL, for credentials of our own at a mail server: PLAIN, LOGIN and
 * SCRAM-SHA-256. No I/O.
 *
 * One exchange: sasl_client_begin, the initial response if the mechanism has one, an answer to each
 * challenge, and sasl_client_check when the server says that we are in. Messages are bytes, before
 * base64, and secret; each is good until the next call.
 */
#ifndef AUTH_SASL_CLIENT_H
#define AUTH_SASL_CLIENT_H

#include <stdbool.h>

#include "auth/sasl.h"
#include "auth/scram_login.h"
#include "base/err.h"
#include "base/str.h"

#define SASL_CLIENT_MESSAGE_MAX SCRAM_LOGIN_MESSAGE_MAX

/* Mechanisms of enum auth_mechanism. */
#define SASL_CLIENT_MECHANISMS (AUTH_PLAIN | AUTH_LOGIN | AUTH_SCRAM_SHA_256)

/* The fields are the functions' own. It points into itself: do not copy it. */
struct sasl_client {
	unsigned mechanism;
	struct sasl_credentials credentials;
	unsigned step; /* messages said */
	bool is_proven;
	struct scram_login scram;
	char password[SASL_PASSWORD_MAX];
	struct str said; /* the last message */
	char message[SASL_CLIENT_MESSAGE_MAX];
};

/* `mechanism` is one of SASL_CLIENT_MECHANISMS. The name and the ring (for SCRAM alone, see there)
 * outlive it; the password is copied. The name is at most SASL_NAME_MAX bytes, the password
 * SASL_PASSWORD_MAX. */
void sasl_client_begin(struct sasl_client *client, unsigned mechanism,
	struct sasl_credentials credentials, struct scram_keyring *ring);

/* The initial response. False: the mechanism has none, the server's challenge comes first. An initial
 * response that is not sent with the command is the answer to the first challenge, an empty one. */
bool sasl_client_initial(struct sasl_client *client, struct str *message);

/* The answer to a challenge. -1: there is none, the exchange must be given up; the words are for the
 * log, and repeat nothing that was said. */
int sasl_client_answer(
	struct sasl_client *client, struct str challenge, struct str *message, struct err *err);

/* The last message, once more. */
struct str sasl_client_said(const struct sasl_client *client);

/* The server says that we are in. -1: it was not asked for what it needs to know that, or it has
 * not proved what it has to. */
int sasl_client_check(const struct sasl_client *client, struct err *err);

/* Wipes it. */
void sasl_client_end(struct sasl_client *client);

#endif
