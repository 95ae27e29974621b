#include "backend/route.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/smtp_params.h"
#include "support/servers.h"

static struct ipaddr address(const char *text)
{
	struct ipaddr ip;

	assert_true(ipaddr_parse(str_from(text), &ip));
	return ip;
}

static struct server_settings servers[3][2];
static struct backend_settings backend_settings[3];
static struct backend backends[3];

static void open_backends(void)
{
	static const char *const names[] = { "a", "b", "c" };

	for (size_t i = 0; i < 3; i++) {
		backend_settings[i] = make_backend_settings(names[i], BALANCE_FIRST, servers[i], 2);
		backend_init(&backends[i], &backend_settings[i]);
	}
}

static void close_backends(void)
{
	for (size_t i = 0; i < 3; i++) {
		backend_free(&backends[i]);
		free_server_settings(servers[i], 2);
	}
}

/* A path as the parser makes it. */
static struct smtp_path path_of(const char *text)
{
	struct smtp_path path = { .address = str_from(text) };
	size_t at = str_rfind(path.address, '@');

	path.user = str_range(path.address, 0, at);
	path.host = str_from_pos(path.address, at + 1);
	return path;
}

static void open_table(struct route_table *table, struct route_settings *routes, size_t count,
	size_t backend_count)
{
	struct conf_list list = { routes, count };
	struct err err = { "" };

	if (route_table_open(table, &list, backends, backend_count, &err) < 0)
		fail_msg("%s", err.text);
}

/* The name of the backend for an envelope, or "-". `user`: who authenticated, or NULL. */
static const char *route_of_user(const struct route_table *table, const char *listener,
	const char *client, const char *user, const char *sender, const char *recipient)
{
	struct auth_info auth = { .user = str_from(user) };
	struct recipient candidate = { .path = path_of(recipient) };
	struct transaction transaction = { .mail_from = path_of(sender), .candidate = &candidate };
	struct connection connection = {
		.listener = str_from(listener),
		.remote.address.ip = address(client),
		.transaction = &transaction,
		.auth = user ? &auth : NULL,
	};
	const struct backend *backend = route_find(table, &connection);

	return backend ? backend->settings->name.p : "-";
}

static const char *route_of(const struct route_table *table, const char *listener,
	const char *client, const char *sender, const char *recipient)
{
	return route_of_user(table, listener, client, NULL, sender, recipient);
}

static struct str listeners[] = { STR_INIT("mx"), STR_INIT("inside") };
static struct str domains[] = { STR_INIT("example.com"), STR_INIT(".example.org") };
static struct str recipients[] = { STR_INIT("Info@example.net"), STR_INIT("vip@example.com") };
static struct str senders[] = { STR_INIT("news@example.org"), STR_INIT("lists.example"),
	STR_INIT(".below.example") };

