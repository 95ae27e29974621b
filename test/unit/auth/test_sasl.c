#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

#include "auth/auth.h"
#include "auth/sasl.h"
#include "support/guard.h"

#define ROOM 4096

/* Runs `look` with the message at the guard page: whole, and cut at each position. */
static void at_guard(struct str message, void (*look)(struct str cut))
{
	struct guard guard = guard_make(ROOM);

	for (size_t n = 0; n <= message.n; n++)
		look(guard_put(&guard, str_range(message, 0, n)));
	guard_free(&guard);
}

/* ---- Mechanisms ---- */

static void test_mechanisms(void **state)
{
	const char *words[] = { "PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS",
		"OAUTHBEARER", "XOAUTH2" };
	const struct str others[] = { STR_INIT(""), STR_INIT("PLAI"), STR_INIT("PLAINX"),
		STR_INIT("PLAIN\0"), STR_INIT("CRAM-MD5"), STR_INIT("SCRAM-SHA-1") };

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		assert_int_equal(auth_mechanism_find(str_from(words[i])), 1u << i);
		assert_true(str_eq(auth_mechanism_word(1u << i), str_from(words[i])));
	}
	assert_int_equal(auth_mechanism_find(STR("pLaIn")), AUTH_PLAIN);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_int_equal(auth_mechanism_find(others[i]), 0);
}

/* ---- PLAIN ---- */

#define X16 "xxxxxxxxxxxxxxxx"
#define X64 X16 X16 X16 X16
#define X255 X64 X64 X64 X16 X16 X16 "xxxxxxxxxxxxxxx"
#define X511 X255 X255 "x"

static const struct {
	struct str message;
	enum auth_result result;
	struct str name, password;
} plains[] = {
	{ STR_INIT("\0tim\0tanstaaftanstaaf"), AUTH_OK, STR_INIT("tim"),
		STR_INIT("tanstaaftanstaaf") },
	{ STR_INIT("tim\0tim\0secret"), AUTH_OK, STR_INIT("tim"), STR_INIT("secret") },
	{ STR_INIT("\0u\0p"), AUTH_OK, STR_INIT("u"), STR_INIT("p") },
	{ STR_INIT("\0j\xc3\xbcrgen\0stra\xc3\x9f"
		   "e"),
		AUTH_OK, STR_INIT("j\xc3\xbcrgen"),
		STR_INIT("stra\xc3\x9f"
			 "e") },
	{ STR_INIT("\0" X255 "\0" X511), AUTH_OK, STR_INIT(X255), STR_INIT(X511) },
	/* Nobody acts as somebody else. */
	{ STR_INIT("Ursel\0Kurt\0xipj3plmq"), AUTH_REFUSED },
	{ STR_INIT("TIM\0tim\0secret"), AUTH_REFUSED },
	{ STR_INIT("ti\0tim\0secret"), AUTH_REFUSED },
	/* Longer than anybody's. */
	{ STR_INIT("\0" X255 "x\0secret"), AUTH_REFUSED },
	{ STR_INIT("\0tim\0" X511 "x"), AUTH_REFUSED },
	/* Two NULs, neither more nor fewer. */
	{ STR_INIT(""), AUTH_MALFORMED },
	{ STR_INIT("\0"), AUTH_MALFORMED },
	{ STR_INIT("\0\0"), AUTH_MALFORMED },
	{ STR_INIT("\0\0\0"), AUTH_MALFORMED },
	{ STR_INIT("tim"), AUTH_MALFORMED },
	{ STR_INIT("\0tim"), AUTH_MALFORMED },
	{ STR_INIT("tim\0secret"), AUTH_MALFORMED },
	{ STR_INIT("\0tim\0"), AUTH_MALFORMED },
	{ STR_INIT("\0\0secret"), AUTH_MALFORMED },
	{ STR_INIT("tim\0\0secret"), AUTH_MALFORMED },
	{ STR_INIT("\0tim\0secret\0"), AUTH_MALFORMED },
	{ STR_INIT("authzid\0user\0pass\0extra"), AUTH_MALFORMED },
	{ STR_INIT("\0tim\0sec\0ret"), AUTH_MALFORMED },
	{ STR_INIT("\0\0tim\0secret"), AUTH_MALFORMED },
	/* UTF-8, everywhere. */
	{ STR_INIT("\xff\0tim\0secret"), AUTH_MALFORMED },
	{ STR_INIT("\0t\xc3m\0secret"), AUTH_MALFORMED },
	{ STR_INIT("\0tim\0secret\xc3"), AUTH_MALFORMED },
	{ STR_INIT("\0tim\0\xc0\x80"), AUTH_MALFORMED },
	{ STR_INIT("\0tim\0\xed\xa0\x80"), AUTH_MALFORMED },
};

