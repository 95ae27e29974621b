#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/resolver.h"
#include "support/loop_run.h"

/*
 * A name server that answers by the first label: "two" has two addresses of each kind and an alias,
 * "zero" a TTL of 0, "long" one of days, "four" no AAAA, "gone" does not exist, "bad" fails, "mute"
 * says nothing, "many" has more addresses than are taken.
 */
struct server {
	int fd;
	ev_io io;
	struct loop *loop;
	char address[32];
	unsigned queries;
};

struct message {
	unsigned char bytes[1500];
	size_t n;
};

static void put(struct message *message, const void *bytes, size_t n)
{
	memcpy(message->bytes + message->n, bytes, n);
	message->n += n;
}

static void put16(struct message *message, unsigned value)
{
	put(message, (unsigned char[]){ (unsigned char)(value >> 8), (unsigned char)value }, 2);
}

/* RFC 1035 section 4.1.3; the name is that of the question. */
static void put_record(
	struct message *message, unsigned type, unsigned ttl, const void *data, size_t n)
{
	put16(message, 0xc00c);
	put16(message, type);
	put16(message, 1);
	put16(message, ttl >> 16);
	put16(message, ttl & 0xffff);
	put16(message, (unsigned)n);
	put(message, data, n);
}

static unsigned put_addresses(
	struct message *message, unsigned type, unsigned count, unsigned ttl, unsigned char first)
{
	for (unsigned i = 0; i < count; i++) {
		unsigned char ip[16] = { 192, 0, 2, (unsigned char)(first + i) };
		if (type == 28)
			memcpy(ip,
				(unsigned char[16]){
					0x20, 1, 0x0d, 0xb8, [15] = (unsigned char)(first + i) },
				16);
		put_record(message, type, ttl, ip, type == 28 ? 16 : 4);
	}
	return count;
}

static const struct {
	const char *label;
	unsigned code, v4, v6, ttl;
} zone[] = {
	{ "two", 0, 2, 2, 30 },
	{ "zero", 0, 1, 0, 0 },
	{ "long", 0, 1, 0, 500000 },
	{ "four", 0, 1, 0, 77 },
	{ "empty", 0, 0, 0, 60 },
	{ "gone", 3, 0, 0, 60 },
	{ "bad", 2, 0, 0, 60 },
	{ "many", 0, 30, 0, 60 },
};

static void reply(
	struct server *server, const unsigned char *query, size_t n, const struct sockaddr_in *peer)
{
	struct message message = { .n = 0 };
	struct str label = str_make((const char *)query + 13, query[12]);
	unsigned type = query[n - 3];

	for (size_t i = 0; i < sizeof(zone) / sizeof(zone[0]); i++) {
		if (!str_eq(label, str_from(zone[i].label)))
			continue;
		put(&message, query, n);
		message.bytes[2] = 0x81;
		message.bytes[3] = (unsigned char)(0x80 | zone[i].code);
		message.bytes[7] = (unsigned char)put_addresses(
			&message, type, type == 28 ? zone[i].v6 : zone[i].v4, zone[i].ttl, 1);
		sendto(server->fd, message.bytes, message.n, 0, (const struct sockaddr *)peer,
			sizeof(*peer));
	}
}

static void on_query(struct ev_loop *ev, ev_io *io, int revents)
{
	struct server *server = io->data;
	unsigned char query[512];
	struct sockaddr_in peer;
	socklen_t size = sizeof(peer);
	ssize_t n = recvfrom(server->fd, query, sizeof(query), 0, (struct sockaddr *)&peer, &size);

	(void)ev;
	(void)revents;
	server->queries++;
	if (n > 17)
		reply(server, query, (size_t)n, &peer);
}

struct world {
	struct loop *loop;
	struct server server;
	struct resolver *resolver;
};

static void open_server(struct server *server, struct loop *loop)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(sa);

	server->loop = loop;
	server->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(server->fd, (struct sockaddr *)&sa, size), 0);
	assert_int_equal(getsockname(server->fd, (struct sockaddr *)&sa, &size), 0);
	snprintf(server->address, sizeof(server->address), "127.0.0.1:%u", ntohs(sa.sin_port));
	ev_io_init(&server->io, on_query, server->fd, EV_READ);
	server->io.data = server;
	ev_io_start(loop_ev(loop), &server->io);
}

static int setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));
	struct err err;

	world->loop = loop_new();
	open_server(&world->server, world->loop);
	/* is_off is about names of addresses. */
	struct resolver_settings settings = { .servers = str_from(world->server.address),
		.timeout_ms = 400,
		.tries = 2,
		.is_off = true };
	world->resolver = resolver_new(world->loop, &settings, &err);
	assert_non_null(world->resolver);
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;

	resolver_free(&world->resolver);
	ev_io_stop(loop_ev(world->loop), &world->server.io);
	close(world->server.fd);
	loop_free(&world->loop);
	free(world);
	return 0;
}

