/* MX hosts and their health, source addresses: where mail may go and from where. */
#include "t/lib/queue_rig.h"
#include "t/lib/test.h"

/* --- MX hosts ---------------------------------------------------------------------------------------------------------- */

static void test_fail_over_in_order(void **state)
{
	(void)state;
	struct rig *rig = rig_new(RIG_TWO_BINDINGS);
	rig_route(rig, "example.com", "10 203.0.113.1, 20 203.0.113.2, 30 203.0.113.3");
	rig_mx(rig, "203.0.113.1")->mode = MX_REFUSE;
	rig_mx(rig, "203.0.113.2")->mode = MX_BANNER;
	rig_start(rig);
	rig_send_many(rig, "acme", "example.com", 1);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 1);
	assert_int_equal(rig_count(rig, "deferral"), 0);
	assert_string_equal(rig_event(rig, "delivery", 0)->mx, "mx-203.0.113.3");
	assert_int_equal(rig_mx(rig, "203.0.113.1")->connects, 1);
	assert_int_equal(rig_mx(rig, "203.0.113.2")->connects, 1);
	/* failed hosts are left alone for host_failure_retry */
	rig_run(rig, 60 * SECOND_US);
	rig_send_many(rig, "acme", "example.com", 1);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->connects, 1);
	/* and then asked again, in their order */
	rig_run(rig, 60 * SECOND_US);
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	rig_send_many(rig, "acme", "example.com", 1);
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
	rig_send_many(rig, "default", "example.com", 100);
	assert_true(rig_run_out(rig, 10 * SECOND_US));
	assert_in_range(rig_routes_asked(rig, "example.com"), 1, 5);
	rig_free(&rig);
}

static void test_health_is_per_binding(void **state)
{
	(void)state;
	struct rig *rig = rig_new(RIG_TWO_BINDINGS);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->mode = MX_REFUSE;
	rig_start(rig);
	rig_send_many(rig, "acme", "example.com", 1);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "deferral"), 1);
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	rig_send_many(rig, "other", "example.com", 1);
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
	rig_send_many(rig, "default", "example.com", 1000);
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
	struct rig *rig = rig_new(RIG_TWO_BINDINGS);
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
	struct rig *rig = rig_new(RIG_TWO_BINDINGS);
	rig->keep_log = false;
	rig_route(rig, "dead.example", "10 203.0.113.1");
	rig_route(rig, "example.com", "10 203.0.113.2");
	struct rig_mx *dead = rig_mx(rig, "203.0.113.1");
	dead->mode = MX_REFUSE;
	rig_start(rig);
	rig_send_many(rig, "acme", "dead.example", 10000);
	rig_send_many(rig, "acme", "example.com", 10);
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
	rig_send_many(rig, "default", "dead.example", 3000);
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
	rig_send_many(rig, "default", "example.com", 50);
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
	rig_send_many(rig, "default", "example.com", 3);
	rig_run(rig, 5 * SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 3);
	assert_int_equal(rig_count(rig, "deferral"), 0);
	rig_mx(rig, "203.0.113.2")->mode = MX_DROP;
	rig_run(rig, 200 * SECOND_US);
	rig_send_many(rig, "default", "example.com", 3);
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
	struct rig *rig = rig_new(RIG_TWO_BINDINGS);
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
	rig_send_many(rig, "acme", "example.com", 2);
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
	struct rig *rig = rig_new(RIG_TWO_BINDINGS);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_route(rig, "127.0.0.1:25", "0 127.0.0.1");
	rig_local(rig, "192.0.2.20", false);
	rig_start(rig);
	rig_send_many(rig, "acme", "example.com", 3);
	rig_run(rig, 5 * 86400 * SECOND_US + SECOND_US);
	assert_int_equal(rig_open(rig), 0);
	assert_int_equal(rig_count(rig, "expiration"), 3);
	assert_int_equal(rig_mx(rig, "127.0.0.1")->jobs, 3);
	rig_free(&rig);
}

static void test_bind_refused(void **state)
{
	(void)state;
	struct rig *rig = rig_new(RIG_TWO_BINDINGS);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->mode = MX_NO_BIND;
	rig_start(rig);
	rig_send_many(rig, "acme", "example.com", 3);
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
	struct rig *rig = rig_new(RIG_TWO_BINDINGS);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->mode = MX_NO_BIND;
	rig_start(rig);
	rig_send_many(rig, "acme", "example.com", 3);
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
	struct rig *rig = rig_new(RIG_TWO_BINDINGS);
	rig_route(rig, "six.example", "10 2001:db8:1::1");
	rig_route(rig, "both.example", "10 2001:db8:1::1, 10 203.0.113.1");
	rig_start(rig);
	rig_send_many(rig, "acme", "six.example", 1);
	rig_run(rig, SECOND_US);
	assert_string_equal(rig_event(rig, "delivery", 0)->source, "2001:db8::2");
	rig_send_many(rig, "other", "both.example", 4);
	rig_run(rig, SECOND_US);
	for (int i = 1; i <= 4; i++)
		assert_string_equal(rig_event(rig, "delivery", i)->source, "192.0.2.30");
	rig_send_many(rig, "other", "six.example", 1);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "deferral"), 1);
	assert_int_equal(rig_count(rig, "source_down"), 0);
	rig_free(&rig);
}

/* The machine has no port to give: that is neither the host's nor the address's fault, and no busy loop. */
static void test_out_of_ports(void **state)
{
	(void)state;
	struct rig *rig = rig_new(RIG_TWO_BINDINGS);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->mode = MX_NO_PORT;
	rig_start(rig);
	rig_send_many(rig, "acme", "example.com", 30);
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

static const struct CMUnitTest tests[] = {
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
        cmocka_unit_test(test_families),
};

TEST_MAIN("queue_hosts", tests)
