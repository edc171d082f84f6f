#include "config.h"
#include "base/timer_heap.h"

#include <assert.h>
#include "base/mem.h"

/* timer->slot is the place in `entries` plus 1, so that a zeroed timer is not armed. */

static bool before(const struct timer_entry *a, const struct timer_entry *b)
{
	return a->due_us < b->due_us || (a->due_us == b->due_us && a->order < b->order);
}

static void place(struct timer_heap *heap, uint32_t at, struct timer_entry entry)
{
	heap->entries[at] = entry;
	entry.timer->slot = at + 1;
}

/* Finds the place of an entry from `at` towards the root. */
static void sift_up(struct timer_heap *heap, uint32_t at, struct timer_entry entry)
{
	while (at > 0) {
		uint32_t parent = (at - 1) / 4;

		if (!before(&entry, &heap->entries[parent]))
			break;
		place(heap, at, heap->entries[parent]);
		at = parent;
	}
	place(heap, at, entry);
}

static void sift_down(struct timer_heap *heap, uint32_t at, struct timer_entry entry)
{
	for (;;) {
		uint64_t first = (uint64_t)at * 4 + 1, end = first + 4;
		uint32_t least;

		if (first >= heap->n)
			break;
		least = (uint32_t)first;
		if (end > heap->n)
			end = heap->n;
		for (uint64_t i = first + 1; i < end; i++)
			if (before(&heap->entries[i], &heap->entries[least]))
				least = (uint32_t)i;
		if (!before(&heap->entries[least], &entry))
			break;
		place(heap, at, heap->entries[least]);
		at = least;
	}
	place(heap, at, entry);
}

static void settle(struct timer_heap *heap, uint32_t at, struct timer_entry entry)
{
	if (at > 0 && before(&entry, &heap->entries[(at - 1) / 4]))
		sift_up(heap, at, entry);
	else
		sift_down(heap, at, entry);
}

void timer_heap_free(struct timer_heap *heap)
{
	mem_free(&heap->entries);
	heap->n = heap->size = 0;
}

void timer_heap_put(struct timer_heap *heap, struct timer *timer, uint64_t due_us)
{
	struct timer_entry entry = {.due_us = due_us, .order = heap->armed++, .timer = timer};

	timer->due_us = due_us;
	if (timer->slot > 0) {
		assert(timer->slot <= heap->n && heap->entries[timer->slot - 1].timer == timer);
		settle(heap, timer->slot - 1, entry);
		return;
	}
	if (heap->n == heap->size) {
		heap->size = heap->size > 0 ? heap->size * 2 : 64;
		heap->entries = mem_array(heap->entries, heap->size, sizeof(*heap->entries));
	}
	sift_up(heap, heap->n++, entry);
}

void timer_heap_remove(struct timer_heap *heap, struct timer *timer)
{
	uint32_t at;

	if (timer->slot == 0)
		return;
	at = timer->slot - 1;
	assert(at < heap->n && heap->entries[at].timer == timer);
	timer->slot = 0;
	heap->n--;
	if (at < heap->n)
		settle(heap, at, heap->entries[heap->n]);
}

struct timer *timer_heap_take(struct timer_heap *heap, uint64_t now_us, uint64_t order)
{
	struct timer *timer;

	if (heap->n == 0 || heap->entries[0].due_us > now_us || heap->entries[0].order >= order)
		return NULL;
	timer = heap->entries[0].timer;
	timer_heap_remove(heap, timer);
	return timer;
}
