/* The state of a server, change by change, with a clock made by hand. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "backend/backend.h"
#include "support/servers.h"

#define SERVERS 2

static const struct smtp_capabilities capabilities;

static struct server_settings servers[SERVERS];
static struct backend_settings settings;
static struct backend backend;
static struct server *server, *other;

static int setup(void **state)
{
	(void)state;
	settings = make_backend_settings("a", BALANCE_FIRST, servers, SERVERS);
	backend_init(&backend, &settings);
	server = &backend.servers[0];
	other = &backend.servers[1];
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	backend_free(&backend);
	free_server_settings(servers, SERVERS);
	return 0;
}

static void note(enum server_event event, unsigned times, uint64_t now_ms)
{
	while (times-- > 0)
		server_note(server, event, now_ms);
}

static void learn(uint64_t now_ms)
{
	server_learn(server, &capabilities, now_ms);
}

#define assert_state(wanted) assert_int_equal(server->health.state, wanted)

/* ---- Down ------------------------------------------------------------------------------------------ */

static const enum server_event failures[] = { SERVER_CONNECT_FAILED, SERVER_BAD_GREETING,
	SERVER_GONE, SERVER_STALLED, SERVER_GOODBYE, SERVER_PROTOCOL };

static void test_failures_one_after_the_other(void **state)
{
	for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
		note(failures[i], 1, 1000);
		assert_state(SERVER_UP);
		assert_false(server_is_usable(server, 1000));
		assert_false(server_is_usable(server, 1000 + SERVER_AVOIDED_MS - 1));
		assert_true(server_is_usable(server, 1000 + SERVER_AVOIDED_MS));
		note(failures[i], 1, 50000);
		assert_state(SERVER_UP);
		note(failures[i], 1, 90000);
		assert_state(SERVER_DOWN);
		assert_false(server_is_usable(server, 90000 + SERVER_DOWN_MS - 1));
		assert_true(server_is_usable(server, 90000 + SERVER_DOWN_MS));
		teardown(state);
		setup(state);
	}
}

static void test_an_answer_between_failures(void **state)
{
	(void)state;
	for (size_t i = 0; i < 10; i++) {
		note(SERVER_GONE, 2, 1000);
		server_note(server, i % 2 ? SERVER_OK : SERVER_TEMPFAILED, 1000);
	}
	assert_state(SERVER_UP);
	assert_false(
		server_is_usable(server, 1000)); /* what an old connection brings proves little */
}

/* A server that greets and then fails does not fail less for greeting. */
static void test_a_greeting_between_failures(void **state)
{
	(void)state;
	for (size_t i = 0; i < 10; i++) {
		note(SERVER_CONNECT_FAILED, 2, 1000);
		learn(1000);
		assert_true(server_is_usable(server, 1000));
	}
	assert_state(SERVER_UP);
	note(SERVER_STALLED, 1, 1000);
	learn(1000);
	note(SERVER_STALLED, 1, 1000);
	learn(1000);
	note(SERVER_STALLED, 1, 1000);
	assert_state(SERVER_DOWN);
}

/* The last resort must not put the trial off. */
static void test_failures_while_down(void **state)
{
	(void)state;
	note(SERVER_CONNECT_FAILED, 3, 1000);
	uint64_t retry_ms = server->health.retry_ms;
	note(SERVER_CONNECT_FAILED, 20, retry_ms - 1);
	assert_int_equal(server->health.retry_ms, retry_ms);
	assert_int_equal(server->health.outages, 1);
}

/* ---- The trial ------------------------------------------------------------------------------------- */

static void test_one_trial_at_a_time(void **state)
{
	struct ipaddr client = ipaddr_from_v4((uint8_t[]){ 192, 0, 2, 1 });
	struct server_choice first = { 0 }, second = { 0 }, third = { 0 };
	uint64_t due = 1000 + SERVER_DOWN_MS;

	(void)state;
	note(SERVER_CONNECT_FAILED, 3, 1000);
	assert_ptr_equal(backend_choose(&backend, &client, due - 1, &first), other);
	first = (struct server_choice){ 0 };
	assert_ptr_equal(backend_choose(&backend, &client, due, &first), server);
	assert_state(SERVER_PROBING);
	assert_ptr_equal(backend_choose(&backend, &client, due, &second), other);
	/* Nobody tells how it went: another one. */
	assert_ptr_equal(backend_choose(&backend, &client, due + SERVER_TRIAL_MS, &third), server);
	assert_state(SERVER_PROBING);
}

static void poke(void *ctx)
{
	(*(unsigned *)ctx)++;
}

