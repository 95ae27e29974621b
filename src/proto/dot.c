#include "proto/dot.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/assert.h"

/*
 * RFC 5321 section 4.1.1.4: the end of data is CRLF "." CRLF, and the CRLF that ended the DATA
 * command counts as the first. Section 4.5.2: a leading dot is deleted when other characters
 * stand behind it on the line.
 *
 * There are two ways through the input. run() passes over what is canonical already, lines at a
 * time, and knows nothing of held bytes; step() takes any byte in any state. They share the
 * accounting, and run() gives up wherever a byte would have to be changed, held back or judged.
 */
enum state {
	LINE_START,  /* behind CR LF, or nothing came yet: a dot here is transparency or the end */
	LOOSE_START, /* nothing of the line came yet, but a dot here is content: normalising made the
	              * line end in front of it, or took away a NUL */
	IN_TEXT,
	AFTER_CR,     /* CR held back, inside a line or as its first byte */
	AFTER_DOT,    /* dot held back at LINE_START */
	AFTER_DOT_CR, /* dot and CR held back */
	AT_END,
};

/* As far as run() looks ahead at once, so that many pieces from one long line cost no more. */
#define WINDOW 1024

#define NO_MATCH UINT8_MAX
#define RECEIVED STR("received:")

void dot_init(struct dot *dot, const struct dot_limits *limits)
{
	*dot = (struct dot){ .limits = *limits, .state = LINE_START, .in_header = true };
}

/* ---- Accounting: what the decoded message is like --------------------------------------- */

static void match_received(struct dot *dot, struct str text)
{
	for (size_t i = 0; i < text.n && dot->name_length < RECEIVED.n; i++) {
		if (ascii_lower(text.p[i]) != RECEIVED.p[dot->name_length])
			dot->name_length = NO_MATCH;
		else if (++dot->name_length == RECEIVED.n)
			dot->received_count++;
	}
}

static void count_bytes(struct dot *dot, size_t n)
{
	dot->bytes += n;
	if (dot->in_header && dot->limits.header > 0 && dot->bytes > dot->limits.header)
		dot->violations |= DOT_HEADER_TOO_LONG;
}

/* Decoded text of the current line, without any part of its end. */
static void count_text(struct dot *dot, struct str text)
{
	if (text.n == 0)
		return;
	if (dot->bytes == 0 && (text.p[0] == ' ' || text.p[0] == '\t'))
		dot->violations |= DOT_FIRST_LINE_FOLDED;
	if (dot->in_header)
		match_received(dot, text);
	dot->line_length += text.n;
	if (dot->limits.line > 0 && dot->line_length > dot->limits.line)
		dot->violations |= DOT_LINE_TOO_LONG;
	count_bytes(dot, text.n);
}

static void count_line_end(struct dot *dot)
{
	if (dot->line_length == 0)
		dot->in_header = false;
	count_bytes(dot, 2);
	dot->lines++;
	dot->line_length = 0;
	dot->name_length = 0;
}

/* ---- One byte, in any state ------------------------------------------------------------- */

static void put(struct dot *dot, struct str bytes)
{
	ASSERT(dot->out_length + bytes.n <= sizeof(dot->out));
	memcpy(dot->out + dot->out_length, bytes.p, bytes.n);
	dot->out_length = (uint8_t)(dot->out_length + bytes.n);
}

static void put_text(struct dot *dot, char c)
{
	put(dot, str_make(&c, 1));
	count_text(dot, str_make(&c, 1));
	dot->state = IN_TEXT;
}

/* A dot of the message at the front of a line: it gets its transparency dot. */
static void put_stuffed_dot(struct dot *dot)
{
	put(dot, STR("."));
	put_text(dot, '.');
}

static void put_line_end(struct dot *dot, enum state next)
{
	put(dot, STR("\r\n"));
	count_line_end(dot);
	dot->state = (uint8_t)next;
}

/* A CR or an LF that is not half of a CR LF. */
static void bare(struct dot *dot, enum dot_violation which)
{
	if (dot->limits.normalise) {
		put_line_end(dot, LOOSE_START);
		return;
	}
	dot->violations |= which;
	dot->state = IN_TEXT;
}

/* Taken away, it still stood there: a dot behind it was not the first byte of its line. */
static void nul(struct dot *dot)
{
	if (!dot->limits.normalise)
		dot->violations |= DOT_NUL;
	if (dot->state != IN_TEXT)
		dot->state = LOOSE_START;
}

