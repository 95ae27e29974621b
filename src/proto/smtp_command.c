#include "proto/smtp_command.h"

#include "base/chars.h"

static const struct str verbs[] = {
#define SMTP_VERB(id, word) [SMTP_VERB_##id] = STR_INIT(word),
#include "tables/verbs.def"
#undef SMTP_VERB
};

/* Methods of HTTP (RFC 9110, 5789 and 9113): a browser was led here. */
static const struct str http_methods[] = {
	STR_INIT("GET"),
	STR_INIT("POST"),
	STR_INIT("PUT"),
	STR_INIT("HEAD"),
	STR_INIT("DELETE"),
	STR_INIT("OPTIONS"),
	STR_INIT("CONNECT"),
	STR_INIT("TRACE"),
	STR_INIT("PATCH"),
	STR_INIT("PRI"),
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

_Static_assert(COUNT(verbs) == SMTP_VERB_UNKNOWN, "one word for each verb");

struct str smtp_verb_word(enum smtp_verb verb)
{
	return verb < SMTP_VERB_UNKNOWN ? verbs[verb] : STR("");
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static enum smtp_verb find_verb(struct str word)
{
	char first = (char)(ascii_lower(word.p[0]) - ('a' - 'A'));

	if (word.n > SMTP_VERB_MAX)
		return SMTP_VERB_UNKNOWN;
	for (unsigned i = 0; i < COUNT(verbs); i++)
		if (verbs[i].p[0] == first && str_eq_nocase(word, verbs[i]))
			return (enum smtp_verb)i;
	return SMTP_VERB_UNKNOWN;
}

static bool is_http(struct str word)
{
	for (size_t i = 0; i < COUNT(http_methods); i++)
		if (str_eq_nocase(word, http_methods[i]))
			return true;
	return false;
}

/*
 * command = verb [ SP argument ]. Tabs are taken for spaces between the two and at the end, where
 * they are cut off; anywhere else a tab is a control character like the others.
 */
static void split(struct str line, struct smtp_command *command)
{
	size_t n = 0;

	while (n < line.n && !is_blank(line.p[n]))
		n++;
	command->word = str_range(line, 0, n);
	command->argument = str_trim(str_from_pos(line, n));
	command->has_trailing_space = line.n > 0 && is_blank(line.p[line.n - 1]);
}

enum smtp_line_fault smtp_command_parse(struct str line, struct smtp_command *command)
{
	*command = (struct smtp_command){ .verb = SMTP_VERB_UNKNOWN };
	if (line.n == 0 || is_blank(line.p[0]))
		return SMTP_LINE_EMPTY;
	split(line, command);
	if (!ascii_is_alpha(line.p[0]))
		return SMTP_LINE_NOT_SMTP;
	command->verb = find_verb(command->word);
	if (command->verb == SMTP_VERB_UNKNOWN && is_http(command->word))
		return SMTP_LINE_NOT_SMTP;
	if (chars_are_text(command->word) && chars_are_text(command->argument))
		return SMTP_LINE_FINE;
	command->verb = SMTP_VERB_UNKNOWN;
	return SMTP_LINE_CONTROL;
}
