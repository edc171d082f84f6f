/*
 * Space: the bound on the log, the disk that is full, and how it drains.
 */
#include "config.h"
#include "t/lib/test.h"

#include "base/log.h"
#include "base/metrics.h"
#include "t/lib/sim_disk.h"
#include "t/lib/spool_model.h"

#define SMALL ((uint64_t)64 * 1024)

struct world {
	struct sim_disk *disk;
	struct rig rig;
	struct model model;
	unsigned warnings;
};

static void on_log(void *ctx, enum log_level level, const char *line)
{
	struct world *w = ctx;

	(void)line;
	w->warnings += level <= LOG_LEVEL_WARNING;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	*state = w;
	log_capture(on_log, w);
	w->disk = sim_disk_new(7);
	rig_init(&w->rig, "spool", &w->disk->io, SMALL);
	model_init(&w->model, &w->rig, 7);
	return rig_open(&w->rig) ? 0 : -1;
}

static int teardown(void **state)
{
	struct world *w = *state;

	rig_close(&w->rig);
	model_free(&w->model);
	rig_free(&w->rig);
	sim_disk_free(&w->disk);
	log_capture(NULL, NULL);
	free(w);
	return 0;
}

static uint64_t live_bytes(struct world *w)
{
	return metric_get(metrics_gauge(w->rig.metrics, "bindpost_spool_live_bytes", NULL, ""));
}

/* What the contract promises of the segments, spares and ballast included. */
static void assert_bound(struct world *w)
{
	uint64_t has = sim_disk_used(w->disk) - sim_disk_used_by(w->disk, ".idx") -
	               sim_disk_used_by(w->disk, ".body");
	uint64_t may = 2 * live_bytes(w) + 8 * SMALL;

	if (has > may)
		fail_msg("%llu bytes of segments, %llu live", (unsigned long long)has,
		        (unsigned long long)live_bytes(w));
}

static void assert_all_there(struct world *w)
{
	rig_close(&w->rig);
	model_unanswered(&w->model);
	assert_true(rig_open(&w->rig));
	if (!model_check(&w->model, true))
		fail_msg("%s", w->model.fault);
}

static uint64_t store(struct world *w, size_t body)
{
	const struct rig_message m = {.n_deliveries = 1, .n_recipients = 1, .body = body};

	return rig_store(&w->rig, &m);
}

static void test_bound_holds_at_random(void **state)
{
	struct world *w = *state;

	w->model.finishes = true;
	w->model.max_live = 200;
	w->model.done_share = 5;
	for (int i = 0; i < 6000; i++) {
		model_step(&w->model);
		if (i % 10 != 9)
			continue;
		for (int k = 0; k < 3; k++) /* when much ends at once, what it held goes within seconds */
			rig_advance(&w->rig, SECOND_US);
		assert_bound(w);
	}
	assert_string_equal(w->model.fault, "");
	assert_int_equal(w->model.unreadable, 0);
	assert_all_there(w);
}

/* The worst case: all that lives long stands at the old end, all that dies at once behind it. */
static void test_bound_holds_behind_a_clump(void **state)
{
	struct world *w = *state;
	enum { OLD = 600 };
	uint64_t old[OLD];

	for (int i = 0; i < OLD; i++) {
		old[i] = store(w, 2500);
		assert_true(old[i] != 0);
	}
	for (int i = 0; i < 3000; i++) {
		uint64_t id = store(w, 2500);

		assert_true(id != 0);
		rig_done(&w->rig, id, 0);
		assert_bound(w);
	}
	rig_close(&w->rig);
	assert_true(rig_open(&w->rig));
	assert_int_equal(w->rig.n_live, OLD);
	for (int i = 0; i < OLD; i++)
		assert_true(rig_body_ok(&w->rig, old[i], 2500));
}

static void test_an_empty_spool_is_small(void **state)
{
	struct world *w = *state;
	enum { N = 800 };
	static uint64_t ids[N];

	for (int i = 0; i < N; i++)
		ids[i] = store(w, 3000);
	for (int i = 0; i < N; i++) {
		struct spool_results *r = spool_results_new();

		spool_results_done(r, ids[i], 0);
		spool_results_post(w->rig.spool, &r);
	}
	for (int i = 0; i < 5; i++)
		rig_advance(&w->rig, SECOND_US);
	assert_true(sim_disk_used(w->disk) <= 8 * SMALL);
}

/* Until mail is refused; the ids stored. */
static size_t fill(struct world *w, uint64_t *ids, size_t max)
{
	size_t n = 0;

	for (unsigned refused = 0; n < max && refused < 3;) {
		uint64_t id = spool_health(w->rig.spool) == SPOOL_OK ? store(w, 3000) : 0;

		if (id != 0) {
			ids[n++] = id;
			continue;
		}
		refused++;
		rig_advance(&w->rig, SECOND_US);
	}
	return n;
}

