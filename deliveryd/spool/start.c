/*
 * Start: what the folder holds, what of it counts, and a new segment to go on in.
 *
 * Order, and why:
 *   1. The last segment with a valid head is scanned first: its last valid batch says which segments are still needed.
 *      What is older is dead, also if a crash brought its name back.
 *   2. Its valid part is written again and synced, before anything is acknowledged, delivered or freed: after an
 *      unclean stop the page cache may show what the disk does not have (a failed sync even calls such pages clean).
 *      All segments before it were synced before it was begun.
 *   3. Replay, oldest first.
 *   4. A new segment: from the spares, the ballast included; else from dead ones at the old end, given back one by
 *      one, each with a sync of the folder before the next, so that none is missing while an older one is there;
 *      else newly made; else, on a disk that is full to the brim, the last one is continued behind its valid part,
 *      once what is torn there is overwritten. So any number of starts on a full disk succeeds.
 *   5. Only then rubbish is swept: half-made segments, index files of nothing, body files nobody names.
 */
#include "config.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "spool/replay.h"
#include "spool/scan.h"
#include "spool/spool_int.h"
#include "spool/start.h"

struct start_file {
	uint64_t number;
	enum file_kind kind;
	struct segment_head head; /* FILE_SEGMENT */
	enum head_check check;
	bool damaged; /* its head was lost */
};

struct start {
	struct spool *spool;
	struct start_file *files; /* owns; by kind, then number */
	size_t n, size;
	struct replay *replay;
	uint32_t reading; /* number of the segment being replayed */
	uint64_t highest_id;
	size_t last; /* of files: the last segment with a valid head */
	bool has_last;
};

static void each_file(void *ctx, const char *name)
{
	struct start *st = ctx;
	uint64_t number;
	enum file_kind kind = format_name_parse(name, &number);

	if (kind == FILE_OTHER)
		return;
	if (st->n == st->size) {
		st->size = st->size * 2 + 64;
		st->files = mem_array(st->files, st->size, sizeof(*st->files));
	}
	st->files[st->n++] = (struct start_file){.number = number, .kind = kind};
}

