#include "auth/dovecot.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../../src/auth/dovecot_line_priv.h"
#include "base/base64.h"
#include "support/auth_record.h"
#include "support/guard.h"

/*
 * A Dovecot auth server in the same loop: looks for connections and bytes each millisecond, and says
 * what the test tells it to. A test reads what it was sent line by line.
 */
struct fake {
	struct loop *loop;
	struct timer timer;
	char folder[64], path[96];
	int listener, fd;        /* -1: none */
	unsigned accepted, left; /* connections; those that the client closed */
	const char *hello;       /* said at once to a connection; NULL: nothing */
	bool is_deaf;            /* does not read */
	char in[1 << 18];
	size_t in_n;
};

#define HELLO \
	"VERSION\t1\t2\n" \
	"MECH\tPLAIN\tplaintext\n" \
	"MECH\tLOGIN\tplaintext\n" \
	"MECH\tSCRAM-SHA-256\tmutual-auth\n" \
	"MECH\tSCRAM-SHA-256-PLUS\tmutual-auth\tchannel-binding\n" \
	"MECH\tXOAUTH2\tprivate\n" \
	"MECH\tNTLM\tactive\n" \
	"SPID\t4711\nCUID\t1\n" \
	"COOKIE\t0123456789abcdef0123456789abcdef\n" \
	"DONE\n"

static void fake_say(struct fake *fake, const char *text)
{
	assert_true(fake->fd >= 0);
	assert_int_equal(send(fake->fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void fake_hang_up(struct fake *fake)
{
	if (fake->fd >= 0)
		close(fake->fd);
	fake->fd = -1;
	fake->in_n = 0;
}

static void fake_look(void *ctx)
{
	struct fake *fake = ctx;

	timer_set(&fake->timer, 1);
	if (fake->fd < 0 && fake->listener >= 0) {
		fake->fd = accept4(fake->listener, NULL, NULL, SOCK_NONBLOCK);
		if (fake->fd >= 0) {
			fake->accepted++;
			if (fake->hello != NULL)
				fake_say(fake, fake->hello);
		}
	}
	if (fake->fd < 0 || fake->is_deaf)
		return;
	ssize_t n = recv(fake->fd, fake->in + fake->in_n, sizeof(fake->in) - fake->in_n, 0);
	if (n > 0)
		fake->in_n += (size_t)n;
	if (n == 0) {
		fake_hang_up(fake);
		fake->left++;
	}
}

static void fake_listen(struct fake *fake)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", fake->path);
	unlink(fake->path);
	fake->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(fake->listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fake->listener, 5), 0);
}

static void fake_stop(struct fake *fake)
{
	fake_hang_up(fake);
	close(fake->listener);
	fake->listener = -1;
}

static bool has_line(void *ctx)
{
	struct fake *fake = ctx;

	return memchr(fake->in, '\n', fake->in_n) != NULL;
}

/* The next line that the server gets, without its end; good until the next call. */
static struct str fake_line(struct fake *fake)
{
	static char line[AUTH_DOVECOT_LINE_MAX];

	assert_true(loop_run_while(fake->loop, LOOP_RUN_LIMIT_MS, has_line, fake));
	const char *end = memchr(fake->in, '\n', fake->in_n);
	size_t n = (size_t)(end - fake->in);
	assert_true(n < sizeof(line));
	memcpy(line, fake->in, n);
	fake->in_n -= n + 1;
	memmove(fake->in, end + 1, fake->in_n);
	return str_make(line, n);
}

static void fake_expect(struct fake *fake, const char *expected)
{
	struct str line = fake_line(fake);

	if (!str_eq(line, str_from(expected)))
		fail_msg("got \"%.*s\", not \"%s\"", STR_ARG(line), expected);
}

/* ---- The world ---- */

struct world {
	struct loop *loop;
	struct fake fake;
	struct auth_service *service;
	struct auth_client client;
};

static void start_service(struct world *world, uint64_t timeout_ms)
{
	char address[128];
	struct err err;
	int n = snprintf(address, sizeof(address), "unix:%s", world->fake.path);

	world->service =
		auth_dovecot_new(world->loop, str_make(address, (size_t)n), timeout_ms, &err);
	assert_non_null(world->service);
	memset(address, 'x', sizeof(address)); /* it has its own copy */
}

static int setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));
	struct fake *fake = &world->fake;

	world->loop = fake->loop = loop_new();
	snprintf(fake->folder, sizeof(fake->folder), "/tmp/gatepost-dovecot-XXXXXX");
	assert_non_null(mkdtemp(fake->folder));
	snprintf(fake->path, sizeof(fake->path), "%s/auth", fake->folder);
	fake->fd = fake->listener = -1;
	fake->hello = HELLO;
	fake_listen(fake);
	timer_init(&fake->timer, fake->loop, fake_look, fake);
	timer_set(&fake->timer, 0);
	assert_true(endpoint_parse(STR("192.0.2.7:4711"), &world->client.remote));
	assert_true(endpoint_parse(STR("[2001:db8::25]:587"), &world->client.local));
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;

	if (world->service != NULL)
		world->service->kind->free(world->service);
	fake_stop(&world->fake);
	timer_stop(&world->fake.timer);
	loop_free(&world->loop);
	unlink(world->fake.path);
	rmdir(world->fake.folder);
	free(world);
	return 0;
}

