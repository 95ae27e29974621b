#include "workload.h"

#define KIB 1024
#define MIB (1024 * 1024)

static const struct workload workloads[] = {
	{ "W1", "one message a connection", 50, 1, 4 * KIB, .says_hello = true },
	{ "W2", "100 messages a connection", 20, 100, 4 * KIB, .says_hello = true },
	{ "W2p", "the same, the envelope pipelined", 20, 100, 4 * KIB, true, .pipelines = true },
	{ "W3", "large messages, 10 a connection", 4, 10, 10 * MIB, .says_hello = true },
	{ "W4", "idle connections after EHLO", 1000, 0, 0, true, .hold = HOLD_AFTER_HELLO },
	{ "W5", "connect, banner, QUIT", 50, 0, 0, .says_hello = false },
	{ "W6", "STARTTLS, one message a connection", 20, 1, 4 * KIB, true,
		.tls = LOAD_TLS_STARTTLS, .tls_version = 13 },
	{ "W6i", "TLS from the first byte, one message a connection", 20, 1, 4 * KIB, true,
		.tls = LOAD_TLS_IMPLICIT, .tls_version = 13 },
	{ "W6h", "TLS from the first byte, banner, QUIT", 20, 0, 0, false, .tls = LOAD_TLS_IMPLICIT,
		.tls_version = 13 },
	{ "W6m", "TLS from the first byte, 100 messages a connection", 20, 100, 4 * KIB, true,
		.tls = LOAD_TLS_IMPLICIT, .tls_version = 13 },
	{ "W4t", "idle connections after EHLO under TLS 1.3", 1000, 0, 0, true,
		.hold = HOLD_AFTER_HELLO, .tls = LOAD_TLS_IMPLICIT, .tls_version = 13 },
	{ "W4t12", "idle connections after EHLO under TLS 1.2", 1000, 0, 0, true,
		.hold = HOLD_AFTER_HELLO, .tls = LOAD_TLS_IMPLICIT, .tls_version = 12 },
	{ "W7", "one connection, one message at a time", 1, ALL_MESSAGES, 4 * KIB,
		.says_hello = true },
	{ "W8", "stopped half way through a message", 200, 1, 1 * MIB, true, .hold = HOLD_IN_BODY },
};

#define WORKLOADS (sizeof(workloads) / sizeof(workloads[0]))

const struct workload *workload_find(struct str name)
{
	for (size_t i = 0; i < WORKLOADS; i++)
		if (str_eq_nocase(name, str_from(workloads[i].name)))
			return &workloads[i];
	return NULL;
}

void workload_print_help(FILE *file)
{
	fputs("\nWorkloads:\n", file);
	for (size_t i = 0; i < WORKLOADS; i++) {
		const struct workload *w = &workloads[i];
		fprintf(file, "  %-5s %s: %u at a time, %lu bytes\n", w->name, w->help,
			w->connections, (unsigned long)w->size);
	}
}
