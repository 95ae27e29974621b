#include "net/resolver.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/siphash.h"
#include "base/xalloc.h"
#include "resolver_channel_priv.h"
#include "resolver_priv.h"

#define BUCKETS 4096 /* a power of two */

/*
 * Kinds of objects. A *question* is somebody's wish, with its deadline. A *look-up* is the
 * name of one address, being asked for or in the cache; questions wait at it. A *channel* is one
 * c-ares handle (resolver_channel_priv.h), whose callbacks only change look-ups. Queries are never
 * cancelled: a look-up that nobody waits for any more goes on and fills the cache. c-ares bounds its
 * time.
 */
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
	struct channels channels;
	struct siphash_key key;
	struct bucket buckets[BUCKETS];
	TAILQ_HEAD(, lookup) cache; /* oldest first */
	size_t cached, asking;
	struct question_list ready;
	size_t ready_count;
	struct task answering;
};

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
	struct channel *channel = channel_for_query(&lookup->resolver->channels);
	struct query *query = xcalloc(1, sizeof(*query));
	unsigned char message[RESOLVER_QUERY_MAX];
	size_t n = resolver_query(name, type, message);

	*query = (struct query){ .channel = channel, .lookup = lookup, .answered = answered };
	channel_sends(channel);
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
	channels_free_drained(&resolver->channels);
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

struct resolver *resolver_new(
	struct loop *loop, const struct resolver_settings *settings, struct err *err)
{
	struct resolver *resolver = xcalloc(1, sizeof(*resolver));

	ASSERT(settings->timeout_ms > 0);
	ASSERT(settings->tries > 0 && settings->tries <= RESOLVER_TRIES_MAX);
	resolver->loop = loop;
	resolver->is_off = settings->is_off;
	resolver->timeout_ms = settings->timeout_ms;
	resolver->key = siphash_key_make();
	TAILQ_INIT(&resolver->cache);
	TAILQ_INIT(&resolver->ready);
	task_init(&resolver->answering, answer_all, resolver);
	if (channels_open(&resolver->channels, loop, settings, err) == 0)
		return resolver;
	free(resolver);
	return NULL;
}

struct channels *resolver_channels(struct resolver *resolver)
{
	return &resolver->channels;
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

	if (resolver == NULL)
		return;
	ASSERT(!resolver->is_answering);
	channels_close(&resolver->channels);
	free_questions(&resolver->ready);
	for (size_t i = 0; i < BUCKETS; i++)
		free_lookups(resolver, &resolver->buckets[i]);
	task_cancel(&resolver->answering, resolver->loop);
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
