/*
 * deliveries - recipients grouped into what is queued together: same target, rule, hash, priority and domain
 *
 * Ownership  The text of a new group is copied into the pool given; the table is freed by deliveries_free().
 * Threads    Its transaction's loop.
 */
#ifndef HANDOFF_DELIVERIES_H
#define HANDOFF_DELIVERIES_H

#include "message.h"

struct deliveries {
	struct delivery_spec *specs; /* owns; n_recipients counts, recipients is not set */
	uint32_t n, max;
	uint32_t *slots; /* owns; hash table of indexes + 1, n_slots a power of two */
	uint32_t n_slots;
};

/* domain: already in the pool. Returns the group's index; the recipient is counted. */
uint32_t deliveries_find(
        struct deliveries *, struct pool *, const struct recipient_choice *, const char *domain);
void deliveries_free(struct deliveries *);

#endif
