/* reroute, and rebind by policy: where mail that is queued goes instead. */
#include "queue/queue_in.h"
#include "t/lib/queue_rig.h"
#include "t/lib/test.h"
#include <jansson.h>

#define MINUTE_US (60 * SECOND_US)
#define HOUR_US (3600 * SECOND_US)
#define BINDINGS                                                                                             \
	"'bindings': {'default': {'bind_address': '192.0.2.10'}, 'acme': {'bind_address': '192.0.2.20', "    \
	"'match_domain': ['acme.example']}, 'other': {'bind_address': '192.0.2.30', 'match_domain': "        \
	"['guarded.example'], 'match_domain_from': ['10.0.0.0/8']}}"

static struct rig *ready_rig(const char *policy)
{
	struct rig *rig = rig_new(policy);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_route(rig, "backup.example", "10 203.0.113.2");
	rig_route(rig, "127.0.0.1:25", "0 127.0.0.1");
	rig_start(rig);
	return rig;
}

static void replied(struct mail *mail)
{
	struct queue_change *c = container_of(mail, struct queue_change, reply);
	*(bool *)c->ctx = true;
}

/* The answer's numbers; matched, changed, unknown */
struct did {
	int matched, changed, unknown, sending;
};

static struct did change(struct rig *rig, struct queue_change *c)
{
	bool done = false;
	struct did did;
	c->queue = rig->queue;
	c->who = "tester (uid 7)";
	c->reply_loop = rig->loop;
	c->reply.take = replied;
	c->ctx = &done;
	queue_change(c);
	while (!done)
		rig_run(rig, 1000);
	json_t *o = json_loads(c->json.data, 0, NULL);
	did.matched = (int)json_integer_value(json_object_get(o, "matched"));
	did.changed = (int)json_integer_value(json_object_get(o, "changed"));
	did.unknown = (int)json_integer_value(json_object_get(o, "unknown"));
	did.sending = (int)json_integer_value(json_object_get(o, "sending"));
	json_decref(o);
	str_free(&c->json);
	return did;
}

static struct did reroute(struct rig *rig, const char *domain, const char *to)
{
	struct queue_change c = {.kind = QUEUE_REROUTE, .to = to, .select.domain = {.at = &domain, .n = 1}};
	return change(rig, &c);
}

static struct did by_policy(struct rig *rig, bool dry_run)
{
	struct queue_change c = {
	        .kind = QUEUE_REBIND, .policy = true, .select.all = true, .dry_run = dry_run};
	return change(rig, &c);
}

/* --- reroute ------------------------------------------------------------------------------------------------------ */

static void test_reroute(void **state)
{
	(void)state;
	struct rig *rig = ready_rig("{" BINDINGS "}");
	rig_mx(rig, "203.0.113.1")->says = rig_says_later;
	uint64_t id = rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US);
	struct did did = reroute(rig, "example.com", "backup.example");
	assert_int_equal(did.changed, 1);
	assert_int_equal(reroute(rig, "example.com", "backup.example").matched, 0);
	assert_string_equal(rig_delivery(rig, id, 0)->domain, "backup.example");
	assert_string_equal(rig_delivery(rig, id, 0)->binding, "acme");
	assert_int_equal(rig_count(rig, "reroute"), 1);
	assert_non_null(strstr(rig_event(rig, "reroute", 0)->line, "\"domain\":\"backup.example\""));
	assert_non_null(strstr(rig_event(rig, "admin", 0)->line, "\"reason\":\"reroute\""));
	char *rows = rig_ask(rig, QUEUE_MESSAGES, "", 0, 0, 10);
	assert_non_null(strstr(rows, "\"domain\":\"backup.example\""));
	assert_non_null(strstr(rows, "x@example.com"));
	free(rows);
	/* for good, its time and its recipients' addresses stay; what comes later goes the usual way */
	rig_restart(rig);
	uint64_t later = rig_send(rig, "acme", "a@acme.example", "y@example.com");
	rig_run(rig, SECOND_US);
	assert_false(rig_delivery(rig, id, 0)->done);
	rig_run(rig, HOUR_US);
	assert_true(rig_delivery(rig, id, 0)->done);
	assert_int_equal(rig_mx(rig, "203.0.113.2")->jobs, 1);
	assert_false(rig_delivery(rig, later, 0)->done);
	assert_string_equal(rig_event(rig, "delivery", 0)->recipient, "x@example.com");
	rig_free(&rig);
}

