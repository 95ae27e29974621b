/*
 * The message body on the wire (RFC 5321 section 4.5.2, transparency): finds the end of data,
 * checks the line ends, and makes the canonical form that goes to the backend, in one pass.
 *
 * The end of data is CR LF . CR LF and nothing else (or . CR LF as the first line). Everything
 * else is content. A CR without LF, an LF without CR, or a NUL is a violation; it is remembered
 * to the true end of data and never makes a different end visible. With `normalise` set, bare CR
 * and bare LF become CR LF instead, and a NUL is left out. A line end that normalising made is
 * never half of the end of data: a dot behind it is content, and so is a dot alone in front of it.
 *
 * The canonical form has only CR LF line ends, and each line that begins with a dot has that dot
 * doubled. What came in canonical goes out as views of the input, without a copy: only a
 * superfluous dot (".word") is left out, and only normalising adds bytes.
 *
 * Decoding and encoding anew is what makes smuggling impossible: the backend sees line ends and
 * dots that we wrote.
 */
#ifndef PROTO_DOT_H
#define PROTO_DOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

enum dot_violation {
	DOT_FINE = 0,
	DOT_BARE_CR = 1 << 0,
	DOT_BARE_LF = 1 << 1,
	DOT_NUL = 1 << 2,
	DOT_LINE_TOO_LONG = 1 << 3,   /* a line of more than limits.line bytes, CR LF not counted */
	DOT_HEADER_TOO_LONG = 1 << 4, /* more than limits.header bytes before the empty line */
	DOT_FIRST_LINE_FOLDED = 1 << 5, /* would extend the header line that we put in front */
};

struct dot_limits {
	size_t line;   /* 0: none */
	size_t header; /* 0: none */
	bool normalise;
};

/* State between calls; fields are for dot.c, but for those marked as results. */
struct dot {
	struct dot_limits limits;
	uint8_t state;
	uint8_t name_length; /* bytes of the current line that matched "Received:" so far */
	bool in_header;
	size_t line_length; /* decoded bytes of the current line so far */
	char out[8];        /* what one call puts out that is not a view of its input */
	uint8_t out_length;

	/* Results, cumulative. */
	unsigned violations; /* set of enum dot_violation */
	uint64_t bytes;      /* of the message, decoded: no transparency dots, no final dot */
	uint64_t lines;
	unsigned received_count; /* header lines that begin with "Received:" */
};

void dot_init(struct dot *dot, const struct dot_limits *limits);

/*
 * Looks at input from the front and gives one piece of canonical output.
 * Returns 1 when the end of data was reached: *taken includes the final dot and its CR LF.
 * Returns 0 otherwise; call again while taken < input.n. Each call takes at least one byte of a
 * non-empty input. *piece is a view into `input` or into *dot (good until the next call with it);
 * possibly empty. The bytes held back between calls (a CR whose LF has not come, a dot at the
 * front of a line) come out with a later piece. Not to be called again after it returned 1.
 *
 * After a violation the message is refused: all pieces are empty then, and the call only looks for
 * the end. So no piece ever holds a NUL, or a CR or LF that is not half of a CR LF.
 */
int dot_next(struct dot *dot, struct str input, size_t *taken, struct str *piece);

/*
 * Takes the transparency dots out of bytes in canonical form, for a transport that needs none
 * (BDAT, RFC 3030). `is_line_start`: the next byte begins a line; true at first, kept between calls.
 * `out` has room for canonical.n bytes.
 */
void dot_strip(bool *is_line_start, struct str canonical, struct buf *out);

/* The canonical end of data, for the backend. */
#define DOT_END STR(".\r\n")

#endif
