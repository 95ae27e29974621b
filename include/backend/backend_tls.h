/* TLS towards the servers of a backend: its context, and when it is used. */
#ifndef BACKEND_BACKEND_TLS_H
#define BACKEND_BACKEND_TLS_H

#include "backend/backend.h"

/* With mode off nothing is opened. -1: the files cannot be used. */
int backend_tls_open(struct backend *backend, struct err *err);

/* What comes after a server's EHLO reply, by tls.mode. */
enum tls_step {
	TLS_STEP_NONE,      /* go on as we are */
	TLS_STEP_PLAINTEXT, /* go on without TLS, although it was wished for: say so in the log */
	TLS_STEP_STARTTLS,
	TLS_STEP_REFUSE, /* not without TLS */
};
enum tls_step backend_tls_step(
	const struct backend *backend, const struct smtp_capabilities *capabilities, bool is_tls);
/* The same when STARTTLS was refused, or the handshake failed. */
enum tls_step backend_tls_failed(const struct backend *backend);

#endif
