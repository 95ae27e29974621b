#include "proto/smtp_reply.h"

#include <string.h>

#include "base/assert.h"
#include "base/chars.h"
#include "proto/smtp_params.h"
#include "proto/xclient.h"

#define PRINTED_LINE_MAX 512 /* RFC 5321 section 4.5.3.1.5, CR LF included */

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* One line of a reply, taken apart. */
struct line {
	int code;
	bool is_last;
	struct str text; /* behind the code and its separator */
};

struct enhanced {
	bool present;
	uint16_t class, subject, detail;
};

const char *smtp_reply_fault_text(enum smtp_reply_fault fault)
{
	switch (fault) {
	case SMTP_REPLY_FINE:
		return "no fault";
	case SMTP_REPLY_BAD_LINE:
		return "a line is not a reply line";
	case SMTP_REPLY_MIXED:
		return "the lines of a reply have different codes";
	case SMTP_REPLY_TOO_LONG:
		return "a line or the reply is too long";
	case SMTP_REPLY_BARE_LF:
		return "bare CR, bare LF or NUL in a reply";
	}
	return "unknown fault";
}

/* ---- Reading ---------------------------------------------------------------------------- */

/*
 * Takes one line off the front of *rest; 1, 0 or -1 as smtp_reply_parse. Nothing is judged before
 * the line is complete, so the outcome does not depend on how the input was cut.
 */
static int take_line(struct str *rest, struct str *line, enum smtp_reply_fault *fault)
{
	struct str window = str_range(*rest, 0, SMTP_REPLY_LINE_MAX);
	size_t lf = str_find(window, '\n');

	if (lf == window.n) {
		*fault = SMTP_REPLY_TOO_LONG;
		return window.n == SMTP_REPLY_LINE_MAX ? -1 : 0;
	}
	*line = str_range(window, 0, lf > 0 ? lf - 1 : 0);
	if (str_find(window, '\r') + 1 != lf || str_find(*line, '\0') != line->n) {
		*fault = SMTP_REPLY_BARE_LF;
		return -1;
	}
	*rest = str_from_pos(*rest, lf + 1);
	return 1;
}

/* Reads up to three digits at the front of `text`; how many. */
static size_t read_digits(struct str text, unsigned *value)
{
	size_t n = 0;

	*value = 0;
	for (; n < text.n && n < 3 && ascii_is_digit(text.p[n]); n++)
		*value = *value * 10 + (unsigned)(text.p[n] - '0');
	return n;
}

static bool parse_line(struct str text, struct line *line)
{
	unsigned code;

	if (read_digits(text, &code) < 3 || code < 200 || code > 599)
		return false;
	line->code = (int)code;
	line->is_last = text.n == 3 || text.p[3] == ' ';
	line->text = str_from_pos(text, 4);
	return line->is_last || text.p[3] == '-';
}

/* 1*3DIGIT at the front of *rest; a zero in front of other digits is none of it. */
static bool take_number(struct str *rest, uint16_t *number)
{
	unsigned value;
	size_t n = read_digits(*rest, &value);

	if (n == 0 || (n > 1 && rest->p[0] == '0'))
		return false;
	*number = (uint16_t)value;
	*rest = str_from_pos(*rest, n);
	return true;
}

static bool take_dot(struct str *rest)
{
	if (rest->n == 0 || rest->p[0] != '.')
		return false;
	*rest = str_from_pos(*rest, 1);
	return true;
}

/*
 * RFC 3463 section 2: status-code = class "." subject "." detail; class is 2, 4 or 5. Takes it
 * and the spaces behind it off the front of *text when it is there and agrees with `code`.
 */
static struct enhanced take_enhanced(struct str *text, int code)
{
	struct enhanced found = { .present = false };
	struct str rest = *text;

	if (!take_number(&rest, &found.class) || !take_dot(&rest) ||
		!take_number(&rest, &found.subject) || !take_dot(&rest) ||
		!take_number(&rest, &found.detail))
		return found;
	if (rest.n > 0 && rest.p[0] != ' ')
		return found;
	if (found.class == 3 || found.class != code / 100)
		return found;
	found.present = true;
	*text = str_trim(rest);
	return found;
}

