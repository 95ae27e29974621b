/*
 * The root of the configuration: composes the tables of the modules, and checks what only the
 * whole can show. The result is one immutable snapshot.
 */
#ifndef APP_SETTINGS_H
#define APP_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "conf/schema.h"
#include "edge/settings.h"
#include "policy/checks/relay.h"

struct log_settings {
	int format, level; /* enum log_format, enum log_level */
	struct str target; /* "stderr", or a path */
	struct str trace;  /* a path; empty: none */
	bool trace_restricted;
};

struct dns_settings {
	struct conf_list servers; /* of struct endpoint; empty: those of resolv.conf */
	uint64_t timeout_ms, tries;
	bool reverse;
};

struct settings {
	struct str hostname;
	uint64_t workers;           /* 0: auto */
	struct str user;            /* empty: stay who we are */
	struct conf_list listeners; /* of struct listener_settings */
	struct relay_settings relay;
	struct conf_list plans;    /* of struct policy_plan */
	struct conf_list backends; /* of struct backend_settings */
	struct conf_list routes;   /* of struct route_settings */
	struct limits_settings limits;
	struct timeouts_settings timeouts;
	struct dns_settings dns;
	struct log_settings log;
};

/* The table of the whole file. */
const struct conf_field *settings_fields(void);

/* Reads and checks `path`; -1 with every mistake in `report`, or 0 with what is allowed in it, but probably
 * not meant: a line each. `with_files`: and those of the files that it names, which the start finds one
 * by one. */
int settings_read(const char *path, bool with_files, struct settings *settings, struct buf *report);
void settings_free(struct settings *settings);

/* The plan of listeners that name none, with what their settings add to it; free it with
 * policy_plan_free(). Named plans have that already. */
struct policy_plan *settings_default_plan(const struct settings *settings);

#endif
