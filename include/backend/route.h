/*
 * Routes: which backend a recipient leads to, and what may be offered to the clients of a listener
 * because every backend that they can reach has it. docs/routing.md is for operators.
 */
#ifndef BACKEND_ROUTE_H
#define BACKEND_ROUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/err.h"
#include "base/map_file.h"
#include "connection/connection.h"
#include "smtp/server.h"

struct route_table;

/* Where a route leads to: one backend, or what its map says. */
struct route {
	const struct route_settings *settings;
	struct backend *backend; /* NULL: by the map */
	struct map_file map;

	/* For route.c: */
	const struct route_table *table;
	bool *leads; /* by index of the backend: the map has an entry for it */
	bool *marks; /* likewise, of the file that is being read */
};

struct route_table {
	struct route *routes;
	size_t count;
	struct backend *backends;
	size_t backend_count;
};

/*
 * `settings` is a list of struct route_settings, whose backends exist; it and the backends outlive
 * the table, which must not move while it is open. Reads the maps: -1 when one cannot be used, as
 * when it names a backend that there is not; close the table even so.
 */
int route_table_open(struct route_table *table, const struct conf_list *settings,
	struct backend *backends, size_t backend_count, struct err *err);
void route_table_close(struct route_table *table);

/* Reads maps anew that have changed, or all with `always`. Transactions keep their backend. */
void route_table_refresh(struct route_table *table, bool always);

/* The backend of that name; NULL: there is none. */
struct backend *route_backend(const struct route_table *table, struct str name);
/* What is wrong with an entry of a map when there is none. -1. */
int route_no_backend(struct str key, struct str value, struct err *err);

/* The backend for the candidate recipient, or NULL when no route matches. Without routes: the only
 * backend there is. */
struct backend *route_find(const struct route_table *table, const struct connection *connection);

/* False: all backends that a client of this listener could reach are out (backend_is_out()), so
 * that none of its mail could go anywhere. */
bool route_has_server(const struct route_table *table, struct str listener);

/* What may be offered to a client of this listener: our own extensions, and of the others those
 * that every server that can be reached through its routes is known to have. */
struct smtp_offer route_offer(
	const struct route_table *table, struct str listener, uint64_t message_size);

#endif
