/*
 * What the disk may have done to the spool's files, and what a start, a read and the cleaner make of it.
 */
#include "config.h"
#include "t/lib/test.h"

#include <fcntl.h>

#include "base/log.h"
#include "base/metrics.h"
#include "spool/format.h"
#include "spool/record.h"
#include "t/lib/sim_disk.h"
#include "t/lib/spool_rig.h"

#define SMALL ((uint64_t)64 * 1024)
#define N 12

struct world {
	struct sim_disk *disk;
	struct rig rig;
	unsigned errors;
	char last_error[1024];
};

static void on_log(void *ctx, enum log_level level, const char *line)
{
	struct world *w = ctx;

	if (level > LOG_LEVEL_ERROR)
		return;
	w->errors++;
	snprintf(w->last_error, sizeof(w->last_error), "%s", line);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	*state = w;
	log_capture(on_log, w);
	w->disk = sim_disk_new(3);
	rig_init(&w->rig, "spool", &w->disk->io, SMALL);
	return rig_open(&w->rig) ? 0 : -1;
}

static int teardown(void **state)
{
	struct world *w = *state;

	rig_free(&w->rig);
	sim_disk_free(&w->disk);
	log_capture(NULL, NULL);
	free(w);
	return 0;
}

static uint64_t damaged(struct world *w)
{
	return metric_get(metrics_counter(w->rig.metrics, "bindpost_spool_damaged_total", NULL, ""));
}

static uint64_t store(struct world *w, size_t body)
{
	const struct rig_message m = {.n_deliveries = 1, .n_recipients = 2, .body = body};
	uint64_t id = rig_store(&w->rig, &m);

	assert_true(id != 0);
	return id;
}

/* The places of a segment's batches, each of one message here. */
static size_t batches(struct world *w, const char *name, size_t *at, size_t max)
{
	size_t n, found = 0;
	uint8_t *bytes = sim_disk_bytes(w->disk, "spool", name, &n);
	struct segment_head head;
	struct batch_head b;

	assert_non_null(bytes);
	assert_int_equal(segment_head_read(bytes, n, &head), HEAD_OK);
	for (size_t i = SEGMENT_HEADS * 4096; i + BATCH_HEAD <= n && found < max; i += 4096)
		if (batch_head_read(bytes + i, n - i, &b) && b.segment == head.number &&
		        b.nonce == head.nonce)
			at[found++] = i;
	return found;
}

#define FIRST "0000000000000001.seg"

static void fill(struct world *w, uint64_t ids[N], size_t at[N])
{
	for (int i = 0; i < N; i++)
		ids[i] = store(w, 500);
	rig_close(&w->rig);
	assert_int_equal(batches(w, FIRST, at, N), N);
	sim_disk_remove_all(w->disk, ".idx");
	w->errors = 0;
}

static void assert_intact(struct world *w, const uint64_t ids[N], int except)
{
	for (int i = 0; i < N; i++)
		if (i != except)
			assert_true(rig_find(&w->rig, ids[i]) != NULL && rig_body_ok(&w->rig, ids[i], 500));
}

static bool exists(struct world *w, const char *name)
{
	size_t n;

	return sim_disk_bytes(w->disk, "spool", name, &n) != NULL;
}

/* ---- batches and records ---- */

static void test_batch_head_spoiled(void **state)
{
	struct world *w = *state;
	uint64_t ids[N];
	size_t at[N];

	fill(w, ids, at);
	sim_disk_spoil(w->disk, "spool", FIRST, at[4] + 10, 1);
	assert_true(rig_open(&w->rig));
	assert_int_equal(w->rig.n_live, N);
	assert_intact(w, ids, -1); /* its record still checks */
	assert_int_equal(damaged(w), 1);
	assert_true(w->errors > 0 && strstr(w->last_error, FIRST) != NULL);
	assert_true(exists(w, "0000000000000001.damaged"));
	/* reported at each start, kept once */
	rig_close(&w->rig);
	assert_true(rig_open(&w->rig));
	assert_int_equal(w->rig.n_live, N);
	assert_intact(w, ids, -1);
}

