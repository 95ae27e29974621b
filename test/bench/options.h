/* The command line, read from one table that --help prints. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdint.h>

#include "base/ipaddr.h"
#include "workload.h"

#define RECIPIENTS_MAX 1000

struct options {
	struct endpoint target;
	struct workload workload; /* with what the command line changed */
	int proxy;                /* version of the PROXY header, 0: none */
	uint64_t messages;        /* in all; 0: until `seconds` are over */
	uint64_t seconds;         /* how long to work or, for those that hold, to hold */
	uint64_t patience;        /* seconds without any progress until it is given up */
	const char *sender;
	const char *hello;
	const char *recipients[RECIPIENTS_MAX];
	uint32_t recipient_count;
};

/* Exits by itself: 0 after --help, 64 with the reason on stderr for a mistake. */
void options_read(struct options *options, int argc, char **argv);

#endif
