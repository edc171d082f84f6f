/* Retry: dead destinations, mail that is not retried or not attempted, spreading, other sources. */
#include "queue/queue_in.h"
#include "t/lib/queue_rig.h"
#include "t/lib/test.h"

#define MINUTE_US (60 * SECOND_US)
#define HOUR_US (3600 * SECOND_US)

static struct rig *ready_rig(const char *policy)
{
	struct rig *rig = rig_new(policy);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_route(rig, "dead.example", "10 203.0.113.9");
	rig_route(rig, "127.0.0.1:25", "0 127.0.0.1");
	rig_start(rig);
	return rig;
}

/* A change by command, waited for. */
static void replied(struct mail *mail)
{
	struct queue_change *c = container_of(mail, struct queue_change, reply);
	*(bool *)c->ctx = true;
}

static void change(struct rig *rig, struct queue_change *c)
{
	bool done = false;
	c->queue = rig->queue;
	c->who = "tester";
	c->reply_loop = rig->loop;
	c->reply.take = replied;
	c->ctx = &done;
	queue_change(c);
	while (!done)
		rig_run(rig, 1000);
	str_free(&c->json);
}

static void suspend_or_resume(struct rig *rig, enum queue_change_kind kind, const char *binding)
{
	struct queue_change c = {.kind = kind, .select.binding = {.at = &binding, .n = 1}};
	change(rig, &c);
}

/* --- dead destinations ---------------------------------------------------------------------------------------- */

/* A handful of connections, whatever waits; all mail has its own next attempt; other mail does not notice. */
static void test_dead_domain(void **state)
{
	(void)state;
	struct rig *rig = ready_rig("{'global': {'message_expiration': '2d'}}");
	struct rig_mx *mx = rig_mx(rig, "203.0.113.9");
	rig->keep_log = false;
	mx->mode = MX_REFUSE;
	size_t before = queue_memory(rig->queue);
	rig_send_many(rig, "default", "dead.example", 20000);
	rig_send_many(rig, "default", "example.com", 10);
	rig_run(rig, 16 * MINUTE_US + MINUTE_US / 2);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 10);
	assert_in_range(mx->connects, 4, 20);
	/* all were put off; the first of them are due again */
	assert_in_range(rig->queue->n_state[DELIVERY_DEFERRED], 19000, 20000);
	rig_run(rig, 24 * HOUR_US);
	assert_in_range(mx->connects, 10, 100);
	assert_true(queue_memory(rig->queue) - before < 20000 * 300);
	rig_run_out(rig, 24 * HOUR_US);
	assert_in_range(mx->connects, 10, 150);
	assert_int_equal(rig_open(rig), 0);
	rig_free(&rig);
}

static void test_silent_domain(void **state)
{
	(void)state;
	struct rig *rig =
	        ready_rig("{'global': {'connect_timeout_to_delay': '5m', 'retry_interval': '30m'}}");
	struct rig_mx *mx = rig_mx(rig, "203.0.113.9");
	rig->keep_log = false;
	mx->mode = MX_REFUSE;
	rig_send_many(rig, "default", "dead.example", 2000);
	rig_run(rig, 4 * MINUTE_US);
	assert_in_range(rig->queue->n_state[DELIVERY_READY], 1000, 2000);
	rig_run(rig, 3 * MINUTE_US);
	assert_int_equal(rig->queue->n_state[DELIVERY_READY], 0);
	assert_int_equal(rig->queue->n_state[DELIVERY_DEFERRED], 2000);
	/* mail that comes now is not attempted by itself */
	unsigned connects = mx->connects;
	rig_send_many(rig, "default", "dead.example", 500);
	rig_run(rig, MINUTE_US);
	assert_int_equal(mx->connects, connects);
	/* once it is back, everything goes with its next attempt */
	mx->mode = MX_OK;
	mx->job_us = 1000;
	assert_true(rig_run_out(rig, 2 * HOUR_US));
	assert_int_equal(mx->jobs, 2500);
	rig_free(&rig);
}

