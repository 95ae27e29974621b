/*
 * Postfix's words for our events. fail2ban's filters find the client as the first [address] behind
 * the words; so nothing foreign may put a bracket in front of it, which is why host names are
 * cleaned more strictly than other text.
 */
#include "log_priv.h"

#include <inttypes.h>

/* A piece of a line: `before`, the field's value, `after`. A field that is missing, null or empty
 * is replaced by `missing`; when that is NULL the piece is left out (an empty value is not). */
struct part {
	const char *before; /* NULL ends the table */
	const char *field;
	const char *after;
	const char *missing;
	enum { TEXT, HOST, STATUS, RESULT } kind;
};

/* HOST[IP] as Postfix writes it. */
#define CLIENT(before_host, after_address) \
	{ before_host, "host", "", "unknown", HOST }, \
	{ \
		"[", "client", "]" after_address, "unknown", HOST \
	}

static const struct part connect_parts[] = { CLIENT("connect from ", ""), { NULL } };

static const struct part disconnect_parts[] = { CLIENT("disconnect from ", ""), { NULL } };

static const struct part reject_parts[] = {
	{ "NOQUEUE: reject: ", "stage", "", "UNKNOWN", TEXT },
	CLIENT(" from ", ""),
	{ ": ", "reply", ";", "550 5.0.0 refused", TEXT },
	{ " from=<", "mail_from", ">", NULL, TEXT },
	{ " to=<", "rcpt", ">", NULL, TEXT },
	{ " proto=ESMTP", NULL, "", NULL, TEXT },
	{ " helo=<", "hello", ">", NULL, TEXT },
	{ NULL },
};

static const struct part transaction_parts[] = {
	{ "", "uuid", ": ", "NOQUEUE", TEXT },
	CLIENT("client=", ","),
	{ " from=<", "mail_from", ">,", "", TEXT },
	{ " to=<", "rcpt", ">,", "", TEXT },
	{ " relay=", "server", ",", "none", TEXT },
	{ " size=", "data_bytes", ",", NULL, TEXT },
	{ " nrcpt=", "rcpt_count", ",", NULL, TEXT },
	{ " status=", "outcome", "", "unknown", STATUS },
	{ " (", "reply", ")", NULL, TEXT },
	{ NULL },
};

static const struct part auth_failed_parts[] = {
	CLIENT("warning: ", ""),
	{ ": SASL ", "mechanism", " authentication failed", "UNKNOWN", HOST },
	{ ": ", "result", "", "unknown", RESULT },
	{ ", sasl_username=", "user", "", NULL, TEXT },
	{ NULL },
};

/* Events without a row are written as "event: name=value name=value". */
static const struct wording {
	const struct part *parts;
	bool with_rest; /* the other fields follow as name=value */
} wordings[LOG_EVENT_COUNT] = {
	[LOG_CONNECT] = { connect_parts, false },
	[LOG_CONNECTION] = { disconnect_parts, true },
	[LOG_TRANSACTION] = { transaction_parts, false },
	[LOG_REJECT] = { reject_parts, false },
	[LOG_AUTH_FAILED] = { auth_failed_parts, false },
};

/* Our word for an outcome, or the result of AUTH, and Postfix's for it; others stay as they are. */
static const struct translation {
	const char *ours, *postfix;
} statuses[] = {
	{ "accepted", "sent" },
	{ "refused", "bounced" },
};

/* Filters spare the client whose service was away, by these words. */
static const struct translation results[] = {
	{ "refused", "authentication failure" },
	{ "unavailable", "Connection lost to authentication server" },
};

/* What Postfix writes in a line of its own before "disconnect from", by the ending of a session.
 * Filters that count lost connections spare those after DATA; so without a stage there is no line
 * about what may be no fault at all. */
static const struct fault {
	const char *ending;
	const char *words;
	bool is_sure;
} faults[] = {
	{ "too_many_errors", "too many errors", true },
	{ "out_of_turn", "improper command pipelining", true },
	{ "client_closed", "lost connection", false },
	{ "client_reset", "lost connection", false },
	{ "client_timeout", "timeout", false },
	{ "data_timeout", "timeout", false },
	{ "write_timeout", "timeout", false },
};

static const struct part fault_parts[] = {
	{ " after ", "stage", "", "UNKNOWN", TEXT },
	CLIENT(" from ", ""),
	{ NULL },
};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

/* ---- Values -------------------------------------------------------------------------------- */

static bool is_printable(char c)
{
	return c >= 0x20 && c < 0x7f;
}

static bool is_host_char(char c)
{
	return ascii_is_alnum(c) || c == '.' || c == '-' || c == '_' || c == ':';
}

static bool is_unquotable(char c)
{
	return is_printable(c) && c != '"';
}

/* Appends with a '?' for every byte that is not `allowed`. */
static bool put_if(struct buf *out, struct str text, bool (*allowed)(char))
{
	char chunk[256];

	while (text.n > 0) {
		size_t n = text.n < sizeof(chunk) ? text.n : sizeof(chunk);

		for (size_t i = 0; i < n; i++)
			chunk[i] = allowed(text.p[i]) ? text.p[i] : '?';
		if (!buf_write(out, str_make(chunk, n)))
			return false;
		text = str_from_pos(text, n);
	}
	return true;
}

bool log_postfix_put_clean(struct buf *out, struct str text)
{
	return put_if(out, text, is_printable);
}

static struct str translate(const struct translation *words, size_t count, struct str ours)
{
	for (size_t i = 0; i < count; i++)
		if (str_eq(ours, str_from(words[i].ours)))
			return str_from(words[i].postfix);
	return ours;
}

