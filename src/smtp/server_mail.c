/*
 * MAIL (RFC 5321 section 4.1.1.2): begins a transaction.
 */
#include "server_priv.h"

/* Room that a transaction has for everything the client makes it keep: the sender, notes and
 * results, and each recipient with its parameters. */
#define ARENA_BASE 16384
#define ARENA_PER_RECIPIENT 2048

enum reply_id mail_misplaced(const struct smtp_server *server)
{
	return server->state == SMTP_STATE_GREETED ? REPLY_HELO_FIRST : REPLY_NESTED_MAIL;
}

bool mail_cut_keyword(struct str *argument, struct str keyword)
{
	if (!str_starts_with_nocase(*argument, keyword))
		return false;
	struct str rest = str_from_pos(*argument, keyword.n);
	if (rest.n == 0 || rest.p[0] != ':')
		return false;
	/* A space after the colon is not in the grammar, but common. */
	*argument = str_trim(str_from_pos(rest, 1));
	return true;
}

enum reply_id server_path_reply(enum smtp_path_fault fault, bool utf8, enum reply_id syntax)
{
	switch (fault) {
	case SMTP_PATH_FINE:
		return REPLY_NONE;
	case SMTP_PATH_UTF8:
		return utf8 ? syntax : REPLY_NEEDS_SMTPUTF8;
	case SMTP_PATH_NO_ROOM:
		return REPLY_NO_MEMORY;
	default:
		return syntax;
	}
}

enum reply_id server_params_reply(enum smtp_params_fault fault)
{
	switch (fault) {
	case SMTP_PARAMS_FINE:
		return REPLY_NONE;
	case SMTP_PARAMS_UNSUPPORTED:
		return REPLY_UNSUPPORTED_PARAMETER;
	case SMTP_PARAMS_NO_ROOM:
		return REPLY_NO_MEMORY;
	default:
		return REPLY_BAD_PARAMETER;
	}
}

static struct verb_check parse(
	struct smtp_server *server, struct str argument, struct transaction *transaction)
{
	struct smtp_mail_params *params = &transaction->mail_params;
	bool utf8 = server->offer.extensions & SMTP_EXT_SMTPUTF8;
	struct str rest, bad = STR("");

	enum reply_id wrong =
		server_path_reply(smtp_path_parse_reverse(argument, utf8, &transaction->arena,
					  &transaction->mail_from, &rest),
			utf8, REPLY_BAD_SENDER);
	if (wrong != REPLY_NONE)
		return verb_wrong(wrong, STR(""));
	wrong = server_params_reply(smtp_params_parse_mail(
		rest, server->offer.extensions, &transaction->arena, params, &bad));
	if (wrong != REPLY_NONE)
		return verb_wrong(wrong, bad);
	if (transaction->mail_from.is_utf8 && !params->smtputf8)
		return verb_wrong(REPLY_NEEDS_SMTPUTF8, STR(""));
	if (params->has_size && params->size > server->offer.size)
		return verb_wrong(REPLY_TOO_BIG, STR(""));
	return verb_fine();
}

/* Or is it TLS that is missing first? */
static bool auth_is_possible(const struct smtp_server *server)
{
	return server->connection->tls != NULL || !(server->offer.extensions & SMTP_EXT_STARTTLS) ||
	       (server->offer.extensions & SMTP_EXT_AUTH);
}

struct verb_check mail_check(struct smtp_server *server, struct str argument)
{
	const struct smtp_limits *limits = &server->settings->limits;
	struct connection *connection = server->connection;

	if (server->auth_is_lost)
		return (struct verb_check){ .reply = REPLY_AUTH_LOST, .ending = ENDING_AUTH_LOST };
	if (connection->tran_count >= limits->transactions)
		return (struct verb_check){ .reply = REPLY_TOO_MANY_TRANSACTIONS,
			.ending = ENDING_TOO_MANY_TRANSACTIONS };
	if (server->requires_auth && connection->auth == NULL)
		return verb_wrong(
			auth_is_possible(server) ? REPLY_AUTH_REQUIRED : REPLY_NEEDS_TLS, STR(""));
	if (!mail_cut_keyword(&argument, STR("FROM")))
		return verb_wrong(REPLY_MAIL_SYNTAX, STR(""));
	struct transaction *transaction =
		transaction_begin(connection, ARENA_BASE + limits->recipients * ARENA_PER_RECIPIENT,
			server->port->now_ms(server->ctx));
	struct verb_check wrong = parse(server, argument, transaction);
	if (wrong.reply != REPLY_NONE)
		transaction_withdraw(connection);
	return wrong;
}

void mail_apply(struct smtp_server *server)
{
	if (!server->port->has_server(server->ctx)) {
		server_refuse(server, POLICY_MAIL, REPLY_NO_BACKEND, STR(""));
		server->port->abandon(server->ctx);
		server_end_transaction(server, OUTCOME_DEFERRED, BY_EDGE);
		return;
	}
	server_move(server, SMTP_STATE_MAIL);
	server_reply(server, REPLY_MAIL_OK, STR(""));
}