static void test_mx_failures(void **state)
{
	(void)state;
	struct rig *rig =
	        ready_rig("{'global': {'mx_failures_to_delay': 3, 'connect_timeout_to_delay': '1d'},"
	                  " 'domains': {'example.com': {'mx_failures_to_delay': 0}}}");
	rig->keep_log = false;
	rig_mx(rig, "203.0.113.9")->mode = MX_REFUSE;
	rig_mx(rig, "203.0.113.1")->mode = MX_REFUSE;
	rig_send_many(rig, "default", "dead.example", 2000);
	rig_run(rig, 3 * MINUTE_US);
	assert_in_range(rig->queue->n_state[DELIVERY_READY], 1000, 2000);
	rig_run(rig, 2 * MINUTE_US);
	assert_int_equal(rig->queue->n_state[DELIVERY_READY], 0);
	rig_send_many(rig, "default", "example.com", 2000);
	rig_run(rig, 10 * MINUTE_US);
	assert_in_range(rig->queue->n_state[DELIVERY_READY], 1000, 2000);
	rig_free(&rig);
}

static void test_flush_of_the_dead(void **state)
{
	(void)state;
	struct rig *rig = ready_rig("{'global': {'connect_timeout_to_delay': '1s'}}");
	struct rig_mx *mx = rig_mx(rig, "203.0.113.9");
	rig->keep_log = false;
	mx->mode = MX_REFUSE;
	rig_send_many(rig, "default", "dead.example", 1000);
	rig_run(rig, 3 * MINUTE_US);
	assert_int_equal(rig->queue->n_state[DELIVERY_READY], 0);
	mx->mode = MX_OK;
	struct queue_change c = {.kind = QUEUE_FLUSH, .select.all = true};
	change(rig, &c);
	rig_run(rig, 10 * SECOND_US);
	assert_int_equal(rig_open(rig), 0);
	rig_free(&rig);
}

/* A million deferrals do not outrun the spool. */
static void test_putting_off_waits_for_the_spool(void **state)
{
	(void)state;
	struct rig *rig = ready_rig("{'global': {'connect_timeout_to_delay': 0}}");
	rig->keep_log = false;
	rig_mx(rig, "203.0.113.9")->mode = MX_REFUSE;
	rig_send_many(rig, "default", "dead.example", 10000);
	rig_hold_commits(rig, true);
	rig_run(rig, SECOND_US);
	assert_in_range(rig->queue->n_state[DELIVERY_DEFERRED], 1, 5000);
	rig_hold_commits(rig, false);
	rig_run(rig, MINUTE_US);
	assert_int_equal(rig->queue->n_state[DELIVERY_DEFERRED], 10000);
	rig_free(&rig);
}

/* Nor do they keep other mail waiting. */
static void test_putting_off_lets_others_pass(void **state)
{
	(void)state;
	struct rig *rig = ready_rig("{'global': {'connect_timeout_to_delay': 0}}");
	struct rig_mx *mx = rig_mx(rig, "203.0.113.1");
	rig->keep_log = false;
	rig_mx(rig, "203.0.113.9")->mode = MX_REFUSE;
	mx->job_us = 1000;
	rig_send_many(rig, "default", "dead.example", 100000);
	rig_run(rig, 10000);
	assert_in_range(rig->queue->n_state[DELIVERY_DEFERRED], 1, 50000);
	rig_send_many(rig, "default", "example.com", 200);
	while (mx->jobs < 200)
		rig_run(rig, 1000);
	assert_in_range(rig->queue->n_state[DELIVERY_DEFERRED], 1, 99999);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig->queue->n_state[DELIVERY_DEFERRED], 100000);
	assert_in_range(rig_mx(rig, "203.0.113.9")->connects, 1, 8);
	rig_free(&rig);
}

/* --- retried or not --------------------------------------------------------------------------------------------- */

