#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

#include "auth/sasl_client.h"
#include "base/base64.h"
#include "support/guard.h"

#define NAME STR("relay")
#define PASSWORD STR("correct horse")

static struct scram_keyring ring;

static int wipe_ring(void **state)
{
	(void)state;
	scram_keyring_wipe(&ring);
	return 0;
}

static void begin(struct sasl_client *client, unsigned mechanism)
{
	sasl_client_begin(client, mechanism, (struct sasl_credentials){ NAME, PASSWORD }, &ring);
}

static struct str answer(struct sasl_client *client, struct str challenge)
{
	struct str message;
	struct err err = { "" };

	if (sasl_client_answer(client, challenge, &message, &err) < 0)
		fail_msg("%s", err.text);
	return message;
}

static void assert_given_up(struct sasl_client *client, struct str challenge)
{
	struct str message;
	struct err err = { "" };

	assert_int_equal(sasl_client_answer(client, challenge, &message, &err), -1);
	assert_true(err.text[0] != '\0');
	assert_null(strstr(err.text, "horse"));
}

/* ---- PLAIN and LOGIN ---- */

static void test_plain(void **state)
{
	struct sasl_client client;
	struct str message;

	(void)state;
	begin(&client, AUTH_PLAIN);
	assert_true(sasl_client_initial(&client, &message));
	assert_true(str_eq(message, STR("\0relay\0correct horse")));
	assert_int_equal(sasl_client_check(&client, NULL), 0);
	assert_given_up(&client, STR(""));
	sasl_client_end(&client);

	begin(&client, AUTH_PLAIN);
	assert_true(str_eq(answer(&client, STR("")), STR("\0relay\0correct horse")));
	assert_false(sasl_client_initial(&client, &message));
	sasl_client_end(&client);
}

static void test_login(void **state)
{
	struct sasl_client client;
	struct str message;

	(void)state;
	begin(&client, AUTH_LOGIN);
	assert_false(sasl_client_initial(&client, &message));
	assert_true(str_eq(answer(&client, STR("User Name\0")), NAME));
	assert_true(str_eq(answer(&client, STR("anything")), PASSWORD));
	assert_int_equal(sasl_client_check(&client, NULL), 0);
	assert_given_up(&client, STR("Token:"));
	sasl_client_end(&client);
}

static void test_longest(void **state)
{
	char name[SASL_NAME_MAX], password[SASL_PASSWORD_MAX];
	struct sasl_credentials credentials = { { name, sizeof(name) },
		{ password, sizeof(password) } };
	static const unsigned all[] = { AUTH_PLAIN, AUTH_LOGIN, AUTH_SCRAM_SHA_256 };

	(void)state;
	memset(name, ',', sizeof(name)); /* three bytes each in SCRAM */
	memset(password, 'p', sizeof(password));
	for (size_t i = 0; i < 3; i++) {
		struct sasl_client client;
		struct err err;
		struct str message;
		sasl_client_begin(&client, all[i], credentials, &ring);
		assert_int_equal(sasl_client_answer(&client, STR(""), &message, &err), 0);
		assert_true(message.n >= sizeof(name));
		sasl_client_end(&client);
	}
}

/* The file may have been read anew while an exchange is under way. */
static void test_password_is_copied(void **state)
{
	char password[] = "old";
	struct sasl_client client;
	struct str message;

	(void)state;
	sasl_client_begin(
		&client, AUTH_PLAIN, (struct sasl_credentials){ NAME, { password, 3 } }, &ring);
	memcpy(password, "new", 3);
	assert_true(sasl_client_initial(&client, &message));
	assert_true(str_eq(message, STR("\0relay\0old")));
	sasl_client_end(&client);
}

/* ---- SCRAM ---- */

#define OUR_NONCE "rOprNGfwEbeRWgbNEkqO"
#define NONCE OUR_NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define SALT "W22ZaJ0SNY7soEsUEjb6gQ=="
#define SERVER_FIRST "r=" NONCE ",s=" SALT ",i=4096"
#define CLIENT_FINAL "c=biws,r=" NONCE ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
#define SERVER_FINAL "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

static void begin_pencil(struct scram_login *login)
{
	struct sasl_credentials credentials = { STR_INIT("user"), STR_INIT("pencil") };

	scram_login_begin(login, credentials, &ring, STR(OUR_NONCE));
	assert_true(str_eq(scram_login_first(login), STR("n,,n=user,r=" OUR_NONCE)));
}

/* RFC 7677 section 3; twice, as the keys are kept. */
static void test_rfc_7677(void **state)
{
	(void)state;
	for (int round = 0; round < 2; round++) {
		struct scram_login login;
		struct str message;
		struct err err = { "" };
		begin_pencil(&login);
		assert_int_equal(scram_login_final(&login, STR(SERVER_FIRST), &message, &err), 0);
		assert_true(str_eq(message, STR(CLIENT_FINAL)));
		assert_true(scram_login_verify(&login, STR(SERVER_FINAL)));
		assert_true(scram_login_verify(&login, STR(SERVER_FINAL ",x=1")));
		scram_login_end(&login);
	}
	assert_int_equal(ring.next, 1);
}

