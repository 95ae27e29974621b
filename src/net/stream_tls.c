#include <errno.h>
#include <openssl/err.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/xalloc.h"
#include "stream_priv.h"
#include "tls_priv.h"

/*
 * OpenSSL never touches the socket. Ciphertext is read in large pieces and fed to it, and what it
 * makes is gathered and sent in one call; a socket's trouble therefore leaves its state alone, and
 * what it does is bounded by what it is fed.
 */

#define RECORD_MAX 16384        /* plaintext of a record: RFC 8446 section 5.1 */
#define SEALED_RECORD_MAX 17408 /* more than one with header, padding and tag */
#define FRESH_MAX (4 * RECORD_MAX)
#define SEALED_MAX (4 * SEALED_RECORD_MAX)
#define RECORDS_A_READ 64
/* Records in a row that carry no data (KeyUpdate, empty ones, tickets) before it is a flood. */
#define RECORDS_WITHOUT_DATA_MAX 64
#define SUBJECT_MAX 1024
#define FINGERPRINT_TEXT (2 * SHA256_DIGEST_LENGTH + 1)

/* What one call reads, and what it makes: empty between calls, so that idle streams own none. */
static char fresh[FRESH_MAX];
static char sealed[SEALED_MAX];
static size_t sealed_n;

struct stream_tls {
	struct stream *stream;
	struct tls_context *context;
	SSL *ssl;
	void (*done)(void *ctx, const struct err *err);
	void *ctx;
	struct buf in;     /* ciphertext that waits to be decrypted */
	struct str feed;   /* what OpenSSL may take in this call: all of `in`, or what is fresh */
	struct buf unsent; /* ciphertext, perhaps behind plaintext from before the handshake */
	struct task later;
	unsigned records_left;         /* in this call */
	unsigned records_without_data; /* since there was some */
	bool has_spoken;               /* the first step of the handshake was made */
	bool saw_fin, saw_close_notify, sent_close_notify;
	int error;     /* errno of reading */
	char *problem; /* of the protocol; final */
	struct tls_state state;
	char *texts; /* behind the views of state */
};

/* ---- Between OpenSSL and the buffers ------------------------------------------------------------ */

static int feed_bio(BIO *bio, char *out, int size)
{
	struct stream_tls *tls = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	/* OpenSSL asks for a header, and then for what it announces. */
	bool is_header = size == SSL3_RT_HEADER_LENGTH;
	if (tls->feed.n == 0 || (is_header && tls->records_left == 0)) {
		BIO_set_retry_read(bio);
		return -1;
	}
	tls->records_left -= is_header;
	tls->records_without_data += is_header;
	struct str piece = str_range(tls->feed, 0, (size_t)size);
	memcpy(out, piece.p, piece.n);
	tls->feed = str_from_pos(tls->feed, piece.n);
	return (int)piece.n;
}

static int gather_bio(BIO *bio, const char *bytes, int size)
{
	struct stream_tls *tls = BIO_get_data(bio);
	size_t room =
		sizeof(sealed) < buf_room(&tls->unsent) ? sizeof(sealed) : buf_room(&tls->unsent);

	BIO_clear_retry_flags(bio);
	if (sealed_n >= room) {
		BIO_set_retry_write(bio);
		return -1;
	}
	struct str piece = str_range(str_make(bytes, (size_t)size), 0, room - sealed_n);
	memcpy(sealed + sealed_n, piece.p, piece.n);
	sealed_n += piece.n;
	return (int)piece.n;
}

static long control_bio(BIO *bio, int command, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	return command == BIO_CTRL_FLUSH;
}

/* Made once and kept for the life of the process. */
static const BIO_METHOD *bio_method(void)
{
	static BIO_METHOD *method;

	if (method != NULL)
		return method;
	method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");
	ASSERT(method != NULL);
	BIO_meth_set_read(method, feed_bio);
	BIO_meth_set_write(method, gather_bio);
	BIO_meth_set_ctrl(method, control_bio);
	return method;
}

/* ---- Between the buffers and the socket --------------------------------------------------------- */

/* What was left over before comes first; else the socket is read once. */
static void fill(struct stream_tls *tls, size_t wanted)
{
	size_t most = wanted + SEALED_RECORD_MAX;

	tls->feed = buf_view(&tls->in);
	if (tls->feed.n > 0 || tls->saw_fin || tls->error != 0)
		return;
	ssize_t n = stream_plain.read(tls->stream, fresh, most < FRESH_MAX ? most : FRESH_MAX);
	if (n > 0)
		tls->feed = str_make(fresh, (size_t)n);
	else if (n == 0)
		tls->saw_fin = true;
	else if (!stream_is_full(n))
		tls->error = errno;
}