/* Copies, with "?" for what is not printable ASCII; behind the copy. */
static char *copy_clean(char *out, struct str text)
{
	if (text.n > 0)
		memcpy(out, text.p, text.n);
	if (!chars_are_printable(text))
		for (size_t i = 0; i < text.n; i++)
			if (!chars_has(CHARS_PRINTABLE, out[i]))
				out[i] = '?';
	return out + text.n;
}

static bool put_clean(struct buf *out, struct str text)
{
	if (text.n == 0)
		return true;
	char *room = buf_reserve(out, text.n);
	if (room == NULL)
		return false;
	copy_clean(room, text);
	buf_commit(out, text.n);
	return true;
}

/* Adds what fits of one line of text; false when something was cut. */
static bool keep_text(struct buf *buf, bool is_first, struct str text)
{
	size_t used = buf_used(buf);
	size_t room = used < SMTP_REPLY_TEXT_MAX ? SMTP_REPLY_TEXT_MAX - used : 0;
	size_t separator = is_first ? 0 : 1;

	if (room > buf_room(buf))
		room = buf_room(buf);
	if (room < separator)
		return false;
	struct str kept = str_range(text, 0, room - separator);
	bool done = buf_write(buf, str_make("\n", separator)) && put_clean(buf, kept);
	ASSERT(done);
	return kept.n == text.n;
}

static void add_line(struct smtp_reply *reply, struct line *line, struct buf *text)
{
	struct enhanced enhanced = take_enhanced(&line->text, line->code);

	reply->enhanced.present = enhanced.present;
	reply->enhanced.class = enhanced.present ? enhanced.class : 0;
	reply->enhanced.subject = enhanced.present ? enhanced.subject : 0;
	reply->enhanced.detail = enhanced.present ? enhanced.detail : 0;
	if (!reply->was_cut)
		reply->was_cut = !keep_text(text, reply->line_count == 0, line->text);
	reply->code = line->code;
	reply->line_count++;
}

static enum smtp_reply_fault judge_line(
	const struct smtp_reply *reply, struct str text, struct line *line)
{
	if (!parse_line(text, line))
		return SMTP_REPLY_BAD_LINE;
	if (reply->line_count > 0 && line->code != reply->code)
		return SMTP_REPLY_MIXED;
	if (reply->line_count == SMTP_REPLY_LINES_MAX)
		return SMTP_REPLY_TOO_LONG;
	return SMTP_REPLY_FINE;
}

int smtp_reply_parse(struct str input, struct buf *text, struct smtp_reply *reply, size_t *taken,
	enum smtp_reply_fault *fault)
{
	struct str rest = input;
	struct str bytes;
	struct line line = { .is_last = false };

	*reply = (struct smtp_reply){ .code = 0 };
	*taken = 0;
	buf_truncate(text, 0);
	while (!line.is_last) {
		int rc = take_line(&rest, &bytes, fault);
		if (rc <= 0)
			return rc;
		*fault = judge_line(reply, bytes, &line);
		if (*fault != SMTP_REPLY_FINE)
			return -1;
		add_line(reply, &line, text);
	}
	*taken = input.n - rest.n;
	reply->text = buf_view(text);
	return 1;
}

/* ---- EHLO ------------------------------------------------------------------------------- */

static const struct {
	struct str keyword;
	enum smtp_extension extension;
} extensions[] = {
	{ STR_INIT("PIPELINING"), SMTP_EXT_PIPELINING },
	{ STR_INIT("SIZE"), SMTP_EXT_SIZE },
	{ STR_INIT("8BITMIME"), SMTP_EXT_8BITMIME },
	{ STR_INIT("SMTPUTF8"), SMTP_EXT_SMTPUTF8 },
	{ STR_INIT("DSN"), SMTP_EXT_DSN },
	{ STR_INIT("ENHANCEDSTATUSCODES"), SMTP_EXT_ENHANCEDSTATUSCODES },
	{ STR_INIT("CHUNKING"), SMTP_EXT_CHUNKING },
	{ STR_INIT("STARTTLS"), SMTP_EXT_STARTTLS },
	{ STR_INIT("AUTH"), SMTP_EXT_AUTH },
	{ STR_INIT("LIMITS"), SMTP_EXT_LIMITS },
	{ STR_INIT("XCLIENT"), SMTP_EXT_XCLIENT },
	{ STR_INIT("XFORWARD"), SMTP_EXT_XFORWARD },
};

