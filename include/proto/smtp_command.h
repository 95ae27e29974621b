/*
 * A command line of SMTP (RFC 5321 section 4.1.1, 2.4): line → verb and argument. The line comes
 * without its CR LF. Verbs are letters only, case-insensitive, at most SMTP_VERB_MAX long.
 */
#ifndef PROTO_SMTP_COMMAND_H
#define PROTO_SMTP_COMMAND_H

#include <stdbool.h>

#include "base/str.h"

#define SMTP_VERB_MAX 16

/* Every verb we know by name; SMTP_VERB_UNKNOWN for all others. */
enum smtp_verb {
#define SMTP_VERB(id, word) SMTP_VERB_##id,
#include "tables/verbs.def"
#undef SMTP_VERB
	SMTP_VERB_UNKNOWN
};

enum smtp_line_fault {
	SMTP_LINE_FINE,
	SMTP_LINE_CONTROL,  /* a control character (NUL, bare CR, a tab inside the argument) */
	SMTP_LINE_EMPTY,    /* nothing, or white space in front */
	SMTP_LINE_NOT_SMTP, /* begins with no letter, or with a verb of HTTP: another protocol */
};

struct smtp_command {
	enum smtp_verb verb;
	struct str word;         /* the verb as sent; a view */
	struct str argument;     /* behind the verb, spaces and tabs at both ends cut; a view */
	bool has_trailing_space; /* white space stood at the end of the line */
};

/*
 * Views into `line`. With a fault the verb is SMTP_VERB_UNKNOWN; word and argument, where there
 * is something to split, are for the log.
 */
enum smtp_line_fault smtp_command_parse(struct str line, struct smtp_command *command);

/* "EHLO"; "" for SMTP_VERB_UNKNOWN. */
struct str smtp_verb_word(enum smtp_verb verb);

#endif
