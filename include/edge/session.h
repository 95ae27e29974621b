/*
 * One client's session: joins the stream, the intake, the dialogue, the policy run and the
 * forwarding, and owns their lifetime. From accept to close; it frees itself.
 */
#ifndef EDGE_SESSION_H
#define EDGE_SESSION_H

#include "base/ipaddr.h"
#include "edge/edge.h"

/* Takes over an accepted socket. */
void session_new(struct edge_listener *listener, int fd, const struct endpoint *peer,
	const struct endpoint *local);

/* Tells every session that we stop: 421 at once, but a message that the backend has in full gets
 * its answer first. */
void session_stop_all(struct edge *edge);

/* Ends what is left, without waiting for anybody. */
void session_abort_all(struct edge *edge);

#endif
