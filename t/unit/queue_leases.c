/* Limits on connections: random ones at every place against counting peers; that each is reached; the reserve; roll-up. */
#include <stdlib.h>
#include "t/lib/queue_rig.h"
#include "t/lib/test.h"

/* --- random limits ---------------------------------------------------------------------------------------------------- */

#define BINDINGS 3
#define DOMAINS 4

/* Places; 0 = not set */
enum { IN_BINDING_DOMAIN, IN_GROUP_DOMAIN, IN_BINDING, IN_GROUP, IN_DOMAIN, IN_GLOBAL, N_PLACES };

struct limits {
	unsigned max[N_PLACES][BINDINGS][DOMAINS], scope[N_PLACES][BINDINGS][DOMAINS];
	unsigned pattern_scope; /* of domains d0 and d1 together */
	unsigned total[BINDINGS], server, reserve;
	unsigned host, host_scope; /* of each host of the second half, and of them together */
};

struct world {
	struct limits now;
	unsigned open[BINDINGS][DOMAINS][2], most; /* [1]: at the second host of the domain */
	bool checks;
};

static unsigned sum(const struct world *w, int b, int d, int host)
{
	unsigned n = 0;
	for (int i = b < 0 ? 0 : b; i <= (b < 0 ? BINDINGS - 1 : b); i++) {
		for (int j = d < 0 ? 0 : d; j <= (d < 0 ? DOMAINS - 1 : d); j++)
			n += host < 0 ? w->open[i][j][0] + w->open[i][j][1] : w->open[i][j][host];
	}
	return n;
}

static unsigned max_for(const struct limits *l, int b, int d)
{
	const unsigned found[] = {l->max[IN_BINDING_DOMAIN][b][d], b < 2 ? l->max[IN_GROUP_DOMAIN][0][d] : 0,
	        l->max[IN_BINDING][b][0], b < 2 ? l->max[IN_GROUP][0][0] : 0, l->max[IN_DOMAIN][0][d],
	        l->max[IN_GLOBAL][0][0], 32};
	for (unsigned i = 0; i < array_len(found); i++) {
		if (found[i])
			return found[i];
	}
	return 0;
}

#define below(n, max)                                                                                        \
	do {                                                                                                 \
		if (max)                                                                                     \
			assert_in_range(n, 0, max);                                                          \
	} while (0)

/* A session of binding b to domain d has been opened: everything it counts in. */
static void check_open(const struct world *w, int b, int d, int host)
{
	const struct limits *l = &w->now;
	below(sum(w, b, d, -1), max_for(l, b, d));
	below(sum(w, b, -1, -1), l->total[b]);
	below(sum(w, -1, -1, -1), l->server + l->reserve);
	below(sum(w, b, d, -1), l->scope[IN_BINDING_DOMAIN][b][d]);
	below(sum(w, b, -1, -1), l->scope[IN_BINDING][b][0]);
	below(sum(w, -1, -1, -1), l->scope[IN_GLOBAL][0][0]);
	below(sum(w, -1, d, -1), l->scope[IN_DOMAIN][0][d]);
	/* an exact domain stands before the pattern */
	unsigned matched = 0;
	for (int i = 0; i < 2; i++)
		matched += l->scope[IN_DOMAIN][0][i] ? 0 : sum(w, -1, i, -1);
	below(matched, l->pattern_scope);
	if (b < 2) {
		below(sum(w, 0, d, -1) + sum(w, 1, d, -1), l->scope[IN_GROUP_DOMAIN][0][d]);
		below(sum(w, 0, -1, -1) + sum(w, 1, -1, -1), l->scope[IN_GROUP][0][0]);
	}
	if (host) {
		below(sum(w, b, d, 1), l->host);
		below(sum(w, -1, -1, 1), l->host_scope);
	}
}

