/*
 * Base64 (RFC 4648 section 4), strictly: the alphabet with "+" and "/", padding required, no white
 * space, no bits set that stand for nothing. So each sequence of bytes has one text, and the
 * length of either is known from that of the other before a byte is written.
 */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

/* Longest input of base64_encode: its text is still countable. */
#define BASE64_BYTES_MAX (SIZE_MAX / 4)

/* For arrays: characters of the text of `n` bytes. */
#define BASE64_SIZE(n) (((n) + 2) / 3 * 4)

/* Characters of the text of `n` bytes, n <= BASE64_BYTES_MAX. There is no terminator. */
size_t base64_encoded_size(size_t n);

/*
 * How many bytes `text` stands for, if it is base64: told by its length and its padding alone. False:
 * its length is not a multiple of four, so it is not.
 */
bool base64_decoded_size(struct str text, size_t *n);

/* Writes the text and its length. False, and nothing written: it is longer than `max`. */
bool base64_encode(struct str bytes, char *out, size_t max, size_t *n);

/*
 * Writes the bytes and their number. False: it would be more than `max` (then nothing is written),
 * or the text is not base64 (then `out` holds bytes without meaning; *n is unchanged).
 * `out` may be where the text is.
 */
bool base64_decode(struct str text, char *out, size_t max, size_t *n);

#endif
