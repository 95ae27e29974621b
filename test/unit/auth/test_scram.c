#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

#include "auth/scram.h"
#include "support/guard.h"
#include "support/scram_client.h"

#define ROUNDS 40
#define BINDING "0123456789abcdef0123456789ABCDEF"

static struct scram_verifier make_verifier(const char *password)
{
	struct scram_verifier verifier;

	scram_verifier_make(
		str_from(password), STR("saltsaltsaltsalt"), SCRAM_ITERATIONS_MIN, &verifier);
	return verifier;
}

/* ---- Vectors ---- */

#define PENCIL_DOVECOT \
	"{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==," \
	"WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=," \
	"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
#define PENCIL_POSTGRESQL \
	"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$" \
	"WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:" \
	"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

/* RFC 7677 section 3. */
static void test_rfc_7677(void **state)
{
	struct scram scram;
	struct scram_verifier verifier;
	struct str final;

	(void)state;
	assert_int_equal(scram_verifier_parse(STR(PENCIL_DOVECOT), &verifier, NULL), 0);
	scram_begin(&scram, false, STR(""), STR("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"));
	assert_int_equal(
		scram_client_first(&scram, STR("n,,n=user,r=rOprNGfwEbeRWgbNEkqO")), AUTH_OK);
	assert_true(str_eq(scram_name(&scram), STR("user")));
	assert_true(str_eq(scram_server_first(&scram, &verifier),
		STR("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
		    "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")));
	assert_int_equal(scram_client_final(&scram,
				 STR("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
				     "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="),
				 &final),
		AUTH_OK);
	assert_true(str_eq(final, STR("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")));
	scram_end(&scram);
	scram_end(&scram);
}

static void test_verifier_forms(void **state)
{
	const struct str forms[] = { STR_INIT(PENCIL_DOVECOT), STR_INIT(PENCIL_POSTGRESQL) };
	char text[SCRAM_VERIFIER_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct guard guard = guard_make(512);
		struct scram_verifier verifier;
		struct err err;

		assert_true(scram_verifier_is(forms[i]));
		struct str form = guard_put(&guard, forms[i]);
		assert_int_equal(scram_verifier_parse(form, &verifier, &err), 0);
		assert_true(scram_verifier_matches(&verifier, STR("pencil")));
		assert_false(scram_verifier_matches(&verifier, STR("Pencil")));
		assert_false(scram_verifier_matches(&verifier, STR("")));
		size_t n = scram_verifier_print(&verifier, text);
		assert_true(str_eq(str_make(text, n), forms[0]));
		assert_int_equal(text[n], '\0');
		for (n = 0; n < forms[i].n; n++)
			assert_int_equal(
				scram_verifier_parse(guard_put(&guard, str_range(forms[i], 0, n)),
					&verifier, &err),
				-1);
		guard_free(&guard);
	}
}

#define S "W22ZaJ0SNY7soEsUEjb6gQ=="
#define K "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="

static void test_verifier_mistakes(void **state)
{
	const struct str bad[] = {
		STR_INIT(""),
		STR_INIT("SCRAM-SHA-256"),
		STR_INIT("{SCRAM-SHA-1}4096," S "," K "," K),
		STR_INIT("{SCRAM-SHA-256}4095," S "," K "," K),
		STR_INIT("{SCRAM-SHA-256}1000001," S "," K "," K),
		STR_INIT("{SCRAM-SHA-256}-4096," S "," K "," K),
		STR_INIT("{SCRAM-SHA-256}," S "," K "," K),
		STR_INIT("{SCRAM-SHA-256}99999999999999999999," S "," K "," K),
		STR_INIT("{SCRAM-SHA-256}4096,," K "," K),
		STR_INIT("{SCRAM-SHA-256}4096," K K "," K "," K),
		STR_INIT("{SCRAM-SHA-256}4096," S "," S "," K),
		STR_INIT("{SCRAM-SHA-256}4096," S "," K "," S),
		STR_INIT("{SCRAM-SHA-256}4096," S "," K "," K ","),
		STR_INIT("{SCRAM-SHA-256}4096," S "," K "," K " "),
		STR_INIT("{SCRAM-SHA-256}4096:" S "$" K ":" K),
		STR_INIT("SCRAM-SHA-256$4096," S "," K "," K),
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct scram_verifier verifier;
		struct err err;

		assert_int_equal(scram_verifier_parse(bad[i], &verifier, &err), -1);
		assert_null(strstr(err.text, K));
	}
}

