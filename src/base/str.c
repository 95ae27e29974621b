#include "base/str.h"

#include <string.h>

#include "base/assert.h"
#include "base/xalloc.h"

bool str_eq_nocase(struct str a, struct str b)
{
	if (a.n != b.n)
		return false;
	for (size_t i = 0; i < a.n; i++)
		if (ascii_lower(a.p[i]) != ascii_lower(b.p[i]))
			return false;
	return true;
}

bool str_starts_with(struct str s, struct str prefix)
{
	return s.n >= prefix.n && str_eq(str_range(s, 0, prefix.n), prefix);
}

bool str_starts_with_nocase(struct str s, struct str prefix)
{
	return s.n >= prefix.n && str_eq_nocase(str_range(s, 0, prefix.n), prefix);
}

bool str_ends_with_nocase(struct str s, struct str suffix)
{
	return s.n >= suffix.n && str_eq_nocase(str_from_pos(s, s.n - suffix.n), suffix);
}

size_t str_rfind(struct str s, char c)
{
	for (size_t i = s.n; i > 0; i--)
		if (s.p[i - 1] == c)
			return i - 1;
	return s.n;
}

struct str str_cut(struct str *rest, char separator)
{
	size_t at = str_find(*rest, separator);
	struct str head = str_range(*rest, 0, at);

	*rest = str_from_pos(*rest, at < rest->n ? at + 1 : at);
	return head;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

struct str str_trim(struct str s)
{
	while (s.n > 0 && is_blank(s.p[0]))
		s = str_from_pos(s, 1);
	while (s.n > 0 && is_blank(s.p[s.n - 1]))
		s.n--;
	return s;
}

bool str_to_u64(struct str s, uint64_t max, uint64_t *value)
{
	uint64_t sum = 0;

	if (s.n == 0)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (!ascii_is_digit(s.p[i]))
			return false;
		if (__builtin_mul_overflow(sum, 10, &sum) ||
			__builtin_add_overflow(sum, (uint64_t)(s.p[i] - '0'), &sum) || sum > max)
			return false;
	}
	*value = sum;
	return true;
}

char *str_dup(struct str s)
{
	char *copy = xcalloc(s.n + 1, 1);

	if (s.n > 0)
		memcpy(copy, s.p, s.n);
	return copy;
}

size_t str_copy_to(struct str s, char *out, size_t size)
{
	ASSERT(size > 0);
	size_t n = s.n < size ? s.n : size - 1;

	if (n > 0)
		memcpy(out, s.p, n);
	out[n] = '\0';
	return n;
}
