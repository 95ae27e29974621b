#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

#include "net/resolver.h"
#include "support/loop_run.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define TIMEOUT_MS 1500

/* ---- Time that can be skipped: this definition is taken instead of libc's --------------------- */

static time_t skipped_s;

int clock_gettime(clockid_t clock, struct timespec *now)
{
	int rc = (int)syscall(SYS_clock_gettime, clock, now);

	if (clock == CLOCK_MONOTONIC)
		now->tv_sec += skipped_s;
	return rc;
}

/* ---- A name server ---------------------------------------------------------------------------- */

enum { PTR = 12, A = 1, AAAA = 28, CNAME = 5 };
enum { NOERROR = 0, SERVFAIL = 2, NXDOMAIN = 3, REFUSED = 5, SILENCE = 100, GARBAGE, TRUNCATED };

/* A record, or what happens to queries for the name. Record data as on the wire. */
static const struct row {
	const char *name;
	int type;
	int action;
	uint32_t ttl_s;
	struct str data;
} zone[] = {
	{ "1.2.0.192.in-addr.arpa", PTR, NOERROR, 300, STR_INIT("\4Good\7example\0") },
	{ "good.example", A, NOERROR, 300, STR_INIT("\300\0\2\7") },
	{ "good.example", A, NOERROR, 300, STR_INIT("\300\0\2\1") },
	{ "2.2.0.192.in-addr.arpa", PTR, NOERROR, 300, STR_INIT("\4liar\7example\0") },
	{ "liar.example", A, NOERROR, 300, STR_INIT("\300\0\2\1") },
	{ "3.2.0.192.in-addr.arpa", PTR, NXDOMAIN },
	{ "4.2.0.192.in-addr.arpa", PTR, SERVFAIL },
	{ "5.2.0.192.in-addr.arpa", PTR, SILENCE },
	{ "6.2.0.192.in-addr.arpa", PTR, REFUSED },
	{ "7.2.0.192.in-addr.arpa", PTR, GARBAGE },
	{ "8.2.0.192.in-addr.arpa", PTR, TRUNCATED },
	{ "9.2.0.192.in-addr.arpa", PTR, NOERROR },
	{ "10.2.0.192.in-addr.arpa", PTR, NOERROR, 300, STR_INIT("\14a\r\nXCLIENT b\7example\0") },
	{ "11.2.0.192.in-addr.arpa", PTR, NOERROR, 300, STR_INIT("\5\033[31m\7example\0") },
	{ "11.2.0.192.in-addr.arpa", PTR, NOERROR, 300, STR_INIT("\4good\7example\0") },
	{ "12.2.0.192.in-addr.arpa", PTR, NOERROR, 300, STR_INIT("\4gone\7example\0") },
	{ "gone.example", A, NXDOMAIN },
	{ "13.2.0.192.in-addr.arpa", PTR, NOERROR, 300, STR_INIT("\6broken\7example\0") },
	{ "broken.example", A, SERVFAIL },
	{ "14.2.0.192.in-addr.arpa", PTR, NOERROR, 300, STR_INIT("\4slow\7example\0") },
	{ "slow.example", A, SILENCE },
	{ "15.2.0.192.in-addr.arpa", CNAME, NOERROR, 300, STR_INIT("\1x\1y\0") },
	{ "15.2.0.192.in-addr.arpa", PTR, NOERROR, 300, STR_INIT("\5alias\7example\0") },
	{ "alias.example", A, NOERROR, 300, STR_INIT("\300\0\2\17") },
	{ "16.2.0.192.in-addr.arpa", PTR, NOERROR, 3, STR_INIT("\5short\7example\0") },
	{ "short.example", A, NOERROR, 2, STR_INIT("\300\0\2\20") },
	{ "17.2.0.192.in-addr.arpa", PTR, NOERROR, 999999, STR_INIT("\4long\7example\0") },
	{ "long.example", A, NOERROR, 999999, STR_INIT("\300\0\2\21") },
	{ "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", PTR, NOERROR,
		300, STR_INIT("\2v6\7example\0") },
	{ "v6.example", AAAA, NOERROR, 300, STR_INIT("\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\1") },
	{ "v6.example", A, SERVFAIL },
};

