/*
 * received_print with any bytes in any of its texts: one byte of settings, then the texts, one a
 * line (LF; the last takes the rest, LF and all). What must hold: exactly one field comes out,
 * its lines folded and not too long, in the promised room; parentheses and "<" ">" balance, and
 * the clauses stand in it once.
 */
#include <stdint.h>

#include "base/assert.h"
#include "proto/received.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_lines(struct str field)
{
	bool is_first = true;

	while (field.n > 0) {
		size_t n = str_find(field, '\n') + 1;
		ASSERT(n >= 4 && n <= field.n && n <= 1000);
		ASSERT(field.p[n - 2] == '\r');
		ASSERT(str_starts_with(field, is_first ? STR("Received: from ") : STR("\t")));
		for (size_t i = 1; i < n - 2; i++)
			ASSERT(!ascii_is_control(field.p[i]));
		field = str_from_pos(field, n);
		is_first = false;
	}
}

static size_t count(struct str s, struct str what)
{
	size_t found = 0;

	for (size_t i = 0; i + what.n <= s.n; i++)
		found += str_eq(str_range(s, i, i + what.n), what);
	return found;
}

/* Comments are never nested; nothing else holds a parenthesis. */
static void check_comments(struct str field)
{
	bool is_inside = false;

	for (size_t i = 0; i < field.n; i++) {
		ASSERT(field.p[i] != '(' || !is_inside);
		ASSERT(field.p[i] != ')' || is_inside);
		if (field.p[i] == '(' || field.p[i] == ')')
			is_inside = field.p[i] == '(';
		ASSERT(field.p[i] != '"' && field.p[i] != '\\');
	}
	ASSERT(!is_inside);
}

static void check_clauses(struct str field)
{
	size_t recipients = count(field, STR("\tfor <"));

	ASSERT(count(field, STR(" (gatepost) with ")) == 1);
	ASSERT(count(field, STR("\r\n\tby ")) == 1);
	ASSERT(count(field, STR(";")) == 1);
	ASSERT(recipients <= 1);
	ASSERT(count(field, STR("<")) == recipients && count(field, STR(">")) == recipients);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf out;

	if (size < 2)
		return 0;
	struct str rest = str_make((const char *)data + 2, size - 2);
	struct received received = {
		.client = { { [0] = 0x20, [1] = 0x01, [15] = data[1] } },
		.tls_offloaded = data[0] & 1,
		.esmtp = data[0] & 2,
		.authenticated = data[0] & 4,
		.smtputf8 = data[0] & 8,
		.time = (time_t)((uint64_t)data[1] << (data[0] >> 2)),
	};
	received.hello = str_cut(&rest, '\n');
	received.host = str_cut(&rest, '\n');
	received.hostname = str_cut(&rest, '\n');
	received.id = str_cut(&rest, '\n');
	received.tls_version = str_cut(&rest, '\n');
	received.tls_cipher = str_cut(&rest, '\n');
	received.recipient = rest;
	buf_init(&out, RECEIVED_MAX);
	received_print(&received, &out);
	check_lines(buf_view(&out));
	check_comments(buf_view(&out));
	check_clauses(buf_view(&out));
	buf_free(&out);
	return 0;
}
