/*
 * The trace: a finished connection as one line of JSON, every row of connection.def under its
 * name, then `transactions`, `events` and `ending`. Secrets never enter it.
 */
#ifndef CONNECTION_TRACE_H
#define CONNECTION_TRACE_H

#include <stdint.h>

#include "base/buf.h"
#include "connection/connection.h"
#include "policy/verdict.h"

#define TRACE_LINE_MAX (1024 * 1024)

/* One decision, for `events`: kept only when the connection is traced. `check` is NULL for a
 * decision of the dialogue itself; `reply` is the line given, or empty. */
void trace_event(struct connection *connection, enum policy_stage stage, const char *check,
	const char *verdict, struct str reply, uint64_t now_ms);

/* Adds the transaction, which has ended, to `transactions`. Called by transaction_end. */
void trace_transaction(struct connection *connection);

/*
 * Writes the whole line, newline included: always valid JSON. `ending` is a word of the table of
 * endings. The two arrays end with {"cut":true} when an element did not fit CONNECTION_TRACE_MAX;
 * when the line does not fit `out` (TRACE_LINE_MAX is enough for all but extremes), the arrays are
 * left out so, then everything but uuid and ending, then the line.
 */
void trace_print(
	const struct connection *connection, const char *ending, uint64_t now_ms, struct buf *out);

#endif
