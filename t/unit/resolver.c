/* resolver - against scripted servers on loopback, under a fake clock */
#include "config.h"
#include "t/lib/test.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/metrics.h"
#include "route/resolver/dns_lookup.h"
#include "route/resolver/resolv_conf.h"
#include "route/resolver/resolver_in.h"
#include "t/lib/dns_server.h"

#define ANSWER_FLAGS (DNS_WIRE_QR | DNS_WIRE_RD | DNS_WIRE_RA)

struct answer { /* a copy */
	bool done;
	enum dns_outcome outcome;
	unsigned n;
	uint32_t ttl_s;
	bool authentic;
	char name[256], why[256], first[256];
	struct addr addr;
};

struct world {
	struct fake_clock clock;
	struct loop *loop;
	struct metrics *metrics;
	struct resolver *resolver;
	struct dns_server_fake *servers[3];
	dns_server_answer *scripts[3];
	struct dns_request last[3]; /* what each was asked last */
	uint16_t ports[4096];       /* of all queries, in order */
	uint16_t ids[4096];
	unsigned n_asked;
	void *extra;
};

struct server_ctx {
	struct world *w;
	unsigned index;
};
static struct server_ctx contexts[3];

static void show(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	struct server_ctx *s = ctx;
	struct world *w = s->w;

	w->last[s->index] = *q;
	if (!q->tcp && w->n_asked < array_len(w->ports)) {
		w->ports[w->n_asked] = q->from.port;
		w->ids[w->n_asked++] = (uint16_t)q->id;
	}
	w->scripts[s->index](w, q, out);
}

static void setup(struct world *w, unsigned n, dns_server_answer *const *scripts)
{
	struct resolver_server servers[3];

	memset(w, 0, sizeof(*w));
	fake_clock_init(&w->clock, 1700000000 * SECOND_US);
	w->clock.mono = 1000 * SECOND_US;
	w->loop = loop_new("queue", &w->clock.clock);
	w->metrics = metrics_new();
	for (unsigned i = 0; i < n; i++) {
		contexts[i] = (struct server_ctx){w, i};
		w->scripts[i] = scripts[i];
		w->servers[i] =
		        dns_server_fake_new(w->loop, i == 1 ? "127.0.0.2" : "127.0.0.1", show, &contexts[i]);
		servers[i] = (struct resolver_server){.addr = dns_server_fake_addr(w->servers[i])};
	}
	w->resolver = resolver_new(w->loop, &rnd_system, w->metrics, servers, n);
}

static void teardown(struct world *w)
{
	resolver_free(&w->resolver);
	for (unsigned i = 0; i < array_len(w->servers); i++)
		dns_server_fake_free(&w->servers[i]);
	metrics_free(&w->metrics);
	loop_free(&w->loop);
}

static void keep(void *ctx, const struct dns_answer *a)
{
	struct answer *out = ctx;

	assert_false(out->done); /* once */
	out->done = true;
	out->outcome = a->outcome;
	out->n = a->n;
	out->ttl_s = a->ttl_s;
	out->authentic = a->authentic;
	assert_non_null(a->name);
	assert_non_null(a->why);
	snprintf(out->name, sizeof(out->name), "%s", a->name);
	snprintf(out->why, sizeof(out->why), "%s", a->why);
	if (a->n && (a->records[0].addr.family == AF_INET || a->records[0].addr.family == AF_INET6))
		out->addr = a->records[0].addr;
}

static struct dns *dns(struct world *w)
{
	return resolver_dns(w->resolver);
}

/* Until nothing has happened for a while: what is on its way over loopback has then arrived. */
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

static void ask(struct world *w, const char *name, enum dns_type type, struct answer *a)
{
	memset(a, 0, sizeof(*a));
	assert_non_null(dns_lookup(dns(w), name, type, keep, a));
	assert_false(a->done);
	settle(w);
}

static uint64_t counter(struct world *w, const char *name, const char *labels)
{
	return metric_get(metrics_counter(w->metrics, name, labels, ""));
}

/* --- scripts --- */

static void begin(const struct dns_request *q, struct dns_wire *out, unsigned flags)
{
	wire_header(out, q->id, ANSWER_FLAGS | flags);
	wire_question(out, q->name, q->type);
}

static void good(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	(void)ctx;
	begin(q, out, DNS_WIRE_AD);
	wire_a(out, q->name, 300, "192.0.2.1");
	if (q->edns)
		wire_opt(out, 1232, 0);
}

static void silent(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	(void)ctx;
	(void)q;
	(void)out;
}

static void servfail(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	(void)ctx;
	begin(q, out, 2);
}

static void nxdomain(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	(void)ctx;
	begin(q, out, 3);
	wire_soa(out, "test", 600, 120);
}

