#include "config.h"
#include "handoff/handoff.h"

#include <pthread.h>
#include "base/mem.h"

struct counted_view {
	struct policy_view view;
	struct stamp_keys *keys; /* owns */
	atomic_uint refs;
};

struct policy_cell {
	/* Taken once per transaction, for a pointer and a count: nobody waits for anything under it. */
	pthread_mutex_t lock;
	struct counted_view *now;
};

static struct counted_view *view_new(struct policy *takes_ref, struct stamp_keys *takes)
{
	struct counted_view *v = mem_zalloc(sizeof(*v));

	v->view.policy = takes_ref;
	v->view.keys = v->keys = takes;
	atomic_init(&v->refs, 1);
	return v;
}

static void view_unref(struct counted_view *v)
{
	if (atomic_fetch_sub(&v->refs, 1) != 1)
		return;
	policy_unref(&v->view.policy);
	if (v->keys)
		stamp_keys_free(&v->keys);
	mem_free(&v);
}

struct policy_cell *policy_cell_new(struct policy *takes_ref, struct stamp_keys *takes)
{
	struct policy_cell *cell = mem_zalloc(sizeof(*cell));

	pthread_mutex_init(&cell->lock, NULL);
	cell->now = view_new(takes_ref, takes);
	return cell;
}

const struct policy_view *policy_cell_view(struct policy_cell *cell)
{
	struct counted_view *v;

	pthread_mutex_lock(&cell->lock);
	v = cell->now;
	atomic_fetch_add(&v->refs, 1);
	pthread_mutex_unlock(&cell->lock);
	return &v->view;
}

void policy_view_unref(const struct policy_view **view)
{
	if (!*view)
		return;
	view_unref(container_of(*view, struct counted_view, view));
	*view = NULL;
}

struct policy *policy_cell_get(struct policy_cell *cell)
{
	struct policy *policy;

	pthread_mutex_lock(&cell->lock);
	policy = policy_ref(cell->now->view.policy);
	pthread_mutex_unlock(&cell->lock);
	return policy;
}

void policy_cell_set(struct policy_cell *cell, struct policy *takes_ref, struct stamp_keys *takes)
{
	struct counted_view *next = view_new(takes_ref, takes), *before;

	pthread_mutex_lock(&cell->lock);
	before = cell->now;
	cell->now = next;
	pthread_mutex_unlock(&cell->lock);
	view_unref(before);
}

void policy_cell_free(struct policy_cell **p)
{
	struct policy_cell *cell = *p;

	if (!cell)
		return;
	view_unref(cell->now);
	pthread_mutex_destroy(&cell->lock);
	mem_free(p);
}
