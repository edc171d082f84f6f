/* Limits: how much goes at once, in each scope and in total; whose turn it is. */
#include "t/lib/queue_rig.h"
#include "t/lib/test.h"

static struct rig_source *source(struct rig *rig, const char *ip)
{
	for (unsigned i = 0; i < rig->n_sources; i++) {
		if (strcmp(rig->sources[i].ip, ip) == 0)
			return &rig->sources[i];
	}
	fail_msg("no session from %s", ip);
	return NULL;
}

static void test_limit_is_reached_and_not_passed(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'max_outbound_connections': 3}}");
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_start(rig);
	rig_send_many(rig, "default", "example.com", 100);
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
		rig_send_many(rig, "a", domain, 200);
		rig_send_many(rig, "b", domain, 200);
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
	rig_send_many(rig, "default", "a.example", 300);
	rig_send_many(rig, "default", "b.example", 300);
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
	rig_send_many(rig, "default", "example.com", 500);
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
	rig_send_many(rig, "default", "example.com", 100);
	rig_send_many(rig, "default", "example.net", 1);
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
	rig_send_many(rig, "default", "wanadoo.fr", 200);
	rig_send_many(rig, "acme", "orange.fr", 200);
	rig_send_many(rig, "acme", "wanadoo.fr", 200);
	rig_send_many(rig, "acme", "example.com", 200);
	rig_send_many(rig, "acme", "shared.example", 100);
	rig_send_many(rig, "default", "shared.example", 100);
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
			rig_send_many(rig, binding, domain, 1);
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
	rig_send_many(rig, "default", "big.example", 100000);
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
		rig_send_many(rig, "default", domain, 1000);
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
	rig_send_many(rig, "default", "example.com", 20000);
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
	rig_send_many(rig, "default", "example.com", 20000);
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
	rig_send_many(rig, "default", "example.com", 1);
	rig_run(rig, 2 * SECOND_US);
	rig_send_many(rig, "default", "example.com", 1);
	rig_run(rig, 2 * SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 1);
	rig_hold_commits(rig, false);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 2);
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
	rig_send_many(rig, "default", "example.com", 20000);
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
        cmocka_unit_test(test_pair_limit_lowered),
};

TEST_MAIN("queue_limits", tests)
