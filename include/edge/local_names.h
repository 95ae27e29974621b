/*
 * The names of our own addresses: each is looked up once (local.host of the connection object).
 */
#ifndef EDGE_LOCAL_NAMES_H
#define EDGE_LOCAL_NAMES_H

#include "base/ipaddr.h"
#include "base/str.h"
#include "net/resolver.h"

/* Addresses beyond this number have no name but the configured one: with a balancer in front the
 * address that clients connect to comes from the PROXY header. */
#define LOCAL_NAMES_MAX 256

struct local_name;

struct local_names {
	struct resolver *resolver;
	struct str hostname; /* used until a look-up has found a name, and when it finds none */
	struct local_name *first;
	size_t count;
};

void local_names_init(struct local_names *names, struct resolver *resolver, struct str hostname);
void local_names_free(struct local_names *names);

/* The name as it is known now; the first call for an address begins its look-up. The view is good
 * until local_names_free. */
struct str local_names_find(struct local_names *names, const struct ipaddr *ip);

#endif
