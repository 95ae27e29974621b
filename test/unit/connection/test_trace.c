#include "example.h"

#include <stdio.h>
#include <string.h>

#include "connection/ending.h"
#include "connection/trace.h"
#include "support/json_check.h"

#define CUT "{\"cut\":true}"

struct fixture {
	struct connection connection;
	struct buf line;
};

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	example_init(&fixture->connection);
	fixture->connection.is_traced = true;
	buf_init(&fixture->line, TRACE_LINE_MAX);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	if (fixture->connection.transaction &&
		fixture->connection.transaction->outcome == OUTCOME_NONE)
		transaction_end(&fixture->connection, OUTCOME_ABORTED, BY_CLIENT, STR(""), 0);
	connection_free(&fixture->connection);
	buf_free(&fixture->line);
	free(fixture);
	return 0;
}

/* The line without its end, which is checked: one line, valid JSON. */
static struct str print(struct fixture *fixture, uint64_t now_ms)
{
	buf_truncate(&fixture->line, 0);
	trace_print(&fixture->connection, ending_word(ENDING_QUIT), now_ms, &fixture->line);
	struct str line = buf_view(&fixture->line);
	assert_true(line.n > 0);
	assert_int_equal(str_find(line, '\n'), line.n - 1);
	line.n--;
	assert_true(json_is_valid(line));
	return line;
}

#define assert_json(line, path, expected) assert_str_equal(json_at(line, path), STR(expected))

static void test_rows_are_nested_by_their_names(void **state)
{
	struct fixture *fixture = *state;
	struct connection *connection = &fixture->connection;
	struct endpoint client = example_endpoint("[::ffff:198.51.100.7]:50412");
	struct endpoint own = example_endpoint("[2001:db8::25]:25");

	connection->listener = STR("mx");
	connection_set_remote(connection, &client);
	connection_set_remote_host(connection, HOST_OK, STR("mail.example.net"), true);
	connection_set_local(connection, &own);
	connection->local.host = STR("mx1.example.com");
	connection->hello = (struct hello){ .verb = "EHLO", .host = STR("mail.example.net") };
	connection->esmtp = true;
	connection_grant_relaying(connection, "network");
	notes_set_number(&connection->notes, STR("spf.score"), -3);
	buf_write(&connection->current_line, STR("QUIT\r\n"));
	buf_write(&connection->last_response, STR("221 2.0.0 Bye\r\n"));
	connection->errors = 2;
	connection->total_bytes = UINT64_MAX;
	connection->rcpt_count = (struct rcpt_count){ 1, 2, 3 };

	struct str line = print(fixture, EXAMPLE_START_MS + 170);
	assert_json(line, "listener", "\"mx\"");
	assert_json(line, "remote",
		"{\"ip\":\"198.51.100.7\",\"port\":50412,\"host\":\"mail.example.net\","
		"\"host_status\":\"ok\",\"host_confirmed\":true,\"is_private\":false,"
		"\"is_local\":false}");
	assert_json(line, "local",
		"{\"ip\":\"2001:db8::25\",\"port\":25,\"host\":\"mx1.example.com\"}");
	assert_json(line, "hello", "{\"verb\":\"EHLO\",\"host\":\"mail.example.net\"}");
	assert_json(line, "esmtp", "true");
	assert_json(line, "relaying", "true");
	assert_json(line, "notes.spf.score", "-3");
	assert_json(line, "results.relay.pass.0", "\"network\"");
	assert_json(line, "current_line", "\"QUIT\\u000d\\u000a\"");
	assert_json(line, "last_response", "\"221 2.0.0 Bye\\u000d\\u000a\"");
	assert_json(line, "errors", "2");
	assert_json(line, "total_bytes", "18446744073709551615");
	assert_json(line, "rcpt_count", "{\"accept\":1,\"tempfail\":2,\"reject\":3}");
	assert_json(line, "transactions", "[]");
	assert_json(line, "events", "[]");
	assert_json(line, "ms", "170");
	assert_json(line, "ending", "\"quit\"");
}

