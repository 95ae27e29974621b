#include "edge/clients.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/block.h"
#include "base/xalloc.h"

struct client_count {
	struct client_count *next;
	struct ipaddr client;
	unsigned count;
};

void clients_init(struct clients *clients, size_t most)
{
	clients->key = siphash_key_make();
	clients->bucket_count = 64;
	while (clients->bucket_count < most && clients->bucket_count < 65536)
		clients->bucket_count *= 2;
	clients->buckets = xcalloc(clients->bucket_count, sizeof(*clients->buckets));
}

void clients_free(struct clients *clients)
{
	for (size_t i = 0; i < clients->bucket_count; i++) {
		while (clients->buckets[i] != NULL) {
			struct client_count *next = clients->buckets[i]->next;
			block_give(clients->buckets[i], sizeof(**clients->buckets));
			clients->buckets[i] = next;
		}
	}
	free(clients->buckets);
	*clients = (struct clients){ 0 };
}

/* The link that points to the client's entry, or to NULL at the end of its chain. */
static struct client_count **find(const struct clients *clients, const struct ipaddr *client)
{
	struct str bytes = str_make((const char *)client->bytes, sizeof(client->bytes));
	uint64_t hash = siphash(&clients->key, bytes);
	struct client_count **link = &clients->buckets[hash & (clients->bucket_count - 1)];

	while (*link != NULL && !ipaddr_eq(&(*link)->client, client))
		link = &(*link)->next;
	return link;
}

void clients_add(struct clients *clients, const struct ipaddr *client)
{
	struct client_count **link = find(clients, client);

	if (*link == NULL) {
		*link = block_take_zeroed(sizeof(**link));
		(*link)->client = *client;
	}
	(*link)->count++;
}

void clients_remove(struct clients *clients, const struct ipaddr *client)
{
	struct client_count **link = find(clients, client);
	struct client_count *entry = *link;

	ASSERT(entry != NULL && entry->count > 0);
	if (--entry->count > 0)
		return;
	*link = entry->next;
	block_give(entry, sizeof(*entry));
}

unsigned clients_count(const struct clients *clients, const struct ipaddr *client)
{
	const struct client_count *entry = *find(clients, client);

	return entry ? entry->count : 0;
}
