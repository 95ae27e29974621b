/*
 * A transaction as a JSON object: an element of the trace's `transactions`, and the value of the
 * row `transaction`.
 */
#ifndef CONNECTION_TRACE_TRANSACTION_H
#define CONNECTION_TRACE_TRANSACTION_H

#include "base/json.h"
#include "connection/connection.h"

void trace_transaction_write(struct json *json, const struct transaction *transaction);

/* {"accept":n,"tempfail":n,"reject":n} */
void trace_counts_write(struct json *json, const struct rcpt_count *count);

/* A text; null when it is empty. */
void trace_text_write(struct json *json, struct str text);

#endif
