/*
 * The spool on a disk that has accidents. SPOOL_CRASH_SEEDS=N makes it longer; SPOOL_CRASH_FIRST=S begins elsewhere.
 */
#include "config.h"
#include "t/lib/test.h"

#include <unistd.h>
#include "base/log.h"
#include "t/lib/sim_disk.h"
#include "t/lib/spool_model.h"
#include "t/lib/view_check.h"

/* spool_crash_view.t is the same once more, with the operators' file, and without index files. */
#ifndef WITH_VIEW
#define WITH_VIEW false
#define SEEDS 300
#else
#define SEEDS 60
#endif

#define SMALL ((uint64_t)64 * 1024)

static unsigned env_number(const char *name, unsigned otherwise)
{
	const char *text = getenv(name);

	return text != NULL ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

struct world {
	struct sim_disk *disk;
	struct rig rig;
	struct model model;
	uint64_t seed;
	const char *story;
	char *folder, *view; /* own */
};

static void no_log(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	if (getenv("SPOOL_CRASH_LOG") != NULL)
		printf("# <%d> %s\n", level, line);
}

/* SPOOL_CRASH_LOG=1: what happens, to find out why */
static void tell(const struct world *w, const char *what)
{
	if (getenv("SPOOL_CRASH_LOG") != NULL)
		printf("# seed %llu: %s (call %llu, accident %d at %llu%s)\n", (unsigned long long)w->seed,
		        what, (unsigned long long)w->disk->calls, w->disk->accident,
		        (unsigned long long)w->disk->accident_at, w->disk->happened ? ", happened" : "");
}

static void world_new(struct world *w, uint64_t seed)
{
	log_capture(no_log, NULL);
	*w = (struct world){.seed = seed, .story = ""};
	w->disk = sim_disk_new(seed);
	rig_init(&w->rig, "spool", &w->disk->io, SMALL);
	fake_rnd_init(&w->rig.rnd, seed);
	model_init(&w->model, &w->rig, seed);
	if (!WITH_VIEW)
		return;
	if (access("/dev/shm", W_OK) == 0) /* thousands of files, which need no real disk */
		(void)setenv("TMPDIR", "/dev/shm", 1);
	w->folder = test_folder_new();
	w->rig.view_path = w->view = mem_printf("%s/view.db", w->folder);
}

static void view_free(struct world *w)
{
	if (!WITH_VIEW)
		return;
	test_folder_remove(&w->folder);
	mem_free(&w->view);
}

static void tell_metrics(const struct world *w)
{
	struct str text;

	str_init(&text);
	metrics_print(w->rig.metrics, &text);
	for (char *line = strtok(text.data, "\n"); line != NULL; line = strtok(NULL, "\n"))
		if (line[0] != '#')
			printf("# %s\n", line);
	str_free(&text);
}

static void world_free(struct world *w)
{
	if (getenv("SPOOL_CRASH_LOG") != NULL)
		tell_metrics(w);
	rig_close(&w->rig);
	model_free(&w->model);
	rig_free(&w->rig);
	sim_disk_free(&w->disk);
	view_free(w);
}

static void fail_world(struct world *w, const char *what)
{
	print_error("seed %llu%s: %s: %s %s\n", (unsigned long long)w->seed, w->story, what, w->model.fault,
	        w->rig.error.text);
	fail();
}

static void check(struct world *w, bool bodies)
{
	if (!model_check(&w->model, bodies))
		fail_world(w, "after replay");
}

/* What may be deleted at will. */
static void delete_disposable(struct world *w)
{
	if (WITH_VIEW && w->seed % 2 == 0)
		sim_disk_remove_all(w->disk, ".idx");
	if (WITH_VIEW && w->seed % 4 < 2)
		(void)unlink(w->view);
}

static void must_open(struct world *w)
{
	uint64_t looked = 0, damaged;

	delete_disposable(w);
	if (WITH_VIEW)
		looked = rig_look_through(&w->rig, &damaged);
	if (!rig_open(&w->rig))
		fail_world(w, "open");
	if (WITH_VIEW && looked != w->rig.n_live)
		fail_world(w, "looked through");
	if (WITH_VIEW && view_has_room(w->rig.spool) &&
	        !view_check(w->view, &w->rig, w->model.fault, sizeof(w->model.fault)))
		fail_world(w, "after replay");
	check(w, true);
}

/* The end of a process, one way or another. */
enum end { END_CLEAN, END_KILL, END_CUT };

static void end(struct world *w, enum end how)
{
	if (how == END_CLEAN || w->disk->happened)
		rig_run(&w->rig);
	if (how == END_CUT)
		w->disk->off = true;
	rig_close(&w->rig);
	model_unanswered(&w->model);
	tell(w, how == END_CLEAN ? "clean end" : how == END_KILL ? "killed" : "power cut");
	if (w->disk->off)
		sim_disk_restart(w->disk);
	else
		sim_disk_kill(w->disk);
}

static void work(struct world *w, unsigned steps)
{
	for (unsigned i = 0; i < steps && !w->rig.fatal && !w->disk->off; i++) {
		model_step(&w->model);
		if (w->model.fault[0] != '\0')
			fail_world(w, "while running");
	}
}

/* ---- random lives ---- */

static void live_at_random(uint64_t seed)
{
	struct world w;
	struct model *m;
	bool crowded;

	world_new(&w, seed);
	m = &w.model;
	crowded = model_random(m, 3) == 0;
	m->done_share = 2 + (unsigned)model_random(m, 5);
	m->max_live = 10 + (unsigned)model_random(m, 60);
	m->finishes = model_random(m, 2) == 0;
	for (unsigned life = 0; life < 5; life++) {
		enum sim_accident accident = (enum sim_accident)model_random(m, SIM_ACCIDENTS);

		if (model_random(m, 3) == 0)
			sim_disk_remove_all(w.disk, ".idx");
		if (crowded && life > 0) /* to the brim, or a little room */
			w.disk->capacity = sim_disk_used(w.disk) + model_random(m, 3) * SMALL;
		if (accident != SIM_NONE)
			sim_disk_plan(w.disk, 1 + model_random(m, 600), accident);
		if (!rig_open(&w.rig)) {
			if (!w.disk->happened)
				fail_world(&w, "open");
			tell(&w, w.rig.error.text);
			model_unanswered(m);
			if (w.disk->off)
				sim_disk_restart(w.disk);
			else
				sim_disk_kill(w.disk);
			must_open(&w);
		} else {
			check(&w, accident == SIM_NONE); /* else a body's read may be what fails */
		}
		tell(&w, "open");
		work(&w, 100 + (unsigned)model_random(m, 300));
		end(&w, (enum end)model_random(m, 3));
	}
	must_open(&w);
	world_free(&w);
}

static void test_random_lives(void **state)
{
	unsigned first = env_number("SPOOL_CRASH_FIRST", 1), n = env_number("SPOOL_CRASH_SEEDS", SEEDS);

	(void)state;
	for (unsigned seed = first; seed < first + n; seed++)
		live_at_random(seed);
}

/* ---- each call in turn ---- */

static uint64_t short_life(struct world *w, uint64_t seed, uint64_t at, enum sim_accident accident)
{
	uint64_t calls;

	world_new(w, seed);
	w->model.finishes = true;
	w->model.max_live = 25;
	must_open(w);
	work(w, 120); /* some segments, nothing has happened yet */
	calls = w->disk->calls;
	if (at > 0)
		sim_disk_plan(w->disk, at, accident);
	work(w, 100);
	if (w->model.fault[0] != '\0')
		fail_world(w, "short life");
	return w->disk->calls - calls;
}

static void after_accident(struct world *w)
{
	rig_run(&w->rig);
	rig_close(&w->rig);
	model_unanswered(&w->model);
	if (w->disk->off)
		sim_disk_restart(w->disk);
	else
		sim_disk_kill(w->disk);
	must_open(w);
	/* what is confirmed from here on is as safe as before */
	work(w, 20);
	w->disk->off = true;
	rig_close(&w->rig);
	model_unanswered(&w->model);
	sim_disk_restart(w->disk);
	must_open(w);
}

static void each_call(enum sim_accident accident, const char *story)
{
	unsigned seeds = env_number("SPOOL_CRASH_SEEDS", SEEDS) / 40;
	uint64_t first = env_number("SPOOL_CRASH_FIRST", 1);

	for (uint64_t seed = first; seed < first + seeds; seed++) {
		struct world w;
		uint64_t calls = short_life(&w, seed, 0, SIM_NONE);

		world_free(&w);
		for (uint64_t at = 1; at <= calls; at++) {
			(void)short_life(&w, seed, at, accident);
			w.story = story;
			after_accident(&w);
			world_free(&w);
		}
	}
}

static void test_cut_at_each_call(void **state)
{
	(void)state;
	each_call(SIM_CUT, " (cut)");
}

static void test_each_call_fails(void **state)
{
	(void)state;
	each_call(SIM_EIO, " (EIO)");
}

static void test_each_call_lacks_space(void **state)
{
	(void)state;
	each_call(SIM_ENOSPC, " (ENOSPC)");
}

static void test_each_write_is_short(void **state)
{
	(void)state;
	each_call(SIM_SHORT, " (short)");
}

/* ---- accidents while starting ---- */

/* The names in the spool's folder, in order: a start that could not read must leave all as it was. */
struct names {
	char list[200][64];
	unsigned n;
};

static void add_name(void *ctx, const char *name)
{
	struct names *names = ctx;

	if (names->n < 200 && strstr(name, ".idx") == NULL)
		(void)snprintf(names->list[names->n++], sizeof(names->list[0]), "%s", name);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void names_of(struct world *w, struct names *names)
{
	memset(names, 0, sizeof(*names));
	sim_disk_names(w->disk, "spool", add_name, names);
	qsort(names->list, names->n, sizeof(names->list[0]), by_name);
}

static void open_or_leave_alone(struct world *w)
{
	struct names before, after;

	names_of(w, &before);
	if (rig_open(&w->rig)) {
		check(w, false);
		return;
	}
	names_of(w, &after);
	if (strstr(w->rig.error.text, "read at") != NULL && memcmp(&before, &after, sizeof(before)) != 0)
		fail_world(w, "could not read, but changed the folder");
}

/* A life that ended in a cut; then each call of the next start has an accident, and the start after that must do. */
static void each_call_of_start(enum sim_accident accident, bool full, const char *story)
{
	unsigned seeds = env_number("SPOOL_CRASH_SEEDS", SEEDS) / 20;
	uint64_t first = env_number("SPOOL_CRASH_FIRST", 1);

	for (uint64_t seed = first; seed < first + seeds; seed++) {
		for (uint64_t at = 1, happened = true; happened; at++) {
			struct world w;

			(void)short_life(&w, seed, 40 + seed % 50, seed % 2 == 0 ? SIM_CUT : SIM_SYNC_FAILS);
			w.story = story;
			end(&w, seed % 2 == 0 ? END_CUT : END_KILL);
			if (full)
				w.disk->capacity = sim_disk_used(w.disk);
			sim_disk_plan(w.disk, at, accident);
			open_or_leave_alone(&w);
			happened = w.disk->happened;
			after_accident(&w);
			world_free(&w);
		}
	}
}

static void test_cut_while_starting(void **state)
{
	(void)state;
	each_call_of_start(SIM_CUT, false, " (cut at start)");
	each_call_of_start(SIM_CUT, true, " (cut at start, full)");
}

static void test_failure_while_starting(void **state)
{
	(void)state;
	each_call_of_start(SIM_EIO, false, " (EIO at start)");
	each_call_of_start(SIM_EIO, true, " (EIO at start, full)");
}

static void test_no_space_while_starting(void **state)
{
	(void)state;
	each_call_of_start(SIM_ENOSPC, false, " (ENOSPC at start)");
}

static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_at_each_call),
        cmocka_unit_test(test_each_call_fails),
        cmocka_unit_test(test_each_call_lacks_space),
        cmocka_unit_test(test_each_write_is_short),
        cmocka_unit_test(test_cut_while_starting),
        cmocka_unit_test(test_failure_while_starting),
        cmocka_unit_test(test_no_space_while_starting),
        cmocka_unit_test(test_random_lives),
};

TEST_MAIN("spool_crash", tests)
