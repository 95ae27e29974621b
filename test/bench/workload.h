/*
 * What to do to the server: the workloads, as rows. Options of the command line change single
 * values.
 */
#ifndef BENCH_WORKLOAD_H
#define BENCH_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/str.h"

#define ALL_MESSAGES UINT32_MAX

enum load_tls { LOAD_TLS_NONE, LOAD_TLS_STARTTLS, LOAD_TLS_IMPLICIT };

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
	enum load_tls tls;
	int tls_version; /* 12, 13; 0: what the two agree upon */
};

/* NULL when there is none of that name. */
const struct workload *workload_find(struct str name);
void workload_print_help(FILE *file);

#endif
