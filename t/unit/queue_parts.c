/* The queue's nouns, each by itself: names, packed envelopes, slab, timer heap, limits, health, schedule, profiles. */
#include "base/mem.h"
#include "base/split_hash.h"
#include "queue/delivery.h"
#include "queue/due.h"
#include "queue/health.h"
#include "queue/intern.h"
#include "queue/lease.h"
#include "queue/packed.h"
#include "queue/profile.h"
#include "queue/schedule.h"
#include "t/lib/test.h"

/* --- intern ----------------------------------------------------------------------------------------------------- */

static void test_intern(void **state)
{
	(void)state;
	struct intern *t = intern_new();
	uint32_t a = intern_get(t, "a.example"), b = intern_get(t, "b.example");
	assert_int_not_equal(a, b);
	assert_int_equal(intern_get(t, "a.example"), a);
	assert_string_equal(intern_text(t, a), "a.example");
	assert_int_equal(intern_get(t, ""), 0);
	assert_int_equal(intern_get(t, NULL), 0);
	assert_string_equal(intern_text(t, 0), "");
	assert_int_equal(intern_find(t, "c.example"), 0);
	intern_drop(t, a);
	assert_int_equal(intern_find(t, "a.example"), a);
	intern_drop(t, a);
	assert_int_equal(intern_find(t, "a.example"), 0);
	assert_int_equal(intern_count(t), 1);
	intern_drop(t, b);
	intern_free(&t);
	assert_null(t);
}

static void test_intern_many(void **state)
{
	(void)state;
	struct intern *t = intern_new();
	char name[32];
	for (int round = 0; round < 3; round++) {
		uint32_t ids[5000];
		for (int i = 0; i < 5000; i++) {
			snprintf(name, sizeof(name), "d%d.example", i);
			ids[i] = intern_get(t, name);
		}
		for (int i = 0; i < 5000; i++) {
			snprintf(name, sizeof(name), "d%d.example", i);
			assert_string_equal(intern_text(t, ids[i]), name);
			assert_int_equal(intern_find(t, name), ids[i]);
		}
		for (int i = 0; i < 5000; i++)
			intern_drop(t, ids[i]);
		assert_int_equal(intern_count(t), 0);
	}
	intern_free(&t);
}

/* --- packed ----------------------------------------------------------------------------------------------------- */

static void test_packed(void **state)
{
	(void)state;
	static const uint32_t numbers[] = {0, 1, 127, 128, 16383, 16384, 9999999, UINT32_MAX};
	struct packed_recipient r[array_len(numbers)];
	char address[array_len(numbers)][40];
	for (unsigned i = 0; i < array_len(numbers); i++) {
		snprintf(address[i], sizeof(address[i]), "user%u@example.com", i);
		r[i] = (struct packed_recipient){numbers[i], address[i]};
	}
	char *block = packed_new("sender@example.net", r, array_len(numbers));
	struct packed_walk w;
	assert_string_equal(packed_sender(block), "sender@example.net");
	packed_walk_init(&w, block);
	for (unsigned i = 0; i < array_len(numbers); i++) {
		struct packed_recipient got = packed_walk_next(&w);
		assert_int_equal(got.number, numbers[i]);
		assert_string_equal(got.address, address[i]);
	}
	/* a byte for a small number: 19 + (1 + 18) */
	assert_int_equal(packed_size(block, 1), 38);
	packed_free(&block);
	block = packed_new("", NULL, 0);
	assert_string_equal(packed_sender(block), "");
	assert_int_equal(packed_size(block, 0), 1);
	packed_free(&block);
}

/* --- slab, index, lists ----------------------------------------------------------------------------------------------- */

