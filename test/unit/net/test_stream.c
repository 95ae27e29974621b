#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

#include "net/stream.h"
#include "support/loop_run.h"

#define IN_MAX 4096
#define OUT_MAX 65536

/* ---- System calls that can be counted and disturbed: these are taken instead of libc's --------- */

static struct {
	int fd;          /* disturbed; 0: none */
	unsigned random; /* state of the generator */
	unsigned sends, peeks, controls;
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
	calls.peeks += (flags & MSG_PEEK) != 0;
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

int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
	calls.controls++;
	return (int)syscall(SYS_epoll_ctl, epoll, operation, fd, event);
}

/* ---- Owners ------------------------------------------------------------------------------------ */

/* An owner of a stream that does what a test tells it, and the bare socket at the other end. */
struct owner {
	struct loop *loop;
	struct stream stream;
	int peer;
	struct buf got;         /* taken */
	unsigned offers;        /* calls of input */
	size_t offered;         /* bytes of the last one */
	size_t take_most;       /* bytes taken a call */
	bool stops;             /* reading, at each call */
	bool pauses;            /* likewise */
	bool starts;            /* it again in the same call */
	bool restarts;          /* reading although it is started */
	bool closes;            /* in whatever callback comes */
	struct str answer;      /* written at each call of input */
	struct stream *flooded; /* filled at each call of input */
	struct stream *sink;    /* what is taken is pushed there, back-pressure included */
	struct stream *source;
	unsigned eofs, failures, drains, lefts;
	size_t got_at_eof;
	struct err err;
};

/* More than its socket takes. */
static void flood(struct stream *stream)
{
	static char block[OUT_MAX];

	while (stream_push(stream, str_make(block, sizeof(block))) == sizeof(block))
		continue;
}

static size_t owner_input(void *ctx, struct str bytes)
{
	struct owner *owner = ctx;
	size_t taken = bytes.n < owner->take_most ? bytes.n : owner->take_most;

	owner->offers++;
	owner->offered = bytes.n;
	if (owner->stops)
		stream_read_stop(&owner->stream);
	if (owner->pauses)
		stream_read_pause(&owner->stream);
	if (owner->starts || owner->restarts)
		stream_read_start(&owner->stream);
	if (owner->sink != NULL) {
		taken = stream_push(owner->sink, bytes);
		if (taken < bytes.n)
			stream_read_stop(&owner->stream);
	}
	if (owner->answer.n > 0)
		stream_write(&owner->stream, owner->answer);
	if (owner->flooded != NULL)
		flood(owner->flooded);
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
	/* A relay may have written between that it was due and that it was told. */
	assert_true(owner->source != NULL || stream_pending(&owner->stream) < OUT_MAX / 4);
	if (owner->source != NULL)
		stream_read_start(owner->source);
	if (owner->closes)
		stream_close(&owner->stream, false);
}

static void owner_left(void *ctx)
{
	struct owner *owner = ctx;

	owner->lefts++;
	if (owner->closes)
		stream_close(&owner->stream, false);
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

static void owner_init(struct owner *owner, struct loop *loop, int fd, int peer)
{
	*owner = (struct owner){ .loop = loop, .peer = peer, .take_most = SIZE_MAX };
	buf_init(&owner->got, 64 << 20);
	set_nonblocking(fd);
	set_nonblocking(peer);
	stream_init(&owner->stream, loop, fd, IN_MAX, OUT_MAX, &owner_events, owner);
}

static void close_peer(struct owner *owner)
{
	if (owner->peer >= 0)
		close(owner->peer);
	owner->peer = -1;
}

static void owner_close(struct owner *owner)
{
	stream_close(&owner->stream, false);
	stream_close(&owner->stream, false);
	assert_false(stream_is_open(&owner->stream));
	assert_null(owner->stream.in.data);
	assert_null(owner->stream.out.data);
	close_peer(owner);
	buf_free(&owner->got);
}

static void open_pair(struct owner *owner, struct loop *loop)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	owner_init(owner, loop, fds[0], fds[1]);
}

/* TCP over loopback: resets and options exist only there. */
static void open_tcp(struct owner *owner, struct loop *loop)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	socklen_t n = sizeof(sin);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(listener, (struct sockaddr *)&sin, n), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&sin, &n), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&sin, n), 0);
	int peer = accept(listener, NULL, NULL);
	assert_true(peer >= 0);
	close(listener);
	owner_init(owner, loop, fd, peer);
}

