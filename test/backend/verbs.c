/*
 * The commands. A verb is a row: what it needs, what it answers, what it does if the answer
 * grants it and no fault takes that back.
 */
#include <string.h>

#include "session.h"
#include "specials.h"

#define COMMAND_LINE_MAX 8192

struct command {
	struct str line;
	struct str args;
	struct str path;   /* MAIL, RCPT: between < and > */
	struct str params; /* behind it */
	uint64_t size;     /* BDAT */
	bool is_last;      /* BDAT */
};

struct verb {
	const char *name;
	enum fault_state at;
	bool ends_group;       /* RFC 2920 section 3.1: nothing may follow before its reply */
	const char *extension; /* that must have been offered */
	struct reply (*check)(struct session *s, struct command *command);
	void (*apply)(struct session *s, const struct command *command);
};

#define REPLY(code, enhanced, text) ((struct reply){ code, enhanced, text })
#define OK REPLY(250, "2.0.0", "Ok")

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
	return REPLY(250, NULL, s->backend->greeting.data);
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

/* ---- Paths and parameters --------------------------------------------------------------------- */

/* The '>' that ends the path which begins at text.p[0] == '<'; quoted strings may hold one. */
static size_t find_path_end(struct str text)
{
	bool is_quoted = false;

	for (size_t i = 1; i < text.n; i++) {
		if (text.p[i] == '"')
			is_quoted = !is_quoted;
		else if (text.p[i] == '\\' && is_quoted)
			i++;
		else if (text.p[i] == '>' && !is_quoted)
			return i;
	}
	return text.n;
}

/* "FROM:<path>" [SP params], RFC 5321 section 4.1.2: no space behind the colon. */
static bool read_path(struct command *command, struct str prefix)
{
	struct str rest = str_from_pos(command->args, prefix.n);

	if (!str_starts_with_nocase(command->args, prefix) || rest.n == 0 || rest.p[0] != '<')
		return false;
	size_t end = find_path_end(rest);
	if (end == rest.n)
		return false;
	command->path = str_range(rest, 1, end);
	rest = str_from_pos(rest, end + 1);
	if (rest.n > 0 && rest.p[0] != ' ')
		return false;
	command->params = str_from_pos(rest, 1);
	return true;
}

static const struct param {
	enum fault_state at;
	struct str name;
	struct str extension;
} params[] = {
	{ AT_MAIL, STR_INIT("SIZE"), STR_INIT("SIZE") },
	{ AT_MAIL, STR_INIT("BODY"), STR_INIT("8BITMIME") },
	{ AT_MAIL, STR_INIT("SMTPUTF8"), STR_INIT("SMTPUTF8") },
	{ AT_MAIL, STR_INIT("RET"), STR_INIT("DSN") },
	{ AT_MAIL, STR_INIT("ENVID"), STR_INIT("DSN") },
	{ AT_MAIL, STR_INIT("AUTH"), STR_INIT("AUTH") },
	{ AT_MAIL, STR_INIT("REQUIRETLS"), STR_INIT("REQUIRETLS") },
	{ AT_RCPT, STR_INIT("NOTIFY"), STR_INIT("DSN") },
	{ AT_RCPT, STR_INIT("ORCPT"), STR_INIT("DSN") },
};

static bool is_offered(const struct session *s, enum fault_state at, struct str name)
{
	for (size_t i = 0; i < sizeof(params) / sizeof(params[0]); i++)
		if (params[i].at == at && str_eq_nocase(params[i].name, name))
			return s->is_esmtp && backend_offers(s->backend, params[i].extension);
	return false;
}

static struct reply check_param(struct session *s, enum fault_state at, struct str param)
{
	struct str value = param;
	struct str name = str_cut(&value, '=');
	uint64_t size;

	if (!is_offered(s, at, name))
		return REPLY(555, "5.5.4", "Parameter not offered");
	if (!str_eq_nocase(name, STR("SIZE")))
		return OK;
	if (!str_to_u64(value, UINT64_MAX, &size))
		return REPLY(501, "5.5.4", "Bad SIZE");
	if (s->backend->size_max && size > s->backend->size_max)
		return REPLY(552, "5.3.4", "Message too big");
	return OK;
}

static struct reply check_params(struct session *s, enum fault_state at, struct str list)
{
	struct reply reply = OK;

	while (list.n > 0 && reply.code == 250)
		reply = check_param(s, at, str_cut(&list, ' '));
	return reply;
}

static bool is_eight_bit(struct str text)
{
	for (size_t i = 0; i < text.n; i++)
		if (text.p[i] & 0x80)
			return true;
	return false;
}

static bool has_smtputf8(struct str list)
{
	while (list.n > 0)
		if (str_eq_nocase(str_cut(&list, ' '), STR("SMTPUTF8")))
			return true;
	return false;
}

/* ---- MAIL, RCPT --------------------------------------------------------------------------------- */

static struct reply check_mail(struct session *s, struct command *command)
{
	if (!s->has_hello)
		return REPLY(503, "5.5.1", "EHLO first");
	if (s->tx.is_open)
		return REPLY(503, "5.5.1", "There is a transaction already");
	if (!read_path(command, STR("FROM:")))
		return REPLY(501, "5.5.4", "Syntax: MAIL FROM:<address>");
	if (command->path.n && str_find(command->path, '@') == command->path.n)
		return REPLY(501, "5.1.7", "Sender without a domain");
	s->is_utf8 = has_smtputf8(command->params);
	if (is_eight_bit(command->path) && !s->is_utf8)
		return REPLY(553, "5.6.7", "Address needs SMTPUTF8");
	struct reply reply = check_params(s, AT_MAIL, command->params);
	return reply.code == 250 ? REPLY(250, "2.1.0", "Sender ok") : reply;
}

