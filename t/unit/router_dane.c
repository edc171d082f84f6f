/* router - DANE: which records count for which host (RFC 7672 2.1, 2.2) */
#include "config.h"
#include "t/lib/test.h"

#include "base/mem.h"
#include "base/str.h"
#include "t/lib/router_world.h"

#define DIGEST "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define HOST "mx d.test 10 a.test;addr a.test 192.0.2.1;"
#define SIGNED HOST "secure d.test;secure a.test;"
#define TLSA(name) "secure _25._tcp." name ";tlsa _25._tcp." name " 2 1 1 " DIGEST ";"
#define ALIAS "mx d.test 10 a.test;cname a.test b.test;addr b.test 192.0.2.1;secure d.test;"

static const struct {
	const char *what, *dns;
	enum dane_use dane;
	const char *
	        expect; /* "HOST[/BASE,NAME,...:RECORDS[!]]" for each address, "!": the MX is not signed; or "CODE ENHANCED" */
	const char *says;
	const char *not_asked; /* its TLSA records */
} dane_cases[] = {
        {"signed", SIGNED TLSA("a.test"), DANE_IFAVAILABLE, "a.test/a.test,d.test:1", NULL, NULL},
        {"dane no", SIGNED TLSA("a.test"), DANE_NO, "a.test", NULL, "a.test"},
        {"nothing signed", HOST TLSA("a.test"), DANE_IFAVAILABLE, "a.test", NULL, "a.test"},
        {"unsigned MX, signed host", HOST "secure a.test;" TLSA("a.test"), DANE_IFAVAILABLE,
                "a.test/a.test:1!", NULL, NULL},
        {"signed MX, unsigned host", HOST "secure d.test;" TLSA("a.test"), DANE_IFAVAILABLE, "a.test", NULL,
                "a.test"},
        {"unsigned TLSA", SIGNED "tlsa _25._tcp.a.test 3 1 1 " DIGEST, DANE_IFAVAILABLE, "a.test", NULL,
                NULL},
        {"no TLSA", SIGNED "secure _25._tcp.a.test;nodata _25._tcp.a.test", DANE_IFAVAILABLE, "a.test", NULL,
                NULL},
        {"no such name", SIGNED, DANE_IFAVAILABLE, "a.test", NULL, NULL},
        {"TLSA servfail", SIGNED "servfail _25._tcp.a.test", DANE_IFAVAILABLE, "451 4.7.5",
                "TLSA records of a.test: SERVFAIL", NULL},
        {"TLSA servfail, another host",
                SIGNED "servfail _25._tcp.a.test;mx d.test 20 c.test;addr c.test 192.0.2.3", DANE_IFAVAILABLE,
                "c.test", NULL, NULL},
        {"TLSA servfail at an unsigned host", HOST "servfail _25._tcp.a.test", DANE_IFAVAILABLE, "a.test",
                NULL, "a.test"},
        {"address servfail", SIGNED "servfail a.test", DANE_IFAVAILABLE, "451 4.4.3", "SERVFAIL", NULL},
        {"none of them usable", SIGNED "secure _25._tcp.a.test;tlsa _25._tcp.a.test 1 1 1 " DIGEST,
                DANE_IFAVAILABLE, "a.test/a.test:0", NULL, NULL},
        {"alias, all signed, records behind it", ALIAS "secure a.test;secure b.test;" TLSA("b.test"),
                DANE_IFAVAILABLE, "a.test/b.test,d.test:1", NULL, "a.test"},
        {"alias, all signed, records at it", ALIAS "secure a.test;secure b.test;" TLSA("a.test"),
                DANE_IFAVAILABLE, "a.test/a.test,d.test:1", NULL, NULL},
        {"alias, all signed, both",
                ALIAS "secure a.test;secure b.test;" TLSA("a.test") "secure _25._tcp.b.test;"
                                                                    "tlsa _25._tcp.b.test 0 0 1 " DIGEST,
                DANE_IFAVAILABLE, "a.test/b.test:0", NULL, "a.test"},
        {"alias signed, target not", ALIAS "secure a.test;" TLSA("a.test") TLSA("b.test"), DANE_IFAVAILABLE,
                "a.test/a.test,d.test:1", NULL, "b.test"},
        {"alias not signed, target is", ALIAS "secure b.test;" TLSA("a.test") TLSA("b.test"),
                DANE_IFAVAILABLE, "a.test", NULL, "b.test"},
        {"alias, target not signed, CNAME servfail", ALIAS "secure a.test;servfail a.test cname",
                DANE_IFAVAILABLE, "451 4.7.5", "CNAME of a.test: SERVFAIL", NULL},
        {"alias, records behind it servfail",
                ALIAS "secure a.test;secure b.test;servfail _25._tcp.b.test;" TLSA("a.test"),
                DANE_IFAVAILABLE, "451 4.7.5", "TLSA records of b.test", "a.test"},
        {"TLSA itself is an alias",
                SIGNED "secure _25._tcp.a.test;cname _25._tcp.a.test t.test;"
                       "secure t.test;tlsa t.test 2 0 1 " DIGEST,
                DANE_IFAVAILABLE, "a.test/a.test,d.test:1", NULL, NULL},
        {"TLSA itself is an alias to what is not signed",
                SIGNED "secure _25._tcp.a.test;"
                       "cname _25._tcp.a.test t.test;tlsa t.test 2 0 1 " DIGEST,
                DANE_IFAVAILABLE, "a.test", NULL, NULL},
        {"the domain is an alias",
                "cname d.test e.test;secure d.test;mx e.test 10 a.test;secure e.test;addr a.test 192.0.2.1;"
                "secure a.test;" TLSA("a.test"),
                DANE_IFAVAILABLE, "a.test/a.test,d.test,e.test:1", NULL, NULL},
        {"no MX", "addr d.test 192.0.2.1;secure d.test;" TLSA("d.test"), DANE_IFAVAILABLE, "d.test/d.test:1",
                NULL, NULL},
        {"one host with, one without",
                SIGNED TLSA("a.test") "mx d.test 20 c.test;addr c.test 192.0.2.3;secure c.test",
                DANE_IFAVAILABLE, "a.test/a.test,d.test:1 c.test", NULL, NULL},
        {"required", SIGNED TLSA("a.test"), DANE_REQUIRED, "a.test/a.test,d.test:1", NULL, NULL},
        {"required, one host without",
                SIGNED TLSA("a.test") "mx d.test 5 c.test;addr c.test 192.0.2.3;secure c.test", DANE_REQUIRED,
                "a.test/a.test,d.test:1", NULL, NULL},
        {"required, not signed", HOST, DANE_REQUIRED, "451 4.7.5", "not signed by DNSSEC", NULL},
        {"required, none", SIGNED, DANE_REQUIRED, "451 4.7.5", "no TLSA records that can be used", NULL},
        {"required, unsigned records", SIGNED "tlsa _25._tcp.a.test 3 1 1 " DIGEST, DANE_REQUIRED,
                "451 4.7.5", NULL, NULL},
        {"required, none of them usable", SIGNED "secure _25._tcp.a.test;tlsa _25._tcp.a.test 3 1 1 00",
                DANE_REQUIRED, "451 4.7.5", NULL, NULL},
        {"required, an MX that is a literal", "mx d.test 10 192.0.2.7;secure d.test", DANE_REQUIRED,
                "451 4.7.5", NULL, NULL},
};

