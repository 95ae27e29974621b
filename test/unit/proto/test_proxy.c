/*
 * PROXY headers: the vectors and captures of test/vectors, and further ones for rules that those
 * lack. Each is parsed whole, byte by byte and cut at every position, always at a guard page.
 */
#include "proto/proxy.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/crc32c.h"
#include "support/guard.h"
#include "support/vectors.h"

#define DIGEST_MAX 65536
#define INPUT_MAX 8192

static struct guard guard;

static int make_guard(void **state)
{
	(void)state;
	guard = guard_make(INPUT_MAX);
	return 0;
}

static int free_guard(void **state)
{
	(void)state;
	guard_free(&guard);
	return 0;
}

/* ---- A header as text: what tests compare ------------------------------------------------- */

static void put_quoted(struct buf *out, const char *name, struct str text)
{
	buf_printf(out, " %s='", name);
	for (size_t i = 0; i < text.n; i++) {
		bool is_plain = text.p[i] >= 0x20 && text.p[i] < 0x7f;
		buf_printf(out, is_plain ? "%c" : "\\x%02x", (unsigned char)text.p[i]);
	}
	buf_printf(out, "'");
}

static void put_ssl(struct buf *out, const struct proxy_ssl *ssl)
{
	const struct {
		const char *name;
		struct str text;
	} texts[] = {
		{ "VERSION", ssl->version },
		{ "CN", ssl->cn },
		{ "CIPHER", ssl->cipher },
		{ "SIG_ALG", ssl->sig_alg },
		{ "KEY_ALG", ssl->key_alg },
		{ "GROUP", ssl->group },
		{ "SIG_SCHEME", ssl->sig_scheme },
		{ "CLIENT_CERT", ssl->client_cert },
	};

	buf_printf(out, " SSL client=%u verify=%u", ssl->client, ssl->verify);
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		if (texts[i].text.n > 0)
			put_quoted(out, texts[i].name, texts[i].text);
}

static void put_tlvs(struct buf *out, const struct proxy_header *h)
{
	if (h->has_alpn)
		put_quoted(out, "ALPN", h->alpn);
	if (h->has_authority)
		put_quoted(out, "AUTHORITY", h->authority);
	if (h->has_unique_id)
		put_quoted(out, "UNIQUE_ID", h->unique_id);
	if (h->has_netns)
		put_quoted(out, "NETNS", h->netns);
	if (h->has_crc32c)
		buf_printf(out, " CRC32C");
	if (h->ssl.present)
		put_ssl(out, &h->ssl);
	for (size_t i = 0; i < h->tlv_count; i++) {
		char name[8];
		snprintf(name, sizeof(name), "0x%02X", h->tlvs[i].type);
		put_quoted(out, name, h->tlvs[i].value);
	}
}

static void describe(const struct proxy_header *h, struct buf *out)
{
	char from[ENDPOINT_TEXT_MAX];
	char to[ENDPOINT_TEXT_MAX];

	buf_printf(out, "v%u %s %s", h->version,
		h->command == PROXY_COMMAND_LOCAL ? "LOCAL" : "PROXY",
		proxy_family_word(h->family));
	if (proxy_has_client(h))
		buf_printf(out, " %s > %s", endpoint_print(&h->source, from),
			endpoint_print(&h->destination, to));
	put_tlvs(out, h);
}

/* The result of parsing: "incomplete", the word of the error, or the description. */
struct digest {
	int rc;
	size_t length;
	struct buf text;
};

/* The input is copied to the end of a page each time, so nothing behind it can be read. */
static struct digest digest(struct str bytes)
{
	struct digest d = { 0 };
	struct proxy_header header;
	enum proxy_error error;

	buf_init(&d.text, DIGEST_MAX);
	d.rc = proxy_parse(guard_put(&guard, bytes), &header, &error);
	if (d.rc == 1) {
		d.length = header.length;
		describe(&header, &d.text);
	} else {
		buf_printf(&d.text, "%s", d.rc == 0 ? "incomplete" : proxy_error_word(error));
	}
	return d;
}

static bool digest_is(const struct digest *d, struct str expected)
{
	return str_eq(buf_view(&d->text), expected);
}

static void check_parses_to(const char *name, struct str bytes, struct str expected)
{
	struct digest d = digest(bytes);

	if (!digest_is(&d, expected))
		fail_msg("%s: \"%.*s\" instead of \"%.*s\"", name, STR_ARG(buf_view(&d.text)),
			STR_ARG(expected));
	buf_free(&d.text);
}

/* ---- Cut at every position ----------------------------------------------------------------- */

/* A good header: incomplete up to its last byte, then the same whatever follows. */
static void check_good_steps(const char *name, struct str bytes, const struct digest *whole)
{
	for (size_t n = 0; n <= bytes.n; n++) {
		struct digest d = digest(str_range(bytes, 0, n));
		struct str expected =
			n < whole->length ? STR("incomplete") : buf_view(&whole->text);
		if (!digest_is(&d, expected) || (d.rc == 1 && d.length != whole->length))
			fail_msg("%s: after %zu bytes \"%.*s\"", name, n,
				STR_ARG(buf_view(&d.text)));
		buf_free(&d.text);
	}
}

/* A bad one: refused at some byte, and from there on, for the same reason. */
static size_t check_bad_steps(const char *name, struct str bytes, const struct digest *whole)
{
	size_t refused_at = SIZE_MAX;

	for (size_t n = 0; n <= bytes.n; n++) {
		struct digest d = digest(str_range(bytes, 0, n));
		if (d.rc < 0 && refused_at == SIZE_MAX)
			refused_at = n;
		if (d.rc != (n < refused_at ? 0 : -1))
			fail_msg("%s: %d after %zu bytes", name, d.rc, n);
		if (d.rc < 0 && !digest_is(&d, buf_view(&whole->text)))
			fail_msg("%s: another reason after %zu bytes", name, n);
		buf_free(&d.text);
	}
	return refused_at;
}

static void check_incomplete_steps(const char *name, struct str bytes)
{
	for (size_t n = 0; n <= bytes.n; n++)
		check_parses_to(name, str_range(bytes, 0, n), STR("incomplete"));
}

static void check_steps(const char *name, struct str bytes)
{
	struct digest whole = digest(bytes);

	if (whole.rc == 1)
		check_good_steps(name, bytes, &whole);
	else if (whole.rc == 0)
		check_incomplete_steps(name, bytes);
	else
		check_bad_steps(name, bytes, &whole);
	buf_free(&whole.text);
}

/* ---- The vectors in the file --------------------------------------------------------------- */

