/*
 * The first bytes of a connection: who is the client? Decides by the listener's settings and the
 * socket peer, before a header is believed, whether a PROXY header must, may or must not come, and
 * reads exactly one. It is gone when the session begins, so a second header cannot be said.
 *
 * No I/O and no clock: bytes and expired waits come in, a decision comes out.
 */
#ifndef EDGE_INTAKE_H
#define EDGE_INTAKE_H

#include "base/ipaddr.h"
#include "base/str.h"
#include "connection/ending.h"
#include "edge/settings.h"
#include "proto/proxy.h"

enum intake_decision {
	INTAKE_WAIT,       /* more bytes, or the wait's end */
	INTAKE_DIRECT,     /* the socket peer is the client */
	INTAKE_CLIENT,     /* the header names the client */
	INTAKE_RESTRICTED, /* nobody knows the client: no mail */
	INTAKE_REFUSED,    /* close; `ending`, `word` and `text` say why */
};

struct intake {
	const struct listener_settings *settings;
	bool is_trusted; /* proxy.allowed */
	bool is_checker; /* a connection without a header is a health check */

	/* Results. */
	struct proxy_header
		*header; /* of CLIENT and RESTRICTED; NULL: no header came. Its texts are
	                                views of the bytes that were fed last. The caller's to give. */
	size_t taken;    /* bytes of the header */
	enum ending ending;
	const char *word, *text; /* static */
};

/* Looks at the peer alone. INTAKE_WAIT: a header may come. */
enum intake_decision intake_begin(
	struct intake *intake, const struct listener_settings *settings, const struct ipaddr *peer);

/* `bytes` is everything that has arrived so far; `header` is filled when one is complete. */
enum intake_decision intake_feed(
	struct intake *intake, struct str bytes, struct proxy_header *header);

/* How long to wait for the first byte before intake_silence(), and for the whole header before
 * intake_timeout(), counted from accept. 0: no such wait. */
uint64_t intake_silence_ms(const struct intake *intake, const struct timeouts_settings *timeouts);

/* Nothing at all has come in that time. */
enum intake_decision intake_silence(struct intake *intake);
/* The header is not complete in time. */
enum intake_decision intake_timeout(struct intake *intake);
/* The peer closed before or within the header. */
enum intake_decision intake_eof(struct intake *intake, bool any_bytes);

#endif
