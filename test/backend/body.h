/*
 * The body of a message as DATA carries it, RFC 5321 section 4.5.2: finds the end of data and
 * takes the doubled dots out.
 *
 * Strict: only CR LF "." CR LF ends the data. Lenient is the vulnerable server of the smuggling
 * tests: CR, LF and CR LF are all line ends; NULs around the dot and blanks behind it do not matter.
 */
#ifndef BACKEND_BODY_H
#define BACKEND_BODY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

#define BODY_BLANKS_MAX 64

struct body {
	enum body_state {
		BODY_LINE_START,
		BODY_IN_LINE,
		BODY_CR,     /* the last byte was CR */
		BODY_DOT,    /* "." at the start of a line */
		BODY_DOT_CR, /* and CR behind it */
	} state;
	size_t blanks_held; /* lenient: blanks behind the dot, kept until it is clear what they are */
	char blanks[BODY_BLANKS_MAX];
};

/* Where decoded bytes go: called with pieces in order, good for the call only. */
struct body_sink {
	void (*write)(void *context, struct str bytes);
	void *context;
};

void body_start(struct body *body);

/* Takes input; returns the bytes consumed: all, or up to the end of data (then *is_done). */
size_t body_decode(
	struct body *body, struct str input, const struct body_sink *sink, bool *is_done);
size_t body_decode_lenient(
	struct body *body, struct str input, const struct body_sink *sink, bool *is_done);

#endif
