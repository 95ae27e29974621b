#include "conf/schema.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/xalloc.h"
#include "document_priv.h"
#include "errors_priv.h"
#include "suggest_priv.h"
#include "value_priv.h"

static void read_table(struct conf_node *node, const struct conf_field *table, char *base,
	struct conf_errors *errors);

static bool is_list(const struct conf_field *field)
{
	return field->flags & CONF_LIST;
}

/* ---- One value ---- */

static const char *kind_name(const struct conf_node *node)
{
	static const char *const names[] = {
		[CONF_KIND_SCALAR] = "a single value",
		[CONF_KIND_LIST] = "a list",
		[CONF_KIND_MAP] = "a mapping",
	};

	return names[node->kind];
}

static const char *nearest_choice(const struct conf_field *field, struct str text)
{
	struct conf_suggest suggest;

	conf_suggest_init(&suggest, text);
	for (const char *const *choice = field->choices; choice && *choice; choice++)
		conf_suggest_consider(&suggest, *choice);
	return suggest.best;
}

/* "must be ...", then what it is instead; not of a secret. */
static void refuse(struct conf_node *node, const struct conf_field *field, const char *why,
	struct conf_errors *errors)
{
	char quote[CONF_QUOTE_MAX];

	if (node->kind != CONF_KIND_SCALAR) {
		conf_error(errors, node, "%s, not %s", why, kind_name(node));
	} else if (node->is_null) {
		conf_error(errors, node, "%s, not nothing", why);
	} else if (field->flags & CONF_SECRET) {
		conf_error(errors, node, "%s", why);
	} else {
		const char *meant = nearest_choice(field, node->text);
		conf_error(errors, node, "%s, not \"%s\"%s%s%s", why, conf_quote(node->text, quote),
			meant ? "; did you mean \"" : "", meant ? meant : "", meant ? "\"?" : "");
	}
}

static void read_scalar(struct conf_node *node, const struct conf_field *field, void *value,
	struct conf_errors *errors)
{
	const struct conf_value_type *type = conf_value_type(field->type);
	struct err why;

	if (node->kind != CONF_KIND_SCALAR || node->is_null) {
		err_set(&why, "must be %s", type->form);
		refuse(node, field, why.text, errors);
	} else if (!type->parse(field, node->text, value, &why)) {
		refuse(node, field, why.text, errors);
	}
}

static bool check_mapping(struct conf_node *node, struct conf_errors *errors)
{
	if (node->kind == CONF_KIND_MAP || node->is_null)
		return true;
	conf_error(errors, node, "must be a mapping (key: value), not %s", kind_name(node));
	return false;
}

static bool is_scalar(const struct conf_node *node)
{
	return node->kind == CONF_KIND_SCALAR && !node->is_null;
}

static void read_mapping(struct conf_node *node, const struct conf_field *field, void *value,
	struct conf_errors *errors);

/* A scalar is read as the mapping that it stands for. Both are at the same place of the file, so
 * mistakes are reported where the scalar is. */
static void read_short_mapping(struct conf_node *node, const struct conf_field *field, void *value,
	struct conf_errors *errors)
{
	struct conf_node key = *node, part = *node, map = *node;
	struct conf_node *items[] = { &part };

	key.text = str_from(field->scalar_key);
	key.key = &key;
	part.key = &key;
	part.parent = &map;
	map.kind = CONF_KIND_MAP;
	map.text = str_make(NULL, 0);
	map.items = items;
	map.count = 1;
	read_mapping(&map, field, value, errors);
}

static void read_mapping(struct conf_node *node, const struct conf_field *field, void *value,
	struct conf_errors *errors)
{
	size_t before = errors->count;

	if (field->scalar_key && is_scalar(node)) {
		read_short_mapping(node, field, value, errors);
		return;
	}
	if (!check_mapping(node, errors))
		return;
	read_table(node, field->fields, value, errors);
	if (field->accepts && errors->count == before)
		field->accepts(value, node, errors);
}

/* Has its mistake been reported already? That of a secret must not quote it. */
static bool is_broken(
	const struct conf_node *node, const struct conf_field *field, struct conf_errors *errors)
{
	if (node->is_broken && field->flags & CONF_SECRET)
		conf_errors_hide(errors, node);
	return node->is_broken;
}

static void read_one(struct conf_node *node, const struct conf_field *field, void *value,
	struct conf_errors *errors)
{
	if (is_broken(node, field, errors))
		return;
	if (field->type == CONF_MAP)
		read_mapping(node, field, value, errors);
	else if (field->type == CONF_CUSTOM)
		field->read(node, value, field->arg, errors);
	else
		read_scalar(node, field, value, errors);
}

