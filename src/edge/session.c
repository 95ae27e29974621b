#include "edge/session.h"

#include <time.h>

#include "base/assert.h"
#include "base/block.h"
#include "base/log.h"
#include "connection/reply.h"
#include "connection/trace.h"
#include "edge/session_log.h"
#include "proto/received.h"
#include "session_priv.h"

/* Replies that a client has not read: below this room no further command is taken. */
#define OUT_MAX 65536
#define OUT_FULL (OUT_MAX / 2)
/* A message that the backend has in full is waited for when its time is up otherwise. */
#define FINAL_PATIENCE_MS 5000
/* Connections beyond limits.connections: in the intake, to be told 421, or health checks. */
#define INTAKE_FACTOR 2
#define INTAKE_RESERVE 64
#define NEVER UINT64_MAX

uint64_t session_now_ms(void *ctx)
{
	struct session *session = ctx;

	return loop_now_ms(session->edge->loop);
}

/* ---- The end -------------------------------------------------------------------------------- */

static void drop_policy(struct session *session)
{
	if (session->policy == NULL)
		return;
	timer_stop(&session->policy->timer);
	block_give(session->policy, sizeof(*session->policy));
	session->policy = NULL;
}

static void drop_opening(struct session *session)
{
	if (session->opening == NULL)
		return;
	task_cancel(&session->opening->start, session->edge->loop);
	block_give(session->opening, sizeof(*session->opening));
	session->opening = NULL;
}

static void free_session(void *object)
{
	struct session *session = object;

	timer_stop(&session->deadline);
	drop_policy(session);
	drop_opening(session);
	session_auth_free(session);
	connection_free(&session->connection);
	block_give(session, sizeof(*session));
}

/* As it is known by now: the first connection to an address begins its look-up. */
static void find_local_name(struct session *session)
{
	struct connection *connection = &session->connection;

	connection->local.host =
		local_names_find(&session->edge->local_names, &connection->local.address.ip);
}

/* A session that only waits for its client to read the last reply is not one of its connections:
 * it may come again at once. */
static void uncount(struct session *session)
{
	if (!session->is_counted)
		return;
	session->is_counted = false;
	clients_remove(&session->edge->clients, &session->connection.remote.address.ip);
	session->edge->client_count--;
}

/* The record of a connection says how the look-up ended, even if by the end of the connection. */
static void end_look_up(struct session *session)
{
	enum host_status status = session->name_question != NULL ? HOST_TIMEOUT : HOST_OFF;

	if (session->connection.remote.host_status == HOST_PENDING)
		connection_set_remote_host(&session->connection, status, STR(""), false);
	if (session->name_question != NULL)
		resolver_abandon(&session->name_question);
}

void session_over(struct session *session)
{
	struct edge *edge = session->edge;
	bool had_dialogue = session->server.connection != NULL;
	bool was_client = had_dialogue || session->phase == PHASE_HANDSHAKE;
	bool was_refused = session->opening != NULL && session->opening->was_refused;

	if (session->phase == PHASE_OVER)
		return;
	session->phase = PHASE_OVER;
	end_look_up(session);
	if (was_client) {
		find_local_name(session);
		session_log_connection(edge, &session->connection, session->ending,
			session->server.stage, session->stream.bytes_read, session_now_ms(session));
		if (had_dialogue)
			smtp_server_free(&session->server);
	} else if (was_refused && edge->trace_fd >= 0) {
		session_trace(edge, &session->connection, session->ending, session_now_ms(session));
	}
	forward_release(&session->forward);
	session_tls_over(session);
	session_auth_over(session);
	uncount(session);
	if (session->opening != NULL)
		task_cancel(&session->opening->start, edge->loop);
	stream_close(&session->stream, false);
	LIST_REMOVE(session, link);
	edge->session_count--;
	loop_retire(edge->loop, free_session, session);
}

