/* resolver - against scripted servers on loopback, under a fake clock */
#include "config.h"
#include "t/lib/test.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/metrics.h"
#include "route/resolver/dns_lookup.h"
#include "route/resolver/resolv_conf.h"
#include "route/resolver/resolver_in.h"
#include "t/lib/resolver_world.h"

static void an_answer_and_the_query(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_setup(&w, 1, (dns_server_answer *const[]){answer_good});
	world_ask(&w, "D.Test.", DNS_A, &a);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_ANSWER);
	assert_string_equal(a.name, "d.test");
	assert_int_equal(a.addr.ip[0], 192);
	assert_int_equal(a.ttl_s, 300);
	assert_true(a.authentic); /* a loopback server is believed */
	assert_string_equal(w.last[0].name, "d.test");
	assert_true(w.last[0].rd && w.last[0].ad && w.last[0].edns);
	assert_int_equal(w.last[0].edns_size, 1232);
	world_teardown(&w);
}

static void positive_and_negative_cache(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_setup(&w, 1, (dns_server_answer *const[]){answer_good});
	world_ask(&w, "d.test", DNS_A, &a);
	world_advance(&w, 100 * 1000);
	world_ask(&w, "D.TEST", DNS_A, &a);
	assert_true(a.done);
	assert_int_equal(a.ttl_s, 200); /* what is left */
	assert_int_equal(w.n_asked, 1);
	world_advance(&w, 200 * 1000);
	world_ask(&w, "d.test", DNS_A, &a);
	assert_int_equal(w.n_asked, 2);
	w.scripts[0] = answer_nxdomain;
	world_ask(&w, "n.test", DNS_A, &a);
	assert_int_equal(a.outcome, DNS_NXDOMAIN);
	assert_int_equal(a.ttl_s, 120);
	world_ask(&w, "n.test", DNS_A, &a);
	assert_int_equal(w.n_asked, 3);
	world_ask(&w, "n.test", DNS_MX, &a); /* another type is another question */
	assert_int_equal(w.n_asked, 4);
	world_advance(&w, 121 * 1000);
	world_ask(&w, "n.test", DNS_A, &a);
	assert_int_equal(w.n_asked, 5);
	world_teardown(&w);
}

static void failures_are_kept_for_a_second_only(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_setup(&w, 1, (dns_server_answer *const[]){answer_servfail});
	world_ask(&w, "d.test", DNS_A, &a);
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_non_null(strstr(a.why, "SERVFAIL from 127.0.0.1:"));
	world_ask(&w, "d.test", DNS_A, &a);
	assert_int_equal(w.n_asked, 1);
	w.scripts[0] = answer_good;
	world_advance(&w, 1001);
	world_ask(&w, "d.test", DNS_A, &a);
	assert_int_equal(a.outcome, DNS_ANSWER);
	world_teardown(&w);
}

static void week(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	(void)ctx;
	if (q->type == DNS_A) {
		answer_begin(q, out, 0);
		wire_a(out, q->name, 604800, "192.0.2.1");
	} else {
		answer_begin(q, out, 3);
		wire_soa(out, "test", 604800, 604800);
	}
}

static void zero(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	(void)ctx;
	answer_begin(q, out, 0);
	wire_a(out, q->name, 0, "192.0.2.1");
}

static void ttls_are_clamped(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_setup(&w, 1, (dns_server_answer *const[]){week});
	world_ask(&w, "d.test", DNS_A, &a);
	assert_int_equal(a.ttl_s, 86400);
	world_ask(&w, "d.test", DNS_MX, &a);
	assert_int_equal(a.outcome, DNS_NXDOMAIN);
	assert_int_equal(a.ttl_s, 3600);
	w.scripts[0] = zero;
	world_ask(&w, "z.test", DNS_A, &a);
	world_ask(&w, "z.test", DNS_A, &a);
	assert_int_equal(w.n_asked, 4); /* TTL 0 is not kept */
	world_teardown(&w);
}

static void one_query_for_equal_lookups(void **state)
{
	struct world w;
	struct answer a[50] = {{.done = false}};

	(void)state;
	world_setup(&w, 1, (dns_server_answer *const[]){answer_good});
	for (size_t i = 0; i < array_len(a); i++)
		dns_lookup(world_dns(&w), i % 2 ? "d.test" : "D.test", DNS_A, answer_keep, &a[i]);
	world_settle(&w);
	for (size_t i = 0; i < array_len(a); i++)
		assert_true(a[i].done && a[i].outcome == DNS_ANSWER);
	assert_int_equal(w.n_asked, 1);
	world_teardown(&w);
}