/* ---- Lists ---- */

/* A single scalar stands for a list of one. */
static bool is_list_of_one(const struct conf_node *node, const struct conf_field *field)
{
	return is_scalar(node) && (field->type != CONF_MAP || field->scalar_key);
}

static void read_elements(struct conf_node **nodes, size_t count, const struct conf_field *field,
	struct conf_list *list, struct conf_errors *errors)
{
	size_t size = conf_value_size(field);

	/* A scalar that could not be read leaves no element: a zeroed one would be a value (the network
	 * ::/0, say) that later checks would find fault with. Mappings stay beside their nodes. */
	bool keeps_broken = field->type == CONF_MAP || field->type == CONF_CUSTOM;

	ASSERT(size > 0);
	list->items = xcalloc(count, size);
	for (size_t i = 0; i < count; i++) {
		size_t before = errors->count;
		read_one(nodes[i], field, (char *)list->items + list->count * size, errors);
		if (keeps_broken || errors->count == before)
			list->count++;
	}
}

static void read_list(struct conf_node *node, const struct conf_field *field,
	struct conf_list *list, struct conf_errors *errors)
{
	if (is_list_of_one(node, field))
		read_elements(&node, 1, field, list, errors);
	else if (node->kind != CONF_KIND_LIST)
		refuse(node, field, "must be a list (write [] for an empty one)", errors);
	else if (node->count > 0)
		read_elements(node->items, node->count, field, list, errors);
	else if (field->flags & CONF_REQUIRED)
		conf_error(errors, node, "must not be empty");
}

void conf_read_value(struct conf_node *node, const struct conf_field *field, void *value,
	struct conf_errors *errors)
{
	if (is_broken(node, field, errors))
		return;
	if (is_list(field))
		read_list(node, field, value, errors);
	else
		read_one(node, field, value, errors);
}

/* ---- What is absent ---- */

/* A default is read as the file would be. A mistake in it is one of the table. */
static void read_default(struct conf_node *map, struct conf_node *key,
	const struct conf_field *field, void *value, struct conf_errors *errors)
{
	struct arena arena;
	struct conf_node *node;
	bool was_in_default = errors->in_default;

	arena_init(&arena, CONF_MEMORY_MAX);
	errors->in_default = true;
	if (conf_document_parse(&arena, str_from(field->dflt), errors, &node) && node) {
		node->parent = map;
		node->key = key;
		conf_read_value(node, field, value, errors);
	} else {
		conf_error(errors, key, "cannot be read");
	}
	errors->in_default = was_in_default;
	arena_reset(&arena);
}

/* Places in the file for what is not there: the key in the mapping where it is missed. */
static void read_absent(struct conf_node *map, const struct conf_field *field, void *value,
	struct conf_errors *errors)
{
	struct conf_node key = {
		.kind = CONF_KIND_SCALAR,
		.line = map->line,
		.column = map->column,
		.parent = map,
		.key = &key,
		.text = str_from(field->key),
	};
	struct conf_node empty = key;

	empty.kind = CONF_KIND_MAP;
	empty.text = str_make(NULL, 0);
	if (field->flags & CONF_REQUIRED)
		conf_error(errors, &key, "missing");
	else if (field->dflt)
		read_default(map, &key, field, value, errors);
	else if (field->type == CONF_MAP && !is_list(field))
		read_mapping(&empty, field, value, errors);
}

/* ---- Tables ---- */

static bool is_known(const struct conf_field *table, struct str key)
{
	for (; table->key; table++)
		if (str_eq(key, str_from(table->key)))
			return true;
	return false;
}

static void report_unknown(
	struct conf_node *key, const struct conf_field *table, struct conf_errors *errors)
{
	struct conf_suggest suggest;

	conf_suggest_init(&suggest, key->text);
	if (conf_errors_has_room(errors))
		for (; table->key; table++)
			conf_suggest_consider(&suggest, table->key);
	if (suggest.best)
		conf_error(errors, key, "unknown key; did you mean \"%s\"?", suggest.best);
	else
		conf_error(errors, key, "unknown key");
}

static void read_table(struct conf_node *node, const struct conf_field *table, char *base,
	struct conf_errors *errors)
{
	for (size_t i = 0; i < node->count; i++)
		if (!is_known(table, node->items[i]->key->text))
			report_unknown(node->items[i]->key, table, errors);
	for (const struct conf_field *field = table; field->key; field++) {
		struct conf_node *child = conf_node_get(node, field->key);
		if (child)
			conf_read_value(child, field, base + field->offset, errors);
		else
			read_absent(node, field, base + field->offset, errors);
	}
}