struct server {
	struct loop *loop;
	int fd;
	ev_io watcher;
	char address[ENDPOINT_TEXT_MAX];
	unsigned queries, dropped;
	unsigned drop;  /* so many queries first */
	unsigned ports; /* changes of the client's port */
	in_port_t last_port;
};

/* The name in lower case, as text. Returns the position behind it. */
static size_t read_name(const unsigned char *query, char name[256])
{
	size_t at = 12;
	size_t n = 0;

	while (query[at] != 0) {
		if (n > 0)
			name[n++] = '.';
		for (unsigned char left = query[at++]; left > 0; left--)
			name[n++] = ascii_lower((char)query[at++]);
	}
	name[n] = '\0';
	return at + 1;
}

static size_t put16(unsigned char *out, size_t value)
{
	out[0] = (unsigned char)(value >> 8);
	out[1] = (unsigned char)value;
	return 2;
}

static size_t put_record(unsigned char *out, const struct row *row)
{
	size_t n = put16(out, 0xc00c);

	n += put16(out + n, (size_t)row->type);
	n += put16(out + n, 1);
	n += put16(out + n, row->ttl_s >> 16);
	n += put16(out + n, row->ttl_s & 0xffff);
	n += put16(out + n, row->data.n);
	memcpy(out + n, row->data.p, row->data.n);
	return n + row->data.n;
}

/* Writes the answer over the query, whose question stays. Returns its length, 0 for silence. */
static size_t make_answer(unsigned char *message)
{
	char name[256];
	size_t n = read_name(message, name);
	int type = message[n] << 8 | message[n + 1];
	size_t records = 0;
	int action = NXDOMAIN;

	n += 4;
	for (size_t i = 0; i < COUNT(zone); i++) {
		bool is_alias = zone[i].type == CNAME && type == PTR;
		if (strcmp(zone[i].name, name) != 0 || (zone[i].type != type && !is_alias))
			continue;
		action = zone[i].action;
		if (zone[i].data.n == 0)
			continue;
		n += put_record(message + n, &zone[i]);
		records++;
	}
	if (action == SILENCE)
		return 0;
	message[2] = action == TRUNCATED ? 0x83 : 0x81;
	message[3] = (unsigned char)(0x80 | (action <= REFUSED ? action : 0));
	put16(message + 6, action == GARBAGE ? 5 : records);
	memset(message + 8, 0, 4);
	return n;
}

static void note_port(struct server *server, in_port_t port)
{
	server->ports += port != server->last_port;
	server->last_port = port;
}

static void on_query(struct ev_loop *ev, ev_io *watcher, int revents)
{
	struct server *server = watcher->data;
	unsigned char message[1024];
	struct sockaddr_in client;
	socklen_t size = sizeof(client);
	ssize_t n;

	(void)ev;
	(void)revents;
	while ((n = recvfrom(server->fd, message, 512, MSG_DONTWAIT, (struct sockaddr *)&client,
			&size)) > 0) {
		server->queries++;
		note_port(server, client.sin_port);
		if (server->dropped < server->drop) {
			server->dropped++;
			continue;
		}
		size_t length = make_answer(message);
		if (length > 0)
			sendto(server->fd, message, length, 0, (struct sockaddr *)&client, size);
	}
}

static void server_open(struct server *server, struct loop *loop)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	socklen_t n = sizeof(sin);
	struct endpoint endpoint;
	int big = 4 << 20;

	*server = (struct server){ .loop = loop };
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	server->fd = socket(AF_INET, SOCK_DGRAM, 0);
	setsockopt(server->fd, SOL_SOCKET, SO_RCVBUF, &big, sizeof(big));
	assert_int_equal(bind(server->fd, (struct sockaddr *)&sin, n), 0);
	assert_int_equal(getsockname(server->fd, (struct sockaddr *)&sin, &n), 0);
	assert_true(endpoint_from_sockaddr((struct sockaddr *)&sin, &endpoint));
	endpoint_print(&endpoint, server->address);
	ev_io_init(&server->watcher, on_query, server->fd, EV_READ);
	server->watcher.data = server;
	ev_io_start(loop_ev(loop), &server->watcher);
}