static void test_name_is_escaped(void **state)
{
	struct sasl_credentials credentials = { STR_INIT("a,b=c"), STR_INIT("x") };
	struct scram_login login;

	(void)state;
	scram_login_begin(&login, credentials, &ring, STR("abc"));
	assert_true(str_eq(scram_login_first(&login), STR("n,,n=a=2Cb=3Dc,r=abc")));
	scram_login_end(&login);
}

static const struct str bad_firsts[] = {
	STR_INIT(""),
	STR_INIT("r=" NONCE),
	STR_INIT("r=" NONCE ",s=" SALT),
	STR_INIT("r=" NONCE ",s=" SALT ",i="),
	STR_INIT("r=" NONCE ",s=,i=4096"),
	STR_INIT("r=" NONCE ",i=4096,s=" SALT),
	STR_INIT("r=" NONCE ",s=!,i=4096"),
	STR_INIT("r=" NONCE ",s=" SALT ",i=-4096"),
	STR_INIT("r=" NONCE ",s=" SALT ",i=4096x"),
	STR_INIT("r=" NONCE ",s=" SALT ",i=99999999999999999999"),
	STR_INIT("r=" NONCE ",s=" SALT ",i=4096,"
		 "?"),
	STR_INIT("m=x," SERVER_FIRST),
	STR_INIT("e=other-error"),
	/* Somebody else's nonce, and none of the server's. */
	STR_INIT("r=" OUR_NONCE ",s=" SALT ",i=4096"),
	STR_INIT("r=x" NONCE ",s=" SALT ",i=4096"),
	STR_INIT("r=rOprNGfwEbeRWgbNEkqP%hv,s=" SALT ",i=4096"),
	/* What could be guessed at, and what would hold us up. */
	STR_INIT("r=" NONCE ",s=" SALT ",i=1"),
	STR_INIT("r=" NONCE ",s=" SALT ",i=4095"),
	STR_INIT("r=" NONCE ",s=" SALT ",i=100001"),
	STR_INIT("r=" NONCE ",s=" SALT ",i=4294967295"),
};

static void test_bad_server_first(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad_firsts) / sizeof(bad_firsts[0]); i++) {
		struct guard guard = guard_make(512);
		struct scram_login login;
		struct str message;
		struct err err = { "" };
		begin_pencil(&login);
		if (scram_login_final(&login, guard_put(&guard, bad_firsts[i]), &message, &err) ==
			0)
			fail_msg("row %zu", i);
		assert_true(err.text[0] != '\0');
		scram_login_end(&login);
		guard_free(&guard);
	}
	assert_int_equal(ring.next, 0);
}

/* Cut at each place it is another message, or none. */
static void test_server_first_cut(void **state)
{
	(void)state;
	for (size_t n = 0; n < sizeof(SERVER_FIRST) - 2; n++) {
		struct guard guard = guard_make(512);
		struct scram_login login;
		struct str message;
		begin_pencil(&login);
		int rc = scram_login_final(
			&login, guard_put(&guard, str_make(SERVER_FIRST, n)), &message, NULL);
		assert_true(rc < 0);
		scram_login_end(&login);
		guard_free(&guard);
	}
}

static void test_longest_nonce(void **state)
{
	char first[1024];
	struct scram_login login;
	struct str message;

	(void)state;
	for (int more = 0; more < 2; more++) {
		int fill = SCRAM_LOGIN_NONCE_MAX - (int)sizeof(OUR_NONCE) + 1 + more;
		int n = snprintf(
			first, sizeof(first), "r=" OUR_NONCE "%0*d,s=" SALT ",i=4096", fill, 7);
		begin_pencil(&login);
		assert_int_equal(
			scram_login_final(&login, str_make(first, (size_t)n), &message, NULL),
			more ? -1 : 0);
		scram_login_end(&login);
	}
}

