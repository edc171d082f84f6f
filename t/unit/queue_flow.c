/* The way of mail through the queue: delivered, deferred, given up, reported. */
#include "queue/queue_in.h"
#include "t/lib/queue_rig.h"
#include "t/lib/test.h"
#include <jansson.h>

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
		assert_string_equal(rig_delivery(rig, id, 0)->last_reply, "451 4.7.1 as told");
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

/* What is demanded of MX hosts does not keep reports from the Postfix beside us. */
static void test_dsn_goes_without_tls(void **state)
{
	(void)state;
	struct rig *rig = ready_rig("{\"global\": {\"tls\": \"required\"}, \"bindings\": {\"default\": "
	                            "{\"bind_address\": \"192.0.2.10\"}}}");
	rig_mx(rig, "203.0.113.1")->says = says_no;
	rig_send(rig, "default", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->tls, TLS_REQUIRED);
	assert_int_equal(rig_mx(rig, "127.0.0.1")->jobs, 1);
	assert_int_equal(rig_mx(rig, "127.0.0.1")->tls, TLS_NO);
	rig_free(&rig);
}

/* A DSN brings the original's header back: sent without dot-stuffing, a line "." in it would end the data, and what
 * follows would be commands to the MTA in front, said by one of its own. */
static void test_dsn_of_dot_lines_is_stuffed(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(TWO_BINDINGS);
	rig_mx(rig, "203.0.113.1")->says = says_no;
	rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_dsn_flags(rig), MESSAGE_DSN);
	rig_header(rig, "Subject: a\r\n.\r\nMAIL FROM:<f@x.y>\r\n\r\n");
	rig_send(rig, "acme", "a@acme.example", "y@example.com");
	rig_run(rig, SECOND_US);
	assert_non_null(strstr(rig_dsn(rig), "\r\n.\r\nMAIL"));
	assert_int_equal(rig_dsn_flags(rig), MESSAGE_DSN | MESSAGE_DOT_LINES);
	rig_header(rig, "Subject: \xc3\xa9\r\n\r\n");
	rig_send(rig, "acme", "a@acme.example", "z@example.com");
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_dsn_flags(rig), MESSAGE_DSN | MESSAGE_8BIT);
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

/* Without a word of the rule or stamp the option's; high goes first, and the others are not starved. */
static void test_priority_option(void **state)
{
	(void)state;
	struct rig *rig = ready_rig("{'global': {'max_outbound_connections': 1, 'priority': 'low'}, "
	                            "'domains': {'example.com': {'priority': 'normal'}}, "
	                            "'bindings': {'default': {'priority': 'high'}}}");
	uint64_t low[2], normal[8], id = 0;
	for (int i = 0; i < 2; i++)
		low[i] = rig_send_flags(rig, "default", "a@acme.example", "news@example.com", 0, PRIORITY_LOW);
	for (int i = 0; i < 8; i++)
		normal[i] = rig_send_flags(rig, "default", "a@acme.example", "news@example.com", 0, PRIORITY_NORMAL);
	for (int i = 0; i < 1000; i++) {
		uint64_t sent = rig_send(rig, "default", "a@acme.example", "reset@example.com");
		id = id ? id : sent;
	}
	rig_run(rig, SECOND_US / 5);
	assert_true(rig_delivery(rig, id, 0)->done);
	assert_false(rig_delivery(rig, low[1], 0)->done);
	rig_run(rig, SECOND_US / 2);
	for (int i = 0; i < 8; i++)
		assert_true(rig_delivery(rig, normal[i], 0)->done);
	for (int i = 0; i < 2; i++)
		assert_true(rig_delivery(rig, low[i], 0)->done);
	assert_true(rig_open(rig) > 800);
	/* a change moves what waits: now the newest goes first */
	id = rig_send_flags(rig, "default", "a@acme.example", "reset@example.com", 0, PRIORITY_HIGH);
	rig_reload(rig, "{'global': {'max_outbound_connections': 1, 'priority': 'low'}}");
	rig_run(rig, SECOND_US / 5);
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

/* A session that the peer closes while a job is on its way to it: the job comes back and costs nothing. */
static void test_jobs_not_begun(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(TWO_BINDINGS);
	struct rig_mx *mx = rig_mx(rig, "203.0.113.1");
	mx->idle_us = 1000;
	mx->job_us = 200;
	for (int i = 0; i < 500; i++) {
		rig_send(rig, "acme", "a@acme.example", "x@example.com");
		rig_run(rig, 1100 + (unsigned)i % 700);
	}
	assert_true(rig_run_out(rig, 60 * SECOND_US));
	assert_int_equal(mx->jobs, 500);
	assert_int_equal(rig_count(rig, "deferral"), 0);
	rig_free(&rig);
}

static void test_memory_bound(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(TWO_BINDINGS);
	rig_mx(rig, "203.0.113.1")->mode = MX_SILENT;
	rig->queue->memory_max = queue_memory(rig->queue) + 100000;
	for (int i = 0; i < 400; i++)
		rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US);
	assert_false(rig->handoff.queue_full);
	for (int i = 0; i < 400; i++)
		rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US);
	assert_true(rig->handoff.queue_full);
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	assert_true(rig_run_out(rig, 3600 * SECOND_US));
	assert_false(rig->handoff.queue_full);
	rig_free(&rig);
}

