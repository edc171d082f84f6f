#include "config.h"
#include "spool/index.h"

#include <assert.h>
#include <string.h>
#include "base/mem.h"

#define INDEX_SLOTS_MIN 16 /* of a table */

_Static_assert(sizeof(struct index_entry) <= 40, "a queued message costs little");

void index_init(struct index *ix, void (*live)(void *ctx, const struct where *, bool more), void *ctx)
{
	*ix = (struct index){.live = live, .ctx = ctx};
}

static void entry_free(struct index_entry *e)
{
	if (!e->has_extra)
		return;
	mem_free(&e->extra->more);
	mem_free(&e->extra);
}

void index_free(struct index *ix)
{
	for (size_t t = 0; t < INDEX_TABLES; t++) {
		struct index_table *table = &ix->tables[t];

		for (size_t i = 0; i < table->n_slots; i++)
			if (table->slots[i].id != 0)
				entry_free(&table->slots[i]);
		mem_free(&table->slots);
		table->n_slots = table->n = 0;
	}
	ix->n_slots = ix->n = 0;
}

/* ---- the tables: linear probing, no tombstones ---- */

/* ids follow the clock: the multiplication spreads them, the high bits are the good ones */
static uint64_t mixed(uint64_t id)
{
	return id * 0x9e3779b97f4a7c15u;
}

static struct index_table *table_of(const struct index *ix, uint64_t id)
{
	return (struct index_table *)&ix->tables[mixed(id) >> 20 & (INDEX_TABLES - 1)];
}

static size_t slot_of(const struct index_table *t, uint64_t id)
{
	return (size_t)(((unsigned __int128)mixed(id) * t->n_slots) >> 64);
}

static struct index_entry *slot_for(const struct index_table *t, uint64_t id)
{
	size_t i = slot_of(t, id);

	while (t->slots[i].id != 0 && t->slots[i].id != id)
		i = i + 1 < t->n_slots ? i + 1 : 0;
	return &t->slots[i];
}

static void table_resize(struct index *ix, struct index_table *t, size_t n_slots)
{
	struct index_entry *old = t->slots;
	size_t n_old = t->n_slots;

	t->slots = mem_zalloc(n_slots * sizeof(*t->slots));
	t->n_slots = n_slots;
	ix->n_slots += n_slots - n_old;
	for (size_t i = 0; i < n_old; i++)
		if (old[i].id != 0)
			*slot_for(t, old[i].id) = old[i];
	mem_free(&old);
}

/* At most 5/6 full: the memory is for the messages, and a probe of some slots is cheap. */
static void table_fit(struct index *ix, struct index_table *t)
{
	if (t->n_slots == 0)
		table_resize(ix, t, INDEX_SLOTS_MIN);
	else if (t->n >= t->n_slots / 6 * 5)
		table_resize(ix, t, t->n_slots + t->n_slots / 2);
	else if (t->n_slots > INDEX_SLOTS_MIN * 4 && t->n < t->n_slots / 8)
		table_resize(ix, t, t->n * 2 > INDEX_SLOTS_MIN ? t->n * 2 : INDEX_SLOTS_MIN);
}

struct index_entry *index_find(const struct index *ix, uint64_t id)
{
	const struct index_table *t = table_of(ix, id);
	struct index_entry *e;

	if (t->n == 0 || id == 0)
		return NULL;
	e = slot_for(t, id);
	return e->id == id ? e : NULL;
}

/* Closes the gap, so that no search ends early: who would rather stand in the gap moves there. */
static void slot_clear(struct index *ix, struct index_entry *e)
{
	struct index_table *t = table_of(ix, e->id);
	size_t gap = (size_t)(e - t->slots), i = gap;

	for (;;) {
		size_t home;

		i = i + 1 < t->n_slots ? i + 1 : 0;
		if (t->slots[i].id == 0)
			break;
		home = slot_of(t, t->slots[i].id);
		if (gap <= i ? (home <= gap || home > i) : (home <= gap && home > i)) {
			t->slots[gap] = t->slots[i];
			gap = i;
		}
	}
	memset(&t->slots[gap], 0, sizeof(t->slots[gap]));
	t->n--;
	ix->n--;
}

/* ---- entries ---- */

static void live_more(struct index *ix, const struct where *w)
{
	if (w->segment != 0)
		ix->live(ix->ctx, w, true);
}

static void live_less(struct index *ix, const struct where *w)
{
	if (w->segment != 0)
		ix->live(ix->ctx, w, false);
}

static void replace(struct index *ix, struct where *place, const struct where *with)
{
	live_less(ix, place);
	*place = *with;
	live_more(ix, place);
}

static void forget_places(struct index *ix, struct index_entry *e)
{
	const struct where nowhere = {0};

	live_less(ix, &e->at);
	if (!e->has_extra) {
		replace(ix, &e->state, &nowhere);
		return;
	}
	for (uint32_t i = 0; i < e->extra->n_more; i++)
		live_less(ix, &e->extra->more[i]);
	mem_free(&e->extra->more);
	e->extra->n_more = 0;
	for (uint32_t i = 0; i < e->extra->n_deliveries; i++) {
		replace(ix, &e->extra->d[i].state, &nowhere);
		replace(ix, &e->extra->d[i].move, &nowhere);
	}
}

static struct index_extra *need_extra(struct index_entry *e, uint32_t n_deliveries)
{
	struct index_extra *x;

