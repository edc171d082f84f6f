/*
 * format - the heads of segments and batches, and the names of the files
 *
 *	segment = two copies of its head, a block each, then batches
 *	batch   = head, records without a gap; begins on a block, the rest of its last block is zero
 *
 * Purpose    The segment's head stands there twice because its nonce opens all the rest: without it no batch could be
 *            told from the image of one in somebody's body. It is synced before the first batch is written.
 * Follows    Little endian. Both heads carry their own CRC32C.
 * Threads    Pure functions.
 */
#ifndef SPOOL_FORMAT_H
#define SPOOL_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"

#define FORMAT_VERSION 1u
#define FORMAT_NAME_SIZE 48
#define SEGMENT_HEADS 2u
#define BATCH_HEAD 64u

struct segment_head {
	uint32_t version;
	uint32_t record_max;
	uint64_t size; /* of the file */
	uint64_t number, nonce;
	uint64_t first_sequence; /* of its first batch */
	uint64_t oldest;         /* segment still needed when it was begun */
	uint64_t highest_id;     /* given when it was begun */
	/*
	 * A start on a full disk writes the last segment anew and goes on behind it: the number of that one, and the
	 * sequence up to which this one must have come before it stands in its place. 0 = none.
	 */
	uint64_t replaces, replaces_until;
};
void segment_head_write(uint8_t block[4096], const struct segment_head *); /* fills the block */
enum head_check { HEAD_OK, HEAD_BAD, HEAD_NEWER };
enum head_check segment_head_read(const uint8_t *, size_t n, struct segment_head *);

struct batch_head {
	uint64_t segment, nonce, sequence;
	uint32_t length; /* bytes, head included, without the zeros behind */
	uint32_t count;
	uint64_t oldest;     /* segment still needed, all before this batch considered */
	uint64_t highest_id; /* given when it was written */
};
void batch_head_write(uint8_t at[BATCH_HEAD], const struct batch_head *);
bool batch_head_read(const uint8_t *, size_t n, struct batch_head *);

/* Limits that scale with the segment's size. */
uint32_t format_record_max(uint64_t segment_size); /* 512 KB, an eighth of a small segment */
uint32_t format_batch_max(uint64_t segment_size);  /* 8 MB, half of a small segment */
static inline uint64_t format_blocks(uint64_t bytes)
{
	return (bytes + 4095) & ~(uint64_t)4095;
}

enum file_kind {
	FILE_OTHER,
	FILE_SEGMENT, /* NUMBER.seg */
	FILE_IDX,     /* NUMBER.idx */
	FILE_SPARE,   /* spare-NUMBER: written and synced, may become a segment */
	FILE_NEW,     /* new-NUMBER: becoming a spare; rubbish after a crash */
	FILE_DAMAGED, /* NUMBER.damaged: set aside */
	FILE_BODY,    /* NUMBER.body, in the folder "bodies" */
};
const char *format_name(char name[FORMAT_NAME_SIZE], enum file_kind, uint64_t number);
enum file_kind format_name_parse(const char *name, uint64_t *number);

#endif