static void test_plain(void **state)
{
	struct guard guard = guard_make(ROOM);

	(void)state;
	for (size_t i = 0; i < sizeof(plains) / sizeof(plains[0]); i++) {
		struct sasl_credentials credentials = { 0 };

		struct str message = guard_put(&guard, plains[i].message);
		assert_int_equal(sasl_plain_parse(message, &credentials), plains[i].result);
		assert_true(str_eq(credentials.name, plains[i].name));
		assert_true(str_eq(credentials.password, plains[i].password));
	}
	guard_free(&guard);
}

static void look_plain(struct str cut)
{
	struct sasl_credentials credentials = { 0 };

	if (sasl_plain_parse(cut, &credentials) != AUTH_OK)
		return;
	assert_true(credentials.password.p + credentials.password.n == cut.p + cut.n);
}

static void test_plain_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(plains) / sizeof(plains[0]); i++)
		at_guard(plains[i].message, look_plain);
}

/* ---- LOGIN ---- */

static void test_login(void **state)
{
	(void)state;
	assert_int_equal(sasl_login_check(STR("tim"), SASL_NAME_MAX), AUTH_OK);
	assert_int_equal(sasl_login_check(STR(X255), SASL_NAME_MAX), AUTH_OK);
	assert_int_equal(sasl_login_check(STR(X255 "x"), SASL_NAME_MAX), AUTH_REFUSED);
	assert_int_equal(sasl_login_check(STR(""), SASL_NAME_MAX), AUTH_MALFORMED);
	assert_int_equal(sasl_login_check(STR("t\0m"), SASL_NAME_MAX), AUTH_MALFORMED);
	assert_int_equal(sasl_login_check(STR("tim\0"), SASL_NAME_MAX), AUTH_MALFORMED);
	assert_int_equal(sasl_login_check(STR("\xe4"), SASL_NAME_MAX), AUTH_MALFORMED);
}

/* ---- GS2 ---- */

static const struct {
	struct str message;
	bool is_good;
	enum sasl_binding binding;
	struct str binding_name, authzid, rest;
} headers[] = {
	{ STR_INIT("n,,x"), true, SASL_BINDING_NONE, STR_INIT(""), STR_INIT(""), STR_INIT("x") },
	{ STR_INIT("y,,"), true, SASL_BINDING_UNUSED, STR_INIT(""), STR_INIT(""), STR_INIT("") },
	{ STR_INIT("n,a=tim,n=tim"), true, SASL_BINDING_NONE, STR_INIT(""), STR_INIT("tim"),
		STR_INIT("n=tim") },
	{ STR_INIT("p=tls-exporter,,n="), true, SASL_BINDING_USED, STR_INIT("tls-exporter"),
		STR_INIT(""), STR_INIT("n=") },
	{ STR_INIT("p=x.9,a=t=2Cm,,"), true, SASL_BINDING_USED, STR_INIT("x.9"), STR_INIT("t=2Cm"),
		STR_INIT(",") },
	{ STR_INIT("n,a=,"), true, SASL_BINDING_NONE, STR_INIT(""), STR_INIT(""), STR_INIT("") },
	{ STR_INIT(""), false },
	{ STR_INIT("n"), false },
	{ STR_INIT("n,"), false },
	{ STR_INIT("n,a=tim"), false },
	{ STR_INIT("N,,"), false },
	{ STR_INIT("nn,,"), false },
	{ STR_INIT(",,"), false },
	{ STR_INIT("p,,"), false },
	{ STR_INIT("p=,,"), false },
	{ STR_INIT("p=a b,,"), false },
	{ STR_INIT("y=tls-exporter,,"), false },
	{ STR_INIT("F,n,,"), false },
	{ STR_INIT("n,b=tim,"), false },
	{ STR_INIT("n,tim,"), false },
};