/* --- questions --------------------------------------------------------------------------------------------------------- */

static json_t *ask(
        struct rig *rig, enum queue_question question, const char *binding, uint64_t id, uint64_t cursor)
{
	char *text = rig_ask(rig, question, binding, id, cursor, 0);
	json_t *o = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
	mem_free(&text);
	return o;
}

static json_int_t number(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static const char *text(const json_t *o, const char *key)
{
	const char *value = json_string_value(json_object_get(o, key));
	return value ? value : "";
}

static void test_messages_by_pages(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(TWO_BINDINGS);
	rig_mx(rig, "203.0.113.1")->mode = MX_SILENT;
	for (int i = 0; i < 1200; i++)
		rig_send(rig, i % 3 ? "acme" : "other", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US);
	unsigned pages = 0, rows = 0;
	char last[32] = "";
	uint64_t cursor = 0;
	do {
		json_t *o = ask(rig, QUEUE_MESSAGES, "acme", 0, cursor), *items = json_object_get(o, "items"),
		       *item;
		size_t i;
		json_array_foreach (items, i, item) {
			assert_string_equal(text(item, "binding"), "acme");
			assert_true(strcmp(text(item, "id"), last) > 0); /* each once */
			snprintf(last, sizeof(last), "%s", text(item, "id"));
			rows++;
		}
		cursor = strtoull(text(o, "next"), NULL, 10);
		pages++;
		json_decref(o);
	} while (cursor);
	assert_int_equal(rows, 800);
	assert_int_equal(pages, 2);
	rig_free(&rig);
}

static void test_one_message(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(TWO_BINDINGS);
	rig_mx(rig, "203.0.113.1")->says = says_later;
	uint64_t id = rig_send(rig, "acme", "a@acme.example", "x@example.com y@example.com");
	rig_run(rig, SECOND_US);
	json_t *o = ask(rig, QUEUE_MESSAGE, "", id, 0);
	json_t *d = json_array_get(json_object_get(o, "items"), 0);
	assert_string_equal(text(o, "sender"), "a@acme.example");
	assert_string_equal(text(d, "state"), "deferred");
	assert_int_equal(number(d, "attempt"), 1);
	assert_int_equal(json_array_size(json_object_get(d, "recipient")), 2);
	assert_int_equal(strlen(text(d, "next_attempt")), strlen("2027-01-15T08:00:00.000000Z"));
	assert_int_equal(number(d, "recipients"), 2);
	assert_int_equal(number(d, "code"), 451);
	assert_string_equal(text(d, "enhanced"), "4.7.1");
	assert_non_null(strstr(text(d, "reply"), "as told"));
	assert_int_equal(strlen(text(d, "last_attempt")), strlen("2027-01-15T08:00:00.000000Z"));
	json_decref(o);
	assert_null(ask(rig, QUEUE_MESSAGE, "", 1, 0));
	rig_free(&rig);
}

static void test_summary_bindings_queues_connections(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(TWO_BINDINGS);
	rig_route(rig, "dead.example", "10 203.0.113.9");
	rig_mx(rig, "203.0.113.9")->mode = MX_REFUSE;
	rig_mx(rig, "203.0.113.1")->job_us = 600 * SECOND_US;
	rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_send(rig, "acme", "a@acme.example", "x@dead.example");
	rig_run(rig, SECOND_US);
	json_t *o = ask(rig, QUEUE_SUMMARY, "", 0, 0);
	assert_int_equal(number(o, "active"), 1);
	assert_int_equal(number(o, "deferred"), 1);
	assert_int_equal(number(o, "connections"), 1);
	assert_int_equal(number(o, "limit"), 20000);
	assert_int_equal(number(o, "received"), 2);
	assert_int_equal(number(o, "deferrals"), 1);
	assert_int_equal(number(o, "delivered"), 0);
	assert_int_equal(number(json_object_get(o, "last_minute"), "received"), 2);
	assert_string_equal(text(json_object_get(o, "spool"), "health"), "ok");
	assert_true(json_real_value(json_object_get(o, "uptime")) >= 1.0);
	json_decref(o);
	o = ask(rig, QUEUE_BINDINGS, "acme", 0, 0);
	json_t *row = json_array_get(json_object_get(o, "items"), 0);
	assert_int_equal(json_array_size(json_object_get(o, "items")), 1);
	assert_int_equal(number(row, "active"), 1);
	assert_int_equal(number(row, "deferred"), 1);
	assert_int_equal(number(row, "received"), 2);
	assert_string_equal(text(row, "state"), "normal");
	assert_true(json_is_null(json_object_get(o, "next")));
	json_decref(o);
	o = ask(rig, QUEUE_QUEUES, "", 0, 0);
	assert_int_equal(json_array_size(json_object_get(o, "items")), 2);
	bool seen_dead = false;
	size_t i;
	json_array_foreach (json_object_get(o, "items"), i, row) {
		assert_int_equal(number(row, "limit"), 32);
		if (strcmp(text(row, "next_hop"), "dead.example") == 0) {
			seen_dead = true;
			assert_string_equal(text(row, "state"), "connect");
			assert_non_null(strstr(text(row, "reason"), "back-off: "));
			assert_string_not_equal(text(row, "next_attempt"), "");
		}
	}
	assert_true(seen_dead);
	json_decref(o);
	o = ask(rig, QUEUE_BINDINGS, "nobody", 0, 0); /* as a filter */
	assert_int_equal(json_array_size(json_object_get(o, "items")), 0);
	json_decref(o);
	o = ask(rig, QUEUE_CONNECTIONS, "", 0, 0);
	row = json_array_get(json_object_get(o, "items"), 0);
	assert_string_equal(text(row, "source"), "192.0.2.20");
	assert_string_equal(text(row, "peer"), "203.0.113.1");
	assert_string_equal(text(row, "binding"), "acme");
	json_decref(o);
	rig_run(rig, 120 * SECOND_US);
	o = ask(rig, QUEUE_SUMMARY, "", 0, 0);
	assert_int_equal(number(o, "received"), 2);
	assert_int_equal(number(json_object_get(o, "last_minute"), "received"), 0);
	json_decref(o);
	struct str prometheus;
	str_init(&prometheus);
	metrics_print(rig->metrics, &prometheus);
	assert_non_null(strstr(prometheus.data, "bindpost_binding_received_total{binding=\"acme\"} 2"));
	assert_non_null(strstr(prometheus.data, "bindpost_binding_deferred{binding=\"acme\"} 1"));
	assert_non_null(strstr(prometheus.data, "bindpost_binding_connections{binding=\"acme\"} 1"));
	assert_non_null(strstr(prometheus.data, "\nbindpost_queue_memory_max_bytes "));
	str_free(&prometheus);
	rig_free(&rig);
}

/* Ten thousand new ones at once would keep queue and net from their work for a tenth of a second. */
static void test_metrics_of_many_new_bindings(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(TWO_BINDINGS);
	struct str policy, prometheus;
	str_init(&policy);
	str_init(&prometheus);
	str_add(&policy, "{\"bindings\": {\"default\": {\"bind_address\": \"192.0.2.10\"}");
	for (unsigned i = 0; i < 5000; i++)
		str_printf(&policy, ", \"b%u\": {\"bind_address\": \"10.0.%u.%u\"}", i, i >> 8, i & 255);
	str_add(&policy, "}}");
	rig_reload(rig, policy.data);
	metrics_print(rig->metrics, &prometheus);
	assert_null(strstr(prometheus.data, "{binding=\"b4999\"}"));
	rig_send(rig, "b4999", "a@acme.example", "x@example.com");
	rig_settle(rig);
	str_clear(&prometheus);
	metrics_print(rig->metrics, &prometheus);
	assert_non_null(strstr(prometheus.data, "bindpost_binding_received_total{binding=\"b4999\"} 1"));
	assert_non_null(strstr(prometheus.data, "bindpost_binding_held{binding=\"b4998\"} 0"));
	str_free(&policy);
	str_free(&prometheus);
	rig_free(&rig);
}

static const char *first_text(
        struct rig *rig, enum queue_question question, const char *key, char *out, size_t size)
{
	json_t *o = ask(rig, question, "", 0, 0);
	snprintf(out, size, "%s", text(json_array_get(json_object_get(o, "items"), 0), key));
	json_decref(o);
	return out;
}

/* Why mail waits is known after a restart, too, and does not cost a copy for each. */
static void test_last_reply_survives(void **state)
{
	(void)state;
	char was[64], is[64];
	struct rig *rig = ready_rig(TWO_BINDINGS);
	rig_mx(rig, "203.0.113.1")->says = says_later;
	for (int i = 0; i < 50; i++)
		rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, 5 * SECOND_US);
	rig_run(rig, SECOND_US);
	first_text(rig, QUEUE_MESSAGES, "reply", was, sizeof(was));
	assert_non_null(strstr(was, "as told"));
	rig_restart(rig);
	rig_run(rig, SECOND_US);
	assert_string_equal(first_text(rig, QUEUE_MESSAGES, "reply", is, sizeof(is)), was);
	rig_free(&rig);
}

