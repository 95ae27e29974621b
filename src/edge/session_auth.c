/*
 * AUTH: joins the dialogue to the listener's authentication service. What is offered depends on TLS;
 * failures are held back, counted by client and by user, and logged without secrets.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/xalloc.h"
#include "edge/auth_backend.h"
#include "session_priv.h"

#define OFFER_MAX 128 /* all of them fit */

/* What the log has of a connection. */
enum { TOLD_UNAVAILABLE = 1 << 0, TOLD_LIMITED = 1 << 1 };

static const struct auth_settings *settings(const struct session *session)
{
	return &session->listener->settings->auth;
}

/* ---- What is offered -------------------------------------------------------------------------- */

/* RFC 4954 section 4: not in the clear, but for networks that are named for it. */
static bool is_protected(const struct session *session)
{
	return session->connection.tls != NULL ||
	       ipnet_list_find(&settings(session)->allow_plaintext,
		       &session->connection.remote.address.ip) != NULL;
}

static unsigned configured(const struct auth_settings *auth)
{
	const struct str *names = auth->mechanisms.items;
	unsigned set = 0;

	for (size_t i = 0; i < auth->mechanisms.count; i++)
		set |= auth_mechanism_find(names[i]);
	return auth->mechanisms.count > 0 ? set : ~0u;
}

static unsigned offered(const struct session *session)
{
	struct auth_service *service = session->listener->auth;
	unsigned set = service->kind->mechanisms(service) & configured(settings(session));
	const struct tls_state *state = stream_tls_state(&session->stream);

	/* Channel binding needs TLS of our own. */
	if (state == NULL || !state->can_bind)
		set &= ~(unsigned)AUTH_SCRAM_SHA_256_PLUS;
	return set;
}

struct str session_auth_offer(struct session *session)
{
	static char text[OFFER_MAX]; /* used at once, by the reply to EHLO */
	size_t n = 0;

	if (session->listener->auth == NULL || session->connection.is_restricted ||
		!is_protected(session))
		return STR("");
	unsigned set = offered(session);
	for (unsigned bit = 1; bit <= AUTH_XOAUTH2; bit <<= 1) {
		if (!(set & bit))
			continue;
		struct str word = auth_mechanism_word(bit);
		if (n > 0)
			text[n++] = ' ';
		n += str_copy_to(word, text + n, sizeof(text) - n);
	}
	return str_make(text, n);
}

/* ---- The end of an attempt -------------------------------------------------------------------- */

static const char *result_word(enum auth_result result)
{
	static const char *const words[] = {
		[AUTH_OK] = "ok",
		[AUTH_REFUSED] = "refused",
		[AUTH_MALFORMED] = "malformed",
		[AUTH_UNAVAILABLE] = "unavailable",
		[AUTH_EXPIRED] = "expired",
	};

	return words[result];
}

/* Refusals are few, as they are held back, and counted. What is answered at once and without end is
 * recorded once a connection, which has records of its own: from this question on it was told. */
static bool was_told(struct session *session, unsigned what)
{
	bool is_told = session->auth_state->told & what;

	session->auth_state->told |= what;
	return is_told;
}

static void log_failure(struct session *session, enum auth_result result)
{
	char ip[IPADDR_TEXT_MAX];
	const char *user = session->auth_state->user[0] ? session->auth_state->user : NULL;

	if (result == AUTH_UNAVAILABLE && was_told(session, TOLD_UNAVAILABLE))
		return;
	LOG(AUTH_FAILED, log_text("uuid", session->connection.uuid),
		log_str("listener", session->connection.listener),
		log_text("client", ipaddr_print(&session->connection.remote.address.ip, ip)),
		log_text("mechanism", session->server.auth->word), log_text("user", user),
		log_text("result", result_word(result)));
}

static void tell(struct session *session, enum auth_result result)
{
	static const enum smtp_auth_end ends[] = {
		[AUTH_OK] = SMTP_AUTH_OK,
		[AUTH_REFUSED] = SMTP_AUTH_REFUSED,
		[AUTH_MALFORMED] = SMTP_AUTH_MALFORMED,
		[AUTH_UNAVAILABLE] = SMTP_AUTH_UNAVAILABLE,
		[AUTH_EXPIRED] = SMTP_AUTH_EXPIRED,
	};

	smtp_server_auth_done(&session->server, ends[result], str_from(session->auth_state->user));
	session_sync_reading(session);
}

