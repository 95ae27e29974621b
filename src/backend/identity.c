#include "backend/identity.h"

#include "backend/answer.h"
#include "connection/transaction.h"

const char *const identity_words[] = { "none", "proxy-v1", "proxy-v2", "xclient", "xforward",
	"local+xclient", NULL };

bool identity_is_proxy(const struct backend_settings *settings)
{
	return settings->identity == IDENTITY_PROXY_V1 || settings->identity == IDENTITY_PROXY_V2;
}

bool identity_is_xclient(const struct backend_settings *settings)
{
	return settings->identity == IDENTITY_XCLIENT ||
	       settings->identity == IDENTITY_LOCAL_XCLIENT;
}

bool identity_is_xforward(const struct backend_settings *settings)
{
	return settings->identity == IDENTITY_XFORWARD;
}

bool identity_names_hello(const struct backend_settings *settings)
{
	return identity_is_xclient(settings) || settings->hello == BACKEND_HELLO_CLIENT;
}

unsigned identity_shows(const struct backend_settings *settings)
{
	bool shows_address = identity_is_proxy(settings) || identity_is_xclient(settings);

	return (identity_names_hello(settings) ? ANSWER_HELLO_IS_CLIENTS : 0) |
	       (shows_address ? ANSWER_ADDRESS_IS_CLIENTS : 0);
}

void identity_told(const struct connection *connection, struct identity_told *told)
{
	*told = (struct identity_told){ .hello = connection->hello.host,
		.esmtp = connection->esmtp,
		.auth = connection->auth,
		.tls = connection->tls };
}

bool identity_holds(const struct backend_settings *settings, const struct identity_told *told,
	const struct connection *connection)
{
	if (identity_names_hello(settings) && !str_eq(told->hello, connection->hello.host))
		return false;
	if (identity_is_xclient(settings))
		return told->esmtp == connection->esmtp && told->auth == connection->auth;
	return settings->proxy_tlvs.count == 0 || told->tls == connection->tls;
}

/* ---- The PROXY header ------------------------------------------------------------------------- */

static bool has_tlv(const struct backend_settings *settings, enum proxy_tlv_word word)
{
	const int *words = settings->proxy_tlvs.items;

	for (size_t i = 0; i < settings->proxy_tlvs.count; i++)
		if (words[i] == (int)word)
			return true;
	return false;
}

/* What is known of TLS with the client: our own, or the balancer's word for it. */
static bool ssl_of(const struct connection *connection, struct proxy_ssl *ssl)
{
	const struct tls_info *tls = connection->tls;

	if (tls == NULL)
		return false;
	*ssl = (struct proxy_ssl){
		.client = 1, .verify = 1, .version = tls->version, .cipher = tls->cipher
	};
	if (tls->client_certificate)
		ssl->client |= 2 | 4;
	if (tls->client_verified)
		ssl->verify = 0;
	if (tls->offloaded && connection->proxy.tls != NULL)
		ssl->cn = connection->proxy.tls->cn;
	return true;
}

static size_t print_v2(const struct backend_settings *settings, const struct connection *connection,
	char out[PROXY_V2_SENT_MAX])
{
	struct proxy_v2_tlvs tlvs = { .crc32c = has_tlv(settings, PROXY_TLV_WORD_CRC32C) };
	struct proxy_ssl ssl;

	if (has_tlv(settings, PROXY_TLV_WORD_AUTHORITY) && connection->tls != NULL)
		tlvs.authority = connection->tls->sni;
	if (has_tlv(settings, PROXY_TLV_WORD_UNIQUE_ID))
		tlvs.unique_id = connection->proxy.unique_id ? *connection->proxy.unique_id
							     : str_from(connection->uuid);
	if (has_tlv(settings, PROXY_TLV_WORD_SSL) && ssl_of(connection, &ssl))
		tlvs.ssl = &ssl;
	return proxy_v2_print_tlvs(
		&connection->remote.address, &connection->local.address, &tlvs, out);
}

size_t identity_header(const struct backend_settings *settings, const struct connection *connection,
	const struct endpoint *own, const struct endpoint *server, char out[PROXY_V2_SENT_MAX])
{
	switch ((enum identity)settings->identity) {
	case IDENTITY_NONE:
	case IDENTITY_XCLIENT:
	case IDENTITY_XFORWARD:
		return 0;
	case IDENTITY_PROXY_V1:
		if (connection == NULL)
			return proxy_v1_print(own, server, out);
		return proxy_v1_print(&connection->remote.address, &connection->local.address, out);
	case IDENTITY_PROXY_V2:
		if (connection != NULL)
			return print_v2(settings, connection, out);
		return proxy_v2_print_local(out);
	case IDENTITY_LOCAL_XCLIENT:
		return proxy_v2_print_local(out);
	}
	return 0;
}

/* ---- XCLIENT and XFORWARD --------------------------------------------------------------------- */

bool identity_is_offered(
	const struct backend_settings *settings, const struct smtp_capabilities *capabilities)
{
	if (identity_is_xclient(settings))
		return capabilities->xclient & XCLIENT_ADDR;
	if (identity_is_xforward(settings))
		return capabilities->xforward & XCLIENT_ADDR;
	return true;
}

/* A look-up that has failed for now, or is not over: another time there may be a name. */
static bool name_has_failed(enum host_status status)
{
	return status == HOST_PENDING || status == HOST_ERROR || status == HOST_TIMEOUT;
}

void identity_of(const struct connection *connection, struct xclient_identity *identity)
{
	const struct remote *remote = &connection->remote;

	*identity = (struct xclient_identity){
		.name = remote->host_confirmed ? remote->host : STR(""),
		.reverse_name = remote->host,
		.name_failed = name_has_failed(remote->host_status),
		.reverse_name_failed = name_has_failed(remote->host_status),
		.address = &remote->address,
		.destination = connection->local.is_known ? &connection->local.address : NULL,
		.protocol = connection->esmtp ? XCLIENT_ESMTP : XCLIENT_SMTP,
		.hello = connection->hello.host,
		.login = connection->auth ? connection->auth->user : STR(""),
		.session = str_from(connection->uuid),
		.ident =
			connection->transaction ? str_from(connection->transaction->uuid) : STR(""),
		.source = XCLIENT_REMOTE,
	};
}
