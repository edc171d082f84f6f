/* Limits, MX hosts and their health, source addresses, suspension, groups: where mail may go and how much at once. */
#include "t/lib/queue_rig.h"
#include "t/lib/test.h"

#define TWO_BINDINGS                                                                                         \
	"{'bindings': {'acme': {'bind_address': ['192.0.2.20', '2001:db8::2']}, 'other': {'bind_address': "  \
	"'192.0.2.30'}, 'default': {'bind_address': '192.0.2.10'}}}"

static void send_many(struct rig *rig, const char *target, const char *domain, unsigned n)
{
	char to[100];
	snprintf(to, sizeof(to), "x@%s", domain);
	for (unsigned i = 0; i < n; i++)
		rig_send(rig, target, "a@acme.example", to);
}

static struct rig_source *source(struct rig *rig, const char *ip)
{
	for (unsigned i = 0; i < rig->n_sources; i++) {
		if (strcmp(rig->sources[i].ip, ip) == 0)
			return &rig->sources[i];
	}
	fail_msg("no session from %s", ip);
	return NULL;
}

/* --- limits ----------------------------------------------------------------------------------------------------------- */

static void test_limit_is_reached_and_not_passed(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'max_outbound_connections': 3}}");
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_start(rig);
	send_many(rig, "default", "example.com", 100);
	assert_true(rig_run_out(rig, 60 * SECOND_US));
	assert_int_equal(rig_mx(rig, "203.0.113.1")->most, 3);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 100);
	rig_free(&rig);
}

static void test_binding_and_server_totals(void **state)
{
	(void)state;
	struct rig *rig =
	        rig_new("{'global': {'server_max_outbound_connections': 12}, 'bindings': {"
	                "'a': {'bind_address': '192.0.2.1', 'server_max_outbound_connections': 5},"
	                "'b': {'bind_address': '192.0.2.2'}, 'default': {'bind_address': '192.0.2.3'}}}");
	char domain[40];
	rig->keep_log = false;
	for (int i = 0; i < 10; i++) {
		snprintf(domain, sizeof(domain), "d%d.example", i);
		rig_route(rig, domain, "10 203.0.113.1");
	}
	rig_start(rig);
	for (int i = 0; i < 10; i++) {
		snprintf(domain, sizeof(domain), "d%d.example", i);
		send_many(rig, "a", domain, 200);
		send_many(rig, "b", domain, 200);
	}
	assert_true(rig_run_out(rig, 600 * SECOND_US));
	assert_int_equal(rig->most_sessions, 12);
	assert_int_equal(source(rig, "192.0.2.1")->most, 5);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 4000);
	rig_free(&rig);
}

/* Two queues of one binding to one next hop: together no more than the larger of the two. */
static void test_pair(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'gateway': 'gw.example'}, 'domains': {"
	                          "'a.example': {'max_outbound_connections': 4}, "
	                          "'b.example': {'max_outbound_connections': 6}}}");
	rig_route(rig, "gw.example", "10 203.0.113.1");
	rig_start(rig);
	send_many(rig, "default", "a.example", 300);
	send_many(rig, "default", "b.example", 300);
	assert_true(rig_run_out(rig, 60 * SECOND_US));
	assert_int_equal(rig_mx(rig, "203.0.113.1")->most, 6);
	rig_free(&rig);
}

static void test_host_limit_yields_to_sibling(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'max_outbound_connections': 10}, "
	                          "'hosts': {'mx-203.0.113.1': {'max_outbound_connections': 2}, "
	                          "'mx-203.0.113.2': {'max_outbound_connections': 3}}}");
	rig_route(rig, "example.com", "10 203.0.113.1, 10 203.0.113.2, 20 203.0.113.3");
	rig_start(rig);
	send_many(rig, "default", "example.com", 500);
	assert_true(rig_run_out(rig, 60 * SECOND_US));
	assert_int_equal(rig_mx(rig, "203.0.113.1")->most, 2);
	assert_int_equal(rig_mx(rig, "203.0.113.2")->most, 3);
	assert_int_equal(rig_mx(rig, "203.0.113.3")->most, 5);
	assert_int_equal(rig_count(rig, "deferral"), 0);
	rig_free(&rig);
}

/* All hosts at their limit: the queue waits for a release and the mail is none the worse. */
static void test_saturated_costs_no_retry(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'hosts': {'mx-203.0.113.1': {'max_outbound_connections': 1}}}");
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_route(rig, "example.net", "10 203.0.113.1");
	rig_start(rig);
	send_many(rig, "default", "example.com", 100);
	send_many(rig, "default", "example.net", 1);
	assert_true(rig_run_out(rig, 60 * SECOND_US));
	assert_int_equal(rig_mx(rig, "203.0.113.1")->most, 1);
	assert_int_equal(rig_count(rig, "deferral"), 0);
	rig_free(&rig);
}

