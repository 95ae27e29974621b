#include "proto/received.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/smtp_path.h"
#include "support/guard.h"

#define NAME63 "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffggg"
#define NAME255 NAME63 "." NAME63 "." NAME63 "." NAME63

static struct ipaddr ip(const char *text)
{
	struct ipaddr ip;

	assert_true(ipaddr_parse(str_from(text), &ip));
	return ip;
}

static struct received example(void)
{
	return (struct received){
		.hello = STR("client.example"),
		.host = STR("host.example"),
		.client = ip("192.0.2.1"),
		.hostname = STR("mx.example.com"),
		.id = STR("C5F7A7B0-0000-4000-8000-000000000001.1"),
		.recipient = STR("user@example.com"),
		.esmtp = true,
		.time = 1795338358,
	};
}

static void check(const struct received *received, const char *want)
{
	struct buf out;

	buf_init(&out, RECEIVED_MAX);
	received_print(received, &out);
	if (!str_eq(buf_view(&out), str_from(want)))
		fprintf(stderr, "%.*s\n", STR_ARG(buf_view(&out)));
	assert_true(str_eq(buf_view(&out), str_from(want)));
	buf_free(&out);
}

static void test_plain(void **state)
{
	struct received received = example();

	(void)state;
	check(&received, "Received: from client.example (host.example [192.0.2.1])\r\n"
			 "\tby mx.example.com (gatepost) with ESMTP"
			 " id C5F7A7B0-0000-4000-8000-000000000001.1\r\n"
			 "\tfor <user@example.com>; Sun, 22 Nov 2026 09:05:58 +0000\r\n");
}

static void test_all_clauses(void **state)
{
	struct received received = example();

	(void)state;
	received.hello = STR("[IPv6:2001:db8::1]");
	received.host = STR("");
	received.client = ip("2001:db8::1");
	received.tls_version = STR("TLSv1.3");
	received.tls_cipher = STR("TLS_AES_256_GCM_SHA384");
	received.authenticated = true;
	received.recipient = STR("");
	received.time = 0;
	check(&received, "Received: from [IPv6:2001:db8::1] (unknown [IPv6:2001:db8::1])\r\n"
			 "\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)\r\n"
			 "\tby mx.example.com (gatepost) with ESMTPSA"
			 " id C5F7A7B0-0000-4000-8000-000000000001.1;\r\n"
			 "\tThu, 1 Jan 1970 00:00:00 +0000\r\n");
	received.tls_offloaded = true;
	received.tls_cipher = STR("");
	received.hello = STR("x y)\r\nX: (\xff");
	check(&received, "Received: from unknown-helo (unknown [IPv6:2001:db8::1])\r\n"
			 "\t(it said x?y???X:??"
			 "?)\r\n"
			 "\t(using TLSv1.3 at balancer)\r\n"
			 "\tby mx.example.com (gatepost) with ESMTPSA"
			 " id C5F7A7B0-0000-4000-8000-000000000001.1;\r\n"
			 "\tThu, 1 Jan 1970 00:00:00 +0000\r\n");
}

static void print(const struct received *received, struct buf *out)
{
	buf_init(out, RECEIVED_MAX);
	received_print(received, out);
}

static bool contains(struct str s, struct str what)
{
	for (size_t i = 0; i + what.n <= s.n; i++)
		if (str_eq(str_range(s, i, i + what.n), what))
			return true;
	return false;
}

static void test_with_words(void **state)
{
	static const struct {
		bool esmtp, tls, authenticated, smtputf8;
		struct str word;
	} cases[] = {
		{ false, false, false, false, STR_INIT(" with SMTP id ") },
		{ false, true, false, false, STR_INIT(" with SMTP id ") },
		{ true, false, false, false, STR_INIT(" with ESMTP id ") },
		{ true, true, false, false, STR_INIT(" with ESMTPS id ") },
		{ true, false, true, false, STR_INIT(" with ESMTPA id ") },
		{ true, true, true, false, STR_INIT(" with ESMTPSA id ") },
		{ true, false, false, true, STR_INIT(" with UTF8SMTP id ") },
		{ true, true, false, true, STR_INIT(" with UTF8SMTPS id ") },
		{ true, false, true, true, STR_INIT(" with UTF8SMTPA id ") },
		{ true, true, true, true, STR_INIT(" with UTF8SMTPSA id ") },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct received received = example();
		struct buf out;
		received.esmtp = cases[i].esmtp;
		received.tls_version = cases[i].tls ? STR("TLSv1.2") : STR("");
		received.authenticated = cases[i].authenticated;
		received.smtputf8 = cases[i].smtputf8;
		print(&received, &out);
		assert_true(contains(buf_view(&out), cases[i].word));
		buf_free(&out);
	}
}

