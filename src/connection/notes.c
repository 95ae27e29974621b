#include "connection/notes.h"

#include <stddef.h>

struct note {
	struct note *next; /* of the same level */
	struct str name;
	enum note_type type;
	union {
		struct note *children; /* NOTE_TREE; NULL: none */
		struct str text;
		int64_t number;
		bool is_true;
	};
};

/* A dotted path in its parts, all of them non-empty. */
struct path {
	struct str parts[NOTES_DEPTH_MAX];
	size_t count;
};

void notes_init(struct notes *notes, struct arena *arena)
{
	*notes = (struct notes){ .arena = arena };
}

static bool split(struct str text, struct path *path)
{
	bool has_more;

	path->count = 0;
	do {
		has_more = str_find(text, '.') < text.n;
		struct str part = str_cut(&text, '.');

		if (str_is_empty(part) || path->count == NOTES_DEPTH_MAX)
			return false;
		path->parts[path->count++] = part;
	} while (has_more);
	return true;
}

static struct note *find_child(const struct note *tree, struct str name)
{
	for (struct note *child = tree->children; child; child = child->next)
		if (str_eq(child->name, name))
			return child;
	return NULL;
}

static void add_child(struct note *tree, struct note *child)
{
	struct note **end = &tree->children;

	while (*end)
		end = &(*end)->next;
	*end = child;
}

/* Type and value change, name and place stay. */
static void replace_value(struct note *note, const struct note *value)
{
	struct note *next = note->next;
	struct str name = note->name;

	*note = *value;
	note->next = next;
	note->name = name;
}

static struct note *make_note(struct arena *arena, struct str name, const struct note *value)
{
	struct note *note = arena_alloc(arena, sizeof(*note));

	if (note == NULL || !arena_str(arena, name, &note->name))
		return NULL;
	replace_value(note, value);
	return note;
}

/* The value under the names parts[from…], as one chain that hangs nowhere yet. */
static struct note *make_chain(
	struct arena *arena, const struct path *path, size_t from, const struct note *value)
{
	struct note *chain = make_note(arena, path->parts[path->count - 1], value);

	for (size_t i = path->count - 1; chain && i > from; i--) {
		const struct note level = { .type = NOTE_TREE, .children = chain };

		chain = make_note(arena, path->parts[i - 1], &level);
	}
	return chain;
}

/* Everything is made before anything is hung in, so that a full arena changes nothing. */
static bool set(struct notes *notes, const struct path *path, const struct note *value)
{
	struct note *tree = notes->root;
	struct note *child = NULL;
	size_t at = 0;

	if (tree == NULL) {
		const struct note empty = { .type = NOTE_TREE };

		notes->root = tree = make_note(notes->arena, STR(""), &empty);
		if (tree == NULL)
			return false;
	}
	while ((child = find_child(tree, path->parts[at])) && at + 1 < path->count &&
		child->type == NOTE_TREE) {
		tree = child;
		at++;
	}
	if (child && at + 1 == path->count) {
		replace_value(child, value);
		return true;
	}
	struct note *chain = make_chain(notes->arena, path, at, value);
	if (chain == NULL)
		return false;
	if (child)
		replace_value(child, chain);
	else
		add_child(tree, chain);
	return true;
}

bool notes_set_text(struct notes *notes, struct str path, struct str value)
{
	struct note note = { .type = NOTE_TEXT };
	struct path parts;

	return split(path, &parts) && arena_str(notes->arena, value, &note.text) &&
	       set(notes, &parts, &note);
}

bool notes_set_number(struct notes *notes, struct str path, int64_t value)
{
	const struct note note = { .type = NOTE_NUMBER, .number = value };
	struct path parts;

	return split(path, &parts) && set(notes, &parts, &note);
}

bool notes_set_bool(struct notes *notes, struct str path, bool value)
{
	const struct note note = { .type = NOTE_BOOL, .is_true = value };
	struct path parts;

	return split(path, &parts) && set(notes, &parts, &note);
}

static const struct note *find(const struct notes *notes, struct str path, enum note_type type)
{
	const struct note *note = notes->root;
	struct path parts;

	if (!split(path, &parts))
		return NULL;
	for (size_t i = 0; note && i < parts.count; i++)
		note = note->type == NOTE_TREE ? find_child(note, parts.parts[i]) : NULL;
	return note && note->type == type ? note : NULL;
}

bool notes_get_text(const struct notes *notes, struct str path, struct str *value)
{
	const struct note *note = find(notes, path, NOTE_TEXT);

	if (note)
		*value = note->text;
	return note != NULL;
}

bool notes_get_number(const struct notes *notes, struct str path, int64_t *value)
{
	const struct note *note = find(notes, path, NOTE_NUMBER);

	if (note)
		*value = note->number;
	return note != NULL;
}

bool notes_get_bool(const struct notes *notes, struct str path, bool *value)
{
	const struct note *note = find(notes, path, NOTE_BOOL);

	if (note)
		*value = note->is_true;
	return note != NULL;
}

static void write_value(const struct note *note, struct json *json)
{
	switch (note->type) {
	case NOTE_TREE:
		break;
	case NOTE_TEXT:
		json_str(json, note->text);
		break;
	case NOTE_NUMBER:
		json_int(json, note->number);
		break;
	case NOTE_BOOL:
		json_bool(json, note->is_true);
		break;
	}
}

void notes_write(const struct notes *notes, struct json *json)
{
	const struct note *levels[NOTES_DEPTH_MAX]; /* where to go on in the levels above */
	const struct note *note = notes->root ? notes->root->children : NULL;
	size_t depth = 0;

	json_object_begin(json);
	while (note || depth > 0) {
		if (note == NULL) {
			json_object_end(json);
			note = levels[--depth];
			continue;
		}
		json_key(json, note->name);
		if (note->type == NOTE_TREE) {
			json_object_begin(json);
			levels[depth++] = note->next;
			note = note->children;
			continue;
		}
		write_value(note, json);
		note = note->next;
	}
	json_object_end(json);
}
