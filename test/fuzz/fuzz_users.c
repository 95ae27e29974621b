/*
 * A users file of any bytes. What must hold: it is taken whole, or its mistake names the line; each
 * user of it is found, with hashes that can be checked; a verifier that is printed is read as the
 * same; and the counts are those of the users.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/auth/users_file_priv.h"
#include "auth/password.h"
#include "auth/sasl.h"
#include "base/assert.h"
#include "base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Notices of each input are not wanted. */
static void be_quiet(void)
{
	static bool is_quiet;

	if (!is_quiet)
		log_open("stderr", LOG_FORMAT_JSON, LOG_ERROR_LEVEL, "mx", NULL);
	is_quiet = true;
}

static void check_verifier(struct str text)
{
	struct scram_verifier verifier, again;
	char printed[SCRAM_VERIFIER_TEXT_MAX];

	ASSERT(scram_verifier_parse(text, &verifier, NULL) == 0);
	size_t n = scram_verifier_print(&verifier, printed);
	ASSERT(scram_verifier_parse(str_make(printed, n), &again, NULL) == 0);
	ASSERT(memcmp(&verifier, &again, sizeof(again)) == 0);
}

static void check_user(const struct users_file *file, const struct user *user)
{
	struct password_cost cost;

	ASSERT(users_file_find(file, user->name) == user);
	ASSERT(user->name.n > 0 && user->name.n <= SASL_NAME_MAX && sasl_is_text(user->name));
	ASSERT(user->is_locked || user->crypt.n + user->verifier.n > 0);
	if (user->crypt.n > 0)
		ASSERT(password_hash_look(user->crypt, &cost, NULL) == 0 &&
			cost.method != PASSWORD_SCRAM);
	if (user->verifier.n > 0)
		check_verifier(user->verifier);
}

static void check(const struct users_file *file)
{
	size_t locked = 0, verifiers = 0, checked = 0;
	struct password_cost cost;
	struct scram_verifier like;

	for (size_t i = 0; i < file->count; i++) {
		const struct user *user = &file->users[i];
		check_user(file, user);
		locked += user->is_locked;
		verifiers += !user->is_locked && user->verifier.n > 0;
		checked += user->crypt.n + user->verifier.n > 0;
	}
	ASSERT(locked == file->locked && verifiers == file->verifiers);
	ASSERT((checked > 0) == (file->decoy.n > 0));
	ASSERT(file->decoy.n == 0 || password_hash_look(file->decoy, &cost, NULL) == 0);
	ASSERT(verifiers == 0 || scram_verifier_parse(file->verifier_decoy, &like, NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err = { "" };

	be_quiet();
	struct users_file *file =
		users_file_parse("users", str_make((const char *)data, size), &err);
	if (file != NULL)
		check(file);
	else
		ASSERT(strncmp(err.text, "users:", 6) == 0);
	users_file_free(&file);
	return 0;
}