	if (e->has_extra)
		return e->extra;
	x = mem_zalloc(sizeof(*x) + n_deliveries * sizeof(x->d[0]));
	x->n_deliveries = x->n_open = n_deliveries;
	x->d[0].state = e->state;
	e->has_extra = true;
	e->extra = x;
	return x;
}

struct index_entry *index_put(struct index *ix, uint64_t id, const struct index_version *v)
{
	struct index_table *t = table_of(ix, id);
	struct index_entry *e;
	struct index_extra *x;

	assert(id != 0 && v->n_deliveries > 0);
	table_fit(ix, t);
	e = slot_for(t, id);
	if (e->id == id) {
		forget_places(ix, e);
	} else {
		*e = (struct index_entry){.id = id};
		t->n++;
		ix->n++;
	}
	e->at = v->at;
	live_more(ix, &e->at);
	if (v->n_deliveries == 1 && v->n_more == 0 && v->body_file == 0 && !e->has_extra)
		return e;
	x = need_extra(e, v->n_deliveries);
	assert(x->n_deliveries == v->n_deliveries);
	x->body_file = v->body_file;
	x->n_more = v->n_more;
	if (v->n_more > 0) {
		x->more = mem_array(NULL, v->n_more, sizeof(*x->more));
		memcpy(x->more, v->more, v->n_more * sizeof(*x->more));
	}
	for (uint32_t i = 0; i < v->n_more; i++)
		live_more(ix, &x->more[i]);
	return e;
}

void index_state(struct index *ix, struct index_entry *e, uint32_t delivery, const struct where *w)
{
	assert(delivery < index_deliveries(e));
	replace(ix, e->has_extra ? &e->extra->d[delivery].state : &e->state, w);
}

void index_move(struct index *ix, struct index_entry *e, uint32_t delivery, const struct where *w)
{
	assert(delivery < index_deliveries(e));
	replace(ix, &need_extra(e, 1)->d[delivery].move, w);
}

bool index_done(struct index *ix, struct index_entry *e, uint32_t delivery)
{
	const struct where nowhere = {0};
	struct index_delivery *d;

	assert(delivery < index_deliveries(e));
	if (!e->has_extra)
		return true;
	d = &e->extra->d[delivery];
	if (d->done)
		return false;
	d->done = true;
	replace(ix, &d->state, &nowhere);
	replace(ix, &d->move, &nowhere);
	return --e->extra->n_open == 0;
}

bool index_is_done(const struct index_entry *e, uint32_t delivery)
{
	return e->has_extra && e->extra->d[delivery].done;
}

void index_remove(struct index *ix, struct index_entry *e)
{
	forget_places(ix, e);
	entry_free(e);
	slot_clear(ix, e);
}

static void renumber(struct index *ix, struct where *place, uint32_t from, uint32_t to)
{
	struct where there = *place;

	if (place->segment != from)
		return;
	there.segment = to;
	replace(ix, place, &there);
}

static void renumber_entry(struct index *ix, struct index_entry *e, uint32_t from, uint32_t to)
{
	renumber(ix, &e->at, from, to);
	if (!e->has_extra) {
		renumber(ix, &e->state, from, to);
		return;
	}
	for (uint32_t k = 0; k < e->extra->n_more; k++)
		renumber(ix, &e->extra->more[k], from, to);
	for (uint32_t k = 0; k < e->extra->n_deliveries; k++) {
		renumber(ix, &e->extra->d[k].state, from, to);
		renumber(ix, &e->extra->d[k].move, from, to);
	}
}

void index_renumber(struct index *ix, uint32_t from, uint32_t to)
{
	for (size_t t = 0; t < INDEX_TABLES; t++)
		for (size_t i = 0; i < ix->tables[t].n_slots; i++)
			if (ix->tables[t].slots[i].id != 0)
				renumber_entry(ix, &ix->tables[t].slots[i], from, to);
}

uint32_t index_deliveries(const struct index_entry *e)
{
	return e->has_extra ? e->extra->n_deliveries : 1;
}

uint64_t index_body_file(const struct index_entry *e)
{
	return e->has_extra ? e->extra->body_file : 0;
}

uint32_t index_more(const struct index_entry *e, const struct where **more)
{
	*more = e->has_extra ? e->extra->more : NULL;
	return e->has_extra ? e->extra->n_more : 0;
}

struct where index_newest_state(const struct index_entry *e, uint32_t delivery)
{
	return e->has_extra ? e->extra->d[delivery].state : e->state;
}

struct where index_newest_move(const struct index_entry *e, uint32_t delivery)
{
	return e->has_extra ? e->extra->d[delivery].move : (struct where){0};
}

/* *at: the table in the high half, its slot in the low one */
bool index_sweep(const struct index *ix, size_t *at, size_t n,
        void (*each)(void *ctx, const struct index_entry *), void *ctx)
{
	size_t table = *at >> 32, slot = *at & UINT32_MAX;

	for (; n > 0 && table < INDEX_TABLES; n--) {
		const struct index_table *t = &ix->tables[table];

		if (slot >= t->n_slots) {
			table++;
			slot = 0;
			continue;
		}
		if (t->slots[slot].id != 0)
			each(ctx, &t->slots[slot]);
		slot++;
	}
	*at = table << 32 | slot;
	return table < INDEX_TABLES;
}
