#include "policy/checks/relay.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/smtp_params.h"
#include "support/check_stage.h"
#include "support/vectors.h"

static struct str domains[] = { STR_INIT("example.com"), STR_INIT(".example.org"),
	STR_INIT("xn--bcher-kva.example"), STR_INIT("[192.0.2.1]") };
static const struct relay_settings ours = { .domains = { domains, 4 } };
static const struct policy_roots roots = { .relay = &ours };

static void open_stage(struct check_stage *stage, const char *steps)
{
	check_stage_init(stage, POLICY_RCPT, steps, &roots, "198.51.100.7");
	transaction_begin(&stage->connection, 65536, 1000);
}

/* REPLY_OK stands for "permitted". */
static enum reply_id ask_about(struct check_stage *stage, const char *path)
{
	check_stage_recipient(stage, path);
	check_stage_ask(stage);
	assert_true(stage->is_decided);
	if (stage->verdict.kind == VERDICT_NEXT || stage->verdict.kind == VERDICT_ALLOW)
		return REPLY_OK;
	assert_int_equal(stage->verdict.kind, VERDICT_REJECT);
	return stage->verdict.reply;
}

static void test_who_may_send_where(void **state)
{
	static const struct {
		const char *path;
		enum reply_id stranger, may_relay;
	} rows[] = {
		{ "<user@example.com>", REPLY_OK, REPLY_OK },
		{ "<user@EXAMPLE.Com>", REPLY_OK, REPLY_OK },
		{ "<user@a.example.org>", REPLY_OK, REPLY_OK },
		{ "<user@a.b.c.EXAMPLE.org>", REPLY_OK, REPLY_OK },
		{ "<user@b\xc3\xbc"
		  "cher.example>",
			REPLY_OK, REPLY_OK },
		{ "<user@XN--BCHER-KVA.example>", REPLY_OK, REPLY_OK },
		{ "<user@[192.0.2.1]>", REPLY_OK, REPLY_OK },
		{ "<postmaster>", REPLY_OK, REPLY_OK },
		{ "<PostMaster>", REPLY_OK, REPLY_OK },
		{ "<postmaster@example.com>", REPLY_OK, REPLY_OK },
		/* Look-alikes. */
		{ "<user@example.org>", REPLY_RELAY_DENIED, REPLY_OK },
		{ "<user@notexample.org>", REPLY_RELAY_DENIED, REPLY_OK },
		{ "<user@not.example.org.test>", REPLY_RELAY_DENIED, REPLY_OK },
		{ "<user@sub.example.com>", REPLY_RELAY_DENIED, REPLY_OK },
		{ "<user@notexample.com>", REPLY_RELAY_DENIED, REPLY_OK },
		{ "<user@example.com.test>", REPLY_RELAY_DENIED, REPLY_OK },
		{ "<user@example.co>", REPLY_RELAY_DENIED, REPLY_OK },
		{ "<user@xample.com>", REPLY_RELAY_DENIED, REPLY_OK },
		{ "<user@com>", REPLY_RELAY_DENIED, REPLY_OK },
		{ "<user@org>", REPLY_RELAY_DENIED, REPLY_OK },
		{ "<user@example_com>", REPLY_RELAY_DENIED, REPLY_OK },
		{ "<user@ex\xd0\xb0mple.com>", REPLY_RELAY_DENIED, REPLY_OK },
		{ "<postmaster@evil.test>", REPLY_RELAY_DENIED, REPLY_OK },
		{ "<example.com@evil.test>", REPLY_RELAY_DENIED, REPLY_OK },
		/* Address literals. */
		{ "<user@[192.0.2.2]>", REPLY_RELAY_DENIED, REPLY_OK },
		{ "<user@[127.0.0.1]>", REPLY_RELAY_DENIED, REPLY_OK },
		{ "<user@[IPv6:::1]>", REPLY_RELAY_DENIED, REPLY_OK },
		/* Routing in the local part. */
		{ "<user%evil.test@example.com>", REPLY_ROUTING_DENIED, REPLY_OK },
		{ "<evil.test!user@example.com>", REPLY_ROUTING_DENIED, REPLY_OK },
		{ "<\"user@evil.test\"@example.com>", REPLY_ROUTING_DENIED, REPLY_OK },
		{ "<user%evil.test@evil.test>", REPLY_RELAY_DENIED, REPLY_OK },
		/* Source routes. */
		{ "<@evil.test:user@example.com>", REPLY_SOURCE_ROUTE_DENIED,
			REPLY_SOURCE_ROUTE_DENIED },
		{ "<@example.com,@a.example.org:user@evil.test>", REPLY_SOURCE_ROUTE_DENIED,
			REPLY_SOURCE_ROUTE_DENIED },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct check_stage stage;
		open_stage(&stage, "[relay]");
		enum reply_id got = ask_about(&stage, rows[i].path);
		if (got != rows[i].stranger)
			fail_msg("%s: reply %d for a stranger", rows[i].path, reply_code(got));
		stage.connection.relaying = true;
		got = ask_about(&stage, rows[i].path);
		if (got != rows[i].may_relay)
			fail_msg("%s: reply %d for one of ours", rows[i].path, reply_code(got));
		check_stage_free(&stage);
	}
}

