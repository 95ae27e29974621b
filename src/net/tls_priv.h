/*
 * What tls.c has for stream_tls.c, and tls_files.c for tls.c: the parts that speak of OpenSSL.
 *
 * OpenSSL's queue of errors is one for the whole process. Who calls OpenSSL clears it before, and
 * takes its text at once when the call fails, so that nothing of one stream is told of another.
 */
#ifndef NET_TLS_PRIV_H
#define NET_TLS_PRIV_H

#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include "net/tls.h"

#define TLS_HOST_MAX 254 /* a host name and its terminator */

/* ---- tls_files.c: certificates and keys from PEM files ------------------------------------------ */

/* A certificate, the chain behind it and its key. */
struct tls_pair {
	X509 *certificate;
	STACK_OF(X509) * chain; /* never NULL, may be empty */
	EVP_PKEY *key;
	GENERAL_NAMES *names; /* subjectAltName; may be NULL */
};

/* 0, or -1 with the name of the file in the text; then nothing is to be freed. */
int tls_pair_read(struct tls_pair *pair, const struct tls_certificate *files, struct err *err);
void tls_pair_free(struct tls_pair *pair);

/* The certificates of a file, at least one; to be freed. NULL: see `err`. */
STACK_OF(X509) * tls_certificates_read(struct str path, struct err *err);

/* Sets "what: " and what OpenSSL says is wrong, and clears its queue. Returns -1. */
int tls_error(struct err *err, const char *what);

/* ---- tls.c ----------------------------------------------------------------------------------------- */

/*
 * A session to be, without BIO, ready for SSL_do_handshake. A client's remembers and resumes
 * what it had with the same address.
 */
SSL *tls_context_open(struct tls_context *context, const struct sockaddr_storage *peer);

/* The handshake of this session failed: what it may have resumed is not tried again. */
void tls_context_forget(struct tls_context *context, SSL *ssl);

bool tls_context_is_server(const struct tls_context *context);

/* The name that the client asked for, in lower case; empty: none, or no valid host name. */
struct str tls_asked_name(const SSL *ssl, char out[TLS_HOST_MAX]);

#endif
