#include "auth/sasl.h"

#include <string.h>

#include "base/assert.h"
#include "base/utf8.h"

bool sasl_is_text(struct str s)
{
	while (s.n > 0) {
		uint32_t code;
		size_t n = utf8_decode(s, &code);
		if (n == 0 || code == 0)
			return false;
		s = str_from_pos(s, n);
	}
	return true;
}

/* ---- How they begin ------------------------------------------------------------------------- */

static const struct sasl_opening openings[] = {
	{ AUTH_PLAIN, SASL_FIRST_PLAIN, STR_INIT("") },
	{ AUTH_LOGIN, SASL_FIRST_LOGIN, STR_INIT("Username:") },
	{ AUTH_SCRAM_SHA_256, SASL_FIRST_OTHER, STR_INIT("") },
	{ AUTH_SCRAM_SHA_256_PLUS, SASL_FIRST_OTHER, STR_INIT("") },
	{ AUTH_OAUTHBEARER, SASL_FIRST_OTHER, STR_INIT("") },
	{ AUTH_XOAUTH2, SASL_FIRST_OTHER, STR_INIT("") },
};

const struct sasl_opening *sasl_opening_find(unsigned mechanism)
{
	size_t i = 0;

	while (openings[i].mechanism != mechanism) {
		i++;
		ASSERT(i < sizeof(openings) / sizeof(openings[0]));
	}
	return &openings[i];
}

/* ---- PLAIN and LOGIN ------------------------------------------------------------------------ */

/*
 * RFC 4616 section 2:
 *
 *   message   = [authzid] UTF8NUL authcid UTF8NUL passwd
 *   authcid   = 1*SAFE ; MUST accept up to 255 octets
 *   authzid   = 1*SAFE ; MUST accept up to 255 octets
 *   passwd    = 1*SAFE ; MUST accept up to 255 octets
 *   SAFE      = UTF8-encoded characters except NUL
 *
 * Exactly two NULs: a third one would be inside the password, where C strings end.
 */
enum auth_result sasl_plain_parse(struct str message, struct sasl_credentials *credentials)
{
	size_t first = str_find(message, '\0');
	struct str rest = str_from_pos(message, first + 1);
	size_t second = str_find(rest, '\0');
	struct str authzid = str_range(message, 0, first);
	struct str authcid = str_range(rest, 0, second);
	struct str password = str_from_pos(rest, second + 1);

	if (first == message.n || second == rest.n || authcid.n == 0 || password.n == 0)
		return AUTH_MALFORMED;
	if (!sasl_is_text(authzid) || !sasl_is_text(authcid) || !sasl_is_text(password))
		return AUTH_MALFORMED;
	if (authcid.n > SASL_NAME_MAX || password.n > SASL_PASSWORD_MAX)
		return AUTH_REFUSED;
	if (authzid.n > 0 && !str_eq(authzid, authcid))
		return AUTH_REFUSED;
	*credentials = (struct sasl_credentials){ .name = authcid, .password = password };
	return AUTH_OK;
}

enum auth_result sasl_login_check(struct str answer, size_t max)
{
	if (answer.n == 0 || !sasl_is_text(answer))
		return AUTH_MALFORMED;
	return answer.n > max ? AUTH_REFUSED : AUTH_OK;
}

/* ---- GS2 ------------------------------------------------------------------------------------ */

static bool is_binding_name(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!ascii_is_alnum(s.p[i]) && s.p[i] != '.' && s.p[i] != '-')
			return false;
	return s.n > 0;
}

static bool parse_binding(struct str flag, struct sasl_gs2 *gs2)
{
	if (str_starts_with(flag, STR("p="))) {
		gs2->binding = SASL_BINDING_USED;
		gs2->binding_name = str_from_pos(flag, 2);
		return is_binding_name(gs2->binding_name);
	}
	gs2->binding = str_eq(flag, STR("y")) ? SASL_BINDING_UNUSED : SASL_BINDING_NONE;
	return str_eq(flag, STR("y")) || str_eq(flag, STR("n"));
}