/* Addresses that only a header can name: they may send nothing, whatever else is granted. */
static void test_impossible_clients(void **state)
{
	static const struct {
		const char *client;
		bool is_possible;
	} rows[] = {
		{ "0.0.0.0", false },
		{ "::", false },
		{ "224.0.0.1", false },
		{ "239.255.255.255", false },
		{ "ff02::1", false },
		{ "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false },
		{ "255.255.255.255", false },
		{ "0.0.0.1", true },
		{ "223.255.255.255", true },
		{ "240.0.0.1", true },
		{ "255.255.255.254", true },
		{ "::2", true },
		{ "feff::1", true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct check_stage stage;
		check_stage_init(&stage, POLICY_RCPT, "[relay]", &roots, rows[i].client);
		transaction_begin(&stage.connection, 65536, 1000);
		stage.connection.relaying = true;
		enum reply_id got = ask_about(&stage, "<user@example.com>");
		assert_int_equal(got, rows[i].is_possible ? REPLY_OK : REPLY_IMPOSSIBLE_CLIENT);
		check_stage_free(&stage);
	}
}

/* A grant within a transaction counts in it. */
static void test_grant_of_transaction(void **state)
{
	struct check_stage stage;

	(void)state;
	open_stage(&stage, "[relay]");
	stage.connection.transaction->relaying = true;
	assert_int_equal(ask_about(&stage, "<user@evil.test>"), REPLY_OK);
	stage.connection.transaction->relaying = false;
	assert_int_equal(ask_about(&stage, "<user@evil.test>"), REPLY_RELAY_DENIED);
	assert_true(check_stage_has(&stage, "fail", "RCPT reject"));
	check_stage_free(&stage);
}

/* Nobody's domains: nothing but postmaster gets in. */
static void test_no_domains(void **state)
{
	static const struct relay_settings nothing;
	static const struct policy_roots no_roots = { .relay = &nothing };
	struct check_stage stage;

	(void)state;
	open_stage(&stage, "[relay]");
	policy_plans_bind(&stage.plans, &no_roots);
	assert_int_equal(ask_about(&stage, "<user@example.com>"), REPLY_RELAY_DENIED);
	assert_int_equal(ask_about(&stage, "<user@[192.0.2.1]>"), REPLY_RELAY_DENIED);
	assert_int_equal(ask_about(&stage, "<postmaster>"), REPLY_OK);
	check_stage_free(&stage);
}

static void test_domain_is_ours(void **state)
{
	static const struct {
		const char *domain;
		bool is_ours;
	} rows[] = {
		{ "example.com", true },
		{ "a.example.org", true },
		{ "", false },
		{ ".", false },
		{ "example.com.", false },
		{ ".example.com", false },
		{ ".example.org", false },
		{ "example.org", false },
		{ "a.example.org.", false },
		{ "example.comx", false },
		{ "xexample.com", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (relay_domain_is_ours(&ours, str_from(rows[i].domain)) != rows[i].is_ours)
			fail_msg("\"%s\"", rows[i].domain);
	/* A NUL is a byte like any other, not an end. */
	assert_false(relay_domain_is_ours(&ours, STR("example.com\0.evil.test")));
	assert_false(relay_domain_is_ours(&ours, STR("evil.test\0example.com")));
}

static void test_grant_by_network(void **state)
{
	static const struct {
		const char *client;
		bool allowed, has_header, is_restricted, is_granted;
	} rows[] = {
		{ "10.9.0.1", false, false, false, true },
		{ "::ffff:10.9.255.255", false, false, false, true },
		{ "2001:db8:1::5", false, false, false, true },
		{ "10.9.0.1", true, true, false, true },
		{ "10.9.0.1", true, false, false, false }, /* a proxy's own address */
		{ "10.9.0.1", true, true, true, false },
		{ "10.9.0.1", false, false, true, false },
		{ "127.0.0.1", false, false, false, true },
		{ "127.0.0.1", true, true, false, false }, /* beside the proxy, not beside us */
		{ "::1", true, true, false, false },
		{ "fe80::1", true, true, false, false },
		{ "10.10.0.1", false, false, false, false },
		{ "2001:db8:2::5", false, false, false, false },
	};
	static const char *const texts[] = { "10.9.0.0/16", "2001:db8:1::/48", "127.0.0.0/8", "::1",
		"fe80::/10" };
	struct ipnet networks[5];
	const struct relay_settings settings = { .networks = { networks, 5 } };

	(void)state;
	for (size_t i = 0; i < 5; i++)
		assert_true(ipnet_parse(str_from(texts[i]), &networks[i]));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct fake_services fake = { 0 };
		struct connection connection;
		fake_client(&connection, &fake, rows[i].client);
		connection.proxy.allowed = rows[i].allowed;
		connection.proxy.has_header = rows[i].has_header;
		connection.is_restricted = rows[i].is_restricted;
		relay_grant_by_network(&settings, &connection);
		if (connection.relaying != rows[i].is_granted)
			fail_msg("row %zu: %s", i, rows[i].client);
		connection_free(&connection);
	}
}

static void test_no_grant_without_client(void **state)
{
	struct ipnet networks[1];
	const struct relay_settings settings = { .networks = { networks, 1 } };
	const struct timespec now = { 0 };
	struct connection connection;

	(void)state;
	assert_true(ipnet_parse(STR("::/0"), &networks[0]));
	connection_init(&connection, &now, 0);
	relay_grant_by_network(&settings, &connection);
	assert_false(connection.relaying);
	connection_free(&connection);
}

/* An unbound step is a bug and must not let anything in. */
static void test_unbound_asserts(void **state)
{
	struct check_stage stage;
	static const struct policy_roots none = { .relay = NULL };
	pid_t pid;
	int status;

	(void)state;
	open_stage(&stage, "[relay]");
	policy_plans_bind(&stage.plans, &none);
	pid = fork();
	if (pid == 0) {
		signal(SIGABRT, SIG_DFL);
		close(STDERR_FILENO);
		ask_about(&stage, "<user@example.com>");
		_exit(0);
	}
	waitpid(pid, &status, 0);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	check_stage_free(&stage);
}

/* ---- test/vectors/relay-probes.jsonl ---- */

static size_t put_utf8(unsigned code, char *out)
{
	if (code < 0x80) {
		out[0] = (char)code;
		return 1;
	}
	if (code < 0x800) {
		out[0] = (char)(0xc0 | code >> 6);
		out[1] = (char)(0x80 | (code & 0x3f));
		return 2;
	}
	out[0] = (char)(0xe0 | code >> 12);
	out[1] = (char)(0x80 | (code >> 6 & 0x3f));
	out[2] = (char)(0x80 | (code & 0x3f));
	return 3;
}

static size_t put_code(unsigned code, bool is_utf8, char *out)
{
	if (is_utf8)
		return put_utf8(code, out);
	out[0] = (char)code;
	return 1;
}

/* The bytes of a JSON string; without `is_utf8` a code point is an octet. */
static size_t unescape(struct str s, bool is_utf8, char *out)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] != '\\') {
			out[n++] = s.p[i];
			continue;
		}
		char c = s.p[++i];
		if (c == 'u') {
			char digits[5] = { 0 };
			str_copy_to(str_range(s, i + 1, i + 5), digits, sizeof(digits));
			n += put_code((unsigned)strtoul(digits, NULL, 16), is_utf8, out + n);
			i += 4;
		} else {
			out[n++] = (char)(c == 'r' ? '\r' : c == 'n' ? '\n' : c == 't' ? '\t' : c);
		}
	}
	return n;
}

