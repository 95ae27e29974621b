/*
 * Names of addresses and addresses of names, asynchronously, over c-ares.
 *
 * Reverse look-ups, with forward confirmation: c-ares is only the transport, answers are parsed with
 * libresolv. Results are cached for their TTL (bounded), equal questions under way are asked once,
 * and each question has a deadline.
 *
 * Forward look-ups are for the few names of a configuration: the hosts file, then A and AAAA,
 * through c-ares as it is. Nothing is cached; the TTL is told.
 */
#ifndef NET_RESOLVER_H
#define NET_RESOLVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/ipaddr.h"
#include "base/str.h"
#include "net/loop.h"

#define RESOLVER_HOST_MAX 256   /* a name and its terminator */
#define RESOLVER_CACHE_MAX 8192 /* entries; the oldest goes first */
#define RESOLVER_TTL_MIN_S 10
#define RESOLVER_TTL_MAX_S 3600
#define RESOLVER_NEGATIVE_TTL_S 60
#define RESOLVER_FORWARD_MAX 16  /* addresses of a name that are compared */
#define RESOLVER_ASKING_MAX 8192 /* look-ups under way; more questions are answered ERROR */
#define RESOLVER_TRIES_MAX 5

enum resolver_status {
	RESOLVER_OK,    /* there is a name, confirmed or not */
	RESOLVER_NONE,  /* there is none (NXDOMAIN, no PTR) */
	RESOLVER_ERROR, /* SERVFAIL, refused, malformed, no server reachable: in either direction */
	RESOLVER_TIMEOUT, /* no answer by the deadline, likewise */
	RESOLVER_OFF,     /* reverse look-ups are switched off */
};

struct resolver_name {
	enum resolver_status status;
	/*
	 * The first PTR name that is a valid host name, lower case; empty unless the status is OK.
	 * Only letters, digits, dots, hyphens and underscores are in it, whatever DNS says.
	 */
	struct str host;
	bool is_confirmed; /* the name resolves back to the address */
};

struct resolver_settings {
	struct str servers;  /* "127.0.0.1:5353,[::1]:53"; empty: those of resolv.conf */
	uint64_t timeout_ms; /* of the whole question, reverse and forward together; > 0 */
	unsigned tries;      /* a server; 1 to RESOLVER_TRIES_MAX */
	bool is_off;         /* no reverse look-ups; names are looked up all the same */
};

struct resolver;
struct resolver_question;

/* NULL: the servers cannot be understood, or resolv.conf cannot be read. Open it before chroot. */
struct resolver *resolver_new(
	struct loop *loop, const struct resolver_settings *settings, struct err *err);

/* Drops open questions without an answer; not from inside `answered`. */
void resolver_free(struct resolver **resolver);

/*
 * Asks for the name of `ip`. The answer comes later from the loop (also when it is cached), once;
 * `name` and its views are good during the call. The handle is good until then.
 */
struct resolver_question *resolver_reverse(struct resolver *resolver, const struct ipaddr *ip,
	void (*answered)(void *ctx, const struct resolver_name *name), void *ctx);

/*
 * The answer is not wanted any more; *question becomes NULL; no call follows. Allowed with NULL
 * and from inside `answered`. What DNS answers later still goes into the cache.
 */
void resolver_abandon(struct resolver_question **question);

/* ---- Forward ---- */

#define RESOLVER_ADDRESSES_MAX 16 /* of a name; what is more is left out */
#define RESOLVER_ADDRESSES_TTL_MIN_S 1

struct resolver_addresses {
	enum resolver_status status; /* OK: there is one at least */
	const struct ipaddr *items;
	size_t count;
	uint32_t ttl_s; /* RESOLVER_ADDRESSES_TTL_MIN_S to RESOLVER_TTL_MAX_S; of the hosts file the
	                   least */
};

struct resolver_forward;

/*
 * Asks for the addresses of `name`, which is not needed after the call. The answer comes later from
 * the loop, once; `addresses` are good during the call, the handle until then. The owner abandons it
 * before the resolver is freed.
 */
struct resolver_forward *resolver_forward(struct resolver *resolver, struct str name,
	void (*answered)(void *ctx, const struct resolver_addresses *addresses), void *ctx);
/* As resolver_abandon(). */
void resolver_forward_abandon(struct resolver_forward **forward);

/* "ok", "none", "error", "timeout", "off". */
const char *resolver_status_word(enum resolver_status status);

#endif