struct asker {
	struct resolver_forward *question;
	bool is_answered, abandons;
	enum resolver_status status;
	struct ipaddr items[RESOLVER_ADDRESSES_MAX];
	size_t count;
	uint32_t ttl_s;
};

static void take(void *ctx, const struct resolver_addresses *addresses)
{
	struct asker *asker = ctx;

	assert_false(asker->is_answered);
	asker->is_answered = true;
	asker->status = addresses->status;
	asker->count = addresses->count;
	asker->ttl_s = addresses->ttl_s;
	memcpy(asker->items, addresses->items, addresses->count * sizeof(asker->items[0]));
	if (asker->abandons)
		resolver_forward_abandon(&asker->question);
	asker->question = NULL;
}

static void ask(struct world *world, struct asker *asker, const char *name)
{
	*asker = (struct asker){ .is_answered = false };
	asker->question = resolver_forward(world->resolver, str_from(name), take, asker);
	assert_non_null(asker->question);
	assert_false(asker->is_answered);
}

static const struct {
	const char *name;
	enum resolver_status status;
	size_t count;
	uint32_t ttl_s;
} cases[] = {
	{ "two.example", RESOLVER_OK, 4, 30 },
	{ "zero.example", RESOLVER_OK, 1, RESOLVER_ADDRESSES_TTL_MIN_S },
	{ "long.example", RESOLVER_OK, 1, RESOLVER_TTL_MAX_S },
	{ "four.example", RESOLVER_OK, 1, 77 },
	{ "empty.example", RESOLVER_NONE, 0, 0 },
	{ "gone.example", RESOLVER_NONE, 0, 0 },
	{ "bad.example", RESOLVER_ERROR, 0, 0 },
	{ "mute.example", RESOLVER_TIMEOUT, 0, 0 },
	{ "many.example", RESOLVER_OK, RESOLVER_ADDRESSES_MAX, 60 },
};

static void test_answers(void **state)
{
	struct world *world = *state;
	struct asker askers[sizeof(cases) / sizeof(cases[0])];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		ask(world, &askers[i], cases[i].name);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_true(loop_run_until(world->loop, &askers[i].is_answered));
		if (askers[i].status != cases[i].status)
			fail_msg("%s: %s", cases[i].name, resolver_status_word(askers[i].status));
		assert_int_equal(askers[i].count, cases[i].count);
		if (cases[i].status == RESOLVER_OK)
			assert_int_equal(askers[i].ttl_s, cases[i].ttl_s);
	}
}

static void test_both_families(void **state)
{
	struct world *world = *state;
	struct asker asker;
	unsigned v4 = 0;

	ask(world, &asker, "two.example");
	assert_true(loop_run_until(world->loop, &asker.is_answered));
	for (size_t i = 0; i < asker.count; i++)
		v4 += ipaddr_is_v4(&asker.items[i]);
	assert_int_equal(v4, 2);
	/* Nothing is cached. */
	unsigned before = world->server.queries;
	ask(world, &asker, "two.example");
	assert_true(loop_run_until(world->loop, &asker.is_answered));
	assert_true(world->server.queries > before);
}

/* Without DNS. */
static void test_the_hosts_file(void **state)
{
	struct world *world = *state;
	struct asker asker;

	ask(world, &asker, "localhost");
	assert_true(loop_run_until(world->loop, &asker.is_answered));
	assert_int_equal(asker.status, RESOLVER_OK);
	assert_true(ipaddr_is_local(&asker.items[0]));
	assert_int_equal(world->server.queries, 0);
}

static void test_abandoned(void **state)
{
	struct world *world = *state;
	struct asker gone, other, from_inside;

	ask(world, &gone, "two.example");
	resolver_forward_abandon(&gone.question);
	assert_null(gone.question);
	resolver_forward_abandon(&gone.question);
	ask(world, &from_inside, "two.example");
	from_inside.abandons = true;
	ask(world, &other, "mute.example");
	assert_true(loop_run_until(world->loop, &from_inside.is_answered));
	assert_true(loop_run_until(world->loop, &other.is_answered));
	assert_false(gone.is_answered);
	/* Answered from the hosts file already, but not told. */
	ask(world, &gone, "localhost");
	resolver_forward_abandon(&gone.question);
	/* Under way when the resolver ends. */
	ask(world, &gone, "mute.example");
	resolver_forward_abandon(&gone.question);
	assert_false(gone.is_answered);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_both_families, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_hosts_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_abandoned, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
