/*
 * What conversations (test/dialogue) do not say: the interface around them, its asserts, the
 * reference page, and random walks against a small model.
 */
#include "smtp/server.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/smtp_params.h"
#include "support/fake_port.h"

static struct fake_port port;

static void open_port(const char *test)
{
	snprintf(fake_port_where, sizeof(fake_port_where), "%s", test);
	fake_port_init(&port);
}

static void say(const char *line)
{
	fake_port_client(&port, str_from(line));
	fake_port_client(&port, STR("\r\n"));
}

static void bring_to_body(void)
{
	port.answers_by_itself = true;
	fake_port_start(&port);
	say("HELO a.example");
	say("MAIL FROM:<a@example.org>");
	say("RCPT TO:<b@example.com>");
	say("DATA");
	assert_int_equal(port.server.state, SMTP_STATE_BODY);
	fake_port_forget(&port);
}

/* ---- The interface ------------------------------------------------------------------------ */

static void test_takes_no_input_while_it_waits(void **state)
{
	(void)state;
	open_port("waits");
	fake_port_will_say(&port, (struct fake_verdict){ .comes_later = true });
	assert_false(smtp_server_wants_input(&port.server));
	fake_port_start(&port);
	assert_false(smtp_server_wants_input(&port.server));
	assert_int_equal(smtp_server_feed(&port.server, STR("NOOP\r\n")), 0);
	fake_port_verdict(&port, (struct verdict){ .kind = VERDICT_NEXT }, false);
	assert_true(smtp_server_wants_input(&port.server));
	/* Part of a command is not taken, but looked at again. */
	assert_int_equal(smtp_server_feed(&port.server, STR("NOOP\r")), 0);
	assert_int_equal(smtp_server_feed(&port.server, STR("NOOP\r\nQUIT\r\nNOOP\r\n")), 12);
	assert_false(smtp_server_wants_input(&port.server));
	assert_int_equal(smtp_server_feed(&port.server, STR("NOOP\r\n")), 0);
	fake_port_free(&port);
}

static void test_calls_after_the_end_do_nothing(void **state)
{
	(void)state;
	open_port("after the end");
	fake_port_start(&port);
	say("QUIT");
	smtp_server_eof(&port.server, true);
	smtp_server_timeout(&port.server);
	smtp_server_room(&port.server);
	smtp_server_stop(&port.server, REPLY_SHUTDOWN, ENDING_SHUTDOWN);
	assert_int_equal(port.ending, ENDING_QUIT);
	fake_port_free(&port);
}

/* Limits are counted after decoding, however the bytes come in. */
static void test_the_message_in_pieces_of_any_size(void **state)
{
	static const char message[] = "Received: x\r\n..a\r\n\r\nb\r\n..\r\n.\r\n";

	(void)state;
	for (size_t step = 1; step < sizeof(message); step++) {
		open_port("pieces");
		bring_to_body();
		for (size_t at = 0; at < sizeof(message) - 1; at += step)
			fake_port_client(&port,
				str_range(str_make(message, sizeof(message) - 1), at, at + step));
		assert_int_equal(port.accepted, 1);
		assert_int_equal(port.connection.total_bytes, sizeof(message) - 1 - 3 - 2);
		assert_true(str_eq(buf_view(&port.body), str_make(message, sizeof(message) - 4)));
		fake_port_free(&port);
	}
}

/* Any room from none to plenty: nothing is lost, nothing is more than the room. */
static void test_the_message_through_any_room(void **state)
{
	static char message[40000];

	(void)state;
	for (size_t i = 0; i < sizeof(message); i++)
		message[i] = "abc.\r\n"[i % 6];
	for (size_t room = 4096; room < 12000; room += 997) {
		for (int normalises = 0; normalises < 2; normalises++) {
			open_port("room");
			port.server.normalises = normalises;
			bring_to_body();
			fake_port_client(&port, str_make(message, 39996));
			fake_port_client(&port, STR(".\r\n"));
			assert_int_equal(port.accepted, 1);
			size_t whole = buf_used(&port.body);
			fake_port_free(&port);

			open_port("room");
			port.server.normalises = normalises;
			bring_to_body();
			port.room = room;
			fake_port_client(&port, str_make(message, 39996));
			fake_port_client(&port, STR(".\r\n"));
			for (int turn = 0; turn < 100 && port.accepted == 0; turn++)
				fake_port_give_room(&port, room);
			assert_int_equal(port.accepted, 1);
			assert_int_equal(buf_used(&port.body), whole);
			fake_port_free(&port);
		}
	}
}

