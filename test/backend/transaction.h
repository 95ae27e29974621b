/*
 * One mail transaction: the envelope and, while the body streams by, what is made of it: a
 * count, and for the record a digest, for the Maildir a file. When neither record nor Maildir
 * is wanted the body is only counted.
 */
#ifndef BACKEND_TRANSACTION_H
#define BACKEND_TRANSACTION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "maildir.h"
#include "record.h"

struct evp_md_ctx_st;
struct fault;

struct transaction {
	struct record *record;
	struct maildir *maildir;
	const struct identity *identity;
	struct buf xforward;   /* "ADDR=… HELO=…" since the transaction before */
	bool is_open;          /* MAIL was accepted */
	bool is_bdat;          /* the body comes by BDAT */
	unsigned rcpts;        /* accepted */
	unsigned chunks;       /* of BDAT */
	struct buf sender;     /* address NUL parameters */
	struct buf recipients; /* address NUL parameters LF, for each */
	bool keeps_recipients; /* also without a record */
	struct buf granted;    /* LMTP: '1' or '0' for each recipient */
	struct fault *special; /* SMTP: what the name of a recipient wants at the dot */
	struct buf body;       /* when the record wants it */
	struct maildir_file file;
	struct evp_md_ctx_st *digest;
	unsigned char sha256[32];
	uint64_t size, bare_cr, bare_lf, nul, eight_bit;
	char last; /* byte of the body */
};

void transaction_init(struct transaction *tx, struct record *record, struct maildir *maildir,
	const struct identity *identity);

/* Adds to what is known of the client; before MAIL. */
void transaction_xforward(struct transaction *tx, struct str attributes);
/* LMTP: whether the next recipient gets the message. */
void transaction_grant(struct transaction *tx, bool is_granted);

void transaction_mail(struct transaction *tx, struct str address, struct str params);
void transaction_rcpt(struct transaction *tx, struct str address, struct str params);
void transaction_body_begin(struct transaction *tx);
void transaction_write(struct transaction *tx, struct str bytes);

/* Records and delivers. False when it could not be delivered. The transaction is reset. */
bool transaction_commit(struct transaction *tx, uint64_t session_id);

/* Forgets everything; also the way to free. */
void transaction_reset(struct transaction *tx);

#endif
