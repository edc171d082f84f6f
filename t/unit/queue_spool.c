/* Queue and spool together: what the one tells the other survives a restart. */
#include "t/lib/queue_rig.h"
#include "t/lib/test.h"

static void answer(
        struct rig_mx *mx, struct outcome *o, enum outcome_class class, int code, const char *enhanced)
{
	(void)mx;
	outcome_own(o, class, STATE_RCPT, code, enhanced, "as told");
	o->ours = false;
}

/* By the first digit of each address. */
static void says(struct rig_mx *mx, struct session_job *job, uint32_t i, struct outcome *o)
{
	if (job->recipients[i][0] == '4')
		answer(mx, o, OUTCOME_TRANSIENT, 451, "4.7.1");
	else if (job->recipients[i][0] == '5')
		answer(mx, o, OUTCOME_PERMANENT, 550, "5.1.1");
}

static struct rig *rig_of(const char *policy)
{
	struct rig *rig = rig_new(policy);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_route(rig, "127.0.0.1:25", "0 127.0.0.1");
	rig_mx(rig, "203.0.113.1")->says = says;
	rig_start(rig);
	return rig;
}

#define POLICY                                                                                               \
	"{'bindings': {'acme': {'bind_address': '192.0.2.20'}, 'default': {'bind_address': '192.0.2.10'}}}"

static void test_delivered_stays_delivered(void **state)
{
	(void)state;
	struct rig *rig = rig_of(POLICY);
	for (int i = 0; i < 50; i++)
		rig_send(rig, "acme", "a@acme.example", "2x@example.com");
	assert_true(rig_run_out(rig, 60 * SECOND_US));
	rig_restart(rig);
	rig_run(rig, 60 * SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 50);
	assert_int_equal(rig_open(rig), 0);
	rig_free(&rig);
}

static void test_recipients_and_attempts_survive(void **state)
{
	(void)state;
	struct rig *rig = rig_of(POLICY);
	struct rig_mx *mx = rig_mx(rig, "203.0.113.1");
	uint64_t id = rig_send(rig, "acme", "a@acme.example", "2a@example.com 4b@example.com 4c@example.com");
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count_for(rig, "delivery", id), 1);
	assert_int_equal(rig_count_for(rig, "deferral", id), 2);
	for (int round = 2; round < 5; round++) {
		rig_restart(rig);
		rig_run(rig, 8 * 1200 * SECOND_US);
		assert_true(rig_count_for(rig, "deferral", id) >= 2u * (unsigned)round);
		assert_int_equal(rig_count_for(rig, "delivery", id), 1);
	}
	char *json = rig_ask(rig, QUEUE_MESSAGE, "", id, 0, 0);
	assert_non_null(json);
	assert_null(strstr(json, "2a@example.com"));
	assert_non_null(strstr(json, "4b@example.com"));
	mem_free(&json);
	mx->says = NULL;
	assert_true(rig_run_out(rig, 86400 * SECOND_US));
	assert_int_equal(rig_count_for(rig, "delivery", id), 3);
	assert_null(rig_ask(rig, QUEUE_MESSAGE, "", id, 0, 0));
	rig_free(&rig);
}

static void test_dsn_and_end_are_one(void **state)
{
	(void)state;
	struct rig *rig = rig_of(POLICY);
	uint64_t id = rig_send(rig, "acme", "a@acme.example", "5a@example.com 2b@example.com 4c@example.com");
	rig_mx(rig, "127.0.0.1")->mode = MX_REFUSE; /* the DSN waits */
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count_for(rig, "bounce", id), 1);
	assert_int_equal(rig_count(rig, "dsn"), 1);
	assert_int_equal(rig_open(rig), 2);
	rig_restart(rig);
	rig_mx(rig, "127.0.0.1")->mode = MX_OK;
	rig_mx(rig, "203.0.113.1")->says = NULL;
	assert_true(rig_run_out(rig, 86400 * SECOND_US));
	assert_int_equal(rig_count_for(rig, "bounce", id), 1);
	assert_int_equal(rig_count(rig, "dsn"), 1);
	assert_int_equal(rig_mx(rig, "127.0.0.1")->jobs, 1);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->recipients, 4);
	rig_free(&rig);
}

static void test_member_survives(void **state)
{
	(void)state;
	struct rig *rig =
	        rig_of("{'binding_groups': {'pool': {'bindings': {'p1': {'bind_address': '192.0.2.31', "
	               "'suspend_delivery': true}, 'p2': {'bind_address': '192.0.2.32'}}}}, 'bindings': "
	               "{'default': {'bind_address': '192.0.2.1'}}}");
	for (int i = 0; i < 20; i++)
		rig_send(rig, "group:pool", "a@acme.example", "4x@example.com");
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "deferral"), 20);
	rig_restart(rig);
	rig_reload(rig, "{'binding_groups': {'pool': {'bindings': {'p1': {'bind_address': '192.0.2.31'}, "
	                "'p2': {'bind_address': '192.0.2.32'}}}}, 'bindings': {'default': {'bind_address': "
	                "'192.0.2.1'}}}");
	rig_mx(rig, "203.0.113.1")->says = NULL;
	assert_true(rig_run_out(rig, 86400 * SECOND_US));
	for (unsigned i = 0; i < 20; i++) {
		assert_string_equal(rig_event(rig, "delivery", i)->binding, "p2");
		assert_string_equal(rig_event(rig, "delivery", i)->source, "192.0.2.32");
	}
	rig_free(&rig);
}

/* A load with all kinds of answers, and restarts in the middle: everything ends, what was said is what happened. */
static void test_load_with_restarts(void **state)
{
	(void)state;
	struct rig *rig = rig_of(POLICY);
	struct rig_mx *mx = rig_mx(rig, "203.0.113.1");
	char to[40];
	for (int i = 0; i < 300; i++) {
		snprintf(to, sizeof(to), "%dr%d@example.com", i % 3 == 0 ? 4 : i % 7 == 0 ? 5 : 2, i);
		rig_send(rig, "acme", "a@acme.example", to);
		if (i % 100 == 50)
			rig_restart(rig);
	}
	rig_run(rig, 3600 * SECOND_US);
	rig_restart(rig);
	mx->says = NULL;
	assert_true(rig_run_out(rig, 86400 * SECOND_US));
	unsigned refused = 0;
	for (int i = 0; i < 300; i++)
		refused += i % 3 != 0 && i % 7 == 0;
	assert_int_equal(rig_count(rig, "bounce"), refused);
	assert_int_equal(rig_mx(rig, "127.0.0.1")->jobs, refused);
	assert_int_equal(rig_count(rig, "delivery"), 300);
	rig_free(&rig);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_delivered_stays_delivered),
        cmocka_unit_test(test_recipients_and_attempts_survive),
        cmocka_unit_test(test_dsn_and_end_are_one),
        cmocka_unit_test(test_member_survives),
        cmocka_unit_test(test_load_with_restarts),
};

TEST_MAIN("queue_spool", tests)
