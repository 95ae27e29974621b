/*
 * TLS with the client: after STARTTLS within the dialogue, or from the first byte behind the PROXY
 * header. Handshakes cost much and come from strangers: their number is bounded, and each has its
 * deadline.
 */
#include "base/log.h"
#include "proto/smtp_params.h"
#include "session_priv.h"

static void begin(struct session *session)
{
	session->is_shaking_hands = true;
	session->edge->handshakes++;
	clients_add(&session->edge->handshakers, &session->connection.remote.address.ip);
	session_set_deadline(session, session->edge->timeouts->tls_handshake);
}

static void end(struct session *session)
{
	if (!session->is_shaking_hands)
		return;
	session->is_shaking_hands = false;
	session->edge->handshakes--;
	clients_remove(&session->edge->handshakers, &session->connection.remote.address.ip);
	session_set_deadline(session, 0);
}

static bool keep(struct connection *connection, struct str text, struct str *kept)
{
	return text.n == 0 || arena_str(&connection->arena, text, kept);
}

/* The connection object's row; NULL when the arena is full. */
static struct tls_info *describe(struct session *session)
{
	struct connection *connection = &session->connection;
	const struct tls_state *state = stream_tls_state(&session->stream);
	struct tls_info *tls = arena_alloc(&connection->arena, sizeof(*tls));

	if (tls == NULL || !keep(connection, state->version, &tls->version) ||
		!keep(connection, state->cipher, &tls->cipher) ||
		!keep(connection, state->sni, &tls->sni) ||
		!keep(connection, state->peer_subject, &tls->client_subject) ||
		!keep(connection, state->peer_fingerprint, &tls->client_fingerprint))
		return NULL;
	tls->client_certificate = state->has_peer_certificate;
	tls->client_verified = state->peer_is_verified;
	return tls;
}

static void log_failed(const struct session *session, const char *why)
{
	char ip[IPADDR_TEXT_MAX];

	LOG(TLS_FAILED, log_text("uuid", session->connection.uuid),
		log_str("listener", session->connection.listener),
		log_text("client", ipaddr_print(&session->connection.remote.address.ip, ip)),
		log_text("error", why));
}

static void give_up(struct session *session, enum ending ending, const char *why)
{
	end(session);
	if (!session->connection.is_restricted) /* a check that only connects is no event */
		log_failed(session, why);
	if (session->phase == PHASE_DIALOGUE) {
		smtp_server_abort(&session->server, ending);
		return;
	}
	session->ending = ending;
	session_over(session);
}

static void on_done(void *ctx, const struct err *err)
{
	struct session *session = ctx;

	if (!session->is_shaking_hands)
		return; /* given up meanwhile */
	if (err != NULL) {
		give_up(session, ENDING_TLS_FAILED, err->text);
		return;
	}
	end(session);
	struct tls_info *tls = describe(session);
	if (tls == NULL) {
		give_up(session, ENDING_TLS_FAILED, "no memory for what was negotiated");
	} else if (session->phase == PHASE_DIALOGUE) {
		smtp_server_tls_started(&session->server, tls);
		session_sync_reading(session);
	} else {
		session->connection.tls = tls;
		session_start_dialogue(session);
	}
}

bool session_tls_is_available(void *ctx)
{
	const struct session *session = ctx;
	const struct edge *edge = session->edge;
	const struct limits_settings *limits = edge->limits;
	const struct ipaddr *client = &session->connection.remote.address.ip;

	/* Health checks must not fail because clients shake hands. */
	if (session->connection.is_restricted)
		return true;
	return edge->handshakes < limits->handshakes &&
	       clients_count(&edge->handshakers, client) < limits->handshakes_per_client;
}

void session_start_tls(void *ctx)
{
	struct session *session = ctx;

	session_auth_forget(session);
	begin(session);
	stream_start_tls(&session->stream, session->listener->tls->context, on_done, session);
}

void session_start_implicit_tls(struct session *session)
{
	session->phase = PHASE_HANDSHAKE;
	if (session_tls_is_available(session))
		session_start_tls(session);
	else
		give_up(session, ENDING_BUSY, "too many handshakes under way");
}

void session_tls_timeout(struct session *session)
{
	give_up(session, ENDING_TLS_TIMEOUT, "no complete handshake within timeouts.tls_handshake");
}

void session_tls_over(struct session *session)
{
	end(session);
}
