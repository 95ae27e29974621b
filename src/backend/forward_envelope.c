/*
 * The envelope at a server: its commands in their order, as many at a time as the server takes, and
 * what its answers mean. To a second server everything is put again that the first has accepted.
 */
#include "backend/identity.h"
#include "base/assert.h"
#include "base/block.h"
#include "forward_priv.h"
#include "proto/smtp_params.h"

void envelope_begin(struct forward *forward)
{
	forward->reset_is_due = forward->identity_is_due = forward->identity_is_said = false;
	forward->mail_is_sent = forward->candidate_is_sent = forward->data_is_sent = false;
	forward->data_is_ready = forward->data_is_accepted = false;
	forward->dot_is_sent = forward->mail_is_refused = forward->is_taken_over = false;
	forward->replays_sent = forward->replays_answered = 0;
	forward->replays_due = (unsigned)forward->connection->transaction->rcpt_count.accept;
	task_cancel(&forward->open_task, forward->env->loop); /* of the server before */
}

/* ---- Sending ---------------------------------------------------------------------------------- */

static bool lacks(const struct forward *forward, unsigned extension)
{
	return !(forward->link->client.capabilities.extensions & extension);
}

/*
 * RFC 3461 section 5.2.2: to a server without DSN its parameters are not passed on. Without most of
 * them happens what would anyway, a notice of failure; but one of success, which would be ours
 * to send, or none at all, nobody would see to.
 */
static bool needs_dsn(const struct recipient *recipient)
{
	struct str words = recipient->params.notify;

	while (words.n > 0) {
		struct str word = str_cut(&words, ',');
		if (str_eq_nocase(word, STR("SUCCESS")) || str_eq_nocase(word, STR("NEVER")))
			return true;
	}
	return false;
}

static bool any_needs_dsn(const struct forward *forward)
{
	const struct transaction *transaction = forward->connection->transaction;
	const struct recipient *recipient;

	STAILQ_FOREACH(recipient, &transaction->rcpt_to, link)
	if (needs_dsn(recipient))
		return true;
	return forward->want == WANT_RECIPIENT && needs_dsn(transaction->candidate);
}

/* RFC 6531 section 3.5: an address is not told to those who cannot read it, and nor is a header
 * that may hold one. */
static enum reply_id without_smtputf8(const struct forward *forward)
{
	const struct transaction *transaction = forward->connection->transaction;
	const struct recipient *candidate = transaction->candidate;
	bool is_address =
		transaction->mail_from.is_utf8 || (candidate != NULL && candidate->path.is_utf8);

	return is_address ? REPLY_BACKEND_NEEDS_SMTPUTF8 : REPLY_BACKEND_NEEDS_SMTPUTF8_HEADER;
}

/* What the transaction needs and the server has not; its reply, or REPLY_COUNT. */
static enum reply_id missing(const struct forward *forward)
{
	const struct smtp_mail_params *params = &forward->connection->transaction->mail_params;

	if (params->smtputf8 && lacks(forward, SMTP_EXT_SMTPUTF8))
		return without_smtputf8(forward);
	if (params->body == SMTP_BODY_8BITMIME && lacks(forward, SMTP_EXT_8BITMIME))
		return REPLY_NEEDS_8BITMIME;
	if (lacks(forward, SMTP_EXT_DSN) && any_needs_dsn(forward))
		return REPLY_BACKEND_NEEDS_DSN;
	return REPLY_COUNT;
}

struct recipient *envelope_recipient(const struct transaction *transaction, unsigned index)
{
	struct recipient *recipient = STAILQ_FIRST(&transaction->rcpt_to);

	while (recipient != NULL && index-- > 0)
		recipient = STAILQ_NEXT(recipient, link);
	return recipient;
}

static bool send_recipient(struct forward *forward)
{
	struct transaction *transaction = forward->connection->transaction;
	struct smtp_client *client = &forward->link->client;

	if (forward->mail_is_refused)
		return false;
	if (forward->replays_sent < forward->replays_due) {
		smtp_client_rcpt(client, envelope_recipient(transaction, forward->replays_sent++));
		return true;
	}
	if (forward->want != WANT_RECIPIENT || forward->candidate_is_sent)
		return false;
	if (lacks(forward, SMTP_EXT_DSN) && needs_dsn(transaction->candidate)) {
		forward_answer_own(forward, REPLY_BACKEND_NEEDS_DSN);
		return false;
	}
	smtp_client_rcpt(client, transaction->candidate);
	return forward->candidate_is_sent = true;
}

/* Before every MAIL, in as many commands as it takes. */
static void send_identity(struct forward *forward)
{
	struct xclient_identity identity;

	identity_of(forward->connection, &identity);
	forward->identity_is_due = !smtp_client_xforward(&forward->link->client, &identity);
}

