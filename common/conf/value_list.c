#include "config.h"
#include "conf/value_list.h"
#include "conf/route_item.h"

#include <string.h>

/*
 * One item or a list of items. A list's items have their index in the place ("bind_address[1]"), a single one
 * has not.
 */
struct items items_of(const json_t *j, const struct place *p)
{
	return (struct items){.json = j, .place = p, .n = json_is_array(j) ? json_array_size(j) : 1};
}

const json_t *items_next(struct items *it, const struct place **place)
{
	if (it->i >= it->n)
		return NULL;
	size_t i = it->i++;
	if (!json_is_array(it->json)) {
		*place = it->place;
		return it->json;
	}
	it->item = (struct place){.up = it->place, .index = i};
	*place = &it->item;
	return json_array_get(it->json, i);
}

static bool is_not(struct value_reader *r, const struct place *p, const json_t *j, const char *what)
{
	struct str q;

	str_init(&q);
	quote_json(j, &q);
	place_error(r->errors, p, "%s is not %s", q.data, what);
	str_free(&q);
	return false;
}

/* --- networks ------------------------------------------------------------------------------------------- */

bool read_nets_or_word(struct value_reader *r, const struct place *p, const json_t *j, const char *word,
        struct net_list *out, bool *has_word)
{
	struct items it = items_of(j, p);
	struct addr_net *nets = it.n ? pool_alloc(r->pool, it.n * sizeof(*nets)) : NULL;
	const struct place *at;
	const json_t *item;
	bool ok = true;

	*has_word = false;
	*out = (struct net_list){.nets = nets};
	while ((item = items_next(&it, &at))) {
		struct error err;
		const char *text = json_string_value(item);
		if (!text) {
			ok = is_not(r, at, item, "an address or network, as in \"10.0.0.0/8\"");
		} else if (word && strcmp(text, word) == 0) {
			*has_word = true;
		} else if (addr_net_parse(text, &nets[out->n], &err)) {
			out->n++;
		} else {
			ok = word ? place_error(r->errors, at, "%s, nor \"%s\"", err.text, word)
			          : place_error(r->errors, at, "%s", err.text);
		}
	}
	return ok;
}

bool read_nets(struct value_reader *r, const struct place *p, const json_t *j, union value *out)
{
	struct net_list *list = pool_alloc(r->pool, sizeof(*list));
	bool word;

	if (!read_nets_or_word(r, p, j, NULL, list, &word))
		return false;
	out->nets = list;
	return true;
}

json_t *net_json(const struct addr_net *n)
{
	char ip[ADDR_TEXT_SIZE];
	unsigned all = n->base.family == AF_INET ? 32 : 128;

	if (n->bits == all)
		return json_string(addr_print(&n->base, ip));
	return json_sprintf("%s/%u", addr_print(&n->base, ip), n->bits);
}

json_t *nets_json(const struct net_list *l)
{
	json_t *a = json_array();

	for (size_t i = 0; i < l->n; i++)
		json_array_append_new(a, net_json(&l->nets[i]));
	return a;
}

/* --- routes: kept as text, blanks between the items --- */

bool read_routes(struct value_reader *r, const struct place *p, const json_t *j, union value *out)
{
	struct items it = items_of(j, p);
	const struct place *at;
	const json_t *item;
	struct str text;
	bool ok = true;

	out->s = NULL;
	if (json_is_null(j))
		return true;
	if (it.n == 0 || it.n > ROUTES_MAX)
		return place_error(
		        r->errors, p, "%zu routes: write 1 to %d, or null for none", it.n, ROUTES_MAX);
	str_init(&text);
	while ((item = items_next(&it, &at))) {
		struct route_item route;
		struct error err;
		const char *s = json_string_value(item);
		if (!s || strncmp(s, "mx://", 5) == 0) {
			ok = is_not(r, at, item, "a route, as \"hub.example.net\" or \"__mx__\"");
		} else if (!route_item_parse(s, json_string_length(item), &route, &err)) {
			struct str q;
			str_init(&q);
			quote_json(item, &q);
			ok = place_error(r->errors, at, "%s: %s", q.data, err.text);
			str_free(&q);
		} else {
			if (text.len)
				str_add_char(&text, ' ');
			route_item_print(&route, &text);
		}
	}
	if (ok)
		out->s = pool_strdup(r->pool, text.data);
	str_free(&text);
	return ok;
}

json_t *routes_json(const char *routes)
{
	const char *item;
	size_t len;

	if (!routes)
		return json_null();
	json_t *a = json_array();
	while ((item = routes_next(&routes, &len)))
		json_array_append_new(a, json_stringn(item, len));
	return a;
}

/* --- sockets -------------------------------------------------------------------------------------------- */