/* One list for many, as the queue posts it; of the done ones each tenth is left. */
static void post_many(struct world *w, const uint64_t *ids, size_t n, bool done)
{
	struct spool_results *r = spool_results_new();

	for (size_t i = 0; i < n; i++) {
		if (!done)
			spool_results_state(r, ids[i], 0,
			        &(struct spool_state){.attempts = 1, .last_reply = "451 4.7.1 later"});
		else if (i % 10 != 0)
			spool_results_done(r, ids[i], 0);
	}
	rig_commit(&w->rig, r);
	for (int i = 0; i < 3; i++)
		rig_advance(&w->rig, SECOND_US);
	assert_int_equal(spool_uncommitted(w->rig.spool), 0);
}

static void test_full_disk_refuses_and_drains(void **state)
{
	struct world *w = *state;
	enum { MAX = 2000 };
	static uint64_t ids[MAX];
	size_t n;
	uint64_t again = 0;

	w->disk->capacity = 40 * SMALL;
	w->disk->delay_free = true;
	n = fill(w, ids, MAX);
	assert_in_range(n, 300, MAX - 1);
	assert_false(w->rig.fatal);
	assert_int_equal(spool_health(w->rig.spool), SPOOL_LOW_SPACE);
	/* results go on: there is the ballast, and then what they free */
	for (size_t i = 0; i < n; i += 40)
		post_many(w, ids + i, n - i < 40 ? n - i : 40, false);
	for (size_t i = 0; i < n; i += 40)
		post_many(w, ids + i, n - i < 40 ? n - i : 40, true);
	for (int i = 0; i < 10 && again == 0; i++) {
		sim_disk_tick(w->disk);
		rig_advance(&w->rig, SECOND_US);
		if (spool_health(w->rig.spool) == SPOOL_OK)
			again = store(w, 3000);
	}
	assert_true(again != 0);
	rig_close(&w->rig);
	assert_true(rig_open(&w->rig));
	assert_int_equal(w->rig.n_live, n / 40 * 4 + (n % 40 + 9) / 10 + 1);
}

static void test_below_min_free(void **state)
{
	struct world *w = *state;
	uint64_t used;

	rig_close(&w->rig);
	w->rig.cfg.min_free = 10 * SMALL;
	assert_true(rig_open(&w->rig));
	used = sim_disk_used(w->disk);
	w->disk->capacity = used + 11 * SMALL;
	rig_advance(&w->rig, SECOND_US);
	assert_int_equal(spool_health(w->rig.spool), SPOOL_OK);
	assert_true(spool_has_room_for(w->rig.spool, SMALL / 2));
	assert_false(spool_has_room_for(w->rig.spool, 2 * SMALL));
	w->disk->capacity = used + 10 * SMALL - 1;
	rig_advance(&w->rig, SECOND_US);
	assert_int_equal(spool_health(w->rig.spool), SPOOL_LOW_SPACE);
	assert_null(body_writer_new(w->rig.spool, w->rig.loop, 0));
	w->disk->capacity = used + 11 * SMALL; /* above the mark, but not by the margin */
	rig_advance(&w->rig, SECOND_US);
	assert_int_equal(spool_health(w->rig.spool), SPOOL_LOW_SPACE);
	w->disk->capacity = used + 13 * SMALL;
	rig_advance(&w->rig, SECOND_US);
	assert_int_equal(spool_health(w->rig.spool), SPOOL_OK);
	assert_true(store(w, 100) != 0);
}

static void keep_body(void *ctx, struct body *body, enum body_error error)
{
	assert_int_equal(error, BODY_OK);
	*(struct body **)ctx = body;
}

static void test_announced_size_is_reserved(void **state)
{
	struct world *w = *state;
	struct body_writer *a, *b;
	struct body *body = NULL;

	w->disk->capacity = sim_disk_used(w->disk) + 10 * SMALL;
	rig_advance(&w->rig, SECOND_US);
	a = body_writer_new(w->rig.spool, w->rig.loop, 6 * SMALL);
	assert_non_null(a);
	assert_false(spool_has_room_for(w->rig.spool, 6 * SMALL));
	assert_null(body_writer_new(w->rig.spool, w->rig.loop, 6 * SMALL));
	body_writer_abort(&a);
	b = body_writer_new(w->rig.spool, w->rig.loop, 6 * SMALL);
	assert_non_null(b);
	body_writer_add(b, "some bytes", 10);
	body_writer_finish(b, keep_body, &body);
	rig_run(&w->rig);
	/* until the message is answered, or dropped */
	assert_non_null(body);
	assert_false(spool_has_room_for(w->rig.spool, 6 * SMALL));
	assert_int_equal(spool_pending_bytes(w->rig.spool), 10);
	body_unref(&body);
	assert_true(spool_has_room_for(w->rig.spool, 6 * SMALL));
	assert_int_equal(spool_pending_bytes(w->rig.spool), 0);
}

