#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

#include <openssl/err.h>

#include "../../../src/net/tls_priv.h"
#include "support/tls_certs.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct cert_folder folder;
static struct cert root, issuer, leaf; /* a chain of three */
static struct cert mail_ec, second_ec, mail_rsa, wild_ec, exact_rsa, bare;

static int group_setup(void **state)
{
	(void)state;
	cert_folder_open(&folder);
	root = cert_make(&(struct cert_plan){ .subject = "Root", .is_ca = true });
	issuer = cert_make(
		&(struct cert_plan){ .subject = "Issuer", .issuer = &root, .is_ca = true });
	leaf = cert_make(&(struct cert_plan){
		.subject = "leaf.test", .names = "DNS:leaf.test", .issuer = &issuer });
	mail_ec = cert_make(&(struct cert_plan){ .subject = "mail ec",
		.names = "DNS:mail.test,DNS:smtp.test,IP:192.0.2.1",
		.issuer = &root });
	second_ec = cert_make(&(struct cert_plan){
		.subject = "second ec", .names = "DNS:second.test,DNS:mail.test" });
	mail_rsa = cert_make(&(struct cert_plan){
		.subject = "mail rsa", .names = "DNS:mail.test", .kind = "RSA", .issuer = &root });
	wild_ec = cert_make(&(struct cert_plan){
		.subject = "wild ec", .names = "email:a@wild.test,DNS:*.Wild.test" });
	exact_rsa = cert_make(&(struct cert_plan){
		.subject = "exact rsa", .names = "DNS:mx.wild.test", .kind = "RSA" });
	bare = cert_make(&(struct cert_plan){ .subject = "bare.test" });
	return 0;
}

static int group_teardown(void **state)
{
	struct cert *all[] = { &root, &issuer, &leaf, &mail_ec, &second_ec, &mail_rsa, &wild_ec,
		&exact_rsa, &bare };

	(void)state;
	for (size_t i = 0; i < COUNT(all); i++)
		cert_free(all[i]);
	cert_folder_close(&folder);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(ERR_peek_error(), 0); /* nothing is left for the next session */
	return 0;
}

static struct tls_context *server_of(const struct tls_certificate *files, size_t count)
{
	struct err err = { "" };
	struct tls_server_settings settings = { .certificates = files, .certificate_count = count };
	struct tls_context *context = tls_server_context(&settings, &err);

	if (context == NULL)
		fail_msg("%s", err.text);
	return context;
}

static struct tls_context *client_of(const struct tls_client_settings *settings)
{
	struct err err = { "" };
	struct tls_context *context = tls_client_context(settings, &err);

	if (context == NULL)
		fail_msg("%s", err.text);
	return context;
}

/* ---- Files --------------------------------------------------------------------------------------- */

/* The text begins with the path and goes on with `text`. */
static void expect_refused(
	struct str certificate, struct str key, struct str path, const char *text)
{
	struct err err = { "" };
	struct tls_certificate files = { certificate, key };
	struct tls_server_settings settings = { .certificates = &files, .certificate_count = 1 };
	char expected[ERR_TEXT_MAX];

	snprintf(expected, sizeof(expected), "%.*s: %s", STR_ARG(path), text);
	assert_null(tls_server_context(&settings, &err));
	if (strncmp(err.text, expected, strlen(expected)) != 0)
		fail_msg("\"%s\", not \"%s\"", err.text, expected);
}

static struct str read_file(struct str path)
{
	static char text[65536];
	FILE *file = fopen(path.p, "r");

	assert_non_null(file);
	size_t n = fread(text, 1, sizeof(text), file);
	fclose(file);
	return str_make(text, n);
}

static void test_certificates_that_cannot_be_used(void **state)
{
	struct tls_certificate good = cert_write_pair(&folder, "good", &leaf, &issuer);
	struct tls_certificate other = cert_write_pair(&folder, "other", &mail_ec, NULL);
	struct str missing = cert_path(&folder, "missing.pem");
	struct str empty = cert_write(&folder, "empty.pem", STR(""));
	struct str words = cert_write(&folder, "words.pem", STR("not a certificate\n"));
	struct str mixed = cert_write_chain(&folder, "mixed.pem", &leaf, &root, &issuer, NULL);
	struct str damaged = cert_write(&folder, "damaged.pem",
		STR("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"));
	struct str bad_key = cert_write(&folder, "bad.key",
		STR("-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"));
	struct err err = { "" };

	(void)state;
	struct tls_context *context = server_of(&good, 1);
	tls_context_release(&context);
	assert_null(context);
	expect_refused(missing, good.key, missing, "No such file or directory");
	expect_refused(good.certificate, missing, missing, "No such file or directory");
	expect_refused(str_from(folder.path), good.key, str_from(folder.path), "Is a directory");
	expect_refused(empty, good.key, empty, "the file is empty");
	expect_refused(good.certificate, empty, empty, "the file is empty");
	expect_refused(
		str_from("/dev/zero"), good.key, str_from("/dev/zero"), "the file is too large");
	expect_refused(words, good.key, words, "there is no certificate in it");
	expect_refused(good.key, good.key, good.key, "there is no certificate in it");
	expect_refused(damaged, good.key, damaged, "truncated or damaged after 0 certificates: ");
	expect_refused(mixed, good.key, mixed, "certificate 2 is not the issuer of certificate 1");
	expect_refused(good.certificate, words, words, "there is no private key in it");
	expect_refused(good.certificate, good.certificate, good.certificate,
		"there is no private key in it");
	expect_refused(good.certificate, bad_key, bad_key, "the private key cannot be read: ");
	expect_refused(good.certificate, other.key, other.key,
		"the key does not belong to the certificate in /tmp/tls-test-");
	assert_null(tls_server_context(&(struct tls_server_settings){ 0 }, &err));
	assert_string_equal(err.text, "no certificate is given");
	assert_null(tls_server_context(&(struct tls_server_settings){ 0 }, NULL));
}

