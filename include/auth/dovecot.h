/*
 * The service of a Dovecot auth server (Dovecot Authentication Protocol 1.x): it knows mechanisms
 * and passwords, we hand bytes on. One connection carries all requests; when it is lost, those that
 * were asked end as AUTH_UNAVAILABLE, and it is made anew with growing pauses (half a second to
 * half a minute).
 *
 * The server is told the client's own addresses, which its penalties for wrong passwords and its
 * allow_nets go by. It delays refusals by some seconds on purpose.
 *
 * -PLUS is not offered: the protocol does not carry our channel binding.
 */
#ifndef AUTH_DOVECOT_H
#define AUTH_DOVECOT_H

#include <stdbool.h>
#include <stdint.h>

#include "auth/auth.h"
#include "base/err.h"
#include "base/ipaddr.h"
#include "base/str.h"
#include "net/loop.h"

#define AUTH_DOVECOT_TIMEOUT_MS 30000
#define AUTH_DOVECOT_REQUESTS_MAX 1024 /* under way; more get NULL from `begin` */
#define AUTH_DOVECOT_LINE_MAX 16384    /* line end included, in both directions */

struct auth_dovecot_address {
	struct str path; /* of a Unix socket; empty: `endpoint` counts */
	struct endpoint endpoint;
};

/* "unix:/path" or "inet:192.0.2.1:12345", "inet:[2001:db8::1]:12345"; no host names. -1: neither.
 * The path is a view into the text. */
int auth_dovecot_address_parse(
	struct str text, struct auth_dovecot_address *address, struct err *err);

/*
 * Connects in the loop's first turn. NULL: the address cannot be understood; a server that is not
 * there is not a mistake. `timeout_ms` bounds the handshake and each answer.
 *
 * Mechanisms are those that the server told last, also while it is away: a client is told to come
 * back rather than that there is no AUTH. None before it was reached for the first time.
 *
 * Free it, by its kind's `free`, before the loop; attempts that are left get no answer.
 */
struct auth_service *auth_dovecot_new(
	struct loop *loop, struct str address, uint64_t timeout_ms, struct err *err);

/* Is the connection up and the handshake done? */
bool auth_dovecot_is_ready(const struct auth_service *service);

#endif
