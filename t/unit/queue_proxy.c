/*
 * Bindings behind an egress proxy: their addresses need not be here; a proxy that is down holds what needs it, at no cost
 * to MX hosts, to other bindings, or to mail that did not meet it.
 */
#include "queue/change.h"
#include "t/lib/queue_rig.h"
#include "t/lib/test.h"

/* far: lives elsewhere, behind a proxy but for one domain; near: the same MX hosts without */
#define POLICY                                                                                               \
	"{'bindings': {'far': {'bind_address': ['198.51.100.1', '2001:db8:f::1'], 'egress_proxy': "          \
	"'socks5://10.0.0.1:1080', 'domains': {'direct.example': {'egress_proxy': null}}}, 'near': "         \
	"{'bind_address': '192.0.2.30'}, 'default': {'bind_address': '192.0.2.10'}}}"

static struct rig *begin(enum mx_mode mode)
{
	struct rig *rig = rig_new(POLICY);
	char domain[32];
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_route(rig, "direct.example", "10 203.0.113.9");
	for (int i = 0; i < 50; i++) {
		snprintf(domain, sizeof(domain), "d%d.example", i);
		rig_route(rig, domain, "10 203.0.113.1");
	}
	rig_mx(rig, "203.0.113.1")->mode = mode;
	rig_start(rig);
	return rig;
}

static void test_address_is_elsewhere(void **state)
{
	(void)state;
	struct rig *rig = begin(MX_OK);
	rig_send_many(rig, "far", "example.com", 3);
	assert_true(rig_run_out(rig, 10 * SECOND_US));
	assert_int_equal(rig_count(rig, "source_down"), 0);
	assert_string_equal(rig_event(rig, "delivery", 0)->source, "198.51.100.1");
	rig_send(rig, "far", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US / 2);
	char *json = rig_ask(rig, QUEUE_CONNECTIONS, "", 0, 0, 0);
	assert_non_null(strstr(json, "\"proxy\":\"10.0.0.1:1080\""));
	mem_free(&json);
	/* without the proxy, the same address is missed */
	rig_send_many(rig, "far", "direct.example", 1);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "source_down"), 1);
	assert_int_equal(rig_mx(rig, "203.0.113.9")->connects, 0);
	rig_send_many(rig, "far", "example.com", 3);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 7);
	rig_free(&rig);
}

static void test_down_and_up(void **state)
{
	(void)state;
	struct rig *rig = begin(MX_NO_PROXY);
	uint64_t first = rig_send(rig, "far", "a@acme.example", "x@example.com"), second;
	char domain[32];
	rig_run(rig, SECOND_US / 10);
	second = rig_send(rig, "far", "a@acme.example", "x@example.com");
	for (int i = 0; i < 50; i++) {
		snprintf(domain, sizeof(domain), "d%d.example", i);
		rig_send_many(rig, "far", domain, 2);
	}
	rig_run(rig, 20 * SECOND_US);
	assert_int_equal(rig_count(rig, "source_down"), 1);
	assert_string_equal(rig_event(rig, "source_down", 0)->binding, "far");
	assert_string_equal(rig_event(rig, "source_down", 0)->source, "198.51.100.1");
	assert_string_equal(rig_event(rig, "source_down", 0)->reason, "egress proxy is down");
	assert_int_equal(rig_count(rig, "deferral"), 1); /* the others wait for nothing of their own */
	assert_int_equal(rig_count_for(rig, "deferral", first), 1);
	assert_string_equal(rig_event(rig, "deferral", 0)->enhanced, "4.3.5");
	assert_int_equal(rig_mx(rig, "203.0.113.1")->connects, 1);
	char *json = rig_ask(rig, QUEUE_MESSAGE, "", second, 0, 0);
	if (!strstr(json, "source_down: egress proxy is down"))
		fail_msg("%s", json);
	mem_free(&json);
	json = rig_ask(rig, QUEUE_BINDINGS, "far", 0, 0, 10);
	assert_non_null(strstr(json, "\"state\":\"source_down\""));
	mem_free(&json);
	/* one tries every half minute, for all */
	rig_run(rig, 280 * SECOND_US);
	assert_in_range(rig_mx(rig, "203.0.113.1")->connects, 9, 12);
	assert_in_range(rig_count(rig, "deferral"), 9, 12);
	assert_int_equal(rig_count(rig, "source_down"), 1);
	assert_int_equal(rig_count(rig, "source_up"), 0);
	/* another binding has no part in it: the MX host's health is not in question */
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	rig_send_many(rig, "near", "example.com", 1);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 1);
	rig_run(rig, 40 * SECOND_US);
	assert_int_equal(rig_count(rig, "source_up"), 1);
	assert_true(rig_count(rig, "delivery") > 85); /* all but those that were told to wait */
	assert_true(rig_run_out(rig, 1300 * SECOND_US));
	assert_int_equal(rig_count(rig, "delivery"), 103);
	rig_free(&rig);
}