/* Nothing more will be said: wait a moment until the client has read what was. */
static void linger(struct session *session)
{
	session->phase = PHASE_LINGER;
	session_tls_over(session);
	forward_release(&session->forward);
	uncount(session);
	stream_finish(&session->stream);
	session_set_deadline(session, session->edge->timeouts->linger);
	stream_read_start(&session->stream);
}

/* ---- The dialogue's port ---------------------------------------------------------------------- */

static void on_send(void *ctx, struct str bytes)
{
	struct session *session = ctx;

	/* Cannot overflow while output_is_full is asked before each command: see OUT_FULL. */
	if (!stream_write(&session->stream, bytes))
		ASSERT(session->phase != PHASE_DIALOGUE);
}

/*
 * While the dialogue is given input it sees by itself what stands behind a command; the stream
 * still holds all of that, so only the kernel is asked. Under TLS the kernel has no answer then: the
 * question comes again when DATA is answered.
 */
static bool on_input_is_pending(void *ctx)
{
	struct session *session = ctx;

	if (!session->is_feeding)
		return stream_has_input(&session->stream);
	return stream_tls_state(&session->stream) == NULL && stream_has_more(&session->stream);
}

static bool on_output_is_full(void *ctx)
{
	struct session *session = ctx;

	return stream_room(&session->stream) < OUT_FULL;
}

static void make_policy(struct session *session);

static void on_ask(void *ctx, enum policy_stage stage)
{
	struct session *session = ctx;

	if (session->policy == NULL)
		make_policy(session);
	policy_run_start(&session->policy->run, stage);
}

static void on_forward_answered(void *ctx, const struct smtp_answer *answer);
static void on_forward_body_lost(void *ctx, const struct smtp_answer *answer);
static void on_forward_room(void *ctx);
static void on_forward_auth_lost(void *ctx);

static const struct forward_port forward_port = {
	.answered = on_forward_answered,
	.body_lost = on_forward_body_lost,
	.room = on_forward_room,
	.auth_lost = on_forward_auth_lost,
};

struct forward *session_forward(struct session *session)
{
	struct edge *edge = session->edge;

	if (session->forward == NULL)
		session->forward = forward_new(&edge->backend, &session->connection, &edge->routes,
			&forward_port, session);
	return session->forward;
}

/* What the plan asks before DATA, the server is not told before. */
static void on_forward_recipient(void *ctx, enum smtp_behind behind)
{
	struct session *session = ctx;
	bool asks = session->listener->plan->stages[POLICY_DATA].count > 0;

	forward_recipient(session_forward(session), asks ? SMTP_BEHIND_OTHER : behind);
}

static void on_forward_data(void *ctx)
{
	struct session *session = ctx;

	session->has_received = false;
	forward_data(session->forward);
}

static size_t on_body_room(void *ctx)
{
	struct session *session = ctx;
	size_t room = forward_body_room(session->forward);
	size_t needed = session->has_received ? 0 : RECEIVED_MAX;

	return room > needed ? room - needed : 0;
}

static struct str only_recipient(const struct transaction *transaction)
{
	const struct recipient *first = STAILQ_FIRST(&transaction->rcpt_to);

	return STAILQ_NEXT(first, link) == NULL ? first->path.address : STR("");
}

/* Our own header line, in front of everything the client sends. */
static void send_received(struct session *session)
{
	const struct connection *connection = &session->connection;
	const struct transaction *transaction = connection->transaction;
	const struct tls_info *tls = connection->tls;
	struct received received = {
		.hello = connection->hello.host,
		.host = connection->remote.host_confirmed ? connection->remote.host : STR(""),
		.client = connection->remote.address.ip,
		.hostname = session->edge->hostname,
		.id = str_from(transaction->uuid),
		.recipient = only_recipient(transaction),
		.tls_version = tls ? tls->version : STR(""),
		.tls_cipher = tls ? tls->cipher : STR(""),
		.tls_offloaded = tls && tls->offloaded,
		.esmtp = connection->esmtp,
		.authenticated = connection->auth != NULL,
		.smtputf8 = transaction->mail_params.smtputf8,
		.time = time(NULL),
	};
	BUF_MEMORY char memory[RECEIVED_MAX];
	struct buf field = buf_on(memory, sizeof(memory));

	received_print(&received, &field);
	forward_body(session->forward, buf_view(&field));
	session->has_received = true;
}

