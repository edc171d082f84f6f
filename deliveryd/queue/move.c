#include "queue/queue_in.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>

/*
 * Moves are written down at once. A delivery that is with a session or a DSN stays under its old name until that has
 * ended, so that events say where it really left from.
 */
struct move {
	uint32_t no;
	char *target; /* owns */
	UT_hash_handle hh;
};

static struct move *find(const struct queue *q, uint32_t no)
{
	struct move *m;
	HASH_FIND(hh, q->moves, &no, sizeof(no), m);
	return m;
}

void move_record(struct queue *q, const struct delivery *d, const char *target)
{
	spool_results_move(queue_results(q), d->id, d->index, target, intern_text(q->names, d->domain));
	queue_kick(q);
}

void place_move(struct queue *q, uint32_t no, const char *target)
{
	struct delivery *d = delivery_at(q->slab, no);
	move_record(q, d, target);
	place_target(q, d, target);
	place_again(q, no);
}

void move_later(struct queue *q, uint32_t no, const char *target)
{
	struct delivery *d = delivery_at(q->slab, no);
	move_forget(q, no);
	struct move *m = mem_zalloc(sizeof(*m));
	m->no = no;
	m->target = mem_strdup(target);
	HASH_ADD(hh, q->moves, no, sizeof(m->no), m);
	d->moves = 1;
	move_record(q, d, target);
}

bool move_is_there(const struct queue *q, uint32_t no, const char *target)
{
	const struct delivery *d = delivery_at(q->slab, no);
	if (d->moves)
		return strcmp(find(q, no)->target, target) == 0;
	if (strncmp(target, "group:", 6) == 0)
		return d->group && strcmp(intern_text(q->names, d->group), target + 6) == 0;
	return !d->group && strcmp(binding_name(q, binding_at(q, d->binding)), target) == 0;
}

bool move_pending(struct queue *q, uint32_t no)
{
	struct delivery *d = delivery_at(q->slab, no);
	if (!d->moves)
		return false;
	place_target(q, d, find(q, no)->target);
	move_forget(q, no);
	return true;
}

void move_forget(struct queue *q, uint32_t no)
{
	struct delivery *d = delivery_at(q->slab, no);
	struct move *m = d->moves ? find(q, no) : NULL;
	d->moves = 0;
	if (!m)
		return;
	HASH_DEL(q->moves, m);
	free(m->target);
	free(m);
}

void moves_free(struct queue *q)
{
	while (q->moves)
		move_forget(q, q->moves->no);
}

void event_rebind(
        struct queue *q, const char *to, const struct selection *select, uint64_t count, const char *who)
{
	struct str what;
	str_init(&what);
	select_print(select, &what);
	struct event e = {.type = EVENT_REBIND,
	        .reason = "by command",
	        .who = who,
	        .has_count = true,
	        .count = count,
	        .detail = what.data};
	if (strncmp(to, "group:", 6) == 0)
		e.group = to + 6;
	else
		e.binding = to;
	event_post(q->events, &e);
	str_free(&what);
}