static void test_reroute_under_way(void **state)
{
	(void)state;
	struct rig *rig = ready_rig("{" BINDINGS "}");
	struct rig_mx *mx = rig_mx(rig, "203.0.113.1");
	mx->says = rig_says_later;
	mx->job_us = 10 * SECOND_US;
	uint64_t id = rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US);
	assert_int_equal(reroute(rig, "example.com", "backup.example").changed, 1);
	const char *acme = "acme";
	struct queue_change c = {
	        .kind = QUEUE_REBIND, .to = "other", .select.binding = {.at = &acme, .n = 1}};
	assert_int_equal(change(rig, &c).changed, 1);
	rig_run(rig, HOUR_US);
	assert_int_equal(mx->jobs, 1);
	assert_true(rig_delivery(rig, id, 0)->done);
	assert_string_equal(rig_event(rig, "deferral", 0)->binding, "acme");
	assert_string_equal(rig_event(rig, "delivery", 0)->binding, "other");
	assert_string_equal(rig_event(rig, "delivery", 0)->mx, "mx-203.0.113.2");
	assert_string_equal(rig_delivery(rig, id, 0)->binding, "other");
	assert_string_equal(rig_delivery(rig, id, 0)->domain, "backup.example");
	rig_free(&rig);
}

/* A group's mail stays the group's. */
static void test_reroute_of_a_group(void **state)
{
	(void)state;
	struct rig *rig = ready_rig(
	        "{'binding_groups': {'g': {'bindings': {'g1': {'bind_address': '192.0.2.41'}, 'g2': "
	        "{'bind_address': '192.0.2.42'}}}}, " BINDINGS "}");
	rig_mx(rig, "203.0.113.1")->says = rig_says_later;
	for (int i = 0; i < 20; i++)
		rig_send(rig, "group:g", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US);
	assert_int_equal(reroute(rig, "example.com", "backup.example").changed, 20);
	rig_restart(rig);
	rig_run(rig, HOUR_US);
	assert_int_equal(rig_open(rig), 0);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(rig_event(rig, "delivery", i)->binding[0], 'g');
	rig_free(&rig);
}

/* --- rebind by policy ------------------------------------------------------------------------------------------------ */

#define WITH_RULES(rules) "{'rules': [" rules "], " BINDINGS "}"

static struct rig *held_rig(const char *policy)
{
	struct rig *rig = ready_rig(policy);
	rig_mx(rig, "203.0.113.1")->mode = MX_SILENT;
	rig_header(rig, "Received: by mta.example.net\r\nX-Customer: acme\r\nSubject: a\r\n b\r\n\r\n");
	return rig;
}

static const char *binding_of(struct rig *rig, uint64_t id)
{
	return rig_delivery(rig, id, 0)->binding;
}

static void test_policy(void **state)
{
	(void)state;
	struct rig *rig = held_rig(
	        WITH_RULES("{'when': 'header:X-Customer == \\u0027nobody\\u0027', 'bind': 'other'}"));
	uint64_t id = rig_send(rig, "default", "a@b.example", "x@example.com");
	uint64_t domain = rig_send(rig, "default", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US);
	/* of itself a new policy moves nothing */
	rig_reload(rig, WITH_RULES("{'when': 'header:X-Customer == \\u0027acme\\u0027 AND header:Subject == "
	                           "\\u0027a b\\u0027 AND "
	                           "mailfrom_domain == \\u0027b.example\\u0027', 'bind': 'other'}"));
	rig_run(rig, SECOND_US);
	assert_string_equal(binding_of(rig, id), "");
	struct did did = by_policy(rig, true);
	assert_int_equal(did.matched, 2);
	assert_int_equal(did.changed, 0);
	assert_string_equal(binding_of(rig, id), "");
	did = by_policy(rig, false);
	assert_int_equal(did.changed, 2);
	assert_int_equal(did.unknown, 0);
	assert_string_equal(binding_of(rig, id), "other");
	assert_string_equal(binding_of(rig, domain), "acme"); /* match_domain */
	assert_int_equal(by_policy(rig, false).matched, 0);
	assert_int_equal(rig_count(rig, "rebind"), 1);
	assert_string_equal(rig_event(rig, "rebind", 0)->reason, "by policy");
	assert_int_equal(rig_count(rig, "admin"), 1);
	rig_restart(rig);
	assert_int_equal(by_policy(rig, false).matched, 0);
	rig_free(&rig);
}

