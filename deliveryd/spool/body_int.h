/*
 * body_int - what the spool's files know of a body
 */
#ifndef SPOOL_BODY_INT_H
#define SPOOL_BODY_INT_H

#include "spool/body.h"
#include "spool/payload.h"

/* Large bodies are checked in pieces of this size; their checksums stand behind the last one. */
#define BODY_PIECE (64u * 1024u)

/* For bodies in memory */
uint32_t body_crc(const struct body *);
/* number 0 for a body in memory */
struct payload_file body_file(const struct body *);
/* It is durable, or will never be: no longer counted in spool_pending_bytes(). Any thread. */
void body_settle(struct body *);

#endif
