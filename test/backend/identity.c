#include "identity.h"

#include <arpa/inet.h>
#include <string.h>

#include "verbs.h"

#define COMMAND_MAX 512 /* with its line end */
#define PROTO_MAX 64

void identity_init(struct identity *identity)
{
	*identity = (struct identity){ 0 };
	buf_init(&identity->xclient, IDENTITY_TEXT_MAX);
	buf_init(&identity->user, IDENTITY_TEXT_MAX);
}

void identity_free(struct identity *identity)
{
	buf_free(&identity->xclient);
	buf_free(&identity->user);
	identity_init(identity);
}

void identity_authenticate(struct identity *identity, const char *mechanism, struct str user)
{
	buf_free(&identity->user);
	buf_write(&identity->user, user);
	identity->mechanism = mechanism;
}

/* ---- Attributes ------------------------------------------------------------------------------- */

bool identity_next(struct str *list, struct str *name, struct str *value)
{
	*list = str_trim(*list);
	if (str_is_empty(*list))
		return false;
	*value = str_cut(list, ' ');
	*name = str_cut(value, '=');
	return true;
}

static int upper_hex_digit(char c)
{
	if (ascii_is_digit(c))
		return c - '0';
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* xtext = *( xchar / "+" 2HEXDIG ), xchar = "!" to "~" but "+" and "=" */
bool identity_decode(struct str text, char *out, size_t max, size_t *n)
{
	*n = 0;
	for (size_t i = 0; i < text.n; i++) {
		char c = text.p[i];
		if (c < '!' || c > '~' || c == '=' || *n == max)
			return false;
		if (c == '+') {
			int high = i + 2 < text.n ? upper_hex_digit(text.p[i + 1]) : -1;
			int low = high < 0 ? -1 : upper_hex_digit(text.p[i + 2]);
			if (low < 0)
				return false;
			c = (char)(high * 16 + low);
			i += 2;
		}
		out[(*n)++] = c;
	}
	return true;
}

static bool is_text(struct str value)
{
	return value.n > 0;
}

static bool is_address(struct str value)
{
	bool is_v6 = str_starts_with_nocase(value, STR("IPV6:"));
	struct str ip = is_v6 ? str_from_pos(value, 5) : value;
	char text[64];
	unsigned char bytes[16];

	if (ip.n >= sizeof(text) || memchr(ip.p, '\0', ip.n))
		return false;
	str_copy_to(ip, text, sizeof(text));
	return inet_pton(is_v6 ? AF_INET6 : AF_INET, text, bytes) == 1;
}

static bool is_port(struct str value)
{
	uint64_t port;

	return str_to_u64(value, 65535, &port);
}

static bool is_protocol(struct str value)
{
	return str_eq_nocase(value, STR("SMTP")) || str_eq_nocase(value, STR("ESMTP"));
}

static bool is_any_protocol(struct str value)
{
	return value.n > 0 && value.n <= PROTO_MAX;
}

static bool is_source(struct str value)
{
	return str_eq_nocase(value, STR("LOCAL")) || str_eq_nocase(value, STR("REMOTE"));
}

struct attribute {
	struct str name;
	bool (*is_good)(struct str value);
	const char *complaint;
};

/* A name that is announced and not here may have any value. */
static const struct attribute xclient_attributes[] = {
	{ STR_INIT("ADDR"), is_address, "Bad ADDR syntax" },
	{ STR_INIT("PORT"), is_port, "Bad PORT syntax" },
	{ STR_INIT("DESTADDR"), is_address, "Bad DESTADDR syntax" },
	{ STR_INIT("DESTPORT"), is_port, "Bad DESTPORT syntax" },
	{ STR_INIT("PROTO"), is_protocol, "Bad PROTO syntax" },
	{ { 0 }, is_text, "Empty value" },
};

static const struct attribute xforward_attributes[] = {
	{ STR_INIT("ADDR"), is_address, "Bad ADDR syntax" },
	{ STR_INIT("PORT"), is_port, "Bad PORT syntax" },
	{ STR_INIT("PROTO"), is_any_protocol, "Bad PROTO syntax" },
	{ STR_INIT("SOURCE"), is_source, "Bad SOURCE syntax" },
	{ { 0 }, is_text, "Empty value" },
};

static bool is_announced(struct str announced, struct str name)
{
	while (announced.n > 0)
		if (str_eq_nocase(str_cut(&announced, ' '), name))
			return true;
	return false;
}

static struct reply check_value(const struct attribute *known, struct str name, struct str text)
{
	char value[IDENTITY_VALUE_MAX];
	size_t n;

	if (!identity_decode(text, value, sizeof(value), &n))
		return REPLY(501, "5.5.4", "Bad attribute value syntax");
	while (known->name.n && !str_eq_nocase(known->name, name))
		known++;
	if (str_eq_nocase(str_make(value, n), STR("[UNAVAILABLE]")))
		return OK;
	return known->is_good(str_make(value, n)) ? OK : REPLY(501, "5.5.4", known->complaint);
}

static struct reply check_attributes(struct session *s, const struct command *command,
	const struct attribute *known, struct str keyword)
{
	struct str announced = backend_extension(s->backend, keyword);
	struct str list = command->args, name, value;
	struct reply reply = OK;

	if (str_is_empty(list))
		return REPLY(501, "5.5.4", "At least one attribute is needed");
	if (command->line.n + 2 > COMMAND_MAX)
		record_violation(&s->backend->record, s->id, "more than 512 bytes of attributes");
	while (reply.code == 250 && identity_next(&list, &name, &value))
		reply = is_announced(announced, name) ? check_value(known, name, value)
						      : REPLY(501, "5.5.4", "Bad attribute name");
	return reply;
}

static struct str find_attribute(struct str list, struct str wanted)
{
	struct str name, value;

	while (identity_next(&list, &name, &value))
		if (str_eq_nocase(name, wanted))
			return value;
	return STR("");
}

/* ---- XCLIENT ---------------------------------------------------------------------------------- */

struct reply identity_check_xclient(struct session *s, struct command *command)
{
	if (s->tx.is_open)
		return REPLY(503, "5.5.1", "Not inside a transaction");
	if (s->identity.is_claimed && !s->backend->options.takes_xclient_again)
		return REPLY(550, "5.7.0", "Not authorised");
	struct reply reply = check_attributes(s, command, xclient_attributes, STR("XCLIENT"));
	return reply.code == 250 ? verbs_banner(s) : reply;
}

void identity_apply_xclient(struct session *s, const struct command *command)
{
	struct str login = find_attribute(command->args, STR("LOGIN"));
	char user[IDENTITY_VALUE_MAX];
	size_t n;

	bool is_claimed = s->identity.is_claimed;
	identity_free(&s->identity);
	transaction_reset(&s->tx);
	s->has_hello = s->is_esmtp = false;
	s->identity.is_claimed = is_claimed || find_attribute(command->args, STR("ADDR")).n > 0;
	buf_write(&s->identity.xclient, command->args);
	if (login.n && !str_eq_nocase(login, STR("[UNAVAILABLE]")) &&
		identity_decode(login, user, sizeof(user), &n))
		identity_authenticate(&s->identity, "XCLIENT", str_make(user, n));
	record_xclient(&s->backend->record, s->id, command->args);
}

/* ---- XFORWARD --------------------------------------------------------------------------------- */

struct reply identity_check_xforward(struct session *s, struct command *command)
{
	if (s->tx.is_open)
		return REPLY(503, "5.5.1", "Not inside a transaction");
	return check_attributes(s, command, xforward_attributes, STR("XFORWARD"));
}

/* Adds to what is known of the transaction that will begin. */
void identity_apply_xforward(struct session *s, const struct command *command)
{
	transaction_xforward(&s->tx, command->args);
}
