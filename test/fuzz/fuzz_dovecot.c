/*
 * The service of a Dovecot auth server that says anything. Byte 0: whether the server introduces
 * itself well first (1), so that the rest answers two requests. It says the rest and closes. What must
 * hold: each request and each response is answered once, from the loop; a user that is named is
 * printable; and whatever was said, the service has let go of the connection and of all requests.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "auth/dovecot.h"
#include "auth/sasl.h"
#include "base/assert.h"
#include "base/log.h"
#include "support/loop_run.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INTRODUCED 1
#define HELLO "VERSION\t1\t2\nMECH\tPLAIN\nMECH\tLOGIN\nMECH\tSCRAM-SHA-256\nDONE\n"
#define REQUESTS 2

struct request {
	struct world *world;
	struct auth_attempt *attempt; /* NULL: over */
	bool is_owed, is_inside;
};

struct world {
	struct loop *loop;
	struct auth_service *service;
	int server; /* -1: closed */
	struct str said;
	struct request requests[REQUESTS];
};

/* ---- The owner of requests -------------------------------------------------------------------- */

static void answered(struct request *request)
{
	ASSERT(request->is_owed && !request->is_inside && request->attempt != NULL);
	request->is_owed = false;
}

static void on_challenge(void *ctx, struct str bytes)
{
	struct request *request = ctx;

	answered(request);
	ASSERT(bytes.n < AUTH_DOVECOT_LINE_MAX);
	request->is_owed = request->is_inside = true;
	request->world->service->kind->respond(request->attempt, bytes);
	request->is_inside = false;
}

static void on_done(void *ctx, enum auth_result result, struct str user)
{
	struct request *request = ctx;

	answered(request);
	request->attempt = NULL;
	ASSERT(result != AUTH_OK || user.n > 0);
	ASSERT(user.n <= SASL_NAME_MAX && sasl_is_text(user));
	for (size_t i = 0; i < user.n; i++)
		ASSERT(!ascii_is_control(user.p[i]));
}

static bool is_put_off(void *ctx, struct str user)
{
	(void)ctx;
	ASSERT(user.n > 0);
	return user.n % 2 == 0;
}

static const struct auth_port port = {
	.challenge = on_challenge,
	.done = on_done,
	.is_put_off = is_put_off,
};

static void begin(struct world *world, struct request *request, unsigned mechanism)
{
	const struct auth_client client = { .is_tls = true };
	const struct str initial = STR("\0user\0pass");

	request->world = world;
	request->is_owed = request->is_inside = true;
	request->attempt = world->service->kind->begin(world->service, mechanism,
		mechanism == AUTH_PLAIN ? &initial : NULL, &client, &port, request);
	ASSERT(request->attempt != NULL);
	request->is_inside = false;
}

/* ---- The server ------------------------------------------------------------------------------- */

static char folder[] = "/tmp/gatepost-fuzz-XXXXXX";
static char path[sizeof(folder) + 8];
static int listener = -1;

static void stop_listening(void)
{
	unlink(path);
	rmdir(folder);
}

static void listen_once(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	if (listener >= 0)
		return;
	ASSERT(mkdtemp(folder) != NULL);
	snprintf(path, sizeof(path), "%s/auth", folder);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	ASSERT(bind(listener, (struct sockaddr *)&sa, sizeof(sa)) == 0);
	ASSERT(listen(listener, 4) == 0);
	atexit(stop_listening);
	log_open("stderr", LOG_FORMAT_JSON, LOG_ERROR_LEVEL, "mx", NULL);
}

/* Says it as far as the client reads; what is longer than a socket takes is cut. */
static void say(const struct world *world, struct str bytes)
{
	(void)!send(world->server, bytes.p, bytes.n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static bool has_accepted(void *ctx)
{
	struct world *world = ctx;

	world->server = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	return world->server >= 0;
}

static bool is_ready(void *ctx)
{
	const struct world *world = ctx;

	return auth_dovecot_is_ready(world->service);
}

/* The client gives up or sees the end: it does not look at what comes behind. */
static bool has_let_go(void *ctx)
{
	char bytes[4096];
	struct world *world = ctx;
	ssize_t n;

	do
		n = recv(world->server, bytes, sizeof(bytes), 0);
	while (n > 0);
	if (world->requests[0].attempt != NULL || world->requests[1].attempt != NULL)
		return false;
	return n == 0;
}

static void expect(struct world *world, bool (*condition)(void *ctx))
{
	bool is_reached = loop_run_while(world->loop, LOOP_RUN_LIMIT_MS, condition, world);

	ASSERT(is_reached);
}

/* ---- One input -------------------------------------------------------------------------------- */

static void run(struct world *world, bool is_introduced, struct str said)
{
	expect(world, has_accepted);
	if (is_introduced) {
		say(world, STR(HELLO));
		expect(world, is_ready);
		begin(world, &world->requests[0], AUTH_PLAIN);
		begin(world, &world->requests[1], AUTH_LOGIN);
	}
	say(world, said);
	ASSERT(shutdown(world->server, SHUT_WR) == 0);
	expect(world, has_let_go);
	ASSERT(!auth_dovecot_is_ready(world->service));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world world = { .server = -1 };
	char address[sizeof(path) + 8];

	if (size == 0)
		return 0;
	listen_once();
	world.loop = loop_new();
	snprintf(address, sizeof(address), "unix:%s", path);
	world.service = auth_dovecot_new(world.loop, str_from(address), 5000, NULL);
	ASSERT(world.service != NULL);
	run(&world, data[0] & INTRODUCED, str_make((const char *)data + 1, size - 1));
	world.service->kind->free(world.service);
	close(world.server);
	loop_free(&world.loop);
	return 0;
}
