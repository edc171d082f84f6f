#include "config.h"
#include "spool/body_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include "base/log.h"
#include "spool/crc.h"
#include "spool/spool_int.h"

#define WRITE_MIN BODY_PIECE            /* less waits for more, or for the end */
#define ROOM (4 * (uint64_t)BODY_PIECE) /* backlog under which `room` is called */

struct body_file_writer {
	struct spool *spool;
	struct loop *loop;
	struct payload_file file;
	void (*room)(void *ctx);
	void *room_ctx;
	void (*done)(void *ctx, const struct payload_file *, enum body_error);
	void *done_ctx;
	struct str waiting; /* not yet given to a worker */
	bool finishing, abandoned, crowded;
	bool no_room; /* refused while it came in */

	/* the worker's while `busy` */
	bool busy;
	enum { FILE_GOES_ON, FILE_ENDS, FILE_GOES_AWAY } then;
	struct work work;
	int fd;
	struct str writing, table;
	uint32_t piece_crc, piece_fill;
	int error_number; /* the first; 0 = well */
	struct error error;
};

/* ---- on a worker ---- */

static const char *file_name(const struct body_file_writer *w, char name[FORMAT_NAME_SIZE])
{
	return format_name(name, FILE_BODY, w->file.number);
}

static void fail(struct body_file_writer *w, const char *what)
{
	char name[FORMAT_NAME_SIZE];

	w->error_number = errno;
	error_sys(&w->error, "%s/bodies/%s: %s", w->spool->path, file_name(w, name), what);
}

static void piece_end(struct body_file_writer *w)
{
	uint8_t crc[4];

	put_u32(crc, w->piece_crc);
	str_add_mem(&w->table, crc, sizeof(crc));
	w->piece_crc = w->piece_fill = 0;
}

static void checksum(struct body_file_writer *w)
{
	const char *p = w->writing.data;
	size_t n = w->writing.len;

	while (n > 0) {
		size_t part = BODY_PIECE - w->piece_fill < n ? BODY_PIECE - w->piece_fill : n;

		w->piece_crc = crc32c(w->piece_crc, p, part);
		w->piece_fill += (uint32_t)part;
		p += part;
		n -= part;
		if (w->piece_fill == BODY_PIECE)
			piece_end(w);
	}
}

static bool write_at_end(struct body_file_writer *w, struct str *bytes)
{
	struct iovec iov = {.iov_base = bytes->data, .iov_len = bytes->len};

	if (bytes->len == 0 || disk_write_all(w->spool->io, w->fd, &iov, 1, w->file.size))
		return true;
	fail(w, "write");
	return false;
}

static void open_file(struct body_file_writer *w)
{
	char name[FORMAT_NAME_SIZE];

	w->fd = w->spool->io->open(
	        w->spool->io, w->spool->bodies_dir, file_name(w, name), O_RDWR | O_CREAT | O_EXCL, 0600);
	if (w->fd < 0)
		fail(w, "create");
}

/* The file first, then its name: a record that names it may enter a batch only behind both. */
static void complete(struct body_file_writer *w)
{
	struct disk_io *io = w->spool->io;

	if (w->piece_fill > 0)
		piece_end(w);
	w->file.table_crc = crc32c(0, w->table.data, w->table.len);
	if (!write_at_end(w, &w->table))
		return;
	if (io->datasync(io, w->fd) < 0)
		fail(w, "fdatasync");
	else if (io->sync_dir(io, w->spool->bodies_dir) < 0)
		fail(w, "fsync of the folder");
}

static void end_file(struct body_file_writer *w)
{
	char name[FORMAT_NAME_SIZE];

	if (w->error_number == 0 && w->then == FILE_ENDS)
		complete(w);
	if (w->fd >= 0)
		(void)w->spool->io->close(w->spool->io, w->fd);
	if (w->error_number == 0 && w->then != FILE_GOES_AWAY)
		return;
	if (w->spool->io->unlink(w->spool->io, w->spool->bodies_dir, file_name(w, name)) < 0 &&
	        disk_errno_is_fatal(errno))
		fail(w, "unlink");
}

static void job_run(struct work *work)
{
	struct body_file_writer *w = container_of(work, struct body_file_writer, work);

	if (w->fd < 0 && w->error_number == 0 && w->then != FILE_GOES_AWAY)
		open_file(w);
	if (w->error_number == 0 && w->then != FILE_GOES_AWAY) {
		checksum(w);
		if (write_at_end(w, &w->writing))
			w->file.size += w->writing.len;
	}
	if (w->then != FILE_GOES_ON)
		end_file(w);
}

/* ---- on the writer's loop ---- */

uint64_t body_file_writer_backlog(const struct body_file_writer *w)
{
	return w->waiting.len + w->writing.len;
}

