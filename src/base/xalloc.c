#include "base/xalloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void xalloc_failed(void)
{
	fputs("gatepost: out of memory\n", stderr);
	abort();
}

static void *checked(void *p)
{
	if (p == NULL)
		xalloc_failed();
	return p;
}

void *xcalloc(size_t count, size_t size)
{
	return checked(calloc(count ? count : 1, size ? size : 1));
}

void *xrealloc(void *old, size_t count, size_t size)
{
	return checked(reallocarray(old, count ? count : 1, size ? size : 1));
}

char *xstrdup(const char *s)
{
	return checked(strdup(s));
}
