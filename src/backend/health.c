/*
 * How servers are, by what those who talk to them have noted.
 */
#include "backend/server.h"

#include <string.h>

#include "backend/backend.h"
#include "backend/queue.h"
#include "base/assert.h"
#include "base/log.h"

/* A share of fewer answers than these says nothing. */
#define SHARE_ANSWERS_MIN 20
/* Slow start begins with this share of the weight, in percent. */
#define SLOW_START_MIN 10
/* How soon the next probe comes, while successes are counted or an address is waited for. */
#define SOON_MS 2000
#define AVOIDED_PROBE_MS (SERVER_AVOIDED_MS / 2)
#define OUTAGES_COUNTED 6 /* doubling ends at SERVER_DOWN_MAX_MS anyway */

static const struct {
	const char *reason;
	bool is_failure;
	bool is_dialogue; /* a later greeting does not disprove it */
} events[] = {
	[SERVER_READY] = { "greeted", false, false },
	[SERVER_OK] = { "answered", false, false },
	[SERVER_TEMPFAILED] = { "too many temporary refusals", false, true },
	[SERVER_CONNECT_FAILED] = { "cannot be connected to", true, false },
	[SERVER_BAD_GREETING] = { "bad greeting", true, false },
	[SERVER_DOUBTED] = { "bad greeting", true, false },
	[SERVER_GONE] = { "closes connections", true, true },
	[SERVER_STALLED] = { "does not answer in time", true, true },
	[SERVER_GOODBYE] = { "421", true, true },
	[SERVER_PROTOCOL] = { "answers out of protocol", true, true },
};

/* ---- Down and up --------------------------------------------------------------------------------- */

static const struct health_settings *settings_of(const struct server *server)
{
	return &server->backend->settings->health;
}

/* Doubled from outage to outage. Servers that failed together are not tried at the same moment, as
 * each adds a share by its index. */
static uint64_t down_ms(const struct server *server)
{
	uint64_t ms = (uint64_t)SERVER_DOWN_MS << (server->health.outages - 1);

	if (ms > SERVER_DOWN_MAX_MS)
		ms = SERVER_DOWN_MAX_MS;
	return ms + ms / 32 * (server->index % 8);
}

static void want_probe(const struct server *server)
{
	if (server->probe_due != NULL)
		server->probe_due(server->probe_ctx);
}

static void put_down(struct server *server, uint64_t now_ms)
{
	struct server_health *health = &server->health;

	health->state = SERVER_DOWN;
	health->failures = health->successes = 0;
	if (health->outages < OUTAGES_COUNTED)
		health->outages++;
	health->retry_ms = now_ms + down_ms(server);
	memset(health->slices, 0, sizeof(health->slices));
	want_probe(server);
}

static void go_down(struct server *server, enum server_event event, uint64_t now_ms)
{
	struct server_health *health = &server->health;

	if (health->up_since_ms > 0 && now_ms - health->up_since_ms >= SERVER_STEADY_MS)
		health->outages = 0;
	health->is_dialogue = events[event].is_dialogue;
	put_down(server, now_ms);
	LOG(SERVER_DOWN, log_str("backend", server->backend->settings->name),
		log_text("server", server->name), log_text("reason", events[event].reason),
		log_int("ms", (int64_t)(health->retry_ms - now_ms)));
}

static void go_up(struct server *server, uint64_t now_ms)
{
	struct server_health *health = &server->health;

	health->state = SERVER_UP;
	health->failures = health->successes = 0;
	health->avoided_until_ms = 0;
	health->up_since_ms = now_ms > 0 ? now_ms : 1;
	LOG(SERVER_UP, log_str("backend", server->backend->settings->name),
		log_text("server", server->name));
	backend_wake(server->backend);
}

/* ---- The share of 4xx ---------------------------------------------------------------------------- */

static void count_answer(struct server_health *health, bool is_tempfail, uint64_t now_ms)
{
	uint64_t number = now_ms / SERVER_SLICE_MS;
	struct server_slice *slice = &health->slices[number % SERVER_SLICES];

	if (slice->number != number)
		*slice = (struct server_slice){ .number = number };
	slice->answers++;
	slice->tempfailed += is_tempfail;
}

static bool is_over_share(const struct server *server, uint64_t now_ms)
{
	uint64_t number = now_ms / SERVER_SLICE_MS;
	uint64_t limit = settings_of(server)->max_tempfail_share;
	uint64_t answers = 0, tempfailed = 0;

	for (size_t i = 0; i < SERVER_SLICES; i++) {
		const struct server_slice *slice = &server->health.slices[i];
		if (slice->number + SERVER_SLICES <= number)
			continue;
		answers += slice->answers;
		tempfailed += slice->tempfailed;
	}
	return limit > 0 && answers >= SHARE_ANSWERS_MIN && tempfailed * 100 > answers * limit;
}

/* When all refuse so much, it is not this server. */
static bool has_better(const struct server *server, uint64_t now_ms)
{
	const struct backend *backend = server->backend;

	for (size_t i = 0; i < backend->server_count; i++) {
		const struct server *other = &backend->servers[i];
		if (other != server && other->health.state == SERVER_UP &&
			other->settings->weight > 0 && server_is_usable(other, now_ms) &&
			!is_over_share(other, now_ms))
			return true;
	}
	return false;
}

/* ---- What was noted ------------------------------------------------------------------------------ */

static void note_ready(struct server *server, uint64_t now_ms)
{
	struct server_health *health = &server->health;

	if (health->state == SERVER_UP) {
		health->avoided_until_ms = 0;
		if (!health->is_dialogue)
			health->failures = 0;
		return;
	}
	/* What fails behind the greeting does so after the next greeting, too: it waits its time. */
	if (health->state == SERVER_DOWN && health->is_dialogue && health->retry_ms > now_ms)
		return;
	if (++health->successes >= settings_of(server)->rise) {
		go_up(server, now_ms);
		return;
	}
	health->state = SERVER_DOWN;
	health->retry_ms = now_ms;
}