static void keep_rest(struct stream_tls *tls)
{
	size_t used = buf_used(&tls->in);

	if (used > 0)
		buf_consume(&tls->in, used - tls->feed.n);
	else
		buf_write(&tls->in, tls->feed);
	buf_release(&tls->in);
	tls->feed = str_make(NULL, 0);
}

/* Sends what OpenSSL has made, behind what the socket did not take before. 0, or -1 and errno. */
static int settle(struct stream_tls *tls)
{
	struct str older = buf_view(&tls->unsent);
	struct str newer = str_make(sealed, sealed_n);

	sealed_n = 0;
	if (older.n + newer.n == 0)
		return 0;
	ssize_t n = older.n > 0 ? stream_plain.send(tls->stream, older, newer)
				: stream_plain.send(tls->stream, newer, older);
	if (n < 0 && !stream_is_full(n))
		return -1;
	size_t sent = n > 0 ? (size_t)n : 0;
	size_t sent_older = sent < older.n ? sent : older.n;
	buf_consume(&tls->unsent, sent_older);
	bool fits = buf_write(&tls->unsent, str_from_pos(newer, sent - sent_older));
	ASSERT(fits); /* gather_bio left the room */
	buf_release(&tls->unsent);
	return 0;
}

/* ---- Trouble ------------------------------------------------------------------------------------- */

static void set_problem(struct stream_tls *tls, const char *text)
{
	if (tls->problem == NULL)
		tls->problem = xstrdup(text);
}

/* What OpenSSL's reason does not say, for those who read the log. */
static const char *explain(const struct stream_tls *tls, int reason)
{
	switch (reason) {
	case SSL_R_CERTIFICATE_VERIFY_FAILED:
		return X509_verify_cert_error_string(SSL_get_verify_result(tls->ssl));
	case SSL_R_WRONG_VERSION_NUMBER:
	case SSL_R_HTTP_REQUEST:
	case SSL_R_HTTPS_PROXY_REQUEST:
		return "the peer does not speak TLS";
	default:
		return NULL;
	}
}

static void take_problem(struct stream_tls *tls)
{
	const char *more = explain(tls, ERR_GET_REASON(ERR_peek_error()));
	struct err err, explained;

	tls_error(&err, tls->stream->is_handshaking ? "TLS handshake" : "TLS");
	if (more != NULL)
		err_set(&explained, "%s: %s", err.text, more);
	set_problem(tls, more != NULL ? explained.text : err.text);
}

/* After a call that did not succeed. */
static void note_outcome(struct stream_tls *tls, int rc)
{
	switch (SSL_get_error(tls->ssl, rc)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		if (!tls->stream->is_handshaking &&
			tls->records_without_data > RECORDS_WITHOUT_DATA_MAX)
			set_problem(tls, "TLS: too many records without data");
		break;
	case SSL_ERROR_ZERO_RETURN:
		tls->saw_close_notify = true;
		buf_free(&tls->in);
		tls->feed = str_make(NULL, 0);
		break;
	default:
		take_problem(tls);
	}
}

static int fail_protocol(void)
{
	errno = EPROTO;
	return -1;
}

/* ---- Input --------------------------------------------------------------------------------------- */

static bool has_ciphertext(const struct stream_tls *tls)
{
	return tls->feed.n > 0 || SSL_pending(tls->ssl) > 0;
}

/* A call that finds nothing would take memory for a record, and give it back. */
static size_t decrypt(struct stream_tls *tls, char *out, size_t size)
{
	size_t total = 0;
	size_t n;

	while (total < size && has_ciphertext(tls)) {
		ERR_clear_error();
		int rc = SSL_read_ex(tls->ssl, out + total, size - total, &n);
		if (rc <= 0) {
			note_outcome(tls, rc);
			break;
		}
		tls->records_without_data = 0;
		total += n;
	}
	return total;
}

/*
 * Nothing can be decrypted now: is it the end? Bytes behind a close_notify are never read, and a
 * record that is cut short was never authenticated: it is not told.
 */
static ssize_t end_of_input(const struct stream_tls *tls)
{
	if (tls->problem != NULL)
		return fail_protocol();
	if (tls->saw_close_notify)
		return 0;
	errno = EAGAIN;
	if (buf_used(&tls->in) > 0)
		return -1;
	if (tls->error != 0)
		errno = tls->error;
	return tls->saw_fin ? 0 : -1;
}