/* A combined limit counts all bindings and, with a pattern, all domains it matches as one; others are left alone. */
static void test_scope_limits(void **state)
{
	(void)state;
	struct rig *rig =
	        rig_new("{'bindings': {'default': {'bind_address': '192.0.2.1'}, 'acme': {'bind_address': "
	                "'192.0.2.2'}}, "
	                "'domains': {'/^(wanadoo|orange)[.]fr$/': {'scope_max_outbound_connections': 3}}, "
	                "'hosts': {'mx-203.0.113.4': {'scope_max_outbound_connections': 2}}}");
	rig_route(rig, "wanadoo.fr", "10 203.0.113.1");
	rig_route(rig, "orange.fr", "10 203.0.113.1");
	rig_route(rig, "example.com", "10 203.0.113.2");
	rig_route(rig, "shared.example", "10 203.0.113.4");
	rig_start(rig);
	send_many(rig, "default", "wanadoo.fr", 200);
	send_many(rig, "acme", "orange.fr", 200);
	send_many(rig, "acme", "wanadoo.fr", 200);
	send_many(rig, "acme", "example.com", 200);
	send_many(rig, "acme", "shared.example", 100);
	send_many(rig, "default", "shared.example", 100);
	assert_true(rig_run_out(rig, 600 * SECOND_US));
	assert_int_equal(rig_mx(rig, "203.0.113.1")->most, 3);
	assert_in_range(rig_mx(rig, "203.0.113.2")->most, 20, 32);
	assert_int_equal(rig_mx(rig, "203.0.113.4")->most, 2);
	assert_int_equal(rig_count(rig, "delivery"), 1000);
	assert_int_equal(rig_count(rig, "deferral"), 0);
	rig_free(&rig);
}

/* Random limits and loads: none is ever passed, all mail arrives. */
static void test_random_limits(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 30; round++) {
		struct fake_rnd rnd;
		fake_rnd_init(&rnd, round);
		unsigned server = 1 + (unsigned)rnd_below(&rnd.rnd, 30), total[3], pair[3],
		         host = 1 + round % 5;
		struct str policy;
		str_init(&policy);
		str_printf(
		        &policy, "{'global': {'server_max_outbound_connections': %u}, 'bindings': {", server);
		for (int i = 0; i < 3; i++) {
			total[i] = 1 + (unsigned)rnd_below(&rnd.rnd, 20);
			pair[i] = 1 + (unsigned)rnd_below(&rnd.rnd, 8);
			str_printf(&policy,
			        "'b%d': {'bind_address': '192.0.2.%d', 'server_max_outbound_connections': "
			        "%u, "
			        "'max_outbound_connections': %u},",
			        i, i + 1, total[i], pair[i]);
		}
		str_printf(&policy,
		        "'default': {'bind_address': '192.0.2.9'}}, "
		        "'hosts': {'mx-203.0.113.1': {'max_outbound_connections': %u}}}",
		        host);
		struct rig *rig = rig_new(policy.data);
		str_free(&policy);
		rig->keep_log = false;
		char domain[40], binding[8];
		for (int i = 0; i < 6; i++) {
			snprintf(domain, sizeof(domain), "d%d.example", i);
			rig_route(rig, domain, i % 2 ? "10 203.0.113.1, 10 203.0.113.2" : "10 203.0.113.3");
		}
		rig_mx(rig, "203.0.113.3")->drop_after = round % 7;
		rig_start(rig);
		for (int i = 0; i < 600; i++) {
			snprintf(domain, sizeof(domain), "d%u.example", (unsigned)rnd_below(&rnd.rnd, 6));
			snprintf(binding, sizeof(binding), "b%u", (unsigned)rnd_below(&rnd.rnd, 3));
			send_many(rig, binding, domain, 1);
			if (i % 50 == 0)
				rig_run(rig, 20000);
		}
		assert_true(rig_run_out(rig, 4000 * SECOND_US));
		assert_in_range(rig->most_sessions, 1, server);
		for (unsigned i = 0; i < rig->n_sources; i++) {
			unsigned b = (unsigned)atoi(rig->sources[i].ip + strlen("192.0.2.")) - 1;
			assert_in_range(rig->sources[i].most, 1, total[b]);
		}
		assert_in_range(rig_mx(rig, "203.0.113.1")->most, 0, 3 * host);
		assert_in_range(rig_mx(rig, "203.0.113.3")->most, 1, 3 * (pair[0] + pair[1] + pair[2]));
		rig_free(&rig);
	}
}

/* One MX host of very many domains: each gets its turn at its few connections, which go from domain to domain. */
static void test_many_domains_one_mx(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'hosts': {'mx-203.0.113.1': {'max_outbound_connections': 5}}}");
	char recipient[40];
	const unsigned n = 25000;
	rig->keep_log = false;
	rig_route_all(rig, "10 203.0.113.1");
	rig_start(rig);
	for (unsigned i = 0; i < n; i++) {
		snprintf(recipient, sizeof(recipient), "x@d%u.example", i);
		rig_send(rig, "default", "a@acme.example", recipient);
	}
	assert_true(rig_run_out(rig, 4000 * SECOND_US));
	assert_int_equal(rig_mx(rig, "203.0.113.1")->most, 5);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, n);
	assert_in_range(rig_mx(rig, "203.0.113.1")->connects, 5, n / 5);
	rig_free(&rig);
}

/* One message waits no longer because a hundred thousand wait for another next hop. */
static void test_fair_turns(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'server_max_outbound_connections': 4}}");
	rig->keep_log = false;
	rig_route(rig, "big.example", "10 203.0.113.1");
	rig_route(rig, "small.example", "10 203.0.113.2");
	rig_start(rig);
	send_many(rig, "default", "big.example", 100000);
	rig_run(rig, 5 * SECOND_US);
	assert_int_equal(rig->sessions, 4);
	uint64_t id = rig_send(rig, "default", "a@acme.example", "x@small.example");
	rig_run(rig, SECOND_US / 2);
	assert_true(rig_delivery(rig, id, 0)->done);
	rig_free(&rig);
}