static enum smtp_path_fault set_candidate(
	struct check_stage *stage, struct str text, bool utf8, struct str *rest)
{
	struct transaction *transaction = stage->connection.transaction;
	struct recipient *recipient = transaction_candidate(transaction);

	return smtp_path_parse_forward(text, utf8, &transaction->arena, &recipient->path, rest);
}

/* What MAIL and RCPT with these texts come to: "accept", "reject" or "syntax-error". */
static const char *probe(struct check_stage *stage, struct str sender, struct str recipient)
{
	struct transaction *transaction = stage->connection.transaction;
	struct smtp_rcpt_params params;
	struct str rest, bad;

	if (smtp_path_parse_reverse(
		    sender, true, &transaction->arena, &transaction->mail_from, &rest) ||
		smtp_params_parse_mail(rest, SMTP_EXT_SMTPUTF8 | SMTP_EXT_SIZE, &transaction->arena,
			&transaction->mail_params, &bad))
		return "syntax-error";
	if (set_candidate(stage, str_trim(recipient), transaction->mail_params.smtputf8, &rest) ||
		smtp_params_parse_rcpt(rest, SMTP_EXT_DSN, &transaction->arena, &params, &bad))
		return "syntax-error";
	check_stage_ask(stage);
	return stage->verdict.kind == VERDICT_REJECT ? "reject" : "accept";
}

