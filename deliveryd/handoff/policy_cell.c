#include "config.h"
#include "handoff/handoff.h"

#include <pthread.h>
#include <string.h>
#include "base/mem.h"

/* What one reload brought: shared by the views that know it. */
struct moment {
	struct policy *policy;   /* shares */
	struct stamp_keys *keys; /* owns */
	atomic_uint refs;
};

struct counted_view {
	struct policy_view view;
	struct moment *moments[1 + POLICY_KEPT_MAX]; /* shares; [0] is the one in force */
	atomic_uint refs;
};

struct policy_cell {
	/* Taken once per transaction, for a pointer and a count: nobody waits for anything under it. */
	pthread_mutex_t lock;
	struct counted_view *now;
};

static struct moment *moment_new(struct policy *takes_ref, struct stamp_keys *takes)
{
	struct moment *m = mem_zalloc(sizeof(*m));

	m->policy = takes_ref;
	m->keys = takes;
	atomic_init(&m->refs, 1);
	return m;
}

static struct moment *moment_ref(struct moment *m)
{
	atomic_fetch_add(&m->refs, 1);
	return m;
}

static void moment_unref(struct moment *m)
{
	if (atomic_fetch_sub(&m->refs, 1) != 1)
		return;
	policy_unref(&m->policy);
	if (m->keys)
		stamp_keys_free(&m->keys);
	mem_free(&m);
}

static struct counted_view *view_new(struct moment *takes)
{
	struct counted_view *v = mem_zalloc(sizeof(*v));

	v->view.policy = takes->policy;
	v->view.keys = takes->keys;
	v->moments[0] = takes;
	atomic_init(&v->refs, 1);
	return v;
}

static void view_add_previous(struct counted_view *v, struct moment *m)
{
	v->view.previous[v->view.n_previous] = (struct policy_previous){m->policy, m->keys};
	v->moments[1 + v->view.n_previous++] = moment_ref(m);
}

/*
 * The one it replaces comes first. With too many the oldest stays, because that is the one the milter had when both
 * last agreed, and of the others the older give way.
 */
static void view_keep(struct counted_view *v, const struct counted_view *before)
{
	unsigned n = before->view.n_previous;

	view_add_previous(v, before->moments[0]);
	for (unsigned i = 1; i <= n; i++)
		if (i == n || v->view.n_previous + 1 < POLICY_KEPT_MAX)
			view_add_previous(v, before->moments[i]);
}

static void view_unref(struct counted_view *v)
{
	if (atomic_fetch_sub(&v->refs, 1) != 1)
		return;
	for (unsigned i = 0; i <= v->view.n_previous; i++)
		moment_unref(v->moments[i]);
	mem_free(&v);
}

struct policy_cell *policy_cell_new(struct policy *takes_ref, struct stamp_keys *takes)
{
	struct policy_cell *cell = mem_zalloc(sizeof(*cell));

	pthread_mutex_init(&cell->lock, NULL);
	cell->now = view_new(moment_new(takes_ref, takes));
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

/* Only one thread changes a cell: what is read here outside the lock stays. */
static void change(struct policy_cell *cell, struct counted_view *next)
{
	struct counted_view *before;

	pthread_mutex_lock(&cell->lock);
	before = cell->now;
	cell->now = next;
	pthread_mutex_unlock(&cell->lock);
	view_unref(before);
}

void policy_cell_take(struct policy_cell *cell, struct policy *takes_ref, struct stamp_keys *takes)
{
	struct counted_view *next = view_new(moment_new(takes_ref, takes));

	view_keep(next, cell->now);
	change(cell, next);
}

void policy_cell_drop(struct policy_cell *cell)
{
	change(cell, view_new(moment_ref(cell->now->moments[0])));
}

void policy_cell_set(struct policy_cell *cell, struct policy *takes_ref, struct stamp_keys *takes)
{
	change(cell, view_new(moment_new(takes_ref, takes)));
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
