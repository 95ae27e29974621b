#include "backend/address.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "support/guard.h"

#define LABEL "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz01"
#define DIGITS "123456789012345678901234567890"
#define PATH_100 "/" DIGITS DIGITS DIGITS "123456789"

static const struct {
	const char *text, *canonical; /* NULL: refused */
	enum address_kind kind;
	unsigned port;
	const char *part; /* host or path */
} rows[] = {
	{ "192.0.2.1:25", "192.0.2.1:25", ADDRESS_IP, 25, "" },
	{ "[::1]:25", "[::1]:25", ADDRESS_IP, 25, "" },
	{ "[2001:DB8:0:0::1]:2525", "[2001:db8::1]:2525", ADDRESS_IP, 2525, "" },
	{ "[::ffff:192.0.2.1]:25", "192.0.2.1:25", ADDRESS_IP, 25, "" },
	{ "mx.internal:25", "mx.internal:25", ADDRESS_NAME, 25, "mx.internal" },
	{ "MX.Example.COM:65535", "mx.example.com:65535", ADDRESS_NAME, 65535, "mx.example.com" },
	{ "localhost:1", "localhost:1", ADDRESS_NAME, 1, "localhost" },
	{ "mail_relay:25", "mail_relay:25", ADDRESS_NAME, 25, "mail_relay" },
	{ "b\xc3\xbc"
	  "cher.example:25",
		"xn--bcher-kva.example:25", ADDRESS_NAME, 25, "xn--bcher-kva.example" },
	{ "unix:/run/mta.sock", "unix:/run/mta.sock", ADDRESS_UNIX, 0, "/run/mta.sock" },
	{ "unix:/run/a b", "unix:/run/a b", ADDRESS_UNIX, 0, "/run/a b" },
	{ "unix:" PATH_100 "12345678", "unix:" PATH_100 "12345678", ADDRESS_UNIX, 0,
		PATH_100 "12345678" },
	{ "", NULL },
	{ ":", NULL },
	{ ":25", NULL },
	{ "mx", NULL },
	{ "mx:", NULL },
	{ "mx:0", NULL },
	{ "mx:025", NULL },
	{ "mx:65536", NULL },
	{ "mx:smtp", NULL },
	{ "mx:25 ", NULL },
	{ " mx:25", NULL },
	{ "mx :25", NULL },
	{ "mx:+25", NULL },
	{ ".mx:25", NULL },
	{ "mx.:25", NULL },
	{ "a..b:25", NULL },
	{ "-mx:25", NULL },
	{ "mx-:25", NULL },
	{ "a.-b:25", NULL },
	{ LABEL ":25", NULL },
	{ "192.0.2.300:25", NULL },
	{ "192.0.2:25", NULL },
	{ "1:25", NULL },
	{ "192.0.2.1", NULL },
	{ "192.0.2.1:", NULL },
	{ "::1:25", NULL },
	{ "[::1]", NULL },
	{ "[::1]25", NULL },
	{ "[mx]:25", NULL },
	{ "mx@a:25", NULL },
	{ "mx/a:25", NULL },
	{ "unix:", NULL },
	{ "unix:run/mta.sock", NULL },
	{ "unix:@abstract", NULL },
	{ "unix:/run/\nx", NULL },
	{ "unix:" PATH_100 "123456789", NULL },
};

static void test_addresses(void **state)
{
	struct guard guard = guard_make(256);
	struct backend_address address;
	struct err why;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct str text = guard_put(&guard, str_from(rows[i].text));
		bool is_read = backend_address_parse(text, &address, &why);
		if (is_read != (rows[i].canonical != NULL))
			fail_msg("\"%s\": %s", rows[i].text, is_read ? "read" : why.text);
		if (!is_read) {
			assert_memory_equal(why.text, "must be ", 8);
			continue;
		}
		assert_string_equal(address.text.p, rows[i].canonical);
		assert_int_equal(address.text.n, strlen(rows[i].canonical));
		assert_int_equal(address.kind, rows[i].kind);
		assert_int_equal(address.endpoint.port, rows[i].port);
		struct str part = address.kind == ADDRESS_UNIX ? address.path : address.host;
		assert_true(str_eq(part, str_from(rows[i].part)));
		backend_address_free(&address);
		assert_null(address.text.p);
	}
	guard_free(&guard);
}

/* Reads back to the same. */
static void test_printed(void **state)
{
	struct backend_address address;
	struct buf out;
	struct err why;

	(void)state;
	buf_init(&out, 256);
	assert_true(backend_address_parse(STR("MX.internal:25"), &address, &why));
	backend_address_print(&address, NULL, &out);
	assert_true(str_eq(buf_view(&out), STR("\"mx.internal:25\"")));
	backend_address_clear(&address, NULL);
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_printed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
