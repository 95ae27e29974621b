#include "example.h"

#include <stdio.h>
#include <string.h>

#define ARENA_MAX 8192

/* Every text of a recipient holds `text`, in the candidate's own arena. */
static void set_candidate(struct transaction *transaction, struct str text)
{
	struct recipient *recipient = transaction_candidate(transaction);
	struct str *const texts[] = { &recipient->path.original, &recipient->path.user,
		&recipient->path.host, &recipient->path.address, &recipient->params.notify,
		&recipient->params.orcpt };

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_true(arena_str(&transaction->candidate_arena, text, texts[i]));
}

static void check_recipient(const struct recipient *recipient, struct str text)
{
	assert_str_equal(recipient->path.original, text);
	assert_str_equal(recipient->path.user, text);
	assert_str_equal(recipient->path.host, text);
	assert_str_equal(recipient->path.address, text);
	assert_str_equal(recipient->params.notify, text);
	assert_str_equal(recipient->params.orcpt, text);
}

static void finish(struct connection *connection)
{
	if (connection->transaction && connection->transaction->outcome == OUTCOME_NONE)
		transaction_end(connection, OUTCOME_ABORTED, BY_CLIENT, STR(""), EXAMPLE_START_MS);
	connection_free(connection);
}

static void test_uuids_count_up(void **state)
{
	struct connection connection;
	char expected[64];

	(void)state;
	example_init(&connection);
	for (int i = 1; i <= 12; i++) {
		struct transaction *transaction =
			transaction_begin(&connection, ARENA_MAX, EXAMPLE_START_MS);

		snprintf(expected, sizeof(expected), "%s.%d", connection.uuid, i);
		assert_string_equal(transaction->uuid, expected);
		assert_ptr_equal(connection.transaction, transaction);
		transaction_end(&connection, OUTCOME_ABORTED, BY_CLIENT, STR(""), EXAMPLE_START_MS);
		transaction_free(&connection);
		assert_null(connection.transaction);
	}
	assert_int_equal(connection.tran_count, 12);
	finish(&connection);
}

static void test_longest_uuid_fits(void **state)
{
	struct connection connection;

	(void)state;
	example_init(&connection);
	connection.tran_count = UINT64_MAX - 1;
	struct transaction *transaction =
		transaction_begin(&connection, ARENA_MAX, EXAMPLE_START_MS);
	assert_string_equal(transaction->uuid + 36, ".18446744073709551615");
	finish(&connection);
}

/* A MAIL that turned out malformed leaves no gap in the numbers. */
static void test_withdraw(void **state)
{
	struct connection connection;

	(void)state;
	example_init(&connection);
	struct transaction *transaction =
		transaction_begin(&connection, ARENA_MAX, EXAMPLE_START_MS);
	arena_alloc(&transaction->arena, 100);
	transaction_withdraw(&connection);
	assert_null(connection.transaction);
	assert_int_equal(connection.tran_count, 0);
	assert_int_equal(connection.msg_count.tempfail + connection.msg_count.reject, 0);
	finish(&connection);
}

static void test_recipients_keep_their_order(void **state)
{
	struct connection connection;
	char text[32];

	(void)state;
	example_init(&connection);
	struct transaction *transaction = transaction_begin(&connection, 65536, EXAMPLE_START_MS);
	for (int i = 0; i < 20; i++) {
		snprintf(text, sizeof(text), "r%d@example.org", i);
		set_candidate(transaction, str_from(text));
		if (i % 2)
			transaction_refuse_candidate(&connection, i % 4 == 1);
		else
			assert_true(transaction_accept_candidate(&connection));
		assert_null(transaction->candidate);
	}
	struct recipient *recipient;
	int i = 0;
	STAILQ_FOREACH(recipient, &transaction->rcpt_to, link)
	{
		snprintf(text, sizeof(text), "r%d@example.org", i);
		check_recipient(recipient, str_from(text));
		i += 2;
	}
	assert_int_equal(i, 20);
	const struct rcpt_count *counts[] = { &transaction->rcpt_count, &connection.rcpt_count };
	for (size_t n = 0; n < 2; n++) {
		assert_int_equal(counts[n]->accept, 10);
		assert_int_equal(counts[n]->reject, 5);
		assert_int_equal(counts[n]->tempfail, 5);
	}
	finish(&connection);
}