static void reset_by_peer(struct owner *owner)
{
	struct linger abort = { .l_onoff = 1 };

	setsockopt(owner->peer, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
	close_peer(owner);
}

static void say(const struct owner *owner, const char *text)
{
	assert_int_equal(write(owner->peer, text, strlen(text)), (ssize_t)strlen(text));
}

static void turn(const struct owner *owner)
{
	loop_run_for(owner->loop, 3);
}

static void expect_got(const struct owner *owner, const char *text)
{
	struct str got = buf_view(&owner->got);

	if (!str_eq(got, str_from(text)))
		fail_msg("got \"%.*s\", not \"%s\"", STR_ARG(got), text);
}

/* What the peer can read now. */
static struct str heard(const struct owner *owner)
{
	static char text[1 << 20];
	ssize_t n = read(owner->peer, text, sizeof(text));

	return str_make(text, n > 0 ? (size_t)n : 0);
}

static void expect_heard(const struct owner *owner, const char *text)
{
	struct str said = heard(owner);

	if (!str_eq(said, str_from(text)))
		fail_msg("heard \"%.*s\", not \"%s\"", STR_ARG(said), text);
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
	return 0;
}

/* ---- Input ----------------------------------------------------------------------------------- */

static void test_reading_is_stopped_at_first(void **state)
{
	struct owner owner;

	open_pair(&owner, *state);
	say(&owner, "hello");
	turn(&owner);
	assert_int_equal(owner.offers, 0);
	assert_true(stream_has_input(&owner.stream));
	stream_read_start(&owner.stream);
	turn(&owner);
	expect_got(&owner, "hello");
	assert_false(stream_has_input(&owner.stream));
	assert_null(owner.stream.in.data);
	assert_int_equal(owner.stream.bytes_read, 5);
	/* What the loop has not seen yet is known to the kernel alone. */
	say(&owner, "more");
	turn(&owner);
	expect_got(&owner, "hellomore");
	owner_close(&owner);
}

/* Without a question to the kernel: what the loop has seen, or the last read. */
static void test_more_input_is_known_from_the_loop(void **state)
{
	struct owner owner;

	open_pair(&owner, *state);
	stream_read_start(&owner.stream);
	say(&owner, "first");
	turn(&owner);
	stream_read_stop(&owner.stream);
	assert_false(stream_has_more(&owner.stream));
	say(&owner, "second");
	turn(&owner);
	expect_got(&owner, "first");
	assert_true(stream_has_more(&owner.stream));
	stream_read_start(&owner.stream);
	assert_true(stream_has_more(&owner.stream));
	turn(&owner);
	expect_got(&owner, "firstsecond");
	assert_false(stream_has_more(&owner.stream));
	owner_close(&owner);
}

static void test_untaken_input_is_kept_and_offered_with_more(void **state)
{
	struct owner owner;

	open_pair(&owner, *state);
	owner.take_most = 2;
	stream_read_start(&owner.stream);
	say(&owner, "abcde");
	turn(&owner);
	expect_got(&owner, "ab");
	assert_true(str_eq(stream_kept(&owner.stream), STR("cde")));
	assert_true(stream_has_input(&owner.stream));
	say(&owner, "fg");
	turn(&owner);
	assert_int_equal(owner.offers, 2);
	assert_int_equal(owner.offered, 5);
	expect_got(&owner, "abcd");
	owner_close(&owner);
}

static void test_start_offers_what_is_kept(void **state)
{
	struct owner owner;

	open_pair(&owner, *state);
	owner.take_most = 2;
	owner.stops = true;
	stream_read_start(&owner.stream);
	say(&owner, "abcde");
	for (unsigned i = 1; i <= 3; i++) {
		turn(&owner);
		assert_int_equal(owner.offers, i);
		stream_read_start(&owner.stream);
		assert_int_equal(owner.offers, i); /* never from inside the call */
	}
	turn(&owner);
	expect_got(&owner, "abcde");
	assert_null(owner.stream.in.data);
	owner_close(&owner);
}

static void test_stop_before_the_offer_takes_it_back(void **state)
{
	struct owner owner;

	open_pair(&owner, *state);
	owner.take_most = 1;
	owner.stops = true;
	stream_read_start(&owner.stream);
	say(&owner, "ab");
	turn(&owner);
	stream_read_start(&owner.stream);
	stream_read_stop(&owner.stream);
	turn(&owner);
	assert_int_equal(owner.offers, 1);
	stream_read_start(&owner.stream);
	turn(&owner);
	expect_got(&owner, "ab");
	owner_close(&owner);
}

/* An owner that takes nothing and asks again and again must not be called for ever. */
static void test_refusing_does_not_spin(void **state)
{
	struct owner owner;

	for (int i = 0; i < 2; i++) {
		open_pair(&owner, *state);
		owner.take_most = 0;
		owner.restarts = i == 0;
		owner.stops = owner.starts = i == 1;
		stream_read_start(&owner.stream);
		say(&owner, "incomplete");
		turn(&owner);
		for (int j = 0; j < 10; j++) {
			stream_read_start(&owner.stream);
			turn(&owner);
		}
		assert_in_range(owner.offers, 2, 3);
		say(&owner, ", now complete");
		owner.take_most = SIZE_MAX;
		turn(&owner);
		expect_got(&owner, "incomplete, now complete");
		owner_close(&owner);
	}
}

static void test_kept_input_has_a_maximum(void **state)
{
	struct owner owner;
	static char block[3 * IN_MAX];

	open_pair(&owner, *state);
	memset(block, 'x', sizeof(block));
	owner.take_most = 0;
	owner.stops = true;
	stream_read_start(&owner.stream);
	assert_int_equal(write(owner.peer, block, sizeof(block)), sizeof(block));
	turn(&owner);
	assert_int_equal(owner.offered, IN_MAX);
	assert_int_equal(stream_kept(&owner.stream).n, IN_MAX);
	owner.stops = false;
	owner.take_most = 1;
	stream_read_start(&owner.stream);
	turn(&owner);
	assert_true(owner.offers > 2);
	owner.take_most = SIZE_MAX;
	turn(&owner);
	assert_int_equal(buf_used(&owner.got), sizeof(block));
	owner_close(&owner);
}

static bool is_in_scratch(const struct owner *owner, const char *text)
{
	return memmem(loop_scratch(owner->loop), LOOP_SCRATCH_SIZE, text, strlen(text)) != NULL;
}

/* A password that was read stayed in the loop's scratch until another read came, and in memory that
 * was kept for a line without its end. */
static void test_secrets_are_wiped(void **state)
{
	struct owner owner;

	for (int is_secret = 0; is_secret < 2; is_secret++) {
		open_pair(&owner, *state);
		if (is_secret)
			stream_set_secret(&owner.stream);
		owner.take_most = 8;
		stream_read_start(&owner.stream);
		say(&owner, "AUTH LOGGeheimnis");
		turn(&owner);
		expect_got(&owner, "AUTH LOG");
		assert_true(str_eq(stream_kept(&owner.stream), STR("Geheimnis")));
		assert_int_equal(is_in_scratch(&owner, "Geheimnis"), !is_secret);
		say(&owner, "!");
		turn(&owner);
		assert_true(str_eq(stream_kept(&owner.stream), STR("s!")));
		const struct buf *in = &owner.stream.in;
		assert_int_equal(memmem(in->data, in->capacity, "eheim", 5) != NULL, !is_secret);
		owner_close(&owner);
	}
}

static void test_eof_comes_after_all_input(void **state)
{
	struct owner owner;

	open_pair(&owner, *state);
	owner.take_most = 3;
	stream_read_start(&owner.stream);
	say(&owner, "abcde");
	close_peer(&owner);
	turn(&owner);
	expect_got(&owner, "abc");
	assert_int_equal(owner.eofs, 1);
	assert_true(str_eq(stream_kept(&owner.stream), STR("de")));
	stream_read_start(&owner.stream);
	turn(&owner);
	expect_got(&owner, "abcde");
	assert_int_equal(owner.eofs, 1);
	owner_close(&owner);
}

static void test_eof_waits_for_reading(void **state)
{
	struct owner owner;

	open_pair(&owner, *state);
	owner.take_most = 2;
	owner.stops = true;
	stream_read_start(&owner.stream);
	say(&owner, "abcd");
	close_peer(&owner);
	turn(&owner);
	assert_int_equal(owner.eofs, 0);
	stream_read_start(&owner.stream);
	turn(&owner);
	expect_got(&owner, "abcd");
	assert_int_equal(owner.eofs, 0); /* it has stopped again */
	owner.stops = false;
	stream_read_start(&owner.stream);
	turn(&owner);
	assert_int_equal(owner.eofs, 1);
	owner_close(&owner);
}

static void start_reading(void *ctx)
{
	struct owner *owner = ctx;

	stream_read_start(&owner->stream);
}

/* A timer starts reading in the same turn in which the end arrives: what was kept comes first.
 * libev handles timers before sockets. */
static void test_start_and_eof_in_one_turn(void **state)
{
	struct owner owner;
	struct timer timer;
	static char block[IN_MAX];

	for (int i = 0; i < 3; i++) {
		size_t n = i == 1 ? IN_MAX : 10;
		open_pair(&owner, *state);
		owner.take_most = i == 1 ? 0 : 1;
		owner.stops = true;
		stream_read_start(&owner.stream);
		assert_int_equal(write(owner.peer, block, n), n);
		turn(&owner);
		if (i == 1)
			say(&owner, "there is no room for this");
		close_peer(&owner);
		owner.take_most = SIZE_MAX;
		owner.stops = i == 2;
		timer_init(&timer, *state, start_reading, &owner);
		timer_set(&timer, 0);
		turn(&owner);
		assert_int_equal(owner.eofs, i != 2);
		stream_read_start(&owner.stream);
		turn(&owner);
		assert_int_equal(owner.eofs, 1);
		assert_int_equal(owner.got_at_eof, i == 1 ? n + 25 : n);
		timer_stop(&timer);
		owner_close(&owner);
	}
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

/* Half-closed, closed and reset peers of a stream that is not read keep epoll level-triggered. */
static void test_stopped_reading_does_not_spin(void **state)
{
	struct owner owner;

	for (int i = 0; i < 4; i++) {
		open_tcp(&owner, *state);
		stream_read_start(&owner.stream);
		turn(&owner);
		stream_read_stop(&owner.stream);
		if (i == 0)
			shutdown(owner.peer, SHUT_WR);
		else if (i == 1)
			close_peer(&owner);
		else if (i == 2)
			reset_by_peer(&owner);
		else
			say(&owner, "more");
		assert_in_range(turns_of(*state, 100), 1, CALM);
		assert_int_equal(owner.offers + owner.eofs + owner.failures, 0);
		stream_read_start(&owner.stream);
		turn(&owner);
		assert_int_equal(owner.eofs, i < 2);
		assert_int_equal(owner.failures, i == 2);
		assert_int_equal(owner.offers, i == 3);
		assert_in_range(turns_of(*state, 50), 1, CALM);
		owner_close(&owner);
	}
}

/* A client for whom a server is waited, and which leaves: at once, and in the middle of the pause. */
static void test_who_leaves_in_a_pause_is_told(void **state)
{
	struct owner owner;

	for (int i = 0; i < 6; i++) {
		bool is_closed = i / 2 == 1, is_reset = i / 2 == 2;
		open_tcp(&owner, *state);
		owner.closes = i % 2 == 1;
		stream_read_start(&owner.stream);
		turn(&owner);
		stream_read_pause(&owner.stream);
		turn(&owner);
		assert_int_equal(owner.lefts + owner.failures, 0);
		if (is_closed)
			close_peer(&owner);
		else if (is_reset)
			reset_by_peer(&owner);
		else
			shutdown(owner.peer, SHUT_WR);
		assert_in_range(turns_of(*state, 50), 1, CALM);
		assert_int_equal(owner.lefts, !is_reset);
		assert_int_equal(owner.failures, is_reset);
		stream_read_start(&owner.stream);
		turn(&owner);
		assert_int_equal(owner.lefts, !is_reset);
		assert_int_equal(owner.eofs, !is_reset && !owner.closes);
		assert_int_equal(owner.failures, is_reset);
		owner_close(&owner);
	}
}

/* Input that was not taken stands before the end: in the kernel, kept, or, with the end, read
 * already when the pause begins. */
static void test_end_behind_input_is_not_told_in_a_pause(void **state)
{
	struct owner owner;

	for (int i = 0; i < 3; i++) {
		open_tcp(&owner, *state);
		owner.take_most = i == 0 ? SIZE_MAX : 2;
		stream_read_start(&owner.stream);
		if (i > 0)
			say(&owner, "abcd");
		turn(&owner);
		stream_read_pause(&owner.stream);
		if (i == 0)
			say(&owner, "cd");
		shutdown(owner.peer, SHUT_WR);
		assert_in_range(turns_of(*state, 50), 1, CALM);
		assert_int_equal(owner.lefts + owner.eofs, 0);
		owner.take_most = SIZE_MAX;
		owner.pauses = i == 2;
		stream_read_start(&owner.stream);
		turn(&owner);
		expect_got(&owner, i == 0 ? "cd" : "abcd");
		assert_int_equal(owner.eofs, i < 2);
		assert_int_equal(owner.lefts, i == 2);
		owner_close(&owner);
	}
}

/* A stop ends the pause, and so does what has come once: nothing is asked again. */
static void test_pause_asks_once(void **state)
{
	struct owner owner;

	open_tcp(&owner, *state);
	stream_read_start(&owner.stream);
	turn(&owner);
	stream_read_pause(&owner.stream);
	stream_read_stop(&owner.stream);
	shutdown(owner.peer, SHUT_WR);
	assert_in_range(turns_of(*state, 50), 1, CALM);
	assert_int_equal(owner.lefts, 0);
	owner_close(&owner);

	open_tcp(&owner, *state);
	stream_read_start(&owner.stream);
	turn(&owner);
	stream_read_pause(&owner.stream);
	for (int i = 0; i < 20; i++) {
		say(&owner, "more");
		turn(&owner);
		if (i == 0)
			calls.peeks = 0;
	}
	assert_int_equal(calls.peeks, 0);
	owner_close(&owner);
}

/* ---- Output ---------------------------------------------------------------------------------- */

static void test_writes_are_gathered_for_the_turn(void **state)
{
	struct owner owner;

	open_pair(&owner, *state);
	assert_true(stream_write(&owner.stream, STR("250-one\r\n")));
	assert_true(stream_write(&owner.stream, STR("250 two\r\n")));
	assert_true(stream_write(&owner.stream, STR("")));
	expect_heard(&owner, "");
	assert_int_equal(stream_pending(&owner.stream), 18);
	assert_int_equal(stream_room(&owner.stream), OUT_MAX - 18);
	turn(&owner);
	expect_heard(&owner, "250-one\r\n250 two\r\n");
	assert_null(owner.stream.out.data);
	assert_int_equal(owner.stream.bytes_written, 18);
	assert_int_equal(owner.drains, 0);
	owner_close(&owner);
}

static void test_flush_writes_now(void **state)
{
	struct owner owner;

	open_pair(&owner, *state);
	stream_flush(&owner.stream);
	stream_write(&owner.stream, STR("221 bye\r\n"));
	stream_flush(&owner.stream);
	stream_close(&owner.stream, false);
	expect_heard(&owner, "221 bye\r\n");
	stream_flush(&owner.stream);
	assert_true(stream_write(&owner.stream, STR("to nobody")));
	assert_int_equal(stream_push(&owner.stream, STR("to nobody")), 9);
	owner_close(&owner);
}

static void test_output_has_a_maximum(void **state)
{
	struct owner owner;
	static char block[OUT_MAX];

	open_pair(&owner, *state);
	memset(block, 'x', sizeof(block));
	assert_true(stream_write(&owner.stream, str_make(block, OUT_MAX - 10)));
	assert_false(stream_write(&owner.stream, STR("eleven byte")));
	assert_true(stream_write(&owner.stream, STR("ten bytes.")));
	assert_false(stream_write(&owner.stream, STR("x")));
	assert_int_equal(stream_room(&owner.stream), 0);
	turn(&owner);
	assert_int_equal(heard(&owner).n, OUT_MAX);
	turn(&owner);
	assert_int_equal(owner.drains, 1);
	owner_close(&owner);
}

/* Refused below half: `drained` is owed all the same. */
static void test_refused_write_is_told_of_room(void **state)
{
	struct owner owner;
	static char block[OUT_MAX];

	open_pair(&owner, *state);
	assert_true(stream_write(&owner.stream, STR("x")));
	assert_false(stream_write(&owner.stream, str_make(block, OUT_MAX)));
	turn(&owner);
	assert_int_equal(owner.drains, 1);
	owner_close(&owner);
}

static void test_push(void **state)
{
	struct owner owner;
	static char block[40000];

	open_pair(&owner, *state);
	memset(block, 'x', sizeof(block));
	assert_int_equal(stream_push(&owner.stream, STR("small")), 5);
	expect_heard(&owner, "");
	assert_int_equal(stream_push(&owner.stream, str_make(block, sizeof(block))), sizeof(block));
	struct str said = heard(&owner); /* together, at once */
	assert_int_equal(said.n, 5 + sizeof(block));
	assert_memory_equal(said.p, "smallx", 6);
	assert_int_equal(stream_pending(&owner.stream), 0);
	assert_null(owner.stream.out.data);
	assert_int_equal(stream_push(&owner.stream, STR("")), 0);
	turn(&owner);
	assert_int_equal(heard(&owner).n, 0);
	owner_close(&owner);
}

/* A peer that reads slowly gets everything, in order, and the producer is held back. */
static void test_slow_reader(void **state)
{
	struct owner owner;
	enum { TOTAL = 1000000 };
	static unsigned char pattern[TOTAL];
	size_t sent = 0, got = 0;
	int small = 20000;
	unsigned rounds = 0;
	bool was_held_back = false;

	open_pair(&owner, *state);
	setsockopt(owner.stream.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	for (size_t i = 0; i < TOTAL; i++)
		pattern[i] = (unsigned char)(i * 2654435761U >> 13);
	while (got < TOTAL) {
		size_t piece = sent % 7 == 0 ? 50000 : 1 + sent % 30000;
		struct str rest = str_make((char *)pattern + sent, TOTAL - sent);
		size_t taken = stream_push(&owner.stream, str_range(rest, 0, piece));
		sent += taken;
		was_held_back = was_held_back || (taken < piece && sent < TOTAL);
		assert_true(stream_pending(&owner.stream) <= OUT_MAX);
		turn(&owner);
		if (sent < TOTAL && ++rounds % 4 != 0)
			continue;
		struct str said = heard(&owner);
		assert_true(got + said.n <= sent);
		assert_memory_equal(said.p, pattern + got, said.n);
		got += said.n;
	}
	assert_true(was_held_back);
	assert_true(owner.drains > 0);
	turn(&owner);
	assert_null(owner.stream.out.data);
	assert_int_equal(owner.stream.bytes_written, TOTAL);
	owner_close(&owner);
}

/* A full socket costs no wake-ups until the peer reads. */
static void test_full_socket_does_not_spin(void **state)
{
	struct owner owner;
	static char block[OUT_MAX];

	open_pair(&owner, *state);
	while (stream_push(&owner.stream, str_make(block, sizeof(block))) == sizeof(block))
		continue;
	stream_write(&owner.stream, STR("x"));
	assert_in_range(turns_of(*state, 100), 1, CALM);
	assert_int_equal(owner.drains, 0);
	for (int i = 0; i < 10; i++) {
		heard(&owner);
		turn(&owner);
	}
	assert_int_equal(stream_pending(&owner.stream), 0);
	assert_int_equal(owner.drains, 1);
	owner_close(&owner);
}

struct deadline {
	const struct owner *owners;
	unsigned offers; /* by the time it was over */
};

static void note_offers(void *ctx)
{
	struct deadline *deadline = ctx;

	deadline->offers = deadline->owners[0].offers + deadline->owners[1].offers;
}

/* Each of two that have said something, while a deadline went by, fills the socket of the other: the other was heard
 * too late then, as to watch its socket for room let the loop forget what it had seen. */
static void test_input_that_was_seen_is_not_forgotten(void **state)
{
	const struct timespec pause = { .tv_nsec = 5000000 };
	struct owner owners[2];
	struct deadline deadline = { .owners = owners };
	struct timer timer;

	for (int i = 0; i < 2; i++) {
		open_pair(&owners[i], *state);
		stream_read_start(&owners[i].stream);
		owners[i].flooded = &owners[1 - i].stream;
	}
	timer_init(&timer, *state, note_offers, &deadline);
	turn(&owners[0]);
	timer_set(&timer, 1);
	say(&owners[0], "one");
	say(&owners[1], "two");
	nanosleep(&pause, NULL);
	turn(&owners[0]);
	timer_stop(&timer);
	assert_int_equal(deadline.offers, 2);
	for (int i = 0; i < 2; i++)
		owner_close(&owners[i]);
}

/* Two streams back to back, as a message body goes. */
static void test_relay_with_back_pressure(void **state)
{
	struct owner in, out;
	static char block[100000];
	size_t said = 0, got = 0;
	const size_t total = 4000000;

	open_tcp(&in, *state);
	open_tcp(&out, *state);
	in.sink = &out.stream;
	out.source = &in.stream;
	stream_read_start(&in.stream);
	while (got < total) {
		size_t piece = total - said < sizeof(block) ? total - said : sizeof(block);
		ssize_t n = write(in.peer, block, piece);
		said += n > 0 ? (size_t)n : 0;
		turn(&in);
		if (said % 3 != 0 || said == total)
			got += heard(&out).n;
	}
	assert_int_equal(in.stream.bytes_read, total);
	owner_close(&in);
	owner_close(&out);
}

/* Interrupted calls and short counts change nothing but the time. */
static void test_interrupted_and_short_calls(void **state)
{
	struct owner in, out;
	enum { TOTAL = 300000 };
	static char pattern[TOTAL];
	size_t said = 0, got = 0;

	open_pair(&in, *state);
	open_pair(&out, *state);
	in.sink = &out.stream;
	out.source = &in.stream;
	for (size_t i = 0; i < TOTAL; i++)
		pattern[i] = (char)(i * 2654435761U >> 13);
	stream_read_start(&in.stream);
	calls.random = 1;
	while (got < TOTAL) {
		calls.fd = 0;
		ssize_t n = write(in.peer, pattern + said, TOTAL - said);
		said += n > 0 ? (size_t)n : 0;
		calls.fd = said / 1000 % 2 ? in.stream.fd : out.stream.fd;
		turn(&in);
		struct str part = heard(&out);
		assert_true(got + part.n <= TOTAL);
		assert_memory_equal(part.p, pattern + got, part.n);
		got += part.n;
	}
	calls.fd = 0;
	assert_int_equal(in.failures + out.failures, 0);
	owner_close(&in);
	owner_close(&out);
}

/* A command and its answer, with reading stopped in between: one send and nothing for epoll. */
static void test_lock_step_is_cheap(void **state)
{
	struct owner owner;

	open_tcp(&owner, *state);
	owner.answer = STR("250 ok\r\n");
	owner.stops = true;
	stream_read_start(&owner.stream);
	calls.controls = 0;
	turn(&owner);
	assert_int_equal(calls.controls, 1);
	calls.sends = calls.controls = 0;
	for (int i = 0; i < 5; i++) {
		stream_read_start(&owner.stream);
		say(&owner, "NOOP\r\n");
		turn(&owner);
		stream_write(&owner.stream, STR("more of it\r\n"));
		stream_write(&owner.stream, STR("and more\r\n"));
		turn(&owner);
		expect_heard(&owner, "250 ok\r\nmore of it\r\nand more\r\n");
	}
	assert_int_equal(calls.sends, 10);
	assert_int_equal(calls.controls, 0);
	owner_close(&owner);
}

/* ---- Failure --------------------------------------------------------------------------------- */

static void test_reset_is_told_once(void **state)
{
	struct owner owner;

	open_tcp(&owner, *state);
	stream_read_start(&owner.stream);
	reset_by_peer(&owner);
	turn(&owner);
	assert_int_equal(owner.failures, 1);
	assert_string_equal(owner.err.text, "connection: Connection reset by peer");
	assert_true(stream_write(&owner.stream, STR("dropped")));
	assert_int_equal(stream_pending(&owner.stream), 0);
	turn(&owner);
	stream_read_stop(&owner.stream);
	stream_read_start(&owner.stream);
	assert_in_range(turns_of(*state, 50), 1, CALM);
	assert_int_equal(owner.failures + owner.eofs + owner.offers, 1);
	owner_close(&owner);
}

/* With SIGPIPE at its default the process would die here. */
static void test_broken_pipe(void **state)
{
	struct owner owner;

	for (int i = 0; i < 2; i++) {
		open_pair(&owner, *state);
		close_peer(&owner);
		stream_write(&owner.stream, STR("x"));
		if (i == 0)
			stream_flush(&owner.stream);
		assert_int_equal(owner.failures, 0); /* not from inside */
		turn(&owner);
		turn(&owner);
		assert_int_equal(owner.failures, 1);
		assert_string_equal(owner.err.text, "connection: Broken pipe");
		owner_close(&owner);
	}
}

/* A backend that answers "552 too big" in the middle of a message and closes: its reply must be
 * seen, though writing fails first. */
static void test_last_words_of_the_peer_are_read(void **state)
{
	struct owner owner;
	static char block[30000];

	for (int i = 0; i < 2; i++) {
		open_pair(&owner, *state);
		stream_read_start(&owner.stream);
		owner.stops = i == 1; /* then the failure need not wait any longer */
		say(&owner, "552 too big\r\n");
		close_peer(&owner);
		assert_int_equal(
			stream_push(&owner.stream, str_make(block, sizeof(block))), sizeof(block));
		assert_int_equal(owner.failures, 0);
		turn(&owner);
		turn(&owner);
		expect_got(&owner, "552 too big\r\n");
		assert_int_equal(owner.failures, 1);
		assert_int_equal(owner.eofs, 0);
		owner_close(&owner);
	}
}

static void test_write_failure_while_stopped(void **state)
{
	struct owner owner;

	open_pair(&owner, *state);
	stream_read_start(&owner.stream);
	turn(&owner);
	close_peer(&owner);
	stream_write(&owner.stream, STR("x"));
	stream_flush(&owner.stream); /* left to the reader */
	stream_read_stop(&owner.stream);
	turn(&owner);
	assert_int_equal(owner.failures, 1);
	owner_close(&owner);
}

static void test_peer_is_gone(void **state)
{
	struct owner owner;

	open_tcp(&owner, *state);
	assert_false(stream_peer_is_gone(&owner.stream));
	say(&owner, "x");
	assert_false(stream_peer_is_gone(&owner.stream));
	shutdown(owner.peer, SHUT_WR);
	turn(&owner);
	assert_false(stream_peer_is_gone(&owner.stream));
	reset_by_peer(&owner);
	turn(&owner);
	assert_true(stream_peer_is_gone(&owner.stream));
	owner_close(&owner);
	assert_true(stream_peer_is_gone(&owner.stream));
}

/* ---- Closing --------------------------------------------------------------------------------- */

static void test_close_inside_input(void **state)
{
	struct owner owner;

	for (int i = 0; i < 3; i++) {
		open_pair(&owner, *state);
		owner.closes = i != 1;
		owner.take_most = 1;
		owner.stops = i == 1;
		stream_read_start(&owner.stream);
		say(&owner, "abc");
		turn(&owner);
		owner.closes = true; /* with kept input, in the second round */
		stream_read_start(&owner.stream);
		turn(&owner);
		assert_false(stream_is_open(&owner.stream));
		assert_int_equal(owner.offers, i == 1 ? 2 : 1);
		owner_close(&owner);
	}
}

static void test_close_inside_eof_failed_and_drained(void **state)
{
	struct owner owner;
	static char block[OUT_MAX];

	open_pair(&owner, *state);
	owner.closes = true;
	stream_read_start(&owner.stream);
	close_peer(&owner);
	turn(&owner);
	assert_int_equal(owner.eofs, 1);
	assert_false(stream_is_open(&owner.stream));
	owner_close(&owner);

	open_tcp(&owner, *state);
	owner.closes = true;
	stream_read_start(&owner.stream);
	reset_by_peer(&owner);
	turn(&owner);
	assert_int_equal(owner.failures, 1);
	assert_false(stream_is_open(&owner.stream));
	owner_close(&owner);

	open_pair(&owner, *state);
	owner.closes = true;
	say(&owner, "not offered any more");
	stream_read_start(&owner.stream);
	stream_write(&owner.stream, str_make(block, OUT_MAX));
	stream_flush(&owner.stream);
	assert_int_equal(owner.drains, 0);
	turn(&owner);
	assert_int_equal(owner.drains, 1);
	assert_int_equal(owner.offers, 0);
	assert_false(stream_is_open(&owner.stream));
	owner_close(&owner);
}

/* After everything that was sent: 0 is an orderly end. */
static int error_at_peer(const struct owner *owner)
{
	char byte;
	ssize_t n = read(owner->peer, &byte, 1);

	assert_true(n <= 0);
	return n < 0 ? errno : 0;
}

static void test_close_with_and_without_reset(void **state)
{
	struct owner owner;

	open_tcp(&owner, *state);
	stream_close(&owner.stream, true);
	turn(&owner);
	assert_int_equal(error_at_peer(&owner), ECONNRESET);
	owner_close(&owner);

	open_tcp(&owner, *state);
	stream_close(&owner.stream, false);
	turn(&owner);
	assert_int_equal(error_at_peer(&owner), 0);
	owner_close(&owner);

	/* Input that nobody read turns the close into a reset, unless it is thrown away. */
	open_tcp(&owner, *state);
	stream_read_start(&owner.stream);
	turn(&owner);
	stream_read_stop(&owner.stream);
	say(&owner, "too late");
	turn(&owner);
	stream_write(&owner.stream, STR("421\r\n"));
	stream_flush(&owner.stream);
	stream_close(&owner.stream, false);
	turn(&owner);
	expect_heard(&owner, "421\r\n");
	assert_int_equal(error_at_peer(&owner), 0);
	owner_close(&owner);
}

/* What was to be told is not told any more. */
static void test_close_before_it_is_told(void **state)
{
	struct owner owner;
	static char block[OUT_MAX];

	open_pair(&owner, *state);
	close_peer(&owner);
	stream_write(&owner.stream, STR("x"));
	stream_flush(&owner.stream);
	stream_close(&owner.stream, false);
	turn(&owner);
	assert_int_equal(owner.failures, 0);
	owner_close(&owner);

	open_pair(&owner, *state);
	stream_write(&owner.stream, str_make(block, OUT_MAX));
	stream_flush(&owner.stream);
	stream_close(&owner.stream, false);
	turn(&owner);
	assert_int_equal(owner.drains, 0);
	owner_close(&owner);
}

/* ---- Finishing --------------------------------------------------------------------------------- */

/* The peer gets everything and then the end, though it goes on talking. */
static void test_finish(void **state)
{
	struct owner owner;
	static char block[OUT_MAX];
	size_t got = 0;

	for (int i = 0; i < 3; i++) {
		open_tcp(&owner, *state);
		stream_read_start(&owner.stream);
		if (i == 1)
			stream_write(&owner.stream, STR("421 bye\r\n"));
		while (i == 2 && stream_push(&owner.stream, str_make(block, OUT_MAX)) == OUT_MAX)
			continue;
		uint64_t expected = owner.stream.bytes_written + stream_pending(&owner.stream);
		stream_finish(&owner.stream);
		stream_finish(&owner.stream);
		assert_true(stream_write(&owner.stream, STR("dropped")));
		assert_int_equal(stream_push(&owner.stream, str_make(block, OUT_MAX)), OUT_MAX);
		say(&owner, "QUIT\r\n");
		turn(&owner);
		expect_got(&owner, "QUIT\r\n");
		for (got = 0; got < expected;) {
			got += heard(&owner).n;
			turn(&owner);
		}
		assert_int_equal(got, expected);
		assert_int_equal(error_at_peer(&owner), 0); /* the end, not a reset */
		assert_int_equal(owner.failures + owner.eofs, 0);
		close_peer(&owner);
		turn(&owner);
		assert_int_equal(owner.eofs, 1);
		assert_int_equal(owner.failures, 0);
		owner_close(&owner);
	}
}

static void test_closed_stream_is_inert(void **state)
{
	struct stream zeroed = { .fd = -1 };
	struct owner owner;

	stream_close(&zeroed, false);
	open_pair(&owner, *state);
	stream_write(&owner.stream, STR("dropped"));
	say(&owner, "x");
	stream_read_start(&owner.stream);
	stream_close(&owner.stream, false);
	stream_read_start(&owner.stream);
	stream_read_stop(&owner.stream);
	stream_finish(&owner.stream);
	assert_false(stream_has_input(&owner.stream));
	turn(&owner);
	assert_int_equal(owner.offers + owner.eofs + owner.failures, 0);
	expect_heard(&owner, "");
	owner_close(&owner);
}

static void test_held_output_goes_with_the_next(void **state)
{
	struct owner owner;

	open_pair(&owner, *state);
	stream_hold(&owner.stream);
	stream_write(&owner.stream, STR("one "));
	stream_hold(&owner.stream);
	turn(&owner);
	expect_heard(&owner, "");
	stream_write(&owner.stream, STR("two"));
	turn(&owner);
	expect_heard(&owner, "one two");
	owner_close(&owner);
}

static void test_output_is_not_held_for_long(void **state)
{
	struct owner owner;

	open_pair(&owner, *state);
	stream_write(&owner.stream, STR("one"));
	stream_hold(&owner.stream);
	loop_run_for(*state, LOOP_HOLD_MS + 20);
	expect_heard(&owner, "one");
	stream_write(&owner.stream, STR("two"));
	stream_hold(&owner.stream);
	owner_close(&owner);
	loop_run_for(*state, LOOP_HOLD_MS + 20);
}

/* The server's case: the answer goes out in the turn in which the command came. */
static void test_answer_in_input(void **state)
{
	struct owner owner;

	open_tcp(&owner, *state);
	owner.answer = STR("250 ok\r\n");
	stream_read_start(&owner.stream);
	for (int i = 0; i < 3; i++) {
		say(&owner, "NOOP\r\n");
		turn(&owner);
		expect_heard(&owner, "250 ok\r\n");
	}
	owner_close(&owner);
}

static void test_stream_is_small(void **state)
{
	(void)state;
	assert_true(sizeof(struct stream) <= 400);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_reading_is_stopped_at_first),
		TEST(test_more_input_is_known_from_the_loop),
		TEST(test_untaken_input_is_kept_and_offered_with_more),
		TEST(test_start_offers_what_is_kept),
		TEST(test_stop_before_the_offer_takes_it_back),
		TEST(test_refusing_does_not_spin),
		TEST(test_kept_input_has_a_maximum),
		TEST(test_secrets_are_wiped),
		TEST(test_eof_comes_after_all_input),
		TEST(test_eof_waits_for_reading),
		TEST(test_start_and_eof_in_one_turn),
		TEST(test_stopped_reading_does_not_spin),
		TEST(test_who_leaves_in_a_pause_is_told),
		TEST(test_end_behind_input_is_not_told_in_a_pause),
		TEST(test_pause_asks_once),
		TEST(test_writes_are_gathered_for_the_turn),
		TEST(test_flush_writes_now),
		TEST(test_output_has_a_maximum),
		TEST(test_refused_write_is_told_of_room),
		TEST(test_push),
		TEST(test_slow_reader),
		TEST(test_full_socket_does_not_spin),
		TEST(test_input_that_was_seen_is_not_forgotten),
		TEST(test_relay_with_back_pressure),
		TEST(test_interrupted_and_short_calls),
		TEST(test_lock_step_is_cheap),
		TEST(test_reset_is_told_once),
		TEST(test_broken_pipe),
		TEST(test_last_words_of_the_peer_are_read),
		TEST(test_write_failure_while_stopped),
		TEST(test_peer_is_gone),
		TEST(test_close_inside_input),
		TEST(test_close_inside_eof_failed_and_drained),
		TEST(test_close_with_and_without_reset),
		TEST(test_close_before_it_is_told),
		TEST(test_finish),
		TEST(test_closed_stream_is_inert),
		TEST(test_held_output_goes_with_the_next),
		TEST(test_output_is_not_held_for_long),
		TEST(test_answer_in_input),
		TEST(test_stream_is_small),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
