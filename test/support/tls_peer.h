/*
 * The other end of a TLS stream: OpenSSL between two memory BIOs, and a bare socket. The test
 * moves the ciphertext, so that it can be trickled, cut short, changed or held back.
 */
#ifndef TEST_SUPPORT_TLS_PEER_H
#define TEST_SUPPORT_TLS_PEER_H

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/buf.h"

struct tls_peer {
	SSL_CTX *ctx;
	SSL *ssl;
	BIO *in, *out;
	int fd;
	size_t chunk;   /* bytes moved at most in one pump, each way; 0: all */
	bool saw_end;   /* of the connection */
	bool saw_close; /* close_notify came */
	bool is_reset;
	unsigned long error; /* of OpenSSL */
	struct buf got;
};

static inline void tls_peer_init(struct tls_peer *peer, int fd, const SSL_METHOD *method)
{
	*peer = (struct tls_peer){ .fd = fd, .ctx = SSL_CTX_new(method) };
	buf_init(&peer->got, 64 << 20);
}

/* After the context has its settings. */
static inline void tls_peer_start(struct tls_peer *peer, bool is_server)
{
	peer->ssl = SSL_new(peer->ctx);
	peer->in = BIO_new(BIO_s_mem());
	peer->out = BIO_new(BIO_s_mem());
	BIO_set_mem_eof_return(peer->in, -1);
	SSL_set_bio(peer->ssl, peer->in, peer->out);
	if (is_server)
		SSL_set_accept_state(peer->ssl);
	else
		SSL_set_connect_state(peer->ssl);
}

static inline void tls_peer_free(struct tls_peer *peer)
{
	SSL_free(peer->ssl);
	SSL_CTX_free(peer->ctx);
	buf_free(&peer->got);
	if (peer->fd >= 0)
		close(peer->fd);
	peer->fd = -1;
	ERR_clear_error();
}

static inline void tls_peer_note(struct tls_peer *peer, int rc)
{
	switch (SSL_get_error(peer->ssl, rc)) {
	case SSL_ERROR_ZERO_RETURN:
		peer->saw_close = true;
		break;
	case SSL_ERROR_SSL:
		if (peer->error == 0)
			peer->error = ERR_get_error();
		break;
	default:
		break;
	}
	ERR_clear_error();
}

static inline size_t tls_peer_most(const struct tls_peer *peer, size_t size)
{
	return peer->chunk > 0 && peer->chunk < size ? peer->chunk : size;
}

/* Gives the socket what it takes of what waits. */
static inline void tls_peer_push(struct tls_peer *peer)
{
	char *data = NULL;
	char dropped[65536];
	size_t waiting = (size_t)BIO_get_mem_data(peer->out, &data);
	size_t most = tls_peer_most(peer, waiting < sizeof(dropped) ? waiting : sizeof(dropped));

	if (most == 0 || peer->fd < 0)
		return;
	ssize_t n = send(peer->fd, data, most, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n > 0)
		BIO_read(peer->out, dropped, (int)n);
}

static inline void tls_peer_pull(struct tls_peer *peer)
{
	char bytes[65536];

	if (peer->fd < 0)
		return;
	ssize_t n = recv(peer->fd, bytes, tls_peer_most(peer, sizeof(bytes)), MSG_DONTWAIT);
	if (n > 0)
		BIO_write(peer->in, bytes, (int)n);
	peer->saw_end |= n == 0;
	peer->is_reset |= n < 0 && errno == ECONNRESET;
}

/* Takes what has been decrypted. */
static inline void tls_peer_read(struct tls_peer *peer)
{
	char bytes[16384];
	size_t n;
	int rc;

	ERR_clear_error();
	while ((rc = SSL_read_ex(peer->ssl, bytes, sizeof(bytes), &n)) > 0)
		assert_true(buf_write(&peer->got, str_make(bytes, n)));
	tls_peer_note(peer, rc);
}

/* One step of everything, the handshake included. */
static inline void tls_peer_pump(struct tls_peer *peer)
{
	tls_peer_pull(peer);
	if (SSL_is_init_finished(peer->ssl)) {
		tls_peer_read(peer);
	} else {
		ERR_clear_error();
		int rc = SSL_do_handshake(peer->ssl);
		if (rc <= 0)
			tls_peer_note(peer, rc);
	}
	tls_peer_push(peer);
}

static inline void tls_peer_say(struct tls_peer *peer, struct str text)
{
	size_t n;

	ERR_clear_error();
	assert_int_equal(SSL_write_ex(peer->ssl, text.p, text.n, &n), 1);
	assert_int_equal(n, text.n);
	tls_peer_push(peer);
}

/* Ciphertext that waits to be pushed. */
static inline struct str tls_peer_waiting(const struct tls_peer *peer)
{
	char *data = NULL;
	size_t n = (size_t)BIO_get_mem_data(peer->out, &data);

	return str_make(data, n);
}

#endif