static void test_record_head_spoiled(void **state)
{
	struct world *w = *state;
	uint64_t ids[N];
	size_t at[N];

	fill(w, ids, at);
	sim_disk_spoil(w->disk, "spool", FIRST, at[7] + BATCH_HEAD + 20, 1);
	assert_true(rig_open(&w->rig));
	assert_int_equal(w->rig.n_live, N - 1);
	assert_null(rig_find(&w->rig, ids[7]));
	assert_intact(w, ids, 7);
	assert_true(damaged(w) > 0 && w->errors > 0);
}

static void test_body_spoiled(void **state)
{
	struct world *w = *state;
	uint64_t ids[N];
	size_t at[N], n;

	fill(w, ids, at);
	sim_disk_spoil(w->disk, "spool", FIRST, at[2] + BATCH_HEAD + 600, 1);
	assert_true(rig_open(&w->rig));
	assert_int_equal(w->rig.n_live, N); /* its sender is to hear of it */
	assert_null(rig_read(&w->rig, ids[2], 0, &n));
	assert_false(w->rig.fatal);
	assert_intact(w, ids, 2);
}

static void test_results_in_a_damaged_batch(void **state)
{
	struct world *w = *state;
	uint64_t a = store(w, 100), b = store(w, 100), c;
	size_t at[8];

	rig_done(&w->rig, a, 0);
	rig_state(&w->rig, b, 0, 3, "later");
	c = store(w, 100);
	rig_close(&w->rig);
	sim_disk_remove_all(w->disk, ".idx");
	assert_int_equal(batches(w, FIRST, at, 8), 5);
	sim_disk_spoil(w->disk, "spool", FIRST, at[2], 4);
	sim_disk_spoil(w->disk, "spool", FIRST, at[3], 4);
	assert_true(rig_open(&w->rig));
	assert_int_equal(w->rig.n_live, 2);
	assert_null(rig_find(&w->rig, a));
	assert_int_equal(rig_find(&w->rig, b)->deliveries[0].attempts, 3);
	assert_non_null(rig_find(&w->rig, c));
}

/* Nothing valid behind it: a write that did not end, not damage. */
static void test_torn_end(void **state)
{
	struct world *w = *state;
	uint64_t ids[N];
	size_t at[N];

	fill(w, ids, at);
	sim_disk_spoil(w->disk, "spool", FIRST, at[N - 1] + BATCH_HEAD + 600, 1);
	assert_true(rig_open(&w->rig));
	assert_int_equal(w->rig.n_live, N - 1);
	assert_int_equal(damaged(w), 0);
	assert_int_equal(w->errors, 0);
	assert_false(exists(w, "0000000000000001.damaged"));
}

/* The next segment says there was more: then it is damage also at the end. */
static void test_end_of_a_sealed_segment(void **state)
{
	struct world *w = *state;
	uint64_t ids[N], later;
	size_t at[N];

	fill(w, ids, at);
	assert_true(rig_open(&w->rig));
	later = store(w, 500);
	rig_close(&w->rig);
	sim_disk_remove_all(w->disk, ".idx");
	sim_disk_spoil(w->disk, "spool", FIRST, at[N - 1], 4);
	assert_true(rig_open(&w->rig));
	assert_int_equal(damaged(w), 1);
	assert_intact(w, ids, -1);
	assert_non_null(rig_find(&w->rig, later));
}

/* ---- heads ---- */

static void test_one_head_spoiled(void **state)
{
	struct world *w = *state;
	uint64_t ids[N];
	size_t at[N];

	fill(w, ids, at);
	sim_disk_spoil(w->disk, "spool", FIRST, 24, 8);
	assert_true(rig_open(&w->rig));
	assert_int_equal(w->rig.n_live, N);
	assert_intact(w, ids, -1);
}

