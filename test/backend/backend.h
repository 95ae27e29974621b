/* What all sessions share. Made in main.c. */
#ifndef BACKEND_BACKEND_H
#define BACKEND_BACKEND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/buf.h"
#include "faults.h"
#include "maildir.h"
#include "options.h"
#include "record.h"

/* What epoll points at: the first member of whoever waits for a descriptor. */
struct watch {
	void (*ready)(struct watch *watch, uint32_t events);
};

struct session;
LIST_HEAD(session_list, session);

struct backend {
	struct options options;
	struct faults faults;
	struct faults specials; /* recipients that misbehave by name */
	struct record record;
	struct maildir maildir;
	struct buf extensions; /* as on the command line; NUL-terminated, as are */
	struct buf banner;
	struct buf greetings[2]; /* the EHLO reply; and without XCLIENT */
	bool offers_pipelining;
	bool offers_enhanced_codes;
	uint64_t size_max; /* of a message; 0: no limit */

	int epoll;
	bool is_ending;
	bool is_dropping;             /* all connections, at the end of the turn */
	struct session_list sessions; /* all */
	struct session_list waiting;  /* those with a time to go on at */
	int64_t next_due;             /* not later than the first of them, ms */

	uint64_t connections, messages, bytes;
};

/* Milliseconds of a clock that only goes forward. */
int64_t backend_now(void);

/* The process exits at once, as if killed; sockets are closed by the system. */
_Noreturn void backend_die(void);

/* Whether `keyword` is in the list of extensions; and what is announced behind it. */
bool backend_offers(const struct backend *backend, struct str keyword);
struct str backend_extension(const struct backend *backend, struct str keyword);

#endif
