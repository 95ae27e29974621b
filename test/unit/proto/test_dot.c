#include "proto/dot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "support/guard.h"
#include "support/smtp_vectors.h"

#define BIG (4 * 1024 * 1024)

static struct guard guard;

/* What came out of one message, however its bytes were cut. */
struct outcome {
	struct dot dot;
	struct buf out;
	bool ended;
	size_t taken;  /* input bytes up to the end of data */
	size_t pieces; /* that were not empty */
};

static const struct dot_limits strict;
static const struct dot_limits normalising = { .normalise = true };

static void outcome_init(struct outcome *outcome, const struct dot_limits *limits)
{
	*outcome = (struct outcome){ .ended = false };
	dot_init(&outcome->dot, limits);
	buf_init(&outcome->out, 2 * BIG);
}

/* Gives one piece of input, placed in front of the guard page. */
static void feed(struct outcome *outcome, struct str bytes)
{
	struct str input = guard_put(&guard, bytes);

	while (input.n > 0 && !outcome->ended) {
		size_t taken;
		struct str piece;
		int rc = dot_next(&outcome->dot, input, &taken, &piece);
		assert_in_range(taken, 1, input.n);
		assert_true(rc == 0 || rc == 1);
		assert_true(buf_write(&outcome->out, piece));
		outcome->pieces += piece.n > 0;
		outcome->taken += taken;
		outcome->ended = rc == 1;
		input = str_from_pos(input, taken);
	}
}

static void feed_in_steps(struct outcome *outcome, struct str bytes, size_t step)
{
	for (size_t at = 0; at < bytes.n && !outcome->ended; at += step)
		feed(outcome, str_range(bytes, at, at + step));
}

static void assert_str(struct str got, struct str want)
{
	if (!str_eq(got, want)) {
		fprintf(stderr, "got  \"%.*s\"\nwant \"%.*s\"\n", STR_ARG(got), STR_ARG(want));
		assert_int_equal(got.n, want.n);
		assert_memory_equal(got.p, want.p, want.n);
	}
}

/* Nothing but whole CR LF and no NUL, each leading dot doubled, so no end of data inside. */
static void assert_canonical(struct str out)
{
	for (size_t i = 0; i < out.n; i++) {
		bool at_start = i == 0 || out.p[i - 1] == '\n';
		assert_int_not_equal(out.p[i], '\0');
		if (out.p[i] == '\n')
			assert_true(i > 0 && out.p[i - 1] == '\r');
		if (out.p[i] == '\r' && i + 1 < out.n)
			assert_int_equal(out.p[i + 1], '\n');
		if (out.p[i] == '.' && at_start && i + 1 < out.n)
			assert_true(out.p[i + 1] == '.' || out.p[i + 1] != '\r');
	}
}

/* ---- Table ---- */

struct vector {
	const char *name;
	struct str input;
	struct str strict;   /* canonical form; unused with violations */
	unsigned violations; /* of the strict reading */
	struct str normalised;
	bool is_incomplete;
};

