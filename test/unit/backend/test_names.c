#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <unistd.h>

#include "backend/backend.h"
#include "backend/names.h"
#include "backend/server.h"
#include "base/log.h"
#include "support/loop_run.h"
#include "support/servers.h"

/* ---- A resolver that is the test: in place of net/resolver_forward.c ------------------------------ */

enum { QUESTIONS_MAX = 16 };

struct resolver_forward {
	char name[64];
	void (*answered)(void *ctx, const struct resolver_addresses *addresses);
	void *ctx;
	bool is_open;
};

static struct resolver_forward questions[QUESTIONS_MAX];
static size_t asked, abandoned;

struct resolver_forward *resolver_forward(struct resolver *resolver, struct str name,
	void (*answered)(void *ctx, const struct resolver_addresses *addresses), void *ctx)
{
	struct resolver_forward *question = &questions[asked];

	assert_null(resolver);
	assert_true(asked < QUESTIONS_MAX && name.n < sizeof(question->name));
	asked++;
	*question = (struct resolver_forward){ .answered = answered, .ctx = ctx, .is_open = true };
	memcpy(question->name, name.p, name.n);
	return question;
}

void resolver_forward_abandon(struct resolver_forward **question)
{
	if (*question != NULL) {
		assert_true((*question)->is_open);
		(*question)->is_open = false;
		abandoned++;
	}
	*question = NULL;
}

/* The latest question about this name is answered: "192.0.2.1 192.0.2.2", or "" with a reason. */
static void answer(const char *name, enum resolver_status status, const char *list, uint32_t ttl_s)
{
	struct ipaddr items[RESOLVER_ADDRESSES_MAX];
	struct resolver_addresses addresses = { .status = status, .items = items, .ttl_s = ttl_s };
	struct str rest = str_from(list);
	struct resolver_forward *question = &questions[asked];

	while (rest.n > 0)
		assert_true(ipaddr_parse(str_cut(&rest, ' '), &items[addresses.count++]));
	do
		assert_true(question-- > questions);
	while (!question->is_open || strcmp(question->name, name) != 0);
	question->is_open = false;
	question->answered(question->ctx, &addresses);
}

/* ---- Two backends: "one", "two" and an address; "three" ------------------------------------------- */

enum { SERVERS = 4 };

static const char *const addresses[SERVERS] = { "one.example:25", "two.example:26", "192.0.2.9:25",
	"three.example:25" };

struct world {
	struct loop *loop;
	struct server_settings list[SERVERS];
	struct backend_settings settings[2];
	struct backend backends[2];
	struct names *names;
	unsigned rounds;
};

static char log_path[] = "/tmp/test_names.XXXXXX";

/* How many records of this event there are. */
static unsigned logged(const char *event)
{
	char line[2048];
	unsigned found = 0;
	FILE *file;

	log_flush();
	file = fopen(log_path, "r");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file) != NULL)
		found += strstr(line, event) != NULL;
	fclose(file);
	return found;
}

static void count_round(void *ctx)
{
	struct world *world = ctx;

	world->rounds++;
}

static int setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));
	struct err why;

	asked = abandoned = 0;
	world->loop = loop_new();
	for (size_t i = 0; i < SERVERS; i++) {
		world->list[i] = (struct server_settings){ .weight = 1 };
		assert_true(backend_address_parse(
			str_from(addresses[i]), &world->list[i].address, &why));
	}
	for (size_t i = 0; i < 2; i++) {
		world->settings[i] = (struct backend_settings){ .name = STR("mta"),
			.servers = { world->list + (i > 0 ? 3 : 0), i > 0 ? 1 : 3 } };
		backend_init(&world->backends[i], &world->settings[i]);
	}
	assert_int_equal(truncate(log_path, 0), 0);
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;

	names_free(&world->names);
	assert_null(world->names);
	for (size_t i = 0; i < 2; i++)
		backend_free(&world->backends[i]);
	free_server_settings(world->list, SERVERS);
	loop_free(&world->loop);
	free(world);
	return 0;
}

static void begin(struct world *world, size_t backends)
{
	world->names = names_new(world->loop, NULL, world->backends, backends, count_round, world);
}

static void assert_addresses(const struct server *server, const char *wanted)
{
	char text[ENDPOINT_TEXT_MAX], list[512] = "";
	size_t n = 0;

	for (unsigned i = 0; i < server->target_count; i++)
		n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", n > 0 ? " " : "",
			endpoint_print(&server->targets[i].endpoint, text));
	assert_string_equal(list, wanted);
}

static bool is_asked(void *ctx)
{
	return asked >= *(size_t *)ctx;
}

static bool wait_asked(struct world *world, size_t wanted)
{
	return loop_run_while(world->loop, LOOP_RUN_LIMIT_MS, is_asked, &wanted);
}

/* ---- Tests ---------------------------------------------------------------------------------------- */

