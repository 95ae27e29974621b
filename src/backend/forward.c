#include "backend/forward.h"

#include <stdio.h>

#include "backend/identity.h"
#include "backend/pool.h"
#include "backend/queue.h"
#include "base/assert.h"
#include "base/block.h"
#include "base/log.h"
#include "forward_priv.h"

/* However many servers there are, and however slow: clients wait 5 minutes for the answer to RCPT,
 * and 2 for that to DATA (RFC 5321 section 4.5.3.2). */
#define RECIPIENT_BUDGET_MS 240000
#define DATA_BUDGET_MS 110000

/* ---- Answers ---------------------------------------------------------------------------------- */

void forward_answer(struct forward *forward, const struct smtp_answer *answer)
{
	ASSERT(forward->want != WANT_NOTHING);
	forward->want = WANT_NOTHING;
	forward->port->answered(forward->ctx, answer);
}

void forward_judge(struct forward *forward, enum smtp_client_step step,
	const struct smtp_reply *reply, struct answer *verdict)
{
	answer_from_reply(verdict, step, reply, forward->told);
	buf_truncate(&forward->answer_text, 0);
	buf_write(&forward->answer_text, reply->text);
	verdict->changed.text = buf_view(&forward->answer_text);
}

static void give_own_answer(void *ctx)
{
	struct forward *forward = ctx;
	struct smtp_answer own = { .own = forward->own_answer, .by = BY_EDGE };

	if (forward->want == WANT_NOTHING)
		return;
	if (forward->own_answer == REPLY_COUNT)
		envelope_answer_mail_refusal(forward);
	else
		forward_answer(forward, &own);
}

void forward_answer_own(struct forward *forward, enum reply_id reply)
{
	forward->own_answer = reply;
	task_defer(&forward->own_answer_task, forward->env->loop);
}

void forward_alarm(
	const struct forward *forward, enum smtp_client_step step, const struct smtp_reply *reply)
{
	LOG(BACKEND_BLAMES_US, log_text("uuid", forward->connection->uuid),
		log_str("backend", forward->destination->settings->name),
		log_str("server", forward->connection->transaction->server),
		log_text("step", smtp_client_step_word(step)), log_int("code", reply->code),
		log_str("reply", reply->text));
}

/* ---- When a server fails ---------------------------------------------------------------------- */

static void log_failed(const struct forward *forward, const char *step, const char *why)
{
	LOG(BACKEND_FAILED, log_text("uuid", forward->connection->uuid),
		log_str("backend", forward->destination->settings->name),
		log_str("server", forward->connection->transaction->server), log_text("step", step),
		log_text("error", why));
}

/* That it refuses what another server has accepted is noted where it does so. */
static void note_loss(const struct forward *forward, struct server *server, enum server_event event)
{
	if (event != SERVER_OK)
		server_note(server, event, loop_now_ms(forward->env->loop));
}

/*
 * Before the message another server can be used, and while it is kept whole. A connection that
 * served an earlier transaction may simply have been closed meanwhile, and one that a client uses to try
 * addresses ends some time: then the same server gets another chance. Not so when it has refused what
 * another had accepted: on its next connection it would again. `server` is the one that was lost.
 */
static void replace_server(
	struct forward *forward, struct server *server, const struct link_loss *loss)
{
	if (forward->is_worn && loss->event != SERVER_OK) {
		forward->choice = (struct server_choice){ 0 };
		if (loss->event == SERVER_STALLED)
			pool_distrust(server);
	} else {
		note_loss(forward, server, loss->event);
		forward->obstacle = REPLY_NO_BACKEND;
	}
	if (message_is_here(forward))
		message_save(forward);
	forward_try_next_server(forward);
}

