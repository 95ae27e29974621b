#include "backend/settings.h"

#include "backend/identity.h"

#include "auth/sasl.h"
#include "backend/backend_auth.h"
#include "net/tls.h"

#define SECOND_MS UINT64_C(1000)
#define HOUR_MS (3600 * SECOND_MS)
#define MEGABYTE (UINT64_C(1) << 20)

/* ---- TLS -------------------------------------------------------------------------------------- */

static const char *const backend_tls_modes[] = { "off", "opportunistic", "required", "implicit",
	NULL };
static const char *const tls_verifies[] = { "none", "ca", "name", "fingerprint", NULL };
static const char *const tls_fallbacks[] = { "not_offered", "always", NULL };

#define BACKEND_TLS(member) offsetof(struct backend_tls_settings, member)

static const struct conf_field backend_tls_fields[] = {
	{ .key = "mode",
		.type = CONF_ENUM,
		.offset = BACKEND_TLS(mode),
		.dflt = "off",
		.choices = backend_tls_modes,
		.help = "off: never. opportunistic: when the server offers STARTTLS. required: a "
			"server "
			"without it is not used. implicit: from the first byte." },
	{ .key = "verify",
		.type = CONF_ENUM,
		.offset = BACKEND_TLS(verify),
		.dflt = "none",
		.choices = tls_verifies,
		.help = "none: any certificate. ca: signed by `ca`. name: … and for `name`. "
			"fingerprint: this certificate, whoever signed it." },
	{ .key = "fallback",
		.type = CONF_ENUM,
		.offset = BACKEND_TLS(fallback),
		.dflt = "not_offered",
		.choices = tls_fallbacks,
		.help = "When opportunistic TLS may end in plaintext: when the server does not "
			"offer "
			"STARTTLS, or also when the handshake fails. The log says so." },
	{ .key = "min_version",
		.type = CONF_ENUM,
		.offset = BACKEND_TLS(min_version),
		.dflt = "1.2",
		.choices = tls_version_words,
		.help = "The oldest version of TLS." },
	{ .key = "ca",
		.type = CONF_STRING,
		.offset = BACKEND_TLS(ca),
		.example = "/etc/gatepost/tls/backend-ca.pem",
		.help = "A PEM file of CAs. Without it: the system's." },
	{ .key = "name",
		.type = CONF_STRING,
		.offset = BACKEND_TLS(name),
		.example = "mail.example.com",
		.help = "The server's name, for SNI and verify: name." },
	{ .key = "fingerprint",
		.type = CONF_STRING,
		.offset = BACKEND_TLS(fingerprint),
		.help = "SHA-256 of the server's certificate, in hex." },
	{ .key = "certificate",
		.type = CONF_STRING,
		.offset = BACKEND_TLS(certificate),
		.help = "A PEM file: our own certificate, for servers that ask for one." },
	{ .key = "key",
		.type = CONF_STRING,
		.offset = BACKEND_TLS(key),
		.help = "A PEM file: its key." },
	CONF_END,
};

static bool is_hex_digit(char c)
{
	return ascii_is_digit(c) || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'f');
}

/* SHA-256 in hex, with or without colons. */
static bool is_fingerprint(struct str text)
{
	size_t digits = 0;

	for (size_t i = 0; i < text.n; i++) {
		if (is_hex_digit(text.p[i]))
			digits++;
		else if (text.p[i] != ':')
			return false;
	}
	return digits == 64;
}

static void check_backend_tls(
	const struct backend_tls_settings *tls, struct conf_node *node, struct conf_errors *errors)
{
	struct conf_node *at = conf_node_get(node, "tls");

	if (tls->mode == BACKEND_TLS_OFF && tls->verify != TLS_VERIFY_NONE)
		conf_error(errors, conf_node_get(at, "verify"),
			"verify has no meaning without mode: opportunistic, required or implicit");
	if (tls->fingerprint.n > 0 && !is_fingerprint(tls->fingerprint))
		conf_error(errors, conf_node_get(at, "fingerprint"),
			"must be 64 hex digits, the SHA-256 of the certificate");
	if (tls->ca.n > 0 && tls->verify != TLS_VERIFY_CA && tls->verify != TLS_VERIFY_NAME)
		conf_error(errors, conf_node_get(at, "ca"),
			"ca has no meaning without verify: ca or name");
	if (tls->fingerprint.n > 0 && tls->verify != TLS_VERIFY_FINGERPRINT)
		conf_error(errors, conf_node_get(at, "fingerprint"),
			"fingerprint has no meaning without verify: fingerprint");
	if (tls->verify == TLS_VERIFY_NAME && tls->name.n == 0)
		conf_error(errors, at, "verify: name needs name");
	if (tls->verify == TLS_VERIFY_FINGERPRINT && tls->fingerprint.n == 0)
		conf_error(errors, at, "verify: fingerprint needs fingerprint");
	if ((tls->certificate.n == 0) != (tls->key.n == 0))
		conf_error(errors, at, "certificate and key belong together");
}

