#include "app/program.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

#include "backend/backend_tls.h"
#include "backend/names.h"
#include "backend/pool.h"
#include "backend/probe.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "edge/auth_slot.h"
#include "edge/edge.h"
#include "edge/listener_tls.h"
#include "edge/sender_slot.h"
#include "edge/session.h"

/* Connections wait in the kernel until we know what the backends offer, but no longer than this. */
#define FIRST_ROUND_MS 2000
/* How long sessions are waited for after TERM. */
#define STOP_MS 10000
/* How often is looked whether the last session has ended. */
#define DRAIN_LOOK_MS 100
/* How often is looked whether certificates, keys, users, passwords or maps have changed. */
#define FILES_LOOK_MS 5000

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

/* ---- Steps ------------------------------------------------------------------------------------ */

static int open_log(struct program *program, struct err *err)
{
	const struct log_settings *log = &program->settings->log;

	return log_open(log->target.p, (enum log_format)log->format, (enum log_level)log->level,
		program->settings->hostname.p, err);
}

static void give_notices(const struct settings *settings)
{
	struct buf notices;

	buf_init(&notices, 4096);
	settings_notices(settings, &notices);
	struct str rest = buf_view(&notices);
	while (rest.n > 0)
		LOG(CONFIG_NOTICE, log_str("detail", str_cut(&rest, '\n')));
	buf_free(&notices);
}

/* Two sockets a session, and one more process may not be what the administrator thought of. */
static int raise_descriptors(struct program *program, struct err *err)
{
	struct rlimit limit;

	(void)program;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return err_errno(err, "cannot ask for the limit of open files");
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
	return 0;
}

/* A core dump would hold passwords, keys and mail. */
static int forbid_cores(struct program *program, struct err *err)
{
	struct rlimit none = { 0, 0 };

	(void)program;
	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return err_errno(err, "cannot forbid core dumps");
	return 0;
}