/*
 * RFC 5801 section 4; "F," in front is for mechanisms that are none of these.
 *
 *   gs2-header  = [gs2-nonstd-flag ","] gs2-cb-flag "," [gs2-authzid] ","
 *   gs2-cb-flag = ("p=" cb-name) / "n" / "y"
 *   gs2-authzid = "a=" saslname
 *   cb-name     = 1*(ALPHA / DIGIT / "." / "-")
 */
bool sasl_gs2_parse(struct str *rest, struct sasl_gs2 *gs2)
{
	size_t first = str_find(*rest, ',');
	struct str behind = str_from_pos(*rest, first + 1);
	size_t second = str_find(behind, ',');
	struct str authzid = str_range(behind, 0, second);

	*gs2 = (struct sasl_gs2){ .has_authzid = authzid.n > 0 };
	if (first == rest->n || second == behind.n)
		return false;
	if (!parse_binding(str_range(*rest, 0, first), gs2))
		return false;
	if (gs2->has_authzid && !str_starts_with(authzid, STR("a=")))
		return false;
	gs2->authzid = str_from_pos(authzid, 2);
	*rest = str_from_pos(behind, second + 1);
	return true;
}

/* Takes one character off the front of *rest; false: "=" without a meaning. */
static bool take_name_char(struct str *rest, char *c)
{
	*c = rest->p[0];
	if (*c == ',')
		return false;
	if (*c != '=') {
		*rest = str_from_pos(*rest, 1);
		return true;
	}
	*c = str_starts_with(*rest, STR("=2C")) ? ',' : '=';
	if (*c == '=' && !str_starts_with(*rest, STR("=3D")))
		return false;
	*rest = str_from_pos(*rest, 3);
	return true;
}

bool sasl_name_decode(struct str text, char out[SASL_NAME_MAX], size_t *n)
{
	size_t length = 0;

	while (text.n > 0) {
		if (length == SASL_NAME_MAX || !take_name_char(&text, &out[length]))
			return false;
		length++;
	}
	*n = length;
	return length > 0 && sasl_is_text(str_make(out, length));
}

/* ---- Tokens --------------------------------------------------------------------------------- */

#define SEPARATOR '\x01'

/*
 * RFC 7628 section 3.1, behind the header of GS2:
 *
 *   client-resp = gs2-header kvsep *kvpair kvsep
 *   kvpair      = key "=" value kvsep
 *   kvsep       = %x01
 */
static bool is_pairs(struct str rest)
{
	return rest.n > 2 && rest.p[0] == SEPARATOR && rest.p[rest.n - 1] == SEPARATOR &&
	       rest.p[rest.n - 2] == SEPARATOR && sasl_is_text(rest);
}

static enum auth_result oauthbearer_name(struct str message, char out[SASL_NAME_MAX], size_t *n)
{
	struct sasl_gs2 gs2;

	if (!sasl_gs2_parse(&message, &gs2) || gs2.binding == SASL_BINDING_USED)
		return AUTH_MALFORMED;
	if (!is_pairs(message) || !gs2.has_authzid || !sasl_name_decode(gs2.authzid, out, n))
		return AUTH_MALFORMED;
	return AUTH_OK;
}

/* "user=" name %x01 "auth=Bearer " token %x01 %x01 */
static enum auth_result xoauth2_name(struct str message, char out[SASL_NAME_MAX], size_t *n)
{
	struct str user = STR("user=");
	struct str name = str_from_pos(str_range(message, 0, str_find(message, SEPARATOR)), user.n);

	if (!str_starts_with(message, user) || !is_pairs(str_from_pos(message, user.n + name.n)) ||
		name.n == 0)
		return AUTH_MALFORMED;
	if (!sasl_is_text(name))
		return AUTH_MALFORMED;
	if (name.n > SASL_NAME_MAX)
		return AUTH_REFUSED;
	memcpy(out, name.p, name.n);
	*n = name.n;
	return AUTH_OK;
}

enum auth_result sasl_token_name(
	unsigned mechanism, struct str message, char out[SASL_NAME_MAX], size_t *n)
{
	return mechanism == AUTH_OAUTHBEARER ? oauthbearer_name(message, out, n)
					     : xoauth2_name(message, out, n);
}
