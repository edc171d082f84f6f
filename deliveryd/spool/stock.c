/*
 * The stock of spare segments, the fate of dead ones, and the space on the disk.
 *
 * A spare is made under the name new-N, written with zeros, synced, and only then renamed to spare-N: what is called
 * a spare has all its blocks on the disk, so that writing to it needs no space and its fdatasync no journal commit.
 * The last two spares are the ballast: no new mail goes into them, results and the cleaner may use them, so that a
 * full disk drains.
 *
 * A dead segment goes once a synced head (segment's or batch's) states that it is no longer needed, and no read has it
 * pinned: to the stock if that is short, else it is unlinked.
 */
#include "config.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include "base/log.h"
#include "spool/spool_int.h"

struct stock_job {
	struct work work;
	struct spool *spool;
	enum { STOCK_MAKE, STOCK_RECYCLE, STOCK_UNLINK, STOCK_UNLINK_SPARE } what;
	uint64_t number, name;
	int error_number; /* 0 = done */
	struct error error;
};

/* ---- on a worker ---- */

#define ZEROS_BYTES ((size_t)256 * 1024)

static bool write_zeros(struct spool *s, int fd)
{
	uint8_t *zeros = mem_zalloc(ZEROS_BYTES);
	bool ok = true;

	for (uint64_t at = 0; ok && at < s->cfg.segment_size; at += ZEROS_BYTES) {
		uint64_t left = s->cfg.segment_size - at;
		struct iovec iov = {.iov_base = zeros, .iov_len = left < ZEROS_BYTES ? left : ZEROS_BYTES};

		ok = disk_write_all(s->io, fd, &iov, 1, at);
	}
	mem_free(&zeros);
	return ok;
}

static bool make_new(struct spool *s, const char *name)
{
	int fd = s->io->open(s->io, s->dir, name, O_RDWR | O_CREAT | O_EXCL, 0600), error;
	bool ok;

	if (fd < 0)
		return false;
	ok = s->io->allocate(s->io, fd, s->cfg.segment_size) == 0 && write_zeros(s, fd) &&
	     s->io->datasync(s->io, fd) == 0;
	error = errno;
	(void)s->io->close(s->io, fd);
	if (!ok)
		(void)s->io->unlink(s->io, s->dir, name);
	errno = error;
	return ok;
}

bool stock_make(struct spool *s, uint64_t number, struct error *err, int *error_number)
{
	char new_name[FORMAT_NAME_SIZE], spare_name[FORMAT_NAME_SIZE];

	(void)format_name(new_name, FILE_NEW, number);
	(void)format_name(spare_name, FILE_SPARE, number);
	*error_number = 0;
	if (!make_new(s, new_name)) {
		*error_number = errno;
		return error_sys(err, "%s/%s: making a segment", s->path, new_name);
	}
	if (s->io->rename(s->io, s->dir, new_name, spare_name) < 0) {
		*error_number = errno;
		(void)s->io->unlink(s->io, s->dir, new_name);
		errno = *error_number;
		return error_sys(err, "%s/%s: rename to %s", s->path, new_name, spare_name);
	}
	return true;
}

static bool unlink_file(struct spool *s, enum file_kind kind, uint64_t number, struct error *err)
{
	char name[FORMAT_NAME_SIZE];

	if (s->io->unlink(s->io, s->dir, format_name(name, kind, number)) < 0 && errno != ENOENT)
		return error_sys(err, "%s/%s: unlink", s->path, name);
	return true;
}

static bool recycle(struct spool *s, uint64_t number, uint64_t name, struct error *err)
{
	char from[FORMAT_NAME_SIZE], to[FORMAT_NAME_SIZE];

	if (s->io->rename(s->io, s->dir, format_name(from, FILE_SEGMENT, number),
	            format_name(to, FILE_SPARE, name)) < 0)
		return error_sys(err, "%s/%s: rename to %s", s->path, from, to);
	return true;
}

static void job_run(struct work *work)
{
	struct stock_job *job = container_of(work, struct stock_job, work);
	struct spool *s = job->spool;
	bool ok = true;

	errno = 0;
	switch (job->what) {
	case STOCK_MAKE:
		(void)stock_make(s, job->name, &job->error, &job->error_number);
		return;
	case STOCK_RECYCLE:
		ok = unlink_file(s, FILE_IDX, job->number, &job->error) &&
		     recycle(s, job->number, job->name, &job->error);
		break;
	case STOCK_UNLINK:
		ok = unlink_file(s, FILE_IDX, job->number, &job->error) &&
		     unlink_file(s, FILE_SEGMENT, job->number, &job->error);
		break;
	case STOCK_UNLINK_SPARE:
		ok = unlink_file(s, FILE_SPARE, job->name, &job->error);
		break;
	}
	job->error_number = ok ? 0 : errno;
}

/* ---- on the spool loop ---- */

void stock_add(struct spool *s, uint64_t name)
{
	assert(s->stock.n < STOCK_MAX);
	s->stock.spares[s->stock.n++] = name;
	if (name >= s->stock.next_name)
		s->stock.next_name = name + 1;
	s->stock.no_space = s->stock.no_space_told = false;
}

