#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

#include "auth/password.h"
#include "auth/sasl.h"
#include "support/guard.h"

/* All of "geheim"; made by crypt(3) with fixed salts, and by Python's hashlib. */
static const struct {
	struct str hash;
	enum password_method method;
	struct str parameters;
} hashes[] = {
	{ STR_INIT("$y$j75$saltsaltsaltsalt$CxOuvnYwwvilQD8GapWZJgCb5ioIdZEV.HBFjYVHC3A"),
		PASSWORD_YESCRYPT, STR_INIT("j75") },
	{ STR_INIT("$y$j9T$saltsaltsaltsalt$FXf6870Ftvz3f08xRASTfUhIf9i3BM0ZmAd6nQL.ET2"),
		PASSWORD_YESCRYPT, STR_INIT("j9T") },
	{ STR_INIT("$2b$04$saltsaltsaltsaltsaltse0lRRfppzNCAGvc140pTHijoqQ96dfCa"), PASSWORD_BCRYPT,
		STR_INIT("04") },
	{ STR_INIT("$2y$04$saltsaltsaltsaltsaltse0lRRfppzNCAGvc140pTHijoqQ96dfCa"), PASSWORD_BCRYPT,
		STR_INIT("04") },
	{ STR_INIT("$6$saltsalt$sfZR6YSW/"
		   "Dp0uCiyF9fDipa6ORr5LVLOwXNgtzRlXXhkC7xA3w4zy97VIC3vL14AUXGJp3y"
		   "BjZVztkdiBzJnX1"),
		PASSWORD_SHA512, STR_INIT("") },
	{ STR_INIT("$6$rounds=1000$saltsalt$vqVEzhF1x7x2p0VCWCzOM1GGIpJ62KqdREyqdHXfkzvqLwi."
		   "vIVwX0AcTW9cDubiR4wA.zOlJTle4lioqe99c1"),
		PASSWORD_SHA512, STR_INIT("rounds=1000") },
	{ STR_INIT("{SCRAM-SHA-256}4096,MDEyMzQ1Njc4OWFiY2RlZg==,/9srkpCZFdtWLXRAADOKgRnMQpl58Wp"
		   "EivSExJTOesY=,0mIFhPwAtOwAvLSfKJk8lK+/BvPftYQ7ttxlepTn8Yc="),
		PASSWORD_SCRAM, STR_INIT("4096") },
	{ STR_INIT("SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$/9srkpCZFdtWLXRAADOKgRnMQpl58Wp"
		   "EivSExJTOesY=:0mIFhPwAtOwAvLSfKJk8lK+/BvPftYQ7ttxlepTn8Yc="),
		PASSWORD_SCRAM, STR_INIT("4096") },
};

#define COUNT (sizeof(hashes) / sizeof(hashes[0]))

static void test_matches(void **state)
{
	struct guard guard = guard_make(1024);

	(void)state;
	for (size_t i = 0; i < COUNT; i++) {
		struct str hash = guard_put(&guard, hashes[i].hash);
		assert_true(password_matches(hash, STR("geheim")));
		assert_false(password_matches(hash, STR("geheiM")));
		assert_false(password_matches(hash, STR("geheim ")));
		assert_false(password_matches(hash, STR("")));
	}
	guard_free(&guard);
}

static void test_look(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT; i++) {
		struct password_cost cost;
		struct err err;

		assert_int_equal(password_hash_look(hashes[i].hash, &cost, &err), 0);
		assert_int_equal(cost.method, hashes[i].method);
		assert_true(str_eq(cost.parameters, hashes[i].parameters));
	}
}

/* A line that was cut anywhere, or has something behind it, is a mistake and not a hash that
 * nobody's password has. */
static void test_look_cut(void **state)
{
	struct guard guard = guard_make(1024);

	(void)state;
	for (size_t i = 0; i < COUNT; i++) {
		struct password_cost cost;
		struct err err;
		char longer[512];

		for (size_t n = 0; n < hashes[i].hash.n; n++) {
			struct str cut = guard_put(&guard, str_range(hashes[i].hash, 0, n));
			assert_int_equal(password_hash_look(cut, &cost, &err), -1);
			assert_false(password_matches(cut, STR("geheim")));
		}
		for (size_t j = 0; j < 3; j++) {
			memcpy(longer, hashes[i].hash.p, hashes[i].hash.n);
			longer[hashes[i].hash.n] = "\r :"[j];
			struct str text = str_make(longer, hashes[i].hash.n + 1);
			assert_int_equal(password_hash_look(text, &cost, &err), -1);
		}
	}
	guard_free(&guard);
}