static ssize_t tls_read(struct stream *stream, char *out, size_t size)
{
	struct stream_tls *tls = stream->tls;

	if (tls->problem != NULL)
		return fail_protocol();
	if (SSL_pending(tls->ssl) > 0)
		tls->feed = buf_view(&tls->in);
	else
		fill(tls, size);
	tls->records_left = RECORDS_A_READ;
	size_t n = decrypt(tls, out, size);
	keep_rest(tls);
	/* An alert that cannot be sent is not missed: the next write will say why. */
	(void)settle(tls);
	return n > 0 ? (ssize_t)n : end_of_input(tls);
}

static bool peek_once(struct stream_tls *tls)
{
	char byte;
	size_t n = 0;

	fill(tls, 0);
	if (!has_ciphertext(tls))
		return false;
	tls->records_left = RECORDS_A_READ;
	ERR_clear_error();
	int rc = SSL_peek_ex(tls->ssl, &byte, 1, &n);
	if (rc <= 0)
		note_outcome(tls, rc);
	keep_rest(tls);
	(void)settle(tls);
	return n > 0;
}

/* Reads as far as the first byte of data: tickets and the like are not input. What was left over
 * may be the beginning of a record, the rest of which is in the socket. */
static bool has_data(struct stream_tls *tls)
{
	if (tls->problem != NULL || tls->saw_close_notify)
		return false;
	if (SSL_pending(tls->ssl) > 0)
		return true;
	bool has_rest = buf_used(&tls->in) > 0;
	bool is_there = peek_once(tls) || (has_rest && peek_once(tls));
	/* The socket will not tell again of what was taken from it. */
	if (stream_tls_is_ready(tls))
		task_defer(&tls->stream->input_task, tls->stream->loop);
	return is_there;
}

static ssize_t tls_peek(const struct stream *stream)
{
	errno = EAGAIN;
	if (stream->is_handshaking)
		return -1;
	return has_data(stream->tls) ? 1 : end_of_input(stream->tls);
}

bool stream_tls_is_ready(const struct stream_tls *tls)
{
	return buf_used(&tls->in) > 0 || tls->problem != NULL || tls->saw_close_notify ||
	       tls->saw_fin || tls->error != 0 || SSL_pending(tls->ssl) > 0;
}

/* What a flush defers is done in the next turn. */
static void read_later(void *ctx)
{
	struct stream_tls *tls = ctx;

	task_defer(&tls->stream->input_task, tls->stream->loop);
}

void stream_tls_postpone(struct stream_tls *tls)
{
	task_defer_flush(&tls->later, tls->stream->loop);
}

/* ---- Output -------------------------------------------------------------------------------------- */

/* One record at most. Returns how many bytes were taken: 0 when there is trouble. */
static size_t encrypt(struct stream_tls *tls, struct str bytes)
{
	struct str piece = str_range(bytes, 0, RECORD_MAX);
	size_t n = 0;

	ERR_clear_error();
	int rc = SSL_write_ex(tls->ssl, piece.p, piece.n, &n);
	if (rc > 0)
		return n;
	note_outcome(tls, rc);
	return 0;
}

static bool has_room_for_record(void)
{
	return sealed_n + SEALED_RECORD_MAX <= sizeof(sealed);
}

/* As many records as one call of the socket is to carry. */
static size_t encrypt_batch(struct stream_tls *tls, struct str first, struct str second)
{
	size_t taken = 0;

	while (taken < first.n + second.n && has_room_for_record()) {
		struct str rest = taken < first.n ? str_from_pos(first, taken)
						  : str_from_pos(second, taken - first.n);
		size_t n = encrypt(tls, rest);
		if (n == 0)
			break;
		taken += n;
	}
	return taken;
}

static void seal_close_notify(struct stream_tls *tls)
{
	if (tls->sent_close_notify || tls->problem != NULL)
		return;
	tls->sent_close_notify = true;
	ERR_clear_error();
	(void)SSL_shutdown(tls->ssl);
	ERR_clear_error();
	/* An alert leaves a record's memory behind, and the peer may take its time. */
	SSL_free_buffers(tls->ssl);
}

/* Nothing is encrypted while the socket is full: what waits stays where it can be counted. The last
 * words and the close_notify behind them go out together. */
