/*
 * proxy_parse with any bytes. What must hold: a prefix of a header is incomplete, a prefix of
 * what is refused is incomplete or refused for the same reason; bytes behind a header change
 * nothing; every view points into the header; a TCP4 header is what we would print ourselves.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "proto/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct result {
	int rc;
	struct proxy_header header;
	enum proxy_error error;
};

/* Parses a copy of exactly these bytes, so that the sanitizer sees a look behind them. */
static struct result parse_copy(struct str bytes, char **copy)
{
	struct result result;

	*copy = malloc(bytes.n ? bytes.n : 1);
	ASSERT(*copy);
	if (bytes.n > 0)
		memcpy(*copy, bytes.p, bytes.n);
	result.rc = proxy_parse(str_make(*copy, bytes.n), &result.header, &result.error);
	return result;
}

static void check_same_text(struct str a, struct str b)
{
	ASSERT(str_eq(a, b));
	ASSERT((a.p == NULL) == (b.p == NULL));
}

static void check_same_ssl(const struct proxy_ssl *a, const struct proxy_ssl *b)
{
	ASSERT(a->present == b->present);
	ASSERT(a->client == b->client && a->verify == b->verify);
	check_same_text(a->version, b->version);
	check_same_text(a->cn, b->cn);
	check_same_text(a->cipher, b->cipher);
	check_same_text(a->sig_alg, b->sig_alg);
	check_same_text(a->key_alg, b->key_alg);
	check_same_text(a->group, b->group);
	check_same_text(a->sig_scheme, b->sig_scheme);
	check_same_text(a->client_cert, b->client_cert);
}

static void check_same_header(const struct proxy_header *a, const struct proxy_header *b)
{
	ASSERT(a->version == b->version && a->command == b->command && a->family == b->family);
	ASSERT(a->length == b->length);
	ASSERT(ipaddr_eq(&a->source.ip, &b->source.ip) && a->source.port == b->source.port);
	ASSERT(ipaddr_eq(&a->destination.ip, &b->destination.ip) &&
		a->destination.port == b->destination.port);
	check_same_text(a->alpn, b->alpn);
	check_same_text(a->authority, b->authority);
	check_same_text(a->unique_id, b->unique_id);
	check_same_text(a->netns, b->netns);
	ASSERT(a->has_crc32c == b->has_crc32c);
	check_same_ssl(&a->ssl, &b->ssl);
	ASSERT(a->tlv_count == b->tlv_count);
	for (size_t i = 0; i < a->tlv_count; i++) {
		ASSERT(a->tlvs[i].type == b->tlvs[i].type);
		check_same_text(a->tlvs[i].value, b->tlvs[i].value);
	}
}

static void check_inside(struct str view, struct str header)
{
	ASSERT(!view.p || (view.p >= header.p && view.p + view.n <= header.p + header.n));
}

static void check_views(const struct proxy_header *h, struct str header)
{
	check_inside(h->alpn, header);
	check_inside(h->authority, header);
	check_inside(h->unique_id, header);
	check_inside(h->netns, header);
	check_inside(h->ssl.version, header);
	check_inside(h->ssl.cn, header);
	check_inside(h->ssl.client_cert, header);
	ASSERT(h->tlv_count <= PROXY_TLV_MAX);
	for (size_t i = 0; i < h->tlv_count; i++)
		check_inside(h->tlvs[i].value, header);
}

/* We print no TLVs, so of a v2 header all but the length and the TLVs must be the same. */
static void check_printed(const struct proxy_header *h, const char *bytes)
{
	char line[PROXY_V1_MAX + 1];
	char block[PROXY_V2_FIXED + 36];

	if (h->version == 1) {
		ASSERT(proxy_v1_print(&h->source, &h->destination, line) == h->length);
		ASSERT(memcmp(line, bytes, h->length) == 0);
		return;
	}
	size_t n = proxy_v2_print(&h->source, &h->destination, block);
	ASSERT(n <= h->length);
	ASSERT(memcmp(block, bytes, PROXY_V2_FIXED - 2) == 0);
	ASSERT(memcmp(block + PROXY_V2_FIXED, bytes + PROXY_V2_FIXED, n - PROXY_V2_FIXED) == 0);
}

/* Without what follows it a header is the same; with one byte less it is not complete. */
static void check_header(struct str bytes, const struct proxy_header *header)
{
	char *copy;

	ASSERT(header->length > 0 && header->length <= bytes.n);
	ASSERT(header->length <= PROXY_HEADER_MAX);
	struct str exact = str_range(bytes, 0, header->length);
	check_views(header, exact);
	struct result alone = parse_copy(exact, &copy);
	ASSERT(alone.rc == 1);
	check_same_header(header, &alone.header);
	free(copy);
	if (proxy_has_client(header) && header->family == PROXY_FAMILY_TCP4)
		check_printed(header, bytes.p);
}

/* Arrival byte by byte comes to the same decision as all at once. */
static void check_prefixes(
	struct str bytes, int rc, const struct proxy_header *header, enum proxy_error error)
{
	size_t limit = rc == 1 ? header->length : bytes.n;

	for (size_t n = 0; n < limit; n++) {
		struct proxy_header prefix_header;
		enum proxy_error prefix_error;
		int prefix_rc = proxy_parse(str_range(bytes, 0, n), &prefix_header, &prefix_error);
		if (prefix_rc == 0)
			continue;
		ASSERT(rc == -1 && prefix_rc == -1 && prefix_error == error);
		return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str bytes = str_make((const char *)data, size);
	char *copy;
	struct result whole = parse_copy(bytes, &copy);

	bytes.p = copy;
	if (whole.rc == 1)
		check_header(bytes, &whole.header);
	else if (whole.rc == 0)
		ASSERT(size < PROXY_HEADER_MAX);
	else
		ASSERT(whole.error != PROXY_ERROR_NONE && whole.error < PROXY_ERROR_COUNT);
	if (size > 0 && whole.rc >= 0)
		ASSERT(proxy_looks_like_header(bytes));
	check_prefixes(bytes, whole.rc, &whole.header, whole.error);
	free(copy);
	return 0;
}
