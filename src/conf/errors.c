#include "errors_priv.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/xalloc.h"
#include "document_priv.h"

#define MESSAGE_MAX 2048   /* bytes of one message */
#define PATH_STEPS_MAX 160 /* the file's depth, and a default's inside it */

struct conf_mistake {
	size_t line;
	size_t column;
	size_t order; /* of two at one place, the first found comes first */
	char *text;
};

void conf_errors_free(struct conf_errors *errors)
{
	for (size_t i = 0; i < errors->count && i < CONF_ERRORS_MAX; i++)
		free(errors->kept[i].text);
	free(errors->kept);
	errors->kept = NULL;
	errors->count = 0;
	errors->capacity = 0;
}

bool conf_errors_has_room(const struct conf_errors *errors)
{
	return errors->count < CONF_ERRORS_MAX;
}

/* A C1 control, which some terminals obey: U+0080 to U+009F are C2 80 to C2 9F in UTF-8. */
static bool is_c1(struct str text)
{
	return text.n > 1 && (unsigned char)text.p[0] == 0xc2 && (unsigned char)text.p[1] < 0xa0;
}

/* Bytes of the character of UTF-8 that the text begins with. */
static size_t character_length(struct str text)
{
	size_t n = 1;

	while (n < text.n && ((unsigned char)text.p[n] & 0xc0) == 0x80)
		n++;
	return n;
}

/* Takes one character off *rest; a control character is written as \xNN. False: no room. */
static bool write_clean_character(struct buf *out, struct str *rest)
{
	size_t n = character_length(*rest);
	struct str one = str_range(*rest, 0, n);
	bool is_control = is_c1(one) || ascii_is_control(one.p[0]);

	*rest = str_from_pos(*rest, n);
	if (is_control)
		return buf_printf(out, "\\x%02x", (unsigned char)one.p[n - 1]);
	return buf_write(out, one);
}

static void write_clean(struct buf *out, struct str text)
{
	while (text.n > 0 && write_clean_character(out, &text))
		;
}

static void keep(struct conf_errors *errors, size_t line, size_t column, struct str text)
{
	size_t at = errors->count++;

	if (at >= CONF_ERRORS_MAX)
		return;
	if (at == errors->capacity) {
		errors->capacity = at ? 2 * at : 8;
		errors->kept = xrealloc(errors->kept, errors->capacity, sizeof(*errors->kept));
	}
	errors->kept[at] = (struct conf_mistake){
		.line = line,
		.column = column,
		.order = at,
		.text = str_dup(text),
	};
}

/* From the top down to the node: listeners[0].bind */
static void write_path(struct buf *out, const struct conf_node *node)
{
	const struct conf_node *steps[PATH_STEPS_MAX];
	size_t count = 0;

	for (; node && node->parent && count < PATH_STEPS_MAX; node = node->parent)
		steps[count++] = node;
	for (size_t i = count; i-- > 0;) {
		char quote[CONF_QUOTE_MAX];
		if (steps[i]->key == NULL) {
			buf_printf(out, "[%zu]", steps[i]->index);
			continue;
		}
		if (i + 1 < count)
			buf_write(out, STR("."));
		write_clean(out, str_from(conf_quote(steps[i]->key->text, quote)));
	}
}

__attribute__((format(printf, 2, 0))) static void write_message(
	struct buf *out, const char *format, va_list args)
{
	char text[MESSAGE_MAX / 4];

	vsnprintf(text, sizeof(text), format, args);
	write_clean(out, str_from(text));
}

void conf_errors_add(
	struct conf_errors *errors, size_t line, size_t column, const char *format, ...)
{
	struct buf out;
	va_list args;

	buf_init(&out, MESSAGE_MAX);
	if (errors->in_default)
		buf_printf(&out, "%s: in a default: ", errors->name);
	else
		buf_printf(&out, "%s:%zu:%zu: ", errors->name, line, column);
	va_start(args, format);
	write_message(&out, format, args);
	va_end(args);
	keep(errors, errors->in_default ? 0 : line, column, buf_view(&out));
	buf_free(&out);
}

/* "FILE:LINE:COLUMN: key.path: ", without the path for what stands at the top. */
static void write_place(
	struct buf *out, const struct conf_errors *errors, const struct conf_node *node)
{
	if (errors->in_default)
		buf_printf(out, "%s: the default of ", errors->name);
	else
		buf_printf(out, "%s:%zu:%zu: ", errors->name, node->line, node->column);
	size_t before = buf_used(out);
	write_path(out, node);
	if (buf_used(out) > before)
		buf_write(out, STR(": "));
}

__attribute__((format(printf, 3, 0))) static void add_at(
	struct conf_errors *errors, const struct conf_node *node, const char *format, va_list args)
{
	struct buf out;

	if (node->is_broken)
		return;
	buf_init(&out, MESSAGE_MAX);
	write_place(&out, errors, node);
	write_message(&out, format, args);
	keep(errors, errors->in_default ? 0 : node->line, node->column, buf_view(&out));
	buf_free(&out);
}

void conf_error(struct conf_errors *errors, struct conf_node *node, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	add_at(errors, node, format, args);
	va_end(args);
}

void conf_notice(struct conf_errors *errors, struct conf_node *node, const char *format, ...)
{
	va_list args;

	if (errors->notices == NULL)
		return;
	va_start(args, format);
	add_at(errors->notices, node, format, args);
	va_end(args);
}

void conf_errors_hide(struct conf_errors *errors, const struct conf_node *node)
{
	for (size_t i = 0; i < errors->count && i < CONF_ERRORS_MAX; i++) {
		struct conf_mistake *mistake = &errors->kept[i];
		if (mistake->line != node->line || mistake->column != node->column)
			continue;
		struct buf out;
		buf_init(&out, MESSAGE_MAX);
		write_place(&out, errors, node);
		buf_printf(&out, "a variable that is not set, or a dollar sign not written as $$");
		free(mistake->text);
		mistake->text = str_dup(buf_view(&out));
		buf_free(&out);
	}
}

static int compare(const void *a, const void *b)
{
	const struct conf_mistake *x = a;
	const struct conf_mistake *y = b;

	if (x->line != y->line)
		return x->line < y->line ? -1 : 1;
	if (x->column != y->column)
		return x->column < y->column ? -1 : 1;
	return x->order < y->order ? -1 : 1;
}

void conf_errors_report(struct conf_errors *errors, struct buf *report)
{
	size_t kept = errors->count < CONF_ERRORS_MAX ? errors->count : CONF_ERRORS_MAX;

	if (kept > 0)
		qsort(errors->kept, kept, sizeof(*errors->kept), compare);
	for (size_t i = 0; i < kept; i++)
		buf_printf(report, "%s\n", errors->kept[i].text);
	if (errors->count > kept)
		buf_printf(report, "%s: and %zu more %s\n", errors->name, errors->count - kept,
			errors->notices != NULL ? "mistakes" : "notices");
}

const char *conf_quote(struct str text, char out[CONF_QUOTE_MAX])
{
	struct buf clean;
	bool fits = true;

	buf_init(&clean, CONF_QUOTE_MAX - 4);
	while (fits && text.n > 0)
		fits = write_clean_character(&clean, &text);
	size_t n = str_copy_to(buf_view(&clean), out, CONF_QUOTE_MAX);
	if (!fits)
		memcpy(out + n, "...", 4);
	buf_free(&clean);
	return out;
}
