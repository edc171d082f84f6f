/*
 * The operators' file: what it says, that nobody waits for it, and that it finds its way back from anything.
 */
#include "config.h"
#include "t/lib/test.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/log.h"
#include "spool/format.h"
#include "t/lib/sim_disk.h"
#include "t/lib/spool_rig.h"
#include "t/lib/view_check.h"

#define SMALL ((uint64_t)64 * 1024)

struct world {
	struct sim_disk *disk;
	struct rig rig;
	char *folder, *path;
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
	w->disk = sim_disk_new(5);
	w->folder = test_folder_new();
	w->path = mem_printf("%s/view.db", w->folder);
	rig_init(&w->rig, "spool", &w->disk->io, SMALL);
	w->rig.view_path = w->path;
	return rig_open(&w->rig) ? 0 : -1;
}

static int teardown(void **state)
{
	struct world *w = *state;

	rig_free(&w->rig);
	sim_disk_free(&w->disk);
	test_folder_remove(&w->folder);
	mem_free(&w->path);
	log_capture(NULL, NULL);
	free(w);
	return 0;
}

static uint64_t store(struct world *w, uint32_t n_deliveries, uint32_t n_recipients)
{
	const struct rig_message m = {
	        .n_deliveries = n_deliveries, .n_recipients = n_recipients, .body = 700};
	uint64_t id = rig_store(&w->rig, &m);

	assert_true(id != 0);
	return id;
}

static void assert_number(struct world *w, const char *sql, uint64_t wanted)
{
	uint64_t n = view_number(w->path, sql);

	if (n != wanted)
		fail_msg("%s: %llu", sql, (unsigned long long)n);
}

static void assert_text(struct world *w, const char *sql, const char *wanted)
{
	char *text = view_text(w->path, sql);

	if (text == NULL || strcmp(text, wanted) != 0)
		fail_msg("%s: %s", sql, text != NULL ? text : "nothing");
	mem_free(&text);
}

/* What the file says is what a start would find. */
static void assert_same_as_replay(struct world *w)
{
	char fault[256] = "";

	assert_true(view_round(w->rig.view));
	rig_close(&w->rig);
	w->rig.view_path = NULL; /* as it was left */
	assert_true(rig_open(&w->rig));
	if (!view_check(w->path, &w->rig, fault, sizeof(fault)))
		fail_msg("%s", fault);
	w->rig.view_path = w->path;
	rig_close(&w->rig);
	assert_true(rig_open(&w->rig));
	if (!view_check(w->path, &w->rig, fault, sizeof(fault)))
		fail_msg("%s", fault);
}

/* Enough to have the first segments freed. */
static void churn(struct world *w)
{
	for (int i = 0; i < 1200; i++)
		rig_done(&w->rig, store(w, 1, 1), 0);
	for (int i = 0; i < 5; i++)
		rig_advance(&w->rig, SECOND_US);
}

/* ---- what it says ---- */

static void test_what_it_says(void **state)
{
	struct world *w = *state;
	uint64_t a = store(w, 2, 3), b = store(w, 1, 1);
	struct spool_results *r = spool_results_new();
	const uint32_t open[] = {2};

	spool_results_state(r, a, 0,
	        &(struct spool_state){.attempts = 3,
	                .next_attempt_wall_us = 1700000600 * SECOND_US,
	                .last_attempt_wall_us = 1700000000 * SECOND_US,
	                .last_reply = "451 4.7.1 later",
	                .open = open,
	                .n_open = 1});
	spool_results_state(r, b, 0, &(struct spool_state){.held = true});
	spool_results_move(r, b, 0, "other", NULL);
	spool_results_setting(r, "suspend acme", "until 17:00");
	rig_commit(&w->rig, r);
	assert_true(view_round(w->rig.view));
	assert_number(w, "SELECT count(*) FROM messages", 2);
	assert_number(w, "SELECT count(*) FROM deliveries", 3);
	assert_number(w, "SELECT sum(recipients) FROM deliveries", 1 + 3 + 1);
	assert_text(w, "SELECT address FROM recipients WHERE domain = 'd0.example' AND binding = 'acme'",
	        "user2@d0.example");
	assert_text(w, "SELECT next_attempt FROM deliveries WHERE attempts = 3", "2023-11-14T22:23:20Z");
	assert_text(w, "SELECT last_reply FROM oldest WHERE attempts = 3", "451 4.7.1 later");
	assert_text(w,
	        "SELECT group_concat(binding || ' ' || deliveries || ' ' || deferred || ' ' || held, ', ') "
	        "FROM "
	        "(SELECT * FROM by_binding ORDER BY binding)",
	        "acme 1 1 0, group:shared 1 0 0, other 1 0 1");
	assert_number(w, "SELECT deliveries FROM by_domain WHERE domain = 'd0.example'", 2);
	assert_text(w, "SELECT value FROM settings WHERE key = 'suspend acme'", "until 17:00");
	r = spool_results_new();
	spool_results_done(r, a, 0);
	spool_results_done(r, a, 1);
	spool_results_move(r, b, 0, NULL, "elsewhere.example");
	spool_results_setting(r, "suspend acme", NULL);
	rig_commit(&w->rig, r);
	assert_true(view_round(w->rig.view));
	assert_number(w, "SELECT count(*) FROM messages", 1);
	assert_text(w, "SELECT binding || ' ' || domain FROM deliveries", "acme elsewhere.example");
	assert_number(w, "SELECT count(*) FROM t_recipient", 1);
	assert_number(w, "SELECT count(*) FROM settings", 0);
	assert_same_as_replay(w);
}

