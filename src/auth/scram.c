#include "auth/scram.h"

#include <stdio.h>
#include <string.h>

#include "auth/secret.h"
#include "base/assert.h"
#include "base/base64.h"
#include "base/buf.h"
#include "digest_priv.h"
#include "scram_priv.h"

#define DOVECOT STR("{SCRAM-SHA-256}")
#define POSTGRESQL STR("SCRAM-SHA-256$")

/* A client's last message: its binding, the nonces and the proof; RFC 4954's line bounds it. */
#define AUTH_MESSAGE_MAX (SCRAM_CLIENT_FIRST_MAX + SCRAM_SERVER_MESSAGE_MAX + AUTH_LINE_MAX)

static struct str view(const uint8_t *bytes, size_t n)
{
	return str_make((const char *)bytes, n);
}

/* ---- Verifiers ------------------------------------------------------------------------------ */

bool scram_verifier_is(struct str text)
{
	return str_starts_with(text, DOVECOT) || str_starts_with(text, POSTGRESQL);
}

static bool parse_iterations(struct str text, unsigned *iterations)
{
	uint64_t number;

	if (!str_to_u64(text, SCRAM_ITERATIONS_MAX, &number) || number < SCRAM_ITERATIONS_MIN)
		return false;
	*iterations = (unsigned)number;
	return true;
}

static bool parse_key(struct str text, uint8_t key[SCRAM_HASH_SIZE])
{
	size_t n;

	return base64_decode(text, (char *)key, SCRAM_HASH_SIZE, &n) && n == SCRAM_HASH_SIZE;
}

int scram_verifier_parse(struct str text, struct scram_verifier *verifier, struct err *err)
{
	bool is_dovecot = str_starts_with(text, DOVECOT);
	struct str rest = str_from_pos(text, is_dovecot ? DOVECOT.n : POSTGRESQL.n);

	*verifier = (struct scram_verifier){ .iterations = 0 };
	if (!scram_verifier_is(text))
		return err_set(err, "not a SCRAM-SHA-256 verifier");
	struct str iterations = str_cut(&rest, is_dovecot ? ',' : ':');
	struct str salt = str_cut(&rest, is_dovecot ? ',' : '$');
	struct str stored_key = str_cut(&rest, is_dovecot ? ',' : ':');
	if (!parse_iterations(iterations, &verifier->iterations))
		return err_set(err, "SCRAM-SHA-256: the iterations must be a number from %d to %d",
			SCRAM_ITERATIONS_MIN, SCRAM_ITERATIONS_MAX);
	if (!base64_decode(salt, (char *)verifier->salt, SCRAM_SALT_MAX, &verifier->salt_n) ||
		verifier->salt_n == 0)
		return err_set(err, "SCRAM-SHA-256: the salt must be base64 of 1 to %d bytes",
			SCRAM_SALT_MAX);
	if (!parse_key(stored_key, verifier->stored_key) || !parse_key(rest, verifier->server_key))
		return err_set(err,
			"SCRAM-SHA-256: StoredKey and ServerKey must be base64 of %d bytes",
			SCRAM_HASH_SIZE);
	return 0;
}

static void encode(struct str bytes, char *out, size_t size)
{
	size_t n;
	bool fits = base64_encode(bytes, out, size - 1, &n);

	ASSERT(fits);
	out[n] = '\0';
}

size_t scram_verifier_print(
	const struct scram_verifier *verifier, char out[SCRAM_VERIFIER_TEXT_MAX])
{
	char salt[BASE64_SIZE(SCRAM_SALT_MAX) + 1];
	char stored_key[BASE64_SIZE(SCRAM_HASH_SIZE) + 1];
	char server_key[BASE64_SIZE(SCRAM_HASH_SIZE) + 1];

	encode(view(verifier->salt, verifier->salt_n), salt, sizeof(salt));
	encode(view(verifier->stored_key, SCRAM_HASH_SIZE), stored_key, sizeof(stored_key));
	encode(view(verifier->server_key, SCRAM_HASH_SIZE), server_key, sizeof(server_key));
	int n = snprintf(out, SCRAM_VERIFIER_TEXT_MAX, "%.*s%u,%s,%s,%s", STR_ARG(DOVECOT),
		verifier->iterations, salt, stored_key, server_key);
	ASSERT(n > 0 && n < SCRAM_VERIFIER_TEXT_MAX);
	return (size_t)n;
}

/*
 * RFC 5802 section 3:
 *
 *   SaltedPassword = Hi(password, salt, i)
 *   ClientKey      = HMAC(SaltedPassword, "Client Key")
 *   StoredKey      = H(ClientKey)
 *   ServerKey      = HMAC(SaltedPassword, "Server Key")
 */