static void test_many_queues_share(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'server_max_outbound_connections': 5}}");
	char domain[40];
	rig->keep_log = false;
	for (int i = 0; i < 50; i++) {
		snprintf(domain, sizeof(domain), "d%d.example", i);
		rig_route(rig, domain, "10 203.0.113.1");
	}
	rig_start(rig);
	for (int i = 0; i < 50; i++) {
		snprintf(domain, sizeof(domain), "d%d.example", i);
		send_many(rig, "default", domain, 1000);
	}
	/* 5 sessions x 100 jobs a second: by now each queue must have had about a share's worth of jobs */
	rig_run(rig, 10 * SECOND_US);
	char *json = rig_ask(rig, QUEUE_QUEUES, "", 0, 0, 0);
	unsigned least = 1000, most = 0;
	for (const char *p = json; (p = strstr(p, "\"active\":")); p++) {
		unsigned active = (unsigned)atoi(p + strlen("\"active\":"));
		least = active < least ? active : least;
		most = active > most ? active : most;
	}
	assert_true(most < 1000 - 40);
	assert_true(most - least <= 40);
	mem_free(&json);
	rig_free(&rig);
}

static void test_limit_lowered_by_reload(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'server_max_outbound_connections': 20}}");
	rig->keep_log = false;
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_start(rig);
	send_many(rig, "default", "example.com", 20000);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig->sessions, 20);
	rig_reload(rig, "{'global': {'server_max_outbound_connections': 2}}");
	rig_run(rig, 2 * SECOND_US);
	assert_int_equal(rig->sessions, 2);
	rig_reload(rig, "{'global': {'server_max_outbound_connections': 30}}");
	rig_run(rig, SECOND_US);
	assert_int_equal(rig->sessions, 30);
	rig_free(&rig);
}

/* Results that are not durable hold new jobs back. */
static void test_uncommitted_bound(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'max_outbound_connections': 10}}");
	rig->keep_log = false;
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->job_us = 1000;
	rig_start(rig);
	rig_hold_commits(rig, true);
	send_many(rig, "default", "example.com", 20000);
	rig_run(rig, 900 * 1000);
	assert_in_range(rig_mx(rig, "203.0.113.1")->jobs, 900, 1020);
	unsigned jobs = rig_mx(rig, "203.0.113.1")->jobs;
	rig_run(rig, 30 * SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, jobs);
	rig_hold_commits(rig, false);
	assert_true(rig_run_out(rig, 60 * SECOND_US));
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 20000);
	rig_free(&rig);
}

static void test_uncommitted_for_a_second(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{}");
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_start(rig);
	rig_hold_commits(rig, true);
	send_many(rig, "default", "example.com", 1);
	rig_run(rig, 2 * SECOND_US);
	send_many(rig, "default", "example.com", 1);
	rig_run(rig, 2 * SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 1);
	rig_hold_commits(rig, false);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 2);
	rig_free(&rig);
}

/* --- MX hosts ---------------------------------------------------------------------------------------------------------- */

static void test_fail_over_in_order(void **state)
{
	(void)state;
	struct rig *rig = rig_new(TWO_BINDINGS);
	rig_route(rig, "example.com", "10 203.0.113.1, 20 203.0.113.2, 30 203.0.113.3");
	rig_mx(rig, "203.0.113.1")->mode = MX_REFUSE;
	rig_mx(rig, "203.0.113.2")->mode = MX_BANNER;
	rig_start(rig);
	send_many(rig, "acme", "example.com", 1);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 1);
	assert_int_equal(rig_count(rig, "deferral"), 0);
	assert_string_equal(rig_event(rig, "delivery", 0)->mx, "mx-203.0.113.3");
	assert_int_equal(rig_mx(rig, "203.0.113.1")->connects, 1);
	assert_int_equal(rig_mx(rig, "203.0.113.2")->connects, 1);
	/* failed hosts are left alone for host_failure_retry */
	rig_run(rig, 60 * SECOND_US);
	send_many(rig, "acme", "example.com", 1);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->connects, 1);
	/* and then asked again, in their order */
	rig_run(rig, 60 * SECOND_US);
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	send_many(rig, "acme", "example.com", 1);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 1);
	rig_free(&rig);
}

static void test_route_that_has_expired_when_it_comes(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{}");
	rig_route(rig, "example.com", "ttl=0 10 203.0.113.1");
	rig_start(rig);
	send_many(rig, "default", "example.com", 100);
	assert_true(rig_run_out(rig, 10 * SECOND_US));
	assert_in_range(rig_routes_asked(rig, "example.com"), 1, 5);
	rig_free(&rig);
}

static void test_health_is_per_binding(void **state)
{
	(void)state;
	struct rig *rig = rig_new(TWO_BINDINGS);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->mode = MX_REFUSE;
	rig_start(rig);
	send_many(rig, "acme", "example.com", 1);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "deferral"), 1);
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	send_many(rig, "other", "example.com", 1);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 1);
	assert_string_equal(rig_event(rig, "delivery", 0)->binding, "other");
	rig_free(&rig);
}