static void test_never_retry(void **state)
{
	(void)state;
	struct rig *rig = ready_rig("{'domains': {'example.com': {'never_retry': true}}}");
	rig_mx(rig, "203.0.113.1")->says = rig_says_later;
	rig_send(rig, "default", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "deferral"), 0);
	assert_int_equal(rig_count(rig, "expiration"), 1);
	assert_string_equal(rig_event(rig, "expiration", 0)->enhanced, "5.4.7");
	assert_string_equal(rig_event(rig, "expiration", 0)->reply, "later");
	assert_int_equal(rig_count(rig, "dsn"), 1);
	rig_free(&rig);
}

/* Our resolver's accident is no attempt. */
static void test_never_retry_spares_accidents(void **state)
{
	(void)state;
	struct rig *rig = ready_rig("{'global': {'never_retry': true}}");
	rig_route_fails(rig, "example.com", OUTCOME_TRANSIENT, "4.4.3", "no answer from DNS");
	uint64_t id = rig_send(rig, "default", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "deferral"), 1);
	assert_int_equal(rig_count(rig, "expiration"), 0);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_run(rig, HOUR_US);
	assert_true(rig_delivery(rig, id, 0)->done);
	assert_int_equal(rig_count(rig, "delivery"), 1);
	rig_free(&rig);
}

static void expire_while_suspended(bool never_attempt)
{
	struct rig *rig = ready_rig(never_attempt ? "{'global': {'message_expiration': '1h', "
	                                            "'never_attempt_expired_messages': true}}"
	                                          : "{'global': {'message_expiration': '1h'}}");
	struct rig_mx *mx = rig_mx(rig, "203.0.113.1");
	suspend_or_resume(rig, QUEUE_SUSPEND, "default");
	rig_send(rig, "default", "a@acme.example", "x@example.com");
	rig_run(rig, 2 * HOUR_US);
	assert_int_equal(mx->connects, 0);
	suspend_or_resume(rig, QUEUE_RESUME, "default");
	rig_run(rig, MINUTE_US);
	assert_int_equal(mx->jobs, never_attempt ? 0 : 1);
	assert_int_equal(rig_count(rig, "expiration"), never_attempt ? 1 : 0);
	if (never_attempt) {
		assert_int_equal(rig_event(rig, "expiration", 0)->code, 554);
		assert_string_equal(
		        rig_event(rig, "expiration", 0)->reply, "Delivery not attempted (message expired)");
	}
	rig_free(&rig);
}

static void test_expired_messages(void **state)
{
	(void)state;
	expire_while_suspended(false);
	expire_while_suspended(true);
}

/* The retry that would come after the end of its time is not made either. */
static void test_expired_before_its_retry(void **state)
{
	(void)state;
	struct rig *rig = ready_rig("{'global': {'message_expiration': '30m', 'retry_interval': '20m', "
	                            "'never_attempt_expired_messages': true}}");
	struct rig_mx *mx = rig_mx(rig, "203.0.113.1");
	mx->says = rig_says_later;
	rig_send(rig, "default", "a@acme.example", "x@example.com");
	rig_run(rig, 2 * HOUR_US);
	assert_int_equal(mx->jobs, 2);
	assert_int_equal(rig_count(rig, "expiration"), 1);
	assert_non_null(strstr(rig_event(rig, "expiration", 0)->reply, "last reply: 451 4.7.1 later"));
	rig_free(&rig);
}

