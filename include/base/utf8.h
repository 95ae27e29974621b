/*
 * UTF-8 as RFC 3629 has it: no surrogates, no overlong forms, nothing above U+10FFFF.
 */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

/*
 * The character at the front of `s`: its length in bytes (1-4) and its code point. 0 when there
 * is none: `s` is empty, or does not begin with a complete, valid sequence; then *code is
 * unchanged.
 */
size_t utf8_decode(struct str s, uint32_t *code);

#endif