static void garbage(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	(void)ctx;
	begin(q, out, 0);
	wire_bytes(out, "\xc0\xff", 2);
	wire_count(out, 1, 1);
}

/* --- tests --- */

static void an_answer_and_the_query(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	setup(&w, 1, (dns_server_answer *const[]){good});
	ask(&w, "D.Test.", DNS_A, &a);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_ANSWER);
	assert_string_equal(a.name, "d.test");
	assert_int_equal(a.addr.ip[0], 192);
	assert_int_equal(a.ttl_s, 300);
	assert_true(a.authentic); /* a loopback server is believed */
	assert_string_equal(w.last[0].name, "d.test");
	assert_true(w.last[0].rd && w.last[0].ad && w.last[0].edns);
	assert_int_equal(w.last[0].edns_size, 1232);
	teardown(&w);
}

static void positive_and_negative_cache(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	setup(&w, 1, (dns_server_answer *const[]){good});
	ask(&w, "d.test", DNS_A, &a);
	advance(&w, 100 * 1000);
	ask(&w, "D.TEST", DNS_A, &a);
	assert_true(a.done);
	assert_int_equal(a.ttl_s, 200); /* what is left */
	assert_int_equal(w.n_asked, 1);
	advance(&w, 200 * 1000);
	ask(&w, "d.test", DNS_A, &a);
	assert_int_equal(w.n_asked, 2);
	w.scripts[0] = nxdomain;
	ask(&w, "n.test", DNS_A, &a);
	assert_int_equal(a.outcome, DNS_NXDOMAIN);
	assert_int_equal(a.ttl_s, 120);
	ask(&w, "n.test", DNS_A, &a);
	assert_int_equal(w.n_asked, 3);
	ask(&w, "n.test", DNS_MX, &a); /* another type is another question */
	assert_int_equal(w.n_asked, 4);
	advance(&w, 121 * 1000);
	ask(&w, "n.test", DNS_A, &a);
	assert_int_equal(w.n_asked, 5);
	teardown(&w);
}

static void failures_are_kept_for_a_second_only(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	setup(&w, 1, (dns_server_answer *const[]){servfail});
	ask(&w, "d.test", DNS_A, &a);
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_non_null(strstr(a.why, "SERVFAIL from 127.0.0.1:"));
	ask(&w, "d.test", DNS_A, &a);
	assert_int_equal(w.n_asked, 1);
	w.scripts[0] = good;
	advance(&w, 1001);
	ask(&w, "d.test", DNS_A, &a);
	assert_int_equal(a.outcome, DNS_ANSWER);
	teardown(&w);
}

static void week(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	(void)ctx;
	if (q->type == DNS_A) {
		begin(q, out, 0);
		wire_a(out, q->name, 604800, "192.0.2.1");
	} else {
		begin(q, out, 3);
		wire_soa(out, "test", 604800, 604800);
	}
}

static void zero(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	(void)ctx;
	begin(q, out, 0);
	wire_a(out, q->name, 0, "192.0.2.1");
}

static void ttls_are_clamped(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	setup(&w, 1, (dns_server_answer *const[]){week});
	ask(&w, "d.test", DNS_A, &a);
	assert_int_equal(a.ttl_s, 86400);
	ask(&w, "d.test", DNS_MX, &a);
	assert_int_equal(a.outcome, DNS_NXDOMAIN);
	assert_int_equal(a.ttl_s, 3600);
	w.scripts[0] = zero;
	ask(&w, "z.test", DNS_A, &a);
	ask(&w, "z.test", DNS_A, &a);
	assert_int_equal(w.n_asked, 4); /* TTL 0 is not kept */
	teardown(&w);
}

static void one_query_for_equal_lookups(void **state)
{
	struct world w;
	struct answer a[50] = {{.done = false}};

	(void)state;
	setup(&w, 1, (dns_server_answer *const[]){good});
	for (size_t i = 0; i < array_len(a); i++)
		dns_lookup(dns(&w), i % 2 ? "d.test" : "D.test", DNS_A, keep, &a[i]);
	settle(&w);
	for (size_t i = 0; i < array_len(a); i++)
		assert_true(a[i].done && a[i].outcome == DNS_ANSWER);
	assert_int_equal(w.n_asked, 1);
	teardown(&w);
}

