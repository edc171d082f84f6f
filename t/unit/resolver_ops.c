/* resolver - rate limit, bounds of TTLs, probe for DNSSEC, and what operators ask; a scripted server, a fake clock */
#include "config.h"
#include "t/lib/test.h"

#include <sched.h>
#include "base/log.h"
#include "base/mem.h"
#include "route/dns_control.h"
#include "route/resolver/dns_pace.h"
#include "t/lib/dns_server.h"

#define ANSWER_FLAGS (DNS_WIRE_QR | DNS_WIRE_RD | DNS_WIRE_RA)

struct world {
	struct fake_clock clock;
	struct loop *loop;
	struct metrics *metrics;
	struct resolver *resolver;
	struct router *router;
	struct dns_server_fake *server;
	uint32_t ttl_s;
	bool ad, quiet;
	unsigned n_mx, n_a, n_ns, n_done;
	struct dns_control control;
	struct str answer;
	unsigned n_warnings, n_notices;
	char warning[300];
};

static void serve(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	struct world *w = ctx;

	w->n_mx += q->type == DNS_MX;
	w->n_a += q->type == DNS_A;
	w->n_ns += q->type == DNS_NS;
	if (w->quiet)
		return;
	wire_header(out, q->id,
	        ANSWER_FLAGS | (w->ad ? DNS_WIRE_AD : 0) | (strncmp(q->name, "gone", 4) == 0 ? 3 : 0));
	wire_question(out, q->name, q->type);
	if (strncmp(q->name, "gone", 4) == 0) {
		wire_soa(out, "test", w->ttl_s, w->ttl_s);
	} else if (q->type == DNS_MX) {
		wire_mx(out, q->name, w->ttl_s, 10, "mx.test");
	} else if (q->type == DNS_A) {
		wire_a(out, q->name, w->ttl_s, "192.0.2.1");
	} else if (q->type == DNS_NS) {
		wire_rr(out, 1, q->name, DNS_NS, w->ttl_s, "\x02ns\x04test", 9);
	} else if (q->type == DNS_TXT) {
		wire_rr(out, 1, q->name, DNS_TXT, w->ttl_s, "\x02hi\x03\x07ou", 7);
	} else if (q->type == DNS_TLSA) {
		wire_rr(out, 1, q->name, DNS_TLSA, w->ttl_s, "\x03\x01\x01\xab\xcd", 5);
	} else {
		wire_soa(out, "test", w->ttl_s, w->ttl_s);
	}
}

static void listen_log(void *ctx, enum log_level level, const char *line)
{
	struct world *w = ctx;

	w->n_warnings += level == LOG_LEVEL_WARNING;
	w->n_notices += level == LOG_LEVEL_NOTICE;
	if (level == LOG_LEVEL_WARNING)
		snprintf(w->warning, sizeof(w->warning), "%s", line);
}

static void setup(struct world *w, bool server)
{
	struct resolver_server s;

	memset(w, 0, sizeof(*w));
	fake_clock_init(&w->clock, 1700000000 * SECOND_US);
	w->clock.mono = 1000 * SECOND_US;
	w->ttl_s = 300;
	w->loop = loop_new("queue", &w->clock.clock);
	w->metrics = metrics_new();
	w->server = dns_server_fake_new(w->loop, "127.0.0.1", serve, w);
	s = (struct resolver_server){.addr = dns_server_fake_addr(w->server)};
	w->resolver = resolver_new(w->loop, &rnd_system, w->metrics, &s, server);
	w->router = router_new(w->loop, resolver_dns(w->resolver), &rnd_system, w->metrics);
	w->control = (struct dns_control){.loop = w->loop, .resolver = w->resolver, .router = w->router};
	log_capture(listen_log, w);
}

static void teardown(struct world *w)
{
	log_capture(NULL, NULL);
	router_free(&w->router);
	resolver_free(&w->resolver);
	dns_server_fake_free(&w->server);
	metrics_free(&w->metrics);
	loop_free(&w->loop);
}

static void settle(struct world *w)
{
	for (int idle = 0; idle < 20; idle += sched_yield() == 0)
		if (loop_step(w->loop))
			idle = -1;
}

static void advance(struct world *w, uint64_t ms)
{
	fake_clock_advance(&w->clock, ms * 1000);
	settle(w);
}

static uint64_t counter(struct world *w, const char *name, const char *labels)
{
	return metric_get(metrics_counter(w->metrics, name, labels, ""));
}

