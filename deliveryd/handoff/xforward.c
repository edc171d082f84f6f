#include "config.h"
#include "handoff/xforward.h"

#include <string.h>

enum attribute { NAME, ADDR, PORT, PROTO, HELO, IDENT, SOURCE, N_ATTRIBUTES };
static const char *const attribute_names[N_ATTRIBUTES] = {
        "NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE"};

void xforward_clear(struct xforward *x)
{
	x->given = x->local = x->name_later = false;
	x->port = 0;
	x->client = (struct addr){0};
	x->name[0] = x->helo[0] = x->proto[0] = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = ascii_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* xtext of RFC 3461 4: "+" and two hexadecimal digits; any other printable byte is itself (old Postfixes do not encode) */
static bool xtext_decode(const char *p, size_t len, char out[XFORWARD_VALUE_MAX + 1])
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)p[i];

		if (c == '+') {
			int high = i + 1 < len ? hex_digit(p[i + 1]) : -1;
			int low = i + 2 < len ? hex_digit(p[i + 2]) : -1;

			if (high < 0 || low < 0)
				return false;
			c = (unsigned char)(high * 16 + low);
			i += 2;
		}
		/* no control, 8-bit, blank; nothing that ends a comment or word in a header field */
		if (c <= ' ' || c > '~' || strchr("()<>@,;\\\"", c) || n == XFORWARD_VALUE_MAX)
			return false;
		out[n++] = (char)c;
	}
	out[n] = '\0';
	return n > 0;
}

static bool is_unavailable(const char *value)
{
	return ascii_ieq(value, "[UNAVAILABLE]") || ascii_ieq(value, "[TEMPUNAVAIL]");
}

static bool set_port(const char *value, uint16_t *to)
{
	unsigned port = 0;

	for (const char *p = value; *p; p++) {
		if (*p < '0' || *p > '9' || (port = port * 10 + (unsigned)(*p - '0')) > 65535)
			return false;
	}
	*to = (uint16_t)port;
	return port > 0;
}

static bool set_client(const char *value, struct addr *client)
{
	if (value[0] == '[' || strchr(value, '%') || !addr_parse(value, client, NULL))
		return false;
	addr_unmap(client);
	return true;
}

/* LOCAL also comes with mail by SMTP from the machine's own addresses, whose client is known: so it decides nothing. */
static bool check_source(const char *value)
{
	return ascii_ieq(value, "LOCAL") || ascii_ieq(value, "REMOTE");
}

static void set_text(char *to, const char *value)
{
	strcpy(to, value); /* both have XFORWARD_VALUE_MAX + 1, or the length was checked */
}

static bool apply(struct xforward *x, enum attribute attribute, const char *value)
{
	bool known = !is_unavailable(value);

	switch (attribute) {
	case NAME:
		set_text(x->name, known ? value : "");
		x->name_later = ascii_ieq(value, "[TEMPUNAVAIL]");
		return true;
	case HELO:
		set_text(x->helo, known ? value : "");
		return true;
	case PROTO:
		if (known && strlen(value) >= sizeof(x->proto))
			return false;
		set_text(x->proto, known ? value : "");
		return true;
	case ADDR:
		x->client = (struct addr){0};
		x->local = !known;
		return !known || set_client(value, &x->client);
	case SOURCE:
		return !known || check_source(value);
	case PORT:
		x->port = 0;
		return !known || set_port(value, &x->port);
	default: /* IDENT: the MTA's own queue id; its log has it */
		return true;
	}
}

/* One "NAME=value"; sets its bit in *seen, so that none comes twice in one command. */
static bool parse_one(const char *p, size_t len, unsigned *seen, struct xforward *x)
{
	const char *equals = memchr(p, '=', len);
	size_t name_len = equals ? (size_t)(equals - p) : len;
	char value[XFORWARD_VALUE_MAX + 1];

	for (unsigned i = 0; i < N_ATTRIBUTES; i++) {
		if (!ascii_ieq_mem(p, name_len, attribute_names[i], strlen(attribute_names[i])))
			continue;
		if (!equals || (*seen & 1u << i) || !xtext_decode(equals + 1, len - name_len - 1, value))
			return false;
		*seen |= 1u << i;
		return apply(x, (enum attribute)i, value);
	}
	return false;
}

enum reply xforward_parse(const struct lmtp_command *command, struct xforward *x)
{
	const char *p = command->arg, *end = p + command->arg_len;
	struct xforward next = *x;
	unsigned seen = 0;

	next.given = true;
	while (p < end) {
		const char *start = p;

		while (p < end && *p != ' ')
			p++;
		if (!parse_one(start, (size_t)(p - start), &seen, &next))
			return REPLY_BAD_XFORWARD;
		while (p < end && *p == ' ')
			p++;
	}
	*x = next;
	return REPLY_NONE;
}
