/* The deprecated calls are those that 1.18 has, too. */
#define CARES_NO_DEPRECATED

#include "net/resolver.h"

#include <ares.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/siphash.h"
#include "base/xalloc.h"
#include "resolver_priv.h"

#define BUCKETS 4096 /* a power of two */

/*
 * A busy channel of older c-ares keeps one UDP port, which makes forged answers easier; after so
 * many queries a new channel takes over and the old one ends when its last answer has come.
 */
#define CHANNEL_QUERIES_MAX 500

/*
 * Three kinds of objects. A *question* is somebody's wish, with its deadline. A *look-up* is the
 * name of one address, being asked for or in the cache; questions wait at it. A *channel* is one
 * c-ares handle with its sockets.
 *
 * The library calls back from inside its own functions, so callbacks only change look-ups; owners
 * are called from a task, and a channel ends there, too. Queries are never cancelled: a look-up
 * that nobody waits for any more goes on and fills the cache. c-ares bounds its time.
 */
struct channel {
	LIST_ENTRY(channel) link;
	struct resolver *resolver;
	ares_channel ares;
	struct timer tick; /* due not after the first deadline inside the library */
	LIST_HEAD(, socket_watch) watches;
	unsigned sent, pending; /* queries */
};

struct socket_watch {
	LIST_ENTRY(socket_watch) link;
	struct channel *channel;
	ev_io io;
};

struct lookup {
	LIST_ENTRY(lookup) in_bucket;
	TAILQ_ENTRY(lookup) in_cache; /* when it is not being asked for */
	struct resolver *resolver;
	struct ipaddr ip;
	bool is_asking, is_listed;
	enum resolver_status status;
	bool is_confirmed;
	char *host; /* or NULL */
	uint32_t ttl_s;
	uint64_t expires_ms;
	TAILQ_HEAD(, resolver_question) questions;
	size_t wanted; /* questions that point here, waiting or ready */
};

struct resolver_question {
	TAILQ_ENTRY(resolver_question) link; /* in its look-up's list, or ready */
	struct resolver *resolver;
	struct lookup *lookup;       /* NULL: answered without one */
	enum resolver_status status; /* then */
	bool is_ready, is_answered;
	struct timer deadline;
	void (*answered)(void *ctx, const struct resolver_name *name);
	void *ctx;
};

LIST_HEAD(bucket, lookup);
TAILQ_HEAD(question_list, resolver_question);

struct resolver {
	struct loop *loop;
	bool is_off, is_answering;
	uint64_t timeout_ms;
	int try_ms, tries;
	LIST_HEAD(, channel) channels; /* the first one takes new queries */
	struct siphash_key key;
	struct bucket buckets[BUCKETS];
	TAILQ_HEAD(, lookup) cache; /* oldest first */
	size_t cached, asking;
	struct question_list ready;
	size_t ready_count;
	struct task answering;
};

/* ---- Channels: c-ares on the loop ------------------------------------------------------------ */

/* With many queries under way it is dear to ask the library for its next deadline. A query that
 * is sent cannot be due before its first try ends, so asking is left to the tick. */
