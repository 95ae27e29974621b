#include "faults.h"

#include <stdlib.h>
#include <string.h>

#include "base/xalloc.h"

static const char *const states[FAULT_STATES] = {
	[AT_CONNECT] = "connect",
	[AT_BANNER] = "banner",
	[AT_EHLO] = "ehlo",
	[AT_HELO] = "helo",
	[AT_STARTTLS] = "starttls",
	[AT_AUTH] = "auth",
	[AT_XCLIENT] = "xclient",
	[AT_XFORWARD] = "xforward",
	[AT_MAIL] = "mail",
	[AT_RCPT] = "rcpt",
	[AT_DATA] = "data",
	[AT_BDAT] = "bdat",
	[AT_BODY] = "body",
	[AT_DOT] = "dot",
	[AT_AFTER_DOT] = "after-dot",
	[AT_IDLE] = "idle",
	[AT_RSET] = "rset",
	[AT_QUIT] = "quit",
	[AT_NOOP] = "noop",
};

static void write_nothing(struct buf *out, const struct reply *reply)
{
	(void)out;
	(void)reply;
}

#define BEFORE FAULT_WITHHOLDS

static const struct fault_action actions[] = {
	{ "refuse-close", BEFORE | FAULT_CLOSES, write_nothing, "FIN instead of a reply" },
	{ "close-before-reply", BEFORE | FAULT_CLOSES, write_nothing, "the same" },
	{ "reset", BEFORE | FAULT_RESETS, write_nothing, "RST instead of a reply" },
	{ "half-close", BEFORE | FAULT_HALVES, write_nothing,
		"FIN instead of a reply; goes on reading, without a word" },
	{ "stall", BEFORE | FAULT_STALLS, write_nothing, "reads and answers nothing any more" },
	{ "die-before-reply", BEFORE | FAULT_DIES, write_nothing, "the process exits" },
	{ "die", FAULT_DIES, NULL, "replies, then the process exits" },
	{ "close", FAULT_CLOSES, NULL, "replies, then FIN" },
	{ "delay", FAULT_DELAYS, NULL, "=MS: replies later; in body: reads on later", VALUE_MS },
	{ "reply", 0, NULL, "=CODE TEXT: this reply instead", VALUE_REPLY },
	{ "reply-close", FAULT_CLOSES, NULL, "=CODE TEXT: this reply, then FIN", VALUE_REPLY },
	{ "raw", 0, NULL, "=BYTES: these bytes instead of a reply", VALUE_BYTES },
	{ "garbage", FAULT_REFUSES, reply_garbage, "bytes that are no SMTP" },
	{ "bare-lf", 0, reply_bare_lf, "line ends of LF alone" },
	{ "split", FAULT_SPLITS, NULL, "a byte at a time" },
	{ "merged", 0, reply_twice, "the reply twice" },
	{ "long-line", 0, reply_long_line, "a line of 1 MiB" },
	{ "many-lines", 0, reply_many_lines, "10,000 continuation lines" },
	{ "mixed-codes", 0, reply_mixed_codes, "lines with different codes" },
	{ "early", FAULT_EARLY, NULL, "the reply comes with the reply before it" },
	{ "no-final-crlf-then-close", FAULT_CLOSES, reply_unfinished, "FIN inside the reply" },
};

#define ACTIONS (sizeof(actions) / sizeof(actions[0]))

void faults_init(struct faults *faults)
{
	*faults = (struct faults){ 0 };
	faults->tail = &faults->list;
}

static void fault_free(struct fault *fault)
{
	free(fault->text);
	free(fault);
}

void faults_free(struct faults *faults)
{
	while (faults->list) {
		struct fault *next = faults->list->next;
		fault_free(faults->list);
		faults->list = next;
	}
	faults_init(faults);
}

/* ---- Reading ------------------------------------------------------------------------------ */

