#include "backend/identity.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "connection/transaction.h"

static struct tls_info tls = { .version = STR_INIT("TLSv1.3"),
	.cipher = STR_INIT("TLS_AES_128_GCM_SHA256"),
	.sni = STR_INIT("mx.example.net") };

static struct endpoint endpoint(const char *text)
{
	struct endpoint endpoint;

	assert_true(endpoint_parse(str_from(text), &endpoint));
	return endpoint;
}

static struct connection client_at(const char *address, const char *local)
{
	struct connection connection = { .uuid = "0B8D1A51-3E0B-4F4A-A7E2-31F5A7CC23D1" };

	connection.remote.address = endpoint(address);
	connection.local.address = endpoint(local);
	connection.remote.is_known = connection.local.is_known = true;
	return connection;
}

/* The header for a client, or with NULL for a probe, read as a server reads it. */
static struct proxy_header header_for(
	const struct backend_settings *settings, const struct connection *connection)
{
	static char bytes[PROXY_V2_SENT_MAX];
	struct endpoint own = endpoint("127.0.0.1:40000"), server = endpoint("127.0.0.1:25");
	struct proxy_header header;
	enum proxy_error error;

	size_t n = identity_header(settings, connection, &own, &server, bytes);
	assert_in_range(n, 1, PROXY_V2_SENT_MAX);
	assert_int_equal(proxy_parse(str_make(bytes, n), &header, &error), 1);
	assert_int_equal(header.length, n);
	return header;
}

static void test_no_header(void **state)
{
	static const enum identity without[] = { IDENTITY_NONE, IDENTITY_XCLIENT,
		IDENTITY_XFORWARD };
	struct connection client = client_at("192.0.2.1:1", "192.0.2.2:25");
	char bytes[PROXY_V2_SENT_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(without) / sizeof(without[0]); i++) {
		struct backend_settings settings = { .identity = (int)without[i] };
		assert_int_equal(identity_header(&settings, &client, NULL, NULL, bytes), 0);
		assert_int_equal(identity_header(&settings, NULL, NULL, NULL, bytes), 0);
	}
}

static void test_addresses(void **state)
{
	struct backend_settings v1 = { .identity = IDENTITY_PROXY_V1 };
	struct backend_settings v2 = { .identity = IDENTITY_PROXY_V2 };
	struct connection client = client_at("192.0.2.1:1234", "[2001:db8::25]:25");
	struct endpoint own = endpoint("127.0.0.1:40000");

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct proxy_header header = header_for(i ? &v2 : &v1, &client);
		assert_int_equal(header.version, i + 1);
		assert_int_equal(header.source.port, 1234);
		assert_true(ipaddr_eq(&header.source.ip, &client.remote.address.ip));
		assert_true(ipaddr_eq(&header.destination.ip, &client.local.address.ip));
	}
	/* Nobody's. */
	assert_int_equal(header_for(&v2, NULL).command, PROXY_COMMAND_LOCAL);
	struct proxy_header header = header_for(&v1, NULL);
	assert_true(ipaddr_eq(&header.source.ip, &own.ip));
	assert_int_equal(header.destination.port, 25);
}

/* The server is to see us, who may use XCLIENT. */
static void test_local_says_nothing_of_the_client(void **state)
{
	struct backend_settings settings = { .identity = IDENTITY_LOCAL_XCLIENT };
	struct connection client = client_at("192.0.2.1:1", "192.0.2.2:25");

	(void)state;
	assert_int_equal(header_for(&settings, &client).command, PROXY_COMMAND_LOCAL);
	assert_int_equal(header_for(&settings, NULL).command, PROXY_COMMAND_LOCAL);
}

