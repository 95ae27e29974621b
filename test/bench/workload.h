/*
 * What to do to the server: the workloads, as rows. Options of the command line change single
 * values. W6, which needs TLS, is not among them.
 */
#ifndef BENCH_WORKLOAD_H
#define BENCH_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/str.h"

#define ALL_MESSAGES UINT32_MAX

enum hold { HOLD_NOTHING, HOLD_AFTER_HELLO, HOLD_IN_BODY };

struct workload {
	const char *name;
	const char *help;
	uint32_t connections; /* at a time */
	uint32_t messages;    /* per connection; 0: QUIT at once; ALL_MESSAGES: to the end */
	uint64_t size;        /* of a message, bytes */
	bool says_hello;
	bool pipelines; /* MAIL, RCPT and DATA in one write */
	enum hold hold;
};

/* NULL when there is none of that name. */
const struct workload *workload_find(struct str name);
void workload_print_help(FILE *file);

#endif
