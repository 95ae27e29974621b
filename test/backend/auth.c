#include "auth.h"

#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/xalloc.h"
#include "scram.h"

#define LINE_MAX_BYTES 12288 /* RFC 4954 section 4, with its line end */

struct mechanism;

struct auth {
	const struct mechanism *mechanism;
	unsigned step;
	struct buf user;
	struct buf challenge;
	struct scram scram;
};

/* One step: an answer of the client in, 334 with auth->challenge out, or how it ends. */
struct mechanism {
	const char *name;
	const char *greeting; /* the challenge when there is no initial response */
	struct reply (*take)(struct session *s, struct auth *auth, struct str response);
};

#define GO_ON REPLY(334, NULL, "")
#define WELCOME REPLY(235, "2.7.0", "Welcome")
#define REFUSED REPLY(535, "5.7.8", "Not those credentials")

void auth_free(struct auth **auth)
{
	if (!*auth)
		return;
	scram_free(&(*auth)->scram);
	buf_free(&(*auth)->user);
	buf_free(&(*auth)->challenge);
	free(*auth);
	*auth = NULL;
}

/* ---- Mechanisms --------------------------------------------------------------------------------- */

/* Of --auth USER:PASSWORD. */
static struct str wanted_password(const struct session *s, struct str *user)
{
	struct str password = str_from(s->backend->options.auth);

	*user = str_cut(&password, ':');
	return password;
}

static struct reply judge(struct session *s, struct auth *auth, struct str password)
{
	struct str user, wanted = wanted_password(s, &user);

	return str_eq(buf_view(&auth->user), user) && str_eq(password, wanted) ? WELCOME : REFUSED;
}

/* [authzid] NUL authcid NUL passwd, RFC 4616 */
static struct reply take_plain(struct session *s, struct auth *auth, struct str response)
{
	struct str rest = response;
	struct str authzid = str_cut(&rest, '\0');
	struct str user = str_cut(&rest, '\0');

	buf_write(&auth->user, user);
	if (authzid.n && !str_eq(authzid, user))
		return REFUSED;
	return judge(s, auth, rest);
}

static struct reply take_login(struct session *s, struct auth *auth, struct str response)
{
	if (auth->step == 1)
		return judge(s, auth, response);
	buf_write(&auth->user, response);
	buf_write(&auth->challenge, STR("Password:"));
	return GO_ON;
}

/* Three answers: first and final message, and an empty one for the server's proof. */
static struct reply take_scram(struct session *s, struct auth *auth, struct str response)
{
	struct scram *scram = &auth->scram;
	struct str user, password = wanted_password(s, &user);

	if (auth->step == 2)
		return response.n == 0 ? WELCOME : REFUSED;
	if (auth->step == 0) {
		bool is_begun = scram_begin(scram, response, &auth->challenge);
		buf_write(&auth->user, buf_view(&scram->user));
		return is_begun ? GO_ON : REFUSED;
	}
	bool is_right = scram_end(scram, response, password, &auth->challenge);
	return is_right && str_eq(buf_view(&auth->user), user) ? GO_ON : REFUSED;
}

static const struct mechanism mechanisms[] = {
	{ "PLAIN", "", take_plain },
	{ "LOGIN", "Username:", take_login },
	{ "SCRAM-SHA-256", "", take_scram },
};

static const struct mechanism *find_mechanism(const struct session *s, struct str name)
{
	struct str offered = backend_extension(s->backend, STR("AUTH"));
	bool is_offered = false;

	while (offered.n > 0 && !is_offered)
		is_offered = str_eq_nocase(str_cut(&offered, ' '), name);
	for (size_t i = 0; i < sizeof(mechanisms) / sizeof(mechanisms[0]); i++)
		if (is_offered && str_eq_nocase(name, str_from(mechanisms[i].name)))
			return &mechanisms[i];
	return NULL;
}

/* ---- The exchange ------------------------------------------------------------------------------- */

