/* What operators do to queued mail, on the queue with a real spool: slices, restarts, deliveries under way. */
#include <jansson.h>
#include <string.h>

#include "t/lib/queue_rig.h"
#include "t/lib/test.h"

#define POLICY                                                                                               \
	"{'bindings': {'acme': {'bind_address': '192.0.2.20'}, 'other': {'bind_address': '192.0.2.21'}, "    \
	"'default': {'bind_address': '192.0.2.10'}}, 'binding_groups': {'pool': {'bindings': {"              \
	"'p1': {'bind_address': '192.0.2.31'}, 'p2': {'bind_address': '192.0.2.32'}}}}}"

static struct rig *rig_of(void)
{
	struct rig *rig = rig_new(POLICY);
	rig_route(rig, "example.com", "10 203.0.113.1");
	rig_route(rig, "slow.example", "10 203.0.113.2");
	rig_route(rig, "dead.example", "10 203.0.113.9");
	rig_route(rig, "127.0.0.1:25", "0 127.0.0.1");
	rig_mx(rig, "203.0.113.1")->says = rig_says_later;
	rig_mx(rig, "203.0.113.2")->job_us = 60 * SECOND_US;
	rig_mx(rig, "203.0.113.9")->mode = MX_REFUSE;
	rig_start(rig);
	return rig;
}

/* --- asking ------------------------------------------------------------------------------------------------ */

static void changed(struct mail *mail)
{
	*(bool *)container_of(mail, struct queue_change, reply)->ctx = true;
}

