/*
 * The message: goes to the server while it comes in, and is kept as far as it fits, so that another
 * server can take the place of one that is lost before the final dot. After the dot nothing is done
 * twice.
 *
 * Two ways: DATA, as it comes in canonical form; and BDAT, in chunks that are gathered here, without
 * the transparency dots. With BDAT the client has its 354 before the server has anything.
 */
#include "base/assert.h"
#include "base/block.h"
#include "base/log.h"
#include "forward_priv.h"
#include "proto/dot.h"

/* How long servers are tried for a message that is on its way. Once the client has sent all of it this
 * is not begun anew: the answer comes within `backend_final`, whatever happens before it. */
#define SAVE_BUDGET_MS 110000
/* Meanwhile the message is not read, and its end may have come: all such servers and the answer together
 * must take no longer than clients wait (10 minutes, RFC 5321 section 4.5.3.2.6). */
#define CLIENT_WAITS_MS 595000
#define SAVE_BUDGET_MIN_MS 5000
/* A chunk goes out when it has grown so far. */
#define CHUNK_GOOD (CHUNK_MAX / 2)

bool message_is_here(const struct forward *forward)
{
	return forward->message != MESSAGE_NONE;
}

/* ---- Out -------------------------------------------------------------------------------------- */

/* May bytes be given to this server now? */
static bool is_open(const struct forward *forward)
{
	return forward->link != NULL && forward->data_is_accepted && !forward->dot_is_sent;
}

static void push(struct forward *forward, struct str bytes)
{
	size_t taken = stream_push(&forward->link->stream, bytes);

	ASSERT(taken == bytes.n);
}

static void send_chunk(struct forward *forward, bool is_last)
{
	struct buf *chunk = &forward->chunk;

	smtp_client_bdat(&forward->link->client, buf_used(chunk), is_last);
	push(forward, buf_view(chunk));
	buf_truncate(chunk, 0);
	buf_release(chunk);
}

static bool can_send_chunk(const struct forward *forward)
{
	return smtp_client_can_bdat(&forward->link->client) &&
	       link_room(forward->link) >= buf_used(&forward->chunk);
}

/* How many bytes can be given to the server now. */
static size_t room_at_server(const struct forward *forward)
{
	size_t room = link_room(forward->link);

	if (!forward->is_chunked)
		return room;
	if (!smtp_client_can_bdat(&forward->link->client))
		return 0;
	size_t chunk = buf_room(&forward->chunk);
	size_t used = buf_used(&forward->chunk);
	if (room <= used)
		return 0;
	return chunk < room - used ? chunk : room - used;
}

/* Bytes in canonical form, not more than there is room for. */
static void give(struct forward *forward, struct str bytes)
{
	if (!forward->is_chunked) {
		push(forward, bytes);
		return;
	}
	dot_strip(&forward->chunk_at_line_start, bytes, &forward->chunk);
	if (buf_used(&forward->chunk) >= CHUNK_GOOD && can_send_chunk(forward))
		send_chunk(forward, false);
	else if (!forward->replay.is_whole)
		task_defer(&forward->chunk_task, forward->env->loop);
}

/* A message too large to be kept is not held back either: memory is not what the client's pause
 * costs. */
static void send_gathered(void *ctx)
{
	struct forward *forward = ctx;

	if (is_open(forward) && buf_used(&forward->chunk) > 0 && can_send_chunk(forward))
		send_chunk(forward, false);
}

/* The last chunk waits for the answers to the others: one that nobody had asked for, or the refusal of a
 * chunk, is then not taken for the answer to the whole. */
static bool can_send_end(const struct forward *forward)
{
	if (!forward->is_chunked)
		return true;
	return smtp_client_pending(&forward->link->client) == 0 && can_send_chunk(forward);
}

static void send_end(struct forward *forward)
{
	if (!can_send_end(forward))
		return; /* in a later turn */
	forward->dot_is_sent = true;
	link_limit(forward->link, forward->final_by_ms);
	if (forward->is_chunked)
		send_chunk(forward, true);
	else
		smtp_client_dot(&forward->link->client);
	link_expect(forward->link, forward->env->timeouts->final);
}

