#include "proxy.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define V1_MAX 107
#define V2_FIXED 16
#define TLV_CRC32C 0x03

static const struct str signature = STR_INIT("\r\n\r\n\0\r\nQUIT\n");

bool proxy_mode_parse(struct str name, enum proxy_mode *mode)
{
	static const char *const names[] = { "none", "v1", "v2", "auto" };

	for (unsigned i = 0; i < 4; i++) {
		if (!str_eq(name, str_from(names[i])))
			continue;
		*mode = (enum proxy_mode)i;
		return true;
	}
	return false;
}

static int broken(struct proxy_header *header, const char *error)
{
	header->error = error;
	return -1;
}

static void print_endpoint(char out[64], int family, const void *ip, unsigned port)
{
	char text[INET6_ADDRSTRLEN];

	inet_ntop(family, ip, text, sizeof(text));
	snprintf(out, 64, family == AF_INET ? "%s:%u" : "[%s]:%u", text, port);
}

/* ---- Version 1: "PROXY TCP4 src dst sport dport CR LF" --------------------------------------- */

static bool read_port(struct str text, unsigned *port)
{
	uint64_t value;

	if (text.n == 0 || text.n > 5 || (text.n > 1 && text.p[0] == '0'))
		return false;
	if (!str_to_u64(text, 65535, &value))
		return false;
	*port = (unsigned)value;
	return true;
}

static bool read_endpoint(int family, struct str ip, struct str port, char out[64])
{
	char text[64];
	unsigned char bytes[16];
	unsigned number;

	if (ip.n >= sizeof(text) || memchr(ip.p, '\0', ip.n) || !read_port(port, &number))
		return false;
	str_copy_to(ip, text, sizeof(text));
	if (inet_pton(family, text, bytes) != 1)
		return false;
	print_endpoint(out, family, bytes, number);
	return true;
}

static int read_v1_line(struct str line, struct proxy_header *header)
{
	struct str rest = str_from_pos(line, strlen("PROXY "));
	struct str family = str_cut(&rest, ' ');

	header->command = "PROXY";
	if (str_eq(family, STR("UNKNOWN"))) {
		header->family = "UNKNOWN";
		return 1;
	}
	bool is_v4 = str_eq(family, STR("TCP4"));
	if (!is_v4 && !str_eq(family, STR("TCP6")))
		return broken(header, "v1: unknown family");
	header->family = is_v4 ? "TCP4" : "TCP6";
	int af = is_v4 ? AF_INET : AF_INET6;
	struct str source = str_cut(&rest, ' ');
	struct str destination = str_cut(&rest, ' ');
	struct str source_port = str_cut(&rest, ' ');
	if (!read_endpoint(af, source, source_port, header->source))
		return broken(header, "v1: bad source");
	if (!read_endpoint(af, destination, rest, header->destination))
		return broken(header, "v1: bad destination");
	header->has_addresses = true;
	return 1;
}

/* In what is before the first CR LF; a CR at its end may still become one. */
static bool has_lone_newline(struct str text)
{
	return str_find(text, '\n') < text.n || str_find(text, '\r') + 1 < text.n;
}

static int read_v1(struct str input, struct proxy_header *header, size_t *length)
{
	struct str seen = str_range(input, 0, V1_MAX);
	const char *end = memmem(seen.p, seen.n, "\r\n", 2);

	header->version = 1;
	if (!str_starts_with(seen, str_range(STR("PROXY "), 0, seen.n)))
		return broken(header, "v1: does not begin with PROXY");
	if (has_lone_newline(str_range(seen, 0, end ? (size_t)(end - seen.p) : seen.n)))
		return broken(header, "v1: lone CR or LF");
	if (!end)
		return seen.n < V1_MAX ? 0 : broken(header, "v1: no CR LF in 107 bytes");
	*length = (size_t)(end - seen.p) + 2;
	return read_v1_line(str_range(seen, 0, *length - 2), header);
}

/* ---- Version 2 -------------------------------------------------------------------------------- */