static void server_close(struct server *server)
{
	ev_io_stop(loop_ev(server->loop), &server->watcher);
	close(server->fd);
}

/* ---- Asking ----------------------------------------------------------------------------------- */

struct world {
	struct loop *loop;
	struct server server;
	struct resolver *resolver;
};

struct asker {
	struct resolver_question *question;
	bool is_answered, abandons;
	unsigned answers;
	enum resolver_status status;
	char host[RESOLVER_HOST_MAX];
	bool is_confirmed;
	struct asker *other; /* abandons that one from inside */
};

static void take_answer(void *ctx, const struct resolver_name *name)
{
	struct asker *asker = ctx;

	asker->is_answered = true;
	asker->answers++;
	asker->status = name->status;
	asker->is_confirmed = name->is_confirmed;
	str_copy_to(name->host, asker->host, sizeof(asker->host));
	if (asker->abandons)
		resolver_abandon(&asker->question);
	asker->question = NULL;
	if (asker->other != NULL)
		resolver_abandon(&asker->other->question);
}

static void ask(struct world *world, struct asker *asker, const char *text)
{
	struct ipaddr ip;

	*asker = (struct asker){ .status = (enum resolver_status)99 };
	assert_true(ipaddr_parse(str_from(text), &ip));
	asker->question = resolver_reverse(world->resolver, &ip, take_answer, asker);
	assert_non_null(asker->question);
	assert_int_equal(asker->answers, 0);
}

static void wait_for(struct world *world, struct asker *asker)
{
	assert_true(loop_run_until(world->loop, &asker->is_answered));
	assert_int_equal(asker->answers, 1);
}

static void open_resolver(struct world *world, uint64_t timeout_ms, bool is_off)
{
	struct err err = { "" };
	const struct resolver_settings settings = {
		.servers = str_from(world->server.address),
		.timeout_ms = timeout_ms,
		.tries = 2,
		.is_off = is_off,
	};

	world->resolver = resolver_new(world->loop, &settings, &err);
	if (world->resolver == NULL)
		fail_msg("%s", err.text);
}

static int setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));

	world->loop = loop_new();
	server_open(&world->server, world->loop);
	open_resolver(world, TIMEOUT_MS, false);
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;

	resolver_free(&world->resolver);
	assert_null(world->resolver);
	resolver_free(&world->resolver);
	server_close(&world->server);
	loop_free(&world->loop);
	free(world);
	return 0;
}

/* ---- What is answered -------------------------------------------------------------------------- */

static const struct {
	const char *ip;
	enum resolver_status status;
	const char *host;
	bool is_confirmed;
} cases[] = {
	{ "192.0.2.1", RESOLVER_OK, "good.example", true },
	{ "::ffff:192.0.2.1", RESOLVER_OK, "good.example", true },
	{ "192.0.2.2", RESOLVER_OK, "liar.example", false },
	{ "192.0.2.3", RESOLVER_NONE, "", false },
	{ "192.0.2.4", RESOLVER_ERROR, "", false },
	{ "192.0.2.5", RESOLVER_TIMEOUT, "", false },
	{ "192.0.2.6", RESOLVER_ERROR, "", false },
	{ "192.0.2.7", RESOLVER_ERROR, "", false },
	{ "192.0.2.9", RESOLVER_NONE, "", false },
	{ "192.0.2.10", RESOLVER_NONE, "", false },
	{ "192.0.2.11", RESOLVER_OK, "good.example", false },
	{ "192.0.2.12", RESOLVER_OK, "gone.example", false },
	{ "192.0.2.13", RESOLVER_ERROR, "", false },
	{ "192.0.2.14", RESOLVER_TIMEOUT, "", false },
	{ "192.0.2.15", RESOLVER_OK, "alias.example", true },
	{ "2001:db8::1", RESOLVER_OK, "v6.example", true },
};

