/*
 * utf8 - which bytes are UTF-8 text
 *
 * Follows    RFC 3629: no overlong forms, no surrogates, nothing past U+10FFFF.
 */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the character that starts at p (1 to 4), 0 if there is none. NULL code drops the number. */
size_t utf8_next(const char *p, size_t left, uint32_t *code);
bool utf8_valid(const char *p, size_t len);
bool utf8_is_ascii(const char *text);
/* U+0000 to U+001F, U+007F to U+009F */
bool utf8_is_control(uint32_t code);

#endif
