#include "backend/backend_auth.h"

#include "auth/auth.h"
#include "proto/smtp_reply.h"

_Static_assert((unsigned)SMTP_AUTH_PLAIN == AUTH_PLAIN && (unsigned)SMTP_AUTH_LOGIN == AUTH_LOGIN &&
		       (unsigned)SMTP_AUTH_SCRAM_SHA_256 == AUTH_SCRAM_SHA_256 &&
		       (unsigned)SMTP_AUTH_SCRAM_SHA_256_PLUS == AUTH_SCRAM_SHA_256_PLUS &&
		       (unsigned)SMTP_AUTH_OAUTHBEARER == AUTH_OAUTHBEARER &&
		       (unsigned)SMTP_AUTH_XOAUTH2 == AUTH_XOAUTH2,
	"what a server offers is a set of mechanisms");

bool backend_auth_has(const struct backend_auth *auth)
{
	return auth->password.is_open;
}

int backend_auth_open(
	struct backend_auth *auth, const struct backend_settings *settings, struct err *err)
{
	*auth = (struct backend_auth){ .settings = settings };
	if (settings->auth.password_file.n == 0)
		return 0;
	auth->password.name = settings->name;
	auth->password.path = settings->auth.password_file.p;
	if (secret_file_open(&auth->password, err) < 0)
		return err_prefix(err, "%.*s: auth", STR_ARG(settings->name));
	return 0;
}

void backend_auth_close(struct backend_auth *auth)
{
	secret_file_close(&auth->password);
	scram_keyring_wipe(&auth->ring);
}

void backend_auth_refresh(struct backend_auth *auth, bool always)
{
	if (secret_file_refresh(&auth->password, always))
		scram_keyring_wipe(&auth->ring);
}

struct sasl_credentials backend_auth_credentials(const struct backend_auth *auth)
{
	return (struct sasl_credentials){ auth->settings->auth.user,
		secret_file_password(&auth->password) };
}

unsigned backend_auth_choose(const struct backend_auth *auth, unsigned offered)
{
	const struct conf_list *list = &auth->settings->auth.mechanisms;
	const struct str *names = list->items;

	for (size_t i = 0; i < list->count; i++) {
		unsigned mechanism = auth_mechanism_find(names[i]) & SASL_CLIENT_MECHANISMS;
		if (mechanism & offered)
			return mechanism;
	}
	return 0;
}

bool backend_auth_is_protected(const struct backend_settings *settings, bool is_tls)
{
	return is_tls || settings->auth.allow_plaintext;
}

struct str backend_auth_unknown(const struct conf_list *names)
{
	const struct str *words = names->items;

	for (size_t i = 0; i < names->count; i++)
		if (!(auth_mechanism_find(words[i]) & SASL_CLIENT_MECHANISMS))
			return words[i];
	return STR("");
}
