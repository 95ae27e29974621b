#include "backend/link_auth.h"

#include <stdlib.h>
#include <string.h>

#include "auth/auth.h"
#include "auth/sasl_client.h"
#include "auth/secret.h"
#include "base/assert.h"
#include "base/base64.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "link_priv.h"

/* Of the command with an initial response, without CR LF. */
#define COMMAND_MAX 510

/* ---- Lines ------------------------------------------------------------------------------------ */

static void put(struct buf *line, struct str text)
{
	bool fits = buf_write(line, text);

	ASSERT(fits);
}

bool link_auth_say(struct link *link, unsigned mechanism, const struct str *initial)
{
	char memory[COMMAND_MAX], text[COMMAND_MAX];
	struct buf line = buf_on(memory, sizeof(memory));
	size_t n = 0;
	bool is_said = true;

	put(&line, STR("AUTH "));
	put(&line, auth_mechanism_word(mechanism));
	if (initial != NULL) {
		is_said = base64_encode(*initial, text, buf_room(&line) - 1, &n);
		if (is_said)
			put(&line, STR(" "));
		if (is_said)
			put(&line, n > 0 ? str_make(text, n) : STR("="));
	}
	smtp_client_auth(&link->client, buf_view(&line));
	secret_wipe(memory, sizeof(memory));
	secret_wipe(text, sizeof(text));
	return is_said;
}

void link_auth_respond(struct link *link, struct str bytes)
{
	char line[SMTP_CLIENT_AUTH_MAX];
	size_t n;
	bool fits = base64_encode(bytes, line, sizeof(line), &n);

	ASSERT(fits);
	smtp_client_auth(&link->client, str_make(line, n));
	secret_wipe(line, n);
}

bool link_auth_challenge(
	const struct smtp_reply *reply, char out[LINK_AUTH_CHALLENGE_MAX], struct str *challenge)
{
	size_t n;

	if (reply->line_count != 1 || reply->was_cut ||
		!base64_decode(str_trim(reply->text), out, LINK_AUTH_CHALLENGE_MAX, &n))
		return false;
	*challenge = str_make(out, n);
	return true;
}

static void alarm_us(const struct link *link, int code, const char *why)
{
	LOG(BACKEND_BLAMES_US, log_text("uuid", link->connection ? link->connection->uuid : NULL),
		log_str("backend", link->backend->settings->name),
		log_text("server", link->server->name), log_text("step", "AUTH"),
		log_int("code", code), log_text("reply", why));
}

void link_auth_alarm(const struct link *link, int code)
{
	alarm_us(link, code, "(not shown: it may repeat credentials)");
}

/* ---- Our own credentials ------------------------------------------------------------------------ */

bool link_says_secrets(const struct link *link)
{
	return link->owner_authenticates || backend_auth_has(&link->backend->auth);
}

void link_auth_end(struct link *link)
{
	if (link->auth != NULL)
		sasl_client_end(link->auth);
	free(link->auth);
	link->auth = NULL;
}

/* It lies with us, or with who set us up: no server of ours is used without a line in the log. */
static void fail(struct link *link, const char *why)
{
	alarm_us(link, 0, why);
	link_auth_end(link);
	link_fail(link, LINK_REFUSED, why);
}

static void begin(struct link *link, unsigned mechanism)
{
	struct backend_auth *auth = &link->backend->auth;
	struct str initial;

	link_auth_end(link); /* of a connection before this one */
	link->auth = xcalloc(1, sizeof(*link->auth));
	sasl_client_begin(link->auth, mechanism, backend_auth_credentials(auth), &auth->ring);
	link->auth_initial_is_due = sasl_client_initial(link->auth, &initial);
	if (!link->auth_initial_is_due)
		link_auth_say(link, mechanism, NULL);
	else if (link_auth_say(link, mechanism, &initial))
		link->auth_initial_is_due = false;
}

void link_authenticate(struct link *link)
{
	const struct backend_auth *auth = &link->backend->auth;
	bool is_protected = backend_auth_is_protected(link->backend->settings, link->is_tls);
	unsigned mechanism;

	if (!link_says_secrets(link)) {
		link_ready(link);
		return;
	}
	if (!is_protected) {
		fail(link, "no AUTH without TLS");
		return;
	}
	if (link->owner_authenticates) {
		link_ready(link);
		return;
	}
	mechanism = backend_auth_choose(auth, link->client.capabilities.auth);
	if (mechanism == 0)
		fail(link, "none of our mechanisms offered");
	else
		begin(link, mechanism);
}

static void respond(struct link *link, const struct smtp_reply *reply)
{
	char memory[LINK_AUTH_CHALLENGE_MAX];
	struct str challenge, message;
	struct err err;

	if (!link_auth_challenge(reply, memory, &challenge)) {
		fail(link, "a challenge that is not base64");
	} else if (link->auth_initial_is_due) {
		/* Prepared already, but too long for the command. */
		link->auth_initial_is_due = false;
		message = sasl_client_said(link->auth);
		link_auth_respond(link, message);
	} else if (sasl_client_answer(link->auth, challenge, &message, &err) < 0) {
		fail(link, err.text);
	} else {
		link_auth_respond(link, message);
	}
}

static void accepted(struct link *link)
{
	struct err err;

	if (sasl_client_check(link->auth, &err) < 0) {
		fail(link, err.text);
		return;
	}
	link_auth_end(link);
	link_ready(link);
}

/* By XCLIENT it is the session of a client who has logged in (LOGIN): then it takes no AUTH, and needs
 * none. If it was about something else, MAIL is refused, and that is known as our fault. */
static bool is_somebodys(const struct link *link, const struct smtp_reply *reply)
{
	return reply->code == 503 && link->is_clients && link->connection->auth != NULL;
}

void link_auth_answered(struct link *link, const struct smtp_reply *reply)
{
	if (reply->code == 334) {
		respond(link, reply);
	} else if (is_somebodys(link, reply)) {
		link_auth_end(link);
		link_ready(link);
	} else if (reply->code == 235) {
		accepted(link);
	} else if (smtp_reply_class(reply) == 4) {
		link_auth_end(link);
		link_fail(link, LINK_REFUSED, "AUTH refused for now");
	} else {
		link_auth_alarm(link, reply->code);
		link_auth_end(link);
		link_fail(link, LINK_REFUSED, "AUTH refused");
	}
}
