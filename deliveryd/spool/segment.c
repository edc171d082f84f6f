/*
 * Segments: the list of those in use, and the roll to the next.
 *
 * Order of a roll, and what a crash leaves behind:
 *   1. rename of a spare        not yet durable: the next start finds a spare again, or a segment without a head
 *   2. sync of the folder       the name is durable; the file has no head of its own yet
 *   3. head (twice), sync       only now is the nonce known to the disk, and only now
 *   4. the first batch          may be written: a batch is never found under a head that does not know it
 * A last segment without a valid head is therefore empty, whatever stale bytes it has.
 *
 * The head states the oldest segment still needed. After its sync whatever is older may be renamed or unlinked in
 * any order: should one of them come back after a crash, replay ignores it.
 */
#include "config.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include "spool/spool_int.h"

struct segment *segment_get(const struct spool *s, uint64_t number)
{
	if (number < s->segments.first || number - s->segments.first >= s->segments.n)
		return NULL;
	return s->segments.list[number - s->segments.first];
}

struct segment *segment_add(struct spool *s, const struct segment_head *head, int fd)
{
	struct segments *list = &s->segments;
	struct segment *seg = mem_zalloc(sizeof(*seg));

	assert(head->number > 0 && head->number <= UINT32_MAX);
	seg->number = head->number;
	seg->nonce = head->nonce;
	seg->size = head->size;
	seg->first_sequence = seg->next_sequence = head->first_sequence;
	seg->record_max = head->record_max;
	seg->seed = record_seed(head->number, head->nonce);
	seg->end = SEGMENT_HEADS * DISK_BLOCK;
	seg->fd = fd;
	str_init(&seg->idx);
	seg->idx_complete = true;
	if (list->n == 0)
		list->first = seg->number;
	assert(seg->number >= list->first + list->n);
	while (list->first + list->n <= seg->number) {
		if (list->n == list->size) {
			list->size = list->size * 2 + 16;
			list->list = mem_array(list->list, list->size, sizeof(struct segment *));
		}
		list->list[list->n++] = NULL;
	}
	list->list[list->n - 1] = seg;
	return seg;
}

struct segment *segment_oldest(const struct spool *s)
{
	for (size_t i = 0; i < s->segments.n; i++)
		if (s->segments.list[i] != NULL)
			return s->segments.list[i];
	return NULL;
}

uint64_t segment_oldest_needed(const struct spool *s)
{
	for (size_t i = 0; i < s->segments.n; i++) {
		const struct segment *seg = s->segments.list[i];

		if (seg != NULL && (seg->live > 0 || seg == s->current))
			return seg->number;
	}
	return s->segments.first + s->segments.n;
}

unsigned segment_count(const struct spool *s)
{
	unsigned n = 0;

	for (size_t i = 0; i < s->segments.n; i++)
		n += s->segments.list[i] != NULL;
	return n;
}

void segment_live(void *spool, const struct where *w, bool more)
{
	struct spool *s = spool;
	struct segment *seg = segment_get(s, w->segment);

	if (w->segment == 0)
		return;
	assert(seg != NULL && (more || (seg->live >= w->length && s->live_bytes >= w->length)));
	if (more) {
		seg->live += w->length;
		s->live_bytes += w->length;
	} else {
		seg->live -= w->length;
		s->live_bytes -= w->length;
	}
}

static void segment_free(struct spool *s, struct segment *seg)
{
	if (seg->fd >= 0)
		(void)s->io->close(s->io, seg->fd);
	str_free(&seg->idx);
	mem_free(&seg);
}

void segment_drop(struct spool *s, struct segment *seg)
{
	struct segments *list = &s->segments;
	size_t gone = 0;

	assert(seg->pins == 0 && seg->live == 0 && seg != s->current);
	list->list[seg->number - list->first] = NULL;
	segment_free(s, seg);
	while (gone < list->n && list->list[gone] == NULL)
		gone++;
	list->n -= gone;
	list->first += gone;
	memmove(list->list, list->list + gone, list->n * sizeof(struct segment *));
}