/* ---- AUTH ------------------------------------------------------------------------------------- */

#define BACKEND_AUTH(member) offsetof(struct backend_auth_settings, member)

static const struct conf_field backend_auth_settings_fields[] = {
	{ .key = "user",
		.type = CONF_STRING,
		.offset = BACKEND_AUTH(user),
		.example = "gatepost",
		.help = "The name that we authenticate as." },
	{ .key = "password_file",
		.type = CONF_STRING,
		.offset = BACKEND_AUTH(password_file),
		.example = "/etc/gatepost/mta.password",
		.help = "A file with the password in its only line. Read anew when it changes." },
	{ .key = "mechanisms",
		.type = CONF_STRING,
		.flags = CONF_LIST,
		.offset = BACKEND_AUTH(mechanisms),
		.dflt = "[SCRAM-SHA-256, PLAIN, LOGIN]",
		.help = "The first of these that the server offers is used, and no other one when "
			"it refuses." },
	{ .key = "allow_plaintext",
		.type = CONF_BOOL,
		.offset = BACKEND_AUTH(allow_plaintext),
		.dflt = "no",
		.help = "Whether credentials may be sent without TLS: these, and those of clients "
			"where a listener has auth.backend." },
	CONF_END,
};

static void check_backend_auth(
	const struct backend_settings *backend, struct conf_node *node, struct conf_errors *errors)
{
	const struct backend_auth_settings *auth = &backend->auth;
	struct conf_node *at = conf_node_get(node, "auth");
	struct str unknown = backend_auth_unknown(&auth->mechanisms);

	if ((auth->user.n == 0) != (auth->password_file.n == 0))
		conf_error(errors, at, "user and password_file belong together");
	if (auth->user.n > SASL_NAME_MAX || !sasl_is_text(auth->user))
		conf_error(errors, conf_node_get(at, "user"), "must be UTF-8 of at most %d bytes",
			SASL_NAME_MAX);
	if (unknown.n > 0)
		conf_error(errors, conf_node_get(at, "mechanisms"),
			"there is no mechanism %.*s towards backends", STR_ARG(unknown));
	if (auth->user.n > 0 && backend->tls.mode == BACKEND_TLS_OFF && !auth->allow_plaintext)
		conf_error(errors, at,
			"a password is not sent without TLS: tls.mode must be implicit, required "
			"or "
			"opportunistic, or allow_plaintext: yes");
}

/* ---- Backends ------------------------------------------------------------------------------- */

static const char *const protocols[] = { "smtp", "lmtp", NULL };
static const char *const balances[] = { "first", "roundrobin", "leastconn", "source", NULL };
static const char *const proxy_tlv_words[] = { "authority", "ssl", "unique-id", "crc32c", NULL };
static const char *const hellos[] = { "own", "client", NULL };
static const char *const chunkings[] = { "auto", "off", NULL };
static const char *const reuse_modes[] = { "safe", "never", NULL };

#define REUSE(member) offsetof(struct reuse_settings, member)

static const struct conf_field reuse_fields[] = {
	{ .key = "mode",
		.type = CONF_ENUM,
		.offset = REUSE(mode),
		.dflt = "safe",
		.choices = reuse_modes,
		.help = "safe: a connection is used for other clients where the server was told "
			"nothing of the first one that stays: with identity none or xforward, and "
			"hello: own. never: each client has its own." },
	{ .key = "idle",
		.type = CONF_NUMBER,
		.offset = REUSE(idle),
		.dflt = "32",
		.max = 10000,
		.help = "Connections to a server that are kept between transactions, for "
			"timeouts.backend_idle." },
	{ .key = "messages",
		.type = CONF_NUMBER,
		.offset = REUSE(messages),
		.dflt = "1000",
		.min = 1,
		.max = 1000000000,
		.help = "Transactions of a connection." },
	{ .key = "age",
		.type = CONF_DURATION,
		.offset = REUSE(age),
		.dflt = "10m",
		.min = SECOND_MS,
		.max = 24 * HOUR_MS,
		.help = "How old a connection may become before it is given up." },
	CONF_END,
};