static void ids_and_ports_vary(void **state)
{
	struct world w;
	struct answer a;
	char name[32];
	unsigned same_port = 0, same_id = 0, sequential = 0;

	(void)state;
	setup(&w, 1, (dns_server_answer *const[]){good});
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "d%d.test", i);
		ask(&w, name, DNS_A, &a);
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
	teardown(&w);
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
	setup(&w, 1, (dns_server_answer *const[]){good});
	for (size_t i = 0; i < array_len(a); i++) {
		snprintf(name, sizeof(name), "d%zu.test", i);
		dns_lookup(dns(&w), name, DNS_A, keep, &a[i]);
		if (i % 200 ==
		        199) /* as many as are in flight before any is answered; more than ports to spare */
			loop_step(w.loop);
	}
	for (int i = 0; i < 30; i++)
		advance(&w, 1000);
	for (size_t i = 0; i < array_len(a); i++)
		if (!a[i].done || a[i].outcome != DNS_ANSWER)
			fail_msg("%zu: %s", i, a[i].why);
	for (unsigned i = 0; i < w.n_asked; i++) {
		distinct += !seen[w.ports[i]];
		seen[w.ports[i]] = true;
	}
	assert_in_range(distinct, 100, 4096);
	assert_int_equal(counter(&w, "bindpost_dns_lookups_total", "result=\"answered\""), 3000);
	teardown(&w);
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
	setup(&w, 1, (dns_server_answer *const[]){silent});
	for (size_t i = 0; i < array_len(a); i++) {
		snprintf(name, sizeof(name), "d%zu.test", i);
		dns_lookup(dns(&w), name, DNS_A, keep, &a[i]);
	}
	assert_int_equal(metric_get(metrics_gauge(w.metrics, "bindpost_dns_in_flight", NULL, "")), 10000);
	in_line = dns_lookup(dns(&w), "one.too.many.test", DNS_A, keep, &a[0]);
	assert_int_equal(metric_get(metrics_gauge(w.metrics, "bindpost_dns_waiting", NULL, "")), 51);
	dns_cancel(dns(&w), &in_line);
	assert_int_equal(metric_get(metrics_gauge(w.metrics, "bindpost_dns_waiting", NULL, "")), 50);
	for (int i = 0; i < 22; i++)
		advance(&w, 1000);
	assert_true(a[0].done && a[9999].done);
	assert_false(a[10049].done);
	assert_int_equal(metric_get(metrics_gauge(w.metrics, "bindpost_dns_in_flight", NULL, "")), 50);
	w.scripts[0] = good;
	for (int i = 0; i < 22; i++)
		advance(&w, 1000);
	assert_true(a[10049].done);
	assert_int_equal(a[10049].outcome, DNS_ANSWER);
	assert_int_equal(metric_get(metrics_gauge(w.metrics, "bindpost_dns_in_flight", NULL, "")), 0);
	teardown(&w);
}

static void silence_ends_after_20_s(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	setup(&w, 1, (dns_server_answer *const[]){silent});
	ask(&w, "d.test", DNS_A, &a);
	assert_int_equal(w.n_asked, 1);
	advance(&w, 1999);
	assert_int_equal(w.n_asked, 1);
	advance(&w, 1);
	assert_int_equal(w.n_asked, 2);
	advance(&w, 4000);
	assert_int_equal(w.n_asked, 3);
	advance(&w, 13999);
	assert_false(a.done);
	advance(&w, 1);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_non_null(strstr(a.why, "no answer in 20 s"));
	assert_non_null(strstr(a.why, "127.0.0.1:"));
	teardown(&w);
}

static void the_next_server_answers(void **state)
{
	static dns_server_answer *const firsts[] = {silent, servfail, garbage};
	struct world w;
	struct answer a;

	(void)state;
	for (size_t i = 0; i < array_len(firsts); i++) {
		setup(&w, 2, (dns_server_answer *const[]){firsts[i], good});
		ask(&w, "d.test", DNS_A, &a);
		if (firsts[i] == silent) {
			assert_false(a.done);
			advance(&w, 2000);
		}
		assert_true(a.done);
		assert_int_equal(a.outcome, DNS_ANSWER);
		teardown(&w);
	}
}

static void all_servers_fail(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	setup(&w, 2, (dns_server_answer *const[]){servfail, garbage});
	ask(&w, "d.test", DNS_A, &a);
	assert_true(a.done); /* both have answered: no use in waiting */
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_non_null(strstr(a.why, "malformed answer from 127.0.0.2:"));
	assert_int_equal(counter(&w, "bindpost_dns_bad_answers_total", NULL), 2);
	teardown(&w);
}

static void a_silent_server_goes_last(void **state)
{
	struct world w;
	struct answer a;
	char name[32];

	(void)state;
	setup(&w, 2, (dns_server_answer *const[]){silent, good});
	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "d%d.test", i);
		ask(&w, name, DNS_A, &a);
		assert_false(a.done);
		advance(&w, 2000);
		assert_true(a.done);
	}
	ask(&w, "e.test", DNS_A, &a);
	assert_true(a.done); /* the second is asked first now */
	w.scripts[0] = good;
	advance(&w, 31 * 1000);
	assert_int_equal(dns_server_fake_asked(w.servers[0]), 3);
	ask(&w, "f.test", DNS_A, &a);
	assert_true(a.done);
	assert_int_equal(dns_server_fake_asked(w.servers[0]), 4);
	teardown(&w);
}

