/* Quotas: what is queued and what is coming, by several threads at once, and as the queue keeps them. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include "t/lib/queue_rig.h"
#include "t/lib/test.h"

/* --- by itself --------------------------------------------------------------------------------------------------------- */

static void test_counts(void **state)
{
	(void)state;
	struct quotas *all = quotas_new();
	assert_int_equal(quota_take(all, "acme", 100, 0), QUOTA_NONE);
	struct quota *q = quota_get(all, "acme");
	assert_ptr_equal(quota_get(all, "acme"), q);
	assert_true(quota_set(q, 3, 1000));
	assert_int_equal(quota_take(all, "acme", 100, 0), QUOTA_NONE); /* not yet in use */
	quotas_in_use(all, true);
	assert_int_equal(quota_take(all, "other", 100, 0), QUOTA_NONE);
	assert_int_equal(quota_take(all, "acme", 100, 0), QUOTA_TAKEN);
	assert_int_equal(quota_take(all, "acme", 901, 0), QUOTA_BYTES);
	assert_int_equal(quota_take(all, "acme", 900, 0), QUOTA_TAKEN);
	assert_int_equal(quota_take(all, "acme", 0, 0), QUOTA_TAKEN);
	assert_int_equal(quota_take(all, "acme", 0, 0), QUOTA_MESSAGES);
	quota_give_back(all, "acme", 900);
	/* in the queue before it is no longer coming */
	quota_queued(q, 1, 100);
	assert_int_equal(quota_take(all, "acme", 1, 0), QUOTA_MESSAGES);
	quota_settle(all, "acme", 100);
	assert_int_equal(quota_bytes(q), 100);
	assert_int_equal(quota_take(all, "acme", 1, 0), QUOTA_TAKEN);
	quota_queued(q, -1, -100);
	assert_int_equal(quota_take(all, "acme", 1, 0), QUOTA_TAKEN);
	assert_int_equal(quota_take(all, "acme", 1, 0), QUOTA_MESSAGES);
	assert_false(quota_set(q, 0, 0));
	assert_int_equal(quota_take(all, "acme", 1, 0), QUOTA_TAKEN);
	quotas_free(&all);
}

static void test_rate(void **state)
{
	(void)state;
	struct quotas *all = quotas_new();
	struct quota *a = quota_get(all, "a"), *b = quota_get(all, "b"), *c = quota_get(all, "c");
	assert_true(quota_set_inbound(all, a, "global", (struct rate){3, 10}));
	assert_true(quota_set_inbound(all, b, "global", (struct rate){3, 10}));
	assert_true(quota_set_inbound(all, c, "bindings.c", (struct rate){1, 10}));
	quotas_in_use(all, true);
	uint64_t now = 1000 * SECOND_US;
	assert_int_equal(quota_take(all, "a", 1, now), QUOTA_TAKEN);
	assert_int_equal(quota_take(all, "b", 1, now), QUOTA_TAKEN);
	assert_int_equal(quota_take(all, "a", 1, now + SECOND_US), QUOTA_TAKEN);
	assert_int_equal(quota_take(all, "b", 1, now + 9 * SECOND_US), QUOTA_RATE);
	assert_int_equal(quota_take(all, "c", 1, now + 9 * SECOND_US), QUOTA_TAKEN);
	assert_int_equal(quota_take(all, "c", 1, now + 9 * SECOND_US), QUOTA_RATE);
	/* what is refused does not count: two of the three are over */
	now += 10 * SECOND_US + 100000;
	assert_int_equal(quota_take(all, "b", 1, now), QUOTA_TAKEN);
	assert_int_equal(quota_take(all, "b", 1, now), QUOTA_TAKEN);
	assert_int_equal(quota_take(all, "b", 1, now), QUOTA_RATE);
	assert_false(quota_set_inbound(all, b, "", (struct rate){0, 0}));
	assert_int_equal(quota_take(all, "b", 1, now), QUOTA_TAKEN);
	quotas_free(&all);
}

#define THREADS 4
#define TURNS 20000
#define MOST 50

struct shared {
	struct quotas *quotas;
	_Atomic int have, most;
};

static void *take_and_give(void *ctx)
{
	struct shared *s = ctx;
	char name[20];
	for (int i = 0; i < TURNS; i++) {
		snprintf(name, sizeof(name), "b%d", i % 100);
		(void)quota_take(s->quotas, name, 1, 0); /* some are being made */
		if (quota_take(s->quotas, "acme", 10, 0) != QUOTA_TAKEN)
			continue;
		int have = atomic_fetch_add(&s->have, 1) + 1, most = atomic_load(&s->most);
		while (have > most && !atomic_compare_exchange_weak(&s->most, &most, have))
			;
		if (i % 3) {
			atomic_fetch_sub(&s->have, 1);
			quota_give_back(s->quotas, "acme", 10);
		}
	}
	return NULL;
}

static void test_threads(void **state)
{
	(void)state;
	struct shared s = {.quotas = quotas_new()};
	pthread_t threads[THREADS];
	char name[20];
	quota_set(quota_get(s.quotas, "acme"), MOST, 0);
	quotas_in_use(s.quotas, true);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, &s), 0);
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "b%d", i);
		quota_set(quota_get(s.quotas, name), 1000000, 0);
	}
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(s.most, MOST);
	assert_int_equal(s.have, MOST);
	quotas_free(&s.quotas);
}