static bool json_is(struct str object, const char *key, const char *value)
{
	return str_eq(vectors_json_get(object, key), str_from(value));
}

static void check_text(const char *name, struct str value, struct str hex)
{
	struct str expected = vectors_unhex(hex);

	if (!str_eq(value, expected))
		fail_msg("%s: a TLV has another value", name);
	free((void *)(uintptr_t)expected.p);
}

static void check_endpoint(
	const char *name, const struct endpoint *endpoint, struct str ip_text, unsigned port)
{
	struct ipaddr ip;

	if (!ipaddr_parse(ip_text, &ip) || !ipaddr_eq(&endpoint->ip, &ip) || endpoint->port != port)
		fail_msg("%s: another address or port", name);
}

/* The text of `struct proxy_ssl` for a sub-TLV of this type. */
static struct str ssl_text(const struct proxy_ssl *ssl, unsigned type)
{
	const struct str texts[] = { ssl->version, ssl->cn, ssl->cipher, ssl->sig_alg, ssl->key_alg,
		ssl->group, ssl->sig_scheme, ssl->client_cert };

	assert_in_range(type, 0x21, 0x28);
	return texts[type - 0x21];
}

static void check_ssl(const char *name, const struct proxy_ssl *ssl, struct str tlv)
{
	struct str subs = vectors_json_inside(vectors_json_get(tlv, "sub"));
	struct str sub;

	assert_true(ssl->present);
	assert_int_equal(ssl->client, vectors_json_number(tlv, "client"));
	assert_int_equal(ssl->verify, vectors_json_number(tlv, "verify"));
	while (vectors_json_next(&subs, &sub))
		check_text(name, ssl_text(ssl, vectors_json_number(sub, "type")),
			vectors_json_get(sub, "value_hex"));
}

/* What has been seen of the TLVs of a vector, to compare with what the header says it has. */
struct seen {
	bool alpn, authority, crc32c, unique_id, netns, ssl;
	size_t others;
};

static bool is_first(bool *seen)
{
	bool first = !*seen;

	*seen = true;
	return first;
}

static void check_tlv(
	const char *name, const struct proxy_header *h, struct str tlv, struct seen *seen)
{
	unsigned type = vectors_json_number(tlv, "type");
	struct str hex = vectors_json_get(tlv, "value_hex");

	if (type == 0x01 && is_first(&seen->alpn)) {
		check_text(name, h->alpn, hex);
	} else if (type == 0x02 && is_first(&seen->authority)) {
		check_text(name, h->authority, hex);
	} else if (type == 0x03) {
		seen->crc32c = true;
	} else if (type == 0x05 && is_first(&seen->unique_id)) {
		check_text(name, h->unique_id, hex);
	} else if (type == 0x20 && is_first(&seen->ssl)) {
		check_ssl(name, &h->ssl, tlv);
	} else if (type == 0x30 && is_first(&seen->netns)) {
		check_text(name, h->netns, hex);
	} else if (type == 0x00 || type > 0x30) {
		assert_in_range(seen->others, 0, h->tlv_count - 1);
		assert_int_equal(h->tlvs[seen->others].type, type);
		check_text(name, h->tlvs[seen->others++].value, hex);
	}
}

static void check_tlv_list(const char *name, const struct proxy_header *h, struct str vector)
{
	struct str tlvs = vectors_json_inside(vectors_json_get(vector, "tlvs"));
	struct str tlv;
	struct seen seen = { 0 };

	while (vectors_json_next(&tlvs, &tlv))
		check_tlv(name, h, tlv, &seen);
	assert_int_equal(h->has_alpn, seen.alpn);
	assert_int_equal(h->has_authority, seen.authority);
	assert_int_equal(h->has_crc32c, seen.crc32c);
	assert_int_equal(h->has_unique_id, seen.unique_id);
	assert_int_equal(h->has_netns, seen.netns);
	assert_int_equal(h->ssl.present, seen.ssl);
	assert_int_equal(h->tlv_count, seen.others);
}

static void check_good(const char *name, struct str bytes, struct str vector)
{
	struct proxy_header h;
	enum proxy_error error;

	if (proxy_parse(guard_put(&guard, bytes), &h, &error) != 1)
		fail_msg("%s: not accepted", name);
	bool is_local = json_is(vector, "command", "LOCAL");
	assert_int_equal(h.version, vectors_json_number(vector, "version"));
	assert_int_equal(h.length, vectors_json_number(vector, "consumed"));
	assert_int_equal(h.command, is_local ? PROXY_COMMAND_LOCAL : PROXY_COMMAND_PROXY);
	if (!json_is(vector, "family", is_local ? "UNSPEC" : proxy_family_word(h.family)))
		assert_true(is_local && h.family == PROXY_FAMILY_UNSPEC);
	assert_int_equal(proxy_has_client(&h), json_is(vector, "addr_from", "header"));
	if (proxy_has_client(&h)) {
		check_endpoint(name, &h.source, vectors_json_get(vector, "src"),
			vectors_json_number(vector, "sport"));
		check_endpoint(name, &h.destination, vectors_json_get(vector, "dst"),
			vectors_json_number(vector, "dport"));
	}
	check_tlv_list(name, &h, vector);
}

static void check_vector(struct str vector)
{
	char name[64];
	struct str bytes = vectors_unhex(vectors_json_get(vector, "hex"));
	struct proxy_header h;
	enum proxy_error error;

	str_copy_to(vectors_json_get(vector, "id"), name, sizeof(name));
	if (json_is(vector, "expect", "ok")) {
		check_good(name, bytes, vector);
	} else {
		int expected = json_is(vector, "expect", "error") ? -1 : 0;
		if (proxy_parse(guard_put(&guard, bytes), &h, &error) != expected)
			fail_msg("%s: not %d", name, expected);
	}
	check_steps(name, bytes);
	free((void *)(uintptr_t)bytes.p);
}

static void test_vectors(void **state)
{
	struct str file = vectors_read(TEST_SOURCE_DIR "/vectors/proxy-vectors.jsonl");
	struct str rest = file;
	size_t count = 0;

	(void)state;
	for (; rest.n > 0; count++)
		check_vector(str_cut(&rest, '\n'));
	assert_true(count >= 121); /* the file was found, and read to its end */
	free((void *)(uintptr_t)file.p);
}

/* ---- Captures ------------------------------------------------------------------------------ */

#define CAPTURES TEST_SOURCE_DIR "/vectors/proxy-captures"

