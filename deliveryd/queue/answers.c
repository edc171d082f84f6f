#include "queue/queue_in.h"

#include <string.h>

/*
 * Lists go by a cursor: the number of the next object to look at. Numbers are given again, so a list taken while mail
 * moves may miss what moved, never repeats a number. An answer looks at no more than this many objects, so with a
 * filter it may come back short, or empty, with a cursor to go on from.
 */
#define LOOKED_AT_MAX 20000
#define ROWS_MAX 500

struct answer {
	struct queue *q;
	const struct queue_ask *ask;
	struct json_out out;
	unsigned rows, limit;
	uint32_t from, next, looked_at; /* next 0 = the end */
};

static uint64_t wall_of(const struct queue *q, uint64_t mono_us)
{
	uint64_t now = queue_now(q);
	return mono_us > now ? loop_wall_us(q->loop) + (mono_us - now) : loop_wall_us(q->loop);
}

static void put_counts(struct answer *a, const struct counts *c)
{
	jw_uint(&a->out, "active", c->active);
	jw_uint(&a->out, "deferred", c->deferred);
	jw_uint(&a->out, "held", c->held);
	jw_uint(&a->out, "connections", c->connections);
}

static void put_limit(struct answer *a, uint32_t max)
{
	if (max != LIMIT_NONE)
		jw_uint(&a->out, "limit", max);
}

static void put_binding(struct answer *a, const struct binding *b)
{
	const char *group = binding_group_name(b);
	jw_str(&a->out, "binding", binding_name(a->q, b));
	if (group)
		jw_str(&a->out, "group", group);
}

/* True if there is room for another row; else the list goes on here the next time. */
static bool more(struct answer *a, uint32_t number)
{
	if (a->rows < a->limit && a->looked_at++ < LOOKED_AT_MAX)
		return true;
	a->next = number;
	return false;
}

static bool binding_wanted(const struct answer *a, const struct binding *b)
{
	return !a->ask->binding[0] || strcmp(a->ask->binding, binding_name(a->q, b)) == 0;
}

/* --- summary -------------------------------------------------------------------------------------------------------- */

static void summary(struct answer *a)
{
	struct queue *q = a->q;
	jw_object(&a->out, NULL);
	put_counts(a, &q->counts);
	put_limit(a, q->server.max);
	jw_uint(&a->out, "bindings", conf_n_bindings(q->conf));
	jw_uint(&a->out, "queues", q->n_hop_queues);
	jw_uint(&a->out, "uncommitted", spool_uncommitted(q->spool));
	jw_uint(&a->out, "memory", queue_memory(q));
	jw_bool(&a->out, "full", atomic_load(&q->handoff->queue_full));
	uint32_t first = due_first(q->due);
	if (q->counts.deferred > 0 && first && delivery_at(q->slab, first)->state == DELIVERY_DEFERRED)
		jw_time(&a->out, "next_attempt", wall_of(q, delivery_at(q->slab, first)->due_us));
	jw_end_object(&a->out);
}

/* --- bindings --------------------------------------------------------------------------------------------------------- */

static void put_sources(struct answer *a, const struct binding *b)
{
	jw_array(&a->out, "source");
	for (int family = 0; b->conf && family < FAMILIES; family++) {
		char text[ADDR_TEXT_SIZE];
		if (b->conf->source[family].family != AF_UNSPEC)
			jw_str(&a->out, NULL, addr_print(&b->conf->source[family], text));
	}
	jw_end_array(&a->out);
	if (b->down[0] || b->down[1])
		jw_bool(&a->out, "source_down", true);
}

static void put_one_binding(struct answer *a, struct binding *b)
{
	jw_object(&a->out, NULL);
	put_binding(a, b);
	put_counts(a, &b->counts);
	put_limit(a, binding_total(b)->max);
	put_sources(a, b);
	if (b->kind == BINDING_NAMED && !b->conf)
		jw_bool(&a->out, "removed", true);
	jw_end_object(&a->out);
	a->rows++;
}

static void bindings(struct answer *a)
{
	for (uint32_t i = a->from; i < a->q->bindings.n && more(a, i); i++) {
		struct binding *b = binding_at(a->q, i);
		bool empty =
		        b->counts.active + b->counts.deferred + b->counts.held + b->counts.connections == 0;
		if (binding_wanted(a, b) && (b->conf || !empty))
			put_one_binding(a, b);
	}
}

/* --- queues ------------------------------------------------------------------------------------------------------------- */

