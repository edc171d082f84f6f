/* router - what becomes of each thing DNS may say about a next hop */
#include "config.h"
#include "t/lib/test.h"

#include "base/mem.h"
#include "base/str.h"
#include "session/local_addrs.h"
#include "t/lib/router_world.h"

/* "10 mx1 192.0.2.1:25, 20 mx2 ...": sorted within a preference, since that order is by chance */
static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *print_route(const struct route *r)
{
	struct str s;
	char *lines[512], ip[ADDR_TEXT_SIZE];
	unsigned last = 0;

	str_init(&s);
	for (unsigned i = 0; i < r->n; i++) {
		assert_true(r->addrs[i].preference >= last);
		last = r->addrs[i].preference;
		lines[i] = mem_printf(
		        "%05u %s %s", last, r->addrs[i].mx, addr_print_port(&r->addrs[i].addr, ip));
	}
	qsort(lines, r->n, sizeof(*lines), by_text);
	for (unsigned i = 0; i < r->n; i++) {
		str_printf(&s, "%s%s", i ? ", " : "",
		        lines[i] + strspn(lines[i], "0") -
		                (lines[i][5] == ' ' && strspn(lines[i], "0") == 5));
		mem_free(&lines[i]);
	}
	return str_steal(&s);
}

struct routing_case {
	const char *what, *dns;
	enum next_hop_type type;
	const char *name;
	bool no_ipv6;
	const char *expect; /* route, or "CODE ENHANCED" */
	const char *says;   /* in the text of a failure */
};