/* What this server has not got of what is kept: all of it, when it takes another's place. */
static void give_kept(struct forward *forward)
{
	struct str kept = buf_view(&forward->replay.bytes);

	while (forward->kept_due > 0) {
		size_t room = room_at_server(forward);
		size_t n = forward->kept_due < room ? forward->kept_due : room;
		if (n == 0)
			return;
		give(forward, str_range(kept, kept.n - forward->kept_due,
				      kept.n - forward->kept_due + n));
		forward->kept_due -= n;
	}
}

/* As long as the client sends, the server may take as long as it takes the message at all. */
static void watch_server(struct forward *forward)
{
	bool is_awaited = forward->want == WANT_FINAL || forward->is_searching;

	link_limit(forward->link, is_awaited ? forward->answer_by_ms : 0);
	link_watch(forward->link, forward->env->timeouts->data);
}

/* The server has got all that the one before it had: the client is heard again. */
static void end_search(struct forward *forward)
{
	if (!forward->is_searching)
		return;
	forward->is_searching = false;
	watch_server(forward);
}

void message_go_on(struct forward *forward)
{
	if (!is_open(forward))
		return;
	give_kept(forward);
	if (forward->kept_due > 0)
		return;
	end_search(forward);
	if (forward->is_chunked && !forward->replay.is_whole)
		send_gathered(forward); /* had to wait for answers to others */
	if (forward->message == MESSAGE_WHOLE)
		send_end(forward);
	else if (message_room(forward) > 0)
		forward->port->room(forward->ctx);
}

void message_accepted(struct forward *forward)
{
	forward->data_is_accepted = true;
	forward->chunk_at_line_start = true;
	buf_truncate(&forward->chunk, 0);
	watch_server(forward);
	if (forward->message == MESSAGE_NONE) {
		forward->message = MESSAGE_OPEN;
		forward->kept_due = 0;
		return;
	}
	forward->is_taken_over = true;
	forward->kept_due = buf_used(&forward->replay.bytes);
	message_go_on(forward);
}

/* A server that takes chunks has accepted recipients; another one has said 354 already. */
static void open_message(void *ctx)
{
	struct forward *forward = ctx;
	struct smtp_answer go_on = { .own = REPLY_START_DATA, .by = BY_EDGE };

	if (forward->link == NULL || !forward->data_is_sent || forward->data_is_accepted)
		return;
	message_accepted(forward);
	if (forward->want == WANT_DATA)
		forward_answer(forward, &go_on);
}

void message_open_later(struct forward *forward)
{
	task_defer(&forward->open_task, forward->env->loop);
}

/* ---- In --------------------------------------------------------------------------------------- */

size_t message_room(const struct forward *forward)
{
	if (!is_open(forward) || forward->kept_due > 0)
		return 0;
	return room_at_server(forward);
}

void message_add(struct forward *forward, struct str bytes)
{
	ASSERT(forward->message == MESSAGE_OPEN && is_open(forward));
	replay_add(&forward->replay, bytes);
	give(forward, bytes);
}

void message_end(struct forward *forward)
{
	uint64_t now = loop_now_ms(forward->env->loop);
	uint64_t final_ms = forward->env->timeouts->final;

	ASSERT(forward->message == MESSAGE_OPEN);
	forward->message = MESSAGE_WHOLE;
	forward->is_searching = false;
	forward->final_by_ms = now + final_ms;
	forward->answer_by_ms = now + (final_ms < SAVE_BUDGET_MS ? final_ms : SAVE_BUDGET_MS);
	if (is_open(forward))
		watch_server(forward);
	else if (forward->link != NULL)
		link_limit(forward->link, forward->answer_by_ms);
	message_go_on(forward);
}

void message_init(struct forward *forward)
{
	replay_init(&forward->replay, forward->env->replays);
	buf_init(&forward->chunk, CHUNK_MAX);
	task_init(&forward->chunk_task, send_gathered, forward);
	task_init(&forward->open_task, open_message, forward);
}

void message_begin(struct forward *forward)
{
	replay_begin(&forward->replay, (size_t)forward->destination->settings->replay_buffer);
}

static void forget_finals(struct forward *forward)
{
	if (forward->finals == NULL)
		return;
	merge_free(forward->finals);
	block_give(forward->finals, sizeof(*forward->finals));
	forward->finals = NULL;
}

