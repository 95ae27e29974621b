#include "load.h"

#include <string.h>

#define LINE_MAX_BYTES 4096
#define TEXT_WIDTH 76

/* Header lines, then lines of 76 letters, exactly `size` bytes in all; then the final dot. */
static void write_body(struct buf *body, uint64_t size)
{
	static const char head[] = "From: <load@example.net>\r\nSubject: load\r\n"
				   "Message-ID: <load@example.net>\r\n\r\n";
	char line[TEXT_WIDTH + 2];

	buf_init(body, size + 8);
	memset(line, 'x', TEXT_WIDTH);
	memcpy(line + TEXT_WIDTH, "\r\n", 2);
	buf_write(body, str_range(str_make(head, sizeof(head) - 1), 0, size));
	while (buf_used(body) < size)
		buf_write(body, str_range(str_make(line, sizeof(line)), 0, size - buf_used(body)));
	if (size >= 2)
		buf_truncate(body, size - 2);
	buf_write(body, STR("\r\n.\r\n"));
}

static void write_envelope(struct load *load)
{
	const struct options *options = load->options;

	buf_init(&load->envelope, (size_t)LINE_MAX_BYTES * (options->recipient_count + 2));
	buf_write(&load->envelope, buf_view(&load->mail));
	for (uint32_t i = 0; i < options->recipient_count; i++) {
		buf_init(&load->rcpt[i], LINE_MAX_BYTES);
		buf_printf(&load->rcpt[i], "RCPT TO:<%s>\r\n", options->recipients[i]);
		buf_write(&load->envelope, buf_view(&load->rcpt[i]));
	}
	buf_write(&load->envelope, buf_view(&load->data));
}

void load_prepare(struct load *load, const struct options *options)
{
	load->options = options;
	buf_init(&load->hello, LINE_MAX_BYTES);
	buf_init(&load->starttls, LINE_MAX_BYTES);
	buf_init(&load->mail, LINE_MAX_BYTES);
	buf_init(&load->data, LINE_MAX_BYTES);
	buf_init(&load->quit, LINE_MAX_BYTES);
	buf_printf(&load->hello, "EHLO %s\r\n", options->hello);
	buf_printf(&load->starttls, "STARTTLS\r\n");
	buf_printf(&load->mail, "MAIL FROM:<%s>\r\n", options->sender);
	buf_printf(&load->data, "DATA\r\n");
	buf_printf(&load->quit, "QUIT\r\n");
	write_envelope(load);
	write_body(&load->body, options->workload.size);
	if (options->workload.hold == HOLD_IN_BODY)
		buf_truncate(&load->body, buf_used(&load->body) / 2);
	if (options->workload.tls != LOAD_TLS_NONE)
		load->tls = channel_context(options->workload.tls_version);
}

void load_free(struct load *load)
{
	struct buf *bufs[] = { &load->hello, &load->starttls, &load->mail, &load->data, &load->quit,
		&load->body, &load->envelope };

	for (size_t i = 0; i < sizeof(bufs) / sizeof(bufs[0]); i++)
		buf_free(bufs[i]);
	for (uint32_t i = 0; i < load->options->recipient_count; i++)
		buf_free(&load->rcpt[i]);
	channel_context_free(load->tls);
	stats_free(&load->stats);
}

bool load_begin(struct load *load)
{
	if (load->options->messages && load->begun >= load->options->messages)
		return false;
	if (load->deadline_us && stats_now() >= load->deadline_us)
		return false;
	load->begun++;
	return true;
}
