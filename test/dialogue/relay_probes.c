/*
 * test/vectors/relay-probes.jsonl against the dialogue with the default plan and one relay domain,
 * example.com; the client is a stranger. Each probe whole and byte by byte: the class of the verdict,
 * and that nothing but recipients of that domain ever reaches the backend.
 */
#include <stdio.h>
#include <stdlib.h>

#include "support/fake_policy.h"
#include "support/smtp_vectors.h"

#define COMMAND_MAX 16384

static struct fake_port port;
static struct fake_policy policy;

/* The code of the reply to one command. */
static int ask(struct str command)
{
	struct str line;
	uint64_t code = 0;

	fake_port_forget(&port);
	fake_port_client(&port, command);
	fake_port_client(&port, STR("\r\n"));
	if (!fake_port_take(&port.replies, &line) || !str_to_u64(str_range(line, 0, 3), 599, &code))
		fake_port_fail("no reply", command);
	return (int)code;
}

/* `text` as JSON has it, behind `verb`. */
static int ask_json(const char *verb, struct str text, bool utf8)
{
	struct buf command;

	buf_init(&command, COMMAND_MAX);
	buf_write(&command, str_from(verb));
	smtp_vectors_unescape(&command, text, utf8);
	int code = ask(buf_view(&command));
	buf_free(&command);
	return code;
}

static int probe(struct str line)
{
	bool utf8 = str_eq(vectors_json_get(line, "encoding"), STR("utf-8"));
	struct str before = vectors_json_get(line, "before");
	struct str commands = before.n > 0 ? vectors_json_inside(before) : STR("");
	struct str command;

	ask(STR("EHLO client.sender.test"));
	while (vectors_json_next(&commands, &command))
		ask_json("", command, false);
	int code = ask_json("MAIL FROM:", vectors_json_get(line, "mail_from"), utf8);
	if (code >= 400)
		return code;
	return ask_json("RCPT TO:", vectors_json_get(line, "rcpt_to"), utf8);
}

static const char *verdict_of(int code)
{
	static const int syntax[] = { 500, 501, 553, 555 };

	for (size_t i = 0; i < sizeof(syntax) / sizeof(syntax[0]); i++)
		if (code == syntax[i])
			return "syntax-error";
	if (code == 503)
		return "sequence-error";
	return code < 300 ? "accept" : code >= 500 ? "reject" : "deferred";
}

static bool is_right(struct str line, const char *verdict)
{
	struct str also = vectors_json_get(line, "also_ok");
	struct str rest = also.n > 0 ? vectors_json_inside(also) : STR("");
	struct str word;

	if (str_eq(vectors_json_get(line, "expect"), str_from(verdict)))
		return true;
	while (vectors_json_next(&rest, &word))
		if (str_eq(word, str_from(verdict)))
			return true;
	return false;
}

/* Nothing but "recipient …@example.com", or postmaster, who is ours by RFC 5321 section 4.5.1. */
static void check_forwarded(bool is_accepted)
{
	struct str line;
	size_t count = 0;

	while (fake_port_take(&port.forwarded, &line)) {
		struct str host = str_from_pos(line, str_rfind(line, '@') + 1);
		bool is_postmaster = str_eq_nocase(line, STR("recipient postmaster"));
		if (!str_eq(host, STR("example.com")) && !is_postmaster)
			fake_port_fail("forwarded", line);
		count++;
	}
	if (count != is_accepted)
		fake_port_fail("recipients forwarded", STR("another number"));
}

static void run(struct str line, bool is_byte_by_byte)
{
	fake_port_init(&port);
	fake_policy_init(&policy, &port);
	fake_policy_add_domain(&policy, STR("example.com"));
	port.answers_by_itself = true;
	port.is_byte_by_byte = is_byte_by_byte;
	fake_port_start(&port);
	int code = probe(line);
	const char *verdict = verdict_of(code);
	if (!is_right(line, verdict))
		fake_port_fail("another verdict", buf_view(&port.connection.last_response));
	check_forwarded(code < 300);
	fake_port_free(&port);
	fake_policy_free(&policy);
}

int main(void)
{
	struct str text = vectors_read(TEST_SOURCE_DIR "/vectors/relay-probes.jsonl");
	struct str rest = text;
	size_t runs = 0;

	while (rest.n > 0) {
		struct str line = str_cut(&rest, '\n');
		struct str id = vectors_json_get(line, "id");
		snprintf(fake_port_where, sizeof(fake_port_where), "%.*s", STR_ARG(id));
		run(line, false);
		run(line, true);
		runs++;
	}
	free((void *)(uintptr_t)text.p);
	printf("%zu probes\n", runs);
	return runs < 50;
}