/* Recipients with everything that is as long as it may be: all that are offered find room. */
static void test_room_for_the_largest_recipients(void **state)
{
	char line[2048], local[65], host[190], orcpt[500];

	(void)state;
	memset(local, 'l', 64);
	local[64] = '\0';
	for (size_t i = 0; i < sizeof(host); i++)
		host[i] = i % 60 == 59 ? '.' : 'h';
	host[sizeof(host) - 1] = '\0';
	memset(orcpt, 'o', sizeof(orcpt));
	memcpy(orcpt, "rfc822;", 7);
	orcpt[499] = '\0';
	open_port("largest recipients");
	port.answers_by_itself = true;
	fake_port_start(&port);
	say("EHLO a.example");
	say("MAIL FROM:<a@example.org>");
	for (int i = 0; i < 100; i++) {
		snprintf(line, sizeof(line),
			"RCPT TO:<%s@%s> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=%s", local, host,
			orcpt);
		say(line);
	}
	assert_int_equal(port.connection.rcpt_count.accept, 100);
	fake_port_free(&port);
}

/* What does not fit the transaction is refused before the backend hears of it: it could not be taken
 * back from there. */
static void test_no_room_for_a_recipient(void **state)
{
	(void)state;
	open_port("no room");
	fake_port_start(&port);
	say("HELO a.example");
	say("MAIL FROM:<a@example.org>");
	struct transaction *transaction = port.connection.transaction;
	fake_port_forget(&port);
	transaction->arena.max = transaction->arena.used + CANDIDATE_ARENA_MAX - 1;
	say("RCPT TO:<b@example.com>");
	assert_true(str_starts_with(buf_view(&port.replies), STR("452 4.3.1 ")));
	assert_int_equal(buf_used(&port.forwarded), 0);
	assert_int_equal(port.connection.rcpt_count.tempfail, 1);
	transaction->arena.max++;
	say("RCPT TO:<b@example.com>");
	fake_port_backend(&port, "250 Ok");
	assert_int_equal(port.connection.rcpt_count.accept, 1);
	fake_port_free(&port);
}

/* What AUTH needs is made with the first attempt: what a client has had kept before costs the attempt, and
 * nothing else. */
static void test_no_room_for_auth(void **state)
{
	(void)state;
	open_port("no room for AUTH");
	port.auth_start = SMTP_AUTH_STARTED;
	fake_port_start(&port);
	say("EHLO a.example");
	size_t max = port.connection.arena.max;
	port.connection.arena.max = port.connection.arena.used;
	for (int i = 0; i < 2; i++) {
		fake_port_forget(&port);
		say("AUTH PLAIN AGEAYg==");
		assert_true(str_starts_with(buf_view(&port.replies), STR("454 4.7.0 ")));
		assert_int_equal(buf_used(&port.auth), 0);
	}
	fake_port_forget(&port);
	say("NOOP");
	assert_true(str_starts_with(buf_view(&port.replies), STR("250 ")));
	port.connection.arena.max = (uint32_t)max;
	say("AUTH PLAIN AGEAYg==");
	fake_port_auth_done(&port, SMTP_AUTH_OK, STR("a"));
	assert_non_null(port.connection.auth);
	fake_port_free(&port);
}

/* A refusal that cannot be kept for RCPT is given at once. */
static void test_no_room_for_a_held_refusal(void **state)
{
	static const struct fake_verdict refusal = {
		.verdict = { .kind = VERDICT_REJECT, .reply = REPLY_EARLY_TALKER },
		.holds = true,
	};

	(void)state;
	open_port("no room for a held refusal");
	fake_port_start(&port);
	say("HELO a.example");
	size_t max = port.connection.arena.max;
	port.connection.arena.max = port.connection.arena.used;
	fake_port_forget(&port);
	fake_port_will_say(&port, refusal);
	say("MAIL FROM:<a@example.org>");
	assert_true(str_starts_with(buf_view(&port.replies), STR("5")));
	assert_null(port.connection.transaction);
	port.connection.arena.max = (uint32_t)max;
	fake_port_forget(&port);
	fake_port_will_say(&port, refusal);
	say("MAIL FROM:<a@example.org>");
	assert_true(str_starts_with(buf_view(&port.replies), STR("250 ")));
	fake_port_forget(&port);
	say("RCPT TO:<b@example.com>");
	assert_true(str_starts_with(buf_view(&port.replies), STR("5")));
	assert_int_equal(buf_used(&port.forwarded), 0);
	fake_port_free(&port);
}