static void test_proxy_tls_and_auth(void **state)
{
	struct fixture *fixture = *state;
	struct connection *connection = &fixture->connection;
	struct endpoint peer = example_endpoint("10.0.0.2:40000");
	struct endpoint own = example_endpoint("10.0.0.5:25");
	const struct proxy_header header = {
		.version = 2,
		.command = PROXY_COMMAND_PROXY,
		.family = PROXY_FAMILY_TCP6,
		.source = example_endpoint("[2001:db8::7]:4711"),
		.destination = example_endpoint("[2001:db8::25]:465"),
		.has_authority = true, /* … and empty, which is not absent */
		.has_unique_id = true,
		.unique_id = STR("id"),
		.ssl = { .present = true, .client = 5, .verify = 18, .version = STR("TLSv1.2") },
		.tlvs = { { .type = 0xe0, .value = STR("\x00\xff") }, { .type = 0x0a } },
		.tlv_count = 2,
	};

	connection->proxy.allowed = true;
	connection_set_proxy(connection, &header, &peer, &own);
	struct auth_info auth = { .mechanism = STR("PLAIN"), .user = STR("anna") };
	connection->auth = &auth;
	struct str line = print(fixture, 0);
	assert_json(line, "remote.ip", "\"2001:db8::7\"");
	assert_json(line, "proxy.ip", "\"10.0.0.2\"");
	assert_json(line, "proxy.type", "\"haproxy\"");
	assert_json(line, "proxy.version", "2");
	assert_json(line, "proxy.command", "\"PROXY\"");
	assert_json(line, "proxy.family", "\"TCP6\"");
	assert_json(line, "proxy.local_ip", "\"10.0.0.5\"");
	assert_json(line, "proxy.local_port", "25");
	assert_json(line, "proxy.authority", "\"\"");
	assert_json(line, "proxy.alpn", "null");
	assert_json(line, "proxy.unique_id", "\"id\"");
	assert_json(line, "proxy.tlvs",
		"[{\"type\":\"0xE0\",\"value\":\"00ff\"},{\"type\":\"0x0A\",\"value\":\"\"}]");
	assert_json(line, "proxy.tls.used", "true");
	assert_json(line, "proxy.tls.client_certificate", "true");
	assert_json(line, "proxy.tls.certificate_verified", "false");
	assert_json(line, "proxy.tls.verify", "18");
	assert_json(line, "proxy.tls.version", "\"TLSv1.2\"");
	assert_json(line, "proxy.tls.cn", "null");
	assert_json(line, "tls",
		"{\"offloaded\":true,\"version\":\"TLSv1.2\",\"cipher\":null,\"sni\":null,"
		"\"client_certificate\":true,\"client_verified\":false,\"client_subject\":null,"
		"\"client_fingerprint\":null}");
	assert_json(line, "auth", "{\"mechanism\":\"PLAIN\",\"user\":\"anna\"}");
	assert_json(line, "ms", "0"); /* a clock before the start is no huge number */
}

static void test_tls_of_our_own(void **state)
{
	struct fixture *fixture = *state;
	struct tls_info tls = {
		.version = STR("TLSv1.3"),
		.cipher = STR("TLS_AES_256_GCM_SHA384"),
		.sni = STR("mx.example.net"),
		.client_certificate = true,
		.client_verified = true,
		.client_subject = STR("CN=pc \"7\""),
		.client_fingerprint = STR("00ff"),
	};

	fixture->connection.tls = &tls;
	assert_json(print(fixture, 0), "tls",
		"{\"offloaded\":false,\"version\":\"TLSv1.3\",\"cipher\":\"TLS_AES_256_GCM_"
		"SHA384\","
		"\"sni\":\"mx.example.net\",\"client_certificate\":true,\"client_verified\":true,"
		"\"client_subject\":\"CN=pc \\\"7\\\"\",\"client_fingerprint\":\"00ff\"}");
	fixture->connection.tls = NULL;
	assert_json(print(fixture, 0), "tls", "null");
}

