#include "auth/auth.h"

#include "base/assert.h"

static const struct {
	unsigned mechanism;
	struct str word;
} words[] = {
	{ AUTH_PLAIN, STR_INIT("PLAIN") },
	{ AUTH_LOGIN, STR_INIT("LOGIN") },
	{ AUTH_SCRAM_SHA_256, STR_INIT("SCRAM-SHA-256") },
	{ AUTH_SCRAM_SHA_256_PLUS, STR_INIT("SCRAM-SHA-256-PLUS") },
	{ AUTH_OAUTHBEARER, STR_INIT("OAUTHBEARER") },
	{ AUTH_XOAUTH2, STR_INIT("XOAUTH2") },
};

#define COUNT (sizeof(words) / sizeof(words[0]))

unsigned auth_mechanism_find(struct str name)
{
	for (size_t i = 0; i < COUNT; i++)
		if (str_eq_nocase(words[i].word, name))
			return words[i].mechanism;
	return 0;
}

struct str auth_mechanism_word(unsigned mechanism)
{
	size_t i = 0;

	while (i < COUNT && words[i].mechanism != mechanism)
		i++;
	ASSERT(i < COUNT);
	return words[i].word;
}