/* ---- Bugs of the owner -------------------------------------------------------------------- */

static void verdict_without_question(void)
{
	smtp_server_verdict(&port.server, (struct verdict){ .kind = VERDICT_NEXT }, false);
}

static void answer_without_question(void)
{
	smtp_server_answer(&port.server, &(struct smtp_answer){ .own = REPLY_NO_BACKEND });
}

static void body_lost_without_body(void)
{
	smtp_server_body_lost(&port.server, &(struct smtp_answer){ .own = REPLY_BACKEND_LOST });
}

static void ask_for_the_end(void)
{
	bring_to_body();
	port.answers_by_itself = false;
	fake_port_client(&port, STR(".\r\n"));
}

static void accept_by_ourselves(void)
{
	ask_for_the_end();
	fake_port_backend_own(&port, REPLY_OK, BY_EDGE);
}

static void final_354(void)
{
	ask_for_the_end();
	fake_port_backend(&port, "354 go on");
}

static void lost_after_the_end(void)
{
	ask_for_the_end();
	fake_port_lost_own(&port, REPLY_BACKEND_LOST);
}

static void lost_with_250(void)
{
	bring_to_body();
	fake_port_lost(&port, "250 queued already");
}

static void free_with_transaction(void)
{
	bring_to_body();
	smtp_server_free(&port.server);
}

static void challenge_without_question(void)
{
	smtp_server_auth_challenge(&port.server, STR("x"));
}

static void auth_done_without_question(void)
{
	smtp_server_auth_done(&port.server, SMTP_AUTH_OK, STR("anna"));
}

static void tls_without_question(void)
{
	smtp_server_tls_started(&port.server, &port.tls);
}

static void test_asserts(void **state)
{
	static void (*const bugs[])(void) = { verdict_without_question, answer_without_question,
		body_lost_without_body, challenge_without_question, auth_done_without_question,
		tls_without_question, accept_by_ourselves, final_354, lost_after_the_end,
		lost_with_250, free_with_transaction };

	(void)state;
	for (size_t i = 0; i < sizeof(bugs) / sizeof(bugs[0]); i++) {
		pid_t child = fork();
		if (child == 0) {
			int null = open("/dev/null", O_WRONLY);
			dup2(null, STDERR_FILENO);
			signal(SIGABRT, SIG_DFL);
			open_port("assert");
			if (i < 6)
				fake_port_start(&port);
			bugs[i]();
			_exit(0);
		}
		int status;
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	}
}

/* ---- The reference page ------------------------------------------------------------------- */

static bool contains(struct str text, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; i + n <= text.n; i++)
		if (memcmp(text.p + i, word, n) == 0)
			return true;
	return false;
}

static void test_the_reference(void **state)
{
	static const char *const words[] = {
#define SMTP_STATE(id, word, meaning) "| " word " | " meaning " |\n",
#include "tables/states.def"
#undef SMTP_STATE
		"| DATA | DATA | rcpt | must be last, else closed | no |\n",
		"| EHLO | HELO | greeted ready mail rcpt | must be last of a group | yes |\n",
		"| QUIT | – | greeted ready mail rcpt | anywhere | yes |\n",
		"| STARTTLS | – | ready | must be last, else closed | no |\n",
		"| AUTH | – | ready | must be last of a group | no |\n",
		"\tbody -> ready;\n",
	};
	struct buf page;

	(void)state;
	buf_init(&page, 1 << 16);
	smtp_server_print_states(&page);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (!contains(buf_view(&page), words[i]))
			fail_msg("missing: %s", words[i]);
	assert_false(contains(buf_view(&page), "connected -> ready"));
	buf_free(&page);
}

/* ---- Random walks against a model --------------------------------------------------------- */

#define WALKS 1500
#define STEPS 60

/* What is known of a session without looking into the engine. */
struct model {
	bool said_hello, said_ehlo, has_mail, has_rcpt, saw_rcpt;
	bool is_tls, is_auth;
	int refused; /* code of the transaction's last refusal, 0: none */
	bool refused_by_edge;
	bool data_refused; /* and nothing known was said since */
	bool is_over;
};

static uint64_t random_state;

static unsigned random_below(unsigned n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(random_state >> 33) % n;
}