static void test_equal_preference_takes_turns(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'max_outbound_connections': 12}}");
	rig_route(rig, "example.com", "10 203.0.113.1, 10 203.0.113.2, 10 203.0.113.3, 20 203.0.113.4");
	rig_start(rig);
	send_many(rig, "default", "example.com", 1000);
	assert_true(rig_run_out(rig, 60 * SECOND_US));
	for (int i = 1; i <= 3; i++) {
		char ip[32];
		snprintf(ip, sizeof(ip), "203.0.113.%d", i);
		assert_int_equal(rig_mx(rig, ip)->most, 4);
	}
	assert_int_equal(rig_mx(rig, "203.0.113.4")->connects, 0);
	rig_free(&rig);
}

static void test_all_failed_is_a_deferral(void **state)
{
	(void)state;
	struct rig *rig = rig_new(TWO_BINDINGS);
	rig_route(rig, "example.com", "10 203.0.113.1, 20 203.0.113.2");
	rig_mx(rig, "203.0.113.1")->mode = MX_BANNER;
	rig_mx(rig, "203.0.113.2")->mode = MX_REFUSE;
	rig_start(rig);
	uint64_t id = rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, 10 * SECOND_US);
	assert_int_equal(rig_count(rig, "deferral"), 1);
	assert_string_equal(rig_event(rig, "deferral", 0)->state, "connect");
	assert_string_equal(rig_event(rig, "deferral", 0)->mx, "mx-203.0.113.2");
	assert_int_equal(rig_delivery(rig, id, 0)->attempts, 1);
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	rig_run(rig, 1300 * SECOND_US);
	assert_true(rig_delivery(rig, id, 0)->done);
	rig_free(&rig);
}

/* A dead destination costs a handful of connections, whatever waits for it; and nothing is lost. */
static void test_dead_destination_is_cheap(void **state)
{
	(void)state;
	struct rig *rig = rig_new(TWO_BINDINGS);
	rig->keep_log = false;
	rig_route(rig, "dead.example", "10 203.0.113.1");
	rig_route(rig, "example.com", "10 203.0.113.2");
	struct rig_mx *dead = rig_mx(rig, "203.0.113.1");
	dead->mode = MX_REFUSE;
	rig_start(rig);
	send_many(rig, "acme", "dead.example", 10000);
	send_many(rig, "acme", "example.com", 10);
	rig_run(rig, 3600 * SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.2")->jobs, 10);
	assert_in_range(dead->connects, 5, 40);
	dead->mode = MX_OK;
	dead->job_us = 1000;
	assert_true(rig_run_out(rig, 7 * 3600 * SECOND_US));
	assert_int_equal(dead->jobs, 10000);
	rig_free(&rig);
}

static void test_dead_destination_expires(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'message_expiration': '4h'}}");
	rig->keep_log = false;
	rig_route(rig, "dead.example", "10 203.0.113.1");
	rig_route(rig, "127.0.0.1:25", "0 127.0.0.1");
	rig_mx(rig, "203.0.113.1")->mode = MX_REFUSE;
	rig_start(rig);
	send_many(rig, "default", "dead.example", 3000);
	rig_run(rig, 4 * 3600 * SECOND_US + 200 * SECOND_US);
	assert_int_equal(rig_open(rig), 0);
	assert_int_equal(rig_mx(rig, "127.0.0.1")->jobs, 3000);
	rig_free(&rig);
}

/* A session that dies in the middle costs the next message nothing and the host no blame once it has worked. */
static void test_lost_connections_cost_nothing(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'max_outbound_connections': 2}}");
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->drop_after = 3;
	rig_start(rig);
	send_many(rig, "default", "example.com", 50);
	assert_true(rig_run_out(rig, 60 * SECOND_US));
	assert_int_equal(rig_count(rig, "deferral"), 0);
	assert_int_equal(rig_count(rig, "delivery"), 50);
	rig_free(&rig);
}

static void test_host_that_always_drops(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{}");
	rig_route(rig, "example.com", "10 203.0.113.1, 20 203.0.113.2");
	rig_mx(rig, "203.0.113.1")->mode = MX_DROP;
	rig_start(rig);
	send_many(rig, "default", "example.com", 3);
	rig_run(rig, 5 * SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 3);
	assert_int_equal(rig_count(rig, "deferral"), 0);
	rig_mx(rig, "203.0.113.2")->mode = MX_DROP;
	rig_run(rig, 200 * SECOND_US);
	send_many(rig, "default", "example.com", 3);
	rig_run(rig, 600 * SECOND_US);
	assert_true(rig_count(rig, "deferral") >= 1);
	assert_in_range(rig_mx(rig, "203.0.113.2")->connects, 1, 30);
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	assert_true(rig_run_out(rig, 3600 * SECOND_US));
	rig_free(&rig);
}

/* --- source addresses ------------------------------------------------------------------------------------------------------ */

static void test_source_down_and_up(void **state)
{
	(void)state;
	struct rig *rig = rig_new(TWO_BINDINGS);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_route(rig, "example.net", "10 203.0.113.1");
	rig_local(rig, "192.0.2.20", false);
	rig_start(rig);
	uint64_t first = rig_send(rig, "acme", "a@acme.example", "x@example.com");
	for (int i = 0; i < 5; i++)
		rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, 600 * SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->connects, 0);
	assert_int_equal(rig_count(rig, "source_down"), 1);
	assert_string_equal(rig_event(rig, "source_down", 0)->source, "192.0.2.20");
	assert_int_equal(rig_count(rig, "deferral"), 1);
	assert_int_equal(rig_count_for(rig, "deferral", first), 1);
	assert_string_equal(rig_event(rig, "deferral", 0)->enhanced, "4.3.5");
	char *json = rig_ask(rig, QUEUE_SUMMARY, "", 0, 0, 0);
	assert_non_null(strstr(json, "\"held\":5"));
	mem_free(&json);
	rig_local(rig, "192.0.2.20", true);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "source_up"), 1);
	assert_int_equal(
	        rig_mx(rig, "203.0.113.1")->jobs, 6); /* the first, too: it does not wait for its retry */
	assert_true(rig_run_out(rig, 10 * SECOND_US));
	rig_free(&rig);
}

