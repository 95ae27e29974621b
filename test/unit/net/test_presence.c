#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

#include "net/stream.h"
#include "support/loop_run.h"

#define PEERS 100 /* more than are asked for in one call */
#define SEATS 64

static unsigned polls;

static int count_poll(struct pollfd *asked, nfds_t count, int timeout)
{
	struct timespec limit = { 0 };

	assert_int_equal(timeout, 0);
	polls++;
	return (int)syscall(SYS_ppoll, asked, count, &limit, NULL, 0);
}

/* Taken instead of libc's: the second with FORTIFY, in a release build. */
int poll(struct pollfd *asked, nfds_t count, int timeout)
{
	return count_poll(asked, count, timeout);
}

int __poll_chk(struct pollfd *asked, nfds_t count, int timeout, size_t size);
int __poll_chk(struct pollfd *asked, nfds_t count, int timeout, size_t size)
{
	assert_true(count * sizeof(*asked) <= size);
	return count_poll(asked, count, timeout);
}

/* An owner that asks, whenever it is spoken to, whether its peer has gone. */
struct owner {
	struct stream stream;
	int peer;
	unsigned offers, gone;
};

static size_t asking_input(void *ctx, struct str bytes)
{
	struct owner *owner = ctx;

	owner->offers++;
	owner->gone += stream_peer_is_gone(&owner->stream);
	return bytes.n;
}

static void ignore(void *ctx)
{
	(void)ctx;
}

static void ignore_failure(void *ctx, const struct err *err)
{
	(void)ctx;
	(void)err;
}

static const struct stream_events events = {
	.input = asking_input, .eof = ignore, .failed = ignore_failure
};

static struct owner owners[PEERS];

static void open_one(struct owner *owner, struct loop *loop, int listener)
{
	struct sockaddr_in sin = { 0 };
	socklen_t n = sizeof(sin);

	assert_int_equal(getsockname(listener, (struct sockaddr *)&sin, &n), 0);
	owner->peer = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(owner->peer, (struct sockaddr *)&sin, n), 0);
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	assert_true(fd >= 0);
	stream_init(&owner->stream, loop, fd, 4096, 4096, &events, owner);
	stream_read_start(&owner->stream);
}

static int setup(void **state)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	struct loop *loop = loop_new();

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(listener, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(listen(listener, PEERS), 0);
	for (int i = 0; i < PEERS; i++) {
		owners[i] = (struct owner){ 0 };
		open_one(&owners[i], loop, listener);
	}
	close(listener);
	*state = loop;
	return 0;
}

static int teardown(void **state)
{
	struct loop *loop = *state;

	for (int i = 0; i < PEERS; i++) {
		stream_close(&owners[i].stream, false);
		if (owners[i].peer >= 0)
			close(owners[i].peer);
	}
	loop_free(&loop);
	return 0;
}

static bool are_heard(void *ctx)
{
	const unsigned *offers = ctx;

	for (unsigned i = 0; i < offers[0]; i++)
		if (owners[i].offers < offers[1])
			return false;
	return true;
}

static void wait_for(const struct owner *owner, short what)
{
	struct pollfd asked = { .fd = owner->stream.fd, .events = what };
	struct timespec limit = { .tv_sec = LOOP_RUN_LIMIT_MS / 1000 };

	assert_int_equal(syscall(SYS_ppoll, &asked, 1, &limit, NULL, 0), 1);
}

/* Arrives before the loop looks. */
static void say_dot(struct owner *owner)
{
	assert_int_equal(write(owner->peer, "dot", 3), 3);
	wait_for(owner, POLLIN);
}

/* The first `count` speak before the loop looks; how many calls were made for all their questions. */
static unsigned speak(struct loop *loop, unsigned count, unsigned times)
{
	unsigned offers[2] = { count, times };

	for (unsigned i = 0; i < count; i++)
		say_dot(&owners[i]);
	polls = 0;
	assert_true(loop_run_while(loop, LOOP_RUN_LIMIT_MS, are_heard, offers));
	return polls;
}

static void reset(struct owner *owner)
{
	struct linger abort = { .l_onoff = 1 };

	setsockopt(owner->peer, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
	close(owner->peer);
	owner->peer = -1;
	wait_for(owner, 0);
}

static void who_has_asked_before_is_asked_for_with_the_others(void **state)
{
	assert_int_equal(speak(*state, 20, 1), 20);
	assert_int_equal(speak(*state, 20, 2), 1);
	for (int i = 0; i < 20; i++)
		assert_int_equal(owners[i].gone, 0);
}

static void a_reset_behind_the_last_word_is_seen(void **state)
{
	speak(*state, 20, 1);
	for (int i = 0; i < 20; i++)
		say_dot(&owners[i]);
	reset(&owners[3]);
	reset(&owners[19]);
	unsigned offers[2] = { 20, 2 };
	assert_true(loop_run_while(*state, LOOP_RUN_LIMIT_MS, are_heard, offers));
	for (int i = 0; i < 20; i++)
		assert_int_equal(owners[i].gone, i == 3 || i == 19);
}

static void an_answer_is_good_for_one_turn(void **state)
{
	speak(*state, 1, 1);
	reset(&owners[0]);
	loop_run_for(*state, 3);
	/* The loop has told of the failure by now. */
	assert_true(stream_peer_is_gone(&owners[0].stream));
}

static void more_than_there_are_seats(void **state)
{
	speak(*state, PEERS, 1);
	unsigned calls = speak(*state, PEERS, 2);
	assert_in_range(calls, 2, PEERS);
	for (int i = 0; i < PEERS; i++)
		assert_int_equal(owners[i].gone, 0);
}

static void who_is_closed_is_not_asked_for(void **state)
{
	speak(*state, SEATS, 1);
	for (int i = 1; i < SEATS; i++)
		stream_close(&owners[i].stream, false);
	assert_int_equal(speak(*state, 1, 2), 1);
	assert_false(owners[0].gone);
	assert_true(stream_peer_is_gone(&owners[1].stream));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(who_has_asked_before_is_asked_for_with_the_others),
		TEST(a_reset_behind_the_last_word_is_seen),
		TEST(an_answer_is_good_for_one_turn),
		TEST(more_than_there_are_seats),
		TEST(who_is_closed_is_not_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
