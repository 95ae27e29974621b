#include "base/ipaddr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#define V4_PREFIX 96 /* bits of ::ffff:0:0/96, in front of an IPv4 address */

static const uint8_t v4_head[12] = { [10] = 0xff, [11] = 0xff };

/* Networks with a meaning. */
#define NET4(a, b, c, d, bits) \
	{ \
		{ { [10] = 0xff, [11] = 0xff, a, b, c, d } }, V4_PREFIX + (bits) \
	}
#define NET6(a, b, bits) \
	{ \
		{ { a, b } }, bits \
	}
#define IN_ANY_OF(table, ip) in_any_of(table, sizeof(table) / sizeof((table)[0]), ip)

static const struct ipnet unspecified_nets[] = { NET4(0, 0, 0, 0, 32), NET6(0, 0, 128) };
static const struct ipnet multicast_nets[] = { NET4(224, 0, 0, 0, 4), NET6(0xff, 0, 8) };
static const struct ipnet broadcast_nets[] = { NET4(255, 255, 255, 255, 32) };
static const struct ipnet local_nets[] = {
	NET4(127, 0, 0, 0, 8),
	NET4(169, 254, 0, 0, 16),
	{ { { [15] = 1 } }, 128 },
	NET6(0xfe, 0x80, 10),
};
static const struct ipnet private_nets[] = {
	NET4(10, 0, 0, 0, 8),
	NET4(172, 16, 0, 0, 12),
	NET4(192, 168, 0, 0, 16),
	NET4(100, 64, 0, 0, 10),
	NET6(0xfc, 0, 7),
};

static bool in_any_of(const struct ipnet *nets, size_t count, const struct ipaddr *ip)
{
	for (size_t i = 0; i < count; i++)
		if (ipnet_contains(&nets[i], ip))
			return true;
	return false;
}

/* ---- Addresses ----------------------------------------------------------------------------- */

struct ipaddr ipaddr_from_v4(const uint8_t bytes[4])
{
	struct ipaddr ip;

	memcpy(ip.bytes, v4_head, sizeof(v4_head));
	memcpy(ip.bytes + sizeof(v4_head), bytes, 4);
	return ip;
}

struct ipaddr ipaddr_from_v6(const uint8_t bytes[16])
{
	struct ipaddr ip;

	memcpy(ip.bytes, bytes, sizeof(ip.bytes));
	return ip;
}

bool ipaddr_is_v4(const struct ipaddr *ip)
{
	return memcmp(ip->bytes, v4_head, sizeof(v4_head)) == 0;
}