void conf_read_map(struct conf_node *node, const struct conf_field *table, void *value, size_t size,
	struct conf_errors *errors)
{
	struct conf_node empty = { .kind = CONF_KIND_MAP, .line = 1, .column = 1 };

	memset(value, 0, size);
	if (node == NULL)
		read_table(&empty, table, value, errors);
	else if (!node->is_broken && check_mapping(node, errors))
		read_table(node, table, value, errors);
}

/* ---- The file ---- */

/* The last row of a root table may look at the whole. */
static void check_whole(struct conf_node *root, const struct conf_field *table, const void *value,
	struct conf_errors *errors)
{
	while (table->key)
		table++;
	if (table->accepts && root->kind == CONF_KIND_MAP)
		table->accepts(value, root, errors);
}

/* An empty file is more often an accident than a wish for all defaults; what is missing is
 * said as well. */
static void read_root(struct conf_node *root, const struct conf_field *table, void *value,
	size_t size, struct conf_errors *errors)
{
	if (root && !root->is_null) {
		conf_read_map(root, table, value, size, errors);
		check_whole(root, table, value, errors);
		return;
	}
	conf_errors_add(errors, 1, 1, "the file says nothing");
	conf_read_map(NULL, table, value, size, errors);
}

int conf_read_text(const char *name, struct str text, const struct conf_field *table, void *value,
	size_t size, struct buf *report)
{
	struct conf_errors notices = { .name = name };
	struct conf_errors errors = { .name = name, .notices = &notices };
	struct arena arena;
	struct conf_node *root;

	memset(value, 0, size);
	arena_init(&arena, CONF_MEMORY_MAX);
	if (text.n > CONF_FILE_MAX)
		conf_errors_add(&errors, 1, 1, "larger than %u MiB", CONF_FILE_MAX >> 20);
	else if (conf_document_parse(&arena, text, &errors, &root))
		read_root(root, table, value, size, &errors);
	int rc = errors.count > 0 ? -1 : 0;
	if (rc < 0)
		conf_free(table, value, size);
	conf_errors_report(rc < 0 ? &errors : &notices, report);
	conf_errors_free(&errors);
	conf_errors_free(&notices);
	arena_reset(&arena);
	return rc;
}

/* Up to one byte more than a file may have, so that a longer one is noticed. */
static int read_whole(int fd, struct buf *content)
{
	char piece[16384];
	ssize_t n;

	while ((n = read(fd, piece, sizeof(piece))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		size_t room = buf_room(content);
		if (room == 0)
			return 0;
		buf_write(content, str_make(piece, (size_t)n < room ? (size_t)n : room));
	}
	return 0;
}

int conf_read_file(const char *path, const struct conf_field *table, void *value, size_t size,
	struct buf *report)
{
	struct buf content;
	int rc;

	memset(value, 0, size);
	buf_init(&content, CONF_FILE_MAX + 1);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read_whole(fd, &content) < 0) {
		buf_printf(report, "%s: cannot be read: %s\n", path, strerror(errno));
		rc = -1;
	} else {
		rc = conf_read_text(path, buf_view(&content), table, value, size, report);
	}
	if (fd >= 0)
		close(fd);
	buf_free(&content);
	return rc;
}

/* ---- Freeing ---- */

static void free_table(const struct conf_field *table, char *base);

static void free_one(const struct conf_field *field, void *value)
{
	if (field->type == CONF_MAP)
		free_table(field->fields, value);
	else if (field->type == CONF_CUSTOM && field->free)
		field->free(value, field->arg);
	else if (field->type == CONF_STRING || field->type == CONF_DOMAIN)
		free((void *)(uintptr_t)((struct str *)value)->p);
}

static void free_list(const struct conf_field *field, struct conf_list *list)
{
	size_t size = conf_value_size(field);

	for (size_t i = 0; i < list->count; i++)
		free_one(field, (char *)list->items + i * size);
	free(list->items);
}

static void free_table(const struct conf_field *table, char *base)
{
	for (; table->key; table++) {
		void *value = base + table->offset;
		if (is_list(table))
			free_list(table, value);
		else
			free_one(table, value);
	}
}

void conf_free(const struct conf_field *table, void *value, size_t size)
{
	free_table(table, value);
	memset(value, 0, size);
}
