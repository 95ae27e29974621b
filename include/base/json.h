/*
 * Writes JSON into a struct buf, piece by piece: log records and the trace. The caller keeps to
 * the grammar (a key inside an object, then its value); commas are put by the writer. When the
 * buffer is full the writer remembers it (json_ok) and writes nothing more.
 *
 * Strings may be any bytes. Valid UTF-8 passes; control characters, DEL and C1 controls,
 * U+2028 and U+2029 are escaped; a byte that is not part of valid UTF-8 becomes \u00XX. So a
 * record is always one line of valid JSON that no terminal will act upon.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

struct json {
	struct buf *out;
	bool needs_comma;
	bool failed;
};

void json_init(struct json *json, struct buf *out);
bool json_ok(const struct json *json); /* false once something did not fit */

void json_object_begin(struct json *json);
void json_object_end(struct json *json);
void json_array_begin(struct json *json);
void json_array_end(struct json *json);
void json_key(struct json *json, struct str key);
/* A key of ours, which needs no escape and is not looked at. */
void json_name(struct json *json, struct str name);
void json_name_str(struct json *json, struct str name, struct str value);

void json_str(struct json *json, struct str value);
void json_int(struct json *json, int64_t value);
void json_uint(struct json *json, uint64_t value);
void json_bool(struct json *json, bool value);
void json_null(struct json *json);
void json_hex(struct json *json, struct str bytes); /* as a string of lower-case hex digits */

/* json_key and the value in one call. */
void json_key_str(struct json *json, const char *key, struct str value);
void json_key_uint(struct json *json, const char *key, uint64_t value);
void json_key_bool(struct json *json, const char *key, bool value);

#endif
