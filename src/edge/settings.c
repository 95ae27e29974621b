#include "edge/settings.h"

#include "auth/auth.h"
#include "auth/dovecot.h"

#define SECOND_MS UINT64_C(1000)
#define MINUTE_MS (60 * SECOND_MS)
#define HOUR_MS (60 * MINUTE_MS)
#define MEGABYTE (UINT64_C(1) << 20)

/* ---- TLS -------------------------------------------------------------------------------------- */

static const char *const tls_modes[] = { "off", "starttls", "implicit", NULL };

#define CERTIFICATE(member) offsetof(struct tls_certificate, member)

static const struct conf_field certificate_fields[] = {
	{ .key = "certificate",
		.type = CONF_STRING,
		.flags = CONF_REQUIRED,
		.offset = CERTIFICATE(certificate),
		.example = "/etc/gatepost/tls/mx.pem",
		.help = "A PEM file: the certificate, and the chain behind it." },
	{ .key = "key",
		.type = CONF_STRING,
		.flags = CONF_REQUIRED,
		.offset = CERTIFICATE(key),
		.example = "/etc/gatepost/tls/mx.key",
		.help = "A PEM file: its key." },
	CONF_END,
};

#define TLS(member) offsetof(struct tls_settings, member)

static const struct conf_field tls_fields[] = {
	{ .key = "mode",
		.type = CONF_ENUM,
		.offset = TLS(mode),
		.dflt = "off",
		.choices = tls_modes,
		.help = "off: none of our own (the balancer may have ended it). starttls: offered "
			"in "
			"EHLO. implicit: from the first byte behind the PROXY header, as on port "
			"465." },
	{ .key = "certificate",
		.type = CONF_STRING,
		.offset = TLS(certificate),
		.example = "/etc/gatepost/tls/mx.pem",
		.help = "A PEM file: the certificate, and the chain behind it. It is read anew "
			"when it "
			"changes." },
	{ .key = "key",
		.type = CONF_STRING,
		.offset = TLS(key),
		.example = "/etc/gatepost/tls/mx.key",
		.help = "A PEM file: its key." },
	{ .key = "certificates",
		.type = CONF_MAP,
		.flags = CONF_LIST,
		.offset = TLS(certificates),
		.fields = certificate_fields,
		.element_size = sizeof(struct tls_certificate),
		.help = "Further certificates: clients get the one for the name they ask for "
			"(SNI); "
			"ECDSA and RSA may stand side by side. The first of all is for the "
			"others." },
	{ .key = "min_version",
		.type = CONF_ENUM,
		.offset = TLS(min_version),
		.dflt = "1.2",
		.choices = tls_version_words,
		.help = "The oldest version of TLS." },
	{ .key = "client_ca",
		.type = CONF_STRING,
		.offset = TLS(client_ca),
		.example = "/etc/gatepost/tls/clients.pem",
		.help = "A PEM file of CAs. With it clients are asked for a certificate; what they "
			"show, and whether it is verified, is in the connection object." },
	CONF_END,
};

static void check_tls(
	const struct tls_settings *tls, struct conf_node *node, struct conf_errors *errors)
{
	struct conf_node *at = conf_node_get(node, "tls");

	bool has_certificate = tls->certificate.n > 0 || tls->certificates.count > 0;

	if (tls->mode != TLS_MODE_OFF && !has_certificate)
		conf_error(errors, at, "mode %s needs certificate and key", tls_modes[tls->mode]);
	if (tls->mode == TLS_MODE_OFF && (has_certificate || tls->client_ca.n > 0))
		conf_error(errors, at,
			"certificates have no meaning without mode: starttls or implicit");
	if ((tls->certificate.n == 0) != (tls->key.n == 0))
		conf_error(errors, at, "certificate and key belong together");
}

/* ---- AUTH ------------------------------------------------------------------------------------- */

static const char *const unlisted_senders[] = { "reject", "accept", NULL };
static const char *const unauthenticated_senders[] = { "ignore", "reject", NULL };

#define AUTH(member) offsetof(struct auth_settings, member)

