#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

#include "net/stream.h"
#include "net/tls.h"
#include "support/loop_run.h"
#include "support/tls_certs.h"
#include "support/tls_peer.h"

#define IN_MAX 4096
#define OUT_MAX 65536

/* ---- System calls that can be counted and disturbed: these are taken instead of libc's --------- */

static struct {
	int fd;          /* disturbed; 0: none */
	unsigned random; /* state of the generator */
	unsigned sends;
} calls;

/* One call in three is interrupted, one is cut short (to *size), one passes. */
static bool is_interrupted(int fd, size_t *size)
{
	if (fd != calls.fd)
		return false;
	calls.random = calls.random * 1103515245 + 12345;
	unsigned kind = calls.random >> 16 & 0x7fff;
	if (kind % 3 == 0)
		errno = EINTR;
	if (kind % 3 == 1 && *size > 0)
		*size = 1 + kind % *size;
	return kind % 3 == 0;
}

ssize_t recv(int fd, void *out, size_t size, int flags)
{
	if (flags == 0 && is_interrupted(fd, &size))
		return -1;
	return syscall(SYS_recvfrom, fd, out, size, flags, NULL, NULL);
}

ssize_t send(int fd, const void *bytes, size_t size, int flags)
{
	calls.sends++;
	assert_true(flags & MSG_NOSIGNAL);
	if (is_interrupted(fd, &size))
		return -1;
	return syscall(SYS_sendto, fd, bytes, size, flags, NULL, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	struct msghdr cut = *message;
	struct iovec first = message->msg_iov[0];

	calls.sends++;
	assert_true(flags & MSG_NOSIGNAL);
	if (is_interrupted(fd, &first.iov_len))
		return -1;
	if (first.iov_len < message->msg_iov[0].iov_len) {
		cut.msg_iov = &first;
		cut.msg_iovlen = 1;
	}
	return syscall(SYS_sendmsg, fd, &cut, flags);
}

/* ---- What all tests use -------------------------------------------------------------------------- */

static struct cert_folder folder;
static struct cert authority, server_cert, rsa_cert, client_cert;
static struct tls_certificate server_files, rsa_files, client_files;
static struct str authority_file;
static struct tls_context *server, *client; /* the usual ones */

static struct tls_context *server_with(struct str client_ca, enum tls_version min_version)
{
	struct err err = { "" };
	struct tls_server_settings settings = {
		.certificates = &server_files,
		.certificate_count = 1,
		.client_ca = client_ca,
		.min_version = min_version,
	};
	struct tls_context *context = tls_server_context(&settings, &err);

	if (context == NULL)
		fail_msg("%s", err.text);
	return context;
}

static struct tls_context *client_with(const struct tls_client_settings *settings)
{
	struct err err = { "" };
	struct tls_context *context = tls_client_context(settings, &err);

	if (context == NULL)
		fail_msg("%s", err.text);
	return context;
}

static int group_setup(void **state)
{
	(void)state;
	cert_folder_open(&folder);
	authority = cert_make(&(struct cert_plan){ .subject = "An Authority", .is_ca = true });
	server_cert = cert_make(&(struct cert_plan){
		.subject = "mail.test", .names = "DNS:mail.test", .issuer = &authority });
	rsa_cert = cert_make(&(struct cert_plan){ .subject = "mail.test",
		.names = "DNS:mail.test",
		.kind = "RSA",
		.issuer = &authority });
	client_cert = cert_make(
		&(struct cert_plan){ .subject = "A Client, with a comma", .issuer = &authority });
	authority_file = cert_write_chain(&folder, "ca.pem", &authority, NULL);
	server_files = cert_write_pair(&folder, "server", &server_cert, NULL);
	rsa_files = cert_write_pair(&folder, "rsa", &rsa_cert, NULL);
	client_files = cert_write_pair(&folder, "client", &client_cert, NULL);
	server = server_with(STR(""), TLS_VERSION_1_2);
	client = client_with(&(struct tls_client_settings){ .name = STR("mail.test") });
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	tls_context_release(&server);
	tls_context_release(&client);
	cert_free(&authority);
	cert_free(&server_cert);
	cert_free(&rsa_cert);
	cert_free(&client_cert);
	cert_folder_close(&folder);
	return 0;
}

static int setup(void **state)
{
	*state = loop_new();
	return 0;
}

static int teardown(void **state)
{
	struct loop *loop = *state;

	loop_free(&loop);
	assert_int_equal(ERR_peek_error(), 0); /* nothing is left for the next session */
	return 0;
}

/* ---- Owners ------------------------------------------------------------------------------------ */

struct owner {
	struct loop *loop;
	struct stream stream;
	struct buf got;
	size_t take_most;
	unsigned offers, eofs, failures, drains, dones, lefts;
	size_t got_at_eof;
	bool has_failed;                /* the handshake */
	bool starts;                    /* reading when the handshake is over */
	bool stops;                     /* reading, at each call */
	bool closes;                    /* in whatever callback comes */
	struct tls_context *starts_tls; /* inside input, once */
	struct str answer;              /* written at each call of input */
	struct stream *sink;            /* what is taken is pushed there, back-pressure included */
	struct stream *source;
	struct err err;
};

static void owner_done(void *ctx, const struct err *err)
{
	struct owner *owner = ctx;

	owner->dones++;
	owner->has_failed = err != NULL;
	assert_true((stream_tls_state(&owner->stream) == NULL) == owner->has_failed);
	if (err != NULL)
		owner->err = *err;
	if (owner->closes)
		stream_close(&owner->stream, false);
	else if (owner->starts && err == NULL)
		stream_read_start(&owner->stream);
}

static size_t owner_input(void *ctx, struct str bytes)
{
	struct owner *owner = ctx;
	size_t taken = bytes.n < owner->take_most ? bytes.n : owner->take_most;

	owner->offers++;
	if (owner->stops)
		stream_read_stop(&owner->stream);
	if (owner->starts_tls != NULL) {
		stream_start_tls(&owner->stream, owner->starts_tls, owner_done, owner);
		owner->starts_tls = NULL;
	}
	if (owner->sink != NULL) {
		taken = stream_push(owner->sink, bytes);
		if (taken < bytes.n)
			stream_read_stop(&owner->stream);
	}
	if (owner->answer.n > 0)
		stream_write(&owner->stream, owner->answer);
	if (owner->closes)
		stream_close(&owner->stream, false);
	assert_true(buf_write(&owner->got, str_range(bytes, 0, taken)));
	return taken;
}

static void owner_eof(void *ctx)
{
	struct owner *owner = ctx;

	owner->eofs++;
	owner->got_at_eof = buf_used(&owner->got);
	if (owner->closes)
		stream_close(&owner->stream, false);
}

static void owner_failed(void *ctx, const struct err *err)
{
	struct owner *owner = ctx;

	owner->failures++;
	owner->err = *err;
	if (owner->closes)
		stream_close(&owner->stream, false);
}

static void owner_drained(void *ctx)
{
	struct owner *owner = ctx;

	owner->drains++;
	assert_true(stream_pending(&owner->stream) < owner->stream.out.max / 4);
	if (owner->source != NULL)
		stream_read_start(owner->source);
}

static void owner_left(void *ctx)
{
	struct owner *owner = ctx;

	owner->lefts++;
}

static const struct stream_events owner_events = {
	.input = owner_input,
	.eof = owner_eof,
	.failed = owner_failed,
	.left = owner_left,
	.drained = owner_drained,
};

static void set_nonblocking(int fd)
{
	assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
}

static void owner_init(struct owner *owner, struct loop *loop, int fd, size_t in_max)
{
	*owner = (struct owner){ .loop = loop, .take_most = SIZE_MAX, .starts = true };
	buf_init(&owner->got, 64 << 20);
	set_nonblocking(fd);
	stream_init(&owner->stream, loop, fd, in_max, OUT_MAX, &owner_events, owner);
}

static void owner_close(struct owner *owner)
{
	stream_close(&owner->stream, false);
	stream_close(&owner->stream, false);
	assert_null(owner->stream.tls);
	assert_null(stream_tls_state(&owner->stream));
	assert_null(owner->stream.in.data);
	assert_null(owner->stream.out.data);
	buf_free(&owner->got);
}

/* TCP over loopback: resets exist only there. */
static void tcp_pair(int fds[2])
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	socklen_t n = sizeof(sin);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(listener, (struct sockaddr *)&sin, n), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&sin, &n), 0);
	assert_int_equal(connect(fds[0], (struct sockaddr *)&sin, n), 0);
	fds[1] = accept(listener, NULL, NULL);
	assert_true(fds[1] >= 0);
	close(listener);
}