/*
 * DATA in one group with the recipient that it follows (RFC 2920 section 3.1) saves a round trip. A server
 * that takes chunks needs no DATA. The connection is lost when the server says 354 and no recipient was
 * accepted, so not on one that nothing can replace.
 */
static bool is_data_ahead(const struct forward *forward)
{
	return forward->data_follows && forward->candidate_is_sent && !forward->is_chunked &&
	       !forward->link->client.is_lmtp && !bound_is_used(forward);
}

bool envelope_is_ahead(const struct forward *forward)
{
	return forward->want != WANT_DATA && forward->message == MESSAGE_NONE;
}

static bool is_data_due(const struct forward *forward)
{
	return forward->want == WANT_DATA || forward->message != MESSAGE_NONE ||
	       is_data_ahead(forward);
}

/* The next command that can be sent; false when there is none. */
static bool send_next(struct forward *forward)
{
	struct smtp_client *client = &forward->link->client;

	if (forward->reset_is_due) {
		forward->reset_is_due = false;
		smtp_client_rset(client);
		return true;
	}
	if (forward->identity_is_due) {
		send_identity(forward);
		return true;
	}
	if (!forward->mail_is_sent) {
		smtp_client_mail(client, forward->connection->transaction);
		forward->link->messages++;
		return forward->mail_is_sent = true;
	}
	if (send_recipient(forward))
		return true;
	if (forward->data_is_sent || forward->mail_is_refused || !is_data_due(forward))
		return false;
	if (!forward->is_chunked)
		smtp_client_data(client);
	else if (smtp_client_pending(client) == 0)
		message_open_later(forward);
	else
		return false;
	forward->data_is_sent = true;
	return !forward->is_chunked;
}

/* In chunks, where several may be on their way at a time. */
static bool takes_chunks(const struct forward *forward)
{
	unsigned needed = SMTP_EXT_CHUNKING | SMTP_EXT_PIPELINING;

	return forward->destination->settings->chunking == CHUNKING_AUTO &&
	       (forward->link->client.capabilities.extensions & needed) == needed;
}

/* What depends on what this server offers. */
static void begin_at_server(struct forward *forward)
{
	const struct smtp_client *client = &forward->link->client;

	forward->is_chunked = takes_chunks(forward);
	forward->told = link_shows(forward->link);
	if (!forward->identity_is_said)
		forward->identity_is_due = identity_is_xforward(forward->destination->settings) &&
					   client->capabilities.xforward != 0;
	forward->identity_is_said = true;
}

/* Does the client, or a message that was begun elsewhere, wait for this server? Whom we answer
 * ourselves does not: the server must not hear of that recipient. */
static bool is_needed(const struct forward *forward)
{
	if (forward->own_answer_task.is_pending)
		return false;
	return forward->want == WANT_RECIPIENT || forward->want == WANT_DATA ||
	       (forward->message != MESSAGE_NONE && !forward->data_is_accepted);
}

void envelope_pump(struct forward *forward)
{
	struct link *link = forward->link;
	bool has_sent = false;

	if (link == NULL || link->state != LINK_READY || !is_needed(forward))
		return;
	if (!forward->mail_is_sent && missing(forward) != REPLY_COUNT) {
		if (forward->obstacle == REPLY_COUNT)
			forward->obstacle = missing(forward);
		if (!bound_is_used(forward))
			link_quit(&forward->link);
		forward_try_next_server(forward);
		return;
	}
	if (!forward->mail_is_sent)
		begin_at_server(forward);
	while (smtp_client_can_send(&link->client) && send_next(forward))
		has_sent = true;
	/* Only what we send begins a deadline: a server cannot stretch it by dribbling. */
	if (has_sent)
		link_expect(link, forward->env->timeouts->command);
}

/* ---- Answers ---------------------------------------------------------------------------------- */

static void keep_mail_refusal(struct forward *forward, const struct smtp_reply *reply)
{
	struct mail_refusal *refusal = forward->mail_refusal;

	if (refusal == NULL) {
		refusal = forward->mail_refusal = block_take(sizeof(*refusal));
		buf_init(&refusal->text, SMTP_REPLY_TEXT_MAX);
	}
	buf_truncate(&refusal->text, 0);
	buf_write(&refusal->text, reply->text);
	refusal->reply = *reply;
	refusal->reply.text = buf_view(&refusal->text);
	forward->mail_is_refused = true;
}

void envelope_free_mail_refusal(struct forward *forward)
{
	if (forward->mail_refusal == NULL)
		return;
	buf_free(&forward->mail_refusal->text);
	block_give(forward->mail_refusal, sizeof(*forward->mail_refusal));
}

/* A sender that the server refuses is told at each recipient. */
void envelope_answer_mail_refusal(struct forward *forward)
{
	struct answer refusal;

	forward_judge(forward, SMTP_CLIENT_MAIL, &forward->mail_refusal->reply, &refusal);
	forward_answer(forward, &refusal.answer);
}

