#include "net/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/xalloc.h"
#include "resolver_priv.h"
#include "tls_priv.h"

/*
 * Mozilla's "intermediate" configuration, version 5.8, kept here as the generator that printed it
 * is no longer maintained: without finite-field DHE, which nobody needs for SMTP.
 */
#define CIPHERS_1_2 \
	"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:" \
	"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:" \
	"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define CIPHERS_1_3 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#if OPENSSL_VERSION_NUMBER >= 0x30500000L
#define GROUPS "X25519MLKEM768:X25519:P-256:P-384"
#else
#define GROUPS "X25519:P-256:P-384"
#endif
#define SECURITY_LEVEL 2 /* of OpenSSL: 112 bits, no SHA-1 */
#define CHAIN_DEPTH_MAX 10
/* Servers whose last session a client's context remembers. */
#define REMEMBERED 16

struct remembered {
	struct sockaddr_storage peer;
	uint64_t id; /* of this use of the place; 0: free */
	SSL_SESSION *session;
};

struct tls_context {
	unsigned users;
	bool is_server;
	SSL_CTX *ctx;
	char **paths; /* every file that was read */
	size_t path_count;
	/* Server: certificates in the order of the settings. */
	struct tls_pair *pairs;
	size_t pair_count;
	/* Client */
	char *name; /* SNI; NULL: none */
	enum tls_verify verify;
	unsigned char fingerprint[EVP_MAX_MD_SIZE];
	struct remembered remembered[REMEMBERED];
	uint64_t last_id;
};

/* ---- What both sides have in common ------------------------------------------------------------- */

static int set_protocol(SSL_CTX *ctx, enum tls_version min_version, struct err *err)
{
	int version = min_version == TLS_VERSION_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION;

	SSL_CTX_set_security_level(ctx, SECURITY_LEVEL);
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
				      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_verify_depth(ctx, CHAIN_DEPTH_MAX);
	if (SSL_CTX_set_min_proto_version(ctx, version) == 1 &&
		SSL_CTX_set_max_proto_version(ctx, 0) == 1 &&
		SSL_CTX_set_cipher_list(ctx, CIPHERS_1_2) == 1 &&
		SSL_CTX_set_ciphersuites(ctx, CIPHERS_1_3) == 1 &&
		SSL_CTX_set1_groups_list(ctx, GROUPS) == 1)
		return 0;
	return tls_error(err, "TLS settings");
}

static struct tls_context *new_context(const SSL_METHOD *method, bool is_server)
{
	struct tls_context *context = xcalloc(1, sizeof(*context));

	ERR_clear_error();
	context->users = 1;
	context->is_server = is_server;
	context->ctx = SSL_CTX_new(method);
	ASSERT(context->ctx != NULL);
	SSL_CTX_set_app_data(context->ctx, context);
	return context;
}

static void note_path(struct tls_context *context, struct str path)
{
	size_t n = context->path_count++;

	context->paths = xrealloc(context->paths, n + 1, sizeof(*context->paths));
	context->paths[n] = str_dup(path);
}

/*
 * Whom to believe. Every certificate of the file is an anchor, also one that is itself signed: an
 * operator who names a server's own certificate there means it.
 */
static int load_authorities(struct tls_context *context, struct str path, struct err *err)
{
	X509_STORE *store = SSL_CTX_get_cert_store(context->ctx);
	STACK_OF(X509) *certificates = tls_certificates_read(path, err);

	if (certificates == NULL)
		return -1;
	note_path(context, path);
	for (int i = 0; i < sk_X509_num(certificates); i++) {
		X509 *certificate = sk_X509_value(certificates, i);
		X509_STORE_add_cert(store, certificate);
		if (context->is_server)
			SSL_CTX_add_client_CA(context->ctx, certificate);
	}
	X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
	sk_X509_pop_free(certificates, X509_free);
	ERR_clear_error();
	return 0;
}

static int use_pair(SSL_CTX *ctx, const struct tls_pair *pair, struct str path, struct err *err)
{
	if (SSL_CTX_use_cert_and_key(ctx, pair->certificate, pair->key, pair->chain, 1) == 1)
		return 0;
	tls_error(err, "certificate or key");
	return err_prefix(err, "%.*s", STR_ARG(path));
}