static void ids_and_ports_vary(void **state)
{
	struct world w;
	struct answer a;
	char name[32];
	unsigned same_port = 0, same_id = 0, sequential = 0;

	(void)state;
	world_setup(&w, 1, (dns_server_answer *const[]){answer_good});
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "d%d.test", i);
		world_ask(&w, name, DNS_A, &a);
		assert_true(a.done);
	}
	assert_int_equal(w.n_asked, 200);
	for (unsigned i = 1; i < w.n_asked; i++) {
		same_port += w.ports[i] == w.ports[i - 1];
		same_id += w.ids[i] == w.ids[i - 1];
		sequential += w.ids[i] == (uint16_t)(w.ids[i - 1] + 1) ||
		              w.ports[i] == (uint16_t)(w.ports[i - 1] + 1);
	}
	assert_in_range(same_port, 0, 3);
	assert_in_range(same_id, 0, 3);
	assert_in_range(sequential, 0, 3);
	world_teardown(&w);
}

static void many_at_once(void **state)
{
	struct world w;
	static struct answer a[3000];
	char name[32];
	unsigned distinct = 0;
	static bool seen[65536];

	(void)state;
	memset(a, 0, sizeof(a));
	memset(seen, 0, sizeof(seen));
	world_setup(&w, 1, (dns_server_answer *const[]){answer_good});
	for (size_t i = 0; i < array_len(a); i++) {
		snprintf(name, sizeof(name), "d%zu.test", i);
		dns_lookup(world_dns(&w), name, DNS_A, answer_keep, &a[i]);
		if (i % 200 ==
		        199) /* as many as are in flight before any is answered; more than ports to spare */
			loop_step(w.loop);
	}
	for (int i = 0; i < 30; i++)
		world_advance(&w, 1000);
	for (size_t i = 0; i < array_len(a); i++)
		if (!a[i].done || a[i].outcome != DNS_ANSWER)
			fail_msg("%zu: %s", i, a[i].why);
	for (unsigned i = 0; i < w.n_asked; i++) {
		distinct += !seen[w.ports[i]];
		seen[w.ports[i]] = true;
	}
	assert_in_range(distinct, 100, 4096);
	assert_int_equal(world_counter(&w, "bindpost_dns_lookups_total", "result=\"answered\""), 3000);
	world_teardown(&w);
}

/* 10,000 are in flight, further ones wait for their place */
static void in_flight_is_bounded(void **state)
{
	struct world w;
	static struct answer a[10050];
	struct dns_query *in_line;
	char name[32];

	(void)state;
	memset(a, 0, sizeof(a));
	world_setup(&w, 1, (dns_server_answer *const[]){answer_silent});
	for (size_t i = 0; i < array_len(a); i++) {
		snprintf(name, sizeof(name), "d%zu.test", i);
		dns_lookup(world_dns(&w), name, DNS_A, answer_keep, &a[i]);
	}
	assert_int_equal(metric_get(metrics_gauge(w.metrics, "bindpost_dns_in_flight", NULL, "")), 10000);
	in_line = dns_lookup(world_dns(&w), "one.too.many.test", DNS_A, answer_keep, &a[0]);
	assert_int_equal(metric_get(metrics_gauge(w.metrics, "bindpost_dns_waiting", NULL, "")), 51);
	dns_cancel(world_dns(&w), &in_line);
	assert_int_equal(metric_get(metrics_gauge(w.metrics, "bindpost_dns_waiting", NULL, "")), 50);
	for (int i = 0; i < 22; i++)
		world_advance(&w, 1000);
	assert_true(a[0].done && a[9999].done);
	assert_false(a[10049].done);
	assert_int_equal(metric_get(metrics_gauge(w.metrics, "bindpost_dns_in_flight", NULL, "")), 50);
	w.scripts[0] = answer_good;
	for (int i = 0; i < 22; i++)
		world_advance(&w, 1000);
	assert_true(a[10049].done);
	assert_int_equal(a[10049].outcome, DNS_ANSWER);
	assert_int_equal(metric_get(metrics_gauge(w.metrics, "bindpost_dns_in_flight", NULL, "")), 0);
	world_teardown(&w);
}

