#include "../../../src/conf/suggest_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static const char *const keys[] = { "bind", "backend", "certificate", "key", "tls", "mode",
	"trusted_proxies", "connections_per_client", NULL };

static const struct {
	const char *given;
	const char *suggested; /* NULL: none */
} rows[] = {
	{ "bnid", "bind" },  /* two neighbours swapped */
	{ "bin", "bind" },   /* one missing */
	{ "binnd", "bind" }, /* one too many */
	{ "bond", "bind" },  /* one changed */
	{ "BIND", "bind" },  /* the wrong case is no distance */
	{ "backnd", "backend" },
	{ "bakend", "backend" },
	{ "certficat", "certificate" },
	{ "trustet_proxys", "trusted_proxies" }, /* three edits, a third of its length */
	{ "connection_per_clients", "connections_per_client" },
	{ "tsl", "tls" },
	{ "kei", "key" },
	{ "k", NULL }, /* of one letter nothing is left */
	{ "abc", NULL },
	{ "", NULL },
	{ "mx", NULL },
	{ "greeting", NULL },
	{ "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL },
};

static const char *suggest(struct str given)
{
	struct conf_suggest suggest;

	conf_suggest_init(&suggest, given);
	for (const char *const *key = keys; *key; key++)
		conf_suggest_consider(&suggest, *key);
	return suggest.best;
}

static void test_rows(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *best = suggest(str_from(rows[i].given));
		assert_string_equal(
			best ? best : "none", rows[i].suggested ? rows[i].suggested : "none");
	}
}

/* Every known word suggests itself, also from memory without a terminator. */
static void test_itself(void **state)
{
	(void)state;
	for (const char *const *key = keys; *key; key++) {
		char longer[64];
		size_t n = strlen(*key);

		memcpy(longer, *key, n);
		memset(longer + n, 'x', sizeof(longer) - n);
		assert_string_equal(suggest(str_make(longer, n)), *key);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