static bool is_ready(void *ctx)
{
	return auth_dovecot_is_ready(ctx);
}

static void wait_ready(struct world *world)
{
	assert_true(loop_run_while(world->loop, LOOP_RUN_LIMIT_MS, is_ready, world->service));
}

static void introduce(struct world *world, uint64_t timeout_ms)
{
	char cpid[32];

	start_service(world, timeout_ms);
	wait_ready(world);
	snprintf(cpid, sizeof(cpid), "CPID\t%d", (int)getpid());
	fake_expect(&world->fake, "VERSION\t1\t1");
	fake_expect(&world->fake, cpid);
}

static void begin(struct world *world, struct auth_record *record, unsigned mechanism,
	const struct str *initial)
{
	auth_record_begin(record, world->loop, world->service, mechanism, initial, &world->client);
	assert_non_null(record->attempt);
}

/* ---- The handshake ---- */

static void test_handshake(void **state)
{
	struct world *world = *state;

	introduce(world, 5000);
	/* Neither private ones, nor -PLUS, nor what we do not know. */
	assert_int_equal(world->service->kind->mechanisms(world->service),
		AUTH_PLAIN | AUTH_LOGIN | AUTH_SCRAM_SHA_256);
}

/* We speak first: the server here says nothing before it has heard us. */
static void test_handshake_not_waited_for(void **state)
{
	struct world *world = *state;

	world->fake.hello = NULL;
	start_service(world, 5000);
	fake_expect(&world->fake, "VERSION\t1\t1");
	assert_int_equal(world->service->kind->mechanisms(world->service), 0);
	assert_false(auth_dovecot_is_ready(world->service));
	/* Byte by byte. */
	for (const char *c = HELLO; *c != '\0'; c++) {
		char one[2] = { *c, '\0' };
		fake_say(&world->fake, one);
		if (c - HELLO < 100)
			loop_run_for(world->loop, 1);
	}
	wait_ready(world);
	assert_int_equal(world->service->kind->mechanisms(world->service),
		AUTH_PLAIN | AUTH_LOGIN | AUTH_SCRAM_SHA_256);
}

static bool was_accepted_twice(void *ctx)
{
	return ((struct fake *)ctx)->accepted >= 2;
}

static bool was_left(void *ctx)
{
	return ((struct fake *)ctx)->left > 0;
}

/* Whoever is not a Dovecot auth server is left. */
static void test_handshake_garbage(void **state)
{
	static char long_line[AUTH_DOVECOT_LINE_MAX + 20] = "VERSION\t1\t2\n";
	const char *hellos[] = {
		"220 mail.example.com ESMTP\r\n",
		"VERSION\t2\t0\n",
		"VERSION\n",
		"SPID\t1\nVERSION\t1\t2\n",
		"VERSION\t1\t2\nOK\t1\tuser=x\n",
		"\n",
		HELLO "FAIL\n",
		HELLO "CONT\tx\t\n",
		HELLO "MECH\tCRAM-MD5\n",
		long_line,
	};

	memset(long_line + strlen(long_line), 'x', sizeof(long_line) - 1 - strlen(long_line));
	for (size_t i = 0; i < sizeof(hellos) / sizeof(hellos[0]); i++) {
		struct world *world;
		void *fresh = NULL;

		(void)state;
		setup(&fresh);
		world = fresh;
		world->fake.hello = hellos[i];
		start_service(world, 5000);
		assert_true(loop_run_while(world->loop, LOOP_RUN_LIMIT_MS, was_left, &world->fake));
		teardown(&fresh);
	}
}

