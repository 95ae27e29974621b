#include "backend/probe.h"

#include <stdlib.h>
#include <sys/socket.h>

#include "backend/backend_tls.h"
#include "backend/server_connect.h"
#include "proto/smtp_params.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "net/stream.h"
#include "proto/proxy.h"
#include "smtp/client.h"

#define OUT_MAX 4096

enum probe_state { PROBE_RESTING, PROBE_CONNECTING, PROBE_TALKING };

struct probe {
	struct probes *probes;
	struct backend *backend;
	struct server *server;
	enum probe_state state;
	bool has_run;
	struct timer timer; /* the deadline, or the rest until the next run */
	struct server_connect connector;
	struct stream stream;
	struct smtp_client client;
	bool is_tls, tls_is_due;
	bool has_learned; /* it has told what counts: QUIT is under way */
};

struct probes {
	const struct backend_env *env;
	void (*first_round)(void *ctx);
	void *ctx;
	size_t count, outstanding; /* outstanding: of the first round */
	struct probe *items;
};

static void rest(struct probe *probe)
{
	struct probes *probes = probe->probes;

	if (probe->state == PROBE_TALKING) {
		stream_close(&probe->stream, false);
		smtp_client_free(&probe->client);
	}
	probe->state = PROBE_RESTING;
	timer_set(&probe->timer, server_next_probe_ms(probe->server, probes->env->timeouts->probe,
					 loop_now_ms(probes->env->loop)));
	if (!probe->has_run && --probes->outstanding == 0)
		probes->first_round(probes->ctx);
	probe->has_run = true;
}

static uint64_t now_ms(const struct probe *probe)
{
	return loop_now_ms(probe->probes->env->loop);
}

static void log_and_avoid(struct probe *probe, const char *why)
{
	LOG(BACKEND_FAILED, log_text("uuid", NULL),
		log_str("backend", probe->backend->settings->name),
		log_text("server", probe->server->name), log_text("step", "probe"),
		log_text("error", why));
	server_note(probe->server,
		probe->state == PROBE_CONNECTING ? SERVER_CONNECT_FAILED : SERVER_BAD_GREETING,
		now_ms(probe));
}

static void failed(struct probe *probe, const char *why)
{
	log_and_avoid(probe, why);
	rest(probe);
}

/* ---- The dialogue ----------------------------------------------------------------------------- */

static void on_send(void *ctx, struct str bytes)
{
	struct probe *probe = ctx;

	stream_write(&probe->stream, bytes);
}

static void learned(struct probe *probe)
{
	char words[SMTP_EXTENSIONS_TEXT_MAX];

	probe->has_learned = true;
	server_learn(probe->server, &probe->client.capabilities, now_ms(probe));
	LOG(BACKEND_LEARNED, log_str("backend", probe->backend->settings->name),
		log_text("server", probe->server->name),
		log_str("extensions",
			smtp_extensions_print(probe->client.capabilities.extensions, words)),
		log_int("size", (int64_t)probe->client.capabilities.size));
	smtp_client_quit(&probe->client);
}

/* A server whose TLS does not work is used without it, where that is allowed; then what it offered
 * in plaintext counts. */
static void tls_failed(struct probe *probe, const char *why)
{
	if (backend_tls_failed(probe->backend) == TLS_STEP_PLAINTEXT && probe->client.is_ready)
		server_learn(probe->server, &probe->client.capabilities, now_ms(probe));
	else
		log_and_avoid(probe, why);
	rest(probe);
}

static void on_handshake_done(void *ctx, const struct err *err)
{
	struct probe *probe = ctx;

	if (probe->state != PROBE_TALKING)
		return;
	if (err != NULL) {
		tls_failed(probe, err->text);
		return;
	}
	probe->is_tls = true;
	timer_set(&probe->timer, probe->probes->env->timeouts->greeting);
	if (smtp_client_pending(&probe->client) == 0)
		smtp_client_hello_again(&probe->client, probe->client.hello);
	stream_read_start(&probe->stream);
}

static void start_tls(struct probe *probe)
{
	probe->tls_is_due = false;
	timer_set(&probe->timer, probe->probes->env->tls_handshake_ms);
	stream_start_tls(&probe->stream, probe->backend->tls.context, on_handshake_done, probe);
}

/* What is offered under TLS is what counts, where TLS is used. */
static void greeted(struct probe *probe)
{
	switch (backend_tls_step(probe->backend, &probe->client.capabilities, probe->is_tls)) {
	case TLS_STEP_NONE:
	case TLS_STEP_PLAINTEXT:
		learned(probe);
		break;
	case TLS_STEP_STARTTLS:
		smtp_client_starttls(&probe->client);
		break;
	case TLS_STEP_REFUSE:
		failed(probe, "STARTTLS not offered");
		break;
	}
}

static void on_answered(void *ctx, enum smtp_client_step step, const struct smtp_reply *reply)
{
	struct probe *probe = ctx;

	if (step == SMTP_CLIENT_QUIT)
		rest(probe);
	else if (step == SMTP_CLIENT_STARTTLS && reply->code == 220)
		probe->tls_is_due = true;
	else if (step == SMTP_CLIENT_STARTTLS)
		tls_failed(probe, "STARTTLS refused");
	else if (probe->client.is_ready)
		greeted(probe);
	else
		failed(probe, "greeting refused");
}

static void on_broken(void *ctx, const char *why, const struct smtp_reply *reply)
{
	(void)reply;
	failed(ctx, why);
}

static const struct smtp_client_port client_port = {
	.send = on_send,
	.answered = on_answered,
	.broken = on_broken,
};

