#include "proto/xclient.h"

#include "base/assert.h"
#include "proto/smtp_params.h"
#include "proto/smtp_path.h"

#define VALUE_MAX 255 /* as xtext */
#define CRLF STR("\r\n")

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Of a command that is not the last these are left out; together they fit into one. */
#define LAST_OF_XCLIENT \
	(XCLIENT_ADDR | XCLIENT_PORT | XCLIENT_DESTADDR | XCLIENT_DESTPORT | XCLIENT_PROTO | \
		XCLIENT_LOGIN)

enum command { IN_XCLIENT = 1, IN_XFORWARD = 2, IN_BOTH = IN_XCLIENT | IN_XFORWARD };

/* ---- Values --------------------------------------------------------------------------------- */

/* Each writes a value; nothing, or false when it does not fit, means that there is none. */

static bool write_text(struct buf *out, struct str text)
{
	for (size_t i = 0; i < text.n; i++)
		if (ascii_is_control(text.p[i]))
			return false;
	return smtp_write_xtext(out, text);
}

/* Postfix refuses the whole command for a name that it does not take for one, "1.2.3.4" among them; but
 * a PTR record can hold anything. */
static bool write_host(struct buf *out, struct str host)
{
	bool is_numeric = true;

	for (size_t i = 0; i < host.n && is_numeric; i++)
		is_numeric = ascii_is_digit(host.p[i]) || host.p[i] == '.';
	return !is_numeric && smtp_is_host_name(host, false) && buf_write(out, host);
}

static bool write_address(struct buf *out, const struct endpoint *endpoint)
{
	char text[IPADDR_TEXT_MAX];

	if (endpoint == NULL)
		return false;
	return buf_write(out, ipaddr_is_v4(&endpoint->ip) ? STR("") : STR("IPV6:")) &&
	       buf_write(out, str_from(ipaddr_print(&endpoint->ip, text)));
}

static bool write_port(struct buf *out, const struct endpoint *endpoint)
{
	return endpoint != NULL && endpoint->port != 0 &&
	       buf_printf(out, "%u", (unsigned)endpoint->port);
}

static bool write_name(struct buf *out, const struct xclient_identity *identity)
{
	return write_host(out, identity->name);
}

static bool write_reverse_name(struct buf *out, const struct xclient_identity *identity)
{
	return write_host(out, identity->reverse_name);
}

static bool write_addr(struct buf *out, const struct xclient_identity *identity)
{
	return write_address(out, identity->address);
}

static bool write_addr_port(struct buf *out, const struct xclient_identity *identity)
{
	return write_port(out, identity->address);
}

static bool write_dest_addr(struct buf *out, const struct xclient_identity *identity)
{
	return write_address(out, identity->destination);
}

static bool write_dest_port(struct buf *out, const struct xclient_identity *identity)
{
	return write_port(out, identity->destination);
}

static bool write_proto(struct buf *out, const struct xclient_identity *identity)
{
	static const struct str words[] = {
		[XCLIENT_PROTOCOL_UNKNOWN] = STR_INIT(""),
		[XCLIENT_SMTP] = STR_INIT("SMTP"),
		[XCLIENT_ESMTP] = STR_INIT("ESMTP"),
	};

	return buf_write(out, words[identity->protocol]);
}

static bool write_helo(struct buf *out, const struct xclient_identity *identity)
{
	return write_text(out, identity->hello);
}

static bool write_login(struct buf *out, const struct xclient_identity *identity)
{
	return write_text(out, identity->login);
}

static bool write_session(struct buf *out, const struct xclient_identity *identity)
{
	return write_text(out, identity->session);
}

static bool write_ident(struct buf *out, const struct xclient_identity *identity)
{
	return write_text(out, identity->ident);
}

static bool write_source(struct buf *out, const struct xclient_identity *identity)
{
	static const struct str words[] = {
		[XCLIENT_SOURCE_UNKNOWN] = STR_INIT(""),
		[XCLIENT_LOCAL] = STR_INIT("LOCAL"),
		[XCLIENT_REMOTE] = STR_INIT("REMOTE"),
	};

	return buf_write(out, words[identity->source]);
}

/* ---- Attributes ----------------------------------------------------------------------------- */

struct row {
	struct str name;
	enum xclient_attribute attribute;
	enum command in;
	enum command has_unavailable; /* in which "[UNAVAILABLE]" may be said */
	bool (*write)(struct buf *out, const struct xclient_identity *identity);
};

/* In the order in which they are said: for Postfix NAME is the reverse name as well, so that
 * REVERSE_NAME must come behind it. */
