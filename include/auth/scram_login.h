/*
 * SCRAM-SHA-256, the client's side (RFC 5802, RFC 7677), for credentials of our own. Without channel
 * binding. No I/O.
 *
 *	scram_login_begin → scram_login_first → scram_login_final → scram_login_verify → scram_login_end
 *
 * The server's nonce must begin with ours, and in the end it must have proved that it knows the
 * verifier: else somebody else has answered.
 */
#ifndef AUTH_SCRAM_LOGIN_H
#define AUTH_SCRAM_LOGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "auth/sasl.h"
#include "auth/scram.h"
#include "base/err.h"
#include "base/str.h"

/* More than this would hold the event loop up: some ten milliseconds. */
#define SCRAM_LOGIN_ITERATIONS_MAX 100000
/* Longest nonce of both sides together that is taken. */
#define SCRAM_LOGIN_NONCE_MAX 512
#define SCRAM_LOGIN_MESSAGE_MAX 1280

/*
 * What is slow to make of a password, for each salt that a server has shown (RFC 5802 section 5.1
 * allows to keep it): the servers of a backend have one or a few. As secret as the password, and
 * worth nothing with another one: wiped with it.
 */
#define SCRAM_KEYRING_SIZE 4
struct scram_keyring {
	struct scram_keys {
		unsigned iterations; /* 0: empty */
		uint8_t salt[SCRAM_SALT_MAX];
		size_t salt_n;
		uint8_t client_key[SCRAM_HASH_SIZE], server_key[SCRAM_HASH_SIZE];
	} keys[SCRAM_KEYRING_SIZE];
	unsigned next;
	unsigned passwords; /* that there were: what was begun with an earlier one is not kept */
};

/* There is another password, or none any more. */
void scram_keyring_wipe(struct scram_keyring *ring);

/* The fields are the functions' own. It points into itself: do not copy it. */
struct scram_login {
	struct sasl_credentials credentials;
	struct scram_keyring *ring;
	unsigned passwords; /* of the ring, at the beginning */
	char nonce[SCRAM_NONCE_MAX];
	size_t nonce_n;
	char message[SCRAM_LOGIN_MESSAGE_MAX];
	size_t message_n;
	char first[SCRAM_LOGIN_MESSAGE_MAX];
	struct str first_bare; /* in `first` */
	uint8_t signature[SCRAM_HASH_SIZE];
};

/* The credentials and the ring outlive it; the password fits to the ring. `nonce` is as for
 * scram_begin(). */
void scram_login_begin(struct scram_login *login, struct sasl_credentials credentials,
	struct scram_keyring *ring, struct str nonce);

/* The client's first message; good until the next call. */
struct str scram_login_first(struct scram_login *login);

/* The server's first message in, the client's last out, likewise. -1: it is none that could be
 * answered; the words repeat nothing of it. */
int scram_login_final(
	struct scram_login *login, struct str server_first, struct str *message, struct err *err);

/* Does the server's last message prove that it knows the verifier? */
bool scram_login_verify(const struct scram_login *login, struct str server_final);

/* Wipes it. */
void scram_login_end(struct scram_login *login);

#endif
