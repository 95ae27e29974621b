/*
 * SMTP replies on the wire: the honest form, and the malformed ones that test the reader.
 *
 * A reply's text is one C string; '\n' in it begins the next line of a multi-line reply.
 */
#ifndef BACKEND_REPLY_H
#define BACKEND_REPLY_H

#include <stdbool.h>

#include "base/buf.h"

struct reply {
	int code;             /* 0: no reply (yet) */
	const char *enhanced; /* "2.1.0", or NULL */
	const char *text;
};

static inline bool reply_is_positive(const struct reply *reply)
{
	return reply->code >= 200 && reply->code < 400;
}

/* A way to write a reply; appends to `out`. */
void reply_plain(struct buf *out, const struct reply *reply);
void reply_bare_lf(struct buf *out, const struct reply *reply);
void reply_twice(struct buf *out, const struct reply *reply);
void reply_long_line(struct buf *out, const struct reply *reply);   /* 1 MiB in one line */
void reply_many_lines(struct buf *out, const struct reply *reply);  /* 10,000 before the last */
void reply_mixed_codes(struct buf *out, const struct reply *reply); /* 250- then 550 */
void reply_unfinished(struct buf *out, const struct reply *reply);  /* without the last CR LF */
void reply_garbage(struct buf *out, const struct reply *reply);

#endif