static void test_slab(void **state)
{
	(void)state;
	struct delivery_slab *s = delivery_slab_new();
	for (uint32_t i = 1; i <= 5000; i++) {
		assert_int_equal(delivery_take(s), i);
		delivery_at(s, i)->id = i / 2; /* two deliveries a message */
		delivery_index_add(s, i);
	}
	assert_int_equal(delivery_count(s), 5000);
	uint32_t no = delivery_index_find(s, 1000);
	assert_int_equal(delivery_at(s, no)->id, 1000);
	uint32_t other = delivery_index_next(s, no);
	assert_int_equal(delivery_at(s, other)->id, 1000);
	assert_int_not_equal(no, other);
	assert_int_equal(delivery_index_next(s, other), 0);
	delivery_index_remove(s, no);
	assert_int_equal(delivery_index_find(s, 1000), other);
	delivery_give(s, no);
	assert_int_equal(delivery_take(s), no);
	assert_int_equal(delivery_at(s, no)->id, 0);
	assert_int_equal(delivery_index_find(s, 999999), 0);
	delivery_slab_free(&s);
}

/* One bucket more moves what belongs into it, all from one other. */
static void test_split_hash(void **state)
{
	(void)state;
	uint32_t hash = 1;
	for (uint32_t n = 1; n < 5000; n++) {
		for (unsigned i = 0; i < 50; i++) {
			hash = hash * 1664525 + 1013904223;
			uint32_t before = split_hash_bucket(hash, n), after = split_hash_bucket(hash, n + 1);
			assert_true(before < n && after <= n);
			if (after != before) {
				assert_int_equal(after, n);
				assert_int_equal(before, split_hash_from(n));
			}
		}
	}
}

static void test_index_many(void **state)
{
	(void)state;
	struct delivery_slab *s = delivery_slab_new();
	for (uint32_t i = 0; i < 60000; i++) { /* three deliveries each */
		uint32_t no = delivery_take(s);
		delivery_at(s, no)->id = 1000 + i / 3;
		delivery_index_add(s, no);
	}
	for (uint64_t id = 1000; id < 21000; id++) {
		unsigned n = 0;
		for (uint32_t no = delivery_index_find(s, id); no; no = delivery_index_next(s, no)) {
			assert_int_equal(delivery_at(s, no)->id, id);
			n++;
		}
		assert_int_equal(n, 3);
		delivery_index_remove(s, delivery_index_find(s, id));
	}
	for (uint64_t id = 1000; id < 21000; id++) {
		uint32_t no = delivery_index_find(s, id);
		assert_true(no && delivery_index_next(s, no) && !delivery_index_next(s, delivery_index_next(s, no)));
	}
	assert_int_equal(delivery_index_find(s, 21000), 0);
	delivery_slab_free(&s);
}

static void test_delivery_is_small(void **state)
{
	(void)state;
	assert_true(sizeof(struct delivery) <= 128);
}

static void test_lists(void **state)
{
	(void)state;
	struct delivery_slab *s = delivery_slab_new();
	struct delivery_list l = {0, 0};
	uint32_t a = delivery_take(s), b = delivery_take(s), c = delivery_take(s);
	delivery_list_add_tail(s, &l, b);
	delivery_list_add_tail(s, &l, c);
	delivery_list_add_head(s, &l, a);
	assert_int_equal(l.head, a);
	assert_int_equal(l.tail, c);
	delivery_list_remove(s, &l, b);
	assert_int_equal(delivery_at(s, a)->next, c);
	delivery_list_remove(s, &l, a);
	assert_int_equal(l.head, c);
	delivery_list_remove(s, &l, c);
	assert_int_equal(l.head, 0);
	assert_int_equal(l.tail, 0);
	delivery_slab_free(&s);
}

/* --- timer heap ------------------------------------------------------------------------------------------------------- */

static void test_due_random(void **state)
{
	(void)state;
	struct delivery_slab *s = delivery_slab_new();
	struct due_heap *h = due_new(s);
	struct fake_rnd rnd;
	fake_rnd_init(&rnd, 7);
	for (uint32_t i = 1; i <= 3000; i++)
		delivery_take(s);
	for (int step = 0; step < 50000; step++) {
		uint32_t no = 1 + (uint32_t)rnd_below(&rnd.rnd, 3000);
		uint64_t what = rnd_below(&rnd.rnd, 10);
		if (what == 0)
			due_set(h, no, DUE_NEVER);
		else if (what == 1)
			due_remove(h, no);
		else
			due_set(h, no, rnd_below(&rnd.rnd, 1000));
	}
	uint64_t last = 0;
	uint32_t left = due_count(h), no;
	assert_in_range(left, 1000, 3000);
	while ((no = due_first(h))) {
		assert_true(delivery_at(s, no)->due_us >= last);
		last = delivery_at(s, no)->due_us;
		due_remove(h, no);
		left--;
	}
	assert_int_equal(left, 0);
	due_free(&h);
	delivery_slab_free(&s);
}

