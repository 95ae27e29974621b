/*
 * What a session says in the log and in the trace. Field names are an interface: see
 * tables/logevents.def.
 */
#ifndef EDGE_SESSION_LOG_H
#define EDGE_SESSION_LOG_H

#include "connection/connection.h"
#include "connection/ending.h"
#include "edge/edge.h"
#include "edge/intake.h"
#include "policy/verdict.h"

void session_log_connect(const struct connection *connection);
void session_log_reject(const struct connection *connection, enum policy_stage stage,
	const char *check, struct str reply);
/* After transaction_end. */
void session_log_transaction(const struct connection *connection, uint64_t now_ms);
/* Once, at the end: the summary, of a client or of a restricted session, and the trace line. */
void session_log_connection(const struct edge *edge, const struct connection *connection,
	enum ending ending, enum policy_stage stage, uint64_t bytes_in, uint64_t now_ms);
/* The trace line alone: of a connection that the intake refused, too. */
void session_trace(const struct edge *edge, const struct connection *connection, enum ending ending,
	uint64_t now_ms);
/* The intake refused the connection; `bytes` are the first that came. */
void session_log_refused(
	const struct intake *intake, const struct endpoint *peer, struct str bytes);

#endif