static const struct vector vectors[] = {
	{ "empty message", STR_INIT(".\r\n"), STR_INIT(""), 0, STR_INIT("") },
	{ "one line", STR_INIT("a\r\n.\r\n"), STR_INIT("a\r\n"), 0, STR_INIT("a\r\n") },
	{ "empty line", STR_INIT("\r\n.\r\n"), STR_INIT("\r\n"), 0, STR_INIT("\r\n") },
	{ "stuffed dot", STR_INIT("..\r\n.\r\n"), STR_INIT("..\r\n"), 0, STR_INIT("..\r\n") },
	{ "stuffed word", STR_INIT("a\r\n..b\r\n.\r\n"), STR_INIT("a\r\n..b\r\n"), 0,
		STR_INIT("a\r\n..b\r\n") },
	{ "superfluous dot", STR_INIT("a\r\n.b\r\n.\r\n"), STR_INIT("a\r\nb\r\n"), 0,
		STR_INIT("a\r\nb\r\n") },
	{ "dot and space", STR_INIT(". \r\n.\r\n"), STR_INIT(" \r\n"), DOT_FIRST_LINE_FOLDED,
		STR_INIT("") },
	{ "three dots", STR_INIT("...\r\n.\r\n"), STR_INIT("...\r\n"), 0, STR_INIT("...\r\n") },
	{ "dot inside", STR_INIT("a.\r\nb.c\r\n.\r\n"), STR_INIT("a.\r\nb.c\r\n"), 0,
		STR_INIT("a.\r\nb.c\r\n") },
	{ "no end", STR_INIT("a\r\n"), STR_INIT("a\r\n"), 0, STR_INIT("a\r\n"), true },
	{ "CR held", STR_INIT("a\r"), STR_INIT("a"), 0, STR_INIT("a"), true },
	{ "dot held", STR_INIT("a\r\n."), STR_INIT("a\r\n"), 0, STR_INIT("a\r\n"), true },
	{ "dot and CR held", STR_INIT("a\r\n.\r"), STR_INIT("a\r\n"), 0, STR_INIT("a\r\n"), true },
	{ "LF dot LF", STR_INIT("a\n.\nb\r\n.\r\n"), STR_INIT(""), DOT_BARE_LF,
		STR_INIT("a\r\n..\r\nb\r\n") },
	{ "LF dot CRLF", STR_INIT("a\n.\r\nb\r\n.\r\n"), STR_INIT(""), DOT_BARE_LF,
		STR_INIT("a\r\n..\r\nb\r\n") },
	{ "CRLF dot LF", STR_INIT("a\r\n.\nb\r\n.\r\n"), STR_INIT(""), DOT_BARE_LF,
		STR_INIT("a\r\n..\r\nb\r\n") },
	{ "CRLF dot CR", STR_INIT("a\r\n.\rb\r\n.\r\n"), STR_INIT(""), DOT_BARE_CR,
		STR_INIT("a\r\n..\r\nb\r\n") },
	{ "CRLF dot CR dot", STR_INIT("a\r\n.\r.\r\n.\r\n"), STR_INIT(""), DOT_BARE_CR,
		STR_INIT("a\r\n..\r\n..\r\n") },
	{ "CR dot CR", STR_INIT("a\r.\rb\r\n.\r\n"), STR_INIT(""), DOT_BARE_CR,
		STR_INIT("a\r\n..\r\nb\r\n") },
	{ "CR dot CRLF", STR_INIT("a\r.\r\nb\r\n.\r\n"), STR_INIT(""), DOT_BARE_CR,
		STR_INIT("a\r\n..\r\nb\r\n") },
	{ "CR CRLF is bare CR and a true end", STR_INIT("a\r\r\n.\r\n"), STR_INIT(""), DOT_BARE_CR,
		STR_INIT("a\r\n\r\n") },
	{ "CRLF dot CR CRLF", STR_INIT("a\r\n.\r\r\n.\r\n"), STR_INIT(""), DOT_BARE_CR,
		STR_INIT("a\r\n..\r\n\r\n") },
	{ "LF CR", STR_INIT("a\n\rb\r\n.\r\n"), STR_INIT(""), DOT_BARE_LF | DOT_BARE_CR,
		STR_INIT("a\r\n\r\nb\r\n") },
	{ "LF first", STR_INIT("\n.\r\n.\r\n"), STR_INIT(""), DOT_BARE_LF, STR_INIT("\r\n..\r\n") },
	{ "LF dot word", STR_INIT("a\n.b\r\n.\r\n"), STR_INIT(""), DOT_BARE_LF,
		STR_INIT("a\r\n..b\r\n") },
	{ "LF dot dot", STR_INIT("a\n..\r\n.\r\n"), STR_INIT(""), DOT_BARE_LF,
		STR_INIT("a\r\n...\r\n") },
	{ "bare LF before the end", STR_INIT("a\n\r\n.\r\n"), STR_INIT(""), DOT_BARE_LF,
		STR_INIT("a\r\n\r\n") },
	{ "NUL", STR_INIT("a\0b\r\n.\r\n"), STR_INIT(""), DOT_NUL, STR_INIT("ab\r\n") },
	{ "NUL dot", STR_INIT("\0.\r\n.\r\n"), STR_INIT(""), DOT_NUL, STR_INIT("..\r\n") },
	{ "dot NUL", STR_INIT(".\0\r\n.\r\n"), STR_INIT(""), DOT_NUL, STR_INIT("\r\n") },
	{ "dot NUL dot", STR_INIT(".\0.\r\n.\r\n"), STR_INIT(""), DOT_NUL, STR_INIT("..\r\n") },
	{ "NUL between CR and LF", STR_INIT("a\r\0\n.\r\n.\r\n"), STR_INIT(""),
		DOT_NUL | DOT_BARE_CR | DOT_BARE_LF, STR_INIT("a\r\n\r\n..\r\n") },
	{ "NUL CRLF dot NUL LF", STR_INIT("a\n\0.\0\nb\r\n.\r\n"), STR_INIT(""),
		DOT_NUL | DOT_BARE_LF, STR_INIT("a\r\n..\r\nb\r\n") },
	{ "other separators", STR_INIT("a\x0b.\x0c\xc2\x85.\r\n.\r\n"),
		STR_INIT("a\x0b.\x0c\xc2\x85.\r\n"), 0, STR_INIT("a\x0b.\x0c\xc2\x85.\r\n") },
};

