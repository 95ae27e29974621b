/*
 * IP addresses, endpoints (address and port) and networks, in one form: 16 bytes, IPv4 held as
 * its v4-mapped IPv6 address. So ::ffff:192.0.2.1 and 192.0.2.1 are the same address by
 * construction: no policy can see a difference, and both print as 192.0.2.1.
 *
 * Text is parsed by inet_pton(3) only: no octal, no short forms, no names, no zone ids.
 */
#ifndef BASE_IPADDR_H
#define BASE_IPADDR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/str.h"

#define IPADDR_TEXT_MAX 46   /* INET6_ADDRSTRLEN, terminator included */
#define ENDPOINT_TEXT_MAX 56 /* "[ipv6]:65535", terminator included */
#define IPNET_TEXT_MAX 50    /* "ipv6/128", terminator included */

struct ipaddr {
	uint8_t bytes[16];
};

struct endpoint {
	struct ipaddr ip;
	uint16_t port; /* host byte order */
};

struct ipnet {
	struct ipaddr ip; /* bits behind the prefix are zero */
	uint8_t prefix;   /* 0-128, counted in the mapped form: 192.0.2.0/24 has 120 */
};

struct ipaddr ipaddr_from_v4(const uint8_t bytes[4]);
struct ipaddr ipaddr_from_v6(const uint8_t bytes[16]);

bool ipaddr_is_v4(const struct ipaddr *ip); /* true for v4-mapped as well: they are the same */
bool ipaddr_eq(const struct ipaddr *a, const struct ipaddr *b);
bool ipaddr_is_unspecified(const struct ipaddr *ip); /* 0.0.0.0 or :: */
bool ipaddr_is_multicast(const struct ipaddr *ip);   /* 224/4, ff00::/8 */
bool ipaddr_is_broadcast(const struct ipaddr *ip);   /* 255.255.255.255 */

/* Loopback (127/8, ::1) or link-local (169.254/16, fe80::/10). */
bool ipaddr_is_local(const struct ipaddr *ip);

/* ipaddr_is_local, RFC 1918, fc00::/7, 100.64/10, or unspecified. Test networks are not. */
bool ipaddr_is_private(const struct ipaddr *ip);

/* "192.0.2.1" or "2001:db8::1", no brackets. False when it is anything else. */
bool ipaddr_parse(struct str text, struct ipaddr *ip);

/* Canonical text (RFC 5952 as inet_ntop gives it); IPv4 dotted. Returns `out`. */
const char *ipaddr_print(const struct ipaddr *ip, char out[IPADDR_TEXT_MAX]);

/* "192.0.2.1:25" or "[2001:db8::1]:25"; the port is decimal, 0-65535, no leading zero. */
bool endpoint_parse(struct str text, struct endpoint *endpoint);
const char *endpoint_print(const struct endpoint *endpoint, char out[ENDPOINT_TEXT_MAX]);

/* To and from the socket calls. False for a family that is not AF_INET or AF_INET6. */
bool endpoint_from_sockaddr(const struct sockaddr *sa, struct endpoint *endpoint);
socklen_t endpoint_to_sockaddr(const struct endpoint *endpoint, struct sockaddr_storage *sa);

/*
 * "10.0.0.0/8", "2001:db8::/32", or an address alone (then /32 or /128). Bits behind the prefix
 * must be zero: "10.0.0.1/8" is refused, as it is usually a mistake. The prefix is counted as
 * the text is written: "::ffff:10.0.0.0/104" is "10.0.0.0/8".
 *
 * An IPv6 network holds no IPv4 address, however short its prefix: "::/0" is all of IPv6 only,
 * "0.0.0.0/0" all of IPv4.
 */
bool ipnet_parse(struct str text, struct ipnet *net);
const char *ipnet_print(const struct ipnet *net, char out[IPNET_TEXT_MAX]);
bool ipnet_contains(const struct ipnet *net, const struct ipaddr *ip);
bool ipnet_overlaps(const struct ipnet *a, const struct ipnet *b);

/* A list of networks, as settings hold them. */
struct ipnet_list {
	struct ipnet *items;
	size_t count;
};

/* The first network of the list that holds `ip`, or NULL. */
const struct ipnet *ipnet_list_find(const struct ipnet_list *list, const struct ipaddr *ip);

#endif
