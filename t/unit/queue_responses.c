/* response_rules: what a reply changes, how long, and how it is undone. */
#include "conf/response_rule.h"
#include "queue/queue_in.h"
#include "t/lib/queue_rig.h"
#include "t/lib/test.h"

#define MINUTE_US (60 * SECOND_US)
#define HOUR_US (3600 * SECOND_US)
#define BINDINGS                                                                                             \
	"'bindings': {'default': {'bind_address': '192.0.2.10'}, 'acme': {'bind_address': '192.0.2.20'}}"
#define WITH_RULES(rules) "{'global': {'response_rules': [" rules "]}, " BINDINGS "}"

static struct rig *ready_rig(const char *policy)
{
	struct rig *rig = rig_new(policy);
	rig_route(rig, "example.com", "10 203.0.113.1, 20 203.0.113.2");
	rig_route(rig, "other.example", "10 203.0.113.3");
	rig_route(rig, "127.0.0.1:25", "0 127.0.0.1");
	rig_start(rig);
	return rig;
}

static uint64_t send_to(struct rig *rig, const char *binding, const char *to)
{
	return rig_send(rig, binding, "a@acme.example", to);
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
	says(mx, OUTCOME_PERMANENT, 550, "5.7.1", o);
}

static void replied(struct mail *mail)
{
	struct queue_change *c = container_of(mail, struct queue_change, reply);
	*(bool *)c->ctx = true;
}

static enum queue_change_result resume(struct rig *rig, const char *binding, const char *domain)
{
	struct queue_change c = {.kind = QUEUE_RESUME, .select.binding = {.at = &binding, .n = 1}};
	bool done = false;
	if (domain)
		c.select.domain = (struct words){.at = &domain, .n = 1};
	c.queue = rig->queue;
	c.who = "tester";
	c.reply_loop = rig->loop;
	c.reply.take = replied;
	c.ctx = &done;
	queue_change(&c);
	while (!done)
		rig_run(rig, 1000);
	str_free(&c.json);
	return c.result;
}

static void assert_listed(struct rig *rig, const char *text, bool is)
{
	char *json = rig_ask(rig, QUEUE_RULES, "", 0, 0, 10);
	assert_int_equal(strstr(json, text) != NULL, is);
	free(json);
}

/* --- suspend ------------------------------------------------------------------------------------------------------- */

static void test_suspend(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(WITH_RULES(
	        "{'name': 'blocked', 'match': 'ip .*BLOCKED', 'code': '5xx', 'then': 'suspend 30m'}"));
	struct rig_mx *mx = rig_mx(rig, "203.0.113.1");
	mx->says = says_no;
	mx->text = "Your IP was blocked";
	uint64_t id = send_to(rig, "acme", "x@example.com");
	rig_run(rig, SECOND_US);
	/* the mail is not to blame: kept, though it was a 550 */
	assert_int_equal(rig_count(rig, "bounce"), 0);
	assert_int_equal(rig_count(rig, "deferral"), 1);
	assert_int_equal(rig_count(rig, "suspend"), 1);
	assert_non_null(strstr(rig_event(rig, "suspend", 0)->line, "\"rule\":\"blocked\""));
	assert_non_null(strstr(rig_event(rig, "suspend", 0)->line, "\"domain\":\"example.com\""));
	assert_string_equal(rig_event(rig, "suspend", 0)->reply, "550 5.7.1 Your IP was blocked");
	assert_listed(rig, "\"rule\":\"blocked\",\"action\":\"suspend 30m\"", true);
	/* that binding to that domain only */
	mx->says = NULL;
	send_to(rig, "acme", "y@example.com");
	send_to(rig, "acme", "y@other.example");
	send_to(rig, "default", "y@example.com");
	rig_run(rig, 20 * MINUTE_US);
	assert_int_equal(rig_count(rig, "delivery"), 2);
	/* it ends by itself */
	rig_run(rig, 12 * MINUTE_US);
	assert_true(rig_delivery(rig, id, 0)->done);
	assert_int_equal(rig_count(rig, "resume"), 1);
	assert_int_equal(rig_open(rig), 0);
	assert_listed(rig, "blocked", false);
	rig_free(&rig);
}