static void check(const struct vector *vector, const struct outcome *outcome, bool normalise)
{
	unsigned not_mended = DOT_FIRST_LINE_FOLDED;
	unsigned violations = normalise ? vector->violations & not_mended : vector->violations;
	struct str want = normalise ? vector->normalised : vector->strict;

	assert_int_equal(outcome->ended, !vector->is_incomplete);
	assert_int_equal(outcome->taken, vector->input.n);
	assert_int_equal(outcome->dot.violations, violations);
	if (violations == 0)
		assert_str(buf_view(&outcome->out), want);
	assert_canonical(buf_view(&outcome->out));
}

/* cut = 0: whole. cut = n, step = 0: two pieces. Else pieces of `step` bytes. */
static void run_vector(const struct vector *vector, bool normalise, size_t cut, size_t step)
{
	struct outcome outcome;

	outcome_init(&outcome, normalise ? &normalising : &strict);
	if (step > 0) {
		feed_in_steps(&outcome, vector->input, step);
	} else {
		feed(&outcome, str_range(vector->input, 0, cut));
		feed(&outcome, str_from_pos(vector->input, cut));
	}
	check(vector, &outcome, normalise);
	buf_free(&outcome.out);
}

static void test_vectors(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		for (size_t cut = 0; cut < vectors[i].input.n; cut++) {
			run_vector(&vectors[i], false, cut, 0);
			run_vector(&vectors[i], true, cut, 0);
		}
		for (size_t step = 1; step <= 3; step++) {
			run_vector(&vectors[i], false, 0, step);
			run_vector(&vectors[i], true, 0, step);
		}
	}
}

static void test_takes_nothing_behind_the_end(void **state)
{
	struct outcome outcome;

	(void)state;
	outcome_init(&outcome, &strict);
	feed(&outcome, STR("a\r\n.\r\nMAIL FROM:<>\r\n"));
	assert_true(outcome.ended);
	assert_int_equal(outcome.taken, 6);
	assert_int_equal(outcome.dot.bytes, 3);
	assert_int_equal(outcome.dot.lines, 1);
	buf_free(&outcome.out);
}

/* ---- Counting ---- */

struct count_vector {
	const char *name;
	struct str input;
	struct dot_limits limits;
	uint64_t bytes, lines;
	unsigned received;
	unsigned violations;
};

