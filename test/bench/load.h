/* One run: what the connections share. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "channel.h"
#include "options.h"
#include "stats.h"

struct load {
	const struct options *options;
	struct stats stats;
	int epoll;
	struct ssl_ctx_st *tls; /* NULL without TLS */

	/* What is written, prepared once. */
	struct buf hello, starttls, mail, data, quit, body;
	struct buf rcpt[RECIPIENTS_MAX];
	struct buf envelope; /* MAIL, all RCPTs and DATA */

	uint64_t opened;     /* connections */
	uint64_t begun;      /* messages; of W5, connections */
	uint32_t open;       /* now */
	uint32_t on_the_way; /* connected and not yet held */
	uint32_t held;
	uint64_t deadline_us; /* nothing is begun afterwards; 0: none */
	uint64_t progress_us; /* when something last happened */
	bool is_over;         /* the connections that are held are closed: no error */
};

void load_prepare(struct load *load, const struct options *options);
void load_free(struct load *load);

/* Counts one more message (or connection) if it may still be begun. */
bool load_begin(struct load *load);

#endif