static const struct routing_case cases[] = {
        {"MX with A and AAAA",
                "mx d.test 10 mx1.d.test;addr mx1.d.test 192.0.2.1;addr mx1.d.test 2001:db8::1",
                NEXT_HOP_DOMAIN, "d.test", false,
                "10 mx1.d.test 192.0.2.1:25, 10 mx1.d.test [2001:db8::1]:25", NULL},
        {"preferences", "mx d.test 20 b.test;mx d.test 10 a.test;addr a.test 192.0.2.1;addr b.test 192.0.2.2",
                NEXT_HOP_DOMAIN, "d.test", false, "10 a.test 192.0.2.1:25, 20 b.test 192.0.2.2:25", NULL},
        {"use_ipv6 off", "mx d.test 10 a.test;addr a.test 192.0.2.1;addr a.test 2001:db8::1", NEXT_HOP_DOMAIN,
                "d.test", true, "10 a.test 192.0.2.1:25", NULL},
        {"implicit MX", "addr d.test 192.0.2.1", NEXT_HOP_DOMAIN, "d.test", false, "0 d.test 192.0.2.1:25",
                NULL},
        {"implicit MX, IPv6 only", "addr d.test 2001:db8::1", NEXT_HOP_DOMAIN, "d.test", false,
                "0 d.test [2001:db8::1]:25", NULL},
        {"implicit MX, IPv6 only, switched off", "addr d.test 2001:db8::1", NEXT_HOP_DOMAIN, "d.test", true,
                "451 4.4.3", "use_ipv6"},
        {"nothing, use_ipv6 off", "nodata d.test", NEXT_HOP_DOMAIN, "d.test", true, "550 5.4.4", "neither"},
        {"NXDOMAIN", "", NEXT_HOP_DOMAIN, "d.test", false, "550 5.1.2", "NXDOMAIN"},
        {"null MX", "mx d.test null;addr d.test 192.0.2.1", NEXT_HOP_DOMAIN, "d.test", false, "556 5.1.10",
                "null MX"},
        {"null MX beside another", "mx d.test null;mx d.test 10 a.test;addr a.test 192.0.2.1",
                NEXT_HOP_DOMAIN, "d.test", false, "10 a.test 192.0.2.1:25", NULL},
        {"no MX, no address", "nodata d.test", NEXT_HOP_DOMAIN, "d.test", false, "550 5.4.4", "neither"},
        {"MX query fails", "addr d.test 192.0.2.1;servfail d.test mx", NEXT_HOP_DOMAIN, "d.test", false,
                "451 4.4.3", "d.test: MX: SERVFAIL from 192.0.2.53:53"},
        {"no MX, A fails", "nodata d.test mx;servfail d.test a", NEXT_HOP_DOMAIN, "d.test", false,
                "451 4.4.3", "SERVFAIL"},
        {"no MX, AAAA fails, no A", "nodata d.test;servfail d.test aaaa", NEXT_HOP_DOMAIN, "d.test", false,
                "451 4.4.3", "SERVFAIL"},
        {"AAAA fails, A is there", "mx d.test 10 a.test;addr a.test 192.0.2.1;servfail a.test aaaa",
                NEXT_HOP_DOMAIN, "d.test", false, "10 a.test 192.0.2.1:25", NULL},
        {"every MX host is NXDOMAIN", "mx d.test 10 a.test;mx d.test 20 b.test", NEXT_HOP_DOMAIN, "d.test",
                false, "550 5.4.4", "none of its mail hosts"},
        {"one NXDOMAIN, one SERVFAIL", "mx d.test 10 a.test;mx d.test 20 b.test;servfail b.test",
                NEXT_HOP_DOMAIN, "d.test", false, "451 4.4.3", "b.test"},
        {"one NXDOMAIN, one without address", "mx d.test 10 a.test;mx d.test 20 b.test;nodata b.test",
                NEXT_HOP_DOMAIN, "d.test", false, "451 4.4.3", "b.test has no address"},
        {"one MX host fails, the other is used",
                "mx d.test 10 a.test;mx d.test 20 b.test;servfail a.test;addr b.test 192.0.2.2",
                NEXT_HOP_DOMAIN, "d.test", false, "20 b.test 192.0.2.2:25", NULL},
        {"MX is a dotted quad", "mx d.test 10 192.0.2.7", NEXT_HOP_DOMAIN, "d.test", false,
                "10 192.0.2.7 192.0.2.7:25", NULL},
        {"same address under two hosts: once, at its best",
                "mx d.test 20 b.test;mx d.test 10 a.test;addr a.test 192.0.2.1;addr b.test 192.0.2.1",
                NEXT_HOP_DOMAIN, "d.test", false, "10 a.test 192.0.2.1:25", NULL},
        {"literal", "", NEXT_HOP_DOMAIN, "[192.0.2.5]", false, "0 192.0.2.5 192.0.2.5:25", NULL},
        {"IPv6 literal", "", NEXT_HOP_DOMAIN, "[IPv6:2001:db8::5]", false, "0 2001:db8::5 [2001:db8::5]:25",
                NULL},
        {"IPv6 literal, switched off", "", NEXT_HOP_DOMAIN, "[IPv6:2001:db8::5]", true, "451 4.4.3",
                "use_ipv6"},
        {"bad literal", "", NEXT_HOP_DOMAIN, "[300.1.1.1]", false, "451 4.4.3", NULL},
        {"literal not closed", "", NEXT_HOP_DOMAIN, "[192.0.2.1", false, "451 4.4.3", NULL},
        {"empty literal", "", NEXT_HOP_DOMAIN, "[]", false, "451 4.4.3", NULL},
        {"control bytes in the name", "", NEXT_HOP_DOMAIN, "d\r\n.test", false, "451 4.4.3", "\\x0d\\x0a"},
        {"empty name", "", NEXT_HOP_DOMAIN, "", false, "451 4.4.3", NULL},
        {"gateway by MX", "mx g.test 10 a.test;addr a.test 192.0.2.1;addr g.test 192.0.2.9", NEXT_HOP_GATEWAY,
                "g.test", false, "10 a.test 192.0.2.1:25", NULL},
        {"gateway by A", "addr g.test 192.0.2.9", NEXT_HOP_GATEWAY, "g.test", false, "0 g.test 192.0.2.9:25",
                NULL},
        {"gateway with port", "mx g.test 10 a.test;addr a.test 192.0.2.1", NEXT_HOP_GATEWAY, "G.test:2525",
                false, "10 a.test 192.0.2.1:2525", NULL},
        {"gateway address", "", NEXT_HOP_GATEWAY, "10.10.10.20", false, "0 10.10.10.20 10.10.10.20:25", NULL},
        {"gateway address with port", "", NEXT_HOP_GATEWAY, "10.10.10.20:587", false,
                "0 10.10.10.20 10.10.10.20:587", NULL},
        {"gateway [v6]:port", "", NEXT_HOP_GATEWAY, "[2001:db8::2]:2525", false,
                "0 2001:db8::2 [2001:db8::2]:2525", NULL},
        {"gateway bare v6", "", NEXT_HOP_GATEWAY, "2001:db8::2", false, "0 2001:db8::2 [2001:db8::2]:25",
                NULL},
        {"gateway [v4]", "", NEXT_HOP_GATEWAY, "[10.10.10.20]:2525", false, "0 10.10.10.20 10.10.10.20:2525",
                NULL},
        {"gateway with bad port", "", NEXT_HOP_GATEWAY, "g.test:70000", false, "451 4.4.3", "port"},
        {"gateway NXDOMAIN", "", NEXT_HOP_GATEWAY, "g.test", false, "451 4.4.3",
                "gateway g.test does not exist"},
        {"gateway null MX", "mx g.test null", NEXT_HOP_GATEWAY, "g.test", false, "451 4.4.3", "null MX"},
        {"gateway without anything", "nodata g.test", NEXT_HOP_GATEWAY, "g.test", false, "451 4.4.3", NULL},
        {"gateway's hosts NXDOMAIN", "mx g.test 10 a.test", NEXT_HOP_GATEWAY, "g.test", false, "451 4.4.3",
                NULL},
        {"gateway SERVFAIL", "servfail g.test", NEXT_HOP_GATEWAY, "g.test", false, "451 4.4.3", "SERVFAIL"},
};

#define R NEXT_HOP_ROUTES
#define HUBS "addr h1.test 192.0.2.1;addr h2.test 192.0.2.2;mx d.test 10 m.test;addr m.test 192.0.2.9"

