/*
 * The final replies of a server that answers for each recipient (LMTP, RFC 2033), made one answer:
 * our client gets a single one, and it must not promise what did not happen. No I/O.
 */
#ifndef BACKEND_MERGE_H
#define BACKEND_MERGE_H

#include "backend/answer.h"
#include "base/buf.h"
#include "base/str.h"
#include "proto/smtp_reply.h"

enum merge_result {
	MERGE_ALL,     /* all have it */
	MERGE_NONE,    /* nobody has: it may be refused as a whole */
	MERGE_PARTLY,  /* some have, the others have not */
	MERGE_UNKNOWN, /* what became of some, nobody knows */
};

struct merge {
	unsigned count;                       /* recipients that were added */
	unsigned delivered, refused, unknown; /* refused: for now or for good */
	unsigned deferred;                    /* of `refused`: for now */
	bool server_is_done;                  /* a 421 was among them */

	/* Who, and why not, for the log. What does not fit is left out, and "..." says so. */
	struct buf delivered_list, refused_list, unknown_list;

	/* The reply that stands for all, where one can. */
	struct smtp_reply reply;
	struct buf reply_text;
};

/* Empty: takes no memory. */
void merge_init(struct merge *merge);
void merge_free(struct merge *merge);

/*
 * The reply for the next recipient, and what answer_from_reply() makes of it (as of
 * SMTP_CLIENT_DOT); not a senseless one. A reply that blames us is a refusal for now.
 */
void merge_add(struct merge *merge, struct str recipient, const struct smtp_reply *reply,
	const struct answer *verdict);
/* The next recipient had no reply. */
void merge_add_unknown(struct merge *merge, struct str recipient);

/*
 * With ALL and NONE `reply` is the one to be told to the client: the first 250; or the first refusal
 * for now, if there is one, as the message is worth another attempt; else the first for good.
 */
enum merge_result merge_result(const struct merge *merge);

#endif
