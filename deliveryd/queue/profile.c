#include "queue/profile.h"

#include <assert.h>
#include <stdlib.h>
#include "base/mem.h"

/*
 * refs counts the users outside the table. Only the queue's loop looks entries up and only it frees them, so one that
 * fell to zero on another thread may be taken up again here without a race.
 */
struct entry {
	struct entry *next;
	uint64_t hash;
	struct profile profile;
};

struct profile_table {
	struct entry **buckets;
	uint32_t n_buckets, n; /* n_buckets: a power of two */
};

struct profile_table *profile_table_new(void)
{
	struct profile_table *t = mem_zalloc(sizeof(*t));
	t->n_buckets = 64;
	t->buckets = mem_zalloc(t->n_buckets * sizeof(struct entry *));
	return t;
}

static void entry_free(struct entry *e)
{
	conn_options_free(&e->profile.o);
	free(e);
}

void profile_table_free(struct profile_table **pt)
{
	struct profile_table *t = *pt;
	if (!t)
		return;
	for (uint32_t b = 0; b < t->n_buckets; b++) {
		while (t->buckets[b]) {
			struct entry *e = t->buckets[b];
			t->buckets[b] = e->next;
			assert(atomic_load(&e->profile.refs) == 0);
			entry_free(e);
		}
	}
	free(t->buckets);
	mem_free(pt);
}

static void rebuild(struct profile_table *t)
{
	struct entry *kept = NULL, *next;
	t->n = 0;
	for (uint32_t b = 0; b < t->n_buckets; b++) {
		for (struct entry *e = t->buckets[b]; e; e = next) {
			next = e->next;
			if (atomic_load_explicit(&e->profile.refs, memory_order_acquire) == 0) {
				entry_free(e);
				continue;
			}
			e->next = kept;
			kept = e;
			t->n++;
		}
	}
	free(t->buckets);
	while (t->n_buckets < t->n * 2)
		t->n_buckets *= 2;
	t->buckets = mem_zalloc(t->n_buckets * sizeof(struct entry *));
	for (struct entry *e = kept; e; e = next) {
		next = e->next;
		struct entry **bucket = &t->buckets[e->hash & (t->n_buckets - 1)];
		e->next = *bucket;
		*bucket = e;
	}
}

struct profile *profile_intern(struct profile_table *t, const struct conn_options *o)
{
	uint64_t hash = conn_options_hash(o);
	struct entry *e = t->buckets[hash & (t->n_buckets - 1)];
	while (e && (e->hash != hash || !conn_options_equal(&e->profile.o, o)))
		e = e->next;
	if (e)
		return profile_ref(&e->profile);
	if (t->n >= t->n_buckets)
		rebuild(t);
	e = mem_zalloc(sizeof(*e));
	e->hash = hash;
	conn_options_copy(&e->profile.o, o);
	atomic_init(&e->profile.refs, 1);
	struct entry **bucket = &t->buckets[hash & (t->n_buckets - 1)];
	e->next = *bucket;
	*bucket = e;
	t->n++;
	return &e->profile;
}

struct profile *profile_ref(struct profile *p)
{
	atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
	return p;
}

void profile_unref(struct profile **pp)
{
	if (!*pp)
		return;
	unsigned before = atomic_fetch_sub_explicit(&(*pp)->refs, 1, memory_order_release);
	assert(before > 0);
	(void)before;
	*pp = NULL;
}
