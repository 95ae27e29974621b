#include "proto/received.h"

#include "base/assert.h"
#include "base/chars.h"
#include "base/idn.h"
#include "proto/smtp_path.h"

#define HELLO_SHOWN_MAX 64
#define WORD_MAX 64 /* of the TLS version and cipher */
#define ID_MAX 128

/* The last second of the year 9999: four digits are all that RFC 5322 section 3.3 knows. */
#define TIME_MAX 253402300799

static void put(struct buf *out, struct str text)
{
	bool done = buf_write(out, text);

	ASSERT(done);
}

/* ---- Cleaning: nothing foreign may end a line, a comment or the field ------------------- */

static void put_clean(struct buf *out, struct str text, size_t max)
{
	text = str_range(text, 0, max);
	while (text.n > 0) {
		size_t n = chars_span(CHARS_HARMLESS, text);
		put(out, str_range(text, 0, n));
		if (n < text.n)
			put(out, STR("?"));
		text = str_from_pos(text, n + 1);
	}
}

static struct str host_or(struct str name, struct str instead)
{
	return smtp_is_host_name(name, false) ? name : instead;
}

static bool needs_quoting(char c)
{
	switch (c) {
	case '"':
	case '\\':
	case '(':
	case ')':
	case '<':
	case '>':
	case ',':
	case ';':
	case ' ':
		return true;
	default:
		return false;
	}
}

/*
 * A recipient that can be shown without quoting: no quoted local part, and UTF-8 only where the
 * message is internationalised. Others are left out; `for` is optional.
 */
static bool is_plain_recipient(struct str address, bool smtputf8)
{
	if (address.n == 0 || address.n > SMTP_PATH_MAX)
		return false;
	for (size_t i = 0; i < address.n; i++)
		if (ascii_is_control(address.p[i]) || needs_quoting(address.p[i]))
			return false;
	return idn_is_ascii(address) || (smtputf8 && idn_is_utf8(address));
}

/* ---- Clauses, in the order of RFC 5321 section 4.4 -------------------------------------- */

static void put_from(const struct received *received, struct buf *out)
{
	struct str hello = received->hello;
	bool is_valid = smtp_is_host_name(hello, false) || smtp_is_address_literal(hello);
	char ip[IPADDR_TEXT_MAX];

	put(out, STR("Received: from "));
	put(out, is_valid ? hello : STR("unknown-helo"));
	put(out, STR(" ("));
	put(out, host_or(received->host, STR("unknown")));
	put(out, ipaddr_is_v4(&received->client) ? STR(" [") : STR(" [IPv6:"));
	put(out, str_from(ipaddr_print(&received->client, ip)));
	put(out, STR("])"));
	if (is_valid || hello.n == 0)
		return;
	put(out, STR("\r\n\t(it said "));
	put_clean(out, hello, HELLO_SHOWN_MAX);
	put(out, STR(")"));
}

static void put_tls(const struct received *received, struct buf *out)
{
	if (received->tls_version.n == 0)
		return;
	put(out, STR("\r\n\t(using "));
	put_clean(out, received->tls_version, WORD_MAX);
	if (received->tls_cipher.n > 0)
		put(out, STR(" with cipher "));
	put_clean(out, received->tls_cipher, WORD_MAX);
	put(out, received->tls_offloaded ? STR(" at balancer)") : STR(")"));
}

/*
 * RFC 3848: ESMTP, with S for TLS and A for authentication; RFC 6531 section 4.3 the same behind
 * "UTF8". There are no such words for a session that began with HELO.
 */
static void put_with(const struct received *received, struct buf *out)
{
	if (received->smtputf8)
		put(out, STR("UTF8SMTP"));
	else
		put(out, received->esmtp ? STR("ESMTP") : STR("SMTP"));
	if (!received->esmtp && !received->smtputf8)
		return;
	if (received->tls_version.n > 0)
		put(out, STR("S"));
	if (received->authenticated)
		put(out, STR("A"));
}

static void put_by(const struct received *received, struct buf *out)
{
	put(out, STR("\r\n\tby "));
	put(out, host_or(received->hostname, STR("localhost")));
	put(out, STR(" (gatepost) with "));
	put_with(received, out);
	put(out, STR(" id "));
	put_clean(out, received->id.n > 0 ? received->id : STR("unknown"), ID_MAX);
}

static void put_for(const struct received *received, struct buf *out)
{
	if (!is_plain_recipient(received->recipient, received->smtputf8)) {
		put(out, STR(";\r\n\t"));
		return;
	}
	put(out, STR("\r\n\tfor <"));
	put(out, received->recipient);
	put(out, STR(">; "));
}

static void put_number(struct buf *out, int number, unsigned width, struct str behind)
{
	bool done = buf_write_number(out, (uint64_t)number, width);

	ASSERT(done);
	put(out, behind);
}

/* date-time of RFC 5322 section 3.3; the names are English in any locale. */
static void print_date(time_t when, struct buf *out)
{
	static const char days[][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
	static const char months[][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug",
		"Sep", "Oct", "Nov", "Dec" };
	struct tm tm;

	bool is_known = gmtime_r(&when, &tm) != NULL;
	ASSERT(is_known);
	put(out, str_make(days[tm.tm_wday], 3));
	put(out, STR(", "));
	put_number(out, tm.tm_mday, 0, STR(" "));
	put(out, str_make(months[tm.tm_mon], 3));
	put(out, STR(" "));
	put_number(out, tm.tm_year + 1900, 0, STR(" "));
	put_number(out, tm.tm_hour, 2, STR(":"));
	put_number(out, tm.tm_min, 2, STR(":"));
	put_number(out, tm.tm_sec, 2, STR(" +0000\r\n"));
}

/* Printed once a second. */
static void put_date(time_t when, struct buf *out)
{
	static time_t printed = -1;
	static char memory[sizeof("Thu, 31 Dec 9999 23:59:59 +0000\r\n")];
	static size_t n;

	if (when < 0 || when > TIME_MAX)
		when = 0;
	if (when != printed) {
		struct buf date = buf_on(memory, sizeof(memory));
		print_date(when, &date);
		n = buf_used(&date);
		printed = when;
	}
	put(out, str_make(memory, n));
}

void received_print(const struct received *received, struct buf *out)
{
	put_from(received, out);
	put_tls(received, out);
	put_by(received, out);
	put_for(received, out);
	put_date(received->time, out);
}
