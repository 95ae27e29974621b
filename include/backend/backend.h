/*
 * Backends as they are at run time: their servers, what each has said it offers, which failed a
 * moment ago, and which comes first for a client.
 */
#ifndef BACKEND_BACKEND_H
#define BACKEND_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/ipaddr.h"
#include "connection/transaction.h"
#include "backend/settings.h"
#include "net/tls_slot.h"
#include "proto/smtp_reply.h"

/* A server that failed is tried after the others for this long. */
#define SERVER_AVOIDED_MS 10000

struct server {
	struct endpoint address;
	char name[ENDPOINT_TEXT_MAX];
	struct smtp_capabilities capabilities;
	bool is_ourselves; /* its address is that of a listener of ours: mail would go round */
	bool is_known;     /* it has answered EHLO at least once */
	uint64_t avoided_until_ms; /* 0: not */
	unsigned connections;      /* open from us now */
};

struct backend {
	const struct backend_settings *settings;
	struct tls_slot tls; /* with tls.mode other than off */
	struct server *servers;
	size_t server_count;
	unsigned turn; /* of roundrobin */
	LIST_HEAD(, forward)
	leaving; /* for backend/forward.c: released, waiting for the answer to QUIT */
};

void backend_init(struct backend *backend, const struct backend_settings *settings);
void backend_free(struct backend *backend);

/* Which servers one transaction has tried; zeroed at its start. */
struct server_choice {
	size_t start;
	uint64_t tried; /* a bit each: a backend has at most BACKEND_SERVERS_MAX */
};

/* The best server for this client that was not tried yet; it then counts as tried. NULL: all have
 * been. */
struct server *backend_choose(struct backend *backend, const struct ipaddr *client, uint64_t now_ms,
	struct server_choice *choice);

/* A server's EHLO reply; and that it could not be used. */
void server_learn(struct server *server, const struct smtp_capabilities *capabilities);
void server_failed(struct server *server, uint64_t now_ms);

#endif
