#include "app/program.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "backend/pool.h"
#include "base/log.h"
#include "edge/session.h"
#include "program_priv.h"

/* Connections wait in the kernel until we know what the backends offer, but no longer than this. */
#define FIRST_ROUND_MS 2000
/* How long sessions are waited for after TERM. */
#define STOP_MS 10000
/* How often is looked whether the last session has ended. */
#define DRAIN_LOOK_MS 100
/* How often is looked whether certificates, keys, users, passwords or maps have changed. */
#define FILES_LOOK_MS 5000
/* From this size on memory goes back to the system when it is freed. */
#define LARGE_BLOCK (128 * 1024)
/* So much may be free at the end of the heap, so that it does not grow and shrink all the time. */
#define SPARE_HEAP (1024 * 1024)

/* ---- Steps ------------------------------------------------------------------------------------ */

static void give_notices(struct str notices)
{
	while (notices.n > 0)
		LOG(CONFIG_NOTICE, log_str("detail", str_cut(&notices, '\n')));
}

static void start_accepting(void *ctx)
{
	struct program *program = ctx;

	if (program->is_accepting || program->is_stopping)
		return;
	program->is_accepting = true;
	for (size_t i = 0; i < program->listener_count; i++)
		listener_start(&program->listeners[i].listener);
	LOG(STARTED, log_text("version", GATEPOST_VERSION), log_int("pid", getpid()));
}

static void start_probes(void *ctx)
{
	struct program *program = ctx;

	if (program->probes != NULL)
		return;
	program->probes = probes_new(&program->edge.backend, program->backends,
		program->backend_count, start_accepting, program);
}

static void first_round_over(void *ctx)
{
	start_probes(ctx);
	start_accepting(ctx);
}

/* The names of servers, then the servers, and then clients. */
static int look_at_servers(struct program *program, struct err *err)
{
	(void)err;
	timer_init(&program->first_round, program->loop, first_round_over, program);
	timer_set(&program->first_round, FIRST_ROUND_MS);
	program->names = names_new(program->loop, program->resolver, program->backends,
		program->backend_count, start_probes, program);
	return 0;
}

/* Certificates are renewed, users come and go, domains move: what has changed is read anew. */
static void refresh_files(struct program *program, bool always)
{
	for (size_t i = 0; i < program->settings->listeners.count; i++) {
		tls_slot_refresh(&program->tls_slots[i], always);
		auth_slot_refresh(&program->auth_slots[i], always);
		sender_slot_refresh(&program->sender_slots[i], always);
	}
	for (size_t i = 0; i < program->backend_count; i++) {
		tls_slot_refresh(&program->backends[i].tls, always);
		backend_auth_refresh(&program->backends[i].auth, always);
	}
	route_table_refresh(&program->edge.routes, always);
}

static void look_at_files(void *ctx)
{
	struct program *program = ctx;

	refresh_files(program, false);
	timer_set(&program->tls_watch, FILES_LOOK_MS);
}

static int watch_files(struct program *program, struct err *err)
{
	(void)err;
	timer_init(&program->tls_watch, program->loop, look_at_files, program);
	timer_set(&program->tls_watch, FILES_LOOK_MS);
	return 0;
}

/* ---- The end ---------------------------------------------------------------------------------- */

static void look_whether_drained(void *ctx)
{
	struct program *program = ctx;
	bool is_late = program->stop_by_ms > 0 && loop_now_ms(program->loop) >= program->stop_by_ms;

	if (is_late)
		session_abort_all(&program->edge);
	if (program->edge.session_count == 0)
		loop_stop(program->loop);
	else
		timer_set(&program->drain, DRAIN_LOOK_MS);
}

static void stop(struct program *program, const char *reason)
{
	program->is_stopping = true;
	program->stop_reason = reason;
	for (size_t i = 0; i < program->listener_count; i++)
		listener_close(&program->listeners[i].listener);
	timer_set(&program->drain, 0);
}

/* TERM and INT: sessions are told; a second one does not wait for them. */
static void on_terminate(void *ctx, int signum)
{
	struct program *program = ctx;

	if (program->stop_by_ms > 0) {
		session_abort_all(&program->edge);
		loop_stop(program->loop);
		return;
	}
	stop(program, signum == SIGINT ? "interrupted" : "terminated");
	program->stop_by_ms = loop_now_ms(program->loop) + STOP_MS;
	session_stop_all(&program->edge);
}

/* USR1: nobody new; sessions end by themselves. */
static void on_drain(void *ctx, int signum)
{
	(void)signum;
	stop(ctx, "drained");
}

/* HUP (and USR2): certificates, users and maps are read anew, log and trace are opened anew, after
 * they were rotated. */
