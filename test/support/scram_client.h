/*
 * SCRAM-SHA-256's client, for tests: written from RFC 5802 on its own, so that it does not share a
 * mistake with the server.
 */
#ifndef TEST_SUPPORT_SCRAM_CLIENT_H
#define TEST_SUPPORT_SCRAM_CLIENT_H

#include <assert.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/str.h"

#define SCRAM_CLIENT_TEXT 4096

struct scram_client {
	const char *gs2;    /* "n,,", "y,,", "p=tls-exporter,,", with "a=…" if wanted */
	struct str binding; /* behind it, in c= */
	struct str name, password;
	const char *nonce;
	const char *final_nonce; /* in the last message, instead of the right one; or NULL */
	char first_bare[SCRAM_CLIENT_TEXT], message[SCRAM_CLIENT_TEXT];
	unsigned char signature[32]; /* what the server must prove */
};

static inline struct str scram_client_first_message(struct scram_client *client)
{
	size_t n = 0;
	char name[1024];

	for (size_t i = 0; i < client->name.n; i++) {
		char c = client->name.p[i];
		const char *escape = c == ',' ? "=2C" : c == '=' ? "=3D" : NULL;
		if (escape != NULL)
			memcpy(name + n, escape, 3);
		else
			name[n] = c;
		n += escape != NULL ? 3 : 1;
	}
	snprintf(client->first_bare, sizeof(client->first_bare), "n=%.*s,r=%s", (int)n, name,
		client->nonce);
	int length = snprintf(
		client->message, sizeof(client->message), "%s%s", client->gs2, client->first_bare);
	return str_make(client->message, (size_t)length);
}

static inline void scram_client_hmac(
	const void *key, size_t key_n, const char *message, size_t message_n, unsigned char out[32])
{
	unsigned n;

	HMAC(EVP_sha256(), key, (int)key_n, (const unsigned char *)message, message_n, out, &n);
}

/* "x=value" of a message; views into it. */
static inline struct str scram_client_part(struct str message, char name)
{
	while (message.n > 0) {
		struct str part = str_cut(&message, ',');
		if (part.n > 2 && part.p[0] == name && part.p[1] == '=')
			return str_from_pos(part, 2);
	}
	return str_make("", 0);
}

static inline struct str scram_client_final_message(
	struct scram_client *client, struct str challenge)
{
	unsigned char salt[256], salted[32], key[32], stored[32], signature[32], server_key[32];
	char cbind[1024], cbind64[2048], without_proof[SCRAM_CLIENT_TEXT];
	char auth_message[3 * SCRAM_CLIENT_TEXT], proof64[64];
	size_t n, salt_n;
	struct str salt64 = scram_client_part(challenge, 's');
	struct str nonce = scram_client_part(challenge, 'r');

	bool is_salt = base64_decode(salt64, (char *)salt, sizeof(salt), &salt_n);
	assert(is_salt && str_starts_with(nonce, str_from(client->nonce)));
	(void)is_salt;
	if (client->final_nonce != NULL)
		nonce = str_from(client->final_nonce);
	uint64_t iterations = 0;
	str_to_u64(scram_client_part(challenge, 'i'), 1000000, &iterations);
	PKCS5_PBKDF2_HMAC(client->password.p, (int)client->password.n, salt, (int)salt_n,
		(int)iterations, EVP_sha256(), 32, salted);
	scram_client_hmac(salted, 32, "Client Key", 10, key);
	scram_client_hmac(salted, 32, "Server Key", 10, server_key);
	EVP_Digest(key, 32, stored, NULL, EVP_sha256(), NULL);

	size_t gs2_n = strlen(client->gs2);
	memcpy(cbind, client->gs2, gs2_n);
	if (client->binding.n > 0)
		memcpy(cbind + gs2_n, client->binding.p, client->binding.n);
	base64_encode(str_make(cbind, gs2_n + client->binding.n), cbind64, sizeof(cbind64), &n);
	snprintf(without_proof, sizeof(without_proof), "c=%.*s,r=%.*s", (int)n, cbind64,
		STR_ARG(nonce));
	int length = snprintf(auth_message, sizeof(auth_message), "%s,%.*s,%s", client->first_bare,
		STR_ARG(challenge), without_proof);
	scram_client_hmac(stored, 32, auth_message, (size_t)length, signature);
	scram_client_hmac(server_key, 32, auth_message, (size_t)length, client->signature);
	for (size_t i = 0; i < 32; i++)
		key[i] ^= signature[i];
	base64_encode(str_make((const char *)key, 32), proof64, sizeof(proof64), &n);
	length = snprintf(client->message, sizeof(client->message), "%s,p=%.*s", without_proof,
		(int)n, proof64);
	return str_make(client->message, (size_t)length);
}

/* Does the server know the verifier? */
static inline bool scram_client_accepts(const struct scram_client *client, struct str final)
{
	char bytes[64];
	size_t n;

	return base64_decode(scram_client_part(final, 'v'), bytes, sizeof(bytes), &n) && n == 32 &&
	       memcmp(bytes, client->signature, 32) == 0;
}

#endif