/* All or nothing: one of several that cannot be used, or the file of authorities. */
static void test_one_bad_file_among_good_ones(void **state)
{
	struct tls_certificate files[2] = { cert_write_pair(&folder, "good", &leaf, &issuer),
		cert_write_pair(&folder, "other", &mail_ec, NULL) };
	struct tls_server_settings settings = { .certificates = files, .certificate_count = 2 };
	struct err err = { "" };
	char expected[ERR_TEXT_MAX];

	(void)state;
	settings.client_ca = cert_write(&folder, "empty.pem", STR(""));
	assert_null(tls_server_context(&settings, &err));
	snprintf(
		expected, sizeof(expected), "%.*s: the file is empty", STR_ARG(settings.client_ca));
	assert_string_equal(err.text, expected);
	files[1].key = files[0].key;
	assert_null(tls_server_context(&settings, &err));
	assert_non_null(strstr(err.text, "the key does not belong to the certificate in"));
}

static void test_encrypted_and_weak_keys(void **state)
{
	struct tls_certificate good = cert_write_pair(&folder, "good", &leaf, &issuer);
	BIO *bio = BIO_new(BIO_s_mem());
	struct cert weak = { X509_dup(bare.x), EVP_RSA_gen(1024) };

	(void)state;
	PEM_write_bio_PrivateKey(bio, leaf.key, EVP_aes_128_cbc(), NULL, 0, NULL, (void *)"secret");
	struct str encrypted = cert_write_bio(&folder, "encrypted.key", bio);
	expect_refused(good.certificate, encrypted, encrypted, "the key is encrypted");
	bio = BIO_new(BIO_s_mem());
	PEM_write_bio_PrivateKey_traditional(
		bio, leaf.key, EVP_aes_128_cbc(), NULL, 0, NULL, (void *)"secret");
	encrypted = cert_write_bio(&folder, "encrypted2.key", bio);
	expect_refused(good.certificate, encrypted, encrypted, "the key is encrypted");
	X509_set_pubkey(weak.x, weak.key);
	assert_true(X509_sign(weak.x, weak.key, EVP_sha256()) > 0);
	struct tls_certificate files = cert_write_pair(&folder, "weak", &weak, NULL);
	expect_refused(files.certificate, files.key, files.certificate,
		"certificate or key: ee key too small");
	cert_free(&weak);
}

/* A file that is being written. Cut behind a whole block it cannot be told from a shorter chain. */
static void test_truncated_chain(void **state)
{
	struct tls_certificate good = cert_write_pair(&folder, "good", &leaf, &issuer);
	struct str whole = read_file(good.certificate);
	const char *boundary = memmem(whole.p + 1, whole.n - 1, "-----BEGIN", 10);
	size_t first = (size_t)(boundary - whole.p);
	unsigned accepted = 0;

	(void)state;
	for (size_t n = 1; n<whole.n; n += n + 40> first ? 3 : 17) {
		struct str cut = cert_write(&folder, "cut.pem", str_range(whole, 0, n));
		struct tls_certificate files = { cut, good.key };
		struct tls_server_settings settings = { &files, 1, TLS_VERSION_1_2, STR("") };
		struct err err = { "" };
		struct tls_context *context = tls_server_context(&settings, &err);
		bool may_be_whole = n + 1 >= whole.n || (n + 1 >= first && n <= first + 9);
		if (context == NULL)
			assert_true(strncmp(err.text, cut.p, cut.n) == 0);
		else if (!may_be_whole)
			fail_msg("%zu of %zu bytes are accepted", n, whole.n);
		accepted += context != NULL;
		tls_context_release(&context);
	}
	assert_in_range(accepted, 1, 12);
}

/* Certificate, chain and key in one file, in any order, with what other tools put beside them. */
static void test_layouts_of_files(void **state)
{
	struct tls_certificate good = cert_write_pair(&folder, "good", &leaf, &issuer);
	static const char parameters[] = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n"
					 "-----END EC PARAMETERS-----\n";

	(void)state;
	for (int i = 0; i < 4; i++) {
		char certificate[8192], key[2048];
		char text[16384];
		str_copy_to(read_file(good.certificate), certificate, sizeof(certificate));
		str_copy_to(read_file(good.key), key, sizeof(key));
		if (i == 3) {
			BIO *bio = BIO_new(BIO_s_mem());
			char *data;
			PEM_write_bio_PrivateKey_traditional(
				bio, leaf.key, NULL, NULL, 0, NULL, NULL);
			long n = BIO_get_mem_data(bio, &data);
			str_copy_to(str_make(data, (size_t)n), key, sizeof(key));
			BIO_free(bio);
		}
		int n = snprintf(text, sizeof(text), "%s%s%s%s", i == 2 ? "subject=leaf\n" : "",
			i % 2 ? certificate : key, i >= 2 ? parameters : "",
			i % 2 ? key : certificate);
		struct str path = cert_write(&folder, "both.pem", str_make(text, (size_t)n));
		struct tls_context *context = server_of(&(struct tls_certificate){ path, path }, 1);
		tls_context_release(&context);
	}
}

