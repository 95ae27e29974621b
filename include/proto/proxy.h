/*
 * The PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt), as receiver and sender.
 *
 * Receiving is one function without state: give it all bytes that have arrived from the first
 * on, and it says whether a header is complete, more is needed, or the bytes can never become a
 * valid header. It refuses as early as the bytes allow, never looks behind the header, and
 * hands over nothing before the header is whole: bytes behind it belong to TLS or SMTP.
 *
 * Arrival may be in any number of pieces; syntax is strict: anything but the exact grammar is
 * an error. Whether the peer may send a header at all is decided by the caller beforehand.
 */
#ifndef PROTO_PROXY_H
#define PROTO_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/ipaddr.h"
#include "base/str.h"

#define PROXY_V1_MAX 107      /* longest line, CR LF included */
#define PROXY_V2_FIXED 16     /* signature, command, family, length */
#define PROXY_LENGTH_MAX 4096 /* of the v2 length field; longer is refused */
#define PROXY_HEADER_MAX (PROXY_V2_FIXED + PROXY_LENGTH_MAX)
#define PROXY_TLV_MAX 64 /* TLVs kept of one header; further ones are skipped */

enum proxy_command { PROXY_COMMAND_LOCAL, PROXY_COMMAND_PROXY };

/* What kind of addresses the header carries. Only INET and INET6 over STREAM name a client. */
enum proxy_family {
	PROXY_FAMILY_UNKNOWN, /* v1 UNKNOWN */
	PROXY_FAMILY_UNSPEC,  /* v2 0x00; also every v2 LOCAL header, whatever family it names */
	PROXY_FAMILY_TCP4,
	PROXY_FAMILY_TCP6,
	PROXY_FAMILY_UDP4,
	PROXY_FAMILY_UDP6,
	PROXY_FAMILY_UNIX_STREAM,
	PROXY_FAMILY_UNIX_DGRAM,
};

/* Why bytes are not a header; proxy_error_text() has the words for the log. */
enum proxy_error {
#define PROXY_ERROR(id, word, text) PROXY_ERROR_##id,
#include "tables/proxy_errors.def"
#undef PROXY_ERROR
	PROXY_ERROR_COUNT
};

/* The SSL TLV. `tls` is the client bit 0x01; a certificate counts only if verify is 0 and a
 * certificate bit is set (proxy_ssl_has_valid_certificate). Texts are empty when absent. */
struct proxy_ssl {
	bool present;
	uint8_t client;  /* bits: 1 TLS used, 2 certificate on this connection, 4 in this session */
	uint32_t verify; /* X.509 verify result, 0 = fine */
	struct str version, cn, cipher, sig_alg, key_alg, group, sig_scheme, client_cert;
};

/* A TLV that has no field of its own, in the order of arrival; value is a view. NOOP (padding)
 * is never kept. */
struct proxy_tlv {
	uint8_t type;
	struct str value;
};

/* A complete header. All texts are views into the bytes given to proxy_parse. */
struct proxy_header {
	uint8_t version; /* 1 or 2 */
	enum proxy_command command;
	enum proxy_family family;
	struct endpoint source;      /* valid only when proxy_has_client() */
	struct endpoint destination; /* likewise */
	size_t length;               /* bytes of the header */

	/* v2 TLVs; of duplicates the first counts. has_… tells empty from absent. */
	struct str alpn, authority, unique_id, netns;
	bool has_alpn, has_authority, has_unique_id, has_netns, has_crc32c;
	struct proxy_ssl ssl;
	struct proxy_tlv tlvs[PROXY_TLV_MAX]; /* the others; beyond the maximum they are skipped */
	size_t tlv_count;
};

/*
 * Returns 1: *header is filled. 0: more bytes needed. -1: never a header, *error says why.
 * After 0 and -1 *header means nothing. `bytes` may hold more than the header, of any length;
 * what is behind it changes nothing. Call it with all bytes so far whenever some arrive: what
 * has been refused stays refused.
 *
 * A v1 line is judged field by field as the fields end; in v2 the bytes 1-16 are judged one by
 * one, and the block when all of it is there.
 *
 * v2 LOCAL: TLVs are read if a proper list of them stands behind the addresses of the family
 * named; anything else there is passed over, as the block is to be skipped. Only a CRC32C that
 * is present and wrong is an error in a LOCAL header, too.
 */
int proxy_parse(struct str bytes, struct proxy_header *header, enum proxy_error *error);

/* True when the header names a client over TCP: PROXY command, TCP4 or TCP6. */
bool proxy_has_client(const struct proxy_header *header);

bool proxy_ssl_has_valid_certificate(const struct proxy_ssl *ssl);

/* A word for logs and counters, and a sentence for people. */
const char *proxy_error_word(enum proxy_error error);
const char *proxy_error_text(enum proxy_error error);
const char *proxy_family_word(enum proxy_family family); /* "TCP4", "UNKNOWN", … */

/*
 * Writes a header for a backend. Mixed families are sent as TCP6 with the v4-mapped address, as
 * HAProxy does. Returns the length: v1 at most 107 bytes, v2 28 or 52.
 */
size_t proxy_v1_print(const struct endpoint *source, const struct endpoint *destination,
	char out[PROXY_V1_MAX + 1]);
size_t proxy_v2_print(const struct endpoint *source, const struct endpoint *destination,
	char out[PROXY_V2_FIXED + 36]);
/*
 * The same with TLVs: each that is set goes in, in this order, as long as the header stays within
 * PROXY_V2_SENT_MAX bytes: Exim takes no more (Postfix 536). One that does not fit is left out.
 */
#define PROXY_V2_SENT_MAX 232
struct proxy_v2_tlvs {
	bool crc32c;                     /* comes last, is always given its room */
	struct str authority, unique_id; /* empty: left out */
	const struct proxy_ssl *ssl;     /* version, cipher and cn of it; NULL: left out */
};
size_t proxy_v2_print_tlvs(const struct endpoint *source, const struct endpoint *destination,
	const struct proxy_v2_tlvs *tlvs, char out[PROXY_V2_SENT_MAX]);
/* The LOCAL header of our own probes: 16 bytes. */
size_t proxy_v2_print_local(char out[PROXY_V2_FIXED]);

/*
 * Could these first bytes be the beginning of a PROXY header, of either version? For the hint in
 * the log when a listener without `proxy` meets one. At least one byte is needed to say yes.
 */
bool proxy_looks_like_header(struct str bytes);

#endif
