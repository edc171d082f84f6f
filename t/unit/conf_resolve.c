/* Scopes and fallback: which value is in force where, and where it comes from */
#include "config.h"
#include "t/lib/test.h"
#include "base/mem.h"
#include "base/str.h"
#include "conf/conf.h"
#include "conf/route_item.h"

static struct conf *load(const char *process, const char *policy)
{
	struct errors errors = {0};
	struct conf *c = conf_load_text(process, policy, &errors);

	for (size_t i = 0; i < errors.n; i++)
		print_message("# %s\n", errors.items[i].text);
	assert_non_null(c);
	errors_free(&errors);
	return c;
}

#define EVAL_SIZE (sizeof(struct conf_origin) + 16)

/* "VALUE from WHERE" of an option for binding (NULL = none) and domain */
static const char *eval(const struct conf *c, const char *option, const char *binding, const char *domain,
        char buf[EVAL_SIZE])
{
	struct conf_origin o;
	struct error err;
	const struct conf_binding *b = binding ? conf_binding_named(c, binding) : NULL;

	assert_true(!binding || b);
	assert_true(conf_eval(c, option, b, domain, &o, &err));
	snprintf(buf, EVAL_SIZE, "%s from %s", o.value, o.where);
	return buf;
}

#define EVAL(expected, option, binding, domain)                                                              \
	do {                                                                                                 \
		char buf[EVAL_SIZE];                                                                         \
		assert_string_equal(eval(c, option, binding, domain, buf), expected);                        \
	} while (0)

static const char chain[] =
        "{ \"global\": { \"bind_address\": \"192.0.2.1\", \"max_outbound_connections\": 1 },"
        "  \"domains\": { \"d.example\": { \"max_outbound_connections\": 2 }, \"e.example\": { "
        "\"lmtp_port\": 24 } },"
        "  \"bindings\": { \"solo\": { \"bind_address\": \"192.0.2.5\" } },"
        "  \"binding_groups\": {"
        "    \"g\": { \"max_outbound_connections\": 3, \"domains\": { \"d.example\": { "
        "\"max_outbound_connections\": 5 } },"
        "      \"bindings\": {"
        "        \"all\": { \"bind_address\": \"192.0.2.2\", \"max_outbound_connections\": 4,"
        "          \"domains\": { \"d.example\": { \"max_outbound_connections\": 6 }, \"f.example\": { "
        "\"lmtp_port\": 25 } } },"
        "        \"own\": { \"bind_address\": \"192.0.2.3\", \"max_outbound_connections\": 7 },"
        "        \"bare\": { \"bind_address\": \"192.0.2.4\" } } },"
        "    \"plain\": { \"bindings\": { \"lone\": { \"bind_address\": \"192.0.2.6\" } } },"
        "    \"default\": { \"retry_interval\": \"7m\", \"domains\": { \"d.example\": { \"retry_interval\": "
        "\"8m\" } } } } }";

/* BG::B::D > BG::D > B > BG > D > G > built-in: each rank beats all below it */
static void test_chain(void **state)
{
	struct conf *c = load("{}", chain);

	(void)state;
	EVAL("6 from policy.json: binding_groups.g.bindings.all.domains.d.example",
	        "max_outbound_connections", "all", "d.example");
	EVAL("5 from policy.json: binding_groups.g.domains.d.example", "max_outbound_connections", "own",
	        "d.example");
	EVAL("7 from policy.json: binding_groups.g.bindings.own", "max_outbound_connections", "own",
	        "e.example");
	EVAL("3 from policy.json: binding_groups.g", "max_outbound_connections", "bare", "other.example");
	EVAL("2 from policy.json: domains.d.example", "max_outbound_connections", "lone", "d.example");
	EVAL("1 from policy.json: global", "max_outbound_connections", "lone", "e.example");
	EVAL("24 from policy.json: domains.e.example", "lmtp_port", "all", "e.example");
	EVAL("2003 from built-in", "lmtp_port", "all", "d.example");
	EVAL("4 from policy.json: binding_groups.g.bindings.all", "max_outbound_connections", "all", NULL);
	EVAL("2 from policy.json: domains.d.example", "max_outbound_connections", NULL, "d.example");
	/* a domain's own stanza without the option: its binding's value, not the global domain's
	 * (Momentum 2.1) */
	EVAL("4 from policy.json: binding_groups.g.bindings.all", "max_outbound_connections", "all",
	        "f.example");
	/* group default: inheritance for the ungrouped */
	EVAL("\"7m\" from policy.json: binding_groups.default", "retry_interval", "solo", "x.example");
	EVAL("\"8m\" from policy.json: binding_groups.default.domains.d.example", "retry_interval", "default",
	        "d.example");
	EVAL("\"20m\" from built-in", "retry_interval", "lone", "d.example");
	conf_unref(&c);
}