/* A reload may name another address that is not here: the operator hears of that one, too. */
static void test_source_down_after_reload(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'bindings': {'acme': {'bind_address': '198.51.100.1'}, 'default': "
	                          "{'bind_address': '192.0.2.1'}}}");
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_start(rig);
	send_many(rig, "acme", "example.com", 2);
	rig_run(rig, SECOND_US);
	rig_reload(rig, "{'bindings': {'acme': {'bind_address': '198.51.100.2'}, 'default': {'bind_address': "
	                "'192.0.2.1'}}}");
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "source_down"), 2);
	assert_string_equal(rig_event(rig, "source_down", 1)->source, "198.51.100.2");
	rig_reload(rig, "{'bindings': {'acme': {'bind_address': '192.0.2.5'}, 'default': {'bind_address': "
	                "'192.0.2.1'}}}");
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "source_up"), 1);
	assert_string_equal(rig_event(rig, "delivery", 0)->source, "192.0.2.5");
	assert_true(rig_run_out(rig, 1300 * SECOND_US));
	rig_free(&rig);
}

static void test_source_down_expires(void **state)
{
	(void)state;
	struct rig *rig = rig_new(TWO_BINDINGS);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_route(rig, "127.0.0.1:25", "0 127.0.0.1");
	rig_local(rig, "192.0.2.20", false);
	rig_start(rig);
	send_many(rig, "acme", "example.com", 3);
	rig_run(rig, 5 * 86400 * SECOND_US + SECOND_US);
	assert_int_equal(rig_open(rig), 0);
	assert_int_equal(rig_count(rig, "expiration"), 3);
	assert_int_equal(rig_mx(rig, "127.0.0.1")->jobs, 3);
	rig_free(&rig);
}

static void test_bind_refused(void **state)
{
	(void)state;
	struct rig *rig = rig_new(TWO_BINDINGS);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->mode = MX_NO_BIND;
	rig_start(rig);
	send_many(rig, "acme", "example.com", 3);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "source_down"), 1);
	assert_int_equal(rig_count(rig, "deferral"), 1);
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	rig_run(rig, 100 * SECOND_US);
	assert_int_equal(rig_count(rig, "source_up"), 1);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 2);
	rig_free(&rig);
}

/* Mail came between the address's going and the news of it: bind was refused, and then it is known why. */
static void test_bind_refused_as_it_goes(void **state)
{
	(void)state;
	struct rig *rig = rig_new(TWO_BINDINGS);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->mode = MX_NO_BIND;
	rig_start(rig);
	send_many(rig, "acme", "example.com", 3);
	rig_run(rig, SECOND_US / 10);
	assert_int_equal(rig_count(rig, "source_down"), 1);
	rig_local(rig, "192.0.2.20", false);
	rig_run(rig, SECOND_US);
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	rig_local(rig, "192.0.2.20", true);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "source_down"), 1);
	assert_int_equal(rig_count(rig, "source_up"), 1);
	assert_int_equal(rig_count(rig, "deferral"), 1);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 3); /* the one that met it, too */
	rig_free(&rig);
}

static void test_families(void **state)
{
	(void)state;
	struct rig *rig = rig_new(TWO_BINDINGS);
	rig_route(rig, "six.example", "10 2001:db8:1::1");
	rig_route(rig, "both.example", "10 2001:db8:1::1, 10 203.0.113.1");
	rig_start(rig);
	send_many(rig, "acme", "six.example", 1);
	rig_run(rig, SECOND_US);
	assert_string_equal(rig_event(rig, "delivery", 0)->source, "2001:db8::2");
	send_many(rig, "other", "both.example", 4);
	rig_run(rig, SECOND_US);
	for (int i = 1; i <= 4; i++)
		assert_string_equal(rig_event(rig, "delivery", i)->source, "192.0.2.30");
	send_many(rig, "other", "six.example", 1);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "deferral"), 1);
	assert_int_equal(rig_count(rig, "source_down"), 0);
	rig_free(&rig);
}

/* The machine has no port to give: that is neither the host's nor the address's fault, and no busy loop. */
static void test_out_of_ports(void **state)
{
	(void)state;
	struct rig *rig = rig_new(TWO_BINDINGS);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->mode = MX_NO_PORT;
	rig_start(rig);
	send_many(rig, "acme", "example.com", 30);
	rig_run(rig, 60 * SECOND_US);
	assert_in_range(rig_mx(rig, "203.0.113.1")->connects, 5, 40);
	assert_int_equal(rig_count(rig, "source_down"), 0);
	assert_in_range(rig_count(rig, "deferral"), 1, 10);
	assert_string_equal(rig_event(rig, "deferral", 0)->enhanced, "4.3.0");
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	rig_run(rig, 15 * SECOND_US);
	assert_true(rig_mx(rig, "203.0.113.1")->jobs >= 20);
	rig_free(&rig);
}

