#include "verbs.h"

#include <string.h>

#include "auth.h"
#include "specials.h"

#define COMMAND_LINE_MAX 8192

struct reply verbs_banner(const struct session *s)
{
	return REPLY(220, NULL, s->backend->banner.data);
}

/* ---- Greetings ---------------------------------------------------------------------------------- */

static struct reply check_ehlo(struct session *s, struct command *command)
{
	if (s->backend->options.has_no_ehlo)
		return REPLY(502, "5.5.1", "Not implemented");
	if (str_is_empty(command->args))
		return REPLY(501, "5.5.4", "EHLO needs a name");
	bool is_spent = s->identity.is_claimed && !s->backend->options.takes_xclient_again;
	return REPLY(250, NULL, s->backend->greetings[is_spent].data);
}

static struct reply check_helo(struct session *s, struct command *command)
{
	if (str_is_empty(command->args))
		return REPLY(501, "5.5.4", "HELO needs a name");
	return REPLY(250, NULL, s->backend->options.name);
}

static void apply_ehlo(struct session *s, const struct command *command)
{
	(void)command;
	transaction_reset(&s->tx);
	s->has_hello = s->is_esmtp = true;
}

static void apply_helo(struct session *s, const struct command *command)
{
	apply_ehlo(s, command);
	s->is_esmtp = false;
}

/* ---- DATA, BDAT --------------------------------------------------------------------------------- */

/* RFC 2033 section 4.2 has a code of its own. */
static struct reply no_recipients(const struct session *s)
{
	return REPLY(s->backend->options.is_lmtp ? 503 : 554, "5.5.1", "No valid recipients");
}

static struct reply check_data(struct session *s, struct command *command)
{
	if (!s->tx.is_open)
		return REPLY(503, "5.5.1", "MAIL first");
	if (s->tx.is_bdat || s->is_binary)
		return REPLY(503, "5.5.1", "BDAT is due");
	if (s->tx.rcpts == 0)
		return no_recipients(s);
	if (command->args.n)
		return REPLY(501, "5.5.4", "DATA takes nothing");
	return REPLY(354, NULL, "Go ahead");
}

static void apply_data(struct session *s, const struct command *command)
{
	(void)command;
	data_begin(s);
}

/* "BDAT" SP size [SP "LAST"]. The reply comes behind the chunk, also when it is a refusal. */
static struct reply check_bdat(struct session *s, struct command *command)
{
	struct str last = command->args;
	struct str size = str_cut(&last, ' ');
	struct reply refusal = { 0 };

	if (!str_to_u64(size, INT64_MAX, &command->size) ||
		(last.n && !str_eq_nocase(last, STR("LAST")))) {
		s->is_closing = true; /* nobody knows what is a command behind it */
		s->how = "bad-bdat";
		return REPLY(521, "5.5.4", "Syntax: BDAT size [LAST]");
	}
	if (!s->tx.is_open)
		refusal = REPLY(503, "5.5.1", "MAIL first");
	else if (s->tx.rcpts == 0)
		refusal = no_recipients(s);
	else if (s->tx.is_bdat && s->is_refused)
		refusal = REPLY(503, "5.5.1", "A chunk was refused before");
	data_begin_chunk(s, command->size, last.n > 0, refusal);
	return (struct reply){ 0 };
}

/* ---- The others ----------------------------------------------------------------------------------- */

static struct reply check_ok(struct session *s, struct command *command)
{
	(void)s;
	(void)command;
	return OK;
}

static void apply_rset(struct session *s, const struct command *command)
{
	(void)command;
	if (s->tx.is_open)
		session_be_idle(s);
	transaction_reset(&s->tx);
}

static struct reply check_quit(struct session *s, struct command *command)
{
	(void)s;
	if (command->args.n)
		return REPLY(501, "5.5.4", "QUIT takes nothing");
	return REPLY(221, "2.0.0", "Bye");
}

static void apply_quit(struct session *s, const struct command *command)
{
	(void)command;
	s->is_closing = true;
	s->how = "quit";
}

static struct reply check_vrfy(struct session *s, struct command *command)
{
	(void)s;
	(void)command;
	return REPLY(252, "2.1.5", "Try and see");
}

static struct reply check_starttls(struct session *s, struct command *command)
{
	(void)s;
	(void)command;
	return REPLY(454, "4.7.0", "TLS is only a word here");
}