static void check_capture(struct str name, struct str expected)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%.*s.hex", CAPTURES, STR_ARG(name));
	struct str digits = vectors_read(path);
	struct str bytes = vectors_unhex(digits);
	struct digest d = digest(bytes);
	assert_int_equal(d.length, bytes.n);
	check_parses_to(path, bytes, expected);
	check_steps(path, bytes);
	buf_free(&d.text);
	free((void *)(uintptr_t)bytes.p);
	free((void *)(uintptr_t)digits.p);
}

static size_t count_captures(void)
{
	size_t count = 0;
	DIR *folder = opendir(CAPTURES);

	assert_non_null(folder);
	for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder))
		count += str_ends_with_nocase(str_from(entry->d_name), STR(".hex"));
	closedir(folder);
	return count;
}

static void test_captures(void **state)
{
	struct str file = vectors_read(CAPTURES "/expected.txt");
	struct str rest = file;
	size_t count = 0;

	(void)state;
	for (; rest.n > 0; count++) {
		struct str expected = str_cut(&rest, '\n');
		struct str name = str_cut(&expected, ' ');
		check_capture(name, expected);
	}
	assert_int_equal(count, count_captures());
	free((void *)(uintptr_t)file.p);
}

/* ---- Further cases ------------------------------------------------------------------------- */

#define V4 "192.0.2.10 198.51.100.25"
#define V4_ENDS "192.0.2.10:51515 > 198.51.100.25:25"
#define FULL6 "0000:0000:0000:0000:0000:ffff:255.255.255.255"
#define LONG6 "1111:2222:3333:4444:5:6666:7777:8"
#define SIG "\r\n\r\n\0\r\nQUIT\n"
#define BLOCK4 "\xc0\x00\x02\x0a\xc6\x33\x64\x19\xc9\x3b\x00\x19"
#define IN6 "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0"
#define MAPPED "\0\0\0\0\0\0\0\0\0\0\xff\xff"
#define X16 "xxxxxxxxxxxxxxxx"
#define X91 X16 X16 X16 X16 X16 "xxxxxxxxxxx"

/*
 * `at` is the byte with which a bad one is refused, or of a good one the length of the header;
 * 0 for all bytes given.
 */