static void test_look_others(void **state)
{
	const char *others[] = { "", "geheim", "x", "$", "$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/",
		"$5$saltsalt$xEYyCWUGyTJFwi9iTjx9cyMGjnP8dCrGZTrAWeSqdx1", "sZZ1HvbVlvdjA",
		"$argon2id$v=19$m=65536,t=3,p=1$c2FsdHNhbHQ$abc",
		"{SHA}Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "{PLAIN}geheim",
		"$2b$99$saltsaltsaltsaltsaltse0lRRfppzNCAGvc140pTHijoqQ96dfCa",
		"$2b$03$saltsaltsaltsaltsaltse0lRRfppzNCAGvc140pTHijoqQ96dfCa",
		"$2b$4$saltsaltsaltsaltsaltse0lRRfppzNCAGvc140pTHijoqQ96dfCa",
		"$2b$saltsaltsaltsaltsaltse0lRRfppzNCAGvc140pTHijoqQ96dfCa",
		"$2b$04$x$saltsaltsaltsaltsaltse0lRRfppzNCAGvc140pTHijoqQ96dfCa",
		"$y$saltsaltsaltsalt$CxOuvnYwwvilQD8GapWZJgCb5ioIdZEV.HBFjYVHC3A",
		"$y$$saltsaltsaltsalt$CxOuvnYwwvilQD8GapWZJgCb5ioIdZEV.HBFjYVHC3A",
		"$y$j75$salt!altsaltsalt$CxOuvnYwwvilQD8GapWZJgCb5ioIdZEV.HBFjYVHC3A",
		"$y$j75$x$saltsaltsaltsalt$CxOuvnYwwvilQD8GapWZJgCb5ioIdZEV.HBFjYVHC3A",
		"$6$rounds=999$saltsalt$vqVEzhF1x7x2p0VCWCzOM1GGIpJ62KqdREyqdHXfkzvqLwi."
		"vIVwX0AcTW9cDubiR4wA.zOlJTle4lioqe99c1",
		"$6$rounds=x$saltsalt$vqVEzhF1x7x2p0VCWCzOM1GGIpJ62KqdREyqdHXfkzvqLwi."
		"vIVwX0AcTW9cDubiR4wA.zOlJTle4lioqe99c1",
		"$6$saltsaltsaltsalts$sfZR6YSW/"
		"Dp0uCiyF9fDipa6ORr5LVLOwXNgtzRlXXhkC7xA3w4zy97VIC3vL1"
		"4AUXGJp3yBjZVztkdiBzJnX1",
		"$2a$04$saltsaltsaltsaltsaltse0lRRfppzNCAGvc140pTHijoqQ96dfCa" };

	(void)state;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		struct password_cost cost;
		struct err err;

		assert_int_equal(password_hash_look(str_from(others[i]), &cost, &err), -1);
		assert_null(strstr(err.text, "geheim"));
		assert_false(password_matches(str_from(others[i]), STR("geheim")));
	}
}

static void test_make(void **state)
{
	const char *words[] = { "yescrypt", "bcrypt", "sha512", "scram" };

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		char hash[PASSWORD_HASH_MAX + 1], other[PASSWORD_HASH_MAX + 1];
		enum password_method method;
		struct password_cost cost;
		struct err err;

		assert_true(password_method_find(str_from(words[i]), &method));
		assert_int_equal(method, i);
		assert_int_equal(password_hash_make(method, STR("pa\xc3\x9fwort"), hash, &err), 0);
		assert_int_equal(password_hash_make(method, STR("pa\xc3\x9fwort"), other, &err), 0);
		assert_string_not_equal(hash, other); /* the salt */
		assert_int_equal(password_hash_look(str_from(hash), &cost, &err), 0);
		assert_int_equal(cost.method, method);
		assert_true(password_matches(str_from(hash), STR("pa\xc3\x9fwort")));
		assert_false(password_matches(str_from(hash), STR("passwort")));
	}
	enum password_method method;
	assert_false(password_method_find(STR("md5"), &method));
}

static void test_make_refuses(void **state)
{
	char hash[PASSWORD_HASH_MAX + 1], text[SASL_PASSWORD_MAX + 1];
	struct err err;

	(void)state;
	memset(text, 'x', sizeof(text));
	assert_int_equal(password_hash_make(PASSWORD_SHA512, STR(""), hash, &err), -1);
	assert_int_equal(password_hash_make(PASSWORD_SHA512, STR("a\0b"), hash, &err), -1);
	assert_int_equal(password_hash_make(PASSWORD_SHA512, STR("a\r"), hash, &err), -1);
	assert_int_equal(password_hash_make(PASSWORD_SHA512, STR("a\xff"), hash, &err), -1);
	assert_int_equal(
		password_hash_make(PASSWORD_SHA512, str_make(text, sizeof(text)), hash, &err), -1);
	assert_int_equal(password_hash_make(PASSWORD_BCRYPT, str_make(text, 73), hash, &err), -1);
	assert_int_equal(password_hash_make(PASSWORD_BCRYPT, str_make(text, 72), hash, &err), 0);
	assert_int_equal(
		password_hash_make(PASSWORD_SHA512, str_make(text, SASL_PASSWORD_MAX), hash, &err),
		0);
	assert_true(password_matches(str_from(hash), str_make(text, SASL_PASSWORD_MAX)));
	assert_false(password_matches(str_from(hash), str_make(text, SASL_PASSWORD_MAX - 1)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_matches),
		cmocka_unit_test(test_look),
		cmocka_unit_test(test_look_cut),
		cmocka_unit_test(test_look_others),
		cmocka_unit_test(test_make),
		cmocka_unit_test(test_make_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
