#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/ipaddr.h"
#include "support/guard.h"

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static struct guard guard;

static int make_guard(void **state)
{
	(void)state;
	guard = guard_make(4096);
	return 0;
}

static int free_guard(void **state)
{
	(void)state;
	guard_free(&guard);
	return 0;
}

static struct ipaddr ip_of(const char *text)
{
	struct ipaddr ip;

	assert_true(ipaddr_parse(str_from(text), &ip));
	return ip;
}

static struct ipnet net_of(const char *text)
{
	struct ipnet net;

	assert_true(ipnet_parse(str_from(text), &net));
	return net;
}

/* ---- Addresses ----------------------------------------------------------------------------- */

static const struct {
	struct str text;
	const char *printed; /* NULL: not an address */
} addresses[] = {
	{ STR_INIT("192.0.2.1"), "192.0.2.1" },
	{ STR_INIT("0.0.0.0"), "0.0.0.0" },
	{ STR_INIT("255.255.255.255"), "255.255.255.255" },
	{ STR_INIT("::ffff:192.0.2.1"), "192.0.2.1" },
	{ STR_INIT("::FFFF:c000:201"), "192.0.2.1" },
	{ STR_INIT("0:0:0:0:0:ffff:192.0.2.1"), "192.0.2.1" },
	{ STR_INIT("2001:db8::1"), "2001:db8::1" },
	{ STR_INIT("2001:DB8:0:0:0:0:0:1"), "2001:db8::1" },
	{ STR_INIT("2001:db8:0:1:1:1:1:1"), "2001:db8:0:1:1:1:1:1" },
	{ STR_INIT("::"), "::" },
	{ STR_INIT("::1"), "::1" },
	{ STR_INIT("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
		"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
	{ STR_INIT("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"),
		"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
	{ STR_INIT(""), NULL },
	{ STR_INIT("1"), NULL },
	{ STR_INIT("1.2.3"), NULL },
	{ STR_INIT("1.2.3.4.5"), NULL },
	{ STR_INIT("1.2.3.256"), NULL },
	{ STR_INIT("01.2.3.4"), NULL },
	{ STR_INIT("1.2.3.004"), NULL },
	{ STR_INIT("0x7f.0.0.1"), NULL },
	{ STR_INIT("1.2.3.4 "), NULL },
	{ STR_INIT(" 1.2.3.4"), NULL },
	{ STR_INIT("1.2.3.4\0"), NULL },
	{ STR_INIT("1.2.3.4\0x"), NULL },
	{ STR_INIT("::1\0"), NULL },
	{ STR_INIT("::1%lo"), NULL },
	{ STR_INIT("[::1]"), NULL },
	{ STR_INIT("1::2::3"), NULL },
	{ STR_INIT(":::"), NULL },
	{ STR_INIT("12345::"), NULL },
	{ STR_INIT("1:2:3:4:5:6:7:8:9"), NULL },
	{ STR_INIT("::ffff:1.2.3"), NULL },
	{ STR_INIT("localhost"), NULL },
	{ STR_INIT("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255x"), NULL },
	{ STR_INIT("0000000000000000000000000000000000000000000000000001::"), NULL },
};

static void parses_and_prints_addresses(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(addresses); i++) {
		struct ipaddr ip = { { 42 } };
		char text[IPADDR_TEXT_MAX];
		bool valid = ipaddr_parse(guard_put(&guard, addresses[i].text), &ip);

		assert_int_equal(valid, addresses[i].printed != NULL);
		if (!valid) {
			assert_int_equal(ip.bytes[0], 42);
			continue;
		}
		assert_ptr_equal(ipaddr_print(&ip, text), text);
		assert_string_equal(text, addresses[i].printed);
	}
}

static void mapped_is_the_same_address(void **state)
{
	static const uint8_t v4[4] = { 192, 0, 2, 1 };
	static const uint8_t v6[16] = { [10] = 0xff, 0xff, 192, 0, 2, 1 };
	struct ipaddr a = ipaddr_from_v4(v4), b = ipaddr_from_v6(v6), c = ip_of("192.0.2.1");
	struct ipaddr compatible = ip_of("::192.0.2.1");

	(void)state;
	assert_true(ipaddr_eq(&a, &b));
	assert_true(ipaddr_eq(&a, &c));
	assert_true(ipaddr_is_v4(&b));
	assert_false(ipaddr_is_v4(&compatible));
	assert_false(ipaddr_eq(&a, &compatible));
}

/* Random addresses of both families, printed and read back. */
static void parse_undoes_print(void **state)
{
	(void)state;
	srandom(3);
	for (int round = 0; round < 20000; round++) {
		struct ipaddr ip, back;
		uint8_t bytes[16];
		char text[IPADDR_TEXT_MAX];

		for (int i = 0; i < 16; i++)
			bytes[i] = (uint8_t)(random() % 3 ? random() : 0);
		ip = round % 2 ? ipaddr_from_v4(bytes) : ipaddr_from_v6(bytes);
		assert_true(ipaddr_parse(str_from(ipaddr_print(&ip, text)), &back));
		assert_true(ipaddr_eq(&ip, &back));
	}
}

enum { LOCAL = 1, PRIVATE = 2, UNSPECIFIED = 4, MULTICAST = 8, BROADCAST = 16 };

/* Both sides of each border. */
static const struct {
	const char *text;
	int kinds;
} kinds[] = {
	{ "0.0.0.0", UNSPECIFIED | PRIVATE },
	{ "::", UNSPECIFIED | PRIVATE },
	{ "0.0.0.1", 0 },
	{ "::1", LOCAL | PRIVATE },
	{ "::2", 0 },
	{ "126.255.255.255", 0 },
	{ "127.0.0.0", LOCAL | PRIVATE },
	{ "127.255.255.255", LOCAL | PRIVATE },
	{ "::ffff:127.0.0.1", LOCAL | PRIVATE },
	{ "::127.0.0.1", 0 },
	{ "128.0.0.0", 0 },
	{ "169.253.255.255", 0 },
	{ "169.254.0.0", LOCAL | PRIVATE },
	{ "169.254.255.255", LOCAL | PRIVATE },
	{ "169.255.0.0", 0 },
	{ "fe7f:ffff::", 0 },
	{ "fe80::", LOCAL | PRIVATE },
	{ "febf:ffff::1", LOCAL | PRIVATE },
	{ "fec0::", 0 },
	{ "9.255.255.255", 0 },
	{ "10.0.0.0", PRIVATE },
	{ "10.255.255.255", PRIVATE },
	{ "11.0.0.0", 0 },
	{ "172.15.255.255", 0 },
	{ "172.16.0.0", PRIVATE },
	{ "172.31.255.255", PRIVATE },
	{ "172.32.0.0", 0 },
	{ "192.167.255.255", 0 },
	{ "192.168.0.0", PRIVATE },
	{ "192.168.255.255", PRIVATE },
	{ "192.169.0.0", 0 },
	{ "100.63.255.255", 0 },
	{ "100.64.0.0", PRIVATE },
	{ "100.127.255.255", PRIVATE },
	{ "100.128.0.0", 0 },
	{ "fbff:ffff::", 0 },
	{ "fc00::", PRIVATE },
	{ "fdff:ffff:ffff::1", PRIVATE },
	{ "fe00::", 0 },
	{ "192.0.2.1", 0 },
	{ "198.51.100.1", 0 },
	{ "203.0.113.1", 0 },
	{ "2001:db8::1", 0 },
	{ "223.255.255.255", 0 },
	{ "224.0.0.0", MULTICAST },
	{ "239.255.255.255", MULTICAST },
	{ "240.0.0.0", 0 },
	{ "255.255.255.254", 0 },
	{ "255.255.255.255", BROADCAST },
	{ "feff::", 0 },
	{ "ff00::", MULTICAST },
	{ "ff02::1", MULTICAST },
};

static void knows_what_addresses_are_for(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(kinds); i++) {
		struct ipaddr ip = ip_of(kinds[i].text);
		int got = (ipaddr_is_local(&ip) ? LOCAL : 0) |
			  (ipaddr_is_private(&ip) ? PRIVATE : 0) |
			  (ipaddr_is_unspecified(&ip) ? UNSPECIFIED : 0) |
			  (ipaddr_is_multicast(&ip) ? MULTICAST : 0) |
			  (ipaddr_is_broadcast(&ip) ? BROADCAST : 0);

		if (got != kinds[i].kinds)
			fail_msg("%s: %d instead of %d", kinds[i].text, got, kinds[i].kinds);
	}
}

/* ---- Endpoints ----------------------------------------------------------------------------- */

static const struct {
	struct str text;
	const char *printed;
} endpoints[] = {
	{ STR_INIT("192.0.2.1:25"), "192.0.2.1:25" },
	{ STR_INIT("0.0.0.0:0"), "0.0.0.0:0" },
	{ STR_INIT("192.0.2.1:65535"), "192.0.2.1:65535" },
	{ STR_INIT("[2001:db8::1]:25"), "[2001:db8::1]:25" },
	{ STR_INIT("[::]:25"), "[::]:25" },
	{ STR_INIT("[::ffff:192.0.2.1]:25"), "192.0.2.1:25" },
	{ STR_INIT("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
		"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535" },
	{ STR_INIT(""), NULL },
	{ STR_INIT(":"), NULL },
	{ STR_INIT(":25"), NULL },
	{ STR_INIT("192.0.2.1"), NULL },
	{ STR_INIT("192.0.2.1:"), NULL },
	{ STR_INIT("192.0.2.1:65536"), NULL },
	{ STR_INIT("192.0.2.1:025"), NULL },
	{ STR_INIT("192.0.2.1:+25"), NULL },
	{ STR_INIT("192.0.2.1: 25"), NULL },
	{ STR_INIT("192.0.2.1:25\0"), NULL },
	{ STR_INIT("192.0.2.1 :25"), NULL },
	{ STR_INIT("2001:db8::1:25"), NULL },
	{ STR_INIT("::1"), NULL },
	{ STR_INIT("[::1]"), NULL },
	{ STR_INIT("[::1]25"), NULL },
	{ STR_INIT("[::1:25"), NULL },
	{ STR_INIT("::1]:25"), NULL },
	{ STR_INIT("[]:25"), NULL },
	{ STR_INIT("[:25"), NULL },
	{ STR_INIT("[192.0.2.1]:25"), NULL },
	{ STR_INIT("[[::1]]:25"), NULL },
	{ STR_INIT("[::1%lo]:25"), NULL },
	{ STR_INIT("localhost:25"), NULL },
};

static void parses_and_prints_endpoints(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(endpoints); i++) {
		struct endpoint endpoint = { .port = 4711 };
		char text[ENDPOINT_TEXT_MAX];
		bool valid = endpoint_parse(guard_put(&guard, endpoints[i].text), &endpoint);

		assert_int_equal(valid, endpoints[i].printed != NULL);
		if (!valid) {
			assert_int_equal(endpoint.port, 4711);
			continue;
		}
		assert_ptr_equal(endpoint_print(&endpoint, text), text);
		assert_string_equal(text, endpoints[i].printed);
	}
}

static void converts_to_and_from_socket_addresses(void **state)
{
	static const struct {
		const char *text;
		int family;
		socklen_t size;
	} vectors[] = {
		{ "192.0.2.1:25", AF_INET, sizeof(struct sockaddr_in) },
		{ "[::ffff:192.0.2.1]:465", AF_INET, sizeof(struct sockaddr_in) },
		{ "[2001:db8::1]:25", AF_INET6, sizeof(struct sockaddr_in6) },
		{ "[::]:65535", AF_INET6, sizeof(struct sockaddr_in6) },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(vectors); i++) {
		struct endpoint endpoint, back;
		struct sockaddr_storage sa;

		assert_true(endpoint_parse(str_from(vectors[i].text), &endpoint));
		assert_int_equal(endpoint_to_sockaddr(&endpoint, &sa), vectors[i].size);
		assert_int_equal(sa.ss_family, vectors[i].family);
		assert_true(endpoint_from_sockaddr((struct sockaddr *)&sa, &back));
		assert_true(ipaddr_eq(&endpoint.ip, &back.ip));
		assert_int_equal(endpoint.port, back.port);
	}
}

static void reads_socket_addresses_of_the_kernel(void **state)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(2525) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(25) };
	struct sockaddr other = { .sa_family = AF_UNIX };
	struct endpoint endpoint;
	char text[ENDPOINT_TEXT_MAX];

	(void)state;
	inet_pton(AF_INET, "198.51.100.7", &in.sin_addr);
	assert_true(endpoint_from_sockaddr((struct sockaddr *)&in, &endpoint));
	assert_string_equal(endpoint_print(&endpoint, text), "198.51.100.7:2525");
	inet_pton(AF_INET6, "::ffff:198.51.100.7", &in6.sin6_addr);
	assert_true(endpoint_from_sockaddr((struct sockaddr *)&in6, &endpoint));
	assert_string_equal(endpoint_print(&endpoint, text), "198.51.100.7:25");
	assert_false(endpoint_from_sockaddr(&other, &endpoint));
}

