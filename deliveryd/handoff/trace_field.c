#include "config.h"
#include "handoff/trace_field.h"

#include <string.h>
#include "base/clock.h"
#include "base/names.h"

#define FOLD_AT 78

static void add_safe(struct str *out, const char *text)
{
	for (const char *p = text; *p; p++) {
		bool safe = *p > ' ' && *p <= '~' && !strchr("()<>@,;\\\"", *p);

		str_add_char(out, safe ? *p : '?');
	}
}

/* On the same line if it fits, else on the next. `line` is where the line began. */
static void add_part(struct str *out, size_t *line, const struct str *part)
{
	if (out->len > *line && out->len - *line + 1 + part->len > FOLD_AT) {
		str_add(out, "\r\n\t");
		*line = out->len - 1;
	} else {
		str_add_char(out, ' ');
	}
	str_add_mem(out, part->data, part->len);
}

/* "(NAME [IP])", "([IP])", "(local)", "(unknown)" */
static void print_client(const struct trace *t, struct str *part)
{
	char ip[ADDR_TEXT_SIZE];
	bool name = t->name && t->name[0];

	str_add_char(part, '(');
	if (name)
		add_safe(part, t->name);
	if (t->client && t->client->family != AF_UNSPEC) {
		str_add(part, name ? " [" : "[");
		if (t->client->family == AF_INET6)
			str_add(part, "IPv6:");
		str_add(part, addr_print(t->client, ip));
		str_add_char(part, ']');
	} else if (!name) {
		str_add(part, t->local ? "local" : "unknown");
	}
	str_add_char(part, ')');
}

void trace_field_token(const char *hostname, struct str *out)
{
	str_printf(out, "by %s (bindpost)", hostname);
}

void trace_field_print(const struct trace *t, struct str *out)
{
	char id[ID_TEXT_SIZE], date[TIME_TEXT_SIZE];
	size_t line = out->len;
	struct str part;

	str_init(&part);
	str_add(out, "Received:");
	str_add(&part, "from ");
	add_safe(&part, t->helo && t->helo[0] ? t->helo : "unknown");
	add_part(out, &line, &part);

	str_clear(&part);
	print_client(t, &part);
	add_part(out, &line, &part);

	str_clear(&part);
	trace_field_token(t->hostname, &part);
	str_printf(&part, " with %s id %s;", t->protocol, id_print(t->id, id));
	add_part(out, &line, &part);

	str_clear(&part);
	str_add(&part, time_print_rfc5322(t->wall_us, date));
	add_part(out, &line, &part);
	str_add(out, "\r\n");
	str_free(&part);
}
