/*
 * dot_next with any bytes: one byte of settings, one of how the input is cut, then the message.
 * What must hold: cuts change nothing; the end is the first CR LF . CR LF of the bytes as they
 * came; nothing but canonical bytes comes out; what came out is its own canonical form.
 */
#include <stdint.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "proto/dot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct result {
	struct dot dot;
	struct buf out;
	bool ended;
	size_t taken;
};

static void feed(struct result *result, struct str input)
{
	while (input.n > 0 && !result->ended) {
		size_t taken;
		struct str piece;

		result->ended = dot_next(&result->dot, input, &taken, &piece) == 1;
		ASSERT(taken > 0 && taken <= input.n);
		ASSERT(buf_write(&result->out, piece));
		ASSERT(result->dot.violations == 0 || piece.n == 0);
		result->taken += taken;
		input = str_from_pos(input, taken);
	}
}

/* The message in pieces of `step` bytes. */
static struct result run(struct str message, const struct dot_limits *limits, size_t step)
{
	struct result result = { .ended = false };

	dot_init(&result.dot, limits);
	buf_init(&result.out, 8 * message.n + 16);
	for (size_t at = 0; at < message.n && !result.ended; at += step)
		feed(&result, str_range(message, at, at + step));
	return result;
}

static bool has_at(struct str s, size_t at, struct str what)
{
	return str_eq(str_range(s, at, at + what.n), what);
}

/* Where the message ends, its end of data included; 0: nowhere. */
static size_t find_end(struct str message)
{
	if (str_starts_with(message, STR(".\r\n")))
		return 3;
	for (size_t i = 0; i < message.n; i++)
		if (has_at(message, i, STR("\r\n.\r\n")))
			return i + 5;
	return 0;
}

static void check_end(struct str message, const struct result *result)
{
	size_t end = find_end(message);

	ASSERT(result->ended == (end > 0));
	ASSERT(result->taken == (end > 0 ? end : message.n));
}

/* Which of the three there are in the content. */
static void check_violations(struct str content, const struct result *result)
{
	unsigned found = 0;

	for (size_t i = 0; i < content.n; i++) {
		if (content.p[i] == '\r' && !has_at(content, i, STR("\r\n")))
			found |= DOT_BARE_CR;
		if (content.p[i] == '\n' && (i == 0 || content.p[i - 1] != '\r'))
			found |= DOT_BARE_LF;
		if (content.p[i] == '\0')
			found |= DOT_NUL;
	}
	ASSERT((result->dot.violations & (DOT_BARE_CR | DOT_BARE_LF | DOT_NUL)) == found);
}

static void check_canonical(struct str out)
{
	for (size_t i = 0; i < out.n; i++) {
		bool at_start = i == 0 || out.p[i - 1] == '\n';
		ASSERT(out.p[i] != '\0');
		ASSERT(out.p[i] != '\n' || (i > 0 && out.p[i - 1] == '\r'));
		ASSERT(out.p[i] != '\r' || i + 1 == out.n || out.p[i + 1] == '\n');
		if (at_start && out.p[i] == '.' && i + 1 < out.n)
			ASSERT(out.p[i + 1] == '.');
	}
}

static void check_same(const struct result *a, const struct result *b)
{
	ASSERT(a->ended == b->ended && a->taken == b->taken);
	ASSERT(a->dot.violations == b->dot.violations);
	ASSERT(a->dot.bytes == b->dot.bytes && a->dot.lines == b->dot.lines);
	ASSERT(a->dot.received_count == b->dot.received_count);
	ASSERT(a->dot.violations != 0 || str_eq(buf_view(&a->out), buf_view(&b->out)));
}

static void check_fixed_point(const struct result *result, const struct dot_limits *limits)
{
	struct dot_limits strict = *limits;
	struct buf message;

	strict.normalise = false;
	buf_init(&message, buf_used(&result->out) + DOT_END.n);
	ASSERT(buf_write(&message, buf_view(&result->out)) && buf_write(&message, DOT_END));
	struct result again = run(buf_view(&message), &strict, message.max);
	ASSERT(again.ended && again.dot.violations == 0);
	ASSERT(str_eq(buf_view(&again.out), buf_view(&result->out)));
	ASSERT(again.dot.bytes == result->dot.bytes && again.dot.lines == result->dot.lines);
	ASSERT(again.dot.received_count == result->dot.received_count);
	buf_free(&again.out);
	buf_free(&message);
}

static void check(struct str message, const struct dot_limits *limits, size_t step)
{
	struct result whole = run(message, limits, message.n);
	struct result cut = run(message, limits, step);

	check_end(message, &whole);
	check_same(&whole, &cut);
	check_canonical(buf_view(&whole.out));
	check_canonical(buf_view(&cut.out));
	if (whole.ended && !limits->normalise)
		check_violations(str_range(message, 0, whole.taken - DOT_END.n), &whole);
	if (whole.ended && whole.dot.violations == 0)
		check_fixed_point(&whole, limits);
	buf_free(&cut.out);
	buf_free(&whole.out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 3)
		return 0;
	struct dot_limits limits = {
		.normalise = data[0] & 1,
		.line = data[0] & 2 ? 40 : 0,
		.header = data[0] & 4 ? 100 : 0,
	};
	check(str_make((const char *)data + 2, size - 2), &limits, 1 + data[1] % 64);
	return 0;
}