static int by_host(const void *pa, const void *pb)
{
	const struct route_addr *a = pa, *b = pb;

	return strcmp(a->mx, b->mx);
}

static char *print_dane(const struct world *w)
{
	struct str s;

	if (!w->route)
		return mem_printf("%d %s", w->why.code, w->why.enhanced);
	str_init(&s);
	qsort(w->route->addrs, w->route->n, sizeof(*w->route->addrs), by_host);
	for (unsigned i = 0; i < w->route->n; i++) {
		const struct tlsa *t = w->route->addrs[i].tlsa;
		str_printf(&s, "%s%s", i ? " " : "", w->route->addrs[i].mx);
		for (unsigned k = 0; t && t->names[k]; k++)
			str_printf(&s, "%c%s", k ? ',' : '/', t->names[k]);
		if (t)
			str_printf(&s, ":%u%s", t->n_records, t->mx_secure ? "" : "!");
	}
	return str_steal(&s);
}

static void what_dane_demands(void **state)
{
	struct world w;

	(void)state;
	for (size_t i = 0; i < array_len(dane_cases); i++) {
		char *got, name[64];
		world_setup(&w);
		w.dane = dane_cases[i].dane;
		world_script(&w, dane_cases[i].dns);
		world_ask(&w, NEXT_HOP_DOMAIN, "d.test", true);
		got = print_dane(&w);
		if (strcmp(got, dane_cases[i].expect) != 0)
			fail_msg("%s: %s (%s)", dane_cases[i].what, got, w.why.reply);
		if (!w.route && dane_cases[i].says && !strstr(w.why.reply, dane_cases[i].says))
			fail_msg("%s: says %s", dane_cases[i].what, w.why.reply);
		if (!w.route)
			assert_int_equal(w.why.class, OUTCOME_TRANSIENT);
		snprintf(name, sizeof(name), "_25._tcp.%s",
		        dane_cases[i].not_asked ? dane_cases[i].not_asked : "x");
		assert_int_equal(fake_dns_asked(w.dns, name, DNS_TLSA), 0);
		mem_free(&got);
		world_teardown(&w);
	}
}

