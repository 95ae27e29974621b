/*
 * The parsers of parameters with any text; its first byte is a part of what is offered. What must
 * hold: what was printed holds no control character and is read as the same; it fits into the
 * promised room; offering nothing accepts nothing; the parameter at fault is a part of the text.
 */
#include <stdint.h>

#include "base/assert.h"
#include "proto/smtp_params.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ALL (~0u)
#define ROOM 4096

typedef enum smtp_params_fault parse_fn(
	struct str text, unsigned offered, struct str *bad, struct buf *out);

static enum smtp_params_fault parse_mail(
	struct str text, unsigned offered, struct str *bad, struct buf *out)
{
	struct smtp_mail_params mail;
	struct arena arena;

	arena_init(&arena, ROOM);
	enum smtp_params_fault fault = smtp_params_parse_mail(text, offered, &arena, &mail, bad);
	if (fault == SMTP_PARAMS_FINE)
		smtp_params_print_mail(&mail, ALL, out);
	arena_reset(&arena);
	return fault;
}

static enum smtp_params_fault parse_rcpt(
	struct str text, unsigned offered, struct str *bad, struct buf *out)
{
	struct smtp_rcpt_params rcpt;
	struct arena arena;

	arena_init(&arena, ROOM);
	enum smtp_params_fault fault = smtp_params_parse_rcpt(text, offered, &arena, &rcpt, bad);
	if (fault == SMTP_PARAMS_FINE)
		smtp_params_print_rcpt(&rcpt, ALL, out);
	arena_reset(&arena);
	return fault;
}

static void check_bad(struct str bad, struct str text, bool is_fine)
{
	ASSERT(is_fine == (bad.n == 0));
	ASSERT(is_fine || (bad.p >= text.p && bad.p + bad.n <= text.p + text.n));
}

static void check_printed(struct str printed, unsigned offered, parse_fn *parse)
{
	struct str bad;
	struct buf again;

	for (size_t i = 0; i < printed.n; i++)
		ASSERT(!ascii_is_control(printed.p[i]));
	buf_init(&again, SMTP_PARAMS_TEXT_MAX);
	ASSERT(parse(printed, offered, &bad, &again) == SMTP_PARAMS_FINE);
	ASSERT(str_eq(buf_view(&again), printed));
	buf_free(&again);
}

static void check(struct str text, unsigned offered, parse_fn *parse)
{
	struct str bad;
	struct buf out;

	buf_init(&out, SMTP_PARAMS_TEXT_MAX);
	enum smtp_params_fault fault = parse(text, offered, &bad, &out);
	ASSERT(fault != SMTP_PARAMS_NO_ROOM);
	check_bad(bad, text, fault == SMTP_PARAMS_FINE);
	if (fault == SMTP_PARAMS_FINE)
		check_printed(buf_view(&out), offered, parse);
	if (fault == SMTP_PARAMS_FINE && offered == 0)
		ASSERT(str_trim(text).n == 0);
	buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	/* Most inputs are for a client that may use everything. */
	unsigned offered = data[0] < 128 ? ALL : (data[0] & 127u) << 1;
	struct str text = str_make((const char *)data + 1, size - 1);
	check(text, offered, parse_mail);
	check(text, offered, parse_rcpt);
	check(text, 0, parse_mail);
	check(text, 0, parse_rcpt);
	smtp_is_xtext(text);
	return 0;
}
