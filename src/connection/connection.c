#include "connection/connection.h"

#include <string.h>

#include "base/assert.h"
#include "base/block.h"
#include "connection/transaction.h"
#include "connection_rows.h"
#include "proto/smtp_path.h"

const struct connection_row connection_rows[] = {
#define ALWAYS ROW_ALWAYS
#define IF(member) offsetof(struct connection, member)
#define CONNECTION(name, type, member, present, resets, known, help) \
	{ name, ROW_##type, offsetof(struct connection, member), \
		sizeof(((struct connection *)0)->member), present, resets, known, help },
#include "tables/connection.def"
#undef CONNECTION
#undef IF
#undef ALWAYS
};
const size_t connection_row_count = sizeof(connection_rows) / sizeof(connection_rows[0]);

void connection_init(struct connection *connection, const struct timespec *now, uint64_t now_ms)
{
	*connection = (struct connection){ .start_time = *now, .start_ms = now_ms };
	ident_make(connection->uuid);
	arena_init(&connection->arena, CONNECTION_ARENA_MAX);
	notes_init(&connection->notes, &connection->arena);
	results_init(&connection->results, &connection->arena);
	buf_init(&connection->current_line, CONNECTION_LINE_MAX);
	buf_init(&connection->last_response, CONNECTION_RESPONSE_MAX);
}

static void free_traced(struct traced *traced)
{
	if (traced == NULL)
		return;
	buf_free(&traced->transactions);
	buf_free(&traced->events);
	block_give(traced, sizeof(*traced));
}

void connection_free(struct connection *connection)
{
	transaction_free(connection);
	buf_free(&connection->current_line);
	buf_free(&connection->last_response);
	free_traced(connection->traced);
	arena_reset(&connection->arena);
}

void connection_set_remote(struct connection *connection, const struct endpoint *address)
{
	connection->remote = (struct remote){
		.address = *address,
		.is_private = ipaddr_is_private(&address->ip),
		.is_local = ipaddr_is_local(&address->ip),
		.is_known = true,
	};
}

void connection_set_local(struct connection *connection, const struct endpoint *address)
{
	connection->local = (struct local){ .address = *address, .is_known = true };
}

void connection_set_remote_host(
	struct connection *connection, enum host_status status, struct str host, bool is_confirmed)
{
	struct remote *remote = &connection->remote;

	remote->host = str_make(NULL, 0);
	remote->host_confirmed = false;
	remote->host_status = status;
	if (status != HOST_OK)
		return;
	if (!arena_str(&connection->arena, host, &remote->host))
		remote->host_status = HOST_ERROR;
	else if (str_is_empty(host))
		remote->host_status = HOST_NONE;
	else
		remote->host_confirmed = is_confirmed;
}

/* The text in the arena; empty when it does not fit. */
static struct str keep(struct connection *connection, struct str text)
{
	struct str copy = str_make(NULL, 0);

	if (!str_is_empty(text))
		arena_str(&connection->arena, text, &copy);
	return copy;
}

/* As keep(), for a text that may be absent: NULL. */
static struct str *keep_if(struct connection *connection, bool has_text, struct str text)
{
	struct str copy;

	if (!has_text || !arena_str(&connection->arena, text, &copy))
		return NULL;
	struct str *kept = arena_alloc(&connection->arena, sizeof(*kept));
	if (kept != NULL)
		*kept = copy;
	return kept;
}

static void keep_tls(struct connection *connection, const struct proxy_ssl *ssl)
{
	const unsigned used = 1, certificate = 2 | 4;

	if (!ssl->present)
		return;
	connection->proxy.tls = arena_alloc(&connection->arena, sizeof(*connection->proxy.tls));
	if (connection->proxy.tls == NULL)
		return;
	*connection->proxy.tls = (struct proxy_tls){
		.used = ssl->client & used,
		.client_certificate = ssl->client & certificate,
		.certificate_verified = proxy_ssl_has_valid_certificate(ssl),
		.verify = ssl->verify,
		.version = keep(connection, ssl->version),
		.cipher = keep(connection, ssl->cipher),
		.cn = keep(connection, ssl->cn),
		.sig_alg = keep(connection, ssl->sig_alg),
		.key_alg = keep(connection, ssl->key_alg),
		.group = keep(connection, ssl->group),
		.sig_scheme = keep(connection, ssl->sig_scheme),
	};
}

static void keep_tlvs(struct connection *connection, const struct proxy_header *header)
{
	struct proxy_info *proxy = &connection->proxy;

	if (header->tlv_count == 0)
		return;
	proxy->tlvs = arena_alloc(&connection->arena, header->tlv_count * sizeof(*proxy->tlvs));
	if (proxy->tlvs == NULL)
		return;
	for (size_t i = 0; i < header->tlv_count; i++) {
		struct proxy_tlv *tlv = &proxy->tlvs[proxy->tlv_count];

		tlv->type = header->tlvs[i].type;
		if (arena_str(&connection->arena, header->tlvs[i].value, &tlv->value))
			proxy->tlv_count++;
	}
}

