#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/xalloc.h"
#include "tls_priv.h"

#define FILE_MAX (1 << 20) /* a bundle of all public authorities has a quarter of it */

/* ---- OpenSSL's words ---------------------------------------------------------------------------- */

/* The first entry of the queue is the nearest to the cause. */
int tls_error(struct err *err, const char *what)
{
	const char *data = NULL;
	int flags = 0;
	unsigned long code = ERR_get_error_all(NULL, NULL, NULL, &data, &flags);
	const char *reason = ERR_reason_error_string(code);
	bool has_data = data != NULL && *data != '\0' && (flags & ERR_TXT_STRING);

	if (ERR_SYSTEM_ERROR(code))
		reason = strerror(ERR_GET_REASON(code));
	if (code == 0 || reason == NULL)
		reason = "unknown error of OpenSSL";
	err_set(err, "%s: %s%s%s%s", what, reason, has_data ? " (" : "", has_data ? data : "",
		has_data ? ")" : "");
	ERR_clear_error();
	return -1;
}

static int file_error(struct err *err, struct str path, const char *what)
{
	ERR_clear_error();
	return err_set(err, "%.*s: %s", STR_ARG(path), what);
}

/* As tls_error, for a file. */
static int file_trouble(struct err *err, struct str path, const char *what)
{
	tls_error(err, what);
	return err_prefix(err, "%.*s", STR_ARG(path));
}

/* ---- Files --------------------------------------------------------------------------------------- */

/* May hold a key: wiped when it is freed. */
struct text {
	char *bytes;
	size_t n;
};

static void text_free(struct text *text)
{
	OPENSSL_cleanse(text->bytes, FILE_MAX + 1);
	free(text->bytes);
	*text = (struct text){ 0 };
}

static int read_all(int fd, struct text *text)
{
	ssize_t n;

	do {
		n = read(fd, text->bytes + text->n, FILE_MAX + 1 - text->n);
		text->n += n > 0 ? (size_t)n : 0;
	} while (n > 0 || (n < 0 && errno == EINTR));
	return n < 0 ? -1 : 0;
}

/* Not to wait for the other end, should it be a pipe. */
static int text_read(struct text *text, struct str path, struct err *err)
{
	char *name = str_dup(path);
	int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	free(name);
	if (fd < 0)
		return err_errno(err, "%.*s", STR_ARG(path));
	*text = (struct text){ .bytes = xcalloc(FILE_MAX + 1, 1) };
	int rc = read_all(fd, text);
	if (rc < 0)
		err_errno(err, "%.*s", STR_ARG(path));
	else if (text->n == 0)
		rc = file_error(err, path, "the file is empty");
	else if (text->n > FILE_MAX)
		rc = file_error(err, path, "the file is too large");
	close(fd);
	if (rc < 0)
		text_free(text);
	return rc;
}

static size_t count(const struct text *text, const char *mark)
{
	const char *at = text->bytes;
	const char *end = text->bytes + text->n;
	size_t n = 0;

	while ((at = memmem(at, (size_t)(end - at), mark, strlen(mark))) != NULL) {
		at += strlen(mark);
		n++;
	}
	return n;
}

static BIO *text_bio(const struct text *text)
{
	BIO *bio = BIO_new_mem_buf(text->bytes, (int)text->n);

	ASSERT(bio != NULL);
	return bio;
}

/* ---- Certificates -------------------------------------------------------------------------------- */

static void free_certificates(STACK_OF(X509) * *certificates)
{
	sk_X509_pop_free(*certificates, X509_free);
	*certificates = NULL;
}

