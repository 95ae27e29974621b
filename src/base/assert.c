#include "base/assert.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

_Noreturn void assert_failed(const char *what, const char *file, int line)
{
	static bool is_failing;

	fprintf(stderr, "gatepost: bug: %s is false at %s:%d\n", what, file, line);
	if (!is_failing) { /* within log_flush() */
		is_failing = true;
		log_flush();
	}
	abort();
}