static const struct verb verbs[] = {
	{ "MAIL", AT_MAIL, false, NULL, IN_BOTH, envelope_check_mail, envelope_apply_mail },
	{ "RCPT", AT_RCPT, false, NULL, IN_BOTH, envelope_check_rcpt, envelope_apply_rcpt },
	{ "DATA", AT_DATA, true, NULL, IN_BOTH, check_data, apply_data },
	{ "BDAT", AT_NOWHERE, false, "CHUNKING", IN_BOTH, check_bdat, NULL },
	{ "LHLO", AT_EHLO, true, NULL, IN_LMTP, check_ehlo, apply_ehlo },
	{ "EHLO", AT_EHLO, true, NULL, IN_SMTP, check_ehlo, apply_ehlo },
	{ "HELO", AT_HELO, true, NULL, IN_SMTP, check_helo, apply_helo },
	{ "RSET", AT_RSET, false, NULL, IN_BOTH, check_ok, apply_rset },
	{ "NOOP", AT_NOOP, true, NULL, IN_BOTH, check_ok, NULL },
	{ "QUIT", AT_QUIT, true, NULL, IN_BOTH, check_quit, apply_quit },
	{ "VRFY", AT_NOWHERE, true, NULL, IN_BOTH, check_vrfy, NULL },
	{ "AUTH", AT_AUTH, true, "AUTH", IN_BOTH, auth_check, NULL },
	{ "STARTTLS", AT_STARTTLS, true, "STARTTLS", IN_BOTH, check_starttls, NULL },
	{ "XCLIENT", AT_XCLIENT, true, "XCLIENT", IN_BOTH, identity_check_xclient,
		identity_apply_xclient },
	{ "XFORWARD", AT_XFORWARD, false, "XFORWARD", IN_BOTH, identity_check_xforward,
		identity_apply_xforward },
};

/* ---- Lines ------------------------------------------------------------------------------------------ */

static const struct verb *find_verb(const struct session *s, struct str name)
{
	unsigned unknown = s->backend->options.is_lmtp ? IN_SMTP : IN_LMTP;

	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (str_eq_nocase(name, str_from(verbs[i].name)))
			return verbs[i].is_known == unknown ? NULL : &verbs[i];
	return NULL;
}

static struct fault_choice choose(
	struct session *s, const struct verb *verb, const struct command *command)
{
	struct fault_choice choice = session_choose(s, verb->at);

	if (verb->at == AT_RCPT)
		specials_join(&choice, specials_find(s->backend, AT_RCPT, command->path));
	return choice;
}

static void run(struct session *s, const struct verb *verb, struct command *command)
{
	struct reply reply = verb->check(s, command);

	if (!reply.code)
		return;
	struct fault_choice choice = choose(s, verb, command);
	if (verb->apply && reply_is_positive(&reply) && fault_grants(choice.fault, reply.code))
		verb->apply(s, command);
	session_answer(s, verb->at, choice, reply);
}

void verbs_refuse(struct session *s, struct reply reply)
{
	session_answer(s, AT_NOWHERE, (struct fault_choice){ 0 }, reply);
}

static void dispatch(struct session *s, struct str line, bool has_more)
{
	struct command command = { .line = line, .args = line };
	const struct verb *verb = find_verb(s, str_cut(&command.args, ' '));

	command.args = str_trim(command.args);
	if (!verb) {
		verbs_refuse(s, REPLY(500, "5.5.2", "Unknown command"));
		return;
	}
	if (verb->extension && !backend_offers(s->backend, str_from(verb->extension))) {
		verbs_refuse(s, REPLY(502, "5.5.1", "Not offered"));
		return;
	}
	bool is_group = s->backend->offers_pipelining && s->is_esmtp && !verb->ends_group;
	s->awaits = is_group || verb->check == check_bdat ? NULL : verb->name;
	if (s->awaits && (has_more || (verb->at == AT_XCLIENT && session_has_input(s))))
		record_violation(&s->backend->record, s->id, verb->name);
	if (verb->at != AT_RSET && verb->at != AT_NOOP)
		s->idle_at = 0;
	run(s, verb, &command);
}

/* Length of the line, its end included in *end; 0 when it is not complete. */
static size_t find_line(const struct session *s, struct str input, size_t *end)
{
	const char *at = input.p, *limit = input.p + input.n;

	if (s->backend->options.is_lenient) {
		size_t cr = str_find(input, '\r'), lf = str_find(input, '\n');
		*end = 1 + (cr + 1 == lf);
		size_t first = cr < lf ? cr : lf;
		return first < input.n ? first + *end : 0;
	}
	*end = 2;
	while ((at = memchr(at, '\n', (size_t)(limit - at)))) {
		at++;
		if (at - input.p >= 2 && at[-2] == '\r')
			return (size_t)(at - input.p);
	}
	return 0;
}

static bool is_clean(struct str line)
{
	return !memchr(line.p, '\0', line.n) && !memchr(line.p, '\r', line.n) &&
	       !memchr(line.p, '\n', line.n);
}

size_t verbs_take(struct session *s, struct str input)
{
	size_t end;

	if (s->skips_newline && (input.p[0] == '\r' || input.p[0] == '\n'))
		return 1;
	s->skips_newline = false;
	size_t length = find_line(s, input, &end);
	if (length > COMMAND_LINE_MAX || (length == 0 && input.n > COMMAND_LINE_MAX)) {
		verbs_refuse(s, REPLY(500, "5.5.2", "Line too long"));
		s->is_closing = true;
		s->how = "line-too-long";
		return input.n;
	}
	if (length == 0)
		return 0;
	struct str line = str_range(input, 0, length - end);
	s->skips_newline = end == 1 && input.p[length - 1] == '\r';
	if (record_is_on(&s->backend->record))
		record_command(&s->backend->record, s->id, line, auth_visible(line),
			str_range(input, length - end, length));
	if (is_clean(line))
		dispatch(s, line, length < input.n);
	else
		verbs_refuse(s, REPLY(500, "5.5.2", "Control character in the command"));
	return length;
}