static void nobody_listens(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	setup(&w, 2, (dns_server_answer *const[]){good, good});
	dns_server_fake_close(w.servers[0]);
	ask(&w, "d.test", DNS_A, &a);
	assert_true(a.done); /* at once: the kernel tells */
	assert_int_equal(a.outcome, DNS_ANSWER);
	dns_server_fake_close(w.servers[1]);
	ask(&w, "e.test", DNS_A, &a);
	assert_false(a.done);
	for (int i = 0; i < 20; i++)
		advance(&w, 1000);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_non_null(strstr(a.why, "Connection refused"));
	teardown(&w);
}

/* A server that answered badly is not asked again; one that was silent is. */
static void only_the_silent_get_another_round(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	setup(&w, 2, (dns_server_answer *const[]){servfail, silent});
	ask(&w, "d.test", DNS_A, &a);
	advance(&w, 1900);
	w.scripts[1] = good;
	advance(&w, 100);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_ANSWER);
	assert_int_equal(dns_server_fake_asked(w.servers[0]), 1);
	assert_int_equal(dns_server_fake_asked(w.servers[1]), 2);
	teardown(&w);
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
		setup(&w, 2, (dns_server_answer *const[]){servfail, good});
		for (unsigned k = 0; k < 2; k++) /* loopback is trusted by itself */
			w.resolver->servers->servers[k].trust_ad = cases[i].trusted[k];
		ask(&w, "d.test", DNS_A, &a);
		advance(&w, 100);
		assert_true(a.done);
		assert_int_equal(a.outcome, cases[i].outcome);
		assert_int_equal(dns_server_fake_asked(w.servers[1]), a.outcome == DNS_ANSWER);
		teardown(&w);
	}
	/* but one that says nothing is not the end of it */
	setup(&w, 2, (dns_server_answer *const[]){silent, good});
	w.resolver->servers->servers[1].trust_ad = false;
	ask(&w, "d.test", DNS_A, &a);
	advance(&w, 3000);
	assert_int_equal(a.outcome, DNS_ANSWER);
	assert_false(a.authentic);
	teardown(&w);
}

static void a_server_that_cannot_be_reached(void **state)
{
	struct world w;
	struct answer a;
	struct resolver_server s = {.trust_ad = false};

	(void)state;
	setup(&w, 0, NULL);
	assert_true(addr_parse("255.255.255.255", &s.addr, NULL)); /* the kernel refuses at once */
	resolver_set_servers(w.resolver, &s, 1);
	ask(&w, "d.test", DNS_A, &a);
	for (int i = 0; i < 20; i++)
		advance(&w, 1000);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_non_null(strstr(a.why, "255.255.255.255:53: UDP socket"));
	teardown(&w);
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
	setup(&w, 1, (dns_server_answer *const[]){good});
	next = dup(0);
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = (struct rlimit){.rlim_cur = (rlim_t)next + 5, .rlim_max = old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	for (size_t i = 0; i < array_len(a); i++) {
		snprintf(name, sizeof(name), "d%zu.test", i);
		dns_lookup(dns(&w), name, DNS_A, keep, &a[i]);
	}
	settle(&w);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	for (size_t i = 0; i < array_len(a); i++)
		assert_true(a[i].done && a[i].outcome == DNS_ANSWER);
	teardown(&w);
}

static void formerr_with_edns(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	if (q->edns) {
		wire_header(out, q->id, ANSWER_FLAGS | 1);
		return;
	}
	good(ctx, q, out);
}

static void without_edns_where_it_is_not_known(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	setup(&w, 1, (dns_server_answer *const[]){formerr_with_edns});
	ask(&w, "d.test", DNS_A, &a);
	assert_int_equal(a.outcome, DNS_ANSWER);
	assert_int_equal(w.n_asked, 2);
	ask(&w, "e.test", DNS_A, &a);
	assert_int_equal(a.outcome, DNS_ANSWER);
	assert_int_equal(w.n_asked, 3); /* remembered */
	assert_true(w.last[0].ad);
	teardown(&w);
}

static void formerr(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	(void)ctx;
	begin(q, out, 1);
}

static void formerr_again_is_a_failure(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	setup(&w, 1, (dns_server_answer *const[]){formerr});
	ask(&w, "d.test", DNS_A, &a);
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_non_null(strstr(a.why, "FORMERR"));
	assert_int_equal(w.n_asked, 2);
	teardown(&w);
}

static void cut_on_udp(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	(void)ctx;
	begin(q, out, q->tcp ? 0 : DNS_WIRE_TC);
	for (int i = 0; q->tcp && i < 90; i++)
		wire_a(out, q->name, 300, "192.0.2.1");
}

static void cut_everywhere(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	(void)ctx;
	begin(q, out, DNS_WIRE_TC);
}

static void tcp_for_what_udp_cuts(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	setup(&w, 1, (dns_server_answer *const[]){cut_on_udp});
	ask(&w, "d.test", DNS_A, &a);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_ANSWER);
	assert_int_equal(a.n, 90);
	assert_true(w.last[0].tcp);
	assert_int_equal(counter(&w, "bindpost_dns_queries_total", "transport=\"tcp\""), 1);
	w.scripts[0] = cut_everywhere;
	ask(&w, "e.test", DNS_A, &a);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_non_null(strstr(a.why, "truncated"));
	teardown(&w);
}