static const struct conf_field auth_fields[] = {
	{ .key = "required",
		.type = CONF_BOOL,
		.offset = AUTH(required),
		.dflt = "no",
		.help = "Whether MAIL is refused before a successful AUTH, as on submission "
			"ports." },
	{ .key = "users",
		.type = CONF_STRING,
		.offset = AUTH(users),
		.example = "/etc/gatepost/users",
		.help = "A file with a line NAME:HASH for each user; gatepostctl hash-password "
			"makes "
			"them. Read anew when it changes." },
	{ .key = "sasl",
		.type = CONF_STRING,
		.offset = AUTH(sasl),
		.example = "unix:/run/dovecot/auth-client",
		.help = "A Dovecot auth server instead: unix:PATH or inet:ADDRESS:PORT." },
	{ .key = "backend",
		.type = CONF_STRING,
		.offset = AUTH(backend),
		.example = "mta",
		.help = "A backend instead, by name: credentials are tried there, and the "
			"connection on "
			"which they are taken carries the client's mail." },
	{ .key = "mechanisms",
		.type = CONF_STRING,
		.flags = CONF_LIST,
		.offset = AUTH(mechanisms),
		.example = "[PLAIN, LOGIN, SCRAM-SHA-256]",
		.help = "What is offered of what the service has. Without it: all." },
	{ .key = "allow_plaintext",
		.type = CONF_NETWORK,
		.flags = CONF_LIST,
		.offset = AUTH(allow_plaintext),
		.example = "[10.9.0.0/16]",
		.help = "Networks of clients that may use AUTH without TLS. For all others it is "
			"offered only under TLS." },
	{ .key = "failure_delay",
		.type = CONF_DURATION,
		.offset = AUTH(failure_delay_ms),
		.dflt = "2s",
		.max = MINUTE_MS,
		.help = "How long a refusal is held back, the time of the check included. One that "
			"took longer waits for the next multiple. 0: the time of the check "
			"shows." },
	{ .key = "timeout",
		.type = CONF_DURATION,
		.offset = AUTH(timeout_ms),
		.dflt = "30s",
		.min = 100,
		.max = 5 * MINUTE_MS,
		.help = "For an answer of the service." },
	{ .key = "failures_per_client",
		.type = CONF_NUMBER,
		.offset = AUTH(failures_per_client),
		.dflt = "20",
		.max = 1000000,
		.help = "Failures of one client address within failure_window, after which its "
			"further "
			"attempts are put off without asking the service. 0: no limit." },
	{ .key = "failures_per_user",
		.type = CONF_NUMBER,
		.offset = AUTH(failures_per_user),
		.dflt = "20",
		.max = 1000000,
		.help = "Failures of one user name within failure_window, after which clients that "
			"have failed as that user are put off; after ten times as many all are, "
			"but those that have logged in as the user before. 0: no limit." },
	{ .key = "failure_window",
		.type = CONF_DURATION,
		.offset = AUTH(failure_window_ms),
		.dflt = "10m",
		.min = SECOND_MS,
		.max = 24 * HOUR_MS,
		.help = "How long failures count." },
	{ .key = "sender_login",
		.type = CONF_STRING,
		.offset = AUTH(sender_login),
		.example = "/etc/gatepost/senders",
		.help = "A file with lines SENDER USERS: who may say which MAIL FROM, asked by the "
			"check sender_login. Read anew when it changes." },
	{ .key = "unlisted_senders",
		.type = CONF_ENUM,
		.offset = AUTH(unlisted_senders),
		.dflt = "reject",
		.choices = unlisted_senders,
		.help = "A user with a sender that sender_login does not have." },
	{ .key = "unauthenticated_senders",
		.type = CONF_ENUM,
		.offset = AUTH(unauthenticated_senders),
		.dflt = "ignore",
		.choices = unauthenticated_senders,
		.help = "A client without AUTH, with a sender that sender_login has." },
	CONF_END,
};

static unsigned services(const struct auth_settings *auth)
{
	unsigned count = auth->users.n > 0;

	count += auth->sasl.n > 0;
	count += auth->backend.n > 0;
	return count;
}