static const struct {
	const char *name;
	struct str bytes;
	const char *expected;
	size_t at;
} cases[] = {
	/* Version 1: what is good */
	{ "v1 lowest and highest", STR_INIT("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n"),
		"v1 PROXY TCP4 0.0.0.0:0 > 255.255.255.255:65535" },
	{ "v1 mapped, upper case", STR_INIT("PROXY TCP6 ::FFFF:192.0.2.1 ::ffff:C000:202 1 2\r\n"),
		"v1 PROXY TCP6 192.0.2.1:1 > 192.0.2.2:2" },
	{ "v1 dotted tail, not mapped", STR_INIT("PROXY TCP6 64:ff9b::192.0.2.33 ::1 1 2\r\n"),
		"v1 PROXY TCP6 [64:ff9b::c000:221]:1 > [::1]:2" },
	{ "v1 groups with zeros", STR_INIT("PROXY TCP6 2001:0db8:0000:0:0:0:0:0001 1:: 1 2\r\n"),
		"v1 PROXY TCP6 [2001:db8::1]:1 > [1::]:2" },
	{ "v1 longest dotted text", STR_INIT("PROXY TCP6 " FULL6 " ::1 65535 65535\r\n"),
		"v1 PROXY TCP6 255.255.255.255:65535 > [::1]:65535" },
	{ "v1 command behind it", STR_INIT("PROXY TCP4 " V4 " 51515 25\r\nEHLO a\r\n"),
		"v1 PROXY TCP4 " V4_ENDS, 46 },
	{ "v1 second header behind it", STR_INIT("PROXY UNKNOWN\r\nPROXY TCP4 " V4 " 1 2\r\n"),
		"v1 PROXY UNKNOWN", 15 },
	{ "v1 UNKNOWN and a space", STR_INIT("PROXY UNKNOWN \r\n"), "v1 PROXY UNKNOWN" },
	{ "v1 UNKNOWN, NUL and CR in the rest", STR_INIT("PROXY UNKNOWN \0 \r\r\n\n"),
		"v1 PROXY UNKNOWN", 19 },
	{ "v1 UNKNOWN, LF in the rest", STR_INIT("PROXY UNKNOWN a\nb\r\n"), "v1 PROXY UNKNOWN" },
	{ "v1 UNKNOWN of 107", STR_INIT("PROXY UNKNOWN " X91 "\r\n"), "v1 PROXY UNKNOWN", 107 },
	{ "v1 TCP6 of 104", STR_INIT("PROXY TCP6 " FULL6 " " LONG6 " 65535 65535\r\n"),
		"v1 PROXY TCP6 255.255.255.255:65535 > [1111:2222:3333:4444:5:6666:7777:8]:65535",
		104 },

	/* Version 1: the beginning */
	{ "empty line", STR_INIT("\r\n"), "incomplete" },
	{ "empty lines", STR_INIT("\r\n\r\n"), "incomplete" },
	{ "three empty lines", STR_INIT("\r\n\r\n\r\n"), "no_header", 5 },
	{ "LF", STR_INIT("\n"), "no_header" },
	{ "NUL", STR_INIT("\0"), "no_header" },
	{ "v1 lower case", STR_INIT("PRoXY"), "no_header", 3 },
	{ "v1 tab", STR_INIT("PROXY\tTCP4 " V4 " 1 2\r\n"), "no_header", 6 },
	{ "v1 line end behind the keyword", STR_INIT("PROXY\r\n"), "no_header", 6 },
	{ "v1 two spaces", STR_INIT("PROXY  TCP4 " V4 " 1 2\r\n"), "v1_protocol", 7 },
	{ "v1 TCP", STR_INIT("PROXY TCP " V4 " 1 2\r\n"), "v1_protocol", 10 },
	{ "v1 TCP46", STR_INIT("PROXY TCP46 " V4 " 1 2\r\n"), "v1_protocol", 11 },
	{ "v1 TCP4 alone", STR_INIT("PROXY TCP4\r\n"), "v1_protocol", 11 },
	{ "v1 unknown", STR_INIT("PROXY unknown\r\n"), "v1_protocol", 7 },
	{ "v1 UNKNOWNS", STR_INIT("PROXY UNKNOWNS\r\n"), "v1_protocol", 14 },
	{ "v1 UNKNOWN, tab", STR_INIT("PROXY UNKNOWN\t\r\n"), "v1_protocol", 14 },
	{ "v1 UNKNOWN, LF", STR_INIT("PROXY UNKNOWN\n"), "v1_end" },
	{ "v1 UNKNOWN, CR alone", STR_INIT("PROXY UNKNOWN\r x\r\n"), "v1_end", 15 },
	{ "v1 UNKNOWN, LF at the end", STR_INIT("PROXY UNKNOWN x\n"), "incomplete" },

	/* Version 1: addresses */
	{ "v1 leading zero", STR_INIT("PROXY TCP4 192.0.02.10 1.2.3.4 1 2\r\n"), "v1_address", 23 },
	{ "v1 octal", STR_INIT("PROXY TCP4 0300.0.2.10 1.2.3.4 1 2\r\n"), "v1_address", 23 },
	{ "v1 hexadecimal", STR_INIT("PROXY TCP4 0xc0.0.2.10 1.2.3.4 1 2\r\n"), "v1_address", 13 },
	{ "v1 one number", STR_INIT("PROXY TCP4 3221226000 1.2.3.4 1 2\r\n"), "v1_address", 22 },
	{ "v1 two dots", STR_INIT("PROXY TCP4 1.2..3 1.2.3.4 1 2\r\n"), "v1_address", 18 },
	{ "v1 dot at the end", STR_INIT("PROXY TCP4 1.2.3.4. 1.2.3.4 1 2\r\n"), "v1_address", 20 },
	{ "v1 dot in front", STR_INIT("PROXY TCP4 .1.2.3.4 1.2.3.4 1 2\r\n"), "v1_address", 20 },
	{ "v1 16 digits and dots", STR_INIT("PROXY TCP4 0192.168.100.100"), "v1_address" },
	{ "v1 no source", STR_INIT("PROXY TCP4  1.2.3.4 1 2\r\n"), "v1_address", 12 },
	{ "v1 NUL", STR_INIT("PROXY TCP4 1.2.3.4\0 1.2.3.4 1 2\r\n"), "v1_address", 19 },
	{ "v1 slash", STR_INIT("PROXY TCP4 1.2.3.4/32 1.2.3.4 1 2\r\n"), "v1_address", 19 },
	{ "v1 bad destination", STR_INIT("PROXY TCP4 1.2.3.4 1.2.3.256 1 2\r\n"), "v1_address",
		29 },
	{ "v1 IPv6 under TCP4", STR_INIT("PROXY TCP4 2001:db8::1 ::1 1 2\r\n"), "v1_address", 16 },
	{ "v1 IPv4 second under TCP6", STR_INIT("PROXY TCP6 ::1 1.2.3.4 1 2\r\n"), "v1_address",
		23 },
	{ "v1 five digits", STR_INIT("PROXY TCP6 2001:00db8::1 ::1 1 2\r\n"), "v1_address", 25 },
	{ "v1 colon in front", STR_INIT("PROXY TCP6 :1:2:3:4:5:6:7 ::1 1 2\r\n"), "v1_address",
		26 },
	{ "v1 colon at the end", STR_INIT("PROXY TCP6 1:2:3:4:5:6:7: ::1 1 2\r\n"), "v1_address",
		26 },
	{ "v1 double colon for nothing", STR_INIT("PROXY TCP6 1:2:3:4::5:6:7:8 ::1 1 2\r\n"),
		"v1_address", 28 },
	{ "v1 colon alone", STR_INIT("PROXY TCP6 : ::1 1 2\r\n"), "v1_address", 13 },
	{ "v1 dotted in the middle", STR_INIT("PROXY TCP6 ::1.2.3.4:1 ::1 1 2\r\n"), "v1_address",
		23 },
	{ "v1 dotted, leading zero", STR_INIT("PROXY TCP6 ::ffff:1.2.3.04 ::1 1 2\r\n"),
		"v1_address", 27 },
	{ "v1 no hexadecimal digit", STR_INIT("PROXY TCP6 2001:dg8::1 ::1 1 2\r\n"), "v1_address",
		18 },
	{ "v1 46 bytes", STR_INIT("PROXY TCP6 0" FULL6), "v1_address" },

	/* Version 1: ports and the end */
	{ "v1 six digits", STR_INIT("PROXY TCP4 " V4 " 100000 25\r\n"), "v1_port", 42 },
	{ "v1 65536 second", STR_INIT("PROXY TCP4 " V4 " 1 65536\r\n"), "v1_port", 44 },
	{ "v1 00", STR_INIT("PROXY TCP4 " V4 " 00 25\r\n"), "v1_port", 39 },
	{ "v1 hexadecimal port", STR_INIT("PROXY TCP4 " V4 " 0x19 25\r\n"), "v1_port", 38 },
	{ "v1 no second port", STR_INIT("PROXY TCP4 " V4 " 25\r\n"), "v1_end", 39 },
	{ "v1 empty second port", STR_INIT("PROXY TCP4 " V4 " 25 \r\n"), "v1_port", 40 },
	{ "v1 seventh field", STR_INIT("PROXY TCP4 " V4 " 1 2 3\r\n"), "v1_port", 40 },
	{ "v1 CR inside", STR_INIT("PROXY TCP4 1.2.3.4\r\n"), "v1_end", 19 },
	{ "v1 LF inside", STR_INIT("PROXY TCP4 \n"), "v1_end" },
	{ "v1 NUL behind the CR", STR_INIT("PROXY TCP4 " V4 " 1 2\r\0\n"), "v1_end", 41 },
	{ "v1 TCP6 of 116", STR_INIT("PROXY TCP6 " FULL6 " " FULL6 " 65535 65535\r\n"), "v1_length",
		103 },
	{ "v1 TCP6 of 105", STR_INIT("PROXY TCP6 " FULL6 " " LONG6 "8 65535 65535\r\n"),
		"v1_length", 103 },
	{ "v1 too long, bad byte behind the end",
		STR_INIT("PROXY TCP6 " FULL6 " " LONG6 "8 65535 65535!"), "v1_length", 103 },
	{ "v1 UNKNOWN of 108", STR_INIT("PROXY UNKNOWN " X91 "x\r\n"), "v1_length", 106 },
	{ "v1 UNKNOWN, no LF at 107", STR_INIT("PROXY UNKNOWN " X91 "\r\r\n"), "v1_length", 107 },

	/* Version 2: addresses */
	{ "v2 mapped in both",
		STR_INIT(SIG "\x21\x21\x00\x24" MAPPED "\x01\x02\x03\x04" MAPPED
			     "\x05\x06\x07\x08\xff\xff\x00\x00"),
		"v2 PROXY TCP6 1.2.3.4:65535 > 5.6.7.8:0" },
	{ "v2 header behind it", STR_INIT(SIG "\x21\x11\x00\x0c" BLOCK4 SIG "\x20\x00\x00\x00"),
		"v2 PROXY TCP4 " V4_ENDS, 28 },
	{ "v2 UDP6", STR_INIT(SIG "\x21\x22\x00\x24" IN6 "\x01" IN6 "\x02\0\0\0\0"),
		"v2 PROXY UDP6" },
	{ "v2 UDP6 too short", STR_INIT(SIG "\x21\x22\x00\x23"), "v2_too_short" },
	{ "v2 UNSPEC with TLVs", STR_INIT(SIG "\x21\x00\x00\x05\x05\x00\x02id"),
		"v2 PROXY UNSPEC UNIQUE_ID='id'" },
	{ "v2 UNSPEC, stray byte", STR_INIT(SIG "\x21\x00\x00\x01\x05"), "v2_tlv" },

	/* Version 2: TLVs. The first of duplicates counts, even when it is empty. */
	{ "v2 type 0xFF", STR_INIT(SIG "\x21\x11\x00\x10" BLOCK4 "\xff\x00\x01\xff"),
		"v2 PROXY TCP4 " V4_ENDS " 0xFF='\\xff'" },
	{ "v2 type 0, empty", STR_INIT(SIG "\x21\x11\x00\x0f" BLOCK4 "\0\0\0"),
		"v2 PROXY TCP4 " V4_ENDS " 0x00=''" },
	{ "v2 order is kept", STR_INIT(SIG "\x21\x00\x00\x0a\xe1\x00\x00\xe0\x00\x01k\xe1\x00\x00"),
		"v2 PROXY UNSPEC 0xE1='' 0xE0='k' 0xE1=''" },
	{ "v2 duplicates, empty first",
		STR_INIT(SIG "\x21\x00\x00\x1c\x01\x00\x00\x01\x00\x01"
			     "a\x02\x00\x00\x02\x00\x01"
			     "a\x05\x00\x00\x05\x00\x01"
			     "a\x30\x00\x00\x30\x00\x01"
			     "a"),
		"v2 PROXY UNSPEC ALPN='' AUTHORITY='' UNIQUE_ID='' NETNS=''" },
	{ "v2 NUL in a name",
		STR_INIT(SIG "\x21\x00\x00\x06\x02\x00\x03"
			     "a\0b"),
		"v2 PROXY UNSPEC AUTHORITY='a\\x00b'" },
	{ "v2 CRC32C of 0", STR_INIT(SIG "\x21\x00\x00\x03\x03\x00\x00"), "v2_crc_length" },
	{ "v2 CRC32C of 5", STR_INIT(SIG "\x21\x00\x00\x08\x03\x00\x05\0\0\0\0\0"),
		"v2_crc_length" },
	{ "v2 value one too long",
		STR_INIT(SIG "\x21\x00\x00\x05\x01\x00\x03"
			     "ab"),
		"v2_tlv" },
	{ "v2 value reaches behind the header",
		STR_INIT(SIG "\x21\x00\x00\x03\x01\x00\x02"
			     "ab"),
		"v2_tlv", 19 },

	/* Version 2: the SSL TLV */
	{ "v2 SSL of 4", STR_INIT(SIG "\x21\x00\x00\x07\x20\x00\x04\x01\0\0\0"), "v2_ssl" },
	{ "v2 SSL of 0", STR_INIT(SIG "\x21\x00\x00\x03\x20\x00\x00"), "v2_ssl" },
	{ "v2 SSL, verify of 32 bits",
		STR_INIT(SIG "\x21\x00\x00\x08\x20\x00\x05\xff\xff\xff\xff\xfe"),
		"v2 PROXY UNSPEC SSL client=255 verify=4294967294" },
	{ "v2 SSL, all texts",
		STR_INIT(SIG "\x21\x00\x00\x2b\x20\x00\x28\x07\0\0\0\0"
			     "\x28\x00\x01h\x27\x00\x01g\x26\x00\x01"
			     "f\x25\x00\x01"
			     "e\x24\x00\x01"
			     "d\x23\x00\x01"
			     "c\x22\x00\x01"
			     "b\x29\x00\x00\x20\x00\x01x"),
		"v2 PROXY UNSPEC SSL client=7 verify=0 CN='b' CIPHER='c' SIG_ALG='d' KEY_ALG='e' "
		"GROUP='f' SIG_SCHEME='g' CLIENT_CERT='h'" },
	{ "v2 SSL, duplicate inside",
		STR_INIT(SIG "\x21\x00\x00\x10\x20\x00\x0d\x01\0\0\0\0"
			     "\x22\x00\x01"
			     "a\x22\x00\x01"
			     "b"),
		"v2 PROXY UNSPEC SSL client=1 verify=0 CN='a'" },
	{ "v2 SSL, empty first inside",
		STR_INIT(SIG "\x21\x00\x00\x0f\x20\x00\x0c\x01\0\0\0\0"
			     "\x22\x00\x00\x22\x00\x01"
			     "b"),
		"v2 PROXY UNSPEC SSL client=1 verify=0" },
	{ "v2 SSL, twice",
		STR_INIT(SIG "\x21\x00\x00\x14\x20\x00\x05\x01\0\0\0\0"
			     "\x20\x00\x09\x07\0\0\0\0\x22\x00\x01"
			     "b"),
		"v2 PROXY UNSPEC SSL client=1 verify=0" },
	{ "v2 SSL, second one broken",
		STR_INIT(SIG "\x21\x00\x00\x0c\x20\x00\x05\x01\0\0\0\0"
			     "\x20\x00\x01\x01"),
		"v2_ssl" },
	{ "v2 SSL, text reaches behind it",
		STR_INIT(SIG "\x21\x00\x00\x0f\x20\x00\x08\x01\0\0\0\0\x22\x00\x04\x01\x00\x01z"),
		"v2_ssl" },

	/* Version 2: LOCAL, whose block is passed over unless it is a list of TLVs */
	{ "v2 LOCAL with TLVs", STR_INIT(SIG "\x20\x00\x00\x05\x05\x00\x02id"),
		"v2 LOCAL UNSPEC UNIQUE_ID='id'" },
	{ "v2 LOCAL, junk", STR_INIT(SIG "\x20\x00\x00\x04junk"), "v2 LOCAL UNSPEC" },
	{ "v2 LOCAL, junk behind a TLV", STR_INIT(SIG "\x20\x00\x00\x07\x05\x00\x02id\x01\x00"),
		"v2 LOCAL UNSPEC" },
	{ "v2 LOCAL, UNIX, short", STR_INIT(SIG "\x20\x31\x00\x05\x05\x00\x02id"),
		"v2 LOCAL UNSPEC" },
	{ "v2 LOCAL, TCP4 and a TLV", STR_INIT(SIG "\x20\x11\x00\x11" BLOCK4 "\x05\x00\x02id"),
		"v2 LOCAL UNSPEC UNIQUE_ID='id'" },
	{ "v2 LOCAL, no such family", STR_INIT(SIG "\x20\xff\x00\x00"), "v2 LOCAL UNSPEC" },
	{ "v2 LOCAL, CRC32C wrong", STR_INIT(SIG "\x20\x00\x00\x07\x03\x00\x04\0\0\0\0"),
		"v2_crc" },
	{ "v2 LOCAL, CRC32C of 3", STR_INIT(SIG "\x20\x00\x00\x06\x03\x00\x03\0\0\0"),
		"v2 LOCAL UNSPEC" },
	{ "v2 LOCAL, too long", STR_INIT(SIG "\x20\x00\x10\x01"), "v2_too_long" },
	{ "v2 LOCAL, waits for its block", STR_INIT(SIG "\x20\x00\x10\x00"), "incomplete" },
};