static json_t *change(struct rig *rig, struct queue_change *c)
{
	bool done = false;
	c->queue = rig->queue;
	c->who = "tester (uid 7)";
	c->reply_loop = rig->loop;
	c->reply.take = changed;
	c->ctx = &done;
	queue_change(c);
	for (int i = 0; !done && i < 1000; i++)
		rig_run(rig, 1000);
	assert_true(done);
	json_t *o = json_loads(c->json.data, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(o);
	str_free(&c->json);
	return o;
}

static json_int_t number(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

struct of { /* one word of each */
	const char *binding, *domain, *sender, *recipient;
	uint64_t id, older_than_us;
};

static struct queue_change make(enum queue_change_kind kind, const struct of *of)
{
	struct queue_change c = {.kind = kind, .code = 550, .enhanced = "5.7.1", .text = "not wanted"};
	struct words *words[] = {&c.select.binding, &c.select.domain, &c.select.sender, &c.select.recipient};
	const char *const *texts[] = {&of->binding, &of->domain, &of->sender, &of->recipient};
	for (unsigned i = 0; i < array_len(words); i++) {
		words[i]->at = (const char **)texts[i];
		words[i]->n = *texts[i] != NULL;
	}
	c.select.id = &of->id;
	c.select.n_id = of->id != 0;
	c.select.older_than_us = of->older_than_us;
	c.for_us = kind == QUEUE_DELAY ? 7200 * SECOND_US : 0;
	return c;
}

static void expect(struct rig *rig, enum queue_change_kind kind, const struct of *of, int matched, int made)
{
	struct queue_change c = make(kind, of);
	json_t *o = change(rig, &c);
	assert_int_equal(number(o, "matched"), matched);
	assert_int_equal(number(o, "changed"), made);
	json_decref(o);
}

static json_int_t total(struct rig *rig, const char *key)
{
	char *text = rig_ask(rig, QUEUE_SUMMARY, "", 0, 0, 0);
	json_t *o = json_loads(text, 0, NULL);
	json_int_t n = number(o, key);
	json_decref(o);
	mem_free(&text);
	return n;
}

/* --- tests --------------------------------------------------------------------------------------------------- */

static const struct of all = {0}, acme = {.binding = "acme"};

static void test_selectors(void **state)
{
	(void)state;
	struct rig *rig = rig_of();
	uint64_t first = rig_send(rig, "acme", "A@acme.example", "x@example.com");
	rig_send(rig, "acme", "a@acme.example", "y@example.com z@example.com");
	rig_run(rig, 100 * SECOND_US);
	rig_send(rig, "other", "", "x@example.com");
	rig_run(rig, SECOND_US);
	const struct {
		struct of of;
		int n;
	} table[] = {
	        {all, 3},
	        {acme, 2},
	        {{.domain = "example.com"}, 3},
	        {{.domain = "example.org"}, 0},
	        {{.sender = "a@acme.example"}, 1},
	        {{.sender = "A@acme.example"}, 1},
	        {{.sender = "@acme.example"}, 2},
	        {{.sender = "@cme.example"}, 0},
	        {{.sender = ""}, 1},
	        {{.recipient = "z@EXAMPLE.com"}, 1},
	        {{.recipient = "x@example.com"}, 2},
	        {{.recipient = "x@example.com", .binding = "acme"}, 1},
	        {{.recipient = "@example.com"}, 3},
	        {{.id = first}, 1},
	        {{.id = 1}, 0},
	        {{.id = first, .binding = "other"}, 0},
	        {{.older_than_us = 50 * SECOND_US}, 2},
	        {{.older_than_us = 500 * SECOND_US}, 0},
	        {{.binding = "group:pool"}, 0},
	        {{.binding = "nobody"}, 0},
	};
	for (unsigned i = 0; i < array_len(table); i++) {
		struct queue_change c = make(QUEUE_DELETE, &table[i].of);
		c.dry_run = true;
		json_t *o = change(rig, &c);
		if (number(o, "matched") != table[i].n)
			fail_msg("row %u: %d", i, (int)number(o, "matched"));
		assert_int_equal(json_array_size(json_object_get(o, "items")), table[i].n);
		json_decref(o);
	}
	assert_int_equal(total(rig, "deferred"), 3);
	assert_int_equal(rig_count(rig, "admin"), 0);
	rig_free(&rig);
}

static void test_hold_release_delay_survive(void **state)
{
	(void)state;
	struct rig *rig = rig_of();
	uint64_t id = rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_send(rig, "other", "a@acme.example", "y@example.com");
	rig_run(rig, SECOND_US);
	expect(rig, QUEUE_HOLD, &acme, 1, 1);
	expect(rig, QUEUE_HOLD, &acme, 0, 0);
	expect(rig, QUEUE_FLUSH, &acme, 0, 0);
	assert_int_equal(total(rig, "held"), 1);
	rig_restart(rig);
	rig_run(rig, 10 * 86400 * SECOND_US); /* held mail does not expire */
	assert_int_equal(total(rig, "held"), 1);
	assert_int_equal(rig_count_for(rig, "expiration", id), 0);
	rig_mx(rig, "203.0.113.1")->says = NULL;
	expect(rig, QUEUE_RELEASE, &all, 1, 1);
	rig_run(rig, 2 * SECOND_US);
	assert_int_equal(rig_count_for(rig, "delivery", id), 1);
	rig_mx(rig, "203.0.113.1")->says = rig_says_later;
	id = rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US);
	expect(rig, QUEUE_DELAY, &acme, 1, 1);
	rig_restart(rig);
	rig_mx(rig, "203.0.113.1")->says = NULL;
	rig_run(rig, 7000 * SECOND_US);
	assert_int_equal(rig_count_for(rig, "delivery", id), 0);
	rig_run(rig, 300 * SECOND_US);
	assert_int_equal(rig_count_for(rig, "delivery", id), 1);
	rig_free(&rig);
}

/* The back-off of the queue and what is known of its MX hosts does not stand in the way. */
static void test_flush_tries_at_once(void **state)
{
	(void)state;
	struct rig *rig = rig_of();
	rig_send(rig, "acme", "a@acme.example", "x@dead.example");
	rig_run(rig, SECOND_US);
	assert_int_equal(total(rig, "deferred"), 1);
	rig_mx(rig, "203.0.113.9")->mode = MX_OK;
	unsigned connects = rig_mx(rig, "203.0.113.9")->connects;
	expect(rig, QUEUE_FLUSH, &all, 1, 1);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 1);
	assert_int_equal(rig_mx(rig, "203.0.113.9")->connects, connects + 1);
	rig_free(&rig);
}

