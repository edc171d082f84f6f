/*
 * start - finds out what the folder holds and makes it usable
 *
 * Threads    Before loops run.
 */
#ifndef SPOOL_START_H
#define SPOOL_START_H

#include "spool/spool.h"

struct start;
/* Lists the files, reads the heads of the segments; refuses those of a newer format. */
bool start_look(struct spool *, struct start **, struct error *);
/* Replays and opens a new segment. */
bool start_replay(struct start *, spool_live_fn *, spool_setting_fn *, void *ctx, struct error *);
/* Replays every byte, and changes nothing: on a disk_io that does not write. */
bool start_look_through(struct start *, spool_live_fn *, spool_setting_fn *, void *ctx, struct error *);
void start_free(struct start **);

#endif