static const struct row rows[] = {
	{ STR_INIT("NAME"), XCLIENT_NAME, IN_BOTH, IN_BOTH, write_name },
	{ STR_INIT("REVERSE_NAME"), XCLIENT_REVERSE_NAME, IN_XCLIENT, IN_XCLIENT,
		write_reverse_name },
	{ STR_INIT("ADDR"), XCLIENT_ADDR, IN_BOTH, IN_BOTH, write_addr },
	{ STR_INIT("PORT"), XCLIENT_PORT, IN_BOTH, IN_BOTH, write_addr_port },
	{ STR_INIT("DESTADDR"), XCLIENT_DESTADDR, IN_XCLIENT, IN_XCLIENT, write_dest_addr },
	{ STR_INIT("DESTPORT"), XCLIENT_DESTPORT, IN_XCLIENT, IN_XCLIENT, write_dest_port },
	{ STR_INIT("PROTO"), XCLIENT_PROTO, IN_BOTH, IN_XFORWARD, write_proto },
	{ STR_INIT("HELO"), XCLIENT_HELO, IN_BOTH, IN_BOTH, write_helo },
	{ STR_INIT("LOGIN"), XCLIENT_LOGIN, IN_XCLIENT, IN_XCLIENT, write_login },
	{ STR_INIT("SESSION"), XCLIENT_SESSION, IN_XCLIENT, 0, write_session },
	{ STR_INIT("IDENT"), XCLIENT_IDENT, IN_XFORWARD, IN_XFORWARD, write_ident },
	{ STR_INIT("SOURCE"), XCLIENT_SOURCE, IN_XFORWARD, IN_XFORWARD, write_source },
};

static unsigned parse_names(struct str text, enum command command)
{
	unsigned set = 0;

	while (text.n > 0) {
		struct str name = str_cut(&text, ' ');
		for (size_t i = 0; i < COUNT(rows); i++)
			if ((rows[i].in & command) && str_eq_nocase(name, rows[i].name))
				set |= rows[i].attribute;
	}
	return set;
}

unsigned xclient_attributes_parse(struct str text)
{
	return parse_names(text, IN_XCLIENT);
}

unsigned xforward_attributes_parse(struct str text)
{
	return parse_names(text, IN_XFORWARD);
}

/* ---- Printing ------------------------------------------------------------------------------- */

/* A name that may be known later; XFORWARD has no word for that. */
static bool is_temporary(
	const struct xclient_identity *identity, const struct row *row, enum command command)
{
	if (command == IN_XFORWARD)
		return false;
	return (row->attribute == XCLIENT_NAME && identity->name_failed) ||
	       (row->attribute == XCLIENT_REVERSE_NAME && identity->reverse_name_failed);
}

/* What stands behind "=", a view of `memory` or a word; empty: the attribute is not said. */
static struct str value_of(const struct xclient_identity *identity, const struct row *row,
	enum command command, char memory[VALUE_MAX])
{
	struct buf value = buf_on(memory, VALUE_MAX);

	if (row->write(&value, identity) && buf_used(&value) > 0)
		return buf_view(&value);
	if (is_temporary(identity, row, command))
		return STR("[TEMPUNAVAIL]");
	return row->has_unavailable & command ? STR("[UNAVAILABLE]") : STR("");
}

static bool write_attribute(struct buf *out, struct str name, struct str value)
{
	if (buf_room(out) < name.n + value.n + STR(" =").n + CRLF.n)
		return false;
	return buf_write(out, STR(" ")) && buf_write(out, name) && buf_write(out, STR("=")) &&
	       buf_write(out, value);
}

/* Writes those of `set` that fit, but for CR LF, and returns them; those without a value as well. */
static unsigned write_command(struct buf *out, const struct xclient_identity *identity,
	unsigned set, enum command command)
{
	BUF_MEMORY char memory[VALUE_MAX];
	unsigned written = 0;

	buf_write(out, command == IN_XCLIENT ? STR("XCLIENT") : STR("XFORWARD"));
	for (size_t i = 0; i < COUNT(rows); i++) {
		if (!(set & rows[i].attribute))
			continue;
		struct str value = value_of(identity, &rows[i], command, memory);
		if (value.n == 0 || write_attribute(out, rows[i].name, value))
			written |= rows[i].attribute;
	}
	return written;
}

unsigned xclient_attributes(const struct xclient_identity *identity, unsigned announced)
{
	BUF_MEMORY char memory[VALUE_MAX];
	unsigned set = 0;

	for (size_t i = 0; i < COUNT(rows); i++)
		if ((announced & rows[i].attribute) && (rows[i].in & IN_XCLIENT) &&
			value_of(identity, &rows[i], IN_XCLIENT, memory).n > 0)
			set |= rows[i].attribute;
	return set;
}

static void put_line(struct buf *out, struct buf *line)
{
	bool fits = buf_write(line, CRLF) && buf_write(out, buf_view(line));

	ASSERT(fits);
}

unsigned xclient_print(const struct xclient_identity *identity, unsigned due, struct buf *out)
{
	unsigned without_hello = due & ~(unsigned)XCLIENT_HELO;
	const unsigned tries[] = { due, without_hello, without_hello & ~(unsigned)LAST_OF_XCLIENT };
	BUF_MEMORY char memory[XCLIENT_LINE_MAX];
	struct buf line = buf_on(memory, sizeof(memory));
	unsigned written = write_command(&line, identity, tries[0], IN_XCLIENT);

	ASSERT(due != 0);
	for (size_t i = 1; i < COUNT(tries) && written != tries[i - 1]; i++) {
		buf_truncate(&line, 0);
		written = write_command(&line, identity, tries[i], IN_XCLIENT);
	}
	put_line(out, &line);
	return without_hello & ~written;
}

unsigned xforward_print(const struct xclient_identity *identity, unsigned due, struct buf *out)
{
	BUF_MEMORY char memory[XCLIENT_LINE_MAX];
	struct buf line = buf_on(memory, sizeof(memory));

	ASSERT(due != 0);
	unsigned written = write_command(&line, identity, due, IN_XFORWARD);
	put_line(out, &line);
	return due & ~written;
}
