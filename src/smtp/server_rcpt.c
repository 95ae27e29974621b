/*
 * RCPT (RFC 5321 section 4.1.1.3): our own policy first, then the backend's word.
 */
#include "base/assert.h"
#include "server_priv.h"

enum reply_id rcpt_misplaced(const struct smtp_server *server)
{
	return server->state == SMTP_STATE_GREETED ? REPLY_HELO_FIRST : REPLY_NEED_MAIL;
}

static struct verb_check parse(struct smtp_server *server, struct str argument)
{
	struct transaction *transaction = server->connection->transaction;
	struct recipient *candidate = transaction_candidate(transaction);
	struct arena *arena = &transaction->candidate_arena;
	bool utf8 = transaction->mail_params.smtputf8;
	unsigned offered = server->offer.extensions & ~(utf8 ? 0u : (unsigned)SMTP_EXT_SMTPUTF8);
	struct str rest, bad = STR("");

	enum reply_id wrong = server_path_reply(
		smtp_path_parse_forward(argument, utf8, arena, &candidate->path, &rest), utf8,
		REPLY_BAD_RECIPIENT);
	if (wrong != REPLY_NONE)
		return verb_wrong(wrong, STR(""));
	wrong = server_params_reply(
		smtp_params_parse_rcpt(rest, offered, arena, &candidate->params, &bad));
	return verb_wrong(wrong, bad);
}

/* Limits count every RCPT, so that guessing recipients ends some time. */
static bool is_beyond_limits(struct smtp_server *server, struct verb_check *wrong)
{
	const struct smtp_limits *limits = &server->settings->limits;

	if (server->rcpt_commands++ >= limits->recipients + limits->recipients_overshoot) {
		*wrong = (struct verb_check){ .reply = REPLY_TOO_MANY_ERRORS,
			.ending = ENDING_TOO_MANY_RECIPIENTS };
		return true;
	}
	return false;
}

struct verb_check rcpt_check(struct smtp_server *server, struct str argument)
{
	struct verb_check wrong = verb_fine();

	if (is_beyond_limits(server, &wrong))
		return wrong;
	if (!mail_cut_keyword(&argument, STR("TO")))
		return verb_wrong(REPLY_RCPT_SYNTAX, STR(""));
	return parse(server, argument);
}

/* The refusal of an earlier stage that was kept for now, or NULL. */
static const struct smtp_held *held(const struct smtp_server *server)
{
	for (size_t stage = 0; server->held != NULL && stage <= POLICY_MAIL; stage++)
		if (server->held[stage].is_set)
			return &server->held[stage];
	return NULL;
}

static void refuse(struct smtp_server *server, enum reply_id reply, struct str detail)
{
	server_refuse(server, POLICY_RCPT, reply, detail);
	transaction_refuse_candidate(server->connection, reply_code(reply) >= 500);
}

/* What the backend accepts must be kept: there is no way to take it back from the backend. */
static bool has_room(const struct transaction *transaction)
{
	return transaction->arena.max - transaction->arena.used >= CANDIDATE_ARENA_MAX;
}

static enum smtp_behind behind(const struct smtp_server *server)
{
	if (server->data_follows)
		return SMTP_BEHIND_DATA;
	return server->has_more ? SMTP_BEHIND_OTHER : SMTP_BEHIND_NOTHING;
}

void rcpt_apply(struct smtp_server *server)
{
	struct transaction *transaction = server->connection->transaction;
	const struct smtp_held *kept = held(server);

	if (kept != NULL) {
		server->deciding_check = kept->check;
		refuse(server, kept->reply, kept->detail);
		server->deciding_check = NULL;
		return;
	}
	if (transaction->rcpt_count.accept >= server->settings->limits.recipients) {
		refuse(server, REPLY_TOO_MANY_RECIPIENTS, STR(""));
		return;
	}
	if (!has_room(transaction)) {
		refuse(server, REPLY_NO_MEMORY, STR(""));
		return;
	}
	server_wait(server, SMTP_WAITING_BACKEND);
	server->port->forward_recipient(server->ctx, behind(server));
}

void rcpt_answered(struct smtp_server *server, const struct smtp_answer *answer)
{
	struct connection *connection = server->connection;
	int code = answer->reply ? answer->reply->code : reply_code(answer->own);

	ASSERT(code / 100 == 2 || code >= 400);
	if (code >= 400) {
		server_refuse_as(server, POLICY_RCPT, answer);
		transaction_refuse_candidate(connection, code >= 500);
		return;
	}
	bool is_kept = transaction_accept_candidate(connection);
	ASSERT(is_kept); /* has_room() */
	server_move(server, SMTP_STATE_RCPT);
	server_reply_answer(server, answer);
}