static void test_transaction_in_the_trace(void **state)
{
	struct fixture *fixture = *state;
	struct connection *connection = &fixture->connection;
	struct transaction *transaction = transaction_begin(connection, 65536, 1010);

	transaction->mail_from = (struct smtp_path){ .original = STR("<A@Example.NET>"),
		.user = STR("A"),
		.host = STR("example.net"),
		.address = STR("A@example.net") };
	transaction->mail_params = (struct smtp_mail_params){ .has_size = true,
		.size = 99,
		.body = SMTP_BODY_8BITMIME,
		.smtputf8 = true,
		.ret = STR("HDRS"),
		.envid = STR("x+41"),
		.has_envid = true };
	struct recipient *recipient = transaction_candidate(transaction);
	recipient->path.original = STR("<b@example.org>");
	recipient->path.address = STR("b@example.org");
	recipient->path.user = str_range(recipient->path.address, 0, 1);
	recipient->path.host = str_from_pos(recipient->path.address, 2);
	recipient->params.orcpt = STR("rfc822;b@example.org");
	assert_json(print(fixture, 0), "transaction.outcome", "null");
	assert_json(print(fixture, 0), "transaction.ms", "null");
	assert_true(transaction_accept_candidate(connection));
	transaction->data_bytes = 1234;
	transaction->backend = STR("mta");
	transaction->server = STR("10.0.1.10:25");
	connection_grant_relaying(connection, "check");
	notes_set_bool(&transaction->notes, STR("seen"), true);
	transaction_end(connection, OUTCOME_DEFERRED, BY_BACKEND, STR("451 4.4.1 No\r\n"), 1100);
	connection_reset(connection, CONNECTION_RESET_MESSAGE);

	struct str line = print(fixture, 0);
	struct str element = json_at(line, "transactions.0");
	assert_json(line, "transaction", "null");
	assert_json(line, "transactions.1", "");
	assert_json(line, "msg_count", "{\"accept\":0,\"tempfail\":1,\"reject\":0}");
	assert_str_equal(str_range(json_at(element, "uuid"), 37, 40), STR(".1\""));
	assert_json(element, "mail_from",
		"{\"original\":\"<A@Example.NET>\",\"user\":\"A\",\"host\":\"example.net\","
		"\"address\":\"A@example.net\",\"params\":{\"size\":99,\"body\":\"8BITMIME\","
		"\"smtputf8\":true,\"ret\":\"HDRS\",\"envid\":\"x+41\"}}");
	assert_json(element, "rcpt_to",
		"[{\"original\":\"<b@example.org>\",\"user\":\"b\",\"host\":\"example.org\","
		"\"address\":\"b@example.org\",\"params\":{\"orcpt\":\"rfc822;b@example.org\"}}]");
	assert_json(element, "rcpt_count", "{\"accept\":1,\"tempfail\":0,\"reject\":0}");
	assert_json(element, "relaying", "true");
	assert_json(element, "data_bytes", "1234");
	assert_json(element, "outcome", "\"deferred\"");
	assert_json(element, "by", "\"backend\"");
	assert_json(element, "backend", "\"mta\"");
	assert_json(element, "server", "\"10.0.1.10:25\"");
	assert_json(element, "reply", "\"451 4.4.1 No\"");
	assert_json(element, "ms", "90");
	assert_json(element, "notes", "{\"seen\":true}");
	assert_json(element, "results", "{\"relay\":{\"pass\":[\"check\"]}}");
}

static void test_events(void **state)
{
	struct fixture *fixture = *state;
	struct connection *connection = &fixture->connection;

	trace_event(connection, POLICY_CONNECT, "limits", "next", STR(""), 1001);
	trace_event(connection, POLICY_RCPT, "relay", "reject", STR("554 5.7.1 No"), 1200);
	trace_event(connection, POLICY_BODY, NULL, "reject", STR("x"), 0);
	assert_json(print(fixture, 0), "events",
		"[{\"stage\":\"CONNECT\",\"check\":\"limits\",\"verdict\":\"next\",\"reply\":null,"
		"\"ms\":1},"
		"{\"stage\":\"RCPT\",\"check\":\"relay\",\"verdict\":\"reject\","
		"\"reply\":\"554 5.7.1 No\",\"ms\":200},"
		"{\"stage\":\"END-OF-MESSAGE\",\"check\":null,\"verdict\":\"reject\","
		"\"reply\":\"x\",\"ms\":0}]");
}

static void test_untraced_connections_keep_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct connection *connection = &fixture->connection;

	connection->is_traced = false;
	trace_event(connection, POLICY_CONNECT, "limits", "next", STR(""), 1001);
	transaction_begin(connection, 4096, 1000);
	transaction_end(connection, OUTCOME_ACCEPTED, BY_BACKEND, STR("250 Ok"), 1100);
	assert_null(connection->traced);
}

