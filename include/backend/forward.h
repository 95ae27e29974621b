/*
 * Joins a transaction to a server of a backend: connects when the first recipient has passed our
 * own policy, puts the envelope to it, streams the body, and brings back its answers. Before the
 * message is sent, a server that fails is replaced by the next one, and the client notices nothing.
 * After the final dot nothing is retried anywhere.
 *
 * One forward a session, made at its first recipient. The connection to a server is kept for the
 * next transaction of the same client, for a while.
 */
#ifndef BACKEND_FORWARD_H
#define BACKEND_FORWARD_H

#include "connection/connection.h"
#include "backend/backend.h"
#include "backend/env.h"
#include "backend/route.h"
#include "smtp/server.h"

struct forward; /* opaque */

struct forward_port {
	/* The answer to what was forwarded last; always from the loop, never from inside a call. */
	void (*answered)(void *ctx, const struct smtp_answer *answer);
	/* The server is lost while the body streams. */
	void (*body_lost)(void *ctx, const struct smtp_answer *answer);
	/* There is room for the body again. */
	void (*room)(void *ctx);
	/* The connection of forward_bind() is lost: the client has to authenticate anew. Only to be
	 * noted; may come from inside a call. */
	void (*auth_lost)(void *ctx);
};

struct forward *forward_new(const struct backend_env *env, struct connection *connection,
	const struct route_table *routes, const struct forward_port *port, void *ctx);

/* The session ends: says QUIT where that is possible, and frees itself later. Sets it to NULL.
 * The connection must not be used by it any more after the call. */
void forward_release(struct forward **forward);

/*
 * `link` (READY) is the connection on which this client has just authenticated at its backend: it is
 * taken over, and carries all transactions that go there, in place of any other. When it is lost
 * they are answered 451, and `auth_lost` is told. Transactions that go elsewhere are as always. Once,
 * outside of a transaction.
 */
void forward_bind(struct forward *forward, struct link *link);
/* The client is nobody any more. */
void forward_unbind(struct forward *forward);

/* The look-up of the client's name is over: a recipient that waited for it goes on. Any time. */
void forward_name_known(struct forward *forward);

/* The candidate recipient; DATA; the final dot. Each is answered once. SMTP_BEHIND_DATA: behind the answer
 * to the recipient, if one is accepted, comes forward_data() or the end of the transaction. Then the
 * server may be told both at once; SMTP_BEHIND_NOTHING: also when this client always did so. */
void forward_recipient(struct forward *forward, enum smtp_behind behind);
void forward_data(struct forward *forward);
void forward_end(struct forward *forward);

/* Message bytes in canonical form; at most forward_body_room() of them. */
size_t forward_body_room(const struct forward *forward);
void forward_body(struct forward *forward, struct str bytes);

/* The transaction is over. Without the final dot having been answered the server sees RSET, or a
 * closed connection when it was already told DATA; it never sees a dot. */
void forward_transaction_over(struct forward *forward);

#endif
