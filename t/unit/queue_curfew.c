/* Curfews: windows in which nothing is attempted. The rig's clock starts on Friday, 2027-01-15 at 08:00:00 UTC. */
#include "base/calendar.h"
#include "queue/queue_in.h"
#include "t/lib/queue_rig.h"
#include "t/lib/test.h"

#define MINUTE_US (60 * SECOND_US)
#define HOUR_US (3600 * SECOND_US)
#define BINDINGS                                                                                             \
	"'bindings': {'default': {'bind_address': '192.0.2.10'}, 'acme': {'bind_address': '192.0.2.20'}}"
#define NIGHT "{'from': '0 22 * * *', 'to': '0 6 * * *', 'timezone': 'Europe/Berlin'}"

static struct rig *ready_rig(const char *policy)
{
	struct rig *rig = rig_new(policy);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_route(rig, "other.example", "10 203.0.113.2");
	rig_route(rig, "127.0.0.1:25", "0 127.0.0.1");
	rig_start(rig);
	return rig;
}

/* Until that time of the wall clock (UTC) */
static void run_until(struct rig *rig, int year, int month, int day, int hour, int minute)
{
	uint64_t at =
	        (uint64_t)(calendar_days(year, month, day) * 86400 + hour * 3600 + minute * 60) * SECOND_US;
	assert_true(at >= rig->clock.wall);
	rig_run(rig, at - rig->clock.wall);
}

static bool done(struct rig *rig, uint64_t id)
{
	return rig_delivery(rig, id, 0)->done;
}

static uint64_t post(struct rig *rig, const char *target, const char *to)
{
	return rig_send(rig, target, "a@acme.example", to);
}

static void test_window(void **state)
{
	(void)state;
	struct rig *rig =
	        ready_rig("{'bindings': {'default': {'bind_address': '192.0.2.10'}, 'acme': {'bind_address': "
	                  "'192.0.2.20', 'curfew': {'from': '0 9 * * 1-5', 'to': '30 16 * * *', 'timezone': "
	                  "'UTC'}}}}");
	uint64_t early = post(rig, "acme", "x@example.com");
	run_until(rig, 2027, 1, 15, 8, 59);
	assert_true(done(rig, early));
	run_until(rig, 2027, 1, 15, 9, 1);
	uint64_t id = post(rig, "acme", "x@example.com"), free = post(rig, "default", "x@example.com");
	run_until(rig, 2027, 1, 15, 16, 20);
	assert_false(done(rig, id));
	assert_true(done(rig, free));
	assert_int_equal(rig_count(rig, "suspend"), 1);
	assert_string_equal(rig_event(rig, "suspend", 0)->reason, "curfew");
	assert_non_null(strstr(rig_event(rig, "suspend", 0)->line, "bindings.acme.curfew"));
	assert_non_null(strstr(rig_event(rig, "suspend", 0)->line, "\"until\":\"2027-01-15T16:30:00"));
	char *queues = rig_ask(rig, QUEUE_QUEUES, "acme", 0, 0, 10),
	     *bindings = rig_ask(rig, QUEUE_BINDINGS, "acme", 0, 0, 10);
	assert_non_null(strstr(queues, "curfew until 2027-01-15T16:30:00Z"));
	assert_non_null(strstr(queues, "\"held\":1"));
	assert_non_null(strstr(bindings, "\"state\":\"curfew\""));
	mem_free(&queues);
	mem_free(&bindings);
	/* a restart finds the window as it is */
	rig_restart(rig);
	run_until(rig, 2027, 1, 15, 16, 29);
	assert_false(done(rig, id));
	run_until(rig, 2027, 1, 15, 16, 31);
	assert_true(done(rig, id));
	assert_int_equal(rig_count(rig, "resume"), 1);
	/* not on Saturday, again on Monday */
	run_until(rig, 2027, 1, 16, 12, 0);
	uint64_t saturday = post(rig, "acme", "x@example.com");
	run_until(rig, 2027, 1, 16, 12, 1);
	assert_true(done(rig, saturday));
	run_until(rig, 2027, 1, 18, 12, 0);
	uint64_t monday = post(rig, "acme", "x@example.com");
	run_until(rig, 2027, 1, 18, 12, 1);
	assert_false(done(rig, monday));
	rig_free(&rig);
}

