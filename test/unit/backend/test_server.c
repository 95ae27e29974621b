/* The addresses of a server, and connecting to them. */
#include "backend/server.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "backend/backend.h"
#include "backend/server_connect.h"
#include "support/loop_run.h"
#include "support/servers.h"

static struct server_settings settings[1];
static struct backend_settings backend_settings;
static struct backend backend;
static struct server *server;

static void open_server(const char *text)
{
	struct err why;

	settings[0] = (struct server_settings){ .weight = 1 };
	assert_true(backend_address_parse(str_from(text), &settings[0].address, &why));
	backend_settings = (struct backend_settings){
		.name = STR("a"), .servers = { settings, 1 }, .health = { .rise = 2, .fall = 3 }
	};
	backend_init(&backend, &backend_settings);
	server = &backend.servers[0];
}

static void close_server(void)
{
	backend_free(&backend);
	free_server_settings(settings, 1);
}

static bool set(const char *list)
{
	struct ipaddr addresses[32];
	struct str rest = str_from(list);
	size_t count = 0;

	while (rest.n > 0)
		assert_true(ipaddr_parse(str_cut(&rest, ' '), &addresses[count++]));
	return server_set_addresses(server, addresses, count);
}

/* The addresses that the next connections go to. */
static void assert_next(uint64_t now_ms, const char *wanted)
{
	char text[ENDPOINT_TEXT_MAX], list[512] = "";
	struct endpoint address;
	size_t n = 0;

	while (n < strlen(wanted)) {
		assert_true(server_address(server, now_ms, &address));
		n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", n ? " " : "",
			endpoint_print(&address, text));
	}
	assert_string_equal(list, wanted);
}

static struct endpoint endpoint(const char *text)
{
	struct endpoint parsed;

	assert_true(endpoint_parse(str_from(text), &parsed));
	return parsed;
}

static void test_literal(void **state)
{
	(void)state;
	open_server("192.0.2.7:25");
	assert_true(server_has_address(server));
	assert_next(0, "192.0.2.7:25 192.0.2.7:25");
	close_server();
}

static void test_in_turn(void **state)
{
	struct endpoint none;

	(void)state;
	open_server("mx.internal:25");
	assert_false(server_has_address(server));
	assert_false(server_is_usable(server, 0));
	assert_false(server_address(server, 0, &none));
	assert_true(set("192.0.2.1 2001:db8::1 192.0.2.3"));
	assert_true(server_is_usable(server, 0));
	assert_next(0, "192.0.2.1:25 [2001:db8::1]:25 192.0.2.3:25 192.0.2.1:25");
	close_server();
}

static void test_those_that_failed_come_last(void **state)
{
	struct endpoint second = endpoint("192.0.2.2:25"), foreign = endpoint("192.0.2.9:25");

	(void)state;
	open_server("mx.internal:25");
	set("192.0.2.1 192.0.2.2");
	server_address_failed(server, &second, 1000);
	server_address_failed(server, &foreign, 1000);
	assert_next(1000, "192.0.2.1:25 192.0.2.1:25 192.0.2.1:25");
	assert_next(1000 + SERVER_AVOIDED_MS, "192.0.2.2:25 192.0.2.1:25");
	/* Also when the name was looked up again meanwhile. */
	server_address_failed(server, &second, 20000);
	assert_true(set("192.0.2.2 192.0.2.3"));
	assert_next(20000, "192.0.2.3:25 192.0.2.3:25");
	struct endpoint third = endpoint("192.0.2.3:25");
	server_address_failed(server, &third, 20000);
	assert_next(20000, "192.0.2.2:25 192.0.2.3:25 192.0.2.2:25");
	close_server();
}

static void test_other_addresses(void **state)
{
	(void)state;
	open_server("mx.internal:25");
	assert_true(set("192.0.2.1 192.0.2.2"));
	assert_false(set("192.0.2.2 192.0.2.1"));
	assert_false(set("192.0.2.2 192.0.2.1 192.0.2.1"));
	assert_true(set("192.0.2.2"));
	struct endpoint second = endpoint("192.0.2.2:25"), third = endpoint("192.0.2.3:25");
	assert_true(server_is_at(server, &second));
	assert_true(set("192.0.2.3"));
	assert_next(0, "192.0.2.3:25");
	assert_false(server_is_at(server, &second));
	assert_true(server_is_at(server, &third));
	assert_true(
		set("192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4 192.0.2.5 192.0.2.6 192.0.2.7 "
		    "192.0.2.8 192.0.2.9 192.0.2.10 192.0.2.11 192.0.2.12 192.0.2.13 192.0.2.14 "
		    "192.0.2.15 192.0.2.16 192.0.2.17"));
	assert_int_equal(server->target_count, SERVER_ADDRESSES_MAX);
	close_server();
}

