/*
 * scan - what a segment's bytes say
 *
 * Purpose    Walks the batches of a segment read into memory. A batch counts only if its head and all its records
 *            check. One that does not is the torn end, unless a valid one of a later sequence follows, or the next
 *            segment says that more was written: then it is damage, and such of its records as check are salvaged.
 * Threads    Pure functions.
 */
#ifndef SPOOL_SCAN_H
#define SPOOL_SCAN_H

#include "spool/format.h"
#include "spool/record.h"

typedef void scan_record_fn(void *ctx, const struct record *, uint32_t offset);

struct scan {
	/* to be set */
	const struct segment_head *head;
	const uint8_t *image;
	size_t n;
	uint64_t stop_sequence; /* the next segment's first; UINT64_MAX if this is the last */
	scan_record_fn *record; /* may be NULL */
	void *ctx;
	/* found */
	uint64_t next_sequence, end; /* behind the last batch that counts */
	uint64_t oldest, highest_id; /* the greatest stated by a batch; 0 without any */
	unsigned damaged;            /* places with damage */
	unsigned salvaged;           /* records from there */
	uint64_t damaged_at;         /* offset of the first */
};
void scan_segment(struct scan *);
/* Is there a batch of this segment at this offset, whole, and do all its records check? */
bool scan_batch(const struct scan *, uint64_t at, struct batch_head *);

#endif
