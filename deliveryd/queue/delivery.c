#include "queue/delivery.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/split_hash.h"

#define PER_CHUNK 1024u

struct delivery_slab {
	struct delivery **chunks;
	uint32_t n_chunks, size_chunks;
	uint32_t top;  /* numbers 1 .. top-1 have been given */
	uint32_t free; /* list by `next` */
	uint32_t used;
	uint32_t *buckets; /* index by id */
	uint32_t n_buckets, size_buckets;
};

struct delivery_slab *delivery_slab_new(void)
{
	struct delivery_slab *s = mem_zalloc(sizeof(*s));
	s->top = 1;
	s->n_buckets = s->size_buckets = 1024;
	s->buckets = mem_zalloc(s->n_buckets * sizeof(*s->buckets));
	return s;
}

void delivery_slab_free(struct delivery_slab **ps)
{
	struct delivery_slab *s = *ps;
	if (!s)
		return;
	for (uint32_t i = 0; i < s->n_chunks; i++)
		free(s->chunks[i]);
	free(s->chunks);
	free(s->buckets);
	mem_free(ps);
}

struct delivery *delivery_at(const struct delivery_slab *s, uint32_t no)
{
	assert(no > 0 && no < s->top);
	return &s->chunks[no / PER_CHUNK][no % PER_CHUNK];
}

static void add_chunk(struct delivery_slab *s)
{
	if (s->n_chunks == s->size_chunks) {
		s->size_chunks = s->size_chunks ? s->size_chunks * 2 : 16;
		s->chunks = mem_array(s->chunks, s->size_chunks, sizeof(*s->chunks));
	}
	s->chunks[s->n_chunks++] = mem_array(NULL, PER_CHUNK, sizeof(struct delivery));
}

uint32_t delivery_take(struct delivery_slab *s)
{
	uint32_t no = s->free;
	if (no) {
		s->free = delivery_at(s, no)->next;
	} else {
		assert(s->top < UINT32_MAX);
		no = s->top++;
		if (no / PER_CHUNK >= s->n_chunks)
			add_chunk(s);
	}
	struct delivery *d = delivery_at(s, no);
	memset(d, 0, sizeof(*d));
	s->used++;
	return no;
}

void delivery_give(struct delivery_slab *s, uint32_t no)
{
	struct delivery *d = delivery_at(s, no);
	assert(!d->packed && !d->body && d->slot == 0);
	d->state = DELIVERY_FREE;
	d->next = s->free;
	s->free = no;
	s->used--;
}

uint32_t delivery_count(const struct delivery_slab *s)
{
	return s->used;
}

uint32_t delivery_top(const struct delivery_slab *s)
{
	return s->top;
}

/* --- index by message id ------------------------------------------------------------------------------- */

/* ids are ours, so an unkeyed mix will do */
static uint32_t bucket_number(uint64_t id, uint32_t n_buckets)
{
	uint64_t h = id * UINT64_C(0x9e3779b97f4a7c15);
	return split_hash_bucket((uint32_t)(h >> 32), n_buckets);
}

static uint32_t *bucket_of(const struct delivery_slab *s, uint64_t id)
{
	return &s->buckets[bucket_number(id, s->n_buckets)];
}

/* One bucket more: a table that doubles at a million would hold the loop up. */
static void index_grow(struct delivery_slab *s)
{
	if (s->n_buckets == s->size_buckets) {
		s->size_buckets *= 2;
		s->buckets = mem_array(s->buckets, s->size_buckets, sizeof(*s->buckets));
	}
	uint32_t added = s->n_buckets, *from = &s->buckets[split_hash_from(added)], next;
	s->buckets[added] = 0;
	for (uint32_t no = *from, *kept = from; no; no = next) {
		struct delivery *d = delivery_at(s, no);
		next = d->index_next;
		if (bucket_number(d->id, added + 1) == added) {
			d->index_next = s->buckets[added];
			s->buckets[added] = no;
			*kept = next;
		} else {
			kept = &d->index_next;
		}
	}
	s->n_buckets++;
}

void delivery_index_add(struct delivery_slab *s, uint32_t no)
{
	if (s->used > s->n_buckets)
		index_grow(s);
	struct delivery *d = delivery_at(s, no);
	uint32_t *bucket = bucket_of(s, d->id);
	d->index_next = *bucket;
	*bucket = no;
}

void delivery_index_remove(struct delivery_slab *s, uint32_t no)
{
	struct delivery *d = delivery_at(s, no);
	uint32_t *at = bucket_of(s, d->id);
	while (*at != no) {
		assert(*at);
		at = &delivery_at(s, *at)->index_next;
	}
	*at = d->index_next;
	d->index_next = 0;
}

static uint32_t first_with_id(const struct delivery_slab *s, uint32_t no, uint64_t id)
{
	while (no && delivery_at(s, no)->id != id)
		no = delivery_at(s, no)->index_next;
	return no;
}

uint32_t delivery_index_find(const struct delivery_slab *s, uint64_t id)
{
	return first_with_id(s, *bucket_of(s, id), id);
}

uint32_t delivery_index_next(const struct delivery_slab *s, uint32_t no)
{
	const struct delivery *d = delivery_at(s, no);
	return first_with_id(s, d->index_next, d->id);
}

/* --- lists --------------------------------------------------------------------------------------------- */

void delivery_list_add_tail(struct delivery_slab *s, struct delivery_list *l, uint32_t no)
{
	struct delivery *d = delivery_at(s, no);
	d->prev = l->tail;
	d->next = 0;
	if (l->tail)
		delivery_at(s, l->tail)->next = no;
	else
		l->head = no;
	l->tail = no;
}

void delivery_list_add_head(struct delivery_slab *s, struct delivery_list *l, uint32_t no)
{
	struct delivery *d = delivery_at(s, no);
	d->prev = 0;
	d->next = l->head;
	if (l->head)
		delivery_at(s, l->head)->prev = no;
	else
		l->tail = no;
	l->head = no;
}

void delivery_list_remove(struct delivery_slab *s, struct delivery_list *l, uint32_t no)
{
	struct delivery *d = delivery_at(s, no);
	if (d->prev)
		delivery_at(s, d->prev)->next = d->next;
	else
		l->head = d->next;
	if (d->next)
		delivery_at(s, d->next)->prev = d->prev;
	else
		l->tail = d->prev;
	d->prev = d->next = 0;
}