/* As routes_expand() prints them: preference and port are always there */
static const struct routing_case list_cases[] = {
        {"strict order", HUBS, R, "smtp://h1.test:25?pref=0 smtp://h2.test:25?pref=1", false,
                "0 h1.test 192.0.2.1:25, 1 h2.test 192.0.2.2:25", NULL},
        {"balance", HUBS, R, "smtp://h1.test:25?pref=7 smtp://h2.test:26?pref=7", false,
                "0 h1.test 192.0.2.1:25, 0 h2.test 192.0.2.2:26", NULL},
        {"order is by preference", HUBS, R, "smtp://h1.test:25?pref=9 smtp://h2.test:25?pref=3", false,
                "0 h2.test 192.0.2.2:25, 1 h1.test 192.0.2.1:25", NULL},
        {"hub, then the domain's own", HUBS, R, "smtp://h1.test:25?pref=1 mx://d.test:25?pref=2", false,
                "0 h1.test 192.0.2.1:25, 1 m.test 192.0.2.9:25", NULL},
        {"levels of an item stay within it",
                "mx g.test 10 a.test;mx g.test 20 b.test;addr a.test 192.0.2.1;addr b.test 192.0.2.2;"
                "addr h.test 192.0.2.3",
                R, "smtp://g.test:25?pref=0 smtp://h.test:25?pref=1", false,
                "0 a.test 192.0.2.1:25, 1 b.test 192.0.2.2:25, 2 h.test 192.0.2.3:25", NULL},
        {"equal items share by level",
                "mx g.test 10 a.test;mx g.test 20 b.test;addr a.test 192.0.2.1;addr b.test 192.0.2.2;"
                "addr h.test 192.0.2.3",
                R, "smtp://g.test:25?pref=0 smtp://h.test:25?pref=0", false,
                "0 a.test 192.0.2.1:25, 0 h.test 192.0.2.3:25, 1 b.test 192.0.2.2:25", NULL},
        {"type=a asks for no MX", "mx g.test 10 a.test;addr a.test 192.0.2.1;addr g.test 192.0.2.9", R,
                "smtp://g.test:25?pref=0&type=a", false, "0 g.test 192.0.2.9:25", NULL},
        {"addresses", "", R, "smtp://192.0.2.1:25?pref=0 smtp://[2001:db8::1]:2525?pref=1", false,
                "0 192.0.2.1 192.0.2.1:25, 1 2001:db8::1 [2001:db8::1]:2525", NULL},
        {"addresses, use_ipv6 off", "", R, "smtp://192.0.2.1:25?pref=0 smtp://[2001:db8::1]:2525?pref=1",
                true, "0 192.0.2.1 192.0.2.1:25", NULL},
        {"one that does not exist is passed over", HUBS, R,
                "smtp://gone.test:25?pref=0 smtp://h2.test:25?pref=1", false, "0 h2.test 192.0.2.2:25", NULL},
        {"one that fails is passed over", HUBS ";servfail h1.test", R,
                "smtp://h1.test:25?pref=0 smtp://h2.test:25?pref=1", false, "0 h2.test 192.0.2.2:25", NULL},
        {"none exists: an accident", "", R, "smtp://h1.test:25?pref=0 smtp://h2.test:25?pref=1", false,
                "451 4.4.3", "route h1.test does not exist (NXDOMAIN); route h2.test"},
        {"null MX of a route", "mx h1.test null", R, "smtp://h1.test:25?pref=0", false, "451 4.4.3",
                "null MX"},
        {"the domain's own alone: its word counts", "", R, "mx://d.test:25?pref=0", false, "550 5.1.2",
                "domain d.test does not exist"},
        {"... also its null MX", "mx d.test null", R, "mx://d.test:25?pref=0", false, "556 5.1.10", NULL},
        {"... and its failure", "servfail d.test", R, "mx://d.test:25?pref=0", false, "451 4.4.3", NULL},
        {"beside a route it is an accident", "", R, "smtp://h1.test:25?pref=0 mx://d.test:25?pref=1", false,
                "451 4.4.3", NULL},
        {"a literal domain's own", "", R, "mx://[192.0.2.5]:25?pref=0", false, "0 192.0.2.5 192.0.2.5:25",
                NULL},
        {"an IPv6 literal domain's own", "", R, "mx://[IPv6:2001:db8::5]:25?pref=0", false,
                "0 2001:db8::5 [2001:db8::5]:25", NULL},
        {"not a list", "", R, "", false, "451 4.4.3", "not a list of routes"},
};

static void check_cases(const struct routing_case *table, size_t n);

static void lists_of_routes(void **state)
{
	(void)state;
	check_cases(list_cases, array_len(list_cases));
}

static void a_socket_among_routes(void **state)
{
	struct world w;

	(void)state;
	world_setup(&w);
	world_script(&w, HUBS);
	world_ask(&w, R,
	        "smtp://h1.test:25?pref=0 lmtp:unix:/run/lmtp.sock?pref=1 lmtp://h2.test:2003?pref=1", true);
	assert_int_equal(w.route->n, 3);
	assert_int_equal(w.route->addrs[0].method, ROUTE_METHOD_SMTP);
	for (unsigned i = 1; i < 3; i++) {
		bool sock = w.route->addrs[i].unix_path != NULL;
		assert_int_equal(w.route->addrs[i].method, ROUTE_METHOD_LMTP);
		assert_int_equal(w.route->addrs[i].preference, 1);
		assert_string_equal(w.route->addrs[i].mx, sock ? "/run/lmtp.sock" : "h2.test");
	}
	world_ask(&w, NEXT_HOP_GATEWAY, "/run/mta.sock", true);
	assert_int_equal(w.route->n, 1);
	assert_string_equal(w.route->addrs[0].unix_path, "/run/mta.sock");
	assert_int_equal(w.route->addrs[0].method, ROUTE_METHOD_OPTION);
	world_teardown(&w);
}

