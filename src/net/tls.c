#include "net/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
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

const char *const tls_version_words[] = { "1.2", "1.3", NULL };

/* ---- What both sides have in common ------------------------------------------------------------- */

int tls_set_protocol(SSL_CTX *ctx, enum tls_version min_version, struct err *err)
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

struct tls_context *tls_context_new(const SSL_METHOD *method, bool is_server)
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

void tls_note_path(struct tls_context *context, struct str path)
{
	size_t n = context->path_count++;

	context->paths = xrealloc(context->paths, n + 1, sizeof(*context->paths));
	context->paths[n] = str_dup(path);
}

int tls_load_authorities(struct tls_context *context, struct str path, struct err *err)
{
	X509_STORE *store = SSL_CTX_get_cert_store(context->ctx);
	STACK_OF(X509) *certificates = tls_certificates_read(path, err);

	if (certificates == NULL)
		return -1;
	tls_note_path(context, path);
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

int tls_use_pair(SSL_CTX *ctx, const struct tls_pair *pair, struct str path, struct err *err)
{
	if (SSL_CTX_use_cert_and_key(ctx, pair->certificate, pair->key, pair->chain, 1) == 1)
		return 0;
	tls_error(err, "certificate or key");
	return err_prefix(err, "%.*s", STR_ARG(path));
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
	tls_resume(context, ssl, peer);
	return ssl;
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
	for (size_t i = 0; i < TLS_REMEMBERED; i++)
		SSL_SESSION_free(context->remembered[i].session);
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