static void counted(void *ctx, const char *binding, const char *mx, int change)
{
	struct world *w = ctx;
	int b = binding[1] - '0', n = atoi(strrchr(mx, '.') + 1) - 1, d = n / 2, host = n % 2;
	w->open[b][d][host] += (unsigned)change;
	if (sum(w, -1, -1, -1) > w->most)
		w->most = sum(w, -1, -1, -1);
	if (change > 0 && w->checks)
		check_open(w, b, d, host);
}

static unsigned some(struct rnd *rnd, unsigned most)
{
	return rnd_below(rnd, 3) ? 0 : 1 + (unsigned)rnd_below(rnd, most);
}

static void random_limits(struct limits *l, struct rnd *rnd)
{
	memset(l, 0, sizeof(*l));
	for (unsigned d = 0; d < DOMAINS; d++) {
		for (unsigned b = 0; b < BINDINGS; b++) {
			l->max[IN_BINDING_DOMAIN][b][d] = some(rnd, 10);
			l->scope[IN_BINDING_DOMAIN][b][d] = some(rnd, 10);
		}
		l->max[IN_GROUP_DOMAIN][0][d] = some(rnd, 10);
		l->scope[IN_GROUP_DOMAIN][0][d] = some(rnd, 10);
		l->max[IN_DOMAIN][0][d] = some(rnd, 10);
		l->scope[IN_DOMAIN][0][d] = some(rnd, 10);
	}
	for (unsigned b = 0; b < BINDINGS; b++) {
		l->max[IN_BINDING][b][0] = some(rnd, 10);
		l->scope[IN_BINDING][b][0] = some(rnd, 15);
		l->total[b] = some(rnd, 15);
	}
	l->max[IN_GROUP][0][0] = some(rnd, 10);
	l->scope[IN_GROUP][0][0] = some(rnd, 20);
	l->max[IN_GLOBAL][0][0] = some(rnd, 10);
	l->scope[IN_GLOBAL][0][0] = some(rnd, 30);
	l->pattern_scope = some(rnd, 10);
	l->host = some(rnd, 5);
	l->host_scope = some(rnd, 12);
	l->server = 1 + (unsigned)rnd_below(rnd, 30);
	l->reserve = (unsigned)rnd_below(rnd, 6);
}

static void put(struct str *out, const struct limits *l, int place, unsigned b, unsigned d)
{
	if (l->max[place][b][d])
		str_printf(out, "'max_outbound_connections': %u, ", l->max[place][b][d]);
	if (l->scope[place][b][d])
		str_printf(out, "'scope_max_outbound_connections': %u, ", l->scope[place][b][d]);
}

static void put_domains(struct str *out, const struct limits *l, int place, unsigned b)
{
	str_add(out, "'domains': {");
	for (unsigned d = 0; d < DOMAINS; d++) {
		str_printf(out, "'d%u.example': {", d);
		put(out, l, place, b, d);
		str_add(out, "'comment': ''}, ");
	}
	if (place == IN_DOMAIN && l->pattern_scope)
		str_printf(out, "'/^d[01][.]/': {'scope_max_outbound_connections': %u}, ", l->pattern_scope);
	str_add(out, "'comment': ''}");
}

/* Bindings 0 and 1 are in a group, the third is not. */
static char *policy_of(const struct limits *l)
{
	struct str out;
	str_init(&out);
	str_printf(&out,
	        "{'global': {'server_max_outbound_connections': %u, 'server_reserve_outbound_connections': "
	        "%u, ",
	        l->server, l->reserve);
	put(&out, l, IN_GLOBAL, 0, 0);
	str_add(&out, "'comment': ''}, 'binding_groups': {'g': {");
	put(&out, l, IN_GROUP, 0, 0);
	put_domains(&out, l, IN_GROUP_DOMAIN, 0);
	str_add(&out, ", 'bindings': {");
	for (unsigned b = 0; b < BINDINGS; b++) {
		if (b == 2)
			str_add(&out, "}}}, 'bindings': {'default': {'bind_address': '192.0.2.9'}");
		str_printf(&out, "%s'b%u': {'bind_address': '192.0.2.%u', ", b ? ", " : "", b, b + 1);
		if (l->total[b])
			str_printf(&out, "'server_max_outbound_connections': %u, ", l->total[b]);
		put(&out, l, IN_BINDING, b, 0);
		put_domains(&out, l, IN_BINDING_DOMAIN, b);
		str_add(&out, "}");
	}
	str_add(&out, "}, ");
	put_domains(&out, l, IN_DOMAIN, 0);
	str_add(&out, ", 'hosts': {'/[.][0-9]*[02468]$/': {");
	if (l->host)
		str_printf(&out, "'max_outbound_connections': %u, ", l->host);
	if (l->host_scope)
		str_printf(&out, "'scope_max_outbound_connections': %u, ", l->host_scope);
	str_add(&out, "'comment': ''}}}");
	return str_steal(&out);
}