/* An envelope longer than a record: rows come when all of it is there. */
static void test_long_envelopes(void **state)
{
	struct world *w = *state;
	uint64_t a = store(w, 3, 900);

	assert_true(view_round(w->rig.view));
	assert_number(w, "SELECT count(*) FROM recipients", 2700);
	for (int i = 0; i < 30; i++)
		(void)store(w, 2, 500);
	rig_done(&w->rig, a, 1);
	assert_same_as_replay(w);
	churn(w);
	assert_same_as_replay(w);
}

static void test_follows_the_cleaner(void **state)
{
	struct world *w = *state;

	for (int i = 0; i < 60; i++)
		rig_state(&w->rig, store(w, 2, 2), 1, 2, "452 full");
	for (int i = 0; i < 6; i++) {
		churn(w); /* rounds go on with time */
		assert_true(view_round(w->rig.view));
		assert_number(w, "SELECT count(*) FROM messages", 60);
		assert_number(w, "SELECT count(*) FROM deliveries WHERE attempts = 2", 60);
	}
	assert_same_as_replay(w);
}

/* ---- locks ---- */

static sqlite3 *operator_opens(struct world *w, const char *sql)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(w->path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	return db;
}

/* Neither mail nor the cleaner waits; when it is let go, the file is made anew. */
static void test_a_held_lock_delays_nothing(void **state)
{
	struct world *w = *state;
	uint64_t kept = store(w, 1, 1);
	sqlite3 *db;

	assert_true(view_round(w->rig.view));
	db = operator_opens(w, "BEGIN EXCLUSIVE");
	assert_false(view_round(w->rig.view));
	churn(w);
	assert_false(view_round(w->rig.view));
	assert_true(sim_disk_used_by(w->disk, ".seg") <= 8 * SMALL); /* cleaned all the same */
	assert_true(rig_body_ok(&w->rig, kept, 700));
	assert_int_equal(w->warnings, 0); /* that is no fault */
	assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
	(void)sqlite3_close(db);
	assert_true(view_round(w->rig.view));
	assert_number(w, "SELECT count(*) FROM messages", 1);
	assert_same_as_replay(w);
}

static void test_a_reader_delays_nothing(void **state)
{
	struct world *w = *state;
	sqlite3 *db;

	(void)store(w, 1, 1);
	assert_true(view_round(w->rig.view));
	db = operator_opens(w, "BEGIN; SELECT count(*) FROM messages");
	(void)store(w, 1, 1);
	assert_true(view_round(w->rig.view));
	assert_number(w, "SELECT count(*) FROM messages", 2);
	(void)sqlite3_close(db);
	assert_same_as_replay(w);
}

/* ---- older than the log, missing, spoiled ---- */

static void test_older_than_the_log(void **state)
{
	struct world *w = *state;
	struct view *view = w->rig.view;

	(void)store(w, 2, 2);
	for (int i = 0; i < 100; i++)
		(void)store(w, 1, 1);
	assert_true(view_round(view));
	w->rig.view = NULL; /* it sleeps */
	churn(w);
	w->rig.view = view;
	assert_true(view_round(view));
	assert_number(w, "SELECT count(*) FROM messages", 101);
	assert_same_as_replay(w);
	/* and while the process was another */
	rig_close(&w->rig);
	w->rig.view_path = NULL;
	assert_true(rig_open(&w->rig));
	churn(w);
	rig_close(&w->rig);
	w->rig.view_path = w->path;
	assert_true(rig_open(&w->rig));
	assert_same_as_replay(w);
}

static void test_deleted_at_will(void **state)
{
	struct world *w = *state;

	(void)store(w, 1, 2);
	assert_true(view_round(w->rig.view));
	assert_int_equal(unlink(w->path), 0);
	assert_true(view_round(w->rig.view));
	assert_number(w, "SELECT count(*) FROM recipients", 2);
	assert_same_as_replay(w);
}

