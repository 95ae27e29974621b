#include "document_priv.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/assert.h"
#include "base/utf8.h"
#include "base/xalloc.h"
#include "errors_priv.h"
#include "variable_priv.h"

struct anchor {
	struct str name;
	struct conf_node *node;
};

/* The tree while libyaml's events come in. The open lists and mappings are the chain of parents
 * from `open` up. */
struct builder {
	struct arena *arena;
	struct conf_errors *errors;
	struct conf_node *root;
	struct conf_node *open;
	struct conf_node *key; /* of the value that comes next, in a mapping */
	size_t nodes;
	struct anchor anchors[CONF_ANCHORS_MAX];
	size_t anchor_count;
	size_t documents;
	bool has_failed; /* nothing behind this can be read */
};

/* ---- Nodes ---- */

static void fail(struct builder *b, const yaml_mark_t *mark, const char *what)
{
	conf_errors_add(b->errors, mark->line + 1, mark->column + 1, "%s", what);
	b->has_failed = true;
}

/* NULL when the file's bounds are reached; that is then reported. */
static struct conf_node *new_node(struct builder *b, enum conf_kind kind, const yaml_event_t *event)
{
	struct conf_node *node = NULL;

	if (b->nodes++ < CONF_NODES_MAX)
		node = arena_alloc(b->arena, sizeof(*node));
	if (node == NULL) {
		fail(b, &event->start_mark, "too many values in the file, aliases counted in full");
		return NULL;
	}
	node->kind = kind;
	node->line = event->start_mark.line + 1;
	node->column = event->start_mark.column + 1;
	return node;
}

static void check_key(struct builder *b, struct conf_node *key, const yaml_event_t *event)
{
	if (key->kind != CONF_KIND_SCALAR) {
		fail(b, &event->start_mark, "a key must be a word, not a list or a mapping");
		return;
	}
	key->key = key;
	if (!key->is_plain || !str_eq(key->text, STR("<<")))
		return;
	conf_error(b->errors, key, "merge keys are not supported; write the keys out");
	key->is_broken = true;
}

static void append(struct conf_node *parent, struct conf_node *child)
{
	child->index = parent->count++;
	if (parent->last)
		parent->last->next = child;
	else
		parent->first = child;
	parent->last = child;
}

/* Puts the node in its place: at the top, into a list, as a key, or as the value of one. */
static void place(struct builder *b, struct conf_node *node, const yaml_event_t *event)
{
	node->parent = b->open;
	if (b->open == NULL) {
		b->root = node;
		return;
	}
	node->depth = b->open->depth + 1;
	if (b->open->kind == CONF_KIND_MAP && b->key == NULL) {
		b->key = node;
		check_key(b, node, event);
		return;
	}
	node->key = b->key;
	b->key = NULL;
	append(b->open, node);
}

/* ---- Anchors and aliases ---- */

static void add_anchor(struct builder *b, const yaml_char_t *name, struct conf_node *node,
	const yaml_event_t *event)
{
	if (name == NULL)
		return;
	if (b->anchor_count == CONF_ANCHORS_MAX) {
		fail(b, &event->start_mark, "too many anchors (&name)");
		return;
	}
	struct anchor *anchor = &b->anchors[b->anchor_count++];
	anchor->node = node;
	if (!arena_str(b->arena, str_from((const char *)name), &anchor->name))
		fail(b, &event->start_mark, "the file is too large");
}

/* The last one counts: YAML allows to use a name again. */
static struct conf_node *find_anchor(const struct builder *b, struct str name)
{
	for (size_t i = b->anchor_count; i-- > 0;)
		if (str_eq(b->anchors[i].name, name))
			return b->anchors[i].node;
	return NULL;
}

/* A node that says what `from` says. It keeps its line, where the text in question is. */
static struct conf_node *clone(struct builder *b, const struct conf_node *from,
	struct conf_node *parent, const yaml_event_t *event)
{
	struct conf_node *node = new_node(b, from->kind, event);

	if (node == NULL)
		return NULL;
	*node = (struct conf_node){
		.kind = from->kind,
		.is_plain = from->is_plain,
		.is_null = from->is_null,
		.is_broken = from->is_broken,
		.line = from->line,
		.column = from->column,
		.depth = parent ? parent->depth + 1 : 0,
		.parent = parent,
		.index = from->index,
		.text = from->text,
	};
	if (node->depth >= CONF_DEPTH_MAX)
		fail(b, &event->start_mark,
			"the alias leads to lists and mappings nested too deeply");
	if (from->count > 0)
		node->items = arena_alloc(b->arena, from->count * sizeof(*node->items));
	if (from->count > 0 && node->items == NULL)
		fail(b, &event->start_mark, "the file is too large");
	return b->has_failed ? NULL : node;
}

static struct conf_node *clone_child(struct builder *b, const struct conf_node *from,
	struct conf_node *parent, const yaml_event_t *event)
{
	struct conf_node *node = clone(b, from, parent, event);

