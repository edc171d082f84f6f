#include "config.h"
#include "spool/view_log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include "base/mem.h"
#include "spool/scan.h"

void view_log_init(struct view_log *l, struct disk_io *io, int dir)
{
	*l = (struct view_log){.io = io, .dir = dir, .fd = -1};
}

static void segment_close(struct view_log *l)
{
	if (l->fd >= 0)
		(void)l->io->close(l->io, l->fd);
	l->fd = -1;
}

void view_log_free(struct view_log *l)
{
	segment_close(l);
	mem_free(&l->bytes);
}

void view_log_rest(struct view_log *l)
{
	mem_free(&l->bytes);
	l->n = l->size = 0;
}

static enum view_next failed(struct view_log *l, uint64_t number, const char *what)
{
	char name[FORMAT_NAME_SIZE];

	error_sys(&l->error, "%s: %s", format_name(name, FILE_SEGMENT, number), what);
	return VIEW_ERROR;
}

/* ---- segments ---- */

static enum view_next read_head(struct view_log *l, uint64_t number)
{
	uint8_t block[DISK_BLOCK];

	for (unsigned copy = 0; copy < SEGMENT_HEADS; copy++) {
		ssize_t got = disk_read_full(l->io, l->fd, block, sizeof(block), copy * DISK_BLOCK);

		if (got < 0)
			return failed(l, number, "read");
		if (segment_head_read(block, (size_t)got, &l->head) == HEAD_OK && l->head.number == number)
			return VIEW_BATCH;
	}
	return VIEW_LOST;
}

/* VIEW_BATCH: it is open, and the position at its first batch. */
static enum view_next segment_open(struct view_log *l, uint64_t number)
{
	char name[FORMAT_NAME_SIZE];
	enum view_next result;

	segment_close(l);
	l->fd = l->io->open(l->io, l->dir, format_name(name, FILE_SEGMENT, number), O_RDONLY, 0);
	if (l->fd < 0)
		return errno == ENOENT ? VIEW_LOST : failed(l, number, "open");
	result = read_head(l, number);
	if (result == VIEW_BATCH)
		l->at = (struct view_position){
		        .segment = number,
		        .nonce = l->head.nonce,
		        .offset = SEGMENT_HEADS * DISK_BLOCK,
		        .sequence = l->head.first_sequence,
		};
	return result;
}

struct search {
	uint64_t from, found; /* UINT64_MAX = none */
};

static void each_name(void *ctx, const char *name)
{
	struct search *s = ctx;
	uint64_t number;

	if (format_name_parse(name, &number) == FILE_SEGMENT && number >= s->from && number < s->found)
		s->found = number;
}

/* The first segment from this number on that has a head. VIEW_END = none. */
static enum view_next segment_find(struct view_log *l, uint64_t from)
{
	for (;;) {
		struct search s = {.from = from, .found = UINT64_MAX};
		enum view_next result;

		if (l->io->list(l->io, l->dir, each_name, &s) < 0) {
			error_sys(&l->error, "reading the folder");
			return VIEW_ERROR;
		}
		if (s.found == UINT64_MAX)
			return VIEW_END;
		result = segment_open(l, s.found);
		if (result != VIEW_LOST)
			return result;
		from = s.found + 1;
	}
}

bool view_log_begin(struct view_log *l, uint64_t oldest)
{
	l->lenient = true;
	return segment_find(l, oldest) == VIEW_BATCH;
}

bool view_log_seek(struct view_log *l, const struct view_position *at)
{
	l->lenient = false;
	if (segment_open(l, at->segment) != VIEW_BATCH || l->head.nonce != at->nonce ||
	        at->offset % DISK_BLOCK != 0 || at->offset < l->at.offset || at->offset > l->head.size ||
	        at->sequence < l->at.sequence)
		return false;
	l->at = *at;
	return true;
}

/* ---- batches ---- */

