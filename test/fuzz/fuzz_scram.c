/*
 * SCRAM's server with any messages of a client. Byte 0: whether -PLUS was chosen (1), and whether
 * there is a channel binding (2); then the client's first message, a line end, and its last one. What
 * must hold: a name that was taken can be one; our challenge extends the client's nonce; what proves
 * the password has its parts, and the whole nonce.
 */
#include <stdint.h>
#include <string.h>

#include "auth/scram.h"
#include "base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PLUS 1
#define BINDING 2
#define NONCE STR("0123456789abcdefghijklmn")

/* Of the password "pencil"; made once, as that takes long. */
static const struct scram_verifier *verifier(void)
{
	static struct scram_verifier made;

	if (made.iterations == 0)
		scram_verifier_make(
			STR("pencil"), STR("sixteen of salts"), SCRAM_ITERATIONS_MIN, &made);
	return &made;
}

static bool has_part(struct str message, char name)
{
	while (message.n > 0) {
		struct str part = str_cut(&message, ',');
		if (part.n > 2 && part.p[0] == name && part.p[1] == '=')
			return true;
	}
	return false;
}

static void check_challenge(struct str challenge, struct str nonce)
{
	ASSERT(str_starts_with(challenge, STR("r=")));
	struct str behind = str_from_pos(challenge, 2);
	ASSERT(str_starts_with(behind, nonce));
	ASSERT(str_starts_with(str_from_pos(behind, nonce.n), NONCE));
	ASSERT(has_part(challenge, 's') && has_part(challenge, 'i'));
}

static void check_final(struct scram *scram, struct str final, struct str nonce)
{
	struct str signature;
	struct str rest = final;

	if (scram_client_final(scram, final, &signature) != AUTH_OK)
		return;
	ASSERT(str_starts_with(signature, STR("v=")));
	ASSERT(str_starts_with(str_cut(&rest, ','), STR("c=")));
	struct str said = str_from_pos(str_cut(&rest, ','), 2);
	ASSERT(str_starts_with(said, nonce) && str_eq(str_from_pos(said, nonce.n), NONCE));
	ASSERT(has_part(rest, 'p'));
}

static void check(struct scram *scram, struct str first, struct str final)
{
	if (scram_client_first(scram, first) != AUTH_OK)
		return;
	struct str nonce = scram->client_nonce;
	ASSERT(nonce.n > 0 && nonce.n <= SCRAM_CLIENT_NONCE_MAX);
	ASSERT(scram_name(scram).n > 0 && sasl_is_text(scram_name(scram)));
	check_challenge(scram_server_first(scram, verifier()), nonce);
	check_final(scram, final, nonce);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct scram scram;

	if (size == 0)
		return 0;
	struct str final = str_make((const char *)data + 1, size - 1);
	struct str first = str_cut(&final, '\n');
	scram_begin(&scram, data[0] & PLUS, data[0] & BINDING ? STR("binding") : STR(""), NONCE);
	check(&scram, first, final);
	scram_end(&scram);
	return 0;
}