static void expect_code(int code, const char *command)
{
	struct str line;
	uint64_t have = 0;
	bool is_last = false;

	while (!is_last) {
		if (!fake_port_take(&port.replies, &line))
			fail_msg("%s: no reply to %s", fake_port_where, command);
		is_last = line.n < 4 || line.p[3] != '-';
		str_to_u64(str_range(line, 0, 3), 599, &have);
		if ((int)have != code)
			fail_msg("%s: %s got %.*s, not %d", fake_port_where, command, STR_ARG(line),
				code);
	}
}

static void expect_outcome(const char *outcome)
{
	struct str line;

	if (!fake_port_take(&port.outcomes, &line) || !str_eq(line, str_from(outcome)))
		fail_msg("%s: outcome %.*s, not %s", fake_port_where, STR_ARG(line), outcome);
}

static void forget_transaction(struct model *model)
{
	model->has_mail = model->has_rcpt = model->saw_rcpt = model->refused_by_edge = false;
	model->refused = 0;
}

/* We hang up: what became of the transaction, if there is one, is said by our reply. */
static void model_break(struct model *model, const char *outcome)
{
	static const char *const words[2][2] = { { "deferred backend", "deferred edge" },
		{ "refused backend", "refused edge" } };

	if (model->has_mail && !model->has_rcpt && model->refused)
		expect_outcome(words[model->refused >= 500][model->refused_by_edge]);
	else if (model->has_mail)
		expect_outcome(outcome);
	forget_transaction(model);
	model->is_over = true;
}

/* The transaction is given up, if there is one. */
static void model_end(struct model *model)
{
	static const char *const words[2][2] = { { "deferred backend", "deferred edge" },
		{ "refused backend", "refused edge" } };

	if (model->has_mail && !model->has_rcpt && model->refused)
		expect_outcome(words[model->refused >= 500][model->refused_by_edge]);
	else if (model->has_mail)
		expect_outcome("aborted client");
	forget_transaction(model);
}

static void walk_hello(struct model *model)
{
	static const char *const lines[] = { "HELO a.example", "EHLO a.example", "EHLO", "helo" };
	unsigned which = random_below(4);

	model->data_refused = false;
	say(lines[which]);
	expect_code(which < 2 ? 250 : 501, lines[which]);
	if (which >= 2)
		return;
	model_end(model);
	model->said_hello = true;
	model->said_ehlo = which == 1;
}

static void walk_mail(struct model *model)
{
	static const char *const lines[] = { "MAIL FROM:<a@example.org>", "MAIL FROM:<>",
		"mail from:<a@example.org>", "MAIL FROM:<a@@example.org>", "MAIL", "MAIL FROM: " };
	unsigned which = random_below(6);
	bool is_possible = model->said_hello && !model->has_mail;

	model->data_refused = false;
	say(lines[which]);
	expect_code(!is_possible ? 503 : which < 3 ? 250 : 501, lines[which]);
	if (is_possible && which < 3)
		model->has_mail = true;
}

static void walk_rcpt(struct model *model)
{
	static const char *const lines[] = { "RCPT TO:<b@example.com>", "rcpt to:<postmaster>",
		"RCPT TO:<b", "RCPT", "RCPT TO:<>" };
	static const char *const answers[] = { "250 Ok", "251 Ok", "450 later", "550 no" };
	static const int codes[] = { 250, 251, 450, 550 };
	unsigned which = random_below(5), answer = random_below(4);
	bool is_held_back = random_below(5) == 0;

	model->data_refused = false;
	if (!model->has_mail) {
		say(lines[which]);
		expect_code(503, lines[which]);
		return;
	}
	model->saw_rcpt = true;
	if (which < 2 && is_held_back)
		fake_port_will_say(
			&port, (struct fake_verdict){ .verdict = { .kind = VERDICT_REJECT,
							      .reply = REPLY_RELAY_DENIED } });
	say(lines[which]);
	if (which >= 2) {
		expect_code(501, lines[which]);
		model->refused = 501;
		model->refused_by_edge = true;
		return;
	}
	if (is_held_back) {
		expect_code(554, lines[which]);
	} else {
		fake_port_backend(&port, answers[answer]);
		expect_code(codes[answer], lines[which]);
	}
	if (is_held_back || answer >= 2) {
		model->refused = is_held_back ? 554 : codes[answer];
		model->refused_by_edge = is_held_back;
	} else {
		model->has_rcpt = true;
	}
}