void scram_verifier_make(
	struct str password, struct str salt, unsigned iterations, struct scram_verifier *verifier)
{
	struct digest salted = digest_stretch(password, salt, iterations);
	struct digest client_key = digest_hmac(digest_view(&salted), STR("Client Key"));
	struct digest stored_key = digest_hash(digest_view(&client_key));
	struct digest server_key = digest_hmac(digest_view(&salted), STR("Server Key"));

	*verifier = (struct scram_verifier){ .iterations = iterations, .salt_n = salt.n };
	memcpy(verifier->salt, salt.p, salt.n);
	memcpy(verifier->stored_key, stored_key.bytes, SCRAM_HASH_SIZE);
	memcpy(verifier->server_key, server_key.bytes, SCRAM_HASH_SIZE);
	secret_wipe(&salted, sizeof(salted));
	secret_wipe(&client_key, sizeof(client_key));
	secret_wipe(&server_key, sizeof(server_key));
}

bool scram_verifier_matches(const struct scram_verifier *verifier, struct str password)
{
	struct scram_verifier made;

	scram_verifier_make(
		password, view(verifier->salt, verifier->salt_n), verifier->iterations, &made);
	bool matches = secret_eq(view(made.stored_key, SCRAM_HASH_SIZE),
		view(verifier->stored_key, SCRAM_HASH_SIZE));
	secret_wipe(&made, sizeof(made));
	return matches;
}

struct scram_fake_key scram_fake_key_from(struct str secret)
{
	struct digest digest = digest_hmac(secret, STR("gatepost: made-up verifiers"));
	struct scram_fake_key key;

	memcpy(key.bytes, digest.bytes, sizeof(key.bytes));
	secret_wipe(&digest, sizeof(digest));
	return key;
}

/* One block of what the key makes of a name; blocks with different labels are independent. */
static struct digest fake_block(const struct scram_fake_key *key, char label, struct str name)
{
	struct digest labelled =
		digest_hmac(view(key->bytes, sizeof(key->bytes)), str_make(&label, 1));

	return digest_hmac(digest_view(&labelled), name);
}

void scram_verifier_fake(const struct scram_fake_key *key, struct str name,
	const struct scram_verifier *like, struct scram_verifier *verifier)
{
	struct digest salt[2] = { fake_block(key, '1', name), fake_block(key, '2', name) };
	struct digest stored_key = fake_block(key, '3', name);
	struct digest server_key = fake_block(key, '4', name);

	*verifier =
		(struct scram_verifier){ .iterations = like->iterations, .salt_n = like->salt_n };
	memcpy(verifier->salt, salt, verifier->salt_n);
	memcpy(verifier->stored_key, stored_key.bytes, SCRAM_HASH_SIZE);
	memcpy(verifier->server_key, server_key.bytes, SCRAM_HASH_SIZE);
}

_Static_assert(2 * SCRAM_HASH_SIZE >= SCRAM_SALT_MAX, "two blocks make a salt");

/* ---- Parts of messages ---------------------------------------------------------------------- */

bool scram_take_attribute(struct str *rest, char name, struct str *value)
{
	struct str attribute = str_cut(rest, ',');

	if (attribute.n < 3 || attribute.p[0] != name || attribute.p[1] != '=')
		return false;
	*value = str_from_pos(attribute, 2);
	return true;
}

bool scram_are_extensions(struct str rest)
{
	while (rest.n > 0) {
		struct str extension = str_cut(&rest, ',');
		struct str value = str_from_pos(extension, 2);
		if (extension.n < 3 || !ascii_is_alpha(extension.p[0]) || extension.p[1] != '=' ||
			!sasl_is_text(value))
			return false;
	}
	return true;
}

bool scram_is_nonce(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < 0x21 || s.p[i] > 0x7e || s.p[i] == ',')
			return false;
	return s.n > 0;
}

static void say(struct scram *scram, struct str part)
{
	ASSERT(part.n <= sizeof(scram->message) - scram->message_n);
	memcpy(scram->message + scram->message_n, part.p, part.n);
	scram->message_n += part.n;
}

static void say_base64(struct scram *scram, struct str bytes)
{
	size_t n;
	bool fits = base64_encode(bytes, scram->message + scram->message_n,
		sizeof(scram->message) - scram->message_n, &n);

	ASSERT(fits);
	scram->message_n += n;
}

static struct str said(const struct scram *scram)
{
	return str_make(scram->message, scram->message_n);
}

/* ---- The exchange --------------------------------------------------------------------------- */

