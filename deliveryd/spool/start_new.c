/*
 * Which segment a start goes on in.
 *
 *   1. A spare, newly made if there is but the ballast.
 *   2. On a disk that has no space for that, one of the ballast: but then the last segment is written anew at its
 *      beginning, and given back, so that starts use up nothing. Its head says so; until it has come as far as the one
 *      it replaces, that one counts and not the new one.
 *   3. Without ballast, a dead segment from the old end.
 *   4. Without that, the last one is continued behind its valid part, once what is torn there is overwritten.
 *
 * So any number of starts on a full disk succeeds.
 */
#include "config.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "spool/start_int.h"

static bool file_size_is(struct spool *s, const char *name, uint64_t wanted)
{
	int fd = s->io->open(s->io, s->dir, name, O_RDONLY, 0);
	uint64_t size = 0;
	bool is = fd >= 0 && s->io->size(s->io, fd, &size) == 0 && size == wanted;

	if (fd >= 0)
		(void)s->io->close(s->io, fd);
	return is;
}

bool start_unlink(struct spool *s, const char *name, struct error *err)
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
		return start_unlink(s, name, err);
	(void)format_name(spare, FILE_SPARE, s->stock.next_name);
	if (s->io->rename(s->io, s->dir, name, spare) == 0) {
		stock_add(s, s->stock.next_name);
		return true;
	}
	if (disk_errno_is_space(errno)) /* not even for a name */
		return start_unlink(s, name, err);
	return error_sys(err, "%s/%s: rename to %s", s->path, name, spare);
}

bool start_give_back(struct spool *s, uint64_t number, struct error *err)
{
	char name[FORMAT_NAME_SIZE], aside[FORMAT_NAME_SIZE];
	int fd;
	bool linked;

	if (!start_unlink(s, format_name(name, FILE_IDX, number), err))
		return false;
	/* what was set aside is the same file */
	fd = s->io->open(s->io, s->dir, format_name(aside, FILE_DAMAGED, number), O_RDONLY, 0);
	linked = fd >= 0;
	if (linked)
		(void)s->io->close(s->io, fd);
	return give_back_file(s, format_name(name, FILE_SEGMENT, number), !linked, err);
}

bool start_collect_stock(struct start *st, struct error *err)
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
		else if (!start_unlink(s, name, err))
			return false;
	}
	return true;
}

static bool sync_folder(struct spool *s, struct error *err)
{
	return s->io->sync_dir(s->io, s->dir) == 0 || error_sys(err, "%s: fsync", s->path);
}

static bool give_back_segment(struct spool *s, struct segment *seg, struct error *err)
{
	uint64_t number = seg->number;

	segment_drop(s, seg);
	return start_give_back(s, number, err);
}

static struct segment *newest(const struct spool *s)
{
	return s->segments.n > 0 ? s->segments.list[s->segments.n - 1] : NULL;
}

static bool empty(const struct segment *seg)
{
	return seg != NULL && seg->next_sequence == seg->first_sequence && !seg->damaged;
}

/*
 * Segments that were begun and never written to. The head of one may state older ones to be dead, which are then given
 * back already: for good, before that statement goes.
 */
static bool give_back_empty(struct spool *s, struct error *err)
{
	bool synced = false;

	for (uint64_t number = s->segments.first + s->segments.n; number-- > s->segments.first;) {
		struct segment *seg = segment_get(s, number);

		if (!empty(seg))
			continue;
		if (!synced && !sync_folder(s, err))
			return false;
		synced = true;
		if (!give_back_segment(s, seg, err))
			return false;
	}
	segments_trim(s);
	return true;
}

/* From the old end, each gone for good before the next goes: what ends mail must not vanish before the mail. */
static bool give_back_dead(struct spool *s, struct error *err)
{
	struct segment *seg;

	while (s->stock.n == 0 && (seg = segment_oldest(s)) != NULL && seg->live == 0 && seg != newest(s))
		if (!give_back_segment(s, seg, err) || !sync_folder(s, err))
			return false;
	return true;
}

/* False only when something is wrong; whether there is one more shows in the stock. */
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

/* ---- the last segment written anew ---- */