static void test_patterns(void **state)
{
	struct conn_options o;
	struct conf *c = load("{}",
	        "{ \"domains\": { \"/^(wanadoo|orange)\\\\.fr$/\": { \"max_outbound_connections\": 3, "
	        "\"lmtp_port\": 26 },"
	        "  \"/orange/\": { \"max_outbound_connections\": 4, \"idle_timeout\": 9, \"lmtp_port\": 27 },"
	        "  \"Orange.FR\": { \"idle_timeout\": 8 } },"
	        "  \"bindings\": { \"default\": { \"domains\": { \"/ora/\": { \"connect_timeout\": \"1m\" } "
	        "} } } }");

	(void)state;
	/* exact before patterns, patterns in file order, decided per option */
	EVAL("\"8s\" from policy.json: domains.orange.fr", "idle_timeout", NULL, "orange.fr");
	EVAL("3 from policy.json: domains./^(wanadoo|orange)\\.fr$/", "max_outbound_connections", NULL,
	        "orange.fr");
	EVAL("4 from policy.json: domains./orange/", "max_outbound_connections", NULL, "orange.de");
	EVAL("32 from built-in", "max_outbound_connections", NULL, "free.fr");
	conf_resolve(c, conf_binding(c, 0), "orange.fr", &o, NULL, NULL);
	assert_int_equal(o.idle_timeout_s, 8);
	assert_int_equal(o.max_outbound_connections, 3);
	assert_int_equal(o.lmtp_port, 26);
	assert_int_equal(o.connect_timeout_s, 60);
	conf_unref(&c);
}

static void test_structs(void **state)
{
	struct conn_options o;
	struct deliv_options d;
	struct sched_options s;
	struct conf *c = load("{ \"hostname\": \"MTA1.example.net\" }",
	        "{ \"global\": { \"server_max_outbound_connections\": 500, \"gateway\": "
	        "\"Hub.example.net:26\" },"
	        "  \"bindings\": { \"default\": { \"bind_address\": \"192.0.2.1\" }, \"a\": { "
	        "\"bind_address\": \"192.0.2.2\","
	        "     \"ehlo_hostname\": \"a.example\", \"server_max_outbound_connections\": 50, "
	        "\"suspend_delivery\": true,"
	        "     \"domains\": { \"direct.example\": { \"gateway\": null, \"delivery_method\": \"lmtp\", "
	        "\"max_retries\": 3,"
	        "       \"suspend_delivery\": false, \"generate_bounces\": false } } } } }");
	const struct conf_binding *a = conf_binding_named(c, "a");

	(void)state;
	conf_resolve(c, a, "x.example", &o, &d, &s);
	assert_string_equal(o.ehlo_hostname, "a.example");
	assert_string_equal(o.gateway, "hub.example.net:26");
	assert_int_equal(o.delivery_method, DELIVERY_ESMTP);
	assert_int_equal(o.remote_smtp_port, 25);
	assert_int_equal(o.body_timeout_s, 600);
	assert_int_equal(d.retry_interval_s, 1200);
	assert_int_equal(d.max_retries, RETRIES_NONE);
	assert_int_equal(d.message_expiration_s, 5 * 86400);
	assert_true(d.generate_bounces);
	assert_true(s.suspend_delivery);
	assert_int_equal(s.server_total, 500);
	assert_int_equal(s.binding_total, 50);
	conf_resolve(c, a, "direct.example", &o, &d, &s);
	assert_null(o.gateway);
	assert_int_equal(o.delivery_method, DELIVERY_LMTP);
	assert_int_equal(d.max_retries, 3);
	assert_false(d.generate_bounces);
	assert_false(s.suspend_delivery);
	conf_resolve(c, conf_binding(c, 0), NULL, &o, &d, &s);
	assert_string_equal(o.ehlo_hostname, "mta1.example.net");
	assert_int_equal(s.binding_total, 0);
	EVAL("null from built-in", "server_max_outbound_connections", "default", NULL);
	EVAL("50 from policy.json: bindings.a", "server_max_outbound_connections", "a", NULL);
	EVAL("500 from policy.json: global", "server_max_outbound_connections", NULL, NULL);
	EVAL("null from policy.json: bindings.a.domains.direct.example", "gateway", "a", "direct.example");
	EVAL("\"__hostname__\" from built-in", "ehlo_hostname", "default", NULL);
	EVAL("\"192.0.2.2\" from policy.json: bindings.a", "bind_address", "a", NULL);
	EVAL("\"mta1.example.net\" from bindpost.json", "hostname", NULL, NULL);
	EVAL("10000 from built-in", "handoff.max_recipients", NULL, NULL);
	conf_unref(&c);
}