static void test_both_heads_spoiled(void **state)
{
	struct world *w = *state;
	uint64_t ids[N], later;
	size_t at[N];

	fill(w, ids, at);
	assert_true(rig_open(&w->rig));
	later = store(w, 500);
	rig_close(&w->rig);
	sim_disk_remove_all(w->disk, ".idx");
	sim_disk_spoil(w->disk, "spool", FIRST, 24, 8);
	sim_disk_spoil(w->disk, "spool", FIRST, 4096 + 24, 8);
	assert_true(rig_open(&w->rig));
	assert_int_equal(w->rig.n_live, 1);
	assert_non_null(rig_find(&w->rig, later));
	assert_true(exists(w, "0000000000000001.damaged"));
	assert_false(exists(w, FIRST));
	assert_true(damaged(w) > 0 && w->errors > 0);
	rig_close(&w->rig);
	w->errors = 0;
	assert_true(rig_open(&w->rig));
	assert_int_equal(w->errors, 0);
	assert_int_equal(w->rig.n_live, 1);
}

/* The last one, too: it has batches of its own, so it is not one that was never begun. */
static void test_both_heads_of_the_last_spoiled(void **state)
{
	struct world *w = *state;
	uint64_t ids[N];
	size_t at[N];

	fill(w, ids, at);
	sim_disk_spoil(w->disk, "spool", FIRST, 24, 8);
	sim_disk_spoil(w->disk, "spool", FIRST, 4096 + 24, 8);
	assert_true(rig_open(&w->rig));
	assert_int_equal(w->rig.n_live, 0);
	assert_true(exists(w, "0000000000000001.damaged"));
	assert_true(w->errors > 0);
}

static void test_heads_from_the_index_file(void **state)
{
	struct world *w = *state;
	uint64_t ids[N];

	for (int i = 0; i < N; i++)
		ids[i] = store(w, 500);
	rig_close(&w->rig); /* leaves an index file */
	sim_disk_spoil(w->disk, "spool", FIRST, 24, 8);
	sim_disk_spoil(w->disk, "spool", FIRST, 4096 + 24, 8);
	assert_true(rig_open(&w->rig));
	assert_int_equal(w->rig.n_live, N);
	assert_intact(w, ids, -1);
	assert_true(w->errors > 0);
}

static void test_newer_format_is_refused(void **state)
{
	struct world *w = *state;
	uint64_t ids[N];
	size_t at[N], n;
	uint8_t block[4096], *bytes;
	struct segment_head head;

	fill(w, ids, at);
	bytes = sim_disk_bytes(w->disk, "spool", FIRST, &n);
	assert_int_equal(segment_head_read(bytes, n, &head), HEAD_OK);
	head.version = FORMAT_VERSION + 1;
	segment_head_write(block, &head);
	memcpy(bytes, block, sizeof(block));
	assert_false(rig_open(&w->rig));
	assert_non_null(strstr(w->rig.error.text, FIRST));
	assert_non_null(strstr(w->rig.error.text, "newer version"));
	assert_true(exists(w, FIRST));
}

/* ---- index files ---- */

static void spoil_idx(void *ctx, const char *name)
{
	struct world *w = ctx;
	size_t n;

	if (strstr(name, ".idx") == NULL)
		return;
	(void)sim_disk_bytes(w->disk, "spool", name, &n);
	sim_disk_spoil(w->disk, "spool", name, n / 2, 1);
}

static void test_index_files_spoiled(void **state)
{
	struct world *w = *state;
	uint64_t ids[60];

	for (int i = 0; i < 60; i++)
		ids[i] = store(w, 3000);
	rig_done(&w->rig, ids[5], 0);
	rig_close(&w->rig);
	sim_disk_names(w->disk, "spool", spoil_idx, w);
	assert_true(rig_open(&w->rig));
	assert_int_equal(w->rig.n_live, 59);
	for (int i = 0; i < 60; i++)
		assert_true(i == 5 || rig_body_ok(&w->rig, ids[i], 3000));
	assert_int_equal(damaged(w), 0);
}

/* ---- while it runs ---- */