static uint64_t paced(struct world *w, const char *result)
{
	char labels[64];

	snprintf(labels, sizeof(labels), "result=\"%s\"", result);
	return counter(w, "bindpost_dns_rate_limit_total", labels);
}

static void told(void *ctx, const struct dns_answer *a)
{
	struct world *w = ctx;

	(void)a;
	w->n_done++;
}

static void ask_many(struct world *w, unsigned from, unsigned n, enum dns_type type)
{
	char name[32];

	for (unsigned i = from; i < from + n; i++) {
		snprintf(name, sizeof(name), "d%u.test", i);
		dns_lookup(resolver_dns(w->resolver), name, type, told, w);
	}
	settle(w);
}

/* --- rate limit --- */

static void pace_by_itself(void **state)
{
	struct dns_pace p = {.enabled = true, .most = 2, .period_us = 100, .max_waiting = 1};

	(void)state;
	assert_int_equal(dns_pace_ask(&p, 0, 1000), DNS_PACE_GO);
	assert_int_equal(dns_pace_ask(&p, 0, 1050), DNS_PACE_GO);
	assert_int_equal(dns_pace_ask(&p, 0, 1099), DNS_PACE_WAIT);
	assert_int_equal(dns_pace_ask(&p, 1, 1099), DNS_PACE_OVERFLOW);
	assert_int_equal(dns_pace_renewal_us(&p), 1100);
	/* who waits goes first, also in a new period */
	assert_int_equal(dns_pace_ask(&p, 1, 1100), DNS_PACE_OVERFLOW);
	assert_true(dns_pace_next(&p, 1100));
	assert_int_equal(dns_pace_ask(&p, 0, 1100), DNS_PACE_GO);
	assert_false(dns_pace_next(&p, 1199));
	p.enabled = false;
	assert_true(dns_pace_next(&p, 1199));
}

static void mx_lookups_keep_the_pace(void **state)
{
	struct resolver_limits l = {.max_ttl_s = 86400,
	        .mx_limited = true,
	        .mx_queries = 10,
	        .mx_max_queue = 25,
	        .mx_period_us = 2 * SECOND_US};
	struct world w;

	(void)state;
	setup(&w, true);
	resolver_set_limits(w.resolver, &l);
	ask_many(&w, 0, 40, DNS_MX); /* 10 at once, 25 in line, 5 beyond it */
	assert_int_equal(w.n_mx, 15);
	assert_int_equal(paced(&w, "immediate"), 10);
	assert_int_equal(paced(&w, "queued"), 25);
	assert_int_equal(paced(&w, "overflow"), 5);
	assert_int_equal(counter(&w, "bindpost_dns_rate_limit_waiting", NULL), 25);
	ask_many(&w, 0, 10, DNS_MX); /* in the cache */
	assert_int_equal(w.n_mx, 15);
	ask_many(&w, 10, 5, DNS_MX); /* in line already: one question for all who ask it */
	ask_many(&w, 0, 30, DNS_A);  /* others are not held up */
	assert_int_equal(w.n_a, 30);
	advance(&w, 1900);
	assert_int_equal(w.n_mx, 15);
	advance(&w, 100);
	assert_int_equal(w.n_mx, 25);
	advance(&w, 2000);
	assert_int_equal(w.n_mx, 35);
	advance(&w, 2000);
	assert_int_equal(w.n_mx, 40);
	assert_int_equal(paced(&w, "drained"), 25);
	assert_int_equal(counter(&w, "bindpost_dns_rate_limit_waiting", NULL), 0);
	assert_int_equal(w.n_done, 40 + 10 + 5 + 30);
	teardown(&w);
}

static void the_pace_can_change(void **state)
{
	struct resolver_limits l = {.max_ttl_s = 86400,
	        .mx_limited = true,
	        .mx_queries = 1,
	        .mx_max_queue = 1000,
	        .mx_period_us = 3600 * SECOND_US};
	struct world w;

	(void)state;
	setup(&w, true);
	resolver_set_limits(w.resolver, &l);
	ask_many(&w, 0, 300, DNS_MX);
	assert_int_equal(w.n_mx, 1);
	l.mx_limited = false;
	resolver_set_limits(w.resolver, &l);
	settle(&w);
	assert_int_equal(w.n_mx, 300);
	assert_int_equal(w.n_done, 300);
	teardown(&w);
}