static ssize_t tls_send(struct stream *stream, struct str first, struct str second)
{
	struct stream_tls *tls = stream->tls;
	size_t total = first.n + second.n;
	size_t taken = 0;
	int rc = settle(tls);

	while (rc == 0 && taken < total && buf_used(&tls->unsent) == 0) {
		size_t n = encrypt_batch(tls, str_from_pos(first, taken),
			str_from_pos(second, taken < first.n ? 0 : taken - first.n));
		if (stream->is_finished && taken + n == total && has_room_for_record())
			seal_close_notify(tls);
		rc = settle(tls);
		if (tls->problem != NULL)
			return fail_protocol();
		if (n == 0)
			break;
		taken += n;
	}
	if (rc < 0)
		return -1;
	if (taken == 0 && total > 0) {
		errno = EAGAIN;
		return -1;
	}
	return (ssize_t)taken;
}

size_t stream_tls_unsent(const struct stream_tls *tls)
{
	return buf_used(&tls->unsent);
}

static void say_close_notify(struct stream_tls *tls)
{
	seal_close_notify(tls);
	(void)settle(tls);
}

static void tls_finish(struct stream *stream)
{
	say_close_notify(stream->tls);
	if (buf_used(&stream->tls->unsent) == 0)
		stream_plain.finish(stream);
}

/* ---- Handshake ----------------------------------------------------------------------------------- */

/* A server speaks second: what is there before our first word cannot be TLS, it was injected. */
static bool is_injected(const struct stream_tls *tls)
{
	return !tls->has_spoken && !tls_context_is_server(tls->context) && tls->feed.n > 0;
}

static void hex(const unsigned char *bytes, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		*out++ = digits[bytes[i] >> 4];
		*out++ = digits[bytes[i] & 15];
	}
	*out = '\0';
}

static size_t print_subject(X509 *certificate, char *out, size_t size)
{
	BIO *text = BIO_new(BIO_s_mem());
	char *data = NULL;

	ASSERT(text != NULL);
	X509_NAME_print_ex(text, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
	long n = BIO_get_mem_data(text, &data);
	size_t copied = str_copy_to(str_make(data, n > 0 ? (size_t)n : 0), out, size);
	BIO_free(text);
	return copied;
}

static void describe_peer(struct stream_tls *tls, X509 *certificate, char *text)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	tls->state.has_peer_certificate = true;
	tls->state.peer_is_verified = SSL_get_verify_mode(tls->ssl) != SSL_VERIFY_NONE &&
				      SSL_get_verify_result(tls->ssl) == X509_V_OK;
	if (X509_digest(certificate, EVP_sha256(), digest, &n) != 1)
		n = 0;
	hex(digest, n, text);
	tls->state.peer_fingerprint = str_make(text, 2 * n);
	text += FINGERPRINT_TEXT;
	tls->state.peer_subject = str_make(text, print_subject(certificate, text, SUBJECT_MAX));
}

static void describe(struct stream_tls *tls)
{
	X509 *certificate = SSL_get0_peer_certificate(tls->ssl);
	const unsigned char *alpn = NULL;
	unsigned alpn_n = 0;
	size_t texts = TLS_HOST_MAX + (certificate ? FINGERPRINT_TEXT + SUBJECT_MAX : 0);

	tls->texts = xcalloc(texts, 1);
	tls->state.version = str_from(SSL_get_version(tls->ssl));
	tls->state.cipher = str_from(SSL_CIPHER_get_name(SSL_get_current_cipher(tls->ssl)));
	tls->state.sni = tls_asked_name(tls->ssl, tls->texts);
	SSL_get0_alpn_selected(tls->ssl, &alpn, &alpn_n);
	tls->state.alpn = str_make((const char *)alpn, alpn_n);
	tls->state.is_resumed = SSL_session_reused(tls->ssl) == 1;
	tls->state.can_bind = SSL_version(tls->ssl) == TLS1_3_VERSION;
	if (certificate != NULL)
		describe_peer(tls, certificate, tls->texts + TLS_HOST_MAX);
	ERR_clear_error();
}

bool stream_tls_bind(const struct stream_tls *tls, char out[TLS_CHANNEL_BINDING])
{
	static const char label[] = "EXPORTER-Channel-Binding";
	bool is_made;

	ERR_clear_error();
	is_made = tls->state.can_bind &&
		  SSL_export_keying_material(tls->ssl, (unsigned char *)out, TLS_CHANNEL_BINDING,
			  label, sizeof(label) - 1, (const unsigned char *)"", 0, 1) == 1;
	ERR_clear_error();
	return is_made;
}

