#include "config.h"
#include "spool/scan.h"

#include "spool/disk_io.h"

bool scan_batch(const struct scan *scan, uint64_t at, struct batch_head *b)
{
	uint32_t seed = record_seed(scan->head->number, scan->head->nonce), off = BATCH_HEAD;
	const uint8_t *p = scan->image + at;

	if (at >= scan->n || !batch_head_read(p, scan->n - at, b))
		return false;
	if (b->segment != scan->head->number || b->nonce != scan->head->nonce || b->length > scan->n - at)
		return false;
	for (uint32_t i = 0; i < b->count; i++) {
		struct record r;

		if (!record_read(p + off, b->length - off, true, scan->head->record_max, seed, &r) ||
		        !record_body_ok(&r))
			return false;
		off += r.length;
	}
	return off == b->length;
}

/* The batch has been checked. */
static void batch_emit(struct scan *scan, uint64_t at, const struct batch_head *b)
{
	uint32_t off = BATCH_HEAD;

	for (uint32_t i = 0; i < b->count && scan->record != NULL; i++) {
		struct record r;

		record_peek(scan->image + at + off, &r);
		r.body = r.meta + r.meta_len;
		scan->record(scan->ctx, &r, (uint32_t)at + off);
		off += r.length;
	}
	if (b->oldest > scan->oldest)
		scan->oldest = b->oldest;
	if (b->highest_id > scan->highest_id)
		scan->highest_id = b->highest_id;
	scan->next_sequence = b->sequence + 1;
	scan->end = at + format_blocks(b->length);
}

/* Nobody knows where a record begins: each byte is tried. A body's damage leaves the envelope worth keeping. */
static void salvage(struct scan *scan, uint64_t from, uint64_t to)
{
	uint32_t seed = record_seed(scan->head->number, scan->head->nonce);

	if (scan->damaged++ == 0)
		scan->damaged_at = from;
	while (from < to) {
		struct record r;

		if (!record_read(scan->image + from, to - from, false, scan->head->record_max, seed, &r) ||
		        r.length > to - from) {
			from++;
			continue;
		}
		if (scan->record != NULL)
			scan->record(scan->ctx, &r, (uint32_t)from);
		scan->salvaged++;
		from += RECORD_HEAD + r.meta_len;
	}
}

/* The next valid batch behind `at` with a sequence after `sequence`; 0 = none. */
static uint64_t find_batch(const struct scan *scan, uint64_t at, uint64_t sequence)
{
	struct batch_head b;

	for (at += DISK_BLOCK; at + BATCH_HEAD <= scan->n; at += DISK_BLOCK)
		if (scan_batch(scan, at, &b) && b.sequence > sequence && b.sequence < scan->stop_sequence)
			return at;
	return 0;
}

void scan_segment(struct scan *scan)
{
	uint64_t at = SEGMENT_HEADS * DISK_BLOCK;

	scan->next_sequence = scan->head->first_sequence;
	scan->end = at;
	scan->oldest = scan->highest_id = scan->damaged_at = 0;
	scan->damaged = scan->salvaged = 0;
	while (scan->next_sequence < scan->stop_sequence) {
		struct batch_head b;
		uint64_t next;

		if (scan_batch(scan, at, &b) && b.sequence == scan->next_sequence) {
			batch_emit(scan, at, &b);
			at = scan->end;
			continue;
		}
		next = find_batch(scan, at, scan->next_sequence);
		if (next == 0)
			break;
		salvage(scan, at, next);
		at = next;
		(void)scan_batch(scan, at, &b);
		scan->next_sequence = b.sequence;
	}
	if (scan->stop_sequence != UINT64_MAX && scan->next_sequence < scan->stop_sequence) {
		salvage(scan, at, scan->n);
		scan->end = scan->n;
		scan->next_sequence = scan->stop_sequence;
	}
}
