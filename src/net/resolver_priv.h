/*
 * What resolver.c asks and reads: DNS messages, without sockets. Everything in an answer may be
 * hostile: whoever owns an address block writes any bytes he likes into its reverse zone.
 */
#ifndef NET_RESOLVER_PRIV_H
#define NET_RESOLVER_PRIV_H

#include <arpa/nameser.h>

#include "net/resolver.h"

#define RESOLVER_REVERSE_NAME_MAX 74 /* 32 nibbles with dots, "ip6.arpa", terminator */
#define RESOLVER_QUERY_MAX (NS_HFIXEDSZ + 255 + NS_QFIXEDSZ)

/* "1.2.0.192.in-addr.arpa", or nibbles under ip6.arpa. */
void resolver_reverse_name(const struct ipaddr *ip, char out[RESOLVER_REVERSE_NAME_MAX]);

/*
 * Is it a name of a host? Labels of 1 to 63 letters, digits, hyphens (not at an end) and
 * underscores; at most 253 bytes; not all digits at the end, so that it cannot be taken for an
 * address.
 */
bool resolver_is_host(struct str name);

/* Writes a recursive query for class IN with a random id; `name` is a host. Returns its length. */
size_t resolver_query(struct str name, ns_type type, unsigned char out[RESOLVER_QUERY_MAX]);

/*
 * The answer to a PTR query. OK: *host is the first valid name; NONE: there is no such; ERROR.
 * *ttl_s is the smallest of the records up to it; it is only set when OK.
 */
enum resolver_status resolver_read_name(
	struct str message, char host[RESOLVER_HOST_MAX], uint32_t *ttl_s);

/* The answer to an A or AAAA query. OK: `ip` is among the addresses; NONE: it is not; ERROR. */
enum resolver_status resolver_read_address(
	struct str message, const struct ipaddr *ip, uint32_t *ttl_s);

#endif