static void turn(const struct owner *owner)
{
	loop_run_for(owner->loop, 3);
}

/* As little as the loop can do. */
static void step(const struct owner *owner)
{
	loop_run_for(owner->loop, 0);
}

static void one_turn(struct loop *loop)
{
	ev_run(loop_ev(loop), EVRUN_NOWAIT);
}

struct counter {
	ev_check check;
	unsigned turns;
};

static void count_turn(struct ev_loop *ev, ev_check *watcher, int revents)
{
	struct counter *counter = watcher->data;

	(void)ev;
	(void)revents;
	counter->turns++;
}

/* A loop that spins has thousands; those that end the time are among them. */
#define CALM (3 * LOOP_RUN_TURNS)

static unsigned turns_of(struct loop *loop, uint64_t ms)
{
	struct counter counter = { 0 };

	ev_check_init(&counter.check, count_turn);
	counter.check.data = &counter;
	ev_check_start(loop_ev(loop), &counter.check);
	loop_run_for(loop, ms);
	ev_check_stop(loop_ev(loop), &counter.check);
	return counter.turns;
}

static void expect_got(const struct owner *owner, struct str text)
{
	struct str got = buf_view(&owner->got);

	if (!str_eq(got, text))
		fail_msg("got \"%.*s\", not \"%.*s\"", STR_ARG(got), STR_ARG(text));
}

static void expect_heard(struct tls_peer *peer, struct str text)
{
	struct str got = buf_view(&peer->got);

	if (!str_eq(got, text))
		fail_msg("heard \"%.*s\", not \"%.*s\"", STR_ARG(got), STR_ARG(text));
	buf_consume(&peer->got, got.n);
}

static void exchange(struct owner *owner, struct tls_peer *peer, int turns)
{
	for (int i = 0; i < turns; i++) {
		tls_peer_pump(peer);
		turn(owner);
	}
	tls_peer_pump(peer);
}

/* A stream and a peer that have not shaken hands yet. The peer's context may still be changed. */
static void open_pair(struct owner *owner, struct tls_peer *peer, struct loop *loop, bool is_server,
	size_t in_max)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	owner_init(owner, loop, fds[0], in_max);
	tls_peer_init(peer, fds[1], is_server ? TLS_client_method() : TLS_server_method());
	if (!is_server) {
		SSL_CTX_use_certificate(peer->ctx, server_cert.x);
		SSL_CTX_use_PrivateKey(peer->ctx, server_cert.key);
	}
}

/* Instead of the socket pair, on which nothing is ever under way. */
static void use_tcp(struct owner *owner, struct tls_peer *peer)
{
	struct loop *loop = owner->loop;
	int fds[2];

	owner_close(owner);
	close(peer->fd);
	tcp_pair(fds);
	owner_init(owner, loop, fds[0], IN_MAX);
	peer->fd = fds[1];
}

static void shake_hands(struct owner *owner, struct tls_peer *peer, struct tls_context *context)
{
	bool is_server = context != client;

	tls_peer_start(peer, !is_server);
	stream_start_tls(&owner->stream, context, owner_done, owner);
	for (int i = 0; i < 50 && (owner->dones == 0 || !SSL_is_init_finished(peer->ssl)); i++) {
		tls_peer_pump(peer);
		turn(owner);
	}
	if (owner->dones != 1 || owner->has_failed)
		fail_msg("%u: %s", owner->dones, owner->err.text);
	assert_true(SSL_is_init_finished(peer->ssl));
}

/* The usual: a stream that is a server, and a client. */
static void open_tls(struct owner *owner, struct tls_peer *peer, struct loop *loop)
{
	open_pair(owner, peer, loop, true, IN_MAX);
	shake_hands(owner, peer, server);
}

static void close_all(struct owner *owner, struct tls_peer *peer)
{
	owner_close(owner);
	tls_peer_free(peer);
}

/* ---- Handshake ----------------------------------------------------------------------------------- */

static void test_handshake(void **state)
{
	struct owner owner;
	struct tls_peer peer;

	for (int i = 0; i < 4; i++) {
		bool is_server = i % 2 == 0;
		open_pair(&owner, &peer, *state, is_server, IN_MAX);
		if (i >= 2)
			SSL_CTX_set_max_proto_version(peer.ctx, TLS1_2_VERSION);
		shake_hands(&owner, &peer, is_server ? server : client);
		const struct tls_state *tls = stream_tls_state(&owner.stream);
		assert_true(str_eq(tls->version, str_from(i >= 2 ? "TLSv1.2" : "TLSv1.3")));
		assert_true(str_eq(tls->cipher, str_from(SSL_get_cipher(peer.ssl))));
		assert_true(str_eq(tls->sni, str_from(is_server ? "" : "mail.test")));
		assert_int_equal(tls->alpn.n, 0);
		assert_false(tls->is_resumed);
		assert_int_equal(tls->has_peer_certificate, !is_server);
		assert_false(tls->peer_is_verified);
		assert_null(owner.stream.in.data);
		tls_peer_say(&peer, STR("EHLO there\r\n"));
		turn(&owner);
		expect_got(&owner, STR("EHLO there\r\n"));
		stream_write(&owner.stream, STR("250-one\r\n"));
		stream_write(&owner.stream, STR("250 two\r\n"));
		exchange(&owner, &peer, 1);
		expect_heard(&peer, STR("250-one\r\n250 two\r\n"));
		assert_false(stream_has_input(&owner.stream));
		close_all(&owner, &peer);
	}
}

/* One byte a turn, each way. */
static void test_handshake_in_single_bytes(void **state)
{
	struct owner owner;
	struct tls_peer peer;

	for (int i = 0; i < 2; i++) {
		open_pair(&owner, &peer, *state, i == 0, IN_MAX);
		tls_peer_start(&peer, i != 0);
		peer.chunk = 1;
		stream_start_tls(&owner.stream, i == 0 ? server : client, owner_done, &owner);
		for (int j = 0; j < 5000 && owner.dones == 0; j++) {
			tls_peer_pump(&peer);
			step(&owner);
		}
		assert_int_equal(owner.dones, 1);
		assert_false(owner.has_failed);
		for (int j = 0; j < 1000 && !SSL_is_init_finished(peer.ssl); j++)
			tls_peer_pump(&peer);
		tls_peer_say(&peer, STR("EHLO trickle\r\n"));
		while (tls_peer_waiting(&peer).n > 0) {
			tls_peer_push(&peer);
			step(&owner);
		}
		expect_got(&owner, STR("EHLO trickle\r\n"));
		close_all(&owner, &peer);
	}
}

static struct str take_client_hello(struct tls_peer *peer)
{
	static char hello[2048];

	tls_peer_start(peer, false);
	SSL_do_handshake(peer->ssl);
	struct str waiting = tls_peer_waiting(peer);
	assert_in_range(waiting.n, 100, sizeof(hello));
	return str_make(hello, (size_t)BIO_read(peer->out, hello, sizeof(hello)));
}

static void finish_handshake(struct owner *owner, struct tls_peer *peer)
{
	for (int i = 0; i < 10 && owner->dones == 0; i++) {
		step(owner);
		tls_peer_pump(peer);
	}
	step(owner);
	if (owner->dones != 1 || owner->has_failed)
		fail_msg("%u: %s", owner->dones, owner->err.text);
	tls_peer_say(peer, STR("NOOP\r\n"));
	step(owner);
	expect_got(owner, STR("NOOP\r\n"));
}

/* It was read before TLS begins, and not taken. */
static void keep_input(struct owner *owner, const struct tls_peer *peer, struct str text)
{
	assert_int_equal(write(peer->fd, text.p, text.n), text.n);
	owner->take_most = 0;
	stream_read_start(&owner->stream);
	step(owner);
	stream_read_stop(&owner->stream);
	assert_true(str_eq(stream_kept(&owner->stream), text));
	owner->take_most = SIZE_MAX;
	owner->offers = 0;
}