/* All that the check asks for was seen; what the server offers is not asked. */
static void satisfied(struct probe *probe)
{
	server_note(probe->server, SERVER_READY, now_ms(probe));
	rest(probe);
}

static bool is_check(const struct probe *probe, enum health_check check)
{
	return probe->backend->settings->health.check == (int)check;
}

static bool has_banner(const struct probe *probe)
{
	return smtp_client_pending(&probe->client) > 0 &&
	       smtp_client_step(&probe->client) == SMTP_CLIENT_EHLO;
}

static size_t on_input(void *ctx, struct str bytes)
{
	struct probe *probe = ctx;
	size_t taken = smtp_client_feed(&probe->client, bytes);

	if (probe->state != PROBE_TALKING)
		return bytes.n;
	if (is_check(probe, HEALTH_CHECK_BANNER) && has_banner(probe)) {
		satisfied(probe);
		return bytes.n;
	}
	if (probe->tls_is_due)
		start_tls(probe);
	return taken;
}

/* A server that closes after it has told what it offers has answered all the same. */
static void gone(struct probe *probe, const char *why)
{
	if (probe->has_learned)
		rest(probe);
	else
		tls_failed(probe, why);
}

static void on_eof(void *ctx)
{
	gone(ctx, "connection closed");
}

static void on_failed(void *ctx, const struct err *err)
{
	gone(ctx, err->text);
}

static const struct stream_events stream_events = {
	.input = on_input,
	.eof = on_eof,
	.failed = on_failed,
};

/* ---- Connecting ------------------------------------------------------------------------------- */

static struct endpoint own_address(int fd)
{
	struct sockaddr_storage storage = { 0 };
	socklen_t length = sizeof(storage);
	struct endpoint own = { 0 };

	if (getsockname(fd, (struct sockaddr *)&storage, &length) == 0)
		endpoint_from_sockaddr((struct sockaddr *)&storage, &own);
	return own;
}

static void send_identity(struct probe *probe, int fd)
{
	struct endpoint own = own_address(fd);
	char header[PROXY_V1_MAX + 1];
	size_t n = 0;

	if (probe->backend->settings->identity == IDENTITY_PROXY_V1)
		n = proxy_v1_print(&own, &probe->connector.address, header);
	else if (probe->backend->settings->identity == IDENTITY_PROXY_V2)
		n = proxy_v2_print_local(header);
	stream_write(&probe->stream, str_make(header, n));
	stream_flush(&probe->stream);
}

static void connected(void *ctx, int fd, const struct err *err)
{
	struct probe *probe = ctx;

	if (fd < 0) {
		failed(probe, err->text);
		return;
	}
	probe->state = PROBE_TALKING;
	stream_init(&probe->stream, probe->probes->env->loop, fd, SMTP_CLIENT_INPUT_MAX, OUT_MAX,
		&stream_events, probe);
	smtp_client_init(&probe->client, probe->probes->env->hostname, &client_port, probe);
	send_identity(probe, fd);
	if (is_check(probe, HEALTH_CHECK_CONNECT)) {
		satisfied(probe);
		return;
	}
	probe->is_tls = probe->tls_is_due = probe->has_learned = false;
	if (probe->backend->settings->tls.mode == BACKEND_TLS_IMPLICIT) {
		start_tls(probe);
		return;
	}
	stream_read_start(&probe->stream);
	timer_set(&probe->timer, probe->probes->env->timeouts->greeting);
}

static void begin(struct probe *probe)
{
	if (!server_has_address(probe->server)) {
		rest(probe); /* its name is looked up all the time */
		return;
	}
	probe->state = PROBE_CONNECTING;
	timer_clear(&probe->timer);
	server_begin_trial(probe->server, now_ms(probe));
	server_connect_start(&probe->connector, probe->server, probe->probes->env->loop,
		probe->probes->env->timeouts->connect, connected, probe);
}

static void on_timer(void *ctx)
{
	struct probe *probe = ctx;

	if (probe->state == PROBE_RESTING)
		begin(probe);
	else
		gone(probe, "no answer in time");
}

/* ---- The interface ---------------------------------------------------------------------------- */

static size_t server_total(const struct backend *backends, size_t count)
{
	size_t total = 0;

	for (size_t i = 0; i < count; i++)
		total += backends[i].server_count;
	return total;
}

static void add(struct probes *probes, struct backend *backend, struct server *server)
{
	struct probe *probe = &probes->items[probes->count++];

	probe->probes = probes;
	probe->backend = backend;
	probe->server = server;
	timer_init(&probe->timer, probes->env->loop, on_timer, probe);
	timer_set(&probe->timer, 0);
}

struct probes *probes_new(const struct backend_env *env, struct backend *backends, size_t count,
	void (*first_round)(void *ctx), void *ctx)
{
	struct probes *probes = xcalloc(1, sizeof(*probes));

	*probes = (struct probes){ .env = env, .first_round = first_round, .ctx = ctx };
	probes->outstanding = server_total(backends, count);
	probes->items = xcalloc(probes->outstanding, sizeof(*probes->items));
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < backends[i].server_count; j++)
			add(probes, &backends[i], &backends[i].servers[j]);
	return probes;
}

void probes_free(struct probes **freed)
{
	struct probes *probes = *freed;

	*freed = NULL;
	if (probes == NULL)
		return;
	for (size_t i = 0; i < probes->count; i++) {
		struct probe *probe = &probes->items[i];
		if (probe->state == PROBE_CONNECTING)
			server_connect_cancel(&probe->connector);
		if (probe->state == PROBE_TALKING) {
			stream_close(&probe->stream, false);
			smtp_client_free(&probe->client);
		}
		timer_stop(&probe->timer);
	}
	free(probes->items);
	free(probes);
}