static void put_traffic(struct answer *a, const struct traffic *t)
{
	jw_uint(&a->out, "connections", t->n_conns);
	if (t->backoff_until_us > queue_now(a->q))
		jw_time(&a->out, "next_attempt", wall_of(a->q, t->backoff_until_us));
	if (!t->failure)
		return;
	const struct outcome *o = &t->failure->outcome;
	jw_str(&a->out, "state", outcome_state_name(o->state));
	if (o->code)
		jw_uint(&a->out, "code", o->code);
	if (o->enhanced[0])
		jw_str(&a->out, "enhanced", o->enhanced);
	jw_str(&a->out, "reply", o->reply);
}

static void put_queue(struct answer *a, const struct hop_queue *hq)
{
	struct queue *q = a->q;
	uint32_t ready = hq->n[DELIVERY_READY], held = hq->n[DELIVERY_HELD];
	bool hold = hq->hold != HOLD_NONE;
	jw_object(&a->out, NULL);
	put_binding(a, binding_at(q, hq->key.binding));
	jw_str(&a->out, "next_hop", intern_text(q->names, hq->key.hop));
	jw_uint(&a->out, "active", hop_queue_active(hq) - (hold ? ready : 0));
	jw_uint(&a->out, "deferred", hq->n[DELIVERY_DEFERRED]);
	jw_uint(&a->out, "held", held + (hold ? ready : 0));
	if (hq->profile)
		put_limit(a, hq->profile->o.max_outbound_connections);
	if (hold)
		jw_str(&a->out, "reason", hold_name(hq->hold));
	if (hq->traffic)
		put_traffic(a, hq->traffic);
	else
		jw_uint(&a->out, "connections", 0);
	jw_end_object(&a->out);
	a->rows++;
}

static void queues(struct answer *a)
{
	struct queue *q = a->q;
	uint32_t domain = a->ask->domain[0] ? intern_find(q->names, a->ask->domain) : 0;
	if (a->ask->domain[0] && !domain)
		return;
	for (uint32_t i = a->from; i < q->hop_queues.n && more(a, i); i++) {
		const struct hop_queue *hq = q->hop_queues.at[i];
		if (hq && binding_wanted(a, binding_at(q, hq->key.binding)) &&
		        (!domain || hq->key.hop == domain))
			put_queue(a, hq);
	}
}

/* --- messages -------------------------------------------------------------------------------------------------------------- */

static const char *state_name(const struct delivery *d)
{
	switch (d->state) {
	case DELIVERY_READY:
		return d->hq->hold != HOLD_NONE ? "held" : "active";
	case DELIVERY_DEFERRED:
		return "deferred";
	case DELIVERY_HELD:
		return "held";
	case DELIVERY_OUT:
		return "sending";
	default:
		return "bouncing";
	}
}

static void put_recipients(struct answer *a, const struct delivery *d)
{
	struct packed_walk w;
	packed_walk_init(&w, d->packed);
	jw_array(&a->out, "recipient");
	for (uint32_t i = 0; i < d->n_open; i++)
		jw_str(&a->out, NULL, packed_walk_next(&w).address);
	jw_end_array(&a->out);
}

static void put_delivery(struct answer *a, const struct delivery *d)
{
	struct queue *q = a->q;
	char id[ID_TEXT_SIZE];
	jw_object(&a->out, NULL);
	jw_str(&a->out, "id", id_print(d->id, id));
	put_binding(a, binding_at(q, d->binding));
	jw_str(&a->out, "rule", intern_text(q->names, d->rule));
	jw_str(&a->out, "sender", packed_sender(d->packed));
	put_recipients(a, d);
	jw_str(&a->out, "domain", intern_text(q->names, d->domain));
	jw_str(&a->out, "next_hop", intern_text(q->names, d->hq->key.hop));
	jw_uint(&a->out, "size", d->size);
	jw_uint(&a->out, "attempt", d->attempts);
	jw_str(&a->out, "state", state_name(d));
	if (d->state == DELIVERY_READY && d->hq->hold != HOLD_NONE)
		jw_str(&a->out, "reason", hold_name(d->hq->hold));
	jw_time(&a->out, "time", loop_wall_us(q->loop) - delivery_age_us(q, d));
	jw_seconds(&a->out, "delay", delivery_age_us(q, d));
	if (d->state == DELIVERY_DEFERRED)
		jw_time(&a->out, "next_attempt", wall_of(q, d->due_us));
	jw_end_object(&a->out);
	a->rows++;
}