/* ---- Which certificate -------------------------------------------------------------------------- */

enum match { MATCH_NONE, MATCH_WILDCARD, MATCH_EXACT };

static struct str general_name(const GENERAL_NAME *name)
{
	if (name->type != GEN_DNS)
		return str_make(NULL, 0);
	return str_make((const char *)ASN1_STRING_get0_data(name->d.dNSName),
		(size_t)ASN1_STRING_length(name->d.dNSName));
}

/* RFC 9525 section 6.3: the star stands for exactly one label, the leftmost. */
static enum match match_name(struct str pattern, struct str host)
{
	if (pattern.n > 0 && str_eq_nocase(pattern, host))
		return MATCH_EXACT;
	struct str parent = str_from_pos(host, str_find(host, '.'));
	bool is_wildcard = str_starts_with(pattern, STR("*.")) && parent.n > 1 &&
			   str_eq_nocase(str_from_pos(pattern, 1), parent);
	return is_wildcard ? MATCH_WILDCARD : MATCH_NONE;
}

static enum match match_pair(const struct tls_pair *pair, struct str host)
{
	enum match best = MATCH_NONE;

	for (int i = 0; i < sk_GENERAL_NAME_num(pair->names); i++) {
		struct str name = general_name(sk_GENERAL_NAME_value(pair->names, i));
		enum match match = match_name(name, host);
		if (match > best)
			best = match;
	}
	return best;
}

static bool is_same_kind(const struct tls_pair *a, const struct tls_pair *b)
{
	return EVP_PKEY_get_base_id(a->key) == EVP_PKEY_get_base_id(b->key);
}

/* Of those with the same kind of key the better match wins, then the earlier. */
static bool is_best(const struct tls_context *context, size_t i, struct str host)
{
	const struct tls_pair *pair = &context->pairs[i];
	enum match own = match_pair(pair, host);

	if (own == MATCH_NONE)
		return false;
	for (size_t j = 0; j < context->pair_count; j++) {
		enum match other = match_pair(&context->pairs[j], host);
		if (j == i || !is_same_kind(pair, &context->pairs[j]))
			continue;
		if (other > own || (other == own && j < i))
			return false;
	}
	return true;
}

static struct str first_name(const struct tls_pair *pair)
{
	struct str name = str_make(NULL, 0);

	for (int i = 0; i < sk_GENERAL_NAME_num(pair->names) && name.n == 0; i++)
		name = general_name(sk_GENERAL_NAME_value(pair->names, i));
	return name;
}

static bool is_served(const struct tls_context *context, struct str host)
{
	for (size_t i = 0; i < context->pair_count; i++)
		if (match_pair(&context->pairs[i], host) != MATCH_NONE)
			return true;
	return false;
}

struct str tls_asked_name(const SSL *ssl, char out[TLS_HOST_MAX])
{
	struct str asked = str_from(SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name));

	if (asked.n >= TLS_HOST_MAX || !resolver_is_host(asked))
		return str_make(out, 0);
	for (size_t i = 0; i < asked.n; i++)
		out[i] = ascii_lower(asked.p[i]);
	return str_make(out, asked.n);
}

/*
 * Puts one certificate for each kind of key into the session; OpenSSL takes the one that the
 * client can use. Who asks for no name, or for one that is not here, gets what who asks for the
 * first certificate's name gets: many clients of SMTP ask for none, or for the domain.
 */
static int choose_certificates(SSL *ssl, void *ctx)
{
	struct tls_context *context = ctx;
	char text[TLS_HOST_MAX];

	if (context->pair_count == 1)
		return 1;
	struct str host = tls_asked_name(ssl, text);
	if (host.n == 0 || !is_served(context, host))
		host = first_name(&context->pairs[0]);
	if (!is_served(context, host))
		return 1;
	SSL_certs_clear(ssl);
	for (size_t i = 0; i < context->pair_count; i++) {
		const struct tls_pair *pair = &context->pairs[i];
		if (is_best(context, i, host) && SSL_use_cert_and_key(ssl, pair->certificate,
							 pair->key, pair->chain, 1) != 1)
			return 0;
	}
	return 1;
}

/* ---- Servers ------------------------------------------------------------------------------------ */

