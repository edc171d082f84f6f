/* The way of mail through the queue: delivered, deferred, given up, reported. */
#include "t/lib/queue_rig.h"
#include "t/lib/test.h"

#define TWO_BINDINGS                                                                                         \
	"{'bindings': {'acme': {'bind_address': ['192.0.2.20', '2001:db8::2']}, 'other': {'bind_address': "  \
	"'192.0.2.30'}, 'default': {'bind_address': '192.0.2.10'}}}"
#define MINUTE_US (60 * SECOND_US)

static struct rig *ready_rig(const char *policy)
{
	struct rig *rig = rig_new(policy);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_route(rig, "127.0.0.1:25", "0 127.0.0.1");
	rig_start(rig);
	return rig;
}

static void says(
        struct rig_mx *mx, enum outcome_class class, int code, const char *enhanced, struct outcome *o)
{
	outcome_own(o, class, STATE_RCPT, code, enhanced, "%s", mx->text ? mx->text : "as told");
	o->ours = false;
}

static void says_later(struct rig_mx *mx, struct session_job *job, uint32_t i, struct outcome *o)
{
	(void)job;
	(void)i;
	says(mx, OUTCOME_TRANSIENT, 451, "4.7.1", o);
}

static void says_no(struct rig_mx *mx, struct session_job *job, uint32_t i, struct outcome *o)
{
	(void)job;
	(void)i;
	says(mx, OUTCOME_PERMANENT, 550, "5.1.1", o);
}

static void says_nothing_after_dot(struct rig_mx *mx, struct session_job *job, uint32_t i, struct outcome *o)
{
	(void)job;
	(void)i;
	says(mx, OUTCOME_UNCERTAIN, 0, "4.4.2", o);
	o->state = STATE_DOT;
}

static void test_delivered(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(TWO_BINDINGS);
	uint64_t id = rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US);
	assert_true(rig_delivery(rig, id, 0)->done);
	assert_int_equal(rig_count(rig, "reception"), 1);
	assert_int_equal(rig_count(rig, "delivery"), 1);
	const struct rig_event *e = rig_event(rig, "delivery", 0);
	assert_string_equal(e->binding, "acme");
	assert_string_equal(e->source, "192.0.2.20");
	assert_string_equal(e->recipient, "x@example.com");
	assert_string_equal(e->mx, "mx-203.0.113.1");
	assert_int_equal(e->attempt, 1);
	rig_free(&rig);
}

static void test_retry_times(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(TWO_BINDINGS);
	rig_mx(rig, "203.0.113.1")->says = says_later;
	uint64_t id = rig_send(rig, "acme", "a@acme.example", "x@example.com");
	uint64_t last = rig->clock.mono, wait_s = 1200;
	rig_run(rig, SECOND_US);
	for (int i = 1; i <= 8; i++) {
		assert_int_equal(rig_count(rig, "deferral"), i);
		assert_int_equal(rig_delivery(rig, id, 0)->attempts, i);
		assert_string_equal(rig_delivery(rig, id, 0)->last_reply, "as told");
		while ((int)rig_count(rig, "deferral") == i)
			rig_run(rig, SECOND_US);
		uint64_t took = rig->clock.mono - last;
		assert_in_range(took, wait_s * SECOND_US * 8 / 10, (wait_s + 3) * SECOND_US);
		last = rig->clock.mono;
		wait_s = wait_s * 2 < 43200 ? wait_s * 2 : 43200;
	}
	assert_int_equal(rig_event(rig, "deferral", 7)->attempt, 8);
	rig_mx(rig, "203.0.113.1")->says = NULL;
	rig_run(rig, 43300 * SECOND_US);
	assert_true(rig_delivery(rig, id, 0)->done);
	rig_free(&rig);
}

static void test_bounce_and_dsn(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(TWO_BINDINGS);
	rig_mx(rig, "203.0.113.1")->says = says_no;
	uint64_t id = rig_send(rig, "acme", "a@acme.example", "x@example.com y@example.com");
	rig_run(rig, SECOND_US);
	assert_true(rig_delivery(rig, id, 0)->done);
	assert_int_equal(rig_count(rig, "bounce"), 2);
	assert_int_equal(rig_count(rig, "dsn"), 1);
	assert_non_null(strstr(rig_dsn(rig), "x@example.com"));
	assert_non_null(strstr(rig_dsn(rig), "y@example.com"));
	assert_non_null(strstr(rig_dsn(rig), "Subject: original"));
	assert_non_null(strstr(rig_dsn(rig), "5.1.1"));
	assert_int_equal(rig_mx(rig, "127.0.0.1")->jobs, 1);
	assert_int_equal(rig_open(rig), 0);
	rig_free(&rig);
}