static void test_tlvs(void **state)
{
	int words[] = { PROXY_TLV_WORD_CRC32C, PROXY_TLV_WORD_SSL, PROXY_TLV_WORD_AUTHORITY,
		PROXY_TLV_WORD_UNIQUE_ID };
	struct backend_settings settings = { .identity = IDENTITY_PROXY_V2 };
	struct connection client = client_at("192.0.2.1:1", "192.0.2.2:25");

	(void)state;
	struct proxy_header header = header_for(&settings, &client);
	assert_int_equal(header.length, 28);
	settings.proxy_tlvs = (struct conf_list){ words, 4 };
	client.tls = &tls;
	header = header_for(&settings, &client);
	assert_true(header.has_crc32c);
	assert_true(str_eq(header.authority, tls.sni));
	assert_true(str_eq(header.unique_id, str_from(client.uuid)));
	assert_true(header.ssl.present);
	assert_int_equal(header.ssl.client, 1);
	assert_true(str_eq(header.ssl.version, tls.version));
	assert_true(str_eq(header.ssl.cipher, tls.cipher));
	assert_false(proxy_ssl_has_valid_certificate(&header.ssl));
	/* Without TLS there is nothing to say of it. */
	client.tls = NULL;
	header = header_for(&settings, &client);
	assert_false(header.ssl.present);
	assert_false(header.has_authority);
	assert_true(header.has_crc32c);
}

/* A certificate counts only when it was verified. */
static void test_certificates(void **state)
{
	int words[] = { PROXY_TLV_WORD_SSL };
	struct backend_settings settings = { .identity = IDENTITY_PROXY_V2,
		.proxy_tlvs = { words, 1 } };
	struct connection client = client_at("192.0.2.1:1", "192.0.2.2:25");
	struct tls_info with = tls;

	(void)state;
	client.tls = &with;
	with.client_certificate = true;
	struct proxy_header header = header_for(&settings, &client);
	assert_false(proxy_ssl_has_valid_certificate(&header.ssl));
	with.client_verified = true;
	header = header_for(&settings, &client);
	assert_true(proxy_ssl_has_valid_certificate(&header.ssl));
	with.offloaded = true;
	struct proxy_tls at_balancer = { .used = true, .cn = STR("client.example") };
	client.proxy.tls = &at_balancer;
	header = header_for(&settings, &client);
	assert_true(str_eq(header.ssl.cn, STR("client.example")));
}

/* Whatever the lengths: never beyond what Exim takes, and always well formed. */
static void test_what_does_not_fit_is_left_out(void **state)
{
	static char long_text[300];
	int words[] = { PROXY_TLV_WORD_SSL, PROXY_TLV_WORD_AUTHORITY, PROXY_TLV_WORD_CRC32C };
	struct backend_settings settings = { .identity = IDENTITY_PROXY_V2,
		.proxy_tlvs = { words, 3 } };
	struct connection client = client_at("[2001:db8::1]:1", "[2001:db8::25]:25");
	struct tls_info odd = tls;

	(void)state;
	memset(long_text, 'a', sizeof(long_text));
	client.tls = &odd;
	for (size_t n = 0; n < sizeof(long_text); n++) {
		odd.sni = str_make(long_text, n);
		odd.cipher = str_make(long_text, sizeof(long_text) - n);
		struct proxy_header header = header_for(&settings, &client);
		assert_true(header.has_crc32c);
		if (header.has_authority)
			assert_int_equal(header.authority.n, n);
	}
}