static void tcp_silent(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	if (!q->tcp)
		cut_on_udp(ctx, q, out);
}

static void tcp_that_is_silent(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	setup(&w, 2, (dns_server_answer *const[]){tcp_silent, good});
	ask(&w, "d.test", DNS_A, &a);
	assert_false(a.done);
	advance(&w, 4000);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_ANSWER);
	teardown(&w);
}

static void hang_up(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	cut_on_udp(ctx, q, out);
	if (q->tcp)
		out->len = 0;
}

static void tcp_closed_under_us(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	setup(&w, 2, (dns_server_answer *const[]){hang_up, good});
	ask(&w, "d.test", DNS_A, &a);
	assert_false(a.done);
	dns_server_fake_close(w.servers[0]);
	settle(&w);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_ANSWER);
	teardown(&w);
}

/* Somebody else's answer in the stream, then ours */
static void two_on_tcp(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	struct world *w = ctx;
	struct dns_request other = *q;

	if (!q->tcp) {
		cut_on_udp(ctx, q, out);
		return;
	}
	other.id ^= 1;
	good(ctx, &other, out);
	dns_server_fake_send_tcp(w->servers[0], out);
	out->len = 0;
	good(ctx, q, out);
}

static void tcp_waits_past_foreign_messages(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	setup(&w, 1, (dns_server_answer *const[]){two_on_tcp});
	ask(&w, "d.test", DNS_A, &a);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_ANSWER);
	assert_int_equal(a.n, 1);
	assert_int_equal(counter(&w, "bindpost_dns_ignored_total", NULL), 1);
	teardown(&w);
}

static void tcp_that_nobody_listens_on(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	setup(&w, 1, (dns_server_answer *const[]){cut_on_udp});
	dns_server_fake_close_tcp(w.servers[0]);
	ask(&w, "d.test", DNS_A, &a);
	for (int i = 0; i < 20; i++)
		advance(&w, 1000);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_non_null(strstr(a.why, "TCP to 127.0.0.1:"));
	assert_non_null(strstr(a.why, "Connection refused"));
	teardown(&w);
}

static void tcp_short(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	cut_on_udp(ctx, q, out);
	if (q->tcp)
		out->len = 11; /* less than a header */
}

static void tcp_flood(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	struct world *w = ctx;
	struct dns_request other = *q;

	cut_on_udp(ctx, q, out);
	if (!q->tcp)
		return;
	other.id ^= 1;
	for (int i = 0; i < 20; i++) {
		good(ctx, &other, out);
		dns_server_fake_send_tcp(w->servers[0], out);
	}
	good(ctx, q, out);
}

static void tcp_formerr(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	if (q->tcp && q->edns)
		formerr(ctx, q, out);
	else
		cut_on_udp(ctx, q, out);
}

static void tcp_misfortunes(void **state)
{
	static const struct {
		dns_server_answer *script;
		enum dns_outcome outcome;
		const char *why;
	} cases[] = {{tcp_short, DNS_ANSWER, ""}, {tcp_flood, DNS_ANSWER, ""}, {tcp_formerr, DNS_ANSWER, ""}};
	struct world w;
	struct answer a;

	(void)state;
	for (size_t i = 0; i < array_len(cases); i++) {
		setup(&w, 2, (dns_server_answer *const[]){cases[i].script, good});
		ask(&w, "d.test", DNS_A, &a);
		assert_true(a.done); /* at once, by the second server or by a second try */
		assert_int_equal(a.outcome, cases[i].outcome);
		assert_int_equal(a.n, cases[i].script == tcp_formerr ? 90 : 1);
		teardown(&w);
	}
}