static void test_fail_some_recipients(void **state)
{
	(void)state;
	const struct of y = {.recipient = "y@example.com"};
	struct rig *rig = rig_of();
	uint64_t id = rig_send(rig, "acme", "a@acme.example", "x@example.com y@example.com z@example.com");
	rig_run(rig, SECOND_US);
	expect(rig, QUEUE_HOLD, &acme, 1, 1);
	expect(rig, QUEUE_FAIL, &y, 1, 1);
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count(rig, "bounce"), 1);
	assert_string_equal(rig_event(rig, "bounce", 0)->recipient, "y@example.com");
	assert_int_equal(rig_event(rig, "bounce", 0)->code, 550);
	assert_string_equal(rig_event(rig, "bounce", 0)->reply, "not wanted");
	assert_int_equal(rig_count(rig, "dsn"), 1);
	assert_int_equal(total(rig, "held"), 1); /* the others as they were */
	rig_restart(rig);
	assert_int_equal(total(rig, "held"), 1);
	const struct of x = {.recipient = "x@example.com"};
	expect(rig, QUEUE_DELETE, &x, 1, 1);
	rig_restart(rig);
	rig_mx(rig, "203.0.113.1")->says = NULL;
	expect(rig, QUEUE_RELEASE, &all, 1, 1);
	rig_run(rig, 2 * SECOND_US);
	assert_int_equal(rig_count_for(rig, "delivery", id), 1);
	assert_string_equal(
	        rig_event(rig, "delivery", rig_count(rig, "delivery") - 1)->recipient, "z@example.com");
	assert_int_equal(rig_count(rig, "bounce"), 1);
	assert_int_equal(total(rig, "messages"), 0);
	rig_free(&rig);
}

static void test_under_way(void **state)
{
	(void)state;
	struct rig *rig = rig_of();
	rig_mx(rig, "203.0.113.2")->says = rig_says_later;
	uint64_t id = rig_send(rig, "acme", "a@acme.example", "x@slow.example");
	rig_run(rig, SECOND_US);
	assert_int_equal(total(rig, "active"), 1);
	struct queue_change c = make(QUEUE_DELETE, &all);
	json_t *o = change(rig, &c);
	assert_int_equal(number(o, "matched"), 1);
	assert_int_equal(number(o, "changed"), 0);
	assert_int_equal(number(o, "sending"), 1);
	json_decref(o);
	expect(rig, QUEUE_HOLD, &all, 1, 1);
	expect(rig, QUEUE_HOLD, &all, 0, 0);
	expect(rig, QUEUE_RELEASE, &all, 1, 1);
	expect(rig, QUEUE_HOLD, &all, 1, 1);
	rig_run(rig, 100 * SECOND_US);
	assert_int_equal(rig_count_for(rig, "deferral", id), 1);
	assert_int_equal(total(rig, "held"), 1);
	rig_restart(rig);
	assert_int_equal(total(rig, "held"), 1);
	expect(rig, QUEUE_DELETE, &all, 1, 1);
	rig_restart(rig);
	assert_int_equal(total(rig, "messages"), 0);
	rig_free(&rig);
}

/* In slices, with mail coming meanwhile that is not touched, each once. */
static void test_many(void **state)
{
	(void)state;
	struct rig *rig = rig_of();
	rig->keep_log = false;
	for (int i = 0; i < 5000; i++)
		rig_send(rig, i % 2 ? "acme" : "other", "", "x@example.com");
	rig_run(rig, 200 * SECOND_US);
	assert_int_equal(total(rig, "deferred"), 5000);
	expect(rig, QUEUE_HOLD, &acme, 2500, 2500);
	assert_int_equal(total(rig, "held"), 2500);
	rig_restart(rig);
	assert_int_equal(total(rig, "held"), 2500);
	rig->keep_log = true;
	expect(rig, QUEUE_DELETE, &acme, 2500, 2500);
	assert_int_equal(rig_count(rig, "admin"), 1);
	assert_non_null(strstr(rig_event(rig, "admin", 0)->line, "\"count\":2500"));
	assert_non_null(strstr(rig_event(rig, "admin", 0)->line, "\"who\":\"tester (uid 7)\""));
	assert_string_equal(rig_event(rig, "admin", 0)->reason, "delete");
	rig->keep_log = false;
	expect(rig, QUEUE_FAIL, &all, 2500, 2500); /* null sender: no DSNs */
	assert_int_equal(total(rig, "messages"), 0);
	rig_restart(rig);
	assert_int_equal(total(rig, "messages"), 0);
	rig_free(&rig);
}

