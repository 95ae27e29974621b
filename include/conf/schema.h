/*
 * Settings by table: one row a key. From the row come reading, checking, defaults, the printed
 * effective configuration, the reference page, the commented sample and the JSON Schema.
 *
 * A table describes one mapping of the YAML file and the plain struct that it fills. The default
 * is given as text and goes through the same reader as the file, so it is checked too. All
 * mistakes of a file are reported in one run, each as "file:line:column: key: what is wrong",
 * with the nearest known key for a misspelt one.
 *
 * Of YAML there is what a settings file needs: words have the type that the table gives them (so
 * `no` can be a name), a key given twice is a mistake, an alias stands for a copy of what it
 * names; merge keys (<<), tags and second documents are refused. A file has at most 4 MiB, 64
 * levels, 500,000 values (those that aliases repeat included) and 256 anchors.
 *
 * "key:" with nothing behind it is an empty mapping where a mapping belongs and a mistake
 * elsewhere. A file that says nothing at all is a mistake; {} takes all defaults.
 *
 * Storage: strings and lists are allocated for the life of the settings and freed by
 * conf_free(); strings are NUL-terminated beyond their length and have no control characters. The
 * struct is zeroed by the reader before it is filled, so what was not reached is zero.
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
	CONF_LIST = 1 << 0,     /* a sequence of the type; the struct has a struct conf_list. A single
	                           scalar stands for a list of one, except for MAP without scalar_key */
	CONF_REQUIRED = 1 << 1, /* must be given; a list or text: must not be empty */
	CONF_SECRET = 1 << 2,   /* never printed, not in mistakes either */
};

struct conf_node;   /* a place in the file: opaque */
struct conf_errors; /* all mistakes found so far: opaque */

struct conf_field {
	const char *key;
	enum conf_type type;
	unsigned flags;
	size_t offset;               /* of the value in the struct: offsetof */
	const char *dflt;            /* as the file would say it; NULL: zero value or empty list;
	                                a mistake in it is reported with any file */
	uint64_t min, max;           /* of NUMBER, SIZE, DURATION (ms); max 0: no bound */
	const char *const *choices;  /* of ENUM, NULL-terminated */
	const struct conf_field *fields; /* of MAP, terminated by a row without key */
	/* Of MAP: a scalar stands for a mapping that has this key alone. NULL: it must be a mapping. */
	const char *scalar_key;
	/* Of a LIST of MAP or CUSTOM: sizeof the element. Of a single CUSTOM: sizeof the value, so
	   that the printed settings can tell whether it is the default. */
	size_t element_size;
	/* CUSTOM: reads `node`, of any kind, into the zeroed `value`; reports mistakes with
	   conf_error. `arg` is that of the row. Of a LIST: called once an element. */
	void (*read)(struct conf_node *node, void *value, const void *arg, struct conf_errors *errors);
	/* CUSTOM: frees what `read` allocated, a zeroed value included; NULL if nothing. */
	void (*free)(void *value, const void *arg);
	/* CUSTOM: prints the value as one line of YAML flow. NULL: the row is not printed. */
	void (*print)(const void *value, const void *arg, struct buf *out);
	const void *arg;
	const char *schema_json;     /* CUSTOM: its JSON Schema as a JSON text; NULL: {} */
	/* MAP: what rows cannot say (this needs that). Called after the rows, if they were fine. */
	void (*accepts)(const void *value, struct conf_node *node, struct conf_errors *errors);
	const char *unit;            /* for the reference, e.g. "bytes"; NULL: by type. Of CUSTOM: what
	                                to call the type, e.g. "list of checks" */
	const char *example;         /* for the sample, where there is no default; as in the file */
	const char *help;            /* one or two sentences; required, a test looks */
};

/*
 * The end of a table. That of the root may have `accepts`, written out: it looks at the whole file,
 * also when rows had mistakes (so that all are told in one run), and finds their values zeroed.
 */
#define CONF_END { .key = NULL }

/*
 * Reads the file into `value` (of `size` bytes) by the table. Returns 0, with notices in `report` if
 * there are any, or -1 with everything that is wrong in it, one line each. `${NAME}` and
 * `${NAME:-default}` in scalars take environment variables, `$$` is a dollar sign; a variable that
 * is unset and has no default is a mistake. On failure `value` is freed and zeroed.
 */
int conf_read_file(const char *path, const struct conf_field *table, void *value, size_t size,
	struct buf *report);
/* The same from memory; `name` stands for the file in messages. */
int conf_read_text(const char *name, struct str text, const struct conf_field *table, void *value,
	size_t size, struct buf *report);

/* Frees what the settings hold (not the struct itself) and zeroes the struct. */
void conf_free(const struct conf_field *table, void *value, size_t size);

/* ---- For CUSTOM readers and `accepts` ---- */

/* A mistake at a node, which gives the line and the path. Control characters in the text are
 * written as \xNN. Say what the value must be, and never what a secret is. */
void conf_error(struct conf_errors *errors, struct conf_node *node, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Likewise what is allowed, but probably not meant. Told when there is no mistake in the file. */
void conf_notice(struct conf_errors *errors, struct conf_node *node, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

enum conf_kind { CONF_KIND_SCALAR, CONF_KIND_LIST, CONF_KIND_MAP };
enum conf_kind conf_node_kind(const struct conf_node *node);
/* With variables replaced; empty for a list or map. Good while the file is being read. */
struct str conf_node_scalar(const struct conf_node *node);
size_t conf_node_count(const struct conf_node *node);       /* elements of a list, pairs of a map */
struct conf_node *conf_node_item(struct conf_node *node, size_t index); /* value of pair, element */
/* The key of a pair, always a scalar, for reading it as a value and for pointing errors at it. */
struct conf_node *conf_node_key(struct conf_node *map, size_t index);
/* The value of `key` in a map (for pointing errors at it), or NULL. */
struct conf_node *conf_node_get(struct conf_node *map, const char *key);

/* Reads one value of a row's type from a node (used by CUSTOM readers for their parts). The key,
 * offset and default of the row do not matter. `value` is zeroed before. What it allocates is
 * the caller's to free. */
void conf_read_value(struct conf_node *node, const struct conf_field *field, void *value,
	struct conf_errors *errors);
/* Reads a mapping by a table into `value`, zeroed first; a NULL node gives all defaults. Free it
 * with conf_free(), also after mistakes. */
void conf_read_map(struct conf_node *node, const struct conf_field *table, void *value,
	size_t size, struct conf_errors *errors);

/* Prints a value, or a mapping, as one line of YAML flow that reads back to the same; for the
 * `print` of CUSTOM rows. Secrets are masked; what is not set and has no default is left out. */
void conf_print_value(const struct conf_field *field, const void *value, struct buf *out);
void conf_print_map(const struct conf_field *table, const void *value, struct buf *out);

#endif