static void load(struct rig *rig, struct rnd *rnd, unsigned n)
{
	char domain[20], binding[8];
	for (unsigned i = 0; i < n; i++) {
		snprintf(domain, sizeof(domain), "d%u.example", (unsigned)rnd_below(rnd, DOMAINS));
		snprintf(binding, sizeof(binding), "b%u", (unsigned)rnd_below(rnd, BINDINGS));
		rig_send_many(rig, binding, domain, 1);
		if (i % 50 == 0)
			rig_run(rig, rnd_below(rnd, 50000));
	}
}

static struct rig *world_rig(struct world *w, struct rnd *rnd)
{
	char domain[20], routes[60];
	*w = (struct world){.checks = true};
	random_limits(&w->now, rnd);
	char *policy = policy_of(&w->now);
	struct rig *rig = rig_new(policy);
	mem_free(&policy);
	rig->keep_log = false;
	rig->counted = counted;
	rig->seen_ctx = w;
	for (unsigned d = 0; d < DOMAINS; d++) {
		snprintf(domain, sizeof(domain), "d%u.example", d);
		snprintf(routes, sizeof(routes), "10 203.0.113.%u, %u 203.0.113.%u", 2 * d + 1,
		        d % 2 ? 10 : 20, 2 * d + 2);
		rig_route(rig, domain, routes);
	}
	for (unsigned i = 1; i <= 2 * DOMAINS; i++) {
		char ip[20];
		snprintf(ip, sizeof(ip), "203.0.113.%u", i);
		rig_mx(rig, ip)->job_us = 1000 + rnd_below(rnd, 300000);
		rig_mx(rig, ip)->connect_us = 500 + rnd_below(rnd, 20000);
		rig_mx(rig, ip)->drop_after = (unsigned)rnd_below(rnd, 4) ? 0 : 5;
	}
	return rig;
}

/* None is passed at any instant, all mail arrives. */
static void test_random(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 40; round++) {
		struct fake_rnd rnd;
		struct world w;
		fake_rnd_init(&rnd, round);
		struct rig *rig = world_rig(&w, &rnd.rnd);
		rig_start(rig);
		load(rig, &rnd.rnd, 800);
		assert_true(rig_run_out(rig, 20000 * SECOND_US));
		assert_in_range(w.most, 1, w.now.server + w.now.reserve);
		rig_run(rig, 400 * SECOND_US);
		assert_int_equal(sum(&w, -1, -1, -1), 0);
		rig_free(&rig);
	}
}

/* A reload takes effect at once: what is opened from then on keeps to the new limits, counting what is still open. */
static void test_random_reloads(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 40; round++) {
		struct fake_rnd rnd;
		struct world w;
		fake_rnd_init(&rnd, round + 1000);
		struct rig *rig = world_rig(&w, &rnd.rnd);
		rig_start(rig);
		for (unsigned i = 0; i < 5; i++) {
			load(rig, &rnd.rnd, 300);
			rig_run(rig, rnd_below(&rnd.rnd, SECOND_US));
			random_limits(&w.now, &rnd.rnd);
			char *policy = policy_of(&w.now);
			/* sessions that a new limit does not count end first; what holds by then is checked after */
			w.checks = false;
			rig_reload(rig, policy);
			mem_free(&policy);
			rig_run(rig, 5 * SECOND_US);
			w.checks = true;
		}
		assert_true(rig_run_out(rig, 20000 * SECOND_US));
		rig_free(&rig);
	}
}