/* A gateway's port stands in the name asked for; its own name is what the certificate has to be for. */
static void dane_of_a_gateway(void **state)
{
	struct world w;
	char *got;

	(void)state;
	world_setup(&w);
	w.dane = DANE_IFAVAILABLE;
	world_script(&w, "addr g.test 192.0.2.1;secure g.test;secure _2525._tcp.g.test;"
	                 "tlsa _2525._tcp.g.test 3 1 1 " DIGEST);
	world_ask(&w, NEXT_HOP_GATEWAY, "g.test:2525", true);
	got = print_dane(&w);
	assert_string_equal(got, "g.test/g.test:1");
	mem_free(&got);
	world_teardown(&w);
}

/* Nobody may be told after he has gone, whatever is under way. */
static void dane_is_cancelled(void **state)
{
	static const char *const slow[] = {"a.test", "_25._tcp.b.test", "_25._tcp.a.test"};
	struct next_hop hop = {.type = NEXT_HOP_DOMAIN, .name = "d.test", .port = 25};
	struct route_query *q;
	struct world w;

	(void)state;
	for (size_t i = 0; i < array_len(slow); i++) {
		world_setup(&w);
		world_script(&w, ALIAS "secure a.test;secure b.test");
		fake_dns_delay(w.dns, slow[i], UINT64_MAX);
		q = route_start(w.router, &hop, true, DANE_IFAVAILABLE, world_on_route, &w);
		world_run(&w);
		assert_int_equal(w.n_done, 0);
		route_cancel(&q);
		world_run(&w);
		world_teardown(&w);
		assert_int_equal(w.n_done, 0);
	}
}

/* A route is as old as the oldest of its records, and what DANE demands makes it another one. */
static void dane_and_time(void **state)
{
	struct world w;
	uint64_t before;

	(void)state;
	world_setup(&w);
	w.dane = DANE_IFAVAILABLE;
	world_script(&w, SIGNED TLSA("a.test") "ttl _25._tcp.a.test 77");
	world_ask(&w, NEXT_HOP_DOMAIN, "d.test", true);
	assert_int_equal(world_lifetime_s(&w), 77);
	before = w.route->dane;
	assert_int_not_equal(before, 0);
	world_ask(&w, NEXT_HOP_DOMAIN, "d.test", true);
	assert_int_equal(w.route->dane, before);
	world_script(&w, "tlsa _25._tcp.a.test 3 0 1 " DIGEST);
	world_ask(&w, NEXT_HOP_DOMAIN, "d.test", true);
	assert_int_not_equal(w.route->dane, before);
	assert_int_equal(w.route->addrs[0].tlsa->n_records, 2);
	assert_false(w.route->partial);
	world_script(&w, "mx d.test 20 c.test;addr c.test 192.0.2.3;secure c.test;servfail _25._tcp.c.test");
	world_ask(&w, NEXT_HOP_DOMAIN, "d.test", true);
	assert_true(w.route->partial);
	assert_int_equal(world_lifetime_s(&w), 60);
	world_teardown(&w);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_dane_demands),
        cmocka_unit_test(dane_of_a_gateway),
        cmocka_unit_test(dane_is_cancelled),
        cmocka_unit_test(dane_and_time),
};
TEST_MAIN("router_dane", tests)