static const char *const checks[] = { "ehlo", "banner", "connect", NULL };

#define SERVER(member) offsetof(struct server_settings, member)

static const struct conf_field server_fields[] = {
	{ .key = "address",
		.type = CONF_CUSTOM,
		.flags = CONF_REQUIRED,
		.offset = SERVER(address),
		.element_size = sizeof(struct backend_address),
		.read = backend_address_read,
		.free = backend_address_clear,
		.print = backend_address_print,
		.schema_json = backend_address_schema,
		.unit = "server address",
		.example = "\"10.0.1.10:25\"",
		.help = "\"10.0.1.10:25\", \"[2001:db8::1]:25\", a name (\"mx.internal:25\": hosts "
			"file, "
			"then DNS, again whenever the TTL is over), or a socket "
			"(\"unix:/run/mta.sock\")." },
	{ .key = "weight",
		.type = CONF_NUMBER,
		.offset = SERVER(weight),
		.dflt = "1",
		.max = 256,
		.help = "Its share, against those of the others. 0: it gets no mail." },
	{ .key = "backup",
		.type = CONF_BOOL,
		.offset = SERVER(is_backup),
		.dflt = "no",
		.help = "Used only when no other can be." },
	{ .key = "max_connections",
		.type = CONF_NUMBER,
		.offset = SERVER(max_connections),
		.dflt = "0",
		.max = 1000000,
		.help = "How many connections we have to it at most. When all servers have as many "
			"as "
			"they may, sessions wait in the queue. 0: no limit." },
	CONF_END,
};

#define HEALTH(member) offsetof(struct health_settings, member)

static const struct conf_field health_fields[] = {
	{ .key = "check",
		.type = CONF_ENUM,
		.offset = HEALTH(check),
		.dflt = "ehlo",
		.choices = checks,
		.help = "What a probe waits for (every timeouts.backend_probe): the answer to "
			"EHLO, the "
			"banner, or only the connection. Extensions are learned from EHLO alone." },
	{ .key = "rise",
		.type = CONF_NUMBER,
		.offset = HEALTH(rise),
		.dflt = "2",
		.min = 1,
		.max = 100,
		.help = "After how many successes a server that is down is up again." },
	{ .key = "fall",
		.type = CONF_NUMBER,
		.offset = HEALTH(fall),
		.dflt = "3",
		.min = 1,
		.max = 100,
		.help = "After how many failures, without a success between them, a server is "
			"down: of "
			"probes and of sessions. After each it comes behind the others for 10 "
			"seconds." },
	{ .key = "slow_start",
		.type = CONF_DURATION,
		.offset = HEALTH(slow_start),
		.dflt = "30s",
		.max = HOUR_MS,
		.help = "How long the weight of a server that is up again takes to grow to what it "
			"was. 0: none." },
	{ .key = "max_tempfail_share",
		.type = CONF_NUMBER,
		.unit = "percent",
		.offset = HEALTH(max_tempfail_share),
		.dflt = "50",
		.max = 99,
		.help = "A server that refuses more than this of a minute's messages for now (4xx "
			"to "
			"MAIL, DATA or the message) is down, if another one does better. 0: not "
			"looked at." },
	CONF_END,
};

/* A backend of which no server may be chosen is a mistake. */
static void check_servers(
	const struct backend_settings *backend, struct conf_node *node, struct conf_errors *errors)
{
	const struct server_settings *servers = backend->servers.items;

	if (backend->servers.count > BACKEND_SERVERS_MAX)
		conf_error(errors, node, "a backend has at most %d servers", BACKEND_SERVERS_MAX);
	for (size_t i = 0; i < backend->servers.count; i++)
		if (servers[i].weight > 0)
			return;
	conf_error(errors, conf_node_get(node, "servers"),
		"at least one server must have a weight above 0");
}

/* RFC 2033 section 5: who speaks LMTP on the port of SMTP is taken for a server of SMTP. */
static void check_lmtp(
	const struct backend_settings *backend, struct conf_node *node, struct conf_errors *errors)
{
	const struct server_settings *servers = backend->servers.items;

	for (size_t i = 0; backend->protocol == PROTOCOL_LMTP && i < backend->servers.count; i++)
		if (servers[i].address.endpoint.port == 25)
			conf_error(errors, conf_node_get(node, "protocol"),
				"lmtp must not be spoken on port 25 (%s)",
				servers[i].address.text.p);
}