static void silence_ends_after_20_s(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_setup(&w, 1, (dns_server_answer *const[]){answer_silent});
	world_ask(&w, "d.test", DNS_A, &a);
	assert_int_equal(w.n_asked, 1);
	world_advance(&w, 1999);
	assert_int_equal(w.n_asked, 1);
	world_advance(&w, 1);
	assert_int_equal(w.n_asked, 2);
	world_advance(&w, 4000);
	assert_int_equal(w.n_asked, 3);
	world_advance(&w, 13999);
	assert_false(a.done);
	world_advance(&w, 1);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_non_null(strstr(a.why, "no answer in 20 s"));
	assert_non_null(strstr(a.why, "127.0.0.1:"));
	world_teardown(&w);
}

static void the_next_server_answers(void **state)
{
	static dns_server_answer *const firsts[] = {answer_silent, answer_servfail, answer_garbage};
	struct world w;
	struct answer a;

	(void)state;
	for (size_t i = 0; i < array_len(firsts); i++) {
		world_setup(&w, 2, (dns_server_answer *const[]){firsts[i], answer_good});
		world_ask(&w, "d.test", DNS_A, &a);
		if (firsts[i] == answer_silent) {
			assert_false(a.done);
			world_advance(&w, 2000);
		}
		assert_true(a.done);
		assert_int_equal(a.outcome, DNS_ANSWER);
		world_teardown(&w);
	}
}

static void all_servers_fail(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_setup(&w, 2, (dns_server_answer *const[]){answer_servfail, answer_garbage});
	world_ask(&w, "d.test", DNS_A, &a);
	assert_true(a.done); /* both have answered: no use in waiting */
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_non_null(strstr(a.why, "malformed answer from 127.0.0.2:"));
	assert_int_equal(world_counter(&w, "bindpost_dns_bad_answers_total", NULL), 2);
	world_teardown(&w);
}

static void a_silent_server_goes_last(void **state)
{
	struct world w;
	struct answer a;
	char name[32];

	(void)state;
	world_setup(&w, 2, (dns_server_answer *const[]){answer_silent, answer_good});
	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "d%d.test", i);
		world_ask(&w, name, DNS_A, &a);
		assert_false(a.done);
		world_advance(&w, 2000);
		assert_true(a.done);
	}
	world_ask(&w, "e.test", DNS_A, &a);
	assert_true(a.done); /* the second is asked first now */
	w.scripts[0] = answer_good;
	world_advance(&w, 31 * 1000);
	assert_int_equal(dns_server_fake_asked(w.servers[0]), 3);
	world_ask(&w, "f.test", DNS_A, &a);
	assert_true(a.done);
	assert_int_equal(dns_server_fake_asked(w.servers[0]), 4);
	world_teardown(&w);
}

static void nobody_listens(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_setup(&w, 2, (dns_server_answer *const[]){answer_good, answer_good});
	dns_server_fake_close(w.servers[0]);
	world_ask(&w, "d.test", DNS_A, &a);
	assert_true(a.done); /* at once: the kernel tells */
	assert_int_equal(a.outcome, DNS_ANSWER);
	dns_server_fake_close(w.servers[1]);
	world_ask(&w, "e.test", DNS_A, &a);
	assert_false(a.done);
	for (int i = 0; i < 20; i++)
		world_advance(&w, 1000);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_non_null(strstr(a.why, "Connection refused"));
	world_teardown(&w);
}

/* A server that answered badly is not asked again; one that was silent is. */
static void only_the_silent_get_another_round(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_setup(&w, 2, (dns_server_answer *const[]){answer_servfail, answer_silent});
	world_ask(&w, "d.test", DNS_A, &a);
	world_advance(&w, 1900);
	w.scripts[1] = answer_good;
	world_advance(&w, 100);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_ANSWER);
	assert_int_equal(dns_server_fake_asked(w.servers[0]), 1);
	assert_int_equal(dns_server_fake_asked(w.servers[1]), 2);
	world_teardown(&w);
}