void scram_nonce_make(char out[SCRAM_NONCE_SIZE])
{
	char random[SCRAM_NONCE_SIZE / 4 * 3];
	size_t n;

	secret_make(random, sizeof(random));
	base64_encode(str_make(random, sizeof(random)), out, SCRAM_NONCE_SIZE, &n);
}

void scram_begin(struct scram *scram, bool is_plus, struct str binding, struct str nonce)
{
	ASSERT(binding.n <= SCRAM_BINDING_MAX && nonce.n > 0 && nonce.n <= SCRAM_NONCE_MAX);
	*scram = (struct scram){ .is_plus = is_plus };
	scram->binding_n = binding.n;
	scram->own_nonce_n = nonce.n;
	if (binding.n > 0)
		memcpy(scram->binding, binding.p, binding.n);
	memcpy(scram->own_nonce, nonce.p, nonce.n);
}

void scram_end(struct scram *scram)
{
	secret_wipe(scram, sizeof(*scram));
}

static struct str own_nonce(const struct scram *scram)
{
	return str_make(scram->own_nonce, scram->own_nonce_n);
}

struct str scram_name(const struct scram *scram)
{
	return str_make(scram->name, scram->name_n);
}

/* RFC 5802 section 6: which flag belongs to which mechanism, and when it tells that somebody has
 * taken -PLUS out of what we offered. */
static enum auth_result check_binding(const struct scram *scram, const struct sasl_gs2 *gs2)
{
	if (scram->is_plus != (gs2->binding == SASL_BINDING_USED))
		return AUTH_MALFORMED;
	if (scram->is_plus) {
		bool is_ours = str_eq(gs2->binding_name, STR("tls-exporter"));
		return is_ours && scram->binding_n > 0 ? AUTH_OK : AUTH_REFUSED;
	}
	if (gs2->binding == SASL_BINDING_UNUSED && scram->binding_n > 0)
		return AUTH_REFUSED;
	return AUTH_OK;
}

/* The identity that is asked for is the name itself, or none. */
static enum auth_result check_authzid(const struct scram *scram, const struct sasl_gs2 *gs2)
{
	char name[SASL_NAME_MAX];
	size_t n;

	if (!gs2->has_authzid)
		return AUTH_OK;
	if (!sasl_name_decode(gs2->authzid, name, &n))
		return AUTH_MALFORMED;
	return str_eq(str_make(name, n), scram_name(scram)) ? AUTH_OK : AUTH_REFUSED;
}

/*
 * RFC 5802 section 7; "m=" in front is an extension that must be understood, and none is.
 *
 *   client-first-message-bare = [reserved-mext ","] "n=" saslname "," "r=" c-nonce ["," extensions]
 */
static bool parse_bare(struct scram *scram)
{
	struct str rest = scram->first_bare, name;

	return scram_take_attribute(&rest, 'n', &name) &&
	       sasl_name_decode(name, scram->name, &scram->name_n) &&
	       scram_take_attribute(&rest, 'r', &scram->client_nonce) &&
	       scram_is_nonce(scram->client_nonce) &&
	       scram->client_nonce.n <= SCRAM_CLIENT_NONCE_MAX && scram_are_extensions(rest);
}

enum auth_result scram_client_first(struct scram *scram, struct str message)
{
	struct sasl_gs2 gs2;

	if (message.n == 0 || message.n > sizeof(scram->first))
		return AUTH_MALFORMED;
	memcpy(scram->first, message.p, message.n);
	struct str rest = str_make(scram->first, message.n);
	if (!sasl_gs2_parse(&rest, &gs2))
		return AUTH_MALFORMED;
	scram->gs2_header = str_make(scram->first, message.n - rest.n);
	scram->first_bare = rest;
	if (!parse_bare(scram))
		return AUTH_MALFORMED;
	enum auth_result result = check_binding(scram, &gs2);
	return result == AUTH_OK ? check_authzid(scram, &gs2) : result;
}

/* server-first-message = "r=" c-nonce s-nonce "," "s=" salt "," "i=" iterations */
struct str scram_server_first(struct scram *scram, const struct scram_verifier *verifier)
{
	char iterations[16];

	scram->verifier = *verifier;
	scram->message_n = 0;
	say(scram, STR("r="));
	say(scram, scram->client_nonce);
	say(scram, own_nonce(scram));
	say(scram, STR(",s="));
	say_base64(scram, view(verifier->salt, verifier->salt_n));
	snprintf(iterations, sizeof(iterations), ",i=%u", verifier->iterations);
	say(scram, str_from(iterations));
	return said(scram);
}