/* A rule on the way that would have to know more: the mail stays, and is counted. */
static void test_policy_in_doubt(void **state)
{
	(void)state;
	struct rig *rig = held_rig(WITH_RULES("{'when': 'sender_ip in \\u002710.0.0.0/8\\u0027 AND "
	                                      "mailfrom_domain == \\u0027b.example\\u0027', 'bind': "
	                                      "'other'},"
	                                      "{'when': 'NOT auth_user == \\u0027x\\u0027 AND "
	                                      "mailfrom_domain == \\u0027c.example\\u0027', 'bind': "
	                                      "'other'},"
	                                      "{'when': 'body =~ \\u0027x\\u0027 OR mailfrom_domain == "
	                                      "\\u0027d.example\\u0027', 'bind': 'other'}"));
	uint64_t b = rig_send(rig, "default", "a@b.example", "x@example.com");
	uint64_t c = rig_send(rig, "default", "a@c.example", "x@example.com");
	uint64_t d = rig_send(rig, "default", "a@d.example", "x@example.com");
	uint64_t e = rig_send(rig, "acme", "a@e.example", "x@example.com");
	rig_run(rig, SECOND_US);
	struct did did = by_policy(rig, false);
	assert_int_equal(did.changed, 1);
	assert_int_equal(did.unknown, 3);
	assert_string_equal(binding_of(rig, b), "");
	assert_string_equal(binding_of(rig, c), "");
	assert_string_equal(binding_of(rig, d), "other"); /* whatever the body is */
	assert_string_equal(binding_of(rig, e), "");
	rig_free(&rig);
}

/* Whom match_domain_from believes cannot be told either. */
static void test_policy_guarded_domain(void **state)
{
	(void)state;
	struct rig *rig = held_rig("{" BINDINGS "}");
	rig_send(rig, "default", "a@guarded.example", "x@example.com");
	uint64_t id = rig_send(rig, "acme", "a@nobody.example", "x@example.com");
	rig_run(rig, SECOND_US);
	struct did did = by_policy(rig, false);
	assert_int_equal(did.unknown, 1);
	assert_int_equal(did.changed, 1);
	assert_string_equal(binding_of(rig, id), "default");
	rig_free(&rig);
}

static void test_policy_recipients(void **state)
{
	(void)state;
	struct rig *rig = held_rig(WITH_RULES("{'when': 'rcptto =~ \\u0027^vip\\u0027', 'bind': 'other'}"));
	uint64_t vip = rig_send(rig, "default", "a@b.example", "vip@example.com vip2@example.com");
	uint64_t both = rig_send(rig, "default", "a@b.example", "vip@example.com x@example.com");
	uint64_t none = rig_send(rig, "default", "a@b.example", "x@example.com");
	rig_run(rig, SECOND_US);
	struct did did = by_policy(rig, false);
	assert_int_equal(did.changed, 1);
	assert_int_equal(did.unknown, 1);
	assert_string_equal(binding_of(rig, vip), "other");
	assert_string_equal(binding_of(rig, both), "");
	assert_string_equal(binding_of(rig, none), "");
	rig_free(&rig);
}

/* What a list of targets gave is not drawn again. */
static void test_policy_keeps_what_it_may_choose(void **state)
{
	(void)state;
	struct rig *rig =
	        held_rig(WITH_RULES("{'when': 'size > \\u00271\\u0027', 'bind': ['acme', 'other']}"));
	for (int i = 0; i < 30; i++)
		rig_send(rig, i % 2 ? "acme" : "other", "a@b.example", "x@example.com");
	uint64_t id = rig_send(rig, "default", "a@b.example", "x@example.com");
	rig_run(rig, SECOND_US);
	assert_int_equal(by_policy(rig, false).changed, 1);
	assert_true(strcmp(binding_of(rig, id), "acme") == 0 || strcmp(binding_of(rig, id), "other") == 0);
	rig_free(&rig);
}

/* In slices, no more headers in memory than a few, and fresh mail goes on. */
static void test_policy_many(void **state)
{
	(void)state;
	struct rig *rig = held_rig("{" BINDINGS "}");
	rig->keep_log = false;
	for (int i = 0; i < 5000; i++)
		rig_send(rig, "default", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US);
	assert_int_equal(by_policy(rig, false).changed, 5000);
	assert_int_equal(by_policy(rig, false).matched, 0);
	rig_free(&rig);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reroute),
        cmocka_unit_test(test_reroute_under_way),
        cmocka_unit_test(test_reroute_of_a_group),
        cmocka_unit_test(test_policy),
        cmocka_unit_test(test_policy_in_doubt),
        cmocka_unit_test(test_policy_guarded_domain),
        cmocka_unit_test(test_policy_recipients),
        cmocka_unit_test(test_policy_keeps_what_it_may_choose),
        cmocka_unit_test(test_policy_many),
};

TEST_MAIN("queue_moves", tests)