/* A line of the longest length is one, though. */
static void test_longest_line(void **state)
{
	static char hello[AUTH_DOVECOT_LINE_MAX + sizeof(HELLO)] = "VERSION\t1\t2\n";
	struct world *world = *state;
	size_t n = strlen(hello);

	memset(hello + n, 'x', AUTH_DOVECOT_LINE_MAX - 1);
	n += AUTH_DOVECOT_LINE_MAX - 1;
	snprintf(hello + n, sizeof(hello) - n, "\nMECH\tPLAIN\nDONE\n");
	world->fake.hello = hello;
	introduce(world, 5000);
}

static void test_handshake_silence(void **state)
{
	struct world *world = *state;

	world->fake.hello = "VERSION\t1\t2\n";
	start_service(world, 50);
	assert_true(
		loop_run_while(world->loop, LOOP_RUN_LIMIT_MS, was_accepted_twice, &world->fake));
}

static void test_server_comes_later(void **state)
{
	struct world *world = *state;
	struct auth_record record;
	struct str initial = STR("\0tim\0secret");

	fake_stop(&world->fake);
	start_service(world, 5000);
	loop_run_for(world->loop, 20);
	begin(world, &record, AUTH_PLAIN, &initial);
	assert_int_equal(auth_record_result(&record), AUTH_UNAVAILABLE);
	fake_listen(&world->fake);
	wait_ready(world);
}

/* ---- Requests ---- */

static void test_plain(void **state)
{
	struct world *world = *state;
	struct auth_record record;
	struct str initial = STR("\0tim\0secret");

	introduce(world, 5000);
	begin(world, &record, AUTH_PLAIN, &initial);
	fake_expect(&world->fake, "AUTH\t1\tPLAIN\tservice=smtp\tnologin\tlip=2001:db8::25\tlport="
				  "587\trip=192.0.2.7\t"
				  "rport=4711\tresp=AHRpbQBzZWNyZXQ=");
	fake_say(&world->fake, "OK\t1\tuser=tim@example.com\toriginal_user=tim\n");
	assert_int_equal(auth_record_result(&record), AUTH_OK);
	assert_true(str_eq(auth_record_user(&record), STR("tim@example.com")));
}

static void test_all_parameters(void **state)
{
	struct world *world = *state;
	struct auth_record record;
	struct str initial = STR("x");

	introduce(world, 5000);
	world->client = (struct auth_client){
		.is_tls = true, .session = STR("A\tB"), .tls_sni = STR("mx.example.com\n\r\1")
	};
	begin(world, &record, AUTH_PLAIN, &initial);
	fake_expect(&world->fake,
		"AUTH\t1\tPLAIN\tservice=smtp\tnologin\tsecured=tls\tsession=A\001tB\t"
		"local_name=mx.example.com\001l\001r\0011\tresp=eA==");
	fake_say(&world->fake, "FAIL\t1\n");
	assert_int_equal(auth_record_result(&record), AUTH_REFUSED);
}

static void test_login(void **state)
{
	struct world *world = *state;
	struct auth_record record;

	introduce(world, 5000);
	world->client = (struct auth_client){ .is_tls = false };
	begin(world, &record, AUTH_LOGIN, NULL);
	fake_expect(&world->fake, "AUTH\t1\tLOGIN\tservice=smtp\tnologin");
	fake_say(&world->fake, "CONT\t1\tVXNlcm5hbWU6\n");
	assert_true(str_eq(auth_record_challenged(&record), STR("Username:")));
	auth_record_respond(&record, STR("tim"));
	fake_expect(&world->fake, "CONT\t1\tdGlt");
	fake_say(&world->fake, "CONT\t1\tUGFzc3dvcmQ6\n");
	assert_true(str_eq(auth_record_challenged(&record), STR("Password:")));
	auth_record_respond(&record, STR(""));
	fake_expect(&world->fake, "CONT\t1\t");
	fake_say(&world->fake, "CONT\t1\t\n");
	assert_int_equal(auth_record_challenged(&record).n, 0);
	auth_record_respond(&record, STR("x"));
	fake_expect(&world->fake, "CONT\t1\teA==");
	fake_say(&world->fake, "FAIL\t1\tuser=tim\tcode=authz_fail\n");
	assert_int_equal(auth_record_result(&record), AUTH_REFUSED);
}

