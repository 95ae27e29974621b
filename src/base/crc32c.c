#include "base/crc32c.h"

/*
 * Remainders of the sixteen values of half a byte. A table of 256 would be twice as fast, but
 * the checksum is taken once a connection, over some hundred bytes.
 */
static const uint32_t remainders[16] = {
	0x00000000,
	0x105ec76f,
	0x20bd8ede,
	0x30e349b1,
	0x417b1dbc,
	0x5125dad3,
	0x61c69362,
	0x7198540d,
	0x82f63b78,
	0x92a8fc17,
	0xa24bb5a6,
	0xb21572c9,
	0xc38d26c4,
	0xd3d3e1ab,
	0xe330a81a,
	0xf36e6f75,
};

uint32_t crc32c_add(uint32_t crc, struct str bytes)
{
	crc = ~crc;
	for (size_t i = 0; i < bytes.n; i++) {
		crc ^= (unsigned char)bytes.p[i];
		crc = remainders[crc & 15] ^ (crc >> 4);
		crc = remainders[crc & 15] ^ (crc >> 4);
	}
	return ~crc;
}