void segments_trim(struct spool *s)
{
	while (s->segments.n > 0 && s->segments.list[s->segments.n - 1] == NULL)
		s->segments.n--;
}

void segments_free(struct spool *s)
{
	for (size_t i = 0; i < s->segments.n; i++)
		if (s->segments.list[i] != NULL)
			segment_free(s, s->segments.list[i]);
	mem_free(&s->segments.list);
	s->segments = (struct segments){0};
	s->current = NULL;
}

/* ---- roll ---- */

static bool head_write(struct spool *s, int fd, const struct segment_head *head)
{
	uint8_t block[DISK_BLOCK];
	struct iovec iov[SEGMENT_HEADS];

	segment_head_write(block, head);
	for (size_t i = 0; i < SEGMENT_HEADS; i++)
		iov[i] = (struct iovec){.iov_base = block, .iov_len = sizeof(block)};
	return disk_write_all(s->io, fd, iov, SEGMENT_HEADS, 0) && s->io->datasync(s->io, fd) == 0;
}

static uint64_t next_number(const struct spool *s)
{
	uint64_t next = s->segments.n > 0 ? s->segments.first + s->segments.n : 1;

	return next > s->number_floor ? next : s->number_floor;
}

static enum roll take_spare(struct spool *s, const char *name, unsigned leave, struct error *err)
{
	char from[FORMAT_NAME_SIZE];

	if (s->stock.n <= leave)
		return ROLL_NO_SPARE;
	(void)format_name(from, FILE_SPARE, s->stock.spares[s->stock.n - 1]);
	if (s->io->rename(s->io, s->dir, from, name) < 0) {
		if (disk_errno_is_space(errno))
			return ROLL_NO_SPARE;
		error_sys(err, "%s/%s: rename to %s", s->path, from, name);
		return ROLL_FATAL;
	}
	s->stock.n--;
	if (s->io->sync_dir(s->io, s->dir) < 0) {
		error_sys(err, "%s: fsync", s->path);
		return ROLL_FATAL;
	}
	return ROLL_OK;
}

static enum roll roll(struct spool *s, struct segment_head *head, unsigned leave, struct error *err)
{
	char name[FORMAT_NAME_SIZE];
	enum roll result;
	int fd;

	head->version = FORMAT_VERSION;
	head->record_max = s->record_max;
	head->size = s->cfg.segment_size;
	head->number = next_number(s);
	head->nonce = rnd_u64(s->cfg.rnd);
	head->highest_id = atomic_load(&s->last_id);
	(void)format_name(name, FILE_SEGMENT, head->number);
	result = take_spare(s, name, leave, err);
	if (result != ROLL_OK)
		return result;
	fd = s->io->open(s->io, s->dir, name, O_RDWR, 0);
	if (fd < 0) {
		error_sys(err, "%s/%s: open", s->path, name);
		return ROLL_FATAL;
	}
	s->current = NULL; /* nothing need live in the one before for it to be left behind */
	head->oldest = segment_oldest_needed(s);
	if (head->oldest > head->number)
		head->oldest = head->number;
	s->current = segment_add(s, head, fd);
	if (!head_write(s, fd, head)) {
		error_sys(err, "%s/%s: writing its head", s->path, name);
		return ROLL_FATAL;
	}
	s->oldest_stated = head->oldest;
	return ROLL_OK;
}

enum roll segment_roll(struct spool *s, unsigned leave, struct error *err)
{
	struct segment_head head = {.first_sequence = s->sequence};
	struct segment *before = s->current;
	enum roll result = roll(s, &head, leave, err);

	if (result == ROLL_OK && before != NULL)
		idx_seal(s, before);
	return result;
}

enum roll segment_roll_replacing(struct spool *s, const struct segment *last, struct error *err)
{
	struct segment_head head = {
	        .first_sequence = last->first_sequence,
	        .replaces = last->number,
	        .replaces_until = last->next_sequence,
	};

	return roll(s, &head, 0, err);
}
