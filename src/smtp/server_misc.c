/*
 * The verbs without a story of their own: RSET, NOOP, QUIT, VRFY, HELP, and BDAT, which is not
 * offered and closes, as its payload must not be taken for commands.
 */
#include "server_priv.h"

struct verb_check misc_check_argument(struct smtp_server *server, struct str argument)
{
	(void)server;
	return argument.n > 0 ? verb_fine() : verb_wrong(REPLY_NO_ARGUMENT, STR("VRFY address"));
}

void misc_apply_rset(struct smtp_server *server)
{
	server_abort_transaction(server);
	connection_reset(server->connection, CONNECTION_RESET_RSET);
	server_reply(server, REPLY_OK, STR(""));
}

void misc_apply_noop(struct smtp_server *server)
{
	server_reply(server, REPLY_OK, STR(""));
}

void misc_apply_quit(struct smtp_server *server)
{
	server_abort_transaction(server);
	server_reply(server, REPLY_BYE, STR(""));
	server_close(server, ENDING_QUIT);
}

void misc_apply_vrfy(struct smtp_server *server)
{
	server_reply(server, REPLY_VRFY, STR(""));
}

void misc_apply_help(struct smtp_server *server)
{
	server_reply(server, REPLY_HELP, STR(""));
}

void misc_apply_bdat(struct smtp_server *server)
{
	server_break_off(server, REPLY_BDAT_CLOSE, ENDING_OUT_OF_TURN);
}
