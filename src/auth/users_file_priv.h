/*
 * The users of a file, in memory: all or nothing.
 */
#ifndef AUTH_USERS_FILE_PRIV_H
#define AUTH_USERS_FILE_PRIV_H

#include <stdbool.h>
#include <stddef.h>

#include "auth/scram.h"
#include "base/err.h"
#include "base/str.h"

struct user {
	struct str name;
	struct str crypt, verifier; /* empty: none */
	bool is_locked;
	size_t crypt_line, verifier_line; /* 0: none */
};

struct users_file {
	char *bytes; /* the file; everything else points into it */
	size_t size;
	struct user *users; /* by name */
	size_t count, locked, verifiers;
	/* A hash of the commonest kind and cost, for users that there are not; empty: no users. */
	struct str decoy;
	/* Likewise: what made-up verifiers look like; and what their salts are made from. */
	struct str verifier_decoy;
	struct scram_fake_key fake_key;
};

/* NULL with the first mistake in `err`. */
struct users_file *users_file_read(const char *path, struct err *err);
/* The same with what stands in the file; `path` is for messages. The text is copied. */
struct users_file *users_file_parse(const char *path, struct str text, struct err *err);
void users_file_free(struct users_file **file); /* wipes */

/* NULL: there is none. */
const struct user *users_file_find(const struct users_file *file, struct str name);

#endif
