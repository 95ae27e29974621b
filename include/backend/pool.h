/*
 * Connections to servers between two transactions, for whoever comes next: only where the server was
 * told nothing about the client that stays (identity none or xforward, our own name in EHLO). Those
 * used last are used first, so that the others can go.
 *
 * Whoever takes one says RSET before anything else, and believes nothing unless it is answered 250.
 */
#ifndef BACKEND_POOL_H
#define BACKEND_POOL_H

#include <stdbool.h>

#include "backend/link.h"

/* May connections of this backend be used for another client? */
bool pool_is_for(const struct backend_settings *settings);
/* Servers slow down whom they had to refuse so often, and then hang up (Postfix: 10, 20; a message that
 * is taken makes it good). */
#define POOL_REFUSALS_MAX 5

/* Is it ready, young enough and in good standing, and is there room for it? */
bool pool_takes(const struct link *link);
/* Nothing may be under way on it but RSET. Sets the pointer to NULL. */
void pool_put(struct link **link);
/* One to this server that is ready and silent; NULL: none. */
struct link *pool_take(struct server *server, const struct link_port *port, void *ctx);
/* A connection that does not come from here is about to be opened, where there is room for one: within
 * max_connections, of which those that are kept are no part otherwise. */
void pool_make_room(struct server *server);
/* One that was taken from here was silent until its deadline. What lies here is as dead, where a firewall on
 * the way has forgotten them all: nobody is to wait for each of them in turn. */
void pool_distrust(struct server *server);
/* The program ends, or the servers change. */
void pool_drop(struct backend *backend);

#endif