static int by_kind_number(const void *a, const void *b)
{
	const struct start_file *x = a, *y = b;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

/* ---- heads ---- */

static int open_segment(struct spool *s, uint64_t number, int flags, struct error *err)
{
	char name[FORMAT_NAME_SIZE];
	int fd = s->io->open(s->io, s->dir, format_name(name, FILE_SEGMENT, number), flags, 0);

	if (fd < 0)
		error_sys(err, "%s/%s: open", s->path, name);
	return fd;
}

/* EIO is not damage: nothing may be freed or set aside on its account. */
static bool read_failed(const struct spool *s, uint64_t number, uint64_t offset, struct error *err)
{
	char name[FORMAT_NAME_SIZE];

	return error_sys(
	        err, "%s/%s: read at %" PRIu64, s->path, format_name(name, FILE_SEGMENT, number), offset);
}

static bool head_plausible(const struct start_file *f, uint64_t file_size)
{
	const struct segment_head *h = &f->head;

	return h->number == f->number && h->number > 0 && h->number <= UINT32_MAX && h->size <= UINT32_MAX &&
	       h->size <= file_size && h->size >= 16 * (uint64_t)DISK_BLOCK && h->record_max >= RECORD_HEAD &&
	       h->record_max <= h->size;
}

static bool read_head(struct spool *s, struct start_file *f, struct error *err)
{
	uint8_t block[DISK_BLOCK];
	uint64_t size = 0;
	int fd = open_segment(s, f->number, O_RDONLY, err);
	bool ok = true;

	if (fd < 0)
		return false;
	f->check = HEAD_BAD;
	if (s->io->size(s->io, fd, &size) < 0)
		ok = read_failed(s, f->number, 0, err);
	for (unsigned copy = 0; ok && copy < SEGMENT_HEADS && f->check == HEAD_BAD; copy++) {
		ssize_t got = disk_read_full(s->io, fd, block, sizeof(block), copy * DISK_BLOCK);

		if (got < 0)
			ok = read_failed(s, f->number, copy * DISK_BLOCK, err);
		else
			f->check = segment_head_read(block, (size_t)got, &f->head);
		if (f->check == HEAD_OK && !head_plausible(f, size))
			f->check = HEAD_BAD;
	}
	(void)s->io->close(s->io, fd);
	if (ok && f->check == HEAD_NEWER) {
		char name[FORMAT_NAME_SIZE];

		return error_set(err,
		        "%s/%s: written by a newer version (format %u, this one knows up to %u): "
		        "install that version again, or deliver the mail with it first",
		        s->path, format_name(name, FILE_SEGMENT, f->number), f->head.version, FORMAT_VERSION);
	}
	return ok;
}

bool start_look(struct spool *s, struct start **start_out, struct error *err)
{
	struct start *st = mem_zalloc(sizeof(*st));

	*start_out = st;
	st->spool = s;
	if (s->io->list(s->io, s->dir, each_file, st) < 0)
		return error_sys(err, "%s: reading the folder", s->path);
	if (st->n > 0)
		qsort(st->files, st->n, sizeof(*st->files), by_kind_number);
	for (size_t i = 0; i < st->n; i++) {
		struct start_file *f = &st->files[i];

		if (f->number > s->number_floor && f->kind != FILE_SPARE && f->kind != FILE_NEW)
			s->number_floor = f->number;
		if (f->kind == FILE_SEGMENT && !read_head(s, f, err))
			return false;
	}
	s->number_floor++;
	return true;
}

void start_free(struct start **start_ptr)
{
	struct start *st = *start_ptr;

	if (st == NULL)
		return;
	replay_free(&st->replay);
	mem_free(&st->files);
	mem_free(start_ptr);
}

/* ---- segments ---- */

static uint8_t *read_image(struct spool *s, int fd, const struct start_file *f, size_t *n, struct error *err)
{
	const size_t piece = 1024 * 1024;
	uint8_t *image = mem_alloc(f->head.size);
	size_t done = 0;

	while (done < f->head.size) {
		size_t wanted = f->head.size - done < piece ? f->head.size - done : piece;
		ssize_t got = disk_read_full(s->io, fd, image + done, wanted, done);

		if (got < 0) {
			(void)read_failed(s, f->number, done, err);
			mem_free(&image);
			return NULL;
		}
		done += (size_t)got;
		if ((size_t)got < wanted)
			break;
	}
	*n = done;
	return image;
}

static void found_record(void *ctx, const struct record *r, uint32_t offset)
{
	struct start *st = ctx;
	struct segment *seg = segment_get(st->spool, st->reading);

	replay_record(st->replay, st->reading, r, offset);
	idx_add_record(seg, offset, r->meta - RECORD_HEAD, RECORD_HEAD + (size_t)r->meta_len);
}

static void report_damage(struct spool *s, struct segment *seg, const struct scan *scan)
{
	char name[FORMAT_NAME_SIZE], aside[FORMAT_NAME_SIZE];

	(void)format_name(name, FILE_SEGMENT, seg->number);
	(void)format_name(aside, FILE_DAMAGED, seg->number);
	log_error("spool: %s/%s: damaged in %u places, the first at %" PRIu64
	          "; %u records were saved from there; a copy stays as %s",
	        s->path, name, scan->damaged, scan->damaged_at, scan->salvaged, aside);
	metric_add(s->m.damaged, scan->damaged);
	seg->damaged = true;
	if (s->io->link(s->io, s->dir, name, aside) < 0 && errno != EEXIST)
		log_warning("spool: %s/%s: link: %s", s->path, aside, strerror(errno));
}

static bool replay_image(
        struct start *st, struct segment *seg, const struct start_file *f, uint64_t stop, struct error *err)
{
	struct spool *s = st->spool;
	struct scan scan = {.head = &f->head, .stop_sequence = stop, .record = found_record, .ctx = st};
	uint8_t *image = read_image(s, seg->fd, f, &scan.n, err);

	if (image == NULL)
		return false;
	scan.image = image;
	scan_segment(&scan);
	if (scan.damaged > 0)
		report_damage(s, seg, &scan);
	mem_free(&image);
	seg->end = scan.end;
	seg->next_sequence = scan.next_sequence;
	if (scan.highest_id > st->highest_id)
		st->highest_id = scan.highest_id;
	return true;
}

/* False if any of them is not what it should be: then none is applied. */
static bool walk_entries(
        struct start *st, const struct segment *seg, const uint8_t *entries, size_t n, bool apply)
{
	for (size_t at = 0; at < n;) {
		struct record r;
		uint32_t offset;

		if (n - at < 4 ||
		        !record_read(entries + at + 4, n - at - 4, false, seg->record_max, seg->seed, &r))
			return false;
		offset = get_u32(entries + at);
		if (offset > seg->size || r.length > seg->size - offset)
			return false;
		if (apply)
			replay_record(st->replay, (uint32_t)seg->number, &r, offset);
		at += 4 + RECORD_HEAD + (size_t)r.meta_len;
	}
	return true;
}

/* Only if it is of this use of the segment and of all that was written to it. */
static bool replay_idx(struct start *st, struct segment *seg, uint64_t stop)
{
	struct segment_head head;
	uint64_t next_sequence, end;
	uint8_t *entries;
	size_t n;
	bool ok;

	if (!idx_read(st->spool, seg->number, &head, &next_sequence, &end, &entries, &n))
		return false;
	ok = head.nonce == seg->nonce && head.first_sequence == seg->first_sequence &&
	     next_sequence == stop && end <= seg->size && walk_entries(st, seg, entries, n, false);
	if (ok) {
		(void)walk_entries(st, seg, entries, n, true);
		seg->end = end;
		seg->next_sequence = next_sequence;
		seg->idx_complete = false; /* it is written already */
	}
	mem_free(&entries);
	return ok;
}

static bool replay_segment(struct start *st, size_t i, uint64_t stop, struct error *err)
{
	struct spool *s = st->spool;
	const struct start_file *f = &st->files[i];
	int fd = open_segment(s, f->number, O_RDWR, err);
	struct segment *seg;

	if (fd < 0)
		return false;
	seg = segment_add(s, &f->head, fd);
	seg->damaged = f->damaged;
	st->reading = (uint32_t)f->number;
	if (f->head.highest_id > st->highest_id)
		st->highest_id = f->head.highest_id;
	if (stop != UINT64_MAX && replay_idx(st, seg, stop))
		return true;
	if (!replay_image(st, seg, f, stop, err))
		return false;
	if (stop != UINT64_MAX)
		idx_write_now(s, seg);
	return true;
}

/* The valid part, from what was read, so that it is dirty again for the kernel; then a sync. */
static bool rewrite(
        struct spool *s, int fd, const struct start_file *f, uint8_t *image, uint64_t end, struct error *err)
{
	struct iovec iov = {.iov_base = image, .iov_len = end};
	char name[FORMAT_NAME_SIZE];

	for (unsigned copy = 0; copy < SEGMENT_HEADS; copy++)
		segment_head_write(image + copy * DISK_BLOCK, &f->head);
	if (disk_write_all(s->io, fd, &iov, 1, 0) && s->io->datasync(s->io, fd) == 0)
		return true;
	return error_sys(err, "%s/%s: writing its valid part again", s->path,
	        format_name(name, FILE_SEGMENT, f->number));
}

/* Scans the last segment, secures what is valid there; *oldest is what is still needed. */
static bool secure_last(struct start *st, uint64_t *oldest, struct error *err)
{
	struct spool *s = st->spool;
	const struct start_file *f = &st->files[st->last];
	struct scan scan = {.head = &f->head, .stop_sequence = UINT64_MAX};
	int fd = open_segment(s, f->number, O_RDWR, err);
	uint8_t *image = fd < 0 ? NULL : read_image(s, fd, f, &scan.n, err);
	bool ok = image != NULL;

	if (ok) {
		scan.image = image;
		scan_segment(&scan);
		*oldest = scan.oldest > f->head.oldest ? scan.oldest : f->head.oldest;
		ok = rewrite(s, fd, f, image, scan.end, err);
	}
	mem_free(&image);
	if (fd >= 0)
		(void)s->io->close(s->io, fd);
	return ok;
}

/* ---- segments whose head is lost ---- */

/* No batch of its own in it: it was renamed for a roll that did not come to the head. */
static bool unborn(struct spool *s, const struct start_file *f, bool *yes, struct error *err)
{
	uint8_t block[DISK_BLOCK];
	struct batch_head b;
	int fd = open_segment(s, f->number, O_RDONLY, err);
	ssize_t got = 0;

	if (fd < 0)
		return false;
	*yes = true;
	for (uint64_t at = 0; *yes && (got = disk_read_full(s->io, fd, block, sizeof(block), at)) > 0;
	        at += sizeof(block)) {
		if (batch_head_read(block, (size_t)got, &b) && b.segment == f->number)
			*yes = false;
	}
	(void)s->io->close(s->io, fd);
	return got >= 0 || read_failed(s, f->number, 0, err);
}

static bool set_aside(struct spool *s, const struct start_file *f, struct error *err)
{
	char name[FORMAT_NAME_SIZE], aside[FORMAT_NAME_SIZE];

	(void)format_name(name, FILE_SEGMENT, f->number);
	(void)format_name(aside, FILE_DAMAGED, f->number);
	log_error("spool: %s/%s: damaged: its head is lost, nothing in it can be read; set aside as %s",
	        s->path, name, aside);
	metric_add(s->m.damaged, 1);
	if (s->io->rename(s->io, s->dir, name, aside) < 0)
		return error_sys(err, "%s/%s: rename to %s", s->path, name, aside);
	return true;
}

/* A head that is lost may stand in the index file too; if not, the highest segment may be unborn. */
static bool settle_head(struct start *st, struct start_file *f, bool highest, struct error *err)
{
	struct spool *s = st->spool;
	uint64_t next_sequence, end;
	uint8_t *entries;
	size_t n;
	bool is_unborn = false;

	if (idx_read(s, f->number, &f->head, &next_sequence, &end, &entries, &n)) {
		mem_free(&entries);
		log_error("spool: %s: segment %" PRIu64
		          " is damaged: its head is lost; taken from its index file",
		        s->path, f->number);
		metric_add(s->m.damaged, 1);
		f->check = HEAD_OK;
		f->damaged = true;
		return true;
	}
	if (highest && !unborn(s, f, &is_unborn, err))
		return false;
	f->kind = FILE_OTHER;
	return is_unborn ? start_give_back(s, f->number, err) : set_aside(s, f, err);
}

/* ---- dead segments, spares ---- */

static bool file_size_is(struct spool *s, const char *name, uint64_t wanted)
{
	int fd = s->io->open(s->io, s->dir, name, O_RDONLY, 0);
	uint64_t size = 0;
	bool is = fd >= 0 && s->io->size(s->io, fd, &size) == 0 && size == wanted;

	if (fd >= 0)
		(void)s->io->close(s->io, fd);
	return is;
}

static bool unlink_file(struct spool *s, const char *name, struct error *err)
{
	if (s->io->unlink(s->io, s->dir, name) < 0 && errno != ENOENT)
		return error_sys(err, "%s/%s: unlink", s->path, name);
	return true;
}

/* A file that nobody needs: to the stock, if it fits there. */
static bool give_back_file(struct spool *s, const char *name, bool may_reuse, struct error *err)
{
	char spare[FORMAT_NAME_SIZE];

	if (!may_reuse || s->stock.n >= STOCK_WANTED || !file_size_is(s, name, s->cfg.segment_size))
		return unlink_file(s, name, err);
	(void)format_name(spare, FILE_SPARE, s->stock.next_name);
	if (s->io->rename(s->io, s->dir, name, spare) < 0)
		return error_sys(err, "%s/%s: rename to %s", s->path, name, spare);
	stock_add(s, s->stock.next_name);
	return true;
}

bool start_give_back(struct spool *s, uint64_t number, struct error *err)
{
	char name[FORMAT_NAME_SIZE], aside[FORMAT_NAME_SIZE];
	int fd;
	bool linked;

	if (!unlink_file(s, format_name(name, FILE_IDX, number), err))
		return false;
	/* what was set aside is the same file */
	fd = s->io->open(s->io, s->dir, format_name(aside, FILE_DAMAGED, number), O_RDONLY, 0);
	linked = fd >= 0;
	if (linked)
		(void)s->io->close(s->io, fd);
	return give_back_file(s, format_name(name, FILE_SEGMENT, number), !linked, err);
}

static bool collect_stock(struct start *st, struct error *err)
{
	struct spool *s = st->spool;
	char name[FORMAT_NAME_SIZE];

	for (size_t i = 0; i < st->n; i++) {
		const struct start_file *f = &st->files[i];

		if (f->kind != FILE_SPARE && f->kind != FILE_NEW)
			continue;
		if (f->number >= s->stock.next_name)
			s->stock.next_name = f->number + 1;
		(void)format_name(name, f->kind, f->number);
		if (f->kind == FILE_SPARE && s->stock.n < STOCK_WANTED &&
		        file_size_is(s, name, s->cfg.segment_size))
			stock_add(s, f->number);
		else if (!unlink_file(s, name, err))
			return false;
	}
	return true;
}

/* From the old end, each gone for good before the next goes: what ends mail must not vanish before the mail. */
static bool give_back_dead(struct start *st, struct error *err)
{
	struct spool *s = st->spool;
	struct segment *seg;

	while (s->stock.n == 0 && (seg = segment_oldest(s)) != NULL && seg->live == 0 &&
	        seg->number != st->files[st->last].number) {
		uint64_t number = seg->number;

		segment_drop(s, seg);
		if (!start_give_back(s, number, err))
			return false;
		if (s->io->sync_dir(s->io, s->dir) < 0)
			return error_sys(err, "%s: fsync", s->path);
	}
	return true;
}

/* ---- the new segment ---- */

static bool make_one(struct spool *s, struct error *err)
{
	int error_number;

	if (stock_make(s, s->stock.next_name, err, &error_number)) {
		stock_add(s, s->stock.next_name);
		return true;
	}
	s->stock.next_name++;
	s->stock.no_space = disk_errno_is_space(error_number);
	return s->stock.no_space;
}

static bool continue_last(struct start *st, struct error *err)
{
	struct spool *s = st->spool;
	struct segment *seg = segment_get(s, st->files[st->last].number);
	uint64_t torn = seg->size - seg->end;
	char name[FORMAT_NAME_SIZE];
	struct iovec iov;
	bool ok;

	if (torn > s->batch_max)
		torn = s->batch_max;
	iov.iov_base = mem_zalloc(torn);
	iov.iov_len = torn;
	void *zeros = iov.iov_base;
	ok = torn == 0 ||
	     (disk_write_all(s->io, seg->fd, &iov, 1, seg->end) && s->io->datasync(s->io, seg->fd) == 0);
	mem_free(&zeros);
	if (!ok)
		return error_sys(err, "%s: segment %" PRIu64, s->path, seg->number);
	seg->idx_complete = false;
	(void)s->io->unlink(s->io, s->dir, format_name(name, FILE_IDX, seg->number));
	s->current = seg;
	log_warning("spool: %s: the disk is full: going on in the last segment", s->path);
	return true;
}

static bool open_new(struct start *st, struct error *err)
{
	struct spool *s = st->spool;

	if (st->has_last && !give_back_dead(st, err))
		return false;
	if (s->stock.n == 0 && !make_one(s, err))
		return false;
	switch (segment_roll(s, 0, err)) {
	case ROLL_OK:
		return true;
	case ROLL_FATAL:
		return false;
	case ROLL_NO_SPARE:
		break;
	}
	return st->has_last && continue_last(st, err); /* else err is of make_one() */
}

/* ---- sweeping ---- */

static bool sweep_idx(struct start *st, struct error *err)
{
	char name[FORMAT_NAME_SIZE];

	for (size_t i = 0; i < st->n; i++)
		if (st->files[i].kind == FILE_IDX && segment_get(st->spool, st->files[i].number) == NULL &&
		        !unlink_file(st->spool, format_name(name, FILE_IDX, st->files[i].number), err))
			return false;
	return true;
}

struct body_sweep {
	const uint64_t *named;
	size_t n_named;
	uint64_t *unnamed; /* owns */
	size_t n_unnamed, found;
};

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void each_body(void *ctx, const char *name)
{
	struct body_sweep *sweep = ctx;
	uint64_t number;

	if (format_name_parse(name, &number) != FILE_BODY)
		return;
	if (sweep->n_named > 0 &&
	        bsearch(&number, sweep->named, sweep->n_named, sizeof(number), by_number) != NULL) {
		sweep->found++;
		return;
	}
	sweep->unnamed = mem_array(sweep->unnamed, sweep->n_unnamed + 1, sizeof(*sweep->unnamed));
	sweep->unnamed[sweep->n_unnamed++] = number;
}

static bool sweep_bodies(struct spool *s, uint64_t *named, size_t n, struct error *err)
{
	struct body_sweep sweep = {.named = named, .n_named = n};
	char name[FORMAT_NAME_SIZE];
	bool ok = true;

	if (n > 0)
		qsort(named, n, sizeof(*named), by_number);
	if (s->io->list(s->io, s->bodies_dir, each_body, &sweep) < 0)
		ok = error_sys(err, "%s/bodies: reading the folder", s->path);
	for (size_t i = 0; ok && i < sweep.n_unnamed; i++) {
		(void)format_name(name, FILE_BODY, sweep.unnamed[i]);
		if (s->io->unlink(s->io, s->bodies_dir, name) < 0 && errno != ENOENT)
			ok = error_sys(err, "%s/bodies/%s: unlink", s->path, name);
	}
	if (ok && sweep.found < n)
		log_error("spool: %s/bodies: %zu files that messages name are missing", s->path,
		        n - sweep.found);
	mem_free(&sweep.unnamed);
	return ok;
}

/* ---- all of it ---- */

static bool settle_heads(struct start *st, struct error *err)
{
	size_t highest = 0;

	for (size_t i = 0; i < st->n; i++)
		if (st->files[i].kind == FILE_SEGMENT)
			highest = i;
	for (size_t i = 0; i < st->n; i++) {
		struct start_file *f = &st->files[i];

		if (f->kind == FILE_SEGMENT && f->check == HEAD_BAD && !settle_head(st, f, i == highest, err))
			return false;
	}
	for (size_t i = 0; i < st->n; i++) {
		if (st->files[i].kind == FILE_SEGMENT) {
			st->last = i;
			st->has_last = true;
		}
	}
	return true;
}

static bool replay_all(struct start *st, struct error *err)
{
	struct spool *s = st->spool;
	uint64_t oldest;

	if (!secure_last(st, &oldest, err))
		return false;
	s->oldest_stated = oldest;
	for (size_t i = 0; i <= st->last; i++) {
		const struct start_file *f = &st->files[i], *next = &st->files[i + 1];
		uint64_t stop = UINT64_MAX;

		if (f->kind != FILE_SEGMENT)
			continue;
		if (i < st->last && next->number == f->number + 1)
			stop = next->head.first_sequence;
		if (f->number < oldest ? !start_give_back(s, f->number, err)
		                       : !replay_segment(st, i, stop, err))
			return false;
	}
	s->sequence = segment_get(s, st->files[st->last].number)->next_sequence;
	return true;
}

bool start_replay(
        struct start *st, spool_live_fn *live, spool_setting_fn *setting, void *ctx, struct error *err)
{
	struct spool *s = st->spool;
	uint64_t *files = NULL, highest;
	size_t n_files = 0;
	bool ok;

	st->replay = replay_new(s);
	if (!collect_stock(st, err) || !settle_heads(st, err))
		return false;
	if (st->has_last && !replay_all(st, err))
		return false;
	highest = replay_highest_id(st->replay);
	if (st->highest_id > highest)
		highest = st->highest_id;
	if (highest > atomic_load(&s->last_id))
		atomic_store(&s->last_id, highest);
	replay_finish(st->replay, live, setting, ctx, &files, &n_files);
	ok = open_new(st, err) && sweep_idx(st, err) && sweep_bodies(s, files, n_files, err);
	mem_free(&files);
	return ok;
}
