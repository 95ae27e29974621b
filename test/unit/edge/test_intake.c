#include "edge/intake.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Who connects. */
#define BALANCER "10.0.0.5" /* in trusted_proxies */
#define CHECKER "10.1.0.5"  /* in health_checkers */
#define BOTH "10.2.0.5"     /* in both */
#define STRANGER "198.51.100.7"

static const struct timeouts_settings timeouts = { .proxy = 5000, .proxy_wait = 500 };

static struct ipnet trusted[2], checkers[2];
static struct listener_settings listener;

static void open_listener(enum proxy_mode mode)
{
	assert_true(ipnet_parse(STR("10.0.0.0/24"), &trusted[0]));
	assert_true(ipnet_parse(STR("10.2.0.0/24"), &trusted[1]));
	assert_true(ipnet_parse(STR("10.1.0.0/24"), &checkers[0]));
	assert_true(ipnet_parse(STR("10.2.0.0/24"), &checkers[1]));
	listener = (struct listener_settings){
		.name = STR("mx"),
		.proxy = (int)mode,
		.trusted_proxies = { trusted, 2 },
		.health_checkers = { checkers, 2 },
	};
}

static enum intake_decision begin(struct intake *intake, const char *peer)
{
	struct ipaddr ip;

	assert_true(ipaddr_parse(str_from(peer), &ip));
	return intake_begin(intake, &listener, &ip);
}

/* ---- Trust, before a byte is looked at ---------------------------------------------------- */