static void test_hosts(void **state)
{
	static const struct {
		const char *binding, *host;
		uint32_t expected;
	} cases[] = {
	        {"m", "mx1.example", 5},
	        {"m", "mx2.example", 4},
	        {"m", "mx3.example", 3},
	        {"m", "mx4.example", 0},
	        {"n", "mx1.example", 4},
	        {"s", "mx1.example", 6},
	        {"s", "mx2.example", 2},
	        {"default", "mx1.example", 1},
	        {"default", "mx9.provider.example", 7},
	};
	struct conf *c = load("{}",
	        "{ \"global\": { \"bind_address\": \"192.0.2.1\", \"max_outbound_connections\": 99 },"
	        "  \"hosts\": { \"mx1.example\": { \"max_outbound_connections\": 1 }, \"MX2.example\": { "
	        "\"max_outbound_connections\": 2 },"
	        "    \"mx3.example\": { \"max_outbound_connections\": 3 }, \"/\\\\.provider\\\\.example$/\": "
	        "{ \"max_outbound_connections\": 7 } },"
	        "  \"bindings\": { \"s\": { \"bind_address\": \"192.0.2.2\", \"hosts\": { \"mx1.example\": { "
	        "\"max_outbound_connections\": 6 } } } },"
	        "  \"binding_groups\": { \"g\": { \"hosts\": { \"mx1.example\": { "
	        "\"max_outbound_connections\": 4 }, \"mx2.example\": { \"max_outbound_connections\": 4 } },"
	        "    \"bindings\": { \"n\": { \"bind_address\": \"192.0.2.4\" }, \"m\": { \"bind_address\": "
	        "\"192.0.2.3\", \"hosts\": { \"mx1.example\": { \"max_outbound_connections\": 5 } } } } } } "
	        "}");

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct host_limits limits;
		conf_resolve_host(c, conf_binding_named(c, cases[i].binding), cases[i].host, &limits);
		assert_int_equal(limits.max_outbound_connections, cases[i].expected);
		assert_int_equal(limits.scope_max_outbound_connections, 0);
	}
	conf_unref(&c);
}

static char *throttle_text(const struct conf_throttle *t)
{
	struct str out;

	str_init(&out);
	str_printf(&out, "%u/%u", t->rate.count, t->rate.seconds);
	if (t->rate.count) {
		str_add_char(&out, ' ');
		conf_scope_path(t->from, &out);
	}
	return str_steal(&out);
}

