/*
 * TLS contexts over OpenSSL: protocols, ciphers, certificates, SNI, ALPN, session resumption. What
 * a stream does with them is in net/stream.h (stream_start_tls).
 *
 * Defaults are Mozilla's "intermediate" set: TLS 1.2 and 1.3, ECDHE with AEAD only, no
 * compression, no renegotiation, no early data, no session tickets and no session cache towards
 * clients. A client that offers ALPN without "smtp" is refused (ALPACA).
 */
#ifndef NET_TLS_H
#define NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

/* A certificate (PEM, the chain behind it) and its key (PEM; may be the same file). */
struct tls_certificate {
	struct str certificate, key; /* paths */
};

enum tls_version { TLS_VERSION_1_2, TLS_VERSION_1_3 };

struct tls_server_settings {
	const struct tls_certificate *certificates; /* the first is the default without SNI */
	size_t certificate_count;
	enum tls_version min_version;
	struct str client_ca; /* path; empty: clients are not asked for certificates */
};

/* How far a backend's certificate is checked. */
enum tls_verify {
	TLS_VERIFY_NONE,
	TLS_VERIFY_CA,          /* signed by the CA file (or the system's) */
	TLS_VERIFY_NAME,        /* … and for `name` */
	TLS_VERIFY_FINGERPRINT, /* SHA-256 of the certificate, whoever signed it */
};

struct tls_client_settings {
	enum tls_version min_version;
	enum tls_verify verify;
	struct str ca;          /* path; empty: the system's */
	struct str name;        /* SNI, and what VERIFY_NAME wants; empty: no SNI */
	struct str fingerprint; /* 64 hex digits, colons allowed */
	struct str certificate, key; /* our own; paths; empty: none */
};

struct tls_context; /* opaque, counted: sessions under way keep the one they began with */

/* Reads and checks every file: key belongs to certificate, chain is in order, not empty. */
struct tls_context *tls_server_context(const struct tls_server_settings *settings,
	struct err *err);
struct tls_context *tls_client_context(const struct tls_client_settings *settings,
	struct err *err);
struct tls_context *tls_context_keep(struct tls_context *context);
void tls_context_release(struct tls_context **context);

/* A number that changes when any of the context's files does (inode, size, change time). Cheap
 * enough to ask every few seconds. */
uint64_t tls_context_files_state(const struct tls_context *context);

/* What was negotiated. Views are good for as long as the stream. */
struct tls_state {
	struct str version;  /* "TLSv1.3" */
	struct str cipher;   /* "TLS_AES_256_GCM_SHA384" */
	struct str sni;      /* a valid host name, lower case; or empty */
	struct str alpn;
	bool is_resumed;
	bool has_peer_certificate, peer_is_verified;
	struct str peer_subject;     /* one line, RFC 2253 */
	struct str peer_fingerprint; /* SHA-256, lower-case hex */
	struct str channel_binding;  /* tls-exporter (RFC 9266), of TLS 1.3 only; or empty */
};

#endif