/* A domain's own, and [] cancels an inherited one. */
static void test_scopes(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(
	        "{'global': {'curfew': [{'from': '0 8 * * *', 'to': '0 10 * * *', 'timezone': 'UTC'}, "
	        "{'from': '0 12 * * *', 'to': '0 13 * * *', 'timezone': 'UTC'}]}, 'domains': "
	        "{'other.example': {'curfew': []}}, " BINDINGS "}");
	uint64_t id = post(rig, "acme", "x@example.com"), other = post(rig, "acme", "x@other.example");
	rig_run(rig, MINUTE_US);
	assert_false(done(rig, id));
	assert_true(done(rig, other));
	run_until(rig, 2027, 1, 15, 10, 1);
	assert_true(done(rig, id));
	run_until(rig, 2027, 1, 15, 12, 30);
	id = post(rig, "acme", "x@example.com");
	run_until(rig, 2027, 1, 15, 12, 59);
	assert_false(done(rig, id));
	run_until(rig, 2027, 1, 15, 13, 1);
	assert_true(done(rig, id));
	rig_free(&rig);
}

/* Members that have one are avoided; all out: the mail waits. */
static void test_group(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(
	        "{'binding_groups': {'g': {'bindings': {'g1': {'bind_address': '192.0.2.41', 'curfew': "
	        "{'from': '0 8 * * *', 'to': '0 12 * * *', 'timezone': 'UTC'}}, 'g2': {'bind_address': "
	        "'192.0.2.42', 'curfew': {'from': '0 10 * * *', 'to': '0 12 * * *', 'timezone': "
	        "'UTC'}}}}}, 'bindings': {'default': {'bind_address': '192.0.2.10'}}}");
	for (int i = 0; i < 20; i++)
		post(rig, "group:g", "x@example.com");
	rig_run(rig, MINUTE_US);
	assert_int_equal(rig_open(rig), 0);
	for (unsigned i = 0; i < 20; i++)
		assert_string_equal(rig_event(rig, "delivery", i)->binding, "g2");
	run_until(rig, 2027, 1, 15, 10, 1);
	for (int i = 0; i < 20; i++)
		post(rig, "group:g", "x@example.com");
	run_until(rig, 2027, 1, 15, 11, 59);
	assert_int_equal(rig_open(rig), 20);
	run_until(rig, 2027, 1, 15, 12, 1);
	assert_int_equal(rig_open(rig), 0);
	rig_free(&rig);
}

/* Berlin goes forward on March 28, 2027 and back on October 31, both at 01:00 UTC. */
static void test_nights_when_clocks_change(void **state)
{
	(void)state;
	struct rig *rig =
	        ready_rig("{'global': {'message_expiration': '300d', 'curfew': " NIGHT "}, " BINDINGS "}");
	static const struct {
		int month, day, from; /* the day before it begins; hours in UTC */
		int to;
	} nights[] = {{3, 26, 21, 5}, {3, 27, 21, 4}, {3, 28, 20, 4}, {10, 29, 20, 4}, {10, 30, 20, 5}};
	for (unsigned i = 0; i < array_len(nights); i++) {
		int month = nights[i].month, day = nights[i].day;
		run_until(rig, 2027, month, day, nights[i].from - 1, 58);
		uint64_t before = post(rig, "acme", "x@example.com");
		run_until(rig, 2027, month, day, nights[i].from - 1, 59);
		assert_true(done(rig, before));
		run_until(rig, 2027, month, day, nights[i].from, 1);
		uint64_t during = post(rig, "acme", "x@example.com");
		run_until(rig, 2027, month, day + 1, nights[i].to - 1, 59);
		assert_false(done(rig, during));
		run_until(rig, 2027, month, day + 1, nights[i].to, 1);
		assert_true(done(rig, during));
	}
	rig_free(&rig);
}