/* ---- Made-up verifiers ---- */

static void test_fake(void **state)
{
	struct scram_fake_key key = scram_fake_key_from(STR("secret"));
	struct scram_fake_key same_key = scram_fake_key_from(STR("secret"));
	struct scram_fake_key other_key = scram_fake_key_from(STR("secreu"));
	struct scram_verifier like = make_verifier("x"), a, again, b, c;

	(void)state;
	scram_verifier_fake(&key, STR("nobody"), &like, &a);
	scram_verifier_fake(&same_key, STR("nobody"), &like, &again);
	scram_verifier_fake(&key, STR("nobodx"), &like, &b);
	scram_verifier_fake(&other_key, STR("nobody"), &like, &c);
	assert_memory_equal(&a, &again, sizeof(a));
	assert_int_equal(a.iterations, like.iterations);
	assert_int_equal(a.salt_n, like.salt_n);
	assert_memory_not_equal(a.salt, b.salt, a.salt_n);
	assert_memory_not_equal(a.salt, c.salt, a.salt_n);
	assert_memory_not_equal(a.stored_key, b.stored_key, SCRAM_HASH_SIZE);
	assert_memory_not_equal(a.stored_key, a.server_key, SCRAM_HASH_SIZE);
	assert_memory_not_equal(a.stored_key, a.salt, a.salt_n);
	like.salt_n = SCRAM_SALT_MAX;
	scram_verifier_fake(&key, STR("nobody"), &like, &a);
	assert_int_equal(a.salt_n, SCRAM_SALT_MAX);
}

/* ---- Whole exchanges ---- */

struct exchange {
	struct scram scram;
	bool is_plus;
	struct str binding; /* of the server's side */
	struct scram_verifier verifier;
	struct str final;
};

/* The result of the first step that does not give AUTH_OK, or of the last one. */
static enum auth_result run(struct exchange *exchange, struct scram_client *client)
{
	char nonce[SCRAM_NONCE_SIZE];

	scram_nonce_make(nonce);
	scram_begin(&exchange->scram, exchange->is_plus, exchange->binding,
		str_make(nonce, sizeof(nonce)));
	enum auth_result result =
		scram_client_first(&exchange->scram, scram_client_first_message(client));
	if (result != AUTH_OK)
		return result;
	assert_true(str_eq(scram_name(&exchange->scram), client->name));
	struct str challenge = scram_server_first(&exchange->scram, &exchange->verifier);
	return scram_client_final(
		&exchange->scram, scram_client_final_message(client, challenge), &exchange->final);
}

static size_t random_text(char *out, size_t max)
{
	static const char *const pieces[] = { "a", "Z", "0", "=", ",", " ", "\xc3\xa4",
		"\xe2\x82\xac", "\xf0\x9f\x98\x80", "@", "n=", "\x01" };
	size_t n = 0, count = 1 + (size_t)rand() % 12;

	for (size_t i = 0; i < count; i++) {
		const char *piece = pieces[(size_t)rand() % (sizeof(pieces) / sizeof(pieces[0]))];
		size_t length = strlen(piece);
		if (n + length > max)
			break;
		memcpy(out + n, piece, length);
		n += length;
	}
	return n;
}

/* Any name and password, with and without binding: the right password passes and the server proves
 * itself; another one does not pass. */
