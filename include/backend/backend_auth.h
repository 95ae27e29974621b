/* Credentials of ours at the servers of a backend (`auth` of its settings). */
#ifndef BACKEND_BACKEND_AUTH_H
#define BACKEND_BACKEND_AUTH_H

#include <stdbool.h>

#include "auth/sasl_client.h"
#include "auth/secret_file.h"
#include "backend/settings.h"
#include "base/err.h"

struct backend_auth {
	const struct backend_settings *settings;
	struct secret_file password;
	struct scram_keyring ring;
};

/* Without credentials in the settings nothing is opened. -1: the file cannot be used. */
int backend_auth_open(
	struct backend_auth *auth, const struct backend_settings *settings, struct err *err);
void backend_auth_close(struct backend_auth *auth);
/* Reads the file anew when it has changed, or in any case with `always`. Connections that there are
 * stay: who they are was settled when they were made. */
void backend_auth_refresh(struct backend_auth *auth, bool always);

/* Are there any? */
bool backend_auth_has(const struct backend_auth *auth);
struct sasl_credentials backend_auth_credentials(const struct backend_auth *auth);

/* The mechanism to use with a server that offers these (a set of enum smtp_auth_mechanism): the first
 * of the settings that it has. 0: none. What a server refuses is not tried with a weaker one. */
unsigned backend_auth_choose(const struct backend_auth *auth, unsigned offered);

/* May credentials, of whomever, be said on such a connection? */
bool backend_auth_is_protected(const struct backend_settings *settings, bool is_tls);

/* Are these the names of mechanisms that we know? For the settings: the first that is none, or "". */
struct str backend_auth_unknown(const struct conf_list *names);

#endif
