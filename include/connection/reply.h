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
 * Writes the reply as it goes on the wire. Holes in the text are filled from the connection:
 * {hostname}, {client} (address), {sender}, {recipient} (the one under question), {hello}, {id}
 * (the transaction's), {detail}. Foreign text in a hole is cleaned to printable ASCII (UTF-8 when
 * the transaction is SMTPUTF8) and cut to 256 bytes.
 */
void reply_print(enum reply_id id, const struct connection *connection, struct str hostname,
	struct str detail, struct buf *out);

/* docs/replies.md. */
void reply_print_reference(struct buf *out);

#endif
