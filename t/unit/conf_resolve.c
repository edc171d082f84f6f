/* Scopes and fallback: which value is in force where, and where it comes from */
#include "config.h"
#include "t/lib/test.h"
#include "conf/conf.h"

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

/* "VALUE from WHERE" of an option for binding (NULL = none) and domain */
static const char *eval(
        const struct conf *c, const char *option, const char *binding, const char *domain, char buf[1200])
{
	struct conf_origin o;
	struct error err;
	const struct conf_binding *b = binding ? conf_binding_named(c, binding) : NULL;

	assert_true(!binding || b);
	assert_true(conf_eval(c, option, b, domain, &o, &err));
	snprintf(buf, 1200, "%s from %s", o.value, o.where);
	return buf;
}

#define EVAL(expected, option, binding, domain)                                                              \
	do {                                                                                                 \
		char buf[1200];                                                                              \
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

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_structs),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_bindings),
};
TEST_MAIN("conf_resolve", tests)
