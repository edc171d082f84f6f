/*
 * record - one entry of the log: a head, what it says (meta), and for a message perhaps its body
 *
 * Purpose    Writing and checking heads. What stands in meta is payload.h's.
 *
 *	head = crc u32, length u32, meta_len u32, body_crc u32, id u64, part u32, type u8, flags u8, parts u16
 *
 * Follows    All numbers little endian. `crc` covers the rest of the head and the meta and begins with a seed made
 *            of the segment's number and nonce, so that neither a stale record of an earlier use of the file nor
 *            the image of a record in somebody's body is taken for one of ours. `body_crc` covers the body and is
 *            itself covered by `crc`.
 * Threads    Pure functions.
 */
#ifndef SPOOL_RECORD_H
#define SPOOL_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECORD_HEAD 32u

enum record_type {
	RECORD_MESSAGE = 1, /* `part` of `parts`: a slice of the meta; the first has the body */
	RECORD_STATE,       /* `part` is the delivery */
	RECORD_MOVE,        /* `part` is the delivery */
	RECORD_DONE,        /* `part` is the delivery */
	RECORD_SETTING,
};
#define RECORD_TYPE_LAST RECORD_SETTING

enum record_flags {
	RECORD_BODY_FILE = 1 << 0, /* the body is a file of its own */
	RECORD_BODY_LOST =
	        1 << 1, /* the body was found damaged: the envelope is kept so that the sender hears of it */
};

struct record {
	uint64_t id;
	uint32_t length; /* head, meta and body */
	uint32_t meta_len;
	uint32_t body_crc;
	uint32_t part;
	uint16_t parts;
	uint8_t type, flags;
	const uint8_t *meta; /* borrows from what was read */
	const uint8_t *body; /* NULL when what was read ends before it (index file) */
};

static inline uint32_t record_body_len(const struct record *r)
{
	return r->length - RECORD_HEAD - r->meta_len;
}

uint32_t record_seed(uint64_t segment, uint64_t nonce);
/* Head at `at`, its crc open; the meta stands right behind, or will. */
void record_write_head(uint8_t at[RECORD_HEAD], const struct record *);
/* The seed is known only when the record's place is: sets the crc of head and meta. */
void record_seal(uint8_t *at, uint32_t seed);
/* What a head written by us says: for records not yet sealed. */
void record_peek(const uint8_t *at, struct record *);
/*
 * Checks and reads a record at `p`, of which `n` bytes are there. `whole`: the body must be there too (it is not
 * checked: record_body_ok()). False: not one of this segment's records.
 */
bool record_read(const uint8_t *p, size_t n, bool whole, uint32_t record_max, uint32_t seed, struct record *);
bool record_body_ok(const struct record *);

/* Little endian, at any address */
void put_u16(uint8_t *p, uint16_t v);
void put_u32(uint8_t *p, uint32_t v);
void put_u64(uint8_t *p, uint64_t v);
uint16_t get_u16(const uint8_t *p);
uint32_t get_u32(const uint8_t *p);
uint64_t get_u64(const uint8_t *p);

#endif
