#include "proto/smtp_path.h"

#include <string.h>

#include "base/assert.h"
#include "base/chars.h"
#include "base/idn.h"
#include "base/ipaddr.h"

#define LABEL_MAX 63 /* RFC 1035 section 2.3.4 */

#define IPV6_TAG STR("IPv6:")

/* What the grammar found, as views of the input. */
struct parts {
	struct str local;
	struct str domain;
	bool has_source_route;
};

static bool take(struct str *rest, char c)
{
	if (rest->n == 0 || rest->p[0] != c)
		return false;
	*rest = str_from_pos(*rest, 1);
	return true;
}

/* ---- Host names and literals ------------------------------------------------------------ */

/* Takes a label off the front of *rest; its bytes, 0 when there is none. */
static size_t take_label(struct str *rest)
{
	size_t n = chars_span(CHARS_HOST, *rest);

	if (n == 0 || n > LABEL_MAX || rest->p[0] == '-' || rest->p[n - 1] == '-')
		return 0;
	*rest = str_from_pos(*rest, n);
	return n;
}

bool smtp_is_host_name(struct str text, bool needs_dot)
{
	size_t labels = 0;

	if (text.n > SMTP_DOMAIN_MAX)
		return false;
	do {
		if (take_label(&text) == 0)
			return false;
		labels++;
	} while (take(&text, '.'));
	return text.n == 0 && (labels > 1 || !needs_dot);
}

/* "[…]" to what is between the brackets, and which kind of address that must be. */
static bool cut_literal(struct str text, struct str *address, bool *is_v6)
{
	if (text.n < 2 || text.p[0] != '[' || text.p[text.n - 1] != ']')
		return false;
	*address = str_range(text, 1, text.n - 1);
	*is_v6 = str_starts_with_nocase(*address, IPV6_TAG);
	if (*is_v6)
		*address = str_from_pos(*address, IPV6_TAG.n);
	return true;
}

/*
 * RFC 5321 section 4.1.3: "[" ( IPv4-address-literal / IPv6-address-literal ) "]". There is no
 * registered tag for a General-address-literal, so none is taken.
 */
bool smtp_is_address_literal(struct str text)
{
	struct str address;
	struct ipaddr ip;
	bool is_v6;

	if (!cut_literal(text, &address, &is_v6) || !ipaddr_parse(address, &ip))
		return false;
	return is_v6 == (str_find(address, ':') < address.n);
}

/* ---- The grammar ------------------------------------------------------------------------ */

static bool is_utf8_byte(char c)
{
	return (unsigned char)c >= 0x80;
}

static struct str take_all(struct str *rest, enum chars set)
{
	size_t n = chars_span(set, *rest);
	struct str taken = str_range(*rest, 0, n);
	*rest = str_from_pos(*rest, n);
	return taken;
}

/*
 *   Quoted-string  = DQUOTE *QcontentSMTP DQUOTE
 *   QcontentSMTP   = qtextSMTP / "\" %d32-126
 *   qtextSMTP      = %d32-33 / %d35-91 / %d93-126 / UTF8-non-ascii
 *
 * The empty one is refused: a local part without a character names nobody.
 */
static bool take_quoted(struct str *rest)
{
	size_t i = 1;

	while (i < rest->n && rest->p[i] != '"') {
		if (rest->p[i] == '\\' && (++i == rest->n || is_utf8_byte(rest->p[i])))
			return false;
		if (ascii_is_control(rest->p[i]))
			return false;
		i++;
	}
	if (i == rest->n || i == 1)
		return false;
	*rest = str_from_pos(*rest, i + 1);
	return true;
}

/* Dot-string = Atom *("." Atom) */
static bool take_dot_string(struct str *rest)
{
	do {
		if (take_all(rest, CHARS_ATEXT).n == 0)
			return false;
	} while (take(rest, '.'));
	return true;
}