static const struct {
	const char *answer;
	struct str response;
	enum auth_result result;
} last_words[] = {
	{ "OK\t1\tuser=tim\tresp=dj14\n", STR_INIT(""), AUTH_OK },
	{ "OK\t1\tuser=tim\tresp=dj14\n", STR_INIT("x"), AUTH_MALFORMED },
};

/* The server's signature comes along with the success, and the client is told both in turn. */
static void test_last_word(void **state)
{
	struct str first = STR("n,,n=tim,r=x");

	(void)state;
	for (size_t i = 0; i < sizeof(last_words) / sizeof(last_words[0]); i++) {
		struct auth_record record;
		void *fresh = NULL;

		setup(&fresh);
		struct world *world = fresh;
		introduce(world, 5000);
		world->client = (struct auth_client){ .is_tls = false };
		begin(world, &record, AUTH_SCRAM_SHA_256, &first);
		fake_expect(&world->fake,
			"AUTH\t1\tSCRAM-SHA-256\tservice=smtp\tnologin\tfinal-resp-ok\t"
			"resp=biwsbj10aW0scj14");
		fake_say(&world->fake, last_words[i].answer);
		assert_true(str_eq(auth_record_challenged(&record), STR("v=x")));
		auth_record_respond(&record, last_words[i].response);
		assert_int_equal(auth_record_result(&record), last_words[i].result);
		teardown(&fresh);
	}
}

/* Who is put off is not told by it that the password is right. */
static void test_last_word_put_off(void **state)
{
	struct world *world = *state;
	struct str first = STR("n,,n=tim,r=x");
	struct auth_record record;

	introduce(world, 5000);
	begin(world, &record, AUTH_SCRAM_SHA_256, &first);
	fake_line(&world->fake);
	record.is_put_off = true;
	fake_say(&world->fake, "OK\t1\tuser=tim\tresp=dj14\n");
	assert_int_equal(auth_record_result(&record), AUTH_OK);
	assert_int_equal(record.answers, 1);
}

static const struct {
	const char *line; /* behind "1" */
	enum auth_result result;
	const char *user;
} answers[] = {
	{ "OK\t1\tuser=tim\n", AUTH_OK, "tim" },
	{ "OK\t1\tresp=eA==\tuser=t\001tm\tx=y\n", AUTH_UNAVAILABLE },
	{ "OK\t1\tuser=j\xc3\xbcrgen\n", AUTH_OK, "j\xc3\xbcrgen" },
	{ "OK\t1\tuser=a=b\n", AUTH_OK, "a=b" },
	{ "OK\t1\n", AUTH_UNAVAILABLE },
	{ "OK\t1\tuser=\n", AUTH_UNAVAILABLE },
	{ "OK\t1\tuser\n", AUTH_UNAVAILABLE },
	{ "OK\t1\tauser=x\n", AUTH_UNAVAILABLE },
	{ "OK\t1\tuser=a\001lb\n", AUTH_UNAVAILABLE },
	{ "OK\t1\tuser=a\001\n", AUTH_UNAVAILABLE },
	{ "OK\t1\tuser=\xff\n", AUTH_UNAVAILABLE },
	{ "FAIL\t1\n", AUTH_REFUSED },
	{ "FAIL\t1\tuser=tim\treason=Temporary thing\n", AUTH_REFUSED },
	{ "FAIL\t1\ttemp\n", AUTH_UNAVAILABLE },
	{ "FAIL\t1\tuser=tim\ttemp\tnodelay\n", AUTH_UNAVAILABLE },
	{ "FAIL\t1\tcode=temp_fail\n", AUTH_UNAVAILABLE },
	{ "FAIL\t1\tcode=user_disabled\n", AUTH_REFUSED },
	{ "FAIL\t1\tcode=authz_fail\n", AUTH_REFUSED },
	{ "FAIL\t1\tcode=new_thing\n", AUTH_REFUSED },
	{ "FAIL\t1\tuser=tim\tcode=pass_expired\n", AUTH_EXPIRED },
	{ "FAIL\t1\tcode=invalid_base64\n", AUTH_MALFORMED },
	{ "FAIL\t1\tcode=temp_failed\n", AUTH_REFUSED },
	/* Other commands, and those for others, in front. */
	{ "NEWS\tthing\nCANCELLED\t7\nOK\t7\tuser=evil\nFAIL\t2\nOK\t1\tuser=tim\n", AUTH_OK,
		"tim" },
	/* The end of the connection. */
	{ "OK\tx\tuser=tim\n", AUTH_UNAVAILABLE },
	{ "OK\n", AUTH_UNAVAILABLE },
	{ "OK\t99999999999\tuser=tim\n", AUTH_UNAVAILABLE },
	{ "CONT\t1\t!!\n", AUTH_UNAVAILABLE },
	{ "CONT\t1\teA=\n", AUTH_UNAVAILABLE },
	{ "DONE\n", AUTH_UNAVAILABLE },
};

