/*
 * Settings by table: one row a key. From the row come reading, checking, defaults, the printed
 * effective configuration, the reference page, the commented sample and the JSON Schema.
 *
 * A table describes one mapping of the YAML file and the plain struct that it fills. The default
 * is given as text and goes through the same reader as the file, so it is checked too. All
 * mistakes of a file are reported in one run, each as "file:line:column: key: what is wrong",
 * with the nearest known key for a misspelt one.
 *
 * Storage: strings and lists are allocated for the life of the settings and freed by
 * conf_free(). The struct is zeroed by the reader before it is filled.
 */
#ifndef CONF_SCHEMA_H
#define CONF_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/ipaddr.h"
#include "base/str.h"

enum conf_type {
	CONF_STRING,    /* struct str */
	CONF_BOOL,      /* bool: true | false | yes | no | on | off */
	CONF_NUMBER,    /* uint64_t; digits */
	CONF_SIZE,      /* uint64_t bytes: 512, 512B, 512KB, 25MB, 2GB (1024-based) */
	CONF_DURATION,  /* uint64_t milliseconds: 500ms, 30s, 5m, 2h, 7d; a bare number only if 0 */
	CONF_ENUM,      /* int: index into choices */
	CONF_ENDPOINT,  /* struct endpoint: "192.0.2.1:25", "[2001:db8::1]:25" */
	CONF_NETWORK,   /* struct ipnet */
	CONF_DOMAIN,    /* struct str: "example.com" or ".example.com"; lower case; IDN as A-labels */
	CONF_MAP,       /* a struct described by `fields`, embedded at the offset */
	CONF_CUSTOM,    /* read by `read`: see struct conf_reader */
};

/* A list as settings hold it: `count` elements of the row's element size. For CONF_NETWORK lists
 * use struct ipnet_list, which has the same layout. */
struct conf_list {
	void *items;
	size_t count;
};

enum conf_flags {
	CONF_LIST = 1 << 0,     /* a sequence of the type; the struct has a struct conf_list */
	CONF_REQUIRED = 1 << 1, /* must be given; a list: must not be empty */
	CONF_SECRET = 1 << 2,   /* never printed */
	CONF_OPTIONAL_MAP = 1 << 3, /* CONF_MAP: absent means all defaults (this is the rule); kept
	                               for symmetry of documentation */
};

struct conf_node;   /* a place in the file: opaque */
struct conf_errors; /* all mistakes found so far: opaque */

struct conf_field {
	const char *key;
	enum conf_type type;
	unsigned flags;
	size_t offset;               /* of the value in the struct: offsetof */
	const char *dflt;            /* as the file would say it; NULL: zero value or empty list */
	uint64_t min, max;           /* of NUMBER, SIZE, DURATION (ms); max 0: no bound */
	const char *const *choices;  /* of ENUM, NULL-terminated */
	const struct conf_field *fields; /* of MAP, terminated by a row without key */
	size_t element_size;         /* of a LIST of MAP or CUSTOM: sizeof the element */
	/* CUSTOM: reads `node` into `value`; reports mistakes with conf_error. `arg` of the row. */
	void (*read)(struct conf_node *node, void *value, const void *arg, struct conf_errors *errors);
	/* CUSTOM: frees what `read` allocated; NULL if nothing. */
	void (*free)(void *value, const void *arg);
	/* CUSTOM: prints the value as one line of YAML flow. NULL: the row is not printed. */
	void (*print)(const void *value, const void *arg, struct buf *out);
	const void *arg;
	const char *schema_json;     /* CUSTOM: its JSON Schema as a JSON text; NULL: {} */
	/* MAP: what rows cannot say (this needs that). Called after the rows, if they were fine. */
	void (*accepts)(const void *value, struct conf_node *node, struct conf_errors *errors);
	const char *unit;            /* for the reference, e.g. "bytes"; NULL: by type */
	const char *example;         /* for the sample, where there is no default */
	const char *help;            /* one or two sentences; required, a test looks */
};

/* The end of a table. */
#define CONF_END { .key = NULL }

/*
 * Reads the file into `value` (of `size` bytes) by the table. Returns 0, or -1 with everything
 * that is wrong in `report`, one line a mistake. `${NAME}` and `${NAME:-default}` in scalars take
 * environment variables, `$$` is a dollar sign; a variable that is unset and has no default is a
 * mistake. On failure `value` is freed and zeroed.
 */
int conf_read_file(const char *path, const struct conf_field *table, void *value, size_t size,
	struct buf *report);
/* The same from memory; `name` stands for the file in messages. */
int conf_read_text(const char *name, struct str text, const struct conf_field *table, void *value,
	size_t size, struct buf *report);

/* Frees what the settings hold (not the struct itself) and zeroes the struct. */
void conf_free(const struct conf_field *table, void *value, size_t size);

/* ---- For CUSTOM readers and `accepts` ---- */

void conf_error(struct conf_errors *errors, struct conf_node *node, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

enum conf_kind { CONF_KIND_SCALAR, CONF_KIND_LIST, CONF_KIND_MAP };
enum conf_kind conf_node_kind(const struct conf_node *node);
struct str conf_node_scalar(const struct conf_node *node);  /* variables replaced */
size_t conf_node_count(const struct conf_node *node);       /* elements of a list, pairs of a map */
struct conf_node *conf_node_item(struct conf_node *node, size_t index); /* value of pair, element */
struct conf_node *conf_node_key(struct conf_node *map, size_t index);
/* The value of `key` in a map (for pointing errors at it), or NULL. */
struct conf_node *conf_node_get(struct conf_node *map, const char *key);

/* Reads one value of a row's type from a node (used by CUSTOM readers for their parts). */
void conf_read_value(struct conf_node *node, const struct conf_field *field, void *value,
	struct conf_errors *errors);
/* Reads a mapping by a table into `value`, zeroed first; a NULL node gives all defaults. */
void conf_read_map(struct conf_node *node, const struct conf_field *table, void *value,
	size_t size, struct conf_errors *errors);

#endif
