/* The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding. Written from
 * the RFC alone, apart from the program under test. */
#ifndef BACKEND_SCRAM_H
#define BACKEND_SCRAM_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/str.h"

#define SCRAM_TEXT_MAX 4096

struct scram {
	struct buf bare;  /* the client's first message, from "n=" on */
	struct buf first; /* the server's */
	struct buf user;  /* as claimed */
	struct buf nonce; /* both parts */
};

void scram_init(struct scram *scram);
void scram_free(struct scram *scram);

/* The client's first message; appends the answer. False: it is malformed, or wants a binding. */
bool scram_begin(struct scram *scram, struct str message, struct buf *answer);

/* The client's last message; appends the server's proof. False: it does not know the password. */
bool scram_end(struct scram *scram, struct str message, struct str password, struct buf *answer);

#endif