/* The index file hides it from the start; the cleaner finds it, keeps the envelope, and sets the file aside. */
static void test_cleaner_meets_damage(void **state)
{
	struct world *w = *state;
	uint64_t ids[N];
	size_t at[N], n;
	const struct rig_live *l;

	for (int i = 0; i < N; i++)
		ids[i] = store(w, 500);
	rig_state(&w->rig, ids[3], 0, 2, "451 later");
	assert_int_equal(batches(w, FIRST, at, N), N);
	sim_disk_spoil(w->disk, "spool", FIRST, at[3] + BATCH_HEAD + 700, 1); /* body */
	sim_disk_spoil(w->disk, "spool", FIRST, at[8] + BATCH_HEAD + 40, 1);  /* envelope */
	for (int i = 0; i < 150; i++)
		rig_done(&w->rig, store(w, 2000), 0);
	for (int i = 0; i < 4; i++)
		rig_advance(&w->rig, SECOND_US);
	assert_false(exists(w, FIRST));
	assert_true(exists(w, "0000000000000001.damaged"));
	assert_true(damaged(w) >= 2);
	assert_null(rig_read(&w->rig, ids[3], 0, &n));
	rig_close(&w->rig);
	assert_true(rig_open(&w->rig));
	assert_int_equal(w->rig.n_live, N - 1);
	l = rig_find(&w->rig, ids[3]);
	assert_non_null(l);
	assert_int_equal(l->deliveries[0].attempts, 2);
	for (int i = 0; i < N; i++)
		assert_true(i == 3 || i == 8 || rig_body_ok(&w->rig, ids[i], 500));
}

static void test_read_error_is_not_damage(void **state)
{
	struct world *w = *state;
	uint64_t id = store(w, 500);
	size_t n;

	sim_disk_plan(w->disk, 1, SIM_EIO);
	assert_null(rig_read(&w->rig, id, 0, &n));
	assert_true(w->disk->happened);
	assert_false(w->rig.fatal);
	assert_true(rig_body_ok(&w->rig, id, 500));
	assert_int_equal(damaged(w), 0);
}

static void test_read_error_at_start(void **state)
{
	struct world *w = *state;
	uint64_t ids[N];
	size_t at[N];
	bool failed = false;

	fill(w, ids, at);
	for (uint64_t call = 1; call < 60; call++) {
		sim_disk_plan(w->disk, call, SIM_EIO);
		if (!rig_open(&w->rig) && strstr(w->rig.error.text, "read at") != NULL) {
			failed = true;
			assert_non_null(strstr(w->rig.error.text, ".seg"));
			assert_non_null(strstr(w->rig.error.text, "Input/output error"));
		}
		rig_close(&w->rig);
		sim_disk_kill(w->disk);
	}
	assert_true(failed);
	assert_true(rig_open(&w->rig));
	assert_int_equal(w->rig.n_live, N);
	assert_intact(w, ids, -1);
	assert_int_equal(damaged(w), 0);
}

static void keep_body_name(void *ctx, const char *name)
{
	snprintf(ctx, FORMAT_NAME_SIZE, "%s", name);
}

static void test_large_body_spoiled(void **state)
{
	struct world *w = *state;
	uint64_t id = store(w, 200000);
	char name[FORMAT_NAME_SIZE] = "";
	size_t n;

	sim_disk_names(w->disk, "bodies", keep_body_name, name);
	sim_disk_spoil(w->disk, "bodies", name, 150000, 1); /* the third piece */
	assert_null(rig_read(&w->rig, id, 0, &n));
	assert_null(rig_read(&w->rig, id, 140000, &n));
	sim_disk_spoil(w->disk, "bodies", name, 150000, 1); /* whole again */
	assert_true(rig_body_ok(&w->rig, id, 200000));
	sim_disk_spoil(w->disk, "bodies", name, 200002, 1); /* the table of checksums */
	assert_null(rig_read(&w->rig, id, 0, &n));
	assert_false(w->rig.fatal);
}

