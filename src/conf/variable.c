#include "variable_priv.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/idn.h"

#define VARIABLE_NAME_MAX 128

static bool is_name(struct str s)
{
	if (s.n == 0 || s.n >= VARIABLE_NAME_MAX || ascii_is_digit(s.p[0]))
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (!ascii_is_alnum(s.p[i]) && s.p[i] != '_')
			return false;
	return true;
}

static int look_up(struct str name, struct str *value, struct err *err)
{
	char text[VARIABLE_NAME_MAX];

	str_copy_to(name, text, sizeof(text));
	*value = str_from(getenv(text));
	if (!idn_is_utf8(*value))
		return err_set(err, "the variable %s is not UTF-8 text", text);
	return 0;
}

/*
 * What stands between the braces:
 *   NAME            the variable, which must be set
 *   NAME:-default   the default when the variable is unset or empty
 */
static int expand_one(struct str inside, struct buf *out, struct err *err)
{
	size_t colon = str_find(inside, ':');
	struct str name = str_range(inside, 0, colon);
	struct str rest = str_from_pos(inside, colon);
	struct str value;
	bool has_default = str_starts_with(rest, STR(":-"));

	if (!is_name(name) || (rest.n > 0 && !has_default))
		return err_set(err,
			"\"${%.*s}\" is not a variable; write ${NAME}, ${NAME:-default},"
			" or $$ for a dollar sign",
			inside.n > 60 ? 60 : (int)inside.n, inside.p);
	if (look_up(name, &value, err) < 0)
		return -1;
	if (value.n == 0 && has_default)
		value = str_from_pos(rest, 2);
	else if (value.p == NULL)
		return err_set(err, "the variable %.*s is not set", STR_ARG(name));
	if (!buf_write(out, value))
		return err_set(err, "longer than %d bytes", CONF_SCALAR_MAX);
	return 0;
}

/* Takes the next piece off *rest, which begins with a dollar sign. */
static int expand_dollar(struct str *rest, struct buf *out, struct err *err)
{
	if (str_starts_with(*rest, STR("${"))) {
		size_t close = str_find(*rest, '}');
		if (close == rest->n)
			return err_set(err, "\"${\" without its \"}\"");
		struct str inside = str_range(*rest, 2, close);
		*rest = str_from_pos(*rest, close + 1);
		return expand_one(inside, out, err);
	}
	*rest = str_from_pos(*rest, str_starts_with(*rest, STR("$$")) ? 2 : 1);
	return buf_write(out, STR("$")) ? 0 : err_set(err, "longer than %d bytes", CONF_SCALAR_MAX);
}

static int expand_all(struct str rest, struct buf *out, struct err *err)
{
	while (rest.n > 0) {
		size_t dollar = str_find(rest, '$');
		if (!buf_write(out, str_range(rest, 0, dollar)))
			return err_set(err, "longer than %d bytes", CONF_SCALAR_MAX);
		rest = str_from_pos(rest, dollar);
		if (rest.n > 0 && expand_dollar(&rest, out, err) < 0)
			return -1;
	}
	return 0;
}

int conf_variable_expand(struct str text, struct arena *arena, struct str *out, struct err *err)
{
	struct buf buf;

	*out = text;
	if (str_find(text, '$') == text.n)
		return 0;
	buf_init(&buf, CONF_SCALAR_MAX);
	int rc = expand_all(text, &buf, err);
	if (rc == 0 && !arena_str(arena, buf_view(&buf), out))
		rc = err_set(err, "the file is too large");
	buf_free(&buf);
	return rc;
}
