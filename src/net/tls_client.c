#include <openssl/err.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#include "base/xalloc.h"
#include "resolver_priv.h"
#include "tls_priv.h"

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
		return tls_load_authorities(context, settings->ca, err);
	if (SSL_CTX_set_default_verify_paths(context->ctx) == 1)
		return 0;
	return tls_error(err, "the system's certificate authorities");
}

/* ---- Clients: sessions to be resumed ---------------------------------------------------------------- */

static struct remembered *find_peer(
	struct tls_context *context, const struct sockaddr_storage *peer)
{
	for (size_t i = 0; i < TLS_REMEMBERED; i++) {
		struct remembered *place = &context->remembered[i];
		if (place->id != 0 && memcmp(&place->peer, peer, sizeof(*peer)) == 0)
			return place;
	}
	return NULL;
}

static struct remembered *find_id(struct tls_context *context, const SSL *ssl)
{
	uint64_t id = (uintptr_t)SSL_get_app_data(ssl);

	for (size_t i = 0; i < TLS_REMEMBERED && id != 0; i++)
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

	for (size_t i = 1; i < TLS_REMEMBERED; i++)
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

void tls_resume(struct tls_context *context, SSL *ssl, const struct sockaddr_storage *peer)
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
	tls_note_path(context, files.certificate);
	tls_note_path(context, files.key);
	int rc = tls_use_pair(context->ctx, &pair, files.certificate, err);
	tls_pair_free(&pair);
	return rc;
}

static int set_up_client(
	struct tls_context *context, const struct tls_client_settings *settings, struct err *err)
{
	if (tls_set_protocol(context->ctx, settings->min_version, err) < 0 ||
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
	struct tls_context *context = tls_context_new(TLS_client_method(), false);

	if (set_up_client(context, settings, err) < 0)
		tls_context_release(&context);
	return context;
}
