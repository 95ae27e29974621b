/* The command line, read from one table that --help prints. */
#ifndef BACKEND_OPTIONS_H
#define BACKEND_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "proxy.h"

#define LISTEN_MAX 16
#define FAULT_OPTIONS_MAX 256

struct options {
	const char *listen[LISTEN_MAX];
	size_t listen_count;
	const char *name;
	const char *maildir;
	const char *record;
	const char *extensions;
	const char *auth; /* "user:password", or NULL */
	const char *fault_file;
	const char *faults[FAULT_OPTIONS_MAX];
	size_t fault_count;
	enum proxy_mode proxy;
	bool records_body;
	bool has_no_ehlo;
	bool is_lenient;
	bool takes_xclient_again;
	bool requires_auth;
	bool is_lmtp;
	bool may_die;
	bool dies_with_parent;
};

/* Exits by itself: 0 after --help, 64 with the reason on stderr for a mistake. */
void options_read(struct options *options, int argc, char **argv);

#endif
