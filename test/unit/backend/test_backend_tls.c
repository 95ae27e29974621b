#include "backend/backend_tls.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>

#include <cmocka.h>

#include "proto/smtp_params.h"

static void test_tls_steps(void **state)
{
	static const struct {
		enum backend_tls_mode mode;
		bool is_offered, is_tls;
		enum tls_step step;
	} rows[] = {
		{ BACKEND_TLS_OFF, false, false, TLS_STEP_NONE },
		{ BACKEND_TLS_OFF, true, false, TLS_STEP_NONE },
		{ BACKEND_TLS_IMPLICIT, true, true, TLS_STEP_NONE },
		{ BACKEND_TLS_IMPLICIT, false, true, TLS_STEP_NONE },
		{ BACKEND_TLS_OPPORTUNISTIC, true, false, TLS_STEP_STARTTLS },
		{ BACKEND_TLS_OPPORTUNISTIC, false, false, TLS_STEP_PLAINTEXT },
		{ BACKEND_TLS_REQUIRED, true, false, TLS_STEP_STARTTLS },
		{ BACKEND_TLS_REQUIRED, false, false, TLS_STEP_REFUSE },
		/* Under TLS nothing is begun again, whatever the server says. */
		{ BACKEND_TLS_OPPORTUNISTIC, true, true, TLS_STEP_NONE },
		{ BACKEND_TLS_OPPORTUNISTIC, false, true, TLS_STEP_NONE },
		{ BACKEND_TLS_REQUIRED, true, true, TLS_STEP_NONE },
		{ BACKEND_TLS_REQUIRED, false, true, TLS_STEP_NONE },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct backend_settings settings = { .tls.mode = (int)rows[i].mode };
		struct backend backend = { .settings = &settings };
		struct smtp_capabilities capabilities = {
			.extensions = SMTP_EXT_SIZE | (rows[i].is_offered ? SMTP_EXT_STARTTLS : 0u),
		};
		if (backend_tls_step(&backend, &capabilities, rows[i].is_tls) != rows[i].step)
			fail_msg("row %zu", i);
	}
}

/* Plaintext only where both are said: opportunistic, and that a failure may end so. */
static void test_tls_that_failed(void **state)
{
	(void)state;
	for (int mode = BACKEND_TLS_OFF; mode <= BACKEND_TLS_IMPLICIT; mode++)
		for (int fallback = 0; fallback <= TLS_FALLBACK_ALWAYS; fallback++) {
			struct backend_settings settings = { .tls = { .mode = mode,
								     .fallback = fallback } };
			struct backend backend = { .settings = &settings };
			bool may = mode == BACKEND_TLS_OPPORTUNISTIC &&
				   fallback == TLS_FALLBACK_ALWAYS;
			assert_int_equal(backend_tls_failed(&backend),
				may ? TLS_STEP_PLAINTEXT : TLS_STEP_REFUSE);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tls_steps),
		cmocka_unit_test(test_tls_that_failed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