/* A stop in the middle: what was done by then is told, and holds. */
static void test_stop_in_the_middle(void **state)
{
	(void)state;
	bool done = false;
	struct rig *rig = rig_of();
	rig->keep_log = false;
	for (int i = 0; i < 5000; i++)
		rig_send(rig, "acme", "", "x@example.com");
	rig_run(rig, 200 * SECOND_US);
	struct queue_change c = make(QUEUE_HOLD, &acme);
	c.queue = rig->queue;
	c.who = "tester";
	c.reply_loop = rig->loop;
	c.reply.take = changed;
	c.ctx = &done;
	queue_change(&c);
	for (int i = 0; i < 3; i++)
		loop_step(rig->loop);
	assert_false(done);
	rig_restart(rig);
	assert_true(done);
	json_t *o = json_loads(c.json.data, JSON_REJECT_DUPLICATES, NULL);
	assert_in_range(number(o, "changed"), 1, 4999);
	assert_int_equal(total(rig, "held"), number(o, "changed"));
	assert_int_equal(total(rig, "messages"), 5000);
	json_decref(o);
	str_free(&c.json);
	rig_free(&rig);
}

/* More DSNs than are written at once. */
static void test_fail_many_with_dsns(void **state)
{
	(void)state;
	struct rig *rig = rig_of();
	for (int i = 0; i < 700; i++)
		rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, 100 * SECOND_US);
	expect(rig, QUEUE_FAIL, &acme, 700, 700);
	rig_run(rig, 100 * SECOND_US);
	assert_int_equal(rig_count(rig, "bounce"), 700);
	assert_int_equal(rig_count(rig, "dsn"), 700);
	assert_int_equal(rig_mx(rig, "127.0.0.1")->jobs, 700);
	rig_free(&rig);
}

static void test_header(void **state)
{
	(void)state;
	static const struct {
		const char *word;
		int n;
	} table[] = {{"Subject: original", 60}, {"SUBJECT:original ", 60}, {"Subject", 60},
	        {"Subject: Original", 0}, {"Sub", 0}, {"From: a@b", 60}, {"Hello", 0},
	        {"Subject: origina", 0}};
	struct rig *rig = rig_of();
	for (int i = 0; i < 60; i++)
		rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, 100 * SECOND_US);
	for (unsigned i = 0; i < array_len(table); i++) {
		struct queue_change c = make(QUEUE_HOLD, &acme);
		const char *word = table[i].word;
		c.select.header = (struct words){.at = &word, .n = 1};
		c.dry_run = true;
		json_t *o = change(rig, &c);
		assert_int_equal(number(o, "matched"), table[i].n);
		assert_int_equal(number(o, "unreadable"), 0);
		json_decref(o);
	}
	const char *word = "Subject: original";
	struct queue_change c = make(QUEUE_DELETE, &acme);
	c.select.header = (struct words){.at = &word, .n = 1};
	json_t *o = change(rig, &c);
	assert_int_equal(number(o, "changed"), 60);
	json_decref(o);
	assert_int_equal(total(rig, "messages"), 0);
	rig_free(&rig);
}

static int waiting_at(struct rig *rig, const char *binding)
{
	struct of of = {.binding = binding};
	struct queue_change c = make(QUEUE_DELETE, &of);
	c.dry_run = true;
	json_t *o = change(rig, &c);
	int n = (int)number(o, "matched");
	json_decref(o);
	return n;
}

static void rebind(struct rig *rig, const struct of *of, const char *to, int n)
{
	struct queue_change c = make(QUEUE_REBIND, of);
	c.to = to;
	json_t *o = change(rig, &c);
	assert_int_equal(c.result, CHANGE_DONE);
	assert_int_equal(number(o, "changed"), n);
	json_decref(o);
}