/* Without AUTH the map says what others may not use, or nothing. */
static void check_sender_login(
	const struct auth_settings *auth, struct conf_node *at, struct conf_errors *errors)
{
	bool has_service = services(auth) > 0;
	bool guards_others = auth->unauthenticated_senders == UNAUTHENTICATED_SENDERS_REJECT;

	if (auth->sender_login.n == 0 && guards_others)
		conf_error(errors, conf_node_get(at, "unauthenticated_senders"),
			"has no meaning without sender_login");
	if (auth->sender_login.n == 0 && auth->unlisted_senders == UNLISTED_SENDERS_ACCEPT)
		conf_error(errors, conf_node_get(at, "unlisted_senders"),
			"has no meaning without sender_login");
	if (auth->sender_login.n > 0 && !has_service && !guards_others)
		conf_error(errors, conf_node_get(at, "sender_login"),
			"sender_login needs users, sasl or backend, or unauthenticated_senders: "
			"reject");
}

static void check_auth(
	const struct auth_settings *auth, struct conf_node *node, struct conf_errors *errors)
{
	struct conf_node *at = conf_node_get(node, "auth");
	const struct str *names = auth->mechanisms.items;
	struct auth_dovecot_address address;
	struct err err;

	if (auth->sasl.n > 0 && auth_dovecot_address_parse(auth->sasl, &address, &err) < 0)
		conf_error(errors, conf_node_get(at, "sasl"), "%s", err.text);
	if (auth->required && services(auth) == 0)
		conf_error(errors, at, "required needs users, sasl or backend");
	if (services(auth) > 1)
		conf_error(errors, at, "users, sasl and backend exclude each other");
	check_sender_login(auth, at, errors);
	for (size_t i = 0; i < auth->mechanisms.count; i++)
		if (auth_mechanism_find(names[i]) == 0)
			conf_error(errors, conf_node_get(at, "mechanisms"),
				"there is no mechanism %.*s", STR_ARG(names[i]));
}

/* ---- Listeners ------------------------------------------------------------------------------ */

/* Balancers on the same machine. */
#define TRUSTED_DEFAULT_1 "127.0.0.0/8"
#define TRUSTED_DEFAULT_2 "::1"

static const char *const proxy_modes[] = { "required", "optional", "off", NULL };
static const char *const unavailables[] = { "auto", "banner", "mail", "rcpt", NULL };
static const char *const bare_newlines[] = { "reject", "normalise", NULL };

/* Without a list, and with the one that `gatepost -p` prints because it is the default. */
static bool says_nothing(const struct ipnet_list *trusted)
{
	static const char *const defaults[] = { TRUSTED_DEFAULT_1, TRUSTED_DEFAULT_2 };
	struct ipnet net;

	if (trusted->count == 0)
		return true;
	if (trusted->count != 2)
		return false;
	for (size_t i = 0; i < 2; i++)
		if (!ipnet_parse(str_from(defaults[i]), &net) ||
			!ipaddr_eq(&net.ip, &trusted->items[i].ip) ||
			net.prefix != trusted->items[i].prefix)
			return false;
	return true;
}

/* A header from nobody can never arrive: the listener would serve no one. */
void listener_accepts(const void *value, struct conf_node *node, struct conf_errors *errors)
{
	const struct listener_settings *listener = value;
	struct conf_node *trusted = conf_node_get(node, "trusted_proxies");

	if (listener->proxy == PROXY_MODE_REQUIRED && listener->trusted_proxies.count == 0)
		conf_error(errors, trusted,
			"proxy: required needs trusted_proxies, the networks of your balancers "
			"(without them every connection would be refused)");
	if (listener->proxy == PROXY_MODE_OFF && trusted != NULL &&
		!says_nothing(&listener->trusted_proxies))
		conf_error(errors, trusted,
			"trusted_proxies has no meaning with proxy: off; remove it, or say "
			"proxy: required or optional");
	check_tls(&listener->tls, node, errors);
	check_auth(&listener->auth, node, errors);
}

enum unavailable listener_unavailable(const struct listener_settings *listener)
{
	if (listener->unavailable != UNAVAILABLE_AUTO)
		return (enum unavailable)listener->unavailable;
	return listener->auth.required ? UNAVAILABLE_MAIL : UNAVAILABLE_BANNER;
}

#define LISTENER(member) offsetof(struct listener_settings, member)

