#include "body.h"

#include <string.h>

void body_start(struct body *body)
{
	body->state = BODY_LINE_START;
	body->blanks_held = 0;
}

static void emit(const struct body_sink *sink, struct str input, size_t from, size_t to)
{
	if (to > from)
		sink->write(sink->context, str_range(input, from, to));
}

/* Skips to behind the next LF, or to the end. The byte before `at` is no CR. */
static size_t skip_line(struct body *body, struct str input, size_t at)
{
	const char *lf = memchr(input.p + at, '\n', input.n - at);

	if (!lf) {
		body->state = input.p[input.n - 1] == '\r' ? BODY_CR : BODY_IN_LINE;
		return input.n;
	}
	size_t end = (size_t)(lf - input.p);
	bool is_crlf = end > at && input.p[end - 1] == '\r';
	body->state = is_crlf ? BODY_LINE_START : BODY_IN_LINE;
	return end + 1;
}

size_t body_decode(struct body *body, struct str input, const struct body_sink *sink, bool *is_done)
{
	size_t at = 0, from = 0; /* input[from, at) is decoded and not yet written */

	*is_done = false;
	while (at < input.n) {
		char c = input.p[at];
		switch (body->state) {
		case BODY_IN_LINE:
			at = skip_line(body, input, at);
			break;
		case BODY_CR:
			body->state = c == '\n' ? BODY_LINE_START : BODY_IN_LINE;
			at += c == '\n';
			break;
		case BODY_LINE_START:
			body->state = BODY_IN_LINE;
			if (c != '.')
				break;
			emit(sink, input, from, at);
			from = ++at;
			body->state = BODY_DOT;
			break;
		case BODY_DOT:
			body->state = c == '\r' ? BODY_DOT_CR : BODY_IN_LINE;
			from = at += c == '\r';
			break;
		case BODY_DOT_CR:
			if (c == '\n') {
				*is_done = true;
				return at + 1;
			}
			/* ".\rx": the dot was a doubled one, the CR is content. */
			sink->write(sink->context, STR("\r"));
			body->state = c == '\r' ? BODY_CR : BODY_IN_LINE;
			at += c == '\r';
			break;
		}
	}
	emit(sink, input, from, at);
	return at;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\v' || c == '\f' || c == '\0';
}

/* Behind a dot at the start of a line. True at the end of data. */
static bool after_dot(struct body *body, char c, const struct body_sink *sink)
{
	if (c == '\r' || c == '\n')
		return true;
	if (is_blank(c) && body->blanks_held < BODY_BLANKS_MAX) {
		body->blanks[body->blanks_held++] = c;
		return false;
	}
	sink->write(sink->context, str_make(body->blanks, body->blanks_held));
	sink->write(sink->context, str_make(&c, 1));
	body->blanks_held = 0;
	body->state = BODY_IN_LINE;
	return false;
}

/* A NUL at the start of a line does not count: C strings would not show it either. */
static enum body_state next_state(const struct body *body, char c)
{
	if (c == '\r' || c == '\n')
		return BODY_LINE_START;
	return c == '\0' ? body->state : BODY_IN_LINE;
}

size_t body_decode_lenient(
	struct body *body, struct str input, const struct body_sink *sink, bool *is_done)
{
	for (size_t at = 0; at < input.n; at++) {
		char c = input.p[at];
		if (body->state == BODY_DOT) {
			*is_done = after_dot(body, c, sink);
			if (*is_done)
				return at + 1;
		} else if (body->state == BODY_LINE_START && c == '.') {
			body->state = BODY_DOT;
		} else {
			sink->write(sink->context, str_make(&c, 1));
			body->state = next_state(body, c);
		}
	}
	*is_done = false;
	return input.n;
}
