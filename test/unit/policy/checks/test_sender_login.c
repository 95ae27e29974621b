#include "policy/checks/sender_login.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>

#include <cmocka.h>

#include "support/check_stage.h"

static struct sender_login login;
static struct auth_info auth;

static int read_owners(void **state)
{
	static const struct str text = STR_INIT("alice@example.com  alice\n"
						"Both@example.com   alice, bob\n"
						"\xc3\xbc@b\xc3\xbc"
						"cher.example  bob\n"
						"@example.org       bob,\n"
						"                   carol@example.org\n"
						"alice@example.org  alice\n"
						"everybody@example.com  *\n");
	struct err err = { "" };

	(void)state;
	login.owners = map_parse("senders", text, sender_login_accepts, NULL, &err);
	if (login.owners == NULL)
		fail_msg("%s", err.text);
	return 0;
}

static int free_owners(void **state)
{
	struct map *owners = (struct map *)(uintptr_t)login.owners;

	(void)state;
	map_free(&owners);
	return 0;
}

/* `user` NULL: did not authenticate. */
static void open_stage(struct check_stage *stage, const char *user, const char *sender)
{
	struct str rest;

	check_stage_init(stage, POLICY_MAIL, "[sender_login]", NULL, "198.51.100.7");
	stage->fake.sender_login = &login;
	auth.user = str_from(user);
	stage->connection.auth = user ? &auth : NULL;
	struct transaction *transaction = transaction_begin(&stage->connection, 65536, 1000);
	assert_int_equal(smtp_path_parse_reverse(str_from(sender), true, &transaction->arena,
				 &transaction->mail_from, &rest),
		SMTP_PATH_FINE);
}

/* REPLY_OK stands for "permitted". */
static enum reply_id ask_about(const char *user, const char *sender)
{
	struct check_stage stage;

	open_stage(&stage, user, sender);
	check_stage_ask(&stage);
	assert_true(stage.is_decided);
	bool is_refused = stage.verdict.kind != VERDICT_NEXT;
	if (is_refused)
		assert_int_equal(stage.verdict.kind, VERDICT_REJECT);
	enum reply_id reply = is_refused ? stage.verdict.reply : REPLY_OK;
	if (reply == REPLY_SENDER_NOT_OWNED)
		assert_true(str_eq(stage.verdict.detail, str_from(user)));
	check_stage_free(&stage);
	return reply;
}

static void expect(const char *user, const char *sender, enum reply_id wanted)
{
	enum reply_id got = ask_about(user, sender);

	if (got != wanted)
		fail_msg("%s as %s: %d", user ? user : "nobody", sender, reply_code(got));
}

#define NOT_OWNED REPLY_SENDER_NOT_OWNED

static void test_who_may_use_what(void **state)
{
	static const struct {
		const char *user, *sender;
		enum reply_id strict, lenient; /* unlisted_senders: reject, accept */
	} rows[] = {
		{ "alice", "<alice@example.com>", REPLY_OK, REPLY_OK },
		{ "alice", "<ALICE@Example.Com>", REPLY_OK, REPLY_OK },
		{ "bob", "<alice@example.com>", NOT_OWNED, NOT_OWNED },
		{ "alice", "<both@example.com>", REPLY_OK, REPLY_OK },
		{ "bob", "<both@example.com>", REPLY_OK, REPLY_OK },
		{ "carol", "<both@example.com>", NOT_OWNED, NOT_OWNED },
		{ "carol", "<everybody@example.com>", REPLY_OK, REPLY_OK },
		{ "bob", "<\xc3\xbc@xn--bcher-kva.example>", REPLY_OK, REPLY_OK },
		/* A domain, and an address of it that is somebody else's. */
		{ "bob", "<x@example.org>", REPLY_OK, REPLY_OK },
		{ "carol@example.org", "<x@example.org>", REPLY_OK, REPLY_OK },
		{ "alice", "<x@example.org>", NOT_OWNED, NOT_OWNED },
		{ "alice", "<alice@example.org>", REPLY_OK, REPLY_OK },
		{ "bob", "<alice@example.org>", NOT_OWNED, NOT_OWNED },
		{ "bob", "<x@sub.example.org>", NOT_OWNED, REPLY_OK },
		/* Other ways to write an address, and extensions, are the same owner's. */
		{ "alice", "<\"alice\"@example.com>", REPLY_OK, REPLY_OK },
		{ "bob", "<\"alice\"@example.com>", NOT_OWNED, NOT_OWNED },
		{ "bob", "<\"al\\ice\"@example.com>", NOT_OWNED, NOT_OWNED },
		{ "bob", "<@relay.example:alice@example.com>", NOT_OWNED, NOT_OWNED },
		{ "alice", "<alice+shop@example.com>", REPLY_OK, REPLY_OK },
		{ "bob", "<alice+shop@example.com>", NOT_OWNED, NOT_OWNED },
		{ "bob", "<\"alice+shop\"@example.com>", NOT_OWNED, NOT_OWNED },
		/* Names that are not quite a user's. */
		{ "Alice", "<alice@example.com>", NOT_OWNED, NOT_OWNED },
		{ "ali", "<alice@example.com>", NOT_OWNED, NOT_OWNED },
		{ "alice@example.com", "<alice@example.com>", NOT_OWNED, NOT_OWNED },
		{ "alice, bob", "<both@example.com>", NOT_OWNED, NOT_OWNED },
		{ "*", "<alice@example.com>", NOT_OWNED, NOT_OWNED },
		/* What nobody owns. */
		{ "alice", "<alice@elsewhere.example>", NOT_OWNED, REPLY_OK },
		{ "alice", "<>", REPLY_OK, REPLY_OK },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		login.takes_unlisted = false;
		expect(rows[i].user, rows[i].sender, rows[i].strict);
		login.takes_unlisted = true;
		expect(rows[i].user, rows[i].sender, rows[i].lenient);
	}
}

