#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

#include "net/connector.h"
#include "support/loop_run.h"

struct attempt {
	struct loop *loop;
	struct connector *connector; /* on the heap: it may be freed in `done` */
	bool is_done;
	unsigned calls;
	int fd;
	struct err err;
};

static bool has_no_delay(int fd)
{
	int value = 0;
	socklen_t n = sizeof(value);

	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &n), 0);
	return value != 0;
}

static void attempt_done(void *ctx, int fd, const struct err *err)
{
	struct attempt *attempt = ctx;

	free(attempt->connector);
	attempt->connector = NULL;
	attempt->is_done = true;
	attempt->calls++;
	attempt->fd = fd;
	attempt->err = *err;
}

static void attempt_start(struct attempt *attempt, struct loop *loop,
	const struct endpoint *address, uint64_t timeout_ms)
{
	*attempt = (struct attempt){ .loop = loop, .fd = -1 };
	attempt->connector = calloc(1, sizeof(*attempt->connector));
	connector_start(attempt->connector, loop, address, timeout_ms, attempt_done, attempt);
	assert_false(attempt->is_done); /* never from inside */
}

/* A listening socket of the kernel's choice of port. */
static int listen_on(const char *text, int backlog, struct endpoint *address)
{
	struct sockaddr_storage sa;

	assert_true(endpoint_parse(str_from(text), address));
	socklen_t n = endpoint_to_sockaddr(address, &sa);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, n), 0);
	if (backlog >= 0)
		assert_int_equal(listen(fd, backlog), 0);
	n = sizeof(sa);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &n), 0);
	assert_true(endpoint_from_sockaddr((struct sockaddr *)&sa, address));
	return fd;
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

static void test_connects(void **state)
{
	const char *addresses[] = { "127.0.0.1:0", "[::1]:0" };

	for (size_t i = 0; i < 2; i++) {
		struct endpoint address;
		struct attempt attempt;
		char byte = 'x';

		int listener = listen_on(addresses[i], 5, &address);
		attempt_start(&attempt, *state, &address, 5000);
		assert_true(loop_run_until(*state, &attempt.is_done));
		assert_true(attempt.fd >= 0);
		assert_true(fcntl(attempt.fd, F_GETFL) & O_NONBLOCK);
		assert_true(fcntl(attempt.fd, F_GETFD) & FD_CLOEXEC);
		assert_true(has_no_delay(attempt.fd));
		int peer = accept(listener, NULL, NULL);
		assert_int_equal(write(attempt.fd, &byte, 1), 1);
		assert_int_equal(read(peer, &byte, 1), 1);
		close(peer);
		close(attempt.fd);
		close(listener);
	}
}

/* ---- Unix sockets ---- */

static void start_unix(struct attempt *attempt, struct loop *loop, struct str path)
{
	*attempt = (struct attempt){ .loop = loop, .fd = -1 };
	attempt->connector = calloc(1, sizeof(*attempt->connector));
	connector_start_unix(attempt->connector, loop, path, 5000, attempt_done, attempt);
	assert_false(attempt->is_done); /* never from inside */
}

/* The path as it is: one that fills sun_path has no terminator. */
static void connects_to(struct loop *loop, struct str path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct attempt attempt;
	char byte = 'x';
	char *copy = malloc(path.n); /* without a terminator, and gone after the call */

	memcpy(sa.sun_path, path.p, path.n);
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(listener, 5), 0);
	memcpy(copy, path.p, path.n);
	start_unix(&attempt, loop, str_make(copy, path.n));
	free(copy);
	assert_true(loop_run_until(loop, &attempt.is_done));
	assert_true(attempt.fd >= 0);
	assert_true(fcntl(attempt.fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(attempt.fd, F_GETFD) & FD_CLOEXEC);
	int peer = accept(listener, NULL, NULL);
	assert_int_equal(write(attempt.fd, &byte, 1), 1);
	assert_int_equal(read(peer, &byte, 1), 1);
	close(peer);
	close(attempt.fd);
	close(listener);
}

static void test_unix(void **state)
{
	char folder[] = "/tmp/gatepost-connector-XXXXXX", path[256];
	const size_t longest = sizeof(((struct sockaddr_un *)NULL)->sun_path);
	struct attempt attempt;

	assert_non_null(mkdtemp(folder));
	int n = snprintf(path, sizeof(path), "%s/s", folder);
	connects_to(*state, str_make(path, (size_t)n));
	start_unix(&attempt, *state, str_make(path, (size_t)n)); /* nobody listens now */
	assert_true(loop_run_until(*state, &attempt.is_done));
	assert_int_equal(attempt.fd, -1);
	assert_string_equal(attempt.err.text, "connect: Connection refused");
	unlink(path);
	start_unix(&attempt, *state, str_make(path, (size_t)n));
	assert_true(loop_run_until(*state, &attempt.is_done));
	assert_string_equal(attempt.err.text, "connect: No such file or directory");

	memset(path + n, 's', sizeof(path) - (size_t)n);
	connects_to(*state, str_make(path, longest));
	path[longest] = '\0';
	unlink(path);
	rmdir(folder);
}