/* The time of a queue is that of the first of its deferred. */
static void test_next_attempt_of_a_queue(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(TWO_BINDINGS);
	char first[64], now[64];
	rig_mx(rig, "203.0.113.1")->says = says_later;
	rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US);
	first_text(rig, QUEUE_QUEUES, "next_attempt", first, sizeof(first));
	assert_int_equal(strlen(first), strlen("2027-01-15T08:00:00.000000Z"));
	rig_run(rig, 600 * SECOND_US);
	rig_send(rig, "acme", "a@acme.example", "y@example.com");
	rig_run(rig, SECOND_US);
	assert_string_equal(first_text(rig, QUEUE_QUEUES, "next_attempt", now, sizeof(now)), first);
	rig_free(&rig);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_delivered),
        cmocka_unit_test(test_retry_times),
        cmocka_unit_test(test_bounce_and_dsn),
        cmocka_unit_test(test_dsn_goes_without_tls),
        cmocka_unit_test(test_dsn_of_dot_lines_is_stuffed),
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
        cmocka_unit_test(test_priority_option),
        cmocka_unit_test(test_stop_loses_nothing),
        cmocka_unit_test(test_jobs_not_begun),
        cmocka_unit_test(test_memory_bound),
        cmocka_unit_test(test_messages_by_pages),
        cmocka_unit_test(test_one_message),
        cmocka_unit_test(test_summary_bindings_queues_connections),
        cmocka_unit_test(test_metrics_of_many_new_bindings),
        cmocka_unit_test(test_last_reply_survives),
        cmocka_unit_test(test_next_attempt_of_a_queue),
};

TEST_MAIN("queue_flow", tests)
