/*
 * TLS contexts over OpenSSL: protocols, ciphers, certificates, SNI, ALPN, session resumption. What
 * a stream does with them is in net/stream.h (stream_start_tls).
 *
 * Defaults are Mozilla's "intermediate" set: TLS 1.2 and 1.3, ECDHE with AEAD only, no
 * compression, no renegotiation, no early data, no session tickets and no session cache towards
 * clients. A client that offers ALPN without "smtp" is refused (ALPACA); it need not offer any, and
 * ours do not.
 *
 * Nothing of OpenSSL is seen outside of src/net. Its queue of errors is empty between calls.
 */
#ifndef NET_TLS_H
#define NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

/*
 * A certificate (PEM, the chain behind it) and its key (PEM, not encrypted; may be the same file).
 * Other kinds of blocks in the file are passed over.
 */
struct tls_certificate {
	struct str certificate, key; /* paths */
};

enum tls_version { TLS_VERSION_1_2, TLS_VERSION_1_3 };
extern const char *const tls_version_words[]; /* "1.2", "1.3", NULL */

/*
 * Which certificate: of each kind of key (ECDSA, RSA) the one that has the name in subjectAltName,
 * an exact name before a wildcard (one label, the leftmost), earlier before later ones; of these
 * the one that the client can use. A client that sends no SNI, or an unknown name, gets what it
 * would get for the first name of the first certificate.
 *
 * Clients' certificates are asked for but never needed, and an unknown one does not end the
 * handshake: whoever decides looks at tls_state.
 */
struct tls_server_settings {
	const struct tls_certificate *certificates; /* at least one; the first is the default */
	size_t certificate_count;
	enum tls_version min_version;
	struct str client_ca; /* path; empty: clients are not asked for certificates */
};

/*
 * How far a backend's certificate is checked; the handshake fails when it does not pass. Every
 * certificate in the CA file is trusted for itself as well, so that it can be the backend's own.
 * The name (an address is allowed) must be in subjectAltName, or, when there is no DNS name in it,
 * the common name.
 */
enum tls_verify {
	TLS_VERIFY_NONE,
	TLS_VERIFY_CA,          /* signed by the CA file (or the system's) */
	TLS_VERIFY_NAME,        /* … and for `name` */
	TLS_VERIFY_FINGERPRINT, /* SHA-256 of the certificate, whoever signed it */
};

struct tls_client_settings {
	enum tls_version min_version;
	enum tls_verify verify;
	struct str ca;               /* path; empty: the system's */
	struct str name;             /* SNI, and what VERIFY_NAME wants; empty: no SNI */
	struct str fingerprint;      /* 64 hex digits, colons allowed */
	struct str certificate, key; /* our own; paths; empty: none */
};

/*
 * Opaque, counted: sessions under way keep the one they began with. A client's remembers the last
 * session with each of a few addresses and resumes it; it never offers one to another address.
 */
struct tls_context;

/*
 * Read and check every file: key belongs to certificate, chain is in order, nothing is cut off,
 * empty or too large. A chain that was cut between two certificates cannot be told from a shorter
 * one. NULL: see `err`, which begins with the path of the file; nothing of the old context is
 * touched, so that it can go on. Files are read at once, in the calling turn (the system's CAs are
 * looked up when they are needed).
 */
struct tls_context *tls_server_context(const struct tls_server_settings *settings, struct err *err);
struct tls_context *tls_client_context(const struct tls_client_settings *settings, struct err *err);
struct tls_context *tls_context_keep(struct tls_context *context);
void tls_context_release(struct tls_context **context);

/*
 * A number that changes when any of the context's files does (device, inode, size, change time).
 * Cheap enough to ask every few seconds. Ask before loading anew: what changes meanwhile is then
 * seen the next time.
 */
uint64_t tls_context_files_state(const struct tls_context *context);

/* What was negotiated. Views are good until the stream is closed. */
struct tls_state {
	struct str version; /* "TLSv1.3" */
	struct str cipher;  /* "TLS_AES_256_GCM_SHA384" */
	struct str sni;     /* a valid host name, lower case; or empty */
	struct str alpn;    /* "smtp" or empty */
	bool is_resumed;
	bool has_peer_certificate;
	bool peer_is_verified;       /* as the settings ask; never with TLS_VERIFY_NONE */
	struct str peer_subject;     /* one line, RFC 2253, ASCII; cut at 1023 bytes */
	struct str peer_fingerprint; /* SHA-256, lower-case hex */
	bool can_bind;               /* there is a channel binding: stream_channel_binding() */
};

/*
 * Bytes of one, tls-exporter (RFC 9266 section 2). Only TLS 1.3 has it: with TLS 1.2 the exporter binds
 * nothing without the extended master secret, and SCRAM's older bindings are not worth having.
 */
#define TLS_CHANNEL_BINDING 32

#endif
