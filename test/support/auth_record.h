/*
 * The owner of an attempt, for tests: keeps what the service says, and checks the contract: each
 * `begin` and `respond` is answered once, from the loop and never from inside; after `done` nothing
 * follows.
 */
#ifndef TEST_SUPPORT_AUTH_RECORD_H
#define TEST_SUPPORT_AUTH_RECORD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

#include "auth/auth.h"
#include "support/loop_run.h"

struct auth_record {
	struct loop *loop;
	struct auth_service *service;
	struct auth_attempt *attempt; /* NULL after `done` */
	bool is_put_off;              /* the user is: set it while the exchange is under way */
	bool is_inside, is_owed, is_answered, is_done;
	unsigned answers;
	enum auth_result result;
	char user[512], challenge[16384];
	size_t user_n, challenge_n;
};

static inline void auth_record_answered(struct auth_record *record)
{
	assert_false(record->is_inside);
	assert_true(record->is_owed);
	record->is_owed = false;
	record->is_answered = true;
	record->answers++;
}

static inline void auth_record_challenge(void *ctx, struct str bytes)
{
	struct auth_record *record = ctx;

	auth_record_answered(record);
	assert_true(bytes.n <= sizeof(record->challenge));
	if (bytes.n > 0)
		memcpy(record->challenge, bytes.p, bytes.n);
	record->challenge_n = bytes.n;
}

static inline void auth_record_done(void *ctx, enum auth_result result, struct str user)
{
	struct auth_record *record = ctx;

	auth_record_answered(record);
	assert_true(user.n <= sizeof(record->user));
	assert_true(result != AUTH_UNAVAILABLE || user.n == 0);
	if (user.n > 0)
		memcpy(record->user, user.p, user.n);
	record->user_n = user.n;
	record->result = result;
	record->attempt = NULL;
	record->is_done = true;
}

static inline bool auth_record_is_put_off(void *ctx, struct str user)
{
	const struct auth_record *record = ctx;

	assert_true(user.n > 0);
	return record->is_put_off;
}

static const struct auth_port auth_record_port = {
	.challenge = auth_record_challenge,
	.done = auth_record_done,
	.is_put_off = auth_record_is_put_off,
};

static inline void auth_record_begin(struct auth_record *record, struct loop *loop,
	struct auth_service *service, unsigned mechanism, const struct str *initial,
	const struct auth_client *client)
{
	*record = (struct auth_record){ .loop = loop, .service = service };
	record->is_inside = record->is_owed = true;
	record->attempt = service->kind->begin(
		service, mechanism, initial, client, &auth_record_port, record);
	record->is_inside = false;
}

static inline void auth_record_respond(struct auth_record *record, struct str bytes)
{
	assert_non_null(record->attempt);
	record->is_inside = record->is_owed = true;
	record->is_answered = false;
	record->service->kind->respond(record->attempt, bytes);
	record->is_inside = false;
}

static inline void auth_record_cancel(struct auth_record *record)
{
	record->service->kind->cancel(record->attempt);
	record->attempt = NULL;
	record->is_owed = false; /* an answer now fails */
}

/* The answer to the last call. */
static inline void auth_record_wait(struct auth_record *record)
{
	assert_true(loop_run_until(record->loop, &record->is_answered));
}

static inline struct str auth_record_challenged(struct auth_record *record)
{
	auth_record_wait(record);
	assert_false(record->is_done);
	return str_make(record->challenge, record->challenge_n);
}

static inline enum auth_result auth_record_result(struct auth_record *record)
{
	auth_record_wait(record);
	assert_true(record->is_done);
	return record->result;
}

static inline struct str auth_record_user(const struct auth_record *record)
{
	return str_make(record->user, record->user_n);
}

#endif
