#include "backend/backend.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/servers.h"

#define SERVERS 4

static struct server_settings servers[BACKEND_SERVERS_MAX];
static struct backend_settings settings;
static struct backend backend;

static void open_backend(enum balance balance, size_t count)
{
	settings = make_backend_settings("a", balance, servers, count);
	backend_init(&backend, &settings);
}

static void close_backend(void)
{
	backend_free(&backend);
	free_server_settings(servers, settings.servers.count);
}

static struct ipaddr address(const char *text)
{
	struct ipaddr ip;

	assert_true(ipaddr_parse(str_from(text), &ip));
	return ip;
}

/* The index of the server that a new transaction of this client gets. */
static long choose(struct ipaddr ip, uint64_t now_ms)
{
	struct server_choice choice = { 0 };
	struct server *server = backend_choose(&backend, &ip, now_ms, &choice);

	return server ? server - backend.servers : -1;
}

/* The servers that a client gets, one after the other, as "0 1 2 3". */
static void assert_order(uint64_t now_ms, const char *wanted)
{
	struct ipaddr ip = address("192.0.2.1");
	struct server_choice choice = { 0 };
	struct server *server;
	char order[256] = "";
	size_t n = 0;

	while ((server = backend_choose(&backend, &ip, now_ms, &choice)) != NULL)
		n += (size_t)snprintf(order + n, sizeof(order) - n, "%s%td", n ? " " : "",
			server - backend.servers);
	assert_string_equal(order, wanted);
	assert_null(backend_choose(&backend, &ip, now_ms, &choice));
	assert_false(choice.is_full);
}

static void test_the_order_given(void **state)
{
	(void)state;
	open_backend(BALANCE_FIRST, SERVERS);
	assert_string_equal(backend.servers[1].name, "10.0.0.2:25");
	assert_order(0, "0 1 2 3");
	assert_order(0, "0 1 2 3");
	close_backend();
}

static void test_each_in_turn(void **state)
{
	(void)state;
	open_backend(BALANCE_ROUNDROBIN, SERVERS);
	assert_order(0, "0 1 2 3");
	assert_order(0, "1 2 3 0");
	assert_order(0, "2 3 0 1");
	assert_order(0, "3 0 1 2");
	assert_order(0, "0 1 2 3");
	close_backend();
}

/* Smoothly: the heavy one is not chosen again and again before the others have their turn. */
static void test_turns_by_weight(void **state)
{
	char order[32];

	(void)state;
	open_backend(BALANCE_ROUNDROBIN, 3);
	servers[0].weight = 5;
	for (size_t i = 0; i < 14; i++)
		order[i] = (char)('0' + choose(address("192.0.2.1"), 0));
	order[14] = '\0';
	assert_string_equal(order, "00102000010200");
	close_backend();
}

/* A server that is away does not collect turns that it would have all at once when it is back. */
static void test_turns_of_one_that_was_away(void **state)
{
	unsigned chosen[3] = { 0 };

	(void)state;
	open_backend(BALANCE_ROUNDROBIN, 3);
	server_note(&backend.servers[1], SERVER_CONNECT_FAILED, 1000);
	for (size_t i = 0; i < 100; i++)
		assert_int_not_equal(choose(address("192.0.2.1"), 1000), 1);
	for (size_t i = 0; i < 9; i++)
		chosen[choose(address("192.0.2.1"), 1000 + SERVER_AVOIDED_MS)]++;
	assert_int_equal(chosen[1], 3);
	close_backend();
}

/*
 * The one with the fewest connections; also when that one is passed over, as a dead server has the
 * fewest of all.
 */
static void test_the_fewest_connections(void **state)
{
	static const unsigned connections[SERVERS] = { 9, 5, 7, 5 };

	(void)state;
	open_backend(BALANCE_LEASTCONN, SERVERS);
	assert_order(0, "0 1 2 3");
	for (size_t i = 0; i < SERVERS; i++)
		backend.servers[i].connections = connections[i];
	assert_order(0, "1 3 2 0");
	backend.servers[0].connections = 0;
	server_note(&backend.servers[0], SERVER_CONNECT_FAILED, 0);
	assert_order(1, "1 3 2 0");
	close_backend();
}

/* Connections that come and go at once are spread all the same. */
static void test_of_equals_the_one_that_rested(void **state)
{
	(void)state;
	open_backend(BALANCE_LEASTCONN, 3);
	for (long i = 0; i < 9; i++)
		assert_int_equal(choose(address("192.0.2.1"), 0), i % 3);
	close_backend();
}