static void test_suspend_survives_and_is_undone(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(WITH_RULES("{'match': 'later', 'then': 'suspend 4h'}"));
	struct rig_mx *mx = rig_mx(rig, "203.0.113.1");
	mx->says = says_later;
	mx->text = "Later";
	send_to(rig, "acme", "x@example.com");
	rig_run(rig, SECOND_US);
	mx->says = NULL;
	rig_restart(rig);
	rig_run(rig, HOUR_US);
	assert_int_equal(mx->jobs, 1);
	assert_listed(rig, "\"rule\":\"later\",\"action\":\"suspend 4h\"", true);
	assert_listed(rig, "451 4.7.1 Later", true);
	assert_int_equal(resume(rig, "acme", "other.example"), CHANGE_REFUSED);
	assert_int_equal(resume(rig, "acme", "example.com"), CHANGE_DONE);
	rig_run(rig, HOUR_US);
	assert_int_equal(rig_open(rig), 0);
	assert_listed(rig, "later", false);
	rig_free(&rig);
}

/* --- threshold ----------------------------------------------------------------------------------------------------- */

static void test_threshold(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(WITH_RULES("{'code': 451, 'threshold': '3/60', 'then': 'suspend 1h'}"));
	rig_mx(rig, "203.0.113.1")->says = says_later;
	rig_mx(rig, "203.0.113.3")->says = says_later;
	/* two a minute are not enough, nor are those of others */
	for (int i = 0; i < 10; i++) {
		send_to(rig, "acme", "x@example.com");
		rig_run(rig, 31 * SECOND_US);
	}
	send_to(rig, "acme", "x@other.example");
	send_to(rig, "default", "x@example.com");
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "suspend"), 0);
	rig_run(rig, 2 * MINUTE_US);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(rig_count(rig, "suspend"), 0);
		send_to(rig, "acme", "x@example.com");
		rig_run(rig, 10 * SECOND_US);
	}
	assert_int_equal(rig_count(rig, "suspend"), 1);
	assert_listed(rig, "\"rule\":\"451\"", true);
	rig_free(&rig);
}

/* To the second for small counts, in parts of the window for large ones. */
static void test_windows(void **state)
{
	(void)state;
	struct rig *rig =
	        ready_rig(WITH_RULES("{'code': 451, 'threshold': '200/160', 'then': 'suspend 1h'}"));
	rig_mx(rig, "203.0.113.1")->says = says_later;
	for (int i = 0; i < 190; i++) {
		send_to(rig, "acme", "x@example.com");
		rig_run(rig, SECOND_US);
	}
	assert_int_equal(rig_count(rig, "suspend"), 0); /* 160 in each window */
	for (int i = 0; i < 60; i++)
		send_to(rig, "acme", "x@example.com");
	rig_run(rig, 10 * SECOND_US);
	assert_int_equal(rig_count(rig, "suspend"), 1);
	rig_free(&rig);

	for (unsigned gap = 30; gap <= 31; gap++) {
		rig = ready_rig(WITH_RULES("{'code': 451, 'threshold': '3/1m', 'then': 'suspend 1h'}"));
		rig_mx(rig, "203.0.113.1")->says = says_later;
		for (int i = 0; i < 6; i++) {
			send_to(rig, "acme", "x@example.com");
			rig_run(rig, gap * SECOND_US);
		}
		assert_int_equal(rig_count(rig, "suspend"), gap == 30);
		rig_free(&rig);
	}
}

/* What was counted in windows of another length says nothing. */
static void test_window_changed_by_reload(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(WITH_RULES("{'code': 451, 'threshold': '200/16', 'then': 'suspend 1h'}"));
	rig_mx(rig, "203.0.113.1")->says = says_later;
	for (int i = 0; i < 50; i++)
		send_to(rig, "acme", "x@example.com");
	rig_run(rig, 2 * SECOND_US);
	rig_reload(rig, WITH_RULES("{'code': 451, 'threshold': '200/160', 'then': 'suspend 1h'}"));
	for (int i = 0; i < 10; i++) {
		rig_run(rig, 170 * SECOND_US);
		for (int j = 0; j < 30; j++)
			send_to(rig, "acme", "x@example.com");
	}
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "suspend"), 0);
	rig_free(&rig);
}

