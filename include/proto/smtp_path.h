/*
 * Paths of the envelope (RFC 5321 section 4.1.2, with RFC 6531 section 3.3 for UTF-8): parsed
 * whole and strictly, printed again from what was parsed. The backend sees only the printed
 * form, so it cannot read an address differently from the policy that allowed it.
 *
 *   Reverse-path   = Path / "<>"
 *   Forward-path   = Path / "<Postmaster>"
 *   Path           = "<" [ A-d-l ":" ] Mailbox ">"
 *   Mailbox        = Local-part "@" ( Domain / address-literal )
 *
 * The domain is what stands behind the last unquoted "@". It is kept in lower case, its U-labels
 * as A-labels (strict IDNA 2008: no mapping, so nothing that was not sent can be matched). An
 * underscore is taken in a domain, as other servers do; a dot at its end is not, nor a last label
 * of digits only ("192.0.2.1" without brackets).
 */
#ifndef PROTO_SMTP_PATH_H
#define PROTO_SMTP_PATH_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/str.h"

#define SMTP_PATH_MAX 256 /* RFC 5321 4.5.3.1.3, "<" and ">" included */
#define SMTP_LOCAL_MAX 64 /* RFC 5321 4.5.3.1.1 */
#define SMTP_DOMAIN_MAX 255

enum smtp_path_fault {
	SMTP_PATH_FINE,
	SMTP_PATH_SYNTAX,     /* not a path at all */
	SMTP_PATH_TOO_LONG,   /* path, local part, domain or label */
	SMTP_PATH_UTF8,       /* UTF-8 without SMTPUTF8, or not valid UTF-8 */
	SMTP_PATH_BAD_DOMAIN, /* a domain that cannot be one: empty label, bad IDN, bad literal */
	SMTP_PATH_NO_ROOM,    /* the arena is full */
};

enum smtp_domain_kind {
	SMTP_DOMAIN_NONE, /* "<>" and "<Postmaster>" */
	SMTP_DOMAIN_NAME,
	SMTP_DOMAIN_LITERAL, /* "[192.0.2.1]", "[IPv6:…]" */
};

/* An address of the envelope; all views are in the arena it was parsed into, those of `user` and `host`
 * in `address`. */
struct smtp_path {
	struct str original; /* exactly as sent, "<" and ">" included */
	struct str user;     /* local part as sent, quotes kept; "" for "<>" */
	struct str host;     /* lower case, A-labels; literals as "[192.0.2.1]" and
			      * "[IPv6:2001:db8::1]"; "" when there is none */
	struct str address;  /* canonical: user@host, user alone for Postmaster, "" for "<>"; at
			      * most SMTP_PATH_MAX - 2 bytes */
	enum smtp_domain_kind domain_kind;
	bool has_source_route; /* "@a,@b:" stood in front; it is not part of anything above */
	bool is_utf8;          /* the local part or the original domain is not ASCII */
};

/*
 * Parses the path at the front of `text` ("<…>" and what follows it). *rest gets what stands
 * behind ">": nothing, or parameters with the space in front. `utf8` allows UTF-8; call again
 * with it when the parameters turn out to hold SMTPUTF8: *rest is also set with the fault
 * SMTP_PATH_UTF8 when the path was otherwise well formed up to its ">", and empty with others.
 */
enum smtp_path_fault smtp_path_parse_reverse(
	struct str text, bool utf8, struct arena *arena, struct smtp_path *path, struct str *rest);
enum smtp_path_fault smtp_path_parse_forward(
	struct str text, bool utf8, struct arena *arena, struct smtp_path *path, struct str *rest);

/* Makes the texts copies in another arena; false when it is full. */
bool smtp_path_move(struct smtp_path *path, struct arena *arena);

/* "<>". */
bool smtp_path_is_null(const struct smtp_path *path);
/* "<Postmaster>" without a domain, in any case of letters. */
bool smtp_path_is_bare_postmaster(const struct smtp_path *path);

/*
 * Local parts that ask another server to route further: % ! @ or : anywhere in it, quoted or not
 * (@ and : can only be quoted). A slash is an ordinary character.
 */
bool smtp_path_has_routing_local_part(const struct smtp_path *path);

/*
 * The address as look-up tables hold it (base/map.h): the local part without its quotes and
 * backslashes, as both forms are one mailbox (RFC 5321 section 4.1.2), and ASCII letters in lower
 * case. Not to be printed as a path. Empty for "<>".
 */
struct str smtp_path_plain(const struct smtp_path *path, char out[SMTP_PATH_MAX]);

/*
 * Is `text` a host name of letters, digits, hyphens (neither first nor last in a label),
 * underscores and dots, each label 1-63 and the whole at most 255 bytes? A dot at the end is
 * refused. `needs_dot` asks for at least two labels.
 */
bool smtp_is_host_name(struct str text, bool needs_dot);
/* "[192.0.2.1]" or "[IPv6:2001:db8::1]". */
bool smtp_is_address_literal(struct str text);

#endif