/* Where there are probes, one of them is the trial; if it does not come, a client's. */
static void test_the_trial_is_a_probe(void **state)
{
	unsigned pokes = 0;

	(void)state;
	server->probe_due = poke;
	server->probe_ctx = &pokes;
	note(SERVER_CONNECT_FAILED, 3, 1000);
	assert_int_equal(pokes, 3);
	uint64_t due = server->health.retry_ms;
	assert_false(server_is_usable(server, due));
	assert_false(server_is_usable(server, due + SERVER_TRIAL_MS - 1));
	assert_true(server_is_usable(server, due + SERVER_TRIAL_MS));
	server_begin_trial(server, due);
	assert_state(SERVER_PROBING);
	note(SERVER_CONNECT_FAILED, 1, due);
	assert_int_equal(pokes, 4);
	assert_state(SERVER_DOWN);
}

static void test_outages_grow(void **state)
{
	static const uint64_t lasts[] = { 10000, 20000, 40000, 80000, 160000, 300000, 300000,
		300000 };
	uint64_t now_ms = 1000;

	(void)state;
	note(SERVER_CONNECT_FAILED, 3, now_ms);
	for (size_t i = 0; i < sizeof(lasts) / sizeof(lasts[0]); i++) {
		assert_state(SERVER_DOWN);
		assert_int_equal(server->health.retry_ms - now_ms, lasts[i]);
		now_ms = server->health.retry_ms;
		server_begin_trial(server, now_ms);
		assert_state(SERVER_PROBING);
		note(SERVER_CONNECT_FAILED, 1, now_ms);
	}
}

/* Those that failed together are not tried together. */
static void test_jitter(void **state)
{
	(void)state;
	note(SERVER_CONNECT_FAILED, 3, 1000);
	for (size_t i = 0; i < 3; i++)
		server_note(other, SERVER_CONNECT_FAILED, 1000);
	assert_true(other->health.retry_ms > server->health.retry_ms);
	assert_true(other->health.retry_ms < server->health.retry_ms + SERVER_DOWN_MS / 10);
}

static void test_rise(void **state)
{
	(void)state;
	note(SERVER_CONNECT_FAILED, 3, 1000);
	server_begin_trial(server, 20000);
	learn(20000);
	/* The next one may try at once. */
	assert_state(SERVER_DOWN);
	assert_true(server_is_usable(server, 20000));
	server_begin_trial(server, 20000);
	note(SERVER_CONNECT_FAILED, 1, 20000);
	assert_state(SERVER_DOWN);
	assert_int_equal(server->health.successes, 0);
	server_begin_trial(server, 90000);
	learn(90000);
	learn(90000);
	assert_state(SERVER_UP);
	assert_true(server_is_usable(server, 90000));
}

/* A probe that finds a server there again need not wait for the trial; unless what fails comes
 * behind the greeting. */
static void test_greeted_while_down(void **state)
{
	(void)state;
	note(SERVER_CONNECT_FAILED, 3, 1000);
	learn(2000);
	learn(2000);
	assert_state(SERVER_UP);
	note(SERVER_GONE, 3, 3000);
	learn(4000);
	learn(4000);
	assert_state(SERVER_DOWN);
	learn(server->health.retry_ms);
	learn(server->health.retry_ms);
	assert_state(SERVER_UP);
}

static void test_old_connections_while_down(void **state)
{
	(void)state;
	note(SERVER_CONNECT_FAILED, 3, 1000);
	for (size_t i = 0; i < 10; i++)
		server_note(server, SERVER_OK, 1000);
	assert_state(SERVER_DOWN);
	assert_int_equal(server->health.successes, 0);
}

static void bring_up(uint64_t now_ms)
{
	learn(now_ms);
	learn(now_ms);
	assert_state(SERVER_UP);
}

static void test_steady_servers_begin_anew(void **state)
{
	(void)state;
	note(SERVER_CONNECT_FAILED, 3, 1000);
	bring_up(2000);
	note(SERVER_CONNECT_FAILED, 3, 2000 + SERVER_STEADY_MS - 1);
	assert_int_equal(server->health.outages, 2);
	bring_up(900000);
	note(SERVER_CONNECT_FAILED, 3, 900000 + SERVER_STEADY_MS);
	assert_int_equal(server->health.outages, 1);
}

/* ---- Slow start ------------------------------------------------------------------------------------ */

static void test_slow_start(void **state)
{
	static const struct {
		uint64_t after_ms, weight;
	} rows[] = { { 0, 40 }, { 3000, 40 }, { 6000, 80 }, { 15000, 200 }, { 29999, 396 },
		{ 30000, 400 }, { 999999, 400 } };

	(void)state;
	servers[0].weight = 4;
	assert_int_equal(server_weight(server, 0), 400);
	note(SERVER_CONNECT_FAILED, 3, 1000);
	assert_int_equal(server_weight(server, 1000), 40);
	bring_up(50000);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(server_weight(server, 50000 + rows[i].after_ms), rows[i].weight);
	settings.health.slow_start = 0;
	assert_int_equal(server_weight(server, 50000), 400);
}