void message_forget(struct forward *forward)
{
	forward->message = MESSAGE_NONE;
	forward->kept_due = 0;
	forward->is_searching = false;
	replay_begin(&forward->replay, 0);
	buf_free(&forward->chunk);
	forget_finals(forward);
	task_cancel(&forward->chunk_task, forward->env->loop);
	task_cancel(&forward->open_task, forward->env->loop);
}

/* ---- When the server is lost ------------------------------------------------------------------ */

bool message_can_be_saved(const struct forward *forward)
{
	return forward->replay.is_whole && !forward->dot_is_sent;
}

void message_lost(struct forward *forward, const struct smtp_answer *answer)
{
	bool is_awaited = forward->want == WANT_FINAL;

	message_forget(forward);
	if (is_awaited)
		forward_answer(forward, answer);
	else
		forward->port->body_lost(forward->ctx, answer);
}

static uint64_t save_budget_ms(const struct forward *forward)
{
	uint64_t final_ms = forward->env->timeouts->final;

	if (final_ms + SAVE_BUDGET_MS <= CLIENT_WAITS_MS)
		return SAVE_BUDGET_MS;
	if (final_ms + SAVE_BUDGET_MIN_MS >= CLIENT_WAITS_MS)
		return SAVE_BUDGET_MIN_MS;
	return CLIENT_WAITS_MS - final_ms;
}

/* Another server, in the time that the client has left. */
void message_save(struct forward *forward)
{
	if (forward->want != WANT_FINAL && !forward->is_searching)
		forward->answer_by_ms = loop_now_ms(forward->env->loop) + save_budget_ms(forward);
	forward->is_searching = true;
	buf_truncate(&forward->chunk, 0);
	task_cancel(&forward->chunk_task, forward->env->loop);
}

/* Who has the message and who has not: when they are told apart, and the client cannot be told. */
static void log_partly_delivered(const struct forward *forward)
{
	const struct merge *finals = forward->finals;

	LOG(PARTLY_DELIVERED, log_text("uuid", forward->connection->transaction->uuid),
		log_str("backend", forward->destination->settings->name),
		log_str("server", forward->connection->transaction->server),
		log_str("delivered", buf_view(&finals->delivered_list)),
		log_str("refused", buf_view(&finals->refused_list)),
		log_str("unknown", buf_view(&finals->unknown_list)));
}

/* The accepted recipient whose final reply is next; NULL behind the last. */
static const struct recipient *next_final(const struct forward *forward)
{
	return envelope_recipient(forward->connection->transaction, forward->finals->count);
}

/* Those that have no reply. */
static void end_finals(struct forward *forward)
{
	const struct recipient *recipient = next_final(forward);

	for (; recipient != NULL; recipient = STAILQ_NEXT(recipient, link))
		merge_add_unknown(forward->finals, recipient->path.address);
}

void message_unknown(struct forward *forward, const char *why)
{
	struct smtp_answer unknown = { .own = REPLY_OUTCOME_UNKNOWN, .by = BY_BACKEND };

	LOG(OUTCOME_UNKNOWN, log_text("uuid", forward->connection->transaction->uuid),
		log_str("backend", forward->destination->settings->name),
		log_str("server", forward->connection->transaction->server),
		log_text("error", why));
	if (forward->finals != NULL && forward->finals->delivered > 0) {
		end_finals(forward);
		log_partly_delivered(forward);
	}
	message_forget(forward);
	forward_answer(forward, &unknown);
}

/* ---- The answer to the whole ------------------------------------------------------------------ */

/* A chunk that is refused: so is the message. */
void message_chunk_answered(struct forward *forward, const struct smtp_reply *reply)
{
	struct answer verdict;

	forward_judge(forward, SMTP_CLIENT_DOT, reply, &verdict);
	if (smtp_reply_class(reply) == 2)
		return;
	if (forward_is_useless(forward, &verdict, SMTP_CLIENT_BDAT))
		return;
	if (verdict.blames_us)
		forward_alarm(forward, SMTP_CLIENT_BDAT, reply);
	if (forward->is_taken_over && message_can_be_saved(forward)) {
		forward_server_lost(forward, SMTP_CLIENT_BDAT,
			"message refused that another server had begun to take", SERVER_OK);
		return;
	}
	link_close(&forward->link);
	message_lost(forward, &verdict.answer);
}