/* What a validator will not answer may be forged: who does not validate is not asked for his opinion of it. */
static void servfail_of_a_validator_stands(void **state)
{
	static const struct {
		bool trusted[2];
		enum dns_outcome outcome;
	} cases[] = {{{true, false}, DNS_FAILED}, {{true, true}, DNS_ANSWER}, {{false, false}, DNS_ANSWER},
	        {{false, true}, DNS_ANSWER}};
	struct world w;
	struct answer a;

	(void)state;
	for (size_t i = 0; i < array_len(cases); i++) {
		world_setup(&w, 2, (dns_server_answer *const[]){answer_servfail, answer_good});
		for (unsigned k = 0; k < 2; k++) /* loopback is trusted by itself */
			w.resolver->servers->servers[k].trust_ad = cases[i].trusted[k];
		world_ask(&w, "d.test", DNS_A, &a);
		world_advance(&w, 100);
		assert_true(a.done);
		assert_int_equal(a.outcome, cases[i].outcome);
		assert_int_equal(dns_server_fake_asked(w.servers[1]), a.outcome == DNS_ANSWER);
		world_teardown(&w);
	}
	/* but one that says nothing is not the end of it */
	world_setup(&w, 2, (dns_server_answer *const[]){answer_silent, answer_good});
	w.resolver->servers->servers[1].trust_ad = false;
	world_ask(&w, "d.test", DNS_A, &a);
	world_advance(&w, 3000);
	assert_int_equal(a.outcome, DNS_ANSWER);
	assert_false(a.authentic);
	world_teardown(&w);
}

static void a_server_that_cannot_be_reached(void **state)
{
	struct world w;
	struct answer a;
	struct resolver_server s = {.trust_ad = false};

	(void)state;
	world_setup(&w, 0, NULL);
	assert_true(addr_parse("255.255.255.255", &s.addr, NULL)); /* the kernel refuses at once */
	resolver_set_servers(w.resolver, &s, 1);
	world_ask(&w, "d.test", DNS_A, &a);
	for (int i = 0; i < 20; i++)
		world_advance(&w, 1000);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_non_null(strstr(a.why, "255.255.255.255:53: UDP socket"));
	world_teardown(&w);
}

