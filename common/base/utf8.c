#include "config.h"
#include "base/utf8.h"

static bool is_tail(unsigned char c)
{
	return (c & 0xC0) == 0x80;
}

size_t utf8_next(const char *p, size_t left, uint32_t *code)
{
	const unsigned char *b = (const unsigned char *)p;
	uint32_t c;
	size_t n;

	if (left == 0)
		return 0;
	if (b[0] < 0x80) {
		c = b[0];
		n = 1;
	} else if (b[0] >= 0xC2 && b[0] <= 0xDF && left >= 2 && is_tail(b[1])) {
		c = (uint32_t)(b[0] & 0x1F) << 6 | (b[1] & 0x3F);
		n = 2;
	} else if ((b[0] & 0xF0) == 0xE0 && left >= 3 && is_tail(b[1]) && is_tail(b[2])) {
		c = (uint32_t)(b[0] & 0x0F) << 12 | (uint32_t)(b[1] & 0x3F) << 6 | (b[2] & 0x3F);
		n = 3;
		if (c < 0x800 || (c >= 0xD800 && c <= 0xDFFF))
			return 0;
	} else if (b[0] >= 0xF0 && b[0] <= 0xF4 && left >= 4 && is_tail(b[1]) && is_tail(b[2]) &&
	           is_tail(b[3])) {
		c = (uint32_t)(b[0] & 0x07) << 18 | (uint32_t)(b[1] & 0x3F) << 12 |
		    (uint32_t)(b[2] & 0x3F) << 6 | (b[3] & 0x3F);
		n = 4;
		if (c < 0x10000 || c > 0x10FFFF)
			return 0;
	} else {
		return 0;
	}
	if (code != NULL)
		*code = c;
	return n;
}

bool utf8_valid(const char *p, size_t len)
{
	while (len > 0) {
		size_t n = utf8_next(p, len, NULL);

		if (n == 0)
			return false;
		p += n;
		len -= n;
	}
	return true;
}

bool utf8_is_control(uint32_t code)
{
	return code < 0x20 || (code >= 0x7F && code < 0xA0);
}

bool utf8_is_ascii(const char *text)
{
	while (*text != '\0' && (unsigned char)*text < 128)
		text++;
	return *text == '\0';
}
