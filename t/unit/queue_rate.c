/* Throttles' arithmetic: over every sliding window, in the long run, and in how much memory. */
#include <stdlib.h>
#include "base/clock.h"
#include "base/mem.h"
#include "queue/rate_window.h"
#include "t/lib/test.h"

#define AT_ONCE_MAX 64

struct run {
	struct rate_window w;
	struct fake_rnd rnd;
	uint64_t now, max_took,
	        least_took; /* each takes the least and some more; it is seen at one moment of the least */
	struct out {
		bool busy;
		struct rate_ticket ticket;
		uint64_t seen_us, done_us; /* when the peer counts it, and when we know */
	} out[AT_ONCE_MAX];
	unsigned n_out, at_once;
	uint64_t *seen; /* as the peer counted */
	unsigned n_seen, size_seen;
};

static void run_begin(struct run *r, struct rate rate, unsigned seed)
{
	*r = (struct run){.now = 1000 * SECOND_US, .at_once = AT_ONCE_MAX};
	fake_rnd_init(&r->rnd, seed);
	rate_window_init(&r->w, rate);
}

static void see(struct run *r, uint64_t us)
{
	if (r->n_seen == r->size_seen) {
		r->size_seen = r->size_seen ? r->size_seen * 2 : 1024;
		r->seen = mem_array(r->seen, r->size_seen, sizeof(*r->seen));
	}
	r->seen[r->n_seen++] = us;
}

static void finish_due(struct run *r)
{
	for (unsigned i = 0; i < AT_ONCE_MAX; i++) {
		struct out *o = &r->out[i];
		if (!o->busy || o->done_us > r->now)
			continue;
		rate_ticket_done(&o->ticket, r->now);
		o->busy = false;
		r->n_out--;
	}
}

static uint64_t next_done(const struct run *r)
{
	uint64_t next = UINT64_MAX;
	for (unsigned i = 0; i < AT_ONCE_MAX; i++) {
		if (r->out[i].busy && r->out[i].done_us < next)
			next = r->out[i].done_us;
	}
	return next;
}

static void start_one(struct run *r)
{
	struct out *o = r->out;
	while (o->busy)
		o++;
	uint64_t more = r->max_took ? rnd_below(&r->rnd.rnd, r->max_took + 1) : 0,
	         took = r->least_took + more;
	rate_ticket_reserve(&o->ticket, &r->w, r->now);
	rate_ticket_begin(&o->ticket, r->now);
	o->busy = true;
	o->done_us = r->now + took;
	r->n_out++;
	see(r, r->now + r->least_took / 2 + (more ? rnd_below(&r->rnd.rnd, more + 1) : 0));
	if (took == 0)
		finish_due(r);
}

/* As much as it lets through until `end`. */
static void run_until(struct run *r, uint64_t end)
{
	while (r->now < end) {
		uint64_t until = UINT64_MAX;
		finish_due(r);
		while (r->n_out < r->at_once && rate_window_allows(&r->w, r->now, &until))
			start_one(r);
		uint64_t next = next_done(r);
		if (r->n_out < r->at_once && until < next)
			next = until;
		assert_true(next > r->now);
		r->now = next < end ? next : end;
	}
}

static void run_end(struct run *r)
{
	r->now = UINT64_MAX / 2;
	finish_due(r);
	assert_int_equal(r->w.under_way, 0);
	rate_window_free(&r->w);
	free(r->seen);
}

