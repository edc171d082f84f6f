/* next_hop - see next_hop.h */
#include "config.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "route/next_hop.h"

static bool set_literal(struct next_hop_target *t, const char *text, size_t len, struct error *err)
{
	char inner[ADDR_TEXT_SIZE];

	if (len >= 5 && ascii_ieq_mem(text, 5, "IPv6:", 5)) {
		text += 5;
		len -= 5;
	}
	if (len == 0 || len >= sizeof(inner))
		return error_set(err, "not an address literal");
	memcpy(inner, text, len);
	inner[len] = '\0';
	if (!addr_parse(inner, &t->addr, err))
		return false;
	addr_unmap(&t->addr);
	t->addr.port = t->port;
	t->literal = true;
	addr_print(&t->addr, t->host);
	return true;
}

/* Printable ASCII only: the name goes into queries, events and bounces. */
static bool set_host(struct next_hop_target *t, const char *text, size_t len, struct error *err)
{
	if (len == 0 || len > DOMAIN_MAX)
		return error_set(err, "not a host name");
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];
		if (c <= ' ' || c >= 0x7f || strchr("[]:\\\"", c))
			return error_set(err, "not a host name");
		t->host[i] = ascii_lower((char)c);
	}
	if (len > 1 && t->host[len - 1] == '.')
		len--;
	t->host[len] = '\0';
	return true;
}

static bool parse_port(const char *text, uint16_t *port, struct error *err)
{
	unsigned long value = 0;

	for (const char *p = text; *p; p++) {
		if (!isdigit((unsigned char)*p) || p - text >= 5)
			return error_set(err, "\"%.16s\" is not a port", text);
		value = value * 10 + (unsigned long)(*p - '0');
	}
	if (value == 0 || value > 65535)
		return error_set(err, "\"%.16s\" is not a port", text);
	*port = (uint16_t)value;
	return true;
}

static bool parse_gateway(const char *name, struct next_hop_target *t, struct error *err)
{
	const char *end = name + strlen(name), *colon = strrchr(name, ':'), *close = strchr(name, ']');

	if (name[0] == '[') {
		if (!close || (close[1] != '\0' && close[1] != ':'))
			return error_set(err, "\"%.*s\": unbalanced [ ]", DOMAIN_MAX, name);
		if (close[1] == ':' && !parse_port(close + 2, &t->port, err))
			return false;
		return set_literal(t, name + 1, (size_t)(close - name - 1), err);
	}
	if (colon && strchr(name, ':') != colon) /* bare IPv6: all of it is the address */
		return set_literal(t, name, (size_t)(end - name), err);
	if (colon) {
		if (!parse_port(colon + 1, &t->port, err))
			return false;
		end = colon;
	}
	if (set_literal(t, name, (size_t)(end - name), NULL))
		return true;
	return set_host(t, name, (size_t)(end - name), err);
}

static bool parse_domain(const char *name, struct next_hop_target *t, struct error *err)
{
	size_t len = strlen(name);

	t->of_domain = true;
	if (name[0] != '[')
		return set_host(t, name, len, err);
	if (len < 3 || name[len - 1] != ']')
		return error_set(err, "not an address literal");
	return set_literal(t, name + 1, len - 2, err);
}

static bool set_socket(const char *path, struct next_hop_target *t, struct error *err)
{
	if (strlen(path) > ROUTE_PATH_MAX)
		return error_set(err, "longer than a Unix socket's path may be");
	t->unix_socket = true;
	strcpy(t->host, path);
	return true;
}

/* Item i of a list as routes_expand() printed it */
static bool parse_route(const char *name, unsigned i, struct next_hop_target *t, struct error *err)
{
	struct route_item r;
	const char *item;
	size_t len;

	do {
		item = routes_next(&name, &len);
	} while (item && i--);
	if (!item || !route_item_parse(item, len, &r, err))
		return error_set(err, "not a list of routes");
	t->port = r.port;
	t->method = r.method;
	t->pref = r.pref;
	t->ttl_s = r.ttl_s;
	t->only_address = r.only_address;
	if (r.kind == ROUTE_ITEM_MX)
		return parse_domain(r.host, t, err);
	if (r.kind == ROUTE_ITEM_UNIX)
		return set_socket(r.host, t, err);
	return r.literal ? set_literal(t, r.host, strlen(r.host), err)
	                 : set_host(t, r.host, strlen(r.host), err);
}

unsigned next_hop_count(const struct next_hop *hop)
{
	const char *at = hop->name;
	unsigned n = 0;
	size_t len;

	if (hop->type != NEXT_HOP_ROUTES)
		return 1;
	while (routes_next(&at, &len))
		n++;
	return n;
}

bool next_hop_parse(const struct next_hop *hop, unsigned i, struct next_hop_target *t, struct error *err)
{
	memset(t, 0, sizeof(*t));
	t->port = hop->port;
	t->ttl_s = ROUTE_TTL_NONE;
	switch (hop->type) {
	case NEXT_HOP_DOMAIN:
		return parse_domain(hop->name, t, err);
	case NEXT_HOP_GATEWAY:
		return hop->name[0] == '/' ? set_socket(hop->name, t, err) : parse_gateway(hop->name, t, err);
	case NEXT_HOP_ROUTES:
		break;
	}
	return parse_route(hop->name, i, t, err);
}