static void many_on_tcp(void **state)
{
	static struct answer a[400];
	struct world w;
	struct dns_query *q[array_len(a)];
	char name[32];

	(void)state;
	memset(a, 0, sizeof(a));
	setup(&w, 1, (dns_server_answer *const[]){tcp_silent});
	for (size_t i = 0; i < array_len(a); i++) {
		snprintf(name, sizeof(name), "d%zu.test", i);
		q[i] = dns_lookup(dns(&w), name, DNS_A, keep, &a[i]);
	}
	settle(&w); /* 128 have a connection, the others stand in line */
	for (size_t i = 0; i < array_len(a); i += 3)
		dns_cancel(dns(&w), &q[i]);
	w.scripts[0] = cut_on_udp;
	for (int i = 0; i < 30; i++)
		advance(&w, 1000);
	for (size_t i = 0; i < array_len(a); i++)
		assert_int_equal(a[i].done && a[i].n == 90, i % 3 != 0);
	teardown(&w);
}

/* --- who may answer --- */

static void forger(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	static const char evil[] = "198.51.100.66";
	struct world *w = ctx;
	struct dns_request f = *q;

	f.id = q->id ^ 0x5555;
	begin(&f, out, 0);
	wire_a(out, q->name, 300, evil);
	dns_server_fake_send(w->servers[0], &q->from, out); /* wrong id */
	wire_header(out, q->id, DNS_WIRE_RD);
	wire_question(out, q->name, q->type);
	wire_a(out, q->name, 300, evil);
	dns_server_fake_send(w->servers[0], &q->from, out); /* QR = 0 */
	begin(q, out, 5 << 11);
	wire_a(out, q->name, 300, evil);
	dns_server_fake_send(w->servers[0], &q->from, out); /* opcode */
	wire_header(out, q->id, ANSWER_FLAGS);
	wire_question(out, "other.test", q->type);
	wire_a(out, "other.test", 300, evil);
	dns_server_fake_send(w->servers[0], &q->from, out); /* question */
	begin(q, out, 0);
	wire_a(out, q->name, 300, evil);
	dns_server_fake_send(w->servers[1], &q->from, out); /* source address */
	dns_server_fake_send(w->servers[2], &q->from, out); /* source port */
	wire_header(out, q->id, ANSWER_FLAGS);
	out->len = 5;
	dns_server_fake_send(w->servers[0], &q->from, out); /* too short */
	out->len = 0;
	if (w->extra)
		good(ctx, q, out);
}

static void what_is_no_answer_is_waited_past(void **state)
{
	struct world w;
	struct answer a;
	struct resolver_server only;

	(void)state;
	setup(&w, 3, (dns_server_answer *const[]){forger, silent, silent});
	only = (struct resolver_server){.addr = dns_server_fake_addr(w.servers[0])};
	resolver_set_servers(w.resolver, &only, 1);
	w.extra = &w; /* the right one comes last */
	ask(&w, "d.test", DNS_A, &a);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_ANSWER);
	assert_int_equal(a.addr.ip[0], 192);
	w.extra = NULL; /* or not at all */
	ask(&w, "e.test", DNS_A, &a);
	assert_false(a.done);
	for (int i = 0; i < 20; i++)
		advance(&w, 1000);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_FAILED);
	/* first id, QR, opcode, question and length; then the first three rounds' of the second; the kernel keeps what
	 * comes from elsewhere */
	assert_int_equal(counter(&w, "bindpost_dns_ignored_total", NULL), 5 * w.n_asked);
	teardown(&w);
}

static void poisoner(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	(void)ctx;
	begin(q, out, 0);
	if (strcmp(q->name, "victim.test") == 0) {
		wire_a(out, q->name, 300, "192.0.2.7");
		return;
	}
	wire_a(out, "victim.test", 300, "198.51.100.66");
	wire_a(out, q->name, 300, "192.0.2.1");
	wire_rr(out, 3, "victim.test", DNS_A, 300, "\306\063\144\102", 4);
}

static void what_comes_along_poisons_nothing(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	setup(&w, 1, (dns_server_answer *const[]){poisoner});
	ask(&w, "d.test", DNS_A, &a);
	assert_int_equal(a.n, 1);
	assert_int_equal(a.addr.ip[3], 1);
	ask(&w, "victim.test", DNS_A, &a);
	assert_int_equal(a.addr.ip[3], 7);
	teardown(&w);
}

/* --- CNAMEs over several queries --- */

static void chain_link(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	struct world *w = ctx;
	unsigned i, end = *(unsigned *)w->extra;
	char next[32];

	assert_int_equal(sscanf(q->name, "c%u.test", &i), 1);
	begin(q, out, i == 2 ? 0 : DNS_WIRE_AD);
	if (i == end) {
		wire_a(out, q->name, 300, "192.0.2.1");
		return;
	}
	snprintf(next, sizeof(next), "c%u.test", i + 1);
	wire_cname(out, q->name, 60, next);
}