static const struct {
	struct str name;
	enum smtp_auth_mechanism mechanism;
} mechanisms[] = {
	{ STR_INIT("PLAIN"), SMTP_AUTH_PLAIN },
	{ STR_INIT("LOGIN"), SMTP_AUTH_LOGIN },
	{ STR_INIT("SCRAM-SHA-256"), SMTP_AUTH_SCRAM_SHA_256 },
	{ STR_INIT("SCRAM-SHA-256-PLUS"), SMTP_AUTH_SCRAM_SHA_256_PLUS },
	{ STR_INIT("OAUTHBEARER"), SMTP_AUTH_OAUTHBEARER },
	{ STR_INIT("XOAUTH2"), SMTP_AUTH_XOAUTH2 },
};

static void add_size(struct smtp_capabilities *capabilities, struct str params)
{
	if (!str_to_u64(str_trim(params), UINT64_MAX, &capabilities->size))
		capabilities->size = 0;
}

/* Servers that say both forms say the same in them. */
static void add_auth(struct smtp_capabilities *capabilities, struct str params)
{
	while (params.n > 0) {
		struct str name = str_cut(&params, ' ');
		for (size_t i = 0; i < COUNT(mechanisms); i++)
			if (str_eq_nocase(name, mechanisms[i].name))
				capabilities->auth |= mechanisms[i].mechanism;
	}
}

static void add_xclient(struct smtp_capabilities *capabilities, struct str params)
{
	capabilities->xclient |= xclient_attributes_parse(params);
	if (capabilities->xclient == 0)
		capabilities->extensions &= ~(unsigned)SMTP_EXT_XCLIENT;
}

static void add_xforward(struct smtp_capabilities *capabilities, struct str params)
{
	capabilities->xforward |= xforward_attributes_parse(params);
	if (capabilities->xforward == 0)
		capabilities->extensions &= ~(unsigned)SMTP_EXT_XFORWARD;
}

/* Extensions whose parameters mean something to us. */
static const struct {
	enum smtp_extension extension;
	void (*add)(struct smtp_capabilities *capabilities, struct str params);
} with_params[] = {
	{ SMTP_EXT_SIZE, add_size },
	{ SMTP_EXT_AUTH, add_auth },
	{ SMTP_EXT_XCLIENT, add_xclient },
	{ SMTP_EXT_XFORWARD, add_xforward },
};

/* 0: one that we do not know. */
static unsigned extension_of(struct str keyword)
{
	for (size_t i = 0; i < COUNT(extensions); i++)
		if (str_eq_nocase(keyword, extensions[i].keyword))
			return extensions[i].extension;
	return 0;
}

/* Takes the keyword off the front of *line. Servers older than RFC 2554 say "AUTH=" for "AUTH ". */
static struct str take_keyword(struct str *line)
{
	if (!str_starts_with_nocase(*line, STR("AUTH=")))
		return str_cut(line, ' ');
	return str_cut(line, '=');
}

/* RFC 5321 section 4.1.1.1: ehlo-line = ehlo-keyword *( SP ehlo-param ) */
static void add_capability(struct smtp_capabilities *capabilities, struct str line)
{
	unsigned extension = extension_of(take_keyword(&line));

	capabilities->extensions |= extension;
	for (size_t i = 0; i < COUNT(with_params); i++)
		if (extension == (unsigned)with_params[i].extension)
			with_params[i].add(capabilities, line);
}

