#include "base/xtext.h"

static bool is_xchar(char c)
{
	return c >= '!' && c <= '~' && c != '+' && c != '=';
}

static int hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool is_hexchar(const char *p, size_t left)
{
	return left >= 3 && p[0] == '+' && hex_value(p[1]) >= 0 && hex_value(p[2]) >= 0;
}

bool xtext_ok(const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (is_xchar(p[i]))
			continue;
		if (!is_hexchar(p + i, len - i))
			return false;
		i += 2;
	}
	return true;
}

void xtext_encode(struct str *out, const char *text)
{
	for (const char *p = text; *p; p++) {
		if (is_xchar(*p))
			str_add_char(out, *p);
		else
			str_printf(out, "+%02X", (unsigned char)*p);
	}
}

void xtext_decode(struct str *out, const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (is_hexchar(p + i, len - i)) {
			str_add_char(out, (char)(hex_value(p[i + 1]) * 16 + hex_value(p[i + 2])));
			i += 2;
		} else {
			str_add_char(out, p[i]);
		}
	}
}
