#include "config.h"
#include "conf/value.h"

#include <ctype.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>
#include "base/names.h"
#include "base/utf8.h"
#include "conf/egress_proxy.h"
#include "conf/host_rule.h"
#include "conf/value_list.h"

/* "5d", "20m", "90s", "1w", "90": a number and at most one unit */
static bool number_with_unit(
        const char *text, const char *const *units, const uint64_t *factors, uint64_t *out)
{
	uint64_t n = 0;
	const char *p = text;

	if (!isdigit((unsigned char)*p))
		return false;
	for (; isdigit((unsigned char)*p); p++)
		if (__builtin_mul_overflow(n, 10u, &n) || __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
			return false;
	for (size_t i = 0; units[i]; i++)
		if (strcmp(p, units[i]) == 0)
			return !__builtin_mul_overflow(n, factors[i], out);
	return false;
}

static const char *const duration_units[] = {"d", "h", "m", "s", "", "w", NULL};
static const uint64_t duration_factors[] = {86400, 3600, 60, 1, 1, 7 * 86400};
static const char *const size_units[] = {"TB", "GB", "MB", "KB", "", "B", NULL};
static const uint64_t size_factors[] = {1ull << 40, 1ull << 30, 1ull << 20, 1ull << 10, 1, 1};

bool duration_parse(const char *text, uint64_t *seconds)
{
	return number_with_unit(text, duration_units, duration_factors, seconds);
}

bool size_parse(const char *text, uint64_t *bytes)
{
	return number_with_unit(text, size_units, size_factors, bytes);
}

/* The largest of the first n units that divides it; plain number for 0 */
static json_t *print_with_unit(uint64_t n, const char *const *units, const uint64_t *factors, size_t n_units)
{
	for (size_t i = 0; n && i < n_units; i++)
		if (n % factors[i] == 0)
			return json_sprintf("%llu%s", (unsigned long long)(n / factors[i]), units[i]);
	return json_integer((json_int_t)n);
}

static uint64_t bound(const struct option_row *row, const char *text, uint64_t none)
{
	uint64_t n = none;

	if (row->type == TYPE_DURATION)
		duration_parse(text, &n);
	else
		size_parse(text, &n);
	return n;
}

void value_range(const struct option_row *row, uint64_t *min, uint64_t *max)
{
	*min = bound(row, row->min, 0);
	*max = bound(row, row->max, UINT64_MAX);
}

static bool in_range(struct value_reader *r, const struct place *p, const struct option_row *row,
        const json_t *j, uint64_t n, union value *out)
{
	uint64_t min, max;

	value_range(row, &min, &max);
	out->u = n;
	if (n >= min && n <= max)
		return true;
	struct str q;
	str_init(&q);
	quote_json(j, &q);
	place_error(r->errors, p, "%s is out of range: from %s to %s", q.data, row->min, row->max);
	str_free(&q);
	return false;
}

/* "VALUE is not ..." */
static bool is_not(struct value_reader *r, const struct place *p, const json_t *j, const char *what)
{
	struct str q;

	str_init(&q);
	quote_json(j, &q);
	place_error(r->errors, p, "%s is not %s", q.data, what);
	str_free(&q);
	return false;
}

static bool read_uint(struct value_reader *r, const struct place *p, const struct option_row *row,
        const json_t *j, union value *out)
{
	if (row->type == TYPE_UINT_NONE && json_is_string(j) && strcmp(json_string_value(j), "none") == 0) {
		out->u = RETRIES_NONE;
		return true;
	}
	if (json_is_integer(j) && json_integer_value(j) >= 0)
		return in_range(r, p, row, j, (uint64_t)json_integer_value(j), out);
	return is_not(r, p, j, row->type == TYPE_UINT_NONE ? "a whole number or \"none\"" : "a whole number");
}

static bool read_duration(struct value_reader *r, const struct place *p, const struct option_row *row,
        const json_t *j, union value *out)
{
	uint64_t n;

	if (json_is_integer(j) && json_integer_value(j) >= 0)
		return in_range(r, p, row, j, (uint64_t)json_integer_value(j), out);
	if (json_is_string(j) && duration_parse(json_string_value(j), &n))
		return in_range(r, p, row, j, n, out);
	return is_not(r, p, j, "a duration: write seconds, or a number with s, m, h, d or w as in \"20m\"");
}

static bool read_size(struct value_reader *r, const struct place *p, const struct option_row *row,
        const json_t *j, union value *out)
{
	uint64_t n;

	if (json_is_integer(j) && json_integer_value(j) >= 0)
		return in_range(r, p, row, j, (uint64_t)json_integer_value(j), out);
	if (json_is_string(j) && size_parse(json_string_value(j), &n))
		return in_range(r, p, row, j, n, out);
	return is_not(r, p, j, "a size: write bytes, or a number with KB, MB, GB or TB as in \"50MB\"");
}

bool rate_parse(const char *text, struct rate *out)
{
	size_t digits = strspn(text, "0123456789");
	uint64_t seconds = 1;

	if (digits == 0 || digits > 7 || (text[digits] && text[digits] != '/'))
		return false;
	unsigned long count = strtoul(text, NULL, 10);
	if (text[digits] && !duration_parse(text + digits + 1, &seconds))
		return false;
	*out = (struct rate){(uint32_t)count, (uint32_t)seconds};
	return count <= RATE_COUNT_MAX && seconds >= 1 && seconds <= RATE_SECONDS_MAX;
}

static bool read_rate(struct value_reader *r, const struct place *p, const json_t *j, union value *out)
{
	if (json_is_null(j))
		return true;
	if (json_is_integer(j) && json_integer_value(j) >= 0 && json_integer_value(j) <= RATE_COUNT_MAX) {
		out->rate = (struct rate){(uint32_t)json_integer_value(j), 1};
		return true;
	}
	if (json_is_string(j) && rate_parse(json_string_value(j), &out->rate))
		return true;
	return is_not(r, p, j,
	        "a rate: write N for so many a second, or \"N/S\" for so many in any S seconds, as in \"60/3\" or "
	        "\"1000/1h\" (at most 1000000 in up to a day); null or 0 for none");
}

static json_t *rate_json(struct rate rate)
{
	if (rate.count == 0)
		return json_null();
	return json_sprintf("%u/%u", rate.count, rate.seconds);
}

static bool read_bool(struct value_reader *r, const struct place *p, const json_t *j, union value *out)
{
	const char *word = json_string_value(j);

	if (json_is_boolean(j)) {
		out->u = json_is_true(j);
		return true;
	}
	if (word && (strcmp(word, "on") == 0 || strcmp(word, "off") == 0)) {
		out->u = word[1] == 'n';
		return true;
	}
	return is_not(r, p, j, "true or false");
}

static bool read_word(struct value_reader *r, const struct place *p, const struct option_row *row,
        const json_t *j, union value *out)
{
	const struct option_word *w =
	        json_is_string(j) ? option_word_named(row->tag, json_string_value(j)) : NULL;

	if (w) {
		out->u = (uint64_t)w->value;
		return true;
	}
	struct str choice;
	size_t n, shown = 0;
	const struct option_word *all = option_words(&n);
	str_init(&choice);
	str_add(&choice, "one of");
	for (size_t i = 0; i < n; i++)
		if (strcmp(all[i].tag, row->tag) == 0)
			str_printf(&choice, "%s \"%s\"", shown++ ? "," : "", all[i].word);
	is_not(r, p, j, choice.data);
	str_free(&choice);
	return false;
}

/* --- names ---------------------------------------------------------------------------------------------- */

static bool read_domain_name(
        struct value_reader *r, const struct place *p, const json_t *j, const char *what, union value *out)
{
	char name[DOMAIN_MAX + 64];
	struct addr bare;
	const char *s = json_string_value(j);

	/* An address without brackets would pass as a name of digits */
	if (!s || (*s != '[' && addr_parse(s, &bare, NULL)) || !domain_normalize(s, strlen(s), name, NULL))
		return is_not(r, p, j, what);
	out->s = pool_strdup(r->pool, name);
	return true;
}

static bool read_ehlo(struct value_reader *r, const struct place *p, const json_t *j, union value *out)
{
	static const char *const words[] = {"__hostname__", "__message__"};
	const char *s = json_string_value(j);

	for (unsigned i = 0; s && i < array_len(words); i++) {
		if (strcmp(s, words[i]) == 0) {
			out->s = words[i];
			return true;
		}
	}
	return read_domain_name(r, p, j,
	        "a host name, an address literal as in \"[192.0.2.1]\", \"__hostname__\" or \"__message__\"",
	        out);
}

static bool port_parse(const char *s, unsigned *port)
{
	unsigned long n;
	size_t len = strspn(s, "0123456789");

	if (len == 0 || len > 5 || s[len])
		return false;
	n = strtoul(s, NULL, 10);
	*port = (unsigned)n;
	return n >= 1 && n <= 65535;
}

/*
 * gateway = host [":" port] ; host = name / IPv4 / "[" IPv6 "]"  or a bare IPv6 without port. Normal form:
 * names as domain_normalize() has them, addresses as printed, brackets only with a port.
 */
static bool gateway_normalize(const char *s, struct str *out)
{
	struct addr a;
	char name[DOMAIN_MAX + 64], ip[ADDR_TEXT_SIZE];
	unsigned port = 0;
	const char *colon = strrchr(s, ':');
	const char *close = *s == '[' ? strchr(s, ']') : NULL;
	size_t len = strlen(s);

	if (*s == '[') {
		if (!close || (close[1] && close[1] != ':') ||
		        (close[1] == ':' && !port_parse(close + 2, &port)))
			return false;
		len = (size_t)(close + 1 - s);
	} else if (colon && colon == strchr(s, ':')) {
		if (!port_parse(colon + 1, &port))
			return false;
		len = (size_t)(colon - s);
	}
	char *host = mem_strndup(s, len);
	bool ok = true;
	if (addr_parse(host, &a, NULL)) {
		bool brackets = port && a.family == AF_INET6;
		str_printf(out, "%s%s%s", brackets ? "[" : "", addr_print(&a, ip), brackets ? "]" : "");
	} else if (*s != '[' && host[strspn(host, "0123456789.")] &&
	           domain_normalize(host, len, name, NULL)) {
		str_add(out, name);
	} else {
		ok = false;
	}
	if (ok && port)
		str_printf(out, ":%u", port);
	mem_free(&host);
	return ok;
}

static bool read_gateway(struct value_reader *r, const struct place *p, const json_t *j, union value *out)
{
	struct str text;

	if (json_is_null(j)) {
		out->s = NULL;
		return true;
	}
	str_init(&text);
	bool ok = json_is_string(j) && gateway_normalize(json_string_value(j), &text);
	if (ok)
		out->s = pool_strdup(r->pool, text.data);
	else
		is_not(r, p, j,
		        "a gateway: write HOST, ADDRESS, HOST:PORT, ADDRESS:PORT or [IPv6]:PORT, or null for "
		        "none");
	str_free(&text);
	return ok;
}

static bool read_proxy(struct value_reader *r, const struct place *p, const json_t *j, union value *out)
{
	const char *s = json_string_value(j);
	struct egress_proxy proxy;
	struct error err;
	struct str text;

	out->s = NULL;
	if (json_is_null(j))
		return true;
	if (!s)
		return is_not(r, p, j,
		        "a proxy: write proxy://ADDRESS:PORT or socks5://ADDRESS:PORT, or null for none");
	if (strchr(s, '@')) /* perhaps with a password: not to be repeated */
		return place_error(r->errors, p,
		        "credentials do not stand in it: set egress_proxy_user and egress_proxy_pass");
	str_init(&text);
	if (!egress_proxy_parse(s, &proxy, &err)) {
		str_printf(&text, "a proxy: %s", err.text);
		is_not(r, p, j, text.data);
		str_free(&text);
		return false;
	}
	egress_proxy_print(&proxy, &text);
	out->s = pool_strdup(r->pool, text.data);
	str_free(&text);
	return true;
}

static bool read_chars(struct value_reader *r, const struct place *p, const json_t *j,
        bool (*good)(unsigned char), size_t max, const char *what, union value *out)
{
	const char *s = json_string_value(j);

	if (!s || !*s || strlen(s) > max)
		return is_not(r, p, j, what);
	for (const char *c = s; *c; c++)
		if (!good((unsigned char)*c))
			return is_not(r, p, j, what);
	out->s = pool_strdup(r->pool, s);
	return true;
}

static bool field_name_char(unsigned char c) /* RFC 5322 2.2 */
{
	return c >= 33 && c <= 126 && c != ':';
}

static bool user_name_char(unsigned char c)
{
	return isalnum(c) || c == '_' || c == '-' || c == '.' || c == '$';
}

static bool text_has_control(const char *s)
{
	size_t len = strlen(s), n;
	uint32_t code;

	for (size_t i = 0; i < len; i += n) {
		n = utf8_next(s + i, len - i, &code);
		if (n == 0 || utf8_is_control(code))
			return true;
	}
	return false;
}

static bool read_priority(struct value_reader *r, const struct place *p, const json_t *j, union value *out)
{
	const char *s = json_string_value(j), *at = NULL;
	gnutls_priority_t parsed;

	if (json_is_null(j)) {
		out->s = NULL;
		return true;
	}
	if (!s || !*s || gnutls_priority_init(&parsed, s, &at) != GNUTLS_E_SUCCESS)
		return is_not(r, p, j, "a GnuTLS priority string, e.g. \"SECURE192:-VERS-TLS1.1\"");
	gnutls_priority_deinit(parsed);
	out->s = pool_strdup(r->pool, s);
	return true;
}

/* Text without control characters. What is wrong with a secret is told without it. */
static bool read_text(struct value_reader *r, const struct place *p, const struct option_row *row,
        const json_t *j, union value *out)
{
	const char *s = json_string_value(j);
	json_t *shown;

	out->s = NULL;
	if (json_is_null(j))
		return true;
	if (s && *s && !text_has_control(s)) {
		out->s = pool_strdup(r->pool, s);
		return true;
	}
	shown = row->type == TYPE_SECRET ? json_string("(not shown)") : json_deep_copy(j);
	is_not(r, p, shown, "a text without control characters");
	json_decref(shown);
	return false;
}

static bool read_path(struct value_reader *r, const struct place *p, const struct option_row *row,
        const json_t *j, union value *out)
{
	const char *s = json_string_value(j), *dir = place_file(p)->dir;

	if (json_is_null(j) && strcmp(row->def, "null") == 0) {
		out->s = NULL;
		return true;
	}
	if (!s || !*s)
		return is_not(r, p, j, "a path");
	size_t n = *s == '/' ? 0 : strlen(dir);
	char *path = pool_alloc(r->pool, n + strlen(s) + 1);
	memcpy(path, dir, n);
	strcpy(path + n, s);
	out->s = path;
	return true;
}

/* --- all types ------------------------------------------------------------------------------------------ */

bool value_read(struct value_reader *r, const struct place *p, const struct option_row *row, const json_t *j,
        union value *out)
{
	memset(out, 0, sizeof(*out));
	switch (row->type) {
	case TYPE_UINT:
	case TYPE_UINT_NONE:
		return read_uint(r, p, row, j, out);
	case TYPE_DURATION:
		return read_duration(r, p, row, j, out);
	case TYPE_SIZE:
		return read_size(r, p, row, j, out);
	case TYPE_RATE:
		return read_rate(r, p, j, out);
	case TYPE_BOOL:
		return read_bool(r, p, j, out);
	case TYPE_ENUM:
		return read_word(r, p, row, j, out);
	case TYPE_EHLO:
		return read_ehlo(r, p, j, out);
	case TYPE_GATEWAY:
		return read_gateway(r, p, j, out);
	case TYPE_PROXY:
		return read_proxy(r, p, j, out);
	case TYPE_HOSTNAME:
		return json_is_null(j) || read_domain_name(r, p, j, "a host name", out);
	case TYPE_FIELDNAME:
		return read_chars(r, p, j, field_name_char, 64,
		        "the name of a header field (printable ASCII without colon)", out);
	case TYPE_USERNAME:
		return read_chars(r, p, j, user_name_char, 32, "a user's name", out);
	case TYPE_PRIORITY:
		return read_priority(r, p, j, out);
	case TYPE_WORD:
	case TYPE_SECRET:
		return read_text(r, p, row, j, out);
	case TYPE_PATH:
		return read_path(r, p, row, j, out);
	case TYPE_NETLIST:
		return read_nets(r, p, j, out);
	case TYPE_HOSTRULES:
		return read_host_rules(r, p, row, j, out);
	case TYPE_ROUTES:
		return read_routes(r, p, j, out);
	case TYPE_RESPONSES:
		return read_response_rules(r, p, j, out);
	case TYPE_CURFEW:
		return read_curfew(r, p, j, out);
	case TYPE_SOCKET:
		return read_socket(r, p, row, j, out);
	case TYPE_SOCKETS:
		return read_sockets(r, p, j, out);
	case TYPE_SERVERS:
		return read_servers(r, p, j, out);
	case TYPE_PATHS:
		return read_paths(r, p, j, out);
	case TYPE_ADDRESSES:
		return read_addresses(r, p, j, out);
	}
	return false;
}

static bool is_list(enum option_type type)
{
	return type == TYPE_NETLIST || type == TYPE_HOSTRULES || type == TYPE_RESPONSES || type == TYPE_CURFEW ||
	       type == TYPE_SOCKETS || type == TYPE_PATHS;
}

static json_t *default_json(const struct option_row *row)
{
	const char *def = row->def;
	uint64_t n;

	if (strcmp(def, "null") == 0)
		return json_null();
	if (strcmp(def, "true") == 0 || strcmp(def, "false") == 0)
		return json_boolean(*def == 't');
	if (is_list(row->type)) {
		json_t *list = json_array();
		while (*def) {
			size_t len = strcspn(def, ",");
			json_array_append_new(list, json_stringn(def, len));
			def += len;
			def += strspn(def, ", ");
		}
		return list;
	}
	if (def[strspn(def, "0123456789")] == '\0' && size_parse(def, &n))
		return json_integer((json_int_t)n);
	return json_string(def);
}

union value value_default(struct pool *pool, const struct place *p, const struct option_row *row)
{
	struct errors errors = {0};
	struct value_reader r = {pool, &errors};
	union value v = {0};
	json_t *j = default_json(row);

	if (row->type != TYPE_ADDRESSES && !value_read(&r, p, row, j, &v)) {
		log_error("built-in of %s: %s", row->full_name, errors.n ? errors.items[0].text : "?");
		abort();
	}
	json_decref(j);
	errors_free(&errors);
	return v;
}

json_t *value_json(const struct option_row *row, union value v)
{
	switch (row->type) {
	case TYPE_UINT_NONE:
		if (v.u == RETRIES_NONE)
			return json_string("none");
		return json_integer((json_int_t)v.u);
	case TYPE_UINT:
		return json_integer((json_int_t)v.u);
	case TYPE_DURATION:
		return print_with_unit(v.u, duration_units, duration_factors, 4);
	case TYPE_SIZE:
		return print_with_unit(v.u, size_units, size_factors, 4);
	case TYPE_RATE:
		return rate_json(v.rate);
	case TYPE_BOOL:
		return json_boolean(v.u);
	case TYPE_ENUM:
		return json_string(option_word_of(row->tag, (int)v.u)->word);
	case TYPE_EHLO:
	case TYPE_GATEWAY:
	case TYPE_PROXY:
	case TYPE_HOSTNAME:
	case TYPE_FIELDNAME:
	case TYPE_USERNAME:
	case TYPE_PRIORITY:
	case TYPE_WORD:
	case TYPE_PATH:
		return v.s ? json_string(v.s) : json_null();
	case TYPE_SECRET: /* whoever asks */
		return v.s ? json_string("(not shown)") : json_null();
	case TYPE_NETLIST:
		return nets_json(v.nets);
	case TYPE_HOSTRULES:
		return host_rules_json(v.host_rules);
	case TYPE_ROUTES:
		return routes_json(v.s);
	case TYPE_RESPONSES:
		return response_rules_json(v.responses);
	case TYPE_CURFEW:
		return curfew_json(v.curfew);
	case TYPE_SOCKET:
		return socket_json(v.socket);
	case TYPE_SOCKETS:
		return sockets_json(v.sockets);
	case TYPE_SERVERS:
		return servers_json(v.servers);
	case TYPE_PATHS:
		return paths_json(v.paths);
	case TYPE_ADDRESSES:
		return addresses_json(v.addresses);
	}
	return json_null();
}

bool value_equal(const struct option_row *row, union value a, union value b)
{
	if (row->type == TYPE_SECRET)
		return a.s == b.s || (a.s && b.s && strcmp(a.s, b.s) == 0);
	json_t *ja = value_json(row, a), *jb = value_json(row, b);
	bool equal = json_equal(ja, jb);

	json_decref(ja);
	json_decref(jb);
	return equal;
}
