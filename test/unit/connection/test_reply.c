#include "example.h"

#include <stdio.h>
#include <string.h>

#include "connection/reply.h"

static const struct {
	const char *name;
	int code;
	const char *enhanced, *text;
} rows[] = {
#define REPLY(id, code, enhanced, text, remark) { #id, code, enhanced, text },
#include "tables/replies.def"
#undef REPLY
};

/* One recipient under question, one sender, one hello. */
static void fill(struct connection *connection, struct str foreign)
{
	struct endpoint address = example_endpoint("[2001:db8::25]:4711");

	connection_set_remote(connection, &address);
	connection->hello.host = foreign;
	struct transaction *transaction = transaction_begin(connection, 4096, EXAMPLE_START_MS);
	transaction->mail_from.address = foreign;
	transaction_candidate(transaction)->path.address = foreign;
}

static void finish(struct connection *connection)
{
	if (connection->transaction)
		transaction_end(connection, OUTCOME_ABORTED, BY_CLIENT, STR(""), EXAMPLE_START_MS);
	connection_free(connection);
}

static struct str print(
	enum reply_id id, const struct connection *connection, struct str detail, struct buf *out)
{
	buf_truncate(out, 0);
	reply_print(id, connection, STR("mx.example.com"), detail, out);
	return buf_view(out);
}

/* A reply on the wire: lines of at most 512 bytes with one code, CR LF at the end of each, nothing
 * in between that a client could take for another line. */
static void check_wire(struct str reply, int code, const char *enhanced)
{
	char begin[32];
	int n = snprintf(begin, sizeof(begin), "%d", code);

	assert_true(reply.n > 0);
	while (reply.n > 0) {
		size_t end = str_find(reply, '\n');
		struct str line = str_range(reply, 0, end + 1);

		assert_true(end < reply.n && line.n <= 512 && line.n > 5);
		assert_true(str_starts_with(line, str_make(begin, (size_t)n)));
		assert_int_equal(line.p[3], line.n == reply.n ? ' ' : '-');
		if (*enhanced)
			assert_true(str_starts_with(str_from_pos(line, 4), str_from(enhanced)));
		assert_int_equal(line.p[line.n - 2], '\r');
		for (size_t i = 0; i < line.n - 2; i++)
			assert_false(ascii_is_control(line.p[i]));
		reply = str_from_pos(reply, end + 1);
	}
}

static void test_every_reply_is_well_formed(void **state)
{
	struct connection connection;
	struct buf out;

	(void)state;
	example_init(&connection);
	fill(&connection, STR("foreign"));
	buf_init(&out, 8192);
	for (int i = 0; i < REPLY_COUNT; i++) {
		struct str reply = print((enum reply_id)i, &connection, STR("detail"), &out);

		check_wire(reply, rows[i].code, rows[i].enhanced);
		assert_int_equal(reply_code((enum reply_id)i), rows[i].code);
		assert_int_equal(str_find(reply, '{'), reply.n);
		assert_int_equal(str_find(reply, '}'), reply.n);
	}
	buf_free(&out);
	finish(&connection);
}

/* RFC 2034 section 4: the class is the first digit; none in the greeting, HELO and 3xx. */
static void test_enhanced_codes_fit(void **state)
{
	(void)state;
	for (int i = 0; i < REPLY_COUNT; i++) {
		bool has_none = i == REPLY_GREETING || i == REPLY_HELO || rows[i].code / 100 == 3;

		assert_int_equal(rows[i].enhanced[0] == '\0', has_none);
		if (!has_none)
			assert_int_equal(rows[i].enhanced[0] - '0', rows[i].code / 100);
	}
}

static void test_holes_are_filled(void **state)
{
	static const struct {
		enum reply_id id;
		const char *wire;
	} cases[] = {
		{ REPLY_GREETING, "220 mx.example.com ESMTP gatepost\r\n" },
		{ REPLY_OK, "250 2.0.0 Ok\r\n" },
		{ REPLY_START_DATA, "354 End data with <CR><LF>.<CR><LF>\r\n" },
		{ REPLY_RELAY_DENIED, "554 5.7.1 <a@example.org>: Relay access denied\r\n" },
		{ REPLY_CLIENT_REJECTED,
			"554 5.7.1 <2001:db8::25>: Client host rejected: Access denied\r\n" },
		{ REPLY_HELLO_INVALID,
			"501 5.5.2 <a@example.org>: Helo command rejected: Invalid name\r\n" },
		{ REPLY_UNSUPPORTED_PARAMETER, "555 5.5.4 Unsupported option: X=1\r\n" },
	};
	struct connection connection;
	struct buf out;

	(void)state;
	example_init(&connection);
	fill(&connection, STR("a@example.org"));
	buf_init(&out, 8192);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_str_equal(
			print(cases[i].id, &connection, STR("X=1"), &out), str_from(cases[i].wire));
	buf_free(&out);
	finish(&connection);
}