/* Any part of the ClientHello came in the segment of the PROXY header. */
static void test_client_hello_in_kept_input(void **state)
{
	struct owner owner;
	struct tls_peer peer;
	size_t cut = 0;
	struct str hello;

	do {
		open_pair(&owner, &peer, *state, true, IN_MAX);
		hello = take_client_hello(&peer);
		keep_input(&owner, &peer, str_range(hello, 0, cut));
		stream_start_tls(&owner.stream, server, owner_done, &owner);
		assert_int_equal(stream_kept(&owner.stream).n, 0);
		assert_false(stream_has_input(&owner.stream));
		step(&owner);
		assert_int_equal(write(peer.fd, hello.p + cut, hello.n - cut), hello.n - cut);
		finish_handshake(&owner, &peer);
		close_all(&owner, &peer);
		cut += cut < 7 || cut + 7 >= hello.n ? 1 : 7;
	} while (cut <= hello.n);
}

/* TLS begins inside `input`, which has taken the header alone. */
static void test_start_inside_input(void **state)
{
	struct owner owner;
	struct tls_peer peer;
	char both[4096];

	for (int i = 0; i < 2; i++) {
		open_pair(&owner, &peer, *state, true, IN_MAX);
		struct str hello = take_client_hello(&peer);
		size_t n = (size_t)snprintf(both, sizeof(both), "PROXY UNKNOWN\r\n");
		owner.take_most = i == 0 ? n : 3;
		memcpy(both + n, hello.p, hello.n);
		owner.starts_tls = i == 0 ? server : NULL;
		stream_read_start(&owner.stream);
		assert_int_equal(write(peer.fd, both, n + hello.n), n + hello.n);
		step(&owner);
		if (i == 1) { /* in the second call, from what was kept */
			stream_read_stop(&owner.stream);
			owner.starts_tls = server;
			owner.take_most = n - 3;
			stream_read_start(&owner.stream);
			step(&owner);
		}
		expect_got(&owner, STR("PROXY UNKNOWN\r\n"));
		buf_consume(&owner.got, n);
		owner.take_most = SIZE_MAX;
		finish_handshake(&owner, &peer);
		close_all(&owner, &peer);
	}
}

