#include "config.h"
#include "base/str.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"

/* What `data` points to before anything was added (size 0): never written, never freed. */
static char str_empty[1];

void str_init(struct str *s)
{
	*s = (struct str){.data = str_empty};
}

void str_init_max(struct str *s, size_t max_bytes)
{
	*s = (struct str){.data = str_empty, .max = max_bytes};
}

void str_free(struct str *s)
{
	if (s->size > 0)
		mem_free(&s->data);
	str_init_max(s, s->max);
}

void str_clear(struct str *s)
{
	s->len = 0;
	s->failed = false;
	if (s->size > 0)
		s->data[0] = '\0';
}

char *str_steal(struct str *s)
{
	char *data = s->size > 0 ? s->data : mem_strdup("");

	str_init_max(s, s->max);
	return data;
}

/* Room for n more bytes and the NUL; false once failed. */
static bool str_room(struct str *s, size_t n)
{
	size_t wanted, size;

	if (s->failed)
		return false;
	if (__builtin_add_overflow(s->len, n, &wanted) || wanted > SIZE_MAX / 2 ||
	        (s->max > 0 && wanted > s->max)) {
		s->failed = true;
		return false;
	}
	if (wanted < s->size)
		return true;
	size = s->size < 32 ? 64 : s->size * 2;
	while (size <= wanted)
		size *= 2;
	s->data = mem_array(s->size > 0 ? s->data : NULL, size, 1);
	s->size = size;
	return true;
}

void str_add(struct str *s, const char *text)
{
	str_add_mem(s, text, strlen(text));
}

void str_add_mem(struct str *s, const void *bytes, size_t n)
{
	if (n == 0 || !str_room(s, n))
		return;
	memcpy(s->data + s->len, bytes, n);
	s->len += n;
	s->data[s->len] = '\0';
}

void str_add_char(struct str *s, char c)
{
	if (!str_room(s, 1))
		return;
	s->data[s->len++] = c;
	s->data[s->len] = '\0';
}

void str_printf(struct str *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	str_vprintf(s, fmt, ap);
	va_end(ap);
}

void str_vprintf(struct str *s, const char *fmt, va_list ap)
{
	char small[256];
	va_list again;
	int n;

	va_copy(again, ap);
	n = vsnprintf(small, sizeof(small), fmt, ap);
	if (n < 0)
		s->failed = true;
	else if ((size_t)n < sizeof(small))
		str_add_mem(s, small, (size_t)n);
	else if (str_room(s, (size_t)n)) {
		(void)vsnprintf(s->data + s->len, (size_t)n + 1, fmt, again);
		s->len += (size_t)n;
	}
	va_end(again);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

void str_trim(struct str *s)
{
	size_t start = 0, end = s->len;

	while (end > 0 && is_blank(s->data[end - 1]))
		end--;
	while (start < end && is_blank(s->data[start]))
		start++;
	if (end - start == s->len)
		return;
	memmove(s->data, s->data + start, end - start);
	s->len = end - start;
	s->data[s->len] = '\0';
}

char ascii_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

bool ascii_ieq_mem(const char *a, size_t na, const char *b, size_t nb)
{
	if (na != nb)
		return false;
	for (size_t i = 0; i < na; i++)
		if (ascii_lower(a[i]) != ascii_lower(b[i]))
			return false;
	return true;
}

bool ascii_ieq(const char *a, const char *b)
{
	return ascii_ieq_mem(a, strlen(a), b, strlen(b));
}
