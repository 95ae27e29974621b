/*
 * ESMTP parameters of MAIL and RCPT (RFC 5321 section 4.1.2, esmtp-param), by table. Which
 * parameters exist, on which command, and which extension must have been offered for them:
 *
 *   SIZE=n                    MAIL   RFC 1870   20 digits at most
 *   BODY=7BIT | 8BITMIME      MAIL   RFC 6152
 *   SMTPUTF8                  MAIL   RFC 6531
 *   RET=FULL | HDRS           MAIL   RFC 3461
 *   ENVID=xtext               MAIL   RFC 3461   100 bytes at most
 *   AUTH=xtext                MAIL   RFC 4954   checked, then dropped: we vouch for nobody
 *   NOTIFY=NEVER | list       RCPT   RFC 3461
 *   ORCPT=type;xtext          RCPT   RFC 3461   500 bytes at most; for the type utf-8 the address
 *                                               may be UTF-8 (RFC 6533) when SMTPUTF8 is offered
 *
 * A parameter given twice is a fault; so is one that the table lacks.
 */
#ifndef PROTO_SMTP_PARAMS_H
#define PROTO_SMTP_PARAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/str.h"

/* Extensions that a server can offer, as a set of bits; also used for backends. */
enum smtp_extension {
	SMTP_EXT_PIPELINING = 1 << 0,
	SMTP_EXT_SIZE = 1 << 1,
	SMTP_EXT_8BITMIME = 1 << 2,
	SMTP_EXT_SMTPUTF8 = 1 << 3,
	SMTP_EXT_DSN = 1 << 4,
	SMTP_EXT_ENHANCEDSTATUSCODES = 1 << 5,
	SMTP_EXT_CHUNKING = 1 << 6, /* of backends only */
	SMTP_EXT_STARTTLS = 1 << 7,
	SMTP_EXT_AUTH = 1 << 8,
	SMTP_EXT_LIMITS = 1 << 9,
	SMTP_EXT_XCLIENT = 1 << 10,  /* of backends only */
	SMTP_EXT_XFORWARD = 1 << 11, /* likewise */
};

enum smtp_params_fault {
	SMTP_PARAMS_FINE,
	SMTP_PARAMS_SYNTAX,      /* not keyword[=value], or a value its parameter forbids */
	SMTP_PARAMS_UNSUPPORTED, /* unknown here, or its extension was not offered */
	SMTP_PARAMS_DUPLICATE,
	SMTP_PARAMS_NO_ROOM,
};

enum smtp_body { SMTP_BODY_ABSENT, SMTP_BODY_7BIT, SMTP_BODY_8BITMIME };

struct smtp_mail_params {
	bool has_size;
	uint64_t size; /* UINT64_MAX also stands for all that is more */
	enum smtp_body body;
	bool smtputf8;
	struct str ret;   /* "FULL", "HDRS", or empty */
	struct str envid; /* as sent (xtext); in the arena */
	bool has_envid;
};

struct smtp_rcpt_params {
	struct str notify; /* as sent, in the arena; empty when absent */
	struct str orcpt;  /* as sent, in the arena; empty when absent */
};

/*
 * `text` is what stands behind the path: nothing, or a space and parameters. `offered` is the set
 * of extensions the client may use; 0 after HELO, so that any parameter is unsupported then. For
 * RCPT leave SMTP_EXT_SMTPUTF8 out when the transaction was begun without SMTPUTF8. On a fault
 * *bad is the parameter as sent, a view of `text`; without one it is empty.
 */
enum smtp_params_fault smtp_params_parse_mail(struct str text, unsigned offered,
	struct arena *arena, struct smtp_mail_params *params, struct str *bad);
enum smtp_params_fault smtp_params_parse_rcpt(struct str text, unsigned offered,
	struct arena *arena, struct smtp_rcpt_params *params, struct str *bad);

/*
 * Writes the parameters, each with a space in front, for a server that offers `offered`; what
 * it does not offer is left out (the caller has decided before that this is lossless). `out`
 * needs SMTP_PARAMS_TEXT_MAX bytes of room.
 */
#define SMTP_PARAMS_TEXT_MAX 640
void smtp_params_print_mail(
	const struct smtp_mail_params *params, unsigned offered, struct buf *out);
void smtp_params_print_rcpt(
	const struct smtp_rcpt_params *params, unsigned offered, struct buf *out);

/* Is `text` xtext (RFC 3461 section 4), possibly empty? */
bool smtp_is_xtext(struct str text);

/* Writes `text` as xtext. False, and nothing written: there is no room. */
bool smtp_write_xtext(struct buf *out, struct str text);

#endif