/* Refused recipients cost the transaction nothing, however many there are. */
static void test_refused_recipients_leave_nothing(void **state)
{
	struct connection connection;

	(void)state;
	example_init(&connection);
	struct transaction *transaction =
		transaction_begin(&connection, ARENA_MAX, EXAMPLE_START_MS);
	for (int i = 0; i < 10000; i++) {
		set_candidate(transaction, STR("nobody@example.org"));
		transaction_refuse_candidate(&connection, true);
	}
	assert_int_equal(transaction->arena.used, 0);
	assert_null(transaction->candidate_arena.blocks);
	finish(&connection);
}

static void test_accept_without_room(void **state)
{
	struct connection connection;

	(void)state;
	for (size_t max = 0; max < 2 * sizeof(struct recipient); max += 16) {
		example_init(&connection);
		struct transaction *transaction =
			transaction_begin(&connection, max, EXAMPLE_START_MS);
		set_candidate(transaction, STR("a-rather-long-local-part@example.org"));
		bool done = transaction_accept_candidate(&connection);
		assert_int_equal(transaction->candidate == NULL, done);
		assert_int_equal(transaction->rcpt_count.accept, done);
		assert_int_equal(STAILQ_EMPTY(&transaction->rcpt_to), !done);
		finish(&connection);
	}
}

static void test_outcomes_are_counted(void **state)
{
	static const struct {
		enum outcome outcome;
		const char *word;
		struct rcpt_count count;
	} rows[] = {
		{ OUTCOME_ACCEPTED, "accepted", { .accept = 1 } },
		{ OUTCOME_REFUSED, "refused", { .reject = 1 } },
		{ OUTCOME_DEFERRED, "deferred", { .tempfail = 1 } },
		{ OUTCOME_UNKNOWN, "unknown", { .tempfail = 1 } },
		{ OUTCOME_ABORTED, "aborted", { 0 } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct connection connection;

		example_init(&connection);
		struct transaction *transaction =
			transaction_begin(&connection, ARENA_MAX, EXAMPLE_START_MS);
		transaction_end(&connection, rows[i].outcome, BY_BACKEND, STR("x"), 2000);
		assert_int_equal(transaction->outcome, rows[i].outcome);
		assert_int_equal(transaction->by, BY_BACKEND);
		assert_int_equal(transaction->end_ms, 2000);
		assert_string_equal(outcome_word(rows[i].outcome), rows[i].word);
		assert_memory_equal(&connection.msg_count, &rows[i].count, sizeof(rows[i].count));
		finish(&connection);
	}
	assert_string_equal(outcome_by_word(BY_EDGE), "edge");
	assert_string_equal(outcome_by_word(BY_BACKEND), "backend");
	assert_string_equal(outcome_by_word(BY_CLIENT), "client");
}

static void test_final_reply(void **state)
{
	static char long_text[2000];
	const struct {
		struct str given, kept;
	} rows[] = {
		{ STR("250 2.0.0 Ok\r\n"), STR("250 2.0.0 Ok") },
		{ STR("250-a\r\n250 b\r\n"), STR("250-a\r\n250 b") },
		{ STR("250 b"), STR("250 b") },
		{ STR("\r\n"), STR("") },
		{ STR(""), STR("") },
		{ str_make(long_text, 512), str_make(long_text, 512) },
		{ str_make(long_text, 513), str_make(long_text, 512) },
		{ str_make(long_text, 2000), str_make(long_text, 512) },
	};

	(void)state;
	memset(long_text, 'x', sizeof(long_text));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct connection connection;

		example_init(&connection);
		struct transaction *transaction =
			transaction_begin(&connection, ARENA_MAX, EXAMPLE_START_MS);
		example_exhaust(&transaction->arena); /* a full arena does not matter */
		transaction_end(&connection, OUTCOME_REFUSED, BY_EDGE, rows[i].given, 2000);
		assert_str_equal(transaction->reply, rows[i].kept);
		finish(&connection);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_uuids_count_up),
		cmocka_unit_test(test_longest_uuid_fits),
		cmocka_unit_test(test_withdraw),
		cmocka_unit_test(test_recipients_keep_their_order),
		cmocka_unit_test(test_refused_recipients_leave_nothing),
		cmocka_unit_test(test_accept_without_room),
		cmocka_unit_test(test_outcomes_are_counted),
		cmocka_unit_test(test_final_reply),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