static void test_holes_without_anything_known(void **state)
{
	struct connection connection;
	struct buf out;

	(void)state;
	example_init(&connection);
	buf_init(&out, 8192);
	for (int i = 0; i < REPLY_COUNT; i++)
		check_wire(print((enum reply_id)i, &connection, STR(""), &out), rows[i].code,
			rows[i].enhanced);
	assert_str_equal(print(REPLY_CLIENT_REJECTED, &connection, STR(""), &out),
		STR("554 5.7.1 <unknown>: Client host rejected: Access denied\r\n"));
	buf_free(&out);
	finish(&connection);
}

static void test_hostile_texts_are_cleaned(void **state)
{
	struct connection connection;
	struct buf out;

	(void)state;
	example_init(&connection);
	fill(&connection, example_hostile());
	buf_init(&out, 8192);
	for (int i = 0; i < REPLY_COUNT; i++)
		check_wire(print((enum reply_id)i, &connection, example_hostile(), &out),
			rows[i].code, rows[i].enhanced);
	buf_free(&out);
	finish(&connection);
}

static void test_only_ascii_in_holes(void **state)
{
	static const struct {
		const char *given, *shown;
	} cases[] = {
		{ "j\xc3\xb6rg", "j??rg" },
		{ "a\xc2\x85z", "a??z" },
		{ "a\r\nb\x7f", "a??b?" },
		{ "a\xff\x80", "a??" },
		{ " ~", " ~" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct connection connection;
		struct buf out;
		char wire[128];

		example_init(&connection);
		fill(&connection, str_from(cases[i].given));
		buf_init(&out, 8192);
		snprintf(wire, sizeof(wire), "554 5.7.1 <%s>: Relay access denied\r\n",
			cases[i].shown);
		assert_str_equal(
			print(REPLY_RELAY_DENIED, &connection, STR(""), &out), str_from(wire));
		buf_free(&out);
		finish(&connection);
	}
}

static void test_holes_are_cut(void **state)
{
	static const size_t lengths[] = { 255, 256, 257, 4000 };
	static char text[4096];
	struct buf out;

	(void)state;
	memset(text, 'x', sizeof(text));
	buf_init(&out, 8192);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct connection connection;
		size_t kept = lengths[i] < 256 ? lengths[i] : 256;

		example_init(&connection);
		fill(&connection, str_make(text, lengths[i]));
		struct str reply = print(REPLY_RELAY_DENIED, &connection, STR(""), &out);
		assert_int_equal(reply.n, strlen("554 5.7.1 <>: Relay access denied\r\n") + kept);
		finish(&connection);
	}
	buf_free(&out);
}

/* A text with braces of its own is not looked at again. */
static void test_holes_are_not_filled_twice(void **state)
{
	struct connection connection;
	struct buf out;

	(void)state;
	example_init(&connection);
	fill(&connection, STR("{hostname}{nothing}"));
	buf_init(&out, 8192);
	assert_str_equal(print(REPLY_RELAY_DENIED, &connection, STR(""), &out),
		STR("554 5.7.1 <{hostname}{nothing}>: Relay access denied\r\n"));
	buf_free(&out);
	finish(&connection);
}

static void test_reference_has_every_reply(void **state)
{
	struct buf out;
	char cell[256];

	(void)state;
	buf_init(&out, 1 << 20);
	reply_print_reference(&out);
	struct str page = buf_view(&out);
	for (int i = 0; i < REPLY_COUNT; i++) {
		snprintf(cell, sizeof(cell), "%s` | %s | ", rows[i].text, rows[i].name);
		assert_non_null(memmem(page.p, page.n, cell, strlen(cell)));
	}
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_reply_is_well_formed),
		cmocka_unit_test(test_enhanced_codes_fit),
		cmocka_unit_test(test_holes_are_filled),
		cmocka_unit_test(test_holes_without_anything_known),
		cmocka_unit_test(test_hostile_texts_are_cleaned),
		cmocka_unit_test(test_only_ascii_in_holes),
		cmocka_unit_test(test_holes_are_cut),
		cmocka_unit_test(test_holes_are_not_filled_twice),
		cmocka_unit_test(test_reference_has_every_reply),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