/* The server's policy refuses the client, whatever the sender. */
void envelope_client_refused(struct forward *forward, const struct smtp_reply *reply)
{
	if (answer_blames_us(reply, forward->told))
		forward_alarm(forward, SMTP_CLIENT_EHLO, reply);
	keep_mail_refusal(forward, reply);
	if (forward->want == WANT_RECIPIENT)
		envelope_answer_mail_refusal(forward);
}

static void mail_answered(struct forward *forward, const struct smtp_reply *reply)
{
	struct answer verdict;

	forward_judge(forward, SMTP_CLIENT_MAIL, reply, &verdict);
	if (forward_is_useless(forward, &verdict, SMTP_CLIENT_MAIL) || smtp_reply_class(reply) == 2)
		return;
	if (forward->replays_due > 0) {
		forward_server_lost(forward, SMTP_CLIENT_MAIL, "sender refused", SERVER_OK);
		return;
	}
	if (verdict.blames_us)
		forward_alarm(forward, SMTP_CLIENT_MAIL, reply);
	keep_mail_refusal(forward, reply);
	if (!forward->candidate_is_sent)
		envelope_answer_mail_refusal(forward);
}

/* Another server has accepted it before: this one cannot take its place if it does not. */
static void replay_answered(struct forward *forward, const struct smtp_reply *reply)
{
	forward->replays_answered++;
	if (smtp_reply_class(reply) != 2)
		forward_server_lost(forward, SMTP_CLIENT_RCPT,
			"recipient refused that another server accepted", SERVER_OK);
}

static void rcpt_answered(struct forward *forward, const struct smtp_reply *reply)
{
	struct answer verdict;

	forward_judge(forward, SMTP_CLIENT_RCPT, reply, &verdict);
	if (forward_is_useless(forward, &verdict, SMTP_CLIENT_RCPT))
		return;
	if (forward->replays_answered < forward->replays_due) {
		replay_answered(forward, reply);
		return;
	}
	forward->candidate_is_sent = false;
	if (forward->mail_is_refused) {
		envelope_answer_mail_refusal(forward);
		return;
	}
	if (verdict.blames_us)
		forward_alarm(forward, SMTP_CLIENT_RCPT, reply);
	forward_answer(forward, &verdict.answer);
}

/* DATA was said ahead, and is not its turn yet. What refuses it may be that no recipient was accepted; the
 * server is asked again when one was. */
static void data_answered_ahead(struct forward *forward, const struct smtp_reply *reply)
{
	forward->data_is_ready = reply->code == 354;
	forward->data_is_sent = forward->data_is_ready;
}

static void data_answered(struct forward *forward, const struct smtp_reply *reply)
{
	struct answer verdict;

	forward_judge(forward, SMTP_CLIENT_DATA, reply, &verdict);
	if (forward_is_useless(forward, &verdict, SMTP_CLIENT_DATA))
		return;
	if (envelope_is_ahead(forward)) {
		data_answered_ahead(forward, reply);
		return;
	}
	if (verdict.blames_us)
		forward_alarm(forward, SMTP_CLIENT_DATA, reply);
	if (forward->message != MESSAGE_NONE && reply->code != 354) {
		forward_server_lost(forward, SMTP_CLIENT_DATA,
			"message refused that another server had begun to take", SERVER_OK);
		return;
	}
	if (reply->code == 354)
		message_accepted(forward);
	if (forward->want == WANT_DATA)
		forward_answer(forward, &verdict.answer);
}

static void reset_answered(struct forward *forward, const struct smtp_reply *reply)
{
	if (reply->code != 250)
		forward_server_lost(forward, SMTP_CLIENT_RSET, "RSET refused", SERVER_PROTOCOL);
	else if (forward->destination == NULL)
		link_rest(forward->link, forward->env->timeouts->idle);
}

static void identity_answered(struct forward *forward, const struct smtp_reply *reply)
{
	if (reply->code == 250 || !forward->link->backend->settings->identity_required)
		return;
	forward_alarm(forward, SMTP_CLIENT_XFORWARD, reply);
	forward_server_lost(forward, SMTP_CLIENT_XFORWARD, "XFORWARD refused", SERVER_PROTOCOL);
}

void envelope_answered(
	struct forward *forward, enum smtp_client_step step, const struct smtp_reply *reply)
{
	switch (step) {
	case SMTP_CLIENT_MAIL:
		mail_answered(forward, reply);
		break;
	case SMTP_CLIENT_RCPT:
		rcpt_answered(forward, reply);
		break;
	case SMTP_CLIENT_DATA:
		data_answered(forward, reply);
		break;
	case SMTP_CLIENT_RSET:
		reset_answered(forward, reply);
		break;
	case SMTP_CLIENT_XFORWARD:
		identity_answered(forward, reply);
		break;
	default:
		ASSERT(false && "an answer to nothing that is sent here");
	}
}
