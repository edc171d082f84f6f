/*
 * chunk - memory for message bodies: fixed pieces from a pool that all loops share
 *
 * Purpose    A body's bytes are copied once, into chunks, and go to the log and to the sessions from there. What was
 *            freed is kept for the next body, so that the allocator sees little of it.
 * Ownership  A chunk is its body's. The pool lives until chunks_close() was called and the last chunk came back.
 * Threads    Any.
 */
#ifndef SPOOL_CHUNK_H
#define SPOOL_CHUNK_H

#include <stddef.h>
#include <stdint.h>

#define CHUNK_SMALL 8192u /* a body's first: most mail is smaller than the others */
#define CHUNK_LARGE 16384u

struct chunks;
struct chunks *chunks_new(void);
void chunks_close(struct chunks **);
void *chunk_get(struct chunks *, size_t size) __attribute__((returns_nonnull));
void chunk_put(struct chunks *, void *, size_t size);
uint64_t chunks_bytes(struct chunks *); /* in use */
/* Bytes received that are not yet durable: counted here because the bodies may outlive the spool. */
void chunks_pending_add(struct chunks *, uint64_t bytes);
void chunks_pending_sub(struct chunks *, uint64_t bytes);
uint64_t chunks_pending(struct chunks *);

#endif
