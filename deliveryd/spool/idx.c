/*
 * The index file of a sealed segment: offset, head and meta of each of its records, so that a start need not read
 * the bodies. It is checked by one CRC32C over all of it and can be done without: it is never synced, and what is
 * missing, torn or of another use of the segment is made from the segment itself.
 *
 *	magic u32, crc u32 (of all behind it), version u32, record_max u32, number u64, nonce u64, size u64,
 *	first_sequence u64, next_sequence u64, end u64, entries
 */
#include "config.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include "spool/crc.h"
#include "spool/spool_int.h"

#define IDX_MAGIC 0x58495042u /* "BPIX" */
#define IDX_HEAD 64u

void idx_add_record(struct segment *seg, uint32_t offset, const uint8_t *head_and_meta, size_t n)
{
	uint8_t at[4];

	if (!seg->idx_complete)
		return;
	put_u32(at, offset);
	str_add_mem(&seg->idx, at, sizeof(at));
	str_add_mem(&seg->idx, head_and_meta, n);
}

void idx_add_records(struct segment *seg, uint32_t offset, const uint8_t *records, size_t n)
{
	for (size_t at = 0; at < n;) {
		struct record r;

		record_peek(records + at, &r);
		idx_add_record(seg, offset + (uint32_t)at, records + at, r.length);
		at += r.length;
	}
}

struct idx_job {
	struct work work;
	struct spool *spool;
	uint64_t number;
	uint8_t head[IDX_HEAD];
	struct str entries;
	int error_number;
	struct error error;
};

static void job_fill(struct spool *s, struct segment *seg, struct idx_job *job)
{
	job->spool = s;
	job->number = seg->number;
	job->entries = seg->idx;
	str_init(&seg->idx);
	seg->idx_complete = false;
	put_u32(job->head, IDX_MAGIC);
	put_u32(job->head + 8, FORMAT_VERSION);
	put_u32(job->head + 12, seg->record_max);
	put_u64(job->head + 16, seg->number);
	put_u64(job->head + 24, seg->nonce);
	put_u64(job->head + 32, seg->size);
	put_u64(job->head + 40, seg->first_sequence);
	put_u64(job->head + 48, seg->next_sequence);
	put_u64(job->head + 56, seg->end);
}

/* A failure leaves no file, or one that does not check: either is as good as none. What it says of the disk is kept. */
static void job_write(struct idx_job *job)
{
	struct spool *s = job->spool;
	char name[FORMAT_NAME_SIZE];
	struct iovec iov[2] = {
	        {.iov_base = job->head, .iov_len = IDX_HEAD},
	        {.iov_base = job->entries.data, .iov_len = job->entries.len},
	};
	uint32_t crc = crc32c(0, job->head + 8, IDX_HEAD - 8);
	int fd;

	put_u32(job->head + 4, crc32c(crc, job->entries.data, job->entries.len));
	(void)format_name(name, FILE_IDX, job->number);
	fd = s->io->open(s->io, s->dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd >= 0 && disk_write_all(s->io, fd, iov, job->entries.len > 0 ? 2 : 1, 0)) {
		(void)s->io->close(s->io, fd);
		return;
	}
	job->error_number = errno;
	error_sys(&job->error, "%s/%s: write", s->path, name);
	if (fd >= 0)
		(void)s->io->close(s->io, fd);
	(void)s->io->unlink(s->io, s->dir, name);
}

static void job_run(struct work *work)
{
	job_write(container_of(work, struct idx_job, work));
}

static void job_done(struct mail *mail)
{
	struct idx_job *job = container_of(mail, struct idx_job, work.done);

	if (disk_errno_is_fatal(job->error_number))
		spool_fail(job->spool, &job->error);
	segment_unpin(job->spool, job->number);
	str_free(&job->entries);
	mem_free(&job);
}

/* Pinned meanwhile, so that nobody unlinks the file while it is being written. */
void idx_seal(struct spool *s, struct segment *seg)
{
	struct idx_job *job;

	if (!seg->idx_complete || seg->damaged) {
		str_free(&seg->idx);
		return;
	}
	if (s->loop == NULL || s->closing) { /* nobody would take the worker's answer */
		idx_write_now(s, seg);
		return;
	}
	job = mem_zalloc(sizeof(*job));
	job_fill(s, seg, job);
	seg->pins++;
	job->work.run = job_run;
	job->work.reply = s->loop;
	job->work.done.take = job_done;
	workers_do(s->cfg.disk, &job->work);
}

void idx_write_now(struct spool *s, struct segment *seg)
{
	struct idx_job job = {0};

	if (!seg->idx_complete || seg->damaged)
		return;
	job_fill(s, seg, &job);
	job_write(&job);
	str_free(&job.entries);
}

/* NULL: none, or too short to be one (0), or the disk does not let it be read (its errno). */
static uint8_t *read_all(struct spool *s, uint64_t number, size_t *n, int *error_number)
{
	char name[FORMAT_NAME_SIZE];
	int fd = s->io->open(s->io, s->dir, format_name(name, FILE_IDX, number), O_RDONLY, 0);
	uint8_t *bytes = NULL;
	uint64_t size;
	ssize_t got;

	*error_number = fd < 0 && errno != ENOENT ? errno : 0;
	if (fd < 0)
		return NULL;
	if (s->io->size(s->io, fd, &size) < 0) {
		*error_number = errno;
	} else if (size >= IDX_HEAD && size <= UINT32_MAX) {
		bytes = mem_alloc(size);
		got = disk_read_full(s->io, fd, bytes, size, 0);
		if (got < 0)
			*error_number = errno;
		if (got < 0 || (uint64_t)got != size)
			mem_free(&bytes);
		*n = size;
	}
	(void)s->io->close(s->io, fd);
	return bytes;
}

bool idx_read(struct spool *s, uint64_t number, struct segment_head *head, uint64_t *next_sequence,
        uint64_t *end, uint8_t **entries, size_t *n, int *error_number)
{
	size_t size = 0;
	uint8_t *bytes = read_all(s, number, &size, error_number);

	if (bytes == NULL)
		return false;
	if (get_u32(bytes) != IDX_MAGIC || get_u32(bytes + 4) != crc32c(0, bytes + 8, size - 8) ||
	        get_u32(bytes + 8) != FORMAT_VERSION || get_u64(bytes + 16) != number) {
		mem_free(&bytes);
		return false;
	}
	*head = (struct segment_head){
	        .version = FORMAT_VERSION,
	        .record_max = get_u32(bytes + 12),
	        .number = number,
	        .nonce = get_u64(bytes + 24),
	        .size = get_u64(bytes + 32),
	        .first_sequence = get_u64(bytes + 40),
	};
	*next_sequence = get_u64(bytes + 48);
	*end = get_u64(bytes + 56);
	*n = size - IDX_HEAD;
	memmove(bytes, bytes + IDX_HEAD, *n);
	*entries = bytes;
	return true;
}