/* ---- The share of 4xx ------------------------------------------------------------------------------ */

static void answer(struct server *of, unsigned good, unsigned bad, uint64_t now_ms)
{
	while (good-- > 0)
		server_note(of, SERVER_OK, now_ms);
	while (bad-- > 0)
		server_note(of, SERVER_TEMPFAILED, now_ms);
}

static void test_share_of_temporary_refusals(void **state)
{
	(void)state;
	answer(server, 0, 19, 100000);
	assert_state(SERVER_UP);
	answer(server, 19, 0, 100000);
	answer(server, 0, 2, 110000);
	assert_state(SERVER_DOWN);
	/* A greeting does not disprove it. */
	learn(110000);
	learn(110000);
	assert_state(SERVER_DOWN);
	bring_up(server->health.retry_ms);
	/* What was counted before is over. */
	answer(server, 0, 1, 130000);
	assert_state(SERVER_UP);
}

static void test_share_below_the_limit(void **state)
{
	(void)state;
	answer(server, 50, 50, 100000);
	answer(server, 0, 0, 100000);
	assert_state(SERVER_UP);
	settings.health.max_tempfail_share = 0;
	answer(server, 0, 500, 100000);
	assert_state(SERVER_UP);
}

static void test_share_of_the_last_minute(void **state)
{
	(void)state;
	answer(server, 0, 19, 100000);
	answer(server, 0, 1, 100000 + SERVER_SLICES * SERVER_SLICE_MS);
	assert_state(SERVER_UP);
	answer(server, 0, 18, 100000 + (SERVER_SLICES + 3) * SERVER_SLICE_MS);
	assert_state(SERVER_UP);
	answer(server, 0, 1, 100000 + (SERVER_SLICES + 5) * SERVER_SLICE_MS);
	assert_state(SERVER_DOWN);
}

/* When none does better, it is not this server. */
static void test_share_when_all_refuse(void **state)
{
	(void)state;
	server_note(other, SERVER_CONNECT_FAILED, 100000);
	answer(server, 0, 100, 100000);
	assert_state(SERVER_UP);
	server_learn(other, &capabilities, 100000);
	settings.health.max_tempfail_share = 0;
	answer(other, 0, 100, 100000);
	settings.health.max_tempfail_share = 50;
	answer(server, 0, 1, 100000);
	assert_state(SERVER_UP);
	servers[1].weight = 0;
	answer(server, 0, 1, 100000);
	assert_state(SERVER_UP);
}

/* ---- Probes ---------------------------------------------------------------------------------------- */

/* Less, to one client: promised to nobody for a while, or until it offers something else to all. */
static void test_what_one_client_is_not_offered(void **state)
{
	const struct smtp_capabilities all = { .extensions = SMTP_EXT_8BITMIME | SMTP_EXT_DSN };
	const struct smtp_capabilities less = { .extensions = SMTP_EXT_DSN };
	const struct smtp_capabilities none = { 0 };

	(void)state;
	server_learn(server, &all, 1000);
	server_learn_less(server, &none, 1000); /* HELO */
	assert_int_equal(server->capabilities.extensions, all.extensions);
	server_learn_less(server, &less, 1000);
	assert_int_equal(server->capabilities.extensions, less.extensions);
	server_learn(server, &all, 1000 + SERVER_WITHHELD_MS - 1);
	assert_int_equal(server->capabilities.extensions, less.extensions);
	server_learn(server, &all, 1000 + SERVER_WITHHELD_MS);
	assert_int_equal(server->capabilities.extensions, all.extensions);
	server_learn_less(server, &less, 2000);
	server_learn(server, &less, 3000);
	server_learn(server, &all, 4000);
	assert_int_equal(server->capabilities.extensions, all.extensions);
}

/* Nothing else comes of it, and the next refusals do not put the probe off. */
static void test_refused_client_brings_a_probe(void **state)
{
	(void)state;
	server_refused_client(server, 1000);
	assert_int_equal(server_next_probe_ms(server, 60000, 1000), SERVER_AVOIDED_MS / 2);
	server_refused_client(server, 4000);
	assert_int_equal(server_next_probe_ms(server, 60000, 4000), SERVER_AVOIDED_MS / 2 - 3000);
	assert_int_equal(server_next_probe_ms(server, 60000, 7000), 60000);
	assert_state(SERVER_UP);
	assert_true(server_is_usable(server, 1000));
}