static void on_body(void *ctx, struct str bytes)
{
	struct session *session = ctx;

	if (!session->has_received)
		send_received(session);
	forward_body(session->forward, bytes);
}

/* A client that is gone cannot hear the answer and will send again: the backend gets no dot. */
static bool on_forward_end(void *ctx)
{
	struct session *session = ctx;

	if (stream_peer_is_gone(&session->stream))
		return false;
	if (!session->has_received)
		send_received(session);
	forward_end(session->forward);
	return true;
}

static void on_abandon(void *ctx)
{
	struct session *session = ctx;

	if (session->forward != NULL)
		forward_transaction_over(session->forward);
}

static void on_ended(void *ctx)
{
	struct session *session = ctx;

	session_log_transaction(&session->connection, session_now_ms(session));
	on_abandon(session);
}

static void on_refused(void *ctx, enum policy_stage stage, struct str reply)
{
	struct session *session = ctx;
	const char *check = session->server.deciding_check;

	session_log_reject(&session->connection, stage, check, reply);
	/* What a check decides in its own stage is in the trace already. */
	if (check == NULL || !session->is_deciding || session->policy->run.stage != stage)
		trace_event(&session->connection, stage, check,
			verdict_word(
				reply.n > 0 && reply.p[0] == '4' ? VERDICT_DEFER : VERDICT_REJECT),
			reply, session_now_ms(session));
}

static struct smtp_offer on_offer(void *ctx)
{
	struct session *session = ctx;
	struct smtp_offer offer = route_offer(&session->edge->routes,
		session->listener->settings->name, session->edge->limits->smtp.message_size);

	if (session->listener->settings->tls.mode == TLS_MODE_STARTTLS &&
		session->connection.tls == NULL && !session->connection.is_restricted)
		offer.extensions |= SMTP_EXT_STARTTLS;
	offer.mechanisms = session_auth_offer(session);
	if (offer.mechanisms.n > 0)
		offer.extensions |= SMTP_EXT_AUTH;
	return offer;
}

/* The listener says where clients are told that all servers are down. */
static bool is_unavailable(const struct session *session, enum unavailable where)
{
	const struct listener_settings *settings = session->listener->settings;

	return listener_unavailable(settings) == where &&
	       !route_has_server(&session->edge->routes, settings->name);
}

static bool on_has_server(void *ctx)
{
	return !is_unavailable(ctx, UNAVAILABLE_MAIL);
}

static void on_arm(void *ctx, uint64_t ms)
{
	struct session *session = ctx;

	if (session->is_shaking_hands)
		return; /* the dialogue waits; the deadline is that of the handshake */
	session_set_deadline(session, ms);
}

/*
 * Nothing is in the way of an ordinary end: the client asked for it, said nothing behind that, and
 * all that was said to it is with the kernel, which delivers it. (What would arrive after the close
 * is not allowed behind QUIT.) Under TLS the client's own goodbye is still to come.
 */
static bool is_done_with(struct session *session, enum ending ending)
{
	if (ending != ENDING_QUIT || stream_tls_state(&session->stream) != NULL)
		return false;
	stream_flush(&session->stream);
	return stream_pending(&session->stream) == 0 && !stream_has_more(&session->stream);
}

static void on_close(void *ctx, enum ending ending)
{
	struct session *session = ctx;
	bool is_gone = ending == ENDING_CLIENT_CLOSED || ending == ENDING_CLIENT_RESET ||
		       ending == ENDING_TLS_FAILED || ending == ENDING_TLS_TIMEOUT;

	session->ending = ending;
	if (session->policy != NULL)
		policy_run_cancel(&session->policy->run);
	session_auth_over(session);
	/* In the middle of a handshake nobody could be told anything. */
	if (is_gone || session->is_shaking_hands)
		stream_flush(&session->stream);
	else if (!is_done_with(session, ending)) {
		linger(session);
		return;
	}
	session_over(session);
}