bool ipaddr_eq(const struct ipaddr *a, const struct ipaddr *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

bool ipaddr_is_unspecified(const struct ipaddr *ip)
{
	return IN_ANY_OF(unspecified_nets, ip);
}

bool ipaddr_is_multicast(const struct ipaddr *ip)
{
	return IN_ANY_OF(multicast_nets, ip);
}

bool ipaddr_is_broadcast(const struct ipaddr *ip)
{
	return IN_ANY_OF(broadcast_nets, ip);
}

bool ipaddr_is_local(const struct ipaddr *ip)
{
	return IN_ANY_OF(local_nets, ip);
}

bool ipaddr_is_private(const struct ipaddr *ip)
{
	return IN_ANY_OF(private_nets, ip) || ipaddr_is_local(ip) || ipaddr_is_unspecified(ip);
}

bool ipaddr_parse(struct str text, struct ipaddr *ip)
{
	char copy[IPADDR_TEXT_MAX];
	uint8_t bytes[16];

	/* A NUL would end the text early for inet_pton. */
	if (text.n >= sizeof(copy) || str_find(text, '\0') < text.n)
		return false;
	str_copy_to(text, copy, sizeof(copy));
	if (inet_pton(AF_INET, copy, bytes) == 1)
		*ip = ipaddr_from_v4(bytes);
	else if (inet_pton(AF_INET6, copy, bytes) == 1)
		*ip = ipaddr_from_v6(bytes);
	else
		return false;
	return true;
}

/* inet_ntop(3) does it by way of printf, which is a lot for a word that is in every log record. */
static const char *print_v4(const uint8_t bytes[4], char *out)
{
	char *at = out;

	for (unsigned i = 0; i < 4; i++) {
		if (bytes[i] >= 100)
			*at++ = (char)('0' + bytes[i] / 100);
		if (bytes[i] >= 10)
			*at++ = (char)('0' + bytes[i] / 10 % 10);
		*at++ = (char)('0' + bytes[i] % 10);
		*at++ = i < 3 ? '.' : '\0';
	}
	return out;
}

const char *ipaddr_print(const struct ipaddr *ip, char out[IPADDR_TEXT_MAX])
{
	if (ipaddr_is_v4(ip))
		return print_v4(ip->bytes + sizeof(v4_head), out);
	return inet_ntop(AF_INET6, ip->bytes, out, IPADDR_TEXT_MAX);
}

/* ---- Endpoints ----------------------------------------------------------------------------- */

/* Decimal without leading zeros. */
static bool parse_number(struct str text, uint64_t max, uint64_t *number)
{
	if (text.n > 1 && text.p[0] == '0')
		return false;
	return str_to_u64(text, max, number);
}

/* Splits "[ip]:port" or "ip:port"; brackets tell IPv6, as they do in URLs. */
static bool split_endpoint(struct str text, struct str *ip, struct str *port)
{
	bool bracketed = str_starts_with(text, STR("["));
	size_t colon = str_rfind(text, ':');

	if (colon == text.n)
		return false;
	*port = str_from_pos(text, colon + 1);
	*ip = str_range(text, 0, colon);
	if (!bracketed)
		return str_find(*ip, ':') == ip->n;
	if (ip->n < 2 || ip->p[ip->n - 1] != ']')
		return false;
	*ip = str_range(*ip, 1, ip->n - 1);
	return str_find(*ip, ':') < ip->n;
}

bool endpoint_parse(struct str text, struct endpoint *endpoint)
{
	struct str ip_text, port_text;
	struct ipaddr ip;
	uint64_t port;

	if (!split_endpoint(text, &ip_text, &port_text) || !ipaddr_parse(ip_text, &ip) ||
		!parse_number(port_text, UINT16_MAX, &port))
		return false;
	*endpoint = (struct endpoint){ .ip = ip, .port = (uint16_t)port };
	return true;
}

const char *endpoint_print(const struct endpoint *endpoint, char out[ENDPOINT_TEXT_MAX])
{
	char ip[IPADDR_TEXT_MAX];
	bool v4 = ipaddr_is_v4(&endpoint->ip);

	ipaddr_print(&endpoint->ip, ip);
	snprintf(out, ENDPOINT_TEXT_MAX, "%s%s%s:%u", v4 ? "" : "[", ip, v4 ? "" : "]",
		(unsigned)endpoint->port);
	return out;
}

bool endpoint_from_sockaddr(const struct sockaddr *sa, struct endpoint *endpoint)
{
	if (sa->sa_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, sa, sizeof(in));
		endpoint->ip = ipaddr_from_v4((const uint8_t *)&in.sin_addr);
		endpoint->port = ntohs(in.sin_port);
		return true;
	}
	if (sa->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, sa, sizeof(in6));
		endpoint->ip = ipaddr_from_v6(in6.sin6_addr.s6_addr);
		endpoint->port = ntohs(in6.sin6_port);
		return true;
	}
	return false;
}

