/*
 * What can be said wrongly about TLS and AUTH, and where the report points: each case is a whole file
 * of which only one section differs.
 */
#include "app/settings.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define HEAD \
	"hostname: mx.example.net\n" \
	"relay: {domains: [example.com]}\n" \
	"backends:\n" \
	"  - servers: [\"127.0.0.1:1\"]\n"
#define LISTENER \
	HEAD "listeners:\n" \
	     "  - bind: [\"127.0.0.1:0\"]\n" \
	     "    proxy: off\n"
#define LISTENER_TAIL "listeners:\n  - {bind: [\"127.0.0.1:0\"], proxy: off}\n"

static char path[64];

static int make_path(void **state)
{
	(void)state;
	snprintf(path, sizeof(path), "/tmp/settings-test-XXXXXX");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	return close(fd);
}

static int remove_path(void **state)
{
	(void)state;
	return unlink(path);
}

static int read_text(const char *text, struct settings *settings, struct buf *report)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	return settings_read(path, false, settings, report);
}

/* The report must be the one mistake, "LINE:COLUMN: key: text…"; NULL: there must be none. */
static void check(const char *text, const char *wanted)
{
	struct settings settings;
	struct buf report;
	char line[512];

	buf_init(&report, 1 << 16);
	int rc = read_text(text, &settings, &report);
	struct str told = buf_view(&report);
	if (wanted == NULL) {
		if (rc < 0)
			fail_msg("%s: %.*s", text, STR_ARG(told));
		settings_free(&settings);
		buf_free(&report);
		return;
	}
	snprintf(line, sizeof(line), "%s:%s", path, wanted);
	if (rc == 0 || !str_starts_with(told, str_from(line)) || str_find(told, '\n') + 1 < told.n)
		fail_msg("%s: %.*s, not %s", text, STR_ARG(told), line);
	buf_free(&report);
}

struct row {
	const char *section; /* lines behind what all have */
	const char *wanted;
};

static void check_all(const char *head, const struct row *rows, size_t count, const char *tail)
{
	char text[2048];

	for (size_t i = 0; i < count; i++) {
		snprintf(text, sizeof(text), "%s%s%s", head, rows[i].section, tail);
		check(text, rows[i].wanted);
	}
}

#define CHECK_ALL(head, rows, tail) check_all(head, rows, sizeof(rows) / sizeof(rows[0]), tail)

#define PAIR "certificate: /c.pem, key: /c.key"

static void test_tls_with_clients(void **state)
{
	static const struct row rows[] = {
		{ "    tls: {mode: starttls, " PAIR "}\n", NULL },
		{ "    tls: {mode: implicit, certificates: [{" PAIR "}]}\n", NULL },
		{ "    tls: {mode: implicit, " PAIR ", certificates: [{" PAIR "}], "
		  "min_version: \"1.3\", client_ca: /ca.pem}\n",
			NULL },
		{ "    tls: {mode: off}\n", NULL },
		{ "    tls: {mode: starttls}\n",
			"8:10: listeners[0].tls: mode starttls needs certificate and key" },
		{ "    tls:\n      mode: implicit\n",
			"9:7: listeners[0].tls: mode implicit needs certificate and key" },
		{ "    tls: {mode: starttls, certificate: /c.pem}\n",
			"8:10: listeners[0].tls: certificate and key belong together" },
		{ "    tls: {mode: starttls, certificates: [{" PAIR "}], key: /c.key}\n",
			"8:10: listeners[0].tls: certificate and key belong together" },
		/* Who has certificates does not mean plaintext. */
		{ "    tls: {" PAIR "}\n",
			"8:10: listeners[0].tls: certificates have no meaning without mode" },
		{ "    tls: {mode: off, certificates: [{" PAIR "}]}\n",
			"8:10: listeners[0].tls: certificates have no meaning without mode" },
		{ "    tls: {client_ca: /ca.pem}\n",
			"8:10: listeners[0].tls: certificates have no meaning without mode" },
		{ "    tls: {mode: tls}\n", "8:17: listeners[0].tls.mode: " },
		{ "    tls: {mode: starttls, " PAIR ", min_version: \"1.1\"}\n",
			"8:74: listeners[0].tls.min_version: " },
		{ "    tls: {mode: starttls, " PAIR ", ciphers: x}\n",
			"8:61: listeners[0].tls.ciphers: " },
		{ "    tls: {mode: starttls, certificates: [{certificate: /c.pem}]}\n",
			"8:42: listeners[0].tls.certificates[0].key: " },
		{ "    tls: starttls\n", "8:10: listeners[0].tls: " },
	};

	(void)state;
	CHECK_ALL(LISTENER, rows, "");
}