static void flushed(struct mail *mail)
{
	struct queue_change *c = container_of(mail, struct queue_change, reply);
	*(bool *)c->ctx = true;
}

static void flush_all(struct rig *rig)
{
	bool done = false;
	struct queue_change c = {.kind = QUEUE_FLUSH,
	        .select.all = true,
	        .queue = rig->queue,
	        .who = "tester",
	        .reply_loop = rig->loop,
	        .reply.take = flushed,
	        .ctx = &done};
	queue_change(&c);
	while (!done)
		rig_run(rig, 1000);
	str_free(&c.json);
}

/* flush tries at once. */
static void test_flush(void **state)
{
	(void)state;
	struct rig *rig = begin(MX_NO_PROXY);
	rig_send_many(rig, "far", "example.com", 2);
	rig_run(rig, SECOND_US);
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	flush_all(rig);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "source_up"), 1);
	assert_int_equal(rig_count(rig, "delivery"), 2);
	rig_free(&rig);
}

/* It works again, and the MX host behind it does not: then it is the host's turn to be left alone. */
static void test_host_behind_it_fails(void **state)
{
	(void)state;
	struct rig *rig = begin(MX_NO_PROXY);
	rig_send_many(rig, "far", "example.com", 2);
	rig_run(rig, 10 * SECOND_US);
	rig_mx(rig, "203.0.113.1")->mode = MX_REFUSE;
	rig_run(rig, 30 * SECOND_US);
	assert_int_equal(rig_count(rig, "source_up"), 1);
	assert_int_equal(rig_count(rig, "deferral"), 2);
	assert_string_equal(rig_event(rig, "deferral", 1)->enhanced, "4.4.1");
	rig_free(&rig);
}

/* The one that waited at the head of the line has gone: the next one tries. */
static void test_line_goes_on(void **state)
{
	(void)state;
	struct rig *rig = begin(MX_NO_PROXY);
	rig_send_many(rig, "far", "example.com", 1);
	rig_run(rig, SECOND_US);
	rig_send_many(rig, "far", "d1.example", 1);
	rig_run(rig, SECOND_US);
	rig_send_many(rig, "far", "d2.example", 1);
	rig_run(rig, SECOND_US);
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	rig_reload(rig,
	        "{'domains': {'d1.example': {'suspend_delivery': true}}, 'bindings': {'far': "
	        "{'bind_address': "
	        "['198.51.100.1', '2001:db8:f::1'], 'egress_proxy': 'socks5://10.0.0.1:1080'}, 'default': "
	        "{'bind_address': '192.0.2.10'}}}");
	rig_run(rig, 35 * SECOND_US);
	assert_int_equal(rig_count(rig, "source_up"), 1);
	assert_int_equal(rig_count(rig, "delivery"), 1);
	rig_free(&rig);
}

static void test_expires(void **state)
{
	(void)state;
	struct rig *rig = rig_new(
	        "{'global': {'message_expiration': '1h', 'retry_interval': '10h'}, 'bindings': {'far': "
	        "{'bind_address': '198.51.100.1', 'egress_proxy': 'proxy://10.0.0.1:1080'}, 'default': "
	        "{'bind_address': '192.0.2.10'}}}");
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_route(rig, "127.0.0.1:25", "0 127.0.0.1");
	rig_mx(rig, "203.0.113.1")->mode = MX_NO_PROXY;
	rig_start(rig);
	rig_send_many(rig, "far", "example.com", 200);
	rig_run(rig, 3700 * SECOND_US);
	assert_int_equal(rig_open(rig), 0);
	assert_int_equal(rig_count(rig, "expiration"), 200);
	assert_int_equal(rig_mx(rig, "127.0.0.1")->jobs, 200); /* DSNs go without the proxy */
	rig_free(&rig);
}

/* A group's mail goes to a member whose proxy works. */
static void test_group(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'bindings': {'default': {'bind_address': '192.0.2.10'}}, "
	                          "'binding_groups': {'g': {'bindings': {'one': "
	                          "{'bind_address': '198.51.100.1', 'egress_proxy': "
	                          "'proxy://10.0.0.1:1080'}, 'two': {'bind_address': "
	                          "'192.0.2.31'}}}}}");
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_start(rig);
	rig_send_many(rig, "group:g", "example.com", 40);
	assert_true(rig_run_out(rig, 10 * SECOND_US));
	unsigned by_one = 0;
	for (unsigned i = 0; i < 40; i++)
		by_one += strcmp(rig_event(rig, "delivery", i)->source, "198.51.100.1") == 0;
	assert_in_range(by_one, 8, 32);
	rig_free(&rig);
}