/* The text of a 334: good until the next call. */
static const char *encode_challenge(struct auth *auth)
{
	static char text[BASE64_SIZE(SCRAM_TEXT_MAX) + 1];
	size_t n = 0;

	base64_encode(buf_view(&auth->challenge), text, sizeof(text) - 1, &n);
	text[n] = '\0';
	buf_consume(&auth->challenge, buf_used(&auth->challenge));
	return text;
}

static void end(struct session *s, const char *outcome)
{
	record_auth(&s->backend->record, s->id, s->auth->mechanism->name, buf_view(&s->auth->user),
		outcome);
	auth_free(&s->auth);
	s->phase = PHASE_COMMAND;
}

/* Answers, and goes on or ends as the answer says, if no fault takes it back. */
static void settle(struct session *s, struct reply reply)
{
	struct fault_choice choice = session_choose(s, AT_AUTH);
	bool is_granted = fault_grants(choice.fault, reply.code);

	if (reply.code == 334) {
		reply.text = encode_challenge(s->auth);
		s->phase = PHASE_AUTH;
	}
	if (!is_granted) {
		end(s, "fault");
	} else if (reply.code == 235) {
		identity_authenticate(
			&s->identity, s->auth->mechanism->name, buf_view(&s->auth->user));
		end(s, "ok");
	} else if (reply.code != 334) {
		end(s, reply.code == 535 ? "refused" : "malformed");
	}
	session_answer(s, AT_AUTH, choice, reply);
}

static void take_response(struct session *s, struct str text)
{
	char response[LINE_MAX_BYTES];
	size_t n;

	if (!base64_decode(text, response, sizeof(response), &n)) {
		settle(s, REPLY(501, "5.5.2", "Not base64"));
		return;
	}
	struct reply reply = s->auth->mechanism->take(s, s->auth, str_make(response, n));
	s->auth->step++;
	settle(s, reply);
}

struct reply auth_check(struct session *s, struct command *command)
{
	struct str response = command->args;
	const struct mechanism *mechanism = find_mechanism(s, str_cut(&response, ' '));

	s->seen[AT_AUTH] = 0;
	if (!s->has_hello || !s->is_esmtp)
		return REPLY(503, "5.5.1", "EHLO first");
	if (s->tx.is_open || s->identity.mechanism)
		return REPLY(503, "5.5.1", "Not now");
	if (!mechanism)
		return REPLY(504, "5.5.4", "No such mechanism");
	s->auth = xcalloc(1, sizeof(*s->auth));
	s->auth->mechanism = mechanism;
	buf_init(&s->auth->user, LINE_MAX_BYTES);
	buf_init(&s->auth->challenge, SCRAM_TEXT_MAX);
	scram_init(&s->auth->scram);
	if (response.n) {
		take_response(s, str_eq(response, STR("=")) ? STR("") : response);
	} else {
		buf_write(&s->auth->challenge, str_from(mechanism->greeting));
		settle(s, GO_ON);
	}
	return (struct reply){ 0 };
}

size_t auth_take(struct session *s, struct str input)
{
	const char *at = memmem(input.p, input.n, "\r\n", 2);
	size_t length = at ? (size_t)(at - input.p) + 2 : 0;

	if (length > LINE_MAX_BYTES || (length == 0 && input.n > LINE_MAX_BYTES)) {
		s->is_closing = true;
		s->how = "line-too-long";
		settle(s, REPLY(500, "5.5.6", "Line too long"));
		return input.n;
	}
	if (length == 0)
		return 0;
	if (length < input.n)
		record_violation(&s->backend->record, s->id, "AUTH");
	struct str line = str_range(input, 0, length - 2);
	if (str_eq(line, STR("*"))) {
		end(s, "cancelled");
		session_answer(
			s, AT_AUTH, session_choose(s, AT_AUTH), REPLY(501, "5.7.0", "As you wish"));
	} else {
		take_response(s, line);
	}
	return length;
}

size_t auth_visible(struct str line)
{
	struct str rest = line;

	if (!str_eq_nocase(str_cut(&rest, ' '), STR("AUTH")))
		return line.n;
	str_cut(&rest, ' ');
	return rest.n ? (size_t)(rest.p - line.p) - 1 : line.n;
}