#define DIGITS "0123456789abcdefABCDEF0123456789abcdefABCDEF0123456789abcdefABCD"

static void test_tls_with_backends(void **state)
{
	static const struct row rows[] = {
		{ "    tls: {mode: opportunistic, fallback: always}\n", NULL },
		{ "    tls: {mode: required, verify: ca}\n", NULL },
		{ "    tls: {mode: required, verify: name, name: mail.example.com, ca: /ca.pem}\n",
			NULL },
		{ "    tls: {mode: implicit, verify: fingerprint, fingerprint: \"" DIGITS "\"}\n",
			NULL },
		{ "    tls: {mode: implicit, verify: fingerprint, fingerprint: \"01:" DIGITS
		  "\"}\n",
			"5:61: backends[0].tls.fingerprint: must be 64 hex digits" },
		{ "    tls: {mode: implicit, verify: fingerprint, fingerprint: \"xy\"}\n",
			"5:61: backends[0].tls.fingerprint: must be 64 hex digits" },
		{ "    tls: {mode: required, verify: fingerprint}\n",
			"5:10: backends[0].tls: verify: fingerprint needs fingerprint" },
		{ "    tls: {mode: required, verify: name}\n",
			"5:10: backends[0].tls: verify: name needs name" },
		/* Who wants it verified does not mean plaintext. */
		{ "    tls: {verify: ca}\n",
			"5:19: backends[0].tls.verify: verify has no meaning without mode" },
		{ "    tls: {mode: required, ca: /ca.pem}\n",
			"5:31: backends[0].tls.ca: ca has no meaning without verify" },
		{ "    tls: {mode: required, verify: ca, fingerprint: \"" DIGITS "\"}\n",
			"5:52: backends[0].tls.fingerprint: fingerprint has no meaning without" },
		{ "    tls: {mode: required, certificate: /c.pem}\n",
			"5:10: backends[0].tls: certificate and key belong together" },
		{ "    tls: {mode: required, key: /c.key}\n",
			"5:10: backends[0].tls: certificate and key belong together" },
		{ "    tls: {mode: starttls}\n", "5:17: backends[0].tls.mode: " },
		{ "    tls: {mode: required, verify: maybe}\n", "5:35: backends[0].tls.verify: " },
		{ "    tls: {mode: required, fallback: never}\n",
			"5:37: backends[0].tls.fallback: " },
	};

	(void)state;
	CHECK_ALL(HEAD, rows, LISTENER_TAIL);
}

static void test_auth_at_backends(void **state)
{
#define WHO "user: relay, password_file: /p"
	static const struct row rows[] = {
		{ "    auth: {" WHO "}\n    tls: {mode: required}\n", NULL },
		{ "    auth: {" WHO "}\n    tls: {mode: implicit}\n", NULL },
		{ "    auth: {" WHO "}\n    tls: {mode: opportunistic}\n", NULL },
		{ "    auth: {" WHO ", allow_plaintext: yes}\n", NULL },
		{ "    auth: {" WHO ", mechanisms: plain}\n    tls: {mode: required}\n", NULL },
		{ "    auth: {allow_plaintext: yes}\n", NULL }, /* for those of clients */
		{ "    auth: {" WHO "}\n",
			"5:11: backends[0].auth: a password is not sent without TLS" },
		{ "    auth: {user: relay}\n    tls: {mode: required}\n",
			"5:11: backends[0].auth: user and password_file belong together" },
		{ "    auth: {password_file: /p}\n    tls: {mode: required}\n",
			"5:11: backends[0].auth: user and password_file belong together" },
		{ "    auth: {" WHO ", mechanisms: [CRAM-MD5]}\n    tls: {mode: required}\n",
			"5:56: backends[0].auth.mechanisms: there is no mechanism CRAM-MD5" },
		{ "    auth: {" WHO
		  ", mechanisms: SCRAM-SHA-256-PLUS}\n    tls: {mode: required}\n",
			"5:56: backends[0].auth.mechanisms: there is no mechanism SCRAM-" },
		{ "    auth: {" WHO ", password: x}\n    tls: {mode: required}\n",
			"5:44: backends[0].auth.password: unknown key" },
	};

	(void)state;
	CHECK_ALL(HEAD, rows, LISTENER_TAIL);
}