static const struct count_vector count_vectors[] = {
	{ "dots do not count", STR_INIT("..a\r\n.b\r\n.\r\n"), { 0 }, 7, 2, 0, 0 },
	{ "received",
		STR_INIT("Received: a\r\n\tb\r\nrEcEiVeD:\r\nX: y\r\n\r\nReceived: c\r\n.\r\n"),
		{ 0 }, 49, 6, 2, 0 },
	{ "no received", STR_INIT("Received : a\r\nXReceived: b\r\nReceivedx\r\n.\r\n"), { 0 }, 39,
		3, 0, 0 },
	{ "received behind a superfluous dot", STR_INIT(".Received: a\r\n.\r\n"), { 0 }, 13, 1, 1,
		0 },
	{ "body at once", STR_INIT("\r\nReceived: a\r\n.\r\n"), { 0 }, 15, 2, 0, 0 },
	{ "folded", STR_INIT(" x\r\n.\r\n"), { 0 }, 4, 1, 0, DOT_FIRST_LINE_FOLDED },
	{ "folded by tab", STR_INIT("\tx\r\n.\r\n"), { 0 }, 4, 1, 0, DOT_FIRST_LINE_FOLDED },
	{ "folded behind a dot", STR_INIT(".\tx\r\n.\r\n"), { 0 }, 4, 1, 0, DOT_FIRST_LINE_FOLDED },
	{ "folded behind a NUL", STR_INIT("\0\tx\r\n.\r\n"), { .normalise = true }, 4, 1, 0,
		DOT_FIRST_LINE_FOLDED },
	{ "second line folded", STR_INIT("a\r\n x\r\n.\r\n"), { 0 }, 7, 2, 0, 0 },
	{ "first line empty", STR_INIT("\r\n x\r\n.\r\n"), { 0 }, 6, 2, 0, 0 },
	{ "line at its limit", STR_INIT("abcd\r\n.\r\n"), { .line = 4 }, 6, 1, 0, 0 },
	{ "line over its limit", STR_INIT("abcde\r\n.\r\n"), { .line = 4 }, 7, 1, 0,
		DOT_LINE_TOO_LONG },
	{ "the dot is none of the line", STR_INIT("..bcd\r\n.\r\n"), { .line = 4 }, 6, 1, 0, 0 },
	{ "header at its limit", STR_INIT("ab\r\n\r\nx\r\n.\r\n"), { .header = 4 }, 9, 3, 0, 0 },
	{ "header over its limit", STR_INIT("abc\r\n\r\n.\r\n"), { .header = 4 }, 7, 2, 0,
		DOT_HEADER_TOO_LONG },
	{ "header without end", STR_INIT("ab\r\nx\r\n.\r\n"), { .header = 4 }, 7, 2, 0,
		DOT_HEADER_TOO_LONG },
	{ "normalised counts", STR_INIT("a\nb\r\n.\r\n"), { .normalise = true }, 6, 2, 0, 0 },
};

static void run_count(const struct count_vector *vector, size_t step)
{
	struct outcome outcome;

	outcome_init(&outcome, &vector->limits);
	feed_in_steps(&outcome, vector->input, step);
	assert_true(outcome.ended);
	if (outcome.dot.bytes != vector->bytes || outcome.dot.violations != vector->violations)
		fprintf(stderr, "%s\n", vector->name);
	assert_int_equal(outcome.dot.bytes, vector->bytes);
	assert_int_equal(outcome.dot.lines, vector->lines);
	assert_int_equal(outcome.dot.received_count, vector->received);
	assert_int_equal(outcome.dot.violations, vector->violations);
	buf_free(&outcome.out);
}

static void test_counts(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(count_vectors) / sizeof(count_vectors[0]); i++)
		for (size_t step = 1; step <= count_vectors[i].input.n; step++)
			run_count(&count_vectors[i], step);
}

/* ---- Pieces ---- */

static void test_canonical_input_is_one_piece(void **state)
{
	struct buf input;
	struct dot dot;
	size_t taken;
	struct str piece;

	(void)state;
	buf_init(&input, BIG);
	for (int i = 0; i < 5000; i++)
		buf_printf(&input, "%sline %d of the message\r\n", i % 7 ? "" : "..", i);
	size_t whole = buf_used(&input);
	buf_write(&input, STR(".\r\n"));
	dot_init(&dot, &strict);
	assert_int_equal(dot_next(&dot, buf_view(&input), &taken, &piece), 0);
	assert_ptr_equal(piece.p, buf_view(&input).p);
	assert_int_equal(piece.n, whole);
	assert_int_equal(taken, whole);
	buf_free(&input);
}