static bool put_value(struct buf *out, const struct log_field *field)
{
	switch (field->type) {
	case LOG_FIELD_STR:
		return log_postfix_put_clean(out, field->text);
	case LOG_FIELD_INT:
		return buf_printf(out, "%" PRId64, field->number);
	case LOG_FIELD_BOOL:
		return buf_write(out, field->number ? STR("true") : STR("false"));
	case LOG_FIELD_NULL:
	case LOG_FIELD_NONE:
		break;
	}
	return true;
}

static bool put_kind(struct buf *out, const struct part *part, const struct log_field *field)
{
	if (field->type != LOG_FIELD_STR || part->kind == TEXT)
		return put_value(out, field);
	if (part->kind == HOST)
		return put_if(out, field->text, is_host_char);
	struct str word = part->kind == STATUS ? translate(statuses, COUNT(statuses), field->text)
					       : translate(results, COUNT(results), field->text);
	return log_postfix_put_clean(out, word);
}

/* ---- Lines --------------------------------------------------------------------------------- */

static const struct log_field *find_field(
	const struct log_field *fields, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (fields[i].type != LOG_FIELD_NONE && str_eq(fields[i].name, str_from(name)))
			return &fields[i];
	return NULL;
}

static bool has_value(const struct log_field *field)
{
	return field && field->type != LOG_FIELD_NULL;
}

static bool is_empty(const struct log_field *field)
{
	return field->type == LOG_FIELD_STR && str_is_empty(field->text);
}

static bool put_part(struct buf *out, const struct part *part, const struct log_field *field)
{
	bool given = has_value(field) && !(part->missing && is_empty(field));

	if (part->field && !given && part->missing == NULL)
		return true;
	if (!buf_write(out, str_from(part->before)))
		return false;
	if (part->field &&
		!(given ? put_kind(out, part, field) : buf_write(out, str_from(part->missing))))
		return false;
	return buf_write(out, str_from(part->after));
}

/* " name=value"; a value that could be taken for more than one stands in quotation marks. */
static bool put_pair(struct buf *out, const struct log_field *field)
{
	bool quoted = is_empty(field);

	if (field->type == LOG_FIELD_NONE || field->type == LOG_FIELD_NULL)
		return true;
	if (!buf_write(out, STR(" ")) || !buf_write(out, field->name) || !buf_write(out, STR("=")))
		return false;
	if (field->type != LOG_FIELD_STR)
		return put_value(out, field);
	for (size_t i = 0; i < field->text.n && !quoted; i++)
		quoted = !is_host_char(field->text.p[i]) && field->text.p[i] != '@';
	if (!quoted)
		return log_postfix_put_clean(out, field->text);
	return buf_write(out, STR("\"")) && put_if(out, field->text, is_unquotable) &&
	       buf_write(out, STR("\""));
}

/* Undoes what was written since `used` when it did not fit with the tail. */
static bool keep_if(struct buf *out, size_t used, bool fitted)
{
	if (fitted && buf_room(out) >= LOG_TAIL_ROOM)
		return true;
	buf_truncate(out, used);
	return false;
}

static bool put_parts(
	struct buf *out, const struct part *parts, const struct log_field *fields, size_t count)
{
	bool whole = true;

	for (const struct part *part = parts; part->before; part++) {
		size_t used = buf_used(out);
		const struct log_field *field =
			part->field ? find_field(fields, count, part->field) : NULL;

		whole &= keep_if(out, used, put_part(out, part, field));
	}
	return whole;
}

static bool is_used(const struct part *parts, struct str name)
{
	for (const struct part *part = parts; part && part->before; part++)
		if (part->field && str_eq(str_from(part->field), name))
			return true;
	return false;
}

static bool put_rest(
	struct buf *out, const struct part *parts, const struct log_field *fields, size_t count)
{
	bool whole = true;

	for (size_t i = 0; i < count; i++) {
		size_t used = buf_used(out);

		if (!is_used(parts, fields[i].name))
			whole &= keep_if(out, used, put_pair(out, &fields[i]));
	}
	return whole;
}

void log_postfix_put(
	struct buf *out, enum log_event event, const struct log_field *fields, size_t count)
{
	const struct wording *wording = &wordings[event];
	bool whole = true;

	if (wording->parts)
		whole &= put_parts(out, wording->parts, fields, count);
	else
		buf_printf(out, "%s:", log_event_word(event));
	if (wording->parts == NULL || wording->with_rest)
		whole &= put_rest(out, wording->parts, fields, count);
	if (!whole)
		buf_write(out, STR(" cut=true"));
}

static const struct fault *find_fault(struct str ending)
{
	for (size_t i = 0; i < COUNT(faults); i++)
		if (str_eq(ending, str_from(faults[i].ending)))
			return &faults[i];
	return NULL;
}

bool log_postfix_put_fault(
	struct buf *out, enum log_event event, const struct log_field *fields, size_t count)
{
	const struct log_field *ending = find_field(fields, count, "ending");

	if (event != LOG_CONNECTION || !has_value(ending))
		return false;
	const struct fault *fault = find_fault(ending->text);
	if (fault == NULL || !(fault->is_sure || has_value(find_field(fields, count, "stage"))))
		return false;
	buf_write(out, str_from(fault->words));
	put_parts(out, fault_parts, fields, count);
	return true;
}

void log_postfix_put_wording(struct buf *out, enum log_event event)
{
	const struct wording *wording = &wordings[event];

	for (const struct part *part = wording->parts; part && part->before; part++) {
		buf_write(out, str_from(part->before));
		if (part->field)
			buf_printf(out, "{%s}", part->field);
		buf_write(out, str_from(part->after));
	}
	if (wording->with_rest)
		buf_write(out, STR(" name=value …"));
}
