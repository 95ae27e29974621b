/*
 * Lines of the Dovecot auth protocol: fields separated by TAB, in which \001 escapes what would
 * structure the line. No I/O.
 */
#ifndef AUTH_DOVECOT_LINE_PRIV_H
#define AUTH_DOVECOT_LINE_PRIV_H

#include <stdbool.h>
#include <stddef.h>

#include "auth/auth.h"
#include "auth/dovecot.h"
#include "base/str.h"

struct dovecot_line {
	char bytes[AUTH_DOVECOT_LINE_MAX];
	size_t n;
	bool is_too_long; /* something did not fit: not to be sent */
};

void dovecot_line_begin(struct dovecot_line *line, const char *command);
/* TAB, the key as it is ("rip=", or "" ), the value escaped. */
void dovecot_line_add(struct dovecot_line *line, const char *key, struct str value);
void dovecot_line_add_number(struct dovecot_line *line, const char *key, unsigned long value);
void dovecot_line_add_base64(struct dovecot_line *line, const char *key, struct str bytes);
struct str dovecot_line_end(struct dovecot_line *line);

/* The whole AUTH request: the initial response, if there is one, comes last. */
void dovecot_line_auth(struct dovecot_line *line, unsigned long id, unsigned mechanism,
	const struct auth_client *client, const struct str *initial);

/* Undoes the escapes. False: more than `max` bytes, or \001 at the end. */
bool dovecot_unescape(struct str value, char *out, size_t max, size_t *n);

/* The value of the parameter `name` in *fields*, escaped as it is; empty for one without a value.
 * False: it is not there. */
bool dovecot_parameter(struct str fields, struct str name, struct str *value);

#endif