/* The same batches at the same offsets, sealed for their new segment. */
static void reseal(struct segment *seg, uint8_t *image, uint64_t end)
{
	for (uint64_t at = SEGMENT_HEADS * DISK_BLOCK; at < end;) {
		struct batch_head b;
		uint32_t off = BATCH_HEAD;

		(void)batch_head_read(image + at, end - at, &b);
		b.segment = seg->number;
		b.nonce = seg->nonce;
		batch_head_write(image + at, &b);
		for (uint32_t i = 0; i < b.count; i++) {
			struct record r;

			record_seal(image + at + off, seg->seed);
			record_peek(image + at + off, &r);
			idx_add_record(seg, (uint32_t)at + off, image + at + off, RECORD_HEAD + r.meta_len);
			off += r.length;
		}
		at += format_blocks(b.length);
	}
}

static bool write_anew(struct spool *s, struct segment *seg, uint8_t *image, uint64_t end, struct error *err)
{
	const size_t heads = SEGMENT_HEADS * DISK_BLOCK;
	struct iovec iov = {.iov_base = image + heads, .iov_len = end - heads};

	reseal(seg, image, end);
	if (disk_write_all(s->io, seg->fd, &iov, 1, heads) && s->io->datasync(s->io, seg->fd) == 0)
		return true;
	return error_sys(err, "%s: segment %" PRIu64, s->path, seg->number);
}

static void move_places(struct spool *s, const struct segment *from, struct segment *to)
{
	struct setting *setting, *next;

	index_renumber(&s->index, (uint32_t)from->number, (uint32_t)to->number);
	HASH_ITER (hh, s->settings.table, setting, next) {
		if (setting->at.segment != from->number)
			continue;
		segment_live(s, &setting->at, false);
		setting->at.segment = (uint32_t)to->number;
		segment_live(s, &setting->at, true);
	}
	to->end = from->end;
	to->next_sequence = from->next_sequence;
}

static enum roll replace_last(struct start *st, struct segment *last, struct error *err)
{
	struct spool *s = st->spool;
	const struct start_file f = {.number = last->number, .head = {.size = last->size}};
	size_t n;
	uint8_t *image = start_read_image(s, last->fd, &f, &n, err);
	enum roll result = ROLL_FATAL;

	if (image != NULL)
		result = segment_roll_replacing(s, last, err);
	if (result == ROLL_OK && !write_anew(s, s->current, image, last->end, err))
		result = ROLL_FATAL;
	mem_free(&image);
	if (result != ROLL_OK)
		return result;
	move_places(s, last, s->current);
	return give_back_segment(s, last, err) ? ROLL_OK : ROLL_FATAL;
}

static bool may_replace(const struct spool *s, const struct segment *last)
{
	return last != NULL && !last->damaged && last->size == s->cfg.segment_size &&
	       last->record_max == s->record_max;
}

/* ---- nothing but the last segment ---- */

static bool continue_last(struct spool *s, struct segment *seg, struct error *err)
{
	uint64_t torn = seg->size - seg->end;
	char name[FORMAT_NAME_SIZE];
	struct iovec iov;
	void *zeros;
	bool ok;

	if (torn > s->batch_max)
		torn = s->batch_max;
	zeros = mem_zalloc(torn);
	iov = (struct iovec){.iov_base = zeros, .iov_len = torn};
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

static bool find_spares(struct spool *s, struct error *err)
{
	uint64_t free_bytes;

	if (!give_back_empty(s, err))
		return false;
	if (s->io->space(s->io, s->dir, &free_bytes) < 0)
		free_bytes = 0;
	if (s->stock.n == 0 ||
	        (s->stock.n <= STOCK_BALLAST && free_bytes >= s->cfg.min_free + s->cfg.segment_size))
		if (!make_one(s, err))
			return false;
	return s->stock.n > 0 || give_back_dead(s, err);
}

bool start_open_new(struct start *st, struct error *err)
{
	struct spool *s = st->spool;
	struct segment *last;
	enum roll result;

	if (!find_spares(s, err))
		return false;
	last = newest(s);
	if (s->stock.n <= STOCK_BALLAST && may_replace(s, last))
		result = replace_last(st, last, err);
	else
		result = segment_roll(s, 0, err);
	if (result == ROLL_NO_SPARE)
		return last != NULL && continue_last(s, last, err); /* else err is of make_one() */
	return result == ROLL_OK;
}