static void check_identity(
	const struct backend_settings *backend, struct conf_node *node, struct conf_errors *errors)
{
	bool tells_name = identity_is_xclient(backend) || identity_is_xforward(backend);

	if (backend->proxy_tlvs.count > 0 && backend->identity != IDENTITY_PROXY_V2)
		conf_error(errors, conf_node_get(node, "proxy_tlvs"),
			"proxy_tlvs has no meaning without identity: proxy-v2");
	if (backend->wait_for_name && !tells_name)
		conf_error(errors, conf_node_get(node, "wait_for_name"),
			"wait_for_name has no meaning without identity: xclient, xforward or "
			"local+xclient");
}

void backend_accepts(const void *value, struct conf_node *node, struct conf_errors *errors)
{
	const struct backend_settings *backend = value;

	check_lmtp(backend, node, errors);
	check_servers(backend, node, errors);
	check_backend_tls(&backend->tls, node, errors);
	check_backend_auth(backend, node, errors);
	check_identity(backend, node, errors);
}

#define BACKEND(member) offsetof(struct backend_settings, member)

const struct conf_field backend_fields[] = {
	{ .key = "name",
		.type = CONF_STRING,
		.offset = BACKEND(name),
		.example = "mta",
		.help = "Its name in routes, log and trace. Without it: backend1, backend2, …" },
	{ .key = "servers",
		.type = CONF_MAP,
		.flags = CONF_LIST | CONF_REQUIRED,
		.offset = BACKEND(servers),
		.fields = server_fields,
		.scalar_key = "address",
		.element_size = sizeof(struct server_settings),
		.help = "Its servers. When one cannot be used the next is tried, within the same "
			"transaction, as long as no message was sent." },
	{ .key = "protocol",
		.type = CONF_ENUM,
		.offset = BACKEND(protocol),
		.dflt = "smtp",
		.choices = protocols,
		.help = "lmtp: the servers deliver to mailboxes, and answer for each recipient "
			"(docs/backends.md)." },
	{ .key = "one_recipient",
		.type = CONF_BOOL,
		.offset = BACKEND(one_recipient),
		.dflt = "no",
		.help = "Whether a message goes to one recipient at a time: the client is asked to "
			"send it to the others in further transactions. With lmtp nobody gets a "
			"message twice then." },
	{ .key = "balance",
		.type = CONF_ENUM,
		.offset = BACKEND(balance),
		.dflt = "first",
		.choices = balances,
		.help = "Which server comes first. first: in the order given. roundrobin: each in "
			"turn. leastconn: the one with the fewest connections. source: by the "
			"client's "
			"address. All but first look at the weights." },
	{ .key = "identity",
		.type = CONF_ENUM,
		.offset = BACKEND(identity),
		.dflt = "none",
		.choices = identity_words,
		.help = "How the backend learns who the client is, besides the Received line. "
			"none: "
			"not at all. proxy-v1, proxy-v2: a PROXY header in front of each "
			"connection. xclient: XCLIENT, after which the session is the client's. "
			"xforward: XFORWARD before each message, for the log. "
			"local+xclient: XCLIENT behind a PROXY header that names nobody, for a "
			"port that wants one." },
	{ .key = "identity_required",
		.type = CONF_BOOL,
		.offset = BACKEND(identity_required),
		.dflt = "yes",
		.help = "A server that does not take XCLIENT or XFORWARD, where identity says so, "
			"gets no mail: it would take every client for us. no: mail goes there all "
			"the same." },
	{ .key = "wait_for_name",
		.type = CONF_BOOL,
		.offset = BACKEND(wait_for_name),
		.dflt = "no",
		.help = "XCLIENT and XFORWARD: the first recipient waits until the name of the "
			"client is known, or not to be had within dns.timeout. no: a name that is "
			"not known by then is told as one that could not be looked up. For servers "
			"that refuse clients without a name." },
	{ .key = "proxy_tlvs",
		.type = CONF_ENUM,
		.flags = CONF_LIST,
		.offset = BACKEND(proxy_tlvs),
		.choices = proxy_tlv_words,
		.element_size = sizeof(int),
		.example = "[ssl, unique-id]",
		.help = "What a PROXY header of version 2 says besides the addresses, as far as it "
			"fits into 232 bytes (Exim takes no more): the name that the client asked "
			"for (SNI), its TLS, the id of the connection, a checksum." },
	{ .key = "hello",
		.type = CONF_ENUM,
		.offset = BACKEND(hello),
		.dflt = "own",
		.choices = hellos,
		.help = "The name in our EHLO: our hostname, or the client's." },
	{ .key = "tls",
		.type = CONF_MAP,
		.offset = BACKEND(tls),
		.fields = backend_tls_fields,
		.help = "TLS towards the backend." },
	{ .key = "auth",
		.type = CONF_MAP,
		.offset = BACKEND(auth),
		.fields = backend_auth_settings_fields,
		.help = "AUTH at the backend." },
	{ .key = "health",
		.type = CONF_MAP,
		.offset = BACKEND(health),
		.fields = health_fields,
		.help = "When a server counts as down, and as up again." },
	{ .key = "queue",
		.type = CONF_NUMBER,
		.unit = "sessions",
		.offset = BACKEND(queue),
		.dflt = "100",
		.max = 100000,
		.help = "How many sessions may wait for a connection when all servers have "
			"max_connections, each for timeouts.backend_queue. 0: none." },
	{ .key = "chunking",
		.type = CONF_ENUM,
		.offset = BACKEND(chunking),
		.dflt = "auto",
		.choices = chunkings,
		.help = "auto: a server that offers CHUNKING and PIPELINING gets the message by "
			"BDAT, framed by its length, and without waiting for 354. off: by DATA." },
	{ .key = "replay_buffer",
		.type = CONF_SIZE,
		.offset = BACKEND(replay_buffer),
		.dflt = "256KB",
		.max = 64 * MEGABYTE,
		.help = "How much of a message is kept while it goes to a server, so that another "
			"server can have it when that one fails before the final dot. "
			"limits.replay_buffers bounds all of them together." },
	{ .key = "reuse",
		.type = CONF_MAP,
		.offset = BACKEND(reuse),
		.fields = reuse_fields,
		.help = "Connections that are used for more than one client." },
	CONF_END,
};