/* --- limits ------------------------------------------------------------------------------------------------------------- */

static unsigned n_freed;
static struct limit *last_freed;

static void freed(void *ctx, struct limit *l)
{
	(void)ctx;
	n_freed++;
	last_freed = l;
}

static void test_leases(void **state)
{
	(void)state;
	struct limit a, b;
	struct waiter w, v;
	struct leases s1 = {0}, s2 = {0};
	struct limit *wanted[] = {&a, &b};
	limit_init(&a, 1);
	limit_init(&b, 2);
	waiter_init(&w, NULL);
	waiter_init(&v, NULL);
	assert_null(limits_blocking(wanted, 2, NULL));
	leases_take(&s1, wanted, 2);
	assert_ptr_equal(limits_blocking(wanted, 2, NULL), &a);
	assert_false(leases_wanted_by_others(&s1, &w, 1));
	waiter_wait(&w, &a);
	waiter_wait(&v, &a);
	waiter_wait(&w, &a); /* keeps its place */
	assert_ptr_equal(limit_first_waiter(&a), &w);
	assert_true(leases_wanted_by_others(&s1, &w, 1));
	waiter_leave(&v);
	assert_false(leases_wanted_by_others(&s1, &w, 1)); /* only I wait */
	assert_true(leases_wanted_by_others(&s1, &v, 1));
	leases_set_leaving(&s1);
	assert_false(leases_wanted_by_others(&s1, &v, 1)); /* one goes, one waits */
	n_freed = 0;
	leases_give(&s1, freed, NULL);
	assert_int_equal(n_freed, 1);
	assert_ptr_equal(last_freed, &a);
	assert_int_equal(a.leaving, 0);
	/* room that others wait for is none, except for the one that was woken */
	assert_ptr_equal(limits_blocking(wanted, 2, NULL), &a);
	assert_null(limits_blocking(wanted, 2, &a));
	waiter_leave(&w);
	leases_take(&s2, wanted, 2);
	leases_set_idle(&s2, true);
	assert_ptr_equal(limit_longest_idle(&a), &s2);
	leases_set_idle(&s2, false);
	assert_null(limit_longest_idle(&a));
	leases_give(&s2, freed, NULL);
	assert_int_equal(n_freed, 1);
	assert_true(limit_idle(&a) && limit_idle(&b));
}

static void test_lowered_limit(void **state)
{
	(void)state;
	struct limit a;
	struct leases s[3] = {0};
	struct limit *wanted[] = {&a};
	limit_init(&a, 3);
	for (int i = 0; i < 3; i++)
		leases_take(&s[i], wanted, 1);
	a.max = 1;
	assert_true(leases_wanted_by_others(&s[0], NULL, 0));
	leases_set_leaving(&s[0]);
	leases_set_leaving(&s[0]);
	assert_true(leases_wanted_by_others(&s[1], NULL, 0));
	leases_set_leaving(&s[1]);
	assert_false(leases_wanted_by_others(&s[2], NULL, 0));
	leases_give(&s[0], freed, NULL);
	assert_false(limit_has_room(&a));
	leases_give(&s[1], freed, NULL);
	leases_give(&s[2], freed, NULL);
	assert_true(limit_has_room(&a));
}

/* --- health ------------------------------------------------------------------------------------------------------------- */

static struct route_addr route_addr(const char *ip)
{
	struct route_addr a = {.preference = 10};
	assert_true(addr_parse(ip, &a.addr, NULL));
	a.addr.port = 25;
	return a;
}