static const struct smtp_server_port server_port = {
	.send = on_send,
	.ask = on_ask,
	.forward_recipient = on_forward_recipient,
	.forward_data = on_forward_data,
	.forward_end = on_forward_end,
	.body_room = on_body_room,
	.body = on_body,
	.abandon = on_abandon,
	.ended = on_ended,
	.refused = on_refused,
	.offer = on_offer,
	.tls_is_available = session_tls_is_available,
	.start_tls = session_start_tls,
	.auth_begin = session_auth_begin,
	.auth_respond = session_auth_respond,
	.auth_cancel = session_auth_cancel,
	.has_server = on_has_server,
	.input_is_pending = on_input_is_pending,
	.output_is_full = on_output_is_full,
	.arm = on_arm,
	.close = on_close,
	.now_ms = session_now_ms,
};

/* ---- Between the parts ------------------------------------------------------------------------ */

/* Reading goes on exactly while the dialogue wants to hear the client. */
void session_sync_reading(struct session *session)
{
	if (session->phase != PHASE_DIALOGUE)
		return;
	if (smtp_server_wants_input(&session->server) && !on_output_is_full(session))
		stream_read_start(&session->stream);
	else if (smtp_server_minds_leaving(&session->server))
		stream_read_pause(&session->stream);
	else
		stream_read_stop(&session->stream);
}

static void on_decided(void *ctx, struct verdict verdict, const struct policy_step *step)
{
	struct session *session = ctx;

	/* The row says so whatever the plan asks. */
	if (session->server.state == SMTP_STATE_CONNECTED && stream_has_input(&session->stream))
		session->connection.early_talker = true;
	session->is_deciding = verdict.kind != VERDICT_NEXT && verdict.kind != VERDICT_ALLOW;
	session->server.deciding_check = step ? step->check->name : NULL;
	smtp_server_verdict(&session->server, verdict, step != NULL && step->holds);
	session->is_deciding = false;
	session->server.deciding_check = NULL;
	/* It has told its decision; the dialogue may have asked for the next one meanwhile. */
	if (session->policy != NULL && !session->policy->run.is_running)
		drop_policy(session);
	session_sync_reading(session);
}

static void on_forward_answered(void *ctx, const struct smtp_answer *answer)
{
	struct session *session = ctx;

	smtp_server_answer(&session->server, answer);
	session_sync_reading(session);
}

static void on_forward_body_lost(void *ctx, const struct smtp_answer *answer)
{
	struct session *session = ctx;

	smtp_server_body_lost(&session->server, answer);
	session_sync_reading(session);
}

static void on_forward_room(void *ctx)
{
	struct session *session = ctx;

	smtp_server_room(&session->server);
	session_sync_reading(session);
}

static void on_forward_auth_lost(void *ctx)
{
	struct session *session = ctx;

	session->server.auth_is_lost = true;
}

/* ---- What checks may ask ---------------------------------------------------------------------- */

static void on_policy_arm(void *ctx, uint64_t ms)
{
	struct session *session = ctx;

	timer_set(&session->policy->timer, ms);
}

static void on_policy_disarm(void *ctx)
{
	struct session *session = ctx;

	timer_clear(&session->policy->timer);
}

static unsigned on_connections_of(void *ctx, const struct ipaddr *client)
{
	struct session *session = ctx;

	return clients_count(&session->edge->clients, client);
}

static const struct sender_login *on_sender_login(void *ctx)
{
	struct session *session = ctx;

	return sender_slot_login(session->listener->senders);
}

static const struct policy_services services = {
	.now_ms = session_now_ms,
	.arm = on_policy_arm,
	.disarm = on_policy_disarm,
	.input_is_pending = on_input_is_pending,
	.connections_of = on_connections_of,
	.sender_login = on_sender_login,
};

static void on_policy_time(void *ctx)
{
	struct session *session = ctx;

	if (session->phase == PHASE_DIALOGUE)
		policy_run_expired(&session->policy->run);
}

