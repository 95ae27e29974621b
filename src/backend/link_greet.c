/*
 * From the connection to ready: who the client is, STARTTLS where it is due, and what the server
 * offers.
 */
#include <sys/socket.h>

#include "backend/backend_tls.h"
#include "base/log.h"
#include "link_priv.h"
#include "proto/proxy.h"
#include "proto/smtp_params.h"

/* ---- Who the client is ------------------------------------------------------------------------ */

static struct endpoint own_address(int fd)
{
	struct sockaddr_storage storage = { 0 };
	socklen_t length = sizeof(storage);
	struct endpoint own = { 0 };

	if (getsockname(fd, (struct sockaddr *)&storage, &length) == 0)
		endpoint_from_sockaddr((struct sockaddr *)&storage, &own);
	return own;
}

/* A probe is nobody's: version 2 can say that, version 1 has no form for it that all take. */
static size_t print_own(const struct link *link, char header[PROXY_V1_MAX + 1])
{
	struct endpoint own = own_address(link->stream.fd);

	if (link->backend->settings->identity == IDENTITY_PROXY_V1)
		return proxy_v1_print(&own, &link->connector.address, header);
	return proxy_v2_print_local(header);
}

static size_t print_client(const struct link *link, char header[PROXY_V1_MAX + 1])
{
	const struct endpoint *client = &link->connection->remote.address;
	const struct endpoint *local = &link->connection->local.address;

	if (link->backend->settings->identity == IDENTITY_PROXY_V1)
		return proxy_v1_print(client, local, header);
	return proxy_v2_print(client, local, header);
}

/* Before anything else, and nothing else in the same write (proxy-protocol.txt section 2). */
void link_send_identity(struct link *link)
{
	char header[PROXY_V1_MAX + 1];

	if (link->backend->settings->identity == IDENTITY_NONE)
		return;
	size_t n = link->connection ? print_client(link, header) : print_own(link, header);
	stream_write(&link->stream, str_make(header, n));
	stream_flush(&link->stream);
}

struct str link_hello_name(const struct link *link)
{
	if (link->connection == NULL || link->backend->settings->hello != BACKEND_HELLO_CLIENT)
		return link->env->hostname;
	struct str client = link->connection->hello.host;
	if (smtp_is_host_name(client, false) || smtp_is_address_literal(client))
		return client;
	return link->env->hostname;
}

/* ---- How far ---------------------------------------------------------------------------------- */

bool link_is_seen(const struct link *link)
{
	if (!link->is_probe || link->state != LINK_GREETING)
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

static void ready(struct link *link)
{
	server_learn(link->server, &link->client.capabilities, loop_now_ms(link->env->loop));
	link->state = LINK_READY;
	link->born_ms = loop_now_ms(link->env->loop);
	timer_clear(&link->deadline);
	link->port->ready(link->ctx);
}

static void greeted(struct link *link, const struct smtp_reply *reply)
{
	if (!link->client.is_ready) {
		link_fail(link, LINK_REFUSED,
			smtp_reply_class(reply) == 4 ? "refused for now" : "refused");
		return;
	}
	switch (backend_tls_step(
		link->backend, &link->client.capabilities, link->is_tls || link->avoids_tls)) {
	case TLS_STEP_NONE:
		ready(link);
		break;
	case TLS_STEP_PLAINTEXT:
		link_log_fallback(link, "STARTTLS not offered");
		ready(link);
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
		ready(link);
	} else {
		link_fail(link, LINK_REFUSED, "STARTTLS refused");
	}
}

void link_greeting_answered(
	struct link *link, enum smtp_client_step step, const struct smtp_reply *reply)
{
	if (step == SMTP_CLIENT_STARTTLS)
		starttls_answered(link, reply);
	else
		greeted(link, reply);
}
