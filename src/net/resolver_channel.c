#include "resolver_channel_priv.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/xalloc.h"

#define CHANNEL_QUERIES_MAX 500

struct socket_watch {
	LIST_ENTRY(socket_watch) link;
	struct channel *channel;
	ev_io io;
};

/* With many queries under way it is dear to ask the library for its next deadline. A query that
 * is sent cannot be due before its first try ends, so asking is left to the tick. */
static void tick_within(struct channel *channel, uint64_t ms)
{
	uint64_t due_ms = loop_now_ms(channel->channels->loop) + ms;

	if (channel->tick.due_ms == 0 || channel->tick.due_ms > due_ms)
		timer_set(&channel->tick, ms);
}

static void on_tick(void *ctx)
{
	struct channel *channel = ctx;
	struct timeval left;

	ares_process_fd(channel->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	if (ares_timeout(channel->ares, NULL, &left) != NULL)
		tick_within(
			channel, (uint64_t)left.tv_sec * 1000 + (uint64_t)left.tv_usec / 1000 + 1);
}

/* The watch may be gone after the call. */
static void on_socket(struct ev_loop *ev, ev_io *io, int revents)
{
	struct socket_watch *watch = io->data;
	ares_socket_t fd = io->fd;

	(void)ev;
	ares_process_fd(watch->channel->ares, revents & EV_READ ? fd : ARES_SOCKET_BAD,
		revents & EV_WRITE ? fd : ARES_SOCKET_BAD);
}

static struct socket_watch *find_watch(struct channel *channel, ares_socket_t fd)
{
	struct socket_watch *watch;

	LIST_FOREACH(watch, &channel->watches, link)
	if (watch->io.fd == fd)
		return watch;
	watch = xcalloc(1, sizeof(*watch));
	watch->channel = channel;
	ev_io_init(&watch->io, on_socket, fd, 0);
	watch->io.data = watch;
	LIST_INSERT_HEAD(&channel->watches, watch, link);
	return watch;
}

/* The library opens, changes or (neither readable nor writable) closes a socket. */
static void on_socket_state(void *data, ares_socket_t fd, int readable, int writable)
{
	struct channel *channel = data;
	struct ev_loop *ev = loop_ev(channel->channels->loop);
	struct socket_watch *watch = find_watch(channel, fd);

	ev_io_stop(ev, &watch->io);
	if (!readable && !writable) {
		LIST_REMOVE(watch, link);
		free(watch);
		return;
	}
	ev_io_set(&watch->io, fd, (readable ? EV_READ : 0) | (writable ? EV_WRITE : 0));
	ev_io_start(ev, &watch->io);
}

static int init_ares(struct channel *channel)
{
	struct ares_options options = {
		.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
		.timeout = channel->channels->try_ms,
		.tries = channel->channels->tries,
		.sock_state_cb = on_socket_state,
		.sock_state_cb_data = channel,
	};
	int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB;

#ifdef ARES_OPT_QUERY_CACHE
	/* One cache, ours: the library's would make answers last longer than their TTL here. */
	options.qcache_max_ttl = 0;
	mask |= ARES_OPT_QUERY_CACHE;
#endif
	return ares_init_options(&channel->ares, &options, mask);
}

static void free_channel(struct channel *channel)
{
	if (channel->ares != NULL)
		ares_destroy(channel->ares); /* ends its queries, and closes its sockets */
	ASSERT(LIST_EMPTY(&channel->watches));
	timer_stop(&channel->tick);
	free(channel);
}

static struct channel *new_channel(struct channels *channels, int *status)
{
	struct channel *channel = xcalloc(1, sizeof(*channel));

	channel->channels = channels;
	LIST_INIT(&channel->watches);
	timer_init(&channel->tick, channels->loop, on_tick, channel);
	*status = init_ares(channel);
	if (*status == ARES_SUCCESS)
		return channel;
	channel->ares = NULL;
	free_channel(channel);
	return NULL;
}

/* The successor asks the same servers, even if resolv.conf cannot be read any more (chroot). */
static bool copy_servers(const struct channel *from, struct channel *to)
{
	struct ares_addr_port_node *servers = NULL;
	int status = ares_get_servers_ports(from->ares, &servers);

	if (status == ARES_SUCCESS)
		status = ares_set_servers_ports(to->ares, servers);
	if (servers != NULL)
		ares_free_data(servers);
	return status == ARES_SUCCESS;
}

/* When there can be no new channel the old one stays in use. */
static struct channel *replace_channel(struct channels *channels, struct channel *old)
{
	int status;
	struct channel *channel = new_channel(channels, &status);

	old->sent = 0;
	if (channel == NULL)
		return old;
	if (!copy_servers(old, channel)) {
		free_channel(channel);
		return old;
	}
	LIST_INSERT_HEAD(&channels->list, channel, link);
	return channel;
}

struct channel *channel_for_query(struct channels *channels)
{
	struct channel *channel = LIST_FIRST(&channels->list);

	if (channel->sent >= CHANNEL_QUERIES_MAX)
		channel = replace_channel(channels, channel);
	channel->sent++;
	return channel;
}

/* Not from inside the library. The first channel is in use. */
void channels_free_drained(struct channels *channels)
{
	struct channel *first = LIST_FIRST(&channels->list);
	struct channel *channel = first != NULL ? LIST_NEXT(first, link) : NULL;

	while (channel != NULL) {
		struct channel *next = LIST_NEXT(channel, link);
		if (channel->pending == 0) {
			LIST_REMOVE(channel, link);
			free_channel(channel);
		}
		channel = next;
	}
}

void channel_sends(struct channel *channel)
{
	channel->pending++;
	tick_within(channel, (uint64_t)channel->channels->try_ms);
}

/* ---- Life ---------------------------------------------------------------------------------------- */

/* The library doubles the time of each further try; all tries together fit the question. */
static int first_try_ms(const struct resolver_settings *settings)
{
	uint64_t ms = settings->timeout_ms / ((1U << settings->tries) - 1);

	if (ms < 1)
		return 1;
	return ms < INT32_MAX ? (int)ms : INT32_MAX;
}

static int set_servers(struct channel *channel, struct str servers, struct err *err)
{
	if (str_is_empty(servers))
		return 0;
	char *list = str_dup(servers);
	int status = ares_set_servers_ports_csv(channel->ares, list);
	free(list);
	if (status == ARES_SUCCESS)
		return 0;
	return err_set(err, "DNS servers \"%.*s\": %s", STR_ARG(servers), ares_strerror(status));
}

static int open_first(struct channels *channels, struct str servers, struct err *err)
{
	int status;
	struct channel *channel = new_channel(channels, &status);

	if (channel == NULL)
		return err_set(err, "DNS: %s", ares_strerror(status));
	LIST_INSERT_HEAD(&channels->list, channel, link);
	return set_servers(channel, servers, err);
}

int channels_open(struct channels *channels, struct loop *loop,
	const struct resolver_settings *settings, struct err *err)
{
	channels->loop = loop;
	channels->tries = (int)settings->tries;
	channels->try_ms = first_try_ms(settings);
	LIST_INIT(&channels->list);
	int status = ares_library_init(ARES_LIB_INIT_ALL);
	ASSERT(status == ARES_SUCCESS);
	if (open_first(channels, settings->servers, err) == 0)
		return 0;
	channels_close(channels);
	return -1;
}

void channels_close(struct channels *channels)
{
	struct channel *channel;

	while ((channel = LIST_FIRST(&channels->list)) != NULL) {
		LIST_REMOVE(channel, link);
		free_channel(channel);
	}
	ares_library_cleanup();
}
