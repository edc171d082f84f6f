#include "queue/queue_in.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>

/*
 * Curfews: while one of an option's windows is open, what it holds for is suspended. Each place that sets the option and
 * has been asked for is kept here with its state, by its text, so that a reload that leaves it alone changes nothing; a
 * timer looks again when the next window opens or closes, and at least every few minutes, since clocks are set.
 *
 * A window is open when its `from` has come later than its `to`.
 */
#define LOOK_US (300 * SECOND_US)

struct zone {
	char *name;           /* owns */
	struct time_zone *tz; /* owns */
	UT_hash_handle hh;
};

struct window {
	struct cron from, to;
	const struct time_zone *tz; /* borrows from the table */
};

struct curfew {
	char *text;             /* owns: the key; where it stands and what it says */
	char *where;            /* owns */
	struct window *windows; /* owns */
	size_t n;
	bool open;
	int64_t change_s;    /* wall clock: when that may change */
	uint32_t generation; /* in which it was asked for */
	UT_hash_handle hh;
};

static int64_t wall_s(const struct queue *q)
{
	return (int64_t)(loop_wall_us(q->loop) / SECOND_US);
}

static const struct time_zone *zone(struct queue *q, const char *name)
{
	struct zone *z;
	HASH_FIND_STR(q->zones, name, z);
	if (z)
		return z->tz;
	z = mem_zalloc(sizeof(*z));
	z->name = mem_strdup(name);
	z->tz = timezone_new(name, NULL);
	if (!z->tz) { /* it was there when the configuration was read */
		log_warning("time zone %s is gone from this machine: UTC is taken for it", name);
		z->tz = timezone_new("UTC", NULL);
	}
	HASH_ADD_KEYPTR(hh, q->zones, z->name, strlen(z->name), z);
	return z->tz;
}

static bool window_open(const struct window *w, int64_t now, int64_t *change_s)
{
	int64_t from, to, next;
	bool has_from = cron_last(&w->from, w->tz, now, &from), has_to = cron_last(&w->to, w->tz, now, &to);
	bool open = has_from && (!has_to || from > to);
	if (cron_next(open ? &w->to : &w->from, w->tz, now, &next) && next < *change_s)
		*change_s = next;
	return open;
}

static void look(struct queue *q, struct curfew *c)
{
	int64_t now = wall_s(q);
	c->open = false;
	c->change_s = INT64_MAX;
	for (size_t i = 0; i < c->n; i++)
		c->open |= window_open(&c->windows[i], now, &c->change_s);
}

static void tell(struct queue *q, const struct curfew *c)
{
	struct event e = {
	        .type = c->open ? EVENT_SUSPEND : EVENT_RESUME, .reason = "curfew", .detail = c->where};
	if (c->open && c->change_s < INT64_MAX)
		e.until_wall_us = (uint64_t)c->change_s * SECOND_US;
	event_post(q->events, &e);
	log_notice("%s: %s", c->where, c->open ? "begins" : "is over");
}

static void text_of(const struct curfew_list *l, struct str *out)
{
	str_add(out, l->where);
	for (size_t i = 0; i < l->n; i++)
		str_printf(out, "\n%s\t%s\t%s", l->windows[i].from_text, l->windows[i].to_text,
		        l->windows[i].timezone);
}

static struct curfew *curfew_new(struct queue *q, const struct curfew_list *l, const char *text)
{
	struct curfew *c = mem_zalloc(sizeof(*c));
	c->text = mem_strdup(text);
	c->where = mem_strdup(l->where);
	c->n = l->n;
	c->windows = mem_array(NULL, l->n, sizeof(*c->windows));
	for (size_t i = 0; i < l->n; i++)
		c->windows[i] = (struct window){
		        l->windows[i].from, l->windows[i].to, zone(q, l->windows[i].timezone)};
	HASH_ADD_KEYPTR(hh, q->curfews, c->text, strlen(c->text), c);
	look(q, c);
	if (c->open)
		tell(q, c);
	return c;
}

static void schedule(struct queue *q)
{
	int64_t first = INT64_MAX, now = wall_s(q);
	struct curfew *c, *next;
	HASH_ITER (hh, q->curfews, c, next) {
		if (c->change_s < first)
			first = c->change_s;
	}
	if (!q->curfews)
		timer_cancel(q->loop, &q->curfew_timer);
	else if (first - now < (int64_t)(LOOK_US / SECOND_US))
		timer_arm_in(q->loop, &q->curfew_timer,
		        first > now ? (uint64_t)first * SECOND_US - loop_wall_us(q->loop) : 0);
	else
		timer_arm_in(q->loop, &q->curfew_timer, LOOK_US);
}

bool curfew_open(struct queue *q, const struct curfew_list *l, int64_t *until_s)
{
	struct curfew *c;
	struct str text;
	*until_s = 0;
	if (l->n == 0)
		return false;
	str_init(&text);
	text_of(l, &text);
	HASH_FIND_STR(q->curfews, text.data, c);
	if (!c) {
		c = curfew_new(q, l, text.data);
		schedule(q);
	}
	str_free(&text);
	c->generation = q->generation;
	if (c->open)
		*until_s = c->change_s;
	return c->open;
}

static void forget(struct queue *q, struct curfew *c)
{
	HASH_DEL(q->curfews, c);
	free(c->text);
	free(c->where);
	free(c->windows);
	free(c);
}

void curfews_look(void *ctx)
{
	struct queue *q = ctx;
	struct curfew *c, *next;
	bool changed = false;
	HASH_ITER (hh, q->curfews, c, next) {
		bool was = c->open;
		if (!q->rekeying && c->generation != q->generation && !c->open) {
			forget(q, c); /* nothing asks for it any more, or will when there is mail */
			continue;
		}
		look(q, c);
		if (c->open == was)
			continue;
		tell(q, c);
		changed = true;
	}
	if (changed) {
		q->generation++; /* what is resolved for a destination holds a generation long */
		rekey_begin(q);
	}
	schedule(q);
}

void curfews_free(struct queue *q)
{
	struct curfew *c, *next;
	struct zone *z, *next_zone;
	HASH_ITER (hh, q->curfews, c, next)
		forget(q, c);
	HASH_ITER (hh, q->zones, z, next_zone) {
		HASH_DEL(q->zones, z);
		timezone_free(&z->tz);
		free(z->name);
		free(z);
	}
	timer_cancel(q->loop, &q->curfew_timer);
}