static void test_routes(void **state)
{
	static struct ipnet networks[1];
	struct route_settings routes[] = {
		{ .listeners = { listeners + 1, 1 }, .backend = STR_INIT("c") },
		{ .networks = { networks, 1 }, .backend = STR_INIT("b") },
		{ .senders = { senders, 3 }, .backend = STR_INIT("c") },
		{ .recipients = { recipients, 1 },
			.domains = { domains, 2 },
			.backend = STR_INIT("a") },
		{ .recipients = { recipients, 2 }, .backend = STR_INIT("b") },
		{ .listeners = { listeners, 2 },
			.domains = { domains, 1 },
			.backend = STR_INIT("c") },
	};
	static const struct {
		const char *listener, *client, *sender, *recipient, *backend;
	} rows[] = {
		/* By domain: exact, and everything below; in any case; not what only looks so. */
		{ "mx", "192.0.2.1", "x@y.example", "u@example.com", "a" },
		{ "mx", "192.0.2.1", "x@y.example", "u@EXAMPLE.com", "a" },
		{ "mx", "192.0.2.1", "x@y.example", "u@sub.example.com", "-" },
		{ "mx", "192.0.2.1", "x@y.example", "u@sub.example.org", "a" },
		{ "mx", "192.0.2.1", "x@y.example", "u@a.b.example.org", "a" },
		{ "mx", "192.0.2.1", "x@y.example", "u@example.org", "-" },
		{ "mx", "192.0.2.1", "x@y.example", "u@notexample.org", "-" },
		{ "mx", "192.0.2.1", "x@y.example", "u@example.com.test", "-" },
		/* By whole address: `domains` and `recipients` are two ways to name one. */
		{ "mx", "192.0.2.1", "x@y.example", "info@example.net", "a" },
		{ "mx", "192.0.2.1", "x@y.example", "other@example.net", "-" },
		{ "mx", "192.0.2.1", "x@y.example", "vip@example.com", "a" },
		{ "mx", "192.0.2.1", "x@y.example", "postmaster", "-" },
		/* By sender. */
		{ "mx", "192.0.2.1", "news@example.org", "u@example.com", "c" },
		{ "mx", "192.0.2.1", "other@example.org", "u@example.com", "a" },
		{ "mx", "192.0.2.1", "x@lists.example", "u@example.com", "c" },
		{ "mx", "192.0.2.1", "x@sub.below.example", "u@example.com", "c" },
		{ "mx", "192.0.2.1", "x@below.example", "u@example.com", "a" },
		{ "mx", "192.0.2.1", "", "u@example.com", "a" },
		/* By network of the client, and by listener, which comes first. */
		{ "mx", "10.9.1.2", "x@y.example", "u@elsewhere.example", "b" },
		{ "mx", "::ffff:10.9.1.2", "x@y.example", "u@elsewhere.example", "b" },
		{ "inside", "10.9.1.2", "x@y.example", "u@elsewhere.example", "c" },
		{ "insider", "192.0.2.1", "x@y.example", "u@elsewhere.example", "-" },
	};
	struct route_table table;

	(void)state;
	assert_true(ipnet_parse(STR("10.9.0.0/16"), &networks[0]));
	open_backends();
	open_table(&table, routes, 6, 3);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *backend = route_of(&table, rows[i].listener, rows[i].client,
			rows[i].sender, rows[i].recipient);
		if (strcmp(backend, rows[i].backend) != 0)
			fail_msg("%s from %s: %s", rows[i].recipient, rows[i].sender, backend);
	}
	route_table_close(&table);
	close_backends();
}

/* A route whose conditions are all empty matches everything; without routes there is one backend. */
static void test_routes_that_are_few(void **state)
{
	struct route_settings routes[] = { { .backend = STR_INIT("b") } };
	struct route_table last, none;

	(void)state;
	open_backends();
	open_table(&last, routes, 1, 3);
	open_table(&none, NULL, 0, 1);
	assert_string_equal(route_of(&last, "mx", "192.0.2.1", "", "postmaster"), "b");
	assert_string_equal(route_of(&none, "mx", "192.0.2.1", "", "postmaster"), "a");
	route_table_close(&last);
	route_table_close(&none);
	close_backends();
}

/* Who authenticated. */
static void test_routes_of_users(void **state)
{
	static struct str users[] = { STR_INIT("alice"), STR_INIT("@Example.com"), STR_INIT("@") };
	static struct str anybody[] = { STR_INIT("*") };
	struct route_settings routes[] = {
		{ .users = { users, 3 }, .backend = STR_INIT("a") },
		{ .users = { anybody, 1 }, .backend = STR_INIT("b") },
		{ .backend = STR_INIT("c") },
	};
	static const struct {
		const char *user, *backend;
	} rows[] = {
		{ NULL, "c" }, { "alice", "a" },
		{ "Alice", "b" }, /* names are not compared as domains are */
		{ "alice2", "b" }, { "bob@example.com", "a" }, { "bob@EXAMPLE.COM", "a" },
		{ "bob@sub.example.com", "b" }, { "bob@notexample.com", "b" },
		{ "@example.com", "b" }, { "bob@", "b" }, { "@", "a" }, /* a name like any other */
	};
	struct route_table table;

	(void)state;
	open_backends();
	open_table(&table, routes, 3, 3);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *backend = route_of_user(
			&table, "mx", "192.0.2.1", rows[i].user, "x@y.example", "u@z.example");
		if (strcmp(backend, rows[i].backend) != 0)
			fail_msg("%s: %s", rows[i].user ? rows[i].user : "nobody", backend);
	}
	route_table_close(&table);
	close_backends();
}

