/*
 * chunk - memory for message bodies: fixed pieces from a pool that all loops share
 *
 * Purpose    A body's bytes are copied once, into chunks, and go to the log and to the sessions from there. What was
 *            freed is kept for the next body, so that the allocator sees little of it.
 * Ownership  A chunk is its body's. The pool is counted: the spool has one, each body has one.
 * Threads    Any.
 */
#ifndef SPOOL_CHUNK_H
#define SPOOL_CHUNK_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define CHUNK_SMALL 8192u /* a body's first: most mail is smaller than the others */
#define CHUNK_LARGE 16384u

struct chunks;
struct chunks *chunks_new(void);
struct chunks *chunks_ref(struct chunks *);
void chunks_unref(struct chunks **);
void *chunk_get(struct chunks *, size_t size) __attribute__((returns_nonnull));
void chunk_put(struct chunks *, void *, size_t size);
uint64_t chunks_bytes(struct chunks *); /* in use */
/*
 * Counted here because bodies may outlive the spool: bytes received that are not yet durable, and bytes announced
 * for which space is kept.
 */
struct chunks_counts {
	_Atomic uint64_t pending, reserved;
};
struct chunks_counts *chunks_counts(struct chunks *);

#endif
