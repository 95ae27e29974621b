/*
 * AUTH (RFC 4954): the exchange on the wire. What the responses mean is the service's business; here
 * they are lines of base64, and secrets that are wiped.
 *
 *   AUTH mechanism [initial-response]     "=" is an empty initial response
 *   334 challenge / response              "*" gives up
 */
#include <string.h>

#include "base/assert.h"
#include "base/base64.h"
#include "server_priv.h"

/* ---- What is kept of a line ------------------------------------------------------------------- */

#define VERB STR("AUTH")
#define MECHANISM_MAX 20 /* RFC 4422 section 3.1 */

/* A client that does not know yet that its exchange is over may still send the password. */
static bool is_left_over(const struct smtp_server *server, struct str line)
{
	struct smtp_command command;

	return server->auth_is_over &&
	       (smtp_command_parse(server_without_line_end(line), &command) != SMTP_LINE_FINE ||
		       verb_row_find(command.verb) == NULL);
}

/* "*" or base64, as lines of an exchange are. */
bool auth_is_response(const struct smtp_server *server, struct str line)
{
	if (!server->auth_is_over)
		return false;
	if (str_eq(line, STR("*")))
		return true;
	for (size_t i = 0; i < line.n; i++)
		if (!ascii_is_alnum(line.p[i]) && line.p[i] != '+' && line.p[i] != '/' &&
			line.p[i] != '=')
			return false;
	return true;
}

static bool begins_with_verb(struct str line)
{
	size_t blanks = 0;

	while (blanks < line.n && (line.p[blanks] == ' ' || line.p[blanks] == '\t'))
		blanks++;
	return str_starts_with_nocase(str_from_pos(line, blanks), VERB);
}

bool auth_is_secret(const struct smtp_server *server, struct str line)
{
	return server->in_auth || begins_with_verb(line) || is_left_over(server, line);
}

/* sasl-mech = 1*20mech-char; mech-char = UPPER-ALPHA / DIGIT / HYPHEN / UNDERSCORE */
static bool is_mechanism(struct str word)
{
	for (size_t i = 0; i < word.n; i++)
		if (!ascii_is_alpha(word.p[i]) && !ascii_is_digit(word.p[i]) && word.p[i] != '-' &&
			word.p[i] != '_')
			return false;
	return word.n > 0 && word.n <= MECHANISM_MAX;
}

/* "AUTH PLAIN ***", and "***" within an exchange. */
void auth_print_line(const struct smtp_server *server, struct str line, struct buf *out)
{
	struct str rest = str_from_pos(server_without_line_end(line), VERB.n);
	bool is_verb = rest.n > 0 && (rest.p[0] == ' ' || rest.p[0] == '\t');

	if (server->in_auth || !str_starts_with_nocase(line, VERB)) {
		buf_write(out, STR("***\r\n"));
		return;
	}
	buf_write(out, str_range(line, 0, VERB.n));
	rest = str_trim(rest);
	struct str after = rest;
	struct str mechanism = str_cut(&after, ' ');
	if (is_verb && is_mechanism(mechanism)) {
		buf_printf(out, " %.*s", STR_ARG(mechanism));
		rest = after;
	}
	buf_write(out, rest.n > 0 ? STR(" ***\r\n") : STR("\r\n"));
}

/* ---- The command ------------------------------------------------------------------------------ */

enum reply_id auth_misplaced(const struct smtp_server *server)
{
	return server->state == SMTP_STATE_GREETED ? REPLY_HELO_FIRST
						   : REPLY_TRANSACTION_IN_PROGRESS;
}

/* The compiler must not drop it, as it could a memset of what is not read again. */
static void wipe(char *secret, size_t size)
{
	explicit_bzero(secret, size);
}

struct verb_check auth_check(struct smtp_server *server, struct str argument)
{
	server->auth_is_over = true; /* until a known verb, or success */
	struct str rest = argument;
	struct str mechanism = str_cut(&rest, ' ');

	if (mechanism.n == 0 || mechanism.n >= sizeof(server->auth->word))
		return verb_wrong(REPLY_AUTH_SYNTAX, STR(""));
	if (server->connection->auth != NULL)
		return verb_wrong(REPLY_AUTH_ALREADY, STR(""));
	if (server->auth == NULL)
		server->auth = arena_alloc(&server->connection->arena, sizeof(*server->auth));
	if (server->auth == NULL)
		return verb_wrong(REPLY_AUTH_UNAVAILABLE, STR(""));
	/* Views of the input: `apply` follows at once, as AUTH has no stage of its own. */
	server->auth->mechanism = mechanism;
	server->auth->initial = rest;
	return verb_fine();
}

static void keep_mechanism(struct smtp_auth *auth)
{
	size_t n = str_copy_to(auth->mechanism, auth->word, sizeof(auth->word));

	for (size_t i = 0; i < n; i++)
		if (auth->word[i] >= 'a' && auth->word[i] <= 'z')
			auth->word[i] -= 'a' - 'A';
}

