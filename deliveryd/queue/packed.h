/*
 * packed - a delivery's envelope sender and its open recipients in one block of bytes
 *
 * Purpose    What a queued delivery needs of its envelope, as small as it gets: the sender, NUL, then for each open
 *            recipient its number in the message (7 bits a byte, low first, high bit = more) and its address, NUL.
 *            Recipients not yet tried in this round stand before those that were tried and deferred.
 * Ownership  A block belongs to its delivery; packed_free().
 * Threads    The queue's loop only.
 */
#ifndef QUEUE_PACKED_H
#define QUEUE_PACKED_H

#include <stddef.h>
#include <stdint.h>

struct packed_recipient {
	uint32_t number; /* in the message's delivery */
	const char *address;
};

char *packed_new(const char *sender, const struct packed_recipient *, uint32_t n);
void packed_free(char **);
size_t packed_size(const char *block, uint32_t n); /* of a block with n recipients */
static inline const char *packed_sender(const char *block)
{
	return block;
}

/* Walks the recipients in order; the caller knows how many there are. Addresses borrow from the block. */
struct packed_walk {
	const unsigned char *p;
};
void packed_walk_init(struct packed_walk *, const char *block);
struct packed_recipient packed_walk_next(struct packed_walk *);

#endif