static void test_recipients(void **state)
{
	static const struct {
		struct str recipient;
		bool smtputf8, is_shown;
	} cases[] = {
		{ STR_INIT("a@b"), false, true },
		{ STR_INIT("Postmaster"), false, true },
		{ STR_INIT("a@[IPv6:2001:db8::1]"), false, true },
		{ STR_INIT("\"a b\"@c"), false, false },
		{ STR_INIT("a>\r\nX: y@c"), false, false },
		{ STR_INIT("a;b@c"), false, false },
		{ STR_INIT("a(b@c"), false, false },
		{ STR_INIT("a\0@c"), false, false },
		{ STR_INIT("a\x7f@c"), false, false },
		{ STR_INIT("\xc3\xbc@c"), true, true },
		{ STR_INIT("\xc3\xbc@c"), false, false },
		{ STR_INIT("\xc3@c"), true, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct received received = example();
		struct buf out;
		received.recipient = cases[i].recipient;
		received.smtputf8 = cases[i].smtputf8;
		print(&received, &out);
		assert_int_equal(contains(buf_view(&out), STR("\tfor <")), cases[i].is_shown);
		assert_int_equal(contains(buf_view(&out), cases[i].recipient), cases[i].is_shown);
		buf_free(&out);
	}
}

static void test_dates(void **state)
{
	static const struct {
		time_t time;
		struct str date;
	} cases[] = {
		{ 951782400, STR_INIT("Tue, 29 Feb 2000 00:00:00 +0000\r\n") },
		{ 2147483648, STR_INIT("Tue, 19 Jan 2038 03:14:08 +0000\r\n") },
		{ 253402300799, STR_INIT("Fri, 31 Dec 9999 23:59:59 +0000\r\n") },
		{ 253402300800, STR_INIT("Thu, 1 Jan 1970 00:00:00 +0000\r\n") },
		{ -1, STR_INIT("Thu, 1 Jan 1970 00:00:00 +0000\r\n") },
		{ INT64_MAX, STR_INIT("Thu, 1 Jan 1970 00:00:00 +0000\r\n") },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct received received = example();
		struct buf out;
		received.time = cases[i].time;
		print(&received, &out);
		assert_true(str_ends_with_nocase(buf_view(&out), cases[i].date));
		buf_free(&out);
	}
}

/* One field: "Received: ", then lines that all begin with a tab, none too long. */
static void assert_one_field(struct str field)
{
	bool is_first = true;

	assert_in_range(field.n, 1, RECEIVED_MAX);
	while (field.n > 0) {
		struct str line = str_cut(&field, '\n');
		assert_in_range(line.n, 2, 998);
		assert_int_equal(line.p[line.n - 1], '\r');
		assert_true(str_starts_with(line, is_first ? STR("Received: from ") : STR("\t")));
		for (size_t i = 1; i + 1 < line.n; i++)
			assert_false(ascii_is_control(line.p[i]));
		is_first = false;
	}
}

/* Every text of the struct in turn, with every byte in it. */
static void test_any_byte_anywhere(void **state)
{
	(void)state;
	for (int c = 0; c < 256; c++) {
		char text[] = "ab?cd\r\nX: y";
		text[2] = (char)c;
		for (int field = 0; field < 7; field++) {
			struct received received = example();
			struct str *const fields[] = { &received.hello, &received.host,
				&received.hostname, &received.id, &received.recipient,
				&received.tls_version, &received.tls_cipher };
			struct buf out;
			received.tls_version = STR("TLSv1.3");
			received.smtputf8 = true;
			*fields[field] = str_make(text, c % 2 ? 5 : sizeof(text) - 1);
			print(&received, &out);
			assert_one_field(buf_view(&out));
			buf_free(&out);
		}
	}
}

/* The longest of everything fits into RECEIVED_MAX, and what has no bound of its own is cut. */
static void test_longest(void **state)
{
	static char bytes[10000];
	struct received received = example();
	struct buf out;

	(void)state;
	memset(bytes, 'x', sizeof(bytes));
	received.hello = received.host = received.hostname = STR(NAME255);
	received.client = ip("2001:db8:1111:2222:3333:4444:5555:6666");
	received.id = received.tls_version = received.tls_cipher = str_make(bytes, sizeof(bytes));
	received.recipient = str_make(bytes, SMTP_PATH_MAX - 2);
	received.tls_offloaded = received.authenticated = true;
	print(&received, &out);
	assert_one_field(buf_view(&out));
	assert_true(contains(buf_view(&out), STR(NAME255)));
	buf_free(&out);
	received.hello = received.host = received.hostname = received.recipient =
		str_make(bytes, sizeof(bytes));
	print(&received, &out);
	assert_one_field(buf_view(&out));
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_all_clauses),
		cmocka_unit_test(test_with_words),
		cmocka_unit_test(test_recipients),
		cmocka_unit_test(test_dates),
		cmocka_unit_test(test_any_byte_anywhere),
		cmocka_unit_test(test_longest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