/* --- reduce_connections ------------------------------------------------------------------------------------------------ */

static void banner_says(struct rig_mx *mx, struct session_job *job, uint32_t i, struct outcome *o)
{
	(void)job;
	(void)i;
	says(mx, OUTCOME_TRANSIENT, 421, "4.7.0", o);
}

static void test_reduce_connections(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(WITH_RULES("{'name': 'many', 'match': 'too many connections', 'then': "
	                                       "'reduce_connections 2', 'for': '10m'}"));
	struct rig_mx *mx = rig_mx(rig, "203.0.113.1");
	mx->says = banner_says;
	mx->text = "Too many connections";
	send_to(rig, "acme", "x@example.com");
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "throttle"), 1);
	assert_non_null(strstr(rig_event(rig, "throttle", 0)->line, "\"rule\":\"many\""));
	assert_listed(rig,
	        "\"next_hop\":\"example.com\",\"rule\":\"many\",\"action\":\"reduce_connections 2\"", true);
	rig_run(rig, MINUTE_US);
	mx->says = NULL;
	mx->most = 0;
	mx->job_us = SECOND_US;
	for (int i = 0; i < 2000; i++)
		send_to(rig, "acme", "x@example.com");
	rig_run(rig, MINUTE_US);
	assert_int_equal(mx->most, 2);
	char *queues = rig_ask(rig, QUEUE_QUEUES, "acme", 0, 0, 10);
	assert_non_null(strstr(queues, "reduced by a response rule"));
	free(queues);
	/* survives a restart */
	rig_restart(rig);
	mx->most = 0;
	rig_run(rig, MINUTE_US);
	assert_int_equal(mx->most, 2);
	/* is over when its time is */
	rig_run(rig, 8 * MINUTE_US);
	assert_in_range(mx->most, 3, 32);
	assert_int_equal(rig_count(rig, "resume"), 1);
	assert_listed(rig, "many", false);
	rig_free(&rig);
}

/* Those that are open beyond it end with their transactions; by command it is over at once. */
static void test_reduce_at_work(void **state)
{
	(void)state;
	struct rig *rig =
	        ready_rig(WITH_RULES("{'match': 'slow down', 'then': 'reduce_connections 1', 'for': '1d'}"));
	struct rig_mx *mx = rig_mx(rig, "203.0.113.1");
	mx->job_us = SECOND_US / 10;
	for (int i = 0; i < 3000; i++)
		send_to(rig, "acme", "x@example.com");
	rig_run(rig, 5 * SECOND_US);
	assert_in_range(mx->sessions, 10, 32);
	mx->says = says_later;
	mx->text = "slow down";
	rig_run(rig, SECOND_US / 5);
	mx->says = NULL;
	rig_run(rig, 3 * SECOND_US);
	assert_in_range(mx->sessions, 0, 1);
	mx->most = 0;
	rig_run(rig, 5 * SECOND_US);
	assert_in_range(mx->most, 0, 1); /* 0: the one that was left is still the same */
	assert_int_equal(resume(rig, "acme", NULL), CHANGE_DONE);
	rig_run(rig, 3 * SECOND_US);
	assert_in_range(mx->most, 10, 32);
	assert_int_equal(resume(rig, "acme", NULL), CHANGE_REFUSED);
	rig_free(&rig);
}

/* --- retry_elsewhere, fail, retry_in ----------------------------------------------------------------------------------- */

static void test_elsewhere_is_another_host(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(WITH_RULES("{'match': 'not here', 'then': 'retry_elsewhere'}"));
	rig_mx(rig, "203.0.113.1")->says = says_no;
	rig_mx(rig, "203.0.113.1")->text = "not here";
	uint64_t id = send_to(rig, "acme", "x@example.com");
	rig_run(rig, 5 * SECOND_US);
	assert_true(rig_delivery(rig, id, 0)->done);
	assert_int_equal(rig_mx(rig, "203.0.113.2")->jobs, 1);
	assert_int_equal(rig_count(rig, "deferral"), 0);
	assert_int_equal(rig_count(rig, "bounce"), 0);
	rig_free(&rig);
}

