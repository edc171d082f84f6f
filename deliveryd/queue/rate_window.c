#include "queue/rate_window.h"

#include <assert.h>
#include <stdlib.h>
#include "base/clock.h"
#include "base/mem.h"

#define GROUPS_MAX (RATE_SUB_WINDOWS + 1) /* they begin a sub-window apart, and one is partly over */
#define PATIENCE_SHARE 200
#define PATIENCE_MIN_US SECOND_US /* but no more than half the window */
#define ERA_EVENTS 64
/* Even flow: so much faster than the rate, and so far behind may be caught up at once. */
#define PACE_NUM 4
#define PACE_DEN 5
#define PACE_BEHIND_SHARE 64

static uint64_t length_us(const struct rate_window *w)
{
	return w->rate.seconds * SECOND_US;
}

void rate_window_init(struct rate_window *w, struct rate rate)
{
	*w = (struct rate_window){.rate = rate};
}

void rate_window_free(struct rate_window *w)
{
	assert(w->under_way == 0);
	mem_free(&w->groups);
	*w = (struct rate_window){0};
}

void rate_window_set(struct rate_window *w, struct rate rate)
{
	w->rate = rate;
	w->pace_us = w->denied_us = 0;
}

uint64_t rate_window_patience_us(const struct rate_window *w)
{
	uint64_t share = length_us(w) / PATIENCE_SHARE, half = length_us(w) / 2;
	uint64_t least = PATIENCE_MIN_US < half ? PATIENCE_MIN_US : half;
	return share > least ? share : least;
}

static uint64_t gap_us(const struct rate_window *w)
{
	return length_us(w) * PACE_NUM / ((uint64_t)w->rate.count * PACE_DEN);
}

/* --- what is done ------------------------------------------------------------------------------------------------ */

static struct rate_group *group_at(const struct rate_window *w, uint32_t i)
{
	return &w->groups[(w->first + i) % w->size];
}

static uint64_t last_us(const struct rate_group *g)
{
	return g->first_us + g->length_us;
}

static void grow(struct rate_window *w)
{
	uint32_t size = w->size ? w->size * 2 : 4;
	if (size > GROUPS_MAX)
		size = GROUPS_MAX;
	struct rate_group *more = mem_array(NULL, size, sizeof(*more));
	for (uint32_t i = 0; i < w->n_groups; i++)
		more[i] = *group_at(w, i);
	free(w->groups);
	w->groups = more;
	w->first = 0;
	w->size = size;
}

static void forget_first(struct rate_window *w)
{
	w->done -= group_at(w, 0)->n;
	w->first = (w->first + 1) % w->size;
	w->n_groups--;
}

static void merge_first(struct rate_window *w)
{
	group_at(w, 1)->n += group_at(w, 0)->n;
	w->done += group_at(w, 0)->n;
	forget_first(w);
}

/* Later than it was is on the safe side: groups are in the order of time, and there is room for so many. */
static void add_done(struct rate_window *w, uint64_t at_us, uint32_t n)
{
	struct rate_group *newest = w->n_groups ? group_at(w, w->n_groups - 1) : NULL;
	w->done += n;
	if (newest && at_us < last_us(newest))
		at_us = last_us(newest);
	bool full = w->n_groups == GROUPS_MAX; /* the rate has changed meanwhile */
	if (newest && (at_us - newest->first_us < length_us(w) / RATE_SUB_WINDOWS || full) &&
	        at_us - newest->first_us <= UINT32_MAX) {
		newest->length_us = (uint32_t)(at_us - newest->first_us);
		newest->n += n;
		return;
	}
	if (full)
		merge_first(w);
	if (w->n_groups == w->size)
		grow(w);
	w->n_groups++;
	*group_at(w, w->n_groups - 1) = (struct rate_group){.first_us = at_us, .n = n};
}

void rate_window_restore(struct rate_window *w, uint64_t done_us, uint32_t n)
{
	add_done(w, done_us, n);
}

/* --- tickets --------------------------------------------------------------------------------------------------------- */

static void leave_list(struct rate_ticket *t)
{
	struct rate_window *w = t->of;
	*(t->prev ? &t->prev->next : &w->oldest) = t->next;
	*(t->next ? &t->next->prev : &w->newest) = t->prev;
	t->prev = t->next = NULL;
}

void rate_ticket_reserve(struct rate_ticket *t, struct rate_window *w, uint64_t now_us)
{
	assert(t->state == TICKET_NONE);
	*t = (struct rate_ticket){.of = w, .state = TICKET_RESERVED};
	w->under_way++;
	w->pace_us = (w->pace_us > now_us ? w->pace_us : now_us) + gap_us(w);
	if (w->pace_us > now_us + length_us(w))
		w->pace_us = now_us + length_us(w);
}