static void test_files_state(void **state)
{
	struct tls_certificate files[2] = { cert_write_pair(&folder, "good", &leaf, &issuer),
		cert_write_pair(&folder, "other", &mail_ec, NULL) };
	struct str paths[4] = { files[0].certificate, files[0].key, files[1].certificate,
		files[1].key };
	struct tls_context *context = server_of(files, 2);
	uint64_t before = tls_context_files_state(context);

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		char copy[65536];
		struct str text = read_file(paths[i]);
		assert_int_equal(tls_context_files_state(context), before);
		/* The same text in another file. */
		size_t n = str_copy_to(text, copy, sizeof(copy));
		cert_write(&folder, strrchr(paths[i].p, '/') + 1, str_make(copy, n));
		uint64_t after = tls_context_files_state(context);
		assert_true(after != before);
		/* Written in place. */
		FILE *file = fopen(paths[i].p, "a");
		fputs("\n", file);
		fclose(file);
		before = tls_context_files_state(context);
		assert_true(after != before);
		after = before;
		unlink(paths[i].p);
		before = tls_context_files_state(context);
		assert_true(after != before);
	}
	tls_context_release(&context);

	struct str ca = cert_write_chain(&folder, "ca.pem", &root, NULL);
	context = client_of(&(struct tls_client_settings){ .verify = TLS_VERIFY_CA, .ca = ca });
	before = tls_context_files_state(context);
	cert_write_chain(&folder, "ca.pem", &root, NULL);
	assert_true(tls_context_files_state(context) != before);
	tls_context_release(&context);
}

