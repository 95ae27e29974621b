#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

#include "../../../src/net/resolver_priv.h"
#include "support/guard.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- Names ----------------------------------------------------------------------------------- */

static void test_reverse_names(void **state)
{
	static const struct {
		const char *ip, *name;
	} cases[] = {
		{ "192.0.2.1", "1.2.0.192.in-addr.arpa" },
		{ "255.255.255.255", "255.255.255.255.in-addr.arpa" },
		{ "::ffff:10.0.0.9", "9.0.0.10.in-addr.arpa" },
		{ "2001:db8::567:89ab",
			"b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0"
			".2.ip6.arpa" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct ipaddr ip;
		char name[RESOLVER_REVERSE_NAME_MAX];

		assert_true(ipaddr_parse(str_from(cases[i].ip), &ip));
		resolver_reverse_name(&ip, name);
		assert_string_equal(name, cases[i].name);
		assert_true(resolver_is_host(str_from(name)));
	}
}

#define LABEL63 "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk"

static const struct {
	struct str name;
	bool is_host;
} host_cases[] = {
	{ STR_INIT("mail.example.org"), true },
	{ STR_INIT("MAIL-1.Example.ORG"), true },
	{ STR_INIT("localhost"), true },
	{ STR_INIT("_dmarc.example"), true },
	{ STR_INIT("1.2.3.example"), true },
	{ STR_INIT("xn--bcher-kva.example"), true },
	{ STR_INIT(LABEL63 ".org"), true },
	{ STR_INIT(LABEL63 "." LABEL63 "." LABEL63 "." LABEL63), false },
	{ STR_INIT(LABEL63 "x.org"), false },
	{ STR_INIT(""), false },
	{ STR_INIT("."), false },
	{ STR_INIT("example.org."), false },
	{ STR_INIT(".example.org"), false },
	{ STR_INIT("a..b"), false },
	{ STR_INIT("-a.org"), false },
	{ STR_INIT("a-.org"), false },
	{ STR_INIT("192.0.2.1"), false },
	{ STR_INIT("host.123"), false },
	{ STR_INIT("a b.org"), false },
	{ STR_INIT("a\\.b.org"), false },
	{ STR_INIT("a\r\nXCLIENT.org"), false },
	{ STR_INIT("a\0b.org"), false },
	{ STR_INIT("a\177.org"), false },
	{ STR_INIT("b\303\274cher.org"), false },
	{ STR_INIT("[192.0.2.1]"), false },
	{ STR_INIT("a=b.org"), false },
	{ STR_INIT("a+b.org"), false },
	{ STR_INIT("a(b).org"), false },
};

static void test_hosts(void **state)
{
	struct guard guard = guard_make(300);

	(void)state;
	for (size_t i = 0; i < COUNT(host_cases); i++)
		if (resolver_is_host(guard_put(&guard, host_cases[i].name)) !=
			host_cases[i].is_host)
			fail_msg("%.*s", STR_ARG(host_cases[i].name));
	guard_free(&guard);
}

static void test_query(void **state)
{
	unsigned char query[RESOLVER_QUERY_MAX];
	unsigned char other[RESOLVER_QUERY_MAX];
	static const char expected[] = "\1\0\0\1\0\0\0\0\0\0\4mail\7example\3org\0\0\34\0\1";
	unsigned differences = 0;

	(void)state;
	size_t n = resolver_query(STR("mail.example.org"), ns_t_aaaa, query);
	assert_int_equal(n, 2 + sizeof(expected) - 1);
	assert_memory_equal(query + 2, expected, sizeof(expected) - 1);
	for (int i = 0; i < 8; i++) {
		resolver_query(STR("mail.example.org"), ns_t_aaaa, other);
		differences += memcmp(query, other, 2) != 0;
	}
	assert_true(differences > 0); /* the id is random */
}

static void test_longest_query(void **state)
{
	unsigned char query[RESOLVER_QUERY_MAX];
	struct str name =
		STR(LABEL63 "." LABEL63 "." LABEL63
			    ".abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghi");

	(void)state;
	assert_int_equal(name.n, 253);
	assert_int_equal(resolver_query(name, ns_t_a, query), RESOLVER_QUERY_MAX);
}

/* ---- Answers --------------------------------------------------------------------------------- */

/* The bytes of messages. */
/* clang-format off */
#define HEADER(flags, answers) "\x12\x34" flags "\0\1\0" answers "\0\0\0\0" QUESTION
#define QUESTION "\1q\0\0\14\0\1"
#define ANSWERS(count) HEADER("\x81\x80", count)
#define RR(type, ttl, length) "\xc0\x0c\0" type "\0\1" ttl "\0" length
#define TTL_300 "\0\0\1\x2c"
#define TTL_20 "\0\0\0\x14"
#define PTR(length) RR("\14", TTL_300, length)
#define HOST "\4Mail\7example\3org\0"

static const struct {
	const char *name;
	struct str message;
	enum resolver_status status;
	const char *host;
	uint32_t ttl_s;
} name_cases[] = {
	{ "one",
		STR_INIT(ANSWERS("\1") PTR("\22") HOST),
		RESOLVER_OK, "mail.example.org", 300 },
	{ "compressed",
		STR_INIT(ANSWERS("\1") PTR("\7") "\4mail\xc0\x0c"),
		RESOLVER_OK, "mail.q", 300 },
	{ "the second is the first valid one",
		STR_INIT(ANSWERS("\2") RR("\14", TTL_20, "\6") "\4a\r\nb\0" PTR("\22") HOST),
		RESOLVER_OK, "mail.example.org", 20 },
	{ "behind a CNAME",
		STR_INIT(ANSWERS("\2") RR("\5", TTL_20, "\3") "\1x\0" PTR("\22") HOST),
		RESOLVER_OK, "mail.example.org", 20 },
	{ "TTL beyond 31 bits",
		STR_INIT(ANSWERS("\1") RR("\14", "\xff\xff\xff\xff", "\3") "\1x\0"),
		RESOLVER_OK, "x", 0 },
	{ "no records", STR_INIT(ANSWERS("\0")), RESOLVER_NONE },
	{ "NXDOMAIN", STR_INIT(HEADER("\x81\x83", "\0")), RESOLVER_NONE },
	{ "SERVFAIL", STR_INIT(HEADER("\x81\x82", "\0")), RESOLVER_ERROR },
	{ "REFUSED", STR_INIT(HEADER("\x81\x85", "\0")), RESOLVER_ERROR },
	{ "a query", STR_INIT(HEADER("\1\0", "\0")), RESOLVER_ERROR },
	{ "line ends", STR_INIT(ANSWERS("\1") PTR("\13") "\4a\r\nb\4q=x \0"), RESOLVER_NONE },
	{ "dot in a label", STR_INIT(ANSWERS("\1") PTR("\6") "\4a.bc\0"), RESOLVER_NONE },
	{ "NUL in a label", STR_INIT(ANSWERS("\1") PTR("\6") "\4ab\0c\0"), RESOLVER_NONE },
	{ "backslash", STR_INIT(ANSWERS("\1") PTR("\6") "\4a\\bc\0"), RESOLVER_NONE },
	{ "8-bit", STR_INIT(ANSWERS("\1") PTR("\6") "\4a\303\274b\0"), RESOLVER_NONE },
	{ "an address", STR_INIT(ANSWERS("\1") PTR("\11") "\1\61\1\62\1\63\1\64\0"), RESOLVER_NONE },
	{ "the root", STR_INIT(ANSWERS("\1") PTR("\1") "\0"), RESOLVER_NONE },
	{ "other class",
		STR_INIT(ANSWERS("\1") "\xc0\x0c\0\14\0\3" TTL_300 "\0\3\1x\0"), RESOLVER_NONE },
	{ "compression loop", STR_INIT(ANSWERS("\1") PTR("\2") "\xc0\x1f"), RESOLVER_ERROR },
	{ "pointer behind the end", STR_INIT(ANSWERS("\1") PTR("\2") "\xc0\xff"), RESOLVER_ERROR },
	{ "fewer records than said", STR_INIT(ANSWERS("\2") PTR("\22") HOST), RESOLVER_ERROR },
};

#define A(address) RR("\1", TTL_300, "\4") address
#define A4 A("\12\0\0\1") A("\12\0\0\2") A("\12\0\0\3") A("\12\0\0\4")

static const struct {
	const char *name;
	struct str message;
	const char *ip;
	enum resolver_status status;
} address_cases[] = {
	{ "equal", STR_INIT(ANSWERS("\1") A("\300\0\2\1")), "192.0.2.1", RESOLVER_OK },
	{ "other", STR_INIT(ANSWERS("\1") A("\300\0\2\2")), "192.0.2.1", RESOLVER_NONE },
	{ "none", STR_INIT(ANSWERS("\0")), "192.0.2.1", RESOLVER_NONE },
	{ "NXDOMAIN", STR_INIT(HEADER("\x81\x83", "\0")), "192.0.2.1", RESOLVER_NONE },
	{ "SERVFAIL", STR_INIT(HEADER("\x81\x82", "\0")), "192.0.2.1", RESOLVER_ERROR },
	{ "short record",
		STR_INIT(ANSWERS("\1") RR("\1", TTL_300, "\3") "\300\0\2"),
		"192.0.2.1", RESOLVER_NONE },
	{ "the sixteenth",
		STR_INIT(ANSWERS("\23") RR("\5", TTL_300, "\3") "\1x\0" A4 A4 A4
			A("\12\0\0\1") A("\12\0\0\1") A("\12\0\0\1") A("\300\0\2\1")
			A("\12\0\0\1") A("\12\0\0\1")),
		"192.0.2.1", RESOLVER_OK },
	{ "the seventeenth",
		STR_INIT(ANSWERS("\21") A4 A4 A4 A4 A("\300\0\2\1")), "192.0.2.1", RESOLVER_NONE },
	{ "IPv6",
		STR_INIT(ANSWERS("\1") RR("\34", TTL_300, "\20")
			"\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\1"),
		"2001:db8::1", RESOLVER_OK },
};
/* clang-format on */

static void test_names(void **state)
{
	struct guard guard = guard_make(512);

	(void)state;
	for (size_t i = 0; i < COUNT(name_cases); i++) {
		char host[RESOLVER_HOST_MAX] = "";
		uint32_t ttl_s = 0;
		struct str message = guard_put(&guard, name_cases[i].message);
		enum resolver_status status = resolver_read_name(message, host, &ttl_s);

		if (status != name_cases[i].status)
			fail_msg("%s: %s", name_cases[i].name, resolver_status_word(status));
		if (status != RESOLVER_OK)
			continue;
		assert_string_equal(host, name_cases[i].host);
		assert_int_equal(ttl_s, name_cases[i].ttl_s);
	}
	guard_free(&guard);
}

/* No message that is cut short says anything but that it is broken. */
static void test_cut_names(void **state)
{
	struct guard guard = guard_make(512);

	(void)state;
	for (size_t i = 0; i < COUNT(name_cases); i++) {
		for (size_t n = 0; n < name_cases[i].message.n; n++) {
			char host[RESOLVER_HOST_MAX];
			uint32_t ttl_s;
			struct str cut = str_range(name_cases[i].message, 0, n);
			enum resolver_status status =
				resolver_read_name(guard_put(&guard, cut), host, &ttl_s);
			if (status != RESOLVER_ERROR)
				fail_msg("%s, cut at %zu", name_cases[i].name, n);
		}
	}
	guard_free(&guard);
}

static void test_addresses(void **state)
{
	struct guard guard = guard_make(512);

	(void)state;
	for (size_t i = 0; i < COUNT(address_cases); i++) {
		struct ipaddr ip;
		uint32_t ttl_s = 0;
		struct str whole = address_cases[i].message;

		assert_true(ipaddr_parse(str_from(address_cases[i].ip), &ip));
		enum resolver_status status =
			resolver_read_address(guard_put(&guard, whole), &ip, &ttl_s);
		if (status != address_cases[i].status)
			fail_msg("%s: %s", address_cases[i].name, resolver_status_word(status));
		if (status == RESOLVER_OK)
			assert_int_equal(ttl_s, 300);
		for (size_t n = 0; n < whole.n; n++)
			assert_int_equal(
				resolver_read_address(
					guard_put(&guard, str_range(whole, 0, n)), &ip, &ttl_s),
				RESOLVER_ERROR);
	}
	guard_free(&guard);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reverse_names),
		cmocka_unit_test(test_hosts),
		cmocka_unit_test(test_query),
		cmocka_unit_test(test_longest_query),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_cut_names),
		cmocka_unit_test(test_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