void smtp_capabilities_parse(const struct smtp_reply *reply, struct smtp_capabilities *capabilities)
{
	struct str rest = reply->text;

	*capabilities = (struct smtp_capabilities){ .extensions = 0 };
	/* A line that was cut could be the front of a longer keyword. */
	if (reply->was_cut)
		rest.n = str_rfind(rest, '\n');
	str_cut(&rest, '\n');
	while (rest.n > 0)
		add_capability(capabilities, str_cut(&rest, '\n'));
}

struct str smtp_extensions_print(unsigned set, char out[SMTP_EXTENSIONS_TEXT_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < COUNT(extensions); i++) {
		if (!(set & (unsigned)extensions[i].extension))
			continue;
		if (n > 0)
			out[n++] = ' ';
		n += str_copy_to(extensions[i].keyword, out + n, SMTP_EXTENSIONS_TEXT_MAX - n);
	}
	return str_make(out, n);
}

/* ---- Printing --------------------------------------------------------------------------- */

/* "250-" or "250 " */
static char *copy_code(char *out, int code, bool is_last)
{
	*out++ = (char)('0' + code / 100);
	*out++ = (char)('0' + code / 10 % 10);
	*out++ = (char)('0' + code % 10);
	*out++ = is_last ? ' ' : '-';
	return out;
}

static void put_line(struct buf *out, int code, bool is_last, struct str enhanced, struct str text)
{
	size_t space = enhanced.n > 0 && text.n > 0 ? 1 : 0;
	size_t n = STR("250 ").n + enhanced.n + space + text.n + STR("\r\n").n;
	char *line = buf_reserve(out, n);

	ASSERT(line);
	line = copy_code(line, code, is_last);
	line = copy_clean(line, enhanced);
	*line = ' ';
	line = copy_clean(line + space, text);
	memcpy(line, "\r\n", STR("\r\n").n);
	buf_commit(out, n);
}

/* The next line of at most `max` bytes off the front of *rest; a longer one goes on in the next. */
static struct str take_text(struct str *rest, size_t max)
{
	size_t end = str_find(*rest, '\n');

	if (end <= max)
		return str_cut(rest, '\n');
	struct str line = str_range(*rest, 0, max);
	*rest = str_from_pos(*rest, max);
	return line;
}

/* The code where it may be printed with `code`, else nothing. */
static struct str fitting_enhanced(struct str enhanced, int code)
{
	struct str behind = enhanced;

	return take_enhanced(&behind, code).present && behind.n == 0 ? str_trim(enhanced) : STR("");
}

static void put_reply(struct buf *out, int code, struct str enhanced, struct str text)
{
	struct str rest = str_range(text, 0, SMTP_REPLY_TEXT_MAX);
	size_t lines = 0;
	bool is_last;

	ASSERT(code >= 200 && code <= 599);
	size_t max = PRINTED_LINE_MAX - STR("250 ").n - STR(" \r\n").n - enhanced.n;
	do {
		struct str line = take_text(&rest, max);
		is_last = rest.n == 0 || ++lines == SMTP_REPLY_LINES_MAX;
		put_line(out, code, is_last, enhanced, line);
	} while (!is_last);
}

void smtp_reply_print(struct buf *out, int code, struct str enhanced, struct str text)
{
	put_reply(out, code, fitting_enhanced(enhanced, code), text);
}

void smtp_reply_repeat(struct buf *out, const struct smtp_reply *reply)
{
	int class = smtp_reply_class(reply);
	bool is_present = reply->enhanced.present;
	char memory[sizeof("5.999.999")];
	struct buf enhanced = buf_on(memory, sizeof(memory));

	if (class != 3) {
		buf_write_number(&enhanced, (uint64_t) class, 0);
		buf_write(&enhanced, STR("."));
		buf_write_number(&enhanced, is_present ? reply->enhanced.subject : 0, 0);
		buf_write(&enhanced, STR("."));
		buf_write_number(&enhanced, is_present ? reply->enhanced.detail : 0, 0);
	}
	put_reply(out, reply->code, buf_view(&enhanced), reply->text);
}
