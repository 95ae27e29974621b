/*
 * The service that tries a client's credentials at a backend. Who is let in there is let in here, and
 * the connection on which that happened is the client's: it carries his mail, and nobody else's.
 *
 * PLAIN and LOGIN are decoded here and said as the server offers either; SCRAM-SHA-256, OAUTHBEARER
 * and XOAUTH2 are handed on message by message, so that no password is learned. Never -PLUS: it
 * binds to the one TLS connection or to the other. A server that offers -PLUS gets no SCRAM from
 * here: to it a client that we did not offer -PLUS would look as if it had been lied to.
 *
 * Credentials are kept until the server has judged them, and wiped. A server that cannot be used is
 * replaced by the next one as long as nothing of them was said.
 */
#ifndef EDGE_AUTH_BACKEND_H
#define EDGE_AUTH_BACKEND_H

#include <stdint.h>

#include "auth/auth.h"
#include "backend/backend.h"
#include "backend/env.h"
#include "backend/link.h"

#define AUTH_BACKEND_ATTEMPTS_MAX 1024 /* under way; more get NULL from `begin` */

/*
 * `timeout_ms` bounds each answer, and finding a server with it. All outlive the service; free it, by
 * its kind's `free`, before the loop and the backend; attempts that are left get no answer.
 *
 * Mechanisms are those that all servers that were seen have in common; none before one was seen.
 */
struct auth_service *auth_backend_new(
	const struct backend_env *env, struct backend *backend, uint64_t timeout_ms);

/*
 * From inside `done` with AUTH_OK: the connection, which is ready and then the caller's (see
 * link_pass()). NULL: taken already, or a service of another kind. One that nobody takes is closed.
 */
struct link *auth_backend_take(struct auth_service *service);

#endif