static enum fault_state find_state(struct str name)
{
	for (int i = AT_CONNECT; i < FAULT_STATES; i++)
		if (str_eq(name, str_from(states[i])))
			return (enum fault_state)i;
	return AT_NOWHERE;
}

/* "rcpt" or "rcpt2". */
static bool read_state(struct str name, struct fault *fault)
{
	size_t n = name.n;
	uint64_t ordinal = 0;

	while (n > 0 && ascii_is_digit(name.p[n - 1]))
		n--;
	if (n < name.n && (!str_to_u64(str_from_pos(name, n), UINT32_MAX, &ordinal) || !ordinal))
		return false;
	fault->ordinal = (unsigned)ordinal;
	fault->at = find_state(str_range(name, 0, n));
	return fault->at != AT_NOWHERE;
}

static const struct fault_action *find_action(struct str name)
{
	for (size_t i = 0; i < ACTIONS; i++)
		if (str_eq(name, str_from(actions[i].name)))
			return &actions[i];
	return NULL;
}

/* Takes "<separator>[letter]<digits, + or ->" off the end of *text; the empty view if it is not
 * there. */
static struct str cut_suffix(
	struct str *text, char separator, const char *letters, const char *allowed)
{
	size_t at = str_rfind(*text, separator);
	struct str suffix = str_from_pos(*text, at + 1);
	size_t digits = suffix.n && strchr(letters, suffix.p[0]) && suffix.p[0];

	if (suffix.n <= digits || !ascii_is_digit(suffix.p[digits]))
		return STR("");
	for (size_t i = digits; i < suffix.n; i++)
		if (!ascii_is_digit(suffix.p[i]) && !strchr(allowed, suffix.p[i]))
			return STR("");
	*text = str_range(*text, 0, at);
	return suffix;
}

/* "3", "3+", "2-4". */
static bool read_range(struct str text, struct fault_range *range)
{
	struct str rest = text;
	struct str first = str_cut(&rest, '-');

	if (str_ends_with_nocase(text, STR("+"))) {
		range->last = UINT64_MAX;
		return str_to_u64(str_range(text, 0, text.n - 1), UINT64_MAX, &range->first);
	}
	if (first.n == text.n) {
		range->first = 1;
		return str_to_u64(text, UINT64_MAX, &range->last);
	}
	return str_to_u64(first, UINT64_MAX, &range->first) &&
	       str_to_u64(rest, UINT64_MAX, &range->last);
}

/* Takes all "@…" off the end of *text. */
static bool cut_conditions(struct str *text, struct fault *fault)
{
	struct str suffix;

	fault->times = fault->connections = (struct fault_range){ 1, UINT64_MAX };
	fault->transactions = (struct fault_range){ 0, UINT64_MAX };
	while ((suffix = cut_suffix(text, '@', "ct", "+-")).n > 0) {
		struct fault_range *range = &fault->times;
		if (suffix.p[0] == 'c')
			range = &fault->connections;
		else if (suffix.p[0] == 't')
			range = &fault->transactions;
		if (!read_range(str_from_pos(suffix, range != &fault->times), range))
			return false;
	}
	return true;
}

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef";
	const char *found = c ? strchr(digits, ascii_lower(c)) : NULL;

	return found ? (int)(found - digits) : -1;
}

/* Resolves the escapes in place; the result is NUL-terminated and never longer. */
static size_t unescape(char *text)
{
	static const char names[] = "nrt0\\", values[] = "\n\r\t\0\\";
	char *out = text;

	for (char *in = text; *in; in++) {
		const char *name = *in == '\\' && in[1] ? strchr(names, in[1]) : NULL;
		if (name) {
			*out++ = values[name - names];
			in++;
		} else if (*in == '\\' && in[1] == 'x' && hex_digit(in[2]) >= 0 &&
			   hex_digit(in[3]) >= 0) {
			*out++ = (char)(hex_digit(in[2]) * 16 + hex_digit(in[3]));
			in += 3;
		} else {
			*out++ = *in;
		}
	}
	*out = '\0';
	return (size_t)(out - text);
}

