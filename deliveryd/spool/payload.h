/*
 * payload - what stands in a record's meta
 *
 * Purpose    Encodes and decodes the envelope of a message, the state of a delivery, its moves, settings.
 *
 *	message = fixed_len u32, n_deliveries u32, body_file u64, body_size u64, table_crc u32, envelope, merged
 *	          (fixed_len: bytes up to and including the envelope, which never change)
 *	merged  = nothing, or per delivery: bits u8, [state_len, state], [move_len, move]   ; the cleaner's copies
 *	state   = bits u8, attempts, next_attempt u64, last_reply, [last_attempt u64],
 *	          [n_bytes, bitmap of the open recipients]
 *	move    = binding, domain
 *	setting = key, value
 *
 *	Numbers without a type are variable length (7 bits a byte, low first); texts are their length + 1 (0: none)
 *	and their bytes.
 *
 * Ownership  Decoded messages are new; decoded texts are copied into the pool given.
 * Threads    Pure functions.
 * Errors     What is decoded is foreign: every length and count is checked; false or NULL if anything is odd.
 */
#ifndef SPOOL_PAYLOAD_H
#define SPOOL_PAYLOAD_H

#include "base/str.h"
#include "message.h"
#include "spool/spool.h"

#define PAYLOAD_MESSAGE_HEAD 28u
#define PAYLOAD_REPLY_MAX 1024u /* last_reply is cut to this */

/* Where the body is when it is not in the record. */
struct payload_file {
	uint64_t number; /* 0: in the record */
	uint64_t size;
	uint32_t table_crc;
};

/* False: it has something that payload_get_message() would refuse. */
bool payload_put_message(struct str *, const struct message *, const struct payload_file *);
/* The beginning of a message's meta (its first PAYLOAD_MESSAGE_HEAD bytes at least). */
struct payload_head {
	uint32_t fixed_len, n_deliveries;
	struct payload_file file;
};
bool payload_get_head(const uint8_t *meta, size_t n, struct payload_head *);
struct message *payload_get_message(const uint8_t *meta, size_t n, uint64_t id);

/* One delivery's share of the merged section; the pieces are borrowed from it. */
enum merged_bits { MERGED_DONE = 1, MERGED_STATE = 2, MERGED_MOVE = 4 };
struct merged {
	uint8_t bits;
	const uint8_t *state, *move;
	uint32_t state_len, move_len;
};
void payload_put_merged(struct str *, const struct merged *);
bool payload_get_merged(struct cursor *, struct merged *);

void payload_put_state(struct str *, const struct spool_state *);
/* Texts and numbers go to the pool. n_recipients bounds the bitmap. */
bool payload_get_state(const uint8_t *, size_t n, uint32_t n_recipients, struct pool *, struct spool_state *);
void payload_put_move(struct str *, const char *binding, const char *domain);
bool payload_get_move(const uint8_t *, size_t n, struct pool *, const char **binding, const char **domain);
void payload_put_setting(struct str *, const char *key, const char *value);
bool payload_get_setting(const uint8_t *, size_t n, struct pool *, const char **key, const char **value);

#endif
