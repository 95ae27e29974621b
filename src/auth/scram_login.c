#include "auth/scram_login.h"

#include <string.h>

#include "auth/secret.h"
#include "base/assert.h"
#include "base/base64.h"
#include "base/buf.h"
#include "digest_priv.h"
#include "scram_priv.h"

/* "n": we have no channel binding. */
#define GS2 STR("n,,")
#define GS2_BASE64 STR("biws")
/* Three messages and two commas; the server's may have extensions. */
#define SERVER_FIRST_MAX 2048
#define AUTH_MESSAGE_MAX (2 * SCRAM_LOGIN_MESSAGE_MAX + SERVER_FIRST_MAX + 2)

static struct str view(const uint8_t *bytes, size_t n)
{
	return str_make((const char *)bytes, n);
}

/* ---- Keys ----------------------------------------------------------------------------------- */

void scram_keyring_wipe(struct scram_keyring *ring)
{
	unsigned passwords = ring->passwords;

	secret_wipe(ring, sizeof(*ring));
	ring->passwords = passwords + 1;
}

static const struct scram_keys *find_keys(
	const struct scram_keyring *ring, struct str salt, unsigned iterations)
{
	for (size_t i = 0; i < SCRAM_KEYRING_SIZE; i++) {
		const struct scram_keys *keys = &ring->keys[i];
		if (keys->iterations == iterations && str_eq(view(keys->salt, keys->salt_n), salt))
			return keys;
	}
	return NULL;
}

/* RFC 5802 section 3, as scram_verifier_make() has it. */
static void make_keys(
	struct scram_keys *keys, struct str password, struct str salt, unsigned iterations)
{
	struct digest salted = digest_stretch(password, salt, iterations);
	struct digest client_key = digest_hmac(digest_view(&salted), STR("Client Key"));
	struct digest server_key = digest_hmac(digest_view(&salted), STR("Server Key"));

	keys->iterations = iterations;
	keys->salt_n = salt.n;
	memcpy(keys->salt, salt.p, salt.n);
	memcpy(keys->client_key, client_key.bytes, SCRAM_HASH_SIZE);
	memcpy(keys->server_key, server_key.bytes, SCRAM_HASH_SIZE);
	secret_wipe(&salted, sizeof(salted));
	secret_wipe(&client_key, sizeof(client_key));
	secret_wipe(&server_key, sizeof(server_key));
}

static void take_keys(
	struct scram_login *login, struct str salt, unsigned iterations, struct scram_keys *keys)
{
	struct scram_keyring *ring = login->ring;
	bool is_current = ring->passwords == login->passwords;
	const struct scram_keys *known = is_current ? find_keys(ring, salt, iterations) : NULL;

	if (known != NULL) {
		*keys = *known;
		return;
	}
	make_keys(keys, login->credentials.password, salt, iterations);
	if (is_current)
		ring->keys[ring->next++ % SCRAM_KEYRING_SIZE] = *keys;
}

/* ---- Messages ------------------------------------------------------------------------------- */

static void say(struct scram_login *login, struct str part)
{
	ASSERT(part.n <= sizeof(login->message) - login->message_n);
	memcpy(login->message + login->message_n, part.p, part.n);
	login->message_n += part.n;
}

/* saslname: neither a comma nor an equals sign stands for itself. */
static void say_name(struct scram_login *login, struct str name)
{
	for (size_t i = 0; i < name.n; i++) {
		if (name.p[i] == ',')
			say(login, STR("=2C"));
		else if (name.p[i] == '=')
			say(login, STR("=3D"));
		else
			say(login, str_range(name, i, i + 1));
	}
}

static struct str said(const struct scram_login *login)
{
	return str_make(login->message, login->message_n);
}

void scram_login_begin(struct scram_login *login, struct sasl_credentials credentials,
	struct scram_keyring *ring, struct str nonce)
{
	ASSERT(nonce.n > 0 && nonce.n <= SCRAM_NONCE_MAX);
	ASSERT(credentials.name.n <= SASL_NAME_MAX);
	*login = (struct scram_login){
		.credentials = credentials,
		.ring = ring,
		.passwords = ring->passwords,
		.nonce_n = nonce.n,
	};
	memcpy(login->nonce, nonce.p, nonce.n);
}

static struct str own_nonce(const struct scram_login *login)
{
	return str_make(login->nonce, login->nonce_n);
}

/* client-first-message = gs2-header "n=" saslname "," "r=" c-nonce */
struct str scram_login_first(struct scram_login *login)
{
	login->message_n = 0;
	say(login, GS2);
	say(login, STR("n="));
	say_name(login, login->credentials.name);
	say(login, STR(",r="));
	say(login, own_nonce(login));
	memcpy(login->first, login->message, login->message_n);
	login->first_bare = str_from_pos(str_make(login->first, login->message_n), GS2.n);
	return said(login);
}

/* What the server answers; nonce is a view of its message. */
struct server_first {
	struct str nonce;
	uint8_t salt[SCRAM_SALT_MAX];
	size_t salt_n;
	uint64_t iterations;
};