/* The connection is gone; what now? */
static void after_loss(struct forward *forward, struct server *server, const struct link_loss *loss)
{
	struct smtp_answer lost = { .own = link_fault_reply(loss->fault), .by = BY_EDGE };

	if (forward->dot_is_sent) {
		note_loss(forward, server, loss->event);
		message_unknown(forward, loss->why);
	} else if (!message_is_here(forward) || message_can_be_saved(forward)) {
		replace_server(forward, server, loss);
	} else {
		note_loss(forward, server, loss->event);
		message_lost(forward, &lost);
	}
}

/* Nobody waits for this server: what comes next connects anew, to the same one if it likes. An answer
 * of ours that is on its way is no server's any more. */
static bool is_idle(const struct forward *forward)
{
	bool is_settled = forward->want == WANT_NOTHING || forward->own_answer_task.is_pending;

	return is_settled && !message_is_here(forward);
}

/* The sender is refused: that the server goes behind that is no news. */
static bool has_verdict(const struct forward *forward)
{
	return forward->mail_is_refused && forward->want == WANT_RECIPIENT;
}

void forward_server_lost(struct forward *forward, enum smtp_client_step step, const char *why,
	enum server_event event)
{
	struct server *server = forward->link->server;
	struct link_loss loss = { .fault = LINK_CLOSED,
		.event = event,
		.step = smtp_client_step_word(step),
		.why = why };

	if (is_idle(forward)) {
		/* RSET, refused when the transaction was over: there is no destination any more. */
		link_close(&forward->link);
		forward->choice = (struct server_choice){ 0 };
		return;
	}
	if (has_verdict(forward)) {
		link_close(&forward->link);
		envelope_answer_mail_refusal(forward);
		return;
	}
	log_failed(forward, loss.step, why);
	link_close(&forward->link);
	after_loss(forward, server, &loss);
}

bool forward_is_useless(
	struct forward *forward, const struct answer *verdict, enum smtp_client_step step)
{
	char why[48];

	if (!verdict->server_is_done && !verdict->is_senseless)
		return false;
	snprintf(why, sizeof(why), "%s at %s", verdict->server_is_done ? "421" : "senseless reply",
		smtp_client_step_word(step));
	forward_server_lost(
		forward, step, why, verdict->server_is_done ? SERVER_GOODBYE : SERVER_PROTOCOL);
	return true;
}

/* No server is left to try. */
static void give_up(struct forward *forward)
{
	if (forward->obstacle == REPLY_COUNT)
		forward->obstacle = REPLY_NO_BACKEND;
	struct smtp_answer none = { .own = forward->obstacle, .by = BY_EDGE };
	forward->is_given_up = true;
	if (message_is_here(forward))
		message_lost(forward, &none);
	else
		forward_answer_own(forward, forward->obstacle);
}

/* ---- The link --------------------------------------------------------------------------------- */

static void on_turn(void *ctx)
{
	struct forward *forward = ctx;

	envelope_pump(forward);
	if (forward->is_chunked)
		message_go_on(forward);
}

/* What makes no sense, and 421, is noted where the connection is given up. */
static void note_answer(
	const struct forward *forward, enum smtp_client_step step, const struct smtp_reply *reply)
{
	struct server *server = forward->link->server;
	int class = smtp_reply_class(reply);
	bool is_last = step == SMTP_CLIENT_DOT;
	bool is_refusal_for_now = class == 4 && reply->code != 421;

	if (is_last && forward->link->client.is_lmtp)
		return; /* when it has said them all */
	if (step == SMTP_CLIENT_DATA && envelope_is_ahead(forward))
		return; /* there may be no recipient; it is asked again */
	if (!is_last && step != SMTP_CLIENT_MAIL && step != SMTP_CLIENT_DATA)
		return;
	if (is_refusal_for_now || answer_blames_us(reply, forward->told))
		server_note(server, SERVER_TEMPFAILED, loop_now_ms(forward->env->loop));
	else if (class == 5 || (is_last && reply->code == 250))
		server_note(server, SERVER_OK, loop_now_ms(forward->env->loop));
}