static void one_in_line_may_be_given_up(void **state)
{
	struct resolver_limits l = {.max_ttl_s = 86400,
	        .mx_limited = true,
	        .mx_queries = 1,
	        .mx_max_queue = 10,
	        .mx_period_us = SECOND_US};
	struct dns_query *q;
	struct world w;

	(void)state;
	setup(&w, true);
	resolver_set_limits(w.resolver, &l);
	ask_many(&w, 0, 1, DNS_MX);
	q = dns_lookup(resolver_dns(w.resolver), "e.test", DNS_MX, told, &w);
	dns_cancel(resolver_dns(w.resolver), &q);
	assert_int_equal(counter(&w, "bindpost_dns_rate_limit_waiting", NULL), 0);
	advance(&w, 5000);
	assert_int_equal(w.n_mx, 1);
	ask_many(&w, 5, 3, DNS_MX); /* and the end may come while some wait */
	teardown(&w);
}

/* --- TTLs --- */

static uint32_t ttl_of(struct world *w, const char *name, enum dns_type type);

static void keep_ttl(void *ctx, const struct dns_answer *a)
{
	*(uint32_t *)ctx = a->ttl_s;
}

static uint32_t ttl_of(struct world *w, const char *name, enum dns_type type)
{
	uint32_t ttl_s = UINT32_MAX;

	dns_lookup(resolver_dns(w->resolver), name, type, keep_ttl, &ttl_s);
	settle(w);
	return ttl_s;
}

static void ttls_have_bounds(void **state)
{
	struct resolver_limits l = {.min_ttl_s = 60, .max_ttl_s = 600};
	struct world w;

	(void)state;
	setup(&w, true);
	resolver_set_limits(w.resolver, &l);
	w.ttl_s = 5;
	assert_int_equal(ttl_of(&w, "a.test", DNS_MX), 60);
	assert_int_equal(ttl_of(&w, "a.test", DNS_A), 60);
	assert_int_equal(ttl_of(&w, "gone.test", DNS_MX), 60);
	assert_int_equal(ttl_of(&w, "a.test", DNS_TXT), 5); /* routes only */
	advance(&w, 59 * 1000);
	ttl_of(&w, "a.test", DNS_A);
	assert_int_equal(w.n_a, 1);
	advance(&w, 1000);
	ttl_of(&w, "a.test", DNS_A);
	assert_int_equal(w.n_a, 2);
	w.ttl_s = 100000;
	assert_int_equal(ttl_of(&w, "b.test", DNS_A), 600);
	assert_int_equal(ttl_of(&w, "goneb.test", DNS_A), 600);
	assert_int_equal(ttl_of(&w, "b.test", DNS_TXT), 86400);
	/* what is kept goes by the new bounds */
	l.max_ttl_s = 30;
	l.min_ttl_s = 0;
	resolver_set_limits(w.resolver, &l);
	assert_int_equal(ttl_of(&w, "b.test", DNS_A), 30);
	w.ttl_s = 0;
	assert_int_equal(ttl_of(&w, "c.test", DNS_A), 0);
	teardown(&w);
}

/* --- probe --- */

static void a_validator_is_found_good(void **state)
{
	struct world w;

	(void)state;
	setup(&w, true);
	w.ad = true;
	resolver_probe(w.resolver);
	settle(&w);
	assert_int_equal(w.n_ns, 1);
	assert_int_equal(w.n_warnings, 0);
	assert_int_equal(counter(&w, "bindpost_dns_not_validating", NULL), 0);
	advance(&w, 3600 * 1000);
	assert_int_equal(w.n_ns, 1);
	teardown(&w);
}

static void authentic_of(void *ctx, const struct dns_answer *a)
{
	*(bool *)ctx = a->authentic;
}

static void one_that_does_not_validate_is_told_once(void **state)
{
	bool authentic = false;
	struct world w;

	(void)state;
	setup(&w, true);
	resolver_probe(w.resolver);
	settle(&w);
	assert_int_equal(w.n_warnings, 1);
	assert_non_null(strstr(w.warning, "does not validate DNSSEC"));
	assert_int_equal(counter(&w, "bindpost_dns_not_validating", NULL), 1);
	assert_int_equal(counter(&w, "bindpost_dns_probes_failed_total", NULL), 1);
	advance(&w, 600 * 1000);
	assert_int_equal(w.n_ns, 2);
	assert_int_equal(w.n_warnings, 1);
	/* each answer's own bit decides, whatever the probe said */
	w.ad = true;
	dns_lookup(resolver_dns(w.resolver), "a.test", DNS_A, authentic_of, &authentic);
	settle(&w);
	assert_true(authentic);
	advance(&w, 600 * 1000);
	assert_int_equal(w.n_notices, 1); /* it validates again */
	assert_int_equal(counter(&w, "bindpost_dns_not_validating", NULL), 0);
	advance(&w, 600 * 1000);
	assert_int_equal(w.n_ns, 3);
	teardown(&w);
}