const struct conf_field listener_fields[] = {
	{ .key = "name",
		.type = CONF_STRING,
		.offset = LISTENER(name),
		.example = "mx",
		.help = "Its name in routes, log and trace. Without it: listener1, listener2, …" },
	{ .key = "bind",
		.type = CONF_ENDPOINT,
		.flags = CONF_LIST | CONF_REQUIRED,
		.offset = LISTENER(bind),
		.example = "[\"0.0.0.0:25\"]",
		.help = "Addresses and ports to listen on." },
	{ .key = "proxy",
		.type = CONF_ENUM,
		.flags = CONF_REQUIRED,
		.offset = LISTENER(proxy),
		.choices = proxy_modes,
		.example = "required",
		.help = "Whether a PROXY header comes first. required: a peer without a valid "
			"header "
			"is closed. optional: a trusted peer may send one, everybody else is a "
			"direct "
			"client. off: nobody does." },
	{ .key = "trusted_proxies",
		.type = CONF_NETWORK,
		.flags = CONF_LIST,
		.offset = LISTENER(trusted_proxies),
		.dflt = "[" TRUSTED_DEFAULT_1 ", \"" TRUSTED_DEFAULT_2 "\"]",
		.example = "[10.0.0.0/24]",
		.help = "Networks of the balancers. A PROXY header counts only from them. The "
			"default "
			"is a balancer on the same machine." },
	{ .key = "health_checkers",
		.type = CONF_NETWORK,
		.flags = CONF_LIST,
		.offset = LISTENER(health_checkers),
		.example = "[10.0.0.0/24]",
		.help = "Networks whose connections without a PROXY header are health checks: they "
			"get "
			"a banner and may say HELO, EHLO, NOOP, RSET and QUIT, but send no mail." },
	{ .key = "tls",
		.type = CONF_MAP,
		.offset = LISTENER(tls),
		.fields = tls_fields,
		.help = "TLS towards clients." },
	{ .key = "auth",
		.type = CONF_MAP,
		.offset = LISTENER(auth),
		.fields = auth_fields,
		.help = "Authentication of clients." },
	{ .key = "plan",
		.type = CONF_STRING,
		.offset = LISTENER(plan),
		.example = "edge",
		.help = "The policy plan, by its name in `plans`. Without it: the default plan." },
	{ .key = "unavailable",
		.type = CONF_ENUM,
		.offset = LISTENER(unavailable),
		.dflt = "auto",
		.choices = unavailables,
		.help = "Where clients learn that all servers that their mail could go to are "
			"down. "
			"banner: 421 in place of the banner, upon which senders try the next MX; "
			"health checks see it too. mail: 451 at MAIL. rcpt: not before a "
			"recipient, "
			"when servers have been tried all the same. auto: mail where "
			"auth.required, "
			"else banner." },
	{ .key = "bare_newline",
		.type = CONF_ENUM,
		.offset = LISTENER(bare_newline),
		.dflt = "reject",
		.choices = bare_newlines,
		.help = "A message with a bare CR, a bare LF or a NUL. reject: it is refused at "
			"its end "
			"and the connection closed. normalise: bare line ends become CR LF, a NUL "
			"is "
			"left out. The end of data is CR LF . CR LF either way." },
	{ .key = "normalise_networks",
		.type = CONF_NETWORK,
		.flags = CONF_LIST,
		.offset = LISTENER(normalise_networks),
		.example = "[10.9.0.0/16]",
		.help = "Clients for which bare_newline is normalise, whatever it is for the "
			"others." },
	CONF_END,
};

/* ---- Limits --------------------------------------------------------------------------------- */

#define LIMIT(member) offsetof(struct limits_settings, member)