static void test_the_fewest_by_weight(void **state)
{
	(void)state;
	open_backend(BALANCE_LEASTCONN, 2);
	servers[1].weight = 3;
	for (size_t i = 0; i < 40; i++)
		server_acquire(&backend.servers[choose(address("192.0.2.1"), 0)]);
	assert_int_equal(backend.servers[0].connections, 10);
	assert_int_equal(backend.servers[1].connections, 30);
	/* Those that are kept for whoever comes cost nothing. */
	for (size_t i = 0; i < 9; i++)
		server_idle(&backend.servers[0]);
	assert_int_equal(choose(address("192.0.2.1"), 0), 0);
	close_backend();
}

#define CLIENTS 4096

static struct ipaddr client(size_t number)
{
	return ipaddr_from_v4(
		(uint8_t[]){ 192, 0, (uint8_t)(number >> 8), (uint8_t)(number & 0xff) });
}

static void test_by_the_client(void **state)
{
	unsigned chosen[SERVERS] = { 0 };

	(void)state;
	open_backend(BALANCE_SOURCE, SERVERS);
	for (size_t i = 0; i < CLIENTS; i++) {
		long first = choose(client(i), 0);
		assert_int_equal(choose(client(i), 999), first);
		chosen[first]++;
	}
	for (size_t i = 0; i < SERVERS; i++)
		assert_in_range(chosen[i], CLIENTS / SERVERS - 150, CLIENTS / SERVERS + 150);
	close_backend();
}

static void test_by_the_client_and_weight(void **state)
{
	unsigned chosen[3] = { 0 };

	(void)state;
	open_backend(BALANCE_SOURCE, 3);
	servers[2].weight = 6;
	for (size_t i = 0; i < CLIENTS; i++)
		chosen[choose(client(i), 0)]++;
	assert_in_range(chosen[0], CLIENTS / 8 - 80, CLIENTS / 8 + 80);
	assert_in_range(chosen[1], CLIENTS / 8 - 80, CLIENTS / 8 + 80);
	assert_in_range(chosen[2], CLIENTS * 6 / 8 - 150, CLIENTS * 6 / 8 + 150);
	close_backend();
}

/* A server that goes takes only its own clients with it, and gets them back. */
static void test_the_client_stays(void **state)
{
	static long before[CLIENTS];

	(void)state;
	open_backend(BALANCE_SOURCE, SERVERS);
	for (size_t i = 0; i < CLIENTS; i++)
		before[i] = choose(client(i), 0);
	server_note(&backend.servers[2], SERVER_CONNECT_FAILED, 1000);
	for (size_t i = 0; i < CLIENTS; i++) {
		long now = choose(client(i), 1000);
		assert_int_not_equal(now, 2);
		if (before[i] != 2)
			assert_int_equal(now, before[i]);
	}
	for (size_t i = 0; i < CLIENTS; i++)
		assert_int_equal(choose(client(i), 1000 + SERVER_AVOIDED_MS), before[i]);
	close_backend();
}

static void test_servers_that_failed(void **state)
{
	static const struct smtp_capabilities none;

	(void)state;
	open_backend(BALANCE_FIRST, SERVERS);
	server_note(&backend.servers[0], SERVER_CONNECT_FAILED, 1000);
	server_note(&backend.servers[2], SERVER_CONNECT_FAILED, 1000);
	assert_order(1000, "1 3 0 2");
	assert_order(1000 + SERVER_AVOIDED_MS - 1, "1 3 0 2");
	assert_order(1000 + SERVER_AVOIDED_MS, "0 1 2 3");
	/* What answers EHLO is back at once. */
	server_learn(&backend.servers[0], &none, 1000);
	assert_order(1000, "0 1 3 2");
	for (size_t i = 0; i < SERVERS; i++)
		server_note(&backend.servers[i], SERVER_CONNECT_FAILED, 1000);
	assert_order(1000, "0 1 2 3");
	close_backend();
}

/* A server that fails while a transaction tries one after the other is not tried twice. */
static void test_failing_in_between(void **state)
{
	struct ipaddr ip = address("192.0.2.1");
	struct server_choice choice = { 0 };
	unsigned seen = 0;

	(void)state;
	open_backend(BALANCE_ROUNDROBIN, SERVERS);
	for (size_t i = 0; i < SERVERS; i++) {
		struct server *server = backend_choose(&backend, &ip, 0, &choice);
		assert_non_null(server);
		seen |= 1u << (server - backend.servers);
		server_note(server, SERVER_CONNECT_FAILED, 0);
	}
	assert_int_equal(seen, (1 << SERVERS) - 1);
	assert_null(backend_choose(&backend, &ip, 0, &choice));
	close_backend();
}

