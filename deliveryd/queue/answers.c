#include "queue/queue_in.h"

#include <string.h>

#include "conf/egress_proxy.h"

/*
 * Lists go by a cursor: the number of the next object to look at. Numbers are given again, so a list taken while mail
 * moves may miss what moved, never repeats a number. An answer looks at no more than this many objects, so with a
 * filter it may come back short, or empty, with a cursor to go on from.
 */
#define LOOKED_AT_MAX 20000
#define ROWS_MAX 500
#define RECIPIENTS_IN_LISTS 20 /* `message ID` names them all */

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

static void put_totals(struct answer *a, const struct totals *t)
{
	static const char *const keys[N_TOTALS] = {
	        "received", "delivered", "deferrals", "bounced", "expired", "uncertain"};
	for (unsigned i = 0; i < N_TOTALS; i++)
		jw_uint(&a->out, keys[i], t->n[i]);
}

/* The last reply of a delivery: "451 4.7.1 try later" in its parts. */
static void put_reply(struct answer *a, const struct delivery *d)
{
	const char *text = last_reply_text(a->q, d);
	unsigned code = 0, class, subject, detail;
	int n = 0;
	if (!text)
		return;
	if (sscanf(text, "%3u%n", &code, &n) == 1 && n == 3 && (text[3] == ' ' || !text[3])) {
		jw_uint(&a->out, "code", code);
		text += text[3] ? 4 : 3;
	}
	n = 0;
	if (sscanf(text, "%1u.%3u.%3u%n", &class, &subject, &detail, &n) != 3)
		n = 0;
	if (n && (text[n] == ' ' || !text[n] || strncmp(text + n, ": ", 2) == 0))
		jw_strn(&a->out, "enhanced", text, (size_t)n);
	if (n && strncmp(text + n, ": ", 2) == 0) /* our own words, as the events have them */
		text += n + 2;
	jw_str(&a->out, "reply", text);
	if (d->last_s)
		jw_time(&a->out, "last_attempt", d->last_s * SECOND_US);
}