static int by_time(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

/* Every window that begins with an event: no other can hold more. */
static void never_more(struct run *r, struct rate rate)
{
	qsort(r->seen, r->n_seen, sizeof(*r->seen), by_time);
	for (unsigned i = 0; i + rate.count < r->n_seen; i++)
		assert_true(r->seen[i + rate.count] - r->seen[i] > rate.seconds * SECOND_US);
}

static struct rate random_rate(struct rnd *rnd)
{
	static const uint32_t counts[] = {1, 2, 3, 7, 20, 60, 128, 129, 300, 1000, 5000};
	static const uint32_t seconds[] = {1, 2, 3, 10, 60, 3600, 86400};
	return (struct rate){
	        counts[rnd_below(rnd, array_len(counts))], seconds[rnd_below(rnd, array_len(seconds))]};
}

static void test_every_window(void **state)
{
	(void)state;
	struct fake_rnd rnd;
	fake_rnd_init(&rnd, 7);
	for (unsigned round = 0; round < 150; round++) {
		struct rate rate = random_rate(&rnd.rnd);
		struct run r;
		run_begin(&r, rate, round);
		r.max_took = rnd_below(&rnd.rnd, rate_window_patience_us(&r.w) + 1);
		r.least_took = round % 3 ? rnd_below(&rnd.rnd, rate.seconds * SECOND_US / 4) : 0;
		r.at_once = 1 + (unsigned)rnd_below(&rnd.rnd, AT_ONCE_MAX);
		uint64_t s = rate.seconds * SECOND_US;
		/* busy and idle for random times */
		for (unsigned i = 0; i < 6; i++) {
			run_until(&r, r.now + rnd_below(&rnd.rnd, 2 * s));
			if (i % 2) {
				r.now += rnd_below(&rnd.rnd, s);
				finish_due(&r);
			}
		}
		assert_in_range(r.w.size, 0, RATE_SUB_WINDOWS + 1);
		never_more(&r, rate);
		run_end(&r);
	}
}

static void test_long_run(void **state)
{
	(void)state;
	struct fake_rnd rnd;
	fake_rnd_init(&rnd, 8);
	for (unsigned round = 0; round < 60; round++) {
		struct rate rate = random_rate(&rnd.rnd);
		struct run r;
		uint64_t windows = 30;
		run_begin(&r, rate, round);
		/* half of them answer at once, half take as long as a long window forgives, a third is slow and steady */
		r.max_took = round % 2 ? rate.seconds * SECOND_US / 500 : 0;
		r.least_took = round % 3 == 0 && rate.count < 200 ? rate.seconds * SECOND_US / 10 : 0;
		uint64_t learns = r.least_took ? 130 / rate.count + 1 : 0;
		run_until(&r, r.now + learns * rate.seconds * SECOND_US * 5 / 4);
		unsigned before = r.n_seen;
		run_until(&r, r.now + windows * rate.seconds * SECOND_US);
		assert_in_range(r.n_seen - before, rate.count * (windows - (before > 0)) * 99 / 100,
		        rate.count * (windows + 1));
		never_more(&r, rate);
		run_end(&r);
	}
}

/* Peers that never answer keep nothing from the others for long. */
static void test_patience(void **state)
{
	(void)state;
	struct rate_window w;
	struct rate_ticket stuck[10] = {0};
	uint64_t now = 1000 * SECOND_US, until = 0;
	rate_window_init(&w, (struct rate){10, 2});
	for (unsigned i = 0; i < 10; i++) {
		assert_true(rate_window_allows(&w, now, &until));
		rate_ticket_reserve(&stuck[i], &w, now);
		rate_ticket_begin(&stuck[i], now);
	}
	assert_false(rate_window_allows(&w, now, &until));
	assert_true(until >= now + 2 * SECOND_US &&
	            until <= now + 2 * SECOND_US + rate_window_patience_us(&w) + 1);
	assert_true(rate_window_allows(&w, until, &until));
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(stuck[i].state, TICKET_LATE);
		rate_ticket_done(&stuck[i], until);
		rate_ticket_give_back(&stuck[i]);
	}
	assert_int_equal(w.done + w.under_way, 0);
	rate_window_free(&w);
}

/* A place that was taken and not used is free at once; one that is only reserved is never taken for used. */
static void test_give_back(void **state)
{
	(void)state;
	struct rate_window w;
	struct rate_ticket a = {0}, b = {0};
	uint64_t now = 1000 * SECOND_US, until = 0;
	rate_window_init(&w, (struct rate){1, 60});
	assert_true(rate_window_allows(&w, now, &until));
	rate_ticket_reserve(&a, &w, now);
	assert_false(rate_window_allows(&w, now + 3000 * SECOND_US, &until));
	rate_ticket_give_back(&a);
	rate_ticket_give_back(&a);
	now += 3000 * SECOND_US;
	assert_int_equal(rate_window_empty_us(&w, now), now);
	assert_true(rate_window_allows(&w, now, &until));
	rate_ticket_reserve(&b, &w, now);
	rate_ticket_begin(&b, now);
	rate_ticket_give_back(&b);
	assert_true(rate_window_allows(&w, now, &until));
	rate_window_free(&w);
}

/* What was idle may burst; what had to wait then goes out evenly. */
static void test_even_flow(void **state)
{
	(void)state;
	struct run r;
	run_begin(&r, (struct rate){60, 60}, 1);
	uint64_t begin = r.now;
	run_until(&r, begin + 60 * SECOND_US);
	assert_int_equal(r.n_seen, 60);
	assert_int_equal(r.seen[59], begin);
	run_until(&r, begin + 130 * SECOND_US);
	for (unsigned i = 60; i + 3 < r.n_seen; i++)
		assert_true(r.seen[i + 3] - r.seen[i] >= SECOND_US);
	assert_in_range(r.n_seen, 117, 140);
	run_end(&r);
}

/* A lower rate counts what has been; a higher one lets more through at once. */
static void test_change(void **state)
{
	(void)state;
	struct run r;
	run_begin(&r, (struct rate){100, 10}, 1);
	run_until(&r, r.now + 5 * SECOND_US);
	assert_int_equal(r.n_seen, 100);
	rate_window_set(&r.w, (struct rate){50, 10});
	run_until(&r, r.now + 5 * SECOND_US);
	assert_int_equal(r.n_seen, 100);
	run_until(&r, r.now + SECOND_US);
	assert_in_range(r.n_seen, 101, 110);
	rate_window_set(&r.w, (struct rate){100, 10});
	run_until(&r, r.now + 10 * SECOND_US);
	assert_in_range(r.n_seen, 190, 210);
	run_end(&r);
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_window),
        cmocka_unit_test(test_long_run),
        cmocka_unit_test(test_patience),
        cmocka_unit_test(test_give_back),
        cmocka_unit_test(test_even_flow),
        cmocka_unit_test(test_change),
};

TEST_MAIN("queue_rate", tests)