static void test_hostile_bytes_everywhere(void **state)
{
	struct fixture *fixture = *state;
	struct connection *connection = &fixture->connection;
	struct str hostile = example_hostile();
	struct endpoint peer = example_endpoint("10.0.0.2:40000");
	const struct proxy_header header = {
		.version = 2,
		.command = PROXY_COMMAND_PROXY,
		.family = PROXY_FAMILY_TCP4,
		.source = peer,
		.destination = peer,
		.has_authority = true,
		.has_alpn = true,
		.has_unique_id = true,
		.has_netns = true,
		.authority = hostile,
		.alpn = hostile,
		.unique_id = hostile,
		.netns = hostile,
		.ssl = { .present = true,
			.client = 1,
			.version = hostile,
			.cipher = hostile,
			.cn = hostile,
			.sig_alg = hostile,
			.key_alg = hostile,
			.group = hostile,
			.sig_scheme = hostile },
		.tlvs = { { .type = 0xff, .value = hostile } },
		.tlv_count = 1,
	};
	struct auth_info auth = { .mechanism = hostile, .user = hostile };

	connection_set_proxy(connection, &header, &peer, &peer);
	connection_set_remote_host(connection, HOST_OK, hostile, true);
	connection->listener = connection->local.host = connection->hello.host = hostile;
	connection->auth = &auth;
	buf_write(&connection->current_line, hostile);
	buf_write(&connection->last_response, hostile);
	struct transaction *transaction = transaction_begin(connection, 65536, 1000);
	transaction->mail_from = (struct smtp_path){
		.original = hostile, .user = hostile, .host = hostile, .address = hostile
	};
	transaction->mail_params.envid = transaction->mail_params.ret = hostile;
	transaction->mail_params.has_envid = true;
	transaction->backend = transaction->server = hostile;
	struct recipient *recipient = transaction_candidate(transaction);
	recipient->path = transaction->mail_from;
	recipient->params.notify = recipient->params.orcpt = hostile;
	assert_true(transaction_accept_candidate(connection));
	print(fixture, 0);
	transaction_end(connection, OUTCOME_ACCEPTED, BY_BACKEND, hostile, 1100);
	trace_event(connection, POLICY_RCPT, "relay", "reject", hostile, 1100);
	print(fixture, 0);
}

/* Ends of lists: the last whole element, then the mark, and nothing behind it. */
static void check_cut(struct str line, const char *list)
{
	struct str elements = json_at(line, list);
	struct str end = STR(CUT "]");

	assert_true(elements.n <= CONNECTION_TRACE_MAX + 2);
	assert_true(elements.n > CONNECTION_TRACE_MAX / 2);
	assert_true(str_ends_with_nocase(elements, end));
	assert_int_equal(
		memmem(elements.p, elements.n, CUT, strlen(CUT)) - (const void *)elements.p,
		elements.n - end.n);
}

static void test_events_are_bounded(void **state)
{
	static char reply[512];
	struct fixture *fixture = *state;

	memset(reply, 'r', sizeof(reply));
	for (size_t i = 0; i < 4000; i++)
		trace_event(&fixture->connection, POLICY_RCPT, "relay", "reject",
			str_make(reply, i % sizeof(reply)), 1000 + i);
	check_cut(print(fixture, 0), "events");
}

static void test_transactions_are_bounded(void **state)
{
	struct fixture *fixture = *state;
	struct connection *connection = &fixture->connection;

	for (int i = 0; i < 1000; i++) {
		struct transaction *transaction = transaction_begin(connection, 65536, 1000);

		notes_set_text(&transaction->notes, STR("cut"), example_hostile());
		transaction_end(connection, OUTCOME_ACCEPTED, BY_BACKEND, STR("250"), 1100);
		transaction_free(connection);
	}
	check_cut(print(fixture, 0), "transactions");
	assert_int_equal(connection->msg_count.accept, 1000);
}

/* One transaction larger than the list: the mark alone. */
static void test_first_element_too_large(void **state)
{
	static char text[400000];
	struct fixture *fixture = *state;
	struct connection *connection = &fixture->connection;
	struct transaction *transaction = transaction_begin(connection, 1 << 20, 1000);

	memset(text, 't', sizeof(text));
	assert_true(notes_set_text(&transaction->notes, STR("a"), str_make(text, sizeof(text))));
	transaction_end(connection, OUTCOME_ACCEPTED, BY_BACKEND, STR("250"), 1100);
	transaction_free(connection);
	transaction_begin(connection, 4096, 1000);
	transaction_end(connection, OUTCOME_ACCEPTED, BY_BACKEND, STR("250"), 1100);
	transaction_free(connection);
	assert_json(print(fixture, 0), "transactions", "[" CUT "]");
}