/* Nothing that came in behind a violation may go out. */
static void test_no_pieces_behind_a_violation(void **state)
{
	struct outcome outcome;

	(void)state;
	outcome_init(&outcome, &strict);
	feed(&outcome, STR("a\r\nb\nc\r\nd\r\n.\r\n"));
	assert_true(outcome.ended);
	assert_str(buf_view(&outcome.out), STR("a\r\nb"));
	buf_free(&outcome.out);
}

/* ---- The reference: slow and obvious, on the whole input at once ---- */

struct reference {
	size_t end; /* of the content; the input's length when there is no end of data */
	bool has_end;
	unsigned violations;
	struct buf out; /* canonical form, when nothing stands against it */
	uint64_t bytes, lines;
	unsigned received;
};

static bool has_at(struct str s, size_t at, struct str what)
{
	return str_eq(str_range(s, at, at + what.n), what);
}

static void find_end(struct str in, struct reference *ref)
{
	ref->end = in.n;
	for (size_t i = 0; i < in.n; i++) {
		bool at_start = i == 0 || (i >= 2 && has_at(in, i - 2, STR("\r\n")));
		if (at_start && has_at(in, i, STR(".\r\n"))) {
			ref->end = i;
			ref->has_end = true;
			return;
		}
	}
}

static void find_violations(struct str in, struct reference *ref)
{
	for (size_t i = 0; i < in.n; i++) {
		if (in.p[i] == '\r' && !has_at(in, i, STR("\r\n")))
			ref->violations |= DOT_BARE_CR;
		if (in.p[i] == '\n' && !(i > 0 && has_at(in, i - 1, STR("\r\n"))))
			ref->violations |= DOT_BARE_LF;
		if (in.p[i] == '\0')
			ref->violations |= DOT_NUL;
	}
}

/* One line of content as it was sent, without its end. */
static void reference_line(struct reference *ref, struct str line, bool true_start,
	const struct dot_limits *limits, bool *in_header)
{
	static char text[BIG];
	size_t n = 0;

	assert_true(line.n < sizeof(text));
	if (true_start && line.n > 1 && line.p[0] == '.')
		line = str_from_pos(line, 1);
	for (size_t i = 0; i < line.n; i++)
		if (line.p[i] != '\0')
			text[n++] = line.p[i];
	struct str decoded = str_make(text, n);
	if (ref->lines == 0 && n > 0 && (text[0] == ' ' || text[0] == '\t'))
		ref->violations |= DOT_FIRST_LINE_FOLDED;
	if (limits->line > 0 && n > limits->line)
		ref->violations |= DOT_LINE_TOO_LONG;
	if (n == 0)
		*in_header = false;
	ref->bytes += n + 2;
	ref->lines++;
	if (*in_header && str_starts_with_nocase(decoded, STR("Received:")))
		ref->received++;
	if (*in_header && limits->header > 0 && ref->bytes > limits->header)
		ref->violations |= DOT_HEADER_TOO_LONG;
	if (n > 0 && text[0] == '.')
		buf_write(&ref->out, STR("."));
	buf_write(&ref->out, decoded);
	buf_write(&ref->out, STR("\r\n"));
}

static void reference_lines(
	struct str content, struct reference *ref, const struct dot_limits *limits)
{
	bool true_start = true;
	bool in_header = true;

	while (content.n > 0) {
		size_t n = 0;
		while (n < content.n && content.p[n] != '\r' && content.p[n] != '\n')
			n++;
		bool true_end = has_at(content, n, STR("\r\n"));
		reference_line(ref, str_range(content, 0, n), true_start, limits, &in_header);
		content = str_from_pos(content, n + (true_end ? 2 : 1));
		true_start = true_end;
	}
}