/* Tells the client that its name was seen; the choice is made when its algorithms are known. */
static int accept_name(SSL *ssl, int *alert, void *ctx)
{
	(void)ssl;
	(void)alert;
	(void)ctx;
	return SSL_TLSEXT_ERR_OK;
}

/* ALPACA: a client that means another protocol must not be answered with our certificate. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_n,
	const unsigned char *in, unsigned in_n, void *ctx)
{
	struct str rest = str_make((const char *)in, in_n);

	(void)ssl;
	(void)ctx;
	while (rest.n > 0) {
		size_t n = (unsigned char)rest.p[0];
		struct str name = str_range(rest, 1, 1 + n);
		if (str_eq(name, STR("smtp"))) {
			*out = (const unsigned char *)name.p;
			*out_n = (unsigned char)name.n;
			return SSL_TLSEXT_ERR_OK;
		}
		rest = str_from_pos(rest, 1 + n);
	}
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* Policy decides what a client's certificate is worth; the verdict stays in the session. */
static int accept_any(int is_good, X509_STORE_CTX *ctx)
{
	(void)is_good;
	(void)ctx;
	return 1;
}

static int ask_for_certificates(struct tls_context *context, struct str path, struct err *err)
{
	if (path.n == 0)
		return 0;
	SSL_CTX_set_verify(context->ctx, SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE, accept_any);
	return load_authorities(context, path, err);
}

static int load_pairs(
	struct tls_context *context, const struct tls_server_settings *settings, struct err *err)
{
	context->pairs = xcalloc(settings->certificate_count, sizeof(*context->pairs));
	for (size_t i = 0; i < settings->certificate_count; i++) {
		const struct tls_certificate *files = &settings->certificates[i];
		if (tls_pair_read(&context->pairs[i], files, err) < 0)
			return -1;
		context->pair_count++;
		note_path(context, files->certificate);
		note_path(context, files->key);
	}
	return 0;
}

/* Each is put into the context in turn, so that OpenSSL says what it does not like; the first is
 * left there. */
static int try_pairs(
	struct tls_context *context, const struct tls_server_settings *settings, struct err *err)
{
	for (size_t i = context->pair_count; i-- > 0;)
		if (use_pair(context->ctx, &context->pairs[i],
			    settings->certificates[i].certificate, err) < 0)
			return -1;
	return 0;
}

static int set_up_server(
	struct tls_context *context, const struct tls_server_settings *settings, struct err *err)
{
	SSL_CTX *ctx = context->ctx;

	if (settings->certificate_count == 0)
		return err_set(err, "no certificate is given");
	if (set_protocol(ctx, settings->min_version, err) < 0 ||
		load_pairs(context, settings, err) < 0 || try_pairs(context, settings, err) < 0 ||
		ask_for_certificates(context, settings->client_ca, err) < 0)
		return -1;
	SSL_CTX_set_options(
		ctx, SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
	SSL_CTX_set_num_tickets(ctx, 0);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"smtp", 4);
	SSL_CTX_set_max_early_data(ctx, 0);
	SSL_CTX_set_recv_max_early_data(ctx, 0);
	SSL_CTX_set_tlsext_servername_callback(ctx, accept_name);
	SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
	SSL_CTX_set_cert_cb(ctx, choose_certificates, context);
	return 0;
}

struct tls_context *tls_server_context(const struct tls_server_settings *settings, struct err *err)
{
	struct tls_context *context = new_context(TLS_server_method(), true);

	if (set_up_server(context, settings, err) < 0)
		tls_context_release(&context);
	return context;
}

/* ---- Clients: verification ------------------------------------------------------------------------ */

