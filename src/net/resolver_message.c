#include "net/resolver.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/assert.h"
#include "resolver_priv.h"

#define LABEL_MAX 63
#define NAME_MAX_BYTES 253

/* ---- Names ----------------------------------------------------------------------------------- */

void resolver_reverse_name(const struct ipaddr *ip, char out[RESOLVER_REVERSE_NAME_MAX])
{
	static const char hex[] = "0123456789abcdef";
	const uint8_t *b = ip->bytes;

	if (ipaddr_is_v4(ip)) {
		snprintf(out, RESOLVER_REVERSE_NAME_MAX, "%u.%u.%u.%u.in-addr.arpa", b[15], b[14],
			b[13], b[12]);
		return;
	}
	for (size_t i = 0; i < 16; i++) {
		char *place = out + 4 * i;
		place[0] = hex[b[15 - i] & 0xf];
		place[1] = '.';
		place[2] = hex[b[15 - i] >> 4];
		place[3] = '.';
	}
	memcpy(out + 64, "ip6.arpa", sizeof("ip6.arpa"));
}

static bool is_label(struct str label)
{
	if (label.n == 0 || label.n > LABEL_MAX)
		return false;
	if (label.p[0] == '-' || label.p[label.n - 1] == '-')
		return false;
	for (size_t i = 0; i < label.n; i++)
		if (!ascii_is_alnum(label.p[i]) && label.p[i] != '-' && label.p[i] != '_')
			return false;
	return true;
}

static bool is_all_digits(struct str label)
{
	for (size_t i = 0; i < label.n; i++)
		if (!ascii_is_digit(label.p[i]))
			return false;
	return true;
}

bool resolver_is_host(struct str name)
{
	struct str rest = name;
	struct str label = rest;

	if (name.n == 0 || name.n > NAME_MAX_BYTES || name.p[name.n - 1] == '.')
		return false;
	while (rest.n > 0) {
		label = str_cut(&rest, '.');
		if (!is_label(label))
			return false;
	}
	return !is_all_digits(label);
}

static void copy_lower(struct str name, char out[RESOLVER_HOST_MAX])
{
	size_t n = str_copy_to(name, out, RESOLVER_HOST_MAX);

	for (size_t i = 0; i < n; i++)
		out[i] = ascii_lower(out[i]);
}

/* ---- Queries --------------------------------------------------------------------------------- */

static size_t put_name(struct str name, unsigned char *out)
{
	struct str rest = name;
	size_t n = 0;

	while (rest.n > 0) {
		struct str label = str_cut(&rest, '.');
		out[n++] = (unsigned char)label.n;
		memcpy(out + n, label.p, label.n);
		n += label.n;
	}
	out[n++] = 0;
	return n;
}

/* RFC 1035 section 4.1: header and one question. Written here, as res_mkquery(3) looks after
 * resolv.conf at every call. */
size_t resolver_query(struct str name, ns_type type, unsigned char out[RESOLVER_QUERY_MAX])
{
	unsigned char *end;

	ASSERT(resolver_is_host(name));
	memset(out, 0, NS_HFIXEDSZ);
	/* The id protects against forged answers. */
	ssize_t random = getrandom(out, NS_INT16SZ, 0);
	ASSERT(random == NS_INT16SZ);
	out[2] = 0x01; /* recursion desired */
	out[5] = 1;    /* one question */
	end = out + NS_HFIXEDSZ + put_name(name, out + NS_HFIXEDSZ);
	ns_put16((unsigned)type, end);
	ns_put16(ns_c_in, end + NS_INT16SZ);
	return (size_t)(end + NS_QFIXEDSZ - out);
}

/* ---- Answers --------------------------------------------------------------------------------- */