static void walk_message(void)
{
	static const char *const bodies[] = { ".\r\n", "a\r\n.\r\n", "..\r\n.a\r\n\r\n.\r\n",
		"MAIL FROM:<x@example.org>\r\nDATA\r\n.\r\n" };
	static const struct {
		const char *answer;
		int code;
		const char *outcome;
	} ends[] = {
		{ "250 2.0.0 queued", 250, "accepted backend" },
		{ "451 4.0.0 later", 451, "deferred backend" },
		{ "554 5.0.0 no", 554, "refused backend" },
	};
	unsigned end = random_below(4);

	if (end == 3 && random_below(2))
		fake_port_lost(&port, "452 4.2.2 full");
	fake_port_client(&port, str_from(bodies[random_below(4)]));
	if (port.pending == FAKE_FINAL && end < 3) {
		fake_port_backend(&port, ends[end].answer);
		expect_code(ends[end].code, "end of data");
		expect_outcome(ends[end].outcome);
	} else if (port.pending == FAKE_FINAL) {
		fake_port_backend_own(&port, REPLY_OUTCOME_UNKNOWN, BY_BACKEND);
		expect_code(451, "end of data");
		expect_outcome("unknown backend");
	} else {
		expect_code(452, "end of data");
		expect_outcome("deferred backend");
	}
}

static void walk_data(struct model *model)
{
	bool is_refused = random_below(4) == 0;

	say("DATA");
	model->data_refused =
		model->has_mail && model->saw_rcpt && (!model->has_rcpt || is_refused);
	if (!model->has_mail || !model->saw_rcpt) {
		expect_code(503, "DATA");
		return;
	}
	if (!model->has_rcpt) {
		expect_code(554, "DATA");
		return;
	}
	fake_port_backend(&port, is_refused ? "450 4.3.0 busy" : "354 go");
	expect_code(is_refused ? 450 : 354, "DATA");
	if (is_refused)
		expect_outcome("deferred backend");
	else
		walk_message();
	forget_transaction(model);
}

static void walk_other(struct model *model)
{
	static const struct {
		const char *line;
		int code;
	} rows[] = {
		{ "NOOP", 250 },
		{ "NOOP x", 250 },
		{ "VRFY b", 252 },
		{ "VRFY", 501 },
		{ "HELP", 214 },
		{ "EXPN b", 502 },
		{ "FOO", 500 },
		{ "", 500 },
		{ " NOOP", 500 },
		{ "NOOP \001", 500 },
		{ "RSET x", 501 },
		{ "QUIT x", 501 },
		{ "DATA x", 0 },
	};
	unsigned which = random_below(sizeof(rows) / sizeof(rows[0]));
	bool has_data = model->has_mail && model->has_rcpt;
	bool is_unknown = rows[which].code == 500 || rows[which].code == 502;

	say(rows[which].line);
	if (is_unknown && model->data_refused) {
		/* It may be the body of a client that did not look at the reply to DATA. */
		expect_code(554, rows[which].line);
		model_break(model, "refused edge");
		return;
	}
	if (!is_unknown)
		model->data_refused = rows[which].code == 0 && model->has_mail && model->saw_rcpt &&
				      !model->has_rcpt;
	if (rows[which].code)
		expect_code(rows[which].code, rows[which].line);
	else if (has_data)
		expect_code(501, rows[which].line);
	else
		expect_code(model->saw_rcpt && model->has_mail ? 554 : 503, rows[which].line);
}

/* On every third walk STARTTLS and AUTH are there. */
static bool offers_more(void)
{
	return port.auth_start == SMTP_AUTH_STARTED;
}

static void walk_tls(struct model *model)
{
	model->data_refused = false;
	say("STARTTLS");
	if (!model->said_hello || model->has_mail || (model->is_tls && offers_more())) {
		expect_code(503, "STARTTLS");
		return;
	}
	if (!offers_more() || !model->said_ehlo) {
		expect_code(502, "STARTTLS");
		return;
	}
	expect_code(220, "STARTTLS");
	assert_int_equal(port.server.waiting, SMTP_WAITING_TLS);
	assert_false(port.is_armed);
	fake_port_tls(&port, true);
	*model = (struct model){ .is_tls = true };
}

