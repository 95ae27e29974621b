#include "example.h"

#include <stdio.h>
#include <string.h>

#include "connection/trace.h"
#include "support/json_check.h"

#include "../../../src/connection/connection_rows.h"

/* ---- Rows ----------------------------------------------------------------------------------- */

/* What the trace shows of a fresh connection; "*" is anything but null. */
static const struct {
	const char *name, *value;
} defaults[] = {
	{ "uuid", "*" },
	{ "listener", "null" },
	{ "remote.ip", "null" },
	{ "remote.port", "null" },
	{ "remote.host", "null" },
	{ "remote.host_status", "\"pending\"" },
	{ "remote.host_confirmed", "false" },
	{ "remote.is_private", "false" },
	{ "remote.is_local", "false" },
	{ "local.ip", "null" },
	{ "local.port", "null" },
	{ "local.host", "null" },
	{ "proxy.allowed", "false" },
	{ "proxy.ip", "null" },
	{ "proxy.type", "null" },
	{ "proxy.version", "null" },
	{ "proxy.command", "null" },
	{ "proxy.family", "null" },
	{ "proxy.local_ip", "null" },
	{ "proxy.local_port", "null" },
	{ "proxy.tls", "null" },
	{ "proxy.authority", "null" },
	{ "proxy.alpn", "null" },
	{ "proxy.unique_id", "null" },
	{ "proxy.netns", "null" },
	{ "proxy.tlvs", "[]" },
	{ "hello.verb", "null" },
	{ "hello.host", "null" },
	{ "esmtp", "false" },
	{ "tls", "null" },
	{ "auth", "null" },
	{ "relaying", "false" },
	{ "is_restricted", "false" },
	{ "notes", "{}" },
	{ "results", "{}" },
	{ "transaction", "null" },
	{ "current_line", "null" },
	{ "last_response", "null" },
	{ "remote_closed", "false" },
	{ "early_talker", "false" },
	{ "errors", "0" },
	{ "tran_count", "0" },
	{ "rcpt_count", "{\"accept\":0,\"tempfail\":0,\"reject\":0}" },
	{ "msg_count", "{\"accept\":0,\"tempfail\":0,\"reject\":0}" },
	{ "total_bytes", "0" },
	{ "start_time", "1795338358007" },
};

static void test_every_row_has_its_default(void **state)
{
	struct connection connection;
	struct buf line;

	(void)state;
	example_init(&connection);
	buf_init(&line, TRACE_LINE_MAX);
	trace_print(&connection, "quit", EXAMPLE_START_MS, &line);
	struct str json = buf_view(&line);
	json.n--;
	assert_true(json_is_valid(json));
	assert_int_equal(connection_row_count, sizeof(defaults) / sizeof(defaults[0]));
	for (size_t i = 0; i < connection_row_count; i++) {
		struct str value = json_at(json, connection_rows[i].name);

		assert_string_equal(connection_rows[i].name, defaults[i].name);
		if (strcmp(defaults[i].value, "*") == 0)
			assert_true(value.n > 0 && !str_eq(value, STR("null")));
		else
			assert_str_equal(value, str_from(defaults[i].value));
	}
	buf_free(&line);
	connection_free(&connection);
}

/* The contract of what resets what, apart from the table under test. */
static unsigned expected_resets(const char *name)
{
	static const char *const learned_in_plaintext[] = { "hello.verb", "hello.host", "esmtp",
		"auth", "relaying" };

	if (strcmp(name, "transaction") == 0)
		return CONNECTION_RESET_TLS | CONNECTION_RESET_HELLO | CONNECTION_RESET_RSET |
		       CONNECTION_RESET_MESSAGE;
	for (size_t i = 0; i < sizeof(learned_in_plaintext) / sizeof(learned_in_plaintext[0]); i++)
		if (strcmp(name, learned_in_plaintext[i]) == 0)
			return CONNECTION_RESET_TLS;
	return 0;
}

