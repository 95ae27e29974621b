/*
 * How many connections each client has open, in this process. A hash table with a keyed hash, as
 * its keys come from outside; bounded by the number of connections.
 */
#ifndef EDGE_CLIENTS_H
#define EDGE_CLIENTS_H

#include <stddef.h>

#include "base/ipaddr.h"
#include "base/siphash.h"

struct client_count;

struct clients {
	struct siphash_key key;
	struct client_count **buckets;
	size_t bucket_count; /* a power of two */
};

/* `most` is how many clients there can be at a time. */
void clients_init(struct clients *clients, size_t most);
void clients_free(struct clients *clients);

/* A connection of this client begins, ends. */
void clients_add(struct clients *clients, const struct ipaddr *client);
void clients_remove(struct clients *clients, const struct ipaddr *client);
unsigned clients_count(const struct clients *clients, const struct ipaddr *client);

#endif
