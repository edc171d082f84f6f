/* Which of a route's addresses: evenly, by preference, by family; routes that many share or that expire meanwhile. */
#include "t/lib/queue_rig.h"
#include "t/lib/test.h"

#define BINDINGS                                                                                             \
	"'bindings': {'acme': {'bind_address': ['192.0.2.20', '2001:db8::2']}, 'four': {'bind_address': "    \
	"'192.0.2.30'}, 'default': {'bind_address': '192.0.2.10'}}"

static void expect_most(struct rig *rig, const char *ip, unsigned most)
{
	if (rig_mx(rig, ip)->most != most)
		fail_msg("%s: %u sessions at most, not %u", ip, rig_mx(rig, ip)->most, most);
}

/* What a failed address leaves goes to all others alike, not to its neighbour. */
static void test_even_beside_a_failed_one(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'max_outbound_connections': 12}}");
	rig_route(rig, "example.com", "10 203.0.113.1, 10 203.0.113.2, 10 203.0.113.3, 10 203.0.113.4");
	rig_mx(rig, "203.0.113.1")->mode = MX_REFUSE;
	rig_start(rig);
	rig_send_many(rig, "default", "example.com", 1000);
	assert_true(rig_run_out(rig, 60 * SECOND_US));
	expect_most(rig, "203.0.113.2", 4);
	expect_most(rig, "203.0.113.3", 4);
	expect_most(rig, "203.0.113.4", 4);
	rig_free(&rig);
}

/* The same in the next level, when the first is out as a whole. */
static void test_even_in_the_next_level(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'max_outbound_connections': 12}}");
	rig_route(rig, "example.com",
	        "10 203.0.113.1, 10 203.0.113.2, 20 203.0.113.3, 20 203.0.113.4, 30 203.0.113.5");
	rig_mx(rig, "203.0.113.1")->mode = rig_mx(rig, "203.0.113.2")->mode = MX_REFUSE;
	rig_start(rig);
	rig_send_many(rig, "default", "example.com", 1000);
	assert_true(rig_run_out(rig, 60 * SECOND_US));
	expect_most(rig, "203.0.113.3", 6);
	expect_most(rig, "203.0.113.4", 6);
	assert_int_equal(rig_mx(rig, "203.0.113.5")->connects, 0);
	rig_free(&rig);
}

static void test_even_without_a_family(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'max_outbound_connections': 12}, " BINDINGS "}");
	rig_route(rig, "example.com", "10 2001:db8:1::1, 10 203.0.113.1, 10 203.0.113.2, 10 2001:db8:1::2");
	rig_start(rig);
	rig_send_many(rig, "four", "example.com", 1000);
	assert_true(rig_run_out(rig, 60 * SECOND_US));
	expect_most(rig, "203.0.113.1", 6);
	expect_most(rig, "203.0.113.2", 6);
	assert_int_equal(rig_mx(rig, "2001:db8:1::1")->connects, 0);
	rig_free(&rig);
}

static void test_ipv6_preferred(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'max_outbound_connections': 12, 'prefer_ipv6_mxs': true}, "
	                          "'hosts': {'/::1$/': {'max_outbound_connections': 3}}, " BINDINGS "}");
	rig_route(rig, "example.com", "10 203.0.113.1, 10 2001:db8:1::1, 20 2001:db8:1::2");
	rig_start(rig);
	rig_send_many(rig, "acme", "example.com", 1);
	rig_run(rig, SECOND_US);
	assert_string_equal(rig_event(rig, "delivery", 0)->source, "2001:db8::2");
	/* its limit is passed on within the level, and no worse preference is used for the family's sake */
	rig_send_many(rig, "acme", "example.com", 1000);
	assert_true(rig_run_out(rig, 60 * SECOND_US));
	expect_most(rig, "2001:db8:1::1", 3);
	assert_int_equal(rig_mx(rig, "2001:db8:1::2")->connects, 0);
	/* nor what is down */
	rig_run(rig, 60 * SECOND_US);
	rig_mx(rig, "2001:db8:1::1")->mode = MX_REFUSE;
	unsigned before = rig_mx(rig, "203.0.113.1")->jobs;
	rig_send_many(rig, "acme", "example.com", 2);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, before + 2);
	assert_int_equal(rig_count(rig, "deferral"), 0);
	rig_free(&rig);
}

/* When the best is back it has all that is new: what is worse gets nothing while it is being found out. */
static void test_back_to_the_best(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'max_outbound_connections': 12}}");
	rig_route(rig, "example.com", "10 203.0.113.1, 20 203.0.113.2");
	rig_mx(rig, "203.0.113.1")->mode = MX_REFUSE;
	rig_start(rig);
	rig_send_many(rig, "default", "example.com", 50);
	rig_run(rig, 150 * SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.2")->jobs, 50);
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	rig_mx(rig, "203.0.113.1")->connect_us = 3 * SECOND_US;
	unsigned before = rig_mx(rig, "203.0.113.2")->connects;
	rig_send_many(rig, "default", "example.com", 500);
	assert_true(rig_run_out(rig, 60 * SECOND_US));
	assert_int_equal(rig_mx(rig, "203.0.113.2")->connects, before);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 500);
	rig_free(&rig);
}