static void test_any_password(void **state)
{
	(void)state;
	srand(7677);
	for (int i = 0; i < ROUNDS; i++) {
		char name[64], password[64], salt[SCRAM_SALT_MAX];
		struct exchange exchange = { .is_plus = i % 2, .binding = STR("") };
		struct scram_client client = { .gs2 = i % 2 ? "p=tls-exporter,," : "n,,",
			.nonce = "fyko+d2lbbFgONRv9qkxdawL",
			.binding = STR("") };

		if (exchange.is_plus)
			exchange.binding = client.binding = STR(BINDING);
		client.name = str_make(name, random_text(name, sizeof(name)));
		client.password = str_make(password, random_text(password, sizeof(password)));
		size_t salt_n = 1 + (size_t)rand() % SCRAM_SALT_MAX;
		for (size_t j = 0; j < salt_n; j++)
			salt[j] = (char)rand();
		scram_verifier_make(client.password, str_make(salt, salt_n),
			SCRAM_ITERATIONS_MIN + (unsigned)i, &exchange.verifier);
		assert_int_equal(run(&exchange, &client), AUTH_OK);
		assert_true(scram_client_accepts(&client, exchange.final));

		password[(size_t)rand() % client.password.n] ^= 1;
		assert_int_equal(run(&exchange, &client), AUTH_REFUSED);
	}
}

static const struct {
	bool is_plus;
	const char *binding; /* the server's; "": none */
	const char *gs2, *client_binding;
	enum auth_result result;
} bindings[] = {
	{ false, "", "n,,", "", AUTH_OK },
	{ false, "", "y,,", "", AUTH_OK },
	{ false, BINDING, "n,,", "", AUTH_OK },
	{ true, BINDING, "p=tls-exporter,,", BINDING, AUTH_OK },
	{ false, "", "n,a=user,", "", AUTH_OK },
	{ true, BINDING, "p=tls-exporter,a=user,", BINDING, AUTH_OK },
	/* Somebody has taken -PLUS out of what we offered. */
	{ false, BINDING, "y,,", "", AUTH_REFUSED },
	/* Somebody is in between. */
	{ true, BINDING, "p=tls-exporter,,", "0123456789abcdef0123456789ABCDEG", AUTH_REFUSED },
	{ true, BINDING, "p=tls-exporter,,", "", AUTH_REFUSED },
	{ true, BINDING, "p=tls-exporter,,", BINDING "x", AUTH_REFUSED },
	{ true, "", "p=tls-exporter,,", "", AUTH_REFUSED },
	{ false, "", "n,,", BINDING, AUTH_REFUSED },
	/* Kinds that we do not have. */
	{ true, BINDING, "p=tls-unique,,", BINDING, AUTH_REFUSED },
	{ true, BINDING, "p=tls-server-end-point,,", BINDING, AUTH_REFUSED },
	/* The flag and the mechanism belong together. */
	{ true, BINDING, "n,,", "", AUTH_MALFORMED },
	{ true, BINDING, "y,,", "", AUTH_MALFORMED },
	{ false, BINDING, "p=tls-exporter,,", BINDING, AUTH_MALFORMED },
	/* Nobody acts as somebody else. */
	{ false, "", "n,a=root,", "", AUTH_REFUSED },
	{ false, "", "n,a=use,", "", AUTH_REFUSED },
	{ false, "", "n,a=,", "", AUTH_MALFORMED },
	{ false, "", "n,a=us=er,", "", AUTH_MALFORMED },
};

static void test_bindings(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bindings) / sizeof(bindings[0]); i++) {
		struct exchange exchange = { .is_plus = bindings[i].is_plus,
			.binding = str_from(bindings[i].binding),
			.verifier = make_verifier("secret") };
		struct scram_client client = { .gs2 = bindings[i].gs2,
			.binding = str_from(bindings[i].client_binding),
			.name = STR("user"),
			.password = STR("secret"),
			.nonce = "abc" };

		assert_int_equal(run(&exchange, &client), bindings[i].result);
	}
}