static void test_client_settings_that_cannot_be_used(void **state)
{
	struct tls_certificate good = cert_write_pair(&folder, "good", &leaf, &issuer);
	const struct {
		struct tls_client_settings settings;
		const char *text;
	} cases[] = {
		{ { .certificate = good.certificate },
			"a certificate needs its key, and a key its certificate" },
		{ { .key = good.key }, "a certificate needs its key, and a key its certificate" },
		{ { .verify = TLS_VERIFY_NAME }, "\"\" is not a name that a certificate can have" },
		{ { .verify = TLS_VERIFY_NAME, .name = STR_INIT("no name") },
			"\"no name\" is not a name that a certificate can have" },
		{ { .verify = TLS_VERIFY_FINGERPRINT },
			"fingerprint: 64 hexadecimal digits are expected" },
		{ { .verify = TLS_VERIFY_FINGERPRINT, .fingerprint = STR_INIT("12:34:56") },
			"fingerprint: 64 hexadecimal digits are expected" },
		{ { .verify = TLS_VERIFY_FINGERPRINT,
			  .fingerprint = STR_INIT("0123456789abcdef0123456789abcdef"
						  "0123456789abcdef0123456789abcdeg") },
			"fingerprint: 64 hexadecimal digits are expected" },
		{ { .verify = TLS_VERIFY_FINGERPRINT,
			  .fingerprint = STR_INIT("0123456789abcdef0123456789abcdef"
						  "0123456789abcdef0123456789abcdef0") },
			"fingerprint: 64 hexadecimal digits are expected" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct err err = { "" };
		assert_null(tls_client_context(&cases[i].settings, &err));
		assert_string_equal(err.text, cases[i].text);
	}
}

static void test_system_authorities(void **state)
{
	struct tls_context *context =
		client_of(&(struct tls_client_settings){ .verify = TLS_VERIFY_CA });

	(void)state;
	tls_context_release(&context);
}

/* ---- Conversations in memory ----------------------------------------------------------------------- */

/* Ours and another, which a test sets up as it likes. */
struct pair {
	SSL *ours, *other;
	int ours_rc, other_rc;
	unsigned long other_error;
};

static void connect_pair(struct pair *pair, SSL *ours, SSL_CTX *other, bool is_server)
{
	BIO *a, *b;

	*pair = (struct pair){ .ours = ours, .other = SSL_new(other) };
	assert_int_equal(BIO_new_bio_pair(&a, 65536, &b, 65536), 1);
	SSL_set_bio(ours, a, a);
	SSL_set_bio(pair->other, b, b);
	if (is_server)
		SSL_set_accept_state(pair->other);
	else
		SSL_set_connect_state(pair->other);
}

static void converse(struct pair *pair)
{
	char byte;

	for (int i = 0; i < 10; i++) {
		ERR_clear_error();
		pair->other_rc = SSL_do_handshake(pair->other);
		if (pair->other_rc != 1 && pair->other_error == 0)
			pair->other_error = ERR_get_error();
		ERR_clear_error();
		pair->ours_rc = SSL_do_handshake(pair->ours);
	}
	/* Tickets, and alerts that come late. */
	if (pair->ours_rc == 1)
		(void)SSL_read(pair->ours, &byte, 1);
	ERR_clear_error();
	if (pair->other_rc == 1 && SSL_read(pair->other, &byte, 1) <= 0 && pair->other_error == 0)
		pair->other_error = ERR_get_error();
	ERR_clear_error();
}

static void close_pair(struct pair *pair)
{
	SSL_set_shutdown(pair->ours, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(pair->ours);
	SSL_free(pair->other);
	ERR_clear_error();
}

/* OpenSSL's macros cast what they are given. */
static char *unconst(const char *text)
{
	return (char *)(uintptr_t)text;
}

static int ask_for(SSL *ssl, const char *name)
{
	return (int)SSL_set_tlsext_host_name(ssl, unconst(name));
}

static const struct sockaddr_storage nobody = { .ss_family = AF_UNSPEC };

static void connect_to_server(struct pair *pair, struct tls_context *server, SSL_CTX *other)
{
	connect_pair(pair, tls_context_open(server, &nobody), other, false);
}

/* ---- Servers ------------------------------------------------------------------------------------ */

static void test_choice_of_the_certificate(void **state)
{
	static const char ec_only[] = "ECDSA+SHA256";
	static const char rsa_only[] = "RSA-PSS+SHA256:RSA+SHA256";
	const struct {
		const char *name;
		const char *algorithms;      /* NULL: any */
		const struct cert *expected; /* NULL: there is none */
	} cases[] = {
		{ "mail.test", NULL, &mail_ec },
		{ "mail.test", ec_only, &mail_ec },
		{ "mail.test", rsa_only, &mail_rsa },
		{ "MAIL.Test", rsa_only, &mail_rsa },
		{ "smtp.test", ec_only, &mail_ec },
		{ "smtp.test", rsa_only, NULL },
		{ "second.test", NULL, &second_ec },
		{ "a.wild.test", NULL, &wild_ec },
		{ "A.WILD.test", ec_only, &wild_ec },
		{ "a.wild.test", rsa_only, NULL },
		{ "mx.wild.test", ec_only, &wild_ec },
		{ "mx.wild.test", rsa_only, &exact_rsa },
		{ "a.b.wild.test", ec_only, &mail_ec }, /* one label only */
		{ "wild.test", ec_only, &mail_ec },
		{ "bare.test", ec_only, &mail_ec }, /* the subject is no name */
		{ "unknown.test", NULL, &mail_ec },
		{ "unknown.test", rsa_only, &mail_rsa },
		{ NULL, NULL, &mail_ec },
		{ NULL, rsa_only, &mail_rsa },
		{ "bad name", ec_only, &mail_ec },
		{ "*.wild.test", ec_only, &mail_ec },
		{ ".wild.test", ec_only, &mail_ec },
	};
	struct tls_certificate files[] = { cert_write_pair(&folder, "mail_ec", &mail_ec, NULL),
		cert_write_pair(&folder, "wild_ec", &wild_ec, NULL),
		cert_write_pair(&folder, "mail_rsa", &mail_rsa, NULL),
		cert_write_pair(&folder, "exact_rsa", &exact_rsa, NULL),
		cert_write_pair(&folder, "second_ec", &second_ec, NULL),
		cert_write_pair(&folder, "bare", &bare, NULL) };
	struct tls_context *server = server_of(files, COUNT(files));

	(void)state;
	for (size_t i = 0; i < 2 * COUNT(cases); i++) {
		SSL_CTX *other = SSL_CTX_new(TLS_client_method());
		struct pair pair;
		if (cases[i / 2].algorithms != NULL)
			SSL_CTX_set1_sigalgs_list(other, unconst(cases[i / 2].algorithms));
		if (i % 2 == 1)
			SSL_CTX_set_max_proto_version(other, TLS1_2_VERSION);
		connect_to_server(&pair, server, other);
		if (cases[i / 2].name != NULL)
			ask_for(pair.other, cases[i / 2].name);
		converse(&pair);
		X509 *got = SSL_get0_peer_certificate(pair.other);
		const struct cert *expected = cases[i / 2].expected;
		if (expected == NULL ? got != NULL : got == NULL || X509_cmp(got, expected->x) != 0)
			fail_msg("case %zu: another certificate", i / 2);
		assert_int_equal(pair.ours_rc == 1, expected != NULL);
		close_pair(&pair);
		SSL_CTX_free(other);
	}
	tls_context_release(&server);
}

static void test_chain_is_sent(void **state)
{
	struct tls_certificate files[2] = { cert_write_pair(&folder, "mail_ec", &mail_ec, NULL),
		cert_write_pair(&folder, "good", &leaf, &issuer) };

	(void)state;
	for (size_t i = 1; i <= 2; i++) { /* as the default, and by name */
		struct tls_context *server = server_of(files + 2 - i, i);
		SSL_CTX *other = SSL_CTX_new(TLS_client_method());
		struct pair pair;
		X509_STORE_add_cert(SSL_CTX_get_cert_store(other), root.x);
		SSL_CTX_set_verify(other, SSL_VERIFY_PEER, NULL);
		connect_to_server(&pair, server, other);
		ask_for(pair.other, "leaf.test");
		SSL_set1_host(pair.other, "leaf.test");
		converse(&pair);
		assert_int_equal(pair.ours_rc, 1);
		assert_int_equal(pair.other_rc, 1);
		assert_int_equal(sk_X509_num(SSL_get_peer_cert_chain(pair.other)), 2);
		close_pair(&pair);
		SSL_CTX_free(other);
		tls_context_release(&server);
	}
}

static void test_asked_name(void **state)
{
	static const struct {
		const char *asked, *name;
	} cases[] = {
		{ "mail.test", "mail.test" },
		{ "MaiL.Test", "mail.test" },
		{ "mail.test.", "" },
		{ "two words", "" },
		{ "line\r\nbreak", "" },
		{ "\xc3\xa4.test", "" },
		{ "-x.test", "" },
		{ "a..b", "" },
		{ "192.0.2.1", "" },
		{ "x", "x" },
	};
	struct tls_certificate files = cert_write_pair(&folder, "mail_ec", &mail_ec, NULL);
	struct tls_context *server = server_of(&files, 1);
	SSL_CTX *other = SSL_CTX_new(TLS_client_method());
	static char label[255];

	(void)state;
	for (size_t i = 0; i < COUNT(cases) + 2; i++) {
		char text[TLS_HOST_MAX];
		struct pair pair;
		const char *asked = i < COUNT(cases) ? cases[i].asked : NULL;
		const char *name = i < COUNT(cases) ? cases[i].name : "";
		if (i == COUNT(cases)) /* 254 bytes: TLS allows 255, DNS 253 */
			asked = memset(label, 'a', 254);
		connect_to_server(&pair, server, other);
		if (asked != NULL)
			assert_int_equal(ask_for(pair.other, asked), 1);
		converse(&pair);
		assert_int_equal(pair.ours_rc, 1);
		assert_true(str_eq(tls_asked_name(pair.ours, text), str_from(name)));
		close_pair(&pair);
	}
	SSL_CTX_free(other);
	tls_context_release(&server);
}

static void test_alpn(void **state)
{
	static const struct {
		struct str offered;
		bool is_accepted;
	} cases[] = {
		{ STR_INIT(""), true },
		{ STR_INIT("\4smtp"), true },
		{ STR_INIT("\2h2\4smtp\10http/1.1"), true },
		{ STR_INIT("\10http/1.1\4smtp"), true },
		{ STR_INIT("\10http/1.1"), false },
		{ STR_INIT("\2h2\10http/1.1"), false },
		{ STR_INIT("\4SMTP"), false },
		{ STR_INIT("\5smtps"), false },
		{ STR_INIT("\3ftp"), false },
		{ STR_INIT("\5\4smtp"), false }, /* a name of five bytes */
		{ STR_INIT("\3smt\1p"), false },
	};
	struct tls_certificate files = cert_write_pair(&folder, "mail_ec", &mail_ec, NULL);
	struct tls_context *server = server_of(&files, 1);

	(void)state;
	for (size_t i = 0; i < 2 * COUNT(cases); i++) {
		SSL_CTX *other = SSL_CTX_new(TLS_client_method());
		struct str offered = cases[i / 2].offered;
		const unsigned char *chosen = NULL;
		unsigned n = 0;
		struct pair pair;
		if (i % 2 == 1)
			SSL_CTX_set_max_proto_version(other, TLS1_2_VERSION);
		SSL_CTX_set_alpn_protos(
			other, (const unsigned char *)offered.p, (unsigned)offered.n);
		connect_to_server(&pair, server, other);
		converse(&pair);
		if (cases[i / 2].is_accepted) {
			SSL_get0_alpn_selected(pair.ours, &chosen, &n);
			assert_int_equal(pair.ours_rc, 1);
			assert_true(str_eq(str_make((const char *)chosen, n),
				offered.n > 0 ? STR("smtp") : STR("")));
		} else {
			assert_int_not_equal(pair.ours_rc, 1);
			assert_int_equal(ERR_GET_REASON(pair.other_error),
				SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL);
		}
		close_pair(&pair);
		SSL_CTX_free(other);
	}
	tls_context_release(&server);
}

/* What else must not be agreed upon; and what must. */
static void test_parameters(void **state)
{
	static const struct {
		int version; /* the highest of the client */
		const char *ciphers, *groups;
		const char *agreed; /* NULL: nothing */
	} cases[] = {
		{ TLS1_3_VERSION, NULL, "X25519", "TLS_AES_128_GCM_SHA256" },
		{ TLS1_3_VERSION, NULL, "P-256", "TLS_AES_128_GCM_SHA256" },
		{ TLS1_3_VERSION, NULL, "P-384", "TLS_AES_128_GCM_SHA256" },
		{ TLS1_3_VERSION, NULL, "P-521", NULL },
		{ TLS1_3_VERSION, NULL, "X448", NULL },
		{ TLS1_3_VERSION, NULL, "ffdhe2048", NULL },
		{ TLS1_2_VERSION, NULL, "X25519:P-256", "ECDHE-ECDSA-AES128-GCM-SHA256" },
		{ TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384", "P-256",
			"ECDHE-ECDSA-AES256-GCM-SHA384" },
		{ TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305", "P-256",
			"ECDHE-ECDSA-CHACHA20-POLY1305" },
		{ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA", "P-256", NULL },
		{ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA256", "P-256", NULL },
		{ TLS1_2_VERSION, "DHE-RSA-AES128-GCM-SHA256", "P-256", NULL },
		{ TLS1_2_VERSION, "AES128-GCM-SHA256", "P-256", NULL },
		{ TLS1_2_VERSION, "AECDH-AES128-SHA:@SECLEVEL=0", "P-256", NULL },
		{ TLS1_1_VERSION, "ALL:@SECLEVEL=0", "P-256", NULL },
		{ TLS1_VERSION, "ALL:@SECLEVEL=0", "P-256", NULL },
	};
	struct tls_certificate files = cert_write_pair(&folder, "mail_ec", &mail_ec, NULL);
	struct tls_context *server = server_of(&files, 1);

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		SSL_CTX *other = SSL_CTX_new(TLS_client_method());
		struct pair pair;
		SSL_CTX_set_min_proto_version(other, TLS1_VERSION);
		SSL_CTX_set_max_proto_version(other, cases[i].version);
		if (cases[i].ciphers != NULL)
			assert_int_equal(SSL_CTX_set_cipher_list(other, cases[i].ciphers), 1);
		assert_int_equal(SSL_CTX_set1_groups_list(other, unconst(cases[i].groups)), 1);
		connect_to_server(&pair, server, other);
		converse(&pair);
		if ((pair.ours_rc == 1) != (cases[i].agreed != NULL))
			fail_msg("case %zu: %d", i, pair.ours_rc);
		if (cases[i].agreed != NULL)
			assert_string_equal(SSL_get_cipher(pair.ours), cases[i].agreed);
		close_pair(&pair);
		SSL_CTX_free(other);
	}
	tls_context_release(&server);
}

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
	SSL_SESSION **kept = SSL_get_app_data(ssl);

	SSL_SESSION_free(*kept);
	*kept = session;
	return 1;
}

/* No tickets, no cache: the second handshake is as full as the first. */
static void test_servers_do_not_resume(void **state)
{
	struct tls_certificate files = cert_write_pair(&folder, "mail_ec", &mail_ec, NULL);
	struct str ca = cert_write_chain(&folder, "ca.pem", &root, NULL);

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct tls_server_settings settings = {
			.certificates = &files,
			.certificate_count = 1,
			.client_ca = i >= 2 ? ca : STR(""),
		};
		struct tls_context *server = tls_server_context(&settings, NULL);
		SSL_CTX *other = SSL_CTX_new(TLS_client_method());
		SSL_SESSION *kept = NULL;
		unsigned tickets = 0;
		SSL_CTX_set_session_cache_mode(other, SSL_SESS_CACHE_CLIENT);
		SSL_CTX_sess_set_new_cb(other, keep_session);
		if (i % 2 == 1)
			SSL_CTX_set_max_proto_version(other, TLS1_2_VERSION);
		for (int j = 0; j < 2; j++) {
			struct pair pair;
			connect_to_server(&pair, server, other);
			SSL_set_app_data(pair.other, &kept);
			if (j == 1 && kept != NULL)
				SSL_set_session(pair.other, kept);
			converse(&pair);
			assert_int_equal(pair.ours_rc, 1);
			assert_int_equal(pair.other_rc, 1);
			assert_int_equal(SSL_session_reused(pair.ours), 0);
			tickets += kept != NULL && SSL_SESSION_has_ticket(kept);
			close_pair(&pair);
		}
		assert_int_equal(tickets, 0);
		SSL_SESSION_free(kept);
		SSL_CTX_free(other);
		tls_context_release(&server);
	}
}

/* ---- Clients ------------------------------------------------------------------------------------ */

static SSL_CTX *other_server(const struct cert *cert, const struct cert *chain)
{
	SSL_CTX *other = SSL_CTX_new(TLS_server_method());

	assert_int_equal(SSL_CTX_use_certificate(other, cert->x), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(other, cert->key), 1);
	if (chain != NULL)
		SSL_CTX_add1_chain_cert(other, chain->x);
	return other;
}

static void print_fingerprint(const struct cert *cert, bool is_pretty, char out[96])
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned n;
	int at = 0;

	X509_digest(cert->x, EVP_sha256(), digest, &n);
	for (unsigned i = 0; i < n; i++)
		at += snprintf(out + at, 96 - (size_t)at, is_pretty && i > 0 ? ":%02X" : "%02x",
			digest[i]);
}

