/*
 * The replies that gatepost gives of itself, by id: tables/replies.def is the only place with
 * reply text. Every refusal that a sender's postmaster may quote is there (docs/replies.md).
 */
#ifndef CONNECTION_REPLY_H
#define CONNECTION_REPLY_H

#include "base/buf.h"
#include "base/str.h"

struct connection;

enum reply_id {
#define REPLY(id, code, enhanced, text, remark) REPLY_##id,
#include "tables/replies.def"
#undef REPLY
	REPLY_COUNT
};

int reply_code(enum reply_id id);

/*
 * Appends the reply to `out` as it goes on the wire; `out` needs SMTP_REPLY_PRINT_MAX room
 * (proto/smtp_reply.h). Holes in the text are filled from the connection: {hostname}, {client}
 * (address), {sender}, {recipient} (the one under question), {hello}, {id} (the transaction's),
 * {detail}; what is not known is empty. Foreign text in a hole is cut to 256 bytes, and every byte
 * of it that is not printable ASCII becomes "?" (RFC 6531 section 3.7.4 would allow UTF-8 in some
 * replies of some transactions; ASCII is right in all).
 */
void reply_print(enum reply_id id, const struct connection *connection, struct str hostname,
	struct str detail, struct buf *out);

/* docs/replies.md. */
void reply_print_reference(struct buf *out);

#endif