static void look_header(struct str cut)
{
	struct sasl_gs2 gs2;
	struct str rest = cut;

	if (!sasl_gs2_parse(&rest, &gs2))
		assert_true(rest.p == cut.p && rest.n == cut.n);
}

static void test_gs2(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		struct str rest = headers[i].message;
		struct sasl_gs2 gs2;

		at_guard(headers[i].message, look_header);
		assert_int_equal(sasl_gs2_parse(&rest, &gs2), headers[i].is_good);
		if (!headers[i].is_good)
			continue;
		assert_int_equal(gs2.binding, headers[i].binding);
		assert_true(str_eq(gs2.binding_name, headers[i].binding_name));
		assert_true(str_eq(gs2.authzid, headers[i].authzid));
		assert_true(str_eq(rest, headers[i].rest));
	}
}

static void test_names(void **state)
{
	const struct {
		struct str text, name; /* name: empty when it is none */
	} names[] = {
		{ STR_INIT("tim"), STR_INIT("tim") },
		{ STR_INIT("a=2Cb=3Dc"), STR_INIT("a,b=c") },
		{ STR_INIT("=3D2C"), STR_INIT("=2C") },
		{ STR_INIT("j\xc3\xbc"), STR_INIT("j\xc3\xbc") },
		{ STR_INIT(X255), STR_INIT(X255) },
		{ STR_INIT(X255 "x"), STR_INIT("") },
		{ STR_INIT(X255 "=2C"), STR_INIT("") },
		{ STR_INIT(""), STR_INIT("") },
		{ STR_INIT("a,b"), STR_INIT("") },
		{ STR_INIT("a="), STR_INIT("") },
		{ STR_INIT("a=2"), STR_INIT("") },
		{ STR_INIT("a=2c"), STR_INIT("") },
		{ STR_INIT("a=3d"), STR_INIT("") },
		{ STR_INIT("a=41"), STR_INIT("") },
		{ STR_INIT("a==3D"), STR_INIT("") },
		{ STR_INIT("a\0b"), STR_INIT("") },
		{ STR_INIT("\xe4"), STR_INIT("") },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct guard guard = guard_make(ROOM);
		char *out = guard.end - SASL_NAME_MAX;
		size_t n = 0;

		bool is_name = sasl_name_decode(names[i].text, out, &n);
		assert_int_equal(is_name, names[i].name.n > 0);
		if (is_name)
			assert_true(str_eq(str_make(out, n), names[i].name));
		guard_free(&guard);
	}
}

#define A "\x01"