/* Who did not authenticate: nothing, unless told. */
static void test_unauthenticated(void **state)
{
	static const struct {
		const char *sender;
		bool is_owned;
	} rows[] = {
		{ "<alice@example.com>", true },
		{ "<\"ALICE\"@example.com>", true },
		{ "<alice+x@example.com>", true },
		{ "<everybody@example.com>", true },
		{ "<x@example.org>", true },
		{ "<x@example.com>", false },
		{ "<x@elsewhere.example>", false },
		{ "<>", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		login.refuses_unauthenticated = false;
		expect(NULL, rows[i].sender, REPLY_OK);
		login.refuses_unauthenticated = true;
		expect(NULL, rows[i].sender,
			rows[i].is_owned ? REPLY_SENDER_NEEDS_LOGIN : REPLY_OK);
	}
}

/* A listener without a map: the step may stand in the plan for the sake of another one. */
static void test_listener_without_a_map(void **state)
{
	struct check_stage stage;

	(void)state;
	open_stage(&stage, "bob", "<alice@example.com>");
	stage.fake.sender_login = NULL;
	check_stage_ask(&stage);
	assert_int_equal(stage.verdict.kind, VERDICT_NEXT);
	check_stage_free(&stage);
}

/* It is added once, in front, and is held as other refusals before RCPT are. */
static void test_added_to_a_plan(void **state)
{
	struct conf_list plans;

	(void)state;
	check_stage_read("plans: {p: {mail: [limits]}, q: {mail: [limits, {sender_login: {hold: "
			 "no}}]}}\n",
		&plans);
	struct policy_plan *p = plans.items, *q = p + 1;
	assert_int_equal(p->stages[POLICY_RCPT].count, 1); /* relay alone is in every plan */
	for (int i = 0; i < 2; i++) {
		policy_plan_add(p, POLICY_MAIL, &sender_login_check);
		policy_plan_add(q, POLICY_MAIL, &sender_login_check);
	}
	assert_int_equal(p->stages[POLICY_MAIL].count, 2);
	assert_ptr_equal(p->stages[POLICY_MAIL].steps[0].check, &sender_login_check);
	assert_true(p->stages[POLICY_MAIL].steps[0].holds);
	assert_int_equal(q->stages[POLICY_MAIL].count, 2);
	assert_ptr_equal(q->stages[POLICY_MAIL].steps[1].check, &sender_login_check);
	assert_false(q->stages[POLICY_MAIL].steps[1].holds);
	policy_plans_free(&plans, NULL);
}

static void test_entries(void **state)
{
	static const struct {
		const char *text, *said;
	} rows[] = {
		{ "@example.com alice\n", NULL },
		{ "example.com alice\n", "m:1: example.com: a sender is an address, or @domain" },
		{ ".example.com alice\n", "m:1: .example.com: a sender is an address" },
		{ "* alice\n", "m:1: *: a sender is an address" },
		{ "a@example.com , ,\n", "m:1: a@example.com: no name of a user" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err err = { "" };
		struct map *map =
			map_parse("m", str_from(rows[i].text), sender_login_accepts, NULL, &err);
		assert_int_equal(map == NULL, rows[i].said != NULL);
		if (!str_starts_with(str_from(err.text), str_from(rows[i].said)))
			fail_msg("%s: %s", rows[i].text, err.text);
		map_free(&map);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_may_use_what),
		cmocka_unit_test(test_unauthenticated),
		cmocka_unit_test(test_listener_without_a_map),
		cmocka_unit_test(test_added_to_a_plan),
		cmocka_unit_test(test_entries),
	};

	return cmocka_run_group_tests(tests, read_owners, free_owners);
}
