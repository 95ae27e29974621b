#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *err, const char *format, ...)
{
	va_list args;

	if (err == NULL)
		return -1;
	va_start(args, format);
	vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	return -1;
}

/* Joins two texts with ": ", cutting the second where the room ends. */
static void join(struct err *err, const char *first, const char *second)
{
	char joined[2 * ERR_TEXT_MAX + 3];

	snprintf(joined, sizeof(joined), "%s: %s", first, second);
	joined[ERR_TEXT_MAX - 1] = '\0';
	memcpy(err->text, joined, ERR_TEXT_MAX);
}

int err_errno(struct err *err, const char *format, ...)
{
	char what[ERR_TEXT_MAX];
	int saved = errno;
	va_list args;

	if (err == NULL)
		return -1;
	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	join(err, what, strerror(saved));
	return -1;
}

int err_prefix(struct err *err, const char *format, ...)
{
	char prefix[ERR_TEXT_MAX];
	char rest[ERR_TEXT_MAX];
	va_list args;

	if (err == NULL)
		return -1;
	va_start(args, format);
	vsnprintf(prefix, sizeof(prefix), format, args);
	va_end(args);
	memcpy(rest, err->text, sizeof(rest));
	join(err, prefix, rest);
	return -1;
}
