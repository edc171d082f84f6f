#include "config.h"
#include "spool/chunk.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
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
	atomic_uint refs;
	_Atomic uint64_t in_use;
	struct chunks_counts counts;
};

struct chunks *chunks_new(void)
{
	struct chunks *c = mem_zalloc(sizeof(*c));

	(void)pthread_mutex_init(&c->lock, NULL);
	atomic_init(&c->refs, 1);
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

struct chunks *chunks_ref(struct chunks *c)
{
	(void)atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

void chunks_unref(struct chunks **chunks_ptr)
{
	struct chunks *c = *chunks_ptr;

	*chunks_ptr = NULL;
	if (c != NULL && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
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
	(void)pthread_mutex_unlock(&c->lock);
	(void)atomic_fetch_add_explicit(&c->in_use, size, memory_order_relaxed);
	return f != NULL ? (void *)f : mem_alloc(size);
}

void chunk_put(struct chunks *c, void *chunk, size_t size)
{
	struct shelf *shelf = shelf_of(c, size);
	struct free_chunk *f = chunk;

	(void)pthread_mutex_lock(&c->lock);
	if (shelf->n < KEPT_MAX) {
		f->next = shelf->first;
		shelf->first = f;
		shelf->n++;
		f = NULL;
	}
	(void)pthread_mutex_unlock(&c->lock);
	(void)atomic_fetch_sub_explicit(&c->in_use, size, memory_order_relaxed);
	mem_free(&f);
}

uint64_t chunks_bytes(struct chunks *c)
{
	return atomic_load_explicit(&c->in_use, memory_order_relaxed);
}

struct chunks_counts *chunks_counts(struct chunks *c)
{
	return &c->counts;
}