/* --- each is reached ---------------------------------------------------------------------------------------------------- */

static void test_each_is_reached(void **state)
{
	static const struct {
		const char *policy;
		unsigned most;
	} cases[] = {
	        {"'global': {'max_outbound_connections': 3}", 3 * 4},
	        {"'global': {'server_max_outbound_connections': 9, 'server_reserve_outbound_connections': 0}",
	                9},
	        {"'global': {'server_max_outbound_connections': 2, 'server_reserve_outbound_connections': 1}",
	                3},
	        {"'global': {'scope_max_outbound_connections': 11}", 11},
	        {"'bindings': {'b0': {'bind_address': '192.0.2.1', 'server_max_outbound_connections': 5}, "
	         "'b1': "
	         "{'bind_address': '192.0.2.2', 'server_max_outbound_connections': 4}, 'default': "
	         "{'bind_address': "
	         "'192.0.2.3'}}",
	                9},
	        {"'domains': {'d0.example': {'max_outbound_connections': 7}, 'd1.example': "
	         "{'max_outbound_connections': 2}}",
	                18},
	        {"'domains': {'/^d/': {'scope_max_outbound_connections': 13}}", 13},
	        {"'hosts': {'/^mx/': {'max_outbound_connections': 5}}", 20},
	        {"'hosts': {'/^mx/': {'scope_max_outbound_connections': 6}}", 6},
	};
	(void)state;
	for (unsigned i = 0; i < array_len(cases); i++) {
		bool own = strstr(cases[i].policy, "'bindings'");
		char *policy = mem_printf("{%s%s}", cases[i].policy,
		        own ? ""
		            : ", 'bindings': {'b0': {'bind_address': '192.0.2.1'}, 'b1': {'bind_address': "
		              "'192.0.2.2'}, "
		              "'default': {'bind_address': '192.0.2.3'}}");
		struct rig *rig = rig_new(policy);
		mem_free(&policy);
		rig->keep_log = false;
		rig_route(rig, "d0.example", "10 203.0.113.1");
		rig_route(rig, "d1.example", "10 203.0.113.2");
		rig_start(rig);
		for (unsigned n = 0; n < 4; n++)
			rig_send_many(rig, n % 2 ? "b0" : "b1", n / 2 ? "d0.example" : "d1.example", 3000);
		rig_run(rig, 3 * SECOND_US);
		assert_int_equal(rig->most_sessions, cases[i].most);
		rig_free(&rig);
	}
}

/* --- the reserve ---------------------------------------------------------------------------------------------------------- */

/* Small queues get a session at once although big ones use up the total, and no queue gets two out of the reserve. */
static void test_reserve(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'server_max_outbound_connections': 6, "
	                          "'server_reserve_outbound_connections': 3}}");
	char domain[40];
	rig->keep_log = false;
	rig_route_all(rig, "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->job_us = 20 * SECOND_US;
	rig_start(rig);
	rig_send_many(rig, "default", "big.example", 5000);
	rig_run(rig, 100000);
	assert_int_equal(rig->sessions, 6);
	for (unsigned i = 0; i < 8; i++) {
		snprintf(domain, sizeof(domain), "small%u.example", i);
		rig_send_many(rig, "default", domain, 5);
		rig_run(rig, 100000);
		assert_int_equal(rig->sessions, i < 3 ? 7 + i : 9);
	}
	/* all have their turn */
	rig_mx(rig, "203.0.113.1")->job_us = SECOND_US / 10;
	rig_run(rig, 80 * SECOND_US);
	assert_int_equal(rig->most_sessions, 9);
	char *json = rig_ask(rig, QUEUE_QUEUES, "", 0, 0, 0);
	assert_null(strstr(json, "small"));
	mem_free(&json);
	rig_free(&rig);
}

/* --- roll-up ---------------------------------------------------------------------------------------------------------------- */