static void on_delay_over(void *ctx)
{
	struct session *session = ctx;

	if (session->phase == PHASE_DIALOGUE)
		tell(session, session->auth_state->result);
}

/* Whom failures are counted for: an IPv4 address, or an IPv6 network, as one client has a whole /64
 * of addresses to try from. */
static struct str guessed_by(const struct session *session, char text[IPADDR_TEXT_MAX])
{
	struct ipaddr ip = session->connection.remote.address.ip;

	if (!ipaddr_is_v4(&ip))
		memset(ip.bytes + 8, 0, 8);
	return str_from(ipaddr_print(&ip, text));
}

/* For the client, and for the user unless that is put off anyway. */
static void count_failure(struct session *session, bool is_put_off)
{
	char ip[IPADDR_TEXT_MAX];

	auth_guard_failed(&session->edge->auth_guard, guessed_by(session, ip),
		is_put_off ? STR("") : str_from(session->auth_state->user),
		settings(session)->failure_window_ms, session_now_ms(session));
}

static void remember_success(struct session *session)
{
	char ip[IPADDR_TEXT_MAX];

	auth_guard_succeeded(&session->edge->auth_guard, guessed_by(session, ip),
		str_from(session->auth_state->user), session_now_ms(session));
}

static bool is_client_limited(struct session *session)
{
	const struct auth_settings *auth = settings(session);
	char ip[IPADDR_TEXT_MAX];

	return auth_guard_client_is_limited(&session->edge->auth_guard, guessed_by(session, ip),
		auth->failures_per_client, auth->failure_window_ms, session_now_ms(session));
}

static bool is_user_limited(struct session *session, struct str user)
{
	const struct auth_settings *auth = settings(session);
	char ip[IPADDR_TEXT_MAX];

	return user.n > 0 &&
	       auth_guard_user_is_limited(&session->edge->auth_guard, guessed_by(session, ip), user,
		       auth->failures_per_user, auth->failure_window_ms, session_now_ms(session));
}

static void log_limited(struct session *session)
{
	char ip[IPADDR_TEXT_MAX];

	if (was_told(session, TOLD_LIMITED))
		return;
	LOG(AUTH_LIMITED, log_text("uuid", session->connection.uuid),
		log_str("listener", session->connection.listener),
		log_text("client", ipaddr_print(&session->connection.remote.address.ip, ip)));
}

/* From the client's last response on, not from the beginning: the client chooses when it responds, and
 * could let the check end just before or behind a multiple of the delay. */
static void hold_back(struct session *session, enum auth_result result)
{
	uint64_t took = session_now_ms(session) - session->auth_state->asked_ms;

	session->auth_state->result = result;
	timer_set(&session->auth_state->delay,
		auth_guard_wait_ms(settings(session)->failure_delay_ms, took));
}

/* A name that is cut would be somebody else's. */
static enum auth_result keep_user(struct session *session, enum auth_result result, struct str user)
{
	bool fits = user.n < sizeof(session->auth_state->user);

	session->auth_state->user[0] = '\0';
	if (fits)
		str_copy_to(user, session->auth_state->user, sizeof(session->auth_state->user));
	return result == AUTH_OK && !fits ? AUTH_REFUSED : result;
}

/* The connection to the backend on which it succeeded is this client's, if it was there. */
static void take_link(struct session *session)
{
	bool is_in = session->phase == PHASE_DIALOGUE && session->connection.auth != NULL;
	struct link *link = is_in ? auth_backend_take(session->listener->auth) : NULL;

	if (link != NULL)
		forward_bind(session_forward(session), link);
}

void session_auth_forget(struct session *session)
{
	if (session->forward != NULL)
		forward_unbind(session->forward);
	session->server.auth_is_lost = false;
}

