#include "backend/backend.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SERVERS 4

static struct endpoint addresses[BACKEND_SERVERS_MAX];

static struct backend_settings settings_of(const char *name, enum balance balance, size_t servers)
{
	for (size_t i = 0; i < servers; i++) {
		char text[ENDPOINT_TEXT_MAX];
		snprintf(text, sizeof(text), "10.0.0.%zu:25", i + 1);
		assert_true(endpoint_parse(str_from(text), &addresses[i]));
	}
	return (struct backend_settings){
		.name = str_from(name),
		.servers = { addresses, servers },
		.balance = (int)balance,
	};
}

static struct ipaddr address(const char *text)
{
	struct ipaddr ip;

	assert_true(ipaddr_parse(str_from(text), &ip));
	return ip;
}

/* The servers that a client gets, one after the other, as "0 1 2 3". */
static void assert_order(
	struct backend *backend, const char *client, uint64_t now_ms, const char *wanted)
{
	struct ipaddr ip = address(client);
	struct server_choice choice = { 0 };
	struct server *server;
	char order[256] = "";
	size_t n = 0;

	while ((server = backend_choose(backend, &ip, now_ms, &choice)) != NULL)
		n += (size_t)snprintf(order + n, sizeof(order) - n, "%s%td", n ? " " : "",
			server - backend->servers);
	assert_string_equal(order, wanted);
	assert_null(backend_choose(backend, &ip, now_ms, &choice));
}

static void test_the_order_given(void **state)
{
	struct backend_settings settings = settings_of("a", BALANCE_FIRST, SERVERS);
	struct backend backend;

	(void)state;
	backend_init(&backend, &settings);
	assert_string_equal(backend.servers[1].name, "10.0.0.2:25");
	assert_order(&backend, "192.0.2.1", 0, "0 1 2 3");
	assert_order(&backend, "192.0.2.2", 0, "0 1 2 3");
	backend_free(&backend);
}

static void test_each_in_turn(void **state)
{
	struct backend_settings settings = settings_of("a", BALANCE_ROUNDROBIN, SERVERS);
	struct backend backend;

	(void)state;
	backend_init(&backend, &settings);
	assert_order(&backend, "192.0.2.1", 0, "0 1 2 3");
	assert_order(&backend, "192.0.2.1", 0, "1 2 3 0");
	assert_order(&backend, "192.0.2.1", 0, "2 3 0 1");
	assert_order(&backend, "192.0.2.1", 0, "3 0 1 2");
	assert_order(&backend, "192.0.2.1", 0, "0 1 2 3");
	/* The count goes round. */
	backend.turn = UINT32_MAX;
	assert_order(&backend, "192.0.2.1", 0, "3 0 1 2");
	assert_order(&backend, "192.0.2.1", 0, "0 1 2 3");
	backend_free(&backend);
}

/*
 * The one with the fewest connections; also when that one is passed over, as a dead server has the
 * fewest of all.
 */
static void test_the_fewest_connections(void **state)
{
	struct backend_settings settings = settings_of("a", BALANCE_LEASTCONN, SERVERS);
	struct backend backend;

	(void)state;
	backend_init(&backend, &settings);
	assert_order(&backend, "192.0.2.1", 0, "0 1 2 3");
	backend.servers[0].connections = 9;
	backend.servers[1].connections = 5;
	backend.servers[2].connections = 7;
	backend.servers[3].connections = 5;
	assert_order(&backend, "192.0.2.1", 0, "1 3 2 0");
	backend.servers[0].connections = 0;
	server_failed(&backend.servers[0], 0);
	assert_order(&backend, "192.0.2.1", 1, "1 3 2 0");
	backend_free(&backend);
}

static void test_by_the_client(void **state)
{
	struct backend_settings settings = settings_of("a", BALANCE_SOURCE, SERVERS);
	struct backend backend;
	unsigned chosen[SERVERS] = { 0 };

	(void)state;
	backend_init(&backend, &settings);
	for (unsigned i = 0; i < 256; i++) {
		struct ipaddr ip = ipaddr_from_v4((uint8_t[]){ 192, 0, 2, (uint8_t)i });
		struct server_choice one = { 0 }, two = { 0 };
		struct server *server = backend_choose(&backend, &ip, 0, &one);
		assert_ptr_equal(backend_choose(&backend, &ip, 999, &two), server);
		chosen[server - backend.servers]++;
	}
	for (size_t i = 0; i < SERVERS; i++)
		assert_in_range(chosen[i], 32, 96);
	backend_free(&backend);
}

static void test_servers_that_failed(void **state)
{
	static const struct smtp_capabilities none;
	struct backend_settings settings = settings_of("a", BALANCE_FIRST, SERVERS);
	struct backend backend;

	(void)state;
	backend_init(&backend, &settings);
	server_failed(&backend.servers[0], 1000);
	server_failed(&backend.servers[2], 1000);
	assert_order(&backend, "192.0.2.1", 1000, "1 3 0 2");
	assert_order(&backend, "192.0.2.1", 1000 + SERVER_AVOIDED_MS - 1, "1 3 0 2");
	assert_order(&backend, "192.0.2.1", 1000 + SERVER_AVOIDED_MS, "0 1 2 3");
	/* What answers EHLO is back at once. */
	server_learn(&backend.servers[0], &none);
	assert_order(&backend, "192.0.2.1", 1000, "0 1 3 2");
	for (size_t i = 0; i < SERVERS; i++)
		server_failed(&backend.servers[i], 1000);
	assert_order(&backend, "192.0.2.1", 1000, "0 1 2 3");
	backend_free(&backend);
}

/* A server that fails while a transaction tries one after the other is not tried twice. */
static void test_failing_in_between(void **state)
{
	struct backend_settings settings = settings_of("a", BALANCE_ROUNDROBIN, SERVERS);
	struct ipaddr ip = address("192.0.2.1");
	struct server_choice choice = { 0 };
	struct backend backend;
	unsigned seen = 0;

	(void)state;
	backend_init(&backend, &settings);
	backend.turn = 2;
	for (size_t i = 0; i < SERVERS; i++) {
		struct server *server = backend_choose(&backend, &ip, 0, &choice);
		assert_non_null(server);
		seen |= 1u << (server - backend.servers);
		server_failed(server, 0);
	}
	assert_int_equal(seen, (1 << SERVERS) - 1);
	assert_null(backend_choose(&backend, &ip, 0, &choice));
	backend_free(&backend);
}

static void test_as_many_servers_as_there_may_be(void **state)
{
	struct backend_settings settings = settings_of("a", BALANCE_FIRST, BACKEND_SERVERS_MAX);
	struct ipaddr ip = address("192.0.2.1");
	struct server_choice choice = { 0 };
	struct backend backend;

	(void)state;
	backend_init(&backend, &settings);
	for (size_t i = 0; i < BACKEND_SERVERS_MAX; i++)
		assert_ptr_equal(backend_choose(&backend, &ip, 0, &choice), &backend.servers[i]);
	assert_null(backend_choose(&backend, &ip, 0, &choice));
	backend_free(&backend);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_order_given),
		cmocka_unit_test(test_each_in_turn),
		cmocka_unit_test(test_the_fewest_connections),
		cmocka_unit_test(test_by_the_client),
		cmocka_unit_test(test_servers_that_failed),
		cmocka_unit_test(test_failing_in_between),
		cmocka_unit_test(test_as_many_servers_as_there_may_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
