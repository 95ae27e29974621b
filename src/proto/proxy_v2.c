#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "proxy_priv.h"

/*
 * proxy-protocol.txt section 2.2:
 *
 *   header  = signature(12) version-command(1) family-transport(1) length(2) block(length)
 *   block   = addresses *tlv
 *   tlv     = type(1) length(2) value(length)
 *
 * Numbers are big-endian. Nothing of the block is read before all of it is there.
 */
enum { AT_COMMAND = 12, AT_FAMILY = 13, AT_LENGTH = 14 };

#define UNIX_BLOCK 216

/* The seven pairs of address family and transport that the protocol lists. */
static const struct v2_family {
	uint8_t byte;
	enum proxy_family family;
	size_t addresses; /* bytes of the block before the TLVs */
} v2_families[] = {
	{ 0x00, PROXY_FAMILY_UNSPEC, 0 },
	{ 0x11, PROXY_FAMILY_TCP4, IPV4_BLOCK },
	{ 0x12, PROXY_FAMILY_UDP4, IPV4_BLOCK },
	{ 0x21, PROXY_FAMILY_TCP6, IPV6_BLOCK },
	{ 0x22, PROXY_FAMILY_UDP6, IPV6_BLOCK },
	{ 0x31, PROXY_FAMILY_UNIX_STREAM, UNIX_BLOCK },
	{ 0x32, PROXY_FAMILY_UNIX_DGRAM, UNIX_BLOCK },
};

/* ---- TLVs -------------------------------------------------------------------------------- */

static uint8_t byte_at(struct str s, size_t at)
{
	ASSERT(at < s.n);
	return (uint8_t)s.p[at];
}

static uint16_t u16_at(struct str s, size_t at)
{
	return (uint16_t)(byte_at(s, at) << 8 | byte_at(s, at + 1));
}

static uint32_t u32_at(struct str s, size_t at)
{
	return (uint32_t)u16_at(s, at) << 16 | u16_at(s, at + 2);
}

/* Takes a TLV off the front of *rest, which is not empty. False when it is cut short. */
static bool next_tlv(struct str *rest, struct proxy_tlv *tlv)
{
	const size_t fixed = 3;

	if (rest->n < fixed || rest->n - fixed < u16_at(*rest, 1))
		return false;
	tlv->type = byte_at(*rest, 0);
	tlv->value = str_range(*rest, fixed, fixed + u16_at(*rest, 1));
	*rest = str_from_pos(*rest, fixed + tlv->value.n);
	return true;
}

/* The fields of the SSL TLV, by type from 0x21 on. */
static struct str *ssl_text(struct proxy_ssl *ssl, uint8_t type)
{
	struct str *texts[] = {
		&ssl->version,
		&ssl->cn,
		&ssl->cipher,
		&ssl->sig_alg,
		&ssl->key_alg,
		&ssl->group,
		&ssl->sig_scheme,
		&ssl->client_cert,
	};
	size_t at = (size_t)type - 0x21; /* below 0x21 it wraps to something huge */

	return at < sizeof(texts) / sizeof(*texts) ? texts[at] : NULL;
}

/* client(1) verify(4) *sub-tlv; there is no further level. */
static int read_ssl(struct str value, struct proxy_ssl *ssl, enum proxy_error *error)
{
	const size_t fixed = 5;

	if (value.n < fixed)
		return proxy_refuse(error, PROXY_ERROR_V2_SSL);

	struct proxy_ssl read = { .present = true };
	struct str rest = str_from_pos(value, fixed);
	read.client = byte_at(value, 0);
	read.verify = u32_at(value, 1);
	while (rest.n > 0) {
		struct proxy_tlv sub;
		if (!next_tlv(&rest, &sub))
			return proxy_refuse(error, PROXY_ERROR_V2_SSL);
		struct str *text = ssl_text(&read, sub.type);
		if (text && !text->p) /* an empty text that was sent has a pointer, too */
			*text = sub.value;
	}
	if (!ssl->present)
		*ssl = read;
	return 1;
}

