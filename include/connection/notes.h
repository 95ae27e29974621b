/*
 * Notes: a tree in which checks keep what they like, by dotted path ("spf.helo.result"). Lives as
 * long as its connection or transaction; memory comes from that one's arena, so it is bounded:
 * a note that does not fit is refused.
 */
#ifndef CONNECTION_NOTES_H
#define CONNECTION_NOTES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/json.h"
#include "base/str.h"

#define NOTES_DEPTH_MAX 8

enum note_type { NOTE_TREE, NOTE_TEXT, NOTE_NUMBER, NOTE_BOOL };

struct note; /* opaque node */

struct notes {
	struct arena *arena;
	struct note *root;
};

void notes_init(struct notes *notes, struct arena *arena);

/* Sets a value, making the levels in between; a value in the way of a level is replaced by it.
 * False: the arena is full, a part of the path is empty, or it is too deep. */
bool notes_set_text(struct notes *notes, struct str path, struct str value);
bool notes_set_number(struct notes *notes, struct str path, int64_t value);
bool notes_set_bool(struct notes *notes, struct str path, bool value);

/* False when there is no such note of that type. */
bool notes_get_text(const struct notes *notes, struct str path, struct str *value);
bool notes_get_number(const struct notes *notes, struct str path, int64_t *value);
bool notes_get_bool(const struct notes *notes, struct str path, bool *value);

/* As a JSON object. */
void notes_write(const struct notes *notes, struct json *json);

#endif