static void test_elsewhere_is_another_member(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(
	        "{'global': {'response_rules': {'match': 'blocked', 'then': 'retry_elsewhere'}}, "
	        "'binding_groups': {'shared': {'bindings': {'s1': {'bind_address': '192.0.2.31'}, 's2': "
	        "{'bind_address': '192.0.2.32'}}}}, 'bindings': {'default': {'bind_address': "
	        "'192.0.2.10'}}}");
	struct rig_mx *mx = rig_mx(rig, "203.0.113.1");
	mx->says = says_later;
	mx->text = "blocked";
	uint64_t id = send_to(rig, "group:shared", "x@example.com");
	rig_run(rig, 5 * SECOND_US);
	/* from each in turn, three times at no cost; then it waits as any */
	assert_int_equal(mx->jobs, 4);
	assert_int_equal(rig_count(rig, "deferral"), 1);
	assert_in_range(rig_delivery(rig, id, 0)->moves, 3, 4);
	mx->says = NULL;
	rig_run(rig, HOUR_US);
	assert_true(rig_delivery(rig, id, 0)->done);
	rig_free(&rig);
}

static void test_fail(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(WITH_RULES("{'code': '4.7.x', 'match': 'never', 'then': 'fail'}"));
	rig_mx(rig, "203.0.113.1")->says = says_later;
	rig_mx(rig, "203.0.113.1")->text = "Never ever";
	uint64_t id = send_to(rig, "acme", "x@example.com");
	rig_run(rig, 5 * SECOND_US);
	assert_true(rig_delivery(rig, id, 0)->done);
	assert_int_equal(rig_count(rig, "bounce"), 1);
	assert_string_equal(rig_event(rig, "bounce", 0)->enhanced, "5.7.1");
	assert_int_equal(rig_event(rig, "bounce", 0)->code, 451);
	assert_non_null(strstr(rig_dsn(rig), "Status: 5.7.1"));
	rig_free(&rig);
}

static void test_retry_in(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(WITH_RULES("{'match': 'greylisted', 'then': 'retry_in 5m'}"));
	struct rig_mx *mx = rig_mx(rig, "203.0.113.1");
	mx->says = says_later;
	mx->text = "greylisted, come back";
	uint64_t id = send_to(rig, "acme", "x@example.com");
	rig_run(rig, 5 * MINUTE_US - SECOND_US);
	assert_int_equal(mx->jobs, 1);
	mx->says = NULL;
	rig_run(rig, 2 * SECOND_US);
	assert_true(rig_delivery(rig, id, 0)->done);
	rig_free(&rig);
}

/* What the other side does not say, and what it says well, is no reply for rules. */
static void test_no_reply(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(WITH_RULES("{'match': '.', 'then': 'suspend 1h'}"));
	rig_mx(rig, "203.0.113.3")->mode = MX_REFUSE;
	send_to(rig, "acme", "x@example.com");
	send_to(rig, "acme", "x@other.example");
	rig_run(rig, MINUTE_US);
	assert_int_equal(rig_count(rig, "delivery"), 1);
	assert_int_equal(rig_count(rig, "deferral"), 1);
	assert_int_equal(rig_count(rig, "suspend"), 0);
	rig_free(&rig);
}

static void test_banner(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(WITH_RULES("{'code': 554, 'then': 'suspend 1h'}"));
	rig_mx(rig, "203.0.113.3")->mode = MX_BANNER;
	send_to(rig, "acme", "x@other.example");
	rig_run(rig, MINUTE_US);
	assert_int_equal(rig_count(rig, "bounce"), 0);
	assert_int_equal(rig_count(rig, "suspend"), 1);
	rig_free(&rig);
}

/* A pattern that would take for ever is cut off, and means nothing. */
static void test_hostile_reply(void **state)
{
	(void)state;
	char text[1001];
	struct rig *rig =
	        ready_rig(WITH_RULES("{'match': '^451 4.7.1 (a+)+(a+)+(a+)+b$', 'then': 'suspend 1h'}"));
	struct rig_mx *mx = rig_mx(rig, "203.0.113.1");
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	mx->says = says_later;
	mx->text = text;
	for (int i = 0; i < 200; i++)
		send_to(rig, "acme", "x@example.com");
	rig_run(rig, MINUTE_US);
	assert_int_equal(rig_count(rig, "deferral"), 200);
	assert_int_equal(rig_count(rig, "suspend"), 0);
	rig_free(&rig);
}

