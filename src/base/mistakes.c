#include "base/mistakes.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/str.h"

void mistakes_add(struct mistakes *mistakes, size_t line, const char *format, ...)
{
	char text[ERR_TEXT_MAX];
	va_list args;

	if (mistakes->count++ > 0 && line >= mistakes->line)
		return;
	mistakes->line = line;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	err_set(mistakes->err, "%s:%zu: %s", mistakes->name, line, text);
}

int mistakes_conclude(const struct mistakes *mistakes)
{
	char first[ERR_TEXT_MAX];

	if (mistakes->count == 0)
		return 0;
	if (mistakes->count == 1 || mistakes->err == NULL)
		return -1;
	str_copy_to(str_from(mistakes->err->text), first, sizeof(first));
	return err_set(mistakes->err, "%s (and %zu more)", first, mistakes->count - 1);
}
