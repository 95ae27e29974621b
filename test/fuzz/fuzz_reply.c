/*
 * smtp_reply_parse with any bytes, and what it read printed again. What must hold: bounds; no
 * front of a reply is a reply or refused; more bytes behind it change nothing; the text is
 * printable; printed lines keep their length and are read as a reply of the same code.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "proto/smtp_params.h"
#include "proto/smtp_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct result {
	int rc;
	struct smtp_reply reply;
	size_t taken;
	enum smtp_reply_fault fault;
	struct buf text;
};

/* A copy of exactly these bytes, so that the sanitizer sees a look behind them. */
static struct result parse(struct str input)
{
	struct result result;
	char *copy = malloc(input.n ? input.n : 1);

	ASSERT(copy);
	if (input.n > 0)
		memcpy(copy, input.p, input.n);
	buf_init(&result.text, SMTP_REPLY_TEXT_MAX);
	result.rc = smtp_reply_parse(
		str_make(copy, input.n), &result.text, &result.reply, &result.taken, &result.fault);
	free(copy);
	return result;
}

static void check_reply(const struct smtp_reply *reply)
{
	ASSERT(reply->code >= 200 && reply->code <= 599);
	ASSERT(reply->line_count >= 1 && reply->line_count <= SMTP_REPLY_LINES_MAX);
	ASSERT(reply->text.n <= SMTP_REPLY_TEXT_MAX);
	ASSERT(!reply->enhanced.present || reply->enhanced.class == reply->code / 100);
	size_t lines = 1;
	for (size_t i = 0; i < reply->text.n; i++) {
		lines += reply->text.p[i] == '\n';
		ASSERT(reply->text.p[i] == '\n' || !ascii_is_control(reply->text.p[i]));
		ASSERT((unsigned char)reply->text.p[i] < 0x80);
	}
	ASSERT(reply->was_cut ? lines <= reply->line_count : lines == reply->line_count);
}

static int parse_front(struct str input, size_t n)
{
	struct result result = parse(str_range(input, 0, n));

	buf_free(&result.text);
	return result.rc;
}

static void check_fronts(struct str input, const struct result *result)
{
	size_t step = result->taken / 50 + 1;

	for (size_t n = 0; n < result->taken; n += step)
		ASSERT(parse_front(input, n) == 0);
	ASSERT(parse_front(input, result->taken) == 1);
}

static void check_lines(struct str printed)
{
	while (printed.n > 0) {
		size_t n = str_find(printed, '\n') + 1;
		ASSERT(n >= 6 && n <= 512 && n <= printed.n);
		ASSERT(printed.p[n - 2] == '\r' && printed.p[3] == (n < printed.n ? '-' : ' '));
		printed = str_from_pos(printed, n);
	}
}

static void check_printed(const struct smtp_reply *reply)
{
	char code[32] = "";
	struct buf out;

	if (reply->enhanced.present)
		snprintf(code, sizeof(code), "%d.%d.%d", reply->enhanced.class,
			reply->enhanced.subject, reply->enhanced.detail);
	buf_init(&out, SMTP_REPLY_PRINT_MAX);
	smtp_reply_print(&out, reply->code, str_from(code), reply->text);
	check_lines(buf_view(&out));
	struct result again = parse(buf_view(&out));
	ASSERT(again.rc == 1 && again.taken == buf_used(&out));
	ASSERT(again.reply.code == reply->code);
	ASSERT(again.reply.enhanced.present || !reply->enhanced.present);
	buf_free(&again.text);
	buf_free(&out);
}

static void check_capabilities(const struct smtp_reply *reply)
{
	struct smtp_capabilities capabilities;

	smtp_capabilities_parse(reply, &capabilities);
	ASSERT(capabilities.size == 0 || (capabilities.extensions & SMTP_EXT_SIZE));
	ASSERT(reply->line_count > 1 || capabilities.extensions == 0);
}

/* Any bytes as the text of a reply of ours. */
static void check_foreign_text(struct str text)
{
	struct buf out;

	buf_init(&out, SMTP_REPLY_PRINT_MAX);
	smtp_reply_print(&out, 550, STR("5.7.1"), text);
	check_lines(buf_view(&out));
	buf_consume(&out, buf_used(&out));
	smtp_reply_print(&out, 450, text, text);
	check_lines(buf_view(&out));
	buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str input = str_make((const char *)data, size);
	struct result result = parse(input);

	if (result.rc == 1) {
		ASSERT(result.taken > 0 && result.taken <= size);
		check_reply(&result.reply);
		check_fronts(input, &result);
		check_printed(&result.reply);
		check_capabilities(&result.reply);
	} else {
		ASSERT(result.rc == 0 || result.fault != SMTP_REPLY_FINE);
		ASSERT(result.taken == 0);
	}
	check_foreign_text(input);
	buf_free(&result.text);
	return 0;
}