/* Where parsing was decided: the length of a good header, the byte that ruined a bad one. */
static size_t decided_at(const char *name, struct str bytes)
{
	struct digest d = digest(bytes);
	size_t at = bytes.n;

	if (d.rc == 1)
		at = d.length;
	else if (d.rc < 0)
		at = check_bad_steps(name, bytes, &d);
	buf_free(&d.text);
	return at;
}

static void test_cases(void **state)
{
	size_t failures = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const char *name = cases[i].name;
		size_t expected = cases[i].at ? cases[i].at : cases[i].bytes.n;

		check_parses_to(name, cases[i].bytes, str_from(cases[i].expected));
		check_steps(name, cases[i].bytes);
		size_t at = decided_at(name, cases[i].bytes);
		if (at != expected) {
			print_error("%s: decided at %zu instead of %zu\n", name, at, expected);
			failures++;
		}
	}
	assert_int_equal(failures, 0);
}

/* ---- Version 2: headers made here ---------------------------------------------------------- */

struct made {
	char bytes[INPUT_MAX];
	size_t n;
};

static void add(struct made *made, struct str bytes)
{
	assert_true(made->n + bytes.n <= sizeof(made->bytes));
	memcpy(made->bytes + made->n, bytes.p, bytes.n);
	made->n += bytes.n;
}

