/*
 * From the connection to ready: who the client is, STARTTLS where it is due, and what the server
 * offers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "backend/answer.h"
#include "backend/backend_tls.h"
#include "backend/identity.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "link_priv.h"
#include "proto/smtp_params.h"

/* ---- Who the client is ------------------------------------------------------------------------ */

/* In place of a unix socket, which a header of version 1 has no word for: it is on this machine. */
static struct endpoint loopback(void)
{
	return (struct endpoint){ .ip = ipaddr_from_v4((const uint8_t[]){ 127, 0, 0, 1 }),
		.port = 25 };
}

static struct endpoint own_address(int fd)
{
	struct sockaddr_storage storage = { 0 };
	socklen_t length = sizeof(storage);
	struct endpoint own = loopback();

	if (getsockname(fd, (struct sockaddr *)&storage, &length) == 0)
		endpoint_from_sockaddr((struct sockaddr *)&storage, &own);
	return own;
}

/* Before anything else, and nothing else in the same write (proxy-protocol.txt section 2). */
void link_send_identity(struct link *link)
{
	struct endpoint own =
		link->is_probe ? own_address(link->stream.fd) : (struct endpoint){ 0 };
	struct endpoint server = server_is_unix(link->server) ? loopback() : link->address;
	char header[PROXY_V2_SENT_MAX];
	size_t n =
		identity_header(link->backend->settings, link->connection, &own, &server, header);

	if (n == 0)
		return;
	stream_write(&link->stream, str_make(header, n));
	stream_flush(&link->stream);
}

/* What XCLIENT says, and the client's address as a name for EHLO, if it has no better one (RFC 5321
 * section 4.1.3): both live as long as the connection. */
struct introduction {
	struct xclient_identity identity;
	char literal[IPADDR_TEXT_MAX + sizeof("[IPv6:]")];
};

/* The session is the client's once XCLIENT has said so, and its name belongs to it. */
struct str link_hello_name(const struct link *link)
{
	bool is_own = link->backend->settings->hello != BACKEND_HELLO_CLIENT && !link->is_clients;

	if (link->connection == NULL || is_own)
		return link->env->hostname;
	struct str client = link->connection->hello.host;
	if (smtp_is_host_name(client, false) || smtp_is_address_literal(client))
		return client;
	return link->is_clients ? str_from(link->introduction->literal) : link->env->hostname;
}

/* ---- How far ---------------------------------------------------------------------------------- */

/* A server that has not said yet whether it takes who the client is: the first probe asks. */
static bool is_introduction_due(const struct link *link)
{
	const struct backend_settings *settings = link->backend->settings;

	return !link->server->is_known &&
	       (identity_is_xclient(settings) || identity_is_xforward(settings));
}

bool link_is_seen(const struct link *link)
{
	if (!link->is_probe || link->state != LINK_GREETING || is_introduction_due(link))
		return false;
	if (link->backend->settings->health.check == HEALTH_CHECK_CONNECT)
		return true;
	return link->backend->settings->health.check == HEALTH_CHECK_BANNER &&
	       smtp_client_pending(&link->client) > 0 &&
	       smtp_client_step(&link->client) == SMTP_CLIENT_EHLO;
}

/* ---- The steps -------------------------------------------------------------------------------- */

void link_log_fallback(const struct link *link, const char *reason)
{
	LOG(TLS_FALLBACK, log_text("uuid", link->connection ? link->connection->uuid : NULL),
		log_str("backend", link->backend->settings->name),
		log_text("server", link->server->name), log_text("reason", reason));
}

/* Without XCLIENT, where that is not required, the session is ours. */
unsigned link_shows(const struct link *link)
{
	const struct backend_settings *settings = link->backend->settings;

	if (!identity_is_xclient(settings) || link->is_clients)
		return identity_shows(settings);
	return settings->hello == BACKEND_HELLO_CLIENT ? ANSWER_HELLO_IS_CLIENTS : 0;
}

/* What a server offers when it knows the client may be for this one alone; probes hear what all are
 * offered, if they say EHLO. */
static bool is_for_all(const struct link *link)
{
	const struct backend_settings *settings = link->backend->settings;

	return link->is_probe || settings->health.check != HEALTH_CHECK_EHLO ||
	       !(identity_shows(settings) & ANSWER_ADDRESS_IS_CLIENTS);
}

void link_ready(struct link *link)
{
	uint64_t now = loop_now_ms(link->env->loop);

	if (is_for_all(link))
		server_learn(link->server, &link->client.capabilities, now);
	else
		server_learn_less(link->server, &link->client.capabilities, now);
	link->state = LINK_READY;
	link->born_ms = now;
	timer_clear(&link->deadline);
	link->port->ready(link->ctx);
}

static void alarm_identity(const struct link *link, const char *why)
{
	LOG(IDENTITY_REFUSED, log_text("uuid", link->connection ? link->connection->uuid : NULL),
		log_str("backend", link->backend->settings->name),
		log_text("server", link->server->name),
		log_text("identity", identity_words[link->backend->settings->identity]),
		log_text("reply", why));
}

