/*
 * XCLIENT and XFORWARD (Postfix's extensions): what a server is told of the client behind us. With
 * XCLIENT it takes the session for that client's and greets anew; XFORWARD is for its log, and
 * holds for one transaction.
 *
 *   xclient-command  = "XCLIENT"  1*( SP name "=" value ) CRLF
 *   xforward-command = "XFORWARD" 1*( SP name "=" value ) CRLF
 *
 * Values are xtext (RFC 3461 section 4) of at most 255 bytes, commands at most 512 bytes. Only
 * attributes that the server has announced may be said.
 */
#ifndef PROTO_XCLIENT_H
#define PROTO_XCLIENT_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/ipaddr.h"
#include "base/str.h"

/* Attributes of either, as a set of bits. */
enum xclient_attribute {
	XCLIENT_NAME = 1 << 0,
	XCLIENT_REVERSE_NAME = 1 << 1, /* XCLIENT only */
	XCLIENT_ADDR = 1 << 2,
	XCLIENT_PORT = 1 << 3,
	XCLIENT_DESTADDR = 1 << 4, /* XCLIENT only */
	XCLIENT_DESTPORT = 1 << 5, /* XCLIENT only */
	XCLIENT_PROTO = 1 << 6,
	XCLIENT_HELO = 1 << 7,
	XCLIENT_LOGIN = 1 << 8,   /* XCLIENT only */
	XCLIENT_SESSION = 1 << 9, /* XCLIENT only; Dovecot's */
	XCLIENT_IDENT = 1 << 10,  /* XFORWARD only */
	XCLIENT_SOURCE = 1 << 11, /* XFORWARD only */
};

enum xclient_protocol { XCLIENT_PROTOCOL_UNKNOWN, XCLIENT_SMTP, XCLIENT_ESMTP };

enum xclient_source { XCLIENT_SOURCE_UNKNOWN, XCLIENT_LOCAL, XCLIENT_REMOTE };

/*
 * The client, as raw bytes. What is empty, too long or has control characters is said to be
 * "[UNAVAILABLE]", and so is a name that is no host name; PROTO and SESSION of XCLIENT, which have no
 * such value, are not said then.
 */
struct xclient_identity {
	struct str name;                       /* host name, verified */
	struct str reverse_name;               /* of its address, not verified */
	bool name_failed, reverse_name_failed; /* empty because the lookup failed for now */
	const struct endpoint *address;        /* the client's; NULL: unknown */
	const struct endpoint *destination;    /* what it connected to; NULL: unknown */
	enum xclient_protocol protocol;
	struct str hello;
	struct str login;   /* SASL; empty: not logged in */
	struct str session; /* id of the connection */
	struct str ident;   /* id of the transaction */
	enum xclient_source source;
};

/* The set that the names in `text`, separated by spaces, stand for; in any case, unknown ones are
 * left out. */
unsigned xclient_attributes_parse(struct str text);
unsigned xforward_attributes_parse(struct str text);

/* Those of `announced` that xclient_print() has something to say for; 0: there is no command. */
unsigned xclient_attributes(const struct xclient_identity *identity, unsigned announced);

/*
 * Prints one command, CR LF included, into `out`, which has XCLIENT_LINE_MAX bytes of room. `due` is
 * what is to be said and not 0; returns what is still due, for the next command.
 *
 * XCLIENT: a server goes back to before its greeting at each command, and forgets LOGIN, PROTO and
 * HELO of those before; once it has ADDR it may take no further one. So when one command cannot hold
 * all, these come in the last one, and HELO is left to the EHLO that follows: the client's name has
 * to be said there.
 */
#define XCLIENT_LINE_MAX 512
unsigned xclient_print(const struct xclient_identity *identity, unsigned due, struct buf *out);
unsigned xforward_print(const struct xclient_identity *identity, unsigned due, struct buf *out);

#endif
