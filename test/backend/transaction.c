#include "transaction.h"

#include <openssl/evp.h>

#define ENVELOPE_MAX (16UL * 1024 * 1024)
#define BODY_MAX (512UL * 1024 * 1024)

void transaction_init(struct transaction *tx, struct record *record, struct maildir *maildir,
	const struct identity *identity)
{
	*tx = (struct transaction){ .record = record, .maildir = maildir, .identity = identity };
	buf_init(&tx->xforward, ENVELOPE_MAX);
	buf_init(&tx->sender, ENVELOPE_MAX);
	buf_init(&tx->recipients, ENVELOPE_MAX);
	buf_init(&tx->granted, ENVELOPE_MAX);
	buf_init(&tx->body, BODY_MAX);
}

static void keep(struct buf *buf, struct str address, struct str params)
{
	buf_write(buf, address);
	buf_write(buf, STR("\0"));
	buf_write(buf, params);
}

void transaction_xforward(struct transaction *tx, struct str attributes)
{
	buf_write(&tx->xforward, STR(" "));
	buf_write(&tx->xforward, attributes);
}

void transaction_mail(struct transaction *tx, struct str address, struct str params)
{
	tx->is_open = true;
	if (record_is_on(tx->record))
		keep(&tx->sender, address, params);
}

void transaction_rcpt(struct transaction *tx, struct str address, struct str params)
{
	tx->rcpts++;
	if (!record_is_on(tx->record) && !tx->keeps_recipients)
		return;
	keep(&tx->recipients, address, params);
	buf_write(&tx->recipients, STR("\n"));
}

void transaction_grant(struct transaction *tx, bool is_granted)
{
	buf_write(&tx->granted, is_granted ? STR("1") : STR("0"));
}

void transaction_body_begin(struct transaction *tx)
{
	maildir_begin(tx->maildir, &tx->file);
	if (!record_is_on(tx->record))
		return;
	tx->digest = EVP_MD_CTX_new();
	EVP_DigestInit_ex(tx->digest, EVP_sha256(), NULL);
}

/* Counts what no mail should hold; a CR is judged when the byte behind it is known. */
static void inspect(struct transaction *tx, struct str bytes)
{
	for (size_t i = 0; i < bytes.n; i++) {
		char c = bytes.p[i];
		tx->bare_cr += tx->last == '\r' && c != '\n';
		tx->bare_lf += c == '\n' && tx->last != '\r';
		tx->nul += c == '\0';
		tx->eight_bit += (c & 0x80) != 0;
		tx->last = c;
	}
}

void transaction_write(struct transaction *tx, struct str bytes)
{
	tx->size += bytes.n;
	maildir_write(&tx->file, bytes);
	if (!tx->digest)
		return;
	inspect(tx, bytes);
	EVP_DigestUpdate(tx->digest, bytes.p, bytes.n);
	if (tx->record->with_body)
		buf_write(&tx->body, bytes);
}

bool transaction_commit(struct transaction *tx, uint64_t session_id)
{
	bool is_delivered = maildir_commit(tx->maildir, &tx->file);

	if (is_delivered && tx->digest) {
		tx->bare_cr += tx->last == '\r';
		EVP_DigestFinal_ex(tx->digest, tx->sha256, NULL);
		record_message(tx->record, session_id, tx);
	}
	transaction_reset(tx);
	return is_delivered;
}

void transaction_reset(struct transaction *tx)
{
	bool keeps_recipients = tx->keeps_recipients;

	maildir_abort(tx->maildir, &tx->file);
	EVP_MD_CTX_free(tx->digest);
	buf_free(&tx->xforward);
	buf_free(&tx->sender);
	buf_free(&tx->recipients);
	buf_free(&tx->granted);
	buf_free(&tx->body);
	transaction_init(tx, tx->record, tx->maildir, tx->identity);
	tx->keeps_recipients = keeps_recipients;
}
