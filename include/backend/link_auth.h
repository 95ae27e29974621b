/*
 * AUTH (RFC 4954) on a connection to a server: its lines, for whoever has the exchange. The greeting
 * says it with the backend's own credentials; where a client's are tried, the owner of the link does.
 *
 * What a server answers to it may repeat what was said: of such a reply only the codes are logged,
 * and nothing of it is told to a client.
 */
#ifndef BACKEND_LINK_AUTH_H
#define BACKEND_LINK_AUTH_H

#include <stdbool.h>

#include "backend/link.h"
#include "base/str.h"

/* The longest message of an exchange: what fits into a line, in base64. */
#define LINK_AUTH_MESSAGE_MAX (SMTP_CLIENT_AUTH_MAX / 4 * 3)
/* Room for what a challenge decodes to. */
#define LINK_AUTH_CHALLENGE_MAX SMTP_REPLY_TEXT_MAX

/*
 * AUTH, with this initial response (NULL: none) if the command stays within the 512 bytes that every
 * server takes (RFC 5321 section 4.5.3.1.4). False: it was left out, and is the response to the first
 * challenge. `mechanism` is one of enum auth_mechanism. When the link is READY or, for link_auth.c,
 * GREETING; nothing may be pending.
 */
bool link_auth_say(struct link *link, unsigned mechanism, const struct str *initial);
/* The response to a challenge; at most LINK_AUTH_MESSAGE_MAX bytes. */
void link_auth_respond(struct link *link, struct str bytes);

/* The bytes of a 334. False: it is not base64. */
bool link_auth_challenge(
	const struct smtp_reply *reply, char out[LINK_AUTH_CHALLENGE_MAX], struct str *challenge);

/* The server refuses us, not a client: for the log. */
void link_auth_alarm(const struct link *link, int code);

#endif