static int hex_value(char c)
{
	c = ascii_lower(c);
	if (ascii_is_digit(c))
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int set_fingerprint(struct tls_context *context, struct str text, struct err *err)
{
	size_t digits = 0;

	for (size_t i = 0; i < text.n; i++) {
		int value = hex_value(text.p[i]);
		if (text.p[i] == ':')
			continue;
		if (value < 0 || digits == 2 * SHA256_DIGEST_LENGTH) {
			digits = 0;
			break;
		}
		unsigned char *byte = &context->fingerprint[digits / 2];
		*byte = (unsigned char)(*byte << 4 | value);
		digits++;
	}
	if (digits == 2 * SHA256_DIGEST_LENGTH)
		return 0;
	return err_set(err, "fingerprint: 64 hexadecimal digits are expected");
}

/* Instead of OpenSSL's look at the chain. */
static int compare_fingerprint(X509_STORE_CTX *chain, void *ctx)
{
	const struct tls_context *context = ctx;
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	bool is_same =
		X509_digest(X509_STORE_CTX_get0_cert(chain), EVP_sha256(), digest, &n) == 1 &&
		CRYPTO_memcmp(digest, context->fingerprint, SHA256_DIGEST_LENGTH) == 0;
	X509_STORE_CTX_set_error(chain, is_same ? X509_V_OK : X509_V_ERR_CERT_REJECTED);
	return is_same;
}

/* A name, or an address where certificates are made for addresses. */
static int expect_name(struct tls_context *context, struct str name, struct err *err)
{
	X509_VERIFY_PARAM *param = SSL_CTX_get0_param(context->ctx);

	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (resolver_is_host(name) && X509_VERIFY_PARAM_set1_host(param, name.p, name.n) == 1)
		return 0;
	char *address = str_dup(name);
	bool is_address = name.n > 0 && X509_VERIFY_PARAM_set1_ip_asc(param, address) == 1;
	free(address);
	ERR_clear_error();
	if (is_address)
		return 0;
	return err_set(err, "\"%.*s\" is not a name that a certificate can have", STR_ARG(name));
}

static int set_verification(
	struct tls_context *context, const struct tls_client_settings *settings, struct err *err)
{
	if (settings->verify == TLS_VERIFY_NONE)
		return 0;
	SSL_CTX_set_verify(context->ctx, SSL_VERIFY_PEER, NULL);
	if (settings->verify == TLS_VERIFY_FINGERPRINT) {
		SSL_CTX_set_cert_verify_callback(context->ctx, compare_fingerprint, context);
		return set_fingerprint(context, settings->fingerprint, err);
	}
	if (settings->verify == TLS_VERIFY_NAME && expect_name(context, settings->name, err) < 0)
		return -1;
	if (settings->ca.n > 0)
		return load_authorities(context, settings->ca, err);
	if (SSL_CTX_set_default_verify_paths(context->ctx) == 1)
		return 0;
	return tls_error(err, "the system's certificate authorities");
}

/* ---- Clients: sessions to be resumed ---------------------------------------------------------------- */

static struct remembered *find_peer(
	struct tls_context *context, const struct sockaddr_storage *peer)
{
	for (size_t i = 0; i < REMEMBERED; i++) {
		struct remembered *place = &context->remembered[i];
		if (place->id != 0 && memcmp(&place->peer, peer, sizeof(*peer)) == 0)
			return place;
	}
	return NULL;
}

static struct remembered *find_id(struct tls_context *context, const SSL *ssl)
{
	uint64_t id = (uintptr_t)SSL_get_app_data(ssl);

	for (size_t i = 0; i < REMEMBERED && id != 0; i++)
		if (context->remembered[i].id == id)
			return &context->remembered[i];
	return NULL;
}

static void forget(struct remembered *place)
{
	SSL_SESSION_free(place->session);
	place->session = NULL;
}

/* A free place, or the one that was taken longest ago. */
static struct remembered *take_place(
	struct tls_context *context, const struct sockaddr_storage *peer)
{
	struct remembered *oldest = &context->remembered[0];

	for (size_t i = 1; i < REMEMBERED; i++)
		if (context->remembered[i].id < oldest->id)
			oldest = &context->remembered[i];
	forget(oldest);
	oldest->peer = *peer;
	oldest->id = ++context->last_id;
	return oldest;
}

/* The place may be another server's meanwhile: then the session is not kept. */
static int remember(SSL *ssl, SSL_SESSION *session)
{
	struct tls_context *context = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	struct remembered *place = find_id(context, ssl);

	if (place == NULL)
		return 0;
	forget(place);
	place->session = session;
	return 1; /* the reference is ours */
}

static void resume(struct tls_context *context, SSL *ssl, const struct sockaddr_storage *peer)
{
	struct remembered *place = find_peer(context, peer);

	if (place == NULL)
		place = take_place(context, peer);
	SSL_set_app_data(ssl, (void *)(uintptr_t)place->id);
	if (place->session == NULL)
		return;
	if (SSL_SESSION_is_resumable(place->session))
		SSL_set_session(ssl, place->session);
	else
		forget(place);
}

void tls_context_forget(struct tls_context *context, SSL *ssl)
{
	struct remembered *place = find_id(context, ssl);

	if (place != NULL)
		forget(place);
}

/* ---- Clients -------------------------------------------------------------------------------------- */

static int load_own(
	struct tls_context *context, const struct tls_client_settings *settings, struct err *err)
{
	struct tls_certificate files = { settings->certificate, settings->key };
	struct tls_pair pair;

	if (files.certificate.n == 0 && files.key.n == 0)
		return 0;
	if (files.certificate.n == 0 || files.key.n == 0)
		return err_set(err, "a certificate needs its key, and a key its certificate");
	if (tls_pair_read(&pair, &files, err) < 0)
		return -1;
	note_path(context, files.certificate);
	note_path(context, files.key);
	int rc = use_pair(context->ctx, &pair, files.certificate, err);
	tls_pair_free(&pair);
	return rc;
}

static int set_up_client(
	struct tls_context *context, const struct tls_client_settings *settings, struct err *err)
{
	if (set_protocol(context->ctx, settings->min_version, err) < 0 ||
		set_verification(context, settings, err) < 0 ||
		load_own(context, settings, err) < 0)
		return -1;
	/* RFC 6066 section 3: addresses are not asked for by name. */
	if (resolver_is_host(settings->name))
		context->name = str_dup(settings->name);
	SSL_CTX_set_session_cache_mode(
		context->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(context->ctx, remember);
	return 0;
}

struct tls_context *tls_client_context(const struct tls_client_settings *settings, struct err *err)
{
	struct tls_context *context = new_context(TLS_client_method(), false);

	if (set_up_client(context, settings, err) < 0)
		tls_context_release(&context);
	return context;
}

/* ---- Life ------------------------------------------------------------------------------------------ */

bool tls_context_is_server(const struct tls_context *context)
{
	return context->is_server;
}

SSL *tls_context_open(struct tls_context *context, const struct sockaddr_storage *peer)
{
	SSL *ssl = SSL_new(context->ctx);

	ASSERT(ssl != NULL);
	if (context->is_server) {
		SSL_set_accept_state(ssl);
		return ssl;
	}
	SSL_set_connect_state(ssl);
	if (context->name != NULL)
		SSL_set_tlsext_host_name(ssl, context->name);
	resume(context, ssl, peer);
	return ssl;
}

struct tls_context *tls_context_keep(struct tls_context *context)
{
	ASSERT(context->users > 0);
	context->users++;
	return context;
}

void tls_context_release(struct tls_context **context_ptr)
{
	struct tls_context *context = *context_ptr;

	*context_ptr = NULL;
	if (context == NULL || --context->users > 0)
		return;
	for (size_t i = 0; i < REMEMBERED; i++)
		forget(&context->remembered[i]);
	for (size_t i = 0; i < context->pair_count; i++)
		tls_pair_free(&context->pairs[i]);
	for (size_t i = 0; i < context->path_count; i++)
		free(context->paths[i]);
	SSL_CTX_free(context->ctx);
	free(context->pairs);
	free(context->paths);
	free(context->name);
	free(context);
}

/* FNV-1a. */
static uint64_t mix(uint64_t state, uint64_t value)
{
	for (int i = 0; i < 8; i++)
		state = (state ^ (value >> (8 * i) & 0xff)) * 0x100000001b3;
	return state;
}

/* The change time, as renaming an older file into place does not touch the others. */
static uint64_t mix_file(uint64_t state, const char *path)
{
	struct stat status;

	if (stat(path, &status) < 0)
		return mix(state, (uint64_t)errno);
	state = mix(state, status.st_dev);
	state = mix(state, status.st_ino);
	state = mix(state, (uint64_t)status.st_size);
	state = mix(state, (uint64_t)status.st_ctim.tv_sec);
	return mix(state, (uint64_t)status.st_ctim.tv_nsec);
}

uint64_t tls_context_files_state(const struct tls_context *context)
{
	uint64_t state = 0xcbf29ce484222325;

	for (size_t i = 0; i < context->path_count; i++)
		state = mix_file(state, context->paths[i]);
	return state;
}