static void apply_mail(struct session *s, const struct command *command)
{
	transaction_mail(&s->tx, command->path, command->params);
}

static struct reply check_rcpt(struct session *s, struct command *command)
{
	if (!s->tx.is_open || s->tx.is_bdat)
		return REPLY(503, "5.5.1", "MAIL first");
	if (!read_path(command, STR("TO:")) || command->path.n == 0)
		return REPLY(501, "5.5.4", "Syntax: RCPT TO:<address>");
	bool is_postmaster = str_eq_nocase(command->path, STR("postmaster"));
	if (!is_postmaster && str_find(command->path, '@') == command->path.n)
		return REPLY(501, "5.1.3", "Recipient without a domain");
	if (is_eight_bit(command->path) && !s->is_utf8)
		return REPLY(553, "5.6.7", "Address needs SMTPUTF8");
	struct reply reply = check_params(s, AT_RCPT, command->params);
	return reply.code == 250 ? REPLY(250, "2.1.5", "Recipient ok") : reply;
}

static void apply_rcpt(struct session *s, const struct command *command)
{
	transaction_rcpt(&s->tx, command->path, command->params);
}

/* ---- DATA, BDAT --------------------------------------------------------------------------------- */

static struct reply check_data(struct session *s, struct command *command)
{
	if (!s->tx.is_open || s->tx.is_bdat)
		return REPLY(503, "5.5.1", "MAIL first");
	if (s->tx.rcpts == 0)
		return REPLY(554, "5.5.1", "No valid recipients");
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

	if (!str_to_u64(size, INT64_MAX, &command->size))
		return REPLY(501, "5.5.4", "Bad chunk size");
	if (last.n && !str_eq_nocase(last, STR("LAST")))
		return REPLY(501, "5.5.4", "Syntax: BDAT size [LAST]");
	if (!s->tx.is_open)
		refusal = REPLY(503, "5.5.1", "MAIL first");
	else if (s->tx.rcpts == 0)
		refusal = REPLY(554, "5.5.1", "No valid recipients");
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

/* As Postfix does: back to the banner. */
static struct reply check_xclient(struct session *s, struct command *command)
{
	(void)command;
	if (s->tx.is_open)
		return REPLY(503, "5.5.1", "Not inside a transaction");
	return verbs_banner(s);
}

static void apply_xclient(struct session *s, const struct command *command)
{
	(void)command;
	s->has_hello = false;
}

static const struct verb verbs[] = {
	{ "MAIL", AT_MAIL, false, NULL, check_mail, apply_mail },
	{ "RCPT", AT_RCPT, false, NULL, check_rcpt, apply_rcpt },
	{ "DATA", AT_DATA, true, NULL, check_data, apply_data },
	{ "BDAT", AT_NOWHERE, false, "CHUNKING", check_bdat, NULL },
	{ "EHLO", AT_EHLO, true, NULL, check_ehlo, apply_ehlo },
	{ "HELO", AT_HELO, true, NULL, check_helo, apply_helo },
	{ "RSET", AT_RSET, false, NULL, check_ok, apply_rset },
	{ "NOOP", AT_NOOP, true, NULL, check_ok, NULL },
	{ "QUIT", AT_QUIT, true, NULL, check_quit, apply_quit },
	{ "VRFY", AT_NOWHERE, true, NULL, check_vrfy, NULL },
	{ "STARTTLS", AT_STARTTLS, true, "STARTTLS", check_starttls, NULL },
	{ "XCLIENT", AT_XCLIENT, true, "XCLIENT", check_xclient, apply_xclient },
	{ "XFORWARD", AT_XFORWARD, false, "XFORWARD", check_ok, NULL },
};

/* ---- Lines ------------------------------------------------------------------------------------------ */

static const struct verb *find_verb(struct str name)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (str_eq_nocase(name, str_from(verbs[i].name)))
			return &verbs[i];
	return NULL;
}

static struct fault_choice choose(
	struct session *s, const struct verb *verb, const struct command *command)
{
	struct fault_choice choice = session_choose(s, verb->at);
	struct fault *special =
		verb->at == AT_RCPT ? specials_find(s->backend, command->path) : NULL;

	if (!special)
		return choice;
	if (special->flags & FAULT_DELAYS)
		choice.delay = choice.delay ? choice.delay : special;
	else
		choice.fault = choice.fault ? choice.fault : special;
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

static void refuse(struct session *s, struct reply reply)
{
	session_answer(s, AT_NOWHERE, (struct fault_choice){ 0 }, reply);
}

static void dispatch(struct session *s, struct str line, bool has_more)
{
	struct command command = { .line = line, .args = line };
	const struct verb *verb = find_verb(str_cut(&command.args, ' '));

	command.args = str_trim(command.args);
	if (!verb) {
		refuse(s, REPLY(500, "5.5.2", "Unknown command"));
		return;
	}
	if (verb->extension && !backend_offers(s->backend, str_from(verb->extension))) {
		refuse(s, REPLY(502, "5.5.1", "Not offered"));
		return;
	}
	bool is_group = s->backend->offers_pipelining && s->is_esmtp && !verb->ends_group;
	if (has_more && !is_group && verb->check != check_bdat)
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
		refuse(s, REPLY(500, "5.5.2", "Line too long"));
		s->is_closing = true;
		s->how = "line-too-long";
		return input.n;
	}
	if (length == 0)
		return 0;
	struct str line = str_range(input, 0, length - end);
	s->skips_newline = end == 1 && input.p[length - 1] == '\r';
	record_command(&s->backend->record, s->id, line, str_range(input, length - end, length));
	if (is_clean(line))
		dispatch(s, line, length < input.n);
	else
		refuse(s, REPLY(500, "5.5.2", "Control character in the command"));
	return length;
}