static void test_answers(void **state)
{
	struct str initial = STR("\0tim\0secret");

	(void)state;
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		void *fresh = NULL;
		struct auth_record record;

		setup(&fresh);
		struct world *world = fresh;
		introduce(world, 5000);
		begin(world, &record, AUTH_PLAIN, &initial);
		fake_line(&world->fake);
		fake_say(&world->fake, answers[i].line);
		if (auth_record_result(&record) != answers[i].result)
			fail_msg("%s: got %d", answers[i].line, record.result);
		if (answers[i].user != NULL)
			assert_true(str_eq(auth_record_user(&record), str_from(answers[i].user)));
		teardown(&fresh);
	}
}

/* Many at once, answered in another order. */
static void test_in_parallel(void **state)
{
	struct world *world = *state;
	struct auth_record records[50];
	char text[64];

	introduce(world, 5000);
	for (size_t i = 0; i < 50; i++) {
		struct str initial = STR("\0tim\0secret");
		begin(world, &records[i], AUTH_PLAIN, &initial);
	}
	for (size_t i = 0; i < 50; i++)
		fake_line(&world->fake);
	for (int i = 50; i >= 1; i--) {
		snprintf(text, sizeof(text), i % 2 ? "OK\t%d\tuser=u%d\n" : "FAIL\t%d\tuser=u%d\n",
			i, i);
		fake_say(&world->fake, text);
	}
	for (int i = 1; i <= 50; i++) {
		struct auth_record *record = &records[i - 1];
		assert_int_equal(auth_record_result(record), i % 2 ? AUTH_OK : AUTH_REFUSED);
		int n = snprintf(text, sizeof(text), "u%d", i);
		if (i % 2)
			assert_true(str_eq(auth_record_user(record), str_make(text, (size_t)n)));
	}
	assert_int_equal(world->fake.accepted, 1);
}

static void test_bounded(void **state)
{
	struct world *world = *state;
	struct auth_record *records = calloc(AUTH_DOVECOT_REQUESTS_MAX + 1, sizeof(*records));
	struct str initial = STR("\0tim\0secret");

	introduce(world, 5000);
	for (size_t i = 0; i < AUTH_DOVECOT_REQUESTS_MAX; i++)
		begin(world, &records[i], AUTH_PLAIN, &initial);
	auth_record_begin(&records[AUTH_DOVECOT_REQUESTS_MAX], world->loop, world->service,
		AUTH_PLAIN, &initial, &world->client);
	assert_null(records[AUTH_DOVECOT_REQUESTS_MAX].attempt);
	auth_record_cancel(&records[0]);
	begin(world, &records[0], AUTH_PLAIN, &initial);
	world->service->kind->free(world->service);
	world->service = NULL;
	loop_run_for(world->loop, 5);
	for (size_t i = 0; i < AUTH_DOVECOT_REQUESTS_MAX; i++)
		assert_false(records[i].is_answered);
	free(records);
}

/* A server that does not read: lines wait, and at last the connection is given up. */
static void test_deaf(void **state)
{
	static char token[8000];
	struct world *world = *state;
	struct auth_record *records = calloc(AUTH_DOVECOT_REQUESTS_MAX, sizeof(*records));

	world->fake.hello = "VERSION\t1\t2\nMECH\tXOAUTH2\nDONE\n";
	introduce(world, 5000);
	world->fake.is_deaf = true;
	memset(token, 'x', sizeof(token));
	struct str initial = str_make(token, sizeof(token));
	size_t count = 0;
	while (auth_dovecot_is_ready(world->service) && count < AUTH_DOVECOT_REQUESTS_MAX)
		begin(world, &records[count++], AUTH_XOAUTH2, &initial);
	assert_in_range(count, 2, AUTH_DOVECOT_REQUESTS_MAX - 1);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(auth_record_result(&records[i]), AUTH_UNAVAILABLE);
	free(records);
}

/* What a password cannot need, what fits no line, and what says nothing is not handed on; the
 * connection stays. */