static void a_chain_over_several_queries(void **state)
{
	struct world w;
	struct answer a;
	unsigned end = 8;

	(void)state;
	setup(&w, 1, (dns_server_answer *const[]){chain_link});
	w.extra = &end;
	ask(&w, "c0.test", DNS_A, &a);
	assert_int_equal(a.outcome, DNS_ANSWER);
	assert_string_equal(a.name, "c8.test");
	assert_int_equal(a.ttl_s, 60);
	assert_false(a.authentic); /* one link was not signed */
	end = 10;
	ask(&w, "c1.test", DNS_A, &a);
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_non_null(strstr(a.why, "too many CNAMEs"));
	end = 5;
	ask(&w, "c3.test", DNS_A, &a);
	assert_true(a.authentic);
	teardown(&w);
}

static void loop_link(void *ctx, const struct dns_request *q, struct dns_wire *out)
{
	(void)ctx;
	begin(q, out, 0);
	wire_cname(out, q->name, 60, strcmp(q->name, "a.test") == 0 ? "b.test" : "a.test");
}

static void a_loop_over_several_queries(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	setup(&w, 2, (dns_server_answer *const[]){loop_link, loop_link});
	ask(&w, "a.test", DNS_A, &a);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_non_null(strstr(a.why, "CNAME loop"));
	assert_int_equal(w.n_asked, 2);
	teardown(&w);
}

static void keep_result(void *ctx, struct dns_result *takes)
{
	keep(ctx, &takes->answer);
	dns_result_unref(&takes);
}

static void ad_is_believed_from_trusted_servers_only(void **state)
{
	static const struct {
		const char *addr;
		bool declared, trusted;
	} cases[] = {{"192.0.2.53", false, false}, {"192.0.2.53", true, true}, {"127.0.0.1", false, true},
	        {"::1", false, true}};
	struct world w;
	struct answer a = {.done = false};
	metric none = 0;
	struct dns_lookup_env env = {.rnd = &rnd_system,
	        .n_udp = &none,
	        .n_tcp = &none,
	        .n_silent = &none,
	        .n_foreign = &none,
	        .n_bad = &none};
	struct dns_question q;
	struct resolver_server s = {.trust_ad = false};
	struct dns_servers *servers;

	(void)state;
	for (size_t i = 0; i < array_len(cases); i++) {
		assert_true(addr_parse(cases[i].addr, &s.addr, NULL));
		s.trust_ad = cases[i].declared;
		servers = dns_servers_new(&s, 1);
		assert_int_equal(servers->servers[0].trust_ad, cases[i].trusted);
		assert_int_equal(servers->servers[0].addr.port, 53);
		dns_servers_unref(&servers);
	}
	setup(&w, 1, (dns_server_answer *const[]){good});
	env.loop = w.loop;
	env.udp = dns_udp_new(w.loop, &rnd_system, &none);
	env.tcp = dns_tcp_new(w.loop);
	s.addr = dns_server_fake_addr(w.servers[0]);
	servers = dns_servers_new(&s, 1);
	servers->servers[0].trust_ad = false; /* as if it were not on loopback */
	assert_true(dns_question_set(&q, "d.test", DNS_A, NULL));
	dns_lookup_start(&env, servers, &q, keep_result, &a);
	settle(&w);
	assert_int_equal(a.outcome, DNS_ANSWER);
	assert_false(a.authentic);
	dns_servers_unref(&servers);
	dns_udp_free(&env.udp);
	dns_tcp_free(&env.tcp);
	teardown(&w);
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

	keep(&p->a, a);
	for (size_t i = 0; i < array_len(p->other); i++)
		dns_cancel(dns(p->w), &p->other[i]);
}

static void cancel_from_inside(void **state)
{
	struct world w;
	struct pair p = {&w, {.done = false}, {NULL}};
	struct answer never[3] = {{.done = false}}, after = {.done = false};

	(void)state;
	setup(&w, 1, (dns_server_answer *const[]){good});
	dns_lookup(dns(&w), "d.test", DNS_A, cancel_others, &p);
	p.other[0] = dns_lookup(dns(&w), "d.test", DNS_A, keep, &never[0]);             /* same flight */
	p.other[1] = dns_lookup(dns(&w), "silent.invalid.", DNS_AAAA, keep, &never[1]); /* another */
	p.other[2] = dns_lookup(dns(&w), "not..a.name", DNS_A, keep, &never[2]);        /* to be told */
	dns_cancel(dns(&w), &p.other[2]);
	dns_lookup(dns(&w), "d.test", DNS_A, keep, &after);
	settle(&w);
	assert_true(p.a.done && after.done);
	for (size_t i = 0; i < array_len(never); i++)
		assert_null(p.other[i]);
	assert_false(never[0].done || never[2].done);
	teardown(&w);
}