/* ---- Routes --------------------------------------------------------------------------------- */

void route_accepts(const void *value, struct conf_node *node, struct conf_errors *errors)
{
	const struct route_settings *route = value;

	if (route->backend.n == 0 && route->map.n == 0)
		conf_error(errors, node, "a route needs backend or map");
	if (route->backend.n > 0 && route->map.n > 0)
		conf_error(errors, node,
			"backend and map exclude each other; a route behind this one is for whom "
			"the map does not have");
}

#define ROUTE(member) offsetof(struct route_settings, member)

const struct conf_field route_fields[] = {
	{ .key = "listeners",
		.type = CONF_STRING,
		.flags = CONF_LIST,
		.offset = ROUTE(listeners),
		.example = "[mx]",
		.help = "Names of listeners." },
	{ .key = "domains",
		.type = CONF_DOMAIN,
		.flags = CONF_LIST,
		.offset = ROUTE(domains),
		.example = "[example.org, .example.org]",
		.help = "Domains of the recipient; with a leading dot, everything below. With "
			"`recipients` beside it either may hold." },
	{ .key = "recipients",
		.type = CONF_STRING,
		.flags = CONF_LIST,
		.offset = ROUTE(recipients),
		.example = "[\"info@example.com\"]",
		.help = "Whole addresses of recipients." },
	{ .key = "senders",
		.type = CONF_STRING,
		.flags = CONF_LIST,
		.offset = ROUTE(senders),
		.example = "[\"lists.example.net\"]",
		.help = "Whole addresses or domains of the sender; with a leading dot, everything "
			"below." },
	{ .key = "networks",
		.type = CONF_NETWORK,
		.flags = CONF_LIST,
		.offset = ROUTE(networks),
		.example = "[10.9.0.0/16]",
		.help = "Networks of the client." },
	{ .key = "users",
		.type = CONF_STRING,
		.flags = CONF_LIST,
		.offset = ROUTE(users),
		.example = "[alice, \"@example.com\"]",
		.help = "Names of users that the client has authenticated as; @DOMAIN for all that "
			"end so, * for all." },
	{ .key = "backend",
		.type = CONF_STRING,
		.offset = ROUTE(backend),
		.example = "mta",
		.help = "The backend, by name." },
	{ .key = "map",
		.type = CONF_STRING,
		.offset = ROUTE(map),
		.example = "/etc/gatepost/routes",
		.help = "A file instead, with lines RECIPIENT BACKEND (docs/routing.md). A "
			"recipient "
			"that it does not have goes on to the next route. Read anew when it "
			"changes." },
	CONF_END,
};