static void test_large_body_missing(void **state)
{
	struct world *w = *state;
	uint64_t id = store(w, 200000);
	size_t n;

	rig_close(&w->rig);
	sim_disk_remove_all(w->disk, ".body");
	assert_true(rig_open(&w->rig));
	assert_true(w->errors > 0 && strstr(w->last_error, "missing") != NULL);
	assert_int_equal(w->rig.n_live, 1);
	assert_null(rig_read(&w->rig, id, 0, &n));
}

/* ---- sweeping, locking, ids ---- */

static void make_file(struct world *w, const char *folder, const char *name)
{
	char x[] = "x";
	struct disk_io *io = &w->disk->io;
	int dir = io->open(io, AT_FDCWD, "spool", O_RDONLY, 0), fd;

	if (strcmp(folder, "bodies") == 0)
		dir = io->open(io, dir, "bodies", O_RDONLY, 0);
	fd = io->open(io, dir, name, O_RDWR | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(io->pwritev(io, fd, &(struct iovec){.iov_base = x, .iov_len = 1}, 1, 0), 1);
	sim_disk_kill(w->disk);
}

static void test_rubbish_is_swept(void **state)
{
	struct world *w = *state;
	uint64_t id = store(w, 200000);
	size_t n;

	rig_close(&w->rig);
	make_file(w, "bodies", "00000000000000aa.body");
	make_file(w, "bodies", "README");
	make_file(w, "spool", "00000000000000aa.idx");
	make_file(w, "spool", "new-00000000000000aa");
	make_file(w, "spool", "spare-00000000000000ab"); /* not of a segment's size */
	make_file(w, "spool", "notes.txt");
	assert_true(rig_open(&w->rig));
	assert_null(sim_disk_bytes(w->disk, "bodies", "00000000000000aa.body", &n));
	assert_false(exists(w, "00000000000000aa.idx"));
	assert_false(exists(w, "new-00000000000000aa"));
	assert_false(exists(w, "spare-00000000000000ab"));
	assert_true(exists(w, "notes.txt")); /* what is not ours stays */
	assert_true(rig_body_ok(&w->rig, id, 200000));
	assert_int_equal(w->errors, 0);
}

static void test_second_one_is_refused(void **state)
{
	struct world *w = *state;
	struct spool *second = spool_open(&w->rig.cfg, &w->rig.error);

	assert_null(second);
	assert_non_null(strstr(w->rig.error.text, "another deliveryd"));
}

static void test_ids_go_on(void **state)
{
	struct world *w = *state;
	uint64_t before = store(w, 100), last = 0;

	for (int i = 0; i < 1000; i++) {
		uint64_t id = spool_new_id(w->rig.spool);

		assert_true(id > before && id > last);
		last = id;
	}
	rig_close(&w->rig);
	w->rig.clock.wall -= 86400 * SECOND_US; /* somebody sets the clock back */
	assert_true(rig_open(&w->rig));
	assert_true(spool_new_id(w->rig.spool) > before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static const struct CMUnitTest tests[] = {
        TEST(test_batch_head_spoiled),
        TEST(test_record_head_spoiled),
        TEST(test_body_spoiled),
        TEST(test_results_in_a_damaged_batch),
        TEST(test_torn_end),
        TEST(test_end_of_a_sealed_segment),
        TEST(test_one_head_spoiled),
        TEST(test_both_heads_spoiled),
        TEST(test_both_heads_of_the_last_spoiled),
        TEST(test_heads_from_the_index_file),
        TEST(test_newer_format_is_refused),
        TEST(test_index_files_spoiled),
        TEST(test_cleaner_meets_damage),
        TEST(test_read_error_is_not_damage),
        TEST(test_read_error_at_start),
        TEST(test_large_body_spoiled),
        TEST(test_large_body_missing),
        TEST(test_rubbish_is_swept),
        TEST(test_second_one_is_refused),
        TEST(test_ids_go_on),
};

TEST_MAIN("spool_damage", tests)
