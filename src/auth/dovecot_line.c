#include "dovecot_line_priv.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/base64.h"

#define ESCAPE '\001'

/* ---- Writing -------------------------------------------------------------------------------- */

/* One byte is kept for the line end. */
static size_t room(const struct dovecot_line *line)
{
	return sizeof(line->bytes) - 1 - line->n;
}

static void put(struct dovecot_line *line, struct str s)
{
	if (s.n > room(line)) {
		line->is_too_long = true;
		return;
	}
	if (s.n > 0)
		memcpy(line->bytes + line->n, s.p, s.n);
	line->n += s.n;
}

/* What stands behind the escape for this byte; 0: it stands for itself. */
static char escaped(char c)
{
	switch (c) {
	case '\0':
		return '0';
	case ESCAPE:
		return '1';
	case '\t':
		return 't';
	case '\r':
		return 'r';
	case '\n':
		return 'l';
	default:
		return 0;
	}
}

static void put_escaped(struct dovecot_line *line, struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char pair[2] = { ESCAPE, escaped(s.p[i]) };
		put(line, pair[1] != 0 ? str_make(pair, 2) : str_range(s, i, i + 1));
	}
}

void dovecot_line_begin(struct dovecot_line *line, const char *command)
{
	line->n = 0;
	line->is_too_long = false;
	put(line, str_from(command));
}

void dovecot_line_add(struct dovecot_line *line, const char *key, struct str value)
{
	put(line, STR("\t"));
	put(line, str_from(key));
	put_escaped(line, value);
}

void dovecot_line_add_number(struct dovecot_line *line, const char *key, unsigned long value)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%lu", value);
	dovecot_line_add(line, key, str_from(digits));
}

void dovecot_line_add_base64(struct dovecot_line *line, const char *key, struct str bytes)
{
	size_t n;

	dovecot_line_add(line, key, str_make("", 0));
	if (bytes.n > BASE64_BYTES_MAX ||
		!base64_encode(bytes, line->bytes + line->n, room(line), &n)) {
		line->is_too_long = true;
		return;
	}
	line->n += n;
}

struct str dovecot_line_end(struct dovecot_line *line)
{
	ASSERT(line->n < sizeof(line->bytes));
	line->bytes[line->n] = '\n';
	return str_make(line->bytes, line->n + 1);
}

static void add_endpoint(struct dovecot_line *line, const char *ip_key, const char *port_key,
	const struct endpoint *endpoint)
{
	char text[IPADDR_TEXT_MAX];

	if (ipaddr_is_unspecified(&endpoint->ip))
		return;
	dovecot_line_add(line, ip_key, str_from(ipaddr_print(&endpoint->ip, text)));
	dovecot_line_add_number(line, port_key, endpoint->port);
}

void dovecot_line_auth(struct dovecot_line *line, unsigned long id, unsigned mechanism,
	const struct auth_client *client, const struct str *initial)
{
	dovecot_line_begin(line, "AUTH");
	dovecot_line_add_number(line, "", id);
	dovecot_line_add(line, "", auth_mechanism_word(mechanism));
	dovecot_line_add(line, "service=", STR("smtp"));
	dovecot_line_add(line, "nologin", str_make("", 0));
	/* Else the server's signature comes before the server says whose it is. */
	if (mechanism == AUTH_SCRAM_SHA_256)
		dovecot_line_add(line, "final-resp-ok", str_make("", 0));
	if (client->is_tls)
		dovecot_line_add(line, "secured=", STR("tls"));
	if (client->session.n > 0)
		dovecot_line_add(line, "session=", client->session);
	add_endpoint(line, "lip=", "lport=", &client->local);
	add_endpoint(line, "rip=", "rport=", &client->remote);
	if (client->tls_sni.n > 0)
		dovecot_line_add(line, "local_name=", client->tls_sni);
	if (initial != NULL)
		dovecot_line_add_base64(line, "resp=", *initial);
}

/* ---- Reading -------------------------------------------------------------------------------- */

static char unescaped(char c)
{
	switch (c) {
	case '0':
		return '\0';
	case '1':
		return ESCAPE;
	case 't':
		return '\t';
	case 'r':
		return '\r';
	case 'l':
		return '\n';
	default:
		return c;
	}
}

bool dovecot_unescape(struct str value, char *out, size_t max, size_t *n)
{
	size_t length = 0;

	for (size_t i = 0; i < value.n; i++) {
		bool is_escape = value.p[i] == ESCAPE;
		if (length == max || (is_escape && i + 1 == value.n))
			return false;
		out[length++] = is_escape ? unescaped(value.p[++i]) : value.p[i];
	}
	*n = length;
	return true;
}

bool dovecot_parameter(struct str fields, struct str name, struct str *value)
{
	while (fields.n > 0) {
		struct str field = str_cut(&fields, '\t');
		struct str key = str_cut(&field, '=');
		if (str_eq(key, name)) {
			*value = field;
			return true;
		}
	}
	return false;
}