/* ---- Networks ------------------------------------------------------------------------------ */

static const struct {
	struct str text;
	const char *printed;
} nets[] = {
	{ STR_INIT("10.0.0.0/8"), "10.0.0.0/8" },
	{ STR_INIT("0.0.0.0/0"), "0.0.0.0/0" },
	{ STR_INIT("192.0.2.1/32"), "192.0.2.1/32" },
	{ STR_INIT("192.0.2.1"), "192.0.2.1/32" },
	{ STR_INIT("192.0.2.128/25"), "192.0.2.128/25" },
	{ STR_INIT("::/0"), "::/0" },
	{ STR_INIT("2001:db8::/32"), "2001:db8::/32" },
	{ STR_INIT("2001:db8::1"), "2001:db8::1/128" },
	{ STR_INIT("fe80::/10"), "fe80::/10" },
	{ STR_INIT("::ffff:10.0.0.0/104"), "10.0.0.0/8" },
	{ STR_INIT("::ffff:0:0/96"), "0.0.0.0/0" },
	{ STR_INIT("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"),
		"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128" },
	{ STR_INIT(""), NULL },
	{ STR_INIT("/8"), NULL },
	{ STR_INIT("10.0.0.0/"), NULL },
	{ STR_INIT("10.0.0.0/33"), NULL },
	{ STR_INIT("10.0.0.0/08"), NULL },
	{ STR_INIT("10.0.0.0/-1"), NULL },
	{ STR_INIT("10.0.0.0/8/8"), NULL },
	{ STR_INIT("10.0.0.0/8 "), NULL },
	{ STR_INIT("10.0.0.0/255.0.0.0"), NULL },
	{ STR_INIT("10.0.0.1/8"), NULL },
	{ STR_INIT("10.128.0.0/8"), NULL },
	{ STR_INIT("0.0.0.1/0"), NULL },
	{ STR_INIT("10/8"), NULL },
	{ STR_INIT("2001:db8::1/32"), NULL },
	{ STR_INIT("2001:db8::/129"), NULL },
	{ STR_INIT("::ffff:10.0.0.0/8"), NULL },
	{ STR_INIT("::ffff:0:0/95"), NULL },
	{ STR_INIT("[2001:db8::]/32"), NULL },
};

