/* Between proxy.c, proxy_v2.c and proxy_v2_print.c. */
#ifndef PROTO_PROXY_PRIV_H
#define PROTO_PROXY_PRIV_H

#include "proto/proxy.h"

/* Contains a NUL; it can begin neither a v1 line nor a TLS record nor an SMTP command. */
#define PROXY_V2_SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

/* Addresses in the block of version 2, in bytes. */
#define IPV4_BLOCK 12
#define IPV6_BLOCK 36

enum tlv_type {
	TLV_ALPN = 0x01,
	TLV_AUTHORITY = 0x02,
	TLV_CRC32C = 0x03,
	TLV_NOOP = 0x04,
	TLV_UNIQUE_ID = 0x05,
	TLV_SSL = 0x20,
	TLV_SSL_VERSION = 0x21,
	TLV_SSL_CN = 0x22,
	TLV_SSL_CIPHER = 0x23,
	TLV_NETNS = 0x30,
};

/* Results as for proxy_parse; `bytes` begin with the signature, *header is all zero. */
int proxy_v2_parse(struct str bytes, struct proxy_header *header, enum proxy_error *error);

static inline int proxy_refuse(enum proxy_error *error, enum proxy_error why)
{
	*error = why;
	return -1;
}

#endif
