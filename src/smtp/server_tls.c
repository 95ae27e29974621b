/*
 * STARTTLS (RFC 3207): what was said before it counts for nothing afterwards. Bytes that came behind
 * the command in the same piece close the connection: they would be plaintext that pretends to have
 * been said under TLS.
 */
#include "base/assert.h"
#include "server_priv.h"

enum reply_id tls_misplaced(const struct smtp_server *server)
{
	return server->state == SMTP_STATE_GREETED ? REPLY_HELO_FIRST
						   : REPLY_TRANSACTION_IN_PROGRESS;
}

struct verb_check tls_check(struct smtp_server *server, struct str argument)
{
	(void)argument;
	if (server->connection->tls != NULL)
		return verb_wrong(REPLY_TLS_ALREADY, STR(""));
	if (!(server->offer.extensions & SMTP_EXT_STARTTLS))
		return verb_wrong(REPLY_NOT_IMPLEMENTED, STR(""));
	return verb_fine();
}

void tls_apply(struct smtp_server *server)
{
	if (!server->port->tls_is_available(server->ctx)) {
		server_reply(server, REPLY_TLS_NOT_AVAILABLE, STR(""));
		return;
	}
	server_reply(server, REPLY_READY_FOR_TLS, STR(""));
	server_wait(server, SMTP_WAITING_TLS);
	server->port->start_tls(server->ctx);
}

void smtp_server_tls_started(struct smtp_server *server, struct tls_info *tls)
{
	struct connection *connection = server->connection;

	ASSERT(server->waiting == SMTP_WAITING_TLS);
	connection_reset(connection, CONNECTION_RESET_TLS);
	connection->tls = tls;
	server_forget_held(server, POLICY_HELLO);
	server->offer = (struct smtp_offer){ 0 };
	server_move(server, SMTP_STATE_GREETED);
	server_wait(server, SMTP_WAITING_NOTHING);
	server_settle(server);
}