/* Gives every row that no pointer or list hides behind a value that is not its default. */
static void dirty(struct connection *connection)
{
	static struct tls_info tls;
	static struct auth_info auth;
	struct endpoint address = example_endpoint("192.0.2.1:25");

	connection_set_remote(connection, &address);
	connection_set_local(connection, &address);
	connection->tls = &tls;
	connection->auth = &auth;
	connection->hello = (struct hello){ .verb = "EHLO", .host = STR("host") };
	connection->esmtp = connection->remote_closed = connection->early_talker = true;
	connection->is_restricted = true;
	connection->errors = connection->total_bytes = 7;
	connection->rcpt_count.accept = connection->msg_count.reject = 3;
	connection_grant_relaying(connection, RELAYING_BY_AUTH);
	notes_set_bool(&connection->notes, STR("a"), true);
	results_set(&connection->results, STR("a"), STR("b"), STR("c"));
	buf_write(&connection->current_line, STR("RSET\r\n"));
	buf_write(&connection->last_response, STR("250 Ok\r\n"));
	transaction_begin(connection, 4096, EXAMPLE_START_MS);
	transaction_end(connection, OUTCOME_ABORTED, BY_CLIENT, STR(""), EXAMPLE_START_MS);
}

static bool is_zero(const void *bytes, size_t n)
{
	const char *p = bytes;

	while (n > 0 && p[n - 1] == 0)
		n--;
	return n == 0;
}

static void test_every_row_is_reset_by_what_it_says(void **state)
{
	(void)state;
	for (unsigned what = CONNECTION_RESET_TLS; what <= CONNECTION_RESET_MESSAGE; what <<= 1) {
		struct connection connection, before;

		example_init(&connection);
		dirty(&connection);
		before = connection;
		connection_reset(&connection, (enum connection_reset)what);
		for (size_t i = 0; i < connection_row_count; i++) {
			const struct connection_row *row = &connection_rows[i];
			const char *now = (const char *)&connection + row->offset;
			const char *then = (const char *)&before + row->offset;

			if (expected_resets(row->name) & what) {
				assert_true(is_zero(now, row->size));
				assert_false(is_zero(then, row->size));
			} else {
				assert_memory_equal(now, then, row->size);
			}
		}
		connection_free(&connection);
	}
}

static void test_rows_of_one_prefix_stand_together(void **state)
{
	(void)state;
	for (size_t i = 0; i < connection_row_count; i++) {
		struct str name = str_from(connection_rows[i].name);
		struct str prefix = str_range(name, 0, str_find(name, '.'));

		for (size_t j = i + 2; j < connection_row_count; j++) {
			struct str other = str_from(connection_rows[j].name);
			struct str before = str_from(connection_rows[j - 1].name);

			if (str_eq(prefix, str_range(other, 0, str_find(other, '.'))))
				assert_str_equal(
					prefix, str_range(before, 0, str_find(before, '.')));
		}
	}
}

/* Idle clients cost their structs. */
static void test_connection_is_small(void **state)
{
	struct connection connection;

	(void)state;
	assert_true(sizeof(struct connection) <= 1024);
	example_init(&connection);
	assert_null(connection.arena.blocks);
	assert_null(connection.current_line.data);
	connection_free(&connection);
}

static void test_uuid_is_its_own(void **state)
{
	struct connection a, b;

	(void)state;
	example_init(&a);
	example_init(&b);
	assert_int_equal(strlen(a.uuid), 36);
	assert_string_not_equal(a.uuid, b.uuid);
	connection_free(&a);
	connection_free(&b);
}

/* ---- Addresses and names -------------------------------------------------------------------- */

