/*
 * Aligned columns for people. What comes from the network (addresses, replies) is printed without control characters.
 */
#include <stdio.h>
#include <string.h>

#include "control/cli.h"

static void add_printable(struct str *out, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		str_add_char(out, (unsigned char)text[i] < 32 || text[i] == 127 ? '?' : text[i]);
}

void cli_print_value(const json_t *value, struct str *out)
{
	size_t i;
	json_t *item;

	switch (value ? json_typeof(value) : JSON_NULL) {
	case JSON_STRING:
		add_printable(out, json_string_value(value), json_string_length(value));
		if (json_string_length(value) == 0)
			str_add(out, "<>");
		break;
	case JSON_INTEGER:
		str_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		break;
	case JSON_REAL:
		str_printf(out, "%.3f", json_real_value(value));
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		str_add(out, json_is_true(value) ? "yes" : "no");
		break;
	case JSON_ARRAY:
		json_array_foreach((json_t *)value, i, item)
		{
			if (i)
				str_add_char(out, ',');
			cli_print_value(item, out);
		}
		break;
	default:
		str_add_char(out, '-');
	}
}

static void print_cell(const struct cli_column *c, const char *text, bool last)
{
	if (last && !c->number)
		printf("%s\n", text);
	else
		printf("%*s%s", c->number ? c->width : -c->width, text, last ? "\n" : "  ");
}

void cli_table_head(const struct cli_column *c, size_t n)
{
	for (size_t i = 0; i < n; i++)
		print_cell(&c[i], c[i].title, i + 1 == n);
}

void cli_table_row(const struct cli_column *c, size_t n, const json_t *row)
{
	struct str text;

	str_init(&text);
	for (size_t i = 0; i < n; i++) {
		str_clear(&text);
		cli_print_value(json_object_get(row, c[i].key), &text);
		print_cell(&c[i], text.data, i + 1 == n);
	}
	str_free(&text);
}