/* The balancer hands on what the client has sent: it need not be a name. In lower case, as our own. */
static struct str asked_name(struct connection *connection)
{
	const struct str *authority = connection->proxy.authority;
	struct str name = authority != NULL ? *authority : STR("");
	char lower[SMTP_DOMAIN_MAX];

	if (name.n > sizeof(lower) || !smtp_is_host_name(name, false))
		return STR("");
	for (size_t i = 0; i < name.n; i++)
		lower[i] = ascii_lower(name.p[i]);
	return keep(connection, str_make(lower, name.n));
}

static void set_offloaded_tls(struct connection *connection)
{
	const struct proxy_tls *tls = connection->proxy.tls;

	if (tls == NULL || !tls->used)
		return;
	connection->tls = arena_alloc(&connection->arena, sizeof(*connection->tls));
	if (connection->tls == NULL)
		return;
	*connection->tls = (struct tls_info){
		.offloaded = true,
		.version = tls->version,
		.cipher = tls->cipher,
		.sni = asked_name(connection),
		.client_certificate = tls->client_certificate,
		.client_verified = tls->certificate_verified,
		.client_subject = tls->cn,
	};
}

void connection_set_proxy(struct connection *connection, const struct proxy_header *header,
	const struct endpoint *socket_peer, const struct endpoint *socket_local)
{
	struct proxy_info *proxy = &connection->proxy;

	/* A second header would let the client choose another address. */
	ASSERT(!proxy->has_header);
	proxy->has_header = true;
	proxy->address = *socket_peer;
	proxy->local = *socket_local;
	proxy->version = header->version;
	proxy->command = header->command;
	proxy->family = header->family;
	if (proxy_has_client(header)) {
		connection_set_remote(connection, &header->source);
		connection_set_local(connection, &header->destination);
	}
	proxy->authority = keep_if(connection, header->has_authority, header->authority);
	proxy->alpn = keep_if(connection, header->has_alpn, header->alpn);
	proxy->unique_id = keep_if(connection, header->has_unique_id, header->unique_id);
	proxy->netns = keep_if(connection, header->has_netns, header->netns);
	keep_tls(connection, &header->ssl);
	set_offloaded_tls(connection);
	keep_tlvs(connection, header);
}

/* What AUTH alone had granted goes; what a network rule granted does not depend on the dialogue. */
static void take_back_auth_grant(struct connection *connection)
{
	if (connection->relaying_by_auth)
		connection->relaying = false;
	connection->relaying_by_auth = false;
}

static void clear_row(struct connection *connection, const struct connection_row *row)
{
	if (row->type == ROW_TRANSACTION)
		transaction_free(connection);
	else if (row->type == ROW_GRANT)
		take_back_auth_grant(connection);
	else
		memset((char *)connection + row->offset, 0, row->size);
}

void connection_reset(struct connection *connection, enum connection_reset what)
{
	for (size_t i = 0; i < connection_row_count; i++)
		if (connection_rows[i].resets & what)
			clear_row(connection, &connection_rows[i]);
}

bool connection_may_relay(const struct connection *connection)
{
	return connection->relaying ||
	       (connection->transaction && connection->transaction->relaying);
}

/* Once for each word, however often it is granted; without room only the trace suffers. */
static void note_grant(struct results *results, const char *by)
{
	if (!results_has(results, STR("relay"), STR("pass"), str_from(by)))
		results_add(results, STR("relay"), RESULT_PASS, str_from(by));
}

static void grant_lasting(struct connection *connection, const char *by)
{
	bool by_auth = strcmp(by, RELAYING_BY_AUTH) == 0;

	connection->relaying_by_auth =
		by_auth && (!connection->relaying || connection->relaying_by_auth);
	connection->relaying = true;
	note_grant(&connection->results, by);
}

void connection_grant_relaying(struct connection *connection, const char *by)
{
	struct transaction *transaction = connection->transaction;

	if (transaction == NULL) {
		grant_lasting(connection, by);
		return;
	}
	ASSERT(transaction->outcome == OUTCOME_NONE);
	transaction->relaying = true;
	note_grant(&transaction->results, by);
}

const char *host_status_word(enum host_status status)
{
	static const char *const words[] = {
		[HOST_PENDING] = "pending",
		[HOST_OK] = "ok",
		[HOST_NONE] = "none",
		[HOST_ERROR] = "error",
		[HOST_TIMEOUT] = "timeout",
		[HOST_OFF] = "off",
	};

	ASSERT((size_t)status < sizeof(words) / sizeof(words[0]));
	return words[status];
}