/* A throttle is that of the place it stands in; 0 and null take an inherited one away. */
static void test_throttles(void **state)
{
	static const struct {
		const char *binding, *domain, *messages;
	} cases[] = {
	        {"n", "x.example", "10/60 binding_groups.g"},
	        {"m", "x.example", "20/1 binding_groups.g.bindings.m"},
	        {"m", "gmail.com", "30/3 binding_groups.g.bindings.m.domains.gmail.com"},
	        {"n", "gmail.com", "10/60 binding_groups.g"},
	        {"none", "x.example", "0/0"},
	        {"none", "gmail.com", "0/0"},
	        {"default", "x.example", "5/1 global"},
	        {"default", "gmail.com", "50/1 domains.gmail.com"},
	        {"default", "mx.wanadoo.fr", "3/1 domains./wanadoo/"},
	};
	struct conf *c = load("{}",
	        "{ \"global\": { \"bind_address\": \"192.0.2.1\", \"outbound_throttle_messages\": 5, "
	        "\"max_queued_messages\": 7, \"inbound_throttle_messages\": \"9/10\", "
	        "\"server_max_outbound_connections\": 1000 },"
	        "  \"domains\": { \"gmail.com\": { \"outbound_throttle_messages\": 50 }, \"/wanadoo/\": { "
	        "\"outbound_throttle_messages\": 3 } },"
	        "  \"hosts\": { \"/provider/\": { \"outbound_throttle_connections\": \"2/5\", "
	        "\"scope_max_outbound_connections\": 4 } },"
	        "  \"bindings\": { \"none\": { \"bind_address\": \"192.0.2.2\", "
	        "\"outbound_throttle_messages\": 0, \"max_queued_messages\": 0 } },"
	        "  \"binding_groups\": { \"g\": { \"outbound_throttle_messages\": \"10/1m\", "
	        "\"inbound_throttle_messages\": \"6/1\", \"bindings\": { \"n\": { \"bind_address\": "
	        "\"192.0.2.4\" }, "
	        "\"m\": { \"bind_address\": \"192.0.2.3\", \"outbound_throttle_messages\": 20, \"domains\": "
	        "{ "
	        "\"gmail.com\": { \"outbound_throttle_messages\": \"30/3\" } } } } } } }");
	struct conf_throttles found;
	struct conf_quota quota;
	struct host_limits limits;
	char *text;

	(void)state;
	for (size_t i = 0; i < array_len(cases); i++) {
		conf_resolve_throttles(c, conf_binding_named(c, cases[i].binding), cases[i].domain, &found);
		text = throttle_text(&found.messages);
		assert_string_equal(text, cases[i].messages);
		mem_free(&text);
		assert_int_equal(found.connections.rate.count, 0);
	}
	conf_resolve_host(c, conf_binding_named(c, "n"), "mx1.provider.example", &limits);
	text = throttle_text(&limits.throttles.connections);
	assert_string_equal(text, "2/5 hosts./provider/");
	mem_free(&text);
	assert_int_equal(limits.scope_max_outbound_connections, 4);
	conf_resolve_quota(c, conf_binding_named(c, "n"), &quota);
	assert_int_equal(quota.max_messages, 7);
	assert_int_equal(quota.max_bytes, 0);
	text = throttle_text(&quota.inbound);
	assert_string_equal(text, "6/1 binding_groups.g");
	mem_free(&text);
	conf_resolve_quota(c, conf_binding_named(c, "none"), &quota);
	assert_int_equal(quota.max_messages, 0);
	assert_int_equal(quota.inbound.rate.count, 9);
	conf_group_quota(c, conf_group_named(c, "g"), &quota);
	assert_int_equal(quota.inbound.rate.count, 6);
	/* a hundredth of a smaller total */
	assert_int_equal(conf_global(c)->server_reserve_outbound_connections, 10);
	conf_unref(&c);
	c = load("{}", "{}");
	assert_int_equal(conf_global(c)->server_reserve_outbound_connections, 200);
	conf_unref(&c);
	c = load("{}", "{ \"global\": { \"server_max_outbound_connections\": 5, "
	               "\"server_reserve_outbound_connections\": 9 } }");
	assert_int_equal(conf_global(c)->server_reserve_outbound_connections, 9);
	conf_unref(&c);
}

static const char *source(const struct conf *c, const char *binding, int family, char buf[ADDR_TEXT_SIZE])
{
	const struct addr *a = &conf_binding_named(c, binding)->source[family];

	return a->family == AF_UNSPEC ? "none" : addr_print(a, buf);
}