const struct conf_field limits_fields[] = {
	{ .key = "message_size",
		.type = CONF_SIZE,
		.offset = LIMIT(smtp.message_size),
		.dflt = "25MB",
		.min = 65536,
		.max = 1024 * 1024 * MEGABYTE,
		.help = "The largest message. Offered as SIZE, unless a backend offers less." },
	{ .key = "message_line",
		.type = CONF_SIZE,
		.offset = LIMIT(smtp.message_line),
		.dflt = "1MB",
		.min = 1000,
		.max = 1024 * MEGABYTE,
		.help = "The longest line of a message. RFC 5321 asks for 1000 bytes at least; "
			"real "
			"mail has longer ones, and none of it is kept in memory." },
	{ .key = "message_header",
		.type = CONF_SIZE,
		.offset = LIMIT(smtp.message_header),
		.dflt = "1MB",
		.min = 1000,
		.max = 1024 * MEGABYTE,
		.help = "The longest header section." },
	{ .key = "received",
		.type = CONF_NUMBER,
		.offset = LIMIT(smtp.received),
		.dflt = "100",
		.min = 1,
		.max = 10000,
		.help = "Received: lines beyond which a message is taken to be in a loop." },
	{ .key = "recipients",
		.type = CONF_NUMBER,
		.offset = LIMIT(smtp.recipients),
		.dflt = "100",
		.min = 1,
		.max = 50000,
		.help = "Recipients of a transaction; the client sends the others in another one. "
			"RFC "
			"5321 asks for 100 at least." },
	{ .key = "recipients_overshoot",
		.type = CONF_NUMBER,
		.offset = LIMIT(smtp.recipients_overshoot),
		.dflt = "1000",
		.max = 1000000,
		.help = "RCPT commands beyond `recipients` after which we hang up." },
	{ .key = "transactions",
		.type = CONF_NUMBER,
		.offset = LIMIT(smtp.transactions),
		.dflt = "1000",
		.min = 1,
		.max = 1000000000,
		.help = "Transactions of a connection; a further MAIL is told 421." },
	{ .key = "errors",
		.type = CONF_NUMBER,
		.offset = LIMIT(smtp.errors),
		.dflt = "20",
		.min = 1,
		.max = 1000000,
		.help = "Protocol errors of a connection; with the last of them it ends (421)." },
	{ .key = "unknown_commands",
		.type = CONF_NUMBER,
		.offset = LIMIT(smtp.unknown_commands),
		.dflt = "10",
		.min = 1,
		.max = 1000000,
		.help = "Unknown commands of a connection; likewise." },
	{ .key = "idle_commands",
		.type = CONF_NUMBER,
		.offset = LIMIT(smtp.idle_commands),
		.dflt = "100",
		.min = 1,
		.max = 1000000,
		.help = "Commands such as NOOP, RSET and EHLO without a message in between; "
			"likewise." },
	{ .key = "command_line",
		.type = CONF_SIZE,
		.offset = LIMIT(smtp.command_line),
		.dflt = "2KB",
		.min = 512,
		.max = 12288,
		.help = "The longest command line, line end included. RFC 5321 asks for 512 bytes, "
			"and "
			"more for extensions." },
	{ .key = "connections",
		.type = CONF_NUMBER,
		.offset = LIMIT(connections),
		.dflt = "10000",
		.min = 1,
		.max = 1000000,
		.help = "Connections open at a time; further ones are told 421." },
	{ .key = "replay_buffers",
		.type = CONF_SIZE,
		.offset = LIMIT(replay_buffers),
		.dflt = "64MB",
		.max = 1024 * 1024 * MEGABYTE,
		.help = "Memory for what is kept of messages under way, all together: see "
			"`replay_buffer` of "
			"backends." },
	{ .key = "handshakes",
		.type = CONF_NUMBER,
		.offset = LIMIT(handshakes),
		.dflt = "500",
		.min = 1,
		.max = 1000000,
		.help = "TLS handshakes under way at a time. Beyond it STARTTLS is answered 454 "
			"and "
			"connections on implicit-TLS listeners are closed." },
	{ .key = "handshakes_per_client",
		.type = CONF_NUMBER,
		.offset = LIMIT(handshakes_per_client),
		.dflt = "20",
		.min = 1,
		.max = 1000000,
		.help = "TLS handshakes of one client under way at a time, so that nobody can take "
			"them all." },
	{ .key = "auth_failures",
		.type = CONF_NUMBER,
		.offset = LIMIT(smtp.auth_failures),
		.dflt = "3",
		.min = 1,
		.max = 1000,
		.help = "Failed AUTH attempts of a connection." },
	{ .key = "connections_per_client",
		.type = CONF_NUMBER,
		.offset = LIMIT(connections_per_client),
		.dflt = "20",
		.max = 1000000,
		.help = "Connections that one client may have open at a time, in this process, by "
			"the "
			"check `limits`. 0: no limit." },
	CONF_END,
};

/* ---- Timeouts ------------------------------------------------------------------------------- */

#define TIMEOUT(member) offsetof(struct timeouts_settings, member)