static bool socket_read(struct value_reader *r, const struct place *p, const json_t *j, struct sockspec *out)
{
	struct error err;

	if (!json_is_string(j))
		return is_not(r, p, j, "a socket: write inet:HOST:PORT, unix:/path or systemd:NAME");
	if (!sockspec_parse(json_string_value(j), out, &err))
		return place_error(r->errors, p, "%s", err.text);
	return true;
}

bool read_socket(struct value_reader *r, const struct place *p, const struct option_row *row, const json_t *j,
        union value *out)
{
	if (json_is_null(j) && strcmp(row->def, "null") == 0)
		return true;
	struct sockspec *s = pool_alloc(r->pool, sizeof(*s));
	out->socket = s;
	return socket_read(r, p, j, s);
}

bool read_sockets(struct value_reader *r, const struct place *p, const json_t *j, union value *out)
{
	struct items it = items_of(j, p);
	struct sockspec_list *list = pool_alloc(r->pool, sizeof(*list));
	struct sockspec *items = it.n ? pool_alloc(r->pool, it.n * sizeof(*items)) : NULL;
	const struct place *at;
	const json_t *item;
	bool ok = true;

	while ((item = items_next(&it, &at)))
		if (socket_read(r, at, item, &items[list->n]))
			list->n++;
		else
			ok = false;
	list->items = items;
	out->sockets = list;
	return ok;
}

json_t *socket_json(const struct sockspec *s)
{
	struct str text;

	if (!s)
		return json_null();
	str_init(&text);
	sockspec_print(s, &text);
	json_t *j = json_string(text.data);
	str_free(&text);
	return j;
}

json_t *sockets_json(const struct sockspec_list *l)
{
	json_t *a = json_array();

	for (size_t i = 0; i < l->n; i++)
		json_array_append_new(a, socket_json(&l->items[i]));
	return a;
}

/* --- name servers --------------------------------------------------------------------------------------- */

#define SERVER_FORM                                                                                          \
	"a name server: write ADDRESS, ADDRESS:PORT, [IPv6]:PORT or {\"address\": ..., \"trust_ad\": true}"

static bool server_object(
        struct value_reader *r, const struct place *p, const json_t *j, struct dns_server_spec *out)
{
	const char *key;
	json_t *value;
	const json_t *address = json_object_get(j, "address");
	struct error err;
	bool ok = true;

	json_object_foreach ((json_t *)j, key, value) {
		struct place at = {.up = p, .key = key};
		if (strcmp(key, "trust_ad") == 0) {
			out->trust_ad = json_is_true(value);
			if (!json_is_boolean(value))
				ok = is_not(r, &at, value, "true or false");
		} else if (strcmp(key, "address") == 0) {
			const char *text = json_string_value(value);
			if (!text || !addr_parse_port(text, 53, &out->addr, &err))
				ok = is_not(r, &at, value,
				        "an address: write ADDRESS, ADDRESS:PORT or [IPv6]:PORT");
		} else if (strcmp(key, "comment") != 0) {
			ok = place_error(
			        r->errors, &at, "unknown key; \"address\" and \"trust_ad\" can stand here");
		}
	}
	if (!address)
		ok = place_error(r->errors, p, "\"address\" is missing");
	return ok;
}

static bool server_read(
        struct value_reader *r, const struct place *p, const json_t *j, struct dns_server_spec *out)
{
	struct error err;

	*out = (struct dns_server_spec){0};
	if (json_is_object(j)) {
		if (!server_object(r, p, j, out))
			return false;
	} else if (!json_is_string(j) || !addr_parse_port(json_string_value(j), 53, &out->addr, &err)) {
		return is_not(r, p, j, SERVER_FORM);
	}
	/* A validator on this machine is trusted without being told (RFC 7672 2.1: the path to it is ours).
	 */
	out->trust_ad |= addr_is_loopback(&out->addr);
	return true;
}

bool read_servers(struct value_reader *r, const struct place *p, const json_t *j, union value *out)
{
	struct items it = items_of(j, p);
	struct dns_server_list *list = pool_alloc(r->pool, sizeof(*list));
	const struct place *at;
	const json_t *item;
	bool ok = true;

	out->servers = list;
	if (json_is_null(j))
		return true;
	if (it.n == 0)
		return place_error(r->errors, p,
		        "no name server: name at least one, or leave the option out to use those of "
		        "resolv.conf");
	if (it.n > CONF_DNS_SERVERS_MAX)
		return place_error(r->errors, p,
		        "%zu name servers; at most %d can be used: name those nearest", it.n,
		        CONF_DNS_SERVERS_MAX);
	struct dns_server_spec *items = pool_alloc(r->pool, it.n * sizeof(*items));
	while ((item = items_next(&it, &at)))
		if (server_read(r, at, item, &items[list->n]))
			list->n++;
		else
			ok = false;
	list->items = items;
	return ok;
}