	if (node == NULL || from->key == NULL)
		return node;
	node->key = clone(b, from->key, parent, event);
	if (node->key == NULL)
		return NULL;
	node->key->key = node->key;
	return node;
}

/* A copy of everything below `top`, into `copy`, whose count says how far it has come. */
static void clone_below(struct builder *b, const struct conf_node *top, struct conf_node *copy,
	const yaml_event_t *event)
{
	const struct conf_node *from = top;
	struct conf_node *to = copy;

	for (;;) {
		if (to->count < from->count) {
			const struct conf_node *child = from->items[to->count];
			struct conf_node *clone_of_child = clone_child(b, child, to, event);
			if (clone_of_child == NULL)
				return;
			to->items[to->count++] = clone_of_child;
			from = child;
			to = clone_of_child;
		} else if (from == top) {
			return;
		} else {
			from = from->parent;
			to = to->parent;
		}
	}
}

static void on_alias(struct builder *b, const yaml_event_t *event)
{
	struct str name = str_from((const char *)event->data.alias.anchor);
	const struct conf_node *target = find_anchor(b, name);

	if (target == NULL) {
		fail(b, &event->start_mark,
			"an alias (*name) without its anchor (&name); quote text that begins with "
			"*");
		return;
	}
	if (target->is_open) {
		fail(b, &event->start_mark, "an alias (*name) inside what it names");
		return;
	}
	struct conf_node *copy = clone(b, target, b->open, event);
	if (copy == NULL)
		return;
	clone_below(b, target, copy, event);
	if (!b->has_failed)
		place(b, copy, event);
}

/* ---- The other events ---- */

static void check_tag(struct builder *b, const yaml_char_t *tag, const yaml_event_t *event)
{
	if (tag)
		fail(b, &event->start_mark,
			"tags (!name) are not supported; quote text that begins with !");
}

/* Values only: keys are words of ours. */
static void expand(struct builder *b, struct conf_node *node)
{
	struct err err;

	if (conf_variable_expand(node->text, b->arena, &node->text, &err) == 0)
		return;
	conf_error(b->errors, node, "%s", err.text);
	node->is_broken = true;
}

static void on_scalar(struct builder *b, const yaml_event_t *event)
{
	struct str text =
		str_make((const char *)event->data.scalar.value, event->data.scalar.length);
	struct conf_node *node = new_node(b, CONF_KIND_SCALAR, event);

	if (node == NULL)
		return;
	node->is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	node->is_null = node->is_plain && text.n == 0;
	if (!arena_str(b->arena, text, &node->text)) {
		fail(b, &event->start_mark, "the file is too large");
		return;
	}
	check_tag(b, event->data.scalar.tag, event);
	add_anchor(b, event->data.scalar.anchor, node, event);
	place(b, node, event);
	if (node->key != node)
		expand(b, node);
}

static void open_node(struct builder *b, enum conf_kind kind, const yaml_char_t *anchor,
	const yaml_char_t *tag, const yaml_event_t *event)
{
	struct conf_node *node = new_node(b, kind, event);

	if (node == NULL)
		return;
	node->is_open = true;
	check_tag(b, tag, event);
	add_anchor(b, anchor, node, event);
	place(b, node, event);
	if (node->depth >= CONF_DEPTH_MAX)
		fail(b, &event->start_mark, "lists and mappings nested too deeply");
	b->open = node;
}

static int compare_keys(const void *a, const void *b)
{
	const struct conf_node *x = *(struct conf_node *const *)a;
	const struct conf_node *y = *(struct conf_node *const *)b;
	size_t n = x->text.n < y->text.n ? x->text.n : y->text.n;
	int order = n ? memcmp(x->text.p, y->text.p, n) : 0;

	if (order == 0 && x->text.n != y->text.n)
		order = x->text.n < y->text.n ? -1 : 1;
	if (order == 0 && x != y)
		order = x->line < y->line || (x->line == y->line && x->column < y->column) ? -1 : 1;
	return order;
}

/* The first of equal keys is good, so that its value is checked; the others are broken. */
static void check_duplicates(struct builder *b, const struct conf_node *map)
{
	if (map->count < 2)
		return;
	struct conf_node **keys = xcalloc(map->count, sizeof(*keys));
	for (size_t i = 0; i < map->count; i++)
		keys[i] = map->items[i]->key;
	qsort(keys, map->count, sizeof(*keys), compare_keys);
	const struct conf_node *first = keys[0];
	for (size_t i = 1; i < map->count; i++) {
		if (!str_eq(first->text, keys[i]->text)) {
			first = keys[i];
			continue;
		}
		conf_error(b->errors, keys[i], "given twice, first in line %zu", first->line);
		keys[i]->is_broken = true;
	}
	free(keys);
}