static void next_job(struct body_file_writer *w)
{
	struct str empty;

	if (w->busy || !(w->finishing || w->abandoned || w->waiting.len >= WRITE_MIN))
		return;
	w->busy = true;
	if (w->no_room && w->error_number == 0)
		w->error_number = ENOSPC;
	w->then = w->abandoned ? FILE_GOES_AWAY : w->finishing ? FILE_ENDS : FILE_GOES_ON;
	empty = w->writing;
	w->writing = w->waiting;
	w->waiting = empty;
	workers_do(w->spool->cfg.disk, &w->work);
}

static void writer_free(struct body_file_writer **writer_ptr)
{
	struct body_file_writer *w = *writer_ptr;

	str_free(&w->waiting);
	str_free(&w->writing);
	str_free(&w->table);
	mem_free(writer_ptr);
}

static void writer_end(struct body_file_writer *w)
{
	enum body_error error = BODY_OK;

	if (w->error_number != 0)
		error = disk_errno_is_space(w->error_number) ? BODY_NO_SPACE : BODY_IO;
	if (error == BODY_IO)
		spool_fail_from(w->spool, &w->error);
	if (error != BODY_OK)
		w->file.number = 0;
	if (!w->abandoned)
		w->done(w->done_ctx, &w->file, error);
	writer_free(&w);
}

static void job_done(struct mail *mail)
{
	struct body_file_writer *w = container_of(mail, struct body_file_writer, work.done);

	w->busy = false;
	(void)atomic_fetch_sub(&chunks_counts(w->spool->chunks)->pending, w->writing.len);
	str_clear(&w->writing);
	if (w->then != FILE_GOES_ON) {
		writer_end(w);
		return;
	}
	next_job(w);
	if (w->crowded && !w->abandoned && body_file_writer_backlog(w) < ROOM) {
		w->crowded = false;
		if (w->room != NULL)
			w->room(w->room_ctx);
	}
}

struct body_file_writer *body_file_writer_new(struct spool *s, struct loop *loop)
{
	struct body_file_writer *w = mem_zalloc(sizeof(*w));

	w->spool = s;
	w->loop = loop;
	w->fd = -1;
	w->file.number = spool_new_id(s);
	str_init(&w->waiting);
	str_init(&w->writing);
	str_init(&w->table);
	w->work.run = job_run;
	w->work.reply = loop;
	w->work.done.take = job_done;
	return w;
}

void body_file_writer_add(struct body_file_writer *w, const void *bytes, size_t n)
{
	str_add_mem(&w->waiting, bytes, n);
	(void)atomic_fetch_add(&chunks_counts(w->spool->chunks)->pending, n);
	if (body_file_writer_backlog(w) >= ROOM)
		w->crowded = true;
	next_job(w);
}

void body_file_writer_refuse(struct body_file_writer *w)
{
	w->no_room = true;
}

void body_file_writer_on_room(struct body_file_writer *w, void (*room)(void *ctx), void *ctx)
{
	w->room = room;
	w->room_ctx = ctx;
}

void body_file_writer_finish(struct body_file_writer *w,
        void (*done)(void *ctx, const struct payload_file *, enum body_error), void *ctx)
{
	w->done = done;
	w->done_ctx = ctx;
	w->finishing = true;
	next_job(w);
}

void body_file_writer_abort(struct body_file_writer **writer_ptr)
{
	struct body_file_writer *w = *writer_ptr;

	*writer_ptr = NULL;
	if (w == NULL)
		return;
	assert(!w->finishing);
	w->abandoned = true;
	next_job(w);
}

/* ---- the end of a file ---- */

struct unlink_job {
	struct work work;
	struct spool *spool;
	uint64_t number;
	int error_number;
	struct error error;
};

static void unlink_run(struct work *work)
{
	struct unlink_job *job = container_of(work, struct unlink_job, work);
	struct spool *s = job->spool;
	char name[FORMAT_NAME_SIZE];

	if (s->io->unlink(s->io, s->bodies_dir, format_name(name, FILE_BODY, job->number)) == 0 ||
	        errno == ENOENT)
		return;
	job->error_number = errno;
	error_sys(&job->error, "%s/bodies/%s: unlink", s->path, name);
}

static void unlink_done(struct mail *mail)
{
	struct unlink_job *job = container_of(mail, struct unlink_job, work.done);

	if (disk_errno_is_fatal(job->error_number))
		spool_fail(job->spool, &job->error);
	else if (job->error_number != 0)
		log_warning("spool: %s", job->error.text);
	mem_free(&job);
}

/* What a crash leaves of it is swept at the next start. */
void body_file_unlink(struct spool *s, uint64_t number)
{
	struct unlink_job *job;

	if (s->closing)
		return;
	job = mem_zalloc(sizeof(*job));
	job->spool = s;
	job->number = number;
	job->work.run = unlink_run;
	job->work.reply = s->loop;
	job->work.done.take = unlink_done;
	workers_do(s->cfg.disk, &job->work);
}
