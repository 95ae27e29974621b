/*
 * A dialogue with a server (smtp/client) whose other side is the test: what the client sent and what
 * it told its owner is kept as text.
 */
#ifndef TEST_SUPPORT_CLIENT_TALK_H
#define TEST_SUPPORT_CLIENT_TALK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "smtp/client.h"

#define SERVER_EHLO \
	"250-mta.example.net\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-DSN\r\n250 SIZE 1000\r\n"

#define SURPLUS "broken bytes behind the reply that was due\n"
#define UNASKED "broken a reply that nobody asked for"

/* `told` has a line for each event: "EHLO 250", "broken why", "broken why 421"; with `tells_final` also
 * "end of data 250 #1", and a "." behind it when it is the last. */
struct talk {
	struct smtp_client client;
	struct buf input, sent, told;
	bool is_byte_by_byte, tells_final;
	void (*on_answer)(struct talk *talk, enum smtp_client_step step); /* or NULL */
};

/* As "mx.example.net"; nothing has come yet. */
void talk_open(struct talk *talk, bool is_byte_by_byte);
void talk_close(struct talk *talk);

/* The server says this, in one piece or byte by byte. */
void talk_hear(struct talk *talk, struct str bytes);
/* Banner and this reply to EHLO; nothing of it is left in `sent` and `told`. */
void talk_greet(struct talk *talk, struct str ehlo);

/* The owner says MAIL and RCPT with an address. */
void talk_mail(struct talk *talk);
void talk_rcpt(struct talk *talk);

/* Is this what was sent, or told? Forgets it. */
void talk_assert(struct buf *have, const char *wanted);

/* A bug of the owner, made in a dialogue that is greeted with `ehlo`, ends the program. */
void talk_assert_abort(struct str ehlo, void (*bug)(struct talk *talk));

#endif