static void test_answers(void **state)
{
	struct world *world = *state;
	struct asker askers[COUNT(cases)];

	/* From DNS, all at once, and from the cache. In one of the rounds the machine may have stood still. */
	bool is_quick = false;
	for (int round = 0; round < 2 || (round < 8 && !is_quick); round++) {
		uint64_t begin = loop_now_ms(world->loop);
		for (size_t i = 0; i < COUNT(cases); i++)
			ask(world, &askers[i], cases[i].ip);
		for (size_t i = 0; i < COUNT(cases); i++) {
			wait_for(world, &askers[i]);
			if (askers[i].status != cases[i].status)
				fail_msg("%s: %s", cases[i].ip,
					resolver_status_word(askers[i].status));
			assert_string_equal(askers[i].host, cases[i].host);
			assert_int_equal(askers[i].is_confirmed, cases[i].is_confirmed);
		}
		is_quick |= loop_now_ms(world->loop) - begin <= TIMEOUT_MS + TIMEOUT_MS / 2;
	}
	assert_true(is_quick);
}

/* An answer that does not fit UDP is asked for by TCP, which this server does not speak. Not with
 * the others, as the library then sends all queries of the connection again. */
static void test_truncated(void **state)
{
	struct world *world = *state;
	struct asker asker;

	ask(world, &asker, "192.0.2.8");
	wait_for(world, &asker);
	assert_int_equal(asker.status, RESOLVER_ERROR);
}

static void test_status_words(void **state)
{
	const char *const words[] = { "ok", "none", "error", "timeout", "off" };

	(void)state;
	for (size_t i = 0; i < COUNT(words); i++)
		assert_string_equal(resolver_status_word((enum resolver_status)i), words[i]);
}

static void test_off(void **state)
{
	struct world *world = *state;
	struct asker asker;

	resolver_free(&world->resolver);
	open_resolver(world, TIMEOUT_MS, true);
	ask(world, &asker, "192.0.2.1");
	wait_for(world, &asker);
	assert_int_equal(asker.status, RESOLVER_OFF);
	assert_string_equal(asker.host, "");
	assert_int_equal(world->server.queries, 0);
	ask(world, &asker, "192.0.2.1"); /* and left open */
}

static void test_bad_servers(void **state)
{
	struct world *world = *state;
	struct resolver_settings settings = {
		.servers = STR("nonsense"), .timeout_ms = 100, .tries = 1
	};
	struct err err;

	assert_null(resolver_new(world->loop, &settings, &err));
	assert_memory_equal(err.text, "DNS servers \"nonsense\": ", 24);
	settings.servers = STR("");
	struct resolver *resolver = resolver_new(world->loop, &settings, &err);
	assert_non_null(resolver);
	resolver_free(&resolver);
}

/* ---- Loss and deadlines ------------------------------------------------------------------------ */

static void test_lost_query_is_sent_again(void **state)
{
	struct world *world = *state;
	struct asker asker;

	world->server.drop = 1;
	ask(world, &asker, "192.0.2.1");
	wait_for(world, &asker);
	assert_int_equal(asker.status, RESOLVER_OK);
	assert_int_equal(world->server.queries, 3);
}

static void test_server_that_is_not_there(void **state)
{
	struct world *world = *state;
	struct asker asker;

	close(world->server.fd);
	ev_io_stop(loop_ev(world->loop), &world->server.watcher);
	ask(world, &asker, "192.0.2.1");
	wait_for(world, &asker);
	assert_int_equal(asker.status, RESOLVER_ERROR);
	server_open(&world->server, world->loop); /* for the teardown */
}

/* How late the first of two questions was given up of which the second came later. */
static uint64_t ask_twice_in_vain(struct world *world)
{
	struct asker first, second;

	uint64_t begin = loop_now_ms(world->loop);
	ask(world, &first, "192.0.2.14"); /* the forward half never answers */
	loop_run_for(world->loop, TIMEOUT_MS / 2);
	ask(world, &second, "192.0.2.14");
	wait_for(world, &first);
	assert_int_equal(first.status, RESOLVER_TIMEOUT);
	uint64_t elapsed = loop_now_ms(world->loop) - begin;
	assert_true(elapsed >= TIMEOUT_MS - 5);
	wait_for(world, &second);
	assert_int_equal(second.status, RESOLVER_TIMEOUT);
	loop_run_for(world->loop, TIMEOUT_MS);
	assert_int_equal(first.answers + second.answers, 2);
	return elapsed;
}