/*
 *   server-first-message = [reserved-mext ","] "r=" c-nonce s-nonce "," "s=" salt "," "i="
 *                          iteration-count ["," extensions]
 *
 * A mandatory extension ("m=") is none that we know.
 */
static bool parse_first(struct str message, struct server_first *first)
{
	struct str salt, iterations;

	return message.n <= SERVER_FIRST_MAX &&
	       scram_take_attribute(&message, 'r', &first->nonce) && scram_is_nonce(first->nonce) &&
	       scram_take_attribute(&message, 's', &salt) &&
	       base64_decode(salt, (char *)first->salt, SCRAM_SALT_MAX, &first->salt_n) &&
	       first->salt_n > 0 && scram_take_attribute(&message, 'i', &iterations) &&
	       str_to_u64(iterations, UINT32_MAX, &first->iterations) &&
	       scram_are_extensions(message);
}

/* A nonce that is not behind ours is that of another exchange; few iterations would give what can be
 * guessed at. */
static int check_first(
	const struct scram_login *login, const struct server_first *first, struct err *err)
{
	if (!str_starts_with(first->nonce, own_nonce(login)) || first->nonce.n <= login->nonce_n ||
		first->nonce.n > SCRAM_LOGIN_NONCE_MAX)
		return err_set(
			err, "SCRAM-SHA-256: the server's nonce is not one of this exchange");
	if (first->iterations < SCRAM_ITERATIONS_MIN ||
		first->iterations > SCRAM_LOGIN_ITERATIONS_MAX)
		return err_set(err,
			"SCRAM-SHA-256: the server wants a number of iterations that is not within "
			"%d and %d",
			SCRAM_ITERATIONS_MIN, SCRAM_LOGIN_ITERATIONS_MAX);
	return 0;
}

/* AuthMessage = client-first-message-bare "," server-first-message ","
 *               client-final-message-without-proof */
static void join_messages(
	const struct scram_login *login, struct str server_first, struct buf *joined)
{
	bool fits = buf_write(joined, login->first_bare) && buf_write(joined, STR(",")) &&
		    buf_write(joined, server_first) && buf_write(joined, STR(",")) &&
		    buf_write(joined, said(login));

	ASSERT(fits);
}

/* ClientProof = ClientKey XOR HMAC(StoredKey, AuthMessage); and the signature that is to come. */
static void prove(struct scram_login *login, const struct scram_keys *keys, struct str auth_message)
{
	struct digest stored_key = digest_hash(view(keys->client_key, SCRAM_HASH_SIZE));
	struct digest proof = digest_hmac(digest_view(&stored_key), auth_message);
	struct digest signature =
		digest_hmac(view(keys->server_key, SCRAM_HASH_SIZE), auth_message);
	char text[BASE64_SIZE(SCRAM_HASH_SIZE)];
	size_t n;

	for (size_t i = 0; i < SCRAM_HASH_SIZE; i++)
		proof.bytes[i] ^= keys->client_key[i];
	memcpy(login->signature, signature.bytes, SCRAM_HASH_SIZE);
	base64_encode(digest_view(&proof), text, sizeof(text), &n);
	say(login, STR(",p="));
	say(login, str_make(text, n));
	secret_wipe(&stored_key, sizeof(stored_key));
}

/*
 *   client-final-message = "c=" base64 "," "r=" c-nonce s-nonce "," "p=" base64
 */
int scram_login_final(
	struct scram_login *login, struct str server_first, struct str *message, struct err *err)
{
	struct server_first first;
	struct scram_keys keys;
	char memory[AUTH_MESSAGE_MAX];
	struct buf joined = buf_on(memory, sizeof(memory));

	if (!parse_first(server_first, &first))
		return err_set(err, "SCRAM-SHA-256: the server's first message makes no sense");
	if (check_first(login, &first, err) < 0)
		return -1;
	take_keys(login, view(first.salt, first.salt_n), (unsigned)first.iterations, &keys);
	login->message_n = 0;
	say(login, STR("c="));
	say(login, GS2_BASE64);
	say(login, STR(",r="));
	say(login, first.nonce);
	join_messages(login, server_first, &joined);
	prove(login, &keys, buf_view(&joined));
	secret_wipe(&keys, sizeof(keys));
	*message = said(login);
	return 0;
}

/* server-final-message = ( "e=" server-error / "v=" base64 ) ["," extensions] */
bool scram_login_verify(const struct scram_login *login, struct str server_final)
{
	uint8_t signature[SCRAM_HASH_SIZE];
	struct str text;
	size_t n;

	return scram_take_attribute(&server_final, 'v', &text) &&
	       base64_decode(text, (char *)signature, sizeof(signature), &n) &&
	       n == sizeof(signature) && scram_are_extensions(server_final) &&
	       secret_eq(view(signature, n), view(login->signature, SCRAM_HASH_SIZE));
}

void scram_login_end(struct scram_login *login)
{
	secret_wipe(login, sizeof(*login));
}
