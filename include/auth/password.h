/*
 * Stored passwords: hashes of crypt(3), and SCRAM verifiers, which serve for passwords in clear as
 * well. Checking and making are meant to be slow (some ten milliseconds): never on the event loop,
 * see auth/crypt_worker.h.
 *
 * Passwords are at most SASL_PASSWORD_MAX bytes, without NUL.
 */
#ifndef AUTH_PASSWORD_H
#define AUTH_PASSWORD_H

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"

enum password_method {
	PASSWORD_YESCRYPT, /* $y$ */
	PASSWORD_BCRYPT, /* $2b$, and $2y$, as htpasswd(1) writes it; 72 bytes of a password count */
	PASSWORD_SHA512, /* $6$ */
	PASSWORD_SCRAM,  /* both forms of auth/scram.h */
};

#define PASSWORD_HASH_MAX 383 /* characters of a stored password */

/* What decides how long a check takes. */
struct password_cost {
	enum password_method method;
	struct str parameters; /* as they are written; a view into the hash */
};

/*
 * Is this the whole of a hash that we can check? Fills *cost. -1: what is wrong, in words that do
 * not repeat the hash.
 */
int password_hash_look(struct str hash, struct password_cost *cost, struct err *err);

/* Takes time. False as well for a hash that is none. */
bool password_matches(struct str hash, struct str password);

/* The method of that name ("yescrypt", "bcrypt", "sha512", "scram"). False: there is none. */
bool password_method_find(struct str name, enum password_method *method);

/*
 * Makes a hash with a fresh salt, terminated; takes time. -1: the password cannot be one (empty,
 * too long, control characters, not UTF-8; beyond what bcrypt looks at).
 */
int password_hash_make(enum password_method method, struct str password,
	char out[PASSWORD_HASH_MAX + 1], struct err *err);

#endif