static void test_rebind(void **state)
{
	(void)state;
	const struct of other = {.binding = "other"}, pool = {.binding = "group:pool"};
	struct rig *rig = rig_of();
	rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_send(rig, "group:pool", "a@acme.example", "y@example.com");
	rig_run(rig, SECOND_US);
	struct queue_change bad = make(QUEUE_REBIND, &acme);
	bad.to = "nobody";
	json_decref(change(rig, &bad));
	assert_int_equal(bad.result, CHANGE_UNKNOWN);
	rebind(rig, &acme, "other", 1);
	rebind(rig, &pool, "other", 1); /* out of the group for good */
	rebind(rig, &other, "other", 0);
	assert_int_equal(waiting_at(rig, "other"), 2);
	assert_int_equal(rig_count(rig, "rebind"), 2);
	assert_non_null(strstr(rig_event(rig, "rebind", 0)->line, "\"count\":1"));
	assert_non_null(strstr(rig_event(rig, "rebind", 0)->line, "\"who\":\"tester (uid 7)\""));
	rig_restart(rig);
	assert_int_equal(waiting_at(rig, "other"), 2);
	rebind(rig, &other, "group:pool", 2);
	rig_restart(rig);
	assert_int_equal(waiting_at(rig, "group:pool"), 2);
	assert_int_equal(waiting_at(rig, "p1") + waiting_at(rig, "p2"), 2);
	rebind(rig, &pool, "acme", 2);
	rig_restart(rig);
	rig_mx(rig, "203.0.113.1")->says = NULL;
	expect(rig, QUEUE_FLUSH, &acme, 2, 2);
	rig_run(rig, 2 * SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 2);
	assert_non_null(strstr(rig_event(rig, "delivery", 0)->line, "\"binding\":\"acme\""));
	assert_non_null(strstr(rig_event(rig, "delivery", 0)->line, "192.0.2.20"));
	rig_free(&rig);
}

/* Told under the binding it left from, then retried from the other; durable before it comes back. */
static void test_rebind_under_way(void **state)
{
	(void)state;
	struct rig *rig = rig_of();
	rig_mx(rig, "203.0.113.2")->says = rig_says_later;
	rig_send(rig, "acme", "a@acme.example", "x@slow.example");
	rig_run(rig, SECOND_US);
	rebind(rig, &acme, "other", 1);
	rebind(rig, &acme, "other", 0);
	assert_int_equal(waiting_at(rig, "acme"), 1);
	rig_run(rig, 100 * SECOND_US);
	assert_non_null(strstr(rig_event(rig, "deferral", 0)->line, "\"binding\":\"acme\""));
	assert_int_equal(waiting_at(rig, "acme"), 0);
	assert_int_equal(waiting_at(rig, "other"), 1);
	rig_restart(rig);
	assert_int_equal(waiting_at(rig, "other"), 1);
	rig_free(&rig);
}

static void suspend(struct rig *rig, enum queue_change_kind kind, const struct of *of, uint64_t for_us,
        enum queue_change_result result)
{
	struct queue_change c = make(kind, of);
	c.for_us = for_us;
	json_decref(change(rig, &c));
	assert_int_equal(c.result, result);
}

static void drain(struct rig *rig, const char *binding, const char *to, enum queue_change_result result)
{
	struct of of = {.binding = binding};
	struct queue_change c = make(QUEUE_DRAIN, &of);
	c.to = to;
	json_decref(change(rig, &c));
	assert_int_equal(c.result, result);
}

static void test_drain(void **state)
{
	(void)state;
	struct rig *rig = rig_of();
	rig_mx(rig, "203.0.113.2")->says = rig_says_later;
	rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US);
	expect(rig, QUEUE_HOLD, &acme, 1, 1);
	rig_send(rig, "acme", "a@acme.example", "x@slow.example");
	rig_run(rig, SECOND_US);
	drain(rig, "acme", "nobody", CHANGE_UNKNOWN);
	drain(rig, "acme", "acme", CHANGE_REFUSED);
	drain(rig, "nobody", "other", CHANGE_REFUSED);
	drain(rig, "group:pool", "p1", CHANGE_REFUSED);
	drain(rig, "acme", "other", CHANGE_DONE);
	drain(rig, "other", "acme", CHANGE_REFUSED); /* in a circle */
	rig_run(rig, 2 * SECOND_US);
	assert_int_equal(waiting_at(rig, "acme"), 1); /* being sent */
	rig_run(rig, 100 * SECOND_US);
	assert_int_equal(waiting_at(rig, "acme"), 0);
	assert_int_equal(waiting_at(rig, "other"), 2);
	assert_int_equal(total(rig, "held"), 1);
	assert_int_equal(rig_count(rig, "rebind"), 1);
	assert_true(queue_has_alias(rig->queue, "acme"));
	/* what still names it, also after a restart */
	rig_mx(rig, "203.0.113.1")->says = NULL;
	rig_restart(rig);
	assert_true(queue_has_alias(rig->queue, "acme"));
	uint64_t id = rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US);
	assert_int_equal(rig_count_for(rig, "delivery", id), 1);
	assert_non_null(strstr(rig_event(rig, "delivery", rig_count(rig, "delivery") - 1)->line,
	        "\"source\":\"192.0.2.21\""));
	/* further on: a chain */
	drain(rig, "other", "default", CHANGE_DONE);
	id = rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US);
	assert_non_null(strstr(rig_event(rig, "delivery", rig_count(rig, "delivery") - 1)->line,
	        "\"source\":\"192.0.2.10\""));
	/* in use again; and forgotten after its time */
	suspend(rig, QUEUE_RESUME, &acme, 0, CHANGE_DONE);
	assert_false(queue_has_alias(rig->queue, "acme"));
	rig_restart(rig);
	assert_false(queue_has_alias(rig->queue, "acme"));
	assert_true(queue_has_alias(rig->queue, "other"));
	rig_run(rig, 60 * 86400 * SECOND_US);
	assert_false(queue_has_alias(rig->queue, "other"));
	rig_restart(rig);
	assert_false(queue_has_alias(rig->queue, "other"));
	rig_free(&rig);
}

