/*
 * view_log - follows the log from behind, as a reader of its own
 *
 * Purpose    Gives the batches from a position on, in order, up to what is synced. It pins nothing: a segment may be freed
 *            and used again under it. Each batch is checked (segment, nonce, sequence, CRCs), so that is noticed, and the
 *            position counts as lost.
 * Threads    One at a time; the log itself may be written meanwhile.
 */
#ifndef SPOOL_VIEW_LOG_H
#define SPOOL_VIEW_LOG_H

#include "base/error.h"
#include "spool/disk_io.h"
#include "spool/format.h"
#include "spool/record.h"

/* The next batch to be read: where, and the sequence it must have. */
struct view_position {
	uint64_t segment, nonce, offset, sequence;
};

struct view_log {
	struct disk_io *io;
	int dir; /* borrows */
	int fd;  /* of at.segment; -1 = none */
	struct segment_head head;
	struct view_position at;
	bool lenient;   /* damage and gaps are passed over: there is nothing better to be had */
	uint8_t *bytes; /* owns */
	size_t n, size;
	struct error error;
};

void view_log_init(struct view_log *, struct disk_io *, int dir);
void view_log_free(struct view_log *);
void view_log_rest(struct view_log *); /* gives back memory for a while */
/* At the first segment there is from number `oldest` on. False: there is none, or it cannot be read (error). */
bool view_log_begin(struct view_log *, uint64_t oldest);
/* At a position kept from before. False: it is lost. */
bool view_log_seek(struct view_log *, const struct view_position *);

enum view_next { VIEW_BATCH, VIEW_END, VIEW_LOST, VIEW_ERROR };
/* The next batch that is synced: all before `offset` in `segment` is. Its records: view_log_records(). */
enum view_next view_log_next(struct view_log *, uint64_t segment, uint64_t offset);
void view_log_records(struct view_log *, void (*each)(void *ctx, const struct record *), void *ctx);

#endif
