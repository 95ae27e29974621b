/*
 * smtp_command_parse with any line. What must hold: verb and argument are parts of the line, in
 * this order, with only white space around; a fine line holds no control character but tabs
 * between its parts; the same verb and argument written plainly are read as the same.
 */
#include <stdint.h>

#include "base/assert.h"
#include "base/buf.h"
#include "proto/smtp_command.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_blank(const char *from, const char *to)
{
	for (; from < to; from++)
		ASSERT(*from == ' ' || *from == '\t');
}

static void check_parts(struct str line, const struct smtp_command *command)
{
	struct str word = command->word;
	struct str argument = command->argument;

	ASSERT(word.p == line.p && word.n <= line.n);
	ASSERT(argument.p >= word.p + word.n && argument.p + argument.n <= line.p + line.n);
	check_blank(word.p + word.n, argument.p);
	check_blank(argument.p + argument.n, line.p + line.n);
	ASSERT(command->has_trailing_space ==
		(line.p[line.n - 1] == ' ' || line.p[line.n - 1] == '\t'));
}

static void check_fine(const struct smtp_command *command)
{
	struct smtp_command again;
	struct buf plain;

	ASSERT(ascii_is_alpha(command->word.p[0]));
	for (size_t i = 0; i < command->word.n; i++)
		ASSERT(!ascii_is_control(command->word.p[i]) && command->word.p[i] != ' ');
	for (size_t i = 0; i < command->argument.n; i++)
		ASSERT(!ascii_is_control(command->argument.p[i]));
	if (command->verb != SMTP_VERB_UNKNOWN)
		ASSERT(str_eq_nocase(command->word, smtp_verb_word(command->verb)));

	buf_init(&plain, command->word.n + 1 + command->argument.n);
	ASSERT(buf_write(&plain, command->word) && buf_write(&plain, STR(" ")) &&
		buf_write(&plain, command->argument));
	ASSERT(smtp_command_parse(buf_view(&plain), &again) == SMTP_LINE_FINE);
	ASSERT(again.verb == command->verb && str_eq(again.argument, command->argument));
	buf_free(&plain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str line = str_make((const char *)data, size);
	struct smtp_command command;
	enum smtp_line_fault fault = smtp_command_parse(line, &command);

	ASSERT(fault == SMTP_LINE_FINE || command.verb == SMTP_VERB_UNKNOWN);
	if (fault == SMTP_LINE_EMPTY)
		ASSERT(size == 0 || line.p[0] == ' ' || line.p[0] == '\t');
	else
		check_parts(line, &command);
	if (fault == SMTP_LINE_FINE)
		check_fine(&command);
	return 0;
}
