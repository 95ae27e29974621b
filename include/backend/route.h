/*
 * Routes: which backend a recipient leads to, and what may be offered to the clients of a listener
 * because every backend that they can reach has it.
 */
#ifndef BACKEND_ROUTE_H
#define BACKEND_ROUTE_H

#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"
#include "connection/connection.h"
#include "smtp/server.h"

struct route_table {
	const struct route_settings *routes;
	size_t count;
	struct backend *backends;
	size_t backend_count;
};

/* The backend for the candidate recipient, or NULL when no route matches. Without routes: the only
 * backend there is. */
struct backend *route_find(const struct route_table *table, const struct connection *connection);

/* What may be offered to a client of this listener: our own extensions, and of the others those
 * that every server that can be reached through its routes is known to have. */
struct smtp_offer route_offer(
	const struct route_table *table, struct str listener, uint64_t message_size);

#endif
