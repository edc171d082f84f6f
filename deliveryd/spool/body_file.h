/*
 * body_file - a large body in a file of its own
 *
 *	file = the body's bytes, then a CRC32C (u32) for each BODY_PIECE of them; the record has the CRC32C of these
 *
 * Purpose    A disk worker writes while the bytes come in, at most one piece of work under way per file. At the end
 *            the file and its folder are synced; only then may a message name it.
 * Threads    A writer belongs to one loop.
 */
#ifndef SPOOL_BODY_FILE_H
#define SPOOL_BODY_FILE_H

#include "spool/body_int.h"

struct body_file_writer;
struct body_file_writer *body_file_writer_new(struct spool *, struct loop *);
void body_file_writer_add(struct body_file_writer *, const void *, size_t);
/* There is no space for it: what still comes is thrown away, and it ends with BODY_NO_SPACE. */
void body_file_writer_refuse(struct body_file_writer *);
uint64_t body_file_writer_backlog(const struct body_file_writer *);
void body_file_writer_on_room(struct body_file_writer *, void (*room)(void *ctx), void *ctx);
/* done() once, later, from the loop; takes the writer */
void body_file_writer_finish(struct body_file_writer *,
        void (*done)(void *ctx, const struct payload_file *, enum body_error), void *ctx);
void body_file_writer_abort(struct body_file_writer **);

#endif
