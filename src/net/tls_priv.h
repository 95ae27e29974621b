/*
 * What the files of TLS have for one another: the parts that speak of OpenSSL.
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

/* ---- tls.c: what servers and clients have in common ------------------------------------------------ */

/* Servers whose last session a client's context remembers. */
#define TLS_REMEMBERED 16

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
	unsigned char fingerprint[EVP_MAX_MD_SIZE];
	struct remembered remembered[TLS_REMEMBERED];
	uint64_t last_id;
};

/* A context with nothing in it but the defaults of OpenSSL. */
struct tls_context *tls_context_new(const SSL_METHOD *method, bool is_server);

/* Versions, ciphers, groups and modes. */
int tls_set_protocol(SSL_CTX *ctx, enum tls_version min_version, struct err *err);

/* This file's state is the context's. */
void tls_note_path(struct tls_context *context, struct str path);

/*
 * Whom to believe. Every certificate of the file is an anchor, also one that is itself signed: an
 * operator who names a server's own certificate there means it.
 */
int tls_load_authorities(struct tls_context *context, struct str path, struct err *err);

/* `path` is for the text. */
int tls_use_pair(SSL_CTX *ctx, const struct tls_pair *pair, struct str path, struct err *err);

/* The name that the client asked for, in lower case; empty: none, or no valid host name. */
struct str tls_asked_name(const SSL *ssl, char out[TLS_HOST_MAX]);

/* ---- For stream_tls.c -------------------------------------------------------------------------------- */

/*
 * A session to be, without BIO, ready for SSL_do_handshake. A client's remembers and resumes
 * what it had with the same address.
 */
SSL *tls_context_open(struct tls_context *context, const struct sockaddr_storage *peer);

/* The handshake of this session failed: what it may have resumed is not tried again. */
void tls_context_forget(struct tls_context *context, SSL *ssl);

bool tls_context_is_server(const struct tls_context *context);

/* ---- tls_client.c --------------------------------------------------------------------------------------- */

/* Prepares `ssl` to resume the last session with `peer`, and to remember the next. */
void tls_resume(struct tls_context *context, SSL *ssl, const struct sockaddr_storage *peer);

#endif