socklen_t endpoint_to_sockaddr(const struct endpoint *endpoint, struct sockaddr_storage *sa)
{
	const uint8_t *bytes = endpoint->ip.bytes;

	memset(sa, 0, sizeof(*sa));
	if (ipaddr_is_v4(&endpoint->ip)) {
		struct sockaddr_in in = { .sin_family = AF_INET,
			.sin_port = htons(endpoint->port) };

		memcpy(&in.sin_addr, bytes + sizeof(v4_head), sizeof(in.sin_addr));
		memcpy(sa, &in, sizeof(in));
		return sizeof(in);
	}
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(endpoint->port) };
	memcpy(&in6.sin6_addr, bytes, sizeof(in6.sin6_addr));
	memcpy(sa, &in6, sizeof(in6));
	return sizeof(in6);
}

/* ---- Networks ------------------------------------------------------------------------------ */

/* The address with all bits behind the prefix cleared. */
static struct ipaddr masked(const struct ipaddr *ip, uint8_t prefix)
{
	struct ipaddr result = *ip;

	for (unsigned i = 0; i < sizeof(result.bytes); i++) {
		unsigned keep = prefix > 8 * i ? prefix - 8 * i : 0;

		if (keep < 8)
			result.bytes[i] &= (uint8_t)(0xff00u >> keep);
	}
	return result;
}

/* The prefix is counted as the text is written: ::ffff:10.0.0.0/104 is 10.0.0.0/8. */
static bool parse_prefix(struct str text, bool written_as_v4, uint8_t *prefix)
{
	uint64_t number;

	if (!parse_number(text, written_as_v4 ? 32 : 128, &number))
		return false;
	*prefix = (uint8_t)(written_as_v4 ? V4_PREFIX + number : number);
	return true;
}

bool ipnet_parse(struct str text, struct ipnet *net)
{
	bool written_as_v4 = str_find(text, ':') == text.n;
	size_t slash = str_find(text, '/');
	struct ipnet found = { .prefix = 128 };

	if (!ipaddr_parse(str_range(text, 0, slash), &found.ip))
		return false;
	if (slash < text.n &&
		!parse_prefix(str_from_pos(text, slash + 1), written_as_v4, &found.prefix))
		return false;
	struct ipaddr first = masked(&found.ip, found.prefix);
	if (!ipaddr_eq(&first, &found.ip))
		return false;
	*net = found;
	return true;
}

/* IPv4 networks lie inside ::ffff:0:0/96. A shorter prefix is an IPv6 network. */
static bool is_v4_net(const struct ipnet *net)
{
	return net->prefix >= V4_PREFIX && ipaddr_is_v4(&net->ip);
}

const char *ipnet_print(const struct ipnet *net, char out[IPNET_TEXT_MAX])
{
	char ip[IPADDR_TEXT_MAX];
	int prefix = is_v4_net(net) ? net->prefix - V4_PREFIX : net->prefix;

	ipaddr_print(&net->ip, ip);
	snprintf(out, IPNET_TEXT_MAX, "%s/%d", ip, prefix);
	return out;
}

bool ipnet_contains(const struct ipnet *net, const struct ipaddr *ip)
{
	if (is_v4_net(net) != ipaddr_is_v4(ip))
		return false;
	unsigned whole = net->prefix / 8, rest = net->prefix % 8;
	if (memcmp(ip->bytes, net->ip.bytes, whole) != 0)
		return false;
	return rest == 0 ||
	       ((ip->bytes[whole] ^ net->ip.bytes[whole]) & 0xff00u >> rest & 0xffu) == 0;
}

bool ipnet_overlaps(const struct ipnet *a, const struct ipnet *b)
{
	const struct ipnet *wide = a->prefix <= b->prefix ? a : b;
	const struct ipnet *narrow = wide == a ? b : a;

	return ipnet_contains(wide, &narrow->ip);
}

const struct ipnet *ipnet_list_find(const struct ipnet_list *list, const struct ipaddr *ip)
{
	for (size_t i = 0; i < list->count; i++)
		if (ipnet_contains(&list->items[i], ip))
			return &list->items[i];
	return NULL;
}