static void test_bindings(void **state)
{
	char buf[ADDR_TEXT_SIZE];
	struct conf *c = load("{}",
	        "{ \"global\": { \"bind_address\": [\"192.0.2.1\", \"2001:db8::1\"] },"
	        "  \"bindings\": { \"four\": { \"bind_address\": \"192.0.2.2\", \"match_domain\": "
	        "\"Bücher.example\","
	        "      \"match_domain_from\": [\"10.0.0.0/8\", \"authenticated\"] } },"
	        "  \"binding_groups\": { \"g\": { \"bind_address\": \"192.0.2.3\", \"bindings\": {"
	        "    \"m1\": {}, \"m2\": { \"bind_address\": \"2001:db8::4\", \"weight\": 2.5 } } } } }");
	const struct conf_binding *four = conf_binding_named(c, "four");
	const struct conf_group *g = conf_group_named(c, "g");

	(void)state;
	assert_string_equal(conf_binding(c, 0)->name, "default");
	assert_string_equal(source(c, "default", 0, buf), "192.0.2.1");
	assert_string_equal(source(c, "default", 1, buf), "2001:db8::1");
	/* a whole: never another's IPv6 address beside one's own IPv4 */
	assert_string_equal(source(c, "four", 0, buf), "192.0.2.2");
	assert_string_equal(source(c, "four", 1, buf), "none");
	assert_string_equal(source(c, "m1", 0, buf), "192.0.2.3");
	assert_string_equal(source(c, "m2", 0, buf), "none");
	assert_string_equal(source(c, "m2", 1, buf), "2001:db8::4");
	assert_int_equal(four->n_match_domain, 1);
	assert_string_equal(four->match_domain[0], "xn--bcher-kva.example");
	assert_true(four->match_from_set && four->match_from_authenticated);
	assert_int_equal(four->n_match_from, 1);
	assert_string_equal(four->where, "policy.json: bindings.four");
	assert_string_equal(four->group->name, "default");
	assert_string_equal(conf_binding_named(c, "m1")->where, "policy.json: binding_groups.g.bindings.m1");
	assert_int_equal(g->n_members, 2);
	assert_string_equal(conf_binding(c, g->members[1])->name, "m2");
	assert_true(g->weights[0] == 1 && g->weights[1] == 2.5);
	assert_int_equal(conf_n_bindings(c), 4);
	assert_int_equal(conf_n_groups(c), 2);
	assert_int_equal(conf_group(c, 0)->n_members, 2);
	assert_null(conf_binding_named(c, "FOUR"));
	assert_null(conf_group_named(c, "none"));
	assert_false(four->any_source);
	conf_unref(&c);
	c = load("{}", NULL);
	assert_true(conf_binding(c, 0)->any_source);
	assert_int_equal(conf_n_rules(c), 0);
	conf_unref(&c);
}

/*
 * All 64 ways to have the option or not in the six containers, with the domain by name and by pattern, in a group and
 * without one: the first in the documented order decides.
 */
enum layer { BINDING_DOMAIN, GROUP_DOMAIN, BINDING, GROUP, DOMAIN, GLOBAL, N_LAYERS };

static void set_if(struct str *s, unsigned present, enum layer layer)
{
	if (present & (1u << layer))
		str_printf(s, ", \"max_recipients_per_batch\": %u", 10 + layer);
}

static void add_domains(struct str *s, unsigned present, enum layer layer, bool pattern)
{
	str_printf(s, "\"domains\": { \"%s\": { \"comment\": 1", pattern ? "/^d\\\\.example$/" : "d.example");
	set_if(s, present, layer);
	str_add(s, " }, \"other.example\": { \"max_recipients_per_batch\": 99 } }");
}

static void add_binding(struct str *s, unsigned present, bool pattern)
{
	str_add(s, "\"bindings\": { \"b\": { \"bind_address\": \"192.0.2.2\"");
	set_if(s, present, BINDING);
	str_add(s, ", ");
	add_domains(s, present, BINDING_DOMAIN, pattern);
	str_add(s, " } }");
}

static void check_layers(unsigned present, bool pattern, bool grouped)
{
	struct str s;
	struct conn_options o;
	unsigned expected = present ? 10 + (unsigned)__builtin_ctz(present) : 100;

	str_init(&s);
	str_add(&s, "{ \"global\": { \"bind_address\": \"192.0.2.1\"");
	set_if(&s, present, GLOBAL);
	str_add(&s, " }, ");
	add_domains(&s, present, DOMAIN, pattern);
	str_printf(&s, ", \"binding_groups\": { \"%s\": { \"comment\": 1", grouped ? "g" : "default");
	set_if(&s, present, GROUP);
	str_add(&s, ", ");
	add_domains(&s, present, GROUP_DOMAIN, pattern);
	if (grouped) {
		str_add(&s, ", ");
		add_binding(&s, present, pattern);
	}
	str_add(&s, " } }");
	if (!grouped) {
		str_add(&s, ", ");
		add_binding(&s, present, pattern);
	}
	str_add(&s, " }");
	struct conf *c = load("{}", s.data);
	conf_resolve(c, conf_binding_named(c, "b"), "d.example", &o, NULL, NULL);
	assert_int_equal(o.max_recipients_per_batch, expected);
	conf_unref(&c);
	str_free(&s);
}