static void note_answer(struct server *server, bool is_tempfail, uint64_t now_ms)
{
	struct server_health *health = &server->health;

	if (health->state != SERVER_UP)
		return; /* of a connection from before */
	health->failures = 0;
	health->is_dialogue = false;
	count_answer(health, is_tempfail, now_ms);
	if (is_tempfail && is_over_share(server, now_ms) && has_better(server, now_ms))
		go_down(server, SERVER_TEMPFAILED, now_ms);
}

static void note_failure(struct server *server, enum server_event event, uint64_t now_ms)
{
	struct server_health *health = &server->health;

	switch (health->state) {
	case SERVER_DOWN: /* it was the last resort: that must not put the trial off */
		break;
	case SERVER_PROBING:
		health->is_dialogue = events[event].is_dialogue;
		put_down(server, now_ms);
		break;
	case SERVER_UP:
		health->avoided_until_ms = now_ms + SERVER_AVOIDED_MS;
		if (event == SERVER_DOUBTED) {
			want_probe(server);
			break;
		}
		health->is_dialogue = events[event].is_dialogue;
		if (++health->failures >= settings_of(server)->fall)
			go_down(server, event, now_ms);
		else
			want_probe(server);
		break;
	}
}

void server_note(struct server *server, enum server_event event, uint64_t now_ms)
{
	if (events[event].is_failure)
		note_failure(server, event, now_ms);
	else if (event == SERVER_READY)
		note_ready(server, now_ms);
	else
		note_answer(server, event == SERVER_TEMPFAILED, now_ms);
}

/* One that refuses time and again does not put the probe off. */
void server_refused_client(struct server *server, uint64_t now_ms)
{
	if (server->health.suspected_until_ms > now_ms)
		return;
	server->health.suspected_until_ms = now_ms + AVOIDED_PROBE_MS;
	want_probe(server);
}

void server_learn(
	struct server *server, const struct smtp_capabilities *capabilities, uint64_t now_ms)
{
	if (server->offered != capabilities->extensions || server->withheld_until_ms <= now_ms)
		server->withheld = 0;
	server->offered = capabilities->extensions;
	server->capabilities = *capabilities;
	server->capabilities.extensions &= ~server->withheld;
	server->is_known = true;
	server_note(server, SERVER_READY, now_ms);
}

void server_learn_less(
	struct server *server, const struct smtp_capabilities *capabilities, uint64_t now_ms)
{
	unsigned missing = server->offered & ~capabilities->extensions;

	/* An empty list is the answer to HELO, which names none. */
	if (missing != 0 && capabilities->extensions != 0) {
		server->withheld |= missing;
		server->withheld_until_ms = now_ms + SERVER_WITHHELD_MS;
		server->capabilities.extensions &= ~server->withheld;
	}
	server_note(server, SERVER_READY, now_ms);
}

/* ---- What follows from it ------------------------------------------------------------------------ */

void server_begin_trial(struct server *server, uint64_t now_ms)
{
	struct server_health *health = &server->health;

	if (health->state == SERVER_UP || health->retry_ms > now_ms)
		return;
	health->state = SERVER_PROBING;
	health->retry_ms = now_ms + SERVER_TRIAL_MS;
}

/* With a probe the trial costs no client anything. */
static uint64_t trial_ms(const struct server *server)
{
	const struct server_health *health = &server->health;
	bool is_for_probe = health->state == SERVER_DOWN && server->probe_due != NULL;

	return health->retry_ms + (is_for_probe ? SERVER_TRIAL_MS : 0);
}

bool server_is_usable(const struct server *server, uint64_t now_ms)
{
	const struct server_health *health = &server->health;

	if (!server_has_address(server))
		return false;
	if (health->state == SERVER_UP)
		return health->avoided_until_ms <= now_ms;
	return trial_ms(server) <= now_ms;
}

bool server_is_out(const struct server *server)
{
	if (!server_has_address(server))
		return server->is_looked_up;
	return server->health.state != SERVER_UP && !server->health.is_dialogue;
}

uint64_t server_weight(const struct server *server, uint64_t now_ms)
{
	const struct server_health *health = &server->health;
	uint64_t slow_start = settings_of(server)->slow_start;
	uint64_t elapsed = now_ms - health->up_since_ms;

	if (health->state != SERVER_UP)
		return server->settings->weight * SLOW_START_MIN;
	if (health->up_since_ms == 0 || elapsed >= slow_start)
		return server->settings->weight * SERVER_WEIGHT_ONE;
	uint64_t percent = elapsed * SERVER_WEIGHT_ONE / slow_start;
	return server->settings->weight * (percent > SLOW_START_MIN ? percent : SLOW_START_MIN);
}

uint64_t server_next_probe_ms(const struct server *server, uint64_t interval_ms, uint64_t now_ms)
{
	const struct server_health *health = &server->health;
	uint64_t ms = interval_ms;

	if (health->state == SERVER_UP && health->avoided_until_ms > now_ms)
		ms = AVOIDED_PROBE_MS; /* before the next client finds it dead */
	else if (health->state != SERVER_UP && health->retry_ms > now_ms)
		ms = health->retry_ms - now_ms;
	else if (health->state != SERVER_UP || !server_has_address(server))
		ms = SOON_MS;
	if (health->suspected_until_ms > now_ms && ms > health->suspected_until_ms - now_ms)
		ms = health->suspected_until_ms - now_ms;
	return ms < interval_ms ? ms : interval_ms;
}
