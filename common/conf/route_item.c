/* route_item - see route_item.h */
#include "config.h"
#include "conf/route_item.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORM                                                                                                 \
	"not a route: write __mx__, HOST, ADDRESS, HOST:PORT, [IPv6]:PORT, smtp://HOST?pref=1, lmtp://HOST " \
	"or lmtp:unix:/path"
#define TTL_MAX 86400

static bool starts(const char **at, const char *end, const char *with)
{
	size_t len = strlen(with);

	if ((size_t)(end - *at) < len || strncmp(*at, with, len) != 0)
		return false;
	*at += len;
	return true;
}

static bool number(const char *text, size_t len, unsigned long min, unsigned long max, unsigned long *out)
{
	unsigned long n = 0;

	if (len == 0 || len > 9)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!isdigit((unsigned char)text[i]))
			return false;
		n = n * 10 + (unsigned long)(text[i] - '0');
	}
	*out = n;
	return n >= min && n <= max;
}

static bool set_port(struct route_item *r, const char *text, size_t len, struct error *err)
{
	unsigned long n;

	if (!number(text, len, 1, 65535, &n))
		return error_set(err, "\"%.*s\" is not a port", (int)(len < 20 ? len : 20), text);
	if (r->port && r->port != n)
		return error_set(err, "two different ports");
	r->port = (uint16_t)n;
	return true;
}

/* A name of digits and dots alone is an address mistyped. */
static bool set_host(struct route_item *r, const char *text, size_t len, struct error *err)
{
	char name[DOMAIN_MAX + 64], plain[sizeof(r->host)];

	if (len == 0 || len >= sizeof(plain))
		return error_set(err, FORM);
	memcpy(plain, text, len);
	plain[len] = '\0';
	if (addr_parse(plain, &r->addr, NULL)) {
		addr_unmap(&r->addr);
		r->literal = true;
		addr_print(&r->addr, r->host);
		return true;
	}
	if (*text == '[' || plain[strspn(plain, "0123456789.")] == '\0' || strpbrk(plain, "/?&=@\"\\%:") ||
	        strncmp(plain, "__", 2) == 0 || !domain_normalize(plain, len, name, NULL))
		return error_set(err, FORM);
	strcpy(r->host, name);
	return true;
}

static bool set_hostport(struct route_item *r, const char *text, const char *end, struct error *err)
{
	const char *close = *text == '[' ? memchr(text, ']', (size_t)(end - text)) : NULL;
	const char *colon = memchr(text, ':', (size_t)(end - text));
	const char *host_end = end;

	if (*text == '[') {
		if (!close || (close + 1 < end && close[1] != ':'))
			return error_set(err, FORM);
		host_end = close + 1;
	} else if (colon && !memchr(colon + 1, ':', (size_t)(end - colon - 1))) {
		host_end = colon;
	}
	if (host_end < end && !set_port(r, host_end + 1, (size_t)(end - host_end - 1), err))
		return false;
	return set_host(r, text, (size_t)(host_end - text), err);
}

static bool parameter(
        struct route_item *r, const char *at, const char *end, unsigned *seen, struct error *err)
{
	static const char *const names[] = {"pref=", "ttl=", "port=", "type="};
	unsigned long n;
	unsigned i = 0;

	while (i < 4 && !starts(&at, end, names[i]))
		i++;
	size_t len = (size_t)(end - at);
	if (i == 4)
		return error_set(err, "\"%.*s\": a route's parameters are pref, ttl, port and type",
		        (int)(len < 40 ? len : 40), at);
	if (*seen & 1u << i)
		return error_set(err, "%.*s stands twice", (int)strlen(names[i]) - 1, names[i]);
	*seen |= 1u << i;
	if (r->kind == ROUTE_ITEM_UNIX && i >= 2)
		return error_set(
		        err, "%.*s means nothing for a Unix socket", (int)strlen(names[i]) - 1, names[i]);
	switch (i) {
	case 0:
		if (!number(at, len, 0, 65535, &n))
			return error_set(err, "pref is not a number from 0 to 65535");
		r->has_pref = true;
		r->pref = (uint16_t)n;
		return true;
	case 1:
		if (!number(at, len, 1, TTL_MAX, &n))
			return error_set(err, "ttl is not a number of seconds from 1 to %d", TTL_MAX);
		r->ttl_s = (uint32_t)n;
		return true;
	case 2:
		return set_port(r, at, len, err);
	default:
		r->only_address = len == 1 && *at == 'a';
		if (!r->only_address && (len != 2 || strncmp(at, "mx", 2) != 0))
			return error_set(err, "type is neither mx nor a");
		return true;
	}
}

static bool parameters(struct route_item *r, const char *at, const char *end, struct error *err)
{
	unsigned seen = 0;

	for (const char *next; at <= end; at = next + 1) {
		next = memchr(at, '&', (size_t)(end - at));
		if (!next)
			next = end;
		if (!parameter(r, at, next, &seen, err))
			return false;
	}
	return true;
}

static bool set_path(struct route_item *r, const char *text, const char *end, struct error *err)
{
	size_t len = (size_t)(end - text);

	r->kind = ROUTE_ITEM_UNIX;
	if (len < 2 || *text != '/' || len > ROUTE_PATH_MAX)
		return error_set(err, "the path of a Unix socket begins with / and has at most %d bytes",
		        ROUTE_PATH_MAX);
	memcpy(r->host, text, len);
	r->host[len] = '\0';
	return true;
}

