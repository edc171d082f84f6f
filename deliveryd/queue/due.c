#include "queue/due.h"

#include <stdlib.h>
#include "base/mem.h"

#define ARITY 4u

struct due_heap {
	struct delivery_slab *slab;
	uint32_t *at;
	uint32_t n, size;
};

struct due_heap *due_new(struct delivery_slab *slab)
{
	struct due_heap *h = mem_zalloc(sizeof(*h));
	h->slab = slab;
	return h;
}

void due_free(struct due_heap **ph)
{
	if (!*ph)
		return;
	free((*ph)->at);
	mem_free(ph);
}

static uint64_t key(const struct due_heap *h, uint32_t i)
{
	return delivery_at(h->slab, h->at[i])->due_us;
}

static void put(struct due_heap *h, uint32_t i, uint32_t no)
{
	h->at[i] = no;
	delivery_at(h->slab, no)->slot = i + 1;
}

static void sift_up(struct due_heap *h, uint32_t i)
{
	uint32_t no = h->at[i];
	uint64_t due = delivery_at(h->slab, no)->due_us;
	while (i > 0 && due < key(h, (i - 1) / ARITY)) {
		put(h, i, h->at[(i - 1) / ARITY]);
		i = (i - 1) / ARITY;
	}
	put(h, i, no);
}

static void sift_down(struct due_heap *h, uint32_t i)
{
	uint32_t no = h->at[i];
	uint64_t due = delivery_at(h->slab, no)->due_us;
	for (;;) {
		uint32_t first = i * ARITY + 1, best = i;
		uint64_t best_due = due;
		for (uint32_t c = first; c < first + ARITY && c < h->n; c++) {
			if (key(h, c) < best_due) {
				best = c;
				best_due = key(h, c);
			}
		}
		if (best == i)
			break;
		put(h, i, h->at[best]);
		i = best;
	}
	put(h, i, no);
}

void due_set(struct due_heap *h, uint32_t no, uint64_t due_us)
{
	struct delivery *d = delivery_at(h->slab, no);
	if (due_us == DUE_NEVER) {
		due_remove(h, no);
		return;
	}
	uint64_t before = d->due_us;
	d->due_us = due_us;
	if (!d->slot) {
		if (h->n == h->size) {
			h->size = h->size ? h->size * 2 : 256;
			h->at = mem_array(h->at, h->size, sizeof(*h->at));
		}
		h->at[h->n] = no;
		sift_up(h, h->n++);
	} else if (due_us < before) {
		sift_up(h, d->slot - 1);
	} else {
		sift_down(h, d->slot - 1);
	}
}

void due_remove(struct due_heap *h, uint32_t no)
{
	struct delivery *d = delivery_at(h->slab, no);
	if (!d->slot)
		return;
	uint32_t i = d->slot - 1, last = h->at[--h->n];
	d->slot = 0;
	if (last == no)
		return;
	put(h, i, last);
	sift_down(h, i);
	sift_up(h, delivery_at(h->slab, last)->slot - 1);
}

uint32_t due_first(const struct due_heap *h)
{
	return h->n ? h->at[0] : 0;
}

uint32_t due_count(const struct due_heap *h)
{
	return h->n;
}