static void on_hangup(void *ctx, int signum)
{
	struct program *program = ctx;
	int before = program->edge.trace_fd;
	struct err err;

	(void)signum;
	refresh_files(program, true);
	if (log_reopen(&err) < 0)
		LOG(CONFIG_NOTICE, log_text("detail", err.text));
	if (program_open_trace(program, &err) < 0) {
		program->edge.trace_fd = before;
		LOG(CONFIG_NOTICE, log_text("detail", err.text));
	} else if (before >= 0) {
		close(before);
	}
}

static int catch_signals(struct program *program, struct err *err)
{
	(void)err;
	signal(SIGPIPE, SIG_IGN);
	timer_init(&program->drain, program->loop, look_whether_drained, program);
	loop_signal_start(&program->term, program->loop, SIGTERM, on_terminate, program);
	loop_signal_start(&program->interrupt, program->loop, SIGINT, on_terminate, program);
	loop_signal_start(&program->hangup, program->loop, SIGHUP, on_hangup, program);
	loop_signal_start(&program->user2, program->loop, SIGUSR2, on_hangup, program);
	loop_signal_start(&program->user1, program->loop, SIGUSR1, on_drain, program);
	return 0;
}

/* ---- The list --------------------------------------------------------------------------------- */

static const struct {
	int (*run)(struct program *program, struct err *err);
	int failure; /* of sysexits.h */
} steps[] = {
	{ program_open_log, EX_OSERR },
	{ catch_signals, EX_OSERR },
	{ program_raise_descriptors, EX_OSERR },
	{ program_forbid_cores, EX_OSERR },
	{ program_open_trace, EX_OSERR },
	{ program_start_resolver, EX_OSERR },
	{ program_make_plans, EX_SOFTWARE },
	{ program_make_backends, EX_CONFIG },
	{ program_open_routes, EX_CONFIG },
	{ program_make_edge, EX_SOFTWARE },
	{ program_open_tls, EX_CONFIG },
	{ program_open_auth, EX_CONFIG },
	{ program_open_senders, EX_CONFIG },
	{ program_open_listeners, EX_OSERR },
	{ program_guard_backends, EX_SOFTWARE },
	{ program_give_up_privileges, EX_NOPERM },
	{ look_at_servers, EX_OSERR },
	{ watch_files, EX_OSERR },
};

static int start(struct program *program)
{
	struct err err = { "" };

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		if (steps[i].run(program, &err) < 0) {
			bool forbidden = errno == EACCES || errno == EPERM;
			fprintf(stderr, "gatepost: %s\n", err.text);
			return forbidden ? EX_NOPERM : steps[i].failure;
		}
	}
	return EX_OK;
}

static void free_backend(struct backend *backend)
{
	pool_drop(backend);
	link_drop_leaving(backend);
	tls_slot_close(&backend->tls);
	backend_auth_close(&backend->auth);
	backend_free(backend);
}

static void free_listener_services(struct program *program)
{
	for (size_t i = 0; i < program->settings->listeners.count; i++) {
		if (program->tls_slots != NULL)
			tls_slot_close(&program->tls_slots[i]);
		if (program->auth_slots != NULL)
			auth_slot_close(&program->auth_slots[i]);
		if (program->sender_slots != NULL)
			sender_slot_close(&program->sender_slots[i]);
	}
	free(program->tls_slots);
	free(program->auth_slots);
	free(program->sender_slots);
	auth_guard_free(&program->edge.auth_guard);
}

static void free_program(struct program *program)
{
	struct edge *edge = &program->edge;

	probes_free(&program->probes);
	names_free(&program->names);
	if (edge->loop != NULL) {
		local_names_free(&edge->local_names);
		clients_free(&edge->clients);
		clients_free(&edge->handshakers);
	}
	for (size_t i = 0; i < program->listener_count; i++)
		listener_close(&program->listeners[i].listener);
	free(program->listeners);
	free_listener_services(program);
	route_table_close(&edge->routes);
	for (size_t i = 0; i < program->backend_count; i++)
		free_backend(&program->backends[i]);
	free(program->backends);
	policy_plan_free(&program->default_plan);
	resolver_free(&program->resolver);
	if (edge->trace_fd >= 0)
		close(edge->trace_fd);
	loop_free(&program->loop);
}

/*
 * Left to itself, malloc(3) moves the first limit up with each large block that is freed, and from
 * then on what was kept of messages leaves holes in the heap that do not go back to the system.
 */
static void give_back_large_blocks(void)
{
	(void)mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK);
	(void)mallopt(M_TRIM_THRESHOLD, SPARE_HEAP);
}

int program_run(const struct settings *settings, struct str notices)
{
	struct program program = { .settings = settings, .edge.trace_fd = -1 };

	give_back_large_blocks();
	program.loop = loop_new();
	int status = start(&program);
	if (status == EX_OK) {
		give_notices(notices);
		loop_run(program.loop);
		LOG(STOPPED, log_text("reason", program.stop_reason));
	}
	free_program(&program);
	return status;
}