static void test_too_much(void **state)
{
	static char much[AUTH_LINE_MAX];
	struct world *world = *state;
	struct str initial = str_make(much, 4097), token = str_make(much, sizeof(much));
	const struct str nothing = STR("");
	struct auth_record record;

	world->fake.hello = "VERSION\t1\t2\nMECH\tPLAIN\nMECH\tXOAUTH2\nMECH\tLOGIN\nDONE\n";
	introduce(world, 5000);
	world->client = (struct auth_client){ .is_tls = false };
	memset(much, 'x', sizeof(much));
	begin(world, &record, AUTH_PLAIN, &initial);
	assert_int_equal(auth_record_result(&record), AUTH_MALFORMED);
	begin(world, &record, AUTH_XOAUTH2, &token);
	assert_int_equal(auth_record_result(&record), AUTH_MALFORMED);
	begin(world, &record, AUTH_PLAIN, &nothing);
	assert_int_equal(auth_record_result(&record), AUTH_MALFORMED);
	begin(world, &record, AUTH_LOGIN, NULL);
	struct str line = fake_line(&world->fake);
	assert_true(str_starts_with(line, STR("CANCEL\t")));
	fake_expect(&world->fake, "AUTH\t2\tLOGIN\tservice=smtp\tnologin");
	fake_say(&world->fake, "CONT\t2\t\n");
	auth_record_wait(&record);
	auth_record_respond(&record, initial);
	assert_int_equal(auth_record_result(&record), AUTH_MALFORMED);
	fake_expect(&world->fake, "CANCEL\t2");
	/* All that a line of SMTP can carry fits. */
	token.n = AUTH_LINE_MAX / 4 * 3;
	begin(world, &record, AUTH_XOAUTH2, &token);
	assert_true(fake_line(&world->fake).n > AUTH_LINE_MAX);
	fake_say(&world->fake, "OK\t3\tuser=u\n");
	assert_int_equal(auth_record_result(&record), AUTH_OK);
}

static void test_not_offered(void **state)
{
	struct world *world = *state;
	struct str initial = STR("n,,\1auth=Bearer x\1\1");
	struct auth_record record;

	introduce(world, 5000);
	begin(world, &record, AUTH_OAUTHBEARER, &initial);
	assert_int_equal(auth_record_result(&record), AUTH_UNAVAILABLE);
}

/* ---- Trouble ---- */

static void test_cancel(void **state)
{
	struct world *world = *state;
	struct str initial = STR("\0tim\0secret");
	struct auth_record record, other;

	introduce(world, 5000);
	begin(world, &record, AUTH_PLAIN, &initial);
	begin(world, &other, AUTH_PLAIN, &initial);
	fake_line(&world->fake);
	fake_line(&world->fake);
	auth_record_cancel(&record);
	fake_expect(&world->fake, "CANCEL\t1");
	fake_say(&world->fake, "OK\t1\tuser=late\nFAIL\t2\n"); /* had crossed */
	assert_int_equal(auth_record_result(&other), AUTH_REFUSED);
	assert_false(record.is_answered);
}

static void test_slow(void **state)
{
	struct world *world = *state;
	struct str initial = STR("\0tim\0secret");
	struct auth_record record, next;

	introduce(world, 500);
	begin(world, &record, AUTH_PLAIN, &initial);
	fake_line(&world->fake);
	uint64_t begin_ms = loop_now_ms(world->loop);
	assert_int_equal(auth_record_result(&record), AUTH_UNAVAILABLE);
	assert_in_range(loop_now_ms(world->loop) - begin_ms, 400, LOOP_RUN_LIMIT_MS);
	fake_expect(&world->fake, "CANCEL\t1");
	/* The connection stays; what comes late is nobody's. */
	begin(world, &next, AUTH_PLAIN, &initial);
	fake_say(&world->fake, "OK\t1\tuser=late\nOK\t2\tuser=tim\n");
	assert_int_equal(auth_record_result(&next), AUTH_OK);
	assert_int_equal(world->fake.accepted, 1);
}

/* The client takes its time between two lines: that is not the server's. */
static void test_slow_client(void **state)
{
	struct world *world = *state;
	struct auth_record record;

	introduce(world, 500);
	begin(world, &record, AUTH_LOGIN, NULL);
	fake_line(&world->fake);
	fake_say(&world->fake, "CONT\t1\t\n");
	auth_record_wait(&record);
	loop_run_for(world->loop, 600);
	auth_record_respond(&record, STR("tim"));
	fake_expect(&world->fake, "CONT\t1\tdGlt");
	fake_say(&world->fake, "OK\t1\tuser=tim\n");
	assert_int_equal(auth_record_result(&record), AUTH_OK);
}