static bool take_local(struct str *rest, struct str *local)
{
	struct str start = *rest;
	bool is_quoted = start.n > 0 && start.p[0] == '"';

	if (is_quoted ? !take_quoted(rest) : !take_dot_string(rest))
		return false;
	*local = str_range(start, 0, start.n - rest->n);
	return true;
}

/* The extent of a domain or literal; what it holds is judged later. */
static bool take_domain(struct str *rest, struct str *domain)
{
	struct str start = *rest;

	if (start.n > 0 && start.p[0] == '[') {
		size_t n = str_find(start, ']') + 1;
		if (n > start.n)
			return false;
		*domain = str_range(start, 0, n);
		*rest = str_from_pos(start, n);
		return true;
	}
	*domain = take_all(rest, CHARS_DOMAIN);
	return true;
}

/*
 * A-d-l = At-domain *( "," At-domain ) ":" with At-domain = "@" Domain. RFC 5321 appendix C: to be
 * recognised and ignored.
 */
static bool take_source_route(struct str *rest)
{
	struct str domain;

	do {
		if (!take(rest, '@'))
			return false;
		domain = take_all(rest, CHARS_DOMAIN);
		if (idn_is_ascii(domain) && !smtp_is_host_name(domain, false))
			return false;
	} while (take(rest, ','));
	return take(rest, ':');
}

/* Takes "<…>" off the front of *rest, and looks that a space or nothing comes behind it. */
static bool take_path(struct str *rest, struct parts *parts)
{
	if (!take(rest, '<'))
		return false;
	parts->has_source_route = rest->n > 0 && rest->p[0] == '@';
	if (parts->has_source_route && !take_source_route(rest))
		return false;
	if (!take_local(rest, &parts->local) || !take(rest, '@') ||
		!take_domain(rest, &parts->domain) || !take(rest, '>'))
		return false;
	return rest->n == 0 || rest->p[0] == ' ';
}

/* ---- Judging what was found ------------------------------------------------------------- */

/*
 * Separators of lines and the C1 controls are valid UTF-8, but no text of an address; somebody
 * behind us could take them for a line end.
 */
static bool has_utf8_control(struct str s)
{
	for (size_t i = 0; i + 1 < s.n; i++) {
		struct str here = str_from_pos(s, i);
		if (here.p[0] == '\xc2' && (unsigned char)here.p[1] < 0xa0)
			return true;
		if (str_starts_with(here, STR("\xe2\x80\xa8")) ||
			str_starts_with(here, STR("\xe2\x80\xa9")))
			return true;
	}
	return false;
}

static enum smtp_path_fault judge_utf8(struct str original, bool utf8)
{
	if (idn_is_ascii(original))
		return SMTP_PATH_FINE;
	if (!utf8 || !idn_is_utf8(original) || has_utf8_control(original))
		return SMTP_PATH_UTF8;
	return SMTP_PATH_FINE;
}

static bool has_long_label(struct str domain)
{
	while (domain.n > 0)
		if (str_cut(&domain, '.').n > LABEL_MAX)
			return true;
	return false;
}

/* A last label of digits makes an IPv4 address without its brackets, or a number: no domain. */
static bool is_number(struct str domain)
{
	size_t dot = str_rfind(domain, '.');
	struct str last = dot < domain.n ? str_from_pos(domain, dot + 1) : domain;

	for (size_t i = 0; i < last.n; i++)
		if (!ascii_is_digit(last.p[i]))
			return false;
	return true;
}

/*
 * Each label must have stayed what it was, or have become an A-label. A library that mapped
 * another character to a dot or a letter would let a domain match that was not sent.
 */
static bool is_faithful(struct str domain, struct str ascii)
{
	while (domain.n > 0) {
		struct str label = str_cut(&domain, '.');
		struct str converted = str_cut(&ascii, '.');
		if (idn_is_ascii(label) ? !str_eq_nocase(label, converted)
					: !str_starts_with(converted, STR("xn--")))
			return false;
	}
	return ascii.n == 0;
}