static unsigned most_open(const char *rollup, const char *route_a, const char *route_b, const char *route_c)
{
	char *policy =
	        mem_printf("{'global': {'max_outbound_connections': 4, 'rollup': '%s'}, "
	                   "'domains': {'c.example': {'tls': 'required', 'max_outbound_connections': 3}}}",
	                rollup);
	struct rig *rig = rig_new(policy);
	mem_free(&policy);
	rig->keep_log = false;
	rig_route(rig, "a.example", route_a);
	rig_route(rig, "b.example", route_b);
	rig_route(rig, "c.example", route_c);
	rig_start(rig);
	rig_send_many(rig, "default", "a.example", 400);
	rig_send_many(rig, "default", "b.example", 400);
	rig_send_many(rig, "default", "c.example", 400);
	rig_run(rig, SECOND_US);
	unsigned most = rig->most_sessions;
	assert_true(rig_run_out(rig, 300 * SECOND_US));
	rig_free(&rig);
	return most;
}

static void test_rollup(void **state)
{
	(void)state;
	/* the same hosts; with one in common; only the worse ones in common; none */
	assert_int_equal(most_open("none", "10 203.0.113.1", "10 203.0.113.1", "10 203.0.113.1"), 11);
	assert_int_equal(most_open("mx", "10 203.0.113.1", "10 203.0.113.1", "10 203.0.113.1"), 4);
	assert_int_equal(most_open("address", "10 203.0.113.1", "10 203.0.113.1", "10 203.0.113.1"), 4);
	assert_in_range(most_open("mx", "10 203.0.113.1, 10 203.0.113.2", "10 203.0.113.2, 10 203.0.113.3",
	                        "10 203.0.113.2"),
	        4, 4);
	assert_int_equal(most_open("mx", "10 203.0.113.1, 20 203.0.113.9", "10 203.0.113.2, 20 203.0.113.9",
	                         "10 203.0.113.3, 20 203.0.113.9"),
	        11);
	assert_int_equal(most_open("mx", "10 203.0.113.1", "20 203.0.113.1", "10 203.0.113.3"), 7);
}

/* TLS stays as each domain has it. */
static void test_rollup_keeps_tls(void **state)
{
	(void)state;
	struct rig *rig =
	        rig_new("{'global': {'rollup': 'mx', 'max_outbound_connections': 1, 'idle_timeout': 0}, "
	                "'domains': {'a.example': {'tls': 'no'}, 'b.example': {'tls': 'required'}}}");
	rig_route_all(rig, "10 203.0.113.1");
	rig_start(rig);
	rig_send_many(rig, "default", "a.example", 1);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->tls, TLS_NO);
	rig_send_many(rig, "default", "b.example", 1);
	assert_true(rig_run_out(rig, 60 * SECOND_US));
	assert_int_equal(rig_mx(rig, "203.0.113.1")->tls, TLS_REQUIRED);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->connects, 2);
	assert_int_equal(rig->most_sessions, 1);
	rig_free(&rig);
}

static void test_told(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'rollup': 'mx', 'max_outbound_connections': 1}}");
	rig_route_all(rig, "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->job_us = 10 * SECOND_US;
	rig_start(rig);
	rig_send_many(rig, "default", "a.example", 1);
	rig_run(rig, SECOND_US);
	rig_send_many(rig, "default", "b.example", 1);
	rig_run(rig, SECOND_US);
	char *json = rig_ask(rig, QUEUE_QUEUES, "", 0, 0, 0);
	assert_non_null(strstr(
	        json, "waiting for max_outbound_connections of all that share mx-203.0.113.1 (rollup)"));
	mem_free(&json);
	rig_free(&rig);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_random_reloads),
        cmocka_unit_test(test_each_is_reached),
        cmocka_unit_test(test_reserve),
        cmocka_unit_test(test_rollup),
        cmocka_unit_test(test_rollup_keeps_tls),
        cmocka_unit_test(test_told),
};

TEST_MAIN("queue_leases", tests)
