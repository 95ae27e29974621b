/* The load generator; --help says what it does. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/xalloc.h"
#include "client.h"
#include "load.h"

#define EVENTS 256
#define CONNECTING_MAX 64 /* of those that are held: gently, backlogs are short */
#define ERRORS_MAX 1000   /* then it is given up */
#define TICK_MS 100

static volatile sig_atomic_t is_interrupted;

static void interrupt(int number)
{
	(void)number;
	is_interrupted = 1;
}

static bool is_given_up(const struct load *load)
{
	return load->stats.errors >= ERRORS_MAX || is_interrupted;
}

/* A connection is opened for a message (W5: for itself), which counts as begun with it. */
static bool may_open(struct load *load)
{
	const struct workload *workload = &load->options->workload;

	if (is_given_up(load))
		return false;
	if (workload->hold)
		return load->on_the_way < CONNECTING_MAX && load->opened < workload->connections;
	return load_begin(load);
}

static void open_some(struct load *load, struct client *clients)
{
	for (uint32_t i = 0; i < load->options->workload.connections; i++) {
		if (clients[i].step != STEP_CLOSED)
			continue;
		if (!may_open(load))
			return;
		client_open(&clients[i], load);
	}
}

static void fail_the_rest(struct load *load, struct client *clients)
{
	for (uint32_t i = 0; i < load->options->workload.connections; i++)
		if (clients[i].step != STEP_CLOSED && clients[i].step != STEP_HELD)
			client_fail(&clients[i], STR("no progress"));
}

/* One turn; opens connections in the place of those that ended. */
static void turn(struct load *load)
{
	struct epoll_event events[EVENTS];
	int n = epoll_wait(load->epoll, events, EVENTS, TICK_MS);

	for (int i = 0; i < n; i++) {
		struct client *client = events[i].data.ptr;
		client_event(client, events[i].events);
		if (client->step == STEP_CLOSED && may_open(load))
			client_open(client, load);
	}
}

static bool is_stuck(struct load *load)
{
	uint64_t limit = load->progress_us + load->options->patience * 1000000;

	return load->on_the_way > 0 && stats_now() > limit;
}

static void work(struct load *load, struct client *clients)
{
	open_some(load, clients);
	while (load->on_the_way > 0) {
		turn(load);
		if (load->options->workload.hold)
			open_some(load, clients);
		if (is_given_up(load) || is_stuck(load))
			fail_the_rest(load, clients);
	}
}

static void hold(struct load *load, struct client *clients)
{
	uint64_t end = stats_now() + load->options->seconds * 1000000;

	load->stats.connections = load->held;
	load->stats.ended_us = stats_now();
	printf("{\"holding\":%u}\n", load->held);
	fflush(stdout);
	while (stats_now() < end && load->held > 0 && !is_interrupted)
		turn(load);
	for (uint32_t i = 0; i < load->options->workload.connections; i++)
		client_close(&clients[i]);
}

static void run(struct load *load)
{
	const struct options *options = load->options;
	struct client *clients = xcalloc(options->workload.connections, sizeof(*clients));

	load->stats.started_us = load->stats.ended_us = load->progress_us = stats_now();
	if (options->seconds && !options->workload.hold)
		load->deadline_us = load->stats.started_us + options->seconds * 1000000;
	work(load, clients);
	if (options->workload.hold)
		hold(load, clients);
	free(clients);
}

static void prepare_process(void)
{
	struct rlimit files;

	signal(SIGINT, interrupt);
	signal(SIGTERM, interrupt);
	signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
}

int main(int argc, char **argv)
{
	static struct options options;
	static struct load load;

	options_read(&options, argc, argv);
	prepare_process();
	load_prepare(&load, &options);
	load.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (load.epoll < 0) {
		perror("smtp-load: epoll_create1");
		return EX_OSERR;
	}
	run(&load);
	stats_print(&load.stats, &options);
	int exit_code = load.stats.errors > 0;
	load_free(&load);
	close(load.epoll);
	return exit_code;
}
