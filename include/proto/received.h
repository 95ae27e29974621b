/*
 * The Received: field that we put in front of each message (RFC 5321 section 4.4; `with` words
 * RFC 3848 and 6531). Everything in it is either ours or cleaned: a name the client gave appears
 * only if it is a host name or an address literal, else as "unknown-helo" with the bytes that
 * are safe to show in a comment.
 *
 *   Received: from HELO (HOST [IP])
 *           by HOSTNAME (gatepost) with ESMTP id UUID.1
 *           for <user@example.com>; Sun, 22 Nov 2026 09:05:58 +0000
 *
 * With TLS a line "(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)" follows the first, with
 * " at balancer" in it when the balancer ended it; a hello that is no name is shown in a line
 * "(it said x?y)". Whatever the bytes given, the outcome is exactly one field.
 */
#ifndef PROTO_RECEIVED_H
#define PROTO_RECEIVED_H

#include <stdbool.h>
#include <time.h>

#include "base/buf.h"
#include "base/ipaddr.h"
#include "base/str.h"

struct received {
	struct str hello; /* as the client gave it; empty: none */
	struct str host;  /* confirmed name of the client; empty: "unknown" */
	struct ipaddr client;
	struct str hostname;    /* ours */
	struct str id;          /* the transaction's */
	struct str recipient;   /* canonical address, without "<>"; no `for` clause when it is
				 * empty, needs quotes, or is UTF-8 without `smtputf8` */
	struct str tls_version; /* empty: no TLS */
	struct str tls_cipher;
	bool tls_offloaded; /* ended at the balancer */
	bool esmtp, authenticated, smtputf8;
	time_t time; /* seconds since 1970, up to the year 9999; printed in UTC */
};

#define RECEIVED_MAX 2048

/* Appends the field, folded, CR LF at the end of each line. `out` needs RECEIVED_MAX room. */
void received_print(const struct received *received, struct buf *out);

#endif
