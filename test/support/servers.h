/* Settings of backends for tests: servers 10.0.0.1:25, 10.0.0.2:25, … of weight 1. */
#ifndef TEST_SUPPORT_SERVERS_H
#define TEST_SUPPORT_SERVERS_H

#include <assert.h>
#include <stdio.h>

#include "backend/settings.h"

/* `list` has room for as many; what it holds is freed by free_server_settings(). */
static inline struct backend_settings make_backend_settings(
	const char *name, enum balance balance, struct server_settings *list, size_t servers)
{
	struct err why;

	for (size_t i = 0; i < servers; i++) {
		char text[ENDPOINT_TEXT_MAX];
		snprintf(text, sizeof(text), "10.0.0.%zu:25", i + 1);
		list[i] = (struct server_settings){ .weight = 1 };
		bool is_read = backend_address_parse(str_from(text), &list[i].address, &why);
		assert(is_read);
		(void)is_read;
	}
	return (struct backend_settings){
		.name = str_from(name),
		.servers = { list, servers },
		.balance = (int)balance,
		.health = { .rise = 2, .fall = 3, .slow_start = 30000, .max_tempfail_share = 50 },
		.queue = 100,
	};
}

static inline void free_server_settings(struct server_settings *list, size_t servers)
{
	for (size_t i = 0; i < servers; i++)
		backend_address_free(&list[i].address);
}

#endif
