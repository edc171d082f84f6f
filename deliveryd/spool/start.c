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
 *   5. Only then rubbish is swept: index files of nothing, body files nobody names.
 *
 * Nothing is freed or set aside before all has been read: a disk that does not let itself be read is not damage, and the
 * next start finds everything as it was.
 */
#include "config.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "spool/start_int.h"

static void each_file(void *ctx, const char *name)
{
	struct start *st = ctx;
	uint64_t number;
	enum file_kind kind = format_name_parse(name, &number);

	if (kind == FILE_OTHER || (kind != FILE_SPARE && kind != FILE_NEW && number > UINT32_MAX))
		return; /* not ours */
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
bool start_read_failed(const struct spool *s, uint64_t number, uint64_t offset, struct error *err)
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
		ok = start_read_failed(s, f->number, 0, err);
	for (unsigned copy = 0; ok && copy < SEGMENT_HEADS && f->check == HEAD_BAD; copy++) {
		ssize_t got = disk_read_full(s->io, fd, block, sizeof(block), copy * DISK_BLOCK);

		if (got < 0)
			ok = start_read_failed(s, f->number, copy * DISK_BLOCK, err);
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

uint8_t *start_read_image(struct spool *s, int fd, const struct start_file *f, size_t *n, struct error *err)
{
	const size_t piece = 1024 * 1024;
	uint8_t *image = mem_alloc(f->head.size);
	size_t done = 0;

	while (done < f->head.size) {
		size_t wanted = f->head.size - done < piece ? f->head.size - done : piece;
		ssize_t got = disk_read_full(s->io, fd, image + done, wanted, done);

		if (got < 0) {
			(void)start_read_failed(s, f->number, done, err);
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
	char name[FORMAT_NAME_SIZE];

	log_error("spool: %s/%s: damaged in %u places, the first at %" PRIu64
	          "; %u records were saved from there",
	        s->path, format_name(name, FILE_SEGMENT, seg->number), scan->damaged, scan->damaged_at,
	        scan->salvaged);
	metric_add(s->m.damaged, scan->damaged);
	seg->damaged = true;
}

static bool replay_image(
        struct start *st, struct segment *seg, const struct start_file *f, uint64_t stop, struct error *err)
{
	struct spool *s = st->spool;
	struct scan scan = {.head = &f->head, .stop_sequence = stop, .record = found_record, .ctx = st};
	uint8_t *image = start_read_image(s, seg->fd, f, &scan.n, err);

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
	int error_number; /* whatever it was: the segment itself has it all */
	size_t n;
	bool ok;

	if (!idx_read(st->spool, seg->number, &head, &next_sequence, &end, &entries, &n, &error_number))
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
	if (stop != UINT64_MAX && !st->whole && replay_idx(st, seg, stop))
		return true;
	if (!replay_image(st, seg, f, stop, err))
		return false;
	if (stop != UINT64_MAX && !st->whole)
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
	uint8_t *image = fd < 0 ? NULL : start_read_image(s, fd, f, &scan.n, err);
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
	return got >= 0 || start_read_failed(s, f->number, 0, err);
}

/* A head that is lost may stand in the index file too; if not, the highest segment may be unborn. */
static bool settle_head(struct start *st, struct start_file *f, bool highest, struct error *err)
{
	struct spool *s = st->spool;
	uint64_t next_sequence, end;
	uint8_t *entries;
	size_t n;
	bool is_unborn = false;
	int error_number;

	if (idx_read(s, f->number, &f->head, &next_sequence, &end, &entries, &n, &error_number)) {
		mem_free(&entries);
		log_error("spool: %s: segment %" PRIu64
		          " is damaged: its head is lost; taken from its index file",
		        s->path, f->number);
		metric_add(s->m.damaged, 1);
		f->check = HEAD_OK;
		f->damaged = true;
		return true;
	}
	if (error_number != 0) { /* it may have the head: nobody knows */
		errno = error_number;
		return error_sys(err, "%s: reading the index file of segment %" PRIu64, s->path, f->number);
	}
	if (highest && !unborn(s, f, &is_unborn, err))
		return false;
	f->kind = FILE_OTHER;
	f->fate = is_unborn ? FATE_GIVEN_BACK : FATE_SET_ASIDE;
	return true;
}

/* ---- which segments count ---- */

static void find_last(struct start *st)
{
	st->has_last = false;
	for (size_t i = 0; i < st->n; i++) {
		if (st->files[i].kind == FILE_SEGMENT) {
			st->last = i;
			st->has_last = true;
		}
	}
}

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
	find_last(st);
	return true;
}

/* ---- segments written anew ---- */

static struct start_file *file_of(struct start *st, uint64_t number)
{
	for (size_t i = 0; i < st->n; i++)
		if (st->files[i].kind == FILE_SEGMENT && st->files[i].number == number)
			return &st->files[i];
	return NULL;
}

/* Has the last segment, which replaces another, come as far as that one? */
static bool is_complete(struct spool *s, const struct start_file *f, bool *yes, struct error *err)
{
	struct scan scan = {.head = &f->head, .stop_sequence = UINT64_MAX};
	int fd = open_segment(s, f->number, O_RDONLY, err);
	uint8_t *image = fd < 0 ? NULL : start_read_image(s, fd, f, &scan.n, err);

	if (image != NULL) {
		scan.image = image;
		scan_segment(&scan);
		*yes = scan.damaged == 0 && scan.next_sequence >= f->head.replaces_until;
	}
	if (fd >= 0)
		(void)s->io->close(s->io, fd);
	mem_free(&image);
	return scan.image != NULL;
}

/*
 * Of a segment and the one that replaces it only one counts. The new one was complete and synced before anything else
 * was written: only if it is the last one can it be that it was not.
 */
static bool settle_replaced(struct start *st, struct error *err)
{
	for (size_t i = 0; i < st->n; i++) {
		struct start_file *f = &st->files[i];
		struct start_file *old = f->kind == FILE_SEGMENT && f->head.replaces != 0
		                                 ? file_of(st, f->head.replaces)
		                                 : NULL;
		bool complete = true;

		if (old == NULL)
			continue;
		if (i == st->last && !is_complete(st->spool, f, &complete, err))
			return false;
		if (complete) {
			old->kind = FILE_OTHER;
			old->fate = FATE_GIVEN_BACK;
		} else {
			f->kind = FILE_OTHER;
			f->fate = FATE_GIVEN_BACK;
		}
	}
	find_last(st);
	return true;
}

/* ---- all of it ---- */

static bool set_aside_between(const struct start *st, uint64_t from, uint64_t to)
{
	for (size_t i = 0; i < st->n; i++)
		if (st->files[i].fate == FATE_SET_ASIDE && st->files[i].number > from &&
		        st->files[i].number < to)
			return true;
	return false;
}

/* What the next segment says this one has come to. Nothing, if there is one between them that cannot be read. */
static uint64_t stop_sequence(const struct start *st, size_t i)
{
	for (size_t next = i + 1; next <= st->last; next++)
		if (st->files[next].kind == FILE_SEGMENT)
			return set_aside_between(st, st->files[i].number, st->files[next].number)
			               ? UINT64_MAX
			               : st->files[next].head.first_sequence;
	return UINT64_MAX;
}

static bool replay_all(struct start *st, struct error *err)
{
	struct spool *s = st->spool;
	uint64_t oldest;

	if (!secure_last(st, &oldest, err))
		return false;
	s->oldest_stated = oldest;
	for (size_t i = 0; i <= st->last; i++) {
		struct start_file *f = &st->files[i];

		if (f->kind != FILE_SEGMENT)
			continue;
		if (f->number < oldest)
			f->fate = FATE_GIVEN_BACK;
		else if (!replay_segment(st, i, stop_sequence(st, i), err))
			return false;
	}
	s->sequence = segment_get(s, st->files[st->last].number)->next_sequence;
	return true;
}

/* What was damaged but could be read stays where it is until it is cleaned: a second name keeps it beyond that. */
static void keep_damaged(struct spool *s)
{
	char name[FORMAT_NAME_SIZE], aside[FORMAT_NAME_SIZE];

	for (uint64_t number = s->segments.first; number < s->segments.first + s->segments.n; number++) {
		const struct segment *seg = segment_get(s, number);

		if (seg == NULL || !seg->damaged)
			continue;
		(void)format_name(name, FILE_SEGMENT, number);
		(void)format_name(aside, FILE_DAMAGED, number);
		if (s->io->link(s->io, s->dir, name, aside) == 0)
			log_error("spool: %s: a copy of %s stays as %s", s->path, name, aside);
		else if (errno != EEXIST)
			log_warning("spool: %s/%s: link: %s", s->path, aside, strerror(errno));
	}
}

static bool set_aside(struct spool *s, const struct start_file *f, struct error *err)
{
	char name[FORMAT_NAME_SIZE], aside[FORMAT_NAME_SIZE];

	if (f->number < s->oldest_stated) /* nobody needs it */
		return start_give_back(s, f->number, err);
	(void)format_name(name, FILE_SEGMENT, f->number);
	(void)format_name(aside, FILE_DAMAGED, f->number);
	log_error("spool: %s/%s: damaged: its head is lost, nothing in it can be read; set aside as %s",
	        s->path, name, aside);
	metric_add(s->m.damaged, 1);
	if (s->io->rename(s->io, s->dir, name, aside) < 0)
		return error_sys(err, "%s/%s: rename to %s", s->path, name, aside);
	return true;
}

/* All has been read: only now may anything go. */
static bool tidy(struct start *st, struct error *err)
{
	struct spool *s = st->spool;

	keep_damaged(s);
	if (!start_collect_stock(st, err))
		return false;
	for (size_t i = 0; i < st->n; i++) {
		const struct start_file *f = &st->files[i];

		if ((f->fate == FATE_GIVEN_BACK && !start_give_back(s, f->number, err)) ||
		        (f->fate == FATE_SET_ASIDE && !set_aside(s, f, err)))
			return false;
	}
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
	if (!settle_heads(st, err) || !settle_replaced(st, err))
		return false;
	if ((st->has_last && !replay_all(st, err)) || !tidy(st, err))
		return false;
	highest = replay_highest_id(st->replay);
	if (st->highest_id > highest)
		highest = st->highest_id;
	if (highest > atomic_load(&s->last_id))
		atomic_store(&s->last_id, highest);
	replay_finish(st->replay, live, setting, ctx, &files, &n_files);
	ok = start_open_new(st, err) && start_sweep(st, files, n_files, err);
	mem_free(&files);
	return ok;
}

/* What a start would set aside. */
static void tell_headless(const struct start *st)
{
	struct spool *s = st->spool;
	char name[FORMAT_NAME_SIZE];

	for (size_t i = 0; i < st->n; i++) {
		if (st->files[i].fate != FATE_SET_ASIDE || st->files[i].number < s->oldest_stated)
			continue;
		log_error("spool: %s/%s: damaged: its head is lost, nothing in it can be read", s->path,
		        format_name(name, FILE_SEGMENT, st->files[i].number));
		metric_add(s->m.damaged, 1);
	}
}

bool start_look_through(
        struct start *st, spool_live_fn *live, spool_setting_fn *setting, void *ctx, struct error *err)
{
	uint64_t *files = NULL;
	size_t n_files = 0;

	st->whole = true;
	st->replay = replay_new(st->spool);
	if (!settle_heads(st, err) || !settle_replaced(st, err) || (st->has_last && !replay_all(st, err)))
		return false;
	tell_headless(st);
	replay_finish(st->replay, live, setting, ctx, &files, &n_files);
	mem_free(&files);
	return true;
}