static void test_unix_no_path(void **state)
{
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path) + 1];
	const struct str paths[] = { STR_INIT(""), STR_INIT("\0abstract"), { path, sizeof(path) } };

	memset(path, '/', sizeof(path));
	for (size_t i = 0; i < 3; i++) {
		struct attempt attempt;

		start_unix(&attempt, *state, paths[i]);
		assert_true(loop_run_until(*state, &attempt.is_done));
		assert_int_equal(attempt.fd, -1);
		assert_string_equal(attempt.err.text, "connect: not the path of a socket");
	}
}

static void test_refused(void **state)
{
	struct endpoint address;
	struct attempt attempt;
	int bound = listen_on("127.0.0.1:0", -1, &address); /* bound, does not listen */

	attempt_start(&attempt, *state, &address, 5000);
	assert_true(loop_run_until(*state, &attempt.is_done));
	assert_int_equal(attempt.fd, -1);
	assert_string_equal(attempt.err.text, "connect: Connection refused");
	close(bound);
}

/* connect(2) and socket(2) that fail at once are told later all the same. */
static void test_fails_at_once(void **state)
{
	struct endpoint nowhere;
	struct attempt attempt;
	struct rlimit before, none;

	assert_true(endpoint_parse(STR("255.255.255.255:25"), &nowhere));
	attempt_start(&attempt, *state, &nowhere, 5000);
	assert_true(loop_run_until(*state, &attempt.is_done));
	assert_int_equal(attempt.fd, -1);
	assert_memory_equal(attempt.err.text, "connect: ", 9);

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	attempt_start(&attempt, *state, &nowhere, 5000);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_true(loop_run_until(*state, &attempt.is_done));
	assert_int_equal(attempt.fd, -1);
	assert_string_equal(attempt.err.text, "socket: Too many open files");
}

/* A listener whose backlog is full lets further connects wait: the kernel drops their SYN. */
struct full {
	int listener;
	struct endpoint address;
	int fds[4];
};

static void full_open(struct full *full)
{
	struct sockaddr_storage sa;

	full->listener = listen_on("127.0.0.1:0", 0, &full->address);
	socklen_t n = endpoint_to_sockaddr(&full->address, &sa);
	for (int i = 0; i < 4; i++) {
		full->fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)connect(full->fds[i], (struct sockaddr *)&sa, n);
	}
}

static void full_close(struct full *full)
{
	for (int i = 0; i < 4; i++)
		close(full->fds[i]);
	close(full->listener);
}

static void test_deadline(void **state)
{
	struct full full;
	struct attempt attempt;

	full_open(&full);
	uint64_t begin = loop_now_ms(*state);
	attempt_start(&attempt, *state, &full.address, 100);
	int fd = attempt.connector->fd;
	assert_true(loop_run_until(*state, &attempt.is_done));
	assert_int_equal(attempt.fd, -1);
	assert_string_equal(attempt.err.text, "connect: no answer in time");
	assert_in_range(loop_now_ms(*state) - begin, 100, LOOP_RUN_LIMIT_MS);
	assert_int_equal(fcntl(fd, F_GETFD), -1); /* closed */
	full_close(&full);
}

static void test_cancel(void **state)
{
	struct connector zeroed = { 0 };
	struct endpoint nowhere;
	struct full full;
	struct attempt attempt;

	connector_cancel(&zeroed);
	full_open(&full);
	attempt_start(&attempt, *state, &full.address, 30);
	int fd = attempt.connector->fd;
	connector_cancel(attempt.connector);
	connector_cancel(attempt.connector);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	free(attempt.connector);
	loop_run_for(*state, 60);
	assert_int_equal(attempt.calls, 0);
	full_close(&full);

	assert_true(endpoint_parse(STR("255.255.255.255:25"), &nowhere));
	attempt_start(&attempt, *state, &nowhere, 30);
	connector_cancel(attempt.connector);
	free(attempt.connector);
	loop_run_for(*state, 60);
	assert_int_equal(attempt.calls, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_connects),
		TEST(test_unix),
		TEST(test_unix_no_path),
		TEST(test_refused),
		TEST(test_fails_at_once),
		TEST(test_deadline),
		TEST(test_cancel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