static void a_route_lives_as_long_as_its_ttl_says(void **state)
{
	struct world w;

	(void)state;
	world_setup(&w);
	world_script(&w, HUBS ";ttl h1.test 300");
	world_ask(&w, R, "smtp://h1.test:25?pref=0&ttl=20", true);
	assert_int_equal(world_lifetime_s(&w), 20);
	world_ask(&w, R, "smtp://h1.test:25?pref=0&ttl=900", true);
	assert_int_equal(world_lifetime_s(&w), 300);
	world_ask(&w, R, "smtp://192.0.2.1:25?pref=0&ttl=30", true);
	assert_int_equal(world_lifetime_s(&w), 30);
	world_ask(&w, R, "smtp://gone.test:25?pref=0 smtp://192.0.2.1:25?pref=1", true);
	assert_int_equal(world_lifetime_s(&w), 60);
	world_teardown(&w);
}

static void check_cases(const struct routing_case *table, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct routing_case *c = &table[i];
		struct world w;
		char *got;

		world_setup(&w);
		world_script(&w, c->dns);
		world_ask(&w, c->type, c->name, !c->no_ipv6);
		got = w.route ? print_route(w.route) : mem_printf("%d %s", w.why.code, w.why.enhanced);
		if (strcmp(got, c->expect) != 0)
			fail_msg("%s: expected %s, got %s (%s)", c->what, c->expect, got, w.why.reply);
		if (!w.route) {
			assert_true(w.why.ours);
			assert_int_equal(w.why.state, STATE_RESOLVE);
			assert_int_equal(
			        w.why.class, w.why.code / 100 == 5 ? OUTCOME_PERMANENT : OUTCOME_TRANSIENT);
			if (c->says && !strstr(w.why.reply, c->says))
				fail_msg("%s: \"%s\" not in \"%s\"", c->what, c->says, w.why.reply);
		}
		mem_free(&got);
		world_teardown(&w);
	}
}

static void routes_as_listed(void **state)
{
	(void)state;
	check_cases(cases, array_len(cases));
}

static struct host_rule net(const char *text)
{
	struct host_rule r = {.kind = HOST_RULE_NET};

	assert_true(addr_net_parse(text, &r.net, NULL));
	return r;
}

static struct addr addr(const char *text)
{
	struct addr a;

	assert_true(addr_parse_port(text, 0, &a, NULL));
	return a;
}

static void prohibited_addresses_are_left_out(void **state)
{
	static const struct routing_case table[] = {
	        {"one of two", "mx d.test 10 a.test;addr a.test 127.0.0.1;addr a.test 192.0.2.1",
	                NEXT_HOP_DOMAIN, "d.test", false, "10 a.test 192.0.2.1:25", NULL},
	        {"all", "mx d.test 10 a.test;addr a.test 127.0.0.1;addr a.test ::1", NEXT_HOP_DOMAIN,
	                "d.test", false, "551 5.4.6", "prohibited"},
	        {"as mapped IPv6", "mx d.test 10 a.test;addr a.test ::ffff:127.0.0.1", NEXT_HOP_DOMAIN,
	                "d.test", false, "551 5.4.6", "prohibited address 127.0.0.1"},
	        {"unspecified", "addr d.test 0.0.0.0;addr d.test ::", NEXT_HOP_DOMAIN, "d.test", false,
	                "551 5.4.6", NULL},
	        {"own", "addr d.test 198.51.100.1", NEXT_HOP_DOMAIN, "d.test", false, "551 5.4.6", NULL},
	        {"all that resolve, but one does not",
	                "mx d.test 10 a.test;mx d.test 10 b.test;addr a.test 127.0.0.1;servfail b.test",
	                NEXT_HOP_DOMAIN, "d.test", false, "451 4.4.3", "b.test"},
	        {"literal", "", NEXT_HOP_DOMAIN, "[127.0.0.1]", false, "551 5.4.6", NULL},
	        {"literal, mapped", "", NEXT_HOP_DOMAIN, "[IPv6:::ffff:127.0.0.1]", false, "551 5.4.6", NULL},
	        {"dotted quad as MX", "mx d.test 10 127.0.0.1", NEXT_HOP_DOMAIN, "d.test", false, "551 5.4.6",
	                NULL},
	        {"a gateway may be inside", "addr g.test 127.0.0.1", NEXT_HOP_GATEWAY, "g.test", false,
	                "0 g.test 127.0.0.1:25", NULL},
	        {"a gateway that is our own listener", "", NEXT_HOP_GATEWAY, "127.0.0.1:2424", false,
	                "451 4.4.6", "listener"},
	        {"our listener on all addresses", "addr g.test 198.51.100.1", NEXT_HOP_GATEWAY, "g.test:2525",
	                false, "451 4.4.6", "198.51.100.1:2525"},
	        {"the same port elsewhere is not ours", "addr g.test 198.51.100.2", NEXT_HOP_GATEWAY,
	                "g.test:2525", false, "0 g.test 198.51.100.2:2525", NULL},
	        {"the unspecified address reaches loopback", "", NEXT_HOP_GATEWAY, "0.0.0.0:2424", false,
	                "451 4.4.6", NULL},
	        {"loopback reaches a listener on all", "", NEXT_HOP_GATEWAY, "127.0.0.9:2525", false,
	                "451 4.4.6", NULL},
	};
	struct host_rule rules[] = {
	        net("127.0.0.0/8"), net("::1"), net("0.0.0.0"), net("::"), {.kind = HOST_RULE_OWN}};
	struct addr listeners[] = {addr("127.0.0.1:2424"), addr("0.0.0.0:2525")}, own = addr("198.51.100.1");
	struct local_addrs *local = local_addrs_fake();
	struct prohibited p = {.rules = rules,
	        .n_rules = array_len(rules),
	        .own_listeners = listeners,
	        .n_own_listeners = array_len(listeners),
	        .local = local};

	(void)state;
	local_addrs_fake_set(local, &own, true);
	for (size_t i = 0; i < array_len(table); i++) {
		struct world w;
		char *got;

		world_setup(&w);
		router_set_prohibited(w.router, &p);
		world_script(&w, table[i].dns);
		world_ask(&w, table[i].type, table[i].name, true);
		got = w.route ? print_route(w.route) : mem_printf("%d %s", w.why.code, w.why.enhanced);
		if (strcmp(got, table[i].expect) != 0)
			fail_msg("%s: expected %s, got %s (%s)", table[i].what, table[i].expect, got,
			        w.why.reply);
		if (table[i].says && !strstr(w.why.reply, table[i].says))
			fail_msg("%s: \"%s\" not in \"%s\"", table[i].what, table[i].says, w.why.reply);
		mem_free(&got);
		world_teardown(&w);
	}
	local_addrs_free(&local);
}