static void test_verification(void **state)
{
	struct cert expired = cert_make(&(struct cert_plan){
		.subject = "old", .names = "DNS:mail.test", .issuer = &root, .is_expired = true });
	struct str root_file = cert_write_chain(&folder, "ca.pem", &root, NULL);
	struct str both_file = cert_write_chain(&folder, "cas.pem", &issuer, &root, NULL);
	struct str own_file = cert_write_chain(&folder, "own.pem", &leaf, NULL);
	struct str bare_file = cert_write_chain(&folder, "bare.pem", &bare, NULL);
	char of_mail[96], of_wild[96];
	const struct {
		enum tls_verify verify;
		struct str ca, name, fingerprint;
		const struct cert *cert, *chain;
		long verdict; /* X509_V_OK: it succeeds */
	} cases[] = {
		{ TLS_VERIFY_NONE, STR(""), STR(""), STR(""), &mail_ec, NULL, X509_V_OK },
		{ TLS_VERIFY_NONE, STR(""), STR("other.test"), STR(""), &expired, NULL, X509_V_OK },
		{ TLS_VERIFY_CA, root_file, STR(""), STR(""), &mail_ec, NULL, X509_V_OK },
		{ TLS_VERIFY_CA, root_file, STR("other.test"), STR(""), &mail_ec, NULL, X509_V_OK },
		{ TLS_VERIFY_CA, root_file, STR(""), STR(""), &leaf, &issuer, X509_V_OK },
		{ TLS_VERIFY_CA, both_file, STR(""), STR(""), &leaf, NULL, X509_V_OK },
		{ TLS_VERIFY_CA, own_file, STR(""), STR(""), &leaf, NULL, X509_V_OK },
		{ TLS_VERIFY_CA, root_file, STR(""), STR(""), &leaf, NULL,
			X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY },
		{ TLS_VERIFY_CA, root_file, STR(""), STR(""), &expired, NULL,
			X509_V_ERR_CERT_HAS_EXPIRED },
		{ TLS_VERIFY_CA, root_file, STR(""), STR(""), &wild_ec, NULL,
			X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT },
		{ TLS_VERIFY_CA, STR(""), STR(""), STR(""), &mail_ec, NULL,
			X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY },
		{ TLS_VERIFY_NAME, root_file, STR("mail.test"), STR(""), &mail_ec, NULL,
			X509_V_OK },
		{ TLS_VERIFY_NAME, root_file, STR("MAIL.TEST"), STR(""), &mail_ec, NULL,
			X509_V_OK },
		{ TLS_VERIFY_NAME, bare_file, STR("bare.test"), STR(""), &bare, NULL, X509_V_OK },
		{ TLS_VERIFY_NAME, root_file, STR("leaf.test"), STR(""), &mail_ec, &leaf,
			X509_V_ERR_HOSTNAME_MISMATCH },
		{ TLS_VERIFY_NAME, root_file, STR("192.0.2.1"), STR(""), &mail_ec, NULL,
			X509_V_OK },
		{ TLS_VERIFY_NAME, root_file, STR("192.0.2.2"), STR(""), &mail_ec, NULL,
			X509_V_ERR_IP_ADDRESS_MISMATCH },
		{ TLS_VERIFY_NAME, root_file, STR("other.test"), STR(""), &mail_ec, NULL,
			X509_V_ERR_HOSTNAME_MISMATCH },
		{ TLS_VERIFY_NAME, root_file, STR("test"), STR(""), &mail_ec, NULL,
			X509_V_ERR_HOSTNAME_MISMATCH },
		{ TLS_VERIFY_NAME, own_file, STR("mail.test"), STR(""), &mail_ec, NULL,
			X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY },
		{ TLS_VERIFY_FINGERPRINT, STR(""), STR("any.test"), str_from(of_mail), &mail_ec,
			NULL, X509_V_OK },
		{ TLS_VERIFY_FINGERPRINT, STR(""), STR(""), str_from(of_wild), &wild_ec, NULL,
			X509_V_OK },
		{ TLS_VERIFY_FINGERPRINT, STR(""), STR(""), str_from(of_wild), &mail_ec, NULL,
			X509_V_ERR_CERT_REJECTED },
		{ TLS_VERIFY_FINGERPRINT, root_file, STR("mail.test"), str_from(of_wild), &mail_ec,
			NULL, X509_V_ERR_CERT_REJECTED },
	};

	(void)state;
	print_fingerprint(&mail_ec, true, of_mail);
	print_fingerprint(&wild_ec, false, of_wild);
	for (size_t i = 0; i < 2 * COUNT(cases); i++) {
		size_t row = i / 2;
		struct str fingerprint = cases[row].fingerprint;
		if (cases[row].verify == TLS_VERIFY_FINGERPRINT)
			fingerprint = str_from(fingerprint.p);
		struct tls_context *client = client_of(&(struct tls_client_settings){
			.verify = cases[row].verify,
			.ca = cases[row].ca,
			.name = cases[row].name,
			.fingerprint = fingerprint,
		});
		SSL_CTX *other = other_server(cases[row].cert, cases[row].chain);
		struct pair pair;
		if (i % 2 == 1)
			SSL_CTX_set_max_proto_version(other, TLS1_2_VERSION);
		connect_pair(&pair, tls_context_open(client, &nobody), other, true);
		converse(&pair);
		bool is_good = cases[row].verdict == X509_V_OK;
		bool is_checked = cases[row].verify != TLS_VERIFY_NONE;
		if ((pair.ours_rc == 1) != is_good)
			fail_msg("case %zu: %s", row,
				X509_verify_cert_error_string(SSL_get_verify_result(pair.ours)));
		if (is_checked && SSL_get_verify_result(pair.ours) != cases[row].verdict)
			fail_msg("case %zu: %s", row,
				X509_verify_cert_error_string(SSL_get_verify_result(pair.ours)));
		assert_int_equal(pair.other_rc == 1 && pair.other_error == 0, is_good);
		close_pair(&pair);
		SSL_CTX_free(other);
		tls_context_release(&client);
	}
	cert_free(&expired);
}