static bool is_own(void *ctx, const struct endpoint *address)
{
	return address->port == 25 && ipaddr_eq(&address->ip, ctx);
}

static void test_ourselves(void **state)
{
	struct endpoint own = endpoint("192.0.2.1:25");

	(void)state;
	open_server("mx.internal:25");
	set("192.0.2.1 192.0.2.2");
	backend_guard(&backend, is_own, &own.ip);
	assert_false(server->is_ourselves);
	assert_next(0, "192.0.2.2:25 192.0.2.2:25");
	set("192.0.2.1");
	assert_true(server->is_ourselves);
	assert_true(server_has_address(server));
	set("192.0.2.3");
	assert_false(server->is_ourselves || server->has_own);
	close_server();
	open_server("192.0.2.1:25");
	backend_guard(&backend, is_own, &own.ip);
	assert_true(server->is_ourselves);
	close_server();
	open_server("192.0.2.1:2525");
	backend_guard(&backend, is_own, &own.ip);
	assert_false(server->is_ourselves);
	close_server();
}

/* ---- Connecting ---------------------------------------------------------------------------------- */

struct result {
	bool is_done;
	int fd;
	struct err err;
};

static void done(void *ctx, int fd, const struct err *err)
{
	struct result *result = ctx;

	assert_false(result->is_done);
	*result = (struct result){ .is_done = true, .fd = fd, .err = *err };
}

static struct server_connect attempt;

static struct result connect_to_server(void)
{
	struct loop *loop = loop_new();
	struct result result = { .is_done = false };

	server_connect_start(&attempt, server, loop, 5000, done, &result);
	assert_false(result.is_done);
	assert_true(loop_run_until(loop, &result.is_done));
	if (result.fd >= 0)
		close(result.fd);
	server_connect_cancel(&attempt);
	loop_free(&loop);
	return result;
}

static int listen_at(const char *ip, uint16_t *port)
{
	struct endpoint address = { .port = *port };
	struct sockaddr_storage sa;
	int fd;

	assert_true(ipaddr_parse(str_from(ip), &address.ip));
	socklen_t n = endpoint_to_sockaddr(&address, &sa);
	fd = socket(sa.ss_family, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, n), 0);
	assert_int_equal(listen(fd, 8), 0);
	n = sizeof(sa);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &n), 0);
	assert_true(endpoint_from_sockaddr((struct sockaddr *)&sa, &address));
	*port = address.port;
	return fd;
}

static void test_the_address_that_takes_it(void **state)
{
	char text[64];
	uint16_t port = 0;
	int fd = listen_at("127.0.0.1", &port);

	(void)state;
	snprintf(text, sizeof(text), "mx.internal:%u", port);
	open_server(text);
	set("127.0.0.2 127.0.0.3 127.0.0.1");
	for (size_t i = 0; i < 3; i++) {
		assert_true(connect_to_server().fd >= 0);
		struct ipaddr ip = ipaddr_from_v4((uint8_t[]){ 127, 0, 0, 1 });
		assert_true(ipaddr_eq(&attempt.address.ip, &ip));
	}
	close(fd);
	struct result result = connect_to_server();
	assert_int_equal(result.fd, -1);
	assert_non_null(strstr(result.err.text, "refused"));
	close_server();
}

static void test_no_address(void **state)
{
	(void)state;
	open_server("mx.internal:25");
	struct result result = connect_to_server();
	assert_int_equal(result.fd, -1);
	assert_string_equal(result.err.text, "the name has no address");
	close_server();
}

static void test_unix_socket(void **state)
{
	char folder[] = "/tmp/test-server-XXXXXX", text[128];
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/s", folder);
	snprintf(text, sizeof(text), "unix:%s", sa.sun_path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 8), 0);
	open_server(text);
	assert_true(server_is_unix(server) && server_is_usable(server, 0));
	assert_true(connect_to_server().fd >= 0);
	close(fd);
	assert_int_equal(connect_to_server().fd, -1);
	unlink(sa.sun_path);
	rmdir(folder);
	close_server();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_literal),
		cmocka_unit_test(test_in_turn),
		cmocka_unit_test(test_those_that_failed_come_last),
		cmocka_unit_test(test_other_addresses),
		cmocka_unit_test(test_ourselves),
		cmocka_unit_test(test_the_address_that_takes_it),
		cmocka_unit_test(test_no_address),
		cmocka_unit_test(test_unix_socket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