static void one_that_is_silent_is_told(void **state)
{
	struct world w;

	(void)state;
	setup(&w, true);
	w.quiet = true;
	resolver_probe(w.resolver);
	for (int i = 0; i < 30; i++)
		advance(&w, 1000);
	assert_int_equal(w.n_warnings, 1);
	assert_non_null(strstr(w.warning, "no answer in 20 s"));
	teardown(&w);
}

static void other_servers_are_probed_too(void **state)
{
	struct resolver_server far = {.trust_ad = false}, s;
	struct world w;

	(void)state;
	setup(&w, false);
	w.ad = true;
	s = (struct resolver_server){.addr = dns_server_fake_addr(w.server)};
	resolver_set_servers(w.resolver, &s, 1); /* not asked to probe yet */
	settle(&w);
	assert_int_equal(w.n_ns, 0);
	resolver_probe(w.resolver);
	settle(&w);
	assert_int_equal(w.n_ns, 1);
	assert_true(addr_parse("192.0.2.53", &far.addr, NULL)); /* not trusted: nothing to probe, but said */
	resolver_set_servers(w.resolver, &far, 1);
	settle(&w);
	assert_int_equal(w.n_notices, 1);
	resolver_set_servers(w.resolver, &s, 1);
	settle(&w);
	assert_int_equal(w.n_ns, 2);
	assert_int_equal(w.n_warnings, 0);
	teardown(&w);
}

/* --- operators --- */

struct question {
	struct dns_ask ask;
	bool back;
};

static void take_back(struct mail *mail)
{
	container_of(mail, struct question, ask.reply)->back = true;
}

static char *ask_dns(struct world *w, enum dns_question_kind kind, const char *name, const char *type)
{
	struct question q = {.ask = {.dns = &w->control, .kind = kind, .reply_loop = w->loop}};

	q.ask.reply.take = take_back;
	str_init(&q.ask.json);
	snprintf(q.ask.name, sizeof(q.ask.name), "%s", name);
	if (type)
		assert_true(dns_type_named(type, &q.ask.type));
	dns_control_ask(&q.ask);
	settle(w);
	assert_true(q.back);
	return str_steal(&q.ask.json);
}

static void expect(struct world *w, enum dns_question_kind kind, const char *name, const char *type,
        const char *expected)
{
	char *got = ask_dns(w, kind, name, type);

	if (!strstr(got, expected))
		fail_msg("%s not in %s", expected, got);
	mem_free(&got);
}

static void looking_up(void **state)
{
	struct world w;

	(void)state;
	setup(&w, true);
	w.ad = true;
	expect(&w, DNS_ASK_LOOKUP, "D.Test.", "mx",
	        "\"type\":\"MX\",\"result\":\"answer\",\"canonical\":\"d.test\",\"authentic\":true,\"ttl\":"
	        "300,"
	        "\"records\":[\"10 mx.test\"]");
	expect(&w, DNS_ASK_LOOKUP, "d.test", "A", "\"records\":[\"192.0.2.1\"]");
	expect(&w, DNS_ASK_LOOKUP, "d.test", "aaaa", "\"result\":\"nodata\"");
	expect(&w, DNS_ASK_LOOKUP, "gone.test", "a", "\"result\":\"nxdomain\"");
	expect(&w, DNS_ASK_LOOKUP, "d.test", "ns", "\"records\":[\"ns.test\"]");
	expect(&w, DNS_ASK_LOOKUP, "d.test", "txt", "\"records\":[\"hi?ou\"]");
	expect(&w, DNS_ASK_LOOKUP, "_25._tcp.d.test", "tlsa", "\"records\":[\"3 1 1 abcd\"]");
	expect(&w, DNS_ASK_LOOKUP, "a..b", "a", "\"result\":\"failed\",\"reason\":");
	assert_false(dns_type_named("SPF", &(enum dns_type){DNS_A}));
	teardown(&w);
}