static void test_remote_is_classified(void **state)
{
	static const struct {
		const char *address;
		bool is_private, is_local;
	} rows[] = {
		{ "127.0.0.1:1", true, true },
		{ "[::1]:1", true, true },
		{ "[::ffff:127.0.0.1]:1", true, true },
		{ "169.254.255.1:1", true, true },
		{ "[fe80:0:0:1::5]:1", true, true },
		{ "10.1.2.3:1", true, false },
		{ "172.31.0.1:1", true, false },
		{ "192.168.0.1:1", true, false },
		{ "100.64.0.1:1", true, false },
		{ "[fd00::1]:1", true, false },
		{ "0.0.0.0:1", true, false },
		{ "[::]:1", true, false },
		{ "192.0.2.1:1", false, false },
		{ "198.51.100.1:1", false, false },
		{ "203.0.113.1:1", false, false },
		{ "[2001:db8::1]:1", false, false },
		{ "172.32.0.1:1", false, false },
		{ "100.128.0.1:1", false, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct connection connection;
		struct endpoint address = example_endpoint(rows[i].address);

		example_init(&connection);
		connection_set_remote(&connection, &address);
		assert_int_equal(connection.remote.is_private, rows[i].is_private);
		assert_int_equal(connection.remote.is_local, rows[i].is_local);
		connection_free(&connection);
	}
}

static void test_new_address_forgets_the_name(void **state)
{
	struct connection connection;
	struct endpoint first = example_endpoint("127.0.0.1:1");
	struct endpoint second = example_endpoint("192.0.2.1:2");

	(void)state;
	example_init(&connection);
	connection_set_remote(&connection, &first);
	connection_set_remote_host(&connection, HOST_OK, STR("localhost"), true);
	connection_set_remote(&connection, &second);
	assert_true(str_is_empty(connection.remote.host));
	assert_int_equal(connection.remote.host_status, HOST_PENDING);
	assert_false(connection.remote.host_confirmed);
	assert_false(connection.remote.is_local);
	connection_free(&connection);
}

static void test_remote_host_outcomes(void **state)
{
	static const struct {
		enum host_status given;
		const char *host, *kept;
		enum host_status status;
		bool is_confirmed;
		const char *word;
	} rows[] = {
		{ HOST_OK, "a.example", "a.example", HOST_OK, true, "ok" },
		{ HOST_OK, "", "", HOST_NONE, false, "none" },
		{ HOST_NONE, "a.example", "", HOST_NONE, false, "none" },
		{ HOST_ERROR, "a.example", "", HOST_ERROR, false, "error" },
		{ HOST_TIMEOUT, "a.example", "", HOST_TIMEOUT, false, "timeout" },
		{ HOST_OFF, "a.example", "", HOST_OFF, false, "off" },
		{ HOST_PENDING, "", "", HOST_PENDING, false, "pending" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct connection connection;

		example_init(&connection);
		connection_set_remote_host(
			&connection, rows[i].given, str_from(rows[i].host), true);
		assert_str_equal(connection.remote.host, str_from(rows[i].kept));
		assert_int_equal(connection.remote.host_status, rows[i].status);
		assert_int_equal(connection.remote.host_confirmed, rows[i].is_confirmed);
		assert_string_equal(host_status_word(connection.remote.host_status), rows[i].word);
		connection_free(&connection);
	}
}

static void test_remote_host_without_room(void **state)
{
	struct connection connection;

	(void)state;
	example_init(&connection);
	example_exhaust(&connection.arena);
	connection_set_remote_host(&connection, HOST_OK, STR("a.example"), true);
	assert_int_equal(connection.remote.host_status, HOST_ERROR);
	assert_true(str_is_empty(connection.remote.host));
	assert_false(connection.remote.host_confirmed);
	connection_free(&connection);
}

/* ---- The PROXY header ----------------------------------------------------------------------- */

/* The texts stand in a buffer that is overwritten afterwards, as the intake's is. */
static struct proxy_header full_header(char bytes[64])
{
	memcpy(bytes, "sni.example|h2|id|ns|TLSv1.3|AES|cn|sig|key|grp|sch|tlv", 56);
	return (struct proxy_header){
		.version = 2,
		.command = PROXY_COMMAND_PROXY,
		.family = PROXY_FAMILY_TCP4,
		.source = example_endpoint("192.0.2.7:4711"),
		.destination = example_endpoint("203.0.113.25:465"),
		.authority = str_make(bytes, 11),
		.alpn = str_make(bytes + 12, 2),
		.unique_id = str_make(bytes + 15, 2),
		.netns = str_make(bytes + 18, 2),
		.has_authority = true,
		.has_alpn = true,
		.has_unique_id = true,
		.has_netns = true,
		.ssl = { .present = true,
			.client = 3,
			.verify = 0,
			.version = str_make(bytes + 21, 7),
			.cipher = str_make(bytes + 29, 3),
			.cn = str_make(bytes + 33, 2),
			.sig_alg = str_make(bytes + 36, 3),
			.key_alg = str_make(bytes + 40, 3),
			.group = str_make(bytes + 44, 3),
			.sig_scheme = str_make(bytes + 48, 3) },
		.tlvs = { { .type = 0xe0, .value = str_make(bytes + 52, 3) },
			{ .type = 0xef, .value = str_make(bytes, 0) } },
		.tlv_count = 2,
	};
}

static void set_proxy(struct connection *connection, const struct proxy_header *header)
{
	struct endpoint peer = example_endpoint("10.0.0.2:40000");
	struct endpoint own = example_endpoint("10.0.0.5:25");

	connection_set_remote(connection, &peer);
	connection_set_local(connection, &own);
	connection->local.host = STR("own.example");
	connection_set_proxy(connection, header, &peer, &own);
}

static void test_proxy_header_is_copied(void **state)
{
	struct connection connection;
	char bytes[64], text[ENDPOINT_TEXT_MAX];
	struct proxy_header header = full_header(bytes);

	(void)state;
	example_init(&connection);
	set_proxy(&connection, &header);
	memset(bytes, 'x', sizeof(bytes));

	const struct proxy_info *proxy = &connection.proxy;
	assert_true(proxy->has_header);
	assert_string_equal(endpoint_print(&connection.remote.address, text), "192.0.2.7:4711");
	assert_string_equal(endpoint_print(&connection.local.address, text), "203.0.113.25:465");
	assert_true(str_is_empty(connection.local.host));
	assert_string_equal(endpoint_print(&proxy->address, text), "10.0.0.2:40000");
	assert_string_equal(endpoint_print(&proxy->local, text), "10.0.0.5:25");
	assert_str_equal(*proxy->authority, STR("sni.example"));
	assert_str_equal(*proxy->alpn, STR("h2"));
	assert_str_equal(*proxy->unique_id, STR("id"));
	assert_str_equal(*proxy->netns, STR("ns"));
	assert_true(proxy->tls && proxy->tls->used && proxy->tls->client_certificate);
	assert_true(proxy->tls->certificate_verified);
	assert_str_equal(proxy->tls->version, STR("TLSv1.3"));
	assert_str_equal(proxy->tls->cipher, STR("AES"));
	assert_str_equal(proxy->tls->cn, STR("cn"));
	assert_str_equal(proxy->tls->sig_alg, STR("sig"));
	assert_str_equal(proxy->tls->key_alg, STR("key"));
	assert_str_equal(proxy->tls->group, STR("grp"));
	assert_str_equal(proxy->tls->sig_scheme, STR("sch"));
	assert_int_equal(proxy->tlv_count, 2);
	assert_int_equal(proxy->tlvs[0].type, 0xe0);
	assert_str_equal(proxy->tlvs[0].value, STR("tlv"));
	assert_true(str_is_empty(proxy->tlvs[1].value));
	connection_free(&connection);
}

static const struct {
	struct str authority, sni;
} authorities[] = {
	{ STR_INIT("MX.Example.net"), STR_INIT("mx.example.net") },
	{ STR_INIT("mx\r\nevil"), STR_INIT("") },
	{ STR_INIT("mx.example.net\0"), STR_INIT("") },
	{ STR_INIT("m\xc3\xbc.example"), STR_INIT("") },
	{ STR_INIT("mx.example.net."), STR_INIT("") },
};

/* The name that was asked for is the client's word; the header's own row has it as it came. */
static void test_offloaded_sni(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(authorities) / sizeof(authorities[0]); i++) {
		struct connection connection;
		char bytes[64];
		struct proxy_header header = full_header(bytes);

		header.authority = authorities[i].authority;
		example_init(&connection);
		set_proxy(&connection, &header);
		assert_str_equal(connection.tls->sni, authorities[i].sni);
		assert_str_equal(*connection.proxy.authority, authorities[i].authority);
		connection_free(&connection);
	}
}

static void test_offloaded_tls(void **state)
{
	struct connection connection;
	char bytes[64];
	struct proxy_header header = full_header(bytes);

	(void)state;
	example_init(&connection);
	set_proxy(&connection, &header);
	assert_non_null(connection.tls);
	assert_true(connection.tls->offloaded);
	assert_str_equal(connection.tls->version, STR("TLSv1.3"));
	assert_str_equal(connection.tls->cipher, STR("AES"));
	assert_str_equal(connection.tls->sni, STR("sni.example"));
	assert_int_equal(
		connection.tls->client_certificate, connection.proxy.tls->client_certificate);
	assert_int_equal(
		connection.tls->client_verified, connection.proxy.tls->certificate_verified);
	assert_str_equal(connection.tls->client_subject, connection.proxy.tls->cn);
	connection_free(&connection);

	header.ssl.client = 0; /* the TLV is there, but the client spoke in clear */
	example_init(&connection);
	set_proxy(&connection, &header);
	assert_non_null(connection.proxy.tls);
	assert_false(connection.proxy.tls->used);
	assert_null(connection.tls);
	connection_free(&connection);
}

static void test_header_without_client_keeps_the_socket(void **state)
{
	static const struct {
		uint8_t version;
		enum proxy_command command;
		enum proxy_family family;
	} rows[] = {
		{ 1, PROXY_COMMAND_PROXY, PROXY_FAMILY_UNKNOWN },
		{ 2, PROXY_COMMAND_LOCAL, PROXY_FAMILY_UNSPEC },
		{ 2, PROXY_COMMAND_LOCAL, PROXY_FAMILY_TCP4 },
		{ 2, PROXY_COMMAND_PROXY, PROXY_FAMILY_UNSPEC },
		{ 2, PROXY_COMMAND_PROXY, PROXY_FAMILY_UNIX_STREAM },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct connection connection;
		char text[ENDPOINT_TEXT_MAX];
		const struct proxy_header header = { .version = rows[i].version,
			.command = rows[i].command,
			.family = rows[i].family };

		example_init(&connection);
		set_proxy(&connection, &header);
		assert_true(connection.proxy.has_header);
		assert_string_equal(
			endpoint_print(&connection.remote.address, text), "10.0.0.2:40000");
		assert_string_equal(endpoint_print(&connection.local.address, text), "10.0.0.5:25");
		assert_str_equal(connection.local.host, STR("own.example"));
		connection_free(&connection);
	}
}

static void test_header_without_room(void **state)
{
	struct connection connection;
	char bytes[64];
	struct proxy_header header = full_header(bytes);

	(void)state;
	example_init(&connection);
	example_exhaust(&connection.arena);
	set_proxy(&connection, &header);
	assert_true(connection.proxy.has_header);
	assert_null(connection.proxy.authority);
	assert_int_equal(connection.proxy.tlv_count, 0);
	assert_true(ipaddr_eq(&connection.remote.address.ip, &header.source.ip));
	connection_free(&connection);
}

/* ---- Relaying ------------------------------------------------------------------------------- */

static void end_transaction(struct connection *connection)
{
	transaction_end(connection, OUTCOME_ABORTED, BY_CLIENT, STR(""), EXAMPLE_START_MS);
	connection_reset(connection, CONNECTION_RESET_RSET);
}

static void test_lasting_grant(void **state)
{
	struct connection connection;

	(void)state;
	example_init(&connection);
	assert_false(connection_may_relay(&connection));
	connection_grant_relaying(&connection, "network");
	assert_true(connection_may_relay(&connection));
	transaction_begin(&connection, 4096, EXAMPLE_START_MS);
	assert_true(connection_may_relay(&connection));
	end_transaction(&connection);
	connection_reset(&connection, CONNECTION_RESET_HELLO);
	connection_reset(&connection, CONNECTION_RESET_MESSAGE);
	assert_true(connection_may_relay(&connection));
	assert_true(results_has(&connection.results, STR("relay"), STR("pass"), STR("network")));
	connection_free(&connection);
}

static void test_grant_inside_a_transaction_ends_with_it(void **state)
{
	struct connection connection;

	(void)state;
	example_init(&connection);
	struct transaction *transaction = transaction_begin(&connection, 4096, EXAMPLE_START_MS);
	connection_grant_relaying(&connection, "check");
	connection_grant_relaying(&connection, "check");
	assert_true(connection_may_relay(&connection));
	assert_true(results_has(&transaction->results, STR("relay"), STR("pass"), STR("check")));
	assert_false(results_has(&connection.results, STR("relay"), STR("pass"), STR("check")));
	end_transaction(&connection);
	assert_false(connection_may_relay(&connection));
	transaction_begin(&connection, 4096, EXAMPLE_START_MS);
	assert_false(connection_may_relay(&connection));
	end_transaction(&connection);
	connection_free(&connection);
}

/* STARTTLS takes back what AUTH alone had granted, whatever the order of the grants. */
static void test_starttls_and_grants(void **state)
{
	static const struct {
		const char *grants[3];
		bool is_kept;
	} rows[] = {
		{ { "auth" }, false },
		{ { "auth", "auth" }, false },
		{ { "network" }, true },
		{ { "network", "auth" }, true },
		{ { "auth", "network" }, true },
		{ { "auth", "network", "auth" }, true },
		{ { NULL }, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct connection connection;

		example_init(&connection);
		for (size_t j = 0; j < 3 && rows[i].grants[j]; j++)
			connection_grant_relaying(&connection, rows[i].grants[j]);
		assert_int_equal(connection_may_relay(&connection), rows[i].grants[0] != NULL);
		connection_reset(&connection, CONNECTION_RESET_TLS);
		assert_int_equal(connection_may_relay(&connection), rows[i].is_kept);
		connection_reset(&connection, CONNECTION_RESET_TLS);
		assert_int_equal(connection_may_relay(&connection), rows[i].is_kept);
		connection_free(&connection);
	}
}

/* The trace loses the word, never the grant. */
static void test_grant_without_room(void **state)
{
	struct connection connection;

	(void)state;
	example_init(&connection);
	example_exhaust(&connection.arena);
	connection_grant_relaying(&connection, "network");
	assert_true(connection_may_relay(&connection));
	connection_free(&connection);
}

/* ---- The document --------------------------------------------------------------------------- */

static void test_reference_names_every_row(void **state)
{
	struct buf out;
	char cell[64];

	(void)state;
	buf_init(&out, 1 << 20);
	connection_print_reference(&out);
	struct str page = buf_view(&out);
	for (size_t i = 0; i < connection_row_count; i++) {
		snprintf(cell, sizeof(cell), "| `%s` | ", connection_rows[i].name);
		assert_non_null(memmem(page.p, page.n, cell, strlen(cell)));
	}
	assert_non_null(memmem(page.p, page.n, "\"ending\":\"quit\"", 15));
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_row_has_its_default),
		cmocka_unit_test(test_every_row_is_reset_by_what_it_says),
		cmocka_unit_test(test_rows_of_one_prefix_stand_together),
		cmocka_unit_test(test_connection_is_small),
		cmocka_unit_test(test_uuid_is_its_own),
		cmocka_unit_test(test_remote_is_classified),
		cmocka_unit_test(test_new_address_forgets_the_name),
		cmocka_unit_test(test_remote_host_outcomes),
		cmocka_unit_test(test_remote_host_without_room),
		cmocka_unit_test(test_proxy_header_is_copied),
		cmocka_unit_test(test_offloaded_sni),
		cmocka_unit_test(test_offloaded_tls),
		cmocka_unit_test(test_header_without_client_keeps_the_socket),
		cmocka_unit_test(test_header_without_room),
		cmocka_unit_test(test_lasting_grant),
		cmocka_unit_test(test_grant_inside_a_transaction_ends_with_it),
		cmocka_unit_test(test_starttls_and_grants),
		cmocka_unit_test(test_grant_without_room),
		cmocka_unit_test(test_reference_names_every_row),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