static void step_text(struct dot *dot, char c)
{
	switch (c) {
	case '\r':
		dot->state = AFTER_CR;
		break;
	case '\n':
		bare(dot, DOT_BARE_LF);
		break;
	case '\0':
		nul(dot);
		break;
	default:
		put_text(dot, c);
	}
}

/* Behind a line end, or inside a line: the states that hold nothing back. */
static void step_fresh(struct dot *dot, char c)
{
	if (c == '.' && dot->state == LINE_START)
		dot->state = AFTER_DOT;
	else if (c == '.' && dot->state == LOOSE_START)
		put_stuffed_dot(dot);
	else
		step_text(dot, c);
}

static void step_after_dot(struct dot *dot, char c)
{
	switch (c) {
	case '.':
		put_stuffed_dot(dot);
		break;
	case '\r':
		dot->state = AFTER_DOT_CR;
		break;
	case '\n': /* nothing stands behind the dot, so it is content, but not the end */
		put_stuffed_dot(dot);
		bare(dot, DOT_BARE_LF);
		break;
	default: /* the dot was for transparency only */
		step_text(dot, c);
	}
}

static void step(struct dot *dot, char c)
{
	switch ((enum state)dot->state) {
	case AFTER_DOT:
		step_after_dot(dot, c);
		return;
	case AFTER_DOT_CR:
		if (c == '\n') {
			dot->state = AT_END;
			return;
		}
		put_stuffed_dot(dot);
		bare(dot, DOT_BARE_CR);
		break;
	case AFTER_CR:
		if (c == '\n') {
			put_line_end(dot, LINE_START);
			return;
		}
		bare(dot, DOT_BARE_CR);
		break;
	case LINE_START:
	case LOOSE_START:
	case IN_TEXT:
	case AT_END:
		break;
	}
	step_fresh(dot, c);
}

/* ---- Canonical input, a line at a time -------------------------------------------------- */

/*
 * How many bytes at the front of `text` are neither CR, LF nor NUL. *has_end: CR LF follows them.
 * Three searches over the same bytes are faster than one loop that looks at each.
 */
static size_t plain_length(struct str text, bool *has_end)
{
	struct str window = str_range(text, 0, WINDOW);
	size_t lf = str_find(window, '\n');
	size_t cr = str_find(str_range(window, 0, lf), '\r');
	size_t nul = str_find(str_range(window, 0, cr), '\0');

	*has_end = lf < window.n && cr + 1 == lf && nul == cr;
	return nul;
}

/* Accounts for the canonical bytes up to the end of the line, and returns how many they are. */
static size_t run_line(struct dot *dot, struct str input)
{
	size_t stuffing = 0;
	bool has_end;

	if (input.n > 0 && input.p[0] == '.' && dot->state != IN_TEXT) {
		if (dot->state == LOOSE_START || input.n < 2 || input.p[1] != '.')
			return 0;
		stuffing = 1;
	}
	struct str text = str_from_pos(input, stuffing);
	size_t n = plain_length(text, &has_end);
	count_text(dot, str_range(text, 0, n));
	if (has_end) {
		count_line_end(dot);
		dot->state = LINE_START;
		return stuffing + n + 2;
	}
	if (n > 0)
		dot->state = IN_TEXT;
	return stuffing + n;
}

/* ---- Canonical lines of the body, a block at a time ------------------------------------- */

#define BLOCK 64

/* Bit i: byte i of the block is `c`. */
#ifdef __SSE2__
static inline __m128i load_16(const char *part)
{
	return _mm_loadu_si128((const __m128i *)(const void *)part);
}

static inline uint64_t places_16(const char *part, char c)
{
	return (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(load_16(part), _mm_set1_epi8(c)));
}

static inline uint64_t places(const char *block, char c)
{
	return places_16(block, c) | places_16(block + 16, c) << 16 |
	       places_16(block + 32, c) << 32 | places_16(block + 48, c) << 48;
}

/* The least of the bytes that share a place tells. */
static inline bool has_nul(const char *block)
{
	__m128i least = _mm_min_epu8(_mm_min_epu8(load_16(block), load_16(block + 16)),
		_mm_min_epu8(load_16(block + 32), load_16(block + 48)));

	return _mm_movemask_epi8(_mm_cmpeq_epi8(least, _mm_setzero_si128())) != 0;
}
#else
static inline uint64_t places(const char *block, char c)
{
	uint64_t found = 0;

	for (unsigned i = 0; i < BLOCK; i++)
		found |= (uint64_t)(block[i] == c) << i;
	return found;
}