static enum smtp_path_fault judge_name(struct str name)
{
	return smtp_is_host_name(name, false) && !is_number(name) ? SMTP_PATH_FINE
								  : SMTP_PATH_BAD_DOMAIN;
}

static void copy_lower(struct str text, char out[IDN_NAME_MAX])
{
	size_t n = str_copy_to(text, out, IDN_NAME_MAX);

	for (size_t i = 0; i < n; i++)
		out[i] = ascii_lower(out[i]);
}

static enum smtp_path_fault make_ascii_name(struct str domain, char out[IDN_NAME_MAX])
{
	enum smtp_path_fault fault = judge_name(domain);

	if (fault == SMTP_PATH_FINE)
		copy_lower(domain, out);
	else if (has_long_label(domain))
		fault = SMTP_PATH_TOO_LONG;
	return fault;
}

static enum smtp_path_fault make_name(struct str domain, char out[IDN_NAME_MAX])
{
	if (idn_is_ascii(domain))
		return make_ascii_name(domain, out);
	if (!idn_to_ascii(domain, out) || !is_faithful(domain, str_from(out)))
		return SMTP_PATH_BAD_DOMAIN;
	return judge_name(str_from(out));
}

/* The tag as it is registered, for readers that compare it exactly; the rest in lower case. */
static enum smtp_path_fault make_literal(struct str domain, char out[IDN_NAME_MAX])
{
	size_t tag = STR("[").n + IPV6_TAG.n;
	struct str address;
	bool is_v6;

	if (!smtp_is_address_literal(domain) || !cut_literal(domain, &address, &is_v6))
		return SMTP_PATH_BAD_DOMAIN;
	copy_lower(domain, out);
	if (is_v6)
		memcpy(out, "[IPv6:", tag);
	return SMTP_PATH_FINE;
}

/* ---- Storing ---------------------------------------------------------------------------- */

/* Both are views of the address. */
static void set_parts(struct smtp_path *path, size_t user, size_t host)
{
	path->user = str_range(path->address, 0, user);
	path->host = str_from_pos(path->address, path->address.n - host);
}

static enum smtp_path_fault store(struct smtp_path *path, struct str original, struct str local,
	struct str host, struct arena *arena)
{
	size_t n = local.n + (host.n > 0 ? 1 : 0) + host.n;

	if (n > SMTP_PATH_MAX - 2)
		return SMTP_PATH_TOO_LONG;
	char *address = arena_alloc(arena, n + 1);
	if (address == NULL || !arena_str(arena, original, &path->original))
		return SMTP_PATH_NO_ROOM;
	memcpy(address, local.p, local.n);
	if (host.n > 0) {
		address[local.n] = '@';
		memcpy(address + local.n + 1, host.p, host.n);
	}
	path->address = str_make(address, n);
	set_parts(path, local.n, host.n);
	return SMTP_PATH_FINE;
}

bool smtp_path_move(struct smtp_path *path, struct arena *arena)
{
	size_t user = path->user.n, host = path->host.n;

	if (!arena_str(arena, path->original, &path->original) ||
		!arena_str(arena, path->address, &path->address))
		return false;
	set_parts(path, user, host);
	return true;
}

static enum smtp_path_fault store_mailbox(
	struct smtp_path *path, struct str original, const struct parts *parts, struct arena *arena)
{
	char host[IDN_NAME_MAX];
	bool is_literal = parts->domain.n > 0 && parts->domain.p[0] == '[';
	enum smtp_path_fault fault =
		is_literal ? make_literal(parts->domain, host) : make_name(parts->domain, host);

	if (fault != SMTP_PATH_FINE)
		return fault;
	path->domain_kind = is_literal ? SMTP_DOMAIN_LITERAL : SMTP_DOMAIN_NAME;
	path->has_source_route = parts->has_source_route;
	path->is_utf8 = !idn_is_ascii(parts->local) || !idn_is_ascii(parts->domain);
	return store(path, original, parts->local, str_from(host), arena);
}