/*
 * With DATA it is 354 that shows that both sides stand at the same place. With BDAT nothing does: behind a
 * reply too many in the envelope, that to RCPT would be taken for the one to the message, if it comes late. It says
 * X.1.5, of addresses (RFC 3463); the answer to a message does not. With LMTP it may.
 */
static bool answers_an_address(const struct forward *forward, const struct smtp_reply *reply)
{
	return smtp_reply_class(reply) == 2 && reply->enhanced.present &&
	       reply->enhanced.subject == 1 && !forward->link->client.is_lmtp;
}

/* No 250 without the dot: one that came while we still hold the end answers something else. */
static const char *why_unbelievable(
	const struct forward *forward, const struct smtp_reply *reply, const struct answer *verdict)
{
	if (smtp_reply_class(reply) == 2 && stream_pending(&forward->link->stream) > 0)
		return "a reply before the end of the message was sent";
	if (forward->is_chunked && answers_an_address(forward, reply))
		return "the answer to a command of the envelope";
	return verdict->is_senseless ? "senseless reply" : NULL;
}

/* The server has said all, and that is the answer to the client. */
static void finish(struct forward *forward, const struct smtp_answer *answer, bool is_last)
{
	message_forget(forward);
	forward->mail_is_sent = forward->data_is_sent = false;
	if (is_last)
		link_quit(&forward->link);
	forward_answer(forward, answer);
}

static void note(const struct forward *forward, enum server_event event)
{
	server_note(forward->link->server, event, loop_now_ms(forward->env->loop));
}

/* A mailbox that is full is no illness of the server's. */
static void note_finals(const struct forward *forward)
{
	const struct merge *finals = forward->finals;
	if (finals->server_is_done)
		note(forward, SERVER_GOODBYE);
	else
		note(forward, finals->deferred == finals->count ? SERVER_TEMPFAILED : SERVER_OK);
}

/* All have theirs. */
static void answer_merged(struct forward *forward)
{
	static const struct smtp_answer partly = { .own = REPLY_PARTLY_DELIVERED,
		.by = BY_BACKEND };
	const struct merge *finals = forward->finals;
	struct answer verdict;

	note_finals(forward);
	if (merge_result(finals) == MERGE_PARTLY) {
		log_partly_delivered(forward);
		finish(forward, &partly, finals->server_is_done);
	} else {
		forward_judge(forward, SMTP_CLIENT_DOT, &finals->reply, &verdict);
		finish(forward, &verdict.answer, finals->server_is_done || verdict.blames_us);
	}
}

static void begin_finals(struct forward *forward)
{
	if (forward->finals != NULL)
		return;
	forward->finals = block_take(sizeof(*forward->finals));
	merge_init(forward->finals);
}

/* LMTP: one of the final replies. A server that says 421 goes, perhaps before it has said all. */
static void merge_final(
	struct forward *forward, const struct smtp_reply *reply, const struct answer *verdict)
{
	begin_finals(forward);
	const struct recipient *recipient = next_final(forward);

	ASSERT(recipient != NULL);
	merge_add(forward->finals, recipient->path.address, reply, verdict);
	if (forward->link->client.final.is_last)
		answer_merged(forward);
	else if (verdict->server_is_done)
		link_expect(forward->link, forward->env->timeouts->command);
}

void message_final_answered(struct forward *forward, const struct smtp_reply *reply)
{
	struct answer verdict;

	forward_judge(forward, SMTP_CLIENT_DOT, reply, &verdict);
	const char *why = why_unbelievable(forward, reply, &verdict);
	if (why != NULL) {
		note(forward, SERVER_PROTOCOL);
		link_close(&forward->link);
		message_unknown(forward, why);
		return;
	}
	if (verdict.blames_us)
		forward_alarm(forward, SMTP_CLIENT_DOT, reply);
	if (forward->link->client.is_lmtp) {
		merge_final(forward, reply, &verdict);
		return;
	}
	if (verdict.server_is_done)
		note(forward, SERVER_GOODBYE);
	finish(forward, &verdict.answer, verdict.server_is_done || verdict.blames_us);
}