static void test_dies(void **state)
{
	struct world *world = *state;
	struct str initial = STR("\0tim\0secret");
	struct auth_record asked, thinking, later;

	introduce(world, 5000);
	begin(world, &asked, AUTH_PLAIN, &initial);
	begin(world, &thinking, AUTH_LOGIN, NULL);
	fake_line(&world->fake);
	fake_line(&world->fake);
	fake_say(&world->fake, "CONT\t2\t\n");
	auth_record_wait(&thinking);
	fake_hang_up(&world->fake);
	assert_int_equal(auth_record_result(&asked), AUTH_UNAVAILABLE);
	/* Who is not waiting is told when he asks. */
	assert_false(thinking.is_done);
	auth_record_respond(&thinking, STR("tim"));
	assert_int_equal(auth_record_result(&thinking), AUTH_UNAVAILABLE);
	/* Meanwhile it is said that there is AUTH, but not now. */
	assert_int_equal(world->service->kind->mechanisms(world->service),
		AUTH_PLAIN | AUTH_LOGIN | AUTH_SCRAM_SHA_256);
	begin(world, &later, AUTH_PLAIN, &initial);
	assert_int_equal(auth_record_result(&later), AUTH_UNAVAILABLE);

	wait_ready(world);
	assert_int_equal(world->fake.accepted, 2);
	begin(world, &later, AUTH_PLAIN, &initial);
	fake_line(&world->fake);
	fake_line(&world->fake);
	fake_line(&world->fake);
	fake_say(&world->fake, "OK\t3\tuser=tim\n");
	assert_int_equal(auth_record_result(&later), AUTH_OK);
}

/* The server gives up of itself while the client thinks; and says OK to nothing. */
static void test_unasked(void **state)
{
	const char *lines[] = { "FAIL\t1\tcode=pass_expired\n", "OK\t1\tuser=tim\n" };
	const enum auth_result results[] = { AUTH_EXPIRED, AUTH_UNAVAILABLE };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		void *fresh = NULL;
		struct auth_record record;

		setup(&fresh);
		struct world *world = fresh;
		introduce(world, 5000);
		begin(world, &record, AUTH_LOGIN, NULL);
		fake_line(&world->fake);
		fake_say(&world->fake, "CONT\t1\t\n");
		auth_record_wait(&record);
		fake_say(&world->fake, lines[i]);
		loop_run_for(world->loop, 10);
		auth_record_respond(&record, STR("tim"));
		assert_int_equal(auth_record_result(&record), results[i]);
		assert_int_equal(world->fake.in_n, 0);
		teardown(&fresh);
	}
}

static void test_free_in_each_state(void **state)
{
	struct world *world = *state;
	struct str initial = STR("\0tim\0secret");

	start_service(world, 5000);
	world->service->kind->free(world->service);
	world->fake.hello = NULL;
	start_service(world, 5000);
	loop_run_for(world->loop, 5);
	world->service->kind->free(world->service);
	world->fake.hello = HELLO;
	fake_hang_up(&world->fake);
	start_service(world, 5000);
	wait_ready(world);
	struct auth_record records[2];
	begin(world, &records[0], AUTH_PLAIN, &initial);
	fake_hang_up(&world->fake);
	begin(world, &records[1], AUTH_PLAIN, &initial);
}

static void test_inet(void **state)
{
	struct world *world = *state;
	struct sockaddr_in sa = { .sin_family = AF_INET };
	socklen_t n = sizeof(sa);
	char address[64];
	struct err err;

	close(world->fake.listener);
	world->fake.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(world->fake.listener, (struct sockaddr *)&sa, n), 0);
	assert_int_equal(listen(world->fake.listener, 5), 0);
	assert_int_equal(getsockname(world->fake.listener, (struct sockaddr *)&sa, &n), 0);
	snprintf(address, sizeof(address), "inet:127.0.0.1:%d", ntohs(sa.sin_port));
	world->service = auth_dovecot_new(world->loop, str_from(address), 5000, &err);
	wait_ready(world);
}

/* ---- Without a server ---- */