static void test_drain_member_and_group(void **state)
{
	(void)state;
	struct rig *rig = rig_of();
	for (int i = 0; i < 20; i++)
		rig_send(rig, "group:pool", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US);
	int p2 = waiting_at(rig, "p2");
	assert_in_range(p2, 1, 19);
	drain(rig, "p1", "other", CHANGE_DONE);
	rig_run(rig, 2 * SECOND_US);
	assert_int_equal(waiting_at(rig, "other"), 20 - p2);
	for (int i = 0; i < 10; i++)
		rig_send(rig, "group:pool", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US);
	assert_int_equal(waiting_at(rig, "p2"), p2 + 10); /* no new choice of it */
	drain(rig, "group:pool", "acme", CHANGE_DONE);
	rig_run(rig, 2 * SECOND_US);
	assert_int_equal(waiting_at(rig, "acme"), p2 + 10);
	rig_restart(rig);
	assert_int_equal(waiting_at(rig, "acme"), p2 + 10);
	assert_int_equal(waiting_at(rig, "other"), 20 - p2);
	rig_free(&rig);
}

/* --- suspensions ------------------------------------------------------------------------------------------------ */

static void test_suspend(void **state)
{
	(void)state;
	const struct of domain = {.binding = "acme", .domain = "example.com"}, nobody = {.binding = "nobody"};
	struct rig *rig = rig_of();
	rig_mx(rig, "203.0.113.1")->says = NULL;
	suspend(rig, QUEUE_SUSPEND, &nobody, 0, CHANGE_UNKNOWN);
	suspend(rig, QUEUE_RESUME, &nobody, 0, CHANGE_UNKNOWN);
	suspend(rig, QUEUE_RESUME, &acme, 0, CHANGE_REFUSED);
	suspend(rig, QUEUE_SUSPEND, &acme, 0, CHANGE_DONE);
	uint64_t id = rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US);
	assert_int_equal(total(rig, "held"), 1);
	rig_restart(rig);
	rig_run(rig, SECOND_US);
	assert_int_equal(total(rig, "held"), 1);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->connects, 0);
	suspend(rig, QUEUE_RESUME, &acme, 0, CHANGE_DONE);
	rig_run(rig, 2 * SECOND_US);
	assert_int_equal(rig_count_for(rig, "delivery", id), 1);
	/* to one domain, for a time, over a restart */
	suspend(rig, QUEUE_SUSPEND, &domain, 3600 * SECOND_US, CHANGE_DONE);
	id = rig_send(rig, "acme", "a@acme.example", "x@example.com");
	rig_run(rig, 1800 * SECOND_US);
	rig_restart(rig);
	rig_run(rig, 1700 * SECOND_US);
	assert_int_equal(rig_count_for(rig, "delivery", id), 0);
	rig_run(rig, 200 * SECOND_US);
	assert_int_equal(rig_count_for(rig, "delivery", id), 1);
	assert_int_equal(rig_count(rig, "suspend"), 2);
	assert_int_equal(rig_count(rig, "resume"), 2);
	rig_restart(rig);
	suspend(rig, QUEUE_RESUME, &domain, 0, CHANGE_REFUSED);
	rig_free(&rig);
}

