/*
 * The messages of SASL mechanisms, without I/O: what a client's bytes say. Names and passwords are
 * UTF-8 without NUL, compared as bytes: nothing is normalised (SASLprep, RFC 4013, changes nothing
 * in printable ASCII).
 *
 * Parsers give AUTH_OK, or how the attempt ends: AUTH_MALFORMED when the message is not what the
 * mechanism says, AUTH_REFUSED when it is and can be nobody's. Views are into the message.
 */
#ifndef AUTH_SASL_H
#define AUTH_SASL_H

#include <stdbool.h>
#include <stddef.h>

#include "auth/auth.h"
#include "base/str.h"

#define SASL_NAME_MAX 255     /* bytes of a name; RFC 4616 wants as many */
#define SASL_PASSWORD_MAX 511 /* as crypt(3) takes */

struct sasl_credentials {
	struct str name, password;
};

/*
 * PLAIN (RFC 4616): [authzid] NUL authcid NUL passwd, all there is. An authorization identity is
 * allowed when it is the name itself: nobody acts as somebody else.
 */
enum auth_result sasl_plain_parse(struct str message, struct sasl_credentials *credentials);

/* LOGIN (draft-murchison-sasl-login): two prompts; an initial response answers the first. */
#define SASL_LOGIN_PASSWORD STR("Password:")

/* How a mechanism begins. */
enum sasl_first {
	SASL_FIRST_PLAIN,
	SASL_FIRST_LOGIN,
	SASL_FIRST_OTHER, /* a message of the mechanism's own */
};

struct sasl_opening {
	unsigned mechanism;
	enum sasl_first first; /* what the client's first message is */
	struct str prompt;     /* for clients without an initial response */
};

/* `mechanism` is one of enum auth_mechanism. */
const struct sasl_opening *sasl_opening_find(unsigned mechanism);

/* One of the two answers: not empty, no NUL, UTF-8, not beyond `max` bytes. */
enum auth_result sasl_login_check(struct str answer, size_t max);

/*
 * The header in front of SCRAM's first message (RFC 5801 section 4):
 * ( "n" / "y" / "p=" cb-name ) "," [ "a=" authzid ] ","
 */
enum sasl_binding {
	SASL_BINDING_NONE,   /* n: the client knows no channel binding */
	SASL_BINDING_UNUSED, /* y: it does, and believes that the server does not */
	SASL_BINDING_USED,   /* p: it uses `binding_name` */
};

struct sasl_gs2 {
	enum sasl_binding binding;
	struct str binding_name;
	struct str authzid; /* as it is written: sasl_name_decode */
	bool has_authzid;
};

/* Takes the header off the front of *rest. False: there is none; *rest is then unchanged. */
bool sasl_gs2_parse(struct str *rest, struct sasl_gs2 *gs2);

/*
 * saslname (RFC 5801): "=2C" stands for a comma, "=3D" for an equals sign, neither stands for
 * itself. False: not that, empty, not UTF-8, a NUL, or beyond SASL_NAME_MAX bytes.
 */
bool sasl_name_decode(struct str text, char out[SASL_NAME_MAX], size_t *n);

/*
 * Whom the first message of OAUTHBEARER (RFC 7628 section 3.1) or XOAUTH2 (Google's) names. Who sends
 * a token without saying whose it is cannot be told from others: AUTH_MALFORMED.
 */
enum auth_result sasl_token_name(
	unsigned mechanism, struct str message, char out[SASL_NAME_MAX], size_t *n);

/* UTF-8 (RFC 3629) without a NUL. */
bool sasl_is_text(struct str s);

#endif
