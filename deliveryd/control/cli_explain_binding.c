/*
 * What holds for a binding and a recipient's domain: source addresses, EHLO name, route, limits, options.
 */
#include <stdio.h>
#include <string.h>

#include "base/addr.h"
#include "conf/option_table.h"
#include "conf/route_item.h"
#include "control/cli_explain.h"

static json_t *sources(const struct conf_binding *b)
{
	json_t *list = json_array();
	char text[ADDR_TEXT_SIZE];

	for (int family = 0; family < 2; family++)
		if (b->source[family].family != AF_UNSPEC)
			json_array_append_new(list, json_string(addr_print(&b->source[family], text)));
	if (b->any_source)
		json_array_append_new(list, json_string("*"));
	return list;
}

static json_t *origin_of(
        const struct conf *c, const char *option, const struct conf_binding *b, const char *domain)
{
	struct conf_origin origin;

	if (!conf_eval(c, option, b, domain, &origin, NULL))
		return json_null();
	return json_string(origin.where);
}

/* With what they leave open filled in, as deliveryd calls the next hop */
static json_t *routes_list(const struct conn_options *o, const char *domain)
{
	json_t *list = json_array();
	const char *at, *item;
	struct str text;
	size_t len;

	str_init(&text);
	routes_expand(o->routes, o, domain, &text);
	for (at = text.data; (item = routes_next(&at, &len));)
		json_array_append_new(list, json_stringn(item, len));
	str_free(&text);
	return list;
}

/* As deliveryd chooses the next hop: routes or a gateway go before the domain. */
static json_t *route(
        const struct conf *c, const struct conf_binding *b, const char *domain, const struct conn_options *o)
{
	bool lmtp = o->delivery_method == DELIVERY_LMTP;
	uint16_t port = (uint16_t)(lmtp ? o->lmtp_port : o->remote_smtp_port);
	const char *method = option_word_of("delivery_method", (int)o->delivery_method)->word;
	const char *type = o->routes ? "routes" : o->gateway ? "gateway" : *domain == '[' ? "address" : "mx";
	json_t *r = json_pack("{s:s, s:s, s:s, s:i, s:s}", "type", type, "next_hop",
	        o->gateway ? o->gateway : domain, "method", method, "port", (int)port, "port_option",
	        lmtp ? "lmtp_port" : "remote_smtp_port");

	if (o->routes) {
		json_object_set_new(r, "next_hop", routes_list(o, domain));
		json_object_set_new(r, "origin", origin_of(c, "routes", b, domain));
	} else if (o->gateway)
		json_object_set_new(r, "origin", origin_of(c, "gateway", b, domain));
	return r;
}

static const char *word(const char *option, int value)
{
	return option_word_of(option, value)->word;
}

/* DANE as it comes to: with tls no it is not asked for, with an address as next hop there is nothing to ask. */
static json_t *tls(const struct conn_options *o)
{
	bool none = o->tls == TLS_NO;

	return json_pack("{s:s, s:s, s:s, s:s}", "tls", word("tls_use", (int)o->tls), "tls_verify",
	        word("tls_verify", none ? (int)TLS_VERIFY_NO : (int)o->tls_verify), "tls_min_version",
	        word("tls_version", (int)o->tls_min_version), "dane",
	        word("dane_use", none ? (int)DANE_NO : (int)o->dane));
}

static json_t *limits(
        const struct conf *c, const struct conf_binding *b, const char *domain, const struct conn_options *o)
{
	struct sched_options sched;

	conf_resolve(c, b, domain, NULL, NULL, &sched);
	json_t *l = json_pack("{s:i, s:i, s:i, s:i}", "max_outbound_connections",
	        (int)o->max_outbound_connections, "max_recipients_per_batch",
	        (int)o->max_recipients_per_batch, "max_deliveries_per_connection",
	        (int)o->max_deliveries_per_connection, "server_total", (int)sched.server_total);
	json_object_set_new(l, "binding_total",
	        sched.binding_total ? json_integer((json_int_t)sched.binding_total) : json_null());
	return l;
}

/* Those that differ from what is built in, each with where it comes from. */
static json_t *options(const struct conf *c, const struct conf_binding *b, const char *domain)
{
	json_t *list = json_array();

	for (size_t i = 0; i < OPT_COUNT; i++) {
		const struct option_row *row = &option_rows[i];
		struct conf_origin origin;

		bool shown_above = i == OPT_bind_address || i == OPT_server_max_outbound_connections;
		if (shown_above || !conf_eval(c, row->name, b, domain, &origin, NULL) || !origin.differs)
			continue;
		json_array_append_new(list,
		        json_pack("{s:s, s:o?, s:s}", "option", row->name, "value",
		                json_loads(origin.value, JSON_DECODE_ANY, NULL), "origin", origin.where));
	}
	return list;
}

static bool is_suspended(const struct conf *c, const struct conf_binding *b, const char *domain)
{
	struct sched_options sched;

	conf_resolve(c, b, domain, NULL, NULL, &sched);
	return sched.suspend_delivery ||
	       (b->index == 0 && conf_global(c)->default_binding == DEFAULT_BINDING_SUSPENDED);
}

json_t *explain_binding(const struct conf *c, const struct conf_binding *b, const char *domain)
{
	struct conn_options o;
	json_t *out = json_object();

	conf_resolve(c, b, domain, &o, NULL, NULL);
	json_object_set_new(out, "binding", json_string(b->name));
	if (strcmp(b->group->name, "default") != 0)
		json_object_set_new(out, "group", json_string(b->group->name));
	json_object_set_new(out, "where", json_string(b->where));
	json_object_set_new(out, "source", sources(b));
	json_object_set_new(out, "source_origin", origin_of(c, "bind_address", b, NULL));
	json_object_set_new(out, "ehlo", json_string(o.ehlo_hostname));
	json_object_set_new(out, "ehlo_origin", origin_of(c, "ehlo_hostname", b, domain));
	json_object_set_new(out, "suspended", json_boolean(is_suspended(c, b, domain)));
	json_object_set_new(out, "route", route(c, b, domain, &o));
	json_object_set_new(out, "tls", tls(&o));
	json_object_set_new(out, "limits", limits(c, b, domain, &o));
	json_object_set_new(out, "options", options(c, b, domain));
	return out;
}
