/*
 * SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the server's side (RFC 5802, RFC 7677), from stored
 * verifiers: the server never holds a password, and a stolen verifier does not log in. No I/O.
 *
 * Channel binding is tls-exporter (RFC 9266) alone.
 *
 * One exchange:
 *
 *	scram_begin → scram_client_first → scram_server_first → scram_client_final → scram_end
 *
 * The verifier of a name that does not exist is made up (scram_verifier_fake): the client sees the
 * same exchange, which fails at its end.
 */
#ifndef AUTH_SCRAM_H
#define AUTH_SCRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "auth/auth.h"
#include "auth/sasl.h"
#include "base/err.h"
#include "base/str.h"

#define SCRAM_HASH_SIZE 32
#define SCRAM_SALT_MAX 64
#define SCRAM_ITERATIONS_MIN 4096 /* RFC 7677 section 4 */
#define SCRAM_ITERATIONS_MAX 1000000
#define SCRAM_VERIFIER_TEXT_MAX 256 /* characters of a printed one, terminator included */

/* ---- Verifiers ---- */

struct scram_verifier {
	unsigned iterations;
	uint8_t salt[SCRAM_SALT_MAX];
	size_t salt_n;
	uint8_t stored_key[SCRAM_HASH_SIZE], server_key[SCRAM_HASH_SIZE];
};

/* Does it look like one (and not like a hash of crypt(3))? */
bool scram_verifier_is(struct str text);

/*
 * Two forms, all but the number in base64:
 *	{SCRAM-SHA-256}iterations,salt,StoredKey,ServerKey	Dovecot
 *	SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey	PostgreSQL
 */
int scram_verifier_parse(struct str text, struct scram_verifier *verifier, struct err *err);

/* In Dovecot's form, terminated. Returns its length. */
size_t scram_verifier_print(
	const struct scram_verifier *verifier, char out[SCRAM_VERIFIER_TEXT_MAX]);

/* From a password; takes some milliseconds for each 10,000 iterations. */
void scram_verifier_make(
	struct str password, struct str salt, unsigned iterations, struct scram_verifier *verifier);

/* Whether it is that of the password; takes as long as making one. */
bool scram_verifier_matches(const struct scram_verifier *verifier, struct str password);

struct scram_fake_key {
	uint8_t bytes[SCRAM_HASH_SIZE];
};

/* The same one each time for the same secret, which it does not tell. */
struct scram_fake_key scram_fake_key_from(struct str secret);

/* The same one each time for the same key and name, with the salt's length and the iterations of
 * `like`; no password belongs to it. */
void scram_verifier_fake(const struct scram_fake_key *key, struct str name,
	const struct scram_verifier *like, struct scram_verifier *verifier);

/* ---- The exchange ---- */

#define SCRAM_BINDING_MAX 64
#define SCRAM_CLIENT_FIRST_MAX 1280 /* of a client's first message; longer ones are malformed */
#define SCRAM_CLIENT_NONCE_MAX 256
#define SCRAM_NONCE_MAX 32  /* of ours */
#define SCRAM_NONCE_SIZE 24 /* of those that scram_nonce_make makes */
#define SCRAM_SERVER_MESSAGE_MAX 512

/* The fields are the functions' own. It points into itself: do not copy it. */
struct scram {
	bool is_plus;
	char binding[SCRAM_BINDING_MAX];
	size_t binding_n;
	char own_nonce[SCRAM_NONCE_MAX];
	size_t own_nonce_n;
	char first[SCRAM_CLIENT_FIRST_MAX];
	struct str gs2_header, first_bare, client_nonce; /* in `first` */
	char name[SASL_NAME_MAX];
	size_t name_n;
	struct scram_verifier verifier;
	char message[SCRAM_SERVER_MESSAGE_MAX]; /* the last one of ours */
	size_t message_n;
};

/* Random and printable. */
void scram_nonce_make(char out[SCRAM_NONCE_SIZE]);

/*
 * `nonce` is printable, without commas, and a fresh one each time. `binding` is that of the client's
 * TLS connection, or empty; it must be given exactly when -PLUS was offered, as a client that says it
 * was not ("y") has been lied to and is refused.
 */
void scram_begin(struct scram *scram, bool is_plus, struct str binding, struct str nonce);

/* AUTH_OK: the client says that it is scram_name(). */
enum auth_result scram_client_first(struct scram *scram, struct str message);
struct str scram_name(const struct scram *scram);

/* The challenge for that name. The view is good until the next call. */
struct str scram_server_first(struct scram *scram, const struct scram_verifier *verifier);

/* AUTH_OK: the client knows the password; *server_final, to be sent, proves that we know the
 * verifier. The view is good until scram_end. */
enum auth_result scram_client_final(
	struct scram *scram, struct str message, struct str *server_final);

/* Wipes. Allowed at any time after scram_begin, also twice. */
void scram_end(struct scram *scram);

#endif
