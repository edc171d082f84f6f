/*
 * due - the timer heap of deliveries: 32-bit numbers, keyed by delivery->due_us
 *
 * Purpose    A 4-ary heap over the slab: four bytes for each delivery that waits for a time.
 * Threads    The queue's loop only.
 */
#ifndef QUEUE_DUE_H
#define QUEUE_DUE_H

#include "queue/delivery.h"

#define DUE_NEVER UINT64_MAX

struct due_heap;
struct due_heap *due_new(struct delivery_slab *); /* borrows */
void due_free(struct due_heap **);
/* In the heap it moves; DUE_NEVER takes it out. */
void due_set(struct due_heap *, uint32_t no, uint64_t due_us);
void due_remove(struct due_heap *, uint32_t no);
uint32_t due_first(const struct due_heap *); /* 0 = empty */
uint32_t due_count(const struct due_heap *);

#endif
