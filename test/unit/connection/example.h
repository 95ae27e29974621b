/*
 * A connection for tests, and views of what it prints.
 */
#ifndef TEST_CONNECTION_EXAMPLE_H
#define TEST_CONNECTION_EXAMPLE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/ipaddr.h"
#include "connection/connection.h"
#include "connection/transaction.h"

#define EXAMPLE_START_MS 1000

static inline struct endpoint example_endpoint(const char *text)
{
	struct endpoint endpoint;

	assert_true(endpoint_parse(str_from(text), &endpoint));
	return endpoint;
}

static inline void example_init(struct connection *connection)
{
	const struct timespec now = { .tv_sec = 1795338358, .tv_nsec = 7654321 };

	connection_init(connection, &now, EXAMPLE_START_MS);
}

/* Takes all that is left of an arena, to the last aligned byte. */
static inline void example_exhaust(struct arena *arena)
{
	while (arena_alloc(arena, 1))
		;
}

/* Each byte there is, and then some that look like the end of a string or a line. */
static inline struct str example_hostile(void)
{
	static char bytes[256 + 16];
	static const char tail[] = "\"},\r\n{\"x\":1\\";

	for (size_t i = 0; i < 256; i++)
		bytes[i] = (char)i;
	for (size_t i = 0; i < sizeof(tail) - 1; i++)
		bytes[256 + i] = tail[i];
	return str_make(bytes, 256 + sizeof(tail) - 1);
}

#define assert_str_equal(a, b) \
	do { \
		struct str a_ = (a), b_ = (b); \
		if (!str_eq(a_, b_)) \
			fail_msg("\"%.*s\" is not \"%.*s\"", STR_ARG(a_), STR_ARG(b_)); \
	} while (0)

#endif