static void test_addresses(void **state)
{
	const struct {
		const char *text, *path, *endpoint; /* NULL: not this one */
	} addresses[] = {
		{ "unix:/run/dovecot/auth-client", "/run/dovecot/auth-client", NULL },
		{ "unix:/a:b", "/a:b", NULL },
		{ "inet:127.0.0.1:12345", NULL, "127.0.0.1:12345" },
		{ "inet:[2001:db8::1]:1", NULL, "[2001:db8::1]:1" },
		{ "", NULL, NULL },
		{ "unix", NULL, NULL },
		{ "unix:", NULL, NULL },
		{ "unix:/", NULL, NULL },
		{ "unix:auth", NULL, NULL },
		{ "inet:localhost:12345", NULL, NULL },
		{ "inet:127.0.0.1", NULL, NULL },
		{ "inet:127.0.0.1:0", NULL, NULL },
		{ "/run/dovecot/auth-client", NULL, NULL },
		{ "tcp:127.0.0.1:12345", NULL, NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
		struct auth_dovecot_address address;
		char text[ENDPOINT_TEXT_MAX];
		struct err err;
		bool is_good = addresses[i].path != NULL || addresses[i].endpoint != NULL;

		int rc = auth_dovecot_address_parse(str_from(addresses[i].text), &address, &err);
		assert_int_equal(rc, is_good ? 0 : -1);
		if (!is_good)
			continue;
		assert_true(str_eq(address.path, str_from(addresses[i].path)));
		if (addresses[i].endpoint != NULL)
			assert_string_equal(
				endpoint_print(&address.endpoint, text), addresses[i].endpoint);
	}
}

/* Every byte escaped and back; the escaped form structures nothing. */
static void test_escapes(void **state)
{
	struct guard guard = guard_make(1024);
	struct dovecot_line line;
	char all[256], back[256];
	size_t n;

	(void)state;
	for (size_t i = 0; i < 256; i++)
		all[i] = (char)i;
	dovecot_line_begin(&line, "X");
	dovecot_line_add(&line, "k=", str_make(all, 256));
	struct str text = str_range(dovecot_line_end(&line), 4, line.n);
	for (size_t i = 0; i < text.n; i++)
		assert_null(memchr("\t\r\n", text.p[i], 4)); /* the NUL, too */
	assert_true(dovecot_unescape(guard_put(&guard, text), back, 256, &n));
	assert_int_equal(n, 256);
	assert_memory_equal(all, back, 256);
	assert_false(dovecot_unescape(text, back, 255, &n));
	assert_false(dovecot_unescape(guard_put(&guard, STR("ab\001")), back, 256, &n));
	assert_true(dovecot_unescape(STR("\001x"), back, 256, &n));
	assert_true(str_eq(str_make(back, n), STR("x")));
	guard_free(&guard);
}

static void test_line_is_bounded(void **state)
{
	static char big[AUTH_DOVECOT_LINE_MAX];
	struct dovecot_line line;

	(void)state;
	memset(big, 'x', sizeof(big));
	dovecot_line_begin(&line, "X");
	dovecot_line_add(&line, "", str_make(big, sizeof(big) - 3)); /* the longest one */
	assert_false(line.is_too_long);
	assert_int_equal(dovecot_line_end(&line).n, AUTH_DOVECOT_LINE_MAX);
	dovecot_line_begin(&line, "X");
	dovecot_line_add(&line, "", str_make(big, sizeof(big) - 2));
	assert_true(line.is_too_long);
	assert_true(dovecot_line_end(&line).n <= AUTH_DOVECOT_LINE_MAX);
	dovecot_line_begin(&line, "X");
	dovecot_line_add_base64(&line, "resp=", str_make(big, sizeof(big)));
	assert_true(line.is_too_long);
	assert_true(dovecot_line_end(&line).n <= AUTH_DOVECOT_LINE_MAX);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_handshake),
		TEST(test_handshake_not_waited_for),
		cmocka_unit_test(test_handshake_garbage),
		TEST(test_longest_line),
		TEST(test_handshake_silence),
		TEST(test_server_comes_later),
		TEST(test_plain),
		TEST(test_all_parameters),
		TEST(test_login),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_last_word),
		TEST(test_last_word_put_off),
		TEST(test_in_parallel),
		TEST(test_bounded),
		TEST(test_deaf),
		TEST(test_too_much),
		TEST(test_not_offered),
		TEST(test_cancel),
		TEST(test_slow),
		TEST(test_slow_client),
		TEST(test_dies),
		cmocka_unit_test(test_unasked),
		TEST(test_free_in_each_state),
		TEST(test_inet),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_escapes),
		cmocka_unit_test(test_line_is_bounded),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
