#include "config.h"
#include "spool/chunk.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include "base/mem.h"

#define KEPT_MAX 512u /* of each size: 12 MB in all */

struct free_chunk {
	struct free_chunk *next;
};

struct chunks {
	pthread_mutex_t lock;
	struct shelf {
		struct free_chunk *first;
		unsigned n;
	} shelves[2];
	_Atomic uint64_t in_use, pending;
	bool closed;
};

struct chunks *chunks_new(void)
{
	struct chunks *c = mem_zalloc(sizeof(*c));

	(void)pthread_mutex_init(&c->lock, NULL);
	return c;
}

static struct shelf *shelf_of(struct chunks *c, size_t size)
{
	assert(size == CHUNK_SMALL || size == CHUNK_LARGE);
	return &c->shelves[size == CHUNK_LARGE];
}

static void chunks_free(struct chunks *c)
{
	for (size_t i = 0; i < array_len(c->shelves); i++) {
		while (c->shelves[i].first != NULL) {
			struct free_chunk *f = c->shelves[i].first;

			c->shelves[i].first = f->next;
			mem_free(&f);
		}
	}
	(void)pthread_mutex_destroy(&c->lock);
	mem_free(&c);
}

void chunks_close(struct chunks **chunks_ptr)
{
	struct chunks *c = *chunks_ptr;
	bool last;

	*chunks_ptr = NULL;
	if (c == NULL)
		return;
	(void)pthread_mutex_lock(&c->lock);
	c->closed = true;
	last = atomic_load(&c->in_use) == 0;
	(void)pthread_mutex_unlock(&c->lock);
	if (last)
		chunks_free(c);
}

void *chunk_get(struct chunks *c, size_t size)
{
	struct shelf *shelf = shelf_of(c, size);
	struct free_chunk *f;

	(void)pthread_mutex_lock(&c->lock);
	f = shelf->first;
	if (f != NULL) {
		shelf->first = f->next;
		shelf->n--;
	}
	(void)atomic_fetch_add_explicit(&c->in_use, size, memory_order_relaxed);
	(void)pthread_mutex_unlock(&c->lock);
	return f != NULL ? (void *)f : mem_alloc(size);
}

void chunk_put(struct chunks *c, void *chunk, size_t size)
{
	struct shelf *shelf = shelf_of(c, size);
	struct free_chunk *f = chunk;
	bool last;

	(void)pthread_mutex_lock(&c->lock);
	if (shelf->n < KEPT_MAX) {
		f->next = shelf->first;
		shelf->first = f;
		shelf->n++;
		f = NULL;
	}
	last = atomic_fetch_sub_explicit(&c->in_use, size, memory_order_relaxed) == size && c->closed;
	(void)pthread_mutex_unlock(&c->lock);
	mem_free(&f);
	if (last)
		chunks_free(c);
}

uint64_t chunks_bytes(struct chunks *c)
{
	return atomic_load_explicit(&c->in_use, memory_order_relaxed);
}

void chunks_pending_add(struct chunks *c, uint64_t bytes)
{
	(void)atomic_fetch_add_explicit(&c->pending, bytes, memory_order_relaxed);
}

void chunks_pending_sub(struct chunks *c, uint64_t bytes)
{
	(void)atomic_fetch_sub_explicit(&c->pending, bytes, memory_order_relaxed);
}

uint64_t chunks_pending(struct chunks *c)
{
	return atomic_load_explicit(&c->pending, memory_order_relaxed);
}