static void made(struct spool *s, const struct stock_job *job)
{
	s->stock.making = false;
	if (job->error_number == 0) {
		stock_add(s, job->name);
	} else if (disk_errno_is_space(job->error_number)) {
		if (!s->stock.no_space_told)
			log_warning("spool: %s: mail is refused until there is space", job->error.text);
		s->stock.no_space = s->stock.no_space_told = true;
	} else {
		spool_fail(s, &job->error);
	}
}

static void job_done(struct mail *mail)
{
	struct stock_job *job = container_of(mail, struct stock_job, work.done);
	struct spool *s = job->spool;

	s->stock.coming -= job->what == STOCK_MAKE || job->what == STOCK_RECYCLE;
	if (job->what == STOCK_MAKE)
		made(s, job);
	else if (disk_errno_is_fatal(job->error_number))
		spool_fail(s, &job->error);
	else if (job->error_number != 0)
		log_warning("spool: %s", job->error.text);
	else if (job->what == STOCK_RECYCLE)
		stock_add(s, job->name);
	mem_free(&job);
	health_update(s);
	stock_tend(s);
}

static void job_start(struct spool *s, int what, uint64_t number, uint64_t name)
{
	struct stock_job *job = mem_zalloc(sizeof(*job));

	job->spool = s;
	job->what = what;
	job->number = number;
	job->name = name;
	job->work.run = job_run;
	job->work.reply = s->loop;
	job->work.done.take = job_done;
	s->stock.coming += what == STOCK_MAKE || what == STOCK_RECYCLE;
	workers_do(s->cfg.disk, &job->work);
}

static bool reusable(const struct spool *s, const struct segment *seg)
{
	return !seg->damaged && seg->size == s->cfg.segment_size &&
	       s->stock.n + s->stock.coming < STOCK_WANTED;
}

static void free_dead(struct spool *s)
{
	for (uint64_t number = s->segments.first; number < s->oldest_stated; number++) {
		struct segment *seg = segment_get(s, number);

		if (seg == NULL || seg->pins > 0 || seg == s->current)
			continue;
		if (reusable(s, seg))
			job_start(s, STOCK_RECYCLE, number, s->stock.next_name++);
		else
			job_start(s, STOCK_UNLINK, number, 0);
		segment_drop(s, seg);
	}
}

void stock_tend(struct spool *s)
{
	unsigned wanted = s->low_space ? STOCK_BALLAST : STOCK_WANTED;

	if (s->failed || s->closing)
		return;
	free_dead(s);
	while (s->stock.n > STOCK_WANTED)
		job_start(s, STOCK_UNLINK_SPARE, 0, s->stock.spares[--s->stock.n]);
	if (!s->stock.making && !s->stock.no_space && s->stock.n + s->stock.coming < wanted) {
		s->stock.making = true;
		job_start(s, STOCK_MAKE, 0, s->stock.next_name++);
	}
	metric_set(s->m.spares, s->stock.n);
	metric_set(s->m.segments, segment_count(s));
	metric_set(s->m.live, s->live_bytes);
}

/* ---- space ---- */

static uint64_t margin(const struct spool *s)
{
	return 2 * s->cfg.segment_size;
}

void space_look(struct spool *s)
{
	uint64_t free_bytes;

	if (s->io->space(s->io, s->dir, &free_bytes) < 0)
		return; /* it will be known in a second; writing finds out in any case */
	atomic_store(&s->free_bytes, free_bytes);
	if (free_bytes < s->min_free)
		s->low_space = true;
	else if (free_bytes >= s->min_free + margin(s))
		s->low_space = false;
	/* try again to make what is missing; the ballast also below min_free */
	if (free_bytes >= (s->stock.n < STOCK_BALLAST ? margin(s) : s->min_free + margin(s)))
		s->stock.no_space = false;
	metric_set(s->m.free_space, free_bytes);
	health_update(s);
}

/* Once each way: between min_free and the margin nothing changes. That it failed is said where it did. */
static void tell_health(const struct spool *s, int before, int now)
{
	uint64_t mb = atomic_load(&s->free_bytes) >> 20;

	if (now == SPOOL_LOW_SPACE && before != now)
		log_warning("spool: %" PRIu64 " MB free and spool.min_free is %" PRIu64
		            " MB: mail is refused for the time being (452) until there are %" PRIu64 " MB",
		        mb, s->min_free >> 20, (s->min_free + margin(s)) >> 20);
	else if (now == SPOOL_OK && before == SPOOL_LOW_SPACE)
		log_notice("spool: %" PRIu64 " MB free: mail is taken again", mb);
}

void health_update(struct spool *s)
{
	int health = SPOOL_OK;

	if (s->failed)
		health = SPOOL_FAILED;
	else if (s->low_space || (s->stock.no_space && s->stock.n <= STOCK_BALLAST))
		health = SPOOL_LOW_SPACE;
	tell_health(s, atomic_exchange(&s->health, health), health);
	metric_set(s->m.health, (uint64_t)health);
}