static void add_fill(struct made *made, char fill, size_t n)
{
	assert_true(made->n + n <= sizeof(made->bytes));
	memset(made->bytes + made->n, fill, n);
	made->n += n;
}

static void add_tlv(struct made *made, unsigned type, char fill, size_t n)
{
	const char fixed[3] = { (char)type, (char)(n >> 8), (char)n };

	add(made, str_make(fixed, sizeof(fixed)));
	add_fill(made, fill, n);
}

static void begin(struct made *made, unsigned command, unsigned family)
{
	const char fixed[4] = { (char)command, (char)family };

	made->n = 0;
	add(made, STR(SIG));
	add(made, str_make(fixed, sizeof(fixed)));
}

static void set_length(struct made *made, size_t length)
{
	made->bytes[14] = (char)(length >> 8);
	made->bytes[15] = (char)length;
}

static struct str finish(struct made *made)
{
	set_length(made, made->n - PROXY_V2_FIXED);
	return str_make(made->bytes, made->n);
}

static int parse(struct str bytes, struct proxy_header *header, enum proxy_error *error)
{
	return proxy_parse(guard_put(&guard, bytes), header, error);
}

static size_t family_minimum(unsigned family)
{
	const size_t minima[] = { 0, 12, 36, 216 };

	return minima[family >> 4];
}

static bool is_known_family(unsigned family)
{
	return family == 0x00 || family == 0x11 || family == 0x12 || family == 0x21 ||
	       family == 0x22 || family == 0x31 || family == 0x32;
}

static void test_every_command_byte(void **state)
{
	(void)state;
	for (unsigned byte = 0; byte < 256; byte++) {
		struct made made;
		struct proxy_header h;
		enum proxy_error error;

		begin(&made, byte, 0x11);
		int rc = parse(str_make(made.bytes, 13), &h, &error);
		assert_int_equal(rc, byte == 0x20 || byte == 0x21 ? 0 : -1);
		if (rc < 0)
			assert_int_equal(error,
				byte >> 4 == 2 ? PROXY_ERROR_V2_COMMAND : PROXY_ERROR_V2_VERSION);
	}
}

static void test_every_family_byte(void **state)
{
	(void)state;
	for (unsigned byte = 0; byte < 256; byte++) {
		struct made made;
		struct proxy_header h;
		enum proxy_error error;

		begin(&made, 0x21, byte);
		int rc = parse(str_make(made.bytes, 14), &h, &error);
		assert_int_equal(rc, is_known_family(byte) ? 0 : -1);
		if (rc < 0)
			assert_int_equal(error, PROXY_ERROR_V2_FAMILY);

		begin(&made, 0x20, byte);
		check_parses_to("LOCAL", finish(&made), STR("v2 LOCAL UNSPEC"));
		add_fill(&made, 'x', 300);
		check_parses_to("LOCAL, junk", finish(&made), STR("v2 LOCAL UNSPEC"));
	}
}

/* The length is judged at byte 16, before anything of the block is there. */
static void test_every_length(void **state)
{
	(void)state;
	for (unsigned family = 0; family < 256; family++) {
		for (size_t length = 0; is_known_family(family) && length <= 0xffff; length++) {
			struct made made;
			struct proxy_header h;
			enum proxy_error error;
			int expected = 0;

			if (length < family_minimum(family) || length > PROXY_LENGTH_MAX)
				expected = -1;
			else if (length == 0)
				expected = 1;
			begin(&made, 0x21, family);
			set_length(&made, length);
			assert_int_equal(parse(str_make(made.bytes, 16), &h, &error), expected);
			if (expected < 0)
				assert_int_equal(error, length > PROXY_LENGTH_MAX
								? PROXY_ERROR_V2_TOO_LONG
								: PROXY_ERROR_V2_TOO_SHORT);
		}
	}
}

