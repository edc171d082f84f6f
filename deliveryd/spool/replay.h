/*
 * replay - makes of the log's records, in order, what lives
 *
 * Purpose    Keeps each living message's envelope and newest states while the log is read, then hands all out, oldest
 *            message first, and fills the spool's index.
 * Threads    Before loops run.
 * Errors     What does not fit (an unknown id, a delivery the message has not, parts out of order) is ignored: results
 *            may come late, and versions may have been left unfinished.
 */
#ifndef SPOOL_REPLAY_H
#define SPOOL_REPLAY_H

#include "spool/spool_int.h"

struct replay;
struct replay *replay_new(struct spool *);
void replay_free(struct replay **);
void replay_record(struct replay *, uint32_t segment, const struct record *, uint32_t offset);
uint64_t replay_highest_id(const struct replay *);
/* Fills the index, then tells of settings and messages. Numbers of the body files that are named: to be freed. */
void replay_finish(
        struct replay *, spool_live_fn *, spool_setting_fn *, void *ctx, uint64_t **files, size_t *n_files);

#endif
