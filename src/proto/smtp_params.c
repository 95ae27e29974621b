#include "proto/smtp_params.h"

#include <inttypes.h>

#include "base/assert.h"
#include "base/idn.h"

/*
 * RFC 5321 section 4.1.2, RFC 6531 section 3.3:
 *
 *   Mail-parameters = esmtp-param *( SP esmtp-param )
 *   esmtp-param     = esmtp-keyword [ "=" esmtp-value ]
 *   esmtp-keyword   = ( ALPHA / DIGIT ) *( ALPHA / DIGIT / "-" )
 *   esmtp-value     = 1*( %d33-60 / %d62-126 / UTF8-non-ascii )
 */

#define SIZE_DIGITS_MAX 20
#define ENVID_MAX 100
#define ORCPT_MAX 500
#define AUTH_MAX 500

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum place { ON_MAIL = 1, ON_RCPT = 2 };

struct reader {
	enum place place;
	unsigned offered;
	unsigned seen; /* bit n: row n of the table was there */
	struct arena *arena;
	struct smtp_mail_params *mail;
	struct smtp_rcpt_params *rcpt;
};

/* Checks and stores one value; it is empty when the parameter has none. */
typedef enum smtp_params_fault set_fn(struct reader *reader, struct str value);

static set_fn set_size, set_body, set_smtputf8, set_ret, set_envid, set_auth, set_notify, set_orcpt;

static const struct param {
	struct str keyword;
	enum place place;
	unsigned extension;
	bool has_value;
	set_fn *set;
} params[] = {
	{ STR_INIT("SIZE"), ON_MAIL, SMTP_EXT_SIZE, true, set_size },
	{ STR_INIT("BODY"), ON_MAIL, SMTP_EXT_8BITMIME, true, set_body },
	{ STR_INIT("SMTPUTF8"), ON_MAIL, SMTP_EXT_SMTPUTF8, false, set_smtputf8 },
	{ STR_INIT("RET"), ON_MAIL, SMTP_EXT_DSN, true, set_ret },
	{ STR_INIT("ENVID"), ON_MAIL, SMTP_EXT_DSN, true, set_envid },
	{ STR_INIT("AUTH"), ON_MAIL, SMTP_EXT_AUTH, true, set_auth },
	{ STR_INIT("NOTIFY"), ON_RCPT, SMTP_EXT_DSN, true, set_notify },
	{ STR_INIT("ORCPT"), ON_RCPT, SMTP_EXT_DSN, true, set_orcpt },
};

/* ---- Values ----------------------------------------------------------------------------- */

static bool is_hex_digit(char c)
{
	return ascii_is_digit(c) || (c >= 'A' && c <= 'F');
}

static bool is_graphic(char c)
{
	return c > ' ' && c < 0x7f;
}

/*
 * RFC 3461 section 4:
 *   xtext   = *( xchar / hexchar )
 *   xchar   = any ASCII CHAR between "!" (33) and "~" (126) inclusive, except for "+" and "="
 *   hexchar = ASCII "+" immediately followed by two upper case hexadecimal digits
 */
bool smtp_is_xtext(struct str text)
{
	for (size_t i = 0; i < text.n; i++) {
		if (!is_graphic(text.p[i]) || text.p[i] == '=')
			return false;
		if (text.p[i] != '+')
			continue;
		if (text.n - i < 3 || !is_hex_digit(text.p[i + 1]) || !is_hex_digit(text.p[i + 2]))
			return false;
		i += 2;
	}
	return true;
}

bool smtp_write_xtext(struct buf *out, struct str text)
{
	size_t start = buf_used(out);
	bool done = true;

	for (size_t i = 0; i < text.n && done; i++) {
		char c = text.p[i];
		if (is_graphic(c) && c != '+' && c != '=')
			done = buf_write(out, str_make(&c, 1));
		else
			done = buf_printf(out, "+%02X", (unsigned)(unsigned char)c);
	}
	if (!done)
		buf_truncate(out, start);
	return done;
}

static enum smtp_params_fault keep(struct reader *reader, struct str value, struct str *place)
{
	return arena_str(reader->arena, value, place) ? SMTP_PARAMS_FINE : SMTP_PARAMS_NO_ROOM;
}

/* RFC 1870 section 4: size-value = 1*20DIGIT. Twenty digits can be more than 64 bits hold. */
static enum smtp_params_fault set_size(struct reader *reader, struct str value)
{
	if (value.n > SIZE_DIGITS_MAX)
		return SMTP_PARAMS_SYNTAX;
	for (size_t i = 0; i < value.n; i++)
		if (!ascii_is_digit(value.p[i]))
			return SMTP_PARAMS_SYNTAX;
	reader->mail->has_size = true;
	if (!str_to_u64(value, UINT64_MAX, &reader->mail->size))
		reader->mail->size = UINT64_MAX;
	return SMTP_PARAMS_FINE;
}