static bool read_reply(struct fault *fault)
{
	uint64_t code;

	if (strlen(fault->text) < 3 || !str_to_u64(str_make(fault->text, 3), 999, &code))
		return false;
	if (fault->text[3] != '\0' && fault->text[3] != ' ')
		return false;
	fault->reply.code = (int)code;
	fault->reply.text = fault->text[3] ? fault->text + 4 : "";
	return true;
}

static bool read_value(struct str value, struct fault *fault)
{
	uint64_t ms = 0;

	switch (fault->action->takes) {
	case VALUE_NONE:
		return str_is_empty(value);
	case VALUE_MS:
		if (!str_to_u64(value, 86400 * 1000, &ms))
			return false;
		fault->ms = (unsigned)ms;
		return true;
	case VALUE_REPLY:
		fault->text = str_dup(value);
		unescape(fault->text);
		return read_reply(fault);
	case VALUE_BYTES:
		fault->text = str_dup(value);
		fault->bytes = str_make(fault->text, unescape(fault->text));
		return true;
	}
	return false;
}

static int read_fault(struct str text, struct fault *fault, struct err *err)
{
	struct str rest = text;

	if (!cut_conditions(&rest, fault))
		return err_set(err, "fault '%.*s': bad count behind '@'", STR_ARG(text));
	if (!read_state(str_cut(&rest, ':'), fault))
		return err_set(err, "fault '%.*s': no such state", STR_ARG(text));
	bool has_after = fault->at == AT_BODY || fault->at == AT_IDLE;
	struct str after = has_after ? cut_suffix(&rest, ':', "", "") : STR("");
	if (after.n && !str_to_u64(after, INT64_MAX, &fault->after))
		return err_set(err, "fault '%.*s': bad number behind ':'", STR_ARG(text));
	fault->action = find_action(str_cut(&rest, '='));
	if (!fault->action)
		return err_set(err, "fault '%.*s': no such action", STR_ARG(text));
	fault->flags = fault->action->flags;
	if (!read_value(rest, fault))
		return err_set(err, "fault '%.*s': bad value", STR_ARG(text));
	return 0;
}

static void append(struct faults *faults, struct fault *fault)
{
	faults->states |= 1u << fault->at;
	faults->has_early |= (fault->flags & FAULT_EARLY) != 0;
	*faults->tail = fault;
	faults->tail = &fault->next;
}

int faults_add(struct faults *faults, struct str text, struct err *err)
{
	struct fault *fault = xcalloc(1, sizeof(*fault));

	if (read_fault(text, fault, err) < 0) {
		fault_free(fault);
		return -1;
	}
	append(faults, fault);
	return 0;
}

static int read_lines(FILE *file, struct faults *faults, struct err *err)
{
	char *line = NULL;
	size_t size = 0;
	ssize_t n;
	int rc = 0;

	while (rc == 0 && (n = getline(&line, &size, file)) > 0) {
		struct str text = str_trim(str_make(line, (size_t)n - (line[n - 1] == '\n')));
		if (text.n > 0 && text.p[0] != '#')
			rc = faults_add(faults, text, err);
	}
	free(line);
	return rc;
}

int faults_read_file(struct faults *faults, const char *path, struct err *err)
{
	struct faults fresh;
	FILE *file = fopen(path, "re");

	if (!file)
		return err_errno(err, "cannot open %s", path);
	faults_init(&fresh);
	int rc = read_lines(file, &fresh, err);
	fclose(file);
	if (rc < 0) {
		faults_free(&fresh);
		return err_prefix(err, "%s", path);
	}
	for (struct fault *fault = faults->list; fault; fault = fault->next)
		fault->is_retired |= fault->is_from_file;
	while (fresh.list) {
		struct fault *fault = fresh.list;
		fresh.list = fault->next;
		fault->next = NULL;
		fault->is_from_file = true;
		append(faults, fault);
	}
	return 0;
}