static void test_tokens(void **state)
{
	static const struct {
		unsigned mechanism;
		struct str message;
		enum auth_result result;
		struct str name;
	} rows[] = {
		{ AUTH_XOAUTH2, STR_INIT("user=anna" A "auth=Bearer x" A A), AUTH_OK,
			STR_INIT("anna") },
		{ AUTH_XOAUTH2, STR_INIT("user=a=b,c" A "auth=Bearer x" A A), AUTH_OK,
			STR_INIT("a=b,c") },
		{ AUTH_XOAUTH2, STR_INIT(""), AUTH_MALFORMED, STR_INIT("") },
		{ AUTH_XOAUTH2, STR_INIT("user=" A "auth=Bearer x" A A), AUTH_MALFORMED,
			STR_INIT("") },
		{ AUTH_XOAUTH2, STR_INIT("user=anna"), AUTH_MALFORMED, STR_INIT("") },
		{ AUTH_XOAUTH2, STR_INIT("user=anna" A "auth=Bearer x"), AUTH_MALFORMED,
			STR_INIT("") },
		{ AUTH_XOAUTH2, STR_INIT("auth=Bearer x" A "user=anna" A A), AUTH_MALFORMED,
			STR_INIT("") },
		{ AUTH_XOAUTH2, STR_INIT("user=an\0na" A "auth=Bearer x" A A), AUTH_MALFORMED,
			STR_INIT("") },
		{ AUTH_XOAUTH2, STR_INIT("user=an\xff" A "auth=Bearer x" A A), AUTH_MALFORMED,
			STR_INIT("") },
		{ AUTH_OAUTHBEARER,
			STR_INIT("n,a=anna," A "host=h" A "port=25" A "auth=Bearer x" A A), AUTH_OK,
			STR_INIT("anna") },
		{ AUTH_OAUTHBEARER, STR_INIT("y,a=a=2Cb=3Dc," A "auth=Bearer x" A A), AUTH_OK,
			STR_INIT("a,b=c") },
		{ AUTH_OAUTHBEARER, STR_INIT("n,," A "auth=Bearer x" A A), AUTH_MALFORMED,
			STR_INIT("") },
		{ AUTH_OAUTHBEARER, STR_INIT("p=tls-exporter,a=anna," A "auth=Bearer x" A A),
			AUTH_MALFORMED, STR_INIT("") },
		{ AUTH_OAUTHBEARER, STR_INIT("n,a=an=na," A "auth=Bearer x" A A), AUTH_MALFORMED,
			STR_INIT("") },
		{ AUTH_OAUTHBEARER, STR_INIT("n,a=anna,auth=Bearer x" A A), AUTH_MALFORMED,
			STR_INIT("") },
		{ AUTH_OAUTHBEARER, STR_INIT("n,a=anna," A), AUTH_MALFORMED, STR_INIT("") },
		{ AUTH_OAUTHBEARER, STR_INIT("n,a=anna"), AUTH_MALFORMED, STR_INIT("") },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct guard guard = guard_make(256);
		char name[SASL_NAME_MAX];
		size_t n = 0;
		for (size_t cut = 0; cut <= rows[i].message.n; cut++) {
			struct str message = guard_put(&guard, str_range(rows[i].message, 0, cut));
			bool is_whole = cut == rows[i].message.n;
			enum auth_result result =
				sasl_token_name(rows[i].mechanism, message, name, &n);
			if (result != (is_whole ? rows[i].result : AUTH_MALFORMED))
				fail_msg("row %zu, cut at %zu: %d", i, cut, (int)result);
		}
		if (rows[i].result == AUTH_OK)
			assert_true(str_eq(str_make(name, n), rows[i].name));
		guard_free(&guard);
	}
}

static void test_tokens_with_long_names(void **state)
{
	(void)state;
	for (int more = 0; more < 2; more++) {
		char text[512], name[SASL_NAME_MAX];
		size_t n;
		int length = snprintf(text, sizeof(text), "user=%0*d" A "auth=Bearer x" A A,
			SASL_NAME_MAX + more, 7);
		assert_int_equal(
			sasl_token_name(AUTH_XOAUTH2, str_make(text, (size_t)length), name, &n),
			more ? AUTH_REFUSED : AUTH_OK);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mechanisms),
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_plain_cut),
		cmocka_unit_test(test_login),
		cmocka_unit_test(test_gs2),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_tokens_with_long_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
