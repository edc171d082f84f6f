/*
 * lease - limits on sessions, and who waits for them
 *
 * Purpose    A limit counts the sessions that hold it. A session takes all its leases or none. A queue that found a
 *            limit full waits in that limit's line; a freed lease wakes the first in line, so nothing polls, and a
 *            queue that took one and wants more goes to the end: fair turns.
 * Ownership  A limit is embedded in its owner (queue, pair, binding, host, server) and must be idle (limit_idle())
 *            when the owner goes. A waiter is embedded in a queue, a leases set in its session.
 * Threads    The queue's loop only.
 */
#ifndef QUEUE_LEASE_H
#define QUEUE_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#define LIMIT_NONE UINT32_MAX
#define LEASES_MAX 16 /* queue, pair, two of the host, six scopes, four of a roll-up, binding, server */

struct link { /* a ring; the head is one too */
	struct link *prev, *next;
};
void link_init(struct link *);
bool link_linked(const struct link *);
void link_add_tail(struct link *head, struct link *);
void link_remove(struct link *); /* leaves it unlinked; fine if it was */

struct limit {
	uint32_t max, used;
	uint32_t leaving; /* sessions on their way out: asked to end for those who wait */
	uint32_t n_waiting;
	bool is_throttle;      /* nobody holds it: used says only whether there is room (throttle.h) */
	struct link waiters;   /* of struct waiter */
	struct link idle;      /* of struct lease: held by sessions without work, longest idle first */
	struct link wake_link; /* in the owner's list of limits with room and waiters */
};
void limit_init(struct limit *, uint32_t max);
bool limit_has_room(const struct limit *);
bool limit_idle(const struct limit *); /* nobody holds it or waits for it */

struct waiter {
	struct link link;
	struct limit *at; /* NULL = not waiting */
	void *who;
};
void waiter_init(struct waiter *, void *who);
/* At the end of the line; keeps its place if it is in it. */
void waiter_wait(struct waiter *, struct limit *);
void waiter_leave(struct waiter *);
struct waiter *limit_first_waiter(struct limit *); /* NULL if none */

struct lease {
	struct limit *limit;
	struct link idle_link;
	struct leases *of;
};
struct leases {
	struct lease held[LEASES_MAX];
	unsigned n;
	bool leaving;
};
/* The scarcest of the limits that have no room; NULL = all have. Room that others wait for is none, except at the
 * limit that has just woken the asker. */
struct limit *limits_blocking(struct limit *const *wanted, unsigned n, const struct limit *woken);
void leases_take(struct leases *, struct limit *const *wanted, unsigned n); /* all have room */
void leases_set_idle(struct leases *, bool idle);
void leases_set_leaving(struct leases *); /* counted once; ends with leases_give() */
/* Somebody but me waits for one of these, or a limit was lowered, and not enough sessions are on their way out. */
bool leases_wanted_by_others(const struct leases *, const struct waiter *mine, unsigned n_mine);
/* Whether it could hold these in place of those it has: what it keeps needs no room. */
bool leases_could_change(
        const struct leases *, struct limit *const *wanted, unsigned n, const struct limit *woken);
void leases_change(struct leases *, struct limit *const *wanted, unsigned n,
        void (*freed)(void *ctx, struct limit *), void *ctx);
/* Gives all back; freed() is called for each limit that now has room and somebody waiting. */
void leases_give(struct leases *, void (*freed)(void *ctx, struct limit *), void *ctx);
struct leases *limit_longest_idle(struct limit *); /* NULL if none */

#endif