static int accept_any_certificate(int is_good, X509_STORE_CTX *ctx)
{
	(void)is_good;
	(void)ctx;
	return 1;
}

static void test_what_a_client_shows(void **state)
{
	struct tls_certificate files = cert_write_pair(&folder, "good", &leaf, &issuer);
	static const struct {
		struct str name;
		const char *sni;
	} cases[] = { { STR_INIT(""), NULL }, { STR_INIT("backend.test"), "backend.test" },
		{ STR_INIT("192.0.2.1"), NULL } };

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct tls_context *client = client_of(&(struct tls_client_settings){
			.name = cases[i].name,
			.certificate = i == 1 ? files.certificate : STR(""),
			.key = i == 1 ? files.key : STR(""),
		});
		SSL_CTX *other = other_server(&mail_ec, NULL);
		struct pair pair;
		SSL_CTX_set_verify(other, SSL_VERIFY_PEER, accept_any_certificate);
		connect_pair(&pair, tls_context_open(client, &nobody), other, true);
		converse(&pair);
		assert_int_equal(pair.ours_rc, 1);
		const char *sni = SSL_get_servername(pair.other, TLSEXT_NAMETYPE_host_name);
		assert_true((sni == NULL) == (cases[i].sni == NULL));
		if (sni != NULL)
			assert_string_equal(sni, cases[i].sni);
		X509 *shown = SSL_get0_peer_certificate(pair.other);
		assert_true(i == 1 ? X509_cmp(shown, leaf.x) == 0 : shown == NULL);
		close_pair(&pair);
		SSL_CTX_free(other);
		tls_context_release(&client);
	}
}