static void spoil(struct world *w, off_t at, const char *bytes, size_t n)
{
	int fd = open(w->path, O_RDWR);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, n, at), (ssize_t)n);
	close(fd);
}

/* Twice at most: the first round finds out, the second makes it anew. */
static void assert_mends(struct world *w)
{
	w->warnings = 0;
	if (!view_round(w->rig.view))
		assert_true(w->warnings > 0);
	assert_true(view_round(w->rig.view));
	assert_number(w, "SELECT count(*) FROM recipients", 2);
	assert_same_as_replay(w);
}

static void test_spoiled(void **state)
{
	struct world *w = *state;
	static const char zeros[8192];

	(void)store(w, 1, 2);
	assert_true(view_round(w->rig.view));
	for (int how = 0; how < 5; how++) {
		rig_close(&w->rig);
		w->rig.view_path = NULL;
		assert_true(rig_open(&w->rig));
		if (how == 0)
			spoil(w, 0, "no database, this", 17);
		else if (how == 1)
			spoil(w, 0, zeros, sizeof(zeros));
		else if (how == 2)
			assert_int_equal(truncate(w->path, 5000), 0);
		else if (how == 3)
			(void)sqlite3_close(operator_opens(w, "DROP VIEW messages; DROP TABLE t_delivery"));
		else
			(void)sqlite3_close(operator_opens(w, "PRAGMA user_version = 77"));
		w->rig.view = view_new(w->rig.spool, w->path);
		w->rig.view_path = w->path;
		assert_mends(w);
	}
}

/* Somebody else's folder, no right to write: said once, and mail goes on. */
static void test_cannot_be_written(void **state)
{
	struct world *w = *state;

	view_stop(&w->rig.view);
	(void)unlink(w->path);
	assert_int_equal(mkdir(w->path, 0700), 0);
	w->rig.view = view_new(w->rig.spool, w->path);
	for (int i = 0; i < 5; i++) {
		(void)store(w, 1, 1);
		assert_false(view_round(w->rig.view));
	}
	assert_int_equal(w->warnings, 1);
	assert_int_equal(rmdir(w->path), 0);
	assert_true(view_round(w->rig.view));
	assert_number(w, "SELECT count(*) FROM messages", 5);
}

/* The log's own damage, and a disk that does not let itself be read. */
static void test_damage_and_read_errors(void **state)
{
	struct world *w = *state;
	size_t n;

	for (int i = 0; i < 20; i++)
		(void)store(w, 1, 1);
	for (int call = 1; call < 20; call++) {
		assert_int_equal(unlink(w->path), 0);
		sim_disk_plan(w->disk, (uint64_t)call, SIM_EIO);
		(void)view_round(w->rig.view);
		sim_disk_plan(w->disk, 0, SIM_NONE);
		assert_true(view_round(w->rig.view));
		assert_number(w, "SELECT count(*) FROM messages", 20);
		assert_false(w->rig.fatal);
	}
	assert_non_null(sim_disk_bytes(w->disk, "spool", "0000000000000001.seg", &n));
	sim_disk_spoil(w->disk, "spool", "0000000000000001.seg", 8 * 4096 + 200, 10);
	assert_int_equal(unlink(w->path), 0);
	(void)view_round(w->rig.view);
	assert_true(view_round(w->rig.view));
	assert_number(w, "SELECT count(*) FROM messages", 19);
}

static void test_not_while_space_is_short(void **state)
{
	struct world *w = *state;

	(void)store(w, 1, 1);
	assert_true(view_round(w->rig.view));
	(void)store(w, 1, 1);
	spool_set_limits(w->rig.spool, UINT64_MAX / 4, 1 << 20);
	w->disk->capacity = sim_disk_used(w->disk) + SMALL;
	rig_advance(&w->rig, SECOND_US);
	assert_int_equal(spool_health(w->rig.spool), SPOOL_LOW_SPACE);
	assert_false(view_round(w->rig.view));
	assert_number(w, "SELECT count(*) FROM messages", 1);
	w->disk->capacity = UINT64_MAX / 2;
	spool_set_limits(w->rig.spool, 0, 1 << 20);
	rig_advance(&w->rig, SECOND_US);
	assert_true(view_round(w->rig.view));
	assert_number(w, "SELECT count(*) FROM messages", 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static const struct CMUnitTest tests[] = {
        TEST(test_what_it_says),
        TEST(test_long_envelopes),
        TEST(test_follows_the_cleaner),
        TEST(test_a_held_lock_delays_nothing),
        TEST(test_a_reader_delays_nothing),
        TEST(test_older_than_the_log),
        TEST(test_deleted_at_will),
        TEST(test_spoiled),
        TEST(test_cannot_be_written),
        TEST(test_damage_and_read_errors),
        TEST(test_not_while_space_is_short),
};

TEST_MAIN("spool_view", tests)