static struct host_rule host(const char *pattern)
{
	return (struct host_rule){.kind = HOST_RULE_NAME, .host = pattern};
}

static void check_rules(const struct prohibited *p, const struct routing_case *table, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct world w;
		char *got;

		world_setup(&w);
		router_set_prohibited(w.router, p);
		world_script(&w, table[i].dns);
		world_ask(&w, table[i].type, table[i].name, true);
		got = w.route ? print_route(w.route) : mem_printf("%d %s", w.why.code, w.why.enhanced);
		if (strcmp(got, table[i].expect) != 0)
			fail_msg("%s: expected %s, got %s (%s)", table[i].what, table[i].expect, got,
			        w.why.reply);
		if (table[i].says && !strstr(w.why.reply, table[i].says))
			fail_msg("%s: \"%s\" not in \"%s\"", table[i].what, table[i].says, w.why.reply);
		if (!w.route)
			assert_int_equal(
			        w.why.class, w.why.code / 100 == 5 ? OUTCOME_PERMANENT : OUTCOME_TRANSIENT);
		mem_free(&got);
		world_teardown(&w);
	}
}

#define D NEXT_HOP_DOMAIN

static void rules_have_their_own_words(void **state)
{
	static const struct routing_case table[] = {
	        {"a network with code and text", "addr d.test 10.1.2.3", D, "d.test", false, "550 5.7.1",
	                "no mail to private networks"},
	        {"the first that matches counts", "addr d.test 10.9.2.3", D, "d.test", false, "551 5.4.6",
	                "prohibited address 10.9.2.3"},
	        {"by name", "mx d.test 10 mx.bad.test;addr mx.bad.test 192.0.2.1", D, "d.test", false,
	                "551 5.4.6", "mail host mx.bad.test is prohibited"},
	        {"below a name", "mx d.test 10 a.b.worse.test;addr a.b.worse.test 192.0.2.1", D, "d.test",
	                false, "553 5.7.7", "typo"},
	        {"but not the name itself", "mx d.test 10 worse.test;addr worse.test 192.0.2.1", D, "d.test",
	                false, "10 worse.test 192.0.2.1:25", NULL},
	        {"by pattern", "mx d.test 10 park7.test;addr park7.test 192.0.2.1", D, "d.test", false,
	                "551 5.4.6", NULL},
	        {"the others are used",
	                "mx d.test 10 mx.bad.test;mx d.test 20 ok.test;addr mx.bad.test 192.0.2.1;addr "
	                "ok.test "
	                "192.0.2.2",
	                D, "d.test", false, "20 ok.test 192.0.2.2:25", NULL},
	        {"skipped: the others are used",
	                "mx d.test 10 s.test;mx d.test 20 ok.test;addr s.test 192.0.2.77;addr ok.test "
	                "192.0.2.2",
	                D, "d.test", false, "20 ok.test 192.0.2.2:25", NULL},
	        {"skipped: without others it waits", "mx d.test 10 s.test;addr s.test 192.0.2.77", D,
	                "d.test", false, "451 4.4.4", "skip_hosts"},
	        {"skipped by name, own words", "mx d.test 10 mx.later.test;addr mx.later.test 192.0.2.1", D,
	                "d.test", false, "452 4.3.1", "not today"},
	        {"skipped and prohibited: it waits",
	                "mx d.test 10 s.test;mx d.test 20 mx.bad.test;addr s.test 192.0.2.77;addr "
	                "mx.bad.test "
	                "192.0.2.1",
	                D, "d.test", false, "451 4.4.4", NULL},
	        {"a gateway is not judged", "mx g.test 10 mx.bad.test;addr mx.bad.test 10.1.2.3",
	                NEXT_HOP_GATEWAY, "g.test", false, "10 mx.bad.test 10.1.2.3:25", NULL},
	        {"nor is a route", "mx g.test 10 mx.bad.test;addr mx.bad.test 10.1.2.3", R,
	                "smtp://g.test:25?pref=0", false, "0 mx.bad.test 10.1.2.3:25", NULL},
	        {"but the domain's own among routes is",
	                "mx d.test 10 mx.bad.test;addr mx.bad.test 192.0.2.1", R, "mx://d.test:25?pref=0",
	                false, "551 5.4.6", NULL},
	};
	struct host_rule rules[] = {net("10.1.0.0/16"), net("10.0.0.0/8"), host("mx.bad.test"),
	        host("*.worse.test"), host("/^park[0-9]+\\./")};
	struct host_rule skips[] = {net("192.0.2.77"), host("mx.later.test")};
	struct prohibited p = {
	        .rules = rules, .n_rules = array_len(rules), .skips = skips, .n_skips = array_len(skips)};

	(void)state;
	rules[0].code = 550;
	rules[0].enhanced = "5.7.1";
	rules[0].text = "no mail to private networks";
	rules[3].code = 553;
	rules[3].enhanced = "5.7.7";
	rules[3].text = "a typo in the domain?";
	skips[1].code = 452;
	skips[1].enhanced = "4.3.1";
	skips[1].text = "not today";
	check_rules(&p, table, array_len(table));
}