static int open_trace(struct program *program, struct err *err)
{
	struct str path = program->settings->log.trace;

	program->edge.trace_fd = -1;
	if (path.n == 0)
		return 0;
	program->edge.trace_fd = open(path.p, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
	if (program->edge.trace_fd < 0)
		return err_errno(err, "log.trace: cannot open %s", path.p);
	return 0;
}

/* "192.0.2.1:53,[2001:db8::1]:53" for the resolver. */
static void print_servers(const struct dns_settings *dns, struct buf *out)
{
	const struct endpoint *servers = dns->servers.items;
	char text[ENDPOINT_TEXT_MAX];

	for (size_t i = 0; i < dns->servers.count; i++)
		buf_printf(out, "%s%s", i > 0 ? "," : "", endpoint_print(&servers[i], text));
}

static int start_resolver(struct program *program, struct err *err)
{
	const struct dns_settings *dns = &program->settings->dns;
	struct buf servers;

	buf_init(&servers, 4096);
	print_servers(dns, &servers);
	struct resolver_settings settings = {
		.servers = buf_view(&servers),
		.timeout_ms = dns->timeout_ms,
		.tries = (unsigned)dns->tries,
		.is_off = !dns->reverse,
	};
	program->resolver = resolver_new(program->loop, &settings, err);
	buf_free(&servers);
	return program->resolver ? 0 : -1;
}

static int make_plans(struct program *program, struct err *err)
{
	const struct settings *settings = program->settings;
	struct policy_roots roots = {
		.relay = &settings->relay,
		.hostname = settings->hostname,
		.connections_per_client = settings->limits.connections_per_client,
	};

	(void)err;
	program->default_plan = settings_default_plan(settings);
	policy_plan_bind(program->default_plan, &roots);
	policy_plans_bind(&settings->plans, &roots);
	return 0;
}

static int make_backends(struct program *program, struct err *err)
{
	const struct conf_list *list = &program->settings->backends;
	const struct backend_settings *settings = list->items;

	program->backends = xcalloc(list->count, sizeof(*program->backends));
	for (size_t i = 0; i < list->count; i++) {
		struct backend *backend = &program->backends[program->backend_count++];
		backend_init(backend, &settings[i]);
		if (backend_tls_open(backend, err) < 0 ||
			backend_auth_open(&backend->auth, &settings[i], err) < 0)
			return -1;
	}
	return 0;
}

static int open_routes(struct program *program, struct err *err)
{
	return route_table_open(&program->edge.routes, &program->settings->routes,
		program->backends, program->backend_count, err);
}

static int open_tls(struct program *program, struct err *err)
{
	const struct conf_list *list = &program->settings->listeners;
	const struct listener_settings *listeners = list->items;

	program->tls_slots = xcalloc(list->count, sizeof(*program->tls_slots));
	for (size_t i = 0; i < list->count; i++)
		if (listener_tls_open(&program->tls_slots[i], &listeners[i], err) < 0)
			return -1;
	return 0;
}

static int open_auth(struct program *program, struct err *err)
{
	const struct conf_list *list = &program->settings->listeners;
	const struct listener_settings *listeners = list->items;

	program->auth_slots = xcalloc(list->count, sizeof(*program->auth_slots));
	auth_guard_init(&program->edge.auth_guard);
	for (size_t i = 0; i < list->count; i++)
		if (auth_slot_open(&program->auth_slots[i], &program->edge, listeners[i].name,
			    &listeners[i].auth, err) < 0)
			return -1;
	return 0;
}

static int open_senders(struct program *program, struct err *err)
{
	const struct conf_list *list = &program->settings->listeners;
	const struct listener_settings *listeners = list->items;

	program->sender_slots = xcalloc(list->count, sizeof(*program->sender_slots));
	for (size_t i = 0; i < list->count; i++)
		if (sender_slot_open(&program->sender_slots[i], listeners[i].name,
			    &listeners[i].auth, err) < 0)
			return -1;
	return 0;
}

static int make_edge(struct program *program, struct err *err)
{
	const struct settings *settings = program->settings;
	struct edge *edge = &program->edge;

	(void)err;
	edge->loop = program->loop;
	edge->resolver = program->resolver;
	edge->hostname = settings->hostname;
	edge->smtp = (struct smtp_server_settings){
		.hostname = settings->hostname,
		.limits = settings->limits.smtp,
		.timeouts = { settings->timeouts.command, settings->timeouts.data },
	};
	edge->limits = &settings->limits;
	edge->timeouts = &settings->timeouts;
	edge->relay = &settings->relay;
	program->replays.max = (size_t)settings->limits.replay_buffers;
	edge->backend = (struct backend_env){
		.loop = program->loop,
		.hostname = settings->hostname,
		.timeouts = &settings->timeouts.backend,
		.tls_handshake_ms = settings->timeouts.tls_handshake,
		.replays = &program->replays,
	};
	edge->traces_restricted = settings->log.trace_restricted;
	clients_init(&edge->clients, settings->limits.connections);
	clients_init(&edge->handshakers, settings->limits.handshakes);
	local_names_init(&edge->local_names, program->resolver, settings->hostname);
	LIST_INIT(&edge->sessions);
	return 0;
}

static void on_accepted(
	void *ctx, int fd, const struct endpoint *peer, const struct endpoint *local)
{
	session_new(ctx, fd, peer, local);
}

static void on_accept_failed(void *ctx, const struct err *err)
{
	const struct edge_listener *listener = ctx;

	LOG(ACCEPT_FAILED, log_str("listener", listener->settings->name),
		log_text("error", err->text));
}

static const struct listener_events listener_events = {
	.accepted = on_accepted,
	.failed = on_accept_failed,
};

static int open_listener(
	struct program *program, size_t index, const struct endpoint *address, struct err *err)
{
	const struct listener_settings *settings =
		(const struct listener_settings *)program->settings->listeners.items + index;
	struct edge_listener *listener = &program->listeners[program->listener_count];
	const struct policy_plan *plan =
		policy_plan_find(&program->settings->plans, settings->plan);
	char text[ENDPOINT_TEXT_MAX];

	listener->edge = &program->edge;
	listener->settings = settings;
	listener->plan = plan ? plan : program->default_plan;
	listener->tls = &program->tls_slots[index];
	listener->auth = program->auth_slots[index].service;
	listener->senders = &program->sender_slots[index];
	if (listener_open(&listener->listener, program->loop, address, &listener_events, listener,
		    err) < 0)
		return err_prefix(err, "listener %s", settings->name.p);
	program->listener_count++;
	LOG(LISTENING, log_str("listener", settings->name),
		log_text("address", endpoint_print(&listener->listener.address, text)));
	return 0;
}

static size_t count_addresses(const struct settings *settings)
{
	const struct listener_settings *listeners = settings->listeners.items;
	size_t count = 0;

	for (size_t i = 0; i < settings->listeners.count; i++)
		count += listeners[i].bind.count;
	return count;
}

static int open_listeners(struct program *program, struct err *err)
{
	const struct settings *settings = program->settings;
	const struct listener_settings *listeners = settings->listeners.items;

	program->listeners = xcalloc(count_addresses(settings), sizeof(*program->listeners));
	for (size_t i = 0; i < settings->listeners.count; i++) {
		const struct endpoint *addresses = listeners[i].bind.items;
		for (size_t j = 0; j < listeners[i].bind.count; j++)
			if (open_listener(program, i, &addresses[j], err) < 0)
				return -1;
	}
	return 0;
}

static bool is_own_address(void *ctx, const struct endpoint *address)
{
	const struct program *program = ctx;

	for (size_t i = 0; i < program->listener_count; i++) {
		const struct endpoint *own = &program->listeners[i].listener.address;
		bool is_same = ipaddr_eq(&own->ip, &address->ip) ||
			       (ipaddr_is_unspecified(&own->ip) && ipaddr_is_local(&address->ip));
		if (is_same && own->port == address->port)
			return true;
	}
	return false;
}

static int guard_backends(struct program *program, struct err *err)
{
	(void)err;
	for (size_t i = 0; i < program->backend_count; i++)
		backend_guard(&program->backends[i], is_own_address, program);
	return 0;
}

/* What root has made must stay ours when it is opened anew. */
static int give_files(const struct program *program, uid_t user, gid_t group, struct err *err)
{
	if (program->edge.trace_fd >= 0 && fchown(program->edge.trace_fd, user, group) < 0)
		return err_errno(err, "user: cannot give the trace away");
	return log_give_to(user, group, err);
}

/* Nothing that comes from outside is handled as root. */
static int give_up_privileges(struct program *program, struct err *err)
{
	struct str user = program->settings->user;

	if (user.n == 0 || geteuid() != 0)
		return 0;
	errno = 0;
	const struct passwd *entry = getpwnam(user.p);
	if (entry == NULL)
		return err_set(err, "user: there is no user %s", user.p);
	if (give_files(program, entry->pw_uid, entry->pw_gid, err) < 0)
		return -1;
	if (initgroups(user.p, entry->pw_gid) < 0 || setgid(entry->pw_gid) < 0 ||
		setuid(entry->pw_uid) < 0)
		return err_errno(err, "user: cannot become %s", user.p);
	return 0;
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
	if (open_trace(program, &err) < 0) {
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
	{ open_log, EX_OSERR },
	{ catch_signals, EX_OSERR },
	{ raise_descriptors, EX_OSERR },
	{ forbid_cores, EX_OSERR },
	{ open_trace, EX_OSERR },
	{ start_resolver, EX_OSERR },
	{ make_plans, EX_SOFTWARE },
	{ make_backends, EX_CONFIG },
	{ open_routes, EX_CONFIG },
	{ make_edge, EX_SOFTWARE },
	{ open_tls, EX_CONFIG },
	{ open_auth, EX_CONFIG },
	{ open_senders, EX_CONFIG },
	{ open_listeners, EX_OSERR },
	{ guard_backends, EX_SOFTWARE },
	{ give_up_privileges, EX_NOPERM },
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
	give_notices(program->settings);
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

int program_run(const struct settings *settings)
{
	struct program program = { .settings = settings, .edge.trace_fd = -1 };

	program.loop = loop_new();
	int status = start(&program);
	if (status == EX_OK) {
		loop_run(program.loop);
		LOG(STOPPED, log_text("reason", program.stop_reason));
	}
	free_program(&program);
	return status;
}
