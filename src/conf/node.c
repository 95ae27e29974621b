/*
 * What CUSTOM readers may ask a node of the file.
 */
#include "conf/schema.h"

#include "base/assert.h"
#include "document_priv.h"

enum conf_kind conf_node_kind(const struct conf_node *node)
{
	return node->kind;
}

struct str conf_node_scalar(const struct conf_node *node)
{
	return node->kind == CONF_KIND_SCALAR ? node->text : str_make("", 0);
}

size_t conf_node_count(const struct conf_node *node)
{
	return node->count;
}

struct conf_node *conf_node_item(struct conf_node *node, size_t index)
{
	ASSERT(index < node->count);
	return node->items[index];
}

struct conf_node *conf_node_key(struct conf_node *map, size_t index)
{
	ASSERT(map->kind == CONF_KIND_MAP && index < map->count);
	return map->items[index]->key;
}

struct conf_node *conf_node_get(struct conf_node *map, const char *key)
{
	struct str wanted = str_from(key);

	if (map->kind != CONF_KIND_MAP)
		return NULL;
	for (size_t i = 0; i < map->count; i++)
		if (str_eq(map->items[i]->key->text, wanted))
			return map->items[i];
	return NULL;
}
