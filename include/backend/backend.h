/*
 * Backends as they are at run time: their servers, and which comes first for a client.
 */
#ifndef BACKEND_BACKEND_H
#define BACKEND_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "backend/backend_auth.h"
#include "backend/server.h"
#include "backend/settings.h"
#include "base/ipaddr.h"
#include "connection/transaction.h"
#include "net/loop.h"
#include "net/tls_slot.h"

struct server_wait;

struct backend {
	const struct backend_settings *settings;
	struct tls_slot tls;      /* with tls.mode other than off */
	struct backend_auth auth; /* with credentials of ours */
	struct server *servers;
	size_t server_count;
	uint64_t choices;          /* made so far */
	LIST_HEAD(, link) leaving; /* for backend/link.c: waiting for the answer to QUIT */

	/* For backend/queue.c. */
	TAILQ_HEAD(, server_wait) waiting;
	size_t waiting_count;
	struct task waking;
	unsigned waking_round;
	struct loop *loop; /* once somebody has waited */

	/* Is a listener of ours at this address? NULL: not known. */
	bool (*is_own)(void *ctx, const struct endpoint *address);
	void *is_own_ctx;
};

void backend_init(struct backend *backend, const struct backend_settings *settings);
/* Nobody waits any more. */
void backend_free(struct backend *backend);

/* Which addresses are listeners of ours: mail would go round. Looks at the addresses there are, and
 * at those that names lead to later. */
void backend_guard(struct backend *backend,
	bool (*is_own)(void *ctx, const struct endpoint *address), void *ctx);

/* What one transaction has tried; zeroed at its start. */
struct server_choice {
	uint64_t tried;  /* a bit each: a backend has at most BACKEND_SERVERS_MAX */
	bool is_full;    /* of the last choice: those that come next have no connection left */
	bool has_waited; /* for backend/queue.c: its turn has come */
	uint64_t wait_until_ms; /* likewise: 0: has not waited yet */
};

/*
 * The best server for this client that was not tried yet; it then counts as tried, and what follows
 * is its trial if it was down. In this order: those that can be used; `backup` servers that can be
 * used; those that were avoided or down, as a last resort; such backups. Those with weight 0 are
 * never chosen, nor those without an address.
 *
 * A server with all of its max_connections in use, or wanted by those who wait, is passed over.
 * NULL with is_full: there are only such where the choice is; wait (backend/queue.h) or give up. NULL
 * without: all have been tried.
 *
 * The caller calls server_acquire() before anything else is chosen.
 */
struct server *backend_choose(struct backend *backend, const struct ipaddr *client, uint64_t now_ms,
	struct server_choice *choice);
/* All that could be chosen are known to be of no use (server_is_out()). */
bool backend_is_out(const struct backend *backend);
/* Would a choice find anything but full servers, if nobody else waited? */
bool backend_has_room(
	const struct backend *backend, const struct server_choice *choice, uint64_t now_ms);

#endif