/* Where all members are behind it, their mail waits for it; nobody else need come for it to be tried again. */
static void test_group_of_one(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'bindings': {'default': {'bind_address': '192.0.2.10'}}, "
	                          "'binding_groups': {'g': {'bindings': {'one': "
	                          "{'bind_address': '198.51.100.1', 'egress_proxy': "
	                          "'socks5://10.0.0.1:1080'}}}}}");
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->mode = MX_NO_PROXY;
	rig_start(rig);
	rig_send_many(rig, "group:g", "example.com", 40);
	rig_run(rig, 5 * SECOND_US);
	assert_int_equal(rig_count(rig, "source_down"), 1);
	rig_run(rig, 300 * SECOND_US);
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	assert_true(rig_run_out(rig, 3600 * SECOND_US));
	assert_int_equal(rig_count(rig, "delivery"), 40);
	assert_int_equal(rig_count(rig, "source_up"), 1);
	rig_free(&rig);
}

static void test_group_flush(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'bindings': {'default': {'bind_address': '192.0.2.10'}}, "
	                          "'binding_groups': {'g': {'bindings': {'one': "
	                          "{'bind_address': '198.51.100.1', 'egress_proxy': "
	                          "'socks5://10.0.0.1:1080'}}}}}");
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->mode = MX_NO_PROXY;
	rig_start(rig);
	rig_send_many(rig, "group:g", "example.com", 5);
	rig_run(rig, 5 * SECOND_US);
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	flush_all(rig);
	rig_run(rig, 10 * SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 5);
	rig_free(&rig);
}

/* Mail that a member's proxy was tried with, and what came meanwhile, goes to the other member as well. */
static void test_group_goes_round_it(void **state)
{
	(void)state;
	struct rig *rig = rig_new("{'bindings': {'default': {'bind_address': '192.0.2.10'}}, "
	                          "'binding_groups': {'g': {'bindings': {'one': "
	                          "{'bind_address': '198.51.100.1', 'egress_proxy': "
	                          "'socks5://10.0.0.1:1080'}, 'two': {'bind_address': "
	                          "'192.0.2.31'}}}}}");
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->mode = MX_NO_PROXY;
	rig_mx(rig, "203.0.113.1")->connect_us = SECOND_US;
	rig_start(rig);
	for (unsigned i = 0; i < 300; i++) {
		rig_send_many(rig, "group:g", "example.com", 4);
		rig_run(rig, SECOND_US);
	}
	assert_true(rig_run_out(rig, 3600 * SECOND_US));
	assert_int_equal(rig_count(rig, "delivery"), 1200);
	assert_int_equal(rig_count(rig, "source_down"), 1);
	assert_int_equal(rig_count(rig, "source_up"), 0);
	rig_free(&rig);
}

/* What a binding does not use any more does not keep it down. */
static void test_another_after_reload(void **state)
{
	(void)state;
	struct rig *rig = begin(MX_NO_PROXY);
	rig_send_many(rig, "far", "example.com", 5);
	rig_run(rig, 5 * SECOND_US);
	assert_int_equal(rig_count(rig, "source_down"), 1);
	rig_reload(rig, POLICY); /* the same: nothing is known of it */
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "source_up"), 0);
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	rig_reload(rig,
	        "{'bindings': {'far': {'bind_address': ['198.51.100.1', '2001:db8:f::1'], 'egress_proxy': "
	        "'socks5://10.0.0.2:1080'}, 'default': {'bind_address': '192.0.2.10'}}}");
	assert_true(rig_run_out(rig, 3600 * SECOND_US));
	char *json = rig_ask(rig, QUEUE_BINDINGS, "far", 0, 0, 10);
	assert_non_null(strstr(json, "\"state\":\"normal\""));
	mem_free(&json);
	assert_int_equal(rig_count(rig, "source_up"), 1);
	rig_free(&rig);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_address_is_elsewhere),
        cmocka_unit_test(test_down_and_up),
        cmocka_unit_test(test_flush),
        cmocka_unit_test(test_host_behind_it_fails),
        cmocka_unit_test(test_line_goes_on),
        cmocka_unit_test(test_expires),
        cmocka_unit_test(test_group),
        cmocka_unit_test(test_group_of_one),
        cmocka_unit_test(test_group_flush),
        cmocka_unit_test(test_group_goes_round_it),
        cmocka_unit_test(test_another_after_reload),
};

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("queue_proxy", tests, NULL, NULL);
}
