#include "proto/proxy.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "proxy_priv.h"

/* ---- Which version ----------------------------------------------------------------------- */

/*
 * What a v1 line may begin with, and its greatest length with CR LF. For the two TCP words the
 * space is part of the beginning; behind UNKNOWN the line may end at once.
 */
static const struct v1_form {
	struct str begin;
	enum proxy_family family;
	size_t line_max;
} v1_forms[] = {
	{ STR_INIT("PROXY TCP4 "), PROXY_FAMILY_TCP4, 56 },
	{ STR_INIT("PROXY TCP6 "), PROXY_FAMILY_TCP6, 104 },
	{ STR_INIT("PROXY UNKNOWN"), PROXY_FAMILY_UNKNOWN, PROXY_V1_MAX },
};

/* 1: `bytes` begin with `literal`; 0: they end inside it and agree so far; -1: they differ. */
static int match(struct str bytes, struct str literal)
{
	if (str_starts_with(bytes, literal))
		return 1;
	return str_starts_with(literal, bytes) ? 0 : -1;
}

static int find_form(struct str bytes, const struct v1_form **form)
{
	int best = -1;

	for (size_t i = 0; i < sizeof(v1_forms) / sizeof(*v1_forms) && best != 1; i++) {
		int rc = match(bytes, v1_forms[i].begin);

		if (rc > best) {
			best = rc;
			*form = &v1_forms[i];
		}
	}
	return best;
}

bool proxy_looks_like_header(struct str bytes)
{
	const struct v1_form *form;

	if (bytes.n == 0)
		return false;
	return match(bytes, STR(PROXY_V2_SIGNATURE)) >= 0 || find_form(bytes, &form) >= 0;
}

/* ---- Version 1 --------------------------------------------------------------------------- */

/*
 * proxy-protocol.txt section 2.1:
 *
 *   line    = "PROXY" SP ("TCP4" / "TCP6") SP source SP destination SP port SP port CRLF
 *           / "PROXY" SP "UNKNOWN" [SP *anything] CRLF
 *
 * One space each, no leading zeros in ports and IPv4 numbers. The grammar does not mention the
 * dotted tail of IPv6 texts, but HAProxy sends ::ffff:192.0.2.1 when the families are mixed.
 *
 * A field is judged when the byte behind it is there, or as soon as it has an impossible byte
 * or is too long. So what was refused once stays refused, however much follows.
 */
struct v1_field {
	struct str alphabet;
	size_t max;
	enum proxy_error error;
};

static const struct v1_field field_v4 = { STR_INIT("0123456789."), 15, PROXY_ERROR_V1_ADDRESS };
/* 45: eight groups of which the last two are dotted. */
static const struct v1_field field_v6 = { STR_INIT("0123456789abcdefABCDEF:."), 45,
	PROXY_ERROR_V1_ADDRESS };
static const struct v1_field field_port = { STR_INIT("0123456789"), 5, PROXY_ERROR_V1_PORT };

static size_t span(struct str s, struct str alphabet)
{
	size_t n = 0;

	while (n < s.n && str_find(alphabet, s.p[n]) < alphabet.n)
		n++;
	return n;
}

/* Takes a field and the byte `end` behind it off *rest. */
static int take_field(struct str *rest, const struct v1_field *field, char end, struct str *text,
	enum proxy_error *error)
{
	size_t n = span(*rest, field->alphabet);

	if (n > field->max)
		return proxy_refuse(error, field->error);
	if (n == rest->n)
		return 0;
	if (rest->p[n] != end) {
		bool ends_line = rest->p[n] == '\r' || rest->p[n] == '\n';
		return proxy_refuse(error, ends_line ? PROXY_ERROR_V1_END : field->error);
	}
	*text = str_range(*rest, 0, n);
	*rest = str_from_pos(*rest, n + 1);
	return 1;
}

static int take_address(
	struct str *rest, enum proxy_family family, struct ipaddr *ip, enum proxy_error *error)
{
	bool is_v6 = family == PROXY_FAMILY_TCP6;
	struct str text;
	int rc = take_field(rest, is_v6 ? &field_v6 : &field_v4, ' ', &text, error);