static struct scan scan_of(const struct view_log *l)
{
	return (struct scan){.head = &l->head, .image = l->bytes, .n = l->n};
}

static bool read_bytes(struct view_log *l, uint64_t offset, size_t n)
{
	ssize_t got;

	if (n > l->size) {
		mem_free(&l->bytes);
		l->bytes = mem_alloc(n);
		l->size = n;
	}
	got = disk_read_full(l->io, l->fd, l->bytes, n, offset);
	l->n = got > 0 ? (size_t)got : 0;
	return got >= 0;
}

/* VIEW_BATCH: there is one at this offset, whole, and it is in `bytes`. VIEW_END: there is none. */
static enum view_next read_batch(struct view_log *l, uint64_t offset, struct batch_head *b)
{
	struct scan scan;

	if (offset + BATCH_HEAD > l->head.size)
		return VIEW_END;
	if (!read_bytes(l, offset, BATCH_HEAD))
		return failed(l, l->at.segment, "read");
	if (!batch_head_read(l->bytes, l->n, b) || b->segment != l->head.number ||
	        b->nonce != l->head.nonce || b->length > l->head.size - offset)
		return VIEW_END;
	if (!read_bytes(l, offset, b->length))
		return failed(l, l->at.segment, "read");
	scan = scan_of(l);
	return scan_batch(&scan, 0, b) ? VIEW_BATCH : VIEW_END;
}

/* Behind damage: the next batch of this segment with a later sequence. */
static enum view_next pass_damage(struct view_log *l, uint64_t end, struct batch_head *b)
{
	for (uint64_t at = l->at.offset + DISK_BLOCK; at < end; at += DISK_BLOCK) {
		enum view_next result = read_batch(l, at, b);

		if (result == VIEW_ERROR)
			return result;
		if (result == VIEW_BATCH && b->sequence > l->at.sequence) {
			l->at.offset = at;
			return VIEW_BATCH;
		}
	}
	return VIEW_END;
}

static enum view_next next_segment(struct view_log *l)
{
	uint64_t sequence = l->at.sequence;
	enum view_next result = segment_find(l, l->at.segment + 1);

	if (result != VIEW_BATCH)
		return result == VIEW_END ? VIEW_LOST : result;
	return l->at.sequence == sequence || l->lenient ? VIEW_BATCH : VIEW_LOST;
}

enum view_next view_log_next(struct view_log *l, uint64_t segment, uint64_t offset)
{
	for (;;) {
		uint64_t end = l->at.segment == segment ? offset : l->head.size;
		struct batch_head b;
		enum view_next result = VIEW_END;

		if (l->at.segment == segment && l->at.offset == offset) {
			l->lenient = false; /* from here on nothing may be missing */
			return VIEW_END;
		}
		if (l->at.segment > segment)
			return VIEW_END;
		if (l->at.offset < end)
			result = read_batch(l, l->at.offset, &b);
		if (result == VIEW_BATCH && b.sequence != l->at.sequence)
			result = VIEW_END;
		if (result == VIEW_END && l->lenient)
			result = pass_damage(l, end, &b);
		if (result == VIEW_BATCH) {
			l->at.offset += format_blocks(b.length);
			l->at.sequence = b.sequence + 1;
			return VIEW_BATCH;
		}
		if (result == VIEW_ERROR)
			return result;
		if (l->at.segment == segment) /* it should be there */
			return l->lenient ? VIEW_END : VIEW_LOST;
		result = next_segment(l);
		if (result != VIEW_BATCH)
			return result;
	}
}

void view_log_records(struct view_log *l, void (*each)(void *ctx, const struct record *), void *ctx)
{
	struct batch_head b;
	struct scan scan = scan_of(l);
	uint32_t off = BATCH_HEAD;

	(void)batch_head_read(scan.image, scan.n, &b);
	for (uint32_t i = 0; i < b.count; i++) {
		struct record r;

		record_peek(scan.image + off, &r);
		each(ctx, &r);
		off += r.length;
	}
}