static const struct str bad_finals[] = {
	STR_INIT(""),
	STR_INIT("v="),
	STR_INIT("e=invalid-proof"),
	STR_INIT("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
	STR_INIT("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="),
	STR_INIT("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl9"),
	STR_INIT("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
	STR_INIT(SERVER_FINAL ",?"),
	STR_INIT(" " SERVER_FINAL),
};

static void test_server_must_prove_itself(void **state)
{
	struct scram_login login;
	struct str message;

	(void)state;
	begin_pencil(&login);
	assert_int_equal(scram_login_final(&login, STR(SERVER_FIRST), &message, NULL), 0);
	for (size_t i = 0; i < sizeof(bad_finals) / sizeof(bad_finals[0]); i++)
		if (scram_login_verify(&login, bad_finals[i]))
			fail_msg("row %zu", i);
	scram_login_end(&login);
}

/* The exchange as a whole: with the server's side of our own, from a verifier. */
static void exchange(struct scram *server, const struct scram_verifier *verifier)
{
	struct sasl_client client;
	struct str message, final;
	struct err err;

	begin(&client, AUTH_SCRAM_SHA_256);
	assert_true(sasl_client_initial(&client, &message));
	scram_begin(server, false, STR(""), STR("server"));
	assert_int_equal(scram_client_first(server, message), AUTH_OK);
	assert_true(str_eq(scram_name(server), NAME));
	message = answer(&client, scram_server_first(server, verifier));
	assert_int_equal(scram_client_final(server, message, &final), AUTH_OK);
	/* 235 without the proof: that could be anybody. */
	assert_int_equal(sasl_client_check(&client, &err), -1);
	assert_int_equal(answer(&client, final).n, 0);
	assert_int_equal(sasl_client_check(&client, &err), 0);
	assert_given_up(&client, STR(""));
	sasl_client_end(&client);
	scram_end(server);
}

static void test_scram(void **state)
{
	struct scram_verifier verifiers[2 * SCRAM_KEYRING_SIZE];
	struct scram server;

	(void)state;
	/* More salts than are kept, each twice. */
	for (size_t i = 0; i < 2 * SCRAM_KEYRING_SIZE; i++) {
		char salt[] = { 's', 'a', 'l', (char)('0' + i) };
		scram_verifier_make(PASSWORD, str_make(salt, sizeof(salt)), SCRAM_ITERATIONS_MIN,
			&verifiers[i]);
		exchange(&server, &verifiers[i]);
		exchange(&server, &verifiers[i]);
	}
	exchange(&server, &verifiers[0]);
	assert_int_equal(ring.next, 2 * SCRAM_KEYRING_SIZE + 1);
}

static void test_scram_with_another_servers_proof(void **state)
{
	struct sasl_client client;
	struct str message, final;
	struct scram server;
	struct scram_verifier verifier;

	(void)state;
	scram_verifier_make(PASSWORD, STR("salt"), SCRAM_ITERATIONS_MIN, &verifier);
	begin(&client, AUTH_SCRAM_SHA_256);
	assert_true(sasl_client_initial(&client, &message));
	scram_begin(&server, false, STR(""), STR("server"));
	assert_int_equal(scram_client_first(&server, message), AUTH_OK);
	message = answer(&client, scram_server_first(&server, &verifier));
	verifier.server_key[0] ^= 1;
	server.verifier = verifier;
	assert_int_equal(scram_client_final(&server, message, &final), AUTH_OK);
	assert_given_up(&client, final);
	assert_int_equal(sasl_client_check(&client, NULL), -1);
	sasl_client_end(&client);
	scram_end(&server);
}

/* Keys of a password that was replaced meanwhile are not those of the new one. */
static void test_scram_while_the_password_changes(void **state)
{
	struct scram_login login;
	struct str message;

	(void)state;
	begin_pencil(&login);
	scram_keyring_wipe(&ring);
	assert_int_equal(scram_login_final(&login, STR(SERVER_FIRST), &message, NULL), 0);
	assert_true(str_eq(message, STR(CLIENT_FINAL)));
	assert_int_equal(ring.next, 0);
	scram_login_end(&login);
}

static void test_scram_challenge_too_early(void **state)
{
	struct sasl_client client;

	(void)state;
	begin(&client, AUTH_SCRAM_SHA_256);
	assert_given_up(&client, STR(SERVER_FIRST));
	sasl_client_end(&client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_plain, wipe_ring),
		cmocka_unit_test_setup(test_login, wipe_ring),
		cmocka_unit_test_setup(test_longest, wipe_ring),
		cmocka_unit_test_setup(test_password_is_copied, wipe_ring),
		cmocka_unit_test_setup(test_rfc_7677, wipe_ring),
		cmocka_unit_test_setup(test_name_is_escaped, wipe_ring),
		cmocka_unit_test_setup(test_bad_server_first, wipe_ring),
		cmocka_unit_test_setup(test_server_first_cut, wipe_ring),
		cmocka_unit_test_setup(test_longest_nonce, wipe_ring),
		cmocka_unit_test_setup(test_server_must_prove_itself, wipe_ring),
		cmocka_unit_test_setup(test_scram, wipe_ring),
		cmocka_unit_test_setup(test_scram_with_another_servers_proof, wipe_ring),
		cmocka_unit_test_setup(test_scram_while_the_password_changes, wipe_ring),
		cmocka_unit_test_setup(test_scram_challenge_too_early, wipe_ring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