static enum smtp_path_fault parse(
	struct str text, bool utf8, struct arena *arena, struct smtp_path *path, struct str *rest)
{
	struct str behind = text;
	struct parts parts;

	*path = (struct smtp_path){ .domain_kind = SMTP_DOMAIN_NONE };
	*rest = STR("");
	if (!take_path(&behind, &parts))
		return SMTP_PATH_SYNTAX;
	struct str original = str_range(text, 0, text.n - behind.n);
	if (original.n > SMTP_PATH_MAX || parts.local.n > SMTP_LOCAL_MAX)
		return SMTP_PATH_TOO_LONG;
	enum smtp_path_fault fault = judge_utf8(original, utf8);
	if (fault == SMTP_PATH_FINE)
		fault = store_mailbox(path, original, &parts, arena);
	if (fault == SMTP_PATH_FINE || fault == SMTP_PATH_UTF8)
		*rest = behind;
	return fault;
}

/* Is `special` the whole path at the front of `text`? Then it is stored, without a domain. */
static bool is_special(struct str text, struct str special, struct str *rest)
{
	*rest = str_from_pos(text, special.n);
	return str_starts_with_nocase(text, special) && (rest->n == 0 || rest->p[0] == ' ');
}

static enum smtp_path_fault store_special(
	struct str text, size_t n, struct arena *arena, struct smtp_path *path)
{
	struct str original = str_range(text, 0, n);

	*path = (struct smtp_path){ .domain_kind = SMTP_DOMAIN_NONE };
	return store(path, original, str_range(original, 1, n - 1), STR(""), arena);
}

enum smtp_path_fault smtp_path_parse_reverse(
	struct str text, bool utf8, struct arena *arena, struct smtp_path *path, struct str *rest)
{
	if (is_special(text, STR("<>"), rest))
		return store_special(text, STR("<>").n, arena, path);
	return parse(text, utf8, arena, path, rest);
}

enum smtp_path_fault smtp_path_parse_forward(
	struct str text, bool utf8, struct arena *arena, struct smtp_path *path, struct str *rest)
{
	if (is_special(text, STR("<postmaster>"), rest))
		return store_special(text, STR("<postmaster>").n, arena, path);
	return parse(text, utf8, arena, path, rest);
}

/* ---- Questions -------------------------------------------------------------------------- */

bool smtp_path_is_null(const struct smtp_path *path)
{
	return path->domain_kind == SMTP_DOMAIN_NONE && path->user.n == 0;
}

bool smtp_path_is_bare_postmaster(const struct smtp_path *path)
{
	return path->domain_kind == SMTP_DOMAIN_NONE && path->user.n > 0;
}

bool smtp_path_has_routing_local_part(const struct smtp_path *path)
{
	for (size_t i = 0; i < path->user.n; i++)
		switch (path->user.p[i]) {
		case '%':
		case '!':
		case '@':
		case ':':
			return true;
		}
	return false;
}

struct str smtp_path_plain(const struct smtp_path *path, char out[SMTP_PATH_MAX])
{
	struct str user = path->user, rest = str_from_pos(path->address, path->user.n);
	bool is_quoted = user.n > 1 && user.p[0] == '"';
	size_t n = 0;

	ASSERT(path->address.n < SMTP_PATH_MAX);
	if (is_quoted)
		user = str_range(user, 1, user.n - 1);
	for (size_t i = 0; i < user.n; i++) {
		if (is_quoted && user.p[i] == '\\' && i + 1 < user.n)
			i++;
		out[n++] = ascii_lower(user.p[i]);
	}
	for (size_t i = 0; i < rest.n; i++)
		out[n++] = ascii_lower(rest.p[i]);
	return str_make(out, n);
}