static void test_limits_of_values(void **state)
{
	static const struct {
		unsigned type;
		size_t max;
		enum proxy_error error;
	} limits[] = {
		{ 0x02, 255, PROXY_ERROR_V2_AUTHORITY },
		{ 0x05, 128, PROXY_ERROR_V2_UNIQUE_ID },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(limits) / sizeof(*limits); i++) {
		struct made made;
		struct proxy_header h;
		enum proxy_error error;

		begin(&made, 0x21, 0x00);
		add_tlv(&made, limits[i].type, 'a', limits[i].max);
		assert_int_equal(parse(finish(&made), &h, &error), 1);
		/* Also the second of a duplicate must keep to its limit. */
		add_tlv(&made, limits[i].type, 'a', limits[i].max + 1);
		assert_int_equal(parse(finish(&made), &h, &error), -1);
		assert_int_equal(error, limits[i].error);
	}
}

static void test_more_tlvs_than_are_kept(void **state)
{
	struct made made;
	struct proxy_header h;
	enum proxy_error error;

	(void)state;
	begin(&made, 0x21, 0x00);
	for (unsigned i = 0; i < 200; i++)
		add_tlv(&made, 0x04, 0, 1);
	for (unsigned i = 0; i < PROXY_TLV_MAX + 10; i++)
		add_tlv(&made, 0xe0, (char)('0' + i), 1);
	add_tlv(&made, 0x01, 'a', 3);
	assert_int_equal(parse(finish(&made), &h, &error), 1);
	assert_int_equal(h.tlv_count, PROXY_TLV_MAX);
	assert_int_equal(h.tlvs[0].value.p[0], '0');
	assert_int_equal(h.tlvs[PROXY_TLV_MAX - 1].value.p[0], '0' + PROXY_TLV_MAX - 1);
	assert_true(str_eq(h.alpn, STR("aaa"))); /* those with a field of their own still count */

	/* What is skipped must be well formed all the same. */
	add_fill(&made, 0, 1);
	assert_int_equal(parse(finish(&made), &h, &error), -1);
	assert_int_equal(error, PROXY_ERROR_V2_TLV);
}

static void test_longest_header_followed_by_data(void **state)
{
	struct made made;

	(void)state;
	begin(&made, 0x21, 0x11);
	add(&made, STR(BLOCK4));
	add_tlv(&made, 0x04, 0, 2000);
	add_tlv(&made, 0xe0, 'e', PROXY_LENGTH_MAX - 12 - 3 - 2000 - 3);
	assert_int_equal(finish(&made).n, PROXY_HEADER_MAX);
	add(&made, STR("EHLO client.example.test\r\n"));
	add_fill(&made, 'd', 1000);
	check_steps("longest", str_make(made.bytes, made.n));

	struct proxy_header h;
	enum proxy_error error;
	assert_int_equal(parse(str_make(made.bytes, made.n), &h, &error), 1);
	assert_int_equal(h.length, PROXY_HEADER_MAX);
}

/* ---- CRC32C -------------------------------------------------------------------------------- */

static void put_crc(struct made *made, size_t at)
{
	struct str bytes = finish(made);

	memset(made->bytes + at, 0, 4);
	uint32_t crc = crc32c_add(0, bytes);
	for (unsigned i = 0; i < 4; i++)
		made->bytes[at + i] = (char)(crc >> (24 - 8 * i));
}

static void test_every_changed_bit_breaks_the_crc(void **state)
{
	struct made made;
	struct proxy_header h;
	enum proxy_error error;
	const size_t type_at = PROXY_V2_FIXED + 12; /* of the CRC32C TLV: without it nobody looks */

	(void)state;
	begin(&made, 0x21, 0x11);
	add(&made, STR(BLOCK4));
	add_tlv(&made, 0x03, 0, 4);
	add_tlv(&made, 0xe0, 'x', 20);
	put_crc(&made, type_at + 3);
	assert_int_equal(parse(finish(&made), &h, &error), 1);
	assert_true(h.has_crc32c);
	for (size_t bit = 0; bit < made.n * 8; bit++) {
		if (bit / 8 == type_at)
			continue;
		made.bytes[bit / 8] ^= (char)(1 << bit % 8);
		if (parse(str_make(made.bytes, made.n), &h, &error) == 1 &&
			h.command == PROXY_COMMAND_PROXY)
			fail_msg("bit %zu", bit);
		made.bytes[bit / 8] ^= (char)(1 << bit % 8);
	}
}

static void test_first_crc_counts(void **state)
{
	struct made made;
	struct proxy_header h;
	enum proxy_error error;

	(void)state;
	begin(&made, 0x21, 0x00);
	add_tlv(&made, 0x03, 0, 4);
	add_tlv(&made, 0x03, 'x', 4);
	put_crc(&made, PROXY_V2_FIXED + 3);
	assert_int_equal(parse(finish(&made), &h, &error), 1);

	begin(&made, 0x21, 0x00);
	add_tlv(&made, 0x03, 'x', 4);
	add_tlv(&made, 0x03, 0, 4);
	put_crc(&made, PROXY_V2_FIXED + 10);
	assert_int_equal(parse(finish(&made), &h, &error), -1);
	assert_int_equal(error, PROXY_ERROR_V2_CRC);
}

/* A LOCAL header with TLVs behind addresses, as a balancer may send it, with its checksum. */
static void test_crc_of_local(void **state)
{
	struct made made;

	(void)state;
	begin(&made, 0x20, 0x11);
	add(&made, STR(BLOCK4));
	add_tlv(&made, 0x03, 0, 4);
	put_crc(&made, PROXY_V2_FIXED + 12 + 3);
	check_parses_to("LOCAL", finish(&made), STR("v2 LOCAL UNSPEC CRC32C"));
	made.bytes[PROXY_V2_FIXED] ^= 1;
	check_parses_to("LOCAL", finish(&made), STR("v2_crc"));
}

/* ---- Properties ---------------------------------------------------------------------------- */

static uint32_t random_state = 1;

static uint32_t random_u32(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 17;
	random_state ^= random_state << 5;
	return random_state;
}

/* Some groups are zero, so that "::" and short texts occur; a third is IPv4. */
static struct endpoint random_endpoint(void)
{
	uint8_t bytes[16];
	struct endpoint endpoint = { .port = (uint16_t)random_u32() };

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = random_u32() % 3 == 0 ? 0 : (uint8_t)(random_u32() >> 7);
	endpoint.ip = random_u32() % 3 == 0 ? ipaddr_from_v4(bytes) : ipaddr_from_v6(bytes);
	return endpoint;
}

