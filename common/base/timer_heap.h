/*
 * timer_heap - the armed timers of a loop, earliest first; of equal ones the first armed
 *
 * Purpose    A heap of four children per node with the keys inside: what is compared lies together in memory.
 *            Only loop.c uses it.
 */
#ifndef BASE_TIMER_HEAP_H
#define BASE_TIMER_HEAP_H

#include "base/loop.h"

struct timer_entry {
	uint64_t due_us, order; /* order: how many were armed before */
	struct timer *timer;    /* borrows */
};

struct timer_heap {
	struct timer_entry *entries; /* owns */
	uint32_t n, size;
	uint64_t armed; /* so many so far */
};

void timer_heap_free(struct timer_heap *);
void timer_heap_put(struct timer_heap *, struct timer *, uint64_t due_us); /* armed or not */
void timer_heap_remove(struct timer_heap *, struct timer *);
/* The earliest, if due by then and armed before `order`; it is no longer armed then. Else NULL. */
struct timer *timer_heap_take(struct timer_heap *, uint64_t now_us, uint64_t order);

#endif