/* Each scope has its own schedule, and no two wait alike. */
static void test_schedule_by_scope(void **state)
{
	(void)state;
	struct rig *rig =
	        ready_rig("{'global': {'retry_interval': '10m', 'max_retry_interval': '1h'}, 'bindings': {"
	                  "'default': {'bind_address': '192.0.2.10'}, 'acme': {'bind_address': '192.0.2.20', "
	                  "'retry_interval': '1m', 'max_retry_interval': '2m', 'domains': {'dead.example': "
	                  "{'retry_interval': '5m', 'max_retries': 1}}}}}");
	rig_mx(rig, "203.0.113.1")->says = rig_says_later;
	rig_mx(rig, "203.0.113.9")->says = rig_says_later;
	rig_send_many(rig, "default", "example.com", 50);
	rig_run(rig, 8 * MINUTE_US - SECOND_US);
	assert_int_equal(rig_count(rig, "deferral"), 50);
	rig_run(rig, MINUTE_US); /* 8 to 10 minutes, spread */
	assert_in_range(rig_count(rig, "deferral"), 55, 95);
	rig_run(rig, 2 * MINUTE_US);
	assert_int_equal(rig_count(rig, "deferral"), 100);
	uint64_t acme = rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, 10 * MINUTE_US);
	assert_in_range(rig_count_for(rig, "deferral", acme), 6, 8);
	uint64_t twice = rig_send(rig, "acme", "a@acme.example", "x@dead.example");
	rig_run(rig, 10 * MINUTE_US);
	assert_int_equal(rig_count_for(rig, "deferral", twice), 1);
	assert_int_equal(rig_count_for(rig, "expiration", twice), 1);
	rig_free(&rig);
}

/* --- released with many others ------------------------------------------------------------------------------------- */

static void test_resume_spreads(void **state)
{
	(void)state;
	struct rig *rig = ready_rig("{'global': {'delayed_binding_domain_fuzz': 64}}");
	struct rig_mx *mx = rig_mx(rig, "203.0.113.1");
	mx->job_us = 1000;
	suspend_or_resume(rig, QUEUE_SUSPEND, "default");
	rig_send_many(rig, "default", "example.com", 640);
	rig_run(rig, MINUTE_US);
	suspend_or_resume(rig, QUEUE_RESUME, "default");
	for (unsigned i = 1; i <= 4; i++) {
		rig_run(rig, 16 * SECOND_US);
		assert_in_range(mx->jobs, i * 160 - 60, i * 160 + 60);
	}
	rig_run(rig, 2 * SECOND_US);
	assert_int_equal(rig_open(rig), 0);
	rig_free(&rig);
}

static void test_flush_spreads_many_not_one(void **state)
{
	(void)state;
	struct rig *rig = ready_rig("{'global': {'delayed_binding_domain_fuzz': 64}}");
	struct rig_mx *mx = rig_mx(rig, "203.0.113.1");
	mx->job_us = 1000;
	mx->says = rig_says_later;
	rig_send_many(rig, "default", "example.com", 640);
	uint64_t one = rig_send(rig, "default", "a@acme.example", "x@example.com");
	rig_run(rig, MINUTE_US);
	mx->says = NULL;
	struct queue_change c = {.kind = QUEUE_FLUSH, .select = {.id = &one, .n_id = 1}};
	change(rig, &c);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 1);
	struct queue_change all = {.kind = QUEUE_FLUSH, .select.all = true};
	change(rig, &all);
	rig_run(rig, 16 * SECOND_US);
	assert_in_range(rig_count(rig, "delivery"), 100, 220);
	rig_run(rig, 50 * SECOND_US);
	assert_int_equal(rig_open(rig), 0);
	rig_free(&rig);
}

/* Built-in: at once. */
static void test_resume_at_once(void **state)
{
	(void)state;
	struct rig *rig = ready_rig("{}");
	rig_mx(rig, "203.0.113.1")->job_us = 1000;
	suspend_or_resume(rig, QUEUE_SUSPEND, "default");
	rig_send_many(rig, "default", "example.com", 100);
	rig_run(rig, MINUTE_US);
	suspend_or_resume(rig, QUEUE_RESUME, "default");
	rig_run(rig, 2 * SECOND_US);
	assert_int_equal(rig_open(rig), 0);
	rig_free(&rig);
}

