#include "faults.h"

#include <stdlib.h>
#include <string.h>

#include "base/xalloc.h"

static const char *const states[FAULT_STATES] = {
	[AT_CONNECT] = "connect",
	[AT_BANNER] = "banner",
	[AT_EHLO] = "ehlo",
	[AT_HELO] = "helo",
	[AT_MAIL] = "mail",
	[AT_RCPT] = "rcpt",
	[AT_DATA] = "data",
	[AT_BODY] = "body",
	[AT_DOT] = "dot",
	[AT_AFTER_DOT] = "after-dot",
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

static const struct fault_action *find_action(struct str name)
{
	for (size_t i = 0; i < ACTIONS; i++)
		if (str_eq(name, str_from(actions[i].name)))
			return &actions[i];
	return NULL;
}

/* Takes "<separator><digits, + or ->" off the end of *text; the empty view if it is not there. */
static struct str cut_suffix(struct str *text, char separator, const char *allowed)
{
	size_t at = str_rfind(*text, separator);
	struct str suffix = str_from_pos(*text, at + 1);

	if (suffix.n == 0 || !ascii_is_digit(suffix.p[0]))
		return STR("");
	for (size_t i = 0; i < suffix.n; i++)
		if (!ascii_is_digit(suffix.p[i]) && !strchr(allowed, suffix.p[i]))
			return STR("");
	*text = str_range(*text, 0, at);
	return suffix;
}

static bool read_times(struct str times, struct fault *fault)
{
	struct str rest = times;
	struct str first = str_cut(&rest, '-');

	if (str_ends_with_nocase(times, STR("+"))) {
		fault->last = UINT64_MAX;
		return str_to_u64(str_range(times, 0, times.n - 1), UINT64_MAX, &fault->first);
	}
	if (first.n == times.n) {
		fault->first = 1;
		return str_to_u64(times, UINT64_MAX, &fault->last);
	}
	return str_to_u64(first, UINT64_MAX, &fault->first) &&
	       str_to_u64(rest, UINT64_MAX, &fault->last);
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
	if (!reply_is_positive(&fault->reply))
		fault->flags |= FAULT_REFUSES;
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
		if (fault->text[0] != '2' && fault->text[0] != '3')
			fault->flags |= FAULT_REFUSES;
		return true;
	}
	return false;
}

static int read_fault(struct str text, struct fault *fault, struct err *err)
{
	struct str rest = text;
	struct str times = cut_suffix(&rest, '@', "+-");

	fault->at = find_state(str_cut(&rest, ':'));
	if (fault->at == AT_NOWHERE)
		return err_set(err, "fault '%.*s': no such state", STR_ARG(text));
	struct str after = fault->at == AT_BODY ? cut_suffix(&rest, ':', "") : STR("");
	if (after.n && !str_to_u64(after, UINT64_MAX, &fault->after))
		return err_set(err, "fault '%.*s': bad number of bytes", STR_ARG(text));
	fault->first = 1;
	fault->last = UINT64_MAX;
	if (times.n && !read_times(times, fault))
		return err_set(err, "fault '%.*s': bad count behind '@'", STR_ARG(text));
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

static bool strikes(struct fault *fault)
{
	fault->seen++;
	return fault->seen >= fault->first && fault->seen <= fault->last;
}

struct fault_choice faults_choose(struct faults *faults, enum fault_state at)
{
	struct fault_choice choice = { 0 };

	if (!(faults->states & 1u << at) || at == AT_NOWHERE)
		return choice;
	for (struct fault *fault = faults->list; fault; fault = fault->next) {
		if (fault->at != at || fault->is_retired || (fault->flags & FAULT_EARLY))
			continue;
		struct fault **slot = fault->flags & FAULT_DELAYS ? &choice.delay : &choice.fault;
		if (strikes(fault) && !*slot)
			*slot = fault;
	}
	return choice;
}

bool faults_is_early(struct faults *faults, enum fault_state at)
{
	bool early = false;

	if (!(faults->states & 1u << at) || at == AT_NOWHERE)
		return false;
	for (struct fault *fault = faults->list; fault; fault = fault->next)
		if (fault->at == at && !fault->is_retired && (fault->flags & FAULT_EARLY))
			early |= strikes(fault);
	return early;
}

bool fault_grants(const struct fault *fault)
{
	return !fault || !(fault->flags & (FAULT_WITHHOLDS | FAULT_REFUSES));
}

void faults_print_help(FILE *file)
{
	fputs("\nA fault is STATE:ACTION[=VALUE][:BYTES][@TIMES]. BYTES (for body): after so many "
	      "bytes;\n"
	      "TIMES: 3 (the first three), 3+ (from the third on) or 2-4. \\n, \\r, \\0, \\xHH in "
	      "VALUE.\n"
	      "\nStates:",
		file);
	for (int i = AT_CONNECT; i < FAULT_STATES; i++)
		fprintf(file, " %s", states[i]);
	fputs("\n  dot: before the message is committed (refusals and silence leave it "
	      "uncommitted)\n"
	      "  after-dot: the message is committed, then this happens instead of the 250\n"
	      "\nActions:\n",
		file);
	for (size_t i = 0; i < ACTIONS; i++)
		fprintf(file, "  %-26s%s\n", actions[i].name, actions[i].help);
}
