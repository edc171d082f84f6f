#include "queue/lease.h"

#include <assert.h>
#include <stddef.h>
#include "base/mem.h"

void link_init(struct link *l)
{
	l->prev = l->next = l;
}

bool link_linked(const struct link *l)
{
	return l->next != l;
}

void link_add_tail(struct link *head, struct link *l)
{
	assert(!link_linked(l));
	l->prev = head->prev;
	l->next = head;
	head->prev->next = l;
	head->prev = l;
}

void link_remove(struct link *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	link_init(l);
}

void limit_init(struct limit *l, uint32_t max)
{
	*l = (struct limit){.max = max};
	link_init(&l->waiters);
	link_init(&l->idle);
	link_init(&l->wake_link);
}

bool limit_has_room(const struct limit *l)
{
	return l->used < l->max;
}

bool limit_idle(const struct limit *l)
{
	return l->used == 0 && l->n_waiting == 0;
}

void waiter_init(struct waiter *w, void *who)
{
	w->who = who;
	link_init(&w->link);
	w->at = NULL;
}

void waiter_wait(struct waiter *w, struct limit *l)
{
	if (w->at == l)
		return;
	waiter_leave(w);
	link_add_tail(&l->waiters, &w->link);
	l->n_waiting++;
	w->at = l;
}

void waiter_leave(struct waiter *w)
{
	if (!w->at)
		return;
	link_remove(&w->link);
	w->at->n_waiting--;
	w->at = NULL;
}

struct waiter *limit_first_waiter(struct limit *l)
{
	return link_linked(&l->waiters) ? container_of(l->waiters.next, struct waiter, link) : NULL;
}

/* Scarcest: the one with the least room; waiting there wastes nobody else's. With several full ones, the smallest. */
struct limit *limits_blocking(struct limit *const *wanted, unsigned n, const struct limit *woken)
{
	struct limit *scarcest = NULL;
	for (unsigned i = 0; i < n; i++) {
		bool room = limit_has_room(wanted[i]) && (wanted[i]->n_waiting == 0 || wanted[i] == woken);
		if (!room && (!scarcest || wanted[i]->max < scarcest->max))
			scarcest = wanted[i];
	}
	return scarcest;
}

void leases_take(struct leases *s, struct limit *const *wanted, unsigned n)
{
	assert(n <= LEASES_MAX);
	s->n = n;
	s->leaving = false;
	for (unsigned i = 0; i < n; i++) {
		assert(limit_has_room(wanted[i]));
		wanted[i]->used++;
		s->held[i] = (struct lease){.limit = wanted[i], .of = s};
		link_init(&s->held[i].idle_link);
	}
}

void leases_set_idle(struct leases *s, bool idle)
{
	for (unsigned i = 0; i < s->n; i++) {
		link_remove(&s->held[i].idle_link);
		if (idle)
			link_add_tail(&s->held[i].limit->idle, &s->held[i].idle_link);
	}
}

void leases_set_leaving(struct leases *s)
{
	if (s->leaving)
		return;
	s->leaving = true;
	leases_set_idle(s, false);
	for (unsigned i = 0; i < s->n; i++)
		s->held[i].limit->leaving++;
}

static uint32_t waiting_at(const struct limit *l, const struct waiter *mine, unsigned n_mine)
{
	uint32_t n = 0;
	for (unsigned i = 0; i < n_mine; i++)
		n += mine[i].at == l;
	return n;
}

bool leases_wanted_by_others(const struct leases *s, const struct waiter *mine, unsigned n_mine)
{
	for (unsigned i = 0; i < s->n; i++) {
		const struct limit *l = s->held[i].limit;
		uint32_t others = l->n_waiting - waiting_at(l, mine, n_mine);
		/* over: a reload has lowered the limit below what is open */
		uint32_t over = l->used > l->max ? l->used - l->max : 0;
		if (others + over > l->leaving)
			return true;
	}
	return false;
}

void leases_give(struct leases *s, void (*freed)(void *ctx, struct limit *), void *ctx)
{
	leases_set_idle(s, false);
	for (unsigned i = 0; i < s->n; i++) {
		struct limit *l = s->held[i].limit;
		assert(l->used > 0);
		l->used--;
		if (s->leaving)
			l->leaving--;
		if (l->n_waiting && limit_has_room(l))
			freed(ctx, l);
	}
	s->n = 0;
	s->leaving = false;
}

static bool is_among(const struct limit *l, struct limit *const *list, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (list[i] == l)
			return true;
	}
	return false;
}

static unsigned limits_held(const struct leases *s, struct limit *held[LEASES_MAX])
{
	for (unsigned i = 0; i < s->n; i++)
		held[i] = s->held[i].limit;
	return s->n;
}

bool leases_could_change(
        const struct leases *s, struct limit *const *wanted, unsigned n, const struct limit *woken)
{
	struct limit *held[LEASES_MAX];
	unsigned n_held = limits_held(s, held);
	for (unsigned i = 0; i < n; i++) {
		if (!is_among(wanted[i], held, n_held) && limits_blocking(&wanted[i], 1, woken))
			return false;
	}
	return !s->leaving;
}

void leases_change(struct leases *s, struct limit *const *wanted, unsigned n,
        void (*freed)(void *ctx, struct limit *), void *ctx)
{
	struct limit *held[LEASES_MAX];
	unsigned n_held = limits_held(s, held);
	assert(n <= LEASES_MAX && !s->leaving);
	leases_set_idle(s, false);
	s->n = n;
	for (unsigned i = 0; i < n; i++) {
		wanted[i]->used += !is_among(wanted[i], held, n_held);
		s->held[i] = (struct lease){.limit = wanted[i], .of = s};
		link_init(&s->held[i].idle_link);
	}
	for (unsigned i = 0; i < n_held; i++) {
		if (is_among(held[i], wanted, n))
			continue;
		held[i]->used--;
		if (held[i]->n_waiting && limit_has_room(held[i]))
			freed(ctx, held[i]);
	}
}

struct leases *limit_longest_idle(struct limit *l)
{
	return link_linked(&l->idle) ? container_of(l->idle.next, struct lease, idle_link)->of : NULL;
}
