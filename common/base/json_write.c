#include "config.h"
#include "base/json_write.h"

#include <assert.h>
#include <string.h>
#include "base/clock.h"
#include "base/utf8.h"

void json_out_init(struct json_out *j, struct str *out)
{
	*j = (struct json_out){.out = out};
}

/* What stands for an ASCII byte inside a string: itself (0), \u00NN (1), or a backslash and this letter. */
static const char escapes[128] = {1, 1, 1, 1, 1, 1, 1, 1, 'b', 't', 'n', 1, 'f', 'r', 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, /**/
        ['"'] = '"', ['\\'] = '\\', [0x7F] = 1};

static void add_unicode(struct str *out, uint32_t code)
{
	static const char hex[] = "0123456789abcdef";
	char text[6] = {'\\', 'u', '0', '0', hex[code >> 4 & 15], hex[code & 15]};

	str_add_mem(out, text, sizeof(text));
}

/* One character that cannot be copied as it is; returns how many bytes it took. */
static size_t add_special(struct str *out, const char *p, size_t left)
{
	unsigned char c = (unsigned char)*p;
	uint32_t code;
	size_t n;

	if (c < 128) {
		char text[2] = {'\\', escapes[c]};

		if (escapes[c] == 1)
			add_unicode(out, c);
		else
			str_add_mem(out, text, sizeof(text));
		return 1;
	}
	n = utf8_next(p, left, &code);
	if (n == 0) {
		str_add_mem(out, "\xEF\xBF\xBD", 3); /* U+FFFD */
		return 1;
	}
	if (utf8_is_control(code))
		add_unicode(out, code);
	else
		str_add_mem(out, p, n);
	return n;
}

static void add_string(struct str *out, const char *text, size_t len)
{
	const char *end = text + len;

	str_add_char(out, '"');
	while (text < end) {
		const char *run = text;

		while (text < end && (unsigned char)*text < 128 && escapes[(unsigned char)*text] == 0)
			text++;
		str_add_mem(out, run, (size_t)(text - run));
		if (text < end)
			text += add_special(out, text, (size_t)(end - text));
	}
	str_add_char(out, '"');
}

static void add_uint(struct str *out, uint64_t value)
{
	char text[20], *p = text + sizeof(text);

	do
		*--p = (char)('0' + value % 10);
	while ((value /= 10) > 0);
	str_add_mem(out, p, (size_t)(text + sizeof(text) - p));
}

static void begin(struct json_out *j, const char *key)
{
	uint64_t bit = UINT64_C(1) << j->depth;

	if (j->comma & bit)
		str_add_char(j->out, ',');
	j->comma |= bit;
	if (key != NULL) {
		add_string(j->out, key, strlen(key));
		str_add_char(j->out, ':');
	}
}

static void open_level(struct json_out *j, const char *key, char bracket)
{
	begin(j, key);
	str_add_char(j->out, bracket);
	assert(j->depth < 63);
	j->depth++;
	j->comma &= ~(UINT64_C(1) << j->depth);
}

static void close_level(struct json_out *j, char bracket)
{
	assert(j->depth > 0);
	j->depth--;
	str_add_char(j->out, bracket);
}

void jw_object(struct json_out *j, const char *key)
{
	open_level(j, key, '{');
}

void jw_array(struct json_out *j, const char *key)
{
	open_level(j, key, '[');
}

void jw_end_object(struct json_out *j)
{
	close_level(j, '}');
}

void jw_end_array(struct json_out *j)
{
	close_level(j, ']');
}

void jw_str(struct json_out *j, const char *key, const char *value)
{
	if (value != NULL) {
		jw_strn(j, key, value, strlen(value));
		return;
	}
	begin(j, key);
	str_add_mem(j->out, "null", 4);
}

void jw_strn(struct json_out *j, const char *key, const char *value, size_t len)
{
	begin(j, key);
	add_string(j->out, value, len);
}

void jw_uint(struct json_out *j, const char *key, uint64_t value)
{
	begin(j, key);
	add_uint(j->out, value);
}

void jw_int(struct json_out *j, const char *key, int64_t value)
{
	begin(j, key);
	if (value < 0)
		str_add_char(j->out, '-');
	add_uint(j->out, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void jw_seconds(struct json_out *j, const char *key, uint64_t us)
{
	uint64_t ms = us / 1000 + (us % 1000 >= 500 ? 1 : 0);
	char rest[4] = {'.', (char)('0' + ms / 100 % 10), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10)};

	begin(j, key);
	add_uint(j->out, ms / 1000);
	str_add_mem(j->out, rest, sizeof(rest));
}

void jw_bool(struct json_out *j, const char *key, bool value)
{
	begin(j, key);
	str_add(j->out, value ? "true" : "false");
}

void jw_time(struct json_out *j, const char *key, uint64_t wall_us)
{
	char text[TIME_TEXT_SIZE + 2];

	begin(j, key);
	text[0] = '"';
	(void)time_print(wall_us, text + 1);
	str_add_mem(j->out, text, 28);
	str_add_char(j->out, '"');
}