static void make_policy(struct session *session)
{
	struct session_policy *policy = block_take(sizeof(*policy));

	session->policy = policy;
	timer_init(&policy->timer, session->edge->loop, on_policy_time, session);
	policy_run_init(&policy->run, session->listener->plan, &session->connection, &services,
		session, on_decided, session);
	policy->run.hostname = session->edge->hostname;
}

/* ---- The client's name ------------------------------------------------------------------------ */

static enum host_status host_status(enum resolver_status status)
{
	switch (status) {
	case RESOLVER_OK:
		return HOST_OK;
	case RESOLVER_NONE:
		return HOST_NONE;
	case RESOLVER_ERROR:
		return HOST_ERROR;
	case RESOLVER_TIMEOUT:
		return HOST_TIMEOUT;
	case RESOLVER_OFF:
		return HOST_OFF;
	}
	return HOST_ERROR;
}

static void on_name(void *ctx, const struct resolver_name *name)
{
	struct session *session = ctx;
	char ip[IPADDR_TEXT_MAX];

	session->name_question = NULL;
	if (name->status == RESOLVER_ERROR || name->status == RESOLVER_TIMEOUT)
		LOG(DNS_FAILED,
			log_text("query", ipaddr_print(&session->connection.remote.address.ip, ip)),
			log_text("error", resolver_status_word(name->status)));
	connection_set_remote_host(
		&session->connection, host_status(name->status), name->host, name->is_confirmed);
	if (session->phase == PHASE_DIALOGUE && session->policy != NULL)
		policy_run_event(&session->policy->run, POLICY_EVENT_CLIENT_NAME);
	if (session->forward != NULL)
		forward_name_known(session->forward);
}

static void ask_names(struct session *session)
{
	struct edge *edge = session->edge;
	struct connection *connection = &session->connection;

	find_local_name(session);
	if (connection->is_restricted)
		connection_set_remote_host(connection, HOST_OFF, STR(""), false);
	else
		session->name_question = resolver_reverse(
			edge->resolver, &connection->remote.address.ip, on_name, session);
}

/* ---- The dialogue begins ---------------------------------------------------------------------- */

static bool normalises(const struct session *session)
{
	const struct listener_settings *settings = session->listener->settings;

	return settings->bare_newline == BARE_NEWLINE_NORMALISE ||
	       ipnet_list_find(&settings->normalise_networks,
		       &session->connection.remote.address.ip) != NULL;
}

static void introduce(struct session *session)
{
	struct edge *edge = session->edge;
	struct connection *connection = &session->connection;

	ask_names(session);
	connection->is_traced =
		edge->trace_fd >= 0 && (!connection->is_restricted || edge->traces_restricted);
	if (connection->is_restricted)
		return;
	relay_grant_by_network(edge->relay, connection);
	clients_add(&edge->clients, &connection->remote.address.ip);
	edge->client_count++;
	session->is_counted = true;
	session_log_connect(connection);
}

static void on_start(void *ctx)
{
	struct session *session = ctx;

	session->session_due_ms = session_now_ms(session) + session->edge->timeouts->session;
	drop_opening(session);
	introduce(session);
	if (session->listener->settings->tls.mode == TLS_MODE_IMPLICIT)
		session_start_implicit_tls(session);
	else
		session_start_dialogue(session);
}

void session_start_dialogue(struct session *session)
{
	struct edge *edge = session->edge;

	smtp_server_init(
		&session->server, &edge->smtp, &server_port, session, &session->connection);
	session->server.normalises = normalises(session);
	session->server.requires_auth = session->listener->settings->auth.required;
	session->phase = PHASE_DIALOGUE;
	timer_clear(&session->deadline);
	session_set_deadline(session, 0);
	/* A health check that fails under load would take the whole program out of the balancer. */
	if (session->is_counted && edge->client_count > edge->limits->connections)
		smtp_server_stop(&session->server, REPLY_BUSY, ENDING_BUSY);
	else if (is_unavailable(session, UNAVAILABLE_BANNER))
		smtp_server_stop(&session->server, REPLY_UNAVAILABLE, ENDING_UNAVAILABLE);
	else
		smtp_server_start(&session->server);
	session_sync_reading(session);
}