static void messages(struct answer *a)
{
	struct queue *q = a->q;
	uint32_t domain = a->ask->domain[0] ? intern_find(q->names, a->ask->domain) : 0;
	const struct binding *b = a->ask->binding[0] ? binding_find(q, a->ask->binding) : NULL;
	if ((a->ask->domain[0] && !domain) || (a->ask->binding[0] && !b))
		return;
	for (uint32_t no = a->from ? a->from : 1; no < delivery_top(q->slab) && more(a, no); no++) {
		const struct delivery *d = delivery_at(q->slab, no);
		if (d->state != DELIVERY_FREE && (!domain || d->domain == domain) &&
		        (!b || d->binding == b->number))
			put_delivery(a, d);
	}
}

static bool message(struct answer *a)
{
	struct queue *q = a->q;
	char id[ID_TEXT_SIZE];
	uint32_t no = delivery_index_find(q->slab, a->ask->id);
	if (!no)
		return false;
	jw_object(&a->out, NULL);
	jw_str(&a->out, "id", id_print(a->ask->id, id));
	jw_str(&a->out, "sender", packed_sender(delivery_at(q->slab, no)->packed));
	jw_uint(&a->out, "size", delivery_at(q->slab, no)->size);
	jw_array(&a->out, "items");
	for (; no; no = delivery_index_next(q->slab, no))
		put_delivery(a, delivery_at(q->slab, no));
	jw_end_array(&a->out);
	jw_end_object(&a->out);
	return true;
}

/* --- connections -------------------------------------------------------------------------------------------------------------- */

static void put_addr(struct answer *a, const char *key, const struct addr *addr)
{
	char text[ADDR_TEXT_SIZE];
	if (addr->family != AF_UNSPEC)
		jw_str(&a->out, key, addr_print(addr, text));
}

static void put_conn(struct answer *a, const struct conn *c)
{
	struct queue *q = a->q;
	jw_object(&a->out, NULL);
	put_binding(a, binding_at(q, c->hq->key.binding));
	jw_str(&a->out, "next_hop", intern_text(q->names, c->hq->key.hop));
	jw_str(&a->out, "mx", c->mx);
	put_addr(a, "peer", &c->to.addr);
	put_addr(a, "source", &c->source);
	jw_str(&a->out, "state", conn_state_name(c->state));
	jw_uint(&a->out, "delivered", c->delivered);
	jw_seconds(&a->out, "age", queue_now(q) - c->opened_us);
	jw_end_object(&a->out);
	a->rows++;
}

static void connections(struct answer *a)
{
	for (uint32_t i = a->from; i < a->q->conns.n && more(a, i); i++) {
		const struct conn *c = a->q->conns.at[i];
		if (c && binding_wanted(a, binding_at(a->q, c->hq->key.binding)))
			put_conn(a, c);
	}
}

/* --- asking ---------------------------------------------------------------------------------------------------------------------- */

static void list(struct answer *a, void (*rows)(struct answer *))
{
	char next[24];
	jw_object(&a->out, NULL);
	jw_array(&a->out, "items");
	rows(a);
	jw_end_array(&a->out);
	snprintf(next, sizeof(next), "%u", a->next);
	jw_str(&a->out, "next", a->next ? next : NULL);
	jw_end_object(&a->out);
}

static void answer(struct mail *mail)
{
	struct queue_ask *ask = container_of(mail, struct queue_ask, mail);
	struct answer a = {.q = ask->queue, .ask = ask, .from = (uint32_t)ask->cursor};
	a.limit = ask->limit && ask->limit < ROWS_MAX ? ask->limit : ROWS_MAX;
	str_init(&ask->json);
	json_out_init(&a.out, &ask->json);
	ask->found = true;
	switch (ask->question) {
	case QUEUE_SUMMARY:
		summary(&a);
		break;
	case QUEUE_BINDINGS:
		list(&a, bindings);
		break;
	case QUEUE_QUEUES:
		list(&a, queues);
		break;
	case QUEUE_MESSAGES:
		list(&a, messages);
		break;
	case QUEUE_MESSAGE:
		ask->found = message(&a);
		break;
	case QUEUE_CONNECTIONS:
		list(&a, connections);
		break;
	}
	loop_post(ask->reply_loop, &ask->reply);
}

void queue_ask(struct queue_ask *ask)
{
	ask->mail.take = answer;
	loop_post(ask->queue->loop, &ask->mail);
}