static void parses_and_prints_networks(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(nets); i++) {
		struct ipnet net = { .prefix = 77 };
		char text[IPNET_TEXT_MAX];
		bool valid = ipnet_parse(guard_put(&guard, nets[i].text), &net);

		assert_int_equal(valid, nets[i].printed != NULL);
		if (!valid) {
			assert_int_equal(net.prefix, 77);
			continue;
		}
		assert_ptr_equal(ipnet_print(&net, text), text);
		assert_string_equal(text, nets[i].printed);
	}
}

static const struct {
	const char *net, *ip;
	bool contains;
} members[] = {
	{ "10.0.0.0/8", "10.0.0.0", true },
	{ "10.0.0.0/8", "10.255.255.255", true },
	{ "10.0.0.0/8", "::ffff:10.1.2.3", true },
	{ "10.0.0.0/8", "11.0.0.0", false },
	{ "10.0.0.0/8", "9.255.255.255", false },
	{ "192.0.2.128/25", "192.0.2.127", false },
	{ "192.0.2.128/25", "192.0.2.128", true },
	{ "192.0.2.4/30", "192.0.2.7", true },
	{ "192.0.2.4/30", "192.0.2.8", false },
	{ "192.0.2.1/32", "192.0.2.1", true },
	{ "192.0.2.1/32", "192.0.2.0", false },
	{ "0.0.0.0/0", "255.255.255.255", true },
	{ "0.0.0.0/0", "::1", false },
	{ "0.0.0.0/0", "::", false },
	{ "::/0", "2001:db8::1", true },
	{ "::/0", "::", true },
	/* One family's network never holds the other's addresses. */
	{ "::/0", "192.0.2.1", false },
	{ "::/64", "192.0.2.1", false },
	{ "::ffff:0:0/96", "192.0.2.1", true },
	{ "2001:db8::/32", "2001:db8:ffff::1", true },
	{ "2001:db8::/32", "2001:db9::", false },
	{ "2001:db8::/33", "2001:db8:8000::", false },
};