/* STARTTLS: the reply is plaintext, whether the socket has room for it or not. */
static void test_gathered_output_goes_first(void **state)
{
	struct owner owner;
	struct tls_peer peer;
	static char block[OUT_MAX];
	char plain[4096];
	size_t got = 0;
	int small = 4096;

	for (size_t i = 0; i < 2; i++) {
		size_t n = i == 0 ? 8 : sizeof(block);
		open_pair(&owner, &peer, *state, true, IN_MAX);
		setsockopt(owner.stream.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
		memset(block, 'p', sizeof(block));
		stream_write(&owner.stream, str_make(block, n));
		stream_start_tls(&owner.stream, server, owner_done, &owner);
		stream_write(&owner.stream, STR("220 in TLS\r\n"));
		assert_int_equal(stream_pending(&owner.stream), n + 12);
		struct str hello = take_client_hello(&peer);
		assert_int_equal(write(peer.fd, hello.p, hello.n), hello.n);
		for (got = 0; got < n;) {
			step(&owner);
			size_t most = n - got < sizeof(plain) ? n - got : sizeof(plain);
			ssize_t part = recv(peer.fd, plain, most, MSG_DONTWAIT);
			assert_true(part > 0);
			for (ssize_t j = 0; j < part; j++)
				assert_int_equal(plain[j], 'p');
			got += (size_t)part;
		}
		finish_handshake(&owner, &peer);
		exchange(&owner, &peer, 1);
		expect_heard(&peer, STR("220 in TLS\r\n"));
		close_all(&owner, &peer);
	}
}

static void expect_failed_handshake(struct owner *owner, const char *text)
{
	for (int i = 0; i < 10 && owner->dones == 0; i++)
		step(owner);
	assert_int_equal(owner->dones, 1);
	assert_true(owner->has_failed);
	if (strcmp(owner->err.text, text) != 0)
		fail_msg("\"%s\", not \"%s\"", owner->err.text, text);
	/* Nothing follows, whatever the owner does. */
	stream_read_start(&owner->stream);
	assert_true(stream_write(&owner->stream, STR("dropped")));
	stream_flush(&owner->stream);
	stream_finish(&owner->stream);
	step(owner);
	assert_int_equal(owner->dones, 1);
	assert_int_equal(owner->offers + owner->failures + owner->eofs, 0);
}

/* What stands in a socket, or in the buffer, instead of TLS. */
static void test_plaintext_instead_of_tls(void **state)
{
	static const struct {
		bool is_server, is_kept;
		struct str text;
		const char *error;
	} cases[] = {
		{ true, false, STR_INIT("EHLO client.test\r\n"),
			"TLS handshake: wrong version number: the peer does not speak TLS" },
		{ true, true, STR_INIT("NOOP\r\n"),
			"TLS handshake: wrong version number: the peer does not speak TLS" },
		{ true, false, STR_INIT("GET / HTTP/1.1\r\n"),
			"TLS handshake: http request: the peer does not speak TLS" },
		{ true, true, STR_INIT("CONNECT a:25 HTTP/1.1\r\n"),
			"TLS handshake: https proxy request: the peer does not speak TLS" },
		{ false, true, STR_INIT("250 injected\r\n"),
			"TLS handshake: the server has spoken before it" },
		{ false, false, STR_INIT("250 injected\r\n"),
			"TLS handshake: the server has spoken before it" },
		/* A record, but before the ClientHello. */
		{ false, false, STR_INIT("\x15\x03\x03\x00\x02\x01\x00"),
			"TLS handshake: the server has spoken before it" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct owner owner;
		struct tls_peer peer;
		open_pair(&owner, &peer, *state, cases[i].is_server, IN_MAX);
		tls_peer_start(&peer, !cases[i].is_server);
		if (cases[i].is_kept)
			keep_input(&owner, &peer, cases[i].text);
		else
			assert_true(write(peer.fd, cases[i].text.p, cases[i].text.n) > 0);
		stream_start_tls(
			&owner.stream, cases[i].is_server ? server : client, owner_done, &owner);
		expect_failed_handshake(&owner, cases[i].error);
		close_all(&owner, &peer);
	}
}

/* A plain server where TLS is expected: its greeting answers the ClientHello. */
static void test_plaintext_answers_the_client(void **state)
{
	struct owner owner;
	struct tls_peer peer;

	open_pair(&owner, &peer, *state, false, IN_MAX);
	tls_peer_start(&peer, true);
	stream_start_tls(&owner.stream, client, owner_done, &owner);
	step(&owner);
	assert_int_equal(write(peer.fd, "220 mail.test\r\n", 15), 15);
	expect_failed_handshake(
		&owner, "TLS handshake: wrong version number: the peer does not speak TLS");
	close_all(&owner, &peer);
}

static void test_end_and_reset_in_the_handshake(void **state)
{
	struct owner owner;
	struct tls_peer peer;
	struct linger abort = { .l_onoff = 1 };

	for (int i = 0; i < 4; i++) {
		open_pair(&owner, &peer, *state, true, IN_MAX);
		if (i % 2 == 1)
			use_tcp(&owner, &peer);
		tls_peer_start(&peer, false);
		stream_start_tls(&owner.stream, server, owner_done, &owner);
		if (i >= 2)
			tls_peer_pump(&peer);
		step(&owner);
		setsockopt(peer.fd, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
		close(peer.fd);
		peer.fd = -1;
		turn(&owner);
		turn(&owner);
		if (i % 2 == 1)
			expect_failed_handshake(&owner, "connection: Connection reset by peer");
		else if (i == 0)
			expect_failed_handshake(
				&owner, "TLS handshake: the peer has closed the connection");
		else /* with an answer that cannot be read any more */
			assert_int_equal(owner.dones, 1);
		close_all(&owner, &peer);
	}
}

static void test_old_versions_are_refused(void **state)
{
	struct tls_context *newest = server_with(STR(""), TLS_VERSION_1_3);
	struct owner owner;
	struct tls_peer peer;

	for (int i = 0; i < 2; i++) {
		open_pair(&owner, &peer, *state, true, IN_MAX);
		SSL_CTX_set_security_level(peer.ctx, 0);
		SSL_CTX_set_min_proto_version(peer.ctx, TLS1_VERSION);
		SSL_CTX_set_max_proto_version(peer.ctx, i == 0 ? TLS1_1_VERSION : TLS1_2_VERSION);
		tls_peer_start(&peer, false);
		stream_start_tls(&owner.stream, i == 0 ? server : newest, owner_done, &owner);
		tls_peer_pump(&peer);
		expect_failed_handshake(&owner, "TLS handshake: unsupported protocol");
		tls_peer_pump(&peer); /* it is told why */
		assert_int_equal(ERR_GET_REASON(peer.error), SSL_R_TLSV1_ALERT_PROTOCOL_VERSION);
		close_all(&owner, &peer);
	}
	tls_context_release(&newest);
}

/* What the peer does not like arrives as its alert. */
static void test_alert_of_the_peer(void **state)
{
	struct owner owner;
	struct tls_peer peer;

	open_pair(&owner, &peer, *state, true, IN_MAX);
	SSL_CTX_set_verify(peer.ctx, SSL_VERIFY_PEER, NULL);
	tls_peer_start(&peer, false);
	stream_start_tls(&owner.stream, server, owner_done, &owner);
	tls_peer_pump(&peer);
	step(&owner);
	tls_peer_pump(&peer);
	expect_failed_handshake(
		&owner, "TLS handshake: tlsv1 alert unknown ca (SSL alert number 48)");
	close_all(&owner, &peer);
}

static void test_owner_acts_during_the_handshake(void **state)
{
	struct owner owner;
	struct tls_peer peer;

	/* What is written, pushed and finished waits for the end of the handshake. */
	open_pair(&owner, &peer, *state, true, IN_MAX);
	static char block[STREAM_PUSH_MIN];
	tls_peer_start(&peer, false);
	stream_start_tls(&owner.stream, server, owner_done, &owner);
	assert_null(stream_tls_state(&owner.stream));
	stream_write(&owner.stream, STR("220 hello\r\n"));
	assert_int_equal(stream_push(&owner.stream, str_make(block, sizeof(block))), sizeof(block));
	stream_flush(&owner.stream);
	stream_finish(&owner.stream);
	assert_in_range(turns_of(*state, 50), 1, CALM);
	assert_int_equal(recv(peer.fd, block, 1, MSG_DONTWAIT), -1);
	exchange(&owner, &peer, 5);
	assert_int_equal(owner.dones, 1);
	assert_int_equal(buf_used(&peer.got), 11 + sizeof(block));
	assert_true(peer.saw_close && peer.saw_end);
	close_all(&owner, &peer);

	/* Closing it, in the midst and in the end. */
	for (int i = 0; i < 3; i++) {
		open_pair(&owner, &peer, *state, true, IN_MAX);
		tls_peer_start(&peer, false);
		owner.closes = true;
		stream_start_tls(&owner.stream, server, owner_done, &owner);
		if (i >= 1)
			tls_peer_pump(&peer);
		if (i == 2)
			exchange(&owner, &peer, 3);
		stream_close(&owner.stream, i == 0);
		step(&owner);
		assert_int_equal(owner.dones, i == 2);
		stream_start_tls(&owner.stream, server, owner_done, &owner); /* nothing */
		close_all(&owner, &peer);
	}
}

/* A stream that has failed, or ended, before. */
static void test_start_when_it_is_too_late(void **state)
{
	struct owner owner;
	struct tls_peer peer;

	for (int i = 0; i < 2; i++) {
		open_pair(&owner, &peer, *state, true, IN_MAX);
		tls_peer_start(&peer, false);
		close(peer.fd);
		peer.fd = -1;
		if (i == 0) {
			stream_write(&owner.stream, STR("220 go\r\n"));
			stream_flush(&owner.stream);
		} else {
			stream_read_start(&owner.stream);
			step(&owner);
			assert_int_equal(owner.eofs, 1);
			owner.eofs = 0;
		}
		stream_start_tls(&owner.stream, server, owner_done, &owner);
		expect_failed_handshake(
			&owner, i == 0 ? "connection: Broken pipe"
				       : "TLS handshake: the peer has closed the connection");
		close_all(&owner, &peer);
	}
}

/* ---- Transfer ------------------------------------------------------------------------------------ */

/* What the stream holds beyond what it may: one batch of records. */
static size_t encrypted(const struct owner *owner)
{
	return stream_pending(&owner->stream) - buf_used(&owner->stream.out);
}

/* Two streams back to back, as a message goes: TLS in, TLS out, a slow reader at the end. */
static void relay(struct loop *loop, size_t in_max, unsigned disturbed)
{
	enum { TOTAL = 1500000 };
	static char pattern[TOTAL];
	struct owner in, out;
	struct tls_peer from, to;
	size_t said = 0;
	unsigned turns = 0;

	for (size_t i = 0; i < TOTAL; i++)
		pattern[i] = (char)(i * 2654435761U >> 13);
	open_pair(&in, &from, loop, true, in_max);
	shake_hands(&in, &from, server);
	open_pair(&out, &to, loop, false, in_max);
	shake_hands(&out, &to, client);
	in.sink = &out.stream;
	out.source = &in.stream;
	calls.random = 1;
	while (buf_used(&to.got) < TOTAL) {
		if (said < TOTAL && tls_peer_waiting(&from).n < 100000) {
			size_t piece = TOTAL - said < 40000 ? TOTAL - said : 40000;
			tls_peer_say(&from, str_make(pattern + said, piece));
			said += piece;
		}
		calls.fd = 0;
		if (disturbed > 0)
			calls.fd = turns % 2 ? in.stream.fd : out.stream.fd;
		step(&in);
		calls.fd = 0;
		tls_peer_pump(&from);
		if (turns++ % 3 == 0)
			tls_peer_pump(&to);
		assert_true(turns < 100000);
		assert_true(encrypted(&out) <= 68 << 10);
	}
	assert_memory_equal(buf_view(&to.got).p, pattern, TOTAL);
	assert_int_equal(in.stream.bytes_read, TOTAL);
	assert_int_equal(out.stream.bytes_written, TOTAL);
	assert_int_equal(in.failures + out.failures + in.eofs + out.eofs, 0);
	close_all(&in, &from);
	close_all(&out, &to);
}

static void test_relay_with_back_pressure(void **state)
{
	relay(*state, STREAM_IN_MAX, 0);
	relay(*state, 4096, 0);
}

/* Interrupted calls and short counts change nothing but the time. */
static void test_interrupted_and_short_calls(void **state)
{
	relay(*state, STREAM_IN_MAX, 1);
}

/* A reply and what follows it are one record and one call. */
static void test_writes_of_a_turn_are_sent_once(void **state)
{
	struct owner owner;
	struct tls_peer peer;
	static char block[60000];

	open_tls(&owner, &peer, *state);
	calls.sends = 0;
	stream_write(&owner.stream, STR("250-one\r\n"));
	stream_write(&owner.stream, STR("250 two\r\n"));
	step(&owner);
	assert_int_equal(calls.sends, 1);
	tls_peer_pull(&peer);
	assert_int_equal(BIO_pending(peer.in), 5 + 18 + 1 + 16);
	/* Four records as well. */
	calls.sends = 0;
	assert_int_equal(stream_push(&owner.stream, str_make(block, sizeof(block))), sizeof(block));
	assert_int_equal(calls.sends, 1);
	assert_int_equal(stream_pending(&owner.stream), 0);
	assert_null(owner.stream.out.data);
	exchange(&owner, &peer, 2);
	assert_int_equal(buf_used(&peer.got), 18 + sizeof(block));
	close_all(&owner, &peer);
}

static void test_full_socket(void **state)
{
	struct owner owner;
	struct tls_peer peer;
	static char block[OUT_MAX];
	size_t taken = 0;
	size_t n;

	open_tls(&owner, &peer, *state);
	while ((n = stream_push(&owner.stream, str_make(block, sizeof(block)))) == sizeof(block))
		taken += n;
	taken += n;
	assert_int_equal(stream_room(&owner.stream), 0);
	assert_in_range(encrypted(&owner), 1, 68 << 10);
	assert_false(stream_write(&owner.stream, STR("refused")));
	assert_true(stream_pending(&owner.stream) >= OUT_MAX);
	assert_in_range(turns_of(*state, 100), 1, CALM);
	assert_int_equal(owner.drains, 0);
	stream_finish(&owner.stream); /* and the end comes behind it */
	for (int i = 0; i < 20 && !peer.saw_end; i++)
		exchange(&owner, &peer, 1);
	assert_int_equal(owner.drains, 1);
	assert_int_equal(buf_used(&peer.got), taken);
	assert_true(peer.saw_close && peer.saw_end);
	assert_int_equal(stream_pending(&owner.stream), 0);
	assert_int_equal(owner.failures, 0);
	close_all(&owner, &peer);
}

/* A full socket was watched for ever when it was a read that sent what waited, and nobody was told of the room. */
static void test_what_waits_is_sent_by_a_read(void **state)
{
	struct owner owner;
	struct tls_peer peer;
	static char block[OUT_MAX + 1];

	open_tls(&owner, &peer, *state);
	while (encrypted(&owner) == 0)
		assert_int_equal(stream_push(&owner.stream, str_make(block, STREAM_PUSH_MIN)),
			STREAM_PUSH_MIN);
	assert_int_equal(buf_used(&owner.stream.out), 0);
	assert_false(stream_write(&owner.stream, str_make(block, sizeof(block))));
	for (int i = 0; i < 20; i++)
		tls_peer_pump(&peer);
	tls_peer_say(&peer, STR("hello"));
	one_turn(*state);
	assert_int_equal(owner.offers, 1);
	assert_int_equal(stream_pending(&owner.stream), 0);
	assert_in_range(turns_of(*state, 100), 1, CALM);
	assert_int_equal(owner.drains, 1);
	close_all(&owner, &peer);
}

/* Records are larger than what may be kept, and the owner takes them in small pieces. */
static void test_records_larger_than_the_buffer(void **state)
{
	struct owner owner;
	struct tls_peer peer;
	enum { TOTAL = 40000 };
	static char pattern[TOTAL];

	for (size_t i = 0; i < TOTAL; i++)
		pattern[i] = (char)(i * 2654435761U >> 11);
	open_tls(&owner, &peer, *state);
	owner.stops = true;
	owner.take_most = 1000;
	tls_peer_say(&peer, str_make(pattern, TOTAL));
	for (int i = 0; i < 60; i++) {
		step(&owner);
		assert_true(stream_kept(&owner.stream).n <= IN_MAX);
		assert_int_equal(stream_has_input(&owner.stream), buf_used(&owner.got) < TOTAL);
		stream_read_start(&owner.stream);
	}
	expect_got(&owner, str_make(pattern, TOTAL));
	assert_in_range(owner.offers, 40, 50);
	assert_null(owner.stream.in.data);
	close_all(&owner, &peer);

	/* Reading that goes on takes all of it without the socket saying anything. */
	open_tls(&owner, &peer, *state);
	owner.take_most = 3000;
	tls_peer_say(&peer, str_make(pattern, TOTAL));
	for (int i = 0; i < 60; i++) {
		step(&owner);
		stream_read_start(&owner.stream);
	}
	expect_got(&owner, str_make(pattern, TOTAL));
	close_all(&owner, &peer);
}

/* A turn takes only so many records; the rest comes in the next ones, without the peer. */
static void test_flood_of_small_records(void **state)
{
	struct owner owner;
	struct tls_peer peer;
	enum { RECORDS = 2500 };
	unsigned turns = 0;

	open_tls(&owner, &peer, *state);
	for (int i = 0; i < RECORDS; i++)
		assert_int_equal(SSL_write(peer.ssl, "x", 1), 1);
	tls_peer_push(&peer);
	assert_int_equal(tls_peer_waiting(&peer).n, 0);
	while (buf_used(&owner.got) < RECORDS) {
		size_t before = buf_used(&owner.got);
		one_turn(*state);
		assert_true(buf_used(&owner.got) - before <= 1200);
		assert_true(turns++ < 20);
	}
	assert_true(owner.offers <= RECORDS / 64 + 10);
	close_all(&owner, &peer);
}

static void update_keys(struct tls_peer *peer, int times)
{
	for (int i = 0; i < times; i++) {
		assert_int_equal(SSL_key_update(peer->ssl, SSL_KEY_UPDATE_REQUESTED), 1);
		SSL_do_handshake(peer->ssl);
	}
	tls_peer_push(peer);
}

static void test_key_updates(void **state)
{
	struct owner owner;
	struct tls_peer peer;

	open_tls(&owner, &peer, *state);
	for (int i = 0; i < 20; i++) {
		update_keys(&peer, 10);
		tls_peer_say(&peer, STR("NOOP\r\n"));
		step(&owner);
		expect_got(&owner, STR("NOOP\r\n"));
		buf_consume(&owner.got, 6);
		stream_write(&owner.stream, STR("250 ok\r\n"));
		exchange(&owner, &peer, 1);
		expect_heard(&peer, STR("250 ok\r\n"));
	}
	assert_int_equal(owner.failures, 0);
	/* Without data they are a flood, in one piece and one by one. */
	update_keys(&peer, 200);
	turn(&owner);
	assert_int_equal(owner.failures, 1);
	assert_string_equal(owner.err.text, "TLS: too many records without data");
	close_all(&owner, &peer);

	open_tls(&owner, &peer, *state);
	for (int i = 0; i < 200 && owner.failures == 0; i++) {
		update_keys(&peer, 1);
		step(&owner);
	}
	assert_int_equal(owner.failures, 1);
	close_all(&owner, &peer);
}

static void test_renegotiation_is_refused(void **state)
{
	struct owner owner;
	struct tls_peer peer;

	open_pair(&owner, &peer, *state, true, IN_MAX);
	SSL_CTX_set_max_proto_version(peer.ctx, TLS1_2_VERSION);
	shake_hands(&owner, &peer, server);
	assert_int_equal(SSL_renegotiate(peer.ssl), 1);
	SSL_do_handshake(peer.ssl);
	tls_peer_push(&peer);
	exchange(&owner, &peer, 2);
	assert_int_equal(ERR_GET_REASON(peer.error), SSL_R_NO_RENEGOTIATION);
	assert_int_equal(owner.dones, 1);
	assert_int_equal(owner.offers, 0);
	close_all(&owner, &peer);
}

/* ---- What has arrived ------------------------------------------------------------------------------ */

static void test_has_input(void **state)
{
	struct owner owner;
	struct tls_peer peer;

	/* Reading is stopped. */
	open_tls(&owner, &peer, *state);
	stream_read_stop(&owner.stream);
	assert_false(stream_has_input(&owner.stream));
	tls_peer_say(&peer, STR("early"));
	assert_true(stream_has_input(&owner.stream));
	assert_true(stream_has_input(&owner.stream));
	step(&owner);
	assert_int_equal(owner.offers, 0);
	stream_read_start(&owner.stream);
	step(&owner);
	expect_got(&owner, STR("early"));
	assert_false(stream_has_input(&owner.stream));
	/* Reading goes on: what was taken from the socket to be looked at is offered all the same. */
	tls_peer_say(&peer, STR(" bird"));
	assert_true(stream_has_input(&owner.stream));
	step(&owner);
	expect_got(&owner, STR("early bird"));
	/* Neither a new key nor the end is input. */
	update_keys(&peer, 1);
	assert_false(stream_has_input(&owner.stream));
	SSL_shutdown(peer.ssl);
	tls_peer_push(&peer);
	assert_false(stream_has_input(&owner.stream));
	assert_false(stream_has_input(&owner.stream));
	step(&owner);
	assert_int_equal(owner.eofs, 1);
	close_all(&owner, &peer);

	/* Nor are tickets, which a server sends when it likes. */
	open_pair(&owner, &peer, *state, false, IN_MAX);
	owner.starts = false;
	shake_hands(&owner, &peer, client);
	exchange(&owner, &peer, 1);
	assert_false(stream_has_input(&owner.stream));
	tls_peer_say(&peer, STR("421 injected\r\n"));
	assert_true(stream_has_input(&owner.stream));
	close_all(&owner, &peer);

	/* Garbage is none either; it is told when reading starts. */
	open_tls(&owner, &peer, *state);
	stream_read_stop(&owner.stream);
	assert_int_equal(write(peer.fd, "QUIT\r\n", 6), 6);
	assert_false(stream_has_input(&owner.stream));
	assert_false(stream_has_input(&owner.stream));
	stream_read_start(&owner.stream);
	step(&owner);
	assert_int_equal(owner.failures, 1);
	close_all(&owner, &peer);
}

static void test_peer_is_gone(void **state)
{
	struct owner owner;
	struct tls_peer peer;
	struct linger abort = { .l_onoff = 1 };

	open_pair(&owner, &peer, *state, true, IN_MAX);
	use_tcp(&owner, &peer);
	shake_hands(&owner, &peer, server);
	assert_false(stream_peer_is_gone(&owner.stream));
	SSL_shutdown(peer.ssl);
	tls_peer_push(&peer);
	turn(&owner);
	assert_false(stream_peer_is_gone(&owner.stream));
	setsockopt(peer.fd, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
	close(peer.fd);
	peer.fd = -1;
	for (int i = 0; i < 50 && !stream_peer_is_gone(&owner.stream); i++)
		turn(&owner);
	assert_true(stream_peer_is_gone(&owner.stream));
	close_all(&owner, &peer);
	assert_true(stream_peer_is_gone(&owner.stream));
}

/* Both sides have the same; TLS 1.2 has none. */
static void test_channel_binding(void **state)
{
	static const char label[] = "EXPORTER-Channel-Binding";
	struct owner owner;
	struct tls_peer peer;

	for (int i = 0; i < 2; i++) {
		char mine[TLS_CHANNEL_BINDING], other[TLS_CHANNEL_BINDING];
		open_pair(&owner, &peer, *state, true, IN_MAX);
		assert_false(stream_channel_binding(&owner.stream, mine));
		if (i == 1)
			SSL_CTX_set_max_proto_version(peer.ctx, TLS1_2_VERSION);
		shake_hands(&owner, &peer, server);
		assert_int_equal(stream_tls_state(&owner.stream)->can_bind, i == 0);
		assert_int_equal(stream_channel_binding(&owner.stream, mine), i == 0);
		if (i == 0) {
			SSL_export_keying_material(peer.ssl, (unsigned char *)other, sizeof(other),
				label, sizeof(label) - 1, (const unsigned char *)"", 0, 1);
			assert_memory_equal(mine, other, sizeof(mine));
		}
		close_all(&owner, &peer);
		assert_false(stream_channel_binding(&owner.stream, mine));
	}
}

/* ---- The end ----------------------------------------------------------------------------------------- */

/* close_notify ends the input; our output goes on. What follows in plaintext is never input. */
static void test_half_close(void **state)
{
	struct owner owner;
	struct tls_peer peer;

	open_tls(&owner, &peer, *state);
	tls_peer_say(&peer, STR("QUIT\r\n"));
	SSL_shutdown(peer.ssl);
	tls_peer_push(&peer);
	assert_int_equal(write(peer.fd, "MAIL FROM:<>\r\n", 14), 14);
	turn(&owner);
	expect_got(&owner, STR("QUIT\r\n"));
	assert_int_equal(owner.eofs, 1);
	assert_int_equal(owner.got_at_eof, 6);
	stream_write(&owner.stream, STR("221 bye\r\n"));
	turn(&owner);
	tls_peer_pull(&peer);
	tls_peer_read(&peer);
	expect_heard(&peer, STR("221 bye\r\n"));
	stream_read_stop(&owner.stream);
	stream_read_start(&owner.stream);
	assert_in_range(turns_of(*state, 50), 1, CALM);
	assert_int_equal(write(peer.fd, "NOOP\r\n", 6), 6);
	turn(&owner);
	expect_got(&owner, STR("QUIT\r\n"));
	assert_int_equal(owner.eofs, 1);
	assert_int_equal(owner.failures, 0);
	close_all(&owner, &peer);
}

/* The connection ends without close_notify, at each position of a record. */
static void test_truncation(void **state)
{
	struct owner owner;
	struct tls_peer peer;
	char record[64];

	for (size_t cut = 0; cut <= 28; cut++) {
		open_tls(&owner, &peer, *state);
		tls_peer_say(&peer, STR("DATA\r\n"));
		size_t n;
		SSL_write_ex(peer.ssl, ".\r\n", 3, &n);
		int size = BIO_read(peer.out, record, sizeof(record));
		assert_int_equal(size, 5 + 3 + 1 + 16);
		if (cut > (size_t)size)
			cut = (size_t)size;
		assert_int_equal(write(peer.fd, record, cut), cut);
		shutdown(peer.fd, SHUT_WR);
		turn(&owner);
		expect_got(&owner, cut == (size_t)size ? STR("DATA\r\n.\r\n") : STR("DATA\r\n"));
		assert_int_equal(owner.eofs, 1);
		assert_int_equal(owner.failures, 0);
		/* Half a connection is still one. */
		stream_write(&owner.stream, STR("451 what?\r\n"));
		stream_finish(&owner.stream);
		exchange(&owner, &peer, 1);
		expect_heard(&peer, STR("451 what?\r\n"));
		assert_true(peer.saw_close);
		close_all(&owner, &peer);
		if (cut == (size_t)size)
			break;
	}
}

static void test_garbage(void **state)
{
	static const struct {
		struct str bytes;
		const char *error;
	} cases[] = {
		{ STR_INIT("QUIT\r\n"), "TLS: wrong version number: the peer does not speak TLS" },
		{ STR_INIT("\x17\x03\x03\x00\x20"
			   "0123456789abcdef0123456789abcdef"),
			"TLS: decryption failed or bad record mac" },
		{ STR_INIT("\x17\x03\x03\x50\x00"), "TLS: packet length too long" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct owner owner;
		struct tls_peer peer;
		char both[256];
		size_t n;
		open_tls(&owner, &peer, *state);
		SSL_write_ex(peer.ssl, "NOOP\r\n", 6, &n);
		int size = BIO_read(peer.out, both, sizeof(both));
		memcpy(both + size, cases[i].bytes.p, cases[i].bytes.n);
		n = (size_t)size + cases[i].bytes.n;
		assert_int_equal(write(peer.fd, both, n), n);
		turn(&owner);
		expect_got(&owner, STR("NOOP\r\n"));
		assert_int_equal(owner.failures, 1);
		if (strcmp(owner.err.text, cases[i].error) != 0)
			fail_msg("\"%s\", not \"%s\"", owner.err.text, cases[i].error);
		assert_true(stream_write(&owner.stream, STR("dropped")));
		assert_int_equal(stream_pending(&owner.stream), 0);
		tls_peer_pump(&peer); /* it is told by an alert */
		assert_true(peer.error != 0);
		assert_in_range(turns_of(*state, 30), 1, CALM);
		assert_int_equal(owner.failures + owner.eofs, 1);
		close_all(&owner, &peer);
	}
}

/* Somebody else's mistake is in the queue of errors. */
static void test_errors_of_others(void **state)
{
	struct owner owner;
	struct tls_peer peer;

	open_tls(&owner, &peer, *state);
	ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
	tls_peer_push(&peer);
	assert_false(stream_has_input(&owner.stream));
	ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
	stream_write(&owner.stream, STR("250 ok\r\n"));
	stream_flush(&owner.stream);
	size_t n;
	SSL_write_ex(peer.ssl, "NOOP\r\n", 6, &n);
	tls_peer_push(&peer);
	ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
	step(&owner);
	expect_got(&owner, STR("NOOP\r\n"));
	ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
	stream_finish(&owner.stream);
	exchange(&owner, &peer, 1);
	expect_heard(&peer, STR("250 ok\r\n"));
	assert_true(peer.saw_close);
	assert_int_equal(owner.failures, 0);
	close_all(&owner, &peer);

	open_pair(&owner, &peer, *state, true, IN_MAX);
	tls_peer_start(&peer, false);
	stream_start_tls(&owner.stream, server, owner_done, &owner);
	assert_int_equal(write(peer.fd, "HELP\r\n", 6), 6);
	ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
	expect_failed_handshake(
		&owner, "TLS handshake: wrong version number: the peer does not speak TLS");
	close_all(&owner, &peer);
}

static void test_finish(void **state)
{
	struct owner owner;
	struct tls_peer peer;

	for (int i = 0; i < 2; i++) {
		open_tls(&owner, &peer, *state);
		if (i == 1)
			stream_write(&owner.stream, STR("421 bye\r\n"));
		calls.sends = 0;
		stream_finish(&owner.stream);
		stream_finish(&owner.stream);
		step(&owner);
		assert_int_equal(calls.sends, 1); /* the last words with what ends them */
		assert_true(stream_write(&owner.stream, STR("dropped")));
		tls_peer_say(&peer, STR("QUIT\r\n"));
		exchange(&owner, &peer, 2);
		expect_heard(&peer, i == 1 ? STR("421 bye\r\n") : STR(""));
		assert_true(peer.saw_close && peer.saw_end);
		expect_got(&owner, STR("QUIT\r\n"));
		assert_int_equal(owner.eofs, 0);
		SSL_shutdown(peer.ssl);
		tls_peer_push(&peer);
		turn(&owner);
		assert_int_equal(owner.eofs, 1);
		assert_int_equal(owner.failures, 0);
		close_all(&owner, &peer);
	}
}

/* An orderly end is said when closing, but not behind a reply that was cut off. */
static void test_close(void **state)
{
	struct owner owner;
	struct tls_peer peer;
	static char block[OUT_MAX];

	open_tls(&owner, &peer, *state);
	stream_close(&owner.stream, false);
	tls_peer_pump(&peer);
	assert_true(peer.saw_close);
	close_all(&owner, &peer);

	open_tls(&owner, &peer, *state);
	stream_write(&owner.stream, STR("250 never sent\r\n"));
	stream_close(&owner.stream, false);
	tls_peer_pump(&peer);
	expect_heard(&peer, STR(""));
	assert_true(peer.saw_end && !peer.saw_close);
	close_all(&owner, &peer);

	open_tls(&owner, &peer, *state);
	while (stream_push(&owner.stream, str_make(block, OUT_MAX)) == OUT_MAX)
		continue;
	stream_close(&owner.stream, false);
	for (int i = 0; i < 50 && !peer.saw_end; i++)
		tls_peer_pump(&peer);
	assert_true(peer.saw_end && !peer.saw_close);
	close_all(&owner, &peer);

	open_pair(&owner, &peer, *state, true, IN_MAX);
	use_tcp(&owner, &peer);
	shake_hands(&owner, &peer, server);
	stream_close(&owner.stream, true);
	for (int i = 0; i < 50 && !peer.is_reset; i++) {
		tls_peer_pull(&peer);
		turn(&owner);
	}
	tls_peer_read(&peer);
	assert_true(peer.is_reset && !peer.saw_close);
	close_all(&owner, &peer);
}

static void test_close_inside_callbacks(void **state)
{
	struct owner owner;
	struct tls_peer peer;

	for (int i = 0; i < 4; i++) {
		open_tls(&owner, &peer, *state);
		owner.closes = true;
		owner.take_most = 3;
		if (i == 0)
			tls_peer_say(&peer, STR("abcdef"));
		else if (i == 1)
			SSL_shutdown(peer.ssl);
		else if (i == 2)
			assert_int_equal(write(peer.fd, "abcdef", 6), 6);
		else
			shutdown(peer.fd, SHUT_WR);
		tls_peer_push(&peer);
		turn(&owner);
		assert_false(stream_is_open(&owner.stream));
		assert_int_equal(owner.offers, i == 0);
		assert_int_equal(owner.eofs, i % 2 == 1);
		assert_int_equal(owner.failures, i == 2);
		close_all(&owner, &peer);
	}
}

/* A backend that answers in the middle of a message and closes: writing fails first. */
static void test_last_words_of_the_peer_are_read(void **state)
{
	struct owner owner;
	struct tls_peer peer;
	static char block[30000];

	open_tls(&owner, &peer, *state);
	tls_peer_say(&peer, STR("552 too big\r\n"));
	close(peer.fd);
	peer.fd = -1;
	assert_int_equal(stream_push(&owner.stream, str_make(block, sizeof(block))), sizeof(block));
	turn(&owner);
	turn(&owner);
	expect_got(&owner, STR("552 too big\r\n"));
	assert_int_equal(owner.failures, 1);
	assert_string_equal(owner.err.text, "connection: Broken pipe");
	assert_int_equal(owner.eofs, 0);
	close_all(&owner, &peer);
}

static void test_stopped_reading_does_not_spin(void **state)
{
	struct owner owner;
	struct tls_peer peer;

	for (int i = 0; i < 3; i++) {
		open_tls(&owner, &peer, *state);
		stream_read_stop(&owner.stream);
		if (i == 0)
			tls_peer_say(&peer, STR("more"));
		else if (i == 1)
			SSL_shutdown(peer.ssl);
		else
			assert_int_equal(write(peer.fd, "garbage", 7), 7);
		tls_peer_push(&peer);
		assert_in_range(turns_of(*state, 60), 1, CALM);
		stream_has_input(&owner.stream);
		assert_in_range(turns_of(*state, 60), 1, CALM);
		assert_int_equal(owner.offers + owner.eofs + owner.failures, 0);
		stream_read_start(&owner.stream);
		turn(&owner);
		assert_int_equal(owner.offers, i == 0);
		assert_int_equal(owner.eofs, i == 1);
		assert_int_equal(owner.failures, i == 2);
		close_all(&owner, &peer);
	}
}

/* Neither a new key nor input is the end; one that comes behind a new key is. */
static void test_who_leaves_in_a_pause_is_told(void **state)
{
	struct owner owner;
	struct tls_peer peer;

	for (int i = 0; i < 4; i++) {
		open_tls(&owner, &peer, *state);
		stream_read_pause(&owner.stream);
		update_keys(&peer, 1);
		assert_in_range(turns_of(*state, 30), 1, CALM);
		assert_int_equal(owner.lefts, 0);
		if (i == 0)
			SSL_shutdown(peer.ssl);
		else if (i == 1)
			shutdown(peer.fd, SHUT_WR);
		else if (i == 2)
			tls_peer_say(&peer, STR("more"));
		else
			assert_int_equal(write(peer.fd, "garbage", 7), 7);
		tls_peer_push(&peer);
		assert_in_range(turns_of(*state, 30), 1, CALM);
		assert_int_equal(owner.lefts, i < 2);
		assert_int_equal(owner.failures, i == 3);
		assert_int_equal(owner.offers + owner.eofs, 0);
		stream_read_start(&owner.stream);
		turn(&owner);
		assert_int_equal(owner.offers, i == 2);
		assert_int_equal(owner.eofs, i < 2);
		close_all(&owner, &peer);
	}
}

/* ---- Clients ------------------------------------------------------------------------------------ */

static void test_refused_certificate(void **state)
{
	const struct {
		struct tls_client_settings settings;
		const char *error;
	} cases[] = {
		{ { .verify = TLS_VERIFY_NAME, .ca = authority_file, .name = STR("other.test") },
			"TLS handshake: certificate verify failed: hostname mismatch" },
		{ { .verify = TLS_VERIFY_CA, .ca = client_files.certificate },
			"TLS handshake: certificate verify failed: "
			"unable to get local issuer certificate" },
		{ { .verify = TLS_VERIFY_FINGERPRINT,
			  .fingerprint = STR("0000000000000000000000000000000000000000000000000000"
					     "000000000000") },
			"TLS handshake: certificate verify failed: certificate rejected" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tls_context *context = client_with(&cases[i].settings);
		struct owner owner;
		struct tls_peer peer;
		open_pair(&owner, &peer, *state, false, IN_MAX);
		tls_peer_start(&peer, true);
		stream_start_tls(&owner.stream, context, owner_done, &owner);
		step(&owner);
		tls_peer_pump(&peer);
		tls_context_release(&context); /* the stream has its own */
		expect_failed_handshake(&owner, cases[i].error);
		exchange(&owner, &peer, 1);
		assert_true(peer.error != 0); /* it is told by an alert */
		assert_int_equal(buf_used(&peer.got), 0);
		close_all(&owner, &peer);
	}
}

/* The same server again; a connection that was cut off is no reason not to. */
static void test_resumption(void **state)
{
	struct tls_context *context = client_with(&(struct tls_client_settings){
		.verify = TLS_VERIFY_NAME, .ca = authority_file, .name = STR("mail.test") });
	SSL_CTX *other = NULL;

	for (int i = 0; i < 4; i++) {
		struct owner owner;
		struct tls_peer peer;
		open_pair(&owner, &peer, *state, false, IN_MAX);
		if (other != NULL) {
			SSL_CTX_free(peer.ctx);
			peer.ctx = other;
		}
		other = peer.ctx;
		SSL_CTX_up_ref(other);
		tls_peer_start(&peer, true);
		stream_start_tls(&owner.stream, context, owner_done, &owner);
		exchange(&owner, &peer, 4);
		assert_int_equal(owner.dones, 1);
		assert_false(owner.has_failed);
		const struct tls_state *tls = stream_tls_state(&owner.stream);
		assert_int_equal(tls->is_resumed, i > 0);
		assert_true(tls->has_peer_certificate && tls->peer_is_verified);
		assert_true(str_eq(tls->peer_subject, STR("CN=mail.test")));
		stream_close(&owner.stream, i % 2 == 1);
		close_all(&owner, &peer);
	}
	SSL_CTX_free(other);
	tls_context_release(&context);
}

/* ---- Certificates of clients ----------------------------------------------------------------------- */

static void test_client_certificates(void **state)
{
	static const struct {
		bool has_certificate, is_known, is_asked;
	} cases[] = { { false, true, true }, { true, true, true }, { true, false, true },
		{ true, true, false } };
	struct cert stranger = cert_make(&(struct cert_plan){ .subject = "Stranger" });
	struct tls_context *asking = server_with(authority_file, TLS_VERSION_1_2);
	char digest[64];
	unsigned n;

	for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
		bool has = cases[i / 2].has_certificate && cases[i / 2].is_asked;
		bool is_known = cases[i / 2].is_known;
		const struct cert *cert = is_known ? &client_cert : &stranger;
		struct owner owner;
		struct tls_peer peer;
		open_pair(&owner, &peer, *state, true, IN_MAX);
		if (i % 2 == 1)
			SSL_CTX_set_max_proto_version(peer.ctx, TLS1_2_VERSION);
		if (cases[i / 2].has_certificate) {
			SSL_CTX_use_certificate(peer.ctx, cert->x);
			SSL_CTX_use_PrivateKey(peer.ctx, cert->key);
		}
		shake_hands(&owner, &peer, cases[i / 2].is_asked ? asking : server);
		const struct tls_state *tls = stream_tls_state(&owner.stream);
		assert_int_equal(tls->has_peer_certificate, has);
		assert_int_equal(tls->peer_is_verified, has && is_known);
		assert_true(str_eq(
			tls->peer_subject, str_from(!has       ? ""
						    : is_known ? "CN=A Client\\, with a comma"
							       : "CN=Stranger")));
		assert_int_equal(tls->peer_fingerprint.n, has ? 64 : 0);
		assert_int_equal(
			X509_digest(cert->x, EVP_sha256(), (unsigned char *)digest, &n), 1);
		for (size_t j = 0; has && j < n; j++) {
			char two[3];
			snprintf(two, sizeof(two), "%02x", (unsigned char)digest[j]);
			assert_memory_equal(two, tls->peer_fingerprint.p + 2 * j, 2);
		}
		close_all(&owner, &peer);
	}
	tls_context_release(&asking);
	cert_free(&stranger);
}

/* ---- Memory ------------------------------------------------------------------------------------------ */

/* Bytes of OpenSSL that belong to the streams, not to their peers: each has a header that says so. */
static struct {
	bool is_ours;
	size_t ours;
} memory;

struct counted {
	size_t size;
	size_t is_ours;
};

static void *count_realloc(void *old, size_t size, const char *file, int line)
{
	struct counted *counted = old != NULL ? (struct counted *)old - 1 : NULL;
	size_t before = counted != NULL && counted->is_ours ? counted->size : 0;
	size_t is_ours = counted != NULL ? counted->is_ours : memory.is_ours;

	(void)file;
	(void)line;
	counted = realloc(counted, sizeof(*counted) + size);
	assert_non_null(counted);
	*counted = (struct counted){ size, is_ours };
	if (is_ours)
		memory.ours += size - before;
	return counted + 1;
}

static void *count_malloc(size_t size, const char *file, int line)
{
	return count_realloc(NULL, size, file, line);
}

static void count_free(void *old, const char *file, int line)
{
	struct counted *counted = old != NULL ? (struct counted *)old - 1 : NULL;

	(void)file;
	(void)line;
	if (counted != NULL && counted->is_ours)
		memory.ours -= counted->size;
	free(counted);
}

enum idle { IDLE_AFTER_HANDSHAKE, IDLE_AFTER_DATA, IDLE_FINISHED };

/* What a stream has said and heard last before it idles. */
static void make_idle(struct owner *owner, struct tls_peer *peer, enum idle idle)
{
	memory.is_ours = false;
	if (idle == IDLE_AFTER_DATA)
		tls_peer_say(peer, STR("EHLO idle.test\r\n"));
	memory.is_ours = true;
	if (idle == IDLE_AFTER_DATA)
		stream_write(&owner->stream, STR("250 ok\r\n"));
	if (idle == IDLE_FINISHED)
		stream_finish(&owner->stream);
	step(owner);
	memory.is_ours = false;
	if (idle == IDLE_AFTER_DATA)
		expect_got(owner, STR("EHLO idle.test\r\n"));
}

static size_t idle_memory(struct loop *loop, int max_version, bool is_server, enum idle idle)
{
	enum { STREAMS = 20 };
	struct owner owners[STREAMS];
	struct tls_peer peers[STREAMS];

	memory.ours = 0;
	for (int i = 0; i < STREAMS; i++) {
		open_pair(&owners[i], &peers[i], loop, is_server, IN_MAX);
		SSL_CTX_set_max_proto_version(peers[i].ctx, max_version);
		tls_peer_start(&peers[i], !is_server);
		memory.is_ours = true;
		stream_start_tls(
			&owners[i].stream, is_server ? server : client, owner_done, &owners[i]);
		for (int j = 0; j < 5; j++) {
			memory.is_ours = false;
			tls_peer_pump(&peers[i]);
			memory.is_ours = true;
			step(&owners[i]);
		}
		make_idle(&owners[i], &peers[i], idle);
	}
	size_t each = memory.ours / STREAMS;
	for (int i = 0; i < STREAMS; i++)
		close_all(&owners[i], &peers[i]);
	return each;
}

static void test_idle_streams_are_small(void **state)
{
	static const struct {
		bool is_server;
		int version;
		enum idle idle;
		const char *name;
	} cases[] = {
		{ true, TLS1_3_VERSION, IDLE_AFTER_DATA, "server, TLS 1.3" },
		{ true, TLS1_2_VERSION, IDLE_AFTER_DATA, "server, TLS 1.2" },
		{ true, TLS1_3_VERSION, IDLE_AFTER_HANDSHAKE, "the same, nothing said yet" },
		{ true, TLS1_3_VERSION, IDLE_FINISHED, "the same, all is said" },
		{ false, TLS1_3_VERSION, IDLE_AFTER_DATA, "client, TLS 1.3" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t each =
			idle_memory(*state, cases[i].version, cases[i].is_server, cases[i].idle);
		print_message("idle stream, %s: %zu bytes of OpenSSL, %zu of struct stream\n",
			cases[i].name, each, sizeof(struct stream));
		/* Buffers of records, 16 KiB each way, would show. */
		assert_in_range(each, 1000, 20000);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_handshake),
		TEST(test_handshake_in_single_bytes),
		TEST(test_client_hello_in_kept_input),
		TEST(test_start_inside_input),
		TEST(test_gathered_output_goes_first),
		TEST(test_plaintext_instead_of_tls),
		TEST(test_plaintext_answers_the_client),
		TEST(test_end_and_reset_in_the_handshake),
		TEST(test_old_versions_are_refused),
		TEST(test_alert_of_the_peer),
		TEST(test_owner_acts_during_the_handshake),
		TEST(test_start_when_it_is_too_late),
		TEST(test_relay_with_back_pressure),
		TEST(test_interrupted_and_short_calls),
		TEST(test_writes_of_a_turn_are_sent_once),
		TEST(test_full_socket),
		TEST(test_what_waits_is_sent_by_a_read),
		TEST(test_records_larger_than_the_buffer),
		TEST(test_flood_of_small_records),
		TEST(test_key_updates),
		TEST(test_renegotiation_is_refused),
		TEST(test_has_input),
		TEST(test_peer_is_gone),
		TEST(test_channel_binding),
		TEST(test_half_close),
		TEST(test_truncation),
		TEST(test_garbage),
		TEST(test_errors_of_others),
		TEST(test_finish),
		TEST(test_close),
		TEST(test_close_inside_callbacks),
		TEST(test_last_words_of_the_peer_are_read),
		TEST(test_stopped_reading_does_not_spin),
		TEST(test_who_leaves_in_a_pause_is_told),
		TEST(test_refused_certificate),
		TEST(test_resumption),
		TEST(test_client_certificates),
		TEST(test_idle_streams_are_small),
	};

	/* Before OpenSSL has allocated anything. */
	if (CRYPTO_set_mem_functions(count_malloc, count_realloc, count_free) != 1)
		return 1;
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