#define ACME(more)                                                                                           \
	"'bindings': {'acme': {'bind_address': '192.0.2.20'" more                                            \
	"}, 'default': {'bind_address': '192.0.2.10'}}"
#define GROUP(more) "'binding_groups': {'g': {" more "'bindings': {'s1': {'bind_address': '192.0.2.31'}}}}"

/* suspend_delivery at every place: global, group, binding, domain, in a group and in a binding. */
static void test_suspend_delivery_by_scope(void **state)
{
	(void)state;
	static const struct {
		const char *policy;
		bool held[4]; /* acme to example.com, to dead.example; s1 to example.com, to dead.example */
	} table[] = {
	        {"{'global': {'suspend_delivery': true}, " ACME("") ", " GROUP("") "}",
	                {true, true, true, true}},
	        {"{" ACME("") ", " GROUP("") ", 'domains': {'example.com': {'suspend_delivery': true}}}",
	                {true, false, true, false}},
	        {"{" ACME(", 'suspend_delivery': true") ", " GROUP("") "}", {true, true, false, false}},
	        {"{" ACME(", 'domains': {'example.com': {'suspend_delivery': true}}") ", " GROUP("") "}",
	                {true, false, false, false}},
	        {"{" ACME("") ", " GROUP("'suspend_delivery': true, ") "}", {false, false, true, true}},
	        {"{" ACME("") ", " GROUP("'domains': {'dead.example': {'suspend_delivery': true}}, ") "}",
	                {false, false, false, true}},
	        /* the more specific place decides */
	        {"{'global': {'suspend_delivery': true}, " ACME("") ", " GROUP(
	                 "") ", 'domains': {'example.com': {'suspend_delivery': false}}}",
	                {false, true, false, true}},
	};
	for (size_t i = 0; i < array_len(table); i++) {
		uint64_t id[4];
		struct rig *rig = ready_rig(table[i].policy);
		for (unsigned n = 0; n < 4; n++)
			id[n] = rig_send(rig, n < 2 ? "acme" : "group:g", "a@acme.example",
			        n % 2 ? "x@dead.example" : "x@example.com");
		for (unsigned round = 0; round < 2; round++) {
			rig_run(rig, MINUTE_US);
			for (unsigned n = 0; n < 4; n++)
				assert_int_equal(rig_delivery(rig, id[n], 0)->done, !table[i].held[n]);
			rig_restart(rig);
		}
		rig_reload(rig, "{" ACME("") ", " GROUP("") "}");
		rig_run(rig, MINUTE_US);
		assert_int_equal(rig_open(rig), 0);
		rig_free(&rig);
	}
}

/* --- retry_source ---------------------------------------------------------------------------------------------------- */

#define GROUP_OF_THREE(option)                                                                               \
	"{'binding_groups': {'shared': {'retry_interval': '1m', 'max_retry_interval': '1m', " option         \
	"'bindings': {'s1': {'bind_address': '192.0.2.31'}, 's2': {'bind_address': '192.0.2.32'}, 's3': "    \
	"{'bind_address': '192.0.2.33'}}}}, 'bindings': {'default': {'bind_address': '192.0.2.10'}}}"

static unsigned number_of(const struct rig *rig, unsigned nth)
{
	return (unsigned)(rig_event(rig, "deferral", nth)->binding[1] - '0');
}

static struct rig *fail_ten_times(const char *policy, uint64_t *id)
{
	struct rig *rig = ready_rig(policy);
	rig_mx(rig, "203.0.113.1")->says = rig_says_later;
	*id = rig_send(rig, "group:shared", "a@acme.example", "x@example.com");
	while (rig_count(rig, "deferral") < 10)
		rig_run(rig, 10 * SECOND_US);
	return rig;
}

static void test_retry_source_same(void **state)
{
	(void)state;
	uint64_t id;
	struct rig *rig = fail_ten_times(GROUP_OF_THREE(""), &id);
	for (unsigned i = 1; i < 10; i++)
		assert_int_equal(number_of(rig, i), number_of(rig, 0));
	assert_int_equal(rig_delivery(rig, id, 0)->moves, 0);
	rig_free(&rig);
}