static void test_the_peer_alone(void **state)
{
	static const struct {
		enum proxy_mode mode;
		const char *peer;
		enum intake_decision decision;
		uint64_t silence_ms;
		bool is_trusted;
	} rows[] = {
		{ PROXY_MODE_REQUIRED, BALANCER, INTAKE_WAIT, 0, true },
		{ PROXY_MODE_REQUIRED, STRANGER, INTAKE_REFUSED, 0, false },
		{ PROXY_MODE_REQUIRED, "::ffff:10.0.0.5", INTAKE_WAIT, 0, true },
		{ PROXY_MODE_REQUIRED, "10.0.1.5", INTAKE_REFUSED, 0, false },
		{ PROXY_MODE_REQUIRED, CHECKER, INTAKE_RESTRICTED, 500, false },
		{ PROXY_MODE_REQUIRED, BOTH, INTAKE_WAIT, 500, true },
		{ PROXY_MODE_OPTIONAL, BALANCER, INTAKE_WAIT, 500, true },
		{ PROXY_MODE_OPTIONAL, STRANGER, INTAKE_DIRECT, 500, false },
		{ PROXY_MODE_OPTIONAL, CHECKER, INTAKE_RESTRICTED, 500, false },
		{ PROXY_MODE_OPTIONAL, BOTH, INTAKE_WAIT, 500, true },
		{ PROXY_MODE_OFF, BALANCER, INTAKE_DIRECT, 0, false },
		{ PROXY_MODE_OFF, STRANGER, INTAKE_DIRECT, 0, false },
		{ PROXY_MODE_OFF, CHECKER, INTAKE_RESTRICTED, 500, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct intake intake;
		open_listener(rows[i].mode);
		assert_int_equal(begin(&intake, rows[i].peer), rows[i].decision);
		assert_int_equal(intake.is_trusted, rows[i].is_trusted);
		assert_null(intake.header);
		if (rows[i].decision == INTAKE_WAIT)
			assert_int_equal(intake_silence_ms(&intake, &timeouts), rows[i].silence_ms);
		if (rows[i].decision != INTAKE_REFUSED)
			continue;
		assert_int_equal(intake.ending, ENDING_PROXY_UNTRUSTED);
		assert_string_equal(intake.word, "untrusted");
		assert_non_null(intake.text);
	}
}

/* ---- The bytes ---------------------------------------------------------------------------- */

#define V2 "\r\n\r\n\0\r\nQUIT\n"
#define V1 "PROXY TCP4 192.0.2.9 203.0.113.1 40000 25\r\n"
/* Length and addresses behind command and family. */
#define V2_TCP4(source) "\0\014" source "\313\0\161\001\x9c\x40\0\031"
#define V2_UDP4 V2 "\x21\x12\0\014\300\0\002\011\313\0\161\001\x9c\x40\0\031"

static const struct {
	const char *name;
	struct str bytes;
	/* Of a peer that must send a header, and of one that may. */
	enum intake_decision required, optional;
	enum ending ending;
	const char *word;
} bytes_rows[] = {
	{ "v1", STR_INIT(V1 "EHLO x\r\n"), INTAKE_CLIENT, INTAKE_CLIENT },
	{ "v1 TCP6", STR_INIT("PROXY TCP6 2001:db8::9 2001:db8::1 1 25\r\n"), INTAKE_CLIENT,
		INTAKE_CLIENT },
	{ "v1 UNKNOWN", STR_INIT("PROXY UNKNOWN\r\n"), INTAKE_RESTRICTED, INTAKE_RESTRICTED },
	{ "v1 UNKNOWN with junk", STR_INIT("PROXY UNKNOWN 1 2 3 4\r\n"), INTAKE_RESTRICTED,
		INTAKE_RESTRICTED },
	{ "v1 bad address", STR_INIT("PROXY TCP4 192.0.2.900 203.0.113.1 1 25\r\n"), INTAKE_REFUSED,
		INTAKE_REFUSED, ENDING_PROXY_INVALID, "v1_address" },
	{ "v1 unspecified", STR_INIT("PROXY TCP4 0.0.0.0 203.0.113.1 1 25\r\n"), INTAKE_CLIENT,
		INTAKE_CLIENT },
	{ "v1 multicast", STR_INIT("PROXY TCP4 224.0.0.1 203.0.113.1 1 25\r\n"), INTAKE_CLIENT,
		INTAKE_CLIENT },
	{ "v2", STR_INIT(V2 "\x21\x11" V2_TCP4("\300\0\002\011")), INTAKE_CLIENT, INTAKE_CLIENT },
	{ "v2 LOCAL", STR_INIT(V2 "\x20\x00\0\0"), INTAKE_RESTRICTED, INTAKE_RESTRICTED },
	{ "v2 LOCAL that names a client", STR_INIT(V2 "\x20\x11" V2_TCP4("\300\0\002\011")),
		INTAKE_RESTRICTED, INTAKE_RESTRICTED },
	{ "v2 LOCAL over a datagram family", STR_INIT(V2 "\x20\x12\0\0"), INTAKE_RESTRICTED,
		INTAKE_RESTRICTED },
	{ "v2 UNSPEC", STR_INIT(V2 "\x21\x00\0\0"), INTAKE_RESTRICTED, INTAKE_RESTRICTED },
	{ "v2 datagram", STR_INIT(V2_UDP4), INTAKE_REFUSED, INTAKE_REFUSED, ENDING_PROXY_INVALID,
		"datagram" },
	{ "v2 version 1", STR_INIT(V2 "\x11\x11\0\0"), INTAKE_REFUSED, INTAKE_REFUSED,
		ENDING_PROXY_INVALID, "v2_version" },
	{ "SMTP", STR_INIT("EHLO x\r\n"), INTAKE_REFUSED, INTAKE_DIRECT, ENDING_PROXY_INVALID,
		"no_header" },
	{ "TLS", STR_INIT("\x16\x03\x01"), INTAKE_REFUSED, INTAKE_DIRECT, ENDING_PROXY_INVALID,
		"no_header" },
	{ "almost v1", STR_INIT("PROXYTCP4"), INTAKE_REFUSED, INTAKE_DIRECT, ENDING_PROXY_INVALID,
		"no_header" },
	{ "part of v1", STR_INIT("PROXY TCP4 192."), INTAKE_WAIT, INTAKE_WAIT },
	{ "one byte", STR_INIT("P"), INTAKE_WAIT, INTAKE_WAIT },
	{ "part of v2", STR_INIT(V2 "\x21"), INTAKE_WAIT, INTAKE_WAIT },
	{ "CR LF", STR_INIT("\r\n"), INTAKE_WAIT, INTAKE_WAIT },
};

static enum intake_decision feed_whole(
	struct intake *intake, struct str bytes, struct proxy_header *header)
{
	char *copy = malloc(bytes.n);

	memcpy(copy, bytes.p, bytes.n);
	enum intake_decision decision = intake_feed(intake, str_make(copy, bytes.n), header);
	free(copy);
	return decision;
}

static enum intake_decision feed_byte_by_byte(
	struct intake *intake, struct str bytes, struct proxy_header *header)
{
	enum intake_decision decision = INTAKE_WAIT;

	for (size_t n = 1; n <= bytes.n && decision == INTAKE_WAIT; n++)
		decision = feed_whole(intake, str_range(bytes, 0, n), header);
	return decision;
}

static void check_bytes(size_t row, enum proxy_mode mode, const char *peer,
	enum intake_decision wanted, bool is_byte_by_byte)
{
	struct str bytes = bytes_rows[row].bytes;
	struct intake intake;
	struct proxy_header header;

	open_listener(mode);
	assert_int_equal(begin(&intake, peer), INTAKE_WAIT);
	assert_int_equal(intake_feed(&intake, STR(""), &header), INTAKE_WAIT);
	enum intake_decision decision = is_byte_by_byte ? feed_byte_by_byte(&intake, bytes, &header)
							: feed_whole(&intake, bytes, &header);
	if (decision != wanted)
		fail_msg("%s from %s: %d", bytes_rows[row].name, peer, (int)decision);
	bool has_header =
		decision == INTAKE_CLIENT ||
		(decision == INTAKE_RESTRICTED && bytes_rows[row].required == INTAKE_RESTRICTED);
	assert_int_equal(intake.header != NULL,
		has_header || (intake.word != NULL && strcmp(intake.word, "datagram") == 0));
	if (decision == INTAKE_CLIENT)
		assert_int_equal(intake.taken, intake.header->length);
	if (decision == INTAKE_DIRECT)
		assert_int_equal(intake.taken, 0);
	if (decision == INTAKE_REFUSED) {
		assert_int_equal(intake.ending, bytes_rows[row].ending);
		assert_string_equal(intake.word, bytes_rows[row].word);
		assert_non_null(intake.text);
	}
}

static void test_the_first_bytes(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bytes_rows) / sizeof(bytes_rows[0]); i++) {
		for (int j = 0; j < 2; j++) {
			enum intake_decision of_checker = bytes_rows[i].optional == INTAKE_DIRECT
								  ? INTAKE_RESTRICTED
								  : bytes_rows[i].optional;
			check_bytes(i, PROXY_MODE_REQUIRED, BALANCER, bytes_rows[i].required, j);
			check_bytes(i, PROXY_MODE_OPTIONAL, BALANCER, bytes_rows[i].optional, j);
			check_bytes(i, PROXY_MODE_REQUIRED, BOTH, of_checker, j);
			check_bytes(i, PROXY_MODE_OPTIONAL, BOTH, of_checker, j);
		}
	}
}