static inline bool has_nul(const char *block)
{
	return places(block, '\0') != 0;
}
#endif

/* The line ends of a block, up to what is not canonical: that is a NUL, or a CR or an LF without
 * the other one. *had_cr: the block in front ended, and then this one ends with CR. */
static uint64_t line_ends(const char *block, bool *had_cr, bool *is_canonical)
{
	uint64_t lf = places(block, '\n');
	uint64_t cr = places(block, '\r');
	uint64_t wrong = lf ^ (cr << 1 | (uint64_t)*had_cr);

	if (has_nul(block))
		wrong |= places(block, '\0');

	*had_cr = cr >> (BLOCK - 1);
	*is_canonical = wrong == 0;
	return wrong == 0 ? lf : lf & ((wrong & (0 - wrong)) - 1);
}

static void count_line(struct dot *dot, size_t length)
{
	dot->line_length += length;
	if (dot->limits.line > 0 && dot->line_length > dot->limits.line)
		dot->violations |= DOT_LINE_TOO_LONG;
	dot->lines++;
	dot->line_length = 0;
}

/* Accounts for the lines that end in the block at `at`, the first of which begins at *done. False: the
 * next one begins with a dot. */
static bool count_lines(struct dot *dot, struct str input, size_t at, uint64_t ends, size_t *done)
{
	for (; ends != 0; ends &= ends - 1) {
		size_t lf = at + (size_t)__builtin_ctzll(ends);
		count_line(dot, lf - 1 - *done);
		*done = lf + 1;
		if (*done < input.n && input.p[*done] == '.')
			return false;
	}
	return true;
}

/*
 * Accounts for whole lines, and returns how many bytes they are. Ends in front of a line that
 * begins with a dot, and of one whose end is not in sight.
 */
static size_t run_body(struct dot *dot, struct str input)
{
	bool had_cr = false, goes_on = true;
	size_t done = 0;

	if (dot->in_header || dot->state == LOOSE_START ||
		(dot->state == LINE_START && input.n > 0 && input.p[0] == '.'))
		return 0;
	for (size_t at = 0; goes_on && at + BLOCK <= input.n && at - done < WINDOW; at += BLOCK) {
		uint64_t ends = line_ends(input.p + at, &had_cr, &goes_on);
		goes_on &= count_lines(dot, input, at, ends, &done);
	}
	if (done > 0)
		dot->state = LINE_START;
	dot->bytes += done;
	return done;
}

static size_t run(struct dot *dot, struct str input)
{
	size_t done = 0;

	if (dot->state > IN_TEXT)
		return 0;
	for (;;) {
		done += run_body(dot, str_from_pos(input, done));
		size_t n = run_line(dot, str_from_pos(input, done));
		if (n == 0)
			return done;
		done += n;
	}
}

int dot_next(struct dot *dot, struct str input, size_t *taken, struct str *piece)
{
	ASSERT(dot->state != AT_END);
	*taken = run(dot, input);
	*piece = str_range(input, 0, *taken);
	if (*taken == 0 && input.n > 0) {
		dot->out_length = 0;
		step(dot, input.p[0]);
		*taken = 1;
		*piece = str_make(dot->out, dot->out_length);
	}
	if (dot->violations != 0)
		piece->n = 0;
	return dot->state == AT_END;
}

/* ---- Without transparency ----------------------------------------------------------------------- */

void dot_strip(bool *is_line_start, struct str canonical, struct buf *out)
{
	const char *end = canonical.p + canonical.n;
	const char *from = canonical.p; /* what was not written yet */
	const char *dot = from;

	if (canonical.n == 0)
		return;
	/* Dots are rarer than lines. */
	while ((dot = memchr(dot, '.', (size_t)(end - dot))) != NULL) {
		bool is_first = dot == canonical.p ? *is_line_start : dot[-1] == '\n';
		if (is_first) {
			buf_write(out, str_make(from, (size_t)(dot - from)));
			from = dot + 1;
		}
		dot++;
	}
	buf_write(out, str_make(from, (size_t)(end - from)));
	*is_line_start = end[-1] == '\n';
}