/* RFC 5321 5.1 */
#define THREE                                                                                                \
	"mx d.test 10 a.test;mx d.test 20 b.test;mx d.test 30 c.test;addr a.test 192.0.2.1;addr c.test "     \
	"192.0.2.3;"

static void we_are_among_the_mx_hosts(void **state)
{
	static const struct routing_case table[] = {
	        {"by name",
	                "mx d.test 10 a.test;mx d.test 20 mta1.test;mx d.test 20 b.test;mx d.test 30 "
	                "c.test;addr "
	                "a.test 192.0.2.1;addr b.test 192.0.2.2;addr c.test 192.0.2.3;addr mta1.test "
	                "192.0.2.4",
	                D, "d.test", false, "10 a.test 192.0.2.1:25", NULL},
	        {"by a binding's name, best",
	                "mx d.test 10 ehlo.test;mx d.test 20 a.test;addr a.test 192.0.2.1", D, "d.test",
	                false, "551 5.4.6", "ehlo.test is this machine"},
	        {"as the domain itself", "addr mta1.test 192.0.2.1", D, "mta1.test", false, "551 5.4.6",
	                NULL},
	        {"by address", THREE "addr b.test 198.51.100.1", D, "d.test", false, "10 a.test 192.0.2.1:25",
	                NULL},
	        {"by address, the other one of it counts too",
	                "mx d.test 10 b.test;addr b.test 198.51.100.1;addr b.test 192.0.2.2", D, "d.test",
	                false, "551 5.4.6", NULL},
	        {"by a listener", THREE "addr b.test 203.0.113.5", D, "d.test", false,
	                "10 a.test 192.0.2.1:25", NULL},
	        {"loopback is left out and no more", THREE "addr b.test 127.0.0.1", D, "d.test", false,
	                "10 a.test 192.0.2.1:25, 30 c.test 192.0.2.3:25", NULL},
	        {"the better one cannot be resolved",
	                "mx d.test 10 a.test;mx d.test 20 mta1.test;servfail a.test", D, "d.test", false,
	                "451 4.4.3", NULL},
	        {"a worse one that cannot be resolved does not matter",
	                "mx d.test 10 mta1.test;mx d.test 20 a.test;servfail a.test", D, "d.test", false,
	                "551 5.4.6", NULL},
	        {"a gateway of our name is the operator's word", "addr mta1.test 192.0.2.1", NEXT_HOP_GATEWAY,
	                "mta1.test", false, "0 mta1.test 192.0.2.1:25", NULL},
	        {"among routes: the domain's own", "mx d.test 10 mta1.test;addr h.test 192.0.2.7", R,
	                "mx://d.test:25?pref=0 smtp://h.test:25?pref=1", false, "0 h.test 192.0.2.7:25",
	                NULL},
	};
	struct host_rule rules[] = {net("127.0.0.0/8"), {.kind = HOST_RULE_OWN}};
	const char *const names[] = {"mta1.test", "ehlo.test", "mta1.test"};
	struct addr own = addr("198.51.100.1"), loopback = addr("127.0.0.1"),
	            listener = addr("203.0.113.5:25");
	struct local_addrs *local = local_addrs_fake();
	struct prohibited p = {.rules = rules,
	        .n_rules = array_len(rules),
	        .own_names = names,
	        .n_own_names = array_len(names),
	        .own_listeners = &listener,
	        .n_own_listeners = 1,
	        .local = local};
	static const struct routing_case open_table[] = {
	        {"no own addresses: by address no more", THREE "addr b.test 198.51.100.1", D, "d.test", false,
	                "10 a.test 192.0.2.1:25, 20 b.test 198.51.100.1:25, 30 c.test 192.0.2.3:25", NULL},
	        {"by name all the same", "mx d.test 10 ehlo.test;mx d.test 20 a.test;addr a.test 192.0.2.1",
	                D, "d.test", false, "551 5.4.6", NULL},
	        {"by a listener all the same", THREE "addr b.test 203.0.113.5", D, "d.test", false,
	                "10 a.test 192.0.2.1:25", NULL},
	};

	(void)state;
	local_addrs_fake_set(local, &own, true);
	local_addrs_fake_set(local, &loopback, true);
	check_rules(&p, table, array_len(table));
	p.n_rules = 0;
	check_rules(&p, open_table, array_len(open_table));
	local_addrs_free(&local);
}