static void test_first_messages(void **state)
{
	const struct {
		struct str message;
		enum auth_result result;
	} messages[] = {
		{ STR_INIT("n,,n=user,r=abc"), AUTH_OK },
		{ STR_INIT("n,,n=us=2Cer=3D,r=!~-+"), AUTH_OK },
		{ STR_INIT("n,,n=user,r=abc,x=new,y=thing"), AUTH_OK },
		{ STR_INIT(""), AUTH_MALFORMED },
		{ STR_INIT("n,,"), AUTH_MALFORMED },
		{ STR_INIT("n,,n=user"), AUTH_MALFORMED },
		{ STR_INIT("n,,n=user,"), AUTH_MALFORMED },
		{ STR_INIT("n,,n=user,r="), AUTH_MALFORMED },
		{ STR_INIT("n,,n=,r=abc"), AUTH_MALFORMED },
		{ STR_INIT("n,,r=abc,n=user"), AUTH_MALFORMED },
		{ STR_INIT("n,,m=must,n=user,r=abc"), AUTH_MALFORMED },
		{ STR_INIT("n,,n=us=er,r=abc"), AUTH_MALFORMED },
		{ STR_INIT("n,,n=us\0er,r=abc"), AUTH_MALFORMED },
		{ STR_INIT("n,,n=us\xffr,r=abc"), AUTH_MALFORMED },
		{ STR_INIT("n,,n=user,r=a c"), AUTH_MALFORMED },
		{ STR_INIT("n,,n=user,r=a\x7f"
			   "c"),
			AUTH_MALFORMED },
		{ STR_INIT("n,,n=user,r=a\0c"), AUTH_MALFORMED },
		{ STR_INIT("n,,n=user,r=abc,new"), AUTH_MALFORMED },
		{ STR_INIT("n,,n=user,r=abc,x="), AUTH_MALFORMED },
		{ STR_INIT("n,,n=user,r=abc,1=x"), AUTH_MALFORMED },
		{ STR_INIT("n=user,r=abc"), AUTH_MALFORMED },
	};
	struct guard guard = guard_make(4096);
	struct scram scram;

	(void)state;
	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		for (size_t n = 0; n <= messages[i].message.n; n++) {
			scram_begin(&scram, false, STR(""), STR("nonce"));
			enum auth_result result = scram_client_first(
				&scram, guard_put(&guard, str_range(messages[i].message, 0, n)));
			if (n == messages[i].message.n)
				assert_int_equal(result, messages[i].result);
		}
	}
	for (size_t n = SCRAM_CLIENT_NONCE_MAX; n <= SCRAM_CLIENT_NONCE_MAX + 1; n++) {
		char text[1024] = "n,,n=user,r=";
		size_t head = strlen(text);

		memset(text + head, 'x', n);
		scram_begin(&scram, false, STR(""), STR("nonce"));
		assert_int_equal(scram_client_first(&scram, str_make(text, head + n)),
			n <= SCRAM_CLIENT_NONCE_MAX ? AUTH_OK : AUTH_MALFORMED);
	}
	char long_one[SCRAM_CLIENT_FIRST_MAX + 1];
	memset(long_one, 'n', sizeof(long_one));
	assert_int_equal(
		scram_client_first(&scram, str_make(long_one, sizeof(long_one))), AUTH_MALFORMED);
	guard_free(&guard);
}

/* The longest name, nonce, salt and number of iterations that there may be fit. */
static void test_largest(void **state)
{
	char name[SASL_NAME_MAX], nonce[SCRAM_CLIENT_NONCE_MAX + 1], salt[SCRAM_SALT_MAX];
	struct exchange exchange = { .binding = STR("") };
	struct scram_client client = { .gs2 = "n,,", .binding = STR(""), .password = STR("p") };

	(void)state;
	memset(name, ',', sizeof(name)); /* thrice as long on the wire */
	memset(nonce, 'x', sizeof(nonce));
	nonce[SCRAM_CLIENT_NONCE_MAX] = '\0';
	memset(salt, 's', sizeof(salt));
	client.name = str_make(name, sizeof(name));
	client.nonce = nonce;
	scram_verifier_make(client.password, str_make(salt, sizeof(salt)), SCRAM_ITERATIONS_MIN,
		&exchange.verifier);
	assert_int_equal(run(&exchange, &client), AUTH_OK);
}

