/*
 * What has to be on the disk before what: nothing is freed before the disk has for certain why it may. And a disk that
 * is sick anywhere ends the process.
 */
#include "config.h"
#include "t/lib/test.h"

#include "base/log.h"
#include "spool/format.h"
#include "spool/record.h"
#include "spool/scan.h"
#include "t/lib/sim_disk.h"
#include "t/lib/spool_model.h"

#define SMALL ((uint64_t)64 * 1024)
#define MAX_DONE 4000

struct world {
	struct sim_disk *disk;
	struct rig rig;
	unsigned segments_freed, bodies_freed, too_early;
	/* what the disk has for certain, while it is looked at */
	uint64_t oldest;
	uint64_t done[MAX_DONE];
	size_t n_done;
};

static void on_log(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	(void)line;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	*state = w;
	log_capture(on_log, w);
	w->disk = sim_disk_new(11);
	rig_init(&w->rig, "spool", &w->disk->io, SMALL);
	return rig_open(&w->rig) ? 0 : -1;
}

static int teardown(void **state)
{
	struct world *w = *state;

	w->disk->removing = NULL;
	rig_close(&w->rig);
	rig_free(&w->rig);
	sim_disk_free(&w->disk);
	log_capture(NULL, NULL);
	free(w);
	return 0;
}

static uint64_t store(struct world *w, size_t body)
{
	const struct rig_message m = {.n_deliveries = 1, .n_recipients = 2, .body = body};

	return rig_store(&w->rig, &m);
}

/* ---- what the disk has for certain ---- */

static void note_done(void *ctx, const struct record *r, uint32_t offset)
{
	struct world *w = ctx;

	(void)offset;
	if (r->type != RECORD_DONE)
		return;
	assert_true(w->n_done < MAX_DONE);
	w->done[w->n_done++] = r->id;
}

static void look_at_segment(void *ctx, const char *name)
{
	struct world *w = ctx;
	struct segment_head head;
	struct scan scan = {.head = &head, .stop_sequence = UINT64_MAX, .record = note_done, .ctx = w};
	uint64_t number;

	if (format_name_parse(name, &number) != FILE_SEGMENT)
		return;
	scan.image = sim_disk_durable(w->disk, "spool", name, &scan.n);
	if (scan.image == NULL || segment_head_read(scan.image, scan.n, &head) != HEAD_OK ||
	        head.number != number)
		return;
	scan_segment(&scan);
	if (head.oldest > w->oldest)
		w->oldest = head.oldest;
	if (scan.oldest > w->oldest)
		w->oldest = scan.oldest;
}

static void look_at_disk(struct world *w)
{
	w->oldest = 0;
	w->n_done = 0;
	sim_disk_names(w->disk, "spool", look_at_segment, w);
}

/* ---- freeing ---- */

static void segment_goes(void *ctx, const char *name)
{
	struct world *w = ctx;
	uint64_t number;

	if (format_name_parse(name, &number) != FILE_SEGMENT)
		return;
	w->segments_freed++;
	look_at_disk(w);
	w->too_early += w->oldest <= number;
}

/* Only the message being ended has a file. */
static void body_goes(void *ctx, const char *name)
{
	struct world *w = ctx;
	uint64_t number;

	if (format_name_parse(name, &number) != FILE_BODY)
		return;
	w->bodies_freed++;
	look_at_disk(w);
	for (size_t i = 0; i < w->n_done; i++)
		if (w->done[i] == w->rig.live[0].id)
			return;
	w->too_early++;
}

/* A segment goes only once a synced head says that it is not needed: else a cut could bring back its name, and not the
 * records of done behind it. */
static void test_segments_are_freed_once_it_is_stated(void **state)
{
	struct world *w = *state;
	uint64_t kept[40];

	w->disk->removing = segment_goes;
	w->disk->removing_ctx = w;
	for (int i = 0; i < 40; i++)
		kept[i] = store(w, 2500); /* for the cleaner */
	for (int i = 0; i < 1500; i++) {
		rig_done(&w->rig, store(w, 2500), 0);
		if (i % 50 == 0)
			rig_advance(&w->rig, SECOND_US);
	}
	for (int i = 0; i < 40; i++)
		rig_done(&w->rig, kept[i], 0);
	for (int i = 0; i < 5; i++)
		rig_advance(&w->rig, SECOND_US);
	assert_true(w->segments_freed > 10);
	assert_int_equal(w->too_early, 0);
	/* and what a start frees */
	rig_close(&w->rig);
	assert_true(rig_open(&w->rig));
	assert_int_equal(w->too_early, 0);
}

