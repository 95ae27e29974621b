/*
 * The names of servers, looked up again and again: hosts file, then DNS. When the TTL of an answer is
 * over it is asked anew (bounded, see net/resolver.h; never all at the same moment). While a name
 * cannot be resolved the last addresses stay in use; that is logged once, and so is each change.
 */
#ifndef BACKEND_NAMES_H
#define BACKEND_NAMES_H

#include "backend/backend.h"
#include "net/resolver.h"

struct names;

/* Begins at once. `first_round` is called once, from the loop, when every name was answered for the
 * first time, well or not; when there are no names, too. */
struct names *names_new(struct loop *loop, struct resolver *resolver, struct backend *backends,
	size_t count, void (*first_round)(void *ctx), void *ctx);
/* Before the resolver and the backends. NULL is fine. */
void names_free(struct names **names);

#endif