/* Expiry goes on; what is released is spread, and has its attempt or not as never_attempt_expired_messages says. */
static void test_release(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(
	        "{'global': {'delayed_binding_domain_fuzz': '10m', 'message_expiration': '30m', "
	        "'curfew': {'from': '0 8 * * *', 'to': '0 9 * * *', 'timezone': 'UTC'}}, 'domains': "
	        "{'other.example': {'never_attempt_expired_messages': true}}, " BINDINGS "}");
	for (int i = 0; i < 100; i++)
		post(rig, "acme", "x@example.com");
	uint64_t expired = post(rig, "acme", "x@other.example");
	run_until(rig, 2027, 1, 15, 8, 59);
	assert_true(done(rig, expired));
	assert_int_equal(rig_count(rig, "expiration"), 1);
	assert_int_equal(rig_mx(rig, "203.0.113.2")->jobs, 0);
	run_until(rig, 2027, 1, 15, 9, 5);
	assert_in_range(rig_mx(rig, "203.0.113.1")->jobs, 30, 70);
	run_until(rig, 2027, 1, 15, 9, 11);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 100);
	assert_int_equal(rig_count(rig, "delivery"), 101); /* and the report of the one that expired */
	rig_free(&rig);
}

/* What is under way ends; nothing more is begun. */
static void test_begins_at_work(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(
	        "{'global': {'curfew': {'from': '5 8 * * *', 'to': '0 9 * * *', 'timezone': 'UTC'}, "
	        "'max_outbound_connections': 2}, " BINDINGS "}");
	struct rig_mx *mx = rig_mx(rig, "203.0.113.1");
	mx->job_us = SECOND_US;
	for (int i = 0; i < 1000; i++)
		post(rig, "acme", "x@example.com");
	run_until(rig, 2027, 1, 15, 8, 5);
	rig_run(rig, 10 * SECOND_US);
	unsigned jobs = mx->jobs;
	assert_in_range(jobs, 400, 650);
	assert_int_equal(mx->sessions, 0);
	run_until(rig, 2027, 1, 15, 8, 59);
	assert_int_equal(mx->jobs, jobs);
	run_until(rig, 2027, 1, 15, 9, 15);
	assert_int_equal(rig_open(rig), 0);
	rig_free(&rig);
}

/* A clock that is set is noticed, and a reload that says the same changes nothing. */
static void test_clock_and_reload(void **state)
{
	(void)state;
	static const char *const policy = "{'global': {'curfew': {'from': '0 12 * * *', 'to': '0 13 * * *', "
	                                  "'timezone': 'UTC'}}, " BINDINGS "}";
	struct rig *rig = ready_rig(policy);
	uint64_t id = post(rig, "acme", "x@example.com");
	rig_run(rig, MINUTE_US);
	assert_true(done(rig, id));
	rig->clock.wall += 4 * HOUR_US; /* 12:01 */
	rig_run(rig, 6 * MINUTE_US);
	id = post(rig, "acme", "x@example.com");
	rig_run(rig, MINUTE_US);
	assert_false(done(rig, id));
	assert_int_equal(rig_count(rig, "suspend"), 1);
	rig_reload(rig, policy);
	rig_run(rig, MINUTE_US);
	assert_false(done(rig, id));
	assert_int_equal(rig_count(rig, "suspend"), 1);
	rig_reload(rig, "{" BINDINGS "}");
	rig_run(rig, MINUTE_US);
	assert_true(done(rig, id));
	rig_free(&rig);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_window),
        cmocka_unit_test(test_scopes),
        cmocka_unit_test(test_group),
        cmocka_unit_test(test_nights_when_clocks_change),
        cmocka_unit_test(test_release),
        cmocka_unit_test(test_begins_at_work),
        cmocka_unit_test(test_clock_and_reload),
};

TEST_MAIN("queue_curfew", tests)