/* ---- Maps ----------------------------------------------------------------------------------- */

static char map_path[] = "/tmp/gatepost-routes-XXXXXX";

static void write_map(const char *text)
{
	FILE *file = fopen(map_path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static int make_map(void **state)
{
	(void)state;
	memcpy(map_path + sizeof(map_path) - 7, "XXXXXX", 6);
	int fd = mkstemp(map_path);
	assert_true(fd >= 0);
	close(fd);
	open_backends();
	return 0;
}

static int remove_map(void **state)
{
	(void)state;
	close_backends();
	return unlink(map_path);
}

static void test_routes_by_map(void **state)
{
	struct route_settings routes[] = {
		{ .listeners = { listeners, 1 }, .map = str_from(map_path) },
		{ .domains = { domains, 1 }, .backend = STR_INIT("c") },
	};
	static const struct {
		const char *listener, *recipient, *backend;
	} rows[] = {
		{ "mx", "info@example.net", "a" },
		{ "mx", "INFO@example.net", "a" },
		{ "mx", "\"in\\fo\"@example.net", "a" },
		{ "mx", "info+list@example.net", "a" },
		{ "mx", "info+vip@example.net", "b" },
		{ "mx", "other@example.net", "b" },
		{ "mx", "other@sub.example.net", "c" },
		{ "mx", "other@a.sub.example.net", "c" },
		{ "mx", "info@sub.example.net", "c" },
		{ "mx", "u@example.org", "a" },
		{ "mx", "u@[IPv6:2001:db8::1]", "a" },
		/* What it does not have goes on; and so do clients that the route is not for. */
		{ "mx", "u@example.com", "c" },
		{ "mx", "vip@example.com", "b" },
		{ "mx", "u@elsewhere.example", "-" },
		{ "mx", "postmaster", "-" },
		{ "inside", "info@example.net", "-" },
		{ "inside", "vip@example.com", "c" },
	};
	struct route_table table;

	(void)state;
	write_map("Info@example.net a\ninfo+vip@example.net b\nexample.net b\n"
		  ".example.net c\n@example.org a\nvip@example.com b\n[IPv6:2001:db8::1] a\n");
	open_table(&table, routes, 2, 3);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *backend =
			route_of(&table, rows[i].listener, "192.0.2.1", "", rows[i].recipient);
		if (strcmp(backend, rows[i].backend) != 0)
			fail_msg("%s: %s", rows[i].recipient, backend);
	}
	route_table_close(&table);
}

static void test_map_changes(void **state)
{
	struct route_settings routes[] = { { .map = str_from(map_path) } };
	struct route_table table;

	(void)state;
	write_map("x a\n");
	open_table(&table, routes, 1, 3);
	assert_string_equal(route_of(&table, "mx", "192.0.2.1", "", "u@x"), "a");
	assert_false(route_offer(&table, STR("mx"), 1000).one_destination);
	write_map("x b\ny c\n");
	route_table_refresh(&table, true);
	assert_string_equal(route_of(&table, "mx", "192.0.2.1", "", "u@x"), "b");
	assert_true(route_offer(&table, STR("mx"), 1000).one_destination);
	/* Of a file with a mistake nothing counts, for the offer neither. */
	write_map("x a\ny a\nz d\n");
	route_table_refresh(&table, true);
	assert_string_equal(route_of(&table, "mx", "192.0.2.1", "", "u@x"), "b");
	assert_true(route_offer(&table, STR("mx"), 1000).one_destination);
	write_map("* c\n");
	route_table_refresh(&table, true);
	assert_string_equal(route_of(&table, "mx", "192.0.2.1", "", "postmaster"), "c");
	assert_false(route_offer(&table, STR("mx"), 1000).one_destination);
	route_table_close(&table);
}

static void test_map_that_is_wrong(void **state)
{
	struct route_settings routes[] = { { .backend = STR_INIT("a") },
		{ .map = str_from(map_path) } };
	struct conf_list list = { routes, 2 };
	struct route_table table;
	char wanted[200];
	struct err err = { "" };

	(void)state;
	write_map("x a\ny mta\n");
	assert_int_equal(route_table_open(&table, &list, backends, 3, &err), -1);
	snprintf(wanted, sizeof(wanted), "routes: %s:2: y: there is no backend \"mta\"", map_path);
	assert_string_equal(err.text, wanted);
	route_table_close(&table);
}

/* ---- What may be offered ------------------------------------------------------------------ */

#define OURS (SMTP_EXT_PIPELINING | SMTP_EXT_SIZE | SMTP_EXT_ENHANCEDSTATUSCODES | SMTP_EXT_LIMITS)
#define SHARED (SMTP_EXT_8BITMIME | SMTP_EXT_SMTPUTF8 | SMTP_EXT_DSN)

#define SIZE 10000000

static void learn(size_t backend, size_t server, unsigned extensions, uint64_t size)
{
	struct smtp_capabilities capabilities = { .extensions = extensions, .size = size };

	server_learn(&backends[backend].servers[server], &capabilities, 1000);
}

static void test_offers(void **state)
{
	struct route_table table;

	(void)state;
	open_backends();
	open_table(&table, NULL, 0, 1);
	/* Of a server that was never heard nothing is promised. */
	struct smtp_offer offer = route_offer(&table, STR("mx"), SIZE);
	assert_int_equal(offer.extensions, OURS);
	assert_int_equal(offer.size, SIZE);
	assert_false(offer.one_destination);
	learn(0, 0, SHARED | SMTP_EXT_CHUNKING | SMTP_EXT_STARTTLS | SMTP_EXT_XCLIENT, 0);
	/* One that was never reached takes nothing away: when it comes into use, what it lacks makes
	 * us try the next. */
	assert_int_equal(route_offer(&table, STR("mx"), SIZE).extensions, OURS | SHARED);
	/* What all have, and nothing that only passes through. */
	learn(0, 1, SMTP_EXT_8BITMIME | SMTP_EXT_DSN | SMTP_EXT_AUTH, 5000000);
	offer = route_offer(&table, STR("mx"), SIZE);
	assert_int_equal(offer.extensions, OURS | SMTP_EXT_8BITMIME | SMTP_EXT_DSN);
	assert_int_equal(offer.size, 5000000);
	/* A larger size than ours does not enlarge it; a server that changes changes the offer. */
	learn(0, 1, SHARED, 99000000);
	offer = route_offer(&table, STR("mx"), SIZE);
	assert_int_equal(offer.extensions, OURS | SHARED);
	assert_int_equal(offer.size, SIZE);
	/* One that failed may come back as it was. */
	server_note(&backends[0].servers[1], SERVER_CONNECT_FAILED, 1000);
	assert_int_equal(route_offer(&table, STR("mx"), SIZE).extensions, OURS | SHARED);
	route_table_close(&table);
	close_backends();
}

/* Only backends that the listener's routes lead to count, and whether there is more than one. */
static void test_offers_over_routes(void **state)
{
	struct route_settings routes[] = {
		{ .listeners = { listeners, 1 },
			.domains = { domains, 1 },
			.backend = STR_INIT("a") },
		{ .listeners = { listeners + 1, 1 }, .backend = STR_INIT("b") },
		{ .listeners = { listeners, 1 }, .backend = STR_INIT("a") },
		{ .domains = { domains + 1, 1 }, .backend = STR_INIT("c") },
	};
	struct route_table table;

	(void)state;
	open_backends();
	open_table(&table, routes, 3, 3);
	for (size_t i = 0; i < 2; i++) {
		learn(0, i, SHARED, 3000);
		learn(1, i, SMTP_EXT_DSN, 2000);
		learn(2, i, SMTP_EXT_8BITMIME, 1000);
	}
	struct smtp_offer offer = route_offer(&table, STR("mx"), SIZE);
	assert_int_equal(offer.extensions, OURS | SHARED);
	assert_int_equal(offer.size, 3000);
	assert_false(offer.one_destination); /* both routes lead to one backend */
	assert_int_equal(offer.recipients, 0);
	offer = route_offer(&table, STR("inside"), SIZE);
	assert_int_equal(offer.extensions, OURS | SMTP_EXT_DSN);
	assert_int_equal(offer.size, 2000);
	route_table_close(&table);
	open_table(&table, routes, 4, 3);
	offer = route_offer(&table, STR("mx"), SIZE);
	assert_int_equal(offer.extensions, OURS | SMTP_EXT_8BITMIME);
	assert_int_equal(offer.size, 1000);
	assert_true(offer.one_destination);
	assert_true(route_offer(&table, STR("inside"), SIZE).one_destination);
	route_table_close(&table);
	close_backends();
}

static void put_out(size_t backend, bool is_out)
{
	for (size_t i = 0; i < 2; i++)
		for (size_t n = 0; n < 3; n++)
			if (is_out)
				server_note(
					&backends[backend].servers[i], SERVER_CONNECT_FAILED, 1000);
			else
				learn(backend, i, SHARED, 0);
}

/* A listener has a server while one of those that its routes lead to is of use. */
static void test_listeners_without_a_server(void **state)
{
	struct route_settings routes[] = {
		{ .listeners = { listeners, 1 },
			.domains = { domains, 1 },
			.backend = STR_INIT("a") },
		{ .listeners = { listeners, 1 }, .backend = STR_INIT("b") },
		{ .listeners = { listeners + 1, 1 }, .backend = STR_INIT("c") },
	};
	struct route_table table;

	(void)state;
	open_backends();
	open_table(&table, routes, 3, 3);
	put_out(2, true);
	assert_true(route_has_server(&table, STR("mx")));
	assert_false(route_has_server(&table, STR("inside")));
	put_out(0, true);
	assert_true(route_has_server(&table, STR("mx")));
	put_out(1, true);
	assert_false(route_has_server(&table, STR("mx")));
	put_out(0, false);
	assert_true(route_has_server(&table, STR("mx")));
	assert_true(route_has_server(&table, STR("leads nowhere")));
	route_table_close(&table);
	close_backends();
}

/* A map leads to all that it names, and to no others. */
static void test_offers_over_a_map(void **state)
{
	struct route_settings routes[] = {
		{ .listeners = { listeners, 1 }, .map = str_from(map_path) },
		{ .backend = STR_INIT("a") },
	};
	struct route_table table;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		learn(0, i, SHARED, 3000);
		learn(1, i, SMTP_EXT_DSN, 2000);
		learn(2, i, SMTP_EXT_8BITMIME, 1000);
	}
	write_map("x b\ny b\nz a\n");
	open_table(&table, routes, 2, 3);
	struct smtp_offer offer = route_offer(&table, STR("mx"), SIZE);
	assert_int_equal(offer.extensions, OURS | SMTP_EXT_DSN);
	assert_int_equal(offer.size, 2000);
	assert_true(offer.one_destination);
	offer = route_offer(&table, STR("inside"), SIZE);
	assert_int_equal(offer.extensions, OURS | SHARED);
	assert_false(offer.one_destination);
	route_table_close(&table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_routes),
		cmocka_unit_test(test_routes_that_are_few),
		cmocka_unit_test(test_offers),
		cmocka_unit_test(test_offers_over_routes),
		cmocka_unit_test(test_listeners_without_a_server),
		cmocka_unit_test(test_routes_of_users),
		cmocka_unit_test_setup_teardown(test_routes_by_map, make_map, remove_map),
		cmocka_unit_test_setup_teardown(test_map_changes, make_map, remove_map),
		cmocka_unit_test_setup_teardown(test_map_that_is_wrong, make_map, remove_map),
		cmocka_unit_test_setup_teardown(test_offers_over_a_map, make_map, remove_map),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