/* What a queue waits for. */
static void put_reason(struct answer *a, const struct hop_queue *hq)
{
	struct str why;
	str_init(&why);
	if (waits_for(hq, &why))
		jw_strn(&a->out, "reason", why.data, why.len);
	str_free(&why);
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

static void put_spool(struct answer *a)
{
	static const char *const health[] = {"ok", "low_space", "failed"};
	struct queue *q = a->q;
	jw_object(&a->out, "spool");
	jw_str(&a->out, "health", health[spool_health(q->spool)]);
	jw_uint(&a->out, "messages", metric_get(q->m.spool_messages));
	jw_uint(&a->out, "live_bytes", metric_get(q->m.spool_live));
	jw_uint(&a->out, "free_bytes", metric_get(q->m.spool_free));
	jw_end_object(&a->out);
}

static void summary(struct answer *a)
{
	struct queue *q = a->q;
	jw_object(&a->out, NULL);
	struct totals recent;
	put_counts(a, &q->counts);
	put_limit(a, q->server.max);
	jw_uint(&a->out, "reserve", q->reserve.max);
	jw_uint(&a->out, "messages", delivery_count(q->slab));
	put_totals(a, &q->totals);
	totals_recent(q, &recent);
	jw_object(&a->out, "last_minute");
	put_totals(a, &recent);
	jw_end_object(&a->out);
	jw_seconds(&a->out, "uptime", queue_now(q) - q->started_us);
	jw_uint(&a->out, "bindings", conf_n_bindings(q->conf));
	jw_uint(&a->out, "queues", q->n_hop_queues);
	put_spool(a);
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
}

static bool source_down(const struct binding *b)
{
	return b->down[0] || b->down[1] || proxies_down(b);
}

static const char *binding_state(struct binding *b)
{
	if (b->kind == BINDING_NAMED && !b->conf)
		return "removed";
	if (b->kind == BINDING_NAMED && binding_suspended(b))
		return "suspended";
	if (b->kind == BINDING_NAMED && binding_in_curfew(b))
		return "curfew";
	return source_down(b) ? "source_down" : "normal";
}

static void put_quota(struct answer *a, const struct binding *b)
{
	jw_uint(&a->out, "queued_bytes", b->queued_bytes);
	if (b->quota && quota_option(quota_state(b->quota)))
		jw_str(&a->out, "refused_by", quota_option(quota_state(b->quota)));
}

/* What holds back the mail of all its queues. */
static void put_binding_reason(struct answer *a, struct binding *b)
{
	struct str why;
	uint64_t until;
	str_init(&why);
	if (binding_waits_for(b, &why, &until))
		jw_strn(&a->out, "reason", why.data, why.len);
	if (until)
		jw_time(&a->out, "next_attempt", wall_of(a->q, until));
	str_free(&why);
}

static void put_one_binding(struct answer *a, struct binding *b)
{
	jw_object(&a->out, NULL);
	put_binding(a, b);
	put_counts(a, &b->counts);
	put_limit(a, binding_total(b)->max);
	put_sources(a, b);
	jw_str(&a->out, "state", binding_state(b));
	if (source_down(b))
		jw_bool(&a->out, "source_down", true);
	if (b->kind == BINDING_NAMED && !b->conf)
		jw_bool(&a->out, "removed", true);
	put_quota(a, b);
	put_binding_reason(a, b);
	suspensions_print(a->q, binding_name(a->q, b), &a->out);
	put_totals(a, &b->totals);
	jw_end_object(&a->out);
	a->rows++;
}

/* Kept under its old name as long as it has mail (removed_bindings: hold). */
static bool binding_shown(const struct binding *b)
{
	const struct counts *c = &b->counts;
	return b->conf || c->active + c->deferred + c->held + c->connections > 0;
}

static bool binding_known(const struct queue *q, const char *name)
{
	const struct binding *b = binding_find(q, name);
	return b && binding_shown(b);
}

static void bindings(struct answer *a)
{
	for (uint32_t i = a->from; i < a->q->bindings.n && more(a, i); i++) {
		struct binding *b = binding_at(a->q, i);
		if (binding_wanted(a, b) && binding_shown(b))
			put_one_binding(a, b);
	}
}

/* --- queues ------------------------------------------------------------------------------------------------------------- */

static void put_traffic(struct answer *a, const struct traffic *t)
{
	jw_uint(&a->out, "connections", t->n_conns);
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

/* Of its deferred, or when what its ready ones wait for is over. */
static uint64_t queue_next_us(const struct hop_queue *hq)
{
	uint64_t next = next_attempt_us(hq), until = hq->n[DELIVERY_READY] ? waits_until_us(hq) : 0;
	return until && (!next || until < next) ? until : next;
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
	put_reason(a, hq);
	uint64_t next = queue_next_us(hq);
	if (next)
		jw_time(&a->out, "next_attempt", wall_of(q, next));
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

static void put_recipients(struct answer *a, const struct delivery *d, uint32_t most)
{
	struct packed_walk w;
	packed_walk_init(&w, d->packed);
	jw_array(&a->out, "recipient");
	for (uint32_t i = 0; i < d->n_open && i < most; i++)
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
	jw_uint(&a->out, "recipients", d->n_open);
	put_recipients(a, d, a->ask->question == QUEUE_MESSAGE ? d->n_open : RECIPIENTS_IN_LISTS);
	jw_str(&a->out, "domain", intern_text(q->names, d->domain));
	jw_str(&a->out, "next_hop", intern_text(q->names, d->hq->key.hop));
	jw_uint(&a->out, "size", d->size);
	jw_uint(&a->out, "attempt", d->attempts);
	jw_str(&a->out, "state", state_name(d));
	if (d->state == DELIVERY_READY)
		put_reason(a, d->hq);
	else if (d->state == DELIVERY_HELD)
		jw_str(&a->out, "reason", "held by command");
	jw_time(&a->out, "time", loop_wall_us(q->loop) - delivery_age_us(q, d));
	jw_seconds(&a->out, "delay", delivery_age_us(q, d));
	if (d->state == DELIVERY_DEFERRED)
		jw_time(&a->out, "next_attempt", wall_of(q, d->due_us));
	put_reply(a, d);
	jw_end_object(&a->out);
	a->rows++;
}

void answer_row(struct queue *q, struct json_out *out, const struct delivery *d)
{
	const struct queue_ask ask = {.question = QUEUE_MESSAGES};
	struct answer a = {.q = q, .ask = &ask, .out = *out};
	put_delivery(&a, d);
	*out = a.out;
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

static void put_proxy(struct answer *a, const struct conn *c)
{
	const char *option = c->hq->profile->o.egress_proxy;
	struct egress_proxy proxy;
	char text[ADDR_TEXT_SIZE];
	if (option && !c->to.unix_path && egress_proxy_parse(option, &proxy, NULL))
		jw_str(&a->out, "proxy", addr_print_port(&proxy.addr, text));
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
	put_proxy(a, c);
	/* it asks for the next job before the present one has its answer */
	bool busy = c->state == CONN_IDLE && c->jobs_out > 0;
	jw_str(&a->out, "state", conn_state_name(busy ? CONN_BUSY : c->state));
	jw_uint(&a->out, "delivered", c->delivered);
	jw_seconds(&a->out, "age", queue_now(q) - c->opened_us);
	jw_end_object(&a->out);
	a->rows++;
}

static void connections(struct answer *a)
{
	uint32_t domain = a->ask->domain[0] ? intern_find(a->q->names, a->ask->domain) : 0;
	if (a->ask->domain[0] && !domain)
		return;
	for (uint32_t i = a->from; i < a->q->conns.n && more(a, i); i++) {
		const struct conn *c = a->q->conns.at[i];
		if (c && binding_wanted(a, binding_at(a->q, c->hq->key.binding)) &&
		        (!domain || c->hq->key.hop == domain))
			put_conn(a, c);
	}
}

static void rules(struct answer *a)
{
	a->next = rules_print(a->q, &a->out, a->ask->binding, a->ask->domain, a->from, a->limit);
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
		ask->found = !ask->must_exist || binding_known(ask->queue, ask->binding);
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
	case QUEUE_RULES:
		list(&a, rules);
		break;
	case QUEUE_TOP:
		activity_print(ask->queue, ask, a.limit, &a.out);
		break;
	}
	loop_post(ask->reply_loop, &ask->reply);
}

void queue_ask(struct queue_ask *ask)
{
	ask->mail.take = answer;
	loop_post(ask->queue->loop, &ask->mail);
}