/* All at once, and the round is over with the last answer, be it a bad one. */
static void test_the_first_round(void **state)
{
	struct world *world = *state;
	struct server *servers = world->backends[0].servers;

	begin(world, 2);
	assert_int_equal(asked, 3); /* an address needs no answer */
	assert_string_equal(questions[0].name, "one.example");
	assert_string_equal(questions[1].name, "two.example");
	assert_string_equal(questions[2].name, "three.example");
	answer("two.example", RESOLVER_OK, "192.0.2.2 2001:db8::2", 3600);
	answer("three.example", RESOLVER_NONE, "", 0);
	assert_int_equal(world->rounds, 0);
	assert_false(servers[0].is_looked_up);
	answer("one.example", RESOLVER_OK, "192.0.2.1", 3600);
	assert_int_equal(world->rounds, 1);
	assert_addresses(&servers[0], "192.0.2.1:25");
	assert_addresses(&servers[1], "192.0.2.2:26 [2001:db8::2]:26");
	assert_addresses(&servers[2], "192.0.2.9:25");
	assert_false(server_has_address(&world->backends[1].servers[0]));
	assert_true(world->backends[1].servers[0].is_looked_up);
	assert_int_equal(logged("name_resolved"), 2);
	assert_int_equal(logged("name_failed"), 1);
}

static void test_no_names(void **state)
{
	struct world *world = *state;

	world->settings[0].servers.items = world->list + 2;
	world->settings[0].servers.count = 1;
	backend_free(&world->backends[0]);
	backend_init(&world->backends[0], &world->settings[0]);
	begin(world, 1);
	assert_int_equal(world->rounds, 0); /* never from inside the call */
	loop_run_for(world->loop, 1);
	assert_int_equal(world->rounds, 1);
	assert_int_equal(asked, 0);
}

/* By the TTL, never sooner than nine tenths of it; changes are logged, and what stays is not. */
static void test_asked_again(void **state)
{
	static const struct {
		const char *list, *wanted;
		unsigned resolved;
	} rows[] = {
		{ "192.0.2.1 192.0.2.2", "192.0.2.1:25 192.0.2.2:25", 1 },
		{ "192.0.2.2 192.0.2.1", "192.0.2.2:25 192.0.2.1:25", 1 },
		{ "192.0.2.3", "192.0.2.3:25", 2 },
	};
	struct world *world = *state;

	begin(world, 1);
	answer("two.example", RESOLVER_OK, "192.0.2.7", 3600);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t begun_ms = loop_now_ms(world->loop);
		answer("one.example", RESOLVER_OK, rows[i].list, 1);
		assert_addresses(&world->backends[0].servers[0], rows[i].wanted);
		assert_int_equal(logged("one.example"), rows[i].resolved);
		assert_true(wait_asked(world, 3 + i));
		assert_true(loop_now_ms(world->loop) - begun_ms >= 900);
		assert_string_equal(questions[2 + i].name, "one.example");
	}
	assert_int_equal(world->rounds, 1);
}

/* The last addresses stay in use, and it is said once: that it fails, and that it is over. */
static void test_a_name_that_stops_resolving(void **state)
{
	struct world *world = *state;
	struct server *server = &world->backends[0].servers[0];

	begin(world, 1);
	answer("two.example", RESOLVER_OK, "192.0.2.7", 3600);
	answer("one.example", RESOLVER_OK, "192.0.2.1", 1);
	assert_true(wait_asked(world, 3));
	answer("one.example", RESOLVER_TIMEOUT, "", 0);
	assert_addresses(server, "192.0.2.1:25");
	assert_int_equal(logged("name_failed"), 1);
	/* It is asked for again after 5 seconds, whatever the TTL was. */
	uint64_t failed_ms = loop_now_ms(world->loop);
	assert_true(wait_asked(world, 4));
	assert_in_range(loop_now_ms(world->loop) - failed_ms, 4500, 9000);
	answer("one.example", RESOLVER_ERROR, "", 0);
	assert_addresses(server, "192.0.2.1:25");
	assert_int_equal(logged("name_failed"), 1);
	assert_true(wait_asked(world, 5));
	answer("one.example", RESOLVER_OK, "192.0.2.1", 3600);
	assert_int_equal(
		logged("name_resolved"), 3); /* of both at first, and now that it is over */
	assert_int_equal(world->rounds, 1);
}

/* No answer comes any more, and no timer is left. */
static void test_freed_while_asking(void **state)
{
	struct world *world = *state;
	struct names *none = NULL;

	begin(world, 2);
	answer("one.example", RESOLVER_OK, "192.0.2.1", 1);
	names_free(&world->names);
	assert_int_equal(abandoned, 2);
	loop_run_for(world->loop, 1100);
	assert_int_equal(asked, 3);
	assert_int_equal(world->rounds, 0);
	names_free(&none);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_the_first_round, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_asked_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_name_that_stops_resolving, setup, teardown),
		cmocka_unit_test_setup_teardown(test_freed_while_asking, setup, teardown),
	};
	struct err err;
	int fd = mkstemp(log_path);

	if (fd < 0 || log_open(log_path, LOG_FORMAT_JSON, LOG_DEBUG_LEVEL, "mx", &err) < 0)
		return 1;
	close(fd);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(log_path);
	return failed;
}