	if (rc != 1)
		return rc;
	/* The word decides the format: IPv4 text under TCP6 is refused. */
	if (is_v6 != (str_find(text, ':') < text.n) || !ipaddr_parse(text, ip))
		return proxy_refuse(error, PROXY_ERROR_V1_ADDRESS);
	return 1;
}

static int take_port(struct str *rest, char end, uint16_t *port, enum proxy_error *error)
{
	struct str text;
	uint64_t value;
	int rc = take_field(rest, &field_port, end, &text, error);

	if (rc != 1)
		return rc;
	bool has_leading_zero = text.n > 1 && text.p[0] == '0';
	if (has_leading_zero || !str_to_u64(text, UINT16_MAX, &value))
		return proxy_refuse(error, PROXY_ERROR_V1_PORT);
	*port = (uint16_t)value;
	return 1;
}

static int take_line_feed(struct str *rest, enum proxy_error *error)
{
	if (rest->n == 0)
		return 0;
	if (rest->p[0] != '\n')
		return proxy_refuse(error, PROXY_ERROR_V1_END);
	*rest = str_from_pos(*rest, 1);
	return 1;
}

static int take_addresses(struct str *rest, struct proxy_header *header, enum proxy_error *error)
{
	int rc = take_address(rest, header->family, &header->source.ip, error);

	if (rc == 1)
		rc = take_address(rest, header->family, &header->destination.ip, error);
	if (rc == 1)
		rc = take_port(rest, ' ', &header->source.port, error);
	if (rc == 1)
		rc = take_port(rest, '\r', &header->destination.port, error);
	if (rc == 1)
		rc = take_line_feed(rest, error);
	return rc;
}

/* Anything up to CR LF is to be ignored, a CR or LF alone included. */
static int take_anything(struct str *rest, enum proxy_error *error)
{
	if (rest->n == 0)
		return 0;
	if (rest->p[0] == '\r') {
		*rest = str_from_pos(*rest, 1);
		return take_line_feed(rest, error);
	}
	if (rest->p[0] == '\n')
		return proxy_refuse(error, PROXY_ERROR_V1_END);
	if (rest->p[0] != ' ')
		return proxy_refuse(error, PROXY_ERROR_V1_PROTOCOL);

	const char *end = memmem(rest->p, rest->n, "\r\n", 2);
	if (!end)
		return 0;
	*rest = str_from_pos(*rest, (size_t)(end - rest->p) + 2);
	return 1;
}

/*
 * As much of `bytes` as a line may have. The byte for the LF is left out where no CR precedes
 * it: the line is too long by then, and no later byte may give it another reason.
 */
static struct str cut_to_line(struct str bytes, size_t max)
{
	bool has_cr = bytes.n >= max - 1 && bytes.p[max - 2] == '\r';

	return str_range(bytes, 0, has_cr ? max : max - 1);
}

/* True when no CR LF can end this unfinished line within its maximum any more. */
static bool is_too_long(struct str line, size_t max)
{
	return line.n == max || (line.n == max - 1 && line.p[line.n - 1] != '\r');
}

static int v1_parse(struct str bytes, struct proxy_header *header, enum proxy_error *error)
{
	const struct v1_form *form = NULL;
	int rc = find_form(bytes, &form);

	if (rc == 0)
		return 0;
	if (rc < 0) {
		bool is_v1 = match(bytes, STR("PROXY ")) == 1;
		return proxy_refuse(error, is_v1 ? PROXY_ERROR_V1_PROTOCOL : PROXY_ERROR_NO_HEADER);
	}

	struct str line = cut_to_line(bytes, form->line_max);
	struct str rest = str_from_pos(line, form->begin.n);

	header->version = 1;
	header->command = PROXY_COMMAND_PROXY;
	header->family = form->family;
	if (form->family == PROXY_FAMILY_UNKNOWN)
		rc = take_anything(&rest, error);
	else
		rc = take_addresses(&rest, header, error);
	if (rc == 0 && is_too_long(line, form->line_max))
		return proxy_refuse(error, PROXY_ERROR_V1_LENGTH);
	header->length = line.n - rest.n;
	return rc;
}

