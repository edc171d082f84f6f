/*
 * batch - what is written and synced in one go
 *
 * Purpose    Takes records until its limit, points iovecs at their bytes where these are (bodies are not copied),
 *            seals them for their place, remembers what it took so that it can be applied after the sync.
 * Threads    The spool loop.
 */
#ifndef SPOOL_BATCH_H
#define SPOOL_BATCH_H

#include "spool/format.h"
#include "spool/version.h"

struct spool_results;

/* What one batch has taken in, in order. */
enum taken_kind { TAKEN_ADD, TAKEN_RESULTS, TAKEN_ADD_RESULTS, TAKEN_SETTINGS, TAKEN_COPY };
struct taken {
	enum taken_kind kind;
	bool last; /* the item ends with this batch */
	void *item;
	size_t from, to; /* results: of their bytes */
	uint32_t offset; /* results: where they stand in the segment */
};

struct batch {
	struct iovec *iov;
	size_t n_iov, iov_size;
	struct taken *taken;
	size_t n_taken, taken_size;
	uint64_t limit, length; /* bytes, head included */
	uint32_t count;
	uint32_t segment, base; /* where it will stand */
	uint32_t seed;
	uint8_t head[BATCH_HEAD];
};

void batch_init(struct batch *);
void batch_free(struct batch *);
void batch_begin(struct batch *, uint32_t segment, uint32_t seed, uint64_t base, uint64_t limit);
static inline bool batch_fits(const struct batch *b, uint64_t bytes)
{
	return b->length + bytes <= b->limit;
}
/* The version's next parts, as many as fit. True when it took its last. */
bool batch_take_version(struct batch *, struct version *, enum taken_kind, void *item);
/* Records that stand in a row; from where the last batch ended, as many as fit. True when it took the last. */
bool batch_take_records(struct batch *, uint8_t *bytes, size_t from, size_t n, enum taken_kind, void *item);
/* Head, and zeros to the end of the last block. Bytes to be written. */
uint64_t batch_finish(struct batch *, const struct batch_head *);

#endif
