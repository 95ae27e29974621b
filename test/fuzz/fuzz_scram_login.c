/*
 * SCRAM's client with any messages of a server: the first, a line end, and the last one. What must
 * hold: what is answered extends our nonce, and has its parts; only the one signature is taken.
 */
#include <stdint.h>
#include <string.h>

#include "auth/scram_login.h"
#include "base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NONCE STR("rOprNGfwEbeRWgbNEkqO")
/* More would take its time, each time. */
#define ITERATIONS_MAX 5000

static bool is_slow(struct str message)
{
	while (message.n > 0) {
		struct str part = str_cut(&message, ',');
		uint64_t iterations;
		if (str_starts_with(part, STR("i=")) &&
			str_to_u64(
				str_from_pos(part, 2), SCRAM_LOGIN_ITERATIONS_MAX, &iterations) &&
			iterations > ITERATIONS_MAX)
			return true;
	}
	return false;
}

static void check_answer(struct str answer, struct str first)
{
	ASSERT(str_starts_with(first, STR("r=")) && str_starts_with(str_from_pos(first, 2), NONCE));
	ASSERT(answer.n <= SCRAM_LOGIN_MESSAGE_MAX && str_starts_with(answer, STR("c=biws,r=")));
	ASSERT(str_starts_with(str_from_pos(answer, 9), NONCE));
	struct str proof = str_from_pos(answer, str_rfind(answer, ',') + 1);
	ASSERT(str_starts_with(proof, STR("p=")) && proof.n == 2 + 44);
}

static void check(struct scram_login *login, struct str first, struct str final)
{
	struct str answer;

	if (scram_login_final(login, first, &answer, NULL) < 0)
		return;
	check_answer(answer, first);
	if (scram_login_verify(login, final))
		ASSERT(str_starts_with(final, STR("v=")) && final.n >= 2 + 44);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct scram_keyring ring;
	struct sasl_credentials credentials = { STR_INIT("user"), STR_INIT("pencil") };
	struct scram_login login;
	struct str final = str_make((const char *)data, size);
	struct str first = str_cut(&final, '\n');

	if (is_slow(first))
		return 0;
	scram_login_begin(&login, credentials, &ring, NONCE);
	scram_login_first(&login);
	check(&login, first, final);
	scram_login_end(&login);
	return 0;
}