static void test_retry_source_next(void **state)
{
	(void)state;
	uint64_t id;
	struct rig *rig = fail_ten_times(GROUP_OF_THREE("'retry_source': 'next', "), &id);
	for (unsigned i = 1; i < 10; i++)
		assert_int_equal(number_of(rig, i), number_of(rig, i - 1) % 3 + 1);
	unsigned last = number_of(rig, 9);
	rig_restart(rig); /* which knows where it has got to */
	rig_run(rig, 2 * MINUTE_US);
	assert_int_equal(number_of(rig, 10), last % 3 + 1);
	/* one that is suspended is left out */
	suspend_or_resume(rig, QUEUE_SUSPEND, "s2");
	for (unsigned i = 0; i < 6; i++) {
		unsigned n = rig_count(rig, "deferral");
		rig_run(rig, 2 * MINUTE_US);
		for (; n < rig_count(rig, "deferral"); n++)
			assert_int_not_equal(number_of(rig, n), 2);
	}
	rig_free(&rig);
}

static void test_retry_source_any(void **state)
{
	(void)state;
	uint64_t id;
	unsigned seen[4] = {0};
	struct rig *rig = fail_ten_times(GROUP_OF_THREE("'retry_source': 'any', "), &id);
	while (rig_count(rig, "deferral") < 60)
		rig_run(rig, MINUTE_US);
	for (unsigned i = 0; i < 60; i++)
		seen[number_of(rig, i)]++;
	for (unsigned i = 1; i <= 3; i++)
		assert_in_range(seen[i], 8, 40);
	rig_free(&rig);
}

/* Also when no connection could be had, and from the one address that was chosen. */
static void test_retry_source_of_the_unreachable(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(GROUP_OF_THREE("'retry_source': 'next', "));
	struct rig_mx *mx = rig_mx(rig, "203.0.113.1");
	mx->mode = MX_REFUSE;
	uint64_t id = rig_send(rig, "group:shared", "a@acme.example", "x@example.com");
	rig_run(rig, 5 * SECOND_US);
	assert_int_equal(rig_count(rig, "deferral"), 1);
	mx->mode = MX_OK;
	rig_run(rig, 3 * MINUTE_US);
	assert_true(rig_delivery(rig, id, 0)->done);
	const struct rig_event *first = rig_event(rig, "deferral", 0), *then = rig_event(rig, "delivery", 0);
	assert_string_not_equal(first->binding, then->binding);
	assert_string_not_equal(first->source, then->source);
	assert_int_equal(then->source[strlen(then->source) - 1], then->binding[1]);
	rig_free(&rig);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dead_domain),
        cmocka_unit_test(test_silent_domain),
        cmocka_unit_test(test_mx_failures),
        cmocka_unit_test(test_flush_of_the_dead),
        cmocka_unit_test(test_putting_off_waits_for_the_spool),
        cmocka_unit_test(test_putting_off_lets_others_pass),
        cmocka_unit_test(test_never_retry),
        cmocka_unit_test(test_never_retry_spares_accidents),
        cmocka_unit_test(test_expired_messages),
        cmocka_unit_test(test_expired_before_its_retry),
        cmocka_unit_test(test_schedule_by_scope),
        cmocka_unit_test(test_resume_spreads),
        cmocka_unit_test(test_flush_spreads_many_not_one),
        cmocka_unit_test(test_resume_at_once),
        cmocka_unit_test(test_suspend_delivery_by_scope),
        cmocka_unit_test(test_retry_source_same),
        cmocka_unit_test(test_retry_source_next),
        cmocka_unit_test(test_retry_source_any),
        cmocka_unit_test(test_retry_source_of_the_unreachable),
};

TEST_MAIN("queue_retry", tests)