static void networks_contain(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(members); i++) {
		struct ipnet net = net_of(members[i].net);
		struct ipaddr ip = ip_of(members[i].ip);

		if (ipnet_contains(&net, &ip) != members[i].contains)
			fail_msg("%s and %s", members[i].net, members[i].ip);
	}
}

/* Bit by bit, as a second way to say what a prefix means. */
static bool contains_slowly(const struct ipnet *net, const struct ipaddr *ip)
{
	for (unsigned bit = 0; bit < net->prefix; bit++) {
		uint8_t mask = (uint8_t)(0x80 >> bit % 8);

		if ((net->ip.bytes[bit / 8] & mask) != (ip->bytes[bit / 8] & mask))
			return false;
	}
	return true;
}

static void every_prefix_means_its_bits(void **state)
{
	struct ipaddr ip = ip_of("fd5a:a5c3:3c96:6955:aa0f:f0e1:1e78:8742");

	(void)state;
	for (unsigned prefix = 0; prefix <= 128; prefix++) {
		struct ipnet net = { .ip = ip, .prefix = (uint8_t)prefix };

		for (unsigned bit = prefix; bit < 128; bit++)
			net.ip.bytes[bit / 8] &= (uint8_t) ~(0x80 >> bit % 8);
		for (unsigned bit = 0; bit < 128; bit++) {
			struct ipaddr other = ip;

			other.bytes[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
			assert_int_equal(
				ipnet_contains(&net, &other), contains_slowly(&net, &other));
			assert_int_equal(ipnet_contains(&net, &other), bit >= prefix);
		}
	}
}

static void networks_overlap(void **state)
{
	static const struct {
		const char *a, *b;
		bool overlap;
	} vectors[] = {
		{ "10.0.0.0/8", "10.1.0.0/16", true },
		{ "10.0.0.0/8", "10.0.0.0/8", true },
		{ "10.0.0.0/9", "10.128.0.0/9", false },
		{ "0.0.0.0/0", "192.0.2.1", true },
		{ "0.0.0.0/0", "::/0", false },
		{ "::/0", "192.0.2.1", false },
		{ "::/0", "2001:db8::/32", true },
		{ "2001:db8::/32", "2001:db9::/32", false },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(vectors); i++) {
		struct ipnet a = net_of(vectors[i].a), b = net_of(vectors[i].b);

		assert_int_equal(ipnet_overlaps(&a, &b), vectors[i].overlap);
		assert_int_equal(ipnet_overlaps(&b, &a), vectors[i].overlap);
	}
}

static void lists_find_the_first(void **state)
{
	struct ipnet items[] = { net_of("192.0.2.0/25"), net_of("192.0.2.0/24"),
		net_of("2001:db8::/32") };
	struct ipnet_list list = { items, COUNT(items) }, none = { NULL, 0 };
	struct ipaddr ip = ip_of("192.0.2.1"), second = ip_of("192.0.2.200");
	struct ipaddr third = ip_of("2001:db8::1"), other = ip_of("192.0.3.1");

	(void)state;
	assert_ptr_equal(ipnet_list_find(&list, &ip), &items[0]);
	assert_ptr_equal(ipnet_list_find(&list, &second), &items[1]);
	assert_ptr_equal(ipnet_list_find(&list, &third), &items[2]);
	assert_null(ipnet_list_find(&list, &other));
	assert_null(ipnet_list_find(&none, &ip));
}

/* Every vector, cut at each position and ending at the guard page: what is still valid prints as
 * something that is read back as the same. */
static void cut_texts_are_handled(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(endpoints); i++)
		for (size_t n = 0; n <= endpoints[i].text.n; n++) {
			struct str part = guard_put(&guard, str_range(endpoints[i].text, 0, n));
			struct endpoint endpoint, back;
			char text[ENDPOINT_TEXT_MAX];

			if (!endpoint_parse(part, &endpoint))
				continue;
			endpoint_print(&endpoint, text);
			assert_true(endpoint_parse(str_from(text), &back));
			assert_int_equal(endpoint.port, back.port);
			assert_true(ipaddr_eq(&endpoint.ip, &back.ip));
		}
	for (size_t i = 0; i < COUNT(nets); i++)
		for (size_t n = 0; n <= nets[i].text.n; n++) {
			struct str part = guard_put(&guard, str_range(nets[i].text, 0, n));
			struct ipnet net, back;
			char text[IPNET_TEXT_MAX];

			if (!ipnet_parse(part, &net))
				continue;
			ipnet_print(&net, text);
			assert_true(ipnet_parse(str_from(text), &back));
			assert_int_equal(net.prefix, back.prefix);
			assert_true(ipaddr_eq(&net.ip, &back.ip));
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_and_prints_addresses),
		cmocka_unit_test(mapped_is_the_same_address),
		cmocka_unit_test(parse_undoes_print),
		cmocka_unit_test(knows_what_addresses_are_for),
		cmocka_unit_test(parses_and_prints_endpoints),
		cmocka_unit_test(converts_to_and_from_socket_addresses),
		cmocka_unit_test(reads_socket_addresses_of_the_kernel),
		cmocka_unit_test(parses_and_prints_networks),
		cmocka_unit_test(networks_contain),
		cmocka_unit_test(every_prefix_means_its_bits),
		cmocka_unit_test(networks_overlap),
		cmocka_unit_test(lists_find_the_first),
		cmocka_unit_test(cut_texts_are_handled),
	};

	return cmocka_run_group_tests(tests, make_guard, free_guard);
}
