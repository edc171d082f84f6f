#include "config.h"
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"

/* Whatever does not fit ends in "...", so that nobody takes a cut sentence for a whole one. */
static void error_copy(struct error *err, const char *text, int wanted)
{
	size_t len = strlen(text);

	if (wanted < 0)
		wanted = 0;
	memcpy(err->text, text, len + 1);
	if ((size_t)wanted > len && len >= 3)
		memcpy(err->text + len - 3, "...", 3);
}

bool error_set(struct error *err, const char *fmt, ...)
{
	char text[sizeof(err->text)]; /* the arguments may point into err */
	va_list ap;
	int n;

	if (err == NULL)
		return false;
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	error_copy(err, text, n);
	return false;
}

/* "front: back" */
static void error_join(struct error *err, const char *front, const char *back)
{
	char text[sizeof(err->text)];
	int n = snprintf(text, sizeof(text), "%s: %s", front, back);

	error_copy(err, text, n);
}

bool error_sys(struct error *err, const char *fmt, ...)
{
	int code = errno;
	char text[sizeof(err->text)], reason[128];
	va_list ap;

	if (err == NULL)
		return false;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	error_join(err, text, strerror_r(code, reason, sizeof(reason)));
	errno = code;
	return false;
}

bool error_at(struct error *err, const char *place_fmt, ...)
{
	char place[sizeof(err->text)], text[sizeof(err->text)];
	va_list ap;

	if (err == NULL)
		return false;
	va_start(ap, place_fmt);
	(void)vsnprintf(place, sizeof(place), place_fmt, ap);
	va_end(ap);
	memcpy(text, err->text, sizeof(text));
	error_join(err, place, text);
	return false;
}

void errors_add(struct errors *errors, enum error_level level, const char *fmt, ...)
{
	struct errors_item *item;
	va_list ap;

	if (errors == NULL)
		return;
	errors->items = mem_array(errors->items, errors->n + 1, sizeof(*errors->items));
	item = &errors->items[errors->n++];
	item->level = level;
	va_start(ap, fmt);
	item->text = mem_vprintf(fmt, ap);
	va_end(ap);
	if (level == ERROR_ERROR)
		errors->n_errors++;
}

void errors_free(struct errors *errors)
{
	for (size_t i = 0; i < errors->n; i++)
		mem_free(&errors->items[i].text);
	mem_free(&errors->items);
	errors->n = errors->n_errors = 0;
}