/* Every single bit of the last message counts: changed, it never passes. */
static void test_every_bit(void **state)
{
	struct exchange exchange = { .verifier = make_verifier("secret"), .binding = STR(BINDING) };
	struct scram_client client = { .gs2 = "p=tls-exporter,,",
		.binding = STR(BINDING),
		.name = STR("user"),
		.password = STR("secret"),
		.nonce = "abcdef" };
	struct guard guard = guard_make(4096);
	char changed[1024] = "";
	struct str final, signature;

	(void)state;
	scram_begin(&exchange.scram, true, exchange.binding, STR("0123456789"));
	assert_int_equal(
		scram_client_first(&exchange.scram, scram_client_first_message(&client)), AUTH_OK);
	final = scram_client_final_message(
		&client, scram_server_first(&exchange.scram, &exchange.verifier));
	struct scram before = exchange.scram;
	for (size_t bit = 0; bit < 8 * final.n; bit++) {
		memcpy(changed, final.p, final.n);
		changed[bit / 8] = (char)(changed[bit / 8] ^ 1 << bit % 8);
		assert_int_not_equal(
			scram_client_final(&exchange.scram,
				guard_put(&guard, str_make(changed, final.n)), &signature),
			AUTH_OK);
	}
	for (size_t n = 0; n < final.n; n++)
		assert_int_not_equal(scram_client_final(&exchange.scram,
					     guard_put(&guard, str_range(final, 0, n)), &signature),
			AUTH_OK);
	assert_memory_equal(&before, &exchange.scram, sizeof(before));
	assert_int_equal(
		scram_client_final(&exchange.scram, guard_put(&guard, final), &signature), AUTH_OK);
	assert_true(scram_client_accepts(&client, signature));
	guard_free(&guard);
}

/* What is right in one exchange is wrong in another: our nonce is new. */
static void test_replay(void **state)
{
	struct exchange exchange = { .verifier = make_verifier("secret"), .binding = STR("") };
	struct scram_client client = { .gs2 = "n,,",
		.name = STR("user"),
		.password = STR("secret"),
		.nonce = "abc",
		.binding = STR("") };
	char nonces[2][SCRAM_NONCE_SIZE];
	struct str signature;

	(void)state;
	scram_nonce_make(nonces[0]);
	scram_nonce_make(nonces[1]);
	assert_memory_not_equal(nonces[0], nonces[1], SCRAM_NONCE_SIZE);
	assert_int_equal(run(&exchange, &client), AUTH_OK);
	char replayed[1024];
	size_t n = strlen(client.message);
	memcpy(replayed, client.message, n);
	scram_begin(&exchange.scram, false, STR(""), str_make(nonces[0], SCRAM_NONCE_SIZE));
	assert_int_equal(
		scram_client_first(&exchange.scram, scram_client_first_message(&client)), AUTH_OK);
	scram_server_first(&exchange.scram, &exchange.verifier);
	assert_int_equal(scram_client_final(&exchange.scram, str_make(replayed, n), &signature),
		AUTH_REFUSED);
}

/* A client that knows the password, and sends a nonce that is not ours. */
static void test_wrong_nonce(void **state)
{
	const char *nonces[] = { "abc", "abcx", "xyz", "0123456789abcdefghijklmn" };

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct exchange exchange = { .verifier = make_verifier("secret"),
			.binding = STR("") };
		struct scram_client client = { .gs2 = "n,,",
			.name = STR("user"),
			.password = STR("secret"),
			.nonce = "abc",
			.final_nonce = nonces[i],
			.binding = STR("") };

		assert_int_equal(run(&exchange, &client), AUTH_REFUSED);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rfc_7677),
		cmocka_unit_test(test_verifier_forms),
		cmocka_unit_test(test_verifier_mistakes),
		cmocka_unit_test(test_fake),
		cmocka_unit_test(test_any_password),
		cmocka_unit_test(test_bindings),
		cmocka_unit_test(test_first_messages),
		cmocka_unit_test(test_largest),
		cmocka_unit_test(test_every_bit),
		cmocka_unit_test(test_replay),
		cmocka_unit_test(test_wrong_nonce),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