static void test_starts_free_what_is_stated(void **state)
{
	struct world *w = *state;

	w->disk->removing = segment_goes;
	w->disk->removing_ctx = w;
	for (int life = 0; life < 30; life++) {
		uint64_t ids[30];

		for (int i = 0; i < 30; i++)
			ids[i] = store(w, 2500);
		for (int i = 0; i < 30; i++)
			if (ids[i] != 0)
				rig_done(&w->rig, ids[i], 0);
		w->disk->capacity = sim_disk_used(w->disk) + (uint64_t)(life % 3) * SMALL;
		if (life % 2 == 0) {
			w->disk->off = true;
			rig_close(&w->rig);
			sim_disk_restart(w->disk);
		} else {
			rig_close(&w->rig);
		}
		assert_true(rig_open(&w->rig));
		w->disk->capacity = UINT64_MAX / 2;
		rig_advance(&w->rig, SECOND_US);
	}
	assert_true(w->segments_freed > 10);
	assert_int_equal(w->too_early, 0);
}

static void test_body_file_is_freed_once_done_is_there(void **state)
{
	struct world *w = *state;

	w->disk->removing = body_goes;
	w->disk->removing_ctx = w;
	for (int i = 0; i < 20; i++) {
		struct rig_live live = {.id = store(w, 60000)};

		w->rig.live = mem_array(w->rig.live, 1, sizeof(live));
		w->rig.live[0] = live;
		rig_done(&w->rig, live.id, 0);
		rig_run(&w->rig);
	}
	assert_int_equal(w->bodies_freed, 20);
	assert_int_equal(w->too_early, 0);
	assert_int_equal(sim_disk_used_by(w->disk, ".body"), 0);
}

/* ---- a sick disk: not only a batch finds out ---- */

static void assert_ended(struct world *w, const char *word)
{
	assert_true(w->disk->happened);
	assert_true(w->rig.fatal);
	if (strstr(w->rig.error.text, word) == NULL ||
	        strstr(w->rig.error.text, "Input/output error") == NULL)
		fail_msg("%s", w->rig.error.text);
	assert_int_equal(spool_health(w->rig.spool), SPOOL_FAILED);
	assert_int_equal(store(w, 100), 0);
	rig_close(&w->rig);
	w->disk->sick = NULL;
	sim_disk_kill(w->disk);
	assert_true(rig_open(&w->rig));
}

/* All that was confirmed is there at the next start. */
static void sick_for(struct world *w, const char *suffix, size_t body)
{
	uint64_t ids[200];
	size_t n = 0;

	w->disk->sick = suffix;
	for (int i = 0; i < 150 && !w->rig.fatal; i++) {
		ids[n] = store(w, body);
		n += ids[n] != 0;
		if (n > 30 && !w->rig.fatal)
			rig_done(&w->rig, ids[--n], 0);
		rig_advance(&w->rig, SECOND_US);
	}
	assert_ended(w, suffix);
	for (size_t i = 0; i < n; i++)
		assert_true(rig_body_ok(&w->rig, ids[i], body));
}

static void test_index_file_cannot_be_written(void **state)
{
	sick_for(*state, ".idx", 3000);
}

static void test_body_file_cannot_be_written(void **state)
{
	sick_for(*state, ".body", 60000);
}

static void test_segment_cannot_be_renamed(void **state)
{
	struct world *w = *state;

	w->disk->sick = ".seg";
	for (int i = 0; i < 200 && !w->rig.fatal; i++) {
		uint64_t id = store(w, 3000);

		if (id != 0 && !w->rig.fatal)
			rig_done(&w->rig, id, 0);
	}
	assert_ended(w, ".seg");
}

/* The message it belonged to is done, and stays done. */
static void test_body_file_cannot_be_unlinked(void **state)
{
	struct world *w = *state;
	uint64_t id = store(w, 60000);

	assert_true(id != 0);
	w->disk->sick = ".body";
	rig_done(&w->rig, id, 0);
	rig_run(&w->rig);
	assert_ended(w, "unlink");
	assert_int_equal(w->rig.n_live, 0);
	assert_int_equal(sim_disk_used_by(w->disk, ".body"), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static const struct CMUnitTest tests[] = {
        TEST(test_segments_are_freed_once_it_is_stated),
        TEST(test_starts_free_what_is_stated),
        TEST(test_body_file_is_freed_once_done_is_there),
        TEST(test_index_file_cannot_be_written),
        TEST(test_body_file_cannot_be_written),
        TEST(test_segment_cannot_be_renamed),
        TEST(test_body_file_cannot_be_unlinked),
};

TEST_MAIN("spool_order", tests)