/* Each question has its own deadline; the look-up goes on and is shared. A machine that stood still
 * is given another chance. */
static void test_deadline_of_each_question(void **state)
{
	for (int tries = 0; tries < 5; tries++)
		if (ask_twice_in_vain(*state) < TIMEOUT_MS * 4 / 3)
			return;
	fail_msg("the deadline of the first was that of the second");
}

/* ---- Sharing and the cache --------------------------------------------------------------------- */

static void test_equal_questions_are_asked_once(void **state)
{
	struct world *world = *state;
	struct asker askers[5];

	for (size_t i = 0; i < COUNT(askers); i++)
		ask(world, &askers[i], "192.0.2.1");
	for (size_t i = 0; i < COUNT(askers); i++) {
		wait_for(world, &askers[i]);
		assert_string_equal(askers[i].host, "good.example");
	}
	assert_int_equal(world->server.queries, 2);
}

static const struct {
	const char *ip;
	time_t kept_s;
} ttl_cases[] = {
	{ "192.0.2.1", 300 },
	{ "192.0.2.16", RESOLVER_TTL_MIN_S },
	{ "192.0.2.17", RESOLVER_TTL_MAX_S },
	{ "192.0.2.3", RESOLVER_NEGATIVE_TTL_S },
	{ "192.0.2.2", RESOLVER_NEGATIVE_TTL_S },
	{ "192.0.2.4", RESOLVER_TTL_MIN_S },
};

static unsigned queries_for(struct world *world, const char *ip)
{
	struct asker asker;
	unsigned before = world->server.queries;

	ask(world, &asker, ip);
	wait_for(world, &asker);
	return world->server.queries - before;
}

static void test_cache_lasts_for_the_ttl(void **state)
{
	struct world *world = *state;

	for (size_t i = 0; i < COUNT(ttl_cases); i++) {
		const char *ip = ttl_cases[i].ip;
		assert_int_not_equal(queries_for(world, ip), 0);
		skipped_s += ttl_cases[i].kept_s - 2;
		if (queries_for(world, ip) != 0)
			fail_msg("%s: forgotten too early", ip);
		skipped_s += 3;
		if (queries_for(world, ip) == 0)
			fail_msg("%s: kept too long", ip);
	}
}

/* More addresses than the cache holds, in batches that the sockets hold. */
static void test_cache_is_bounded(void **state)
{
	struct world *world = *state;
	enum { BATCH = 128, ALL = RESOLVER_CACHE_MAX + BATCH };
	static struct asker askers[BATCH];
	char ip[IPADDR_TEXT_MAX];

	for (unsigned i = 0; i < ALL; i++) {
		snprintf(ip, sizeof(ip), "10.0.%u.%u", i / 256, i % 256);
		ask(world, &askers[i % BATCH], ip);
		if (i % BATCH < BATCH - 1)
			continue;
		for (unsigned j = 0; j < BATCH; j++)
			wait_for(world, &askers[j]);
	}
	assert_int_equal(world->server.queries, ALL);
	assert_int_equal(queries_for(world, ip), 0);
	snprintf(ip, sizeof(ip), "10.0.%u.%u", BATCH / 256, BATCH % 256);
	assert_int_equal(queries_for(world, ip), 0); /* the oldest that is left */
	assert_int_equal(queries_for(world, "10.0.0.0"), 1);
	assert_int_equal(queries_for(world, ip), 1); /* it had to go for that */
}

/* A question that stays open keeps the socket of its channel, but not its port for all others. */
static void test_ports_change(void **state)
{
	struct world *world = *state;
	struct asker open, asker;
	char ip[IPADDR_TEXT_MAX];

	resolver_free(&world->resolver);
	open_resolver(world, 60000, false);
	ask(world, &open, "192.0.2.5");
	for (unsigned i = 0; i < 1600; i++) {
		snprintf(ip, sizeof(ip), "10.0.%u.%u", i / 256, i % 256);
		ask(world, &asker, ip);
		if (i % 100 == 99)
			wait_for(world, &asker);
		else
			resolver_abandon(&asker.question);
	}
	assert_int_equal(world->server.queries, 1601);
	assert_in_range(world->server.ports, 4, 30);
	assert_int_equal(open.answers, 0);
}