/* A recipient domain: also "[192.0.2.1]", "[IPv6:...]". Only routes_expand() writes it. */
static bool set_domain(struct route_item *r, const char *text, const char *end, struct error *err)
{
	const char *colon = memrchr(text, ':', (size_t)(end - text));

	r->kind = ROUTE_ITEM_MX;
	if (!colon || (size_t)(colon - text) >= sizeof(r->host) || colon == text)
		return error_set(err, FORM);
	memcpy(r->host, text, (size_t)(colon - text));
	r->host[colon - text] = '\0';
	return set_port(r, colon + 1, (size_t)(end - colon - 1), err);
}

static bool blanks(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] <= ' ' || text[i] == 0x7f)
			return true;
	return false;
}

bool route_item_parse(const char *text, size_t len, struct route_item *r, struct error *err)
{
	const char *at = text, *end = text + len, *query = memchr(text, '?', len);
	const char *stop = query ? query : end;

	*r = (struct route_item){.kind = ROUTE_ITEM_HOST, .ttl_s = ROUTE_TTL_NONE};
	if (len == 0 || blanks(text, len))
		return error_set(err, FORM);
	if (starts(&at, stop, "lmtp:unix:")) {
		r->method = ROUTE_METHOD_LMTP;
		if (!set_path(r, at, stop, err))
			return false;
	} else if (starts(&at, stop, "mx://")) {
		if (!set_domain(r, at, stop, err))
			return false;
	} else if (starts(&at, stop, "__mx__") && at == end) {
		r->kind = ROUTE_ITEM_MX;
		return true;
	} else {
		at = text;
		if (starts(&at, stop, "smtp://"))
			r->method = ROUTE_METHOD_SMTP;
		else if (starts(&at, stop, "lmtp://"))
			r->method = ROUTE_METHOD_LMTP;
		if (!set_hostport(r, at, stop, err))
			return false;
		if (query && r->method == ROUTE_METHOD_OPTION)
			return error_set(err, "parameters need a method: write smtp://%.*s",
			        (int)(len < 60 ? len : 60), text);
	}
	if (query && !parameters(r, query + 1, end, err))
		return false;
	if (r->method == ROUTE_METHOD_LMTP && r->port == 25)
		return error_set(err, "LMTP must not be spoken on port 25 (RFC 2033 5)");
	return true;
}

static void print_host(const struct route_item *r, struct str *out)
{
	bool brackets = r->literal && r->addr.family == AF_INET6 && (r->port || r->method);

	str_printf(out, "%s%s%s", brackets ? "[" : "", r->host, brackets ? "]" : "");
	if (r->port)
		str_printf(out, ":%u", r->port);
}

void route_item_print(const struct route_item *r, struct str *out)
{
	const char *sign = "?";

	if (r->kind == ROUTE_ITEM_MX && !r->host[0]) {
		str_add(out, "__mx__");
		return;
	}
	if (r->kind == ROUTE_ITEM_UNIX)
		str_printf(out, "lmtp:unix:%s", r->host);
	else if (r->kind == ROUTE_ITEM_MX)
		str_printf(out, "mx://%s:%u", r->host, r->port);
	else if (r->method)
		str_add(out, r->method == ROUTE_METHOD_SMTP ? "smtp://" : "lmtp://");
	if (r->kind == ROUTE_ITEM_HOST)
		print_host(r, out);
	if (r->has_pref) {
		str_printf(out, "%spref=%u", sign, r->pref);
		sign = "&";
	}
	if (r->ttl_s != ROUTE_TTL_NONE) {
		str_printf(out, "%sttl=%u", sign, r->ttl_s);
		sign = "&";
	}
	if (r->only_address && !r->literal)
		str_printf(out, "%stype=a", sign);
}

const char *routes_next(const char **at, size_t *len)
{
	const char *item = *at + strspn(*at, " ");

	*len = strcspn(item, " ");
	*at = item + *len;
	return *len ? item : NULL;
}

static void fill_in(struct route_item *r, const struct conn_options *o, const char *domain)
{
	bool lmtp = r->method == ROUTE_METHOD_LMTP ||
	            (r->method == ROUTE_METHOD_OPTION && o->delivery_method == DELIVERY_LMTP);

	if (r->kind == ROUTE_ITEM_MX)
		snprintf(r->host, sizeof(r->host), "%s", domain);
	else
		r->method = lmtp ? ROUTE_METHOD_LMTP : ROUTE_METHOD_SMTP;
	if (!r->port && r->kind != ROUTE_ITEM_UNIX)
		r->port = (uint16_t)(lmtp ? o->lmtp_port : o->remote_smtp_port);
}

void routes_expand(const char *routes, const struct conn_options *o, const char *domain, struct str *out)
{
	const char *at = routes, *text;
	unsigned next = 0;
	size_t len;

	while ((text = routes_next(&at, &len))) {
		struct route_item r;

		/* The first cannot be: it was printed by us. The second cannot be asked for either. */
		if (!route_item_parse(text, len, &r, NULL) ||
		        (r.kind == ROUTE_ITEM_MX && domain[strcspn(domain, " ?")]))
			continue;
		fill_in(&r, o, domain);
		if (!r.has_pref)
			r.pref = (uint16_t)(next < 65535 ? next : 65535);
		r.has_pref = true;
		next = r.pref + 1u;
		if (out->len)
			str_add_char(out, ' ');
		route_item_print(&r, out);
	}
}