/* Whatever is left in the list when the elements end: there is room for the mark, once. */
static void test_every_fill_level(void **state)
{
	static char text[CONNECTION_TRACE_MAX];
	struct fixture *fixture = *state;

	trace_event(&fixture->connection, POLICY_RCPT, "c", "next", STR(""), 1000);
	struct buf *list = &fixture->connection.traced->events;
	memset(text, ' ', sizeof(text));
	for (size_t room = 0; room < 200; room++) {
		buf_truncate(list, 0);
		buf_write(list, STR("{}"));
		buf_write(list, str_make(text, sizeof(text) - 2 - sizeof(CUT) - room));
		for (int i = 0; i < 6; i++) /* more than there is room for */
			trace_event(&fixture->connection, POLICY_RCPT, "c", "next", STR(""), 1000);
		struct str held = buf_view(list);
		assert_true(str_ends_with_nocase(held, STR("," CUT)));
		held.n -= strlen("," CUT);
		assert_false(str_ends_with_nocase(held, STR(CUT)));
	}
}

/* Whatever the room for the line: a whole valid line, or nothing; what stood there stays. */
static void test_every_room_for_the_line(void **state)
{
	struct fixture *fixture = *state;
	struct connection *connection = &fixture->connection;
	size_t without_lists, least = 0;

	trace_event(connection, POLICY_RCPT, "relay", "reject", STR("554 5.7.1 No"), 1200);
	size_t whole = print(fixture, 0).n + 1;
	without_lists = whole - buf_used(&connection->traced->events) + 2 * strlen(CUT);
	for (size_t room = 0; room <= whole; room++) {
		struct buf out;

		buf_init(&out, room + 2);
		buf_write(&out, STR("x\n"));
		trace_print(connection, "quit", 0, &out);
		struct str line = str_from_pos(buf_view(&out), 2);
		assert_true(str_starts_with(buf_view(&out), STR("x\n")));
		if (line.n > 0) {
			assert_int_equal(str_find(line, '\n'), line.n - 1);
			assert_true(json_is_valid(str_range(line, 0, line.n - 1)));
			assert_str_equal(
				json_at(line, "uuid"), json_at(buf_view(&fixture->line), "uuid"));
			assert_json(line, "ending", "\"quit\"");
			least = least ? least : line.n;
		}
		size_t expected = room >= whole            ? whole
				  : room >= without_lists  ? without_lists
				  : least && room >= least ? least
							   : 0;
		assert_int_equal(line.n, expected);
		buf_free(&out);
	}
	assert_true(least > 0 && least < 120);
}

/* What a client can make a connection keep fits the line, even when every byte needs six. */
static void test_full_connection_fits(void **state)
{
	static char line_bytes[CONNECTION_LINE_MAX];
	struct fixture *fixture = *state;
	struct connection *connection = &fixture->connection;
	struct str rows = str_make(line_bytes, sizeof(line_bytes));

	buf_write(&connection->current_line, rows);
	for (size_t i = 0;
		results_push(&connection->results, STR("c"), STR("k"), str_make(line_bytes, 2000));
		i++)
		;
	for (size_t i = 0; i < 4000; i++)
		trace_event(connection, POLICY_RCPT, "relay", "reject", STR("554 5.7.1 No"), 1000);
	assert_json(print(fixture, 0), "ending", "\"quit\"");
	check_cut(print(fixture, 0), "events");
}

static void test_least_form_of_the_line(void **state)
{
	struct fixture *fixture = *state;

	fixture->line.max = 110;
	struct str line = print(fixture, 1005);
	assert_json(line, "cut", "true");
	assert_json(line, "ms", "5");
	assert_json(line, "ending", "\"quit\"");
	fixture->line.max = 20;
	buf_truncate(&fixture->line, 0);
	trace_print(&fixture->connection, "quit", 0, &fixture->line);
	assert_int_equal(buf_used(&fixture->line), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_rows_are_nested_by_their_names),
		TEST(test_proxy_tls_and_auth),
		TEST(test_tls_of_our_own),
		TEST(test_tls_of_our_own),
		TEST(test_transaction_in_the_trace),
		TEST(test_events),
		TEST(test_untraced_connections_keep_nothing),
		TEST(test_hostile_bytes_everywhere),
		TEST(test_events_are_bounded),
		TEST(test_transactions_are_bounded),
		TEST(test_first_element_too_large),
		TEST(test_every_fill_level),
		TEST(test_every_room_for_the_line),
		TEST(test_full_connection_fits),
		TEST(test_least_form_of_the_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