/* --- as the queue keeps them ---------------------------------------------------------------------------------------------- */

static enum quota_verdict room(struct rig *rig, const char *target)
{
	enum quota_verdict v = queue_quota_take(rig->queue, target, 5000);
	if (v == QUOTA_TAKEN)
		queue_quota_give_back(rig->queue, target, 5000);
	return v;
}

static void send_to(struct rig *rig, const char *target, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		rig_send(rig, target, "a@acme.example", "x@example.com");
	rig_run(rig, SECOND_US / 10);
}

static struct rig *stuck_rig(const char *policy)
{
	struct rig *rig = rig_new(policy);
	rig_route_all(rig, "10 203.0.113.1");
	rig_mx(rig, "203.0.113.1")->mode = MX_REFUSE;
	rig_start(rig);
	return rig;
}

#define POLICY                                                                                               \
	"{'global': {'max_queued_messages': 5}, 'binding_groups': {'g': {'max_queued_messages': 3, "         \
	"'bindings': {"                                                                                      \
	"'m1': {'bind_address': '192.0.2.1'}, 'm2': {'bind_address': '192.0.2.2', 'max_queued_messages': "   \
	"4}}}}, "                                                                                            \
	"'bindings': {'default': {'bind_address': '192.0.2.3'}, 'big': {'bind_address': '192.0.2.4', "       \
	"'max_queued_messages': 0, 'max_queued_bytes': 30000}}}"

/* By value: each binding for itself; retries, restarts and reloads change nothing of it; delivery makes room. */
static void test_queue_counts(void **state)
{
	(void)state;
	struct rig *rig = stuck_rig(POLICY);
	send_to(rig, "default", 4);
	assert_int_equal(room(rig, "default"), QUOTA_TAKEN);
	assert_int_equal(room(rig, "big"), QUOTA_TAKEN);
	send_to(rig, "default", 1);
	assert_int_equal(room(rig, "default"), QUOTA_MESSAGES);
	assert_int_equal(room(rig, "big"), QUOTA_TAKEN);
	send_to(rig, "big", 6);
	assert_int_equal(room(rig, "big"), QUOTA_BYTES);
	rig_run(rig, 2 * 3600 * SECOND_US);
	assert_int_equal(room(rig, "default"), QUOTA_MESSAGES);
	rig_restart(rig);
	assert_int_equal(room(rig, "default"), QUOTA_MESSAGES);
	assert_int_equal(room(rig, "big"), QUOTA_BYTES);
	rig_reload(rig,
	        "{'global': {'max_queued_messages': 6}, 'bindings': {'big': {'bind_address': '192.0.2.4'}, "
	        "'default': {'bind_address': '192.0.2.3'}}}");
	assert_int_equal(room(rig, "default"), QUOTA_TAKEN);
	assert_int_equal(room(rig, "big"), QUOTA_MESSAGES); /* by the global value: it has 6 */
	char *json = rig_ask(rig, QUEUE_BINDINGS, "big", 0, 0, 0);
	assert_non_null(strstr(json, "\"queued_bytes\":30000"));
	assert_non_null(strstr(json, "\"refused_by\":\"max_queued_messages\""));
	mem_free(&json);
	rig_mx(rig, "203.0.113.1")->mode = MX_OK;
	assert_true(rig_run_out(rig, 24 * 3600 * SECOND_US));
	assert_int_equal(room(rig, "big"), QUOTA_TAKEN);
	rig_reload(rig, "{}");
	assert_int_equal(room(rig, "default"), QUOTA_NONE);
	rig_free(&rig);
}

/* A group's is the sum of its members'. */
static void test_groups(void **state)
{
	(void)state;
	struct rig *rig = stuck_rig(POLICY);
	send_to(rig, "m1", 3);
	assert_int_equal(room(rig, "m1"), QUOTA_MESSAGES);
	assert_int_equal(room(rig, "m2"), QUOTA_TAKEN);
	assert_int_equal(room(rig, "group:g"), QUOTA_TAKEN);
	send_to(rig, "group:g", 4);
	assert_int_equal(room(rig, "group:g"), QUOTA_MESSAGES);
	/* a member that leaves takes its mail and its maximum along */
	rig_reload(rig, "{'binding_groups': {'g': {'max_queued_messages': 3, 'bindings': {"
	                "'m2': {'bind_address': '192.0.2.2', 'max_queued_messages': 40}}}}, "
	                "'bindings': {'default': {'bind_address': '192.0.2.3'}, 'm1': {'bind_address': "
	                "'192.0.2.1'}}}");
	rig_run(rig, SECOND_US);
	assert_int_equal(room(rig, "group:g"), QUOTA_TAKEN);
	assert_int_equal(room(rig, "m1"), QUOTA_TAKEN);
	rig_free(&rig);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_queue_counts),
        cmocka_unit_test(test_groups),
};

TEST_MAIN("queue_quota", tests)