static void test_large_body_on_a_full_disk(void **state)
{
	struct world *w = *state;
	uint64_t before = store(w, 100);

	w->disk->capacity = sim_disk_used(w->disk) + SMALL / 2;
	rig_advance(&w->rig, SECOND_US);
	assert_int_equal(store(w, 10 * SMALL), 0);
	assert_false(w->rig.fatal);
	assert_int_equal(sim_disk_used_by(w->disk, ".body"), 0);
	assert_int_equal(spool_pending_bytes(w->rig.spool), 0);
	assert_true(store(w, 100) != 0);
	assert_true(rig_body_ok(&w->rig, before, 100));
}

/* However it ended, however often: a start needs no more than the last one left. (What each records fills a block of
 * the ballast, which is 28 blocks here, and 32,000 with segments of 64 MB.) */
static void starts_on_a_full_disk(struct world *w, bool leave_something)
{
	enum { MAX = 2000 };
	static uint64_t ids[MAX];
	size_t n;

	w->disk->capacity = 30 * SMALL;
	n = fill(w, ids, MAX);
	for (int i = 0; i < (leave_something ? 8 : 60); i++) {
		w->disk->capacity =
		        sim_disk_used(w->disk); /* to the brim: nothing comes back but by our own doing */
		if (leave_something)
			rig_state(&w->rig, ids[i], 0, (uint32_t)i + 1, "451 4.7.1 later");
		if (i % 3 == 1)
			w->disk->off = true;
		rig_close(&w->rig);
		if (i % 3 == 1)
			sim_disk_restart(w->disk);
		else
			sim_disk_kill(w->disk);
		if (!rig_open(&w->rig))
			fail_msg("start %d: %s", i, w->rig.error.text);
		assert_int_equal(w->rig.n_live, n);
		assert_true(!leave_something ||
		            rig_find(&w->rig, ids[i])->deliveries[0].attempts == (uint32_t)i + 1);
	}
	/* and it drains */
	for (size_t i = 0; i < n; i += 40)
		post_many(w, ids + i, n - i < 40 ? n - i : 40, true);
	for (int i = 0; i < 10; i++)
		rig_advance(&w->rig, SECOND_US);
	assert_int_equal(spool_uncommitted(w->rig.spool), 0);
	assert_int_equal(spool_health(w->rig.spool), SPOOL_OK);
	assert_true(store(w, 1000) != 0);
	assert_false(w->rig.fatal);
}

static void test_starts_on_a_full_disk(void **state)
{
	starts_on_a_full_disk(*state, false);
}

static void test_starts_on_a_full_disk_each_with_a_record(void **state)
{
	starts_on_a_full_disk(*state, true);
}

/* A segment that is being read is not reused. */
static void nothing(void *ctx)
{
	(void)ctx;
}

static void test_reading_while_all_ends(void **state)
{
	struct world *w = *state;
	uint64_t id = store(w, 2500);
	struct body_cursor *c = body_cursor_new(w->rig.spool, w->rig.loop, id, NULL, 0, nothing, NULL);
	struct spool_results *r = spool_results_new();
	struct iovec iov;
	unsigned n;
	uint8_t wanted[2500];

	(void)loop_step(w->rig.loop); /* pinned, read, not yet back */
	spool_results_done(r, id, 0);
	spool_results_post(w->rig.spool, &r);
	for (int i = 0; i < 100; i++)
		(void)store(w, 2500);
	rig_advance(&w->rig, SECOND_US);
	assert_int_equal(body_cursor_peek(c, &iov, 1, &n), BODY_READY);
	rig_body(id, sizeof(wanted), wanted);
	assert_int_equal(iov.iov_len, sizeof(wanted));
	assert_memory_equal(iov.iov_base, wanted, sizeof(wanted));
	body_cursor_free(&c);
	rig_run(&w->rig);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static const struct CMUnitTest tests[] = {
        TEST(test_bound_holds_at_random),
        TEST(test_bound_holds_behind_a_clump),
        TEST(test_an_empty_spool_is_small),
        TEST(test_full_disk_refuses_and_drains),
        TEST(test_below_min_free),
        TEST(test_announced_size_is_reserved),
        TEST(test_large_body_on_a_full_disk),
        TEST(test_starts_on_a_full_disk),
        TEST(test_starts_on_a_full_disk_each_with_a_record),
        TEST(test_reading_while_all_ends),
};

TEST_MAIN("spool_space", tests)