/* A lowered max_outbound_connections makes a new queue; both together stay within the old bound, then the new one. */
static void test_pair_limit_lowered(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'max_outbound_connections': 12}}");
	rig->keep_log = false;
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_start(rig);
	send_many(rig, "default", "example.com", 20000);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig->sessions, 12);
	rig_reload(rig, "{'global': {'max_outbound_connections': 4}}");
	rig_run(rig, 10 * SECOND_US);
	assert_int_equal(rig->most_sessions, 12);
	assert_int_equal(rig->sessions, 4);
	rig_reload(rig, "{'global': {'max_outbound_connections': 8}}");
	rig_run(rig, 10 * SECOND_US);
	assert_int_equal(rig->sessions, 8);
	rig_free(&rig);
}

/* --- suspension, reload, groups ------------------------------------------------------------------------------------------------ */

static void test_suspended_and_resumed(void **state)
{
	(void)state;
	struct rig *rig = rig_new(
	        "{'bindings': {'acme': {'bind_address': '192.0.2.20', 'domains': "
	        "{'example.com': {'suspend_delivery': true}}}, 'default': {'bind_address': '192.0.2.1'}}}");
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_route(rig, "example.net", "10 203.0.113.1");
	rig_start(rig);
	send_many(rig, "acme", "example.com", 3);
	send_many(rig, "acme", "example.net", 2);
	rig_run(rig, 60 * SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 2);
	char *json = rig_ask(rig, QUEUE_SUMMARY, "", 0, 0, 0);
	assert_non_null(strstr(json, "\"held\":3"));
	mem_free(&json);
	rig_reload(rig, TWO_BINDINGS);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 5);
	assert_int_equal(rig_count(rig, "deferral"), 0);
	rig_free(&rig);
}

static void test_default_binding_suspended(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'default_binding': 'suspended'}}");
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_start(rig);
	send_many(rig, "default", "example.com", 3);
	rig_run(rig, 60 * SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->connects, 0);
	rig_reload(rig, "{}");
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 3);
	rig_free(&rig);
}

/* After a reload no job goes out from the old address, whatever was open. */
static void test_reload_changes_source(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'bindings': {'acme': {'bind_address': '192.0.2.20'}, 'default': "
	                          "{'bind_address': '192.0.2.1'}}}");
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_start(rig);
	send_many(rig, "acme", "example.com", 400);
	rig_run(rig, SECOND_US / 4);
	rig_reload(rig, "{'bindings': {'acme': {'bind_address': '192.0.2.21'}, 'default': {'bind_address': "
	                "'192.0.2.1'}}}");
	rig_run(rig, 11 * 1000); /* running jobs end */
	unsigned old = 0;
	for (unsigned i = 0; i < rig->n_log; i++)
		old += strcmp(rig->log[i].type, "delivery") == 0;
	rig_run(rig, 20 * SECOND_US);
	assert_int_equal(rig_open(rig), 0);
	for (unsigned i = 0, n = 0; i < rig->n_log; i++) {
		if (strcmp(rig->log[i].type, "delivery") == 0 && n++ >= old + 32)
			assert_string_equal(rig->log[i].source, "192.0.2.21");
	}
	rig_free(&rig);
}

#define WITHOUT_OTHER                                                                                        \
	"{'bindings': {'acme': {'bind_address': '192.0.2.20'}, 'default': {'bind_address': '192.0.2.1'}}}"

/* What the error says when it may not: the binding's name and the command that helps. */
static bool may_drop(struct rig *rig, const char *next_json, const char *named)
{
	struct errors errors = {0};
	struct policy *next = rig_policy(next_json);
	bool may = queue_may_drop(rig->queue, next, &errors);
	policy_unref(&next);
	assert_int_equal(errors.n_errors, may ? 0 : 1);
	if (!may && named) {
		char *command = mem_printf("bindpost drain %s --to", named);
		assert_non_null(strstr(errors.items[0].text, command));
		mem_free(&command);
	}
	errors_free(&errors);
	return may;
}

/* Between "take" and "drop" what goes works on as it was; mail that came meanwhile stops the drop. */
static void test_taken_but_not_dropped(void **state)
{
	(void)state;
	struct rig *rig = rig_new(TWO_BINDINGS);
	struct errors errors = {0};
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_start(rig);
	assert_true(may_drop(rig, WITHOUT_OTHER, NULL));
	queue_take(rig->queue, rig_policy(WITHOUT_OTHER));
	rig_send(rig, "other", "a@b.example", "x@example.com");
	rig_run(rig, 20 * SECOND_US); /* also its connection ends */
	assert_string_equal(rig_event(rig, "delivery", 0)->source, "192.0.2.30");
	assert_true(queue_may_drop(rig->queue, NULL, &errors));
	rig_mx(rig, "203.0.113.1")->mode = MX_REFUSE;
	rig_send(rig, "other", "a@b.example", "y@example.com");
	rig_run(rig, 20 * SECOND_US);
	assert_false(queue_may_drop(rig->queue, NULL, &errors));
	assert_int_equal(errors.n_errors, 1);
	errors_free(&errors);
	queue_drop(rig->queue); /* forced */
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	rig_run(rig, 7200 * SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 1);
	rig_free(&rig);
}