static void check_printed(struct str bytes, const struct endpoint *source,
	const struct endpoint *destination, unsigned version)
{
	bool is_v4 = ipaddr_is_v4(&source->ip) && ipaddr_is_v4(&destination->ip);
	struct proxy_header h;
	enum proxy_error error;

	assert_int_equal(parse(bytes, &h, &error), 1);
	assert_int_equal(h.version, version);
	assert_int_equal(h.command, PROXY_COMMAND_PROXY);
	assert_int_equal(h.family, is_v4 ? PROXY_FAMILY_TCP4 : PROXY_FAMILY_TCP6);
	assert_int_equal(h.length, bytes.n);
	assert_true(ipaddr_eq(&h.source.ip, &source->ip));
	assert_true(ipaddr_eq(&h.destination.ip, &destination->ip));
	assert_int_equal(h.source.port, source->port);
	assert_int_equal(h.destination.port, destination->port);
}

static void test_parse_of_print(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		struct endpoint source = random_endpoint();
		struct endpoint destination = random_endpoint();
		char v1[PROXY_V1_MAX + 1];
		char v2[PROXY_V2_FIXED + 36];
		struct str line = str_make(v1, proxy_v1_print(&source, &destination, v1));
		struct str header = str_make(v2, proxy_v2_print(&source, &destination, v2));

		check_printed(line, &source, &destination, 1);
		check_printed(header, &source, &destination, 2);
	}
}

static void test_print(void **state)
{
	struct endpoint v4, v6;
	char v1[PROXY_V1_MAX + 1];
	char v2[PROXY_V2_FIXED + 36];

	(void)state;
	assert_true(endpoint_parse(STR("192.0.2.10:51515"), &v4));
	assert_true(endpoint_parse(STR("[2001:db8::1]:25"), &v6));
	proxy_v1_print(&v4, &v6, v1);
	assert_string_equal(v1, "PROXY TCP6 ::ffff:192.0.2.10 2001:db8::1 51515 25\r\n");
	proxy_v1_print(&v4, &v4, v1);
	assert_string_equal(v1, "PROXY TCP4 192.0.2.10 192.0.2.10 51515 51515\r\n");
	assert_int_equal(proxy_v2_print(&v4, &v4, v2), 28);
	assert_int_equal(proxy_v2_print(&v6, &v4, v2), 52);
	assert_int_equal(proxy_v2_print_local(v2), PROXY_V2_FIXED);
	assert_memory_equal(v2, SIG "\x20\x00\x00\x00", PROXY_V2_FIXED);
	check_parses_to("LOCAL", str_make(v2, PROXY_V2_FIXED), STR("v2 LOCAL UNSPEC"));
}

/*
 * IPv4 addresses and ports have one text each, so whatever is accepted as a TCP4 line is what
 * we would have written: no byte of it can be changed and still mean the same.
 */
static void test_tcp4_line_has_one_form(void **state)
{
	char line[] = "PROXY TCP4 192.0.2.10 198.51.100.25 51515 25\r\n";
	size_t accepted = 0;

	(void)state;
	for (size_t at = 0; at < sizeof(line) - 1; at++) {
		const char original = line[at];
		for (unsigned byte = 0; byte < 256; byte++) {
			struct proxy_header h;
			enum proxy_error error;
			char printed[PROXY_V1_MAX + 1];

			line[at] = (char)byte;
			if (parse(str_make(line, sizeof(line) - 1), &h, &error) != 1)
				continue;
			accepted++;
			size_t n = proxy_v1_print(&h.source, &h.destination, printed);
			assert_int_equal(h.length, n);
			assert_memory_equal(printed, line, n);
		}
		line[at] = original;
	}
	assert_true(accepted > sizeof(line));
}

/* ---- The rest ------------------------------------------------------------------------------ */

static void test_valid_certificate(void **state)
{
	static const struct {
		struct proxy_ssl ssl;
		bool is_valid;
	} rows[] = {
		{ { .present = false, .client = 7 }, false },
		{ { .present = true, .client = 0 }, false },
		{ { .present = true, .client = 1 }, false },
		{ { .present = true, .client = 7 }, true },
		{ { .present = true, .client = 3 }, true },
		{ { .present = true, .client = 5 }, true },
		{ { .present = true, .client = 7, .verify = 21 }, false },
		{ { .present = true, .client = 7, .verify = 0x01000000 }, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		assert_int_equal(proxy_ssl_has_valid_certificate(&rows[i].ssl), rows[i].is_valid);
}

static void test_looks_like_header(void **state)
{
	static const struct {
		struct str bytes;
		bool expected;
	} rows[] = {
		{ STR_INIT(""), false },
		{ STR_INIT("P"), true },
		{ STR_INIT("\r"), true },
		{ STR_INIT("PROXY TCP4 1.2"), true },
		{ STR_INIT("PROXY UNKNOWN\r\n"), true },
		{ STR_INIT(SIG "\x21"), true },
		{ STR_INIT("PROXY please"), false },
		{ STR_INIT("\r\nEHLO"), false },
		{ STR_INIT("EHLO x"), false },
		{ STR_INIT("\x16\x03\x01"), false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		assert_int_equal(proxy_looks_like_header(guard_put(&guard, rows[i].bytes)),
			rows[i].expected);
	assert_false(proxy_looks_like_header((struct str){ 0 }));
}

static void test_words_differ(void **state)
{
	(void)state;
	for (int i = 0; i < PROXY_ERROR_COUNT; i++) {
		assert_true(strlen(proxy_error_text((enum proxy_error)i)) > 0);
		for (int j = 0; j < i; j++)
			assert_string_not_equal(proxy_error_word((enum proxy_error)i),
				proxy_error_word((enum proxy_error)j));
	}
}

static void test_nothing_at_all(void **state)
{
	struct proxy_header h;
	enum proxy_error error;

	(void)state;
	assert_int_equal(proxy_parse((struct str){ 0 }, &h, &error), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_captures),
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_every_command_byte),
		cmocka_unit_test(test_every_family_byte),
		cmocka_unit_test(test_every_length),
		cmocka_unit_test(test_limits_of_values),
		cmocka_unit_test(test_more_tlvs_than_are_kept),
		cmocka_unit_test(test_longest_header_followed_by_data),
		cmocka_unit_test(test_every_changed_bit_breaks_the_crc),
		cmocka_unit_test(test_first_crc_counts),
		cmocka_unit_test(test_crc_of_local),
		cmocka_unit_test(test_parse_of_print),
		cmocka_unit_test(test_print),
		cmocka_unit_test(test_tcp4_line_has_one_form),
		cmocka_unit_test(test_valid_certificate),
		cmocka_unit_test(test_looks_like_header),
		cmocka_unit_test(test_words_differ),
		cmocka_unit_test(test_nothing_at_all),
	};

	return cmocka_run_group_tests(tests, make_guard, free_guard);
}
