/* Between the files of the program: what it is, and the steps of its start. */
#ifndef APP_PROGRAM_PRIV_H
#define APP_PROGRAM_PRIV_H

#include "app/program.h"
#include "backend/names.h"
#include "backend/probe.h"
#include "backend/replay.h"
#include "edge/auth_slot.h"
#include "edge/edge.h"
#include "edge/sender_slot.h"
struct program {
	const struct settings *settings;
	struct loop *loop;
	struct resolver *resolver;
	struct policy_plan *default_plan;
	struct backend *backends;
	size_t backend_count;
	struct tls_slot *tls_slots;   /* of listeners, by index */
	struct auth_slot *auth_slots; /* likewise */
	struct sender_slot *sender_slots;
	struct replay_budget replays;
	struct edge edge;
	struct edge_listener *listeners;
	size_t listener_count;
	struct names *names;
	struct probes *probes;
	struct loop_signal term, interrupt, hangup, user1, user2;
	struct timer first_round, drain, tls_watch;
	bool is_accepting, is_stopping;
	uint64_t stop_by_ms; /* 0: as long as sessions last */
	const char *stop_reason;
};

/* ---- Steps: -1 and the reason, in the order of the list in program.c ------------------------------ */

/* The process: process.c. */
int program_open_log(struct program *program, struct err *err);
int program_raise_descriptors(struct program *program, struct err *err);
int program_forbid_cores(struct program *program, struct err *err);
int program_open_trace(struct program *program, struct err *err);
int program_give_up_privileges(struct program *program, struct err *err);

/* What it is made of: parts.c. */
int program_start_resolver(struct program *program, struct err *err);
int program_make_plans(struct program *program, struct err *err);
int program_make_backends(struct program *program, struct err *err);
int program_open_routes(struct program *program, struct err *err);
int program_open_tls(struct program *program, struct err *err);
int program_open_auth(struct program *program, struct err *err);
int program_open_senders(struct program *program, struct err *err);
int program_make_edge(struct program *program, struct err *err);
int program_open_listeners(struct program *program, struct err *err);
int program_guard_backends(struct program *program, struct err *err);

#endif