void rate_ticket_begin(struct rate_ticket *t, uint64_t now_us)
{
	struct rate_window *w = t->of;
	assert(t->state == TICKET_RESERVED);
	t->state = TICKET_BEGUN;
	t->begun_us = now_us;
	t->prev = w->newest;
	*(w->newest ? &w->newest->next : &w->oldest) = t;
	w->newest = t;
}

void rate_ticket_give_back(struct rate_ticket *t)
{
	if (t->state == TICKET_NONE)
		return;
	if (t->state == TICKET_BEGUN)
		leave_list(t);
	if (t->state != TICKET_LATE)
		t->of->under_way--;
	t->of->pace_us -= t->of->pace_us > gap_us(t->of) ? gap_us(t->of) : 0;
	*t = (struct rate_ticket){0};
}

/*
 * What any event takes at least: nothing before enough of them have been seen, and less the more they differ, since the
 * fastest of 64 need not be the fastest there can be.
 */
static uint64_t usual_us(const struct rate_window *w)
{
	uint64_t margin = w->fastest_us / 32 + (w->slowest_us - w->fastest_us) / 8, half = length_us(w) / 2;
	uint64_t usual = w->fastest_us > margin ? w->fastest_us - margin : 0;
	return usual < half ? usual : half;
}

static void look_how_fast(struct rate_window *w, uint64_t took_us)
{
	if (took_us < w->fastest_us)
		w->fastest_us = took_us;
	if (took_us > w->slowest_us)
		w->slowest_us = took_us;
	if (w->era_n == 0 || took_us < w->era_fastest)
		w->era_fastest = took_us;
	if (w->era_n == 0 || took_us > w->era_slowest)
		w->era_slowest = took_us;
	if (++w->era_n < ERA_EVENTS)
		return;
	w->fastest_us = w->era_fastest;
	w->slowest_us = w->era_slowest;
	w->era_n = 0;
}

/* It counts at that time. */
static void leave(struct rate_ticket *t, uint64_t at_us)
{
	leave_list(t);
	t->of->under_way--;
	add_done(t->of, at_us, 1);
}

void rate_ticket_done(struct rate_ticket *t, uint64_t now_us)
{
	struct rate_window *w = t->of;
	if (t->state == TICKET_NONE)
		return;
	assert(t->state == TICKET_BEGUN || t->state == TICKET_LATE);
	uint64_t took_us = now_us - t->begun_us, usual = usual_us(w);
	if (t->state == TICKET_BEGUN)
		leave(t, took_us > usual ? now_us - usual : t->begun_us);
	look_how_fast(w, took_us);
	*t = (struct rate_ticket){0};
}

/* --- asking ------------------------------------------------------------------------------------------------------------- */

static void bring_up_to(struct rate_window *w, uint64_t now_us)
{
	uint64_t patience = rate_window_patience_us(w), usual = usual_us(w);
	while (w->oldest && w->oldest->begun_us + usual + patience <= now_us) {
		struct rate_ticket *late = w->oldest;
		leave(late, late->begun_us + patience);
		late->state = TICKET_LATE;
	}
	while (w->n_groups && last_us(group_at(w, 0)) + length_us(w) < now_us)
		forget_first(w);
}

/* When the first of what is in it will be over. */
static uint64_t first_over_us(const struct rate_window *w, uint64_t now_us)
{
	if (w->n_groups)
		return last_us(group_at(w, 0)) + length_us(w) + 1;
	uint64_t begun = w->oldest ? w->oldest->begun_us : now_us;
	return begun + rate_window_patience_us(w) + length_us(w) + 1; /* begun is not long ago */
}

static bool paced(const struct rate_window *w, uint64_t now_us)
{
	return w->denied_us && now_us < w->denied_us + length_us(w);
}

bool rate_window_allows(struct rate_window *w, uint64_t now_us, uint64_t *until)
{
	uint64_t behind = length_us(w) / PACE_BEHIND_SHARE;
	bring_up_to(w, now_us);
	if (w->done + w->under_way >= w->rate.count)
		*until = first_over_us(w, now_us);
	else if (paced(w, now_us) && w->pace_us > now_us + behind)
		*until = w->pace_us - behind;
	else
		return true;
	w->denied_us = *until;
	return false;
}

bool rate_window_count(struct rate_window *w, uint64_t now_us)
{
	bring_up_to(w, now_us);
	if (w->done + w->under_way >= w->rate.count)
		return false;
	add_done(w, now_us, 1);
	return true;
}

uint64_t rate_window_empty_us(struct rate_window *w, uint64_t now_us)
{
	bring_up_to(w, now_us);
	if (w->under_way)
		return now_us + rate_window_patience_us(w) + length_us(w) + 1;
	return w->n_groups ? last_us(group_at(w, w->n_groups - 1)) + length_us(w) + 1 : now_us;
}