static void reference_run(struct str in, const struct dot_limits *limits, struct reference *ref)
{
	*ref = (struct reference){ .has_end = false };
	buf_init(&ref->out, 2 * BIG);
	find_end(in, ref);
	in = str_range(in, 0, ref->end);
	if (!limits->normalise)
		find_violations(in, ref);
	reference_lines(in, ref, limits);
}

/* ---- Random inputs ---- */

static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(random_state >> 33) % n;
}

static const struct str tokens[] = {
	STR_INIT("\r"),
	STR_INIT("\n"),
	STR_INIT("\r\n"),
	STR_INIT("\r\n"),
	STR_INIT("."),
	STR_INIT("\0"),
	STR_INIT("x"),
	STR_INIT("Received:"),
	STR_INIT("rece"),
	STR_INIT("ived: y"),
	STR_INIT(" "),
	STR_INIT("\t"),
	STR_INIT("\r\n."),
	STR_INIT(".."),
	STR_INIT("\r\n..z"),
	STR_INIT("\r\n.w"),
	STR_INIT("text of a line\r\n"),
	STR_INIT("\r\n\r\n"),
	STR_INIT("\n.\n"),
};

static const struct str clean_tokens[] = {
	STR_INIT("\r\n"),
	STR_INIT("."),
	STR_INIT("x"),
	STR_INIT("Received: z"),
	STR_INIT("\r\n"),
	STR_INIT(" "),
	STR_INIT("\xff"),
	STR_INIT("\r\n.."),
	STR_INIT("\r\n.x"),
	STR_INIT("\r\nabc"),
};

/* Lines as messages have them, so that what is odd stands at any place of a block. */
static void random_lines(struct buf *input, bool clean)
{
	buf_write(input, STR("\r\n"));
	for (uint32_t lines = random_below(8); lines > 0; lines--) {
		for (uint32_t n = random_below(140); n > 0; n--)
			buf_write(input, STR("q"));
		if (random_below(12) == 0)
			buf_write(input, clean ? STR(".") : tokens[random_below(19)]);
		buf_write(input, STR("\r\n"));
	}
}

static void random_input(struct buf *input, bool clean)
{
	bool has_lines = random_below(3) == 0;
	uint32_t count = random_below(has_lines ? 4 : 24);

	if (has_lines)
		random_lines(input, clean);
	for (uint32_t i = 0; i < count; i++) {
		struct str token =
			clean ? clean_tokens[random_below(10)] : tokens[random_below(19)];
		buf_write(input, token);
		for (uint32_t n = random_below(40) == 0 ? random_below(2500) : 0; n > 0; n--)
			buf_write(input, STR("q"));
	}
	if (random_below(10) > 0)
		buf_write(input, STR("\r\n.\r\nRSET\r\n"));
}

static void feed_at_random(struct outcome *outcome, struct str bytes)
{
	uint32_t longest = random_below(2) ? 5 : 4000;

	while (bytes.n > 0 && !outcome->ended) {
		size_t n = 1 + random_below(longest);
		feed(outcome, str_range(bytes, 0, n));
		bytes = str_from_pos(bytes, n);
	}
}

static void compare(const struct outcome *outcome, const struct reference *ref)
{
	assert_int_equal(outcome->ended, ref->has_end);
	assert_canonical(buf_view(&outcome->out));
	if (!ref->has_end)
		return;
	assert_int_equal(outcome->taken, ref->end + 3);
	/* Line and header are judged along with what the violation made of them. */
	unsigned first = DOT_BARE_CR | DOT_BARE_LF | DOT_NUL;
	assert_int_equal(outcome->dot.violations & first, ref->violations & first);
	if (ref->violations & first)
		return;
	assert_int_equal(outcome->dot.violations, ref->violations);
	assert_int_equal(outcome->dot.bytes, ref->bytes);
	assert_int_equal(outcome->dot.lines, ref->lines);
	assert_int_equal(outcome->dot.received_count, ref->received);
	if (ref->violations == 0)
		assert_str(buf_view(&outcome->out), buf_view(&ref->out));
}