static void test_no_dsn_to_null(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(TWO_BINDINGS);
	rig_mx(rig, "203.0.113.1")->says = says_no;
	uint64_t id = rig_send(rig, "acme", "", "x@example.com");
	rig_run(rig, SECOND_US);
	assert_true(rig_delivery(rig, id, 0)->done);
	assert_int_equal(rig_count(rig, "bounce"), 1);
	assert_int_equal(rig_count(rig, "dsn"), 0);
	assert_null(rig_dsn(rig));
	rig_free(&rig);
}

static void test_dsn_refused_ends(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(TWO_BINDINGS);
	rig_mx(rig, "203.0.113.1")->says = says_no;
	rig_mx(rig, "127.0.0.1")->says = says_no;
	rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, 10 * SECOND_US);
	assert_int_equal(rig_open(rig), 0);
	assert_int_equal(rig_count(rig, "dsn"), 1);
	rig_free(&rig);
}

static void test_generate_bounces_off(void **state)
{
	(void)state;
	struct rig *rig = ready_rig("{'global': {'generate_bounces': false}}");
	rig_mx(rig, "203.0.113.1")->says = says_no;
	rig_send(rig, "default", "a@acme.example", "x@example.com");
	rig_run(rig, 10 * SECOND_US);
	assert_int_equal(rig_open(rig), 0);
	assert_int_equal(rig_count(rig, "bounce"), 1);
	assert_int_equal(rig_count(rig, "dsn"), 0);
	rig_free(&rig);
}

static void test_dsn_waits_for_space(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(TWO_BINDINGS);
	rig_mx(rig, "203.0.113.1")->says = says_no;
	rig_no_space(rig, true);
	uint64_t id = rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, 300 * SECOND_US);
	assert_false(rig_delivery(rig, id, 0)->done);
	rig_no_space(rig, false);
	rig_run(rig, 100 * SECOND_US);
	assert_true(rig_delivery(rig, id, 0)->done);
	assert_int_equal(rig_count(rig, "bounce"), 1);
	assert_int_equal(rig_count(rig, "dsn"), 1);
	rig_free(&rig);
}

static void test_expiry(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(TWO_BINDINGS);
	rig_mx(rig, "203.0.113.1")->says = says_later;
	rig_mx(rig, "203.0.113.1")->text = "please come back";
	uint64_t id = rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, 5 * 86400 * SECOND_US - 10 * SECOND_US);
	assert_false(rig_delivery(rig, id, 0)->done);
	assert_int_equal(rig_count(rig, "expiration"), 0);
	rig_run(rig, 20 * SECOND_US);
	assert_true(rig_delivery(rig, id, 0)->done);
	assert_int_equal(rig_count(rig, "expiration"), 1);
	assert_string_equal(rig_event(rig, "expiration", 0)->enhanced, "5.4.7");
	assert_int_equal(rig_count(rig, "dsn"), 1);
	assert_non_null(strstr(rig_dsn(rig), "5.4.7"));
	assert_non_null(strstr(rig_dsn(rig), "please come back"));
	rig_free(&rig);
}

static void test_max_retries(void **state)
{
	(void)state;
	struct rig *rig =
	        ready_rig("{'global': {'max_retries': 3, 'retry_interval': 10, 'max_retry_interval': 10}}");
	rig_mx(rig, "203.0.113.1")->says = says_later;
	rig_send(rig, "default", "a@acme.example", "x@example.com");
	rig_run(rig, 100 * SECOND_US);
	assert_int_equal(rig_open(rig), 0);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 4);
	assert_int_equal(rig_count(rig, "expiration"), 1);
	rig_free(&rig);
}

/* Recipient number i by the digit its address begins with: 2, 4 or 5. */
static void says_by_digit(struct rig_mx *mx, struct session_job *job, uint32_t i, struct outcome *o)
{
	if (job->recipients[i][0] == '4')
		says_later(mx, job, i, o);
	else if (job->recipients[i][0] == '5')
		says_no(mx, job, i, o);
}