/* IPv4 in a TCP6 line is written as HAProxy does. */
static const char *mapped_text(const struct ipaddr *ip, char out[IPADDR_TEXT_MAX])
{
	char text[IPADDR_TEXT_MAX];

	if (!ipaddr_is_v4(ip))
		return ipaddr_print(ip, out);
	snprintf(out, IPADDR_TEXT_MAX, "::ffff:%.15s", ipaddr_print(ip, text));
	return out;
}

size_t proxy_v1_print(const struct endpoint *source, const struct endpoint *destination,
	char out[PROXY_V1_MAX + 1])
{
	bool is_v4 = ipaddr_is_v4(&source->ip) && ipaddr_is_v4(&destination->ip);
	const char *(*print)(const struct ipaddr *, char *) = is_v4 ? ipaddr_print : mapped_text;
	char from[IPADDR_TEXT_MAX];
	char to[IPADDR_TEXT_MAX];
	int n = snprintf(out, PROXY_V1_MAX + 1, "PROXY %s %s %s %u %u\r\n", is_v4 ? "TCP4" : "TCP6",
		print(&source->ip, from), print(&destination->ip, to), source->port,
		destination->port);

	ASSERT(n > 0 && n <= PROXY_V1_MAX);
	return (size_t)n;
}

/* ---- Both versions ----------------------------------------------------------------------- */

int proxy_parse(struct str bytes, struct proxy_header *header, enum proxy_error *error)
{
	int rc = match(bytes, STR(PROXY_V2_SIGNATURE));

	*header = (struct proxy_header){ 0 };
	*error = PROXY_ERROR_NONE;
	if (rc == 0)
		return 0;
	return rc == 1 ? proxy_v2_parse(bytes, header, error) : v1_parse(bytes, header, error);
}

bool proxy_has_client(const struct proxy_header *header)
{
	return header->command == PROXY_COMMAND_PROXY &&
	       (header->family == PROXY_FAMILY_TCP4 || header->family == PROXY_FAMILY_TCP6);
}

/*
 * verify is 0 also for clear text and for TLS without a certificate, so it says nothing alone.
 */
bool proxy_ssl_has_valid_certificate(const struct proxy_ssl *ssl)
{
	const uint8_t certificate_bits = 2 | 4;

	return ssl->present && (ssl->client & certificate_bits) != 0 && ssl->verify == 0;
}

static const struct {
	const char *word;
	const char *text;
} errors[PROXY_ERROR_COUNT] = {
#define PROXY_ERROR(id, word, text) { word, text },
#include "tables/proxy_errors.def"
#undef PROXY_ERROR
};

const char *proxy_error_word(enum proxy_error error)
{
	ASSERT(error < PROXY_ERROR_COUNT);
	return errors[error].word;
}

const char *proxy_error_text(enum proxy_error error)
{
	ASSERT(error < PROXY_ERROR_COUNT);
	return errors[error].text;
}

const char *proxy_family_word(enum proxy_family family)
{
	static const char *const words[] = {
		[PROXY_FAMILY_UNKNOWN] = "UNKNOWN",
		[PROXY_FAMILY_UNSPEC] = "UNSPEC",
		[PROXY_FAMILY_TCP4] = "TCP4",
		[PROXY_FAMILY_TCP6] = "TCP6",
		[PROXY_FAMILY_UDP4] = "UDP4",
		[PROXY_FAMILY_UDP6] = "UDP6",
		[PROXY_FAMILY_UNIX_STREAM] = "UNIX_STREAM",
		[PROXY_FAMILY_UNIX_DGRAM] = "UNIX_DGRAM",
	};

	ASSERT(family < sizeof(words) / sizeof(*words));
	return words[family];
}
