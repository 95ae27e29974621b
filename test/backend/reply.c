#include "reply.h"

#include <string.h>

#include "base/str.h"

#define LONG_LINE (1024 * 1024)
#define MANY_LINES 10000

static void write_line(struct buf *out, const struct reply *reply, char separator, struct str text,
	const char *eol)
{
	unsigned code = (unsigned)reply->code % 1000;
	const char head[] = { (char)('0' + code / 100), (char)('0' + code / 10 % 10),
		(char)('0' + code % 10), separator };

	buf_write(out, str_make(head, sizeof(head)));
	if (reply->enhanced) {
		buf_write(out, str_from(reply->enhanced));
		buf_write(out, STR(" "));
	}
	buf_write(out, text);
	buf_write(out, str_from(eol));
}

static void write_lines(struct buf *out, const struct reply *reply, const char *eol)
{
	struct str rest = str_from(reply->text);

	do {
		struct str line = str_cut(&rest, '\n');
		write_line(out, reply, rest.n ? '-' : ' ', line, eol);
	} while (rest.n);
}

void reply_plain(struct buf *out, const struct reply *reply)
{
	write_lines(out, reply, "\r\n");
}

void reply_bare_lf(struct buf *out, const struct reply *reply)
{
	write_lines(out, reply, "\n");
}

void reply_twice(struct buf *out, const struct reply *reply)
{
	reply_plain(out, reply);
	reply_plain(out, reply);
}

void reply_long_line(struct buf *out, const struct reply *reply)
{
	char block[1024];

	memset(block, 'x', sizeof(block));
	buf_printf(out, "%03d ", reply->code);
	for (int i = 0; i < LONG_LINE / (int)sizeof(block); i++)
		buf_write(out, str_make(block, sizeof(block)));
	buf_write(out, STR("\r\n"));
}

void reply_many_lines(struct buf *out, const struct reply *reply)
{
	for (int i = 0; i < MANY_LINES; i++)
		buf_printf(out, "%03d-line %d\r\n", reply->code, i);
	reply_plain(out, reply);
}

void reply_mixed_codes(struct buf *out, const struct reply *reply)
{
	struct reply last = { .code = reply_is_positive(reply) ? 550 : 250, .text = "last line" };

	write_line(out, reply, '-', STR("first line"), "\r\n");
	reply_plain(out, &last);
}

void reply_unfinished(struct buf *out, const struct reply *reply)
{
	reply_plain(out, reply);
	buf_truncate(out, buf_used(out) - 2);
}

void reply_garbage(struct buf *out, const struct reply *reply)
{
	(void)reply;
	buf_write(out,
		STR("\x16\x03\x01\x02\x00\xff\xfe not SMTP\r\nHTTP/1.1 400 Bad Request\r\n\r\n"));
}