/* Before what comes of it: the reply may be the one with which the server hangs up on who was refused so
 * often (Postfix: smtpd_hard_error_limit). No client brings a server down for others by that. */
static void count_refusal(
	struct forward *forward, enum smtp_client_step step, const struct smtp_reply *reply)
{
	struct link *link = forward->link;

	if (link->refusals >= POOL_REFUSALS_MAX)
		forward->is_worn = true;
	if (smtp_reply_class(reply) >= 4)
		link->refusals++;
	else if (step == SMTP_CLIENT_DOT)
		link->refusals = 0;
}

static void on_answered(void *ctx, enum smtp_client_step step, const struct smtp_reply *reply)
{
	struct forward *forward = ctx;

	note_answer(forward, step, reply);
	count_refusal(forward, step, reply);
	if (step == SMTP_CLIENT_DOT)
		message_final_answered(forward, reply);
	else if (step == SMTP_CLIENT_BDAT)
		message_chunk_answered(forward, reply);
	else
		envelope_answered(forward, step, reply);
}

/* A verdict in the middle of the message: the rest is swallowed, then the client is told. 421 is
 * none while another server can have the message. */
static bool is_refusal(const struct forward *forward, const struct link_loss *loss)
{
	if (loss->said == NULL || !forward->data_is_accepted || forward->dot_is_sent)
		return false;
	if (loss->said->code == 421 && message_can_be_saved(forward))
		return false;
	return smtp_reply_class(loss->said) >= 4;
}

static void on_lost(void *ctx, const struct link_loss *loss)
{
	struct forward *forward = ctx;
	struct server *server = forward->link->server;
	bool is_refused = is_refusal(forward, loss);
	struct answer verdict;

	/* A refusal of XCLIENT knows the client; one before it knows us. */
	if (loss->fault == LINK_CLIENT_REFUSED && forward->link->answered != SMTP_CLIENT_XCLIENT)
		forward->told = link_shows(forward->link);
	forward->link = NULL;
	if (is_idle(forward)) {
		forward->choice = (struct server_choice){ 0 };
		return;
	}
	/* What another server has accepted this one does not refuse: it is passed over. */
	if (loss->fault == LINK_CLIENT_REFUSED && forward->replays_due == 0) {
		envelope_client_refused(forward, loss->said);
		return;
	}
	if (has_verdict(forward)) {
		envelope_answer_mail_refusal(forward);
		return;
	}
	if (is_refused) {
		log_failed(forward, "message", "refused in the middle of the message");
		forward_judge(forward, SMTP_CLIENT_DOT, loss->said, &verdict);
		message_lost(forward, &verdict.answer);
	} else {
		if (!forward->dot_is_sent)
			log_failed(forward, message_is_here(forward) ? "message" : loss->step,
				loss->why);
		after_loss(forward, server, loss);
	}
}

static void on_drained(void *ctx)
{
	message_go_on(ctx);
}

/* Nothing was asked for a while: the client thinks, or has no transaction. */
static void on_rested(void *ctx)
{
	struct forward *forward = ctx;

	if (forward->destination == NULL)
		link_quit(&forward->link);
	else
		link_rest(forward->link, forward->env->timeouts->idle);
}

static const struct link_port link_port = {
	.ready = on_turn,
	.answered = on_answered,
	.lost = on_lost,
	.drained = on_drained,
	.turn = on_turn,
	.rested = on_rested,
};

/* ---- Which server ----------------------------------------------------------------------------- */

static bool has_time(const struct forward *forward)
{
	return loop_now_ms(forward->env->loop) < forward->answer_by_ms;
}

/* The next server that is not ourselves; NULL: none, or no time. */
static struct server *next_server(struct forward *forward)
{
	const struct ipaddr *client = &forward->connection->remote.address.ip;
	uint64_t now = loop_now_ms(forward->env->loop);
	struct server *server = NULL;

