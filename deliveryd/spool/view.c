#include "config.h"
#include "spool/view.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "base/log.h"
#include "base/mem.h"
#include "spool/spool_int.h"
#include "spool/view_log.h"
#include "spool/view_rows.h"

/* At most a twentieth of one core: the more a round had to do, the longer the pause. */
#define PAUSE_MIN_US (5 * SECOND_US)
#define PAUSE_MAX_US (60 * SECOND_US)
#define PAUSE_SHARE 19u
#define SLICE_BYTES ((size_t)4 << 20) /* of records without bodies, held in memory */
#define ROOM_SEGMENTS 4u              /* free space that is left to mail, above min_free */
#define AHEAD_MAX                                                                                            \
	((uint64_t)256 << 20) /* of the write-ahead file: who reads for that long makes the view wait */

struct view {
	struct spool *spool; /* borrows */
	char *path;          /* owns */
	struct view_rows *rows;
	dev_t device; /* of the open file */
	ino_t inode;
	struct view_log log;
	bool placed; /* log is at the position the file has */
	bool told;   /* what is wrong has been logged */
	pthread_t thread;
	bool running;
	pthread_mutex_t mutex;
	pthread_cond_t wake;
	_Atomic bool stopping;
};

/* ---- the file ---- */

static void close_file(struct view *v)
{
	view_rows_close(&v->rows);
	v->placed = false;
}

static void remove_file(struct view *v)
{
	static const char *const ends[] = {"", "-wal", "-shm", "-journal"};

	close_file(v);
	for (size_t i = 0; i < array_len(ends); i++) {
		char *name = mem_printf("%s%s", v->path, ends[i]);

		(void)unlink(name);
		mem_free(&name);
	}
}

/* An operator may delete it, or put another in its place. */
static bool is_the_file(const struct view *v)
{
	struct stat st;

	return stat(v->path, &st) == 0 && st.st_dev == v->device && st.st_ino == v->inode;
}

static enum view_result open_file(struct view *v, struct error *err)
{
	enum view_result result = VIEW_OK;
	struct stat st;

	if (v->rows != NULL && !is_the_file(v))
		remove_file(v); /* with what belonged to the old one */
	if (v->rows != NULL)
		return VIEW_OK;
	v->rows = view_rows_open(v->path, &result, err);
	if (v->rows != NULL && stat(v->path, &st) == 0) {
		v->device = st.st_dev;
		v->inode = st.st_ino;
	}
	return result;
}

/* ---- a round ---- */

/* The file's position, or the beginning of the log with no rows. In a transaction. */
static enum view_result place(struct view *v, struct error *err)
{
	struct view_position at;
	enum view_result result;

	if (v->placed || (view_rows_position(v->rows, &at) && view_log_seek(&v->log, &at))) {
		v->placed = true;
		return VIEW_OK;
	}
	result = view_rows_clear(v->rows, err);
	if (result == VIEW_OK && !view_log_begin(&v->log, v->spool->oldest_stated)) {
		error_set(err, "%s", v->log.error.text);
		result = VIEW_FAILED;
	}
	v->placed = result == VIEW_OK;
	return result;
}

static void each_record(void *ctx, const struct record *r)
{
	view_rows_take(ctx, r);
}

/* Reads until there is enough for a transaction. Then *whole is the last position with no message half told. */
static enum view_next read_slice(struct view *v, uint64_t target, struct view_position *whole)
{
	enum view_next next = VIEW_BATCH;

	*whole = v->log.at;
	while (!v->stopping && (view_rows_bytes(v->rows) < SLICE_BYTES || view_rows_partial(v->rows))) {
		next = view_log_next(&v->log, target >> 32, target & UINT32_MAX);
		if (next != VIEW_BATCH)
			break;
		view_log_records(&v->log, each_record, v->rows);
		if (!view_rows_partial(v->rows))
			*whole = v->log.at;
	}
	return next;
}

/* One transaction. *more: there is something left to be read. */
static enum view_result slice(struct view *v, uint64_t target, bool *more, struct error *err)
{
	enum view_result result = view_rows_begin(v->rows, err);
	struct view_position whole;
	enum view_next next;

	*more = false;
	if (result == VIEW_OK)
		result = place(v, err);
	if (result != VIEW_OK)
		return result;
	next = read_slice(v, target, &whole);
	if (next ==
	        VIEW_LOST) { /* the log has gone on without us: from the beginning, in a transaction of its own */
		v->placed = false;
		view_rows_drop(v->rows);
		result = view_rows_clear(v->rows, err);
		*more = true;
		whole = (struct view_position){0};
	} else if (next == VIEW_ERROR) {
		*err = v->log.error;
		return VIEW_FAILED;
	}
	if (result == VIEW_OK)
		result = view_rows_write(v->rows, &whole, err);
	if (result == VIEW_OK && next == VIEW_BATCH)
		*more = true;
	if (whole.segment != v->log.at.segment || whole.offset != v->log.at.offset)
		v->placed = false; /* the beginning of a message is read again when there is its end */
	return result;
}