static const struct family {
	uint8_t byte;
	const char *name;
	size_t addresses; /* bytes of the address block */
	int af;
} families[] = {
	{ 0x00, "UNSPEC", 0, 0 },
	{ 0x11, "TCP4", 12, AF_INET },
	{ 0x12, "UDP4", 12, AF_INET },
	{ 0x21, "TCP6", 36, AF_INET6 },
	{ 0x22, "UDP6", 36, AF_INET6 },
	{ 0x31, "UNIX", 216, 0 },
	{ 0x32, "UNIX_DGRAM", 216, 0 },
};

static const struct family *find_family(uint8_t byte)
{
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
		if (families[i].byte == byte)
			return &families[i];
	return NULL;
}

static unsigned be16(const char *p)
{
	return (unsigned)(uint8_t)p[0] << 8 | (uint8_t)p[1];
}

/* CRC-32C (Castagnoli), a bit at a time: headers are short. */
static uint32_t crc32c(uint32_t crc, struct str bytes)
{
	for (size_t i = 0; i < bytes.n; i++) {
		crc ^= (uint8_t)bytes.p[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	return crc;
}

/* The sum over the header with the four bytes of `value` (inside it) taken as zero. */
static bool crc_is_right(struct str header, struct str value)
{
	size_t at = (size_t)(value.p - header.p);
	uint32_t crc = crc32c(~0u, str_range(header, 0, at));

	if (value.n != 4)
		return false;
	crc = crc32c(crc, STR("\0\0\0\0"));
	crc = ~crc32c(crc, str_from_pos(header, at + 4));
	return crc == ((uint32_t)be16(value.p) << 16 | be16(value.p + 2));
}

bool proxy_next_tlv(struct str *rest, uint8_t *type, struct str *value)
{
	if (rest->n < 3 || rest->n - 3 < be16(rest->p + 1))
		return false;
	*type = (uint8_t)rest->p[0];
	*value = str_range(*rest, 3, 3 + be16(rest->p + 1));
	*rest = str_from_pos(*rest, 3 + value->n);
	return true;
}

static int check_tlvs(struct str whole, struct proxy_header *header)
{
	struct str rest = header->tlvs, value;
	uint8_t type;

	while (proxy_next_tlv(&rest, &type, &value))
		if (type == TLV_CRC32C && !crc_is_right(whole, value))
			return broken(header, "v2: wrong CRC32C");
	return rest.n ? broken(header, "v2: TLVs do not end with the header") : 1;
}

static int read_v2_block(struct str whole, struct proxy_header *header)
{
	const struct family *family = find_family((uint8_t)whole.p[13]);
	struct str block = str_from_pos(whole, V2_FIXED);

	if (!family)
		return broken(header, "v2: unknown family");
	header->family = family->name;
	if (block.n < family->addresses)
		return broken(header, "v2: address block too short");
	header->tlvs = str_from_pos(block, family->addresses);
	if (family->af) {
		size_t size = family->af == AF_INET ? 4 : 16;
		const char *ports = block.p + 2 * size;
		print_endpoint(header->source, family->af, block.p, be16(ports));
		print_endpoint(header->destination, family->af, block.p + size, be16(ports + 2));
		header->has_addresses = true;
	}
	return check_tlvs(whole, header);
}

static int read_v2(struct str input, struct proxy_header *header, size_t *length)
{
	size_t common = input.n < signature.n ? input.n : signature.n;

	header->version = 2;
	if (memcmp(input.p, signature.p, common) != 0)
		return broken(header, "v2: wrong signature");
	if (input.n < V2_FIXED)
		return 0;
	*length = V2_FIXED + be16(input.p + 14);
	if (input.n < *length)
		return 0;
	switch ((uint8_t)input.p[12]) {
	case 0x20:
		header->command = "LOCAL";
		header->family = "LOCAL";
		return 1;
	case 0x21:
		header->command = "PROXY";
		return read_v2_block(str_range(input, 0, *length), header);
	default:
		return broken(header, "v2: unknown version or command");
	}
}

int proxy_parse(enum proxy_mode mode, struct str input, struct proxy_header *header, size_t *length)
{
	*header = (struct proxy_header){ 0 };
	if (input.n == 0)
		return 0;
	bool is_v1 = mode == PROXY_V1 || (mode == PROXY_AUTO && input.p[0] == 'P');
	return is_v1 ? read_v1(input, header, length) : read_v2(input, header, length);
}
