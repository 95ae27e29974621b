/* Between proxy.c and proxy_v2.c. */
#ifndef PROTO_PROXY_PRIV_H
#define PROTO_PROXY_PRIV_H

#include "proto/proxy.h"

/* Contains a NUL; it can begin neither a v1 line nor a TLS record nor an SMTP command. */
#define PROXY_V2_SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

/* Results as for proxy_parse; `bytes` begin with the signature, *header is all zero. */
int proxy_v2_parse(struct str bytes, struct proxy_header *header, enum proxy_error *error);

static inline int proxy_refuse(enum proxy_error *error, enum proxy_error why)
{
	*error = why;
	return -1;
}

#endif