/* Of clients, tried at a backend: it must have TLS, or say that it needs none. */
static void test_auth_by_a_backend(void **state)
{
	static const struct row rows[] = {
		{ "    tls: {mode: required}\n", NULL },
		{ "    tls: {mode: implicit}\n", NULL },
		{ "    tls: {mode: opportunistic}\n", NULL },
		{ "    auth: {allow_plaintext: yes}\n", NULL },
		{ "", "6:57: listeners[0].auth.backend: passwords of clients would be sent" },
		{ "    name: other\n",
			"7:57: listeners[0].auth.backend: there is no backend \"backend1\"" },
	};

	(void)state;
	CHECK_ALL(HEAD, rows,
		"listeners:\n  - {bind: [\"127.0.0.1:0\"], proxy: off, auth: {backend: "
		"backend1}}\n");
}

/* RFC 2033 section 5. */
static void test_lmtp(void **state)
{
	static const struct row rows[] = {
		{ "[\"127.0.0.1:24\", \"[::1]:2525\", \"unix:/run/lmtp\"]\n", NULL },
		{ "[\"127.0.0.1:24\", \"[::1]:25\"]\n",
			"3:16: backends[0].protocol: lmtp must not be spoken on port 25 "
			"([::1]:25)" },
		{ "[\"store.example:25\"]\n",
			"3:16: backends[0].protocol: lmtp must not be spoken on port 25 "
			"(store.example:25)" },
	};

	(void)state;
	CHECK_ALL("hostname: mx.example.net\nbackends:\n  - {protocol: lmtp, servers: ", rows,
		"    }\n" LISTENER_TAIL);
}

static void test_identity(void **state)
{
	static const struct row rows[] = {
		{ "proxy-v2, proxy_tlvs: [ssl, unique-id]", NULL },
		{ "xclient, wait_for_name: yes", NULL },
		{ "xforward, wait_for_name: yes", NULL },
		{ "local+xclient, wait_for_name: yes", NULL },
		{ "none, wait_for_name: no", NULL },
		{ "xclient, proxy_tlvs: [ssl]",
			"3:64: backends[0].proxy_tlvs: proxy_tlvs has no meaning without "
			"identity: proxy-v2" },
		{ "proxy-v2, wait_for_name: yes",
			"3:68: backends[0].wait_for_name: wait_for_name has no meaning without "
			"identity: xclient, xforward or local+xclient" },
	};

	(void)state;
	CHECK_ALL(
		"hostname: mx.example.net\nbackends:\n  - {servers: [\"127.0.0.1:24\"], identity: ",
		rows, "}\n" LISTENER_TAIL);
}

