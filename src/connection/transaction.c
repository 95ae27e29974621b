#include "connection/transaction.h"

#include "base/assert.h"
#include "base/block.h"
#include "connection/trace.h"

/* What arena_str needs for the final reply: the text, its terminator, and the rounding. */
#define REPLY_ROOM (TRANSACTION_REPLY_MAX + 64)

static void name(struct transaction *transaction, const struct connection *connection)
{
	struct buf uuid = buf_on(transaction->uuid, sizeof(transaction->uuid));

	buf_write(&uuid, str_from(connection->uuid));
	buf_write(&uuid, STR("."));
	buf_write_number(&uuid, connection->tran_count, 0);
	buf_write(&uuid, STR("\0"));
}

struct transaction *transaction_begin(
	struct connection *connection, size_t arena_max, uint64_t now_ms)
{
	ASSERT(connection->transaction == NULL);
	struct transaction *transaction = block_take_zeroed(sizeof(*transaction));

	connection->tran_count++;
	name(transaction, connection);
	arena_init(&transaction->arena, arena_max);
	arena_init(&transaction->candidate_arena, CANDIDATE_ARENA_MAX);
	notes_init(&transaction->notes, &transaction->arena);
	results_init(&transaction->results, &transaction->arena);
	STAILQ_INIT(&transaction->rcpt_to);
	transaction->start_ms = now_ms;
	connection->transaction = transaction;
	return transaction;
}

static void drop(struct connection *connection)
{
	arena_reset(&connection->transaction->candidate_arena);
	arena_reset(&connection->transaction->arena);
	block_give(connection->transaction, sizeof(*connection->transaction));
	connection->transaction = NULL;
}

void transaction_withdraw(struct connection *connection)
{
	struct transaction *transaction = connection->transaction;

	ASSERT(transaction && transaction->outcome == OUTCOME_NONE);
	connection->tran_count--;
	drop(connection);
}

struct recipient *transaction_candidate(struct transaction *transaction)
{
	arena_reset(&transaction->candidate_arena);
	transaction->candidate =
		arena_alloc(&transaction->candidate_arena, sizeof(*transaction->candidate));
	ASSERT(transaction->candidate);
	return transaction->candidate;
}

/* Makes *text a copy in the arena. Empty texts need no memory. */
static bool move_text(struct arena *arena, struct str *text)
{
	return str_is_empty(*text) || arena_str(arena, *text, text);
}

/* A copy in `arena` with all its texts, or NULL. */
static struct recipient *copy_recipient(struct arena *arena, const struct recipient *recipient)
{
	struct recipient *copy = arena_alloc(arena, sizeof(*copy));

	if (copy == NULL)
		return NULL;
	*copy = *recipient;
	bool done = smtp_path_move(&copy->path, arena) && move_text(arena, &copy->params.notify) &&
		    move_text(arena, &copy->params.orcpt);
	return done ? copy : NULL;
}

static void forget_candidate(struct transaction *transaction)
{
	transaction->candidate = NULL;
	arena_reset(&transaction->candidate_arena);
}

bool transaction_accept_candidate(struct connection *connection)
{
	struct transaction *transaction = connection->transaction;

	ASSERT(transaction && transaction->candidate);
	struct recipient *copy = copy_recipient(&transaction->arena, transaction->candidate);
	if (copy == NULL)
		return false;
	STAILQ_INSERT_TAIL(&transaction->rcpt_to, copy, link);
	forget_candidate(transaction);
	transaction->rcpt_count.accept++;
	connection->rcpt_count.accept++;
	return true;
}

void transaction_refuse_candidate(struct connection *connection, bool for_good)
{
	struct transaction *transaction = connection->transaction;

	ASSERT(transaction && transaction->candidate);
	forget_candidate(transaction);
	if (for_good) {
		transaction->rcpt_count.reject++;
		connection->rcpt_count.reject++;
	} else {
		transaction->rcpt_count.tempfail++;
		connection->rcpt_count.tempfail++;
	}
}

static struct str without_line_end(struct str reply)
{
	while (reply.n > 0 && (reply.p[reply.n - 1] == '\n' || reply.p[reply.n - 1] == '\r'))
		reply.n--;
	return str_range(reply, 0, TRANSACTION_REPLY_MAX);
}

/* The arena may be full of what the client sent; the reply must be known all the same. */
static void keep_reply(struct transaction *transaction, struct str reply)
{
	transaction->arena.max += REPLY_ROOM;
	bool done = arena_str(&transaction->arena, without_line_end(reply), &transaction->reply);
	ASSERT(done);
}

/* Which of msg_count an outcome belongs to; NULL for what was no message. */
static uint64_t *message_counter(struct rcpt_count *count, enum outcome outcome)
{
	switch (outcome) {
	case OUTCOME_ACCEPTED:
		return &count->accept;
	case OUTCOME_REFUSED:
		return &count->reject;
	case OUTCOME_DEFERRED:
	case OUTCOME_UNKNOWN:
		return &count->tempfail;
	case OUTCOME_NONE:
	case OUTCOME_ABORTED:
		break;
	}
	return NULL;
}

void transaction_end(struct connection *connection, enum outcome outcome, enum outcome_by by,
	struct str reply, uint64_t now_ms)
{
	struct transaction *transaction = connection->transaction;

	ASSERT(transaction && transaction->outcome == OUTCOME_NONE);
	ASSERT(outcome != OUTCOME_NONE);
	transaction->outcome = outcome;
	transaction->by = by;
	transaction->end_ms = now_ms;
	keep_reply(transaction, reply);
	uint64_t *counter = message_counter(&connection->msg_count, outcome);
	if (counter)
		++*counter;
	trace_transaction(connection);
}

void transaction_free(struct connection *connection)
{
	struct transaction *transaction = connection->transaction;

	if (transaction == NULL)
		return;
	ASSERT(transaction->outcome != OUTCOME_NONE);
	drop(connection);
}

const char *outcome_word(enum outcome outcome)
{
	static const char *const words[] = {
		[OUTCOME_NONE] = "none",
		[OUTCOME_ACCEPTED] = "accepted",
		[OUTCOME_REFUSED] = "refused",
		[OUTCOME_DEFERRED] = "deferred",
		[OUTCOME_ABORTED] = "aborted",
		[OUTCOME_UNKNOWN] = "unknown",
	};

	ASSERT((size_t)outcome < sizeof(words) / sizeof(words[0]));
	return words[outcome];
}

const char *outcome_by_word(enum outcome_by by)
{
	static const char *const words[] = {
		[BY_EDGE] = "edge",
		[BY_BACKEND] = "backend",
		[BY_CLIENT] = "client",
	};

	ASSERT((size_t)by < sizeof(words) / sizeof(words[0]));
	return words[by];
}
