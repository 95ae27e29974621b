#include "stats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/xalloc.h"

#define LINE_MAX_BYTES 65536
#define ERROR_MAX_BYTES 1024

uint64_t stats_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void stats_sample(struct samples *samples, uint64_t us)
{
	if (samples->count == samples->capacity) {
		samples->capacity = samples->capacity ? samples->capacity * 2 : 4096;
		samples->us = xrealloc(samples->us, samples->capacity, sizeof(*samples->us));
	}
	samples->us[samples->count++] = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

void stats_error(struct stats *stats, const char *step, struct str what)
{
	if (stats->errors < ERRORS_KEPT) {
		struct buf *text = &stats->first_errors[stats->errors];
		buf_init(text, ERROR_MAX_BYTES);
		buf_printf(text, "%s: ", step);
		buf_write(text, what);
	}
	stats->errors++;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void put_samples(struct json *json, const char *key, struct samples *samples)
{
	if (samples->count == 0)
		return;
	qsort(samples->us, samples->count, sizeof(*samples->us), compare);
	json_key(json, str_from(key));
	json_object_begin(json);
	json_key_uint(json, "p50", samples->us[samples->count / 2]);
	json_key_uint(json, "p99", samples->us[samples->count * 99 / 100]);
	json_key_uint(json, "max", samples->us[samples->count - 1]);
	json_object_end(json);
}

static void put_rates(struct json *json, const struct stats *stats)
{
	uint64_t us = stats->ended_us > stats->started_us ? stats->ended_us - stats->started_us : 1;
	double seconds = (double)us / 1e6;

	json_key_uint(json, "elapsed_ms", us / 1000);
	json_key_uint(json, "messages_per_second", (uint64_t)((double)stats->messages / seconds));
	json_key_uint(
		json, "connections_per_second", (uint64_t)((double)stats->connections / seconds));
	json_key_uint(
		json, "megabytes_per_second", (uint64_t)((double)stats->bytes / 1e6 / seconds));
}

static void put_tls(struct json *json, struct stats *stats)
{
	if (stats->handshakes.count == 0)
		return;
	json_key_str(json, "tls", stats->tls);
	json_key_uint(json, "handshakes", stats->handshakes.count);
	put_samples(json, "handshake_us", &stats->handshakes);
}

static void put_replies(struct json *json, const struct stats *stats)
{
	char code[8];

	json_key(json, STR("replies"));
	json_object_begin(json);
	for (unsigned i = 0; i < 1000; i++) {
		if (stats->replies[i] == 0)
			continue;
		snprintf(code, sizeof(code), "%03u", i);
		json_key_uint(json, code, stats->replies[i]);
	}
	json_object_end(json);
}

static void put_errors(struct json *json, const struct stats *stats)
{
	json_key_uint(json, "errors", stats->errors);
	json_key(json, STR("unexpected"));
	json_array_begin(json);
	for (uint64_t i = 0; i < stats->errors && i < ERRORS_KEPT; i++)
		json_str(json, buf_view(&stats->first_errors[i]));
	json_array_end(json);
}

void stats_print(struct stats *stats, const struct options *options)
{
	struct buf line;
	struct json json;

	buf_init(&line, LINE_MAX_BYTES);
	json_init(&json, &line);
	json_object_begin(&json);
	json_key_str(&json, "workload", str_from(options->workload.name));
	json_key_uint(&json, "concurrency", options->workload.connections);
	json_key_uint(&json, "size", options->workload.size);
	json_key_uint(&json, "messages", stats->messages);
	json_key_uint(&json, "connections", stats->connections);
	put_rates(&json, stats);
	put_samples(&json, "latency_us", &stats->latency);
	put_samples(&json, "greeting_us", &stats->greetings);
	put_tls(&json, stats);
	put_replies(&json, stats);
	put_errors(&json, stats);
	json_object_end(&json);
	printf("%.*s\n", STR_ARG(buf_view(&line)));
	buf_free(&line);
}

void stats_free(struct stats *stats)
{
	for (int i = 0; i < ERRORS_KEPT; i++)
		buf_free(&stats->first_errors[i]);
	free(stats->latency.us);
	free(stats->greetings.us);
	free(stats->handshakes.us);
}