static void test_auth(void **state)
{
	static const struct row rows[] = {
		{ "    auth: {users: /users}\n", NULL },
		{ "    auth: {required: yes, sasl: \"unix:/run/auth\", mechanisms: [PLAIN, "
		  "login]}\n",
			NULL },
		{ "    auth: {sasl: \"inet:[2001:db8::1]:12345\", allow_plaintext: [10.9.0.0/16], "
		  "failure_delay: 0s, failures_per_client: 0}\n",
			NULL },
		{ "    auth: {required: yes}\n",
			"8:11: listeners[0].auth: required needs users, sasl or backend" },
		{ "    auth: {users: /users, sasl: \"unix:/run/auth\"}\n",
			"8:11: listeners[0].auth: users, sasl and backend exclude each other" },
		{ "    auth: {required: yes, backend: mta}\n",
			"8:36: listeners[0].auth.backend: there is no backend \"mta\"" },
		{ "    auth: {backend: backend1}\n",
			"8:21: listeners[0].auth.backend: passwords of clients would be sent" },
		{ "    auth: {users: /users, mechanisms: [PLAIN, CRAM-MD5]}\n",
			"8:39: listeners[0].auth.mechanisms: there is no mechanism CRAM-MD5" },
		{ "    auth: {sasl: /run/auth}\n", "8:18: listeners[0].auth.sasl: " },
		{ "    auth: {sasl: \"inet:dovecot:12345\"}\n", "8:18: listeners[0].auth.sasl: " },
		{ "    auth: {users: /users, allow_plaintext: [10.9.0.1/16]}\n",
			"8:45: listeners[0].auth.allow_plaintext[0]: " },
		{ "    auth: {users: /users, failure_delay: 2m}\n",
			"8:42: listeners[0].auth.failure_delay: " },
		{ "    auth: {users: /users, timeout: 1ms}\n",
			"8:36: listeners[0].auth.timeout: " },
		{ "    auth: {users: /users, failure_window: 0s}\n",
			"8:43: listeners[0].auth.failure_window: " },
		{ "    auth: {users: /users, sender_login: /senders, unlisted_senders: accept}\n",
			NULL },
		{ "    auth: {sender_login: /senders, unauthenticated_senders: reject}\n", NULL },
		{ "    auth: {sender_login: /senders}\n",
			"8:26: listeners[0].auth.sender_login: sender_login needs users, sasl or" },
		{ "    auth: {users: /users, unlisted_senders: accept}\n",
			"8:45: listeners[0].auth.unlisted_senders: has no meaning" },
		{ "    auth: {users: /users, unauthenticated_senders: reject}\n",
			"8:52: listeners[0].auth.unauthenticated_senders: has no meaning" },
		{ "    auth: {user: /users}\n", "8:12: listeners[0].auth.user: " },
	};

	(void)state;
	CHECK_ALL(LISTENER, rows, "");
}

static void test_routes(void **state)
{
	static const struct row rows[] = {
		{ "  - {backend: backend1}\n", NULL },
		{ "  - {map: /routes, listeners: [listener1]}\n",
			"8:32: routes[0].listeners[0]: there is no listener" },
		{ "  - {map: /routes, users: [alice, \"@example.com\", \"*\"]}\n", NULL },
		{ "  - {users: alice}\n", "8:5: routes[0]: a route needs backend or map" },
		{ "  - {map: /routes, backend: backend1}\n",
			"8:5: routes[0]: backend and map exclude each other" },
		{ "  - {backend: mta}\n", "8:15: routes[0].backend: there is no backend \"mta\"" },
	};

	(void)state;
	CHECK_ALL(HEAD LISTENER_TAIL "routes:\n", rows, "");
}

static void test_limits(void **state)
{
	static const struct row rows[] = {
		{ "limits: {handshakes: 10, auth_failures: 1}\n", NULL },
		{ "limits: {handshakes: 0}\n", "8:22: limits.handshakes: " },
		{ "limits: {auth_failures: 0}\n", "8:25: limits.auth_failures: " },
		{ "timeouts: {tls_handshake: 0s}\n", "8:27: timeouts.tls_handshake: " },
	};

	(void)state;
	CHECK_ALL(LISTENER, rows, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tls_with_clients),
		cmocka_unit_test(test_tls_with_backends),
		cmocka_unit_test(test_auth_at_backends),
		cmocka_unit_test(test_auth_by_a_backend),
		cmocka_unit_test(test_lmtp),
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_auth),
		cmocka_unit_test(test_routes),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, make_path, remove_path);
}