static void walk_exchange(struct model *model)
{
	static const int codes[] = { [SMTP_AUTH_OK] = 235,
		[SMTP_AUTH_REFUSED] = 535,
		[SMTP_AUTH_MALFORMED] = 501,
		[SMTP_AUTH_UNAVAILABLE] = 454,
		[SMTP_AUTH_EXPIRED] = 534 };
	unsigned end = random_below(5);

	while (random_below(2)) {
		bool is_cancelled = random_below(4) == 0;
		assert_false(port.is_armed);
		fake_port_challenge(&port, STR("\xff"));
		expect_code(334, "AUTH");
		assert_true(port.is_armed);
		say(is_cancelled ? "*" : "AAAA");
		if (is_cancelled) {
			expect_code(501, "*");
			return;
		}
	}
	fake_port_auth_done(&port, (enum smtp_auth_end)end, STR("anna"));
	expect_code(codes[end], "AUTH");
	model->is_auth = end == SMTP_AUTH_OK;
}

static void walk_auth(struct model *model)
{
	static const char *const lines[] = { "AUTH PLAIN", "AUTH PLAIN =", "auth login AAAA",
		"AUTH PLAIN a", "AUTH" };
	unsigned which = random_below(5);

	model->data_refused = false;
	say(lines[which]);
	if (!model->said_hello || model->has_mail) {
		expect_code(503, lines[which]);
	} else if (which == 4) {
		expect_code(501, lines[which]);
	} else if (model->is_auth) {
		expect_code(503, lines[which]);
	} else if (which == 3) {
		expect_code(501, lines[which]);
	} else if (!offers_more()) {
		expect_code(502, lines[which]);
	} else {
		walk_exchange(model);
	}
	assert_int_equal(port.connection.auth != NULL, model->is_auth);
	assert_int_equal(port.connection.relaying, model->is_auth);
}

static void walk_rset(struct model *model)
{
	model->data_refused = false;
	say("RSET");
	expect_code(250, "RSET");
	model_end(model);
}

static void walk_end(struct model *model)
{
	static const char *const ways[] = { "QUIT", "BDAT 3", "GET / HTTP/1.1" };
	static const int codes[] = { 221, 502, 421 };
	static const char *const outcomes[] = { NULL, "refused edge", "deferred edge" };
	unsigned way = random_below(3);

	if (random_below(20) > 0)
		return;
	say(ways[way]);
	expect_code(codes[way], ways[way]);
	if (outcomes[way] != NULL)
		model_break(model, outcomes[way]);
	else
		model_end(model);
	model->is_over = true;
}

static void walk(uint64_t seed)
{
	static void (*const steps[])(struct model * model) = { walk_hello, walk_mail, walk_mail,
		walk_rcpt, walk_rcpt, walk_rcpt, walk_data, walk_data, walk_other, walk_rset,
		walk_tls, walk_auth, walk_end };
	struct model model = { 0 };
	struct str line;

	snprintf(fake_port_where, sizeof(fake_port_where), "walk %u", (unsigned)seed);
	fake_port_init(&port);
	port.is_byte_by_byte = seed % 2;
	port.settings.limits.errors = port.settings.limits.unknown_commands = 1000;
	port.settings.limits.auth_failures = 1000;
	if (seed % 3 == 0) {
		port.offer.extensions |= SMTP_EXT_STARTTLS | SMTP_EXT_AUTH;
		port.offer.mechanisms = STR("PLAIN LOGIN");
		port.auth_start = SMTP_AUTH_STARTED;
	}
	fake_port_start(&port);
	expect_code(220, "greeting");
	random_state = seed;
	for (int i = 0; i < STEPS && !model.is_over; i++) {
		steps[random_below(sizeof(steps) / sizeof(steps[0]))](&model);
		if (fake_port_take(&port.replies, &line))
			fail_msg("%s: one more reply: %.*s", fake_port_where, STR_ARG(line));
		if (fake_port_take(&port.outcomes, &line))
			fail_msg("%s: one more outcome: %.*s", fake_port_where, STR_ARG(line));
		assert_int_equal(port.connection.transaction != NULL, model.has_mail);
		assert_int_equal(port.connection.tls != NULL, model.is_tls);
	}
	fake_port_free(&port);
}

static void test_random_walks(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < WALKS; seed++)
		walk(seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_takes_no_input_while_it_waits),
		cmocka_unit_test(test_calls_after_the_end_do_nothing),
		cmocka_unit_test(test_the_message_in_pieces_of_any_size),
		cmocka_unit_test(test_the_message_through_any_room),
		cmocka_unit_test(test_room_for_the_largest_recipients),
		cmocka_unit_test(test_no_room_for_a_recipient),
		cmocka_unit_test(test_no_room_for_auth),
		cmocka_unit_test(test_no_room_for_a_held_refusal),
		cmocka_unit_test(test_asserts),
		cmocka_unit_test(test_the_reference),
		cmocka_unit_test(test_random_walks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