/* A session at work gets no more, what expires while it waits does. */
static void test_suspend_at_work(void **state)
{
	(void)state;
	const struct of other = {.binding = "other"};
	struct rig *rig = rig_of();
	rig_mx(rig, "203.0.113.1")->says = NULL;
	rig_mx(rig, "203.0.113.1")->job_us = SECOND_US;
	for (int i = 0; i < 2000; i++)
		rig_send(rig, "other", "", "x@example.com");
	rig_run(rig, 5 * SECOND_US);
	suspend(rig, QUEUE_SUSPEND, &other, 0, CHANGE_DONE);
	rig_run(rig, 3 * SECOND_US);
	unsigned jobs = rig_mx(rig, "203.0.113.1")->jobs;
	assert_in_range(jobs, 1, 1999);
	rig_run(rig, 20 * SECOND_US);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, jobs);
	assert_int_equal(rig_mx(rig, "203.0.113.1")->sessions, 0);
	assert_int_equal(total(rig, "held"), 2000 - (json_int_t)jobs);
	suspend(rig, QUEUE_RESUME, &other, 0, CHANGE_DONE);
	assert_true(rig_run_out(rig, 3600 * SECOND_US));
	assert_int_equal(rig_mx(rig, "203.0.113.1")->jobs, 2000);
	rig_free(&rig);
}

/* A suspended member is avoided; a suspended group waits. */
static void test_suspend_members(void **state)
{
	(void)state;
	const struct of p1 = {.binding = "p1"}, pool = {.binding = "group:pool"};
	struct rig *rig = rig_of();
	rig_mx(rig, "203.0.113.1")->says = NULL;
	suspend(rig, QUEUE_SUSPEND, &p1, 0, CHANGE_DONE);
	for (int i = 0; i < 20; i++)
		rig_send(rig, "group:pool", "a@acme.example", "x@example.com");
	rig_run(rig, 5 * SECOND_US);
	for (unsigned i = 0; i < 20; i++)
		assert_string_equal(rig_event(rig, "delivery", i)->binding, "p2");
	suspend(rig, QUEUE_SUSPEND, &pool, 0, CHANGE_DONE);
	rig_send(rig, "group:pool", "a@acme.example", "x@example.com");
	rig_run(rig, 5 * SECOND_US);
	assert_int_equal(total(rig, "held"), 1);
	suspend(rig, QUEUE_RESUME, &pool, 0, CHANGE_DONE);
	rig_run(rig, 5 * SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 21);
	rig_free(&rig);
}

/* Of a group to one domain, when its members have sent there just before. */
static void test_suspend_group_to_a_domain(void **state)
{
	(void)state;
	const struct of pool = {.binding = "group:pool", .domain = "example.com"};
	struct rig *rig = rig_of();
	rig_mx(rig, "203.0.113.1")->says = NULL;
	for (int i = 0; i < 20; i++)
		rig_send(rig, "group:pool", "a@acme.example", "x@example.com");
	rig_run(rig, 5 * SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 20);
	suspend(rig, QUEUE_SUSPEND, &pool, 0, CHANGE_DONE);
	for (int i = 0; i < 20; i++)
		rig_send(rig, "group:pool", "a@acme.example", "x@example.com");
	rig_run(rig, 5 * SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 20);
	assert_int_equal(total(rig, "held"), 20);
	suspend(rig, QUEUE_RESUME, &pool, 0, CHANGE_DONE);
	rig_run(rig, 5 * SECOND_US);
	assert_int_equal(rig_count(rig, "delivery"), 40);
	rig_free(&rig);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_selectors),
        cmocka_unit_test(test_hold_release_delay_survive),
        cmocka_unit_test(test_flush_tries_at_once),
        cmocka_unit_test(test_fail_some_recipients),
        cmocka_unit_test(test_under_way),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_stop_in_the_middle),
        cmocka_unit_test(test_fail_many_with_dsns),
        cmocka_unit_test(test_header),
        cmocka_unit_test(test_rebind),
        cmocka_unit_test(test_rebind_under_way),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_drain_member_and_group),
        cmocka_unit_test(test_suspend),
        cmocka_unit_test(test_suspend_at_work),
        cmocka_unit_test(test_suspend_members),
        cmocka_unit_test(test_suspend_group_to_a_domain),
};

TEST_MAIN("queue_admin", tests)