static void test_minimum_version_of_a_client(void **state)
{
	(void)state;
	for (int i = 0; i < 6; i++) {
		static const int versions[] = { TLS1_1_VERSION, TLS1_2_VERSION, TLS1_3_VERSION };
		enum tls_version least = i < 3 ? TLS_VERSION_1_2 : TLS_VERSION_1_3;
		struct tls_context *client =
			client_of(&(struct tls_client_settings){ .min_version = least });
		SSL_CTX *other = other_server(&mail_ec, NULL);
		struct pair pair;
		SSL_CTX_set_security_level(other, 0);
		SSL_CTX_set_min_proto_version(other, TLS1_VERSION);
		SSL_CTX_set_max_proto_version(other, versions[i % 3]);
		connect_pair(&pair, tls_context_open(client, &nobody), other, true);
		converse(&pair);
		assert_int_equal(pair.ours_rc == 1, i % 3 >= (i < 3 ? 1 : 2));
		close_pair(&pair);
		SSL_CTX_free(other);
		tls_context_release(&client);
	}
}

static struct sockaddr_storage address(unsigned number)
{
	struct sockaddr_storage peer = { .ss_family = AF_INET };
	struct sockaddr_in *sin = (struct sockaddr_in *)&peer;

	sin->sin_addr.s_addr = htonl(0xc0000200 + number);
	return peer;
}

