/*
 * CRC-32C (Castagnoli): polynomial 0x1EDC6F41 reflected, initial value and final XOR all ones.
 * The checksum of "123456789" is 0xE3069283.
 */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stdint.h>

#include "base/str.h"

/*
 * The checksum of what `crc` is the checksum of, followed by `bytes`. The checksum of nothing is
 * 0, so a text in pieces is crc32c_add(crc32c_add(0, first), second).
 */
uint32_t crc32c_add(uint32_t crc, struct str bytes);

#endif
