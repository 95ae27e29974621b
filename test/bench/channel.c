#include "channel.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"

/* ---- Contexts --------------------------------------------------------------------------------- */

static int version_of(int version)
{
	return version == 12 ? TLS1_2_VERSION : version == 13 ? TLS1_3_VERSION : 0;
}

SSL_CTX *channel_context(int version)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());

	ASSERT(context != NULL);
	SSL_CTX_set_min_proto_version(context, version_of(version));
	SSL_CTX_set_max_proto_version(context, version_of(version));
	SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	/* One read for what the socket has, not one for the header of each record. */
	SSL_CTX_set_read_ahead(context, 1);
	SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE |
					  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					  SSL_MODE_RELEASE_BUFFERS);
	return context;
}

void channel_context_free(SSL_CTX *context)
{
	SSL_CTX_free(context);
}

/* ---- Trouble ---------------------------------------------------------------------------------- */

static ssize_t fail(struct channel *channel, const char *what)
{
	snprintf(channel->error, sizeof(channel->error), "%s", what);
	return -1;
}

static ssize_t fail_errno(struct channel *channel)
{
	return errno == EAGAIN || errno == EINTR ? 0 : fail(channel, strerror(errno));
}

/* What OpenSSL made of the last call: 0 when it goes on later. */
static ssize_t fail_tls(struct channel *channel, int rc)
{
	int error = errno;
	int outcome = SSL_get_error(channel->ssl, rc);
	unsigned long reason = ERR_peek_error();

	channel->wants_write = outcome == SSL_ERROR_WANT_WRITE;
	if (outcome == SSL_ERROR_WANT_READ || outcome == SSL_ERROR_WANT_WRITE)
		return 0;
	if (outcome == SSL_ERROR_ZERO_RETURN || (outcome == SSL_ERROR_SYSCALL && error == 0) ||
		ERR_GET_REASON(reason) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		return fail(channel, "closed by the server");
	if (outcome == SSL_ERROR_SYSCALL)
		return fail(channel, strerror(error));
	const char *text = ERR_reason_error_string(reason);
	return fail(channel, text != NULL ? text : "TLS");
}

/* ---- Handshake -------------------------------------------------------------------------------- */

void channel_start_tls(struct channel *channel, SSL_CTX *context)
{
	ASSERT(channel->ssl == NULL);
	channel->ssl = SSL_new(context);
	ASSERT(channel->ssl != NULL);
	SSL_set_fd(channel->ssl, channel->fd);
	SSL_set_connect_state(channel->ssl);
}

int channel_shake_hands(struct channel *channel)
{
	ERR_clear_error();
	errno = 0;
	int rc = SSL_do_handshake(channel->ssl);
	if (rc != 1)
		return (int)fail_tls(channel, rc);
	channel->wants_write = false;
	if (SSL_session_reused(channel->ssl))
		return (int)fail(channel, "the session was resumed");
	return 1;
}

struct str channel_describe(const struct channel *channel, char out[CHANNEL_TEXT_MAX])
{
	if (channel->ssl == NULL)
		return STR("");
	EVP_PKEY *key = X509_get0_pubkey(SSL_get0_peer_certificate(channel->ssl));
	EVP_PKEY *group = NULL;
	SSL_get_peer_tmp_key(channel->ssl, &group);
	int n = snprintf(out, CHANNEL_TEXT_MAX, "%s %s, %s, certificate %s %d",
		SSL_get_version(channel->ssl), SSL_get_cipher_name(channel->ssl),
		group != NULL ? EVP_PKEY_get0_type_name(group) : "no group",
		EVP_PKEY_get0_type_name(key), EVP_PKEY_get_bits(key));
	EVP_PKEY_free(group);
	return str_range(str_from(out), 0, n > 0 ? (size_t)n : 0);
}

/* ---- Bytes ------------------------------------------------------------------------------------ */

ssize_t channel_send(struct channel *channel, struct str bytes)
{
	size_t n = 0;

	if (channel->ssl == NULL) {
		ssize_t sent = send(channel->fd, bytes.p, bytes.n, MSG_NOSIGNAL);
		return sent < 0 ? fail_errno(channel) : sent;
	}
	ERR_clear_error();
	errno = 0;
	int rc = SSL_write_ex(channel->ssl, bytes.p, bytes.n, &n);
	return rc == 1 ? (ssize_t)n : fail_tls(channel, rc);
}

ssize_t channel_receive(struct channel *channel, char *out, size_t size)
{
	size_t n = 0;

	if (channel->ssl == NULL) {
		ssize_t got = recv(channel->fd, out, size, 0);
		if (got == 0)
			return fail(channel, "closed by the server");
		return got < 0 ? fail_errno(channel) : got;
	}
	ERR_clear_error();
	errno = 0;
	int rc = SSL_read_ex(channel->ssl, out, size, &n);
	return rc == 1 ? (ssize_t)n : fail_tls(channel, rc);
}

bool channel_has_more(const struct channel *channel)
{
	return channel->ssl != NULL && SSL_has_pending(channel->ssl);
}

void channel_close(struct channel *channel, bool is_orderly)
{
	if (channel->ssl != NULL && is_orderly)
		SSL_shutdown(channel->ssl);
	ERR_clear_error();
	SSL_free(channel->ssl);
	channel->ssl = NULL;
	if (channel->fd >= 0)
		close(channel->fd);
	channel->fd = -1;
}