/* RFC 1035 section 4.1.1: the header's code; RFC 2308 section 2.2 for an answer without records. */
static enum resolver_status open_answer(struct str message, ns_msg *answer)
{
	if (message.n > NS_MAXMSG ||
		ns_initparse((const u_char *)message.p, (int)message.n, answer) != 0)
		return RESOLVER_ERROR;
	if (ns_msg_getflag(*answer, ns_f_qr) == 0)
		return RESOLVER_ERROR;
	switch (ns_msg_getflag(*answer, ns_f_rcode)) {
	case ns_r_noerror:
		return RESOLVER_OK;
	case ns_r_nxdomain:
		return RESOLVER_NONE;
	default:
		return RESOLVER_ERROR;
	}
}

/* RFC 2181 section 8: a TTL with the highest bit set is zero. */
static uint32_t smaller_ttl(uint32_t ttl_s, uint32_t other)
{
	if (other > INT32_MAX)
		other = 0;
	return other < ttl_s ? other : ttl_s;
}

/* The name of a PTR record, in the text form with escapes: what needs one is not a host. */
static bool read_host(
	const ns_msg *answer, const ns_rr *record, char host[RESOLVER_HOST_MAX], bool *is_malformed)
{
	char text[NS_MAXDNAME];
	int n = ns_name_uncompress(ns_msg_base(*answer), ns_msg_end(*answer), ns_rr_rdata(*record),
		text, sizeof(text));

	*is_malformed = n < 0;
	if (n < 0 || !resolver_is_host(str_from(text)))
		return false;
	copy_lower(str_from(text), host);
	return true;
}

/* RFC 2317: the name may be reached through CNAME records; their TTL counts as well. */
enum resolver_status resolver_read_name(
	struct str message, char host[RESOLVER_HOST_MAX], uint32_t *ttl_s)
{
	ns_msg answer;
	ns_rr record;
	uint32_t ttl = INT32_MAX;
	bool is_malformed = false;
	enum resolver_status status = open_answer(message, &answer);

	if (status != RESOLVER_OK)
		return status;
	for (int i = 0; i < ns_msg_count(answer, ns_s_an); i++) {
		if (ns_parserr(&answer, ns_s_an, i, &record) != 0)
			return RESOLVER_ERROR;
		ttl = smaller_ttl(ttl, ns_rr_ttl(record));
		if (ns_rr_type(record) != ns_t_ptr || ns_rr_class(record) != ns_c_in)
			continue;
		if (read_host(&answer, &record, host, &is_malformed)) {
			*ttl_s = ttl;
			return RESOLVER_OK;
		}
		if (is_malformed)
			return RESOLVER_ERROR;
	}
	return RESOLVER_NONE;
}

/* Is the record an address, and which? */
static bool read_ip(const ns_rr *record, struct ipaddr *ip)
{
	if (ns_rr_class(*record) != ns_c_in)
		return false;
	if (ns_rr_type(*record) == ns_t_a && ns_rr_rdlen(*record) == 4) {
		*ip = ipaddr_from_v4(ns_rr_rdata(*record));
		return true;
	}
	if (ns_rr_type(*record) == ns_t_aaaa && ns_rr_rdlen(*record) == 16) {
		*ip = ipaddr_from_v6(ns_rr_rdata(*record));
		return true;
	}
	return false;
}

enum resolver_status resolver_read_address(
	struct str message, const struct ipaddr *ip, uint32_t *ttl_s)
{
	ns_msg answer;
	ns_rr record;
	struct ipaddr found;
	unsigned compared = 0;
	uint32_t ttl = INT32_MAX;
	enum resolver_status status = open_answer(message, &answer);

	if (status != RESOLVER_OK)
		return status;
	for (int i = 0; i < ns_msg_count(answer, ns_s_an) && compared < RESOLVER_FORWARD_MAX; i++) {
		if (ns_parserr(&answer, ns_s_an, i, &record) != 0)
			return RESOLVER_ERROR;
		ttl = smaller_ttl(ttl, ns_rr_ttl(record));
		if (!read_ip(&record, &found))
			continue;
		compared++;
		if (ipaddr_eq(&found, ip)) {
			*ttl_s = ttl;
			return RESOLVER_OK;
		}
	}
	return RESOLVER_NONE;
}