static enum smtp_params_fault set_body(struct reader *reader, struct str value)
{
	if (str_eq_nocase(value, STR("7BIT")))
		reader->mail->body = SMTP_BODY_7BIT;
	else if (str_eq_nocase(value, STR("8BITMIME")))
		reader->mail->body = SMTP_BODY_8BITMIME;
	else
		return SMTP_PARAMS_SYNTAX;
	return SMTP_PARAMS_FINE;
}

static enum smtp_params_fault set_smtputf8(struct reader *reader, struct str value)
{
	(void)value;
	reader->mail->smtputf8 = true;
	return SMTP_PARAMS_FINE;
}

static enum smtp_params_fault set_ret(struct reader *reader, struct str value)
{
	if (str_eq_nocase(value, STR("FULL")))
		reader->mail->ret = STR("FULL");
	else if (str_eq_nocase(value, STR("HDRS")))
		reader->mail->ret = STR("HDRS");
	else
		return SMTP_PARAMS_SYNTAX;
	return SMTP_PARAMS_FINE;
}

static enum smtp_params_fault set_envid(struct reader *reader, struct str value)
{
	if (value.n > ENVID_MAX || !smtp_is_xtext(value))
		return SMTP_PARAMS_SYNTAX;
	reader->mail->has_envid = true;
	return keep(reader, value, &reader->mail->envid);
}

/*
 * RFC 4954 section 5: whoever does not trust the client to say on whose behalf a message comes
 * acts as if AUTH=<> had been given. We never do; the backend gets nothing.
 */
static enum smtp_params_fault set_auth(struct reader *reader, struct str value)
{
	(void)reader;
	return value.n <= AUTH_MAX && smtp_is_xtext(value) ? SMTP_PARAMS_FINE : SMTP_PARAMS_SYNTAX;
}

/*
 * RFC 3461 section 4.1: "NEVER" / 1#( "SUCCESS" / "FAILURE" / "DELAY" ). A word said twice means
 * nothing more; refusing it bounds the value.
 */
static bool is_notify(struct str value)
{
	static const struct str words[] = {
		STR_INIT("SUCCESS"),
		STR_INIT("FAILURE"),
		STR_INIT("DELAY"),
	};
	unsigned seen = 0;

	if (str_eq_nocase(value, STR("NEVER")))
		return true;
	if (value.n == 0 || value.p[value.n - 1] == ',')
		return false;
	while (value.n > 0) {
		struct str word = str_cut(&value, ',');
		unsigned i = 0;
		while (i < COUNT(words) && !str_eq_nocase(word, words[i]))
			i++;
		if (i == COUNT(words) || (seen & 1u << i))
			return false;
		seen |= 1u << i;
	}
	return true;
}

static enum smtp_params_fault set_notify(struct reader *reader, struct str value)
{
	if (!is_notify(value))
		return SMTP_PARAMS_SYNTAX;
	return keep(reader, value, &reader->rcpt->notify);
}

/* addr-type = atom (RFC 3461 section 4.2); of its characters those that registered types use. */
static bool is_address_type(struct str type)
{
	for (size_t i = 0; i < type.n; i++)
		if (!ascii_is_alnum(type.p[i]) && type.p[i] != '-')
			return false;
	return type.n > 0;
}

/* RFC 6533 section 3: utf-8-addr-unitext, which may stand only where SMTPUTF8 is in use. */
static bool is_unitext(struct str text)
{
	for (size_t i = 0; i < text.n; i++)
		if (text.p[i] <= ' ' && (unsigned char)text.p[i] < 0x80)
			return false;
	return idn_is_utf8(text);
}

static bool is_orcpt_address(struct str type, struct str address, unsigned offered)
{
	if (address.n == 0)
		return false;
	if (smtp_is_xtext(address))
		return true;
	return (offered & SMTP_EXT_SMTPUTF8) && str_eq_nocase(type, STR("utf-8")) &&
	       !idn_is_ascii(address) && is_unitext(address);
}

static enum smtp_params_fault set_orcpt(struct reader *reader, struct str value)
{
	struct str address = value;
	struct str type = str_cut(&address, ';');

	if (value.n > ORCPT_MAX || !is_address_type(type) ||
		!is_orcpt_address(type, address, reader->offered))
		return SMTP_PARAMS_SYNTAX;
	return keep(reader, value, &reader->rcpt->orcpt);
}

/* ---- The list --------------------------------------------------------------------------- */

static bool is_keyword(struct str word)
{
	if (word.n == 0 || !ascii_is_alnum(word.p[0]))
		return false;
	for (size_t i = 0; i < word.n; i++)
		if (!ascii_is_alnum(word.p[i]) && word.p[i] != '-')
			return false;
	return true;
}

