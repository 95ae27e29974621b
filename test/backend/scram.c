#include "scram.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <string.h>

#include "base/base64.h"

#define SIZE 32
#define ITERATIONS 4096
#define GS2 STR("n,,")

static const struct str salt = STR_INIT("salt of the test");

struct key {
	unsigned char bytes[SIZE];
};

void scram_init(struct scram *scram)
{
	struct buf *all[] = { &scram->bare, &scram->first, &scram->user, &scram->nonce };

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		buf_init(all[i], SCRAM_TEXT_MAX);
}

void scram_free(struct scram *scram)
{
	buf_free(&scram->bare);
	buf_free(&scram->first);
	buf_free(&scram->user);
	buf_free(&scram->nonce);
}

static void write_base64(struct buf *out, struct str bytes)
{
	char text[BASE64_SIZE(SCRAM_TEXT_MAX)];
	size_t n;

	if (base64_encode(bytes, text, sizeof(text), &n))
		buf_write(out, str_make(text, n));
}

static struct str key_view(const struct key *key)
{
	return str_make((const char *)key->bytes, SIZE);
}

static struct key hmac(struct str key, struct str text)
{
	struct key out;

	HMAC(EVP_sha256(), key.p, (int)key.n, (const unsigned char *)text.p, text.n, out.bytes,
		NULL);
	return out;
}

/* "x=value", then a comma or the end. */
static bool take_field(struct str *rest, char name, struct str *value)
{
	struct str field = str_cut(rest, ',');

	if (field.n < 2 || field.p[0] != name || field.p[1] != '=')
		return false;
	*value = str_from_pos(field, 2);
	return true;
}

/* saslname: "=2C" is a comma, "=3D" an equals sign, another "=" a mistake. */
static bool unescape(struct str name, struct buf *out)
{
	for (size_t i = 0; i < name.n; i++) {
		struct str code = str_range(name, i, i + 3);
		bool is_comma = str_eq(code, STR("=2C"));
		if (name.p[i] != '=') {
			buf_write(out, str_range(name, i, i + 1));
			continue;
		}
		if (!is_comma && !str_eq(code, STR("=3D")))
			return false;
		buf_write(out, is_comma ? STR(",") : STR("="));
		i += 2;
	}
	return true;
}

bool scram_begin(struct scram *scram, struct str message, struct buf *answer)
{
	struct str rest = str_from_pos(message, GS2.n), user, nonce;
	unsigned char own[18];

	if (!str_starts_with(message, GS2) || message.n > SCRAM_TEXT_MAX / 4)
		return false;
	buf_write(&scram->bare, rest);
	if (!take_field(&rest, 'n', &user) || !take_field(&rest, 'r', &nonce) || nonce.n == 0)
		return false;
	if (!unescape(user, &scram->user) || RAND_bytes(own, sizeof(own)) != 1)
		return false;
	buf_write(&scram->nonce, nonce);
	write_base64(&scram->nonce, str_make((const char *)own, sizeof(own)));
	buf_printf(&scram->first, "r=%.*s,s=", STR_ARG(buf_view(&scram->nonce)));
	write_base64(&scram->first, salt);
	buf_printf(&scram->first, ",i=%d", ITERATIONS);
	return buf_write(answer, buf_view(&scram->first));
}

/* AuthMessage: what was said, without the proof. */
static void write_auth_message(struct scram *scram, struct str message, struct buf *out)
{
	size_t proof = str_rfind(message, ',');

	buf_write(out, buf_view(&scram->bare));
	buf_write(out, STR(","));
	buf_write(out, buf_view(&scram->first));
	buf_write(out, STR(","));
	buf_write(out, str_range(message, 0, proof));
}

static bool proof_is_right(const struct key *salted, struct str text, struct str proof)
{
	struct key client = hmac(key_view(salted), STR("Client Key")), stored, given;
	size_t n;

	EVP_Digest(client.bytes, SIZE, stored.bytes, NULL, EVP_sha256(), NULL);
	struct key signature = hmac(key_view(&stored), text);
	for (int i = 0; i < SIZE; i++)
		client.bytes[i] ^= signature.bytes[i];
	return base64_decode(proof, (char *)given.bytes, SIZE, &n) && n == SIZE &&
	       CRYPTO_memcmp(given.bytes, client.bytes, SIZE) == 0;
}

bool scram_end(struct scram *scram, struct str message, struct str password, struct buf *answer)
{
	struct str rest = message, binding, nonce, proof;
	struct key salted;
	struct buf text;

	if (!take_field(&rest, 'c', &binding) || !take_field(&rest, 'r', &nonce) ||
		!take_field(&rest, 'p', &proof) || rest.n > 0 || !str_eq(binding, STR("biws")) ||
		!str_eq(nonce, buf_view(&scram->nonce)))
		return false;
	PKCS5_PBKDF2_HMAC(password.p, (int)password.n, (const unsigned char *)salt.p, (int)salt.n,
		ITERATIONS, EVP_sha256(), SIZE, salted.bytes);
	buf_init(&text, 4 * SCRAM_TEXT_MAX);
	write_auth_message(scram, message, &text);
	bool is_right = proof_is_right(&salted, buf_view(&text), proof);
	struct key server = hmac(key_view(&salted), STR("Server Key"));
	struct key signature = hmac(key_view(&server), buf_view(&text));
	buf_free(&text);
	buf_write(answer, STR("v="));
	write_base64(answer, key_view(&signature));
	return is_right;
}
