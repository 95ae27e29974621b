#include "backend/route.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/smtp_params.h"

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

static struct backend_settings backend_settings[3];
static struct backend backends[3];

static void open_backends(void)
{
	static const char *const names[] = { "a", "b", "c" };

	for (size_t i = 0; i < 3; i++) {
		backend_settings[i] = settings_of(names[i], BALANCE_FIRST, 2);
		backend_init(&backends[i], &backend_settings[i]);
	}
}

static void close_backends(void)
{
	for (size_t i = 0; i < 3; i++)
		backend_free(&backends[i]);
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

/* The name of the backend for an envelope, or "-". */
static const char *route_of(const struct route_table *table, const char *listener,
	const char *client, const char *sender, const char *recipient)
{
	struct recipient candidate = { .path = path_of(recipient) };
	struct transaction transaction = { .mail_from = path_of(sender), .candidate = &candidate };
	struct connection connection = {
		.listener = str_from(listener),
		.remote.address.ip = address(client),
		.transaction = &transaction,
	};
	const struct backend *backend = route_find(table, &connection);

	return backend ? backend->settings->name.p : "-";
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
	struct route_table table = { routes, 6, backends, 3 };

	(void)state;
	assert_true(ipnet_parse(STR("10.9.0.0/16"), &networks[0]));
	open_backends();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *backend = route_of(&table, rows[i].listener, rows[i].client,
			rows[i].sender, rows[i].recipient);
		if (strcmp(backend, rows[i].backend) != 0)
			fail_msg("%s from %s: %s", rows[i].recipient, rows[i].sender, backend);
	}
	close_backends();
}

/* A route whose conditions are all empty matches everything; without routes there is one backend. */
static void test_routes_that_are_few(void **state)
{
	struct route_settings routes[] = { { .backend = STR_INIT("b") } };
	struct route_table last = { routes, 1, backends, 3 };
	struct route_table none = { NULL, 0, backends, 1 };

	(void)state;
	open_backends();
	assert_string_equal(route_of(&last, "mx", "192.0.2.1", "", "postmaster"), "b");
	assert_string_equal(route_of(&none, "mx", "192.0.2.1", "", "postmaster"), "a");
	close_backends();
}

/* ---- What may be offered ------------------------------------------------------------------ */

#define OURS (SMTP_EXT_PIPELINING | SMTP_EXT_SIZE | SMTP_EXT_ENHANCEDSTATUSCODES | SMTP_EXT_LIMITS)
#define SHARED (SMTP_EXT_8BITMIME | SMTP_EXT_SMTPUTF8 | SMTP_EXT_DSN)

#define SIZE 10000000

static void learn(size_t backend, size_t server, unsigned extensions, uint64_t size)
{
	struct smtp_capabilities capabilities = { .extensions = extensions, .size = size };

	server_learn(&backends[backend].servers[server], &capabilities);
}

static void test_offers(void **state)
{
	struct route_table table = { NULL, 0, backends, 1 };

	(void)state;
	open_backends();
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
	server_failed(&backends[0].servers[1], 1000);
	assert_int_equal(route_offer(&table, STR("mx"), SIZE).extensions, OURS | SHARED);
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
	struct route_table table = { routes, 3, backends, 3 };

	(void)state;
	open_backends();
	for (size_t i = 0; i < 2; i++) {
		learn(0, i, SHARED, 3000);
		learn(1, i, SMTP_EXT_DSN, 2000);
		learn(2, i, SMTP_EXT_8BITMIME, 1000);
	}
	struct smtp_offer offer = route_offer(&table, STR("mx"), SIZE);
	assert_int_equal(offer.extensions, OURS | SHARED);
	assert_int_equal(offer.size, 3000);
	assert_false(offer.one_destination); /* both routes lead to one backend */
	offer = route_offer(&table, STR("inside"), SIZE);
	assert_int_equal(offer.extensions, OURS | SMTP_EXT_DSN);
	assert_int_equal(offer.size, 2000);
	table.count = 4;
	offer = route_offer(&table, STR("mx"), SIZE);
	assert_int_equal(offer.extensions, OURS | SMTP_EXT_8BITMIME);
	assert_int_equal(offer.size, 1000);
	assert_true(offer.one_destination);
	assert_true(route_offer(&table, STR("inside"), SIZE).one_destination);
	close_backends();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_routes),
		cmocka_unit_test(test_routes_that_are_few),
		cmocka_unit_test(test_offers),
		cmocka_unit_test(test_offers_over_routes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