static void test_every_layer(void **state)
{
	(void)state;
	for (unsigned present = 0; present < 1u << N_LAYERS; present++)
		for (unsigned variant = 0; variant < 4; variant++)
			check_layers(present, variant & 1, variant & 2);
}

/* Many bindings, domains and patterns: what is quadratic would be felt here. */
static void test_many(void **state)
{
	enum { BINDINGS = 3000, MATCHES = 10 };
	struct str s;
	struct conn_options o;
	char name[64];

	(void)state;
	str_init(&s);
	str_add(&s, "{ \"bindings\": { \"default\": { \"bind_address\": \"192.0.2.1\" }");
	for (unsigned i = 0; i < BINDINGS; i++) {
		str_printf(&s,
		        ", \"b%u\": { \"bind_address\": \"10.0.%u.%u\", \"match_domain\": [\"b%u.example\"",
		        i, i >> 8, i & 255, i);
		for (unsigned j = 1; j < MATCHES; j++)
			str_printf(&s, ", \"d%u.b%u.example\"", j, i);
		str_printf(&s, "], \"domains\": { \"gmail.com\": { \"lmtp_port\": %u } } }", i + 1);
	}
	str_add(&s, " }, \"domains\": { \"x.example\": {}");
	for (unsigned i = 0; i < BINDINGS; i++)
		str_printf(&s,
		        ", \"d%u.example\": { \"max_deliveries_per_connection\": %u }, \"/^p%u\\\\./\": { "
		        "\"idle_timeout\": %u }",
		        i, i, i, i);
	str_add(&s, " } }");
	struct conf *c = load("{}", s.data);
	str_free(&s);
	assert_int_equal(conf_n_bindings(c), BINDINGS + 1);
	for (unsigned i = 0; i < BINDINGS; i += 97) {
		snprintf(name, sizeof(name), "b%u", i);
		const struct conf_binding *b = conf_binding_named(c, name);
		assert_int_equal(b->n_match_domain, MATCHES);
		conf_resolve(c, b, "gmail.com", &o, NULL, NULL);
		assert_int_equal(o.lmtp_port, i + 1);
		snprintf(name, sizeof(name), "d%u.example", i);
		conf_resolve(c, b, name, &o, NULL, NULL);
		assert_int_equal(o.max_deliveries_per_connection, i);
		snprintf(name, sizeof(name), "p%u.example", i);
		conf_resolve(c, b, name, &o, NULL, NULL);
		assert_int_equal(o.idle_timeout_s, i);
	}
	conf_unref(&c);
}

/* The routes or the gateway that mail for a domain of binding "a" is sent to, with its own values filled in */
static void check_way(const struct conf *c, const char *domain, const char *expected)
{
	struct conn_options o;
	struct str way;

	conf_resolve(c, conf_binding_named(c, "a"), domain, &o, NULL, NULL);
	str_init(&way);
	assert_false(o.routes && o.gateway);
	if (o.routes)
		routes_expand(o.routes, &o, domain, &way);
	else
		str_add(&way, o.gateway ? o.gateway : "mx");
	assert_string_equal(way.data, expected);
	str_free(&way);
}