static void on_done(void *ctx, enum auth_result result, struct str user)
{
	struct session *session = ctx;

	session->auth = NULL;
	result = keep_user(session, result, user);
	bool is_put_off = is_user_limited(session, str_from(session->auth_state->user));
	if (result != AUTH_OK)
		log_failure(session, result);
	/* The right password counts as well when it is put off: else the limit of the client would
	 * tell, by when it comes, whether it was among those that were tried. */
	if (result != AUTH_UNAVAILABLE && (result != AUTH_OK || is_put_off))
		count_failure(session, is_put_off);
	/* Whom the user is closed to is answered the right password, and as late, as the wrong ones
	 * are: else the answer would tell which it is. */
	if (is_put_off && result != AUTH_UNAVAILABLE) {
		log_limited(session);
		hold_back(session, AUTH_UNAVAILABLE);
		return;
	}
	if (result == AUTH_OK)
		remember_success(session);
	if (result == AUTH_OK || result == AUTH_UNAVAILABLE)
		tell(session, result);
	else
		hold_back(session, result);
	take_link(session);
}

static void on_challenge(void *ctx, struct str bytes)
{
	struct session *session = ctx;

	smtp_server_auth_challenge(&session->server, bytes);
	session_sync_reading(session);
}

static bool is_put_off(void *ctx, struct str user)
{
	return is_user_limited(ctx, user);
}

static const struct auth_port port = {
	.challenge = on_challenge,
	.done = on_done,
	.is_put_off = is_put_off,
};

/* ---- The dialogue's wishes -------------------------------------------------------------------- */

/* For SCRAM alone. A client that was not offered -PLUS must be free to say so (RFC 5802 section 6). */
static struct str channel_binding(
	const struct session *session, unsigned mechanism, char memory[TLS_CHANNEL_BINDING])
{
	bool is_asked = mechanism & (AUTH_SCRAM_SHA_256 | AUTH_SCRAM_SHA_256_PLUS) &&
			offered(session) & AUTH_SCRAM_SHA_256_PLUS;

	if (!is_asked || !stream_channel_binding(&session->stream, memory))
		return STR("");
	return str_make(memory, TLS_CHANNEL_BINDING);
}

enum smtp_auth_start session_auth_begin(void *ctx, struct str mechanism, const struct str *initial)
{
	struct session *session = ctx;
	const struct connection *connection = &session->connection;
	struct auth_service *service = session->listener->auth;
	char binding[TLS_CHANNEL_BINDING];

	if (service == NULL)
		return SMTP_AUTH_NOT_HERE;
	if (!is_protected(session))
		return SMTP_AUTH_NEEDS_TLS;
	unsigned bit = auth_mechanism_find(mechanism) & offered(session);
	if (service->kind->mechanisms(service) == 0)
		return SMTP_AUTH_NOT_AVAILABLE; /* a server that was not reached yet */
	if (bit == 0)
		return SMTP_AUTH_NO_MECHANISM;
	if (is_client_limited(session)) {
		log_limited(session);
		return SMTP_AUTH_NOT_AVAILABLE;
	}
	struct auth_client client = {
		.remote = connection->remote.address,
		.local = connection->local.address,
		.session = str_from(connection->uuid),
		.is_tls = connection->tls != NULL,
		.connection = connection,
		.tls_sni = connection->tls ? connection->tls->sni : STR(""),
		.channel_binding = channel_binding(session, bit, binding),
	};
	session->auth_state->user[0] = '\0';
	session->auth_state->asked_ms = session_now_ms(session);
	session->auth = service->kind->begin(service, bit, initial, &client, &port, session);
	return session->auth ? SMTP_AUTH_STARTED : SMTP_AUTH_NOT_AVAILABLE;
}

void session_auth_respond(void *ctx, struct str response)
{
	struct session *session = ctx;

	session->auth_state->asked_ms = session_now_ms(session);
	session->listener->auth->kind->respond(session->auth, response);
}

void session_auth_cancel(void *ctx)
{
	session_auth_over(ctx);
}

void session_auth_init(struct session *session)
{
	if (session->listener->auth == NULL)
		return;
	session->auth_state = xcalloc(1, sizeof(*session->auth_state));
	timer_init(&session->auth_state->delay, session->edge->loop, on_delay_over, session);
}

void session_auth_free(struct session *session)
{
	if (session->auth_state == NULL)
		return;
	timer_stop(&session->auth_state->delay);
	free(session->auth_state);
}

void session_auth_over(struct session *session)
{
	if (session->auth_state == NULL)
		return;
	timer_clear(&session->auth_state->delay);
	if (session->auth == NULL)
		return;
	session->listener->auth->kind->cancel(session->auth);
	session->auth = NULL;
}