/* Was it resumed? */
static bool visit(struct tls_context *client, SSL_CTX *other, unsigned number)
{
	struct sockaddr_storage peer = address(number);
	struct pair pair;

	connect_pair(&pair, tls_context_open(client, &peer), other, true);
	converse(&pair);
	assert_int_equal(pair.ours_rc, 1);
	bool is_resumed = SSL_session_reused(pair.ours) == 1;
	assert_int_equal(SSL_session_reused(pair.other), is_resumed);
	/* The certificate is known though it was not sent again. */
	assert_non_null(SSL_get0_peer_certificate(pair.ours));
	assert_int_equal(SSL_get_verify_result(pair.ours), X509_V_OK);
	close_pair(&pair);
	return is_resumed;
}

static void test_resumption(void **state)
{
	struct str ca = cert_write_chain(&folder, "ca.pem", &root, NULL);

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct tls_client_settings settings = {
			.verify = TLS_VERIFY_NAME, .ca = ca, .name = STR("mail.test")
		};
		struct tls_context *client = client_of(&settings);
		struct tls_context *another = client_of(&settings);
		SSL_CTX *other = other_server(&mail_ec, NULL);
		if (i == 1)
			SSL_CTX_set_max_proto_version(other, TLS1_2_VERSION);
		assert_false(visit(client, other, 1));
		assert_true(visit(client, other, 1));
		assert_true(visit(client, other, 1));
		assert_false(visit(client, other, 2)); /* another server */
		assert_true(visit(client, other, 2));
		assert_false(visit(another, other, 1)); /* other settings */
		/* What is remembered is bounded. */
		for (unsigned j = 10; j < 26; j++)
			assert_false(visit(client, other, j));
		assert_false(visit(client, other, 1));
		assert_true(visit(client, other, 25));
		/* A handshake that fails is not tried in the same way again. */
		struct sockaddr_storage peer = address(25);
		SSL *ssl = tls_context_open(client, &peer);
		tls_context_forget(client, ssl);
		SSL_free(ssl);
		assert_false(visit(client, other, 25));
		tls_context_release(&client);
		tls_context_release(&another);
		SSL_CTX_free(other);
	}
}

/* Sessions under way keep the context with which they began. */
static void test_contexts_are_counted(void **state)
{
	struct tls_certificate files = cert_write_pair(&folder, "mail_ec", &mail_ec, NULL);
	struct tls_context *server = server_of(&files, 1);
	struct tls_context *kept = tls_context_keep(server);
	SSL_CTX *other = SSL_CTX_new(TLS_client_method());
	struct pair pair;

	(void)state;
	assert_true(tls_context_is_server(kept));
	tls_context_release(&server);
	assert_null(server);
	tls_context_release(&server);
	connect_to_server(&pair, kept, other);
	converse(&pair);
	assert_int_equal(pair.ours_rc, 1);
	close_pair(&pair);
	tls_context_release(&kept);
	SSL_CTX_free(other);
}

#define TEST(name) cmocka_unit_test_teardown(name, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_certificates_that_cannot_be_used),
		TEST(test_one_bad_file_among_good_ones),
		TEST(test_encrypted_and_weak_keys),
		TEST(test_truncated_chain),
		TEST(test_layouts_of_files),
		TEST(test_files_state),
		TEST(test_client_settings_that_cannot_be_used),
		TEST(test_system_authorities),
		TEST(test_choice_of_the_certificate),
		TEST(test_chain_is_sent),
		TEST(test_asked_name),
		TEST(test_alpn),
		TEST(test_parameters),
		TEST(test_servers_do_not_resume),
		TEST(test_verification),
		TEST(test_what_a_client_shows),
		TEST(test_minimum_version_of_a_client),
		TEST(test_resumption),
		TEST(test_contexts_are_counted),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