static void test_what_must_be_offered(void **state)
{
	static const struct {
		enum identity identity;
		unsigned xclient, xforward;
		bool is_offered;
	} rows[] = {
		{ IDENTITY_NONE, 0, 0, true },
		{ IDENTITY_PROXY_V2, 0, 0, true },
		{ IDENTITY_XCLIENT, 0, XCLIENT_ADDR, false },
		{ IDENTITY_XCLIENT, XCLIENT_NAME, 0, false },
		{ IDENTITY_XCLIENT, XCLIENT_NAME | XCLIENT_ADDR, 0, true },
		{ IDENTITY_LOCAL_XCLIENT, XCLIENT_ADDR, 0, true },
		{ IDENTITY_LOCAL_XCLIENT, 0, 0, false },
		{ IDENTITY_XFORWARD, XCLIENT_ADDR, 0, false },
		{ IDENTITY_XFORWARD, 0, XCLIENT_ADDR, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct backend_settings settings = { .identity = (int)rows[i].identity };
		struct smtp_capabilities has = { .xclient = rows[i].xclient,
			.xforward = rows[i].xforward };
		if (identity_is_offered(&settings, &has) != rows[i].is_offered)
			fail_msg("row %zu", i);
	}
}

/* NAME is verified, REVERSE_NAME is not; what could not be looked up may be there later. */
static void test_names(void **state)
{
	struct connection client = client_at("192.0.2.1:1", "192.0.2.2:25");
	struct auth_info auth = { .user = STR("bea") };
	struct transaction transaction = { .uuid = "X.1" };
	struct xclient_identity identity;

	(void)state;
	client.remote.host = STR("client.example");
	client.remote.host_status = HOST_OK;
	client.hello.host = STR("client.example");
	client.esmtp = true;
	identity_of(&client, &identity);
	assert_int_equal(identity.name.n, 0);
	assert_true(str_eq(identity.reverse_name, client.remote.host));
	assert_false(identity.name_failed);
	assert_int_equal(identity.login.n, 0);
	assert_int_equal(identity.protocol, XCLIENT_ESMTP);
	client.remote.host_confirmed = true;
	client.auth = &auth;
	client.transaction = &transaction;
	identity_of(&client, &identity);
	assert_true(str_eq(identity.name, client.remote.host));
	assert_true(str_eq(identity.login, auth.user));
	assert_true(str_eq(identity.session, str_from(client.uuid)));
	assert_true(str_eq(identity.ident, STR("X.1")));
	static const enum host_status failed[] = { HOST_PENDING, HOST_ERROR, HOST_TIMEOUT };
	for (size_t i = 0; i < 3; i++) {
		client.remote.host_status = failed[i];
		identity_of(&client, &identity);
		assert_true(identity.name_failed && identity.reverse_name_failed);
	}
}

/* Between two transactions the client may have changed: what a server was told of it before is kept
 * only where that makes no difference. */
static void test_what_still_holds(void **state)
{
	static const struct {
		enum identity identity;
		int hello;
		bool has_tlvs, hello_matters, auth_matters, tls_matters;
	} rows[] = {
		{ IDENTITY_NONE, BACKEND_HELLO_OWN, false, false, false, false },
		{ IDENTITY_NONE, BACKEND_HELLO_CLIENT, false, true, false, false },
		{ IDENTITY_XFORWARD, BACKEND_HELLO_OWN, false, false, false, false },
		{ IDENTITY_XCLIENT, BACKEND_HELLO_OWN, false, true, true, false },
		{ IDENTITY_LOCAL_XCLIENT, BACKEND_HELLO_OWN, false, true, true, false },
		{ IDENTITY_PROXY_V1, BACKEND_HELLO_OWN, false, false, false, false },
		{ IDENTITY_PROXY_V2, BACKEND_HELLO_OWN, false, false, false, false },
		{ IDENTITY_PROXY_V2, BACKEND_HELLO_OWN, true, false, false, true },
	};
	int words[] = { PROXY_TLV_WORD_SSL };
	struct auth_info auth = { .user = STR("carol") };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct backend_settings settings = { .identity = (int)rows[i].identity,
			.hello = rows[i].hello };
		struct connection client = client_at("192.0.2.1:1", "192.0.2.2:25");
		struct identity_told told;
		settings.proxy_tlvs.items = words;
		settings.proxy_tlvs.count = rows[i].has_tlvs;
		client.hello.host = STR("a.example");
		identity_told(&client, &told);
		assert_true(identity_holds(&settings, &told, &client));
		client.hello.host = STR("b.example");
		assert_int_equal(identity_holds(&settings, &told, &client), !rows[i].hello_matters);
		client.hello.host = STR("a.example");
		client.esmtp = true;
		assert_int_equal(identity_holds(&settings, &told, &client), !rows[i].auth_matters);
		client.esmtp = false;
		client.auth = &auth;
		assert_int_equal(identity_holds(&settings, &told, &client), !rows[i].auth_matters);
		client.auth = NULL;
		client.tls = &tls;
		assert_int_equal(identity_holds(&settings, &told, &client), !rows[i].tls_matters);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_header),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_local_says_nothing_of_the_client),
		cmocka_unit_test(test_tlvs),
		cmocka_unit_test(test_certificates),
		cmocka_unit_test(test_what_does_not_fit_is_left_out),
		cmocka_unit_test(test_what_must_be_offered),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_what_still_holds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