	while (has_time(forward)) {
		server = backend_choose(forward->destination, client, now, &forward->choice);
		if (server == NULL || !server->is_ourselves)
			return server;
		forward->obstacle = REPLY_MAIL_LOOP;
	}
	return NULL;
}

/* A connection that others have used before, or a new one. */
static void use_server(struct forward *forward, struct server *server)
{
	forward->connection->transaction->server = str_from(server->name);
	forward->told = identity_shows(forward->destination->settings);
	envelope_begin(forward);
	forward->link = pool_take(server, &link_port, forward);
	forward->is_worn = forward->reset_is_due = forward->link != NULL;
	if (forward->link == NULL)
		forward->link = link_open(forward->env, forward->destination, server,
			forward->connection, forward->answer_by_ms, &link_port, forward);
	else
		link_limit(forward->link, forward->answer_by_ms);
	envelope_pump(forward);
}

static void drop_wait(struct forward *forward)
{
	if (forward->wait == NULL)
		return;
	backend_wait_cancel(forward->wait);
	block_give(forward->wait, sizeof(*forward->wait));
	forward->wait = NULL;
}

static void waited(void *ctx, bool in_time)
{
	struct forward *forward = ctx;

	drop_wait(forward);
	if (in_time) {
		forward_try_next_server(forward);
		return;
	}
	forward->obstacle = REPLY_BACKEND_BUSY;
	give_up(forward);
}

/* True: all servers have as many connections as they may, and one will be waited for. */
static bool wait_for_room(struct forward *forward)
{
	uint64_t now = loop_now_ms(forward->env->loop);
	uint64_t ms = forward->env->timeouts->queue;

	if (!forward->choice.is_full || now >= forward->answer_by_ms)
		return false;
	if (ms > forward->answer_by_ms - now)
		ms = forward->answer_by_ms - now;
	forward->wait = block_take_zeroed(sizeof(*forward->wait));
	if (backend_wait(forward->destination, forward->wait, forward->env->loop, ms,
		    &forward->choice, waited, forward))
		return true;
	drop_wait(forward);
	forward->obstacle = REPLY_BACKEND_BUSY;
	return false;
}

/* Where the client itself has authenticated there is no other connection for it. */
static void give_up_bound(struct forward *forward)
{
	if (forward->obstacle == REPLY_COUNT)
		forward->obstacle = REPLY_BACKEND_LOST;
	give_up(forward);
}

void forward_try_next_server(struct forward *forward)
{
	if (bound_is_used(forward)) {
		give_up_bound(forward);
		return;
	}
	struct server *server = next_server(forward);

	if (server != NULL)
		use_server(forward, server);
	else if (!wait_for_room(forward))
		give_up(forward);
}

/* Would the server take the client for what it is? It may have said EHLO again, or AUTH. Where it has
 * authenticated itself there is no other connection that could be told so, and its login is known. */
static bool is_told(const struct forward *forward)
{
	return bound_is_used(forward) || identity_holds(forward->destination->settings,
						 &forward->link->told, forward->connection);
}

/* The connection of an earlier transaction of this client, which nobody else may use. */
static bool goes_on(struct forward *forward)
{
	if (forward->link == NULL || forward->link->state != LINK_READY ||
		forward->link->backend != forward->destination || !is_told(forward))
		return false;
	envelope_begin(forward);
	forward->is_worn = true;
	forward->connection->transaction->server = str_from(forward->link->server->name);
	envelope_pump(forward);
	return true;
}

/* The servers are to be told a name that is still being looked up. */
static bool is_name_due(const struct forward *forward)
{
	return forward->destination->settings->wait_for_name && !bound_is_used(forward) &&
	       forward->connection->remote.host_status == HOST_PENDING;
}

