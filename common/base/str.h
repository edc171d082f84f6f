/*
 * str - text that grows and remembers its first error
 *
 * Purpose    Building text and bytes. `data` is always NUL-terminated (after str_init() too).
 * Ownership  str_free() frees; str_steal() hands the buffer to the caller (mem_free()).
 * Errors     With a `max` (bytes, 0 = none) the first append past it sets `failed` and leaves the text as it
 * was; later appends do nothing. Ask once, at the end.
 */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct str {
	char *data;
	size_t len, size, max;
	bool failed;
};

void str_init(struct str *);
void str_init_max(struct str *, size_t max_bytes);
void str_free(struct str *);
void str_clear(struct str *); /* len = 0, failed = false, keeps the buffer */
char *str_steal(struct str *);
void str_add(struct str *, const char *);
void str_add_mem(struct str *, const void *, size_t);
void str_add_char(struct str *, char);
void str_printf(struct str *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void str_vprintf(struct str *, const char *fmt, va_list) __attribute__((format(printf, 2, 0)));
void str_trim(struct str *); /* blanks, tabs, CR, LF at both ends */

/* ASCII helpers; no locale, any byte */
bool ascii_ieq(const char *, const char *);
bool ascii_ieq_mem(const char *a, size_t na, const char *b, size_t nb);
char ascii_lower(char);

/*
 * cursor - reads foreign bytes within bounds; after the first failure everything returns 0/NULL and `failed`
 * stays
 */
struct cursor {
	const unsigned char *p, *end;
	bool failed;
};

void cursor_init(struct cursor *, const void *, size_t);
size_t cursor_left(const struct cursor *);
unsigned cursor_u8(struct cursor *);
unsigned cursor_u16(struct cursor *); /* little endian, as everything in the spool */
unsigned cursor_u32(struct cursor *);
unsigned long long cursor_u64(struct cursor *);
const void *cursor_bytes(struct cursor *, size_t n); /* NULL if fewer are left */
void cursor_skip(struct cursor *, size_t n);

#endif