static void compare_one(struct buf *input)
{
	struct dot_limits limits = { .normalise = random_below(2) };
	struct outcome outcome;
	struct reference ref;

	random_input(input, random_below(3) == 0);
	if (random_below(4) == 0)
		limits.line = random_below(20);
	if (random_below(4) == 0)
		limits.header = random_below(60);
	outcome_init(&outcome, &limits);
	feed_at_random(&outcome, buf_view(input));
	reference_run(buf_view(input), &limits, &ref);
	compare(&outcome, &ref);
	buf_free(&ref.out);
	buf_free(&outcome.out);
	buf_consume(input, buf_used(input));
}

static void test_equals_the_reference(void **state)
{
	const char *seed = getenv("TEST_SEED");
	struct buf input;

	(void)state;
	random_state = seed ? strtoull(seed, NULL, 10) : 20261122;
	printf("TEST_SEED=%llu\n", (unsigned long long)random_state);
	buf_init(&input, BIG);
	for (int i = 0; i < 40000; i++)
		compare_one(&input);
	buf_free(&input);
}

/* A message encoded, decoded and encoded anew by dot_next is the encoded message. */
static void test_decode_of_encode(void **state)
{
	struct buf encoded;
	struct outcome outcome;

	(void)state;
	random_state = 7;
	buf_init(&encoded, BIG);
	for (int i = 0; i < 5000; i++) {
		for (uint32_t lines = random_below(9); lines > 0; lines--) {
			static const char *const starts[] = { "", ".", "..", "x", "x.", "...y" };
			const char *text = starts[random_below(6)];
			buf_printf(&encoded, "%s%s\r\n", text[0] == '.' ? "." : "", text);
		}
		size_t n = buf_used(&encoded);
		buf_write(&encoded, DOT_END);
		outcome_init(&outcome, i % 2 ? &strict : &normalising);
		feed_at_random(&outcome, buf_view(&encoded));
		assert_true(outcome.ended);
		assert_int_equal(outcome.dot.violations, 0);
		assert_str(buf_view(&outcome.out), str_range(buf_view(&encoded), 0, n));
		buf_free(&outcome.out);
		buf_consume(&encoded, buf_used(&encoded));
	}
	buf_free(&encoded);
}

/* ---- The cases of smuggling-cases.jsonl that are sent as data ---- */

static struct str case_id;

/* Whether the message is handed over: the end of data came, and nothing stands against it. */
static bool is_handed_over(const struct outcome *outcome)
{
	return outcome->ended && outcome->dot.violations == 0;
}

static void check_counts(
	struct str object, const char *key, bool handed_over, struct str alternative)
{
	struct str expect = vectors_json_get(object, key);

	if (expect.n == 0)
		return;
	bool expected = vectors_json_number(expect, "messages") > 0;
	if (handed_over == expected || alternative.n > 0)
		return;
	fprintf(stderr, "%.*s\n", STR_ARG(case_id));
	assert_int_equal(handed_over, expected);
}

/* The forbidden sender stands in the content: the end of data is the last thing of the case. */
static void check_smuggling(
	struct str object, struct str bytes, const struct dot_limits *limits, size_t step)
{
	struct str alternative = vectors_json_get(object, "alt_messages");
	struct str forbidden = vectors_json_get(object, "forbid_sender");
	struct outcome outcome;
	struct reference ref;

	outcome_init(&outcome, limits);
	feed_in_steps(&outcome, bytes, step);
	reference_run(bytes, limits, &ref);
	compare(&outcome, &ref);
	check_counts(object, limits->normalise ? "expect_normalize" : "expect",
		is_handed_over(&outcome), alternative);
	if (forbidden.n > 0 && outcome.ended)
		assert_int_equal(outcome.taken, bytes.n);
	buf_free(&ref.out);
	buf_free(&outcome.out);
}

