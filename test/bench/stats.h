/* What happened: counts, latencies and what went wrong, printed as one line of JSON. */
#ifndef BENCH_STATS_H
#define BENCH_STATS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "channel.h"
#include "options.h"

#define ERRORS_KEPT 5

struct samples {
	uint32_t *us;
	size_t count, capacity;
};

struct stats {
	uint64_t started_us, ended_us; /* ended: the last thing that was completed */
	uint64_t messages, connections, bytes;
	uint64_t replies[1000];    /* by code; 0: no reply at all */
	struct samples latency;    /* microseconds */
	struct samples greetings;  /* from connect to banner */
	struct samples handshakes; /* of TLS, all of them full */
	char tls_text[CHANNEL_TEXT_MAX];
	struct str tls; /* what the first one agreed upon */
	uint64_t errors;
	struct buf first_errors[ERRORS_KEPT];
};

/* Microseconds of a clock that only goes forward. */
uint64_t stats_now(void);

void stats_sample(struct samples *samples, uint64_t us);
void stats_error(struct stats *stats, const char *step, struct str what);

/* The final line. */
void stats_print(struct stats *stats, const struct options *options);
void stats_free(struct stats *stats);

#endif
