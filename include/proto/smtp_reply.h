/*
 * Replies (RFC 5321 section 4.2, enhanced codes RFC 2034 and 3463): reads the backend's, and
 * what its EHLO reply offers.
 *
 *   Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP [ textstring ] ] CRLF
 *
 * The reader is strict where a loose reading could desynchronise (all lines carry one code, a
 * line ends with CR LF, length and count are bounded) and cleans the text: what is not printable
 * ASCII becomes "?".
 */
#ifndef PROTO_SMTP_REPLY_H
#define PROTO_SMTP_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

#define SMTP_REPLY_LINE_MAX 2048 /* longest line accepted from a backend, CR LF included */
#define SMTP_REPLY_LINES_MAX 128 /* most lines of one reply */
#define SMTP_REPLY_TEXT_MAX 4096 /* text kept of one reply, all lines */

enum smtp_reply_fault {
	SMTP_REPLY_FINE,
	SMTP_REPLY_BAD_LINE, /* no code, a code outside 200-599, or a wrong separator */
	SMTP_REPLY_MIXED,    /* codes differ between lines */
	SMTP_REPLY_TOO_LONG, /* line, count of lines */
	SMTP_REPLY_BARE_LF,  /* LF without CR, CR without LF, or NUL */
};

/* One complete reply. */
struct smtp_reply {
	int code; /* 200-599 */
	struct {
		bool present;
		uint16_t class, subject, detail; /* class equals the first digit of code */
	} enhanced;                              /* of the last line */
	size_t line_count;
	struct str text; /* cleaned; lines separated by '\n'; without the codes of both kinds */
	bool was_cut;    /* the text did not fit and was cut */
};

/*
 * Reads one reply from the front of `input`. Returns 1: *reply is filled, *taken are its bytes.
 * 0: incomplete, call again with more input behind this one. -1: not a reply, *fault says why.
 * The text is built in `text`, which is truncated first; reply->text is a view of it. An empty
 * `input` is incomplete.
 */
int smtp_reply_parse(struct str input, struct buf *text, struct smtp_reply *reply, size_t *taken,
	enum smtp_reply_fault *fault);

const char *smtp_reply_fault_text(enum smtp_reply_fault fault);

/* First digit: 2, 3, 4 or 5. */
static inline int smtp_reply_class(const struct smtp_reply *reply)
{
	return reply->code / 100;
}

/* Mechanisms of AUTH, as a set of bits. */
enum smtp_auth_mechanism {
	SMTP_AUTH_PLAIN = 1 << 0,
	SMTP_AUTH_LOGIN = 1 << 1,
	SMTP_AUTH_SCRAM_SHA_256 = 1 << 2,
	SMTP_AUTH_SCRAM_SHA_256_PLUS = 1 << 3,
	SMTP_AUTH_OAUTHBEARER = 1 << 4,
	SMTP_AUTH_XOAUTH2 = 1 << 5,
};

/*
 * What a server said in its EHLO (or LHLO) reply. What we do not know of it is left out. XCLIENT and
 * XFORWARD are only among the extensions when they came with an attribute that we know.
 */
struct smtp_capabilities {
	unsigned extensions; /* set of enum smtp_extension (proto/smtp_params.h) */
	uint64_t size;       /* of SIZE; 0 means none said */
	unsigned auth;       /* set of enum smtp_auth_mechanism; also of the old form "AUTH=…" */
	unsigned xclient;    /* set of enum xclient_attribute (proto/xclient.h) */
	unsigned xforward;   /* likewise */
};

/* `reply` is the 250 of EHLO; its first line is the greeting and is skipped. */
void smtp_capabilities_parse(
	const struct smtp_reply *reply, struct smtp_capabilities *capabilities);

/* The keywords of a set of enum smtp_extension, separated by spaces; a view of `out`. */
#define SMTP_EXTENSIONS_TEXT_MAX 160
struct str smtp_extensions_print(unsigned set, char out[SMTP_EXTENSIONS_TEXT_MAX]);

/*
 * Writes one reply as lines of at most 512 bytes: `code`, the enhanced code on every line, the
 * text split at '\n' and, where needed, at 512 bytes. What is not printable ASCII becomes "?".
 * An enhanced code that is not one, or whose class is not that of `code` (so "" and "0.0.0"), is
 * left out. Text beyond SMTP_REPLY_TEXT_MAX bytes or SMTP_REPLY_LINES_MAX lines is cut, so that
 * SMTP_REPLY_PRINT_MAX bytes of room in `out` are enough.
 */
#define SMTP_REPLY_PRINT_MAX 8192
void smtp_reply_print(struct buf *out, int code, struct str enhanced, struct str text);

/* The same for one that was read: without an enhanced code it gets X.0.0, but for class 3, which has
 * none (RFC 2034 section 4). */
void smtp_reply_repeat(struct buf *out, const struct smtp_reply *reply);

#endif