bool view_has_room(const struct spool *s)
{
	return spool_health(s) == SPOOL_OK && spool_has_room_for(s, ROOM_SEGMENTS * s->cfg.segment_size);
}

/* Not while space is short, nor while a reader keeps the write-ahead file growing. */
static bool may_write(struct view *v)
{
	return view_has_room(v->spool) && view_rows_small(v->rows, AHEAD_MAX);
}

static enum view_result all_slices(struct view *v, struct error *err)
{
	uint64_t target = atomic_load(&v->spool->committed);
	enum view_result result = open_file(v, err);
	bool more = true;

	for (int lost = 0; result == VIEW_OK && more && lost < 100000 && !v->stopping; lost++)
		result = may_write(v) ? slice(v, target, &more, err) : VIEW_BUSY;
	return result;
}

bool view_round(struct view *v)
{
	struct error err = {.text = ""};
	enum view_result result = all_slices(v, &err);

	view_log_rest(&v->log);
	if (v->rows != NULL)
		view_rows_rest(v->rows);
	if (result == VIEW_OK) {
		v->told = false;
		return !v->stopping;
	}
	if (v->rows != NULL) {
		view_rows_rollback(v->rows);
		view_rows_drop(v->rows);
	}
	v->placed = false;
	if (result == VIEW_BAD)
		remove_file(v);
	if (result == VIEW_FAILED)
		close_file(v);
	if (result != VIEW_BUSY && !v->told) {
		log_warning("spool: %s: %s: %s", v->path, err.text,
		        result == VIEW_BAD ? "it is made anew" : "operators see the spool as it was");
		v->told = true;
	}
	return false;
}

/* ---- the thread ---- */

static uint64_t time_us(clockid_t which)
{
	struct timespec t = {0};

	(void)clock_gettime(which, &t);
	return (uint64_t)t.tv_sec * SECOND_US + (uint64_t)t.tv_nsec / 1000;
}

static void pause_thread(struct view *v, uint64_t round_us)
{
	uint64_t pause = PAUSE_SHARE * round_us, end;
	struct timespec until;

	if (pause < PAUSE_MIN_US)
		pause = PAUSE_MIN_US;
	if (pause > PAUSE_MAX_US)
		pause = PAUSE_MAX_US;
	end = time_us(CLOCK_MONOTONIC) + pause;
	until = (struct timespec){
	        .tv_sec = (time_t)(end / SECOND_US), .tv_nsec = (long)(end % SECOND_US) * 1000};
	(void)pthread_mutex_lock(&v->mutex);
	while (!v->stopping && pthread_cond_timedwait(&v->wake, &v->mutex, &until) == 0)
		;
	(void)pthread_mutex_unlock(&v->mutex);
}

static void *thread_main(void *ctx)
{
	struct view *v = ctx;

	(void)pthread_setname_np(pthread_self(), "view");
	/* mail goes first */
	(void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 19);
	while (!v->stopping) {
		uint64_t before = time_us(CLOCK_THREAD_CPUTIME_ID);

		(void)view_round(v);
		pause_thread(v, time_us(CLOCK_THREAD_CPUTIME_ID) - before);
	}
	return NULL;
}

struct view *view_new(struct spool *s, const char *path)
{
	struct view *v = mem_zalloc(sizeof(*v));
	pthread_condattr_t attr;

	v->spool = s;
	v->path = mem_strdup(path);
	view_log_init(&v->log, s->io, s->dir);
	(void)pthread_mutex_init(&v->mutex, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&v->wake, &attr);
	(void)pthread_condattr_destroy(&attr);
	return v;
}

bool view_start(struct view *v, struct error *err)
{
	errno = pthread_create(&v->thread, NULL, thread_main, v);
	v->running = errno == 0;
	return v->running || error_sys(err, "cannot start the view thread");
}

void view_stop(struct view **view_ptr)
{
	struct view *v = *view_ptr;

	*view_ptr = NULL;
	if (v == NULL)
		return;
	(void)pthread_mutex_lock(&v->mutex);
	v->stopping = true;
	(void)pthread_cond_signal(&v->wake);
	(void)pthread_mutex_unlock(&v->mutex);
	if (v->running)
		(void)pthread_join(v->thread, NULL);
	close_file(v);
	view_log_free(&v->log);
	(void)pthread_cond_destroy(&v->wake);
	(void)pthread_mutex_destroy(&v->mutex);
	mem_free(&v->path);
	mem_free(&v);
}
