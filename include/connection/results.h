/*
 * Results: outcomes by check name. Each check has the lists pass, fail, msg, skip and err, and
 * free keys that hold a text, a number, or a list of texts. Memory comes from the connection's or
 * transaction's arena.
 */
#ifndef CONNECTION_RESULTS_H
#define CONNECTION_RESULTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/str.h"

enum result_list { RESULT_PASS, RESULT_FAIL, RESULT_MSG, RESULT_SKIP, RESULT_ERR };

struct result; /* one check's record: opaque */

struct results {
	struct arena *arena;
	struct result *first;
};

void results_init(struct results *results, struct arena *arena);

/* Appends to one of the five lists. False: the arena is full (all functions that write). */
bool results_add(struct results *results, struct str check, enum result_list list, struct str text);
/* Sets a free key, whatever it held. False also for the name of a list: that is no free key. */
bool results_set(struct results *results, struct str check, struct str key, struct str value);
/* Adds to a number (which starts at 0, and stays at the end of its range). Likewise. */
bool results_incr(struct results *results, struct str check, struct str key, int64_t by);
/* Appends to a list under a free key, made on demand, or to one of the five by its name. */
bool results_push(struct results *results, struct str check, struct str key, struct str value);

/* The text, or the number as text in `scratch`, of a free key; false when there is none. */
bool results_get(const struct results *results, struct str check, struct str key, struct str *value,
	char scratch[24]);
/* Does the list or the key hold exactly `needle`? */
bool results_has(
	const struct results *results, struct str check, struct str key, struct str needle);

/* A one-line summary for people: "key: value, pass: a, b, fail: c". Free keys come first, then the
 * lists in the order msg, pass, fail, skip, err; what is empty is left out, and so are keys that
 * begin with "_". Control characters become "?". What does not fit `out` is left out. */
void results_collate(const struct results *results, struct str check, struct buf *out);

/* As a JSON object. */
void results_write(const struct results *results, struct json *json);

#endif
