/* Between the files of the link. */
#ifndef BACKEND_LINK_PRIV_H
#define BACKEND_LINK_PRIV_H

#include "backend/link.h"

/* The connection cannot be used: tells the owner and is freed. */
void link_fail(struct link *link, enum link_fault fault, const char *why);
/* The server's policy refuses the client: the owner tells it so, and the link is freed. */
void link_refused(struct link *link, const struct smtp_reply *reply);
/* TLS does not work with this server: connects anew without it, where that is allowed. */
void link_tls_failed(struct link *link, const char *why);

/* The steps from the connection to ready; link_greet.c. */
void link_send_identity(struct link *link);
struct str link_hello_name(const struct link *link);
void link_log_fallback(const struct link *link, const char *reason);
/* Is it a probe that has seen all that it is to see? */
bool link_is_seen(const struct link *link);
void link_greeting_answered(
	struct link *link, enum smtp_client_step step, const struct smtp_reply *reply);

/* Whatever the greeting needs is done: the owner may have it. */
void link_ready(struct link *link);

/* AUTH, behind all that the greeting says otherwise; link_auth.c. It ends in link_ready(), or the link
 * fails. */
void link_authenticate(struct link *link);
void link_auth_answered(struct link *link, const struct smtp_reply *reply);
/* Forgets the exchange, if there is one. */
void link_auth_end(struct link *link);
/* Will credentials go through? */
bool link_says_secrets(const struct link *link);

#endif