static void refreshing(void **state)
{
	struct world w;

	(void)state;
	setup(&w, true);
	expect(&w, DNS_ASK_LOOKUP, "d.test", "mx", "answer");
	expect(&w, DNS_ASK_LOOKUP, "mx.test", "a", "answer");
	expect(&w, DNS_ASK_LOOKUP, "other.test", "a", "answer");
	assert_int_equal(w.n_mx, 1);
	assert_int_equal(w.n_a, 2);
	expect(&w, DNS_ASK_REFRESH, "D.test", NULL, "\"forgotten\":2"); /* its MX host's address too */
	expect(&w, DNS_ASK_LOOKUP, "d.test", "mx", "answer");
	expect(&w, DNS_ASK_LOOKUP, "mx.test", "a", "answer");
	expect(&w, DNS_ASK_LOOKUP, "other.test", "a", "answer");
	assert_int_equal(w.n_mx, 2);
	assert_int_equal(w.n_a, 3);
	expect(&w, DNS_ASK_REFRESH, "nobody.test", NULL, "\"forgotten\":0");
	/* and its TLSA records, at whatever port, and nobody else's */
	expect(&w, DNS_ASK_LOOKUP, "_25._tcp.mx.test", "tlsa", "answer");
	expect(&w, DNS_ASK_LOOKUP, "_2525._tcp.mx.test", "tlsa", "answer");
	expect(&w, DNS_ASK_LOOKUP, "_25._tcp.a.mx.test", "tlsa", "answer");
	expect(&w, DNS_ASK_LOOKUP, "_25._udp.mx.test", "tlsa", "answer");
	expect(&w, DNS_ASK_REFRESH, "d.test", NULL, "\"forgotten\":4");
	expect(&w, DNS_ASK_REFRESH, "d.test", NULL, "\"forgotten\":0");
	teardown(&w);
}

/* What was under way when the name was refreshed is told to who asked, and not kept. */
static void refreshing_what_is_under_way(void **state)
{
	struct world w;

	(void)state;
	setup(&w, true);
	w.quiet = true;
	ask_many(&w, 0, 1, DNS_A);
	expect(&w, DNS_ASK_REFRESH, "d0.test", NULL, "\"forgotten\":0");
	w.quiet = false;
	advance(&w, 2000);
	assert_int_equal(w.n_done, 1);
	ask_many(&w, 0, 1, DNS_A);
	assert_int_equal(w.n_a, 3);
	teardown(&w);
}

static void statistics(void **state)
{
	struct world w;

	(void)state;
	setup(&w, true);
	resolver_probe(w.resolver);
	ask_many(&w, 0, 3, DNS_A);
	ask_many(&w, 0, 1, DNS_A);
	expect(&w, DNS_ASK_STATS, "", NULL,
	        "\"state\":\"good\",\"unanswered\":0,\"edns\":true,\"trust_ad\":true,\"validates\":false}]");
	expect(&w, DNS_ASK_STATS, "", NULL, "\"cache_entries\":3,");
	expect(&w, DNS_ASK_STATS, "", NULL, "\"cache_hits\":1,\"cache_misses\":3,");
	expect(&w, DNS_ASK_STATS, "", NULL, "\"rate_limit\":{\"enabled\":false,");
	w.quiet = true;
	ask_many(&w, 10, 1, DNS_A);
	for (int i = 0; i < 21; i++)
		advance(&w, 1000);
	expect(&w, DNS_ASK_STATS, "", NULL, "\"state\":\"silent\"");
	teardown(&w);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(pace_by_itself),
        cmocka_unit_test(mx_lookups_keep_the_pace),
        cmocka_unit_test(the_pace_can_change),
        cmocka_unit_test(one_in_line_may_be_given_up),
        cmocka_unit_test(ttls_have_bounds),
        cmocka_unit_test(a_validator_is_found_good),
        cmocka_unit_test(one_that_does_not_validate_is_told_once),
        cmocka_unit_test(one_that_is_silent_is_told),
        cmocka_unit_test(other_servers_are_probed_too),
        cmocka_unit_test(looking_up),
        cmocka_unit_test(refreshing),
        cmocka_unit_test(refreshing_what_is_under_way),
        cmocka_unit_test(statistics),
};
TEST_MAIN("resolver_ops", tests)