/* From a task, so that what came behind a header in the same piece is seen as pending input. */
static void start_later(struct session *session)
{
	stream_read_stop(&session->stream);
	task_defer(&session->opening->start, session->edge->loop);
}

/* ---- The intake ------------------------------------------------------------------------------- */

static void say_why(struct session *session, struct str bytes)
{
	const char tls_handshake = 0x16;
	const struct intake *intake = &session->opening->intake;
	enum reply_id reply = intake->ending == ENDING_PROXY_UNTRUSTED ? REPLY_PROXY_UNTRUSTED
								       : REPLY_PROXY_MISSING;

	if (bytes.n > 0 && bytes.p[0] == tls_handshake)
		return;
	struct buf *out = &session->connection.last_response;
	reply_print(
		reply, &session->connection, session->edge->hostname, str_from(intake->text), out);
	stream_write(&session->stream, buf_view(out));
}

static void refuse_peer(struct session *session, struct str bytes)
{
	struct session_opening *opening = session->opening;
	bool is_mere_check = opening->intake.ending == ENDING_PROXY_CLOSED && bytes.n == 0;

	session->ending = opening->intake.ending;
	opening->was_refused = !is_mere_check;
	if (opening->was_refused)
		session_log_refused(&opening->intake, &opening->peer, bytes);
	if (session->ending == ENDING_PROXY_CLOSED) {
		session_over(session);
		return;
	}
	say_why(session, bytes);
	linger(session);
}

static void intake_decided(struct session *session, enum intake_decision decision, struct str bytes)
{
	struct connection *connection = &session->connection;
	const struct session_opening *opening = session->opening;
	const struct proxy_header *header = opening->intake.header;

	connection->proxy.allowed = opening->intake.is_trusted;
	switch (decision) {
	case INTAKE_WAIT:
		return;
	case INTAKE_REFUSED:
		refuse_peer(session, bytes);
		return;
	case INTAKE_RESTRICTED:
		connection->is_restricted = true;
		break;
	case INTAKE_DIRECT:
	case INTAKE_CLIENT:
		break;
	}
	if (header != NULL)
		connection_set_proxy(connection, header, &opening->peer, &opening->local);
	if (connection->is_restricted) {
		connection_set_remote(connection, &opening->peer);
		connection_set_local(connection, &opening->local);
	}
	start_later(session);
}

static size_t intake_input(struct session *session, struct str bytes)
{
	struct intake *intake = &session->opening->intake;
	struct proxy_header header;

	intake_decided(session, intake_feed(intake, bytes, &header), bytes);
	intake->header = NULL; /* its memory ends here */
	if (session->phase != PHASE_INTAKE)
		return bytes.n;
	return intake->taken;
}

static void intake_expired(struct session *session)
{
	uint64_t whole = session->edge->timeouts->proxy;
	struct session_opening *opening = session->opening;
	uint64_t silence = intake_silence_ms(&opening->intake, session->edge->timeouts);
	bool is_silent = stream_kept(&session->stream).n == 0;

	if (silence > 0 && silence < whole && !opening->was_silent && !is_silent) {
		/* It speaks: the rest is due in what is left of the time. */
		opening->was_silent = true;
		session_set_deadline(session, whole - silence);
		return;
	}
	intake_decided(session,
		silence > 0 && is_silent ? intake_silence(&opening->intake)
					 : intake_timeout(&opening->intake),
		stream_kept(&session->stream));
}

static void begin_intake(struct session *session)
{
	const struct timeouts_settings *timeouts = session->edge->timeouts;
	struct session_opening *opening = session->opening;
	enum intake_decision decision =
		intake_begin(&opening->intake, session->listener->settings, &opening->peer.ip);

	if (decision != INTAKE_WAIT) {
		intake_decided(session, decision, STR(""));
		return;
	}
	uint64_t silence = intake_silence_ms(&opening->intake, timeouts);
	session_set_deadline(session, silence > 0 ? silence : timeouts->proxy);
	stream_read_start(&session->stream);
}