static int fail_handshake(struct stream_tls *tls)
{
	if (tls->problem == NULL && tls->saw_fin)
		set_problem(tls, "TLS handshake: the peer has closed the connection");
	if (tls->problem == NULL)
		errno = tls->error;
	else
		errno = EPROTO;
	return -1;
}

int stream_tls_handshake(struct stream_tls *tls)
{
	fill(tls, FRESH_MAX);
	if (is_injected(tls))
		set_problem(tls, "TLS handshake: the server has spoken before it");
	if (tls->problem != NULL)
		return fail_protocol();
	tls->has_spoken = true;
	tls->records_left = UINT32_MAX;
	ERR_clear_error();
	int rc = SSL_do_handshake(tls->ssl);
	if (rc != 1)
		note_outcome(tls, rc);
	keep_rest(tls);
	int sent = settle(tls);
	if (rc == 1) {
		tls->records_without_data = 0;
		describe(tls);
		SSL_free_buffers(tls->ssl); /* of the last record, until data comes */
		return 1;
	}
	if (tls->problem == NULL && !tls->saw_fin && tls->error == 0)
		return sent;
	tls_context_forget(tls->context, tls->ssl);
	return fail_handshake(tls);
}

void stream_tls_tell(struct stream_tls *tls, const struct err *err)
{
	tls->done(tls->ctx, err);
}

bool stream_tls_problem(const struct stream_tls *tls, struct err *err)
{
	if (tls->problem == NULL)
		return false;
	err_set(err, "%s", tls->problem);
	return true;
}

const struct tls_state *stream_tls_negotiated(const struct stream_tls *tls)
{
	return &tls->state;
}

/* ---- Life ------------------------------------------------------------------------------------------ */

struct stream_tls *stream_tls_new(struct stream *stream, struct tls_context *context,
	void (*done)(void *ctx, const struct err *err), void *ctx)
{
	struct stream_tls *tls = xcalloc(1, sizeof(*tls));
	struct sockaddr_storage peer = { .ss_family = AF_UNSPEC };
	socklen_t peer_size = sizeof(peer);
	BIO *bio = BIO_new(bio_method());

	ASSERT(bio != NULL);
	if (!tls_context_is_server(context)) /* by which sessions are remembered */
		(void)getpeername(stream->fd, (struct sockaddr *)&peer, &peer_size);
	tls->stream = stream;
	tls->context = tls_context_keep(context);
	tls->ssl = tls_context_open(context, &peer);
	if (stream->is_secret)
		SSL_set_options(tls->ssl, SSL_OP_CLEANSE_PLAINTEXT);
	tls->done = done;
	tls->ctx = ctx;
	buf_init(&tls->in, FRESH_MAX);
	buf_init(&tls->unsent, stream->out.max + 2 * SEALED_MAX);
	task_init(&tls->later, read_later, tls);
	BIO_set_data(bio, tls);
	BIO_set_init(bio, 1);
	SSL_set_bio(tls->ssl, bio, bio);
	return tls;
}

void stream_tls_take_input(struct stream_tls *tls, struct buf *in)
{
	bool fits = buf_write(&tls->in, buf_view(in));

	ASSERT(fits);
	buf_free(in);
}

void stream_tls_take_output(struct stream_tls *tls, struct buf *out)
{
	bool fits = buf_write(&tls->unsent, buf_view(out));

	ASSERT(fits);
	buf_free(out);
}

static void free_tls(struct stream_tls *tls)
{
	task_cancel(&tls->later, tls->stream->loop);
	/* OpenSSL takes a session that was not shut down for one not to be resumed, though the
	 * message is what counts here, and that is known. */
	if (tls->problem == NULL)
		SSL_set_shutdown(tls->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(tls->ssl);
	tls_context_release(&tls->context);
	buf_free(&tls->in);
	buf_free(&tls->unsent);
	free(tls->problem);
	free(tls->texts);
	free(tls);
}

/* An end that comes before everything was sent must not look like an orderly one. */
static void tls_close(struct stream *stream, bool reset)
{
	if (!reset && !stream->is_handshaking && stream->error == 0 && stream_pending(stream) == 0)
		say_close_notify(stream->tls);
	stream_plain.close(stream, reset);
	free_tls(stream->tls);
	stream->tls = NULL;
	stream->transport = &stream_plain;
}

const struct stream_transport stream_tls = {
	.read = tls_read,
	.send = tls_send,
	.peek = tls_peek,
	.finish = tls_finish,
	.close = tls_close,
};
