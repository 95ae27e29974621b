#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

#include "net/listener.h"
#include "support/loop_run.h"

#define CLIENTS_MAX 200

struct port {
	struct loop *loop;
	struct listener listener;
	int fds[CLIENTS_MAX];
	unsigned accepted, failed;
	unsigned stop_after, close_after; /* accepted connections; 0: never */
	struct endpoint peer, local;
	struct err err;
};

static bool has_no_delay(int fd)
{
	int value = 0;
	socklen_t n = sizeof(value);

	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &n), 0);
	return value != 0;
}

static void port_accepted(
	void *ctx, int fd, const struct endpoint *peer, const struct endpoint *local)
{
	struct port *port = ctx;

	assert_true(port->accepted < CLIENTS_MAX);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_true(has_no_delay(fd));
	port->fds[port->accepted++] = fd;
	port->peer = *peer;
	port->local = *local;
	if (port->accepted == port->stop_after)
		listener_stop(&port->listener);
	if (port->accepted == port->close_after)
		listener_close(&port->listener);
}

static void port_failed(void *ctx, const struct err *err)
{
	struct port *port = ctx;

	port->failed++;
	port->err = *err;
}

static const struct listener_events port_events = {
	.accepted = port_accepted,
	.failed = port_failed,
};

static struct endpoint endpoint_of(const char *text)
{
	struct endpoint endpoint;

	assert_true(endpoint_parse(str_from(text), &endpoint));
	return endpoint;
}

static void port_open(struct port *port, struct loop *loop, const char *address)
{
	struct endpoint endpoint = endpoint_of(address);
	struct err err = { "" };

	*port = (struct port){ .loop = loop };
	if (listener_open(&port->listener, loop, &endpoint, &port_events, port, &err) != 0)
		fail_msg("%s", err.text);
	assert_int_not_equal(port->listener.address.port, 0);
}

static void port_close(struct port *port)
{
	listener_close(&port->listener);
	listener_close(&port->listener);
	for (unsigned i = 0; i < port->accepted; i++)
		close(port->fds[i]);
}

/* A client socket, connected or under way. */
static int call(const struct port *port, const char *host)
{
	struct endpoint to = port->listener.address;
	struct sockaddr_storage sa;
	int fd;

	if (host != NULL)
		assert_true(ipaddr_parse(str_from(host), &to.ip));
	socklen_t n = endpoint_to_sockaddr(&to, &sa);
	fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_true(fd >= 0);
	if (connect(fd, (struct sockaddr *)&sa, n) != 0)
		assert_int_equal(errno, EINPROGRESS);
	return fd;
}

static void turn(const struct port *port)
{
	loop_run_for(port->loop, 5);
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

static const struct {
	const char *bound, *called, *local;
} address_cases[] = {
	{ "127.0.0.1:0", "127.0.0.1", "127.0.0.1" },
	{ "0.0.0.0:0", "127.0.0.2", "127.0.0.2" },
	{ "[::1]:0", "::1", "::1" },
	{ "[::]:0", "::1", "::1" },
};

static void test_addresses(void **state)
{
	for (size_t i = 0; i < sizeof(address_cases) / sizeof(address_cases[0]); i++) {
		struct port port;
		struct ipaddr local;
		struct sockaddr_storage sa;
		struct endpoint client;
		socklen_t n = sizeof(sa);

		port_open(&port, *state, address_cases[i].bound);
		listener_start(&port.listener);
		listener_start(&port.listener);
		int fd = call(&port, address_cases[i].called);
		turn(&port);
		assert_int_equal(port.accepted, 1);
		assert_true(ipaddr_parse(str_from(address_cases[i].local), &local));
		assert_true(ipaddr_eq(&port.local.ip, &local));
		assert_int_equal(port.local.port, port.listener.address.port);
		assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &n), 0);
		assert_true(endpoint_from_sockaddr((struct sockaddr *)&sa, &client));
		assert_true(ipaddr_eq(&port.peer.ip, &client.ip));
		assert_int_equal(port.peer.port, client.port);
		close(fd);
		port_close(&port);
	}
}

/* IPV6_V6ONLY: both families have a listener of their own on the same port. */
static void test_both_families_on_one_port(void **state)
{
	struct port v4, v6;
	struct endpoint any = endpoint_of("[::]:0");
	struct err err;

	port_open(&v4, *state, "0.0.0.0:0");
	v6 = (struct port){ .loop = *state };
	any.port = v4.listener.address.port;
	assert_int_equal(listener_open(&v6.listener, *state, &any, &port_events, &v6, &err), 0);
	port_close(&v4);
	port_close(&v6);
}

