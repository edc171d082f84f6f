/*
 * delivery - one message, one binding, one recipient domain: what is queued, tried, retried
 *
 * Purpose    Deliveries live in slabs and are addressed by 32-bit numbers; a million of them is the normal case, so
 *            every byte here counts. Lists and the timer heap are made of numbers, names and last replies are interned,
 *            addresses are packed; ORCPT and ENVID stay on disk.
 * Ownership  The slab owns the deliveries; a delivery owns its packed block, its body reference and its references to
 *            interned names (dropped by its user before delivery_give()).
 * Threads    The queue's loop only.
 */
#ifndef QUEUE_DELIVERY_H
#define QUEUE_DELIVERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct body;
struct hop_queue;

enum delivery_state {
	DELIVERY_FREE,     /* not in use */
	DELIVERY_READY,    /* in its queue's list, to be sent as soon as limits allow */
	DELIVERY_OUT,      /* with a session */
	DELIVERY_DEFERRED, /* waits for its next attempt */
	DELIVERY_HELD,     /* until released by command */
	DELIVERY_BOUNCING, /* its DSN is being written; then it goes on or ends */
	DELIVERY_N_STATES
};

struct delivery {
	uint64_t id;         /* of the message */
	int64_t received_us; /* mono; before this boot's zero when it came earlier */
	uint64_t due_us;     /* mono: next attempt when deferred, expiry when ready; see due.h */
	uint64_t size;
	char *packed;          /* owns; packed.h */
	struct body *body;     /* owns a reference; NULL = to be read back */
	struct hop_queue *hq;  /* borrows; NULL = none yet */
	uint32_t prev, next;   /* in the queue's list */
	uint32_t slot;         /* in the timer heap + 1; 0 = not in it */
	uint32_t index_next;   /* in the index by id */
	uint32_t index;        /* which of the message's deliveries */
	uint32_t n_open;       /* recipients in `packed` */
	uint32_t n_untried;    /* of those, the first ones: not yet tried in this round */
	uint32_t n_all;        /* recipients at reception */
	uint32_t domain, rule; /* interned */
	uint32_t group;        /* interned; "" unless the target is a group */
	uint32_t binding;      /* number of the binding (or of the group's waiting place) */
	uint32_t sticky;
	uint32_t client;      /* interned: what XCLIENT is to say; 0 = not kept */
	uint32_t last;        /* interned: the last reply, "451 4.7.1 later"; 0 = none, or only on disk */
	uint32_t last_s;      /* wall clock, s: when; 0 = unknown */
	uint16_t attempts;    /* rounds that failed */
	uint16_t flags;       /* enum message_flags */
	uint8_t state : 3;    /* enum delivery_state; set by delivery_enter() alone */
	uint8_t priority : 2; /* enum priority */
	uint8_t has_sticky : 1;
	uint8_t moved : 1; /* the spool has a record of its group's member */

	uint8_t lost : 4; /* connections lost under it in this round, at no cost */
	uint8_t hold : 1; /* with a session or a DSN: is held when it comes back */
	uint8_t moves : 1; /* the same: goes elsewhere when it comes back (q->moves) */
	uint8_t line : 2; /* of its queue's three ready lists */
};

struct delivery_slab;
struct delivery_slab *delivery_slab_new(void);
void delivery_slab_free(struct delivery_slab **);
uint32_t delivery_take(struct delivery_slab *); /* zeroed; never 0 */
void delivery_give(struct delivery_slab *, uint32_t no);
struct delivery *delivery_at(const struct delivery_slab *, uint32_t no);
uint32_t delivery_count(const struct delivery_slab *);
uint32_t delivery_top(const struct delivery_slab *); /* all numbers in use are below */

/* By message id: the first delivery of it, then delivery->index_next. 0 = none. */
void delivery_index_add(struct delivery_slab *, uint32_t no);
void delivery_index_remove(struct delivery_slab *, uint32_t no);
uint32_t delivery_index_find(const struct delivery_slab *, uint64_t id);
uint32_t delivery_index_next(const struct delivery_slab *, uint32_t no); /* of the same message */

/* A list of deliveries, linked by their numbers. */
struct delivery_list {
	uint32_t head, tail;
};
void delivery_list_add_tail(struct delivery_slab *, struct delivery_list *, uint32_t no);
void delivery_list_add_head(struct delivery_slab *, struct delivery_list *, uint32_t no);
void delivery_list_remove(struct delivery_slab *, struct delivery_list *, uint32_t no);

#endif