/* The more specific place decides; in one place routes go before gateway; null cancels. */
static void test_routes_and_gateway(void **state)
{
	struct conf *c = load("{}",
	        "{ \"global\": { \"gateway\": \"g.example\", \"routes\": \"r.example\", \"bind_address\": "
	        "\"192.0.2.1\" "
	        "},"
	        "  \"domains\": { \"top.example\": { \"gateway\": \"top-g.example\" },"
	        "                 \"both.example\": { \"gateway\": \"b-g.example\", \"routes\": "
	        "[\"b-r.example:26\"] },"
	        "                 \"/\\\\.re\\\\.example$/\": { \"routes\": \"re-r.example\" },"
	        "                 \"x.re.example\": { \"gateway\": \"exact.example\" },"
	        "                 \"r-null.example\": { \"routes\": null },"
	        "                 \"null.example\": { \"routes\": null, \"gateway\": null },"
	        "                 \"g-null.example\": { \"gateway\": null },"
	        "                 \"lmtp.example\": { \"delivery_method\": \"lmtp\", \"lmtp_port\": 24, "
	        "\"routes\": "
	        "[\"s.example\", \"smtp://t.example\", \"__mx__\", \"lmtp:unix:/run/l\"] } },"
	        "  \"bindings\": { \"default\": {}, \"a\": { \"domains\": {"
	        "    \"own.example\": { \"gateway\": \"own-g.example\" },"
	        "    \"prefs.example\": { \"remote_smtp_port\": 2525, \"routes\": "
	        "[\"smtp://p.example?pref=5\", "
	        "\"__mx__\", \"smtp://q.example?pref=5&ttl=60&type=a\", \"[2001:db8::1]:26\"] } } } } }");

	(void)state;
	check_way(c, "any.example", "smtp://r.example:25?pref=0");
	check_way(c, "top.example", "top-g.example");
	check_way(c, "both.example", "smtp://b-r.example:26?pref=0");
	check_way(c, "y.re.example", "smtp://re-r.example:25?pref=0");
	check_way(c, "x.re.example", "exact.example");
	check_way(c, "r-null.example", "g.example");
	check_way(c, "g-null.example", "smtp://r.example:25?pref=0");
	check_way(c, "null.example", "mx");
	check_way(c, "own.example", "own-g.example");
	check_way(c, "lmtp.example",
	        "lmtp://s.example:24?pref=0 smtp://t.example:25?pref=1 mx://lmtp.example:24?pref=2 "
	        "lmtp:unix:/run/l?pref=3");
	check_way(c, "prefs.example",
	        "smtp://p.example:2525?pref=5 mx://prefs.example:2525?pref=6 "
	        "smtp://q.example:2525?pref=5&ttl=60&type=a smtp://[2001:db8::1]:26?pref=6");
	EVAL("[\"smtp://p.example?pref=5\",\"__mx__\",\"smtp://"
	     "q.example?pref=5&ttl=60&type=a\",\"[2001:db8::1]:26\"] "
	     "from policy.json: bindings.a.domains.prefs.example",
	        "routes", "a", "prefs.example");
	conf_unref(&c);
}

/* Momentum's: one gateway for all, and a domain with its own and LMTP */
static void test_momentum_example(void **state)
{
	struct conf *c =
	        load("{}", "{ \"global\": { \"gateway\": \"10.10.10.50\", \"bind_address\": \"192.0.2.1\" },"
	                   "  \"bindings\": { \"default\": {}, \"a\": {} },"
	                   "  \"domains\": { \"local.example.com\": { \"gateway\": \"10.10.10.20\", "
	                   "\"delivery_method\": \"lmtp\" } } "
	                   "}");
	struct conn_options o;

	(void)state;
	check_way(c, "any.example", "10.10.10.50");
	check_way(c, "local.example.com", "10.10.10.20");
	conf_resolve(c, conf_binding_named(c, "a"), "local.example.com", &o, NULL, NULL);
	assert_int_equal(o.delivery_method, DELIVERY_LMTP);
	conf_unref(&c);
}

static void test_own_names(void **state)
{
	struct conf *c = load("{ \"hostname\": \"mta.example\" }",
	        "{ \"global\": { \"bind_address\": \"192.0.2.1\", \"ehlo_hostname\": \"__hostname__\" },"
	        "  \"bindings\": { \"default\": {}, \"a\": { \"ehlo_hostname\": \"A.example\", \"domains\": "
	        "{ \"d.example\": "
	        "{ \"ehlo_hostname\": \"ad.example\" } } }, \"b\": { \"ehlo_hostname\": \"[192.0.2.1]\" } },"
	        "  \"binding_groups\": { \"g\": { \"ehlo_hostname\": \"g.example\", \"bindings\": { \"c\": "
	        "{} } } } }");
	const char *const *names;
	char all[200] = "";

	(void)state;
	for (size_t i = 0, n = conf_own_names(c, &names); i < n; i++) {
		strcat(all, names[i]);
		strcat(all, " ");
	}
	assert_string_equal(all, "mta.example g.example a.example ad.example ");
	conf_unref(&c);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_layer),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_throttles),
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_structs),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_bindings),
        cmocka_unit_test(test_routes_and_gateway),
        cmocka_unit_test(test_momentum_example),
        cmocka_unit_test(test_own_names),
};
TEST_MAIN("conf_resolve", tests)