static void test_backups(void **state)
{
	(void)state;
	open_backend(BALANCE_ROUNDROBIN, SERVERS);
	servers[0].is_backup = servers[2].is_backup = true;
	assert_order(0, "1 3 0 2");
	assert_order(0, "3 1 0 2");
	server_note(&backend.servers[1], SERVER_CONNECT_FAILED, 1000);
	assert_order(1000, "3 0 2 1");
	server_note(&backend.servers[3], SERVER_CONNECT_FAILED, 1000);
	assert_int_equal(choose(address("192.0.2.1"), 1000), 0);
	assert_int_equal(choose(address("192.0.2.1"), 1000), 2);
	/* As the last resort those that are no backups come first again. */
	server_note(&backend.servers[0], SERVER_CONNECT_FAILED, 1000);
	server_note(&backend.servers[2], SERVER_CONNECT_FAILED, 1000);
	assert_in_range(choose(address("192.0.2.1"), 1000), 1, 3);
	close_backend();
}

/* Also when nothing else is left. */
static void test_no_weight_no_mail(void **state)
{
	(void)state;
	open_backend(BALANCE_FIRST, 3);
	servers[0].weight = 0;
	assert_order(0, "1 2");
	server_note(&backend.servers[1], SERVER_CONNECT_FAILED, 0);
	server_note(&backend.servers[2], SERVER_CONNECT_FAILED, 0);
	assert_order(0, "1 2");
	close_backend();
}

static void test_full_servers(void **state)
{
	struct ipaddr ip = address("192.0.2.1");
	struct server_choice choice = { 0 };

	(void)state;
	open_backend(BALANCE_FIRST, 3);
	servers[0].max_connections = 2;
	servers[1].max_connections = 1;
	servers[2].is_backup = true;
	for (long i = 0; i < 3; i++) {
		long chosen = choose(ip, 0);
		assert_int_equal(chosen, i / 2);
		server_acquire(&backend.servers[chosen]);
	}
	/* Backups are for servers that do not work, not for those that have much to do. */
	assert_null(backend_choose(&backend, &ip, 0, &choice));
	assert_true(choice.is_full);
	assert_false(backend_has_room(&backend, &choice, 0));
	server_idle(&backend.servers[1]);
	assert_true(backend_has_room(&backend, &choice, 0));
	assert_int_equal(choose(ip, 0), 1);
	server_busy(&backend.servers[1]);
	server_release(&backend.servers[0]);
	assert_int_equal(choose(ip, 0), 0);
	close_backend();
}

/* Not full any more, but down: then backups are due. */
static void test_full_and_down(void **state)
{
	(void)state;
	open_backend(BALANCE_FIRST, 2);
	servers[0].max_connections = 1;
	servers[1].is_backup = true;
	server_acquire(&backend.servers[0]);
	assert_int_equal(choose(address("192.0.2.1"), 0), -1);
	server_note(&backend.servers[0], SERVER_CONNECT_FAILED, 0);
	assert_int_equal(choose(address("192.0.2.1"), 0), 1);
	close_backend();
}

static void test_as_many_servers_as_there_may_be(void **state)
{
	struct ipaddr ip = address("192.0.2.1");
	struct server_choice choice = { 0 };

	(void)state;
	open_backend(BALANCE_FIRST, BACKEND_SERVERS_MAX);
	for (size_t i = 0; i < BACKEND_SERVERS_MAX; i++)
		assert_ptr_equal(backend_choose(&backend, &ip, 0, &choice), &backend.servers[i]);
	assert_null(backend_choose(&backend, &ip, 0, &choice));
	close_backend();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_order_given),
		cmocka_unit_test(test_each_in_turn),
		cmocka_unit_test(test_turns_by_weight),
		cmocka_unit_test(test_turns_of_one_that_was_away),
		cmocka_unit_test(test_the_fewest_connections),
		cmocka_unit_test(test_of_equals_the_one_that_rested),
		cmocka_unit_test(test_the_fewest_by_weight),
		cmocka_unit_test(test_by_the_client),
		cmocka_unit_test(test_by_the_client_and_weight),
		cmocka_unit_test(test_the_client_stays),
		cmocka_unit_test(test_servers_that_failed),
		cmocka_unit_test(test_failing_in_between),
		cmocka_unit_test(test_backups),
		cmocka_unit_test(test_no_weight_no_mail),
		cmocka_unit_test(test_full_servers),
		cmocka_unit_test(test_full_and_down),
		cmocka_unit_test(test_as_many_servers_as_there_may_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