static void test_each_recipient_has_its_own_result(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(TWO_BINDINGS);
	struct rig_mx *mx = rig_mx(rig, "203.0.113.1");
	mx->says = says_by_digit;
	uint64_t id = rig_send(
	        rig, "acme", "a@acme.example", "2a@example.com 4b@example.com 5c@example.com 4d@example.com");
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 2); /* one is the DSN's */
	assert_int_equal(rig_count_for(rig, "delivery", id), 1);
	assert_int_equal(rig_count_for(rig, "deferral", id), 2);
	assert_int_equal(rig_count_for(rig, "bounce", id), 1);
	assert_int_equal(rig_count(rig, "dsn"), 1);
	assert_int_equal(rig_delivery(rig, id, 0)->n_open, 2);
	mx->says = NULL;
	mx->recipients = 0;
	rig_run(rig, 1300 * SECOND_US);
	assert_true(rig_delivery(rig, id, 0)->done);
	assert_int_equal(mx->recipients, 2);
	assert_int_equal(rig_count_for(rig, "delivery", id), 3);
	rig_free(&rig);
}

static void test_batches(void **state)
{
	(void)state;
	struct rig *rig = ready_rig("{'global': {'max_recipients_per_batch': 10}}");
	struct str to;
	str_init(&to);
	for (int i = 0; i < 35; i++)
		str_printf(&to, "%dr%d@example.com ", i % 7 == 0 ? 4 : 2, i);
	rig_mx(rig, "203.0.113.1")->says = says_by_digit;
	uint64_t id = rig_send(rig, "default", "a@acme.example", to.data);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 4);
	assert_int_equal(rig_count_for(rig, "delivery", id), 30);
	assert_int_equal(rig_count_for(rig, "deferral", id), 5);
	assert_int_equal(rig_delivery(rig, id, 0)->attempts, 1);
	assert_int_equal(rig_delivery(rig, id, 0)->n_open, 5);
	rig_mx(rig, "203.0.113.1")->says = NULL;
	rig_run(rig, 1300 * SECOND_US);
	assert_true(rig_delivery(rig, id, 0)->done);
	assert_int_equal(rig_count_for(rig, "delivery", id), 35);
	str_free(&to);
	rig_free(&rig);
}

static void test_uncertain_is_retried(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(TWO_BINDINGS);
	rig_mx(rig, "203.0.113.1")->says = says_nothing_after_dot;
	uint64_t id = rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "uncertain"), 1);
	assert_int_equal(rig_count(rig, "deferral"), 0);
	rig_mx(rig, "203.0.113.1")->says = NULL;
	rig_run(rig, 1300 * SECOND_US);
	assert_true(rig_delivery(rig, id, 0)->done);
	rig_free(&rig);
}

static void test_restart_keeps_times(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(TWO_BINDINGS);
	struct rig_mx *mx = rig_mx(rig, "203.0.113.1");
	mx->says = says_later;
	uint64_t id = rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US);
	rig_restart(rig);
	rig_run(rig, 900 * SECOND_US);
	assert_int_equal(rig_count(rig, "deferral"), 1);
	rig_run(rig, 400 * SECOND_US);
	assert_int_equal(rig_count(rig, "deferral"), 2);
	assert_int_equal(rig_event(rig, "deferral", 1)->attempt, 2);
	assert_int_equal(rig_delivery(rig, id, 0)->attempts, 2);
	rig_free(&rig);
}

static void test_clock_set_back(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(TWO_BINDINGS);
	struct rig_mx *mx = rig_mx(rig, "203.0.113.1");
	mx->says = says_later;
	rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US);
	rig->clock.wall -= 30 * 86400 * SECOND_US;
	rig_run(rig, 1300 * SECOND_US); /* intervals are not the wall clock's */
	assert_int_equal(rig_count(rig, "deferral"), 2);
	rig->clock.wall -= 30 * 86400 * SECOND_US;
	rig_restart(rig);
	rig_run(rig, 43300 * SECOND_US); /* max_retry_interval */
	assert_true(rig_count(rig, "deferral") >= 3);
	rig_free(&rig);
}

static void test_route_permanent(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(TWO_BINDINGS);
	rig_route_fails(rig, "no.example", OUTCOME_PERMANENT, "5.1.2", "no such domain");
	for (int i = 0; i < 5; i++)
		rig_send(rig, "acme", "a@acme.example", "x@no.example");
	rig_run(rig, 2 * SECOND_US);
	assert_int_equal(rig_count(rig, "bounce"), 5);
	assert_string_equal(rig_event(rig, "bounce", 0)->state, "resolve");
	assert_string_equal(rig_event(rig, "bounce", 0)->enhanced, "5.1.2");
	assert_int_equal(rig_count(rig, "dsn"), 5);
	assert_int_equal(rig_open(rig), 0);
	assert_true(rig_routes_asked(rig, "no.example") <= 2);
	rig_free(&rig);
}