static void test_health(void **state)
{
	(void)state;
	struct health *h = health_new();
	struct route_addr a = route_addr("203.0.113.1"), b = route_addr("2001:db8::1");
	struct route_addr sock = {.unix_path = "/run/lmtp"};
	uint64_t until = 0;
	assert_int_equal(health_of(h, (struct health_who){1, 0}, &a, 100, &until), HEALTH_UNKNOWN);
	health_fail(h, (struct health_who){1, 0}, &a, 100, 200);
	assert_int_equal(health_of(h, (struct health_who){1, 0}, &a, 100, &until), HEALTH_FAILED);
	assert_int_equal(until, 200);
	assert_int_equal(health_of(h, (struct health_who){2, 0}, &a, 100, &until), HEALTH_UNKNOWN);
	assert_int_equal(health_of(h, (struct health_who){1, 0}, &b, 100, &until), HEALTH_UNKNOWN);
	assert_int_equal(health_of(h, (struct health_who){1, 0}, &a, 200, &until), HEALTH_PROBATION);
	health_succeed(h, (struct health_who){1, 0}, &a, 300);
	assert_int_equal(health_of(h, (struct health_who){1, 0}, &a, 300, &until), HEALTH_GOOD);
	health_fail(h, (struct health_who){1, 0}, &sock, 100, 200);
	assert_int_equal(health_of(h, (struct health_who){1, 0}, &sock, 150, NULL), HEALTH_FAILED);
	/* what it did for one demand says nothing of others */
	struct health_who picky = {1, 7}, other = {1, 8};
	health_fail(h, picky, &b, 100, 200);
	assert_int_equal(health_of(h, picky, &b, 100, &until), HEALTH_FAILED);
	assert_false(health_is_unfit(h, picky, &b));
	health_set_unfit(h, picky, &b);
	assert_true(health_is_unfit(h, picky, &b));
	assert_int_equal(health_of(h, other, &b, 100, &until), HEALTH_UNKNOWN);
	assert_int_equal(health_of(h, (struct health_who){1, 0}, &b, 100, &until), HEALTH_UNKNOWN);
	health_fail(h, picky, &b, 300, 400);
	assert_false(health_is_unfit(h, picky, &b));
	a.addr.port = 2525;
	assert_int_equal(health_of(h, (struct health_who){1, 0}, &a, 300, &until), HEALTH_UNKNOWN);
	health_free(&h);
}

static void test_health_forgets(void **state)
{
	(void)state;
	struct health *h = health_new();
	struct route_addr a = route_addr("203.0.113.1");
	uint64_t now = 0;
	for (uint32_t binding = 0; binding < 100000; binding++) {
		now += SECOND_US;
		health_fail(h, (struct health_who){binding, 0}, &a, now, now + 120 * SECOND_US);
		assert_int_equal(health_of(h, (struct health_who){binding, 0}, &a, now, NULL), HEALTH_FAILED);
	}
	assert_in_range(health_count(h), 3600, 9000);
	health_free(&h);
}

/* --- schedule --------------------------------------------------------------------------------------------------------------- */

static void test_goal(void **state)
{
	(void)state;
	assert_int_equal(schedule_goal(0, 32, ALLOCATION_NORMAL), 0);
	assert_int_equal(schedule_goal(1, 32, ALLOCATION_NORMAL), 1);
	/* Momentum's figure */
	assert_in_range(schedule_goal(50, 32, ALLOCATION_NORMAL), 12, 13);
	assert_in_range(schedule_goal(100, 32, ALLOCATION_NORMAL), 19, 21);
	assert_in_range(schedule_goal(200, 32, ALLOCATION_NORMAL), 27, 28);
	assert_in_range(schedule_goal(400, 32, ALLOCATION_NORMAL), 31, 32);
	assert_in_range(schedule_goal(50, 32, ALLOCATION_HIGH), 21, 23);
	assert_in_range(schedule_goal(100, 32, ALLOCATION_HIGH), 28, 30);
	assert_int_equal(schedule_goal(100000, 1000, ALLOCATION_NORMAL), 1000);
	assert_int_equal(schedule_goal(100000, 1, ALLOCATION_NORMAL), 1);
	for (uint32_t n = 1; n < 2000; n++) {
		for (uint32_t max = 1; max < 200; max += 13) {
			uint32_t goal = schedule_goal(n, max, ALLOCATION_NORMAL);
			assert_true(goal >= 1 && goal <= n && goal <= max);
			assert_true(goal >= schedule_goal(n - 1, max, ALLOCATION_NORMAL));
			assert_true(goal <= schedule_goal(n, max, ALLOCATION_HIGH));
		}
	}
}