/* ---- The stream ------------------------------------------------------------------------------- */

/* Their balancer sends a header, and our listener has it off: nothing else explains it as well. */
static void hint_at_header(struct session *session, struct str bytes)
{
	char ip[IPADDR_TEXT_MAX];

	session->hint_given = true;
	/* Without a header, whoever is the client is the peer. */
	if (session->connection.proxy.has_header || bytes.n < 5 || !proxy_looks_like_header(bytes))
		return;
	LOG(PROXY_HINT, log_str("listener", session->listener->settings->name),
		log_text("peer", ipaddr_print(&session->connection.remote.address.ip, ip)),
		log_text("detail",
			session->listener->settings->proxy == PROXY_MODE_OFF
				? "enable proxy on this listener if the peer is your balancer"
				: "add the peer to trusted_proxies if it is your balancer"));
}

static size_t on_input(void *ctx, struct str bytes)
{
	struct session *session = ctx;
	size_t taken = bytes.n;

	if (session->phase == PHASE_INTAKE)
		return intake_input(session, bytes);
	if (session->phase == PHASE_DIALOGUE) {
		if (!session->hint_given)
			hint_at_header(session, bytes);
		session->is_feeding = true;
		taken = smtp_server_feed(&session->server, bytes);
		session->is_feeding = false;
		/* The replies to commands that came together go together. */
		if (session->server.waiting == SMTP_WAITING_BACKEND)
			stream_hold(&session->stream);
		session_sync_reading(session);
	}
	/* What comes after the last reply is read only so that the reply is not lost. */
	return session->phase == PHASE_DIALOGUE ? taken : bytes.n;
}

static void on_eof(void *ctx)
{
	struct session *session = ctx;
	struct str kept = stream_kept(&session->stream);

	if (session->phase == PHASE_INTAKE)
		intake_decided(session, intake_eof(&session->opening->intake, kept.n > 0), kept);
	else if (session->phase == PHASE_DIALOGUE)
		smtp_server_eof(&session->server, false);
	else
		session_over(session);
}

static void on_failed(void *ctx, const struct err *err)
{
	struct session *session = ctx;

	(void)err;
	if (session->phase == PHASE_DIALOGUE) {
		smtp_server_eof(&session->server, true);
		return;
	}
	if (session->phase == PHASE_INTAKE)
		session->ending = ENDING_PROXY_CLOSED;
	if (session->phase == PHASE_HANDSHAKE)
		session->ending = ENDING_TLS_FAILED;
	session_over(session);
}

/* What is waited for holds places in queues, connections to servers, and attempts of AUTH. */
static void on_left(void *ctx)
{
	struct session *session = ctx;

	if (session->phase == PHASE_DIALOGUE)
		smtp_server_eof(&session->server, false);
}

static void on_drained(void *ctx)
{
	session_sync_reading(ctx);
}

static const struct stream_events stream_events = {
	.input = on_input,
	.eof = on_eof,
	.failed = on_failed,
	.left = on_left,
	.drained = on_drained,
};

/* ---- Deadlines -------------------------------------------------------------------------------- */

static uint64_t next_deadline(const struct session *session)
{
	bool is_first =
		session->phase == PHASE_DIALOGUE && session->session_due_ms < session->due_ms;

	return is_first ? session->session_due_ms : session->due_ms;
}

static void watch_deadlines(struct session *session, uint64_t now)
{
	uint64_t due = next_deadline(session);

	if (due == NEVER)
		timer_clear(&session->deadline);
	else
		timer_set(&session->deadline, due > now ? due - now : 0);
}

/* A deadline that goes away leaves the timer as it is: mostly another one follows before that. */
void session_set_deadline(struct session *session, uint64_t ms)
{
	uint64_t now = session_now_ms(session);

	session->due_ms = ms > 0 ? now + ms : NEVER;
	if (ms > 0 || session->deadline.due_ms == 0)
		watch_deadlines(session, now);
}

