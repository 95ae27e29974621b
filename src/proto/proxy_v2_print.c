#include <string.h>

#include "base/crc32c.h"
#include "proxy_priv.h"

#define TLV_HEADER 3
#define CRC_TLV (TLV_HEADER + 4)
#define SSL_FIXED 5 /* client bits, verify */

/* A header being written: what does not fit is refused whole. */
struct out {
	char *bytes;
	size_t n, max;
};

static void put(struct out *out, const void *bytes, size_t n)
{
	memcpy(out->bytes + out->n, bytes, n);
	out->n += n;
}

static void put_u16(struct out *out, size_t value)
{
	const uint8_t bytes[2] = { (uint8_t)(value >> 8), (uint8_t)value };

	put(out, bytes, sizeof(bytes));
}

static void put_u32(struct out *out, uint32_t value)
{
	put_u16(out, value >> 16);
	put_u16(out, value & 0xffff);
}

static void put_fixed(struct out *out, uint8_t command, uint8_t family, size_t length)
{
	put(out, PROXY_V2_SIGNATURE, sizeof(PROXY_V2_SIGNATURE) - 1);
	put(out, &command, 1);
	put(out, &family, 1);
	put_u16(out, length);
}

static void put_addresses(
	struct out *out, const struct endpoint *source, const struct endpoint *destination)
{
	bool is_v4 = ipaddr_is_v4(&source->ip) && ipaddr_is_v4(&destination->ip);
	size_t skip = is_v4 ? 12 : 0; /* an IPv4 address is the end of its mapped form */

	put_fixed(out, 0x21, is_v4 ? 0x11 : 0x21, is_v4 ? IPV4_BLOCK : IPV6_BLOCK);
	put(out, source->ip.bytes + skip, 16 - skip);
	put(out, destination->ip.bytes + skip, 16 - skip);
	put_u16(out, source->port);
	put_u16(out, destination->port);
}

/* ---- TLVs -------------------------------------------------------------------------------- */

static void put_type(struct out *out, enum tlv_type type, size_t length)
{
	const uint8_t byte = (uint8_t)type;

	put(out, &byte, 1);
	put_u16(out, length);
}

static void put_text(struct out *out, enum tlv_type type, struct str text)
{
	if (text.n == 0 || text.n > out->max - out->n || TLV_HEADER > out->max - out->n - text.n)
		return;
	put_type(out, type, text.n);
	put(out, text.p, text.n);
}

static size_t text_size(struct str text)
{
	return text.n > 0 ? TLV_HEADER + text.n : 0;
}

static void put_ssl(struct out *out, const struct proxy_ssl *ssl)
{
	size_t length =
		SSL_FIXED + text_size(ssl->version) + text_size(ssl->cn) + text_size(ssl->cipher);

	if (length > out->max - out->n || TLV_HEADER > out->max - out->n - length)
		return;
	put_type(out, TLV_SSL, length);
	put(out, &ssl->client, 1);
	put_u32(out, ssl->verify);
	put_text(out, TLV_SSL_VERSION, ssl->version);
	put_text(out, TLV_SSL_CN, ssl->cn);
	put_text(out, TLV_SSL_CIPHER, ssl->cipher);
}

static void set_length(struct out *out)
{
	struct out field = { .bytes = out->bytes + PROXY_V2_FIXED - 2 };

	put_u16(&field, out->n - PROXY_V2_FIXED);
}

/* Over the whole header, with its own value as zero (proxy-protocol.txt section 2.2.3). */
static void put_crc(struct out *out)
{
	put_type(out, TLV_CRC32C, 4);
	put_u32(out, 0);
	set_length(out);
	uint32_t crc = crc32c_add(0, str_make(out->bytes, out->n));
	out->n -= 4;
	put_u32(out, crc);
}

/* ---- Whole headers ----------------------------------------------------------------------- */

size_t proxy_v2_print(const struct endpoint *source, const struct endpoint *destination,
	char bytes[PROXY_V2_FIXED + 36])
{
	struct out out = { .bytes = bytes };

	put_addresses(&out, source, destination);
	return out.n;
}

size_t proxy_v2_print_tlvs(const struct endpoint *source, const struct endpoint *destination,
	const struct proxy_v2_tlvs *tlvs, char bytes[PROXY_V2_SENT_MAX])
{
	struct out out = { .bytes = bytes,
		.max = PROXY_V2_SENT_MAX - (tlvs->crc32c ? CRC_TLV : 0) };

	put_addresses(&out, source, destination);
	put_text(&out, TLV_AUTHORITY, tlvs->authority);
	put_text(&out, TLV_UNIQUE_ID, tlvs->unique_id);
	if (tlvs->ssl != NULL)
		put_ssl(&out, tlvs->ssl);
	set_length(&out);
	if (tlvs->crc32c)
		put_crc(&out);
	return out.n;
}

size_t proxy_v2_print_local(char bytes[PROXY_V2_FIXED])
{
	struct out out = { .bytes = bytes };

	put_fixed(&out, 0x20, 0x00, 0);
	return out.n;
}
