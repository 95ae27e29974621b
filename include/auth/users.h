/*
 * The service of a users file. One line a user and kind of stored password:
 *
 *	name:hash
 *
 * The hash is one of crypt(3) ($y$, $2b$, $6$) or a SCRAM-SHA-256 verifier (auth/password.h); a
 * user may have a line of each. "!" or "*" in front of the hash locks the user. Empty lines and
 * lines that begin with "#" are skipped. Names are compared as bytes: case counts. At most 16 MiB.
 *
 * Mechanisms follow from the file: PLAIN and LOGIN when it has a user, as each kind of hash answers
 * for a password in clear; SCRAM-SHA-256 and -PLUS when there is a verifier. A user without one
 * fails with SCRAM as one who does not exist, so give all users a verifier or none.
 *
 * Passwords are checked in another process (auth/crypt_worker.h), against a crypt(3) hash if the
 * user has one. An unknown or locked user costs the same check, against the kind and cost that most
 * lines have. The times are equal as far as users' hashes are of one kind and cost; a file of several
 * kinds, or with users that SCRAM leaves out, is a notice in the log.
 */
#ifndef AUTH_USERS_H
#define AUTH_USERS_H

#include <stdint.h>
#include <sys/types.h>

#include "auth/auth.h"
#include "base/err.h"
#include "net/loop.h"

#define AUTH_USERS_FILE_MAX (16 * 1024 * 1024)
#define AUTH_USERS_ATTEMPTS_MAX 16384 /* under way; more get NULL from `begin` */

/*
 * NULL: the file cannot be read, or has mistakes: "path:line: what", the first one, and how many
 * more. One with nobody in it is a notice in the log. The process is started in the loop's first turn,
 * with the rights that we have then; a reload reads the file with those that we have at that time.
 * Free it, by its kind's `free`, before the loop; attempts that are left get no answer.
 */
struct auth_service *auth_users_new(struct loop *loop, const char *path, struct err *err);

/* Only reads the file, as auth_users_new(). */
int auth_users_check(const char *path, struct err *err);

/* Reads the file again. -1, as above, or nobody is in it any more: the users stay as they were.
 * Attempts under way go on. */
int auth_users_reload(struct auth_service *service, struct err *err);

struct auth_users_count {
	size_t users, locked, without_verifier; /* locked ones are not counted among the latter */
	uint64_t checks; /* passwords that the process was asked to check, ever */
	pid_t worker;    /* 0: not running */
};

struct auth_users_count auth_users_counted(const struct auth_service *service);

#endif