/* More reloads without the last step than are kept: the oldest and the newest are. */
static void test_taken_again_and_again(void **state)
{
	(void)state;
	struct rig *rig = rig_new(TWO_BINDINGS);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_start(rig);
	for (unsigned i = 0; i < 2 * POLICY_KEPT_MAX; i++) {
		char *json = mem_printf("{'bindings': {'b%u': {'bind_address': '192.0.2.%u'}, 'default': "
		                        "{'bind_address': '192.0.2.1'}}}",
		        i, i % 2 ? 20 : 21);
		queue_take(rig->queue, rig_policy(json));
		mem_free(&json);
	}
	rig_send(rig, "other", "a@b.example", "x@example.com");
	rig_send(rig, "b6", "a@b.example", "x@example.com");
	rig_send(rig, "b1", "a@b.example", "x@example.com");
	rig_run(rig, 20 * SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 2);
	queue_drop(rig->queue);
	rig_run(rig, SECOND_US);
	rig_free(&rig);
}

/* A group that goes, and the member its mail is with. */
static void test_removed_group(void **state)
{
	(void)state;
	static const char gone[] = "{'bindings': {'default': {'bind_address': '192.0.2.1'}}}";
	static const char to_default[] =
	        "{'global': {'removed_bindings': 'default'}, 'bindings': {'default': "
	        "{'bind_address': '192.0.2.1'}}}";
	struct rig *rig =
	        rig_new("{'binding_groups': {'pool': {'bindings': {'p1': {'bind_address': "
	                "'192.0.2.31'}}}}, 'bindings': {'default': {'bind_address': '192.0.2.1'}}}");
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->mode = MX_REFUSE;
	rig_start(rig);
	rig_send(rig, "group:pool", "a@b.example", "x@example.com");
	rig_run(rig, SECOND_US);
	assert_false(may_drop(rig, gone, NULL));
	queue_take(rig->queue, rig_policy(gone));
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	rig_send(rig, "group:pool", "a@b.example", "y@example.com");
	rig_run(rig, 1300 * SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 2);
	assert_string_equal(rig_event(rig, "delivery", 1)->source, "192.0.2.31");
	rig_run(rig, 20 * SECOND_US);
	rig_mx(rig, "203.0.113.1")->mode = MX_REFUSE;
	rig_send(rig, "group:pool", "a@b.example", "z@example.com");
	rig_run(rig, SECOND_US);
	rig_reload(rig, gone);
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	rig_run(rig, 7200 * SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 2);
	rig_reload(rig, to_default);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 3);
	assert_string_equal(rig_event(rig, "delivery", 2)->source, "192.0.2.1");
	rig_free(&rig);
}

static void test_removed_binding_is_held(void **state)
{
	(void)state;
	struct rig *rig = rig_new(TWO_BINDINGS);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->mode = MX_REFUSE;
	rig_start(rig);
	send_many(rig, "other", "example.com", 3);
	rig_run(rig, SECOND_US);
	assert_false(may_drop(rig, WITHOUT_OTHER, "other"));
	assert_true(may_drop(rig, TWO_BINDINGS, NULL));
	rig_reload(rig, "{'bindings': {'acme': {'bind_address': '192.0.2.20'}, 'default': {'bind_address': "
	                "'192.0.2.1'}}}");
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	rig_run(rig, 7200 * SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 0);
	rig_restart(rig);
	rig_run(rig, 7200 * SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 0);
	rig_reload(rig, TWO_BINDINGS); /* it is back */
	rig_run(rig, 2 * SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 3);
	assert_string_equal(rig_event(rig, "delivery", 0)->source, "192.0.2.30");
	rig_free(&rig);
}

static void test_removed_binding_to_default(void **state)
{
	(void)state;
	struct rig *rig = rig_new(TWO_BINDINGS);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->mode = MX_REFUSE;
	rig_start(rig);
	uint64_t id = rig_send(rig, "other", "a@b.example", "x@example.com");
	rig_run(rig, SECOND_US);
	rig_reload(rig, "{'global': {'removed_bindings': 'default'}, 'bindings': {'acme': {'bind_address': "
	                "'192.0.2.20'}, 'default': {'bind_address': '192.0.2.1'}}}");
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	rig_run(rig, 1300 * SECOND_US);
	assert_true(rig_delivery(rig, id, 0)->done);
	assert_string_equal(rig_delivery(rig, id, 0)->binding, "default");
	assert_string_equal(rig_event(rig, "delivery", 0)->source, "192.0.2.1");
	assert_int_equal(rig_count(rig, "rebind"), 1);
	rig_free(&rig);
}

#define GROUP(extra)                                                                                         \
	"{'binding_groups': {'pool': {'bindings': {'p1': {'bind_address': '192.0.2.31'" extra                \
	"}, 'p2': {'bind_address': '192.0.2.32'}, 'p3': {'bind_address': '192.0.2.33'}}}}, "                 \
	"'bindings': {'default': {'bind_address': '192.0.2.1'}}}"

static void test_group_members_share(void **state)
{
	(void)state;
	struct rig *rig = rig_new(GROUP(""));
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_start(rig);
	for (int i = 0; i < 300; i++)
		rig_send(rig, "group:pool", "a@b.example", "x@example.com");
	assert_true(rig_run_out(rig, 60 * SECOND_US));
	unsigned n[4] = {0};
	for (unsigned i = 0; i < rig->n_log; i++) {
		const struct rig_event *e = &rig->log[i];
		if (strcmp(e->type, "delivery") != 0)
			continue;
		assert_non_null(strstr(e->line, "\"group\":\"pool\""));
		assert_int_equal(e->binding[1] - '0' + 30, atoi(e->source + strlen("192.0.2.")));
		n[e->binding[1] - '0']++;
	}
	for (int i = 1; i <= 3; i++)
		assert_in_range(n[i], 60, 140);
	rig_free(&rig);
}