/* The checksum covers the whole header, its own four bytes taken as zero. */
static bool is_crc_right(struct str header, struct str value)
{
	size_t at = (size_t)(value.p - header.p);
	uint32_t crc = crc32c_add(0, str_range(header, 0, at));

	crc = crc32c_add(crc, STR("\0\0\0\0"));
	crc = crc32c_add(crc, str_from_pos(header, at + value.n));
	return crc == u32_at(value, 0);
}

/* The first one vouches for the whole header, so further ones need no look at their sum. */
static int read_crc(
	struct str value, struct str bytes, struct proxy_header *header, enum proxy_error *error)
{
	if (value.n != sizeof(uint32_t))
		return proxy_refuse(error, PROXY_ERROR_V2_CRC_LENGTH);
	if (!header->has_crc32c && !is_crc_right(bytes, value))
		return proxy_refuse(error, PROXY_ERROR_V2_CRC);
	header->has_crc32c = true;
	return 1;
}

static void keep_first(struct str value, struct str *text, bool *has_text)
{
	if (!*has_text)
		*text = value;
	*has_text = true;
}

static void keep_other(const struct proxy_tlv *tlv, struct proxy_header *header)
{
	if (header->tlv_count < PROXY_TLV_MAX)
		header->tlvs[header->tlv_count++] = *tlv;
}

/* `bytes` is the whole header. */
static int read_tlv(const struct proxy_tlv *tlv, struct str bytes, struct proxy_header *header,
	enum proxy_error *error)
{
	const size_t authority_max = 255;
	const size_t unique_id_max = 128;

	switch (tlv->type) {
	case TLV_ALPN:
		keep_first(tlv->value, &header->alpn, &header->has_alpn);
		return 1;
	case TLV_AUTHORITY:
		if (tlv->value.n > authority_max)
			return proxy_refuse(error, PROXY_ERROR_V2_AUTHORITY);
		keep_first(tlv->value, &header->authority, &header->has_authority);
		return 1;
	case TLV_CRC32C:
		return read_crc(tlv->value, bytes, header, error);
	case TLV_NOOP:
		return 1;
	case TLV_UNIQUE_ID:
		if (tlv->value.n > unique_id_max)
			return proxy_refuse(error, PROXY_ERROR_V2_UNIQUE_ID);
		keep_first(tlv->value, &header->unique_id, &header->has_unique_id);
		return 1;
	case TLV_SSL:
		return read_ssl(tlv->value, &header->ssl, error);
	case TLV_NETNS:
		keep_first(tlv->value, &header->netns, &header->has_netns);
		return 1;
	default:
		keep_other(tlv, header);
		return 1;
	}
}

/* The list of TLVs from byte `at` of the header to its end. */
static int read_tlvs(
	struct str bytes, size_t at, struct proxy_header *header, enum proxy_error *error)
{
	struct str rest = str_from_pos(bytes, at);

	while (rest.n > 0) {
		struct proxy_tlv tlv;
		if (!next_tlv(&rest, &tlv))
			return proxy_refuse(error, PROXY_ERROR_V2_TLV);
		if (read_tlv(&tlv, bytes, header, error) < 0)
			return -1;
	}
	return 1;
}

/* ---- The header -------------------------------------------------------------------------- */

static const struct v2_family *find_family(uint8_t byte)
{
	for (size_t i = 0; i < sizeof(v2_families) / sizeof(*v2_families); i++)
		if (v2_families[i].byte == byte)
			return &v2_families[i];
	return NULL;
}

static int read_command(uint8_t byte, enum proxy_command *command, enum proxy_error *error)
{
	if (byte >> 4 != 2)
		return proxy_refuse(error, PROXY_ERROR_V2_VERSION);
	if ((byte & 15) > 1)
		return proxy_refuse(error, PROXY_ERROR_V2_COMMAND);
	*command = (byte & 15) == 1 ? PROXY_COMMAND_PROXY : PROXY_COMMAND_LOCAL;
	return 1;
}