static void test_when_a_probe_is_due(void **state)
{
	(void)state;
	assert_int_equal(server_next_probe_ms(server, 60000, 1000), 60000);
	note(SERVER_CONNECT_FAILED, 1, 1000);
	assert_int_equal(server_next_probe_ms(server, 60000, 1000), SERVER_AVOIDED_MS / 2);
	assert_int_equal(server_next_probe_ms(server, 60000, 1000 + SERVER_AVOIDED_MS), 60000);
	note(SERVER_CONNECT_FAILED, 2, 1000);
	assert_int_equal(server_next_probe_ms(server, 60000, 1000), SERVER_DOWN_MS);
	assert_int_equal(server_next_probe_ms(server, 60000, 5000), SERVER_DOWN_MS - 4000);
	assert_int_equal(server_next_probe_ms(server, 1500, 5000), 1500);
	learn(6000);
	assert_in_range(server_next_probe_ms(server, 60000, 6000), 1, 5000);
	learn(8000);
	assert_int_equal(server_next_probe_ms(server, 60000, 8000), 60000);
}

/* ---- Of no use ------------------------------------------------------------------------------------- */

/* From the last of its failures until it is up again, its trial included. */
static void test_out(void **state)
{
	(void)state;
	assert_false(server_is_out(server)); /* nobody has tried it */
	note(SERVER_CONNECT_FAILED, 2, 1000);
	assert_false(server_is_out(server));
	note(SERVER_CONNECT_FAILED, 1, 1000);
	assert_true(server_is_out(server));
	uint64_t due = server->health.retry_ms;
	server_begin_trial(server, due);
	assert_true(server_is_out(server));
	note(SERVER_CONNECT_FAILED, 1, due);
	assert_true(server_is_out(server));
	due = server->health.retry_ms;
	learn(due);
	assert_true(server_is_out(server));
	learn(due);
	assert_false(server_is_out(server));
}

/* Who greets is of use, if only as a last resort. */
static void test_who_greets_is_not_out(void **state)
{
	(void)state;
	answer(server, 0, 20, 100000);
	assert_state(SERVER_DOWN);
	assert_false(server_is_out(server));
	for (size_t i = 0; i < 3; i++)
		server_note(other, SERVER_GONE, 100000);
	assert_false(server_is_out(other));
	server_begin_trial(server, server->health.retry_ms);
	note(SERVER_CONNECT_FAILED, 1, 200000);
	assert_true(server_is_out(server));
}

static void test_no_address_is_out(void **state)
{
	struct server_settings named = { .weight = 1 };
	struct server nameless = { .settings = &named };
	struct err why;

	(void)state;
	assert_true(backend_address_parse(STR("mx.test:25"), &named.address, &why));
	assert_false(server_is_out(&nameless)); /* it has not been looked up yet */
	nameless.is_looked_up = true;
	assert_true(server_is_out(&nameless));
	nameless.target_count = 1;
	assert_false(server_is_out(&nameless));
	backend_address_free(&named.address);
}

static void test_backend_is_out(void **state)
{
	(void)state;
	note(SERVER_BAD_GREETING, 3, 1000);
	assert_true(server_is_out(server));
	assert_false(backend_is_out(&backend));
	servers[1].weight = 0; /* it is up, but never chosen */
	assert_true(backend_is_out(&backend));
	servers[1].weight = 1;
	for (size_t i = 0; i < 3; i++)
		server_note(other, SERVER_CONNECT_FAILED, 1000);
	assert_true(backend_is_out(&backend));
	servers[0].is_backup = true;
	bring_up(server->health.retry_ms);
	assert_false(backend_is_out(&backend));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_failures_one_after_the_other),
		TEST(test_an_answer_between_failures),
		TEST(test_a_greeting_between_failures),
		TEST(test_failures_while_down),
		TEST(test_one_trial_at_a_time),
		TEST(test_the_trial_is_a_probe),
		TEST(test_outages_grow),
		TEST(test_jitter),
		TEST(test_rise),
		TEST(test_greeted_while_down),
		TEST(test_old_connections_while_down),
		TEST(test_steady_servers_begin_anew),
		TEST(test_slow_start),
		TEST(test_share_of_temporary_refusals),
		TEST(test_share_below_the_limit),
		TEST(test_share_of_the_last_minute),
		TEST(test_share_when_all_refuse),
		TEST(test_what_one_client_is_not_offered),
		TEST(test_refused_client_brings_a_probe),
		TEST(test_when_a_probe_is_due),
		TEST(test_out),
		TEST(test_who_greets_is_not_out),
		TEST(test_no_address_is_out),
		TEST(test_backend_is_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