static void a_refresh_makes_routes_old(void **state)
{
	struct prohibited none = {0};
	struct world w;

	(void)state;
	world_setup(&w);
	world_script(&w, "addr d.test 192.0.2.1");
	world_ask(&w, D, "d.test", true);
	assert_true(router_is_current(w.router, w.route));
	router_refresh(w.router);
	assert_false(router_is_current(w.router, w.route));
	world_ask(&w, D, "d.test", true);
	assert_true(router_is_current(w.router, w.route));
	router_set_prohibited(w.router, &none);
	assert_false(router_is_current(w.router, w.route));
	world_teardown(&w);
}

/* prohibited_hosts: []: only our own listeners count */
static void nothing_prohibited_but_own_listeners(void **state)
{
	struct addr listeners[] = {addr("127.0.0.1:25")};
	struct prohibited p = {.own_listeners = listeners, .n_own_listeners = 1};
	struct world w;

	(void)state;
	world_setup(&w);
	router_set_prohibited(w.router, &p);
	world_script(
	        &w, "mx d.test 10 a.test;addr a.test 127.0.0.2;mx e.test 10 b.test;addr b.test 127.0.0.1");
	world_ask(&w, NEXT_HOP_DOMAIN, "d.test", true);
	assert_non_null(w.route);
	world_ask(&w, NEXT_HOP_DOMAIN, "e.test", true);
	assert_null(w.route);
	assert_int_equal(w.why.class, OUTCOME_PERMANENT);
	assert_string_equal(w.why.enhanced, "5.4.6");
	world_teardown(&w);
}

static void equal_preference_is_shuffled(void **state)
{
	unsigned first[4] = {0};
	struct world w;

	(void)state;
	world_setup(&w);
	world_script(&w, "mx d.test 10 m.test;mx d.test 20 last.test;addr last.test 192.0.2.99");
	world_script(&w,
	        "addr m.test 192.0.2.0;addr m.test 192.0.2.1;addr m.test 192.0.2.2;addr m.test 192.0.2.3");
	for (int i = 0; i < 4000; i++) {
		world_ask(&w, NEXT_HOP_DOMAIN, "d.test", true);
		assert_int_equal(w.route->n, 5);
		assert_int_equal(w.route->addrs[4].addr.ip[3], 99);
		first[w.route->addrs[0].addr.ip[3]]++;
	}
	for (int i = 0; i < 4; i++)
		assert_in_range(first[i], 850, 1150);
	world_teardown(&w);
}

static void aaaa_is_not_asked_without_ipv6(void **state)
{
	struct world w;

	(void)state;
	world_setup(&w);
	world_script(&w, "mx d.test 10 a.test;addr a.test 192.0.2.1;addr e.test 192.0.2.2");
	world_ask(&w, NEXT_HOP_DOMAIN, "d.test", false);
	world_ask(&w, NEXT_HOP_DOMAIN, "e.test", false);
	assert_int_equal(fake_dns_asked(w.dns, "a.test", DNS_AAAA), 0);
	assert_int_equal(fake_dns_asked(w.dns, "e.test", DNS_AAAA), 0);
	world_teardown(&w);
}

static void expires_with_the_shortest_ttl(void **state)
{
	struct world w;

	(void)state;
	world_setup(&w);
	world_script(
	        &w, "mx d.test 10 a.test;mx d.test 10 b.test;addr a.test 192.0.2.1;addr b.test 192.0.2.2;");
	world_script(&w, "ttl d.test 3600;ttl a.test 600;ttl b.test 120");
	world_ask(&w, NEXT_HOP_DOMAIN, "d.test", true);
	assert_int_equal(world_lifetime_s(&w), 120);
	world_script(&w, "ttl b.test 0");
	world_ask(&w, NEXT_HOP_DOMAIN, "d.test", true);
	assert_int_equal(world_lifetime_s(&w), 5);
	world_script(&w, "ttl b.test 900000;ttl a.test 900000;ttl d.test 900000");
	world_ask(&w, NEXT_HOP_DOMAIN, "d.test", true);
	assert_int_equal(world_lifetime_s(&w), 86400);
	world_script(&w, "servfail b.test");
	world_ask(&w, NEXT_HOP_DOMAIN, "d.test", true);
	assert_int_equal(world_lifetime_s(&w), 60);
	world_teardown(&w);
}