static void test_look_ups_under_way_are_bounded(void **state)
{
	struct world *world = *state;
	static struct asker askers[RESOLVER_ASKING_MAX + 1];
	char ip[IPADDR_TEXT_MAX];

	for (unsigned i = 0; i <= RESOLVER_ASKING_MAX; i++) {
		snprintf(ip, sizeof(ip), "10.1.%u.%u", i / 256, i % 256);
		ask(world, &askers[i], ip);
	}
	struct asker *last = &askers[RESOLVER_ASKING_MAX];
	wait_for(world, last);
	assert_int_equal(last->status, RESOLVER_ERROR);
	for (unsigned i = 0; i < RESOLVER_ASKING_MAX; i++)
		resolver_abandon(&askers[i].question);
}

/* ---- Abandoning --------------------------------------------------------------------------------- */

static void test_abandon(void **state)
{
	struct world *world = *state;
	struct asker gone, kept;
	struct resolver_question *none = NULL;

	resolver_abandon(&none);
	ask(world, &gone, "192.0.2.1");
	ask(world, &kept, "192.0.2.1");
	resolver_abandon(&gone.question);
	assert_null(gone.question);
	wait_for(world, &kept);
	assert_int_equal(gone.answers, 0);
	ask(world, &gone, "192.0.2.1"); /* cached, on its way */
	resolver_abandon(&gone.question);
	loop_run_for(world->loop, 20);
	assert_int_equal(gone.answers, 0);
}

static void test_abandoned_look_up_fills_the_cache(void **state)
{
	struct world *world = *state;
	struct asker asker;

	ask(world, &asker, "192.0.2.1");
	resolver_abandon(&asker.question);
	loop_run_for(world->loop, 50);
	assert_int_equal(world->server.queries, 2);
	assert_int_equal(queries_for(world, "192.0.2.1"), 0);
}

static void test_abandon_inside_an_answer(void **state)
{
	struct world *world = *state;
	struct asker first, second;

	for (int i = 0; i < 3; i++) {
		/* Answered by DNS, from the cache, and by the deadline. */
		const char *ip = i < 2 ? "192.0.2.1" : "192.0.2.5";
		ask(world, &first, ip);
		ask(world, &second, ip);
		first.abandons = second.abandons = true; /* itself: over, but harmless */
		first.other = &second;
		second.other = &first; /* whose deadline comes first is open */
		loop_run_for(world->loop, i < 2 ? 50 : TIMEOUT_MS + 50);
		assert_int_equal(first.answers + second.answers, 1);
		assert_null(first.question);
		assert_null(second.question);
	}
}

/* Freed with questions in every condition: waiting for DNS, for the other half, and ready. */
static void test_free_with_open_questions(void **state)
{
	struct world *world = *state;
	struct asker askers[6];

	assert_int_equal(queries_for(world, "192.0.2.1"), 2);
	ask(world, &askers[0], "192.0.2.5");
	ask(world, &askers[1], "192.0.2.14");
	loop_run_for(world->loop, 30);
	ask(world, &askers[2], "192.0.2.14");
	ask(world, &askers[3], "192.0.2.1");
	ask(world, &askers[4], "192.0.2.2");
	ask(world, &askers[5], "192.0.2.3");
	resolver_abandon(&askers[5].question);
	resolver_free(&world->resolver);
	loop_run_for(world->loop, 30);
	for (int i = 0; i < 6; i++)
		assert_int_equal(askers[i].answers, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_answers),
		TEST(test_truncated),
		TEST(test_status_words),
		TEST(test_off),
		TEST(test_bad_servers),
		TEST(test_lost_query_is_sent_again),
		TEST(test_server_that_is_not_there),
		TEST(test_deadline_of_each_question),
		TEST(test_equal_questions_are_asked_once),
		TEST(test_cache_lasts_for_the_ttl),
		TEST(test_cache_is_bounded),
		TEST(test_ports_change),
		TEST(test_look_ups_under_way_are_bounded),
		TEST(test_abandon),
		TEST(test_abandoned_look_up_fills_the_cache),
		TEST(test_abandon_inside_an_answer),
		TEST(test_free_with_open_questions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