/* If it does not answer at all, mail waits ten seconds for that, and not for connect_timeout. */
static void test_best_is_silent(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'max_outbound_connections': 12}}");
	rig_route(rig, "example.com", "10 203.0.113.1, 20 203.0.113.2");
	rig_mx(rig, "203.0.113.1")->mode = MX_REFUSE;
	rig_start(rig);
	rig_send_many(rig, "default", "example.com", 1);
	rig_run(rig, 150 * SECOND_US);
	rig_mx(rig, "203.0.113.1")->mode = MX_SILENT;
	rig_send_many(rig, "default", "example.com", 50);
	rig_run(rig, 9 * SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 1);
	rig_run(rig, 3 * SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 51);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->connects, 2);
	/* and it is asked no more until that has ended and host_failure_retry is over */
	rig_send_many(rig, "default", "example.com", 50);
	rig_run(rig, 100 * SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 101);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->connects, 2);
	assert_int_equal(rig_count(rig, "deferral"), 0);
	rig_run(rig, 300 * SECOND_US);
	rig_free(&rig);
}

/* IPv6 that leads nowhere costs the mail ten seconds, not connect_timeout, and no attempt. */
static void test_silent_family(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'global': {'prefer_ipv6_mxs': true}, " BINDINGS "}");
	rig_route(rig, "example.com", "10 2001:db8:1::1, 10 2001:db8:1::2, 10 203.0.113.1, 20 203.0.113.2");
	rig_mx(rig, "2001:db8:1::1")->mode = rig_mx(rig, "2001:db8:1::2")->mode = MX_SILENT;
	rig_start(rig);
	rig_send_many(rig, "acme", "example.com", 1);
	rig_run(rig, 9 * SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 0);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->connects, 0);
	rig_run(rig, 2 * SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 1);
	assert_int_equal(rig_event(rig, "delivery", 0)->attempt, 1);
	assert_string_equal(rig_event(rig, "delivery", 0)->source, "192.0.2.20");
	assert_int_equal(rig_mx(rig, "2001:db8:1::1")->connects + rig_mx(rig, "2001:db8:1::2")->connects, 1);
	/* as long as it is silent nothing more is tried there */
	rig_send_many(rig, "acme", "example.com", 50);
	rig_run(rig, 60 * SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 51);
	assert_int_equal(rig_mx(rig, "2001:db8:1::1")->connects + rig_mx(rig, "2001:db8:1::2")->connects, 1);
	assert_int_equal(rig_mx(rig, "203.0.113.2")->connects, 0);
	rig_run(rig, 400 * SECOND_US);
	assert_int_equal(rig_count(rig, "deferral"), 0);
	rig_free(&rig);
}

/* With one family only, or a better preference of it alone, being slow is no reason to go elsewhere. */
static void test_slow_host_is_waited_for(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{" BINDINGS "}");
	rig_route(rig, "example.com", "10 203.0.113.1, 20 2001:db8:1::1, 20 203.0.113.2");
	rig_mx(rig, "203.0.113.1")->connect_us = 60 * SECOND_US;
	rig_start(rig);
	rig_send_many(rig, "acme", "example.com", 1);
	rig_run(rig, 70 * SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 1);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->connects, 1);
	assert_int_equal(rig_mx(rig, "203.0.113.2")->connects, 0);
	assert_int_equal(rig_mx(rig, "2001:db8:1::1")->connects, 0);
	rig_free(&rig);
}

/* Regression of another system: more than 20479 domains on one MX */
static void test_one_mx_for_many_domains(void **state)
{
	enum { DOMAINS = 21000 };
	(void)state;
	struct rig *rig = rig_new("{'hosts': {'mx-203.0.113.1': {'scope_max_outbound_connections': 20}}}");
	char domain[64];
	rig->keep_log = false;
	rig_route_all(rig, "10 203.0.113.1");
	rig_start(rig);
	for (unsigned i = 0; i < DOMAINS; i++) {
		snprintf(domain, sizeof(domain), "d%u.example", i);
		rig_send_many(rig, "default", domain, 1);
	}
	assert_true(rig_run_out(rig, 3600 * SECOND_US));
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, DOMAINS);
	expect_most(rig, "203.0.113.1", 20);
	rig_free(&rig);
}

/* And another: the domain's records change and expire while a message is on its way. */
static void test_route_expires_meanwhile(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{}");
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->job_us = 400 * SECOND_US;
	rig_start(rig);
	rig_send_many(rig, "default", "example.com", 1);
	rig_run(rig, SECOND_US);
	rig_route(rig, "example.com", "10 203.0.113.2");
	rig_run(rig, 310 * SECOND_US); /* its TTL is over */
	rig_send_many(rig, "default", "example.com", 3);
	rig_run(rig, 20 * SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.2")->jobs, 3);
	rig_run(rig, 100 * SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 1);
	assert_int_equal(rig_count(rig, "delivery"), 4);
	assert_int_equal(rig_count(rig, "deferral"), 0);
	/* or cannot be had any more */
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_run(rig, 400 * SECOND_US);
	rig_send_many(rig, "default", "example.com", 1);
	rig_run(rig, SECOND_US);
	rig_route_fails(rig, "example.com", OUTCOME_TRANSIENT, "4.4.3", "SERVFAIL");
	rig_run(rig, 500 * SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 5);
	assert_int_equal(rig_count(rig, "deferral"), 0);
	rig_free(&rig);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_even_beside_a_failed_one),
        cmocka_unit_test(test_even_in_the_next_level),
        cmocka_unit_test(test_even_without_a_family),
        cmocka_unit_test(test_back_to_the_best),
        cmocka_unit_test(test_best_is_silent),
        cmocka_unit_test(test_ipv6_preferred),
        cmocka_unit_test(test_silent_family),
        cmocka_unit_test(test_slow_host_is_waited_for),
        cmocka_unit_test(test_one_mx_for_many_domains),
        cmocka_unit_test(test_route_expires_meanwhile),
};
TEST_MAIN("queue_routes", tests)
