/*
 * body - a message's bytes: in memory, or in a file of their own
 *
 * Purpose    The handoff (or a DSN) writes, the spool keeps, sessions read. Bytes are unstuffed, lines end in CRLF,
 *            the stamp is not among them. Up to spool_config.inline_max (256 KB) they sit in fixed chunks from a
 *            pool; past that they stream to a file of their own through the disk threads while they come in
 *            (CRC32C per 64 KB).
 * Ownership  body is counted. body_writer: its maker's until body_writer_finish() or _abort().
 * Threads    A writer or cursor belongs to one loop; a finished body may be read from any thread.
 */
#ifndef SPOOL_BODY_H
#define SPOOL_BODY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include "base/loop.h"

struct spool;
struct body;

struct body *body_ref(struct body *);
void body_unref(struct body **);
uint64_t body_size(const struct body *);
/* Memory bodies: the chunks, in order. Number of iovecs, 0 for a body in a file. */
unsigned body_iov(const struct body *, const struct iovec **);

/* --- writing ------------------------------------------------------------------------------------------- */
enum body_error { BODY_OK, BODY_NO_SPACE /* 452 */, BODY_IO /* 451 */ };
struct body_writer;
/* announced: SIZE from MAIL, 0 = unknown; reserved against min_free from now until the message is answered or dropped.
 * NULL = no space for that (452). */
struct body_writer *body_writer_new(struct spool *, struct loop *, uint64_t announced_bytes);
void body_writer_add(struct body_writer *, const void *, size_t);
uint64_t body_writer_size(const struct body_writer *);
/* Bytes given but not yet with the disk (large bodies): stop reading from the client above a few chunks;
 * `room` is called (on the loop) when it has fallen below. */
uint64_t body_writer_backlog(const struct body_writer *);
void body_writer_on_room(struct body_writer *, void (*room)(void *ctx), void *ctx);
/* All bytes are in. done() is called once, later, from the loop: file and directory synced for a large body (the
 * body may then be named in a message), at once for a small one. Takes the writer. */
void body_writer_finish(struct body_writer *, void (*done)(void *ctx, struct body *takes, enum body_error), void *ctx);
void body_writer_abort(struct body_writer **); /* file removed, reservation given back */

/* --- reading ------------------------------------------------------------------------------------------- */
/*
 * A cursor walks a message's body once. `body` may be NULL: then it is read back from the spool by id (small: whole,
 * large: 64 KB pieces with one read ahead). wake() is called on the loop when peek's answer may have changed.
 */
enum body_peek { BODY_READY, BODY_WAIT, BODY_END, BODY_FAILED };
struct body_cursor;
struct body_cursor *body_cursor_new(struct spool *, struct loop *, uint64_t message_id, struct body *body,
	uint64_t from_offset, void (*wake)(void *ctx), void *ctx);
/* Bytes at hand, borrowed until body_cursor_advance() or _free(). Never zero bytes with BODY_READY. */
enum body_peek body_cursor_peek(struct body_cursor *, struct iovec *iov, unsigned max, unsigned *n);
void body_cursor_advance(struct body_cursor *, size_t bytes);
const char *body_cursor_error(const struct body_cursor *); /* after BODY_FAILED */
void body_cursor_free(struct body_cursor **);

#endif
