/*
 * The PROXY header, versions 1 and 2, read without tolerance: what a sender gets wrong is
 * recorded and ends the connection. Written from the specification alone, apart from the
 * program under test.
 */
#ifndef BACKEND_PROXY_H
#define BACKEND_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/str.h"

enum proxy_mode { PROXY_NONE, PROXY_V1, PROXY_V2, PROXY_AUTO };

struct proxy_header {
	int version;         /* 0: not known */
	const char *command; /* "PROXY", "LOCAL" */
	const char *family;  /* "TCP4", "TCP6", "UNKNOWN", "UNIX", … */
	bool has_addresses;
	char source[64], destination[64]; /* "192.0.2.1:1234", "[2001:db8::1]:25" */
	struct str tlvs;                  /* a view into the input */
	const char *error;                /* why proxy_parse returned -1 */
};

/* "none", "v1", "v2", "auto". */
bool proxy_mode_parse(struct str name, enum proxy_mode *mode);

/* 1: complete, *length bytes long; 0: more is needed; -1: header->error says why. */
int proxy_parse(
	enum proxy_mode mode, struct str input, struct proxy_header *header, size_t *length);

/* Takes one TLV off the front of *rest; false when there is none or it is cut short. */
bool proxy_next_tlv(struct str *rest, uint8_t *type, struct str *value);

#endif
