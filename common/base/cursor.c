#include "config.h"
#include "base/str.h"

void cursor_init(struct cursor *c, const void *bytes, size_t n)
{
	c->p = bytes;
	c->end = n > 0 ? c->p + n : c->p;
	c->failed = false;
}

size_t cursor_left(const struct cursor *c)
{
	return c->failed ? 0 : (size_t)(c->end - c->p);
}

const void *cursor_bytes(struct cursor *c, size_t n)
{
	const void *bytes = c->p;

	if (c->failed || (size_t)(c->end - c->p) < n) {
		c->failed = true;
		return NULL;
	}
	if (n > 0)
		c->p += n;
	return bytes;
}

void cursor_skip(struct cursor *c, size_t n)
{
	(void)cursor_bytes(c, n);
}

static unsigned long long cursor_number(struct cursor *c, size_t n)
{
	const unsigned char *bytes = cursor_bytes(c, n);
	unsigned long long v = 0;

	if (bytes == NULL)
		return 0;
	while (n-- > 0)
		v = v << 8 | bytes[n];
	return v;
}

unsigned cursor_u8(struct cursor *c)
{
	return (unsigned)cursor_number(c, 1);
}

unsigned cursor_u16(struct cursor *c)
{
	return (unsigned)cursor_number(c, 2);
}

unsigned cursor_u32(struct cursor *c)
{
	return (unsigned)cursor_number(c, 4);
}

unsigned long long cursor_u64(struct cursor *c)
{
	return cursor_number(c, 8);
}
