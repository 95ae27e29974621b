/*
 * A view of bytes: pointer and length, no terminator, no ownership. Network data is never held
 * in C strings, so a NUL inside it is a byte like any other. A view is good for as long as the
 * memory it points into; whoever must keep the bytes copies them (arena_str).
 *
 * Letters are compared as ASCII, whatever the locale.
 */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
	const char *p;
	size_t n;
};

/* A view of a string literal, usable as an initialiser of static tables: STR_INIT("x"). */
#define STR_INIT(literal) \
	{ \
		(literal), sizeof(literal) - 1 \
	}
#define STR(literal) ((struct str)STR_INIT(literal))
/* Arguments for a "%.*s" of printf. */
#define STR_ARG(s) (int)(s).n, (s).p ? (s).p : ""

static inline struct str str_make(const char *p, size_t n)
{
	return (struct str){ p, n };
}

/* NULL gives the empty view. */
static inline struct str str_from(const char *c_string)
{
	return str_make(c_string, c_string ? strlen(c_string) : 0);
}

static inline bool str_is_empty(struct str s)
{
	return s.n == 0;
}

static inline bool str_eq(struct str a, struct str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool str_eq_nocase(struct str a, struct str b);
bool str_starts_with(struct str s, struct str prefix);
bool str_starts_with_nocase(struct str s, struct str prefix);
bool str_ends_with_nocase(struct str s, struct str suffix);

/* The bytes from `from` on (or up to `to`); positions beyond the end mean the end. */
static inline struct str str_range(struct str s, size_t from, size_t to)
{
	if (to > s.n)
		to = s.n;
	if (from > to)
		from = to;
	return str_make(s.p ? s.p + from : NULL, to - from);
}

static inline struct str str_from_pos(struct str s, size_t from)
{
	return str_range(s, from, s.n);
}

/* Position of the first `c`, or s.n when there is none. */
static inline size_t str_find(struct str s, char c)
{
	const char *hit = s.n ? (const char *)memchr(s.p, c, s.n) : NULL;

	return hit ? (size_t)(hit - s.p) : s.n;
}

/* Position of the last `c`, or s.n when there is none. */
size_t str_rfind(struct str s, char c);

/*
 * Takes the text up to the first `separator` off the front of *rest and returns it; *rest then
 * begins behind the separator. Without a separator everything is returned and *rest is empty.
 */
struct str str_cut(struct str *rest, char separator);

/* Without spaces and tabs at both ends. */
struct str str_trim(struct str s);

/*
 * Decimal digits only, no sign, no space; the value at most `max`. False when that does not
 * hold; then *value is unchanged. "007" is accepted: callers that forbid leading zeros look.
 */
bool str_to_u64(struct str s, uint64_t max, uint64_t *value);

/* A C string in fresh memory; free() it. Bytes after a NUL are invisible to C. */
char *str_dup(struct str s);

/* Copies into `out` (size > 0) and terminates; cuts what does not fit. Returns bytes copied. */
size_t str_copy_to(struct str s, char *out, size_t size);

/* ASCII only, independent of the locale. */
static inline char ascii_lower(char c)
{
	return (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

static inline bool ascii_is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static inline bool ascii_is_alpha(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static inline bool ascii_is_alnum(char c)
{
	return ascii_is_digit(c) || ascii_is_alpha(c);
}

/* 0x00-0x1f and 0x7f. */
static inline bool ascii_is_control(char c)
{
	return (unsigned char)c < 0x20 || c == 0x7f;
}

#endif