json_t *servers_json(const struct dns_server_list *l)
{
	char text[ADDR_TEXT_SIZE];

	if (!l->n)
		return json_null();
	json_t *a = json_array();
	for (size_t i = 0; i < l->n; i++) {
		addr_print_port(&l->items[i].addr, text);
		if (l->items[i].trust_ad && !addr_is_loopback(&l->items[i].addr))
			json_array_append_new(a, json_pack("{s:s, s:b}", "address", text, "trust_ad", 1));
		else
			json_array_append_new(a, json_string(text));
	}
	return a;
}

/* --- paths ---------------------------------------------------------------------------------------------- */

bool read_paths(struct value_reader *r, const struct place *p, const json_t *j, union value *out)
{
	struct items it = items_of(j, p);
	struct path_list *list = pool_alloc(r->pool, sizeof(*list));
	const char **items = it.n ? pool_alloc(r->pool, it.n * sizeof(*items)) : NULL;
	const struct place *at;
	const json_t *item;
	bool ok = true;

	while ((item = items_next(&it, &at)))
		if (json_is_string(item) && json_string_length(item))
			items[list->n++] = pool_strdup(r->pool, json_string_value(item));
		else
			ok = is_not(r, at, item, "a path");
	list->items = items;
	out->paths = list;
	return ok;
}

json_t *paths_json(const struct path_list *l)
{
	json_t *a = json_array();

	for (size_t i = 0; i < l->n; i++)
		json_array_append_new(a, json_string(l->items[i]));
	return a;
}

/* --- source addresses ----------------------------------------------------------------------------------- */

static bool is_multicast(const struct addr *a)
{
	if (a->family == AF_INET)
		return a->ip[0] >= 224;
	return a->ip[0] == 0xff;
}

static bool source_read(
        struct value_reader *r, const struct place *p, const json_t *j, struct bind_addresses *out)
{
	struct addr a;
	const char *text = json_string_value(j);

	if (!text || !addr_parse(text, &a, NULL)) {
		/* A name has letters that no address has; an address mistyped has not. */
		bool name = text && strpbrk(text, "ghijklmnopqrstuvwxyzGHIJKLMNOPQRSTUVWXYZ");
		return is_not(r, p, j,
		        name ? "an IP address; names are not looked up, since what they mean can change "
		               "unseen"
		             : "an IP address");
	}
	addr_unmap(&a);
	if (addr_is_any(&a))
		return is_not(r, p, j, "an address to send from; \"*\" lets the kernel choose");
	if (is_multicast(&a))
		return is_not(r, p, j, "an address to send from, but a multicast one");
	struct addr *slot = &out->source[a.family == AF_INET6];
	if (slot->family != AF_UNSPEC) {
		char first[ADDR_TEXT_SIZE];
		struct str q;
		str_init(&q);
		quote_json(j, &q);
		place_error(r->errors, p,
		        "%s is a second %s address beside \"%s\"; a binding has at most one of each family",
		        q.data, a.family == AF_INET ? "IPv4" : "IPv6", addr_print(slot, first));
		str_free(&q);
		return false;
	}
	*slot = a;
	return true;
}

bool read_addresses(struct value_reader *r, const struct place *p, const json_t *j, union value *out)
{
	struct items it = items_of(j, p);
	struct bind_addresses *list = pool_alloc(r->pool, sizeof(*list));
	const struct place *at;
	const json_t *item;
	bool ok = true;

	out->addresses = list;
	if (json_is_array(j) && it.n == 0)
		return place_error(r->errors, p, "no address: write at least one");
	while ((item = items_next(&it, &at)))
		if (json_is_string(item) && strcmp(json_string_value(item), "*") == 0)
			list->any = true;
		else if (!source_read(r, at, item, list))
			ok = false;
	if (ok && list->any && it.n > 1)
		ok = place_error(r->errors, p, "\"*\" (the kernel chooses) and addresses exclude each other");
	list->any &= ok;
	return ok;
}

json_t *addresses_json(const struct bind_addresses *b)
{
	char text[ADDR_TEXT_SIZE];

	if (!b)
		return json_null();
	if (b->any)
		return json_string("*");
	json_t *a = json_array();
	for (size_t i = 0; i < 2; i++)
		if (b->source[i].family != AF_UNSPEC)
			json_array_append_new(a, json_string(addr_print(&b->source[i], text)));
	if (json_array_size(a) == 1) {
		json_t *one = json_incref(json_array_get(a, 0));
		json_decref(a);
		return one;
	}
	return a;
}
