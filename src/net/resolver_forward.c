#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/xalloc.h"
#include "resolver_channel_priv.h"

struct resolver_forward {
	struct channels *channels;
	struct channel *channel;
	bool is_asking, is_abandoned, is_answering;
	struct task answer;
	enum resolver_status status;
	struct ipaddr items[RESOLVER_ADDRESSES_MAX];
	size_t count;
	uint32_t ttl_s;
	void (*answered)(void *ctx, const struct resolver_addresses *addresses);
	void *ctx;
};

/* ---- What c-ares found ---------------------------------------------------------------------------- */

static enum resolver_status status_of(int ares_status)
{
	switch (ares_status) {
	case ARES_SUCCESS:
		return RESOLVER_OK;
	case ARES_ENOTFOUND:
	case ARES_ENODATA:
		return RESOLVER_NONE;
	case ARES_ETIMEOUT:
		return RESOLVER_TIMEOUT;
	default:
		return RESOLVER_ERROR;
	}
}

static void take_address(struct resolver_forward *forward, const struct ares_addrinfo_node *node)
{
	struct endpoint endpoint;

	if (forward->count == RESOLVER_ADDRESSES_MAX ||
		!endpoint_from_sockaddr(node->ai_addr, &endpoint))
		return;
	for (size_t i = 0; i < forward->count; i++)
		if (ipaddr_eq(&forward->items[i], &endpoint.ip))
			return;
	forward->items[forward->count++] = endpoint.ip;
}

static void take_ttl(struct resolver_forward *forward, int ttl_s)
{
	if (ttl_s < RESOLVER_ADDRESSES_TTL_MIN_S)
		ttl_s = RESOLVER_ADDRESSES_TTL_MIN_S;
	if ((uint32_t)ttl_s < forward->ttl_s)
		forward->ttl_s = (uint32_t)ttl_s;
}

static void take_result(struct resolver_forward *forward, const struct ares_addrinfo *result)
{
	for (const struct ares_addrinfo_node *node = result->nodes; node; node = node->ai_next) {
		take_address(forward, node);
		take_ttl(forward, node->ai_ttl);
	}
	for (const struct ares_addrinfo_cname *alias = result->cnames; alias; alias = alias->next)
		take_ttl(forward, alias->ttl);
	if (forward->count == 0)
		forward->status = RESOLVER_NONE;
}

/* From inside the library: whoever asked is told later. */
static void on_result(void *arg, int status, int timeouts, struct ares_addrinfo *result)
{
	struct resolver_forward *forward = arg;

	(void)timeouts;
	forward->is_asking = false;
	forward->channel->pending--;
	forward->status = status_of(status);
	if (status == ARES_SUCCESS)
		take_result(forward, result);
	if (result != NULL)
		ares_freeaddrinfo(result);
	if (status == ARES_EDESTRUCTION)
		free(forward);
	else
		task_defer(&forward->answer, forward->channels->loop);
}

/* ---- The owner ------------------------------------------------------------------------------------ */

static void answer(void *ctx)
{
	struct resolver_forward *forward = ctx;
	struct resolver_addresses addresses = {
		.status = forward->status,
		.items = forward->items,
		.count = forward->count,
		.ttl_s = forward->ttl_s,
	};

	channels_free_drained(forward->channels);
	forward->is_answering = true;
	if (!forward->is_abandoned)
		forward->answered(forward->ctx, &addresses);
	free(forward);
}

struct resolver_forward *resolver_forward(struct resolver *resolver, struct str name,
	void (*answered)(void *ctx, const struct resolver_addresses *addresses), void *ctx)
{
	static const struct ares_addrinfo_hints hints = {
		.ai_flags = ARES_AI_NOSORT,
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
	};
	struct resolver_forward *forward = xcalloc(1, sizeof(*forward));
	char *text = str_dup(name);

	forward->channels = resolver_channels(resolver);
	forward->channel = channel_for_query(forward->channels);
	forward->is_asking = true;
	forward->ttl_s = RESOLVER_TTL_MAX_S;
	forward->answered = answered;
	forward->ctx = ctx;
	task_init(&forward->answer, answer, forward);
	channel_sends(forward->channel);
	ares_getaddrinfo(forward->channel->ares, text, NULL, &hints, on_result, forward);
	free(text);
	return forward;
}

void resolver_forward_abandon(struct resolver_forward **forward_ptr)
{
	struct resolver_forward *forward = *forward_ptr;

	*forward_ptr = NULL;
	if (forward == NULL || forward->is_answering)
		return;
	forward->is_abandoned = true;
	if (forward->is_asking)
		return;
	task_cancel(&forward->answer, forward->channels->loop);
	free(forward);
}