static bool holds(struct str list, const char *word)
{
	return list.p && memmem(list.p, list.n, word, strlen(word)) != NULL;
}

static struct str field_bytes(struct str line, const char *key)
{
	bool is_utf8 = str_eq(vectors_json_get(line, "encoding"), STR("utf-8"));
	struct str text = vectors_json_get(line, key);
	char *bytes = malloc(text.n + 1);

	return str_make(bytes, unescape(text, is_utf8, bytes));
}

static bool probe_passes(struct str line)
{
	static struct str domain = STR_INIT("example.com"); /* the probes know no other */
	static const struct relay_settings settings = { .domains = { &domain, 1 } };
	static const struct policy_roots probe_roots = { .relay = &settings };
	struct str sender = field_bytes(line, "mail_from");
	struct str recipient = field_bytes(line, "rcpt_to");
	struct check_stage stage;

	open_stage(&stage, "[relay]");
	policy_plans_bind(&stage.plans, &probe_roots);
	const char *got = probe(&stage, sender, recipient);
	check_stage_free(&stage);
	free((void *)(uintptr_t)sender.p);
	free((void *)(uintptr_t)recipient.p);
	if (str_eq(vectors_json_get(line, "expect"), str_from(got)) ||
		holds(vectors_json_get(line, "also_ok"), got))
		return true;
	print_error("%.*s: %s\n", STR_ARG(vectors_json_get(line, "id")), got);
	return false;
}

static void test_probes(void **state)
{
	struct str file = vectors_read(TEST_SOURCE_DIR "/vectors/relay-probes.jsonl");
	struct str rest = file;
	size_t count = 0, failed = 0;

	(void)state;
	while (!str_is_empty(rest)) {
		struct str line = str_cut(&rest, '\n');
		if (str_is_empty(line))
			continue;
		count++;
		failed += !probe_passes(line);
	}
	free((void *)(uintptr_t)file.p);
	assert_true(count >= 90);
	assert_int_equal(failed, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_may_send_where),
		cmocka_unit_test(test_impossible_clients),
		cmocka_unit_test(test_grant_of_transaction),
		cmocka_unit_test(test_no_domains),
		cmocka_unit_test(test_domain_is_ours),
		cmocka_unit_test(test_grant_by_network),
		cmocka_unit_test(test_no_grant_without_client),
		cmocka_unit_test(test_unbound_asserts),
		cmocka_unit_test(test_probes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