static void test_route_transient(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(TWO_BINDINGS);
	rig_route_fails(rig, "slow.example", OUTCOME_TRANSIENT, "4.4.3", "no answer");
	for (int i = 0; i < 5; i++)
		rig_send(rig, "acme", "a@acme.example", "x@slow.example");
	rig_run(rig, 2 * SECOND_US);
	assert_int_equal(rig_count(rig, "deferral"), 5);
	assert_string_equal(rig_event(rig, "deferral", 0)->state, "resolve");
	rig_route(rig, "slow.example", "10 203.0.113.1");
	rig_run(rig, 1300 * SECOND_US);
	assert_int_equal(rig_open(rig), 0);
	rig_free(&rig);
}

/* A gateway is the operator's word. */
static void test_gateway_is_never_permanent(void **state)
{
	(void)state;
	struct rig *rig = ready_rig("{'domains': {'local.example': {'gateway': 'gw.example'}}}");
	rig_route_fails(rig, "gw.example", OUTCOME_PERMANENT, "5.1.2", "no such domain");
	rig_send(rig, "default", "a@acme.example", "x@local.example");
	rig_run(rig, 2 * SECOND_US);
	assert_int_equal(rig_count(rig, "bounce"), 0);
	assert_int_equal(rig_count(rig, "deferral"), 1);
	rig_route(rig, "gw.example", "10 203.0.113.1");
	rig_run(rig, 1300 * SECOND_US);
	assert_int_equal(rig_open(rig), 0);
	rig_free(&rig);
}

/* Domains with the same gateway and equal options are one queue; others are not. */
static void test_queues_by_next_hop_and_profile(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(
	        "{'global': {'gateway': 'gw.example'}, "
	        "'domains': {'c.example': {'connect_timeout': 7}, 'd.example': {'retry_interval': 7}}}");
	rig_route(rig, "gw.example", "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->mode = MX_SILENT;
	rig_send(rig, "default", "a@acme.example", "x@a.example");
	rig_send(rig, "default", "a@acme.example", "x@b.example");
	rig_send(rig, "default", "a@acme.example", "x@c.example");
	rig_send(rig, "default", "a@acme.example", "x@d.example");
	rig_run(rig, SECOND_US);
	char *json = rig_ask(rig, QUEUE_QUEUES, "", 0, 0, 0);
	unsigned n = 0;
	for (const char *p = json; (p = strstr(p, "gw.example")); p++)
		n++;
	assert_int_equal(n, 2);
	mem_free(&json);
	rig_free(&rig);
}

static void test_priority(void **state)
{
	(void)state;
	struct rig *rig = ready_rig("{'global': {'max_outbound_connections': 1}}");
	rig_mx(rig, "203.0.113.1")->job_us = SECOND_US;
	for (int i = 0; i < 100; i++)
		rig_send_flags(rig, "default", "a@acme.example", "news@example.com", 0, PRIORITY_LOW);
	rig_run(rig, 3 * SECOND_US);
	uint64_t id = rig_send_flags(rig, "default", "a@acme.example", "reset@example.com", 0, PRIORITY_HIGH);
	rig_run(rig, 4 * SECOND_US);
	assert_true(rig_delivery(rig, id, 0)->done);
	rig_free(&rig);
}

static void test_stop_loses_nothing(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(TWO_BINDINGS);
	rig->keep_log = false;
	rig_mx(rig, "203.0.113.1")->job_us = SECOND_US;
	for (int i = 0; i < 500; i++)
		rig_send(rig, "acme", "a@acme.example", "x@example.com");
	for (int i = 0; i < 10; i++) {
		rig_run(rig, 1500000);
		rig_restart(rig);
	}
	assert_true(rig_run_out(rig, 3600 * SECOND_US));
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 500);
	rig_free(&rig);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_delivered),
        cmocka_unit_test(test_retry_times),
        cmocka_unit_test(test_bounce_and_dsn),
        cmocka_unit_test(test_no_dsn_to_null),
        cmocka_unit_test(test_dsn_refused_ends),
        cmocka_unit_test(test_generate_bounces_off),
        cmocka_unit_test(test_dsn_waits_for_space),
        cmocka_unit_test(test_expiry),
        cmocka_unit_test(test_max_retries),
        cmocka_unit_test(test_each_recipient_has_its_own_result),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_uncertain_is_retried),
        cmocka_unit_test(test_restart_keeps_times),
        cmocka_unit_test(test_clock_set_back),
        cmocka_unit_test(test_route_permanent),
        cmocka_unit_test(test_route_transient),
        cmocka_unit_test(test_gateway_is_never_permanent),
        cmocka_unit_test(test_queues_by_next_hop_and_profile),
        cmocka_unit_test(test_priority),
        cmocka_unit_test(test_stop_loses_nothing),
};

TEST_MAIN("queue_flow", tests)
