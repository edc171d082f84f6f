/*
 * fake_body - message bodies of tests: in memory, handed out in pieces, late, or not at all
 *
 * Stands in for spool/body.c (body_ref, body_unref, body_size, body_iov, the cursor): a test that links this does not
 * link libspool.a. spool_load() answers by the message's id: see there.
 */
#ifndef T_LIB_FAKE_BODY_H
#define T_LIB_FAKE_BODY_H

#include "spool/body.h"

struct body *fake_body_new(const void *bytes, size_t len); /* one reference */
/* Handed out in pieces of so many bytes; 0 = whole. */
void fake_body_pieces(struct body *, size_t bytes);
/* From this offset on the cursor says BODY_WAIT until fake_body_go(), or BODY_FAILED. */
void fake_body_wait_at(struct body *, uint64_t offset);
void fake_body_go(struct body *);
void fake_body_fail_at(struct body *, uint64_t offset);
/* What the body says its size is, when it is not true. */
void fake_body_claim(struct body *, uint64_t size);
/* Bodies that a cursor finds by message id, as the spool would. Borrowed; NULL forgets. */
void fake_body_in_spool(struct body *);
unsigned fake_body_cursors(void); /* open now, all bodies */

#endif
