/*
 * The messages of PLAIN and LOGIN, the GS2 header, names and tokens with any bytes. What must hold: what is
 * taken has all its parts, within their bounds and the message, and is nothing else.
 */
#include <stdint.h>
#include <string.h>

#include "auth/sasl.h"
#include "base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_within(struct str part, struct str whole)
{
	return part.p >= whole.p && part.p + part.n <= whole.p + whole.n;
}

static void check_plain(struct str message)
{
	struct sasl_credentials credentials;

	if (sasl_plain_parse(message, &credentials) != AUTH_OK)
		return;
	struct str name = credentials.name, password = credentials.password;
	ASSERT(is_within(name, message) && is_within(password, message));
	ASSERT(name.n > 0 && name.n <= SASL_NAME_MAX && sasl_is_text(name));
	ASSERT(password.n > 0 && password.n <= SASL_PASSWORD_MAX && sasl_is_text(password));
	/* [authzid] NUL authcid NUL passwd: the identity is the name, or missing. */
	size_t authzid = message.n - name.n - password.n - 2;
	ASSERT(authzid == 0 || str_eq(str_range(message, 0, authzid), name));
}

static void check_login(struct str message)
{
	if (sasl_login_check(message, SASL_NAME_MAX) == AUTH_OK)
		ASSERT(message.n > 0 && message.n <= SASL_NAME_MAX && sasl_is_text(message));
}

static void check_name(struct str text)
{
	char name[SASL_NAME_MAX];
	size_t n;

	if (!sasl_name_decode(text, name, &n))
		return;
	ASSERT(n > 0 && n <= text.n && sasl_is_text(str_make(name, n)));
	ASSERT(str_find(text, ',') == text.n);
}

static void check_gs2(struct str message)
{
	struct str rest = message;
	struct sasl_gs2 gs2;

	if (!sasl_gs2_parse(&rest, &gs2)) {
		ASSERT(rest.p == message.p && rest.n == message.n);
		return;
	}
	ASSERT(is_within(rest, message) && rest.n < message.n);
	ASSERT(message.p[message.n - rest.n - 1] == ',');
	ASSERT((gs2.binding == SASL_BINDING_USED) == (gs2.binding_name.n > 0));
	ASSERT(gs2.has_authzid || gs2.authzid.n == 0);
	check_name(gs2.authzid);
}

static void check_token(unsigned mechanism, struct str message)
{
	char name[SASL_NAME_MAX];
	size_t n;

	if (sasl_token_name(mechanism, message, name, &n) != AUTH_OK)
		return;
	ASSERT(n > 0 && n <= SASL_NAME_MAX && sasl_is_text(str_make(name, n)));
	ASSERT(message.n > n && message.p[message.n - 1] == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str message = str_make((const char *)data, size);

	check_plain(message);
	check_login(message);
	check_name(message);
	check_gs2(message);
	check_token(AUTH_OAUTHBEARER, message);
	check_token(AUTH_XOAUTH2, message);
	return 0;
}
