/*
 * How a server learns who the client is, by the backend's `identity`: a PROXY header in front of
 * everything, XCLIENT before the first transaction, XFORWARD before each, or not at all.
 */
#ifndef BACKEND_IDENTITY_H
#define BACKEND_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>

#include "backend/settings.h"
#include "connection/connection.h"
#include "proto/proxy.h"
#include "proto/smtp_reply.h"
#include "proto/xclient.h"

/*
 * The PROXY header for a connection; its length, 0: none. `connection` is NULL for a probe: it
 * stands for nobody, which version 2 can say; version 1, which has no form for that which all take,
 * names `own` and `server`. With local+xclient the header says nothing of the client either: the
 * server is to see our own address, which may use XCLIENT.
 */
size_t identity_header(const struct backend_settings *settings, const struct connection *connection,
	const struct endpoint *own, const struct endpoint *server, char out[PROXY_V2_SENT_MAX]);

/* By a header that names the client? By XCLIENT? By XFORWARD? */
bool identity_is_proxy(const struct backend_settings *settings);
bool identity_is_xclient(const struct backend_settings *settings);
bool identity_is_xforward(const struct backend_settings *settings);

/* Does the server hear the client's name in EHLO? */
bool identity_names_hello(const struct backend_settings *settings);

/* What the server takes for the client's: a set of enum answer_told. */
unsigned identity_shows(const struct backend_settings *settings);

/* What a connection was opened with, in views of the client's; and whether it still is so: a client may
 * say EHLO again, log in or start TLS between two transactions. */
struct identity_told {
	struct str hello;
	bool esmtp;
	const struct auth_info *auth;
	const struct tls_info *tls;
};
void identity_told(const struct connection *connection, struct identity_told *told);
bool identity_holds(const struct backend_settings *settings, const struct identity_told *told,
	const struct connection *connection);

/* Has the server what the identity needs? */
bool identity_is_offered(
	const struct backend_settings *settings, const struct smtp_capabilities *capabilities);

/* The client, in views of `connection`. */
void identity_of(const struct connection *connection, struct xclient_identity *identity);

/* "none", "proxy-v1", …: the words of the settings. */
extern const char *const identity_words[];

#endif
