/*
 * The postfix form of the log, for log.c only.
 */
#ifndef BASE_LOG_PRIV_H
#define BASE_LOG_PRIV_H

#include "base/log.h"

/* Room that the fields of a record leave for what ends it: the mark that it was cut. */
#define LOG_TAIL_ROOM 16

/* Appends the text behind "postfix-gatepost/smtpd[PID]: ", without the line end. */
void log_postfix_put(
	struct buf *out, enum log_event event, const struct log_field *fields, size_t count);

/*
 * Some sessions end with two lines in Postfix, the first of which says what went wrong ("too many
 * errors after RCPT from …"). Appends that first line's text; false when there is none.
 */
bool log_postfix_put_fault(
	struct buf *out, enum log_event event, const struct log_field *fields, size_t count);

/* Appends the wording of an event with {names} of fields; nothing when it has none. */
void log_postfix_put_wording(struct buf *out, enum log_event event);

/* Appends text of ours or of foreigners with every byte that is not printable ASCII as '?'. */
bool log_postfix_put_clean(struct buf *out, struct str text);

#endif
