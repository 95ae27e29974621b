#include "policy/checks/sender_login.h"

/* Names stand behind each other with blanks or commas between them. */
static struct str cut_name(struct str *rest)
{
	size_t n = 0;

	while (n < rest->n && rest->p[n] != ' ' && rest->p[n] != '\t' && rest->p[n] != ',')
		n++;
	struct str name = str_range(*rest, 0, n);
	*rest = str_from_pos(*rest, n + 1);
	return name;
}

/* Byte by byte: two users may differ in case alone. */
static bool is_owner(struct str owners, struct str user)
{
	while (owners.n > 0) {
		struct str name = cut_name(&owners);
		if (str_eq(name, STR("*")) || (name.n > 0 && str_eq(name, user)))
			return true;
	}
	return false;
}

static bool has_names(struct str owners)
{
	while (owners.n > 0)
		if (cut_name(&owners).n > 0)
			return true;
	return false;
}

int sender_login_accepts(void *ctx, struct str key, struct str value, struct err *err)
{
	(void)ctx;
	if (str_find(key, '@') == key.n)
		return err_set(err, "%.*s: a sender is an address, or @domain", STR_ARG(key));
	if (!has_names(value))
		return err_set(err, "%.*s: no name of a user", STR_ARG(key));
	return 0;
}

static struct verdict judge_user(
	const struct sender_login *login, struct str owners, struct str user)
{
	if (owners.n == 0 ? login->takes_unlisted : is_owner(owners, user))
		return verdict_next();
	struct verdict verdict = verdict_reject(REPLY_SENDER_NOT_OWNED);
	verdict.detail = user;
	return verdict;
}

/* The empty sender is nobody's: it is that of bounces and of answers while one is away. */
static struct verdict ask(struct policy_question *question)
{
	const struct sender_login *login = question->services->sender_login(question->services_ctx);
	const struct connection *connection = question->connection;
	const struct smtp_path *path = &connection->transaction->mail_from;
	char plain[SMTP_PATH_MAX];

	if (login == NULL || smtp_path_is_null(path))
		return verdict_next();
	struct str owners = map_find_address(login->owners, smtp_path_plain(path, plain));
	if (connection->auth != NULL)
		return judge_user(login, owners, connection->auth->user);
	if (owners.n > 0 && login->refuses_unauthenticated)
		return verdict_reject(REPLY_SENDER_NEEDS_LOGIN);
	return verdict_next();
}

/* Mandatory: who is allowed by another check is not so made the owner of every sender. */
const struct policy_check sender_login_check = {
	.name = "sender_login",
	.stages = 1 << POLICY_MAIL,
	.flags = POLICY_CHECK_MANDATORY,
	.help = "Refuses senders that the authenticated user does not own, on listeners with "
		"auth.sender_login.",
	.ask = ask,
};