/* What the client answers; views of its message. */
struct final {
	struct str binding, nonce, proof; /* proof and binding in base64 */
	struct str without_proof;
};

/*
 *   client-final-message = client-final-message-without-proof "," "p=" base64
 *   client-final-message-without-proof = "c=" base64 "," "r=" c-nonce s-nonce ["," extensions]
 */
static bool parse_final(struct str message, struct final *final)
{
	size_t comma = str_rfind(message, ',');
	struct str rest = str_range(message, 0, comma);
	struct str proof = str_from_pos(message, comma + 1);

	final->without_proof = rest;
	return scram_take_attribute(&rest, 'c', &final->binding) &&
	       scram_take_attribute(&rest, 'r', &final->nonce) && scram_is_nonce(final->nonce) &&
	       scram_are_extensions(rest) && scram_take_attribute(&proof, 'p', &final->proof);
}

static bool is_nonce_of(const struct scram *scram, struct str nonce)
{
	struct str client = scram->client_nonce;

	return str_starts_with(nonce, client) &&
	       str_eq(str_from_pos(nonce, client.n), own_nonce(scram));
}

/* cbind-input = gs2-header [ cbind-data ]; the header is under the client's proof in this way. */
static bool is_binding_of(const struct scram *scram, struct str base64)
{
	char expected[BASE64_SIZE(SCRAM_CLIENT_FIRST_MAX + SCRAM_BINDING_MAX)];
	char input[SCRAM_CLIENT_FIRST_MAX + SCRAM_BINDING_MAX];
	size_t binding_n = scram->is_plus ? scram->binding_n : 0, n;

	memcpy(input, scram->gs2_header.p, scram->gs2_header.n);
	memcpy(input + scram->gs2_header.n, scram->binding, binding_n);
	base64_encode(
		str_make(input, scram->gs2_header.n + binding_n), expected, sizeof(expected), &n);
	return secret_eq(str_make(expected, n), base64);
}

/*
 * RFC 5802 section 3:
 *
 *   ClientSignature = HMAC(StoredKey, AuthMessage)
 *   ClientProof     = ClientKey XOR ClientSignature
 *
 * so the proof gives the ClientKey, whose hash is the StoredKey.
 */
static bool is_proven(const struct scram_verifier *verifier, struct str auth_message,
	const uint8_t proof[SCRAM_HASH_SIZE])
{
	struct str stored_key = view(verifier->stored_key, SCRAM_HASH_SIZE);
	struct digest client_key = digest_hmac(stored_key, auth_message);

	for (size_t i = 0; i < SCRAM_HASH_SIZE; i++)
		client_key.bytes[i] ^= proof[i];
	struct digest hashed = digest_hash(digest_view(&client_key));
	secret_wipe(&client_key, sizeof(client_key));
	return secret_eq(digest_view(&hashed), stored_key);
}

/* AuthMessage = client-first-message-bare "," server-first-message ","
 *               client-final-message-without-proof */
static void join_messages(const struct scram *scram, struct str without_proof, struct buf *joined)
{
	bool fits = buf_write(joined, scram->first_bare) && buf_write(joined, STR(",")) &&
		    buf_write(joined, said(scram)) && buf_write(joined, STR(",")) &&
		    buf_write(joined, without_proof);

	ASSERT(fits);
}

/* server-final-message = "v=" base64 of HMAC(ServerKey, AuthMessage) */
static struct str sign(struct scram *scram, struct str auth_message)
{
	struct digest signature =
		digest_hmac(view(scram->verifier.server_key, SCRAM_HASH_SIZE), auth_message);

	scram->message_n = 0;
	say(scram, STR("v="));
	say_base64(scram, digest_view(&signature));
	return said(scram);
}

/* All comparisons are made, whatever the first ones say. */
enum auth_result scram_client_final(
	struct scram *scram, struct str message, struct str *server_final)
{
	uint8_t proof[SCRAM_HASH_SIZE];
	struct final final;
	struct buf joined;

	if (message.n > AUTH_LINE_MAX || !parse_final(message, &final) ||
		!parse_key(final.proof, proof))
		return AUTH_MALFORMED;
	buf_init(&joined, AUTH_MESSAGE_MAX);
	join_messages(scram, final.without_proof, &joined);
	bool is_right = is_proven(&scram->verifier, buf_view(&joined), proof);
	is_right &= is_nonce_of(scram, final.nonce);
	is_right &= is_binding_of(scram, final.binding);
	if (is_right)
		*server_final = sign(scram, buf_view(&joined));
	buf_free(&joined);
	return is_right ? AUTH_OK : AUTH_REFUSED;
}
