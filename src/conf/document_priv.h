/*
 * A YAML file as a tree whose nodes know where they stand. YAML's surprises end here: plain
 * words have no type (the table gives it), a key twice is a mistake, merge keys and tags are
 * refused, an alias is a copy of what it names, and everything is bounded.
 *
 * Nodes live in the arena given to conf_document_parse() and die with it.
 */
#ifndef CONF_DOCUMENT_PRIV_H
#define CONF_DOCUMENT_PRIV_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/str.h"
#include "conf/schema.h"

#define CONF_FILE_MAX (4u << 20)      /* bytes of a file */
#define CONF_DEPTH_MAX 64             /* lists and mappings inside each other */
#define CONF_NODES_MAX 500000         /* values of a file, those that aliases repeat included */
#define CONF_ANCHORS_MAX 256          /* names of a file that aliases can take */
#define CONF_MEMORY_MAX (256ul << 20) /* bytes of a tree */

struct conf_node {
	enum conf_kind kind;
	bool is_plain;  /* a scalar without quotes */
	bool is_null;   /* "key:" with nothing behind it */
	bool is_broken; /* its mistake has been reported: nothing more is said about it */
	bool is_open;   /* a list or mapping whose end has not been seen */
	unsigned depth;
	size_t line;              /* from 1 */
	size_t column;            /* from 1, in characters */
	struct conf_node *parent; /* NULL: the top */
	struct conf_node *key;    /* in a mapping: the key of this value; of a key: itself */
	size_t index;             /* place in the parent */
	struct str text;          /* SCALAR: variables replaced, NUL-terminated beyond its length */
	struct conf_node **items; /* LIST: elements, MAP: values; complete when it is not open */
	size_t count;
	struct conf_node *first, *last, *next; /* the children while the list or mapping is open */
};

/*
 * Reads `text`. False after a mistake behind which nothing can be read, which is then among the
 * errors, as are those of duplicate keys and variables. *root is NULL when there is no value.
 */
bool conf_document_parse(
	struct arena *arena, struct str text, struct conf_errors *errors, struct conf_node **root);

#endif
