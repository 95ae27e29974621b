#include <openssl/err.h>

#include "base/xalloc.h"
#include "tls_priv.h"

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
	return tls_load_authorities(context, path, err);
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
		tls_note_path(context, files->certificate);
		tls_note_path(context, files->key);
	}
	return 0;
}

/* Each is put into the context in turn, so that OpenSSL says what it does not like; the first is
 * left there. */
static int try_pairs(
	struct tls_context *context, const struct tls_server_settings *settings, struct err *err)
{
	for (size_t i = context->pair_count; i-- > 0;)
		if (tls_use_pair(context->ctx, &context->pairs[i],
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
	if (tls_set_protocol(ctx, settings->min_version, err) < 0 ||
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
	struct tls_context *context = tls_context_new(TLS_server_method(), true);

	if (set_up_server(context, settings, err) < 0)
		tls_context_release(&context);
	return context;
}