static void check_body(struct str object, struct str bytes)
{
	struct buf body, stuffed;
	struct outcome outcome;

	buf_init(&body, BIG);
	buf_init(&stuffed, BIG);
	smtp_vectors_unescape(&body, vectors_json_get(object, "body"), false);
	outcome_init(&outcome, &strict);
	feed(&outcome, bytes);
	struct str rest = buf_view(&body);
	while (rest.n > 0) {
		struct str line = str_cut(&rest, '\n');
		buf_printf(&stuffed, "%s%.*s\n", line.p[0] == '.' ? "." : "", STR_ARG(line));
	}
	assert_true(str_ends_with_nocase(buf_view(&outcome.out), buf_view(&stuffed)));
	buf_free(&outcome.out);
	buf_free(&stuffed);
	buf_free(&body);
}

static void run_smuggling_case(struct str object)
{
	static const size_t steps[] = { BIG, 1, 7, 1024, 4096 };
	struct buf text, bytes;

	buf_init(&text, BIG);
	buf_init(&bytes, BIG);
	smtp_vectors_unescape(&text, vectors_json_get(object, "bytes"), false);
	smtp_vectors_expand(&bytes, buf_view(&text));
	for (size_t i = 0; i < 5; i++) {
		check_smuggling(object, buf_view(&bytes), &strict, steps[i]);
		check_smuggling(object, buf_view(&bytes), &normalising, steps[i]);
	}
	if (vectors_json_get(object, "body").p)
		check_body(object, buf_view(&bytes));
	buf_free(&bytes);
	buf_free(&text);
}

/* Other stages, size limits and faults of a backend are matters of the dialogue. */
static bool is_for_dot(struct str object)
{
	return str_eq(vectors_json_get(object, "stage"), STR("data")) &&
	       vectors_json_get(object, "limit").n == 0 && vectors_json_get(object, "fault").n == 0;
}

static void test_smuggling_cases(void **state)
{
	struct str file = vectors_read(TEST_SOURCE_DIR "/vectors/smuggling-cases.jsonl");
	struct str rest = file;
	size_t count = 0;

	(void)state;
	while (rest.n > 0) {
		struct str object = str_cut(&rest, '\n');
		if (!is_for_dot(object))
			continue;
		case_id = vectors_json_get(object, "id");
		run_smuggling_case(object);
		count++;
	}
	assert_in_range(count, 50, 1000);
	free((void *)(uintptr_t)file.p);
}

/* ---- Without transparency ----------------------------------------------------------------- */

static void assert_stripped(struct str canonical, size_t piece, const char *wanted)
{
	struct buf out;
	bool is_line_start = true;

	buf_init(&out, 1000);
	for (struct str rest = canonical; rest.n > 0;) {
		size_t n = rest.n < piece ? rest.n : piece;
		dot_strip(&is_line_start, guard_put(&guard, str_range(rest, 0, n)), &out);
		rest = str_from_pos(rest, n);
	}
	if (!str_eq(buf_view(&out), str_from(wanted)))
		fail_msg("pieces of %zu: %.*s", piece, STR_ARG(canonical));
	buf_free(&out);
}

static void test_strip(void **state)
{
	static const struct {
		const char *canonical, *wanted;
	} rows[] = {
		{ "", "" },
		{ "text\r\n", "text\r\n" },
		{ "..\r\n", ".\r\n" },
		{ "...\r\n..\r\n..x\r\n", "..\r\n.\r\n.x\r\n" },
		{ "a.b\r\n..c\r\n\r\n..", "a.b\r\n.c\r\n\r\n." },
		{ "\r\n..\r\n", "\r\n.\r\n" },
		{ "x..\r\ny\r\n", "x..\r\ny\r\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (size_t piece = 1; piece < 24; piece++)
			assert_stripped(str_from(rows[i].canonical), piece, rows[i].wanted);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_takes_nothing_behind_the_end),
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_canonical_input_is_one_piece),
		cmocka_unit_test(test_no_pieces_behind_a_violation),
		cmocka_unit_test(test_equals_the_reference),
		cmocka_unit_test(test_decode_of_encode),
		cmocka_unit_test(test_smuggling_cases),
		cmocka_unit_test(test_strip),
	};

	guard = guard_make(BIG);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	guard_free(&guard);
	return failed;
}