/*
 * The fixed part, each byte judged as soon as it is there. A LOCAL header may name any family,
 * even a pair that does not exist (*family is NULL then), and its block may have any length.
 */
static int read_fixed(struct str bytes, struct proxy_header *header,
	const struct v2_family **family, enum proxy_error *error)
{
	if (bytes.n <= AT_COMMAND)
		return 0;
	if (read_command(byte_at(bytes, AT_COMMAND), &header->command, error) < 0)
		return -1;
	if (bytes.n <= AT_FAMILY)
		return 0;
	bool is_local = header->command == PROXY_COMMAND_LOCAL;
	*family = find_family(byte_at(bytes, AT_FAMILY));
	if (!*family && !is_local)
		return proxy_refuse(error, PROXY_ERROR_V2_FAMILY);
	if (bytes.n < PROXY_V2_FIXED)
		return 0;
	size_t length = u16_at(bytes, AT_LENGTH);
	if (length > PROXY_LENGTH_MAX)
		return proxy_refuse(error, PROXY_ERROR_V2_TOO_LONG);
	if (!is_local && length < (*family)->addresses)
		return proxy_refuse(error, PROXY_ERROR_V2_TOO_SHORT);
	header->length = PROXY_V2_FIXED + length;
	return 1;
}

static struct ipaddr ip_at(struct str block, size_t at, bool is_v4)
{
	uint8_t ip[16];

	ASSERT(at + (is_v4 ? 4 : 16) <= block.n);
	memcpy(ip, block.p + at, is_v4 ? 4 : 16);
	return is_v4 ? ipaddr_from_v4(ip) : ipaddr_from_v6(ip);
}

/* source(4/16) destination(4/16) source port(2) destination port(2) */
static void read_addresses(struct str block, struct proxy_header *header)
{
	bool is_v4 = header->family == PROXY_FAMILY_TCP4;
	size_t size = is_v4 ? 4 : 16;

	header->source.ip = ip_at(block, 0, is_v4);
	header->destination.ip = ip_at(block, size, is_v4);
	header->source.port = u16_at(block, 2 * size);
	header->destination.port = u16_at(block, 2 * size + 2);
}

/*
 * The block of a LOCAL header is to be skipped by its length, whatever is in it: balancers of
 * one cloud send addresses there. HAProxy sends TLVs, and those are worth having. So they are
 * read where they would be, and a block that holds something else is passed over; only a
 * checksum that is there and wrong is a refusal, as the header then says itself that it is
 * damaged.
 */
static int read_local(struct str bytes, const struct v2_family *family, struct proxy_header *header,
	enum proxy_error *error)
{
	const struct proxy_header without_tlvs = *header;
	size_t addresses = family ? family->addresses : 0;

	if (read_tlvs(bytes, PROXY_V2_FIXED + addresses, header, error) == 1)
		return 1;
	if (*error == PROXY_ERROR_V2_CRC)
		return -1;
	*header = without_tlvs;
	*error = PROXY_ERROR_NONE;
	return 1;
}

int proxy_v2_parse(struct str bytes, struct proxy_header *header, enum proxy_error *error)
{
	const struct v2_family *family = NULL;

	header->version = 2;
	int rc = read_fixed(bytes, header, &family, error);
	if (rc != 1)
		return rc;
	if (bytes.n < header->length)
		return 0;
	bytes = str_range(bytes, 0, header->length);
	header->family = PROXY_FAMILY_UNSPEC;
	if (header->command == PROXY_COMMAND_LOCAL)
		return read_local(bytes, family, header, error);
	header->family = family->family;
	if (proxy_has_client(header))
		read_addresses(str_from_pos(bytes, PROXY_V2_FIXED), header);
	return read_tlvs(bytes, PROXY_V2_FIXED + family->addresses, header, error);
}
