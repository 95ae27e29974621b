/*
 * The log: one record an event, one line a record. What events there are, their level, their
 * word and their meaning stand in tables/logevents.def (printed as docs/log-events.md); the
 * names of fields are an interface. Foreign bytes are escaped: nothing that a client, balancer
 * or backend sends can start a new line or reach a terminal as a control sequence.
 *
 * Two forms: JSON lines, and "postfix" text lines that fail2ban filters written for Postfix
 * match. The events that Postfix has too are said in its words (a table in log_postfix.c). There a
 * CONNECTION whose ending Postfix has a line of its own for ("too many errors after RCPT from …")
 * is two lines.
 *
 * A record that cannot be written (full disk, closed or full pipe) is dropped and counted; mail
 * goes on. The first record that can be written again is followed by LOG_DROPPED. A record is at
 * most 64 KiB; fields that do not fit are left out, and "cut" says so.
 *
 * The program must ignore SIGPIPE. Each process has its own state; processes that share a target
 * write whole records beside each other, as each is one write(2), or several of them are.
 *
 * While the loop runs, records for a file are gathered and written together: at the end of what the
 * turn does, and before what it says is sent, so that nobody has a reply whose record could still be
 * lost. Bugs that end the program (ASSERT), forks and the end write what is gathered; SIGKILL and
 * the like lose the records of one turn at most. Pipes, sockets and terminals get each at once.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/json.h"
#include "base/str.h"

enum log_level { LOG_DEBUG_LEVEL, LOG_INFO_LEVEL, LOG_WARNING_LEVEL, LOG_ERROR_LEVEL };

enum log_event {
#define LOGEVENT(id, word, level, fields, meaning) LOG_##id,
#include "tables/logevents.def"
#undef LOGEVENT
	LOG_EVENT_COUNT
};

enum log_format { LOG_FORMAT_JSON, LOG_FORMAT_POSTFIX };

/* One field of a record. Made by the functions below, in an array on the caller's stack. */
struct log_field {
	struct str name;
	enum { LOG_FIELD_NONE, LOG_FIELD_STR, LOG_FIELD_INT, LOG_FIELD_BOOL, LOG_FIELD_NULL } type;
	struct str text;
	int64_t number;
};

static inline struct log_field log_str(const char *name, struct str value)
{
	return (struct log_field){ .name = str_from(name), .type = LOG_FIELD_STR, .text = value };
}

static inline struct log_field log_text(const char *name, const char *value)
{
	struct log_field field = log_str(name, str_from(value));

	field.type = value ? LOG_FIELD_STR : LOG_FIELD_NULL;
	return field;
}

static inline struct log_field log_int(const char *name, int64_t value)
{
	return (struct log_field){ .name = str_from(name), .type = LOG_FIELD_INT, .number = value };
}

static inline struct log_field log_bool(const char *name, bool value)
{
	return (struct log_field){
		.name = str_from(name), .type = LOG_FIELD_BOOL, .number = value
	};
}

/*
 * Opens the log: `target` is "stderr" or the path of a file that is appended to. Records below
 * `level` are not written. May be called again to change any of it; on failure everything
 * stays as it was. Before the first call records go to stderr as JSON at level info.
 */
int log_open(const char *target, enum log_format format, enum log_level level, const char *hostname,
	struct err *err);

/* Closes and opens the file anew, for log rotation. On failure the old one stays. Does nothing to
 * a log on stderr. */
int log_reopen(struct err *err);

/* Gives the file to another user, before privileges are given up. */
int log_give_to(uid_t user, gid_t group, struct err *err);

bool log_wants(enum log_event event);

/* Writes one record: time, level, event word, then the fields in their order. */
void log_write(enum log_event event, const struct log_field *fields, size_t count);

/* log_write over a braced list: LOG(BACKEND_FAILED, log_str("server", name), …). */
#define LOG(id, ...) \
	do { \
		const struct log_field fields_[] = { __VA_ARGS__ }; \
		log_write(LOG_##id, fields_, sizeof(fields_) / sizeof(fields_[0])); \
	} while (0)

/*
 * From now on what would be a record is given to `take`, until this is called with NULL. For `gatepost
 * -c`, which looks at files by what reads them at the start, and has no log.
 */
void log_divert(
	void (*take)(void *ctx, enum log_event event, const struct log_field *fields, size_t count),
	void *ctx);

/* Gather from now on, or not; either way what is gathered is written. For the loop. */
void log_gather(bool gathers);
/* Writes what is gathered. */
void log_flush(void);

/* Records lost since the start because they could not be written. */
uint64_t log_dropped(void);

/* The word of an event, as the records carry it. */
const char *log_event_word(enum log_event event);

/* Prints the table as Markdown (docs/log-events.md) into `out`. */
void log_print_reference(struct buf *out);

#endif