/* What stands behind the header is not its: in whatever pieces it came. */
static void test_what_follows_the_header(void **state)
{
	static const struct str follows[] = { STR_INIT(""), STR_INIT("EHLO x\r\n"), STR_INIT(V1),
		STR_INIT(V2), STR_INIT("\x16\x03\x01") };

	(void)state;
	open_listener(PROXY_MODE_REQUIRED);
	for (size_t i = 0; i < sizeof(follows) / sizeof(follows[0]); i++) {
		char bytes[256];
		struct intake intake;
		struct proxy_header header;
		char ip[IPADDR_TEXT_MAX];

		memcpy(bytes, V1, sizeof(V1) - 1);
		memcpy(bytes + sizeof(V1) - 1, follows[i].p, follows[i].n);
		begin(&intake, BALANCER);
		assert_int_equal(intake_feed(&intake,
					 str_make(bytes, sizeof(V1) - 1 + follows[i].n), &header),
			INTAKE_CLIENT);
		assert_int_equal(intake.taken, sizeof(V1) - 1);
		assert_string_equal(ipaddr_print(&intake.header->source.ip, ip), "192.0.2.9");
		assert_int_equal(intake.header->source.port, 40000);
	}
}

/* ---- Nothing comes ------------------------------------------------------------------------ */

static void test_silence(void **state)
{
	struct intake intake;

	(void)state;
	open_listener(PROXY_MODE_OPTIONAL);
	begin(&intake, BALANCER);
	assert_int_equal(intake_silence(&intake), INTAKE_DIRECT);
	assert_null(intake.header);
	begin(&intake, BOTH);
	assert_int_equal(intake_silence(&intake), INTAKE_RESTRICTED);
	open_listener(PROXY_MODE_REQUIRED);
	begin(&intake, BOTH);
	assert_int_equal(intake_silence(&intake), INTAKE_RESTRICTED);
}

static void test_timeout_and_eof(void **state)
{
	struct intake intake;

	(void)state;
	open_listener(PROXY_MODE_REQUIRED);
	begin(&intake, BALANCER);
	assert_int_equal(intake_timeout(&intake), INTAKE_REFUSED);
	assert_int_equal(intake.ending, ENDING_PROXY_TIMEOUT);
	assert_string_equal(intake.word, "timeout");
	begin(&intake, BALANCER);
	assert_int_equal(intake_eof(&intake, false), INTAKE_REFUSED);
	assert_int_equal(intake.ending, ENDING_PROXY_CLOSED);
	assert_string_equal(intake.word, "closed");
	begin(&intake, BALANCER);
	assert_int_equal(intake_eof(&intake, true), INTAKE_REFUSED);
	assert_int_equal(intake.ending, ENDING_PROXY_CLOSED);
	assert_string_equal(intake.word, "cut_short");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_peer_alone),
		cmocka_unit_test(test_the_first_bytes),
		cmocka_unit_test(test_what_follows_the_header),
		cmocka_unit_test(test_silence),
		cmocka_unit_test(test_timeout_and_eof),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