static bool is_session_due(const struct session *session, uint64_t now)
{
	return session->phase == PHASE_DIALOGUE && session->session_due_ms <= now;
}

static void end_session(struct session *session, uint64_t now)
{
	session->session_due_ms = now + FINAL_PATIENCE_MS;
	smtp_server_stop(&session->server, REPLY_SESSION_TOO_LONG, ENDING_SESSION_TIMEOUT);
	if (session->phase == PHASE_DIALOGUE)
		session_set_deadline(session, 0);
}

static void on_deadline(void *ctx)
{
	struct session *session = ctx;
	uint64_t now = session_now_ms(session);

	if (is_session_due(session, now))
		end_session(session, now);
	else if (session->due_ms > now)
		watch_deadlines(session, now);
	else if (session->is_shaking_hands)
		session_tls_timeout(session);
	else if (session->phase == PHASE_INTAKE)
		intake_expired(session);
	else if (session->phase == PHASE_DIALOGUE && stream_pending(&session->stream) > 0)
		smtp_server_stop(&session->server, REPLY_TIMEOUT, ENDING_WRITE_TIMEOUT);
	else if (session->phase == PHASE_DIALOGUE)
		smtp_server_timeout(&session->server);
	else
		session_over(session);
}

/* ---- The interface ---------------------------------------------------------------------------- */

static void make_opening(
	struct session *session, const struct endpoint *peer, const struct endpoint *local)
{
	session->opening = block_take_zeroed(sizeof(*session->opening));
	session->opening->peer = *peer;
	session->opening->local = *local;
	task_init(&session->opening->start, on_start, session);
}

static void init_connection(
	struct session *session, const struct endpoint *peer, const struct endpoint *local)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	connection_init(&session->connection, &now, session_now_ms(session));
	session->connection.listener = session->listener->settings->name;
	connection_set_remote(&session->connection, peer);
	connection_set_local(&session->connection, local);
}

void session_new(struct edge_listener *listener, int fd, const struct endpoint *peer,
	const struct endpoint *local)
{
	struct edge *edge = listener->edge;
	struct session *session = block_take_zeroed(sizeof(*session));

	session->edge = edge;
	session->listener = listener;
	stream_init(
		&session->stream, edge->loop, fd, STREAM_IN_MAX, OUT_MAX, &stream_events, session);
	if (listener->auth != NULL)
		stream_set_secret(&session->stream);
	timer_init(&session->deadline, edge->loop, on_deadline, session);
	session_auth_init(session);
	make_opening(session, peer, local);
	init_connection(session, peer, local);
	LIST_INSERT_HEAD(&edge->sessions, session, link);
	edge->session_count++;
	if (edge->session_count > INTAKE_FACTOR * edge->limits->connections + INTAKE_RESERVE) {
		session->ending = ENDING_BUSY;
		session_over(session);
		return;
	}
	begin_intake(session);
}

void session_stop_all(struct edge *edge)
{
	struct session *session, *next;

	for (session = LIST_FIRST(&edge->sessions); session != NULL; session = next) {
		next = LIST_NEXT(session, link);
		if (session->phase == PHASE_DIALOGUE)
			smtp_server_stop(&session->server, REPLY_SHUTDOWN, ENDING_SHUTDOWN);
		else if (session->phase == PHASE_INTAKE || session->phase == PHASE_HANDSHAKE) {
			session->ending = ENDING_SHUTDOWN;
			session_over(session);
		}
	}
}

void session_abort_all(struct edge *edge)
{
	while (!LIST_EMPTY(&edge->sessions)) {
		struct session *session = LIST_FIRST(&edge->sessions);
		if (session->phase == PHASE_DIALOGUE)
			smtp_server_abort(&session->server, ENDING_SHUTDOWN);
		else if (session->phase != PHASE_LINGER)
			session->ending = ENDING_SHUTDOWN;
		session_over(session);
	}
}