static void tick_within(struct channel *channel, uint64_t ms)
{
	uint64_t due_ms = loop_now_ms(channel->resolver->loop) + ms;

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
	struct ev_loop *ev = loop_ev(channel->resolver->loop);
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
		.timeout = channel->resolver->try_ms,
		.tries = channel->resolver->tries,
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

static void channel_free(struct channel *channel)
{
	if (channel->ares != NULL)
		ares_destroy(channel->ares); /* ends its queries, and closes its sockets */
	ASSERT(LIST_EMPTY(&channel->watches));
	timer_stop(&channel->tick);
	free(channel);
}

static struct channel *channel_new(struct resolver *resolver, int *status)
{
	struct channel *channel = xcalloc(1, sizeof(*channel));

	channel->resolver = resolver;
	LIST_INIT(&channel->watches);
	timer_init(&channel->tick, resolver->loop, on_tick, channel);
	*status = init_ares(channel);
	if (*status == ARES_SUCCESS)
		return channel;
	channel->ares = NULL;
	channel_free(channel);
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
static struct channel *replace_channel(struct resolver *resolver, struct channel *old)
{
	int status;
	struct channel *channel = channel_new(resolver, &status);

	old->sent = 0;
	if (channel == NULL)
		return old;
	if (!copy_servers(old, channel)) {
		channel_free(channel);
		return old;
	}
	LIST_INSERT_HEAD(&resolver->channels, channel, link);
	return channel;
}

static struct channel *channel_for_query(struct resolver *resolver)
{
	struct channel *channel = LIST_FIRST(&resolver->channels);

	if (channel->sent >= CHANNEL_QUERIES_MAX)
		channel = replace_channel(resolver, channel);
	channel->sent++;
	return channel;
}

/* Not from inside the library. The first channel is in use. */
static void free_drained_channels(struct resolver *resolver)
{
	struct channel *first = LIST_FIRST(&resolver->channels);
	struct channel *channel = first != NULL ? LIST_NEXT(first, link) : NULL;

	while (channel != NULL) {
		struct channel *next = LIST_NEXT(channel, link);
		if (channel->pending == 0) {
			LIST_REMOVE(channel, link);
			channel_free(channel);
		}
		channel = next;
	}
}

/* ---- Look-ups: the table and the cache ------------------------------------------------------- */

static struct bucket *bucket_of(struct resolver *resolver, const struct ipaddr *ip)
{
	struct str bytes = str_make((const char *)ip->bytes, sizeof(ip->bytes));

	return &resolver->buckets[siphash(&resolver->key, bytes) & (BUCKETS - 1)];
}

static void lookup_free(struct lookup *lookup)
{
	free(lookup->host);
	free(lookup);
}

/* Only what is cached is forgotten; what questions still need stays until they are answered. */
static void forget(struct lookup *lookup)
{
	ASSERT(!lookup->is_asking && lookup->is_listed);
	lookup->is_listed = false;
	LIST_REMOVE(lookup, in_bucket);
	TAILQ_REMOVE(&lookup->resolver->cache, lookup, in_cache);
	lookup->resolver->cached--;
	if (lookup->wanted == 0)
		lookup_free(lookup);
}

static struct lookup *find_lookup(struct resolver *resolver, const struct ipaddr *ip)
{
	struct lookup *lookup;

	LIST_FOREACH(lookup, bucket_of(resolver, ip), in_bucket)
	if (ipaddr_eq(&lookup->ip, ip))
		break;
	if (lookup == NULL || lookup->is_asking || lookup->expires_ms > loop_now_ms(resolver->loop))
		return lookup;
	forget(lookup);
	return NULL;
}

static struct lookup *add_lookup(struct resolver *resolver, const struct ipaddr *ip)
{
	struct lookup *lookup = xcalloc(1, sizeof(*lookup));

	lookup->resolver = resolver;
	lookup->ip = *ip;
	lookup->is_asking = lookup->is_listed = true;
	TAILQ_INIT(&lookup->questions);
	LIST_INSERT_HEAD(bucket_of(resolver, ip), lookup, in_bucket);
	resolver->asking++;
	return lookup;
}

/* An error is remembered shortly, so that a dead zone is not asked for at every connection. */
static uint32_t cached_for_s(const struct lookup *lookup)
{
	if (lookup->status == RESOLVER_NONE)
		return RESOLVER_NEGATIVE_TTL_S;
	if (lookup->status != RESOLVER_OK || lookup->ttl_s < RESOLVER_TTL_MIN_S)
		return RESOLVER_TTL_MIN_S;
	return lookup->ttl_s < RESOLVER_TTL_MAX_S ? lookup->ttl_s : RESOLVER_TTL_MAX_S;
}

static void make_ready(struct resolver_question *question)
{
	struct resolver *resolver = question->resolver;

	question->is_ready = true;
	TAILQ_INSERT_TAIL(&resolver->ready, question, link);
	resolver->ready_count++;
	task_defer(&resolver->answering, resolver->loop);
}

static void make_all_ready(struct lookup *lookup)
{
	struct resolver_question *question;

	while ((question = TAILQ_FIRST(&lookup->questions)) != NULL) {
		TAILQ_REMOVE(&lookup->questions, question, link);
		make_ready(question);
	}
}

static void finish(struct lookup *lookup, enum resolver_status status)
{
	struct resolver *resolver = lookup->resolver;

	lookup->status = status;
	if (status != RESOLVER_OK) {
		free(lookup->host);
		lookup->host = NULL;
	}
	lookup->is_asking = false;
	lookup->expires_ms = loop_now_ms(resolver->loop) + (uint64_t)cached_for_s(lookup) * 1000;
	resolver->asking--;
	TAILQ_INSERT_TAIL(&resolver->cache, lookup, in_cache);
	resolver->cached++;
	make_all_ready(lookup);
	if (resolver->cached > RESOLVER_CACHE_MAX)
		forget(TAILQ_FIRST(&resolver->cache));
}

/* ---- Asking DNS: reverse, then forward ------------------------------------------------------- */

/* One query under way; freed by its callback, which the library calls exactly once. */
struct query {
	struct channel *channel;
	struct lookup *lookup;
	void (*answered)(struct lookup *lookup, struct str message);
};

static enum resolver_status status_of(int ares_status)
{
	return ares_status == ARES_ETIMEOUT ? RESOLVER_TIMEOUT : RESOLVER_ERROR;
}

static void on_answer(void *arg, int status, int timeouts, unsigned char *message, int size)
{
	struct query query = *(struct query *)arg;

	(void)timeouts;
	free(arg);
	query.channel->pending--;
	if (status == ARES_EDESTRUCTION)
		return; /* the resolver ends, and its look-ups with it */
	/* Even when nobody waits: the channel may have ended. */
	task_defer(&query.lookup->resolver->answering, query.lookup->resolver->loop);
	if (status != ARES_SUCCESS || message == NULL || size < 0)
		finish(query.lookup, status_of(status));
	else
		query.answered(query.lookup, str_make((const char *)message, (size_t)size));
}

static void send_query(struct lookup *lookup, struct str name, ns_type type,
	void (*answered)(struct lookup *lookup, struct str message))
{
	struct channel *channel = channel_for_query(lookup->resolver);
	struct query *query = xcalloc(1, sizeof(*query));
	unsigned char message[RESOLVER_QUERY_MAX];
	size_t n = resolver_query(name, type, message);

	*query = (struct query){ .channel = channel, .lookup = lookup, .answered = answered };
	channel->pending++;
	tick_within(channel, (uint64_t)lookup->resolver->try_ms);
	ares_send(channel->ares, message, (int)n, on_answer, query);
}

static void on_address(struct lookup *lookup, struct str message)
{
	uint32_t ttl_s = RESOLVER_NEGATIVE_TTL_S;
	enum resolver_status status = resolver_read_address(message, &lookup->ip, &ttl_s);

	lookup->is_confirmed = status == RESOLVER_OK;
	if (ttl_s < lookup->ttl_s)
		lookup->ttl_s = ttl_s;
	finish(lookup, status == RESOLVER_NONE ? RESOLVER_OK : status);
}

static void on_name(struct lookup *lookup, struct str message)
{
	char host[RESOLVER_HOST_MAX];
	enum resolver_status status = resolver_read_name(message, host, &lookup->ttl_s);

	if (status != RESOLVER_OK) {
		finish(lookup, status);
		return;
	}
	lookup->host = xstrdup(host);
	send_query(
		lookup, str_from(host), ipaddr_is_v4(&lookup->ip) ? ns_t_a : ns_t_aaaa, on_address);
}

static void begin_lookup(struct lookup *lookup)
{
	char name[RESOLVER_REVERSE_NAME_MAX];

	resolver_reverse_name(&lookup->ip, name);
	send_query(lookup, str_from(name), ns_t_ptr, on_name);
}

/* ---- Questions ------------------------------------------------------------------------------- */

/* Takes the question out of its list and away from its look-up. */
static void detach(struct resolver_question *question)
{
	struct lookup *lookup = question->lookup;

	timer_stop(&question->deadline);
	if (question->is_ready) {
		TAILQ_REMOVE(&question->resolver->ready, question, link);
		question->resolver->ready_count--;
	} else if (lookup != NULL) {
		TAILQ_REMOVE(&lookup->questions, question, link);
	}
	question->lookup = NULL;
	if (lookup != NULL && --lookup->wanted == 0 && !lookup->is_listed)
		lookup_free(lookup);
}

static void answer(struct resolver_question *question, const struct resolver_name *name)
{
	question->is_answered = true;
	question->resolver->is_answering = true;
	question->answered(question->ctx, name);
	question->resolver->is_answering = false;
}

static void answer_ready(struct resolver_question *question)
{
	struct lookup *lookup = question->lookup;
	struct resolver_name name = { .status = question->status };

	if (lookup != NULL) {
		name.status = lookup->status;
		name.host = str_from(lookup->host);
		name.is_confirmed = lookup->is_confirmed;
	}
	answer(question, &name);
	detach(question);
	free(question);
}

/* Questions that are asked meanwhile wait for their own turn. */
static void answer_all(void *ctx)
{
	struct resolver *resolver = ctx;
	size_t count = resolver->ready_count;

	for (size_t i = 0; i < count && !TAILQ_EMPTY(&resolver->ready); i++)
		answer_ready(TAILQ_FIRST(&resolver->ready));
	free_drained_channels(resolver);
}

static void on_deadline(void *ctx)
{
	struct resolver_question *question = ctx;
	struct resolver_name name = { .status = RESOLVER_TIMEOUT };

	if (question->is_ready)
		return;
	detach(question);
	answer(question, &name);
	free(question);
}

static struct lookup *lookup_for(struct resolver_question *question, const struct ipaddr *ip)
{
	struct resolver *resolver = question->resolver;
	struct lookup *lookup;

	question->status = RESOLVER_OFF;
	if (resolver->is_off)
		return NULL;
	lookup = find_lookup(resolver, ip);
	if (lookup != NULL)
		return lookup;
	question->status = RESOLVER_ERROR;
	if (resolver->asking >= RESOLVER_ASKING_MAX)
		return NULL;
	lookup = add_lookup(resolver, ip);
	begin_lookup(lookup); /* it may have failed when this returns */
	return lookup;
}

struct resolver_question *resolver_reverse(struct resolver *resolver, const struct ipaddr *ip,
	void (*answered)(void *ctx, const struct resolver_name *name), void *ctx)
{
	struct resolver_question *question = xcalloc(1, sizeof(*question));

	question->resolver = resolver;
	question->answered = answered;
	question->ctx = ctx;
	timer_init(&question->deadline, resolver->loop, on_deadline, question);
	question->lookup = lookup_for(question, ip);
	if (question->lookup != NULL)
		question->lookup->wanted++;
	if (question->lookup == NULL || !question->lookup->is_asking) {
		make_ready(question);
		return question;
	}
	timer_set(&question->deadline, resolver->timeout_ms);
	TAILQ_INSERT_TAIL(&question->lookup->questions, question, link);
	return question;
}

void resolver_abandon(struct resolver_question **question_ptr)
{
	struct resolver_question *question = *question_ptr;

	*question_ptr = NULL;
	if (question == NULL || question->is_answered)
		return;
	detach(question);
	free(question);
}

/* ---- Life ------------------------------------------------------------------------------------ */

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

static int open_first_channel(struct resolver *resolver, struct str servers, struct err *err)
{
	int status;
	struct channel *channel = channel_new(resolver, &status);

	if (channel == NULL)
		return err_set(err, "DNS: %s", ares_strerror(status));
	LIST_INSERT_HEAD(&resolver->channels, channel, link);
	return set_servers(channel, servers, err);
}

struct resolver *resolver_new(
	struct loop *loop, const struct resolver_settings *settings, struct err *err)
{
	struct resolver *resolver = xcalloc(1, sizeof(*resolver));

	ASSERT(settings->is_off || (settings->timeout_ms > 0 && settings->tries > 0 &&
					   settings->tries <= RESOLVER_TRIES_MAX));
	resolver->loop = loop;
	resolver->is_off = settings->is_off;
	resolver->key = siphash_key_make();
	TAILQ_INIT(&resolver->cache);
	TAILQ_INIT(&resolver->ready);
	task_init(&resolver->answering, answer_all, resolver);
	if (resolver->is_off)
		return resolver;
	resolver->timeout_ms = settings->timeout_ms;
	resolver->tries = (int)settings->tries;
	resolver->try_ms = first_try_ms(settings);
	int status = ares_library_init(ARES_LIB_INIT_ALL);
	ASSERT(status == ARES_SUCCESS);
	if (open_first_channel(resolver, settings->servers, err) != 0)
		resolver_free(&resolver);
	return resolver;
}

static void free_questions(struct question_list *ready)
{
	struct resolver_question *question;

	while ((question = TAILQ_FIRST(ready)) != NULL) {
		detach(question);
		free(question);
	}
}

static void free_lookups(struct resolver *resolver, struct bucket *bucket)
{
	struct lookup *lookup;

	while ((lookup = LIST_FIRST(bucket)) != NULL) {
		if (lookup->is_asking)
			finish(lookup, RESOLVER_ERROR);
		free_questions(&resolver->ready);
		forget(lookup);
	}
}

void resolver_free(struct resolver **resolver_ptr)
{
	struct resolver *resolver = *resolver_ptr;
	struct channel *channel;

	if (resolver == NULL)
		return;
	ASSERT(!resolver->is_answering);
	while ((channel = LIST_FIRST(&resolver->channels)) != NULL) {
		LIST_REMOVE(channel, link);
		channel_free(channel);
	}
	free_questions(&resolver->ready);
	for (size_t i = 0; i < BUCKETS; i++)
		free_lookups(resolver, &resolver->buckets[i]);
	task_cancel(&resolver->answering, resolver->loop);
	if (!resolver->is_off)
		ares_library_cleanup();
	free(resolver);
	*resolver_ptr = NULL;
}

const char *resolver_status_word(enum resolver_status status)
{
	static const char *const words[] = {
		[RESOLVER_OK] = "ok",
		[RESOLVER_NONE] = "none",
		[RESOLVER_ERROR] = "error",
		[RESOLVER_TIMEOUT] = "timeout",
		[RESOLVER_OFF] = "off",
	};

	return words[status];
}