static void test_open_fails_with_a_reason(void **state)
{
	struct port port;
	struct listener second;
	struct err err;
	char text[ENDPOINT_TEXT_MAX];
	char expected[200];

	port_open(&port, *state, "127.0.0.1:0");
	assert_int_equal(
		listener_open(&second, *state, &port.listener.address, &port_events, &port, &err),
		-1);
	endpoint_print(&port.listener.address, text);
	snprintf(expected, sizeof(expected), "%s: bind: Address already in use", text);
	assert_string_equal(err.text, expected);
	listener_close(&second);
	port_close(&port);
}

static void test_start_and_stop(void **state)
{
	struct port port;

	port_open(&port, *state, "127.0.0.1:0");
	int first = call(&port, NULL);
	turn(&port);
	assert_int_equal(port.accepted, 0);
	listener_start(&port.listener);
	turn(&port);
	assert_int_equal(port.accepted, 1);
	listener_stop(&port.listener);
	listener_stop(&port.listener);
	int second = call(&port, NULL);
	turn(&port);
	assert_int_equal(port.accepted, 1);
	listener_start(&port.listener);
	turn(&port);
	assert_int_equal(port.accepted, 2);
	close(first);
	close(second);
	port_close(&port);
}

static void test_stop_and_close_inside_accepted(void **state)
{
	for (int i = 0; i < 2; i++) {
		struct port port;
		int fds[5];

		port_open(&port, *state, "127.0.0.1:0");
		if (i == 0)
			port.stop_after = 2;
		else
			port.close_after = 2;
		for (int j = 0; j < 5; j++)
			fds[j] = call(&port, NULL);
		turn(&port);
		listener_start(&port.listener);
		turn(&port);
		assert_int_equal(port.accepted, 2);
		if (i == 0) {
			listener_start(&port.listener);
			turn(&port);
			assert_int_equal(port.accepted, 5);
		}
		for (int j = 0; j < 5; j++)
			close(fds[j]);
		port_close(&port);
	}
}

static void test_more_than_one_turn_accepts(void **state)
{
	struct port port;
	int fds[LISTENER_ACCEPTS_A_TURN + 20];
	const unsigned count = sizeof(fds) / sizeof(fds[0]);

	port_open(&port, *state, "127.0.0.1:0");
	for (unsigned i = 0; i < count; i++)
		fds[i] = call(&port, NULL);
	listener_start(&port.listener);
	loop_run_for(*state, 50);
	assert_int_equal(port.accepted, count);
	for (unsigned i = 0; i < count; i++)
		close(fds[i]);
	port_close(&port);
}

/* ---- Out of descriptors ---------------------------------------------------------------------- */

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

static struct rlimit forbid_descriptors(void)
{
	struct rlimit before, none;
	int next = dup(0);

	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = (rlim_t)next;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	return before;
}

/* accept(2) fails while the listening socket stays readable: without a pause the process would
 * do nothing else. */
static void test_out_of_descriptors(void **state)
{
	struct port port;
	struct counter counter = { 0 };
	struct loop *loop = *state;

	port_open(&port, loop, "127.0.0.1:0");
	int fd = call(&port, NULL);
	listener_start(&port.listener);
	ev_check_init(&counter.check, count_turn);
	counter.check.data = &counter;
	ev_check_start(loop_ev(loop), &counter.check);
	struct rlimit before = forbid_descriptors();
	loop_run_for(loop, 1500);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_in_range(counter.turns, 5, 80);
	assert_in_range(port.failed, 1, 5);
	assert_string_equal(port.err.text, "accept: Too many open files");
	assert_int_equal(port.accepted, 0);
	loop_run_for(loop, 2 * LISTENER_BACKOFF_MS);
	assert_int_equal(port.accepted, 1);
	ev_check_stop(loop_ev(loop), &counter.check);
	close(fd);
	port_close(&port);
}

static void test_stop_and_close_during_the_back_off(void **state)
{
	for (int i = 0; i < 2; i++) {
		struct port port;

		port_open(&port, *state, "127.0.0.1:0");
		int fd = call(&port, NULL);
		listener_start(&port.listener);
		struct rlimit before = forbid_descriptors();
		turn(&port);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
		assert_int_equal(port.failed, 1);
		if (i == 0)
			listener_stop(&port.listener);
		else
			listener_close(&port.listener);
		loop_run_for(*state, 2 * LISTENER_BACKOFF_MS);
		assert_int_equal(port.accepted, 0);
		close(fd);
		port_close(&port);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_addresses),
		TEST(test_both_families_on_one_port),
		TEST(test_open_fails_with_a_reason),
		TEST(test_start_and_stop),
		TEST(test_stop_and_close_inside_accepted),
		TEST(test_more_than_one_turn_accepts),
		TEST(test_out_of_descriptors),
		TEST(test_stop_and_close_during_the_back_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