/* Without descriptors left, queries share the sockets there are. */
static void out_of_descriptors(void **state)
{
	struct world w;
	static struct answer a[50];
	struct rlimit old, few;
	char name[32];
	int next;

	(void)state;
	memset(a, 0, sizeof(a));
	world_setup(&w, 1, (dns_server_answer *const[]){answer_good});
	next = dup(0);
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = (struct rlimit){.rlim_cur = (rlim_t)next + 5, .rlim_max = old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	for (size_t i = 0; i < array_len(a); i++) {
		snprintf(name, sizeof(name), "d%zu.test", i);
		dns_lookup(world_dns(&w), name, DNS_A, answer_keep, &a[i]);
	}
	world_settle(&w);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	for (size_t i = 0; i < array_len(a); i++)
		assert_true(a[i].done && a[i].outcome == DNS_ANSWER);
	world_teardown(&w);
}

static void formerr_with_edns(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	if (q->edns) {
		wire_header(out, q->id, ANSWER_FLAGS | 1);
		return;
	}
	answer_good(ctx, q, out);
}

static void without_edns_where_it_is_not_known(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_setup(&w, 1, (dns_server_answer *const[]){formerr_with_edns});
	world_ask(&w, "d.test", DNS_A, &a);
	assert_int_equal(a.outcome, DNS_ANSWER);
	assert_int_equal(w.n_asked, 2);
	world_ask(&w, "e.test", DNS_A, &a);
	assert_int_equal(a.outcome, DNS_ANSWER);
	assert_int_equal(w.n_asked, 3); /* remembered */
	assert_true(w.last[0].ad);
	world_teardown(&w);
}

static void formerr_again_is_a_failure(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_setup(&w, 1, (dns_server_answer *const[]){answer_formerr});
	world_ask(&w, "d.test", DNS_A, &a);
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_non_null(strstr(a.why, "FORMERR"));
	assert_int_equal(w.n_asked, 2);
	world_teardown(&w);
}

/* --- cancelling --- */

struct pair {
	struct world *w;
	struct answer a;
	struct dns_query *other[3];
};

static void cancel_others(void *ctx, const struct dns_answer *a)
{
	struct pair *p = ctx;

	answer_keep(&p->a, a);
	for (size_t i = 0; i < array_len(p->other); i++)
		dns_cancel(world_dns(p->w), &p->other[i]);
}

static void cancel_from_inside(void **state)
{
	struct world w;
	struct pair p = {&w, {.done = false}, {NULL}};
	struct answer never[3] = {{.done = false}}, after = {.done = false};

	(void)state;
	world_setup(&w, 1, (dns_server_answer *const[]){answer_good});
	dns_lookup(world_dns(&w), "d.test", DNS_A, cancel_others, &p);
	p.other[0] = dns_lookup(world_dns(&w), "d.test", DNS_A, answer_keep, &never[0]); /* same flight */
	p.other[1] =
	        dns_lookup(world_dns(&w), "silent.invalid.", DNS_AAAA, answer_keep, &never[1]); /* another */
	p.other[2] = dns_lookup(world_dns(&w), "not..a.name", DNS_A, answer_keep, &never[2]); /* to be told */
	dns_cancel(world_dns(&w), &p.other[2]);
	dns_lookup(world_dns(&w), "d.test", DNS_A, answer_keep, &after);
	world_settle(&w);
	assert_true(p.a.done && after.done);
	for (size_t i = 0; i < array_len(never); i++)
		assert_null(p.other[i]);
	assert_false(never[0].done || never[2].done);
	world_teardown(&w);
}

static void cancel_at_any_moment(void **state)
{
	static dns_server_answer *const scripts[] = {
	        answer_good, answer_silent, answer_cut_on_udp, answer_servfail, answer_loop_link};

	(void)state;
	for (size_t s = 0; s < array_len(scripts); s++)
		for (int steps = 0; steps < 12; steps++) {
			struct world w;
			struct answer a = {.done = false}, b = {.done = false};
			struct dns_query *q, *r;

			world_setup(&w, 1, &scripts[s]);
			q = dns_lookup(world_dns(&w), "a.test", DNS_A, answer_keep, &a);
			r = dns_lookup(world_dns(&w), "a.test", DNS_A, answer_keep, &b);
			for (int i = 0; i < steps; i++)
				loop_step(w.loop);
			if (!a.done) {
				dns_cancel(world_dns(&w), &q);
				assert_null(q);
			}
			if (!b.done && steps % 2)
				dns_cancel(world_dns(&w), &r);
			world_settle(&w);
			world_teardown(&w);
		}
}

static void ask_again(void *ctx, const struct dns_answer *a)
{
	struct pair *p = ctx;

	answer_keep(&p->a, a);
	dns_lookup(world_dns(p->w), "d.test", DNS_A, answer_keep, p->w->extra);
}

static void asking_from_inside_is_answered_later(void **state)
{
	struct world w;
	struct answer again = {.done = false};
	struct pair p = {&w, {.done = false}, {NULL}};

	(void)state;
	world_setup(&w, 1, (dns_server_answer *const[]){answer_good});
	w.extra = &again;
	dns_lookup(world_dns(&w), "d.test", DNS_A, ask_again, &p);
	world_settle(&w);
	assert_true(p.a.done && again.done);
	assert_int_equal(w.n_asked, 1);
	world_teardown(&w);
}

static void names_dns_cannot_hold_fail(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_setup(&w, 1, (dns_server_answer *const[]){answer_good});
	world_ask(&w, "a..b", DNS_MX, &a);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_int_equal(w.n_asked, 0);
	world_teardown(&w);
}

static void freed_with_queries_out(void **state)
{
	struct world w;
	struct answer a[3] = {{.done = false}};

	(void)state;
	world_setup(&w, 1, (dns_server_answer *const[]){answer_good});
	world_ask(&w, "d.test", DNS_A, &a[0]);
	a[0].done = false;
	dns_lookup(world_dns(&w), "d.test", DNS_A, answer_keep, &a[0]); /* known, to be told */
	w.scripts[0] = answer_silent;
	dns_lookup(world_dns(&w), "e.test", DNS_A, answer_keep, &a[1]);
	dns_lookup(world_dns(&w), "e.test", DNS_A, answer_keep, &a[2]);
	world_teardown(&w);
	for (size_t i = 0; i < array_len(a); i++)
		assert_false(a[i].done);
}

static void without_servers(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	world_setup(&w, 0, NULL);
	world_ask(&w, "d.test", DNS_A, &a);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_non_null(strstr(a.why, "no DNS server"));
	world_teardown(&w);
}

static void other_servers_after_a_reload(void **state)
{
	struct world w;
	struct answer a, b = {.done = false};
	struct resolver_server second;

	(void)state;
	world_setup(&w, 2, (dns_server_answer *const[]){answer_good, answer_nxdomain});
	world_ask(&w, "d.test", DNS_A, &a);
	assert_int_equal(a.outcome, DNS_ANSWER);
	w.scripts[0] = answer_silent;
	dns_lookup(world_dns(&w), "e.test", DNS_A, answer_keep, &b); /* under way during the reload */
	second = (struct resolver_server){.addr = dns_server_fake_addr(w.servers[1])};
	resolver_set_servers(w.resolver, &second, 1);
	world_ask(&w, "d.test", DNS_A, &a);
	assert_int_equal(a.outcome, DNS_NXDOMAIN); /* the old cache is gone */
	w.scripts[1] = answer_good;
	for (int i = 0; i < 5; i++)
		world_advance(&w, 1000);
	assert_true(b.done); /* finished with the list it began with */
	assert_int_equal(b.outcome, DNS_ANSWER);
	world_ask(&w, "e.test", DNS_A, &a);
	assert_int_equal(w.n_asked, 5); /* and what the old list said is not kept */
	world_teardown(&w);
}

static void resolv_conf_is_read(void **state)
{
	static const char text[] =
	        "# comment\nsearch example.com\nnameserver 192.0.2.53\n  nameserver\t2001:db8::53  \r\n"
	        "nameserver nonsense\nnameserver\noptions edns0\nnameserver 127.0.0.53\n;nameserver "
	        "10.0.0.1\n";
	struct resolver_server s[4];
	char *folder = test_folder_new(), *path = mem_printf("%s/resolv.conf", folder);

	(void)state;
	test_file_write(path, text, strlen(text));
	assert_int_equal(resolv_conf_read(path, s, array_len(s)), 3);
	assert_int_equal(s[0].addr.port, 53);
	assert_false(s[0].trust_ad);
	assert_int_equal(s[1].addr.family, AF_INET6);
	assert_true(s[2].trust_ad);
	assert_int_equal(resolv_conf_read(path, s, 1), 1);
	test_file_write(path, "", 0);
	assert_int_equal(resolv_conf_read(path, s, array_len(s)), 1);
	assert_true(addr_is_loopback(&s[0].addr));
	assert_int_equal(resolv_conf_read("/nonexistent/resolv.conf", s, array_len(s)), 1);
	mem_free(&path);
	test_folder_remove(&folder);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_and_the_query),
        cmocka_unit_test(positive_and_negative_cache),
        cmocka_unit_test(failures_are_kept_for_a_second_only),
        cmocka_unit_test(ttls_are_clamped),
        cmocka_unit_test(one_query_for_equal_lookups),
        cmocka_unit_test(ids_and_ports_vary),
        cmocka_unit_test(many_at_once),
        cmocka_unit_test(in_flight_is_bounded),
        cmocka_unit_test(silence_ends_after_20_s),
        cmocka_unit_test(the_next_server_answers),
        cmocka_unit_test(all_servers_fail),
        cmocka_unit_test(a_silent_server_goes_last),
        cmocka_unit_test(nobody_listens),
        cmocka_unit_test(only_the_silent_get_another_round),
        cmocka_unit_test(servfail_of_a_validator_stands),
        cmocka_unit_test(a_server_that_cannot_be_reached),
        cmocka_unit_test(out_of_descriptors),
        cmocka_unit_test(without_edns_where_it_is_not_known),
        cmocka_unit_test(formerr_again_is_a_failure),
        cmocka_unit_test(cancel_from_inside),
        cmocka_unit_test(cancel_at_any_moment),
        cmocka_unit_test(asking_from_inside_is_answered_later),
        cmocka_unit_test(names_dns_cannot_hold_fail),
        cmocka_unit_test(freed_with_queries_out),
        cmocka_unit_test(without_servers),
        cmocka_unit_test(other_servers_after_a_reload),
        cmocka_unit_test(resolv_conf_is_read),
};
TEST_MAIN("resolver", tests)