static void test_group_member_unusable(void **state)
{
	(void)state;
	struct rig *rig = rig_new(GROUP(""));
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_local(rig, "192.0.2.31", false);
	rig_start(rig);
	for (int i = 0; i < 100; i++)
		rig_send(rig, "group:pool", "a@b.example", "x@example.com");
	assert_true(rig_run_out(rig, 60 * SECOND_US));
	for (unsigned i = 0; i < rig->n_log; i++)
		assert_string_not_equal(rig->log[i].source, "192.0.2.31");
	/* all gone: the mail waits, and goes when one is back */
	rig_local(rig, "192.0.2.32", false);
	rig_local(rig, "192.0.2.33", false);
	rig_run(rig, 10 * SECOND_US);
	for (int i = 0; i < 10; i++)
		rig_send(rig, "group:pool", "a@b.example", "x@example.com");
	rig_run(rig, 60 * SECOND_US);
	assert_int_equal(rig_open(rig), 10);
	rig_local(rig, "192.0.2.32", true);
	rig_run(rig, 60 * SECOND_US);
	assert_int_equal(rig_open(rig), 0);
	rig_free(&rig);
}

/* The member is the same after a restart, and for all attempts; when it becomes unusable that is recorded. */
static void test_group_member_is_kept(void **state)
{
	(void)state;
	struct rig *rig = rig_new(GROUP(""));
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->mode = MX_BANNER;
	rig_start(rig);
	uint64_t ids[30];
	for (int i = 0; i < 30; i++)
		ids[i] = rig_send(rig, "group:pool", "a@b.example", "x@example.com");
	rig_run(rig, SECOND_US);
	rig_restart(rig);
	rig_run(rig, 7200 * SECOND_US);
	for (int i = 0; i < 30; i++) {
		const char *binding = NULL;
		assert_true(rig_count_for(rig, "deferral", ids[i]) >= 2);
		for (unsigned j = 0; j < rig->n_log; j++) {
			const struct rig_event *e = &rig->log[j];
			if (e->id != ids[i] || strcmp(e->type, "deferral") != 0)
				continue;
			if (binding)
				assert_string_equal(e->binding, binding);
			binding = e->binding;
		}
		assert_int_equal(rig_delivery(rig, ids[i], 0)->moves, 0);
	}
	rig_reload(rig, GROUP(", 'suspend_delivery': true"));
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	assert_true(rig_run_out(rig, 86400 * SECOND_US));
	unsigned moved = 0;
	for (int i = 0; i < 30; i++)
		moved += rig_delivery(rig, ids[i], 0)->moves == 1;
	assert_in_range(moved, 3, 20);
	rig_free(&rig);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limit_is_reached_and_not_passed),
        cmocka_unit_test(test_binding_and_server_totals),
        cmocka_unit_test(test_pair),
        cmocka_unit_test(test_host_limit_yields_to_sibling),
        cmocka_unit_test(test_saturated_costs_no_retry),
        cmocka_unit_test(test_scope_limits),
        cmocka_unit_test(test_random_limits),
        cmocka_unit_test(test_many_domains_one_mx),
        cmocka_unit_test(test_fair_turns),
        cmocka_unit_test(test_many_queues_share),
        cmocka_unit_test(test_limit_lowered_by_reload),
        cmocka_unit_test(test_uncommitted_bound),
        cmocka_unit_test(test_uncommitted_for_a_second),
        cmocka_unit_test(test_fail_over_in_order),
        cmocka_unit_test(test_health_is_per_binding),
        cmocka_unit_test(test_route_that_has_expired_when_it_comes),
        cmocka_unit_test(test_equal_preference_takes_turns),
        cmocka_unit_test(test_all_failed_is_a_deferral),
        cmocka_unit_test(test_dead_destination_is_cheap),
        cmocka_unit_test(test_dead_destination_expires),
        cmocka_unit_test(test_lost_connections_cost_nothing),
        cmocka_unit_test(test_host_that_always_drops),
        cmocka_unit_test(test_source_down_and_up),
        cmocka_unit_test(test_source_down_expires),
        cmocka_unit_test(test_source_down_after_reload),
        cmocka_unit_test(test_bind_refused),
        cmocka_unit_test(test_bind_refused_as_it_goes),
        cmocka_unit_test(test_out_of_ports),
        cmocka_unit_test(test_pair_limit_lowered),
        cmocka_unit_test(test_families),
        cmocka_unit_test(test_suspended_and_resumed),
        cmocka_unit_test(test_default_binding_suspended),
        cmocka_unit_test(test_reload_changes_source),
        cmocka_unit_test(test_taken_but_not_dropped),
        cmocka_unit_test(test_taken_again_and_again),
        cmocka_unit_test(test_removed_group),
        cmocka_unit_test(test_removed_binding_is_held),
        cmocka_unit_test(test_removed_binding_to_default),
        cmocka_unit_test(test_group_members_share),
        cmocka_unit_test(test_group_member_unusable),
        cmocka_unit_test(test_group_member_is_kept),
};

TEST_MAIN("queue_limits", tests)