static void test_retry(void **state)
{
	(void)state;
	struct deliv_options o = {.retry_interval_s = 1200, .max_retry_interval_s = 43200};
	struct fake_rnd rnd;
	uint64_t least = UINT64_MAX, most = 0;
	fake_rnd_init(&rnd, 3);
	for (int i = 0; i < 2000; i++) {
		uint64_t wait = schedule_retry_us(&o, 3, &rnd.rnd);
		least = wait < least ? wait : least;
		most = wait > most ? wait : most;
	}
	assert_in_range(least, 4800 * SECOND_US * 8 / 10, 4800 * SECOND_US * 81 / 100);
	assert_in_range(most, 4800 * SECOND_US * 99 / 100, 4800 * SECOND_US);
	assert_in_range(schedule_retry_us(&o, 60000, &rnd.rnd), 34560 * SECOND_US, 43200 * SECOND_US);
	o.retry_interval_s = 86400; /* the cap holds for the first, too */
	assert_in_range(schedule_retry_us(&o, 1, &rnd.rnd), 34560 * SECOND_US, 43200 * SECOND_US);
}

static void test_exhausted(void **state)
{
	(void)state;
	struct deliv_options o = {.message_expiration_s = 100, .max_retries = RETRIES_NONE};
	assert_false(schedule_exhausted(&o, 1000, 99 * SECOND_US));
	assert_true(schedule_exhausted(&o, 1, 100 * SECOND_US));
	o.max_retries = 0;
	assert_true(schedule_exhausted(&o, 1, 0));
	o.max_retries = 2;
	assert_false(schedule_exhausted(&o, 2, 0));
	assert_true(schedule_exhausted(&o, 3, 0));
}

/* --- profiles ----------------------------------------------------------------------------------------------------------------- */

static void test_profiles(void **state)
{
	(void)state;
	struct profile_table *t = profile_table_new();
	struct conn_options o = {.ehlo_hostname = "a.example", .connect_timeout_s = 1};
	char name[] = "a.example";
	struct profile *a = profile_intern(t, &o);
	o.ehlo_hostname = name; /* equal text elsewhere */
	struct profile *b = profile_intern(t, &o);
	assert_ptr_equal(a, b);
	memset(name, 'x', 3);
	struct profile *c = profile_intern(t, &o);
	assert_ptr_not_equal(a, c);
	assert_string_equal(a->o.ehlo_hostname, "a.example");
	profile_unref(&b);
	profile_unref(&a);
	profile_unref(&c);
	for (uint32_t i = 0; i < 10000; i++) { /* unused ones go when it grows */
		o.connect_timeout_s = i;
		a = profile_intern(t, &o);
		assert_int_equal(a->o.connect_timeout_s, i);
		profile_unref(&a);
	}
	profile_table_free(&t);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_intern),
        cmocka_unit_test(test_intern_many),
        cmocka_unit_test(test_packed),
        cmocka_unit_test(test_slab),
        cmocka_unit_test(test_split_hash),
        cmocka_unit_test(test_index_many),
        cmocka_unit_test(test_delivery_is_small),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_due_random),
        cmocka_unit_test(test_leases),
        cmocka_unit_test(test_lowered_limit),
        cmocka_unit_test(test_health),
        cmocka_unit_test(test_health_forgets),
        cmocka_unit_test(test_goal),
        cmocka_unit_test(test_retry),
        cmocka_unit_test(test_exhausted),
        cmocka_unit_test(test_profiles),
};

TEST_MAIN("queue_parts", tests)