/* All that are in the text; other kinds of blocks are passed over. */
static STACK_OF(X509) * parse_certificates(const struct text *text)
{
	STACK_OF(X509) *certificates = sk_X509_new_null();
	BIO *bio = text_bio(text);
	X509 *certificate;

	ASSERT(certificates != NULL);
	ERR_clear_error();
	while ((certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
		sk_X509_push(certificates, certificate);
	BIO_free(bio);
	return certificates;
}

/* A file that is being written, or was cut in the middle of a block, is not taken for a short one. */
static int check_parsed(struct str path, const struct text *text,
	const STACK_OF(X509) * certificates, struct err *err)
{
	bool is_at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
	bool is_whole = count(text, "-----BEGIN") == count(text, "-----END");

	if (!is_at_end || !is_whole) {
		char what[80];
		snprintf(what, sizeof(what), "truncated or damaged after %d certificates",
			sk_X509_num(certificates));
		return is_at_end ? file_error(err, path, what) : file_trouble(err, path, what);
	}
	ERR_clear_error();
	if (sk_X509_num(certificates) == 0)
		return file_error(err, path, "there is no certificate in it");
	return 0;
}

STACK_OF(X509) * tls_certificates_read(struct str path, struct err *err)
{
	STACK_OF(X509) * certificates;
	struct text text;

	if (text_read(&text, path, err) < 0)
		return NULL;
	certificates = parse_certificates(&text);
	if (check_parsed(path, &text, certificates, err) < 0)
		free_certificates(&certificates);
	text_free(&text);
	return certificates;
}

/* RFC 8446 section 4.4.2: each certificate should certify the one before it. Clients differ in
 * what they do when that is not so. */
static int check_order(struct str path, STACK_OF(X509) * certificates, struct err *err)
{
	for (int i = 1; i < sk_X509_num(certificates); i++) {
		X509 *issuer = sk_X509_value(certificates, i);
		X509 *issued = sk_X509_value(certificates, i - 1);
		if (X509_check_issued(issuer, issued) == X509_V_OK)
			continue;
		ERR_clear_error();
		return err_set(err, "%.*s: certificate %d is not the issuer of certificate %d",
			STR_ARG(path), i + 1, i);
	}
	return 0;
}

/* ---- Keys ---------------------------------------------------------------------------------------- */

/* Nobody is there to be asked. */
static int refuse_password(char *out, int size, int is_writing, void *ctx)
{
	(void)out;
	(void)size;
	(void)is_writing;
	*(bool *)ctx = true;
	return -1;
}

static EVP_PKEY *read_key(struct str path, struct err *err)
{
	struct text text;
	bool is_encrypted = false;

	if (text_read(&text, path, err) < 0)
		return NULL;
	BIO *bio = text_bio(&text);
	ERR_clear_error();
	EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, refuse_password, &is_encrypted);
	if (key == NULL && is_encrypted)
		file_error(err, path, "the key is encrypted");
	else if (key == NULL && count(&text, "PRIVATE KEY-----") == 0)
		file_error(err, path, "there is no private key in it");
	else if (key == NULL)
		file_trouble(err, path, "the private key cannot be read");
	ERR_clear_error();
	BIO_free(bio);
	text_free(&text);
	return key;
}

/* ---- Pairs --------------------------------------------------------------------------------------- */

static int read_chain(struct tls_pair *pair, struct str path, struct err *err)
{
	pair->chain = tls_certificates_read(path, err);
	if (pair->chain == NULL || check_order(path, pair->chain, err) < 0)
		return -1;
	pair->certificate = sk_X509_shift(pair->chain);
	return 0;
}

static int check_key(
	const struct tls_pair *pair, const struct tls_certificate *files, struct err *err)
{
	bool fits = X509_check_private_key(pair->certificate, pair->key) == 1;

	ERR_clear_error();
	if (fits)
		return 0;
	return err_set(err, "%.*s: the key does not belong to the certificate in %.*s",
		STR_ARG(files->key), STR_ARG(files->certificate));
}

int tls_pair_read(struct tls_pair *pair, const struct tls_certificate *files, struct err *err)
{
	int rc;

	*pair = (struct tls_pair){ 0 };
	rc = read_chain(pair, files->certificate, err);
	if (rc == 0) {
		pair->key = read_key(files->key, err);
		rc = pair->key == NULL ? -1 : check_key(pair, files, err);
	}
	if (rc < 0)
		tls_pair_free(pair);
	else
		pair->names = X509_get_ext_d2i(pair->certificate, NID_subject_alt_name, NULL, NULL);
	ERR_clear_error();
	return rc;
}

void tls_pair_free(struct tls_pair *pair)
{
	X509_free(pair->certificate);
	free_certificates(&pair->chain);
	EVP_PKEY_free(pair->key);
	GENERAL_NAMES_free(pair->names);
	*pair = (struct tls_pair){ 0 };
}