/* Many domains that are suspended one after the other do not keep a sweep from its end. */
static void test_many_at_once(void **state)
{
	(void)state;
	char to[64];
	struct rig *rig = ready_rig(WITH_RULES("{'match': 'later', 'then': 'suspend 10m'}"));
	struct rig_mx *mx = rig_mx(rig, "203.0.113.1");
	rig->keep_log = false;
	rig_route_all(rig, "10 203.0.113.1");
	mx->says = says_later;
	mx->text = "later";
	for (int i = 0; i < 3000; i++) {
		snprintf(to, sizeof(to), "x@d%d.example", i);
		send_to(rig, "acme", to);
		send_to(rig, "acme", to);
	}
	rig_run(rig, 2 * MINUTE_US);
	mx->says = NULL;
	assert_true(rig_run_out(rig, HOUR_US));
	rig_free(&rig);
}

/* Whatever stands in the spool: not taken, or taken as far as it goes. */
static void test_settings_of_any_kind(void **state)
{
	(void)state;
	static const char *const keys[] = {"reduce:", "reduce:a", "reduce:/", "reduce:acme/example.com",
	        "suspend:", "suspend:acme/example.com", "suspend:/", "suspend:group:", "alias:", "alias:x"};
	static const char *const values[] = {"", "1", "1 2", "1 2 d", "1 2 d\tr\tt", "1 2 \tr\tt\tx",
	        "1 2 d\tr\tt\tx", "99999999999999999999 2 d\tr\tt\tx", "0\t", "0\t\t\t", "0\tr\tt\tx", "-1",
	        "x"};
	for (size_t k = 0; k < array_len(keys); k++) {
		for (size_t v = 0; v < array_len(values); v++) {
			struct rig *rig = rig_new("{" BINDINGS "}");
			rig_route(rig, "example.com", "10 203.0.113.1");
			queue_restore_setting(rig->queue, keys[k], values[v]);
			rig_start(rig);
			send_to(rig, "acme", "x@example.com");
			char *rules = rig_ask(rig, QUEUE_RULES, "", 0, 0, 10);
			mem_free(&rules);
			rig_run(rig, MINUTE_US);
			(void)resume(rig, "acme", NULL);
			rig_free(&rig);
		}
	}
}

static void test_codes(void **state)
{
	(void)state;
	assert_true(response_code_is(NULL, 451, ""));
	assert_true(response_code_is("421", 421, ""));
	assert_false(response_code_is("421", 451, ""));
	assert_true(response_code_is("4yz", 451, ""));
	assert_true(response_code_is("45x", 451, "4.7.1"));
	assert_false(response_code_is("5xx", 451, "4.7.1"));
	assert_true(response_code_is("4.7.1", 451, "4.7.1"));
	assert_false(response_code_is("4.7.1", 451, "4.7.10"));
	assert_true(response_code_is("4.7.x", 451, "4.7.10"));
	assert_false(response_code_is("4.7.x", 451, "4.1.10"));
	assert_false(response_code_is("4.7.x", 451, ""));
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_suspend),
        cmocka_unit_test(test_suspend_survives_and_is_undone),
        cmocka_unit_test(test_threshold),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_window_changed_by_reload),
        cmocka_unit_test(test_reduce_connections),
        cmocka_unit_test(test_reduce_at_work),
        cmocka_unit_test(test_elsewhere_is_another_host),
        cmocka_unit_test(test_elsewhere_is_another_member),
        cmocka_unit_test(test_fail),
        cmocka_unit_test(test_retry_in),
        cmocka_unit_test(test_no_reply),
        cmocka_unit_test(test_banner),
        cmocka_unit_test(test_hostile_reply),
        cmocka_unit_test(test_many_at_once),
        cmocka_unit_test(test_settings_of_any_kind),
        cmocka_unit_test(test_codes),
};

TEST_MAIN("queue_responses", tests)