/* The first recipient, and while none is accepted the next, decides where the transaction goes. */
static void begin_transaction(struct forward *forward, struct backend *destination)
{
	forward->destination = destination;
	forward->connection->transaction->backend = destination->settings->name;
	forward->connection->transaction->server = STR("");
	forward->choice = (struct server_choice){ 0 };
	forward->obstacle = REPLY_COUNT;
	forward->is_given_up = false;
	message_begin(forward);
	if (bound_is_used(forward)) {
		link_quit(&forward->link);
		bound_take(forward, &link_port);
	}
	if (goes_on(forward))
		return;
	link_quit(&forward->link);
	forward->awaits_name = is_name_due(forward);
	if (!forward->awaits_name)
		forward_try_next_server(forward);
}

/* ---- What the client always does -------------------------------------------------------------- */

/* A client of which so many messages had one recipient each will say DATA behind the next one, too. */
#define HABIT_MESSAGES 3
#define HABIT_BROKEN UINT8_MAX

static bool is_habit(const struct forward *forward)
{
	return forward->habit == HABIT_MESSAGES;
}

/* The transaction is over. The first that ended in another way was the last that DATA was said ahead for. */
static void note_habit(struct forward *forward)
{
	if (forward->destination == NULL || forward->habit == HABIT_BROKEN)
		return;
	if (!forward->dot_is_sent)
		forward->habit = HABIT_BROKEN;
	else if (forward->habit < HABIT_MESSAGES)
		forward->habit++;
}

/* ---- The interface ---------------------------------------------------------------------------- */

struct forward *forward_new(const struct backend_env *env, struct connection *connection,
	const struct route_table *routes, const struct forward_port *port, void *ctx)
{
	struct forward *forward = block_take_zeroed(sizeof(*forward));

	forward->env = env;
	forward->connection = connection;
	forward->routes = routes;
	forward->port = port;
	forward->ctx = ctx;
	forward->obstacle = REPLY_COUNT;
	buf_init(&forward->answer_text, SMTP_REPLY_TEXT_MAX);
	task_init(&forward->own_answer_task, give_own_answer, forward);
	message_init(forward);
	return forward;
}

static void free_later(void *object)
{
	struct forward *forward = object;

	envelope_free_mail_refusal(forward);
	buf_free(&forward->answer_text);
	block_give(forward, sizeof(*forward));
}

void forward_release(struct forward **released)
{
	struct forward *forward = *released;

	*released = NULL;
	if (forward == NULL)
		return;
	forward_transaction_over(forward);
	link_quit(&forward->link);
	link_quit(&forward->bound_link);
	loop_retire(forward->env->loop, free_later, forward);
}

/* The client waits for an answer, until then at most. */
static void begin_to_want(struct forward *forward, enum forward_want want, uint64_t budget_ms)
{
	forward->want = want;
	forward->answer_by_ms = loop_now_ms(forward->env->loop) + budget_ms;
	if (forward->link != NULL)
		link_limit(forward->link, forward->answer_by_ms);
}

/* All servers were tried in vain, for a recipient that needed what they have not. */
static void begin_again(struct forward *forward)
{
	forward->choice = (struct server_choice){ 0 };
	forward->obstacle = REPLY_COUNT;
	forward->is_given_up = false;
	forward_try_next_server(forward);
}

/* May the transaction have another recipient? */
static bool takes_recipient(const struct forward *forward)
{
	return !forward->destination->settings->one_recipient ||
	       forward->connection->transaction->rcpt_count.accept == 0;
}

/* DATA was said ahead, and the server waits for a message: the next recipient would be its first line. */
static void leave_data(struct forward *forward)
{
	link_close(&forward->link);
	forward->choice = (struct server_choice){ 0 };
	forward_try_next_server(forward);
}

/* Only where a recipient was accepted the transaction has to stay. */
static bool is_left_for(const struct forward *forward, const struct backend *destination)
{
	return forward->destination != NULL && destination != NULL &&
	       forward->destination != destination &&
	       forward->connection->transaction->rcpt_count.accept == 0;
}

