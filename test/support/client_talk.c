#include "support/client_talk.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void on_send(void *ctx, struct str bytes)
{
	struct talk *talk = ctx;

	/* Whole lines, but for AUTH. */
	if (smtp_client_step(&talk->client) != SMTP_CLIENT_AUTH)
		assert_true(bytes.n >= 3 && str_ends_with_nocase(bytes, STR("\r\n")));
	buf_write(&talk->sent, bytes);
}

static void on_answered(void *ctx, enum smtp_client_step step, const struct smtp_reply *reply)
{
	struct talk *talk = ctx;

	buf_printf(&talk->told, "%s %d", smtp_client_step_word(step), reply->code);
	if (talk->tells_final && step == SMTP_CLIENT_DOT)
		buf_printf(&talk->told, " #%u%s", talk->client.final.index,
			talk->client.final.is_last ? "." : "");
	buf_write(&talk->told, STR("\n"));
	if (talk->on_answer != NULL)
		talk->on_answer(talk, step);
}

static void on_broken(void *ctx, const char *why, const struct smtp_reply *reply)
{
	struct talk *talk = ctx;

	buf_printf(&talk->told, "broken %s", why);
	if (reply != NULL)
		buf_printf(&talk->told, " %d", reply->code);
	buf_write(&talk->told, STR("\n"));
}

static const struct smtp_client_port port = {
	.send = on_send,
	.answered = on_answered,
	.broken = on_broken,
};

void talk_open(struct talk *talk, bool is_byte_by_byte)
{
	memset(talk, 0, sizeof(*talk));
	talk->is_byte_by_byte = is_byte_by_byte;
	buf_init(&talk->input, 1 << 20);
	buf_init(&talk->sent, 1 << 20);
	buf_init(&talk->told, 1 << 20);
	smtp_client_init(&talk->client, STR("mx.example.net"), &port, talk);
}

void talk_close(struct talk *talk)
{
	smtp_client_free(&talk->client);
	buf_free(&talk->input);
	buf_free(&talk->sent);
	buf_free(&talk->told);
}

/* In memory of exactly its size, so that the sanitizer sees a read behind it. */
static void feed(struct talk *talk)
{
	struct str view = buf_view(&talk->input);

	if (talk->client.is_broken)
		return;
	char *copy = malloc(view.n + 1);
	memcpy(copy, view.p, view.n);
	size_t taken = smtp_client_feed(&talk->client, str_make(copy, view.n));
	free(copy);
	assert_true(taken <= view.n);
	buf_consume(&talk->input, taken);
}

void talk_hear(struct talk *talk, struct str bytes)
{
	size_t step = talk->is_byte_by_byte ? 1 : bytes.n;

	for (size_t at = 0; at < bytes.n; at += step) {
		assert_true(buf_write(&talk->input, str_range(bytes, at, at + step)));
		feed(talk);
	}
}

void talk_greet(struct talk *talk, struct str ehlo)
{
	talk_hear(talk, STR("220 mta\r\n"));
	talk_hear(talk, ehlo);
	talk_assert(&talk->told, "EHLO 250\n");
	buf_truncate(&talk->sent, 0);
}

void talk_mail(struct talk *talk)
{
	struct transaction transaction = { .mail_from.address = STR_INIT("a@example.org") };

	smtp_client_mail(&talk->client, &transaction);
}

void talk_rcpt(struct talk *talk)
{
	struct recipient recipient = { .path.address = STR_INIT("b@example.com") };

	smtp_client_rcpt(&talk->client, &recipient);
}

void talk_assert(struct buf *have, const char *wanted)
{
	char *text = str_dup(buf_view(have));

	assert_string_equal(text, wanted);
	free(text);
	buf_truncate(have, 0);
}

void talk_assert_abort(struct str ehlo, void (*bug)(struct talk *talk))
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		struct talk talk;
		(void)!freopen("/dev/null", "w", stderr);
		signal(SIGABRT, SIG_DFL); /* cmocka's handler would go on with its tests */
		talk_open(&talk, false);
		talk_hear(&talk, STR("220 a\r\n"));
		talk_hear(&talk, ehlo);
		bug(&talk);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}