static void begin(struct smtp_server *server, const struct str *initial)
{
	static const enum reply_id refusals[] = {
		[SMTP_AUTH_NO_MECHANISM] = REPLY_AUTH_NO_MECHANISM,
		[SMTP_AUTH_NEEDS_TLS] = REPLY_AUTH_NEEDS_TLS,
		[SMTP_AUTH_NOT_HERE] = REPLY_NOT_IMPLEMENTED,
		[SMTP_AUTH_NOT_AVAILABLE] = REPLY_AUTH_UNAVAILABLE,
	};
	keep_mechanism(server->auth);
	enum smtp_auth_start start =
		server->port->auth_begin(server->ctx, server->auth->mechanism, initial);

	if (start == SMTP_AUTH_STARTED) {
		server->in_auth = true;
		server_wait(server, SMTP_WAITING_AUTH);
	} else if (start == SMTP_AUTH_NOT_AVAILABLE) {
		server_reply(server, refusals[start], STR("")); /* no mistake of the client's */
	} else {
		server_protocol_error(server, refusals[start], STR(""));
	}
}

/* Decodes into `out`; false when it is not base64. "=" is nothing at all. */
static bool decode(struct str text, char out[AUTH_LINE_MAX], struct str *bytes)
{
	size_t n = 0;

	if (!str_eq(text, STR("=")) && !base64_decode(text, out, AUTH_LINE_MAX, &n))
		return false;
	*bytes = str_make(out, n);
	return true;
}

void auth_apply(struct smtp_server *server)
{
	char secret[AUTH_LINE_MAX];
	struct str initial;

	if (server->auth->initial.n == 0)
		begin(server, NULL);
	else if (decode(server->auth->initial, secret, &initial))
		begin(server, &initial);
	else
		server_protocol_error(server, REPLY_AUTH_MALFORMED, STR(""));
	wipe(secret, sizeof(secret));
	server->auth->mechanism = server->auth->initial = STR("");
}

/* ---- The exchange ----------------------------------------------------------------------------- */

void auth_abandon(struct smtp_server *server)
{
	if (!server->in_auth)
		return;
	server->in_auth = false;
	server->port->auth_cancel(server->ctx);
}

void auth_give_up(struct smtp_server *server, enum reply_id reply)
{
	auth_abandon(server);
	server_protocol_error(server, reply, STR(""));
}

void auth_line(struct smtp_server *server, struct str line)
{
	char secret[AUTH_LINE_MAX];
	struct str response;

	if (str_eq(line, STR("*"))) {
		auth_give_up(server, REPLY_AUTH_CANCELLED);
	} else if (!decode(line, secret, &response)) {
		auth_give_up(server, REPLY_AUTH_MALFORMED);
	} else {
		server_wait(server, SMTP_WAITING_AUTH);
		server->port->auth_respond(server->ctx, response);
	}
	wipe(secret, sizeof(secret));
}

void smtp_server_auth_challenge(struct smtp_server *server, struct str challenge)
{
	struct buf *out = &server->connection->last_response;
	char text[AUTH_LINE_MAX];
	size_t n = 0;

	ASSERT(server->waiting == SMTP_WAITING_AUTH);
	server_wait(server, SMTP_WAITING_NOTHING);
	if (base64_encode(challenge, text, sizeof(text), &n)) {
		/* Longer than a reply line may be, where the mechanism wants it so. */
		buf_truncate(out, 0);
		buf_printf(out, "334 %.*s\r\n", (int)n, text);
		server->port->send(server->ctx, buf_view(out));
	} else {
		auth_give_up(server, REPLY_AUTH_UNAVAILABLE);
	}
	server_settle(server);
}

/* ---- Its end ---------------------------------------------------------------------------------- */

static void succeeded(struct smtp_server *server, struct str user)
{
	struct connection *connection = server->connection;
	struct auth_info *auth = arena_alloc(&connection->arena, sizeof(*auth));

	if (auth == NULL || !arena_str(&connection->arena, user, &auth->user) ||
		!arena_str(&connection->arena, str_from(server->auth->word), &auth->mechanism)) {
		server_reply(server, REPLY_AUTH_UNAVAILABLE, STR(""));
		return;
	}
	server->auth_is_over = false;
	connection->auth = auth;
	connection_grant_relaying(connection, RELAYING_BY_AUTH);
	server_reply(server, REPLY_AUTH_OK, STR(""));
}

static void failed(struct smtp_server *server, enum reply_id reply)
{
	server_reply(server, reply, STR(""));
	server->port->refused(server->ctx, POLICY_HELLO, server_last_line(server));
	if (++server->auth->failures >= server->settings->limits.auth_failures)
		server_close_with(server, REPLY_AUTH_TOO_OFTEN, ENDING_AUTH_FAILURES);
}

void smtp_server_auth_done(struct smtp_server *server, enum smtp_auth_end end, struct str user)
{
	static const enum reply_id replies[] = {
		[SMTP_AUTH_REFUSED] = REPLY_AUTH_FAILED,
		[SMTP_AUTH_MALFORMED] = REPLY_AUTH_MALFORMED,
		[SMTP_AUTH_UNAVAILABLE] = REPLY_AUTH_UNAVAILABLE,
		[SMTP_AUTH_EXPIRED] = REPLY_AUTH_EXPIRED,
	};

	ASSERT(server->waiting == SMTP_WAITING_AUTH);
	server->in_auth = false;
	server_wait(server, SMTP_WAITING_NOTHING);
	if (end == SMTP_AUTH_OK)
		succeeded(server, user);
	else if (end == SMTP_AUTH_UNAVAILABLE)
		server_reply(server, REPLY_AUTH_UNAVAILABLE, STR(""));
	else
		failed(server, replies[end]);
	server_settle(server);
}