static void begin_introduction(struct link *link)
{
	const struct ipaddr *client = &link->connection->remote.address.ip;
	struct introduction *introduction = xcalloc(1, sizeof(*introduction));
	char ip[IPADDR_TEXT_MAX];

	free(link->introduction); /* of a connection before this one */
	link->introduction = introduction;
	identity_of(link->connection, &introduction->identity);
	snprintf(introduction->literal, sizeof(introduction->literal), "[%s%s]",
		ipaddr_is_v4(client) ? "" : "IPv6:", ipaddr_print(client, ip));
}

/* EHLO is answered, and TLS is settled. */
static void introduce(struct link *link)
{
	const struct backend_settings *settings = link->backend->settings;
	bool is_offered = identity_is_offered(settings, &link->client.capabilities);

	if (!is_offered && !link->is_clients) {
		alarm_identity(link, "not offered");
		if (settings->identity_required) {
			link_fail(link, LINK_REFUSED, "identity not offered");
			return;
		}
	} else if (identity_is_xclient(settings) && !link->is_probe && !link->is_clients) {
		begin_introduction(link);
		if (smtp_client_xclient(&link->client, &link->introduction->identity))
			return;
	}
	link_authenticate(link);
}

/* What is about us: the right to say it, its form, its place. */
static bool is_our_fault(const struct smtp_reply *reply)
{
	return reply->code == 501 || reply->code == 502 || reply->code == 503 || reply->code == 550;
}

/* 421 is the server's own goodbye, but for what policy says of the client whom it was just told (X.7):
 * Postfix, of one with too many connections. */
static bool is_goodbye(const struct smtp_reply *reply)
{
	return reply->code == 421 && !(reply->enhanced.present && reply->enhanced.subject == 7);
}

/* Other refusals are the server's policy, and meant for the client. */
static void xclient_answered(struct link *link, const struct smtp_reply *reply)
{
	char why[128];

	if (reply->code == 220) {
		link->is_clients = true;
		smtp_client_hello_again(&link->client, link_hello_name(link));
	} else if (smtp_reply_class(reply) >= 4 && !is_goodbye(reply) && !is_our_fault(reply)) {
		link_refused(link, reply);
	} else {
		snprintf(why, sizeof(why), "%d %.*s", reply->code, STR_ARG(reply->text));
		alarm_identity(link, why);
		if (link->backend->settings->identity_required || reply->code == 421)
			link_fail(link, LINK_REFUSED, "XCLIENT refused");
		else
			link_authenticate(link);
	}
}

/*
 * A refusal behind a PROXY header, or of a name in EHLO that is the client's, from a server that takes
 * others: its verdict on this client. 521 (RFC 7504) and X.3 (RFC 3463: the system) are none.
 */
static bool refuses_client(
	const struct link *link, enum smtp_client_step step, const struct smtp_reply *reply)
{
	const struct backend_settings *settings = link->backend->settings;

	if (link->is_probe || smtp_reply_class(reply) < 4 ||
		(reply->code == 421 && (!link->is_clients || is_goodbye(reply))) ||
		reply->code == 521 || (reply->enhanced.present && reply->enhanced.subject != 7) ||
		!server_is_usable(link->server, loop_now_ms(link->env->loop)))
		return false;
	if (step == SMTP_CLIENT_BANNER)
		return identity_is_proxy(settings);
	return link->is_clients || settings->hello == BACKEND_HELLO_CLIENT;
}

static void not_greeted(
	struct link *link, enum smtp_client_step step, const struct smtp_reply *reply)
{
	if (refuses_client(link, step, reply)) {
		server_refused_client(link->server, loop_now_ms(link->env->loop));
		link_refused(link, reply);
	} else {
		link_fail(link, LINK_REFUSED,
			smtp_reply_class(reply) == 4 ? "refused for now" : "refused");
	}
}

static void greeted(struct link *link)
{
	if (link->is_clients) {
		introduce(link);
		return;
	}
	switch (backend_tls_step(
		link->backend, &link->client.capabilities, link->is_tls || link->avoids_tls)) {
	case TLS_STEP_NONE:
		introduce(link);
		break;
	case TLS_STEP_PLAINTEXT:
		link_log_fallback(link, "STARTTLS not offered");
		introduce(link);
		break;
	case TLS_STEP_STARTTLS:
		smtp_client_starttls(&link->client);
		break;
	case TLS_STEP_REFUSE:
		link_fail(link, LINK_REFUSED, "STARTTLS not offered");
		break;
	}
}

/* After 421 the server goes away: only a new connection can do without TLS. */
static void starttls_answered(struct link *link, const struct smtp_reply *reply)
{
	if (reply->code == 220) {
		link->tls_is_due = true; /* when it is sure that nothing came behind the reply */
	} else if (reply->code == 421) {
		link_tls_failed(link, "STARTTLS refused");
	} else if (backend_tls_failed(link->backend) == TLS_STEP_PLAINTEXT) {
		link_log_fallback(link, "STARTTLS refused");
		introduce(link);
	} else {
		link_fail(link, LINK_REFUSED, "STARTTLS refused");
	}
}

void link_greeting_answered(
	struct link *link, enum smtp_client_step step, const struct smtp_reply *reply)
{
	if (step == SMTP_CLIENT_STARTTLS)
		starttls_answered(link, reply);
	else if (step == SMTP_CLIENT_XCLIENT)
		xclient_answered(link, reply);
	else if (step == SMTP_CLIENT_AUTH)
		link_auth_answered(link, reply);
	else if (!link->client.is_ready)
		not_greeted(link, step, reply);
	else
		greeted(link);
}
