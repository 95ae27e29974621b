/*
 * Certificates and keys, made when a test runs and written into a folder of its own: no key is
 * ever committed. Keys of one kind are made once, as making one of RSA takes long.
 */
#ifndef TEST_SUPPORT_TLS_CERTS_H
#define TEST_SUPPORT_TLS_CERTS_H

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct cert {
	X509 *x;
	EVP_PKEY *key;
};

struct cert_plan {
	const char *subject;       /* the common name */
	const char *names;         /* "DNS:a.test,DNS:*.b.test"; NULL: none */
	const char *kind;          /* NULL: P-256; "RSA" */
	const struct cert *issuer; /* NULL: itself */
	bool is_ca, is_expired;
};

static inline void cert_extend(X509 *x, const X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509V3_set_ctx(&ctx, (X509 *)(uintptr_t)issuer, x, NULL, NULL, 0);
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);

	assert_non_null(extension);
	X509_add_ext(x, extension, -1);
	X509_EXTENSION_free(extension);
}

static inline struct cert cert_make(const struct cert_plan *plan)
{
	static long serial;
	bool is_rsa = plan->kind != NULL && strcmp(plan->kind, "RSA") == 0;
	struct cert cert = { X509_new(), is_rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256") };
	const struct cert *issuer = plan->issuer != NULL ? plan->issuer : &cert;
	X509_NAME *name = X509_get_subject_name(cert.x);

	assert_non_null(cert.key);
	X509_set_version(cert.x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert.x), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(cert.x), -7200);
	X509_gmtime_adj(X509_getm_notAfter(cert.x), plan->is_expired ? -3600 : 86400);
	X509_NAME_add_entry_by_txt(
		name, "CN", MBSTRING_UTF8, (const unsigned char *)plan->subject, -1, -1, 0);
	X509_set_issuer_name(cert.x, X509_get_subject_name(issuer->x));
	X509_set_pubkey(cert.x, cert.key);
	cert_extend(cert.x, issuer->x, NID_basic_constraints,
		plan->is_ca ? "critical,CA:TRUE" : "CA:FALSE");
	if (plan->names != NULL)
		cert_extend(cert.x, issuer->x, NID_subject_alt_name, plan->names);
	assert_true(X509_sign(cert.x, issuer->key, EVP_sha256()) > 0);
	return cert;
}

static inline void cert_free(struct cert *cert)
{
	X509_free(cert->x);
	EVP_PKEY_free(cert->key);
	*cert = (struct cert){ 0 };
}

/* ---- Files --------------------------------------------------------------------------------------- */

struct cert_folder {
	char path[64];
	char names[64][128]; /* of the files that were written */
	size_t count;
};

static inline void cert_folder_open(struct cert_folder *folder)
{
	*folder = (struct cert_folder){ .path = "/tmp/tls-test-XXXXXX" };
	assert_non_null(mkdtemp(folder->path));
}

static inline void cert_folder_close(struct cert_folder *folder)
{
	for (size_t i = 0; i < folder->count; i++)
		unlink(folder->names[i]);
	rmdir(folder->path);
}

/* The path of a file in the folder; good until the folder is closed. */
static inline struct str cert_path(struct cert_folder *folder, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", folder->path, name);
	for (size_t i = 0; i < folder->count; i++)
		if (strcmp(folder->names[i], path) == 0)
			return str_from(folder->names[i]);
	assert_true(folder->count < 64);
	memcpy(folder->names[folder->count], path, sizeof(path));
	return str_from(folder->names[folder->count++]);
}

/* Puts another file in its place, as people do who care. */
static inline struct str cert_write(struct cert_folder *folder, const char *name, struct str text)
{
	struct str path = cert_path(folder, name);
	char fresh[160];

	snprintf(fresh, sizeof(fresh), "%.*s.new", STR_ARG(path));
	FILE *file = fopen(fresh, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(text.p, 1, text.n, file), text.n);
	fclose(file);
	assert_int_equal(rename(fresh, path.p), 0);
	return path;
}

/* What PEM functions put into `bio`, written to a file; frees the BIO. */
static inline struct str cert_write_bio(struct cert_folder *folder, const char *name, BIO *bio)
{
	char *data = NULL;
	long n = BIO_get_mem_data(bio, &data);
	struct str path = cert_write(folder, name, str_make(data, (size_t)n));

	BIO_free(bio);
	return path;
}

/* A chain: the certificates given, up to NULL. */
static inline struct str cert_write_chain(struct cert_folder *folder, const char *name, ...)
{
	BIO *bio = BIO_new(BIO_s_mem());
	const struct cert *cert;
	va_list args;

	va_start(args, name);
	while ((cert = va_arg(args, const struct cert *)) != NULL)
		PEM_write_bio_X509(bio, cert->x);
	va_end(args);
	return cert_write_bio(folder, name, bio);
}

static inline struct str cert_write_key(
	struct cert_folder *folder, const char *name, const struct cert *cert)
{
	BIO *bio = BIO_new(BIO_s_mem());

	PEM_write_bio_PrivateKey(bio, cert->key, NULL, NULL, 0, NULL, NULL);
	return cert_write_bio(folder, name, bio);
}

/* Both files, called after `name`. */
static inline struct tls_certificate cert_write_pair(struct cert_folder *folder, const char *name,
	const struct cert *cert, const struct cert *issuer)
{
	char file[64];
	struct tls_certificate files;

	snprintf(file, sizeof(file), "%s.pem", name);
	files.certificate = cert_write_chain(folder, file, cert, issuer, NULL);
	snprintf(file, sizeof(file), "%s.key", name);
	files.key = cert_write_key(folder, file, cert);
	return files;
}

#endif
