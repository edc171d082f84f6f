#include "config.h"
#include "conf/place.h"

#include <stdarg.h>
#include <string.h>
#include "base/log.h"

#define KEY_SHOWN 200 /* bytes of a key or value that an error repeats */

static void add_key(struct str *out, const char *key)
{
	char buf[KEY_SHOWN + 8];
	size_t len = strlen(key);
	bool plain = len < KEY_SHOWN;

	for (size_t i = 0; plain && i < len; i++)
		plain = (unsigned char)key[i] >= 0x20 && key[i] != 0x7f;
	str_add(out, plain ? key : log_quote(key, len, buf, sizeof(buf)));
}

static bool print_steps(const struct place *p, struct str *out)
{
	if (!p->up)
		return false;
	bool deeper = print_steps(p->up, out);
	if (!p->key) {
		str_printf(out, "[%zu]", p->index);
		return true;
	}
	if (deeper)
		str_add_char(out, '.');
	add_key(out, p->key);
	return true;
}

const struct conf_file *place_file(const struct place *p)
{
	while (p->up)
		p = p->up;
	return p->file;
}

void place_print(const struct place *p, struct str *out)
{
	str_add(out, place_file(p)->name);
	if (p->up) {
		str_add(out, ": ");
		print_steps(p, out);
	}
}

void quote_text(const char *text, struct str *out)
{
	char buf[KEY_SHOWN + 8];

	str_add(out, log_quote(text, strlen(text), buf, sizeof(buf)));
}

void quote_json(const json_t *j, struct str *out)
{
	if (json_is_string(j)) {
		quote_text(json_string_value(j), out);
		return;
	}
	if (json_is_object(j) || json_is_array(j)) {
		str_add(out, json_is_object(j) ? "an object" : "a list");
		return;
	}
	char *text = json_dumps(j, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
	str_add(out, text ? text : "this");
	free(text);
}

__attribute__((format(printf, 4, 0))) static void add(
        struct errors *errors, enum error_level level, const struct place *p, const char *fmt, va_list ap)
{
	struct str where, text;

	str_init(&where);
	str_init(&text);
	place_print(p, &where);
	str_vprintf(&text, fmt, ap);
	errors_add(errors, level, "%s: %s", where.data, text.data);
	str_free(&where);
	str_free(&text);
}

bool place_error(struct errors *errors, const struct place *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(errors, ERROR_ERROR, p, fmt, ap);
	va_end(ap);
	return false;
}

void place_warning(struct errors *errors, const struct place *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(errors, ERROR_WARNING, p, fmt, ap);
	va_end(ap);
}
