#include "header.h"

#include <stdio.h>
#include <string.h>

#define PORT_FIRST 1024
#define PORTS (65536 - PORT_FIRST)

static struct str make_v1(unsigned host, unsigned port, char out[HEADER_MAX])
{
	int n = snprintf(
		out, HEADER_MAX, "PROXY TCP4 198.51.100.%u 192.0.2.25 %u 25\r\n", host, port);

	return str_make(out, (size_t)n);
}

static struct str make_v2(unsigned host, unsigned port, char out[HEADER_MAX])
{
	static const char fixed[] = "\r\n\r\n\0\r\nQUIT\n"
				    "\x21\x11\0\x0c"
				    "\xc6\x33\x64?"
				    "\xc0\0\x02\x19"
				    "??\0\x19";

	memcpy(out, fixed, sizeof(fixed) - 1);
	out[19] = (char)host;
	out[24] = (char)(port >> 8);
	out[25] = (char)port;
	return str_make(out, sizeof(fixed) - 1);
}

struct str header_make(int version, uint64_t number, char out[HEADER_MAX])
{
	unsigned host = 1 + (unsigned)(number % 254);
	unsigned port = PORT_FIRST + (unsigned)(number % PORTS);

	if (version == 0)
		return STR("");
	return version == 1 ? make_v1(host, port, out) : make_v2(host, port, out);
}