static void close_node(struct builder *b, const yaml_event_t *event)
{
	struct conf_node *node = b->open;

	ASSERT(node);
	b->open = node->parent;
	node->is_open = false;
	if (node->count == 0)
		return;
	node->items = arena_alloc(b->arena, node->count * sizeof(struct conf_node *));
	if (node->items == NULL) {
		fail(b, &event->start_mark, "the file is too large");
		return;
	}
	size_t at = 0;
	for (struct conf_node *child = node->first; child; child = child->next)
		node->items[at++] = child;
	if (node->kind == CONF_KIND_MAP)
		check_duplicates(b, node);
}

static void on_document(struct builder *b, const yaml_event_t *event)
{
	if (b->documents++ > 0)
		fail(b, &event->start_mark,
			"a second document (---) in the file; only one is read");
}

static void handle(struct builder *b, const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_DOCUMENT_START_EVENT:
		on_document(b, event);
		break;
	case YAML_SCALAR_EVENT:
		on_scalar(b, event);
		break;
	case YAML_SEQUENCE_START_EVENT:
		open_node(b, CONF_KIND_LIST, event->data.sequence_start.anchor,
			event->data.sequence_start.tag, event);
		break;
	case YAML_MAPPING_START_EVENT:
		open_node(b, CONF_KIND_MAP, event->data.mapping_start.anchor,
			event->data.mapping_start.tag, event);
		break;
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		close_node(b, event);
		break;
	case YAML_ALIAS_EVENT:
		on_alias(b, event);
		break;
	case YAML_NO_EVENT:
	case YAML_STREAM_START_EVENT:
	case YAML_STREAM_END_EVENT:
	case YAML_DOCUMENT_END_EVENT:
		break;
	}
}

/* ---- Mistakes that libyaml finds ---- */

/* What libyaml says where people need to hear more. */
static const struct {
	const char *problem;
	const char *words;
} hints[] = {
	{ "found character that cannot start any token",
		"this character cannot begin a value: indent with spaces, not tabs, and quote text "
		"that"
		" begins with @, ` or %" },
	{ "did not find expected alphabetic or numeric character",
		"not the name of an anchor or alias: quote text that begins with * or &" },
	{ "mapping values are not allowed in this context",
		"a second \": \" in the line, or a key indented too far: quote text that contains "
		"\": \"" },
	{ "could not find expected ':'", "a key without \":\" behind it" },
};

static const char *find_hint(const char *problem)
{
	for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++)
		if (strcmp(hints[i].problem, problem) == 0)
			return hints[i].words;
	return problem;
}

/* For mistakes of encoding libyaml knows a position in bytes only, and not always that of the
 * first bad one. */
static void fail_encoding(struct builder *b, struct str text, size_t offset)
{
	yaml_mark_t mark = { 0 };
	uint32_t code = 0;
	size_t n = 1;

	for (size_t at = 0; at < offset && n > 0; at += n) {
		n = utf8_decode(str_from_pos(text, at), &code);
		if (n > 0 && code == '\n')
			mark = (yaml_mark_t){ .line = mark.line + 1 };
		else if (n > 0)
			mark.column++;
	}
	if (n > 0)
		n = utf8_decode(str_from_pos(text, offset), &code);
	fail(b, &mark, n > 0 ? "a control character" : "not UTF-8 text");
}

static void fail_parser(struct builder *b, const yaml_parser_t *parser, struct str text)
{
	const char *problem = parser->problem ? parser->problem : "cannot be read";

	ASSERT(parser->error != YAML_MEMORY_ERROR);
	if (parser->error == YAML_READER_ERROR)
		fail_encoding(b, text, parser->problem_offset);
	else
		fail(b, &parser->problem_mark, find_hint(problem));
}

/* Depth is bounded event by event, as libyaml takes time that grows with its square. */
static void run(struct builder *b, yaml_parser_t *parser, struct str text)
{
	bool at_end = false;

	while (!b->has_failed && !at_end) {
		yaml_event_t event;
		if (!yaml_parser_parse(parser, &event)) {
			fail_parser(b, parser, text);
			return;
		}
		handle(b, &event);
		at_end = event.type == YAML_STREAM_END_EVENT;
		yaml_event_delete(&event);
	}
}

bool conf_document_parse(
	struct arena *arena, struct str text, struct conf_errors *errors, struct conf_node **root)
{
	struct builder b = { .arena = arena, .errors = errors };
	yaml_parser_t parser;

	/* libyaml would count the byte order mark as a column. */
	if (str_starts_with(text, STR("\xef\xbb\xbf")))
		text = str_from_pos(text, 3);
	int rc = yaml_parser_initialize(&parser);
	ASSERT(rc == 1);
	yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(
		&parser, (const unsigned char *)(text.n ? text.p : ""), text.n);
	run(&b, &parser, text);
	yaml_parser_delete(&parser);
	*root = b.has_failed ? NULL : b.root;
	return !b.has_failed;
}
