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
	char *target; /* owns; NULL = the same */
	char *domain; /* owns; NULL = the same */
	UT_hash_handle hh;
};

static struct move *find(const struct queue *q, uint32_t no)
{
	struct move *m;
	HASH_FIND(hh, q->moves, &no, sizeof(no), m);
	return m;
}

static void record(struct queue *q, const struct delivery *d, const char *target, const char *domain)
{
	spool_results_move(queue_results(q), d->id, d->index, target, domain);
	queue_kick(q);
}

void move_record(struct queue *q, const struct delivery *d, const char *target)
{
	record(q, d, target, intern_text(q->names, d->domain));
}

/* As the spool knows it: "BINDING", "group:NAME" or "group:NAME/MEMBER". */
static char *target_of(const struct queue *q, const struct delivery *d)
{
	const struct binding *b = binding_at(q, d->binding);
	if (d->group && b->kind == BINDING_NAMED && d->moved)
		return mem_printf("group:%s/%s", intern_text(q->names, d->group), binding_name(q, b));
	if (d->group)
		return mem_printf("group:%s", intern_text(q->names, d->group));
	return mem_strdup(binding_name(q, b));
}

void place_move(struct queue *q, uint32_t no, const char *target)
{
	struct delivery *d = delivery_at(q->slab, no);
	move_record(q, d, target);
	place_target(q, d, target);
	place_again(q, no);
}

static struct move *get(struct queue *q, uint32_t no)
{
	struct move *m = find(q, no);
	if (m)
		return m;
	m = mem_zalloc(sizeof(*m));
	m->no = no;
	HASH_ADD(hh, q->moves, no, sizeof(m->no), m);
	delivery_at(q->slab, no)->moves = 1;
	return m;
}

void move_later(struct queue *q, uint32_t no, const char *target)
{
	const struct delivery *d = delivery_at(q->slab, no);
	struct move *m = get(q, no);
	free(m->target);
	m->target = mem_strdup(target);
	record(q, d, target, m->domain ? m->domain : intern_text(q->names, d->domain));
}

/* --- rerouted: delivered as mail of another domain is; the recipients' addresses stay ------------------------------- */

static void set_domain(struct queue *q, struct delivery *d, const char *domain)
{
	uint32_t before = d->domain;
	d->domain = intern_get(q->names, domain);
	intern_drop(q->names, before);
}

void place_reroute(struct queue *q, uint32_t no, const char *domain)
{
	struct delivery *d = delivery_at(q->slab, no);
	char *target = target_of(q, d);
	record(q, d, target, domain);
	set_domain(q, d, domain);
	place_again(q, no);
	mem_free(&target);
}

void reroute_later(struct queue *q, uint32_t no, const char *domain)
{
	const struct delivery *d = delivery_at(q->slab, no);
	struct move *m = get(q, no);
	free(m->domain);
	m->domain = mem_strdup(domain);
	char *target = m->target ? mem_strdup(m->target) : target_of(q, d);
	record(q, d, target, domain);
	mem_free(&target);
}

bool reroute_is_there(const struct queue *q, uint32_t no, const char *domain)
{
	const struct delivery *d = delivery_at(q->slab, no);
	const struct move *m = d->moves ? find(q, no) : NULL;
	return strcmp(m && m->domain ? m->domain : intern_text(q->names, d->domain), domain) == 0;
}

bool move_is_there(const struct queue *q, uint32_t no, const char *target)
{
	const struct delivery *d = delivery_at(q->slab, no);
	const struct move *m = d->moves ? find(q, no) : NULL;
	if (m && m->target)
		return strcmp(m->target, target) == 0;
	if (strncmp(target, "group:", 6) == 0)
		return d->group && strcmp(intern_text(q->names, d->group), target + 6) == 0;
	return !d->group && strcmp(binding_name(q, binding_at(q, d->binding)), target) == 0;
}

bool move_pending(struct queue *q, uint32_t no)
{
	struct delivery *d = delivery_at(q->slab, no);
	if (!d->moves)
		return false;
	const struct move *m = find(q, no);
	if (m->target)
		place_target(q, d, m->target);
	if (m->domain)
		set_domain(q, d, m->domain);
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
	free(m->domain);
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
	        .reason = to ? "by command" : "by policy",
	        .who = who,
	        .has_count = true,
	        .count = count,
	        .detail = what.data};
	if (to && strncmp(to, "group:", 6) == 0)
		e.group = to + 6;
	else
		e.binding = to;
	event_post(q->events, &e);
	str_free(&what);
}

void event_reroute(
        struct queue *q, const char *to, const struct selection *select, uint64_t count, const char *who)
{
	struct str what;
	str_init(&what);
	select_print(select, &what);
	struct event e = {.type = EVENT_REROUTE,
	        .reason = "by command",
	        .domain = to,
	        .who = who,
	        .has_count = true,
	        .count = count,
	        .detail = what.data};
	event_post(q->events, &e);
	str_free(&what);
}
