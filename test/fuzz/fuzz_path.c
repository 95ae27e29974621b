/*
 * The parsers of paths with any text; its first byte says which one and whether UTF-8 is allowed.
 * What must hold: bounds; the printed form is read as the same address; a host is in lower case,
 * ASCII and a name or literal; nothing that ends a line or a path unquoted is in the address;
 * allowing UTF-8 changes nothing for ASCII; an ASCII domain is the one that was sent.
 */
#include <stdint.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/idn.h"
#include "proto/smtp_path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ROOM 4096

static enum smtp_path_fault parse(bool is_reverse, struct str text, bool utf8, struct arena *arena,
	struct smtp_path *path, struct str *rest)
{
	return is_reverse ? smtp_path_parse_reverse(text, utf8, arena, path, rest)
			  : smtp_path_parse_forward(text, utf8, arena, path, rest);
}

static void check_bounds(const struct smtp_path *path, struct str text, struct str rest)
{
	ASSERT(path->original.n <= SMTP_PATH_MAX && path->user.n <= SMTP_LOCAL_MAX);
	ASSERT(path->address.n <= SMTP_PATH_MAX - 2);
	ASSERT(path->original.n + rest.n == text.n && str_starts_with(text, path->original));
	ASSERT(rest.n == 0 || rest.p[0] == ' ');
	ASSERT(str_starts_with(path->address, path->user));
	ASSERT(str_ends_with_nocase(path->address, path->host));
	for (size_t i = 0; i < path->original.n; i++)
		ASSERT(!ascii_is_control(path->original.p[i]));
}

static void check_host(const struct smtp_path *path)
{
	switch (path->domain_kind) {
	case SMTP_DOMAIN_NONE:
		ASSERT(path->host.n == 0);
		ASSERT(path->user.n == 0 || str_eq_nocase(path->user, STR("postmaster")));
		return;
	case SMTP_DOMAIN_NAME:
		ASSERT(smtp_is_host_name(path->host, false));
		for (size_t i = 0; i < path->host.n; i++)
			ASSERT(path->host.p[i] == ascii_lower(path->host.p[i]));
		return;
	case SMTP_DOMAIN_LITERAL:
		ASSERT(smtp_is_address_literal(path->host));
		return;
	}
}

/* Unless the local part is quoted, only one "@" and none of the characters that structure. */
static void check_local(const struct smtp_path *path)
{
	if (path->user.n == 0 || path->user.p[0] == '"')
		return;
	for (size_t i = 0; i < path->user.n; i++)
		ASSERT(!memchr("@<>()[],;:\\\" ", path->user.p[i], 13));
}

static void check_round_trip(const struct smtp_path *path, bool is_reverse)
{
	struct smtp_path again;
	struct arena arena;
	struct buf text;
	struct str rest;

	arena_init(&arena, ROOM);
	buf_init(&text, SMTP_PATH_MAX);
	ASSERT(buf_write(&text, STR("<")) && buf_write(&text, path->address) &&
		buf_write(&text, STR(">")));
	bool utf8 = !idn_is_ascii(path->user);
	ASSERT(parse(is_reverse, buf_view(&text), utf8, &arena, &again, &rest) == SMTP_PATH_FINE);
	ASSERT(str_eq(again.address, path->address) && str_eq(again.host, path->host));
	ASSERT(again.domain_kind == path->domain_kind && rest.n == 0);
	buf_free(&text);
	arena_reset(&arena);
}

/* The domain is what stood in front of ">", in lower case. */
static void check_sent(const struct smtp_path *path)
{
	struct str inside = str_range(path->original, 1, path->original.n - 1);

	if (path->domain_kind == SMTP_DOMAIN_NAME && idn_is_ascii(path->original)) {
		ASSERT(str_ends_with_nocase(inside, path->host));
		ASSERT(inside.p[inside.n - path->host.n - 1] == '@');
	}
	if (!path->has_source_route && idn_is_ascii(path->original))
		ASSERT(str_eq_nocase(inside, path->address));
}

static void check_utf8(const struct smtp_path *path, bool utf8)
{
	ASSERT(!path->is_utf8 || utf8);
	ASSERT(path->is_utf8 || idn_is_ascii(path->address));
	ASSERT(idn_is_utf8(path->original));
}

/* For look-up tables: nothing of it is longer, the domain is there, quotes alone are gone. */
static void check_plain(const struct smtp_path *path)
{
	char out[SMTP_PATH_MAX];
	struct str plain = smtp_path_plain(path, out);
	bool is_quoted = path->user.n > 0 && path->user.p[0] == '"';

	ASSERT(plain.n <= path->address.n && str_ends_with_nocase(plain, path->host));
	ASSERT(plain.n > path->host.n || smtp_path_is_null(path));
	ASSERT(is_quoted || str_eq_nocase(plain, path->address));
	for (size_t i = 0; i < plain.n; i++)
		ASSERT(plain.p[i] == ascii_lower(plain.p[i]));
}

static void check_same_without_utf8(bool is_reverse, struct str text, enum smtp_path_fault fault)
{
	struct smtp_path path;
	struct arena arena;
	struct str rest;

	arena_init(&arena, ROOM);
	ASSERT(parse(is_reverse, text, false, &arena, &path, &rest) == fault);
	arena_reset(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct smtp_path path;
	struct arena arena;
	struct str rest;

	if (size == 0)
		return 0;
	bool is_reverse = data[0] & 1;
	bool utf8 = data[0] & 2;
	struct str text = str_make((const char *)data + 1, size - 1);
	arena_init(&arena, ROOM);
	enum smtp_path_fault fault = parse(is_reverse, text, utf8, &arena, &path, &rest);
	ASSERT(fault != SMTP_PATH_NO_ROOM);
	if (fault == SMTP_PATH_FINE) {
		check_bounds(&path, text, rest);
		check_plain(&path);
		check_host(&path);
		check_local(&path);
		check_sent(&path);
		check_utf8(&path, utf8);
		check_round_trip(&path, is_reverse);
	}
	if (idn_is_ascii(text))
		check_same_without_utf8(is_reverse, text, fault);
	arena_reset(&arena);
	return 0;
}