const struct conf_field timeouts_fields[] = {
	{ .key = "proxy",
		.type = CONF_DURATION,
		.offset = TIMEOUT(proxy),
		.dflt = "5s",
		.min = 100,
		.max = MINUTE_MS,
		.help = "For the whole PROXY header. The protocol asks for 3 seconds at least." },
	{ .key = "proxy_wait",
		.type = CONF_DURATION,
		.offset = TIMEOUT(proxy_wait),
		.dflt = "500ms",
		.min = 1,
		.max = MINUTE_MS,
		.help = "How long a trusted peer of a listener with proxy: optional, or a health "
			"checker, is given to begin a header." },
	{ .key = "tls_handshake",
		.type = CONF_DURATION,
		.offset = TIMEOUT(tls_handshake),
		.dflt = "30s",
		.min = 100,
		.max = 5 * MINUTE_MS,
		.help = "For a TLS handshake, with a client or a backend." },
	{ .key = "command",
		.type = CONF_DURATION,
		.offset = TIMEOUT(command),
		.dflt = "5m",
		.min = 100,
		.max = HOUR_MS,
		.help = "For a whole command of the client. RFC 5321 asks for 5 minutes." },
	{ .key = "data",
		.type = CONF_DURATION,
		.offset = TIMEOUT(data),
		.dflt = "3m",
		.min = 100,
		.max = HOUR_MS,
		.help = "Between two pieces of a message. RFC 5321 asks for 3 minutes." },
	{ .key = "session",
		.type = CONF_DURATION,
		.offset = TIMEOUT(session),
		.dflt = "2h",
		.min = 1000,
		.max = 24 * HOUR_MS,
		.help = "For a connection as a whole." },
	{ .key = "linger",
		.type = CONF_DURATION,
		.offset = TIMEOUT(linger),
		.dflt = "2s",
		.min = 10,
		.max = MINUTE_MS,
		.help = "How long a connection that we end waits for the client to read the last "
			"reply "
			"and close." },
	{ .key = "backend_connect",
		.type = CONF_DURATION,
		.offset = TIMEOUT(backend.connect),
		.dflt = "10s",
		.min = 10,
		.max = 10 * MINUTE_MS,
		.help = "For connecting to a server of a backend." },
	{ .key = "backend_greeting",
		.type = CONF_DURATION,
		.offset = TIMEOUT(backend.greeting),
		.dflt = "30s",
		.min = 10,
		.max = 10 * MINUTE_MS,
		.help = "For its banner." },
	{ .key = "backend_command",
		.type = CONF_DURATION,
		.offset = TIMEOUT(backend.command),
		.dflt = "60s",
		.min = 10,
		.max = 10 * MINUTE_MS,
		.help = "For its answer to EHLO, MAIL, RCPT, DATA or RSET." },
	{ .key = "backend_data",
		.type = CONF_DURATION,
		.offset = TIMEOUT(backend.data),
		.dflt = "2m",
		.min = 10,
		.max = 10 * MINUTE_MS,
		.help = "Without progress while the message is sent to it." },
	{ .key = "backend_final",
		.type = CONF_DURATION,
		.offset = TIMEOUT(backend.final),
		.dflt = "570s",
		.min = 10,
		.max = 10 * MINUTE_MS - 5 * SECOND_MS,
		.help = "For its answer to the whole message. Below the 10 minutes that clients "
			"wait, "
			"or accepted mail is sent twice." },
	{ .key = "backend_idle",
		.type = CONF_DURATION,
		.offset = TIMEOUT(backend.idle),
		.dflt = "30s",
		.min = 10,
		.max = 10 * MINUTE_MS,
		.help = "How long a connection to a server is kept between two transactions of one "
			"client." },
	{ .key = "backend_queue",
		.type = CONF_DURATION,
		.offset = TIMEOUT(backend.queue),
		.dflt = "10s",
		.min = 10,
		.max = 4 * MINUTE_MS,
		.help = "How long a session waits for a connection when all servers of a backend "
			"have as many as they may (max_connections)." },
	{ .key = "backend_probe",
		.type = CONF_DURATION,
		.offset = TIMEOUT(backend.probe),
		.dflt = "60s",
		.min = 1000,
		.max = HOUR_MS,
		.help = "How often each server is probed: asked for its extensions (EHLO), which "
			"is "
			"what we can offer to clients. Sooner when it fails or was down." },
	CONF_END,
};
