/* MAIL and RCPT. */
#include "specials.h"
#include "verbs.h"

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

/* RFC 6152, RFC 3030 section 3 */
static struct reply check_body(struct session *s, struct str value)
{
	s->is_binary = str_eq_nocase(value, STR("BINARYMIME"));
	if (s->is_binary ? backend_offers(s->backend, STR("BINARYMIME"))
			 : str_eq_nocase(value, STR("7BIT")) ||
				   str_eq_nocase(value, STR("8BITMIME")))
		return OK;
	return REPLY(555, "5.5.4", "Not such a body");
}

static struct reply check_param(struct session *s, enum fault_state at, struct str param)
{
	struct str value = param;
	struct str name = str_cut(&value, '=');
	uint64_t size;

	if (!is_offered(s, at, name))
		return REPLY(555, "5.5.4", "Parameter not offered");
	if (str_eq_nocase(name, STR("BODY")))
		return check_body(s, value);
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

struct reply envelope_check_mail(struct session *s, struct command *command)
{
	if (!s->has_hello)
		return REPLY(503, "5.5.1", "EHLO first");
	if (s->backend->options.requires_auth && !s->identity.mechanism)
		return REPLY(530, "5.7.0", "Authentication required");
	if (s->tx.is_open)
		return REPLY(503, "5.5.1", "There is a transaction already");
	if (!read_path(command, STR("FROM:")))
		return REPLY(501, "5.5.4", "Syntax: MAIL FROM:<address>");
	if (command->path.n && str_find(command->path, '@') == command->path.n)
		return REPLY(501, "5.1.7", "Sender without a domain");
	s->is_utf8 = has_smtputf8(command->params);
	s->is_binary = false;
	if (is_eight_bit(command->path) && !s->is_utf8)
		return REPLY(553, "5.6.7", "Address needs SMTPUTF8");
	struct reply reply = check_params(s, AT_MAIL, command->params);
	return reply.code == 250 ? REPLY(250, "2.1.0", "Sender ok") : reply;
}

void envelope_apply_mail(struct session *s, const struct command *command)
{
	transaction_mail(&s->tx, command->path, command->params);
}

struct reply envelope_check_rcpt(struct session *s, struct command *command)
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

void envelope_apply_rcpt(struct session *s, const struct command *command)
{
	transaction_rcpt(&s->tx, command->path, command->params);
	if (!s->tx.special)
		s->tx.special = specials_find(s->backend, AT_DOT, command->path);
}