void forward_recipient(struct forward *forward, enum smtp_behind behind)
{
	struct backend *destination = route_find(forward->routes, forward->connection);

	if (forward->destination != NULL)
		forward->habit = HABIT_BROKEN;
	if (is_left_for(forward, destination))
		forward_transaction_over(forward);
	forward->data_follows =
		behind == SMTP_BEHIND_DATA || (behind == SMTP_BEHIND_NOTHING && is_habit(forward));
	begin_to_want(forward, WANT_RECIPIENT, RECIPIENT_BUDGET_MS);
	if (destination == NULL)
		forward_answer_own(forward, REPLY_NO_ROUTE);
	else if (forward->destination == NULL)
		begin_transaction(forward, destination);
	else if (forward->destination != destination)
		forward_answer_own(forward, REPLY_OTHER_DESTINATION);
	else if (!takes_recipient(forward))
		forward_answer_own(forward, REPLY_TOO_MANY_RECIPIENTS);
	else if (forward->is_given_up && forward->obstacle == REPLY_BACKEND_NEEDS_DSN)
		begin_again(forward); /* of the recipient before */
	else if (forward->is_given_up)
		forward_answer_own(forward, forward->obstacle);
	else if (forward->mail_is_refused)
		forward_answer_own(forward, REPLY_COUNT);
	else if (forward->link == NULL)
		forward_try_next_server(forward);
	else if (forward->data_is_sent)
		leave_data(forward);
	else
		envelope_pump(forward);
}

void forward_name_known(struct forward *forward)
{
	if (!forward->awaits_name)
		return;
	forward->awaits_name = false;
	forward_try_next_server(forward);
}

void forward_data(struct forward *forward)
{
	begin_to_want(forward, WANT_DATA, DATA_BUDGET_MS);
	if (forward->link == NULL)
		forward_try_next_server(forward);
	else if (forward->data_is_ready)
		message_open_later(forward);
	else
		envelope_pump(forward);
}

void forward_end(struct forward *forward)
{
	forward->want = WANT_FINAL;
	message_end(forward);
}

size_t forward_body_room(const struct forward *forward)
{
	return message_room(forward);
}

void forward_body(struct forward *forward, struct str bytes)
{
	message_add(forward, bytes);
}

/* What the server has of the transaction is taken back: by RSET where nothing is under way, else
 * by closing. */
static void take_back(struct forward *forward)
{
	struct link *link = forward->link;

	if (link->state != LINK_READY) {
		link_close(&forward->link);
	} else if (!forward->mail_is_sent) {
		return;
	} else if (smtp_client_pending(&link->client) > 0 || forward->data_is_sent) {
		link_close(&forward->link);
	} else {
		smtp_client_rset(&link->client);
		link_expect(link, forward->env->timeouts->command);
	}
}

/* Others may use the connection, or this client alone, for its next transaction. */
static void keep_link(struct forward *forward)
{
	struct link *link = forward->link;

	if (pool_is_for(link->backend->settings)) {
		if (pool_takes(link))
			pool_put(&forward->link);
		else
			link_quit(&forward->link);
	} else if (smtp_client_pending(&link->client) == 0) {
		/* Else RSET has its deadline: without PIPELINING what comes next waits for it. */
		link_rest(link, forward->env->timeouts->idle);
	}
}

void forward_transaction_over(struct forward *forward)
{
	bool was_bound = bound_is_used(forward);

	note_habit(forward);
	drop_wait(forward);
	forward->awaits_name = false;
	if (forward->link != NULL)
		take_back(forward);
	forward->destination = NULL;
	forward->want = WANT_NOTHING;
	forward->mail_is_sent = forward->candidate_is_sent = forward->data_is_sent = false;
	forward->data_is_ready = forward->data_is_accepted = false;
	forward->dot_is_sent = forward->mail_is_refused = false;
	forward->replays_sent = forward->replays_answered = forward->replays_due = 0;
	message_forget(forward);
	task_cancel(&forward->own_answer_task, forward->env->loop);
	if (was_bound)
		bound_keep(forward);
	else if (forward->link != NULL)
		keep_link(forward);
}
