#include "edge/local_names.h"

#include <stdlib.h>

#include "base/xalloc.h"

struct local_name {
	struct local_name *next;
	struct ipaddr ip;
	struct resolver_question *question; /* NULL: answered */
	char *host;                         /* NULL: none found (yet) */
};

void local_names_init(struct local_names *names, struct resolver *resolver, struct str hostname)
{
	*names = (struct local_names){ .resolver = resolver, .hostname = hostname };
}

void local_names_free(struct local_names *names)
{
	while (names->first != NULL) {
		struct local_name *next = names->first->next;
		if (names->first->question != NULL)
			resolver_abandon(&names->first->question);
		free(names->first->host);
		free(names->first);
		names->first = next;
	}
}

static void answered(void *ctx, const struct resolver_name *answer)
{
	struct local_name *name = ctx;

	name->question = NULL;
	if (answer->status == RESOLVER_OK)
		name->host = str_dup(answer->host);
}

static struct local_name *add(struct local_names *names, const struct ipaddr *ip)
{
	struct local_name *name = xcalloc(1, sizeof(*name));

	name->ip = *ip;
	name->next = names->first;
	names->first = name;
	names->count++;
	name->question = resolver_reverse(names->resolver, ip, answered, name);
	return name;
}

struct str local_names_find(struct local_names *names, const struct ipaddr *ip)
{
	struct local_name *name = names->first;

	while (name != NULL && !ipaddr_eq(&name->ip, ip))
		name = name->next;
	if (name == NULL && names->count < LOCAL_NAMES_MAX)
		name = add(names, ip);
	return name != NULL && name->host != NULL ? str_from(name->host) : names->hostname;
}
