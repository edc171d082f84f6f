/*
 * view_rows - what the log says, as rows of the operators' SQLite file
 *
 * Purpose    Takes the records of a slice of the log in order, then writes in one transaction what they come to, and
 *            the position behind them. What came and went within the slice is never written.
 * Follows    The tables and views are in view_schema.h; bindpost-spool.5 tells operators what they mean.
 * Threads    One.
 */
#ifndef SPOOL_VIEW_ROWS_H
#define SPOOL_VIEW_ROWS_H

#include "base/error.h"
#include "spool/record.h"
#include "spool/view_log.h"

struct view_rows;

enum view_result {
	VIEW_OK,
	VIEW_BUSY,   /* somebody holds a lock: later */
	VIEW_BAD,    /* the file is not what it should be: to be made anew */
	VIEW_FAILED, /* error: no space, say */
};

/* Opens or makes the file. */
struct view_rows *view_rows_open(const char *path, enum view_result *, struct error *);
void view_rows_close(struct view_rows **);
/* False: none is kept. */
bool view_rows_position(struct view_rows *, struct view_position *);

/* Collects. */
void view_rows_take(struct view_rows *, const struct record *);
/* Bytes collected, and whether a message is still without its end. */
size_t view_rows_bytes(const struct view_rows *);
bool view_rows_partial(const struct view_rows *);
void view_rows_drop(struct view_rows *); /* forgets what was collected */
/* Is a lock to be had? Then it is held until view_rows_write() or _rollback(). */
enum view_result view_rows_begin(struct view_rows *, struct error *);
enum view_result view_rows_clear(struct view_rows *, struct error *); /* all rows */
/* Writes what was collected, and the position; commits. */
enum view_result view_rows_write(struct view_rows *, const struct view_position *, struct error *);
void view_rows_rollback(struct view_rows *);
/* Gives back memory for a while. */
void view_rows_rest(struct view_rows *);
/* Is the write-ahead file no larger than so many bytes, or could be emptied? It grows while somebody reads for long. */
bool view_rows_small(struct view_rows *, uint64_t bytes);

#endif