/* ---- Striking ----------------------------------------------------------------------------- */

static bool is_in(struct fault_range range, uint64_t value)
{
	return value >= range.first && value <= range.last;
}

static bool applies(const struct fault *fault, const struct fault_moment *moment)
{
	return fault->at == moment->at && !fault->is_retired &&
	       (!fault->ordinal || fault->ordinal == moment->ordinal) &&
	       is_in(fault->connections, moment->connection) &&
	       is_in(fault->transactions, moment->transaction);
}

static bool strikes(struct fault *fault)
{
	return is_in(fault->times, ++fault->seen);
}

static bool may_strike(const struct faults *faults, enum fault_state at)
{
	return at != AT_NOWHERE && (faults->states & 1u << at);
}

struct fault_choice faults_choose(struct faults *faults, const struct fault_moment *moment)
{
	struct fault_choice choice = { 0 };

	if (!may_strike(faults, moment->at))
		return choice;
	for (struct fault *fault = faults->list; fault; fault = fault->next) {
		if (!applies(fault, moment) || (fault->flags & FAULT_EARLY))
			continue;
		struct fault **slot = fault->flags & FAULT_DELAYS ? &choice.delay : &choice.fault;
		if (strikes(fault) && !*slot)
			*slot = fault;
	}
	return choice;
}

bool faults_is_early(struct faults *faults, const struct fault_moment *moment, bool by_ordinal)
{
	bool early = false;

	if (!may_strike(faults, moment->at))
		return false;
	for (struct fault *fault = faults->list; fault; fault = fault->next)
		if ((fault->flags & FAULT_EARLY) && applies(fault, moment) &&
			(fault->ordinal > 1) == by_ordinal)
			early |= strikes(fault);
	return early;
}

bool fault_grants(const struct fault *fault, int code)
{
	if (!fault)
		return true;
	if (fault->action->takes == VALUE_REPLY)
		return fault->reply.code / 100 == code / 100;
	if (fault->action->takes == VALUE_BYTES)
		return fault->bytes.n && fault->bytes.p[0] == '0' + code / 100;
	return !(fault->flags & (FAULT_WITHHOLDS | FAULT_REFUSES));
}

void faults_print_help(FILE *file)
{
	fputs("\nA fault is "
	      "STATE[K]:ACTION[=VALUE][:AFTER][@TIMES][@cCONNECTIONS][@tTRANSACTIONS].\n"
	      "  K       the K-th such step of the transaction (rcpt, bdat, dot, xforward), of "
	      "the\n"
	      "          exchange (auth), else of the connection\n"
	      "  AFTER   body: so many bytes; idle: so many ms after a transaction has ended\n"
	      "  TIMES   3 (the first three), 3+ (from the third on) or 2-4; likewise for the\n"
	      "          connections of the process and the transactions of a connection\n"
	      "  VALUE   may hold \\n, \\r, \\0, \\xHH\n"
	      "A reply of another class than the honest one (data:reply=250) has no effect.\n"
	      "\nStates:",
		file);
	for (int i = AT_CONNECT; i < FAULT_STATES; i++)
		fprintf(file, " %s", states[i]);
	fputs("\n  dot: before the message is committed (refusals and silence leave it "
	      "uncommitted)\n"
	      "  after-dot: the message is committed, then this happens instead of the 250\n"
	      "  bdat: a chunk that is not the last (dot is the last one's)\n"
	      "  idle: a transaction has ended, and no command but NOOP or RSET has come; the "
	      "reply\n"
	      "  is a 421\n"
	      "\nActions:\n",
		file);
	for (size_t i = 0; i < ACTIONS; i++)
		fprintf(file, "  %-26s%s\n", actions[i].name, actions[i].help);
}