static void says_what_was_signed(void **state)
{
	struct world w;

	(void)state;
	world_setup(&w);
	world_script(&w, "mx d.test 10 a.test;addr a.test 192.0.2.1;mx e.test 10 a.test");
	fake_dns_authentic(w.dns, "d.test", true);
	fake_dns_authentic(w.dns, "a.test", true);
	world_ask(&w, NEXT_HOP_DOMAIN, "d.test", true);
	assert_true(w.route->mx_secure && w.route->addrs[0].secure);
	world_ask(&w, NEXT_HOP_DOMAIN, "e.test", true);
	assert_false(w.route->mx_secure);
	assert_true(w.route->addrs[0].secure);
	world_teardown(&w);
}

static void cancel_at_any_moment(void **state)
{
	struct next_hop hops[] = {{NEXT_HOP_DOMAIN, "d.test", 25}, {NEXT_HOP_DOMAIN, "[192.0.2.1]", 25}};

	(void)state;
	for (size_t h = 0; h < array_len(hops); h++)
		for (int steps = 0; steps < 4; steps++) {
			struct world w;
			struct route_query *q;

			world_setup(&w);
			world_script(&w, "mx d.test 10 a.test;mx d.test 20 b.test;addr a.test 192.0.2.1;addr "
			                 "b.test 192.0.2.2;delay b.test 5");
			q = route_start(w.router, &hops[h], true, DANE_NO, world_on_route, &w);
			for (int i = 0; i < steps; i++)
				loop_step(w.loop);
			if (w.n_done == 0)
				route_cancel(&q);
			world_run(&w);
			fake_clock_advance(&w.clock, SECOND_US);
			world_run(&w);
			assert_true(w.n_done == 0 || h == 1);
			world_teardown(&w);
		}
}

struct pair {
	struct world *w;
	struct route_query *other;
};

static void cancel_the_other(void *ctx, struct route *route, const struct outcome *why)
{
	struct pair *p = ctx;

	world_on_route(p->w, route, why);
	route_cancel(&p->other);
}

static void cancel_from_inside_a_callback(void **state)
{
	struct next_hop hop = {NEXT_HOP_DOMAIN, "d.test", 25}, slow = {NEXT_HOP_DOMAIN, "slow.test", 25};
	struct world w;
	struct pair p = {&w, NULL};

	(void)state;
	world_setup(&w);
	world_script(&w, "addr d.test 192.0.2.1;addr slow.test 192.0.2.2;delay slow.test 100");
	p.other = route_start(w.router, &slow, true, DANE_NO, world_on_route, &w);
	route_start(w.router, &hop, true, DANE_NO, cancel_the_other, &p);
	world_run(&w);
	assert_int_equal(w.n_done, 1);
	assert_null(p.other);
	fake_clock_advance(&w.clock, SECOND_US);
	world_run(&w);
	assert_int_equal(w.n_done, 1);
	world_teardown(&w);
}

static void a_route_is_counted(void **state)
{
	struct world w;
	struct route *mine;

	(void)state;
	world_setup(&w);
	world_script(&w, "addr d.test 192.0.2.1");
	world_ask(&w, NEXT_HOP_DOMAIN, "d.test", true);
	mine = route_ref(w.route);
	route_unref(&w.route);
	assert_null(w.route);
	assert_string_equal(mine->addrs[0].mx, "d.test");
	route_unref(&mine);
	route_unref(&mine);
	world_teardown(&w);
}

static void huge_answers_are_bounded(void **state)
{
	struct world w;
	char name[64], ip[64];

	(void)state;
	world_setup(&w);
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "m%d.test", i);
		fake_dns_mx(w.dns, "d.test", (unsigned)i, name);
		for (int j = 0; j < 100; j++) {
			snprintf(ip, sizeof(ip), "10.1.%d.%d", i, j);
			fake_dns_addr(w.dns, name, ip);
		}
	}
	world_ask(&w, NEXT_HOP_DOMAIN, "d.test", true);
	assert_int_equal(w.route->n, 500);
	assert_int_equal(w.route->addrs[0].preference, 0);
	assert_int_equal(w.route->addrs[499].preference, 4);
	world_teardown(&w);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(routes_as_listed),
        cmocka_unit_test(lists_of_routes),
        cmocka_unit_test(a_socket_among_routes),
        cmocka_unit_test(a_route_lives_as_long_as_its_ttl_says),
        cmocka_unit_test(prohibited_addresses_are_left_out),
        cmocka_unit_test(rules_have_their_own_words),
        cmocka_unit_test(we_are_among_the_mx_hosts),
        cmocka_unit_test(a_refresh_makes_routes_old),
        cmocka_unit_test(nothing_prohibited_but_own_listeners),
        cmocka_unit_test(equal_preference_is_shuffled),
        cmocka_unit_test(aaaa_is_not_asked_without_ipv6),
        cmocka_unit_test(expires_with_the_shortest_ttl),
        cmocka_unit_test(says_what_was_signed),
        cmocka_unit_test(cancel_at_any_moment),
        cmocka_unit_test(cancel_from_inside_a_callback),
        cmocka_unit_test(a_route_is_counted),
        cmocka_unit_test(huge_answers_are_bounded),
};
TEST_MAIN("router", tests)