static void cancel_at_any_moment(void **state)
{
	static dns_server_answer *const scripts[] = {good, silent, cut_on_udp, servfail, loop_link};

	(void)state;
	for (size_t s = 0; s < array_len(scripts); s++)
		for (int steps = 0; steps < 12; steps++) {
			struct world w;
			struct answer a = {.done = false}, b = {.done = false};
			struct dns_query *q, *r;

			setup(&w, 1, &scripts[s]);
			q = dns_lookup(dns(&w), "a.test", DNS_A, keep, &a);
			r = dns_lookup(dns(&w), "a.test", DNS_A, keep, &b);
			for (int i = 0; i < steps; i++)
				loop_step(w.loop);
			if (!a.done) {
				dns_cancel(dns(&w), &q);
				assert_null(q);
			}
			if (!b.done && steps % 2)
				dns_cancel(dns(&w), &r);
			settle(&w);
			teardown(&w);
		}
}

static void ask_again(void *ctx, const struct dns_answer *a)
{
	struct pair *p = ctx;

	keep(&p->a, a);
	dns_lookup(dns(p->w), "d.test", DNS_A, keep, p->w->extra);
}

static void asking_from_inside_is_answered_later(void **state)
{
	struct world w;
	struct answer again = {.done = false};
	struct pair p = {&w, {.done = false}, {NULL}};

	(void)state;
	setup(&w, 1, (dns_server_answer *const[]){good});
	w.extra = &again;
	dns_lookup(dns(&w), "d.test", DNS_A, ask_again, &p);
	settle(&w);
	assert_true(p.a.done && again.done);
	assert_int_equal(w.n_asked, 1);
	teardown(&w);
}

static void names_dns_cannot_hold_fail(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	setup(&w, 1, (dns_server_answer *const[]){good});
	ask(&w, "a..b", DNS_MX, &a);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_int_equal(w.n_asked, 0);
	teardown(&w);
}

static void freed_with_queries_out(void **state)
{
	struct world w;
	struct answer a[3] = {{.done = false}};

	(void)state;
	setup(&w, 1, (dns_server_answer *const[]){good});
	ask(&w, "d.test", DNS_A, &a[0]);
	a[0].done = false;
	dns_lookup(dns(&w), "d.test", DNS_A, keep, &a[0]); /* known, to be told */
	w.scripts[0] = silent;
	dns_lookup(dns(&w), "e.test", DNS_A, keep, &a[1]);
	dns_lookup(dns(&w), "e.test", DNS_A, keep, &a[2]);
	teardown(&w);
	for (size_t i = 0; i < array_len(a); i++)
		assert_false(a[i].done);
}

static void without_servers(void **state)
{
	struct world w;
	struct answer a;

	(void)state;
	setup(&w, 0, NULL);
	ask(&w, "d.test", DNS_A, &a);
	assert_true(a.done);
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_non_null(strstr(a.why, "no DNS server"));
	teardown(&w);
}

static void other_servers_after_a_reload(void **state)
{
	struct world w;
	struct answer a, b = {.done = false};
	struct resolver_server second;

	(void)state;
	setup(&w, 2, (dns_server_answer *const[]){good, nxdomain});
	ask(&w, "d.test", DNS_A, &a);
	assert_int_equal(a.outcome, DNS_ANSWER);
	w.scripts[0] = silent;
	dns_lookup(dns(&w), "e.test", DNS_A, keep, &b); /* under way during the reload */
	second = (struct resolver_server){.addr = dns_server_fake_addr(w.servers[1])};
	resolver_set_servers(w.resolver, &second, 1);
	ask(&w, "d.test", DNS_A, &a);
	assert_int_equal(a.outcome, DNS_NXDOMAIN); /* the old cache is gone */
	w.scripts[1] = good;
	for (int i = 0; i < 5; i++)
		advance(&w, 1000);
	assert_true(b.done); /* finished with the list it began with */
	assert_int_equal(b.outcome, DNS_ANSWER);
	ask(&w, "e.test", DNS_A, &a);
	assert_int_equal(w.n_asked, 5); /* and what the old list said is not kept */
	teardown(&w);
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
        cmocka_unit_test(tcp_for_what_udp_cuts),
        cmocka_unit_test(tcp_that_is_silent),
        cmocka_unit_test(tcp_closed_under_us),
        cmocka_unit_test(tcp_waits_past_foreign_messages),
        cmocka_unit_test(tcp_that_nobody_listens_on),
        cmocka_unit_test(tcp_misfortunes),
        cmocka_unit_test(many_on_tcp),
        cmocka_unit_test(what_is_no_answer_is_waited_past),
        cmocka_unit_test(what_comes_along_poisons_nothing),
        cmocka_unit_test(a_chain_over_several_queries),
        cmocka_unit_test(a_loop_over_several_queries),
        cmocka_unit_test(ad_is_believed_from_trusted_servers_only),
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