/* esmtp-value; bytes of UTF-8 are left to the parameters that allow them. */
static bool is_value(struct str value)
{
	for (size_t i = 0; i < value.n; i++)
		if (ascii_is_control(value.p[i]) || value.p[i] == ' ' || value.p[i] == '=')
			return false;
	return value.n > 0;
}

static const struct param *find(enum place place, struct str keyword)
{
	for (size_t i = 0; i < COUNT(params); i++)
		if (params[i].place == place && str_eq_nocase(keyword, params[i].keyword))
			return &params[i];
	return NULL;
}

static enum smtp_params_fault read_one(struct reader *reader, struct str text)
{
	struct str value = text;
	struct str keyword = str_cut(&value, '=');
	bool has_value = keyword.n < text.n;

	if (!is_keyword(keyword) || (has_value && !is_value(value)))
		return SMTP_PARAMS_SYNTAX;
	const struct param *param = find(reader->place, keyword);
	if (!param || !(reader->offered & param->extension))
		return SMTP_PARAMS_UNSUPPORTED;
	unsigned bit = 1u << (param - params);
	if (reader->seen & bit)
		return SMTP_PARAMS_DUPLICATE;
	reader->seen |= bit;
	if (has_value != param->has_value)
		return SMTP_PARAMS_SYNTAX;
	return param->set(reader, value);
}

/* More than one space between parameters is let pass: they are printed anew anyway. */
static enum smtp_params_fault read_all(struct reader *reader, struct str text, struct str *bad)
{
	*bad = STR("");
	if (text.n > 0 && text.p[0] != ' ') {
		*bad = str_cut(&text, ' ');
		return SMTP_PARAMS_SYNTAX;
	}
	while (text.n > 0) {
		struct str one = str_cut(&text, ' ');
		if (one.n == 0)
			continue;
		enum smtp_params_fault fault = read_one(reader, one);
		if (fault != SMTP_PARAMS_FINE) {
			*bad = one;
			return fault;
		}
	}
	return SMTP_PARAMS_FINE;
}

enum smtp_params_fault smtp_params_parse_mail(struct str text, unsigned offered,
	struct arena *arena, struct smtp_mail_params *mail, struct str *bad)
{
	struct reader reader = {
		.place = ON_MAIL,
		.offered = offered,
		.arena = arena,
		.mail = mail,
	};

	*mail = (struct smtp_mail_params){ .body = SMTP_BODY_ABSENT };
	return read_all(&reader, text, bad);
}

enum smtp_params_fault smtp_params_parse_rcpt(struct str text, unsigned offered,
	struct arena *arena, struct smtp_rcpt_params *rcpt, struct str *bad)
{
	struct reader reader = {
		.place = ON_RCPT,
		.offered = offered,
		.arena = arena,
		.rcpt = rcpt,
	};

	*rcpt = (struct smtp_rcpt_params){ .notify = STR("") };
	return read_all(&reader, text, bad);
}

/* ---- Printing --------------------------------------------------------------------------- */

static void put(struct buf *out, struct str keyword, struct str value)
{
	bool done = buf_write(out, STR(" ")) && buf_write(out, keyword);

	if (value.n > 0)
		done = done && buf_write(out, STR("=")) && buf_write(out, value);
	ASSERT(done);
}

static void put_size(struct buf *out, uint64_t size)
{
	bool done = buf_printf(out, " SIZE=%" PRIu64, size);

	ASSERT(done);
}

static struct str body_word(enum smtp_body body)
{
	return body == SMTP_BODY_7BIT ? STR("7BIT") : STR("8BITMIME");
}

void smtp_params_print_mail(const struct smtp_mail_params *mail, unsigned offered, struct buf *out)
{
	if (mail->has_size && (offered & SMTP_EXT_SIZE))
		put_size(out, mail->size);
	if (mail->body != SMTP_BODY_ABSENT && (offered & SMTP_EXT_8BITMIME))
		put(out, STR("BODY"), body_word(mail->body));
	if (mail->smtputf8 && (offered & SMTP_EXT_SMTPUTF8))
		put(out, STR("SMTPUTF8"), STR(""));
	if (mail->ret.n > 0 && (offered & SMTP_EXT_DSN))
		put(out, STR("RET"), mail->ret);
	if (mail->has_envid && (offered & SMTP_EXT_DSN))
		put(out, STR("ENVID"), mail->envid);
}

void smtp_params_print_rcpt(const struct smtp_rcpt_params *rcpt, unsigned offered, struct buf *out)
{
	if (!(offered & SMTP_EXT_DSN))
		return;
	if (rcpt->notify.n > 0)
		put(out, STR("NOTIFY"), rcpt->notify);
	if (rcpt->orcpt.n > 0)
		put(out, STR("ORCPT"), rcpt->orcpt);
}
