/*
 * version - a message as it goes into the log: one record, or several
 *
 * Purpose    No record is longer than record_max: the meta is cut into slices, each with a head of its own; the first
 *            has the body. A version counts only when all its parts stand in the log, in order, nothing else of that
 *            message between them.
 * Ownership  Embedded in its owner; version_free() frees what it has. The body's bytes are borrowed.
 * Threads    Encoded anywhere, then the spool loop's.
 */
#ifndef SPOOL_VERSION_H
#define SPOOL_VERSION_H

#include <stdint.h>
#include <sys/uio.h>
#include "base/str.h"
#include "spool/index.h"

struct version_part {
	uint32_t start;    /* of its head, in bytes */
	uint32_t head_len; /* head and slice */
	uint32_t length;   /* with the body */
};

struct version {
	uint64_t id, body_file;
	uint32_t n_deliveries;
	uint16_t n_parts, next; /* parts in all; the next to be written */
	uint8_t *bytes;         /* owns */
	struct version_part *parts, one;
	struct where *places, one_place; /* where each part stands, once written */
	const struct iovec *body;        /* borrows */
	unsigned n_body;
};

struct version_body {
	const struct iovec *iov; /* none when it is in a file or lost */
	unsigned n;
	uint32_t len, crc;
	uint64_t file;
	uint8_t flags; /* enum record_flags */
};

/* meta: RECORD_HEAD unused bytes, then the whole meta. Emptied. False if it cannot be cut up. */
bool version_encode(struct version *, uint64_t id, uint32_t n_deliveries, struct str *meta,
        const struct version_body *, uint32_t record_max);
uint64_t version_bytes(const struct version *);
void version_free(struct version *);

#endif
